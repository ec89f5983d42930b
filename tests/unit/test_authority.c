/* SPDX-License-Identifier: Apache-2.0 */
/* Who is admitted, and which calls pass, on one worker. net's connections and the registry's thread
 * are played by this file. */
#include "node/authority.h"
#include "service/peer_service.h"
#include "test.h"

#define ASK_COUNT_MAX 64

struct net_conn {
    struct wallet wallet;
    void *context;
    size_t answer_frame_max;
    bool admitted;
    bool refused;
    struct status why;
};
struct net_call {
    struct net_conn *conn;
    const ProtobufCServiceDescriptor *service;
};

/* Questions that the registry was asked, not answered yet. */
static struct question {
    struct wallet wallet;
    enum registry_urgency urgency;
    struct registry_asker asker;
} asked[ASK_COUNT_MAX];
static size_t asked_count;
static bool registry_is_full;

RC registry_service_ask(struct registry_service *service, const struct wallet *wallet,
                        enum registry_urgency urgency, struct registry_asker asker) {
    (void)service;
    ENSURE(!registry_is_full, QUOTA);
    assert_true(asked_count < ASK_COUNT_MAX);
    asked[asked_count++] = (struct question){ *wallet, urgency, asker };
    return OK;
}
bool net_server_post(struct net_server *server, uint32_t worker_idx, void (*fn)(void *arg),
                     void *arg) {
    (void)server;
    assert_int_equal(worker_idx, 1);
    fn(arg);
    return true;
}
void net_conn_set_answer_frame_max(struct net_conn *conn, size_t frame_bytes_max) {
    conn->answer_frame_max = frame_bytes_max;
}
void net_conn_admit(struct net_conn *conn) {
    conn->admitted = true;
}
void net_conn_refuse(struct net_conn *conn, const struct status *why) {
    conn->refused = true;
    conn->why = *why;
}
const struct wallet *net_conn_wallet(const struct net_conn *conn) {
    return &conn->wallet;
}
void net_conn_set_context(struct net_conn *conn, void *context) {
    conn->context = context;
}
void *net_conn_context(const struct net_conn *conn) {
    return conn->context;
}
void *net_call_context(const struct net_call *call) {
    return call->conn->context;
}
const ProtobufCServiceDescriptor *net_call_service(const struct net_call *call) {
    return call->service;
}

struct bench {
    uv_loop_t loop;
    struct node_post post;
    struct service_readiness readiness;
    struct authority *authority;
    struct net_authority ops;
};

struct bench_cfg {
    uint32_t rate_limit_per_minute;
    uint32_t refresh_ms;
};

static void open_bench(struct bench *b, struct bench_cfg how) {
    memset(b, 0, sizeof(*b));
    asked_count = 0;
    registry_is_full = false;
    assert_int_equal(uv_loop_init(&b->loop), 0);
    node_post_init(&b->post);
    static uint8_t server; /* Only its address is used. */
    node_post_set(&b->post, (struct net_server *)(void *)&server);
    service_readiness_init(&b->readiness);
    (void)service_readiness_set(&b->readiness, SERVICE_GATE_STARTING, NULL);
    const struct authority_cfg cfg = { .loop = &b->loop,
                                       .worker_idx = 1,
                                       .post = &b->post,
                                       .readiness = &b->readiness,
                                       .kms_app_id = 49,
                                       .rate_limit_per_minute = how.rate_limit_per_minute,
                                       .refresh_ms = how.refresh_ms,
                                       .ttl_ms = 60000,
                                       .conn_count_max = 16 };
    assert_ok(authority_init(&b->authority, &cfg));
    b->ops = authority_ops(b->authority);
}

static void close_bench(struct bench *b) {
    authority_stop(b->authority);
    authority_stop(b->authority);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    authority_close(&b->authority);
    authority_close(&b->authority);
    service_readiness_close(&b->readiness);
    node_post_close(&b->post);
}

static void connect_wallet(struct bench *b, struct net_conn *conn, uint8_t name) {
    *conn = (struct net_conn){ .wallet = { { name } } };
    b->ops.admit(b->ops.ctx, conn);
}

/* Answers the oldest question. */
static void answer(struct bench *b, uint64_t app_id, enum auth_instance_status status) {
    assert_true(asked_count > 0);
    struct question question = asked[0];
    asked_count--;
    memmove(asked, asked + 1, asked_count * sizeof(asked[0]));
    struct auth_facts facts = { .found = app_id != 0, .as_of_mono_ms = uv_now(&b->loop) };
    facts.instance.id = 5;
    facts.instance.app_id = app_id;
    facts.instance.version_id = 6;
    facts.instance.wallet = question.wallet;
    facts.instance.zk_verified = true;
    facts.instance.status = status;
    question.asker.answer_cb(question.asker.ctx, &question.wallet, &facts, NULL);
}

