/* SPDX-License-Identifier: Apache-2.0 */
/* The generated service on a worker: how calls end, and how they wait for a write this node has not
 * heard of, or for acknowledgements. net's side of a call is played by this file. */
#include "service/kms.h"
#include "service_fixture.h"

struct net_call {
    struct fixture *f;
    Novakms__V1__GetRequest get; /* Of a Get. */
    uv_loop_t *loop;
    uint64_t timeout_ms;
    size_t held_bytes; /* Of its own; the arena is all calls'. */
    bool is_executed;
    struct net_error_details done; /* What net was told then. */
    bool is_refused;               /* At a recheck. */
    unsigned recheck_count;
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
size_t net_call_held_bytes(const struct net_call *call) {
    return call->held_bytes;
}
size_t net_call_answer_bytes_max(const struct net_call *call) {
    (void)call;
    return FIXTURE_ANSWER_MAX;
}
void net_call_fail(struct net_call *call, const struct status *why,
                   const struct net_error_details *details) {
    call->failed_count++;
    call->why = *why;
    memset(&call->details, 0, sizeof(call->details));
    if (details != NULL) {
        call->details = *details;
    }
}
void net_call_on_end(struct net_call *call, void (*end_cb)(void *ctx), void *ctx) {
    call->end_cb = end_cb;
    call->end_ctx = ctx;
}
uv_loop_t *net_call_loop(const struct net_call *call) {
    return call->loop;
}
void net_call_set_executed(struct net_call *call, const struct net_error_details *details) {
    call->is_executed = true;
    call->done = *details;
}
bool net_call_recheck(struct net_call *call) {
    call->recheck_count++;
    if (call->is_refused) {
        struct status why;
        status_set(&why, STATUS_PERMISSION_DENIED, "no more");
        net_call_fail(call, &why, NULL);
    }
    return !call->is_refused;
}
uint64_t net_call_deadline_at_ms(const struct net_call *call) {
    return uv_now(call->loop) + call->timeout_ms;
}

struct worker {
    struct fixture f;
    uv_loop_t loop;
    uv_async_t alive; /* A worker's loop has handles; one without never runs a timer. */
    struct service_kms *kms;
    size_t held_bytes; /* Of the calls that start. */
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
static void start_get_within(struct worker *w, struct net_call *call,
                             const struct store_stamp *stamp, uint64_t timeout_ms) {
    *call = (struct net_call){
        .f = &w->f, .loop = &w->loop, .timeout_ms = timeout_ms, .held_bytes = w->held_bytes
    };
    Novakms__V1__Stamp *seen = arena_take(&w->f.arena, sizeof(*seen));
    assert_non_null(seen);
    novakms__v1__stamp__init(seen);
    seen->hlc = stamp->hlc;
    uint8_t *writer = arena_take(&w->f.arena, STORE_WRITER_BYTES);
    assert_non_null(writer);
    memcpy(writer, stamp->writer, STORE_WRITER_BYTES);
    seen->writer = fixture_bytes(writer, STORE_WRITER_BYTES);
    novakms__v1__get_request__init(&call->get);
    call->get.key = fixture_text("k");
    call->get.seen = stamp->hlc == 0 ? NULL : seen;
    novakms__v1__kms_service__get(service_kms_service(w->kms), &call->get, got_cb, call);
}

static void start_get(struct worker *w, struct net_call *call, const uint8_t *writer,
                      uint64_t hlc) {
    struct store_stamp stamp = { .hlc = hlc };
    memcpy(stamp.writer, writer, sizeof(stamp.writer));
    start_get_within(w, call, &stamp, 300000);
}

static const uint8_t stranger[STORE_WRITER_BYTES] = { 0xbb, 2 };

static bool is_over(const struct net_call *call) {
    assert_true(call->answered_count + call->failed_count <= 1);
    return call->answered_count + call->failed_count == 1;
}

/* Its wait ends with its time. */
static void run_until_over(struct worker *w, const struct net_call *call) {
    while (!is_over(call)) {
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
}

/* What was posted happens: the calls that wait are looked at. */
static void run_posted(struct worker *w) {
    w->posted(w->posted_arg);
}

static void expect_failed(const struct net_call *call, enum status_code code) {
    assert_int_equal(call->failed_count, 1);
    assert_int_equal(call->why.code, code);
}

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
    start_get(&w, &call, stranger, 0);
    expect_failed(&call, STATUS_NOT_FOUND);
    assert_false(call.details.has_stamp);
    fixture_put_text(&w.f, "k", "hello");
    start_get(&w, &call, stranger, 0);
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
    fixture_put_text(&w.f, "k", "v");
    struct net_call calls[2];
    start_get(&w, &calls[0], stranger, FIXTURE_NOW_MS << 16);
    start_get(&w, &calls[1], stranger, (FIXTURE_NOW_MS << 16) + 5);
    assert_int_equal(calls[0].answered_count + calls[1].answered_count, 0);
    assert_non_null(calls[0].end_cb);
    run_until_over(&w, &calls[1]);
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
    fixture_put_text(&w.f, "k", "v");
    uint8_t own[STORE_WRITER_BYTES];
    service_kv_writer(w.f.shared.kv, own);
    struct net_call known;
    struct net_call unknown;
    uint64_t hlc = (FIXTURE_NOW_MS + 1000) << 16;
    start_get(&w, &known, own, hlc);
    start_get(&w, &unknown, stranger, hlc);
    assert_int_equal(known.answered_count + unknown.answered_count, 0);
    write_after(&w, hlc);
    write_after(&w, hlc);
    assert_int_equal(w.posted_count, 1); /* One signal for many changes. */
    run_posted(&w);
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
    for (size_t i = 0; i < 3; i++) {
        start_get(&w, &calls[i], stranger, FIXTURE_NOW_MS << 16);
    }
    calls[0].end_cb(calls[0].end_ctx);
    calls[1].end_cb(calls[1].end_ctx);
    run_until_over(&w, &calls[2]);
    expect_failed(&calls[2], STATUS_NOT_FOUND);
    assert_true(calls[2].details.may_miss);
    assert_int_equal(calls[0].failed_count + calls[1].failed_count, 0);
    close_worker(&w);
}

static void test_no_waiting_configured(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 0);
    struct net_call call;
    start_get(&w, &call, stranger, FIXTURE_NOW_MS << 16);
    assert_int_equal(call.failed_count, 1);
    assert_true(call.details.may_miss);
    close_worker(&w);
}

/* The wait ends in time for the answer: a caller that was never answered would show the same again
 * with each call. */
static void test_wait_ends_before_the_deadline(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 60000);
    struct store_stamp stamp = { .hlc = FIXTURE_NOW_MS << 16 };
    memcpy(stamp.writer, stranger, sizeof(stamp.writer));
    struct net_call call;
    start_get_within(&w, &call, &stamp, SERVICE_ANSWER_MARGIN_MIN_MS + 1);
    assert_int_equal(call.failed_count, 0);
    run_until_over(&w, &call);
    expect_failed(&call, STATUS_NOT_FOUND);
    assert_true(call.details.may_miss);
    start_get_within(&w, &call, &stamp, SERVICE_ANSWER_MARGIN_MIN_MS); /* No time to wait. */
    assert_int_equal(call.failed_count, 1);
    assert_true(call.details.may_miss);
    close_worker(&w);
}

