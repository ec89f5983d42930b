/* SPDX-License-Identifier: Apache-2.0 */
/* The generated service on a worker: how calls end, and how reads wait for a write this node has not
 * heard of. net's side of a call is played by this file. */
#include "service/kms.h"
#include "service_fixture.h"

struct net_call {
    struct fixture *f;
    uv_loop_t *loop;
    uint64_t timeout_ms;
    bool is_executed;
    unsigned answered_count;
    unsigned failed_count;
    bool may_miss;
    uint8_t value[64];
    size_t value_len;
    struct status why;
    struct net_error_details details;
    void (*end_cb)(void *ctx);
    void *end_ctx;
};

void *net_call_context(const struct net_call *call) {
    return &call->f->caller;
}
struct arena *net_call_arena(struct net_call *call) {
    return &call->f->arena;
}
size_t net_call_answer_bytes_max(const struct net_call *call) {
    (void)call;
    return FIXTURE_ANSWER_MAX;
}
void net_call_fail(struct net_call *call, const struct status *why,
                   const struct net_error_details *details) {
    call->failed_count++;
    call->why = *why;
    call->details = *details;
}
void net_call_on_end(struct net_call *call, void (*end_cb)(void *ctx), void *ctx) {
    call->end_cb = end_cb;
    call->end_ctx = ctx;
}
uv_loop_t *net_call_loop(const struct net_call *call) {
    return call->loop;
}
void net_call_set_executed(struct net_call *call) {
    call->is_executed = true;
}
uint64_t net_call_deadline_at_ms(const struct net_call *call) {
    return uv_now(call->loop) + call->timeout_ms;
}

struct worker {
    struct fixture f;
    uv_loop_t loop;
    uv_async_t alive; /* A worker's loop has handles; one without never runs a timer. */
    struct service_kms *kms;
    void (*posted)(void *arg);
    void *posted_arg;
    unsigned posted_count;
};

static bool post(void *ctx, uint32_t worker_idx, void (*fn)(void *arg), void *arg) {
    struct worker *w = ctx;
    assert_int_equal(worker_idx, 3);
    w->posted = fn;
    w->posted_arg = arg;
    w->posted_count++;
    return true;
}

static void open_worker(struct worker *w, uint64_t read_wait_ms) {
    memset(w, 0, sizeof(*w));
    fixture_open(&w->f);
    w->f.shared.read_wait_ms = read_wait_ms;
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_async_init(&w->loop, &w->alive, NULL), 0);
    const struct service_kms_cfg cfg = {
        .shared = &w->f.shared, .loop = &w->loop, .post = post, .post_ctx = w, .worker_idx = 3
    };
    assert_ok(service_kms_init(&w->kms, &cfg));
}

static void close_worker(struct worker *w) {
    service_kms_stop(w->kms);
    service_kms_stop(w->kms);
    uv_close((uv_handle_t *)&w->alive, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    service_kms_close(&w->kms);
    service_kms_close(&w->kms);
    fixture_close(&w->f);
}

static void got_cb(const Novakms__V1__GetResponse *out, void *closure_data) {
    struct net_call *call = closure_data;
    call->answered_count++;
    call->may_miss = out->may_miss;
    assert_true(out->value.len <= sizeof(call->value));
    memcpy(call->value, out->value.data, out->value.len);
    call->value_len = out->value.len;
}

/* Reads key "k" with a stamp of `writer` at the present. */
static void start_get(struct worker *w, struct net_call *call, Novakms__V1__GetRequest *in,
                      const uint8_t *writer, uint64_t hlc) {
    memset(call, 0, sizeof(*call));
    call->f = &w->f;
    call->loop = &w->loop;
    Novakms__V1__Stamp *seen = arena_take(&w->f.arena, sizeof(*seen));
    assert_non_null(seen);
    novakms__v1__stamp__init(seen);
    seen->hlc = hlc;
    seen->writer = fixture_bytes(writer, STORE_WRITER_BYTES);
    novakms__v1__get_request__init(in);
    in->key = fixture_text("k");
    in->seen = hlc == 0 ? NULL : seen;
    novakms__v1__kms_service__get(service_kms_service(w->kms), in, got_cb, call);
}

static const uint8_t stranger[STORE_WRITER_BYTES] = { 0xbb, 2 };

/* Our own writer stamps something after hlc, so that known covers its stamps up to there. */
static void write_after(struct worker *w, uint64_t hlc) {
    const struct store_write write = { .app_id = 7,
                                       .key = SPAN_LIT("other"),
                                       .sealed = SPAN_LIT("x"),
                                       .now_unix_ms = FIXTURE_NOW_MS,
                                       .seen = { .hlc = hlc } };
    struct store_written written;
    assert_ok(service_kv_put(w->f.shared.kv, &write, &written));
    assert_true(written.stamp.hlc > hlc);
}

static void test_answers_and_failures(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 1000);
    struct net_call call;
    Novakms__V1__GetRequest in;
    start_get(&w, &call, &in, stranger, 0);
    assert_int_equal(call.failed_count, 1);
    assert_int_equal(call.why.code, STATUS_NOT_FOUND);
    assert_false(call.details.has_stamp);
    const struct fixture_value arg = { "k", "hello", 5, 0 };
    assert_int_equal(fixture_put(&w.f, &arg, NULL), SERVICE_ANSWERED);
    start_get(&w, &call, &in, stranger, 0);
    assert_int_equal(call.answered_count, 1);
    assert_int_equal(call.value_len, 5);
    assert_memory_equal(call.value, "hello", 5);
    assert_int_equal(w.posted_count, 0);
    close_worker(&w);
}

