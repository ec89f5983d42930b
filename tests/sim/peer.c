/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes say to each other: carries replica's messages, both ways. */
#include "sim.h"

#define PUMP_COUNT_MAX 256

static struct machine *machine_of(struct world *w, const struct wallet *wallet) {
    ASSERT(wallet->bytes[1] < w->machine_count);
    return &w->machines[wallet->bytes[1]];
}

static struct replica_state state_of(struct world *w, struct machine *m) {
    struct replica_state state;
    struct replica_now now = node_now(w, m);
    replica_own_state(m->replica, m->store, &now, &state);
    return state;
}

/* After the vector that goes with it was copied. */
static void add_heard(const struct machine *m, struct message *message) {
    message->heard_count = replica_heard_copy(m->replica, message->heard, HEARD_COUNT_MAX);
    ASSERT(message->heard_count < HEARD_COUNT_MAX);
}

/* ---- Asking ---- */

static struct call *find_call(struct machine *m, uint32_t ticket) {
    for (size_t i = 0; i < CALL_COUNT_MAX; i++) {
        if (m->calls[i].is_used && m->calls[i].ticket == ticket) {
            return &m->calls[i];
        }
    }
    return NULL;
}

static struct call *open_call(struct world *w, struct machine *m, const struct replica_todo *todo,
                              struct machine *to) {
    size_t idx = 0;
    while (idx < CALL_COUNT_MAX && m->calls[idx].is_used) {
        idx++;
    }
    if (idx == CALL_COUNT_MAX) {
        world_fail(w, "n%u has more than %d calls under way", m->idx, CALL_COUNT_MAX);
    }
    struct call *call = &m->calls[idx];
    *call = (struct call){ .is_used = true,
                           .is_digest = todo->kind == REPLICA_DIGEST,
                           .ticket = todo->ticket,
                           .to = to->idx };
    world_after(
        w, CALL_MS,
        (struct event){ .kind = EVENT_CALL_OVER, .boot = m->boot, .a = m->idx, .b = todo->ticket });
    return call;
}

static void close_call(struct world *w, struct call *call) {
    if (call->page != NULL) {
        message_give(w, call->page);
    }
    *call = (struct call){ 0 };
}

static void fail_call(struct world *w, struct machine *m, struct call *call, bool is_starting,
                      const char *reason) {
    struct replica_now now = node_now(w, m);
    if (call->is_digest) {
        replica_digest_failed(m->replica, call->ticket, &now);
    } else {
        replica_pull_failed(m->replica, call->ticket, is_starting, reason, &now);
    }
    close_call(w, call);
    node_hurry(w, m);
}

void peer_call_over(struct world *w, struct machine *m, uint32_t ticket) {
    struct call *call = find_call(m, ticket);
    if (call != NULL && call->page == NULL) {
        fail_call(w, m, call, false, "it did not answer in time");
    }
}

static void ask(struct world *w, struct machine *m, const struct replica_todo *todo) {
    struct machine *to = machine_of(w, &todo->wallet);
    struct call *call = open_call(w, m, todo, to);
    struct message *message = message_take(w);
    message->from = m->idx;
    message->to = to->idx;
    message->ticket = todo->ticket;
    message->boot = m->boot;
    message->from_wallet = m->wallet;
    message->to_wallet = todo->wallet;
    message->kind = MESSAGE_DIGEST;
    message->state = state_of(w, m);
    if (todo->kind == REPLICA_PULL) {
        message->kind = MESSAGE_PULL;
        struct replica_now now = node_now(w, m);
        const struct replica_ask what = { todo->ticket, message->entries, KNOWN_COUNT_MAX };
        struct rc rc = replica_pull_request(m->replica, m->store, &what, &now, &message->request);
        if (rc.err != E_OK) {
            message_give(w, message);
            fail_call(w, m, call, false, "its request could not be made");
            return;
        }
        add_heard(m, message);
        message->request.heard = message->heard;
        message->request.heard_count = message->heard_count;
        if (m->is_hostile) {
            hostile_request(w, m, message);
        }
    }
    net_send(w, message);
}