static void test_waiting_is_bounded(void **state) {
    (void)state;
    struct worker w;
    open_worker(&w, 60000);
    struct net_call *calls = calloc(SERVICE_WAIT_COUNT_MAX + 1, sizeof(*calls));
    assert_non_null(calls);
    for (size_t i = 0; i <= SERVICE_WAIT_COUNT_MAX; i++) {
        start_get(&w, &calls[i], stranger, FIXTURE_NOW_MS << 16);
    }
    assert_int_equal(calls[SERVICE_WAIT_COUNT_MAX - 1].failed_count, 0);
    assert_int_equal(calls[SERVICE_WAIT_COUNT_MAX].failed_count, 1);
    assert_true(calls[SERVICE_WAIT_COUNT_MAX].details.may_miss);
    for (size_t i = 0; i < SERVICE_WAIT_COUNT_MAX; i++) {
        calls[i].end_cb(calls[i].end_ctx);
    }
    free(calls);
    close_worker(&w);
}

/* Also in what they hold together, of which each takes with it what it has brought. */
static void test_waiting_bytes_are_bounded(void **state) {
    (void)state;
    struct worker w;
    struct net_call calls[2];
    struct net_call other;
    open_worker(&w, 60000);
    w.held_bytes = SERVICE_WAIT_BYTES_MAX / 2;
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < 2; i++) {
            start_get(&w, &calls[i], stranger, FIXTURE_NOW_MS << 16);
            assert_int_equal(calls[i].failed_count, 0);
            calls[i].held_bytes++; /* What is taken later is not counted. */
        }
        w.held_bytes = 1;
        start_get(&w, &other, stranger, FIXTURE_NOW_MS << 16);
        assert_int_equal(other.failed_count, 1);
        assert_true(other.details.may_miss);
        w.held_bytes = SERVICE_WAIT_BYTES_MAX / 2;
        calls[0].end_cb(calls[0].end_ctx);
        calls[1].end_cb(calls[1].end_ctx);
    }
    w.held_bytes = SERVICE_WAIT_BYTES_MAX + 1;
    start_get(&w, &other, stranger, FIXTURE_NOW_MS << 16);
    assert_int_equal(other.failed_count, 1);
    w.held_bytes = SERVICE_WAIT_BYTES_MAX;
    start_get(&w, &other, stranger, FIXTURE_NOW_MS << 16);
    assert_int_equal(other.failed_count, 0);
    other.end_cb(other.end_ctx);
    close_worker(&w);
}