/* Nothing comes: after the wait the answer says so. */
static void test_wait_ends_with_may_miss(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 1);
    const struct fixture_value arg = { "k", "v", 1, 0 };
    assert_int_equal(fixture_put(&w.f, &arg, NULL), SERVICE_ANSWERED);
    struct net_call calls[2];
    Novakms__V1__GetRequest in[2];
    start_get(&w, &calls[0], &in[0], stranger, FIXTURE_NOW_MS << 16);
    start_get(&w, &calls[1], &in[1], stranger, (FIXTURE_NOW_MS << 16) + 5);
    assert_int_equal(calls[0].answered_count + calls[1].answered_count, 0);
    assert_non_null(calls[0].end_cb);
    while (calls[1].answered_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(calls[i].answered_count, 1);
        assert_true(calls[i].may_miss);
        assert_null(calls[i].end_cb);
    }
    close_worker(&w);
}

/* What the reader has seen becomes known: it is answered then, without may_miss. */
static void test_wait_ends_when_the_write_is_known(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 60000);
    const struct fixture_value arg = { "k", "v", 1, 0 };
    assert_int_equal(fixture_put(&w.f, &arg, NULL), SERVICE_ANSWERED);
    uint8_t own[STORE_WRITER_BYTES];
    service_kv_writer(w.f.shared.kv, own);
    struct net_call known;
    struct net_call unknown;
    Novakms__V1__GetRequest in[2];
    uint64_t hlc = (FIXTURE_NOW_MS + 1000) << 16;
    start_get(&w, &known, &in[0], own, hlc);
    start_get(&w, &unknown, &in[1], stranger, hlc);
    assert_int_equal(known.answered_count + unknown.answered_count, 0);
    write_after(&w, hlc);
    write_after(&w, hlc);
    assert_int_equal(w.posted_count, 1); /* One signal for many changes. */
    w.posted(w.posted_arg);
    assert_int_equal(known.answered_count, 1);
    assert_false(known.may_miss);
    assert_int_equal(unknown.answered_count, 0);
    write_after(&w, hlc);
    assert_int_equal(w.posted_count, 2);
    unknown.end_cb(unknown.end_ctx);
    write_after(&w, hlc);
    assert_int_equal(w.posted_count, 2); /* Nobody waits any more. */
    close_worker(&w);
}

static void test_ended_calls_are_forgotten(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 1);
    struct net_call calls[3];
    Novakms__V1__GetRequest in[3];
    for (size_t i = 0; i < 3; i++) {
        start_get(&w, &calls[i], &in[i], stranger, FIXTURE_NOW_MS << 16);
    }
    calls[0].end_cb(calls[0].end_ctx);
    calls[1].end_cb(calls[1].end_ctx);
    while (calls[2].failed_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(calls[2].why.code, STATUS_NOT_FOUND);
    assert_true(calls[2].details.may_miss);
    assert_int_equal(calls[0].failed_count + calls[1].failed_count, 0);
    close_worker(&w);
}

static void test_no_waiting_configured(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 0);
    struct net_call call;
    Novakms__V1__GetRequest in;
    start_get(&w, &call, &in, stranger, FIXTURE_NOW_MS << 16);
    assert_int_equal(call.failed_count, 1);
    assert_true(call.details.may_miss);
    close_worker(&w);
}

