/* SPDX-License-Identifier: Apache-2.0 */
/* Pull: a page of the change log, read in short sections under the store's lock. */
#include "service/peer_internal.h"

/* The long poll ends so long before its call's deadline, so that the answer arrives. */
#define ANSWER_MARGIN_MS 200u
/* Of a page beside its records and vectors. */
#define PAGE_OVERHEAD_BYTES 1024u
/* Of an entry of a vector: two tags, two lengths, writer, hlc. */
#define KNOWN_ENTRY_BYTES 32u
#define HEARD_ENTRY_BYTES 44u /* As much of wallet and incarnation. */
/* Vectors grow between two looks, each time: then the call fails. */
#define ENTRY_TRIES 4
#define ENTRY_SPARE_COUNT 16u
#define HEARD_PER_MEMBER (REPLICA_HEARD_COUNT_MAX / REPLICA_MEMBER_COUNT_MAX)

/* One call. On the stack of its stub; copied into the call's arena if it must wait. */
struct pull {
    struct service_wait wait; /* First. */
    struct service_peer *peer;
    struct net_call *call;
    Novakms__V1__PullResponse_Closure closure;
    struct replica_request request;
    struct store_known_entry *entries; /* In the arena. */
    size_t entry_count_max;
    struct replica_heard *heard; /* In the arena too. */
    size_t heard_count_max;
    uint64_t until_ms;
    bool is_again;
    bool is_over;
    uint64_t seen_last;                      /* What is_due compares with: the log's end */
    uint8_t seen_writer[STORE_WRITER_BYTES]; /* and our writer at the last look. */
};

/* A page while it is read. */
struct reading {
    struct replica_page page;
    Novakms__V1__PeerRecord **records; /* In the arena, as what it points to. */
    size_t count;
    size_t count_max;
    size_t bytes; /* As the log counts them. */
    size_t bytes_max;
    bool is_ended; /* The log has ended, or the page is full. */
};

/* ---- Reading ---- */

static RC copy_span(struct arena *arena, struct span in, struct span *out) {
    uint8_t *copy = arena_take(arena, in.len);
    ENSURE(copy != NULL, NOMEM);
    TRY(span_copy(in, copy, in.len));
    *out = (struct span){ copy, in.len };
    return OK;
}

/* Under the lock. */
static RC copy_record(struct arena *arena, const struct store_record *from,
                      Novakms__V1__PeerRecord **out) {
    struct store_record copy = *from;
    struct peer_record_out *made = arena_take(arena, sizeof(*made));
    ENSURE(made != NULL, NOMEM);
    TRY(copy_span(arena, from->key, &copy.key));
    TRY(copy_span(arena, from->sealed, &copy.sealed));
    peer_record_out(&copy, made);
    *out = &made->message;
    return OK;
}

static size_t cost_of(const struct store_record *record) {
    return record->key.len + record->sealed.len + STORE_RECORD_BYTES;
}

/* Under the lock: the next records of the page. */
static RC read_step(const struct pull *pull, struct store *store, struct reading *reading) {
    struct store_record records[SERVICE_PAGE_STEP_COUNT];
    size_t bytes_left = reading->bytes_max - reading->bytes;
    size_t count_left = reading->count_max - reading->count;
    const struct store_log_query query = {
        .since = reading->page.next,
        .known = &pull->request.known,
        .bytes_max = bytes_left < SERVICE_PAGE_STEP_BYTES ? bytes_left : SERVICE_PAGE_STEP_BYTES,
        .record_count_max =
            count_left < SERVICE_PAGE_STEP_COUNT ? count_left : SERVICE_PAGE_STEP_COUNT,
    };
    struct store_log_page got = { 0 };
    TRY(store_log_read(store, &query, records, &got));
    /* The log gives one record in any case; only the page's first may be too large for it. */
    if (reading->count > 0 && got.count > 0 && cost_of(&records[0]) > bytes_left) {
        reading->is_ended = true;
        return OK;
    }
    for (size_t i = 0; i < got.count; i++) {
        TRY(copy_record(net_call_arena(pull->call), &records[i],
                        &reading->records[reading->count]));
        reading->bytes += cost_of(&records[i]);
        reading->count++;
    }
    const struct service_caller *caller = net_call_context(pull->call);
    bool goes_on = replica_page_read(pull->peer->cfg.shared->replica, store, &caller->wallet, &got,
                                     &reading->page);
    reading->is_ended =
        !goes_on || reading->bytes >= reading->bytes_max || reading->count == reading->count_max;
    return OK;
}