void peer_pump(struct world *w, struct machine *m, uint64_t *next_ms) {
    for (size_t i = 0; i < PUMP_COUNT_MAX; i++) {
        struct replica_now now = node_now(w, m);
        struct replica_todo todo;
        replica_next(m->replica, m->store, &now, &todo);
        if (todo.kind == REPLICA_IDLE) {
            uint64_t wait_ms = todo.at_ms > now.mono_ms ? todo.at_ms - now.mono_ms : 1;
            *next_ms = w->now_ms + (wait_ms < 60000 ? wait_ms : 60000);
            return;
        }
        ask(w, m, &todo);
    }
    world_fail(w, "n%u: replica_next has no end", m->idx);
}

/* ---- Answering ---- */

static struct message *answer_to(struct world *w, const struct message *request,
                                 enum message_kind kind) {
    struct message *answer = message_take(w);
    answer->kind = kind;
    answer->from = request->to;
    answer->to = request->from;
    answer->ticket = request->ticket;
    answer->boot = request->boot;
    return answer;
}

void peer_refuse(struct world *w, const struct message *request, bool is_starting) {
    struct message *answer = answer_to(w, request, MESSAGE_REFUSAL);
    answer->is_starting = is_starting;
    world_count(w, TALLY_PULL_REFUSED);
    net_send(w, answer);
}

/* ---- Deciding ---- */

static void park(struct world *w, struct machine *m, struct message *request) {
    struct parked *place = NULL;
    for (size_t i = 0; i < PARKED_COUNT_MAX; i++) {
        struct parked *parked = &m->parked[i];
        if (parked->request == NULL) {
            place = place == NULL ? parked : place;
        } else if (parked->request->from == request->from) {
            message_give(w, parked->request); /* Its caller has given up. */
            parked->request = NULL;
            place = parked;
        }
    }
    ASSERT(place != NULL);
    world_count(w, TALLY_PULL_PARKED);
    place->request = request;
    place->serial = ++m->parked_serial;
    world_after(w, request->request.wait_ms,
                (struct event){
                    .kind = EVENT_PARKED_END, .boot = m->boot, .a = m->idx, .b = place->serial });
}

static void tell_heard(const struct machine *m, struct message *page) {
    add_heard(m, page);
    page->page.heard = page->heard;
    page->page.heard_count = page->heard_count;
}

/* Takes request. True when it is to be asked again at the next change, and takes it back. */
static bool serve(struct world *w, struct machine *m, struct message *request, bool is_again,
                  bool is_over) {
    struct message *answer = answer_to(w, request, MESSAGE_PAGE);
    const struct replica_serve ask_for = { .wallet = &request->from_wallet,
                                           .request = &request->request,
                                           .is_again = is_again,
                                           .is_over = is_over,
                                           .entries = answer->entries,
                                           .entry_count_max = 2 * KNOWN_COUNT_MAX };
    struct replica_served served;
    struct replica_now now = node_now(w, m);
    enum replica_answer what = replica_serve(m->replica, m->store, &ask_for, &now, &served);
    answer->page = served.page;
    switch (what) {
    case REPLICA_ANSWER_PAGE:
        tell_heard(m, answer);
        if (request->request.follow) {
            world_count(w, TALLY_PAGE_FOLLOWS);
        }
        answer->origin = request;
        peer_read_on(w, m, answer);
        return false;
    case REPLICA_ANSWER_WAIT_SHORT:
        node_serve_after(w, m, REPLICA_RELAY_MS);
        __attribute__((fallthrough));
    case REPLICA_ANSWER_WAIT:
        ASSERT(!is_over);
        message_give(w, answer);
        return true;
    case REPLICA_ANSWER_RESET:
        TRACE(w, "n%u tells n%u to drop its data", m->idx, answer->to);
        __attribute__((fallthrough));
    case REPLICA_ANSWER_AGAIN:
        tell_heard(m, answer);
        message_give(w, request);
        peer_deliver(w, m, answer);
        return false;
    case REPLICA_ANSWER_REFUSE:
        TRACE(w, "n%u refuses n%u: %s", m->idx, request->from, served.why.text);
        message_give(w, answer);
        peer_refuse(w, request, served.why.code == STATUS_UNAVAILABLE);
        message_give(w, request);
        return false;
    }
    return false;
}

void peer_serve_parked(struct world *w, struct machine *m) {
    m->serve_at_ms = UINT64_MAX;
    for (size_t i = 0; i < PARKED_COUNT_MAX; i++) {
        struct message *request = m->parked[i].request;
        if (request != NULL) {
            m->parked[i].request = NULL;
            m->parked[i].request = serve(w, m, request, true, false) ? request : NULL;
        }
    }
}