static void test_waiting_is_bounded(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 60000);
    struct net_call *calls = calloc(SERVICE_WAIT_COUNT_MAX + 1, sizeof(*calls));
    Novakms__V1__GetRequest *in = calloc(SERVICE_WAIT_COUNT_MAX + 1, sizeof(*in));
    assert_non_null(calls);
    assert_non_null(in);
    for (size_t i = 0; i <= SERVICE_WAIT_COUNT_MAX; i++) {
        start_get(&w, &calls[i], &in[i], stranger, FIXTURE_NOW_MS << 16);
    }
    assert_int_equal(calls[SERVICE_WAIT_COUNT_MAX - 1].failed_count, 0);
    assert_int_equal(calls[SERVICE_WAIT_COUNT_MAX].failed_count, 1);
    assert_true(calls[SERVICE_WAIT_COUNT_MAX].details.may_miss);
    for (size_t i = 0; i < SERVICE_WAIT_COUNT_MAX; i++) {
        calls[i].end_cb(calls[i].end_ctx);
    }
    free(calls);
    free(in);
    close_worker(&w);
}

static void put_cb(const Novakms__V1__PutResponse *out, void *closure_data) {
    struct net_call *call = closure_data;
    assert_non_null(out->stamp);
    call->answered_count++;
}

static void start_put(struct worker *w, struct net_call *call, uint64_t timeout_ms) {
    static Novakms__V1__PutRequest in;
    novakms__v1__put_request__init(&in);
    in.key = fixture_text("k");
    in.value = fixture_text("v");
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    *call = (struct net_call){ .f = &w->f, .loop = &w->loop, .timeout_ms = timeout_ms };
    novakms__v1__kms_service__put(service_kms_service(w->kms), &in, put_cb, call);
}

/* The stamp of this node's latest write. */
static struct store_stamp latest_of(struct worker *w) {
    struct store_known_entry entries[16];
    struct store_known known;
    struct store_stamp stamp = STORE_STAMP_NONE;
    const struct store *store = service_kv_lock(w->f.shared.kv);
    assert_ok(store_known_copy(store, entries, 16, &known));
    memcpy(stamp.writer, store_writer(store), sizeof(stamp.writer));
    service_kv_unlock(w->f.shared.kv, false);
    for (size_t i = 0; i < known.count; i++) {
        if (memcmp(known.entries[i].writer, stamp.writer, sizeof(stamp.writer)) == 0) {
            stamp.hlc = known.entries[i].hlc;
        }
    }
    return stamp;
}

/* A write waits for its acknowledgement: that of a member ends the wait, and so does its deadline. */
static void test_durability_wait(void **state) {
    (void)state;
    struct worker w;
    struct net_call acknowledged;
    struct net_call late;
    struct net_call hasty;
    open_worker(&w, 1000);
    fixture_set_members(&w.f, 1);
    start_put(&w, &acknowledged, 60000);
    assert_int_equal(acknowledged.answered_count + acknowledged.failed_count, 0);
    assert_true(acknowledged.is_executed);
    const struct store_stamp stamp = latest_of(&w);
    assert_int_equal(w.posted_count, 0);
    (void)fixture_pull(&w.f, 1, &stamp);
    assert_int_equal(w.posted_count, 1);
    w.posted(w.posted_arg);
    assert_int_equal(acknowledged.answered_count, 1);
    start_put(&w, &late, SERVICE_ANSWER_MARGIN_MIN_MS + 1);
    while (late.failed_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(late.why.code, STATUS_DEADLINE_EXCEEDED);
    assert_true(late.details.has_stamp);
    start_put(&w, &hasty, SERVICE_ANSWER_MARGIN_MIN_MS); /* No time to wait at all. */
    assert_int_equal(hasty.failed_count, 1);
    assert_int_equal(hasty.why.code, STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(w.f.durability_stats.failed_count, 1);
    close_worker(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_and_failures),
        cmocka_unit_test(test_durability_wait),
        cmocka_unit_test(test_wait_ends_with_may_miss),
        cmocka_unit_test(test_wait_ends_when_the_write_is_known),
        cmocka_unit_test(test_ended_calls_are_forgotten),
        cmocka_unit_test(test_no_waiting_configured),
        cmocka_unit_test(test_waiting_is_bounded),
    };
    return cmocka_run_group_tests_name("service_kms", tests, NULL, NULL);
}