static void hang_up(struct bench *b, struct net_conn *conn) {
    b->ops.closed(b->ops.ctx, conn);
}

/* A connection of wallet 1, an instance of app 7, that was admitted. */
static void open_admitted(struct bench *b, struct net_conn *conn, struct bench_cfg how) {
    open_bench(b, how);
    connect_wallet(b, conn, 1);
    answer(b, 7, AUTH_INSTANCE_ACTIVE);
    assert_true(conn->admitted);
}

static void answer_unreadable(const char *reason) {
    assert_true(asked_count > 0);
    struct question question = asked[0];
    asked_count--;
    memmove(asked, asked + 1, asked_count * sizeof(asked[0]));
    question.asker.answer_cb(question.asker.ctx, &question.wallet, NULL, reason);
}

/* Gives the code a call of a service gets from `check`. */
static enum status_code call_of(struct bench *b, struct net_call call, bool is_recheck,
                                struct status *why) {
    uint32_t retry_after_ms = 0;
    why->code = STATUS_OK;
    bool passed = b->ops.check(b->ops.ctx, &call, is_recheck, why, &retry_after_ms);
    assert_int_equal(passed, why->code == STATUS_OK);
    assert_int_equal(retry_after_ms > 0, why->code == STATUS_RESOURCE_EXHAUSTED);
    return why->code;
}

static enum status_code call(struct bench *b, struct net_conn *conn, bool is_recheck,
                             struct status *why) {
    return call_of(b, (struct net_call){ conn, &novakms__v1__kms_service__descriptor }, is_recheck,
                   why);
}

/* Members call each other while the node serves no client; nobody else calls PeerService. */
static void test_members_call_before_it_serves(void **state) {
    (void)state;
    struct bench b;
    open_bench(&b, (struct bench_cfg){ 0, 10000 });
    struct net_conn member;
    struct net_conn app;
    struct status why;
    connect_wallet(&b, &member, 1);
    answer(&b, 49, AUTH_INSTANCE_ACTIVE);
    connect_wallet(&b, &app, 2);
    answer(&b, 7, AUTH_INSTANCE_ACTIVE);
    assert_int_equal(member.answer_frame_max, PEER_FRAME_BYTES_MAX);
    assert_int_equal(app.answer_frame_max, 0);
    const struct net_call by_member = { &member, &novakms__v1__peer_service__descriptor };
    const struct net_call by_app = { &app, &novakms__v1__peer_service__descriptor };
    assert_int_equal(call_of(&b, by_member, false, &why), STATUS_OK);
    assert_int_equal(call_of(&b, by_app, false, &why), STATUS_PERMISSION_DENIED);
    (void)service_readiness_set(&b.readiness, SERVICE_GATE_REPLICA, "no data");
    assert_int_equal(call(&b, &member, false, &why), STATUS_UNAVAILABLE);
    assert_int_equal(call_of(&b, by_member, false, &why), STATUS_OK);
    assert_int_equal(call_of(&b, by_member, true, &why), STATUS_OK);
    assert_int_equal(call_of(&b, by_app, false, &why), STATUS_PERMISSION_DENIED);
    hang_up(&b, &member);
    hang_up(&b, &app);
    close_bench(&b);
}

static void test_unknown_wallet_waits_for_the_registry(void **state) {
    (void)state;
    struct bench b;
    open_bench(&b, (struct bench_cfg){ 0, 10000 });
    struct net_conn one;
    struct net_conn two;
    connect_wallet(&b, &one, 1);
    connect_wallet(&b, &two, 1);
    assert_false(one.admitted || one.refused);
    assert_int_equal(asked_count, 1); /* One question for both. */
    assert_int_equal(asked[0].urgency, REGISTRY_UNKNOWN);
    answer(&b, 49, AUTH_INSTANCE_ACTIVE);
    assert_true(one.admitted && two.admitted);
    const struct service_caller *caller = one.context;
    assert_int_equal(caller->app_id, 49);
    assert_int_equal(caller->version_id, 6);
    assert_int_equal(caller->instance_id, 5);
    assert_true(caller->is_kms_member);
    struct net_conn three;
    connect_wallet(&b, &three, 1); /* Known and fresh: at once. */
    assert_true(three.admitted);
    assert_int_equal(asked_count, 0);
    struct status why;
    assert_int_equal(call(&b, &one, false, &why), STATUS_OK);
    hang_up(&b, &one);
    hang_up(&b, &two);
    hang_up(&b, &three);
    close_bench(&b);
}

