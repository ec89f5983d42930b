/* SPDX-License-Identifier: Apache-2.0 */
/* PeerService on a worker, over a real store and replica: pages, long polls, digests, and requests
 * for the master secret. net's side of a call is played by this file. */
#include "service/peer_service.h"
#include "service_fixture.h"

struct net_call {
    struct fixture *f;
    uv_loop_t *loop;
    struct arena arena;
    size_t request_bytes;
    unsigned answered_count;
    unsigned failed_count;
    struct status why;
    void (*end_cb)(void *ctx);
    void *end_ctx;
    uint64_t timeout_ms;
    /* What was answered. */
    size_t record_count;
    size_t bytes;
    bool more;
    bool has_floor;
    uint64_t from;
    uint64_t next;
    uint8_t incarnation[STORE_WRITER_BYTES];
    size_t app_count;
    uint64_t first_app_id;
    size_t sealed_len;
};

void *net_call_context(const struct net_call *call) {
    return &call->f->caller;
}
struct arena *net_call_arena(struct net_call *call) {
    return &call->arena;
}
size_t net_call_held_bytes(const struct net_call *call) {
    return call->request_bytes + call->arena.held_bytes;
}
size_t net_call_answer_bytes_max(const struct net_call *call) {
    (void)call;
    return FIXTURE_ANSWER_MAX;
}
void net_call_fail(struct net_call *call, const struct status *why,
                   const struct net_error_details *details) {
    (void)details;
    call->failed_count++;
    call->why = *why;
}
void net_call_on_end(struct net_call *call, void (*end_cb)(void *ctx), void *ctx) {
    call->end_cb = end_cb;
    call->end_ctx = ctx;
}
uint64_t net_call_deadline_at_ms(const struct net_call *call) {
    return uv_now(call->loop) + call->timeout_ms;
}
struct net_conn *net_call_conn(const struct net_call *call) {
    return (struct net_conn *)(uintptr_t)call;
}
const struct tls *net_conn_tls(const struct net_conn *conn) {
    return (const struct tls *)(const void *)conn;
}
int tls_version(const struct tls *tls) {
    (void)tls;
    return 12;
}

struct worker {
    struct fixture f;
    uv_loop_t loop;
    uv_async_t alive; /* A worker's loop has handles; one without never runs a timer. */
    struct service_peer *peer;
    size_t request_bytes; /* Of the calls that start. */
    void (*posted)(void *arg);
    void *posted_arg;
    unsigned posted_count;
    unsigned heard_count;
    void (*on_section)(struct worker *w); /* Between a page's first section and its second. */
    struct service_share_ask asked;
    unsigned ask_count;
    bool share_is_full;
};

static bool post(void *ctx, uint32_t worker_idx, void (*fn)(void *arg), void *arg) {
    struct worker *w = ctx;
    assert_int_equal(worker_idx, 3);
    w->posted = fn;
    w->posted_arg = arg;
    w->posted_count++;
    return true;
}

static bool share(void *ctx, const struct service_share_ask *ask) {
    struct worker *w = ctx;
    w->asked = *ask;
    w->ask_count++;
    return !w->share_is_full;
}

static void heard(void *ctx) {
    struct worker *w = ctx;
    assert_null(w->on_section); /* Only then: it wants the lock. */
    w->heard_count++;
}

/* The section's vector may be what a write waits for. */
static void told(void *ctx) {
    struct worker *w = ctx;
    void (*on_section)(struct worker * w) = w->on_section;
    w->on_section = NULL;
    if (on_section != NULL) {
        on_section(w);
    }
}