static void put_cb(const Novakms__V1__PutResponse *out, void *closure_data) {
    struct net_call *call = closure_data;
    assert_non_null(out->stamp);
    assert_true(call->is_executed);
    assert_true(call->done.has_stamp);
    assert_int_equal(call->done.stamp_hlc, out->stamp->hlc);
    assert_memory_equal(call->done.stamp_writer, out->stamp->writer.data, STORE_WRITER_BYTES);
    assert_int_equal(call->done.may_miss, out->may_miss);
    call->answered_count++;
    call->may_miss = out->may_miss;
    call->details.stamp_hlc = out->stamp->hlc;
}

static void begin_put(struct worker *w, struct net_call *call, const Novakms__V1__PutRequest *in,
                      uint64_t timeout_ms) {
    *call = (struct net_call){
        .f = &w->f, .loop = &w->loop, .timeout_ms = timeout_ms, .held_bytes = w->held_bytes
    };
    novakms__v1__kms_service__put(service_kms_service(w->kms), in, put_cb, call);
}

static void start_put(struct worker *w, struct net_call *call, uint64_t timeout_ms) {
    static Novakms__V1__PutRequest in;
    novakms__v1__put_request__init(&in);
    in.key = fixture_text("k");
    in.value = fixture_text("v");
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    begin_put(w, call, &in, timeout_ms);
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

/* A write waits for its acknowledgement: that of a member ends the wait, and so does its
 * deadline. */
static void test_durability_wait(void **state) {
    (void)state;
    struct worker w;
    struct net_call acknowledged;
    struct net_call late;
    struct net_call hasty;
    open_worker(&w, 1000);
    fixture_set_members(&w.f, 1);
    start_put(&w, &acknowledged, 60000);
    assert_false(is_over(&acknowledged));
    assert_true(acknowledged.is_executed);
    const struct store_stamp stamp = latest_of(&w);
    assert_true(acknowledged.done.has_stamp); /* Net may end it while it waits. */
    assert_int_equal(acknowledged.done.stamp_hlc, stamp.hlc);
    assert_int_equal(w.posted_count, 0);
    (void)fixture_pull(&w.f, 1, &stamp);
    assert_int_equal(w.posted_count, 1);
    run_posted(&w);
    assert_int_equal(acknowledged.answered_count, 1);
    start_put(&w, &late, SERVICE_ANSWER_MARGIN_MIN_MS + 1);
    run_until_over(&w, &late);
    expect_failed(&late, STATUS_DEADLINE_EXCEEDED);
    assert_true(late.details.has_stamp);
    start_put(&w, &hasty, SERVICE_ANSWER_MARGIN_MIN_MS); /* No time to wait at all. */
    expect_failed(&hasty, STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(w.f.durability_stats.failed_count, 1);
    close_worker(&w);
}

/* ---- Writes that wait for what their caller showed ---- */

#define OWN_HLC (FIXTURE_NOW_MS << 16)

/* A put whose caller has written elsewhere, as a writer that this node has not heard of. What it
 * has seen is known here. */
struct roaming_put {
    Novakms__V1__PutRequest in;
    Novakms__V1__Stamp seen;
    Novakms__V1__Stamp wrote;
    uint8_t known_writer[STORE_WRITER_BYTES];
    struct net_call call;
};

static void open_roaming(struct worker *w, uint64_t read_wait_ms) {
    open_worker(w, read_wait_ms);
    write_after(w, OWN_HLC + 7);
}

static void start_roaming_put(struct worker *w, struct roaming_put *p, uint64_t timeout_ms,
                              Novakms__V1__Durability durability) {
    service_kv_writer(w->f.shared.kv, p->known_writer);
    novakms__v1__stamp__init(&p->seen);
    p->seen.hlc = OWN_HLC + 7;
    p->seen.writer = fixture_bytes(p->known_writer, STORE_WRITER_BYTES);
    novakms__v1__stamp__init(&p->wrote);
    p->wrote.hlc = OWN_HLC;
    p->wrote.writer = fixture_bytes(stranger, STORE_WRITER_BYTES);
    novakms__v1__put_request__init(&p->in);
    p->in.key = fixture_text("k");
    p->in.value = fixture_text("v");
    p->in.durability = durability;
    p->in.seen = &p->seen;
    p->in.wrote = &p->wrote;
    begin_put(w, &p->call, &p->in, timeout_ms);
}

/* The vector of the node where that caller wrote arrives. */
static void learn(struct worker *w) {
    struct store_known_entry entry = { .hlc = OWN_HLC };
    memcpy(entry.writer, stranger, sizeof(entry.writer));
    const struct store_known known = { &entry, 1, 0 };
    assert_ok(store_join_known(service_kv_lock(w->f.shared.kv), &known, FIXTURE_NOW_MS));
    service_kv_unlock(w->f.shared.kv, true);
}

static void learn_and_run(struct worker *w) {
    learn(w);
    run_posted(w);
}

static bool holds_k(struct worker *w) {
    struct store_record record;
    const struct store *store = service_kv_lock(w->f.shared.kv);
    struct rc rc = store_get(store, 7, SPAN_LIT("k"), FIXTURE_NOW_MS, &record);
    service_kv_unlock(w->f.shared.kv, false);
    return rc.err == E_OK;
}

#define LOCAL NOVAKMS__V1__DURABILITY__DURABILITY_LOCAL
#define ONE_PEER NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER

static void test_put_waits_for_its_callers_write(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 60000);
    start_roaming_put(&w, &p, 120000, LOCAL);
    assert_false(is_over(&p.call));
    assert_false(p.call.is_executed);
    assert_false(holds_k(&w));
    assert_int_equal(w.posted_count, 0);
    learn(&w);
    assert_int_equal(w.posted_count, 1);
    run_posted(&w);
    assert_int_equal(p.call.answered_count, 1);
    assert_int_equal(p.call.recheck_count, 1);
    assert_false(p.call.may_miss);
    assert_true(p.call.details.stamp_hlc > OWN_HLC + 7);
    assert_true(holds_k(&w));
    start_roaming_put(&w, &p, 120000, LOCAL); /* Now it is known. */
    assert_int_equal(p.call.answered_count, 1);
    assert_int_equal(p.call.recheck_count, 0);
    close_worker(&w);
}

/* Half of its time at most, so that the write is made all the same. */
static void test_put_goes_on_without_its_callers_write(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 60000);
    start_roaming_put(&w, &p, 2, LOCAL);
    assert_int_equal(p.call.answered_count, 0);
    run_until_over(&w, &p.call);
    assert_true(p.call.may_miss);
    assert_true(p.call.details.stamp_hlc > OWN_HLC + 7);
    assert_true(holds_k(&w));
    start_roaming_put(&w, &p, 1, LOCAL); /* No time to wait at all. */
    assert_int_equal(p.call.answered_count, 1);
    assert_true(p.call.may_miss);
    close_worker(&w);
}