static size_t page_bytes_max(const struct pull *pull, const struct replica_page *page) {
    size_t bytes_max = pull->peer->cfg.page_bytes_max;
    size_t asked = pull->request.bytes_max;
    bytes_max = asked != 0 && asked < bytes_max ? asked : bytes_max;
    size_t vector_count = page->known.count + page->floor.count;
    size_t taken = PAGE_OVERHEAD_BYTES + vector_count * KNOWN_ENTRY_BYTES +
                   pull->heard_count_max * HEARD_ENTRY_BYTES;
    size_t room = net_call_answer_bytes_max(pull->call);
    room = room > taken ? room - taken : 1;
    return bytes_max < room ? bytes_max : room;
}

static RC begin_reading(const struct pull *pull, struct reading *reading) {
    reading->page.next = reading->page.from;
    reading->bytes_max = page_bytes_max(pull, &reading->page);
    reading->count_max = pull->peer->cfg.limits.record_count_max;
    reading->records =
        arena_take(net_call_arena(pull->call), reading->count_max * sizeof(reading->records[0]));
    ENSURE(reading->records != NULL, NOMEM);
    return OK;
}

/* The rest of the page, a section each. AGAIN when the store was reset meanwhile. */
static RC read_rest(const struct pull *pull, struct reading *reading) {
    struct service_kv *kv = pull->peer->cfg.shared->kv;
    for (unsigned i = 1; i < SERVICE_PAGE_STEPS_MAX; i++) {
        if (reading->is_ended) {
            return OK;
        }
        struct store *store = service_kv_lock(kv);
        const struct span now = { store_writer(store), STORE_WRITER_BYTES };
        const struct span then = { reading->page.state.incarnation, STORE_WRITER_BYTES };
        struct rc rc = span_equal(now, then) ? read_step(pull, store, reading) : ERR(AGAIN);
        service_kv_unlock(kv, false);
        TRY(rc);
    }
    return OK;
}

/* ---- Answering ---- */

static RC fill(const struct pull *pull, const struct reading *reading,
               Novakms__V1__PullResponse *out) {
    const struct replica_page *page = &reading->page;
    struct arena *arena = net_call_arena(pull->call);
    struct span requester = SPAN_EMPTY;
    TRY(peer_state_out(&page->state, arena, &out->state));
    TRY(copy_span(arena, (struct span){ page->requester_incarnation, STORE_WRITER_BYTES },
                  &requester));
    out->requester_incarnation =
        (ProtobufCBinaryData){ requester.len, (uint8_t *)(uintptr_t)requester.ptr };
    out->reset = page->reset;
    if (page->reset) {
        return OK;
    }
    out->from = page->from;
    out->next = page->next;
    out->more = page->more;
    out->last = page->last;
    out->newcomer = page->newcomer;
    out->records = reading->records;
    out->n_records = reading->count;
    TRY(peer_known_out(&page->known, arena, &out->known));
    TRY(peer_heard_out(page->heard, page->heard_count, arena, &out->heard, &out->n_heard));
    return page->more ? OK : peer_known_out(&page->floor, arena, &out->floor);
}

static void answer(const struct pull *pull, const struct reading *reading) {
    Novakms__V1__PullResponse out = NOVAKMS__V1__PULL_RESPONSE__INIT;
    if (fill(pull, reading, &out).err != E_OK) {
        peer_fail_nomem(pull->call);
        return;
    }
    pull->closure(&out, pull->call);
}