void peer_parked_end(struct world *w, struct machine *m, uint32_t serial) {
    for (size_t i = 0; i < PARKED_COUNT_MAX; i++) {
        struct message *request = m->parked[i].request;
        if (request != NULL && m->parked[i].serial == serial) {
            m->parked[i].request = NULL;
            (void)serve(w, m, request, true, true);
            return;
        }
    }
}

static void take_pull(struct world *w, struct machine *m, struct message *request) {
    if (serve(w, m, request, false, false)) {
        park(w, m, request);
    }
    client_check_acks(w, m);
    node_hurry(w, m);
}

static void take_digest(struct world *w, struct machine *m, struct message *request) {
    if (!replica_is_comparable(m->replica)) {
        peer_refuse(w, request, true);
        message_give(w, request);
        return;
    }
    struct message *answer = answer_to(w, request, MESSAGE_DIGEST_ANSWER);
    answer->state = state_of(w, m);
    message_give(w, request);
    struct rc rc = store_known_copy(m->store, answer->entries, KNOWN_COUNT_MAX, &answer->known);
    ASSERT(rc.err == E_OK);
    for (uint64_t app_id = 1; app_id <= APP_COUNT; app_id++) {
        struct store_stats stats;
        store_app_stats(m->store, app_id, &stats);
        if (stats.namespace_count > 0) {
            answer->digests[answer->digest_count++] =
                (struct replica_digest){ app_id, store_digest(m->store, app_id) };
        }
    }
    if (m->is_hostile) {
        hostile_digest(w, m, answer);
    }
    net_send(w, answer);
}

/* ---- Taking in an answer ---- */

/* As the authenticated data of the ciphertext would show. */
static void mark_forged(struct message *page) {
    for (size_t i = 0; i < page->record_count; i++) {
        const struct store_remote *r = &page->records[i].remote;
        char key[8];
        if (r->sealed.len == 0 || r->sealed.len > RECORD_BYTES_MAX || r->key.len == 0) {
            continue;
        }
        unsigned cell = r->sealed.ptr[0];
        cell_key(cell, key);
        page->records[i].is_forged =
            r->app_id != 1 + cell / KEY_COUNT || !span_equal(r->key, span_str(key));
    }
}

static void check_records(struct world *w, struct machine *m, const struct message *page,
                          size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) {
        check_held(w, m, page->records[i].remote.app_id, page->records[i].remote.key);
    }
}

static void end_page(struct world *w, struct machine *m, struct call *call) {
    struct replica_now now = node_now(w, m);
    const struct replica_page *page = &call->page->page;
    const struct replica_arrival arrival = { call->ticket, page };
    TRACE(w, "n%u has merged %zu records of n%u from %llu to %llu%s", m->idx,
          call->page->record_count, call->to, (unsigned long long)page->from,
          (unsigned long long)page->next, page->more ? "" : ", the last");
    replica_page_end(m->replica, m->store, &arrival, &now);
    close_call(w, call);
    node_changed(w, m);
    node_hurry(w, m);
}

static void go_on_later(struct world *w, const struct machine *m, const struct call *call) {
    world_after(
        w, 1 + rng_below(&w->rng, 30),
        (struct event){ .kind = EVENT_MERGE, .boot = m->boot, .a = m->idx, .b = call->ticket });
}

/* All that is left at once, or a few records now and the others later. */
static void merge_some(struct world *w, struct machine *m, struct call *call) {
    struct message *page = call->page;
    const struct replica_arrival arrival = { call->ticket, &page->page };
    while (call->merged_count < page->record_count) {
        size_t left = page->record_count - call->merged_count;
        size_t count = rng_once_in(&w->rng, 4) ? 1 + rng_below(&w->rng, (uint32_t)left) : left;
        struct replica_now now = node_now(w, m);
        size_t first = call->merged_count;
        const struct replica_records records = { &page->records[first], count };
        call->merged_count += count;
        bool goes_on = replica_merge(m->replica, m->store, &arrival, &records, &now);
        check_records(w, m, page, first, count);
        if (!goes_on) {
            world_count(w, TALLY_PAGE_STOPPED);
            break;
        }
        if (count < left) {
            node_changed(w, m);
            go_on_later(w, m, call);
            return;
        }
    }
    end_page(w, m, call);
}