/* First for what its caller has written, then for acknowledgements. */
static void test_put_waits_twice(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 60000);
    fixture_set_members(&w.f, 1);
    w.posted_count = 0;
    start_roaming_put(&w, &p, 120000, ONE_PEER);
    learn_and_run(&w);
    assert_false(is_over(&p.call));
    assert_true(p.call.is_executed);
    assert_true(holds_k(&w));
    const struct store_stamp stamp = latest_of(&w);
    (void)fixture_pull(&w.f, 1, &stamp);
    run_posted(&w);
    assert_int_equal(p.call.answered_count, 1);
    assert_false(p.call.may_miss);
    assert_int_equal(p.call.details.stamp_hlc, stamp.hlc);
    close_worker(&w);
}

/* That nothing may be waited for does not end the wait for acknowledgements. */
static void test_no_wait_but_for_acknowledgements(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 0);
    fixture_set_members(&w.f, 1);
    start_roaming_put(&w, &p, 120000, ONE_PEER);
    assert_false(is_over(&p.call));
    assert_true(p.call.is_executed);
    assert_true(p.call.done.may_miss);
    const struct store_stamp stamp = latest_of(&w);
    (void)fixture_pull(&w.f, 1, &stamp);
    run_posted(&w);
    assert_int_equal(p.call.answered_count, 1);
    assert_true(p.call.may_miss);
    close_worker(&w);
}

