/* SPDX-License-Identifier: Apache-2.0 */
/* What libnovakms does with several servers: when it goes on to the next, and when not. */
#include "client/client.h"
#include "client_world.h"

static void test_next_server_when_refused(void **state) {
    (void)state;
    struct world *w = open_world(2);
    scripted_stop_listening(&w->servers[0]);
    w->answer = answer_stored;
    for (size_t i = 1; i <= 3; i++) {
        assert_true(put(w) > 0);
        struct novakms_result *r = wait_ok(w);
        assert_int_equal(w->servers[1].request_count, i); /* And it stays there. */
        novakms_free(&r);
    }
    assert_int_equal(w->servers[1].open_count, 1);
    close_world(w);
}

static void test_all_refused(void **state) {
    (void)state;
    struct world *w = open_world(2);
    scripted_stop_listening(&w->servers[0]);
    scripted_stop_listening(&w->servers[1]);
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_UNAVAILABLE);
    assert_false(r->maybe_executed);
    novakms_free(&r);
    close_world(w);
}

static void unavailable(const struct scripted_request *r) {
    struct world *w = net_io_loop(net_conn_io(r->conn))->data;
    if (w->servers[1].request_count == 0) {
        scripted_fail(r, STATUS_UNAVAILABLE, "the node does not serve: starting", NULL);
    } else {
        answer_value(r);
    }
}

static void test_read_goes_on_when_a_node_does_not_serve(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = unavailable;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(w->servers[0].request_count, 1);
    assert_int_equal(w->servers[1].request_count, 1);
    novakms_free(&r);
    close_world(w);
}

static void unavailable_first(const struct scripted_request *r) {
    struct world *w = net_io_loop(net_conn_io(r->conn))->data;
    if (w->servers[1].request_count == 0) {
        scripted_fail(r, STATUS_UNAVAILABLE, "the node does not serve: starting", NULL);
    } else {
        answer_stored(r);
    }
}

/* UNAVAILABLE says that nothing was stored. */
static void test_write_goes_on_when_a_node_does_not_serve(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = unavailable_first;
    for (size_t i = 1; i <= 2; i++) {
        assert_true(put(w) > 0);
        struct novakms_result *r = wait_ok(w);
        assert_int_equal(w->servers[0].request_count, 1);
        assert_int_equal(w->servers[1].request_count, i); /* And it stays there. */
        novakms_free(&r);
    }
    close_world(w);
}

static void no_such_key(const struct scripted_request *r) {
    scripted_fail(r, STATUS_NOT_FOUND, "no such key", NULL);
}

/* An error of the call is an answer too: the server that gave it comes first from then on. */
static void test_server_that_answers_is_kept(void **state) {
    (void)state;
    struct world *w = open_world(2);
    scripted_stop_listening(&w->servers[0]);
    w->answer = no_such_key;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_NOT_FOUND);
    assert_int_equal(w->client->preferred_idx, 1);
    novakms_free(&r);
    close_world(w);
}

/* What a server says, or the channel in its stead, when a request's own time is over. */
static void late(const struct scripted_request *r) {
    scripted_fail(r, STATUS_DEADLINE_EXCEEDED, "no answer in time", NULL);
}

static void late_first(const struct scripted_request *r) {
    struct world *w = net_io_loop(net_conn_io(r->conn))->data;
    if (w->servers[1].request_count == 0) {
        late(r);
    } else {
        answer_value(r);
    }
}

/* A server that hangs has only a share of a read's time. */
static void test_read_leaves_a_hung_server(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = late_first;
    struct novakms_get_args args = { .key = novakms_text("key"), .timeout_ms = RUN_MS_MAX };
    assert_true(novakms_get_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_ok(w);
    assert_true(w->servers[0].requests[0].timeout_ms <= RUN_MS_MAX / 2);
    assert_true(w->servers[1].requests[0].timeout_ms > RUN_MS_MAX / 2);
    novakms_free(&r);
    close_world(w);
}

/* A write has all of its time on one server, and ends with it. */
static void test_write_stays_with_a_hung_server(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = late;
    struct novakms_put_args args = { .key = novakms_text("key"), .timeout_ms = RUN_MS_MAX };
    assert_true(novakms_put_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_DEADLINE_EXCEEDED);
    assert_true(w->servers[0].requests[0].timeout_ms > RUN_MS_MAX / 2);
    assert_int_equal(w->servers[1].accept_count, 0);
    novakms_free(&r);
    close_world(w);
}

static void refuse_caller(struct scripted_server *s, struct net_conn *conn) {
    (void)s;
    scripted_goaway(conn, 0, STATUS_PERMISSION_DENIED, "wallet is not registered");
    net_conn_finish(conn);
}

/* All nodes read the same registry. */
static void test_refused_caller_stays_refused(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->servers[0].on_open = refuse_caller;
    assert_true(put(w) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_PERMISSION_DENIED);
    assert_int_equal(w->servers[1].accept_count, 0);
    novakms_free(&r);
    close_world(w);
}

static void does_not_serve(const struct scripted_request *r) {
    scripted_fail(r, STATUS_UNAVAILABLE, "the node does not serve: starting", NULL);
}

/* Of two failures the one that says more is told, whichever came first. */
static void test_what_a_node_said_is_told(void **state) {
    (void)state;
    for (size_t dead = 0; dead < 2; dead++) {
        struct world *w = open_world(2);
        scripted_stop_listening(&w->servers[dead]);
        w->answer = does_not_serve;
        assert_true(put(w) > 0);
        struct novakms_result *r = wait_result(w);
        assert_result(r, NOVAKMS_UNAVAILABLE);
        assert_string_equal(r->text, "the node does not serve: starting");
        novakms_free(&r);
        close_world(w);
    }
}

/* A single node is asked once: it said why. */
static void test_answered_unavailable_is_final(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = unavailable;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_UNAVAILABLE);
    assert_int_equal(w->servers[0].request_count, 1);
    novakms_free(&r);
    close_world(w);
}

static void rate_limited(const struct scripted_request *r) {
    novakms_v1_ErrorDetails details = { .retry_after_ms = 250 };
    scripted_fail(r, STATUS_RESOURCE_EXHAUSTED, "over the rate limit", &details);
}

static void test_rate_limit_is_reported(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = rate_limited;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_RESOURCE_EXHAUSTED);
    assert_int_equal(r->retry_after_ms, 250);
    assert_int_equal(w->servers[0].request_count, 1);
    assert_int_equal(w->servers[1].request_count, 0);
    novakms_free(&r);
    close_world(w);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_server_when_refused),
        cmocka_unit_test(test_all_refused),
        cmocka_unit_test(test_read_goes_on_when_a_node_does_not_serve),
        cmocka_unit_test(test_write_goes_on_when_a_node_does_not_serve),
        cmocka_unit_test(test_server_that_answers_is_kept),
        cmocka_unit_test(test_read_leaves_a_hung_server),
        cmocka_unit_test(test_write_stays_with_a_hung_server),
        cmocka_unit_test(test_refused_caller_stays_refused),
        cmocka_unit_test(test_what_a_node_said_is_told),
        cmocka_unit_test(test_answered_unavailable_is_final),
        cmocka_unit_test(test_rate_limit_is_reported),
    };
    return cmocka_run_group_tests_name("client_failover", tests, NULL, NULL);
}
