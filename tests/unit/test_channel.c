/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on a channel: answers, sizes, deadlines, cancels, and the end. */
#include "channel_world.h"

/* ---- What works ---- */

static void test_one_call(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer a;
    assert_false(net_channel_is_connected(w->channel));
    assert_int_equal(w->server.accept_count, 0); /* Lazy. */
    get_and_wait(w, &a, "hello");
    assert_answered(&a, "hello");
    assert_true(net_channel_is_connected(w->channel));
    assert_string_equal(w->server.requests[0].method, "novakms.v1.KmsService/Get");
    assert_in_range(w->server.requests[0].timeout_ms, 1, NET_CHANNEL_TIMEOUT_DEFAULT_MS);
    get_and_wait(w, &a, "");
    assert_answered(&a, "");
    assert_int_equal(w->server.open_count, 1);
    assert_int_equal(net_channel_call_count(w->channel), 0);
    assert_null(net_channel_outcome(w->channel));
    close_world(w);
}

struct kept {
    struct world *world;
    struct arena arena;
    const Novakms__V1__GetResponse *message;
};

static void on_get_kept(const Novakms__V1__GetResponse *message, void *data) {
    struct kept *kept = data;
    assert_non_null(message);
    kept->message = message;
    net_channel_keep_answer(kept->world->channel, &kept->arena);
}

/* An answer that is kept outlives the answers after it, and the channel. */
static void test_kept_answer(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct kept kept = { .world = w };
    Novakms__V1__GetRequest request = NOVAKMS__V1__GET_REQUEST__INIT;
    request.key = (ProtobufCBinaryData){ 4, (uint8_t *)(uintptr_t) "keep" };
    ProtobufCService *service =
        net_channel_service(w->channel, &novakms__v1__kms_service__descriptor);
    novakms__v1__kms_service__get(service, &request, on_get_kept, &kept);
    RUN_UNTIL(w, kept.message != NULL);
    struct answer later;
    get_and_wait(w, &later, "later");
    assert_answered(&later, "later");
    close_world(w);
    assert_int_equal(kept.message->value.len, 4);
    assert_memory_equal(kept.message->value.data, "keep", 4);
    arena_close(&kept.arena);
    arena_close(&kept.arena); /* Twice is allowed. */
}

/* A connection takes 256 calls; the others wait, and each gets its own answer, in any order. */
static void test_many_calls(void **state) {
    (void)state;
    enum { COUNT = 700 };
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer *answers = calloc(COUNT, sizeof(*answers));
    assert_non_null(answers);
    for (size_t i = 0; i < COUNT; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "key %zu", i);
        start_get(w, &answers[i], key);
    }
    assert_int_equal(net_channel_call_count(w->channel), COUNT);
    size_t done = 0;
    while (done < COUNT) {
        size_t batch =
            COUNT - done < NET_CHANNEL_IN_FLIGHT_MAX ? COUNT - done : NET_CHANNEL_IN_FLIGHT_MAX;
        RUN_UNTIL(w, w->server.request_count == done + batch);
        for (size_t i = 0; i < 5; i++) {
            (void)uv_run(&w->loop, UV_RUN_NOWAIT);
        }
        assert_int_equal(w->server.request_count, done + batch); /* Not one more. */
        for (size_t i = done + batch; i > done; i--) {
            struct scripted_request *r = &w->server.requests[i - 1];
            scripted_answer(r, (struct span){ r->key, r->key_len });
        }
        done += batch;
    }
    RUN_UNTIL(w, net_channel_call_count(w->channel) == 0);
    for (size_t i = 0; i < COUNT; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "key %zu", i);
        assert_answered(&answers[i], key);
    }
    for (size_t i = 1; i < COUNT; i++) {
        assert_true(w->server.requests[i].call_id > w->server.requests[i - 1].call_id);
    }
    assert_int_equal(w->server.open_count, 1);
    free(answers);
    close_world(w);
}

/* Calls of one turn leave in one write. */
static void test_one_write_per_turn(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer first;
    struct answer more[16];
    get_and_wait(w, &first, "first");
    w->server.read_count = 0;
    w->server.first_read_frames = 0;
    for (size_t i = 0; i < 16; i++) {
        start_get(w, &more[i], "more");
    }
    RUN_UNTIL(w, net_channel_call_count(w->channel) == 0);
    assert_int_equal(w->server.first_read_frames, 16);
    assert_int_equal(w->server.read_count, 1);
    close_world(w);
}

static void test_error_details(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    novakms_v1_ErrorDetails details = { .retry_after_ms = 1234,
                                        .has_stamp = true,
                                        .stamp = { .hlc = 99, .writer = { 7 } },
                                        .may_miss = true };
    scripted_fail(&w->server.requests[0], STATUS_NOT_FOUND, "no such key", &details);
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_NOT_FOUND, NET_ANSWERED);
    assert_string_equal(a.outcome.status.text, "no such key");
    assert_int_equal(a.outcome.retry_after_ms, 1234);
    assert_true(a.outcome.may_miss);
    assert_true(a.outcome.has_stamp);
    assert_int_equal(a.outcome.stamp.hlc, 99);
    assert_int_equal(a.outcome.stamp.writer[0], 7);
    assert_false(a.outcome.is_refusal);
    close_world(w);
}