static struct refusal_row {
    const char *name;
    uint64_t app_id;
    enum auth_instance_status status;
    const char *unreadable; /* Or the registry's reason. */
    enum status_code want;
    const char *text;
} refusal_rows[] = {
    { "not_registered", 0, AUTH_INSTANCE_ACTIVE, NULL, STATUS_PERMISSION_DENIED, "not registered" },
    { "stopped", 7, AUTH_INSTANCE_STOPPED, NULL, STATUS_PERMISSION_DENIED, "STOPPED" },
    { "failed", 7, AUTH_INSTANCE_FAILED, NULL, STATUS_PERMISSION_DENIED, "FAILED" },
    { "unreadable", 7, AUTH_INSTANCE_ACTIVE, "the file is broken", STATUS_UNAVAILABLE,
      "the file is broken" },
};

static void test_refusal(void **state) {
    const struct refusal_row *row = *state;
    struct bench b;
    open_bench(&b, (struct bench_cfg){ 0, 10000 });
    struct net_conn conn;
    connect_wallet(&b, &conn, 1);
    if (row->unreadable != NULL) {
        answer_unreadable(row->unreadable);
    } else {
        answer(&b, row->app_id, row->status);
    }
    assert_true(conn.refused);
    assert_false(conn.admitted);
    assert_int_equal(conn.why.code, row->want);
    assert_non_null(strstr(conn.why.text, row->text));
    hang_up(&b, &conn);
    close_bench(&b);
}

static void test_connection_ends_while_it_waits(void **state) {
    (void)state;
    struct bench b;
    open_bench(&b, (struct bench_cfg){ 0, 10000 });
    struct net_conn conn;
    connect_wallet(&b, &conn, 1);
    hang_up(&b, &conn);
    answer(&b, 7, AUTH_INSTANCE_ACTIVE);
    assert_false(conn.admitted || conn.refused);
    close_bench(&b);
}

static void test_full_registry_queue(void **state) {
    (void)state;
    struct bench b;
    open_bench(&b, (struct bench_cfg){ 0, 10000 });
    registry_is_full = true;
    struct net_conn conn;
    connect_wallet(&b, &conn, 1);
    assert_true(conn.refused); /* Nobody would answer. */
    assert_int_equal(conn.why.code, STATUS_UNAVAILABLE);
    struct net_conn again;
    connect_wallet(&b, &again, 1);
    assert_true(again.refused);
    assert_int_equal(again.why.code, STATUS_UNAVAILABLE);
    hang_up(&b, &conn);
    hang_up(&b, &again);
    close_bench(&b);
}

/* Runs the worker's loop until the timer has asked the registry something. */
static void run_until_asked(struct bench *b) {
    uv_async_t alive;
    assert_int_equal(uv_async_init(&b->loop, &alive, NULL), 0);
    while (asked_count == 0) {
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
    }
    uv_close((uv_handle_t *)&alive, NULL);
    (void)uv_run(&b->loop, UV_RUN_NOWAIT);
}

static void test_revoked_while_connected(void **state) {
    (void)state;
    struct bench b;
    struct net_conn conn;
    open_admitted(&b, &conn, (struct bench_cfg){ 0, 1 });
    struct status why;
    assert_int_equal(call(&b, &conn, false, &why), STATUS_OK);
    run_until_asked(&b);
    assert_int_equal(asked[0].urgency, REGISTRY_REFRESH);
    answer(&b, 7, AUTH_INSTANCE_STOPPED);
    assert_int_equal(call(&b, &conn, false, &why), STATUS_PERMISSION_DENIED);
    assert_int_equal(call(&b, &conn, true, &why), STATUS_PERMISSION_DENIED);
    hang_up(&b, &conn);
    close_bench(&b);
}

/* It hangs up, and connects again when what was read of it has aged a little. */
static void come_back(struct bench *b, struct net_conn *conn) {
    hang_up(b, conn);
    asked_count = 0;
    uint64_t start_ms = uv_now(&b->loop);
    while (uv_now(&b->loop) < start_ms + 2) {
        uv_update_time(&b->loop);
    }
    connect_wallet(b, conn, 1);
}