static void fail(const struct pull *pull, struct rc rc) {
    if (rc.err != E_AGAIN) {
        peer_fail_nomem(pull->call);
        return;
    }
    struct status why = { 0 };
    status_set(&why, STATUS_UNAVAILABLE, "the node has dropped its data and begins again");
    net_call_fail(pull->call, &why, NULL);
}

static void read_and_answer(const struct pull *pull, struct reading *reading, struct rc rc) {
    if (rc.err == E_OK) {
        rc = read_rest(pull, reading);
    }
    if (rc.err == E_OK) {
        answer(pull, reading);
    } else {
        fail(pull, rc);
    }
}

/* ---- Deciding ---- */

/* Takes memory for both vectors and what was heard, with some to spare. */
static RC take_room(struct pull *pull, size_t entry_count, size_t heard_count) {
    struct arena *arena = net_call_arena(pull->call);
    pull->entry_count_max = entry_count + ENTRY_SPARE_COUNT;
    pull->heard_count_max = heard_count + ENTRY_SPARE_COUNT;
    pull->entries = arena_take(arena, pull->entry_count_max * sizeof(pull->entries[0]));
    pull->heard = arena_take(arena, pull->heard_count_max * sizeof(pull->heard[0]));
    ENSURE(pull->entries != NULL && pull->heard != NULL, NOMEM);
    return OK;
}

/* Locks the store with that room. NULL, unlocked, when memory is out. */
static struct store *lock_with_room(struct pull *pull) {
    const struct service_shared *shared = pull->peer->cfg.shared;
    for (unsigned i = 0; i < ENTRY_TRIES; i++) {
        struct store *store = service_kv_lock(shared->kv);
        size_t entry_count = store_known_count(store) + store_floor_count(store);
        size_t heard_count = HEARD_PER_MEMBER * replica_other_count(shared->replica);
        if (pull->entries != NULL && entry_count <= pull->entry_count_max &&
            heard_count <= pull->heard_count_max) {
            return store;
        }
        service_kv_unlock(shared->kv, false);
        if (take_room(pull, entry_count, heard_count).err != E_OK) {
            return NULL;
        }
    }
    return NULL;
}

static bool park(struct pull *pull, uint64_t look_at_ms);

/* Answers or parks the call. False: it is to be answered at once, with is_over. */
static bool look(struct pull *pull) {
    struct service_peer *peer = pull->peer;
    const struct service_caller *caller = net_call_context(pull->call);
    const struct replica_now now = peer_now(peer);
    struct reading reading = { 0 };
    struct replica_served served;
    struct store *store = lock_with_room(pull);
    if (store == NULL) {
        peer_fail_nomem(pull->call);
        return true;
    }
    const struct replica_serve serve = { .wallet = &caller->wallet,
                                         .request = &pull->request,
                                         .is_again = pull->is_again,
                                         .is_over = pull->is_over,
                                         .entries = pull->entries,
                                         .entry_count_max = pull->entry_count_max };
    enum replica_answer what =
        replica_serve(peer->cfg.shared->replica, store, &serve, &now, &served);
    reading.page = served.page;
    reading.page.heard = pull->heard;
    reading.page.heard_count =
        replica_heard_copy(peer->cfg.shared->replica, pull->heard, pull->heard_count_max);
    pull->seen_last = store_log_last(store);
    memcpy(pull->seen_writer, store_writer(store), STORE_WRITER_BYTES);
    struct rc rc = OK;
    if (what == REPLICA_ANSWER_PAGE) {
        rc = begin_reading(pull, &reading);
        rc = rc.err == E_OK ? read_step(pull, store, &reading) : rc;
    }
    bool is_first = !pull->is_again;
    pull->is_again = true;
    service_kv_unlock(peer->cfg.shared->kv,
                      is_first); /* Its vector may be what a write waits for. */
    switch (what) {
    case REPLICA_ANSWER_PAGE:
        read_and_answer(pull, &reading, rc);
        break;
    case REPLICA_ANSWER_WAIT:
        return park(pull, pull->until_ms);
    case REPLICA_ANSWER_WAIT_SHORT:
        return park(pull, now.mono_ms + REPLICA_RELAY_MS);
    case REPLICA_ANSWER_RESET:
    case REPLICA_ANSWER_AGAIN:
        answer(pull, &reading);
        break;
    case REPLICA_ANSWER_REFUSE:
        net_call_fail(pull->call, &served.why, NULL);
        break;
    }
    return true;
}