static void open_worker_with(struct worker *w, bool needs_tls13) {
    memset(w, 0, sizeof(*w));
    fixture_open(&w->f);
    fixture_set_members(&w->f, 1);
    w->f.caller = (struct service_caller){ .app_id = 49, .is_kms_member = true };
    w->f.caller.wallet.bytes[0] = 1;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_async_init(&w->loop, &w->alive, NULL), 0);
    const struct service_peer_cfg cfg = {
        .shared = &w->f.shared,
        .loop = &w->loop,
        .post = post,
        .post_ctx = w,
        .worker_idx = 3,
        .limits = { 16, 300 },
        .page_bytes_max = 300 * STORE_RECORD_BYTES,
        .needs_tls13 = needs_tls13,
        .share = share,
        .heard = heard,
        .ctx = w,
    };
    assert_ok(service_peer_init(&w->peer, &cfg));
    assert_ok(service_kv_listen(w->f.shared.kv, told, w));
    /* The node's clock begins where the test's stamps are. */
    service_clock_init(&w->f.clock, FIXTURE_SKEW_MS, uv_now(&w->loop), FIXTURE_NOW_MS);
}

static void open_worker(struct worker *w) {
    open_worker_with(w, false);
}

static void close_worker(struct worker *w) {
    service_peer_stop(w->peer);
    service_peer_stop(w->peer);
    uv_close((uv_handle_t *)&w->alive, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    service_peer_close(&w->peer);
    service_peer_close(&w->peer);
    fixture_close(&w->f);
}

static void write_some(struct worker *w, uint64_t app_id, unsigned count) {
    static uint8_t value[100];
    for (unsigned i = 0; i < count; i++) {
        uint8_t key[4] = { (uint8_t)(i >> 8), (uint8_t)i };
        const struct store_write write = { .app_id = app_id,
                                           .key = { key, sizeof(key) },
                                           .sealed = { value, sizeof(value) },
                                           .now_unix_ms = FIXTURE_NOW_MS };
        struct store_written written;
        assert_ok(service_kv_put(w->f.shared.kv, &write, &written));
    }
}

/* ---- The member's side ---- */

struct asker {
    uint8_t incarnation[STORE_WRITER_BYTES];
    uint8_t responder[STORE_WRITER_BYTES];
    Novakms__V1__PeerState state;
    Novakms__V1__PullRequest request;
};

static void open_asker(struct asker *a, struct worker *w) {
    memset(a, 0, sizeof(*a));
    a->incarnation[0] = 1;
    a->incarnation[1] = 7;
    service_kv_writer(w->f.shared.kv, a->responder);
    novakms__v1__peer_state__init(&a->state);
    a->state.incarnation = fixture_bytes(a->incarnation, STORE_WRITER_BYTES);
    a->state.master_secret_hash = fixture_bytes(w->f.master.hash, KDF_HASH_BYTES);
    a->state.unix_ms = FIXTURE_NOW_MS;
    a->state.in_service = true;
    novakms__v1__pull_request__init(&a->request);
    a->request.state = &a->state;
}

static void pulled_cb(const Novakms__V1__PullResponse *out, void *closure_data) {
    struct net_call *call = closure_data;
    call->answered_count++;
    call->record_count = out->n_records;
    call->more = out->more;
    call->has_floor = out->floor != NULL;
    call->next = out->next;
    call->from = out->from;
    call->bytes = 0;
    for (size_t i = 0; i < out->n_records; i++) {
        call->bytes += out->records[i]->key.len + out->records[i]->sealed.len;
    }
    assert_int_equal(out->state->incarnation.len, STORE_WRITER_BYTES);
    memcpy(call->incarnation, out->state->incarnation.data, STORE_WRITER_BYTES);
}

static void open_call(struct worker *w, struct net_call *call) {
    memset(call, 0, sizeof(*call));
    call->f = &w->f;
    call->loop = &w->loop;
    call->timeout_ms = 60000;
    call->request_bytes = w->request_bytes;
    arena_init(&call->arena, (size_t)16 << 20);
}

static void pull(struct worker *w, struct asker *a, struct net_call *call) {
    open_call(w, call);
    novakms__v1__peer_service__pull(service_peer_service(w->peer), &a->request, pulled_cb, call);
}

static void test_snapshot_in_pages(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call call;
    open_worker(&w);
    write_some(&w, 7, 500);
    open_asker(&a, &w);
    size_t count = 0;
    size_t pages = 0;
    do {
        pull(&w, &a, &call);
        assert_int_equal(call.answered_count, 1);
        assert_true(call.record_count <= 300);
        assert_int_equal(call.has_floor, !call.more);
        assert_true(call.next > a.request.since || !call.more);
        count += call.record_count;
        pages++;
        a.request.since = call.next;
        a.request.responder_incarnation = fixture_bytes(a.responder, STORE_WRITER_BYTES);
        arena_close(&call.arena);
    } while (call.more);
    assert_int_equal(count, 500);
    assert_true(pages >= 2);
    assert_true(w.heard_count >= 2);
    close_worker(&w);
}

/* Each page is asked for without knowing where the one before it ended. */
static void test_pages_that_follow(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call call;
    open_worker(&w);
    write_some(&w, 7, 500);
    open_asker(&a, &w);
    size_t count = 0;
    uint64_t end = 0;
    do {
        pull(&w, &a, &call);
        assert_int_equal(call.from, end);
        count += call.record_count;
        end = call.next;
        a.request.responder_incarnation = fixture_bytes(a.responder, STORE_WRITER_BYTES);
        a.request.follow = true;
        arena_close(&call.arena);
    } while (call.more);
    assert_int_equal(count, 500);
    close_worker(&w);
}

static void raise_floor(struct worker *w) {
    const struct store_known floor = { .rest_hlc = 1 };
    assert_ok(store_join_floor(service_kv_lock(w->f.shared.kv), &floor, FIXTURE_NOW_MS));
    service_kv_unlock(w->f.shared.kv, true);
}

static void write_more(struct worker *w) {
    write_some(w, 8, 1);
}

static void drop_all(struct worker *w) {
    const uint8_t writer[STORE_WRITER_BYTES] = { 0xaa, 2 };
    store_reset(service_kv_lock(w->f.shared.kv), writer);
    service_kv_unlock(w->f.shared.kv, true);
}

/* What happens while a page is read that takes two sections. */
static void test_sections(void **state) {
    (void)state;
    static const unsigned count = SERVICE_PAGE_STEP_COUNT + 10;
    struct worker w;
    struct asker a;
    struct net_call call;
    open_worker(&w);
    write_some(&w, 7, count);
    open_asker(&a, &w);
    w.on_section = raise_floor;
    pull(&w, &a, &call);
    assert_int_equal(call.record_count, count);
    assert_true(call.more); /* The floor that it could have had was too low. */
    assert_false(call.has_floor);
    arena_close(&call.arena);
    w.on_section = write_more;
    pull(&w, &a, &call);
    assert_int_equal(call.record_count, count + 1);
    assert_false(call.more);
    assert_true(call.has_floor);
    arena_close(&call.arena);
    w.on_section = drop_all;
    pull(&w, &a, &call);
    assert_int_equal(call.answered_count, 0);
    assert_int_equal(call.why.code, STATUS_UNAVAILABLE);
    arena_close(&call.arena);
    close_worker(&w);
}

static void test_bytes_are_bounded(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call call;
    open_worker(&w);
    write_some(&w, 7, 50);
    open_asker(&a, &w);
    a.request.bytes_max = 10 * (STORE_RECORD_BYTES + 104);
    pull(&w, &a, &call);
    assert_int_equal(call.record_count, 10);
    assert_true(call.more);
    arena_close(&call.arena);
    a.request.bytes_max = 1; /* One record goes in any case. */
    pull(&w, &a, &call);
    assert_int_equal(call.record_count, 1);
    arena_close(&call.arena);
    close_worker(&w);
}

/* It waits until something is written; and a call that ends otherwise is forgotten. */
static void test_long_poll(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call first;
    struct net_call call;
    struct net_call gone;
    open_worker(&w);
    open_asker(&a, &w);
    pull(&w, &a, &first);
    assert_int_equal(first.answered_count, 1); /* From another incarnation: at once. */
    arena_close(&first.arena);
    a.request.since = first.next;
    a.request.responder_incarnation = fixture_bytes(a.responder, STORE_WRITER_BYTES);
    a.request.wait_ms = 50000;
    pull(&w, &a, &call);
    pull(&w, &a, &gone);
    assert_int_equal(call.answered_count + call.failed_count, 0);
    gone.end_cb(gone.end_ctx);
    assert_int_equal(w.posted_count, 1); /* A request may be what a write waits for; not these. */
    w.posted(w.posted_arg);
    assert_int_equal(call.answered_count, 0);
    write_some(&w, 7, 1);
    assert_int_equal(w.posted_count, 2);
    w.posted(w.posted_arg);
    assert_int_equal(call.answered_count, 1);
    assert_int_equal(call.record_count, 1);
    assert_null(call.end_cb);
    assert_int_equal(gone.answered_count + gone.failed_count, 0);
    arena_close(&call.arena);
    arena_close(&gone.arena);
    close_worker(&w);
}

/* One that would hold too much, alone or with the others, is answered at once. */
static void test_long_polls_are_bounded(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call calls[2];
    open_worker(&w);
    open_asker(&a, &w);
    a.request.responder_incarnation = fixture_bytes(a.responder, STORE_WRITER_BYTES);
    a.request.wait_ms = 50000;
    w.request_bytes = SERVICE_POLL_BYTES_MAX;
    pull(&w, &a, &calls[0]);
    assert_int_equal(calls[0].answered_count, 1);
    arena_close(&calls[0].arena);
    w.request_bytes = SERVICE_POLL_BYTES_MAX / 2;
    pull(&w, &a, &calls[0]);
    assert_int_equal(calls[0].answered_count, 0);
    pull(&w, &a, &calls[1]);
    assert_int_equal(calls[1].answered_count, 1);
    arena_close(&calls[1].arena);
    calls[0].end_cb(calls[0].end_ctx);
    pull(&w, &a, &calls[1]);
    assert_int_equal(calls[1].answered_count, 0);
    calls[1].end_cb(calls[1].end_ctx);
    arena_close(&calls[0].arena);
    arena_close(&calls[1].arena);
    close_worker(&w);
}

static void test_long_poll_ends(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call call;
    open_worker(&w);
    open_asker(&a, &w);
    a.request.responder_incarnation = fixture_bytes(a.responder, STORE_WRITER_BYTES);
    a.request.wait_ms = 1;
    pull(&w, &a, &call);
    while (call.answered_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(call.record_count, 0);
    arena_close(&call.arena);
    a.request.wait_ms = 50000;
    pull(&w, &a, &call);
    assert_int_equal(call.answered_count, 0);
    atomic_store(&w.f.is_stopping, true);
    service_peer_wake(w.peer);
    w.posted(w.posted_arg);
    assert_int_equal(call.answered_count, 1);
    arena_close(&call.arena);
    pull(&w, &a, &call); /* A node that stops parks nobody. */
    assert_int_equal(call.answered_count, 1);
    arena_close(&call.arena);
    close_worker(&w);
}

static void expect_failure(struct worker *w, struct asker *a, enum status_code code) {
    struct net_call call;
    pull(w, a, &call);
    assert_int_equal(call.failed_count, 1);
    assert_int_equal(call.why.code, code);
    arena_close(&call.arena);
}

static void test_who_may_pull(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    open_worker(&w);
    open_asker(&a, &w);
    w.f.caller.is_kms_member = false;
    expect_failure(&w, &a, STATUS_PERMISSION_DENIED);
    w.f.caller.is_kms_member = true;
    w.f.caller.wallet.bytes[0] = 9; /* A member that the list does not have yet. */
    expect_failure(&w, &a, STATUS_PERMISSION_DENIED);
    w.f.caller.wallet.bytes[0] = 1;
    a.state.master_secret_hash = fixture_bytes("another secret's hash, 32 bytes.", 32);
    expect_failure(&w, &a, STATUS_FAILED_PRECONDITION);
    a.request.state = NULL;
    expect_failure(&w, &a, STATUS_INVALID_ARGUMENT);
    close_worker(&w);
    open_worker_with(&w, true);
    open_asker(&a, &w);
    expect_failure(&w, &a, STATUS_FAILED_PRECONDITION); /* TLS 1.2. */
    close_worker(&w);
}

/* ---- Digests ---- */

static void digest_cb(const Novakms__V1__GetDigestResponse *out, void *closure_data) {
    struct net_call *call = closure_data;
    call->answered_count++;
    call->app_count = out->n_apps;
    call->more = out->more;
    call->first_app_id = out->n_apps == 0 ? 0 : out->apps[0]->app_id;
    for (size_t i = 0; i < out->n_apps; i++) {
        assert_int_equal(out->apps[i]->digest.len, PEER_DIGEST_BYTES);
        assert_true(i == 0 || out->apps[i]->app_id > out->apps[i - 1]->app_id);
    }
}

static void ask_digest(struct worker *w, struct asker *a, uint64_t after, struct net_call *call) {
    Novakms__V1__GetDigestRequest request = NOVAKMS__V1__GET_DIGEST_REQUEST__INIT;
    request.state = &a->state;
    request.after_app_id = after;
    open_call(w, call);
    novakms__v1__peer_service__get_digest(service_peer_service(w->peer), &request, digest_cb, call);
    arena_close(&call->arena);
}

static void test_digests(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call call;
    open_worker(&w);
    open_asker(&a, &w);
    ask_digest(&w, &a, 0, &call);
    assert_int_equal(call.answered_count, 1);
    assert_int_equal(call.app_count, 0);
    write_some(&w, 70, 3);
    write_some(&w, 5, 3);
    ask_digest(&w, &a, 0, &call);
    assert_int_equal(call.app_count, 2);
    assert_int_equal(call.first_app_id, 5);
    assert_false(call.more);
    ask_digest(&w, &a, 5, &call);
    assert_int_equal(call.app_count, 1);
    assert_int_equal(call.first_app_id, 70);
    a.state.master_secret_hash.len = 0;
    ask_digest(&w, &a, 0, &call);
    assert_int_equal(call.why.code, STATUS_FAILED_PRECONDITION);
    close_worker(&w);
}

/* ---- The master secret ---- */

static void secret_cb(const Novakms__V1__FetchMasterSecretResponse *out, void *closure_data) {
    struct net_call *call = closure_data;
    call->answered_count++;
    call->sealed_len = out->sealed.len;
    assert_int_equal(out->sender_public_key.len, ENVELOPE_DER_BYTES);
    assert_int_equal(out->seal_nonce.len, ENVELOPE_NONCE_BYTES);
}

static uint8_t nonce[PEER_NONCE_BYTES + 1] = { 3 };

static void ask_secret(struct worker *w, struct asker *a, size_t nonce_len, struct net_call *call) {
    static Novakms__V1__FetchMasterSecretRequest request;
    novakms__v1__fetch_master_secret_request__init(&request);
    request.state = &a->state;
    request.wanted_hash = fixture_bytes(w->f.master.hash, KDF_HASH_BYTES);
    request.nonce = fixture_bytes(nonce, nonce_len);
    open_call(w, call);
    novakms__v1__peer_service__fetch_master_secret(service_peer_service(w->peer), &request,
                                                   secret_cb, call);
}

static void test_secret_is_asked_for(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call call;
    struct net_call gone;
    struct service_share_answer answer = { .sealed_len = 99 };
    open_worker(&w);
    open_asker(&a, &w);
    ask_secret(&w, &a, PEER_NONCE_BYTES, &gone);
    uint64_t gone_id = w.asked.id;
    ask_secret(&w, &a, PEER_NONCE_BYTES, &call);
    assert_int_equal(w.ask_count, 2);
    assert_int_equal(w.asked.worker_idx, 3);
    assert_int_equal(w.asked.wallet.bytes[0], 1);
    assert_memory_equal(w.asked.nonce, nonce, PEER_NONCE_BYTES);
    assert_memory_equal(w.asked.wanted_hash, w.f.master.hash, KDF_HASH_BYTES);
    gone.end_cb(gone.end_ctx);
    service_peer_shared(w.peer, gone_id, &answer);
    assert_int_equal(gone.answered_count + gone.failed_count, 0);
    service_peer_shared(w.peer, w.asked.id, &answer);
    assert_int_equal(call.answered_count, 1);
    assert_int_equal(call.sealed_len, 99);
    service_peer_shared(w.peer, w.asked.id, &answer); /* Answered already. */
    assert_int_equal(call.answered_count, 1);
    arena_close(&call.arena);
    arena_close(&gone.arena);
    ask_secret(&w, &a, PEER_NONCE_BYTES, &call);
    status_set(&answer.why, STATUS_PERMISSION_DENIED, "no");
    service_peer_shared(w.peer, w.asked.id, &answer);
    assert_int_equal(call.why.code, STATUS_PERMISSION_DENIED);
    arena_close(&call.arena);
    close_worker(&w);
}

static void test_secret_requests_are_limited(void **state) {
    (void)state;
    struct worker w;
    struct asker a;
    struct net_call calls[SERVICE_SHARE_COUNT_MAX + 1];
    struct net_call call;
    open_worker(&w);
    open_asker(&a, &w);
    for (size_t len = PEER_NONCE_BYTES - 1; len <= PEER_NONCE_BYTES + 1; len += 2) {
        ask_secret(&w, &a, len, &call);
        assert_int_equal(call.why.code, STATUS_INVALID_ARGUMENT);
        arena_close(&call.arena);
    }
    assert_int_equal(w.ask_count, 0);
    w.share_is_full = true;
    ask_secret(&w, &a, PEER_NONCE_BYTES, &call);
    assert_int_equal(call.why.code, STATUS_RESOURCE_EXHAUSTED);
    arena_close(&call.arena);
    w.share_is_full = false;
    for (size_t i = 0; i <= SERVICE_SHARE_COUNT_MAX; i++) {
        ask_secret(&w, &a, PEER_NONCE_BYTES, &calls[i]);
        assert_int_equal(calls[i].failed_count, i == SERVICE_SHARE_COUNT_MAX);
    }
    for (size_t i = 0; i < SERVICE_SHARE_COUNT_MAX; i++) {
        calls[i].end_cb(calls[i].end_ctx);
        arena_close(&calls[i].arena);
    }
    arena_close(&calls[SERVICE_SHARE_COUNT_MAX].arena);
    unsigned before = w.ask_count;
    for (unsigned i = 0; i < SERVICE_SHARE_PER_MINUTE; i++) {
        ask_secret(&w, &a, PEER_NONCE_BYTES, &call);
        if (call.failed_count == 0) {
            call.end_cb(call.end_ctx);
        }
        arena_close(&call.arena);
    }
    assert_int_equal(call.why.code, STATUS_RESOURCE_EXHAUSTED); /* In one minute. */
    assert_true(w.ask_count - before < SERVICE_SHARE_PER_MINUTE);
    close_worker(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_in_pages),
        cmocka_unit_test(test_pages_that_follow),
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_long_poll),
        cmocka_unit_test(test_long_poll_ends),
        cmocka_unit_test(test_long_polls_are_bounded),
        cmocka_unit_test(test_who_may_pull),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_secret_is_asked_for),
        cmocka_unit_test(test_secret_requests_are_limited),
    };
    return cmocka_run_group_tests_name("peer_service", tests, NULL, NULL);
}