/* Revoked while it had no connection: what is held would still permit it. */
static void test_revoked_while_away(void **state) {
    (void)state;
    struct bench b;
    struct net_conn conn;
    open_admitted(&b, &conn, (struct bench_cfg){ 0, 1 });
    come_back(&b, &conn);
    assert_false(conn.admitted || conn.refused);
    assert_int_equal(asked_count, 1);
    answer(&b, 7, AUTH_INSTANCE_STOPPED);
    assert_true(conn.refused);
    assert_int_equal(conn.why.code, STATUS_PERMISSION_DENIED);
    hang_up(&b, &conn);
    close_bench(&b);
}

static void test_back_while_the_registry_is_down(void **state) {
    (void)state;
    struct bench b;
    struct net_conn conn;
    open_admitted(&b, &conn, (struct bench_cfg){ 0, 1 });
    come_back(&b, &conn);
    assert_false(conn.admitted);
    answer_unreadable("the file is broken");
    assert_true(conn.admitted); /* What is held counts until it is ttl_ms old. */
    hang_up(&b, &conn);
    close_bench(&b);
}

static void test_rate_limit(void **state) {
    (void)state;
    struct bench b;
    open_bench(&b, (struct bench_cfg){ 3, 10000 });
    struct net_conn conn;
    struct net_conn other;
    connect_wallet(&b, &conn, 1);
    connect_wallet(&b, &other, 2);
    answer(&b, 7, AUTH_INSTANCE_ACTIVE);
    answer(&b, 7, AUTH_INSTANCE_ACTIVE);
    struct status why;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(call(&b, &conn, false, &why), STATUS_OK);
    }
    assert_int_equal(call(&b, &conn, false, &why), STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(why.text, "RATE_LIMIT_PER_MINUTE is 3"));
    assert_int_equal(call(&b, &conn, true, &why), STATUS_OK); /* It was counted before. */
    assert_int_equal(call(&b, &other, false, &why), STATUS_OK);
    hang_up(&b, &conn);
    hang_up(&b, &other);
    close_bench(&b);
}

static void test_gates(void **state) {
    (void)state;
    struct bench b;
    struct net_conn conn;
    open_admitted(&b, &conn, (struct bench_cfg){ 0, 10000 });
    struct status why;
    (void)service_readiness_set(&b.readiness, SERVICE_GATE_CLOCK, "the clock stepped");
    assert_int_equal(call(&b, &conn, false, &why), STATUS_UNAVAILABLE);
    assert_string_equal(why.text, "the clock stepped");
    assert_int_equal(call(&b, &conn, true, &why), STATUS_UNAVAILABLE);
    (void)service_readiness_set(&b.readiness, SERVICE_GATE_CLOCK, NULL);
    (void)service_readiness_set(&b.readiness, SERVICE_GATE_STOPPING, "stopping");
    assert_int_equal(call(&b, &conn, false, &why), STATUS_OK); /* Its connection is told to end. */
    service_readiness_hand_over(&b.readiness);
    assert_int_equal(call(&b, &conn, true, &why), STATUS_OK);
    assert_int_equal(call(&b, &conn, false, &why), STATUS_UNAVAILABLE);
    hang_up(&b, &conn);
    close_bench(&b);
}

/* A call that waited must not be answered with what belongs to the wallet's former app. */
static void test_app_changes_during_a_call(void **state) {
    (void)state;
    struct bench b;
    struct net_conn conn;
    open_admitted(&b, &conn, (struct bench_cfg){ 0, 1 });
    struct status why;
    assert_int_equal(call(&b, &conn, false, &why), STATUS_OK);
    run_until_asked(&b);
    answer(&b, 8, AUTH_INSTANCE_ACTIVE);
    assert_int_equal(call(&b, &conn, true, &why), STATUS_ABORTED);
    assert_int_equal(call(&b, &conn, false, &why), STATUS_OK);
    assert_int_equal(((const struct service_caller *)conn.context)->app_id, 8);
    struct auth_view_stats stats = { 0 };
    authority_stats(b.authority, &stats);
    assert_int_equal(stats.pinned_count, 1);
    hang_up(&b, &conn);
    close_bench(&b);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(refusal_rows) + 10];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_refusal, refusal_rows);
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_unknown_wallet_waits_for_the_registry),
        cmocka_unit_test(test_members_call_before_it_serves),
        cmocka_unit_test(test_connection_ends_while_it_waits),
        cmocka_unit_test(test_full_registry_queue),
        cmocka_unit_test(test_revoked_while_connected),
        cmocka_unit_test(test_revoked_while_away),
        cmocka_unit_test(test_back_while_the_registry_is_down),
        cmocka_unit_test(test_rate_limit),
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_app_changes_during_a_call),
    };
    memcpy(tests + count, others, sizeof(others));
    return cmocka_run_group_tests_name("authority", tests, NULL, NULL);
}