static void decide(struct pull *pull) {
    const struct service_peer *peer = pull->peer;
    bool is_first = !pull->is_again;
    bool is_done = look(pull);
    /* Now, since whoever is told wants the lock that a page is read under. */
    if (is_first && peer->cfg.heard != NULL) {
        peer->cfg.heard(peer->cfg.ctx);
    }
    if (!is_done) {
        pull->is_over = true;
        is_done = look(pull);
        ASSERT(is_done); /* The replica does not wait then. */
    }
}

/* ---- Waiting ---- */

static bool is_due_cb(const struct service_wait *wait, const struct store *store) {
    const struct pull *pull = (const struct pull *)(const void *)wait;
    const struct span then = { pull->seen_writer, STORE_WRITER_BYTES };
    return store_log_last(store) != pull->seen_last ||
           !span_equal((struct span){ store_writer(store), STORE_WRITER_BYTES }, then) ||
           atomic_load_explicit(pull->peer->cfg.shared->is_stopping, memory_order_relaxed);
}

static void resume_cb(struct service_wait *wait, bool is_due) {
    struct pull *pull = (struct pull *)(void *)wait;
    (void)is_due;
    pull->is_over = pull->until_ms <= uv_now(pull->peer->cfg.loop) ||
                    atomic_load(pull->peer->cfg.shared->is_stopping);
    decide(pull);
}

/* To look again at that time, if not before. pull is on the stub's stack the first time, and in the
 * arena after. False when it must not wait. */
static bool park(struct pull *pull, uint64_t look_at_ms) {
    struct service_peer *peer = pull->peer;
    struct pull *parked = pull->wait.call == NULL ? NULL : pull;
    bool may_wait =
        pull->until_ms > uv_now(peer->cfg.loop) && !atomic_load(peer->cfg.shared->is_stopping);
    if (parked == NULL && may_wait) {
        parked = arena_take(net_call_arena(pull->call), sizeof(*parked));
    }
    if (parked == NULL || !may_wait || !service_waits_has_room(&peer->waits, pull->call)) {
        return false;
    }
    if (parked != pull) {
        *parked = *pull;
    }
    parked->wait = (struct service_wait){
        .call = pull->call,
        .until_ms = look_at_ms < pull->until_ms ? look_at_ms : pull->until_ms,
        .is_due = is_due_cb,
        .resume = resume_cb,
    };
    service_waits_add(&peer->waits, &parked->wait);
    return true;
}

void peer_pull(Novakms__V1__PeerService_Service *service, const Novakms__V1__PullRequest *in,
               Novakms__V1__PullResponse_Closure closure, void *closure_data) {
    struct service_peer *peer = (struct service_peer *)service;
    struct net_call *call = net_call_from(closure_data);
    struct pull pull = { .peer = peer, .call = call, .closure = closure };
    struct status why = { 0 };
    if (!peer_pass(peer, call)) {
        return;
    }
    if (!peer_pull_request_in(in, &peer->cfg.limits, net_call_arena(call), &pull.request, &why)) {
        net_call_fail(call, &why, NULL);
        return;
    }
    uint64_t now_ms = uv_now(peer->cfg.loop);
    uint64_t deadline_at_ms = net_call_deadline_at_ms(call);
    pull.until_ms = now_ms + pull.request.wait_ms;
    if (pull.until_ms + ANSWER_MARGIN_MS > deadline_at_ms) {
        pull.until_ms = deadline_at_ms > ANSWER_MARGIN_MS ? deadline_at_ms - ANSWER_MARGIN_MS : 0;
    }
    decide(&pull);
}