static void take_reset(struct world *w, struct machine *m, const struct message *page) {
    if (!page->page.reset && !m->was_away) {
        world_fail(w, "n%u drops its state and was not told to", m->idx);
    }
    world_count(w, TALLY_RESET_TAKEN);
    for (size_t i = 0; i < CALL_COUNT_MAX; i++) {
        if (m->calls[i].is_used) {
            close_call(w, &m->calls[i]);
        }
    }
    node_tally(w, m);
    node_drop_state(w, m);
    struct replica_now now = node_now(w, m);
    replica_restart(m->replica, &now);
    m->was_in_service = false;
    node_judge(w, m);
    node_hurry(w, m);
}

static void drop_page(struct world *w, struct machine *m, struct call *call, const char *why) {
    TRACE(w, "n%u drops a page of n%u: %s", m->idx, call->to, why);
    world_count(w, TALLY_PAGE_DROPPED);
    if (strstr(why, "follows another one") != NULL) {
        world_count(w, TALLY_PAGE_FOLLOWS_OTHER);
    }
    close_call(w, call);
    node_hurry(w, m);
}

/* For a call that has ended: replica must see it for itself. */
static void take_late(struct world *w, struct machine *m, const struct message *page) {
    const struct replica_arrival arrival = { page->ticket, &page->page };
    char why[REPLICA_REASON_BYTES];
    struct replica_now now = node_now(w, m);
    world_count(w, TALLY_FAULT_LATE_ANSWER);
    if (replica_page_begin(m->replica, m->store, &arrival, &now, why) != REPLICA_DROP) {
        world_fail(w, "n%u takes a page whose pull has ended", m->idx);
    }
}

/* The call that a page answers. One for an earlier boot is taken for the answer to any call to that
 * member that is under way now, as if connections outlived processes: replica must see it. */
static struct call *find_answered(struct machine *m, const struct message *page) {
    if (page->boot == m->boot) {
        return find_call(m, page->ticket);
    }
    for (size_t i = 0; i < CALL_COUNT_MAX; i++) {
        struct call *call = &m->calls[i];
        if (call->is_used && !call->is_digest && call->page == NULL && call->to == page->from) {
            return call;
        }
    }
    return NULL;
}

/* The next pages, before this one is merged: each asked for as often as not. */
static void ask_ahead(struct world *w, struct machine *m, const struct call *call) {
    const struct replica_arrival arrival = { call->ticket, &call->page->page };
    struct replica_todo ahead = { .kind = REPLICA_PULL };
    while (ahead.kind == REPLICA_PULL && rng_once_in(&w->rng, 2)) {
        struct replica_now now = node_now(w, m);
        if (replica_ahead(m->replica, &arrival, &now, &ahead)) {
            world_count(w, TALLY_PAGE_AHEAD);
            ask(w, m, &ahead);
        }
    }
}

static void begin_page(struct world *w, struct machine *m, struct call *call) {
    struct message *page = call->page;
    char why[REPLICA_REASON_BYTES];
    const struct replica_arrival arrival = { call->ticket, &page->page };
    struct replica_now now = node_now(w, m);
    call->has_begun = true;
    switch (replica_page_begin(m->replica, m->store, &arrival, &now, why)) {
    case REPLICA_TAKE:
        mark_forged(page);
        ask_ahead(w, m, call);
        if (page->page.more && page->record_count > 0 && rng_once_in(&w->rng, 2)) {
            go_on_later(w, m, call); /* The thread that merges it is busy. */
        } else {
            merge_some(w, m, call);
        }
        break;
    case REPLICA_DROP:
        drop_page(w, m, call, why);
        break;
    case REPLICA_RESET:
        call->page = NULL;
        close_call(w, call);
        take_reset(w, m, page);
        message_give(w, page);
        break;
    }
}

/* Whether a page of the same member came before this one, and has not ended. */
static bool has_one_before(const struct machine *m, const struct call *call) {
    for (size_t i = 0; i < CALL_COUNT_MAX; i++) {
        const struct call *other = &m->calls[i];
        if (other->page != NULL && other->to == call->to && other->ticket < call->ticket) {
            return true;
        }
    }
    return false;
}