/* Without acknowledgement too it says that it went on without the caller's write. */
static void test_failure_says_may_miss(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 0);
    fixture_set_members(&w.f, 1);
    start_roaming_put(&w, &p, SERVICE_ANSWER_MARGIN_MIN_MS, ONE_PEER);
    expect_failed(&p.call, STATUS_DEADLINE_EXCEEDED);
    assert_true(p.call.details.has_stamp);
    assert_true(p.call.details.may_miss);
    close_worker(&w);
}

/* Its caller may have lost its permission, or its app, while it waited: nothing is written then. */
static void test_waiting_put_is_checked_again(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 60000);
    start_roaming_put(&w, &p, 120000, LOCAL);
    p.call.is_refused = true;
    learn_and_run(&w);
    expect_failed(&p.call, STATUS_PERMISSION_DENIED);
    assert_false(holds_k(&w));
    close_worker(&w);
    open_roaming(&w, 60000);
    start_roaming_put(&w, &p, 120000, LOCAL);
    w.f.caller.app_id = 8;
    learn_and_run(&w);
    expect_failed(&p.call, STATUS_ABORTED);
    assert_false(holds_k(&w));
    close_worker(&w);
}

/* The members may have fetched all already: what is written then would end with the node. A read
 * may still be answered. */
static void test_waiting_put_is_not_made_while_handing_over(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    struct net_call read;
    open_roaming(&w, 60000);
    start_roaming_put(&w, &p, 120000, LOCAL);
    start_get(&w, &read, stranger, OWN_HLC);
    service_readiness_hand_over(&w.f.readiness);
    learn_and_run(&w);
    expect_failed(&p.call, STATUS_UNAVAILABLE);
    assert_false(p.call.is_executed);
    assert_false(holds_k(&w));
    expect_failed(&read, STATUS_NOT_FOUND);
    close_worker(&w);
}

/* Memory may be out before the write or after it. UNAVAILABLE says that nothing was done. */
static void test_put_without_memory_says_what_was_done(void **state) {
    (void)state;
    unsigned unavailable_count = 0;
    unsigned unknown_count = 0;
    for (size_t spare_bytes = 0; spare_bytes < 256; spare_bytes += 16) {
        struct worker w;
        struct net_call call;
        Novakms__V1__PutRequest in = NOVAKMS__V1__PUT_REQUEST__INIT;
        open_worker(&w, 1000);
        in.key = fixture_text("k");
        in.value = fixture_text("v");
        w.f.arena.bytes_max = w.f.arena.used_bytes + spare_bytes;
        begin_put(&w, &call, &in, 1000);
        assert_int_equal(call.answered_count + call.failed_count, 1);
        assert_int_equal(holds_k(&w), call.why.code != STATUS_UNAVAILABLE);
        assert_int_equal(call.details.has_stamp, call.why.code == STATUS_UNKNOWN);
        unavailable_count += call.why.code == STATUS_UNAVAILABLE;
        unknown_count += call.why.code == STATUS_UNKNOWN;
        close_worker(&w);
    }
    assert_true(unavailable_count > 0);
    assert_true(unknown_count > 0);
}

/* One that ends while it waits is not made. */
static void test_ended_put_is_not_made(void **state) {
    (void)state;
    struct worker w;
    struct roaming_put p;
    open_roaming(&w, 60000);
    start_roaming_put(&w, &p, 120000, LOCAL);
    p.call.end_cb(p.call.end_ctx);
    learn(&w);
    assert_int_equal(w.posted_count, 0);
    assert_false(is_over(&p.call));
    assert_false(holds_k(&w));
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
        cmocka_unit_test(test_wait_ends_before_the_deadline),
        cmocka_unit_test(test_waiting_is_bounded),
        cmocka_unit_test(test_waiting_bytes_are_bounded),
        cmocka_unit_test(test_put_waits_for_its_callers_write),
        cmocka_unit_test(test_put_goes_on_without_its_callers_write),
        cmocka_unit_test(test_put_waits_twice),
        cmocka_unit_test(test_no_wait_but_for_acknowledgements),
        cmocka_unit_test(test_failure_says_may_miss),
        cmocka_unit_test(test_waiting_put_is_checked_again),
        cmocka_unit_test(test_waiting_put_is_not_made_while_handing_over),
        cmocka_unit_test(test_put_without_memory_says_what_was_done),
        cmocka_unit_test(test_ended_put_is_not_made),
    };
    return cmocka_run_group_tests_name("service_kms", tests, NULL, NULL);
}