static void test_services(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    ProtobufCService *service =
        net_channel_service(w->channel, &novakms__v1__kms_service__descriptor);
    assert_ptr_equal(service,
                     net_channel_service(w->channel, &novakms__v1__kms_service__descriptor));
    protobuf_c_service_destroy(service); /* The channel's own: nothing happens. */
    struct answer a;
    get_and_wait(w, &a, "still");
    assert_answered(&a, "still");
    close_world(w);
}

/* ---- Sizes ---- */

static void test_largest_request(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .frame_bytes_max = 64 * 1024 });
    /* The key's tag and length take 4 bytes. */
    size_t key_len = 64 * 1024 - FRAME_OVERHEAD_MAX - 4;
    uint8_t *key = calloc(1, key_len + 1);
    assert_non_null(key);
    struct answer a;
    start_get_of(w, &a, (struct span){ key, key_len + 1 });
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_RESOURCE_EXHAUSTED, NET_NOT_EXECUTED);
    assert_int_equal(w->server.accept_count, 0);
    start_get_of(w, &a, (struct span){ key, key_len });
    RUN_UNTIL(w, a.count > 0);
    assert_true(a.is_ok);
    free(key);
    close_world(w);
}

/* Several answers of nearly 4 MiB, while requests of the same size wait for room. */
static void test_big_both_ways(void **state) {
    (void)state;
    enum { COUNT = 9 };
    struct world *w =
        open_world((struct net_channel_cfg){ .queue_bytes_max = (size_t)64 * 1024 * 1024 });
    w->server.is_echoing = false;
    size_t len = (size_t)4 * 1024 * 1024 - 1024;
    uint8_t *big = calloc(1, len);
    assert_non_null(big);
    struct answer answers[COUNT];
    size_t answered = 0;
    net_channel_set_timeout(w->channel, 120000); /* The last one waits for all others. */
    for (size_t i = 0; i < COUNT; i++) {
        start_get_of(w, &answers[i], (struct span){ big, len });
    }
    while (answered < COUNT) {
        RUN_UNTIL(w, w->server.request_count > answered);
        for (; answered < w->server.request_count; answered++) {
            scripted_answer(&w->server.requests[answered], (struct span){ big, len });
        }
    }
    RUN_UNTIL(w, net_channel_call_count(w->channel) == 0);
    for (size_t i = 0; i < COUNT; i++) {
        assert_string_equal(answers[i].outcome.status.text, "");
    }
    free(big);
    close_world(w);
}

static void test_answer_over_limit(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .frame_bytes_max = 32 * 1024 });
    w->server.is_echoing = false;
    uint8_t *big = calloc(1, 64 * 1024);
    assert_non_null(big);
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    scripted_answer(&w->server.requests[0], (struct span){ big, 64 * 1024 });
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED);
    free(big);
    close_world(w);
}

static void test_queue_bound(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .queue_count_max = 4 });
    struct answer answers[5];
    for (size_t i = 0; i < 5; i++) {
        start_get(w, &answers[i], "k");
    }
    RUN_UNTIL(w, net_channel_call_count(w->channel) == 0);
    for (size_t i = 0; i < 4; i++) {
        assert_answered(&answers[i], "k");
    }
    assert_failed(&answers[4], STATUS_RESOURCE_EXHAUSTED, NET_NOT_EXECUTED);
    close_world(w);
}

static void test_queue_bytes(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .queue_bytes_max = 10 });
    struct answer fits;
    struct answer over;
    start_get(w, &fits, "12345678"); /* 10 bytes packed. */
    start_get(w, &over, "");
    assert_int_equal(net_channel_call_count(w->channel), 2);
    struct answer more;
    start_get(w, &more, "1");
    RUN_UNTIL(w, net_channel_call_count(w->channel) == 0);
    assert_answered(&fits, "12345678");
    assert_answered(&over, ""); /* A request of no bytes always fits. */
    assert_failed(&more, STATUS_RESOURCE_EXHAUSTED, NET_NOT_EXECUTED);
    close_world(w);
}

/* ---- Deadlines and cancels ---- */

static void test_deadline_in_flight(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer a;
    get_and_wait(w, &a, "connect");
    w->server.is_echoing = false;
    net_channel_set_timeout(w->channel, 20);
    start_get(w, &a, "k");
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_DEADLINE_EXCEEDED, NET_MAYBE_EXECUTED);
    RUN_UNTIL(w, w->server.cancel_count == 1);
    assert_in_range(w->server.requests[1].timeout_ms, 1, 20);
    assert_int_equal(w->server.cancelled_id, w->server.requests[1].call_id);
    scripted_answer(&w->server.requests[1], SPAN_LIT("late")); /* Nobody waits for it. */
    net_channel_set_timeout(w->channel, 0);
    w->server.is_echoing = true;
    get_and_wait(w, &a, "next");
    assert_answered(&a, "next");
    assert_int_equal(w->server.open_count, 1);
    close_world(w);
}