/* A page in its turn; seldom before it, and seldom not at all. */
static void wait_or_begin(struct world *w, struct machine *m, struct call *call) {
    if (!has_one_before(m, call) || rng_once_in(&w->rng, 10)) {
        begin_page(w, m, call);
    } else if (rng_once_in(&w->rng, 20)) {
        fail_call(w, m, call, false, "it could not be kept");
    } else {
        go_on_later(w, m, call);
    }
}

void peer_merge(struct world *w, struct machine *m, uint32_t ticket) {
    struct call *call = find_call(m, ticket);
    if (call == NULL || call->page == NULL) {
        return;
    }
    if (call->has_begun) {
        merge_some(w, m, call);
    } else {
        wait_or_begin(w, m, call);
    }
}

static void take_page(struct world *w, struct machine *m, struct message *page) {
    struct call *call = find_answered(m, page);
    if (call == NULL || call->is_digest || call->to != page->from) {
        take_late(w, m, page);
        message_give(w, page);
        return;
    }
    if (call->page != NULL) { /* The same answer twice. */
        message_give(w, page);
        return;
    }
    call->page = page;
    if (has_one_before(m, call)) {
        ask_ahead(w, m, call);
    }
    wait_or_begin(w, m, call);
}

static void take_digest_answer(struct world *w, struct machine *m, struct message *answer) {
    struct call *call = answer->boot == m->boot ? find_call(m, answer->ticket) : NULL;
    if (call != NULL && call->is_digest && call->to == answer->from) {
        const struct replica_digests theirs = { call->ticket, answer->state, answer->known,
                                                answer->digests, answer->digest_count };
        struct replica_now now = node_now(w, m);
        replica_digest_end(m->replica, m->store, &theirs, &now);
        close_call(w, call);
        node_hurry(w, m);
    }
    message_give(w, answer);
}

static void take_refusal(struct world *w, struct machine *m, struct message *answer) {
    struct call *call = answer->boot == m->boot ? find_call(m, answer->ticket) : NULL;
    if (call != NULL && call->page == NULL && call->to == answer->from) {
        fail_call(w, m, call, answer->is_starting, "it refused");
    }
    message_give(w, answer);
}

/* ---- Arrival ---- */

/* True when a request is not even looked at. */
static bool turn_away(struct world *w, struct machine *m, struct message *message) {
    bool is_request = message->kind == MESSAGE_PULL || message->kind == MESSAGE_DIGEST;
    if (!is_request) {
        return false;
    }
    if (!wallet_equal(&message->to_wallet, &m->wallet) ||
        node_judge_caller(w, m, &message->from_wallet) != AUTH_ALLOW) {
        peer_refuse(w, message, false);
        message_give(w, message);
        return true;
    }
    check_caller(w, m, &message->from_wallet);
    return false;
}

void peer_receive(struct world *w, struct message *message) {
    struct machine *m = &w->machines[message->to];
    if (!m->is_up) {
        if (message->kind == MESSAGE_PULL || message->kind == MESSAGE_DIGEST) {
            peer_refuse(w, message, false); /* Nobody listens there. */
        }
        message_give(w, message);
        return;
    }
    if (message->is_held && w->is_healed) { /* It was held for so long that nobody comes for it. */
        message_give(w, message);
        return;
    }
    if (w->now_ms < m->hung_until_ms) {
        message->is_held = true;
        uint64_t span_ms = m->hung_until_ms - w->now_ms + rng_below(&w->rng, 100);
        world_after(w, span_ms, (struct event){ .kind = EVENT_MESSAGE, .of = message });
        return;
    }
    if (turn_away(w, m, message)) {
        return;
    }
    switch (message->kind) {
    case MESSAGE_PULL:
        take_pull(w, m, message);
        break;
    case MESSAGE_PAGE:
        take_page(w, m, message);
        break;
    case MESSAGE_DIGEST:
        take_digest(w, m, message);
        break;
    case MESSAGE_DIGEST_ANSWER:
        take_digest_answer(w, m, message);
        break;
    case MESSAGE_REFUSAL:
        take_refusal(w, m, message);
        break;
    }
}

void peer_drop_all(struct world *w, struct machine *m) {
    for (size_t i = 0; i < CALL_COUNT_MAX; i++) {
        close_call(w, &m->calls[i]);
    }
    for (size_t i = 0; i < PARKED_COUNT_MAX; i++) {
        if (m->parked[i].request != NULL) {
            message_give(w, m->parked[i].request);
            m->parked[i].request = NULL;
        }
    }
}