static void test_cancel(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer queued;
    struct answer sent;
    start_get(w, &queued, "k");
    net_channel_cancel(w->channel, queued.id);
    assert_int_equal(queued.count, 0); /* In a later turn. */
    RUN_UNTIL(w, queued.count > 0);
    assert_failed(&queued, STATUS_CANCELLED, NET_NOT_EXECUTED);
    start_get(w, &sent, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    net_channel_cancel(w->channel, sent.id);
    net_channel_cancel(w->channel, sent.id);
    net_channel_cancel(w->channel, 12345);
    RUN_UNTIL(w, sent.count > 0);
    assert_failed(&sent, STATUS_CANCELLED, NET_MAYBE_EXECUTED);
    RUN_UNTIL(w, w->server.cancel_count > 0);
    assert_int_equal(w->server.cancel_count, 1);
    assert_int_equal(w->server.cancelled_id, w->server.requests[0].call_id);
    close_world(w);
}

/* ---- Closing ---- */

static void test_close_with_calls(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer sent;
    struct answer *queued = calloc(300, sizeof(*queued));
    assert_non_null(queued);
    start_get(w, &sent, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    for (size_t i = 0; i < 300; i++) {
        start_get(w, &queued[i], "k");
    }
    struct net_channel *channel = w->channel;
    net_channel_close(&channel, w, channel_gone);
    assert_null(channel);
    assert_failed(&sent, STATUS_CANCELLED, NET_MAYBE_EXECUTED);
    assert_failed(&queued[299], STATUS_CANCELLED, NET_NOT_EXECUTED);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(queued[i].count, 1);
    }
    w->channel = NULL;
    free(queued);
    close_world(w);
}

static void close_channel_in_closure(struct answer *a) {
    struct net_channel *channel = a->world->channel;
    a->world->in_closure = NULL;
    net_channel_close(&channel, a->world, channel_gone);
}

static void test_close_in_closure(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer answers[8];
    for (size_t i = 0; i < 8; i++) {
        start_get(w, &answers[i], "k");
    }
    w->in_closure = close_channel_in_closure;
    RUN_UNTIL(w, answers[7].count > 0);
    assert_answered(&answers[0], "k");
    for (size_t i = 1; i < 8; i++) {
        assert_failed(&answers[i], STATUS_CANCELLED, NET_MAYBE_EXECUTED);
    }
    w->channel = NULL;
    close_world(w);
}

static struct answer chained;

static void start_another(struct answer *a) {
    a->world->in_closure = NULL;
    start_get(a->world, &chained, "chained");
}

static void test_call_in_closure(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer a;
    w->in_closure = start_another;
    get_and_wait(w, &a, "first");
    RUN_UNTIL(w, chained.count > 0);
    assert_answered(&chained, "chained");
    scripted_stop_listening(&w->server);
    scripted_drop(&w->server);
    RUN_UNTIL(w, !net_channel_is_connected(w->channel));
    w->in_closure = start_another; /* In the closure of a failure too. */
    get_and_wait(w, &a, "first");
    RUN_UNTIL(w, chained.count > 0);
    assert_failed(&chained, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    close_world(w);
}

/* ---- Pings ---- */

static void test_ping_is_answered(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer a;
    get_and_wait(w, &a, "k");
    novakms_v1_FrameHeader header;
    frame_set_ping(&header, 42, false);
    scripted_send(w->server.conns[0], &header, SPAN_EMPTY);
    RUN_UNTIL(w, w->server.ping_ack_count == 1);
    frame_set_ping(&header, 42, true);
    scripted_send(w->server.conns[0], &header, SPAN_EMPTY); /* An ack is not answered. */
    get_and_wait(w, &a, "k");
    assert_int_equal(w->server.ping_ack_count, 1);
    close_world(w);
}

static void test_keepalive(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .keepalive_ms = 10 });
    w->server.answers_pings = true;
    struct answer a;
    get_and_wait(w, &a, "k");
    RUN_UNTIL(w, w->server.ping_count >= 3);
    assert_true(net_channel_is_connected(w->channel));
    w->server.answers_pings = false;
    w->server.is_echoing = false;
    start_get(w, &a, "k");
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED);
    assert_non_null(strstr(a.outcome.status.text, "ping"));
    close_world(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_call),           cmocka_unit_test(test_many_calls),
        cmocka_unit_test(test_one_write_per_turn), cmocka_unit_test(test_error_details),
        cmocka_unit_test(test_services),           cmocka_unit_test(test_largest_request),
        cmocka_unit_test(test_big_both_ways),      cmocka_unit_test(test_answer_over_limit),
        cmocka_unit_test(test_queue_bound),        cmocka_unit_test(test_queue_bytes),
        cmocka_unit_test(test_deadline_in_flight), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_close_with_calls),   cmocka_unit_test(test_close_in_closure),
        cmocka_unit_test(test_call_in_closure),    cmocka_unit_test(test_ping_is_answered),
        cmocka_unit_test(test_keepalive),          cmocka_unit_test(test_kept_answer),
    };
    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
