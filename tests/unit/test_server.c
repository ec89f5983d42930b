/* SPDX-License-Identifier: Apache-2.0 */
/* Calls, connections and their ends over real sockets on loopback. */
#include "server_fixture.h"

static int setup(void **state) {
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    *state = &the_fixture;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fixture_stop(&the_fixture);
    return 0;
}

static void expect_key(const struct frame *frame, const char *key) {
    Novakms__V1__DeriveResponse *answer =
        novakms__v1__derive_response__unpack(NULL, frame->payload.len, frame->payload.ptr);
    assert_non_null(answer);
    assert_true(span_equal((struct span){ answer->key.data, answer->key.len }, span_str(key)));
    novakms__v1__derive_response__free_unpacked(answer, NULL);
}

static void test_call(void **state) {
    struct client c = client_as(*state, 1);
    client_derive(&c, 1, "hello", 0);
    struct frame frame = client_response(&c, 1, STATUS_OK);
    expect_key(&frame, "hello");
    client_derive(&c, 5, "again", 0); /* Ids may skip. */
    frame = client_response(&c, 5, STATUS_OK);
    expect_key(&frame, "again");
    client_close(&c);
}

/* Three hundred in one go, answered in order, because each answers at once. */
static void test_pipeline(void **state) {
    struct client c = client_as(*state, 1);
    uint8_t *buf = malloc(300 * 64);
    struct writer w = { buf, 0, (size_t)300 * 64 };
    for (uint64_t id = 1; id <= 300; id++) {
        novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
        frame_set_request(&header, id, SPAN_LIT(METHOD("Derive")), 0);
        assert_ok(frame_write(&w, &header, SPAN_LIT("\x0a\x01p"), SIZE_MAX));
    }
    client_send(&c, writer_span(&w));
    free(buf);
    for (uint64_t id = 1; id <= 300; id++) {
        struct frame frame = client_response(&c, id, STATUS_OK);
        expect_key(&frame, "p");
    }
    client_close(&c);
}

static void test_out_of_order(void **state) {
    struct client c = client_as(*state, 1);
    client_get(&c, 1, "hold", 0);
    client_get(&c, 2, "hold", 0);
    client_derive(&c, 3, "x", 0);
    client_response(&c, 3, STATUS_OK);
    client_get(&c, 4, "release", 0);
    client_response(&c, 2, STATUS_OK);
    client_response(&c, 1, STATUS_OK);
    client_response(&c, 4, STATUS_OK);
    client_close(&c);
}

static void test_cancel(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    client_get(&c, 1, "hold", 0);
    client_get(&c, 2, "hold", 0);
    frame_set_cancel(&header, 1);
    client_send_frame(&c, &header, SPAN_EMPTY);
    client_send_frame(&c, &header, SPAN_EMPTY); /* It has ended: ignored. */
    frame_set_cancel(&header, 77);
    client_send_frame(&c, &header, SPAN_EMPTY); /* Unknown: ignored. */
    client_get(&c, 3, "release", 0);
    client_response(&c, 2, STATUS_OK);
    client_response(&c, 3, STATUS_OK);
    assert_int_equal(atomic_load(&f->ended_count), 1);
    client_close(&c);
}

static void test_deadline(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    client_get(&c, 1, "hold", 60000);
    client_get(&c, 2, "hold", 30);
    client_get(&c, 3, "hold", 20);
    client_response(&c, 3, STATUS_DEADLINE_EXCEEDED);
    client_response(&c, 2, STATUS_DEADLINE_EXCEEDED);
    client_get(&c, 4, "release", 0);
    client_response(&c, 1, STATUS_OK);
    client_response(&c, 4, STATUS_OK);
    assert_int_equal(atomic_load(&f->ended_count), 2);
    client_close(&c);
}

/* An error with what fixture_details says. */
static void expect_details(struct client *c, uint64_t id, uint32_t status) {
    struct frame frame = client_response(c, id, status);
    assert_true(frame.header.kind.response.has_details);
    assert_true(frame.header.kind.response.details.has_stamp);
    assert_int_equal(frame.header.kind.response.details.stamp.hlc, 7);
    assert_true(frame.header.kind.response.details.may_miss);
    assert_int_equal(frame.header.kind.response.details.retry_after_ms, 0);
}

static void test_error_details(void **state) {
    struct client c = client_as(*state, 1);
    client_get(&c, 1, "nothing", 0);
    expect_details(&c, 1, STATUS_NOT_FOUND);
    client_close(&c);
}

static void test_bad_calls(void **state) {
    struct client c = client_as(*state, 1);
    client_request(&c, 1, "novakms.v1.KmsService/Nothing", SPAN_EMPTY, 0);
    client_response(&c, 1, STATUS_UNIMPLEMENTED);
    client_request(&c, 2, "", SPAN_EMPTY, 0);
    client_response(&c, 2, STATUS_UNIMPLEMENTED);
    client_request(&c, 3, METHOD("Derive"), SPAN_LIT("\xff\xff\xff"), 0);
    client_response(&c, 3, STATUS_INVALID_ARGUMENT);
    client_request(&c, 4, METHOD("List"), SPAN_EMPTY, 0);
    client_response(&c, 4, STATUS_INTERNAL);
    client_derive(&c, 5, "still here", 0);
    client_response(&c, 5, STATUS_OK);
    client_close(&c);
}

static void expect_dismissed(struct fixture *f, struct span frame_bytes) {
    struct client other = client_as(f, 2);
    struct client c = client_as(f, 1);
    client_get(&c, 1, "hold", 0);
    client_send(&c, frame_bytes);
    client_goaway(&c, STATUS_INVALID_ARGUMENT);
    client_close(&c);
    client_derive(&other, 1, "unharmed", 0);
    client_response(&other, 1, STATUS_OK);
    client_close(&other);
}

static void test_malformed(void **state) {
    struct fixture *f = *state;
    expect_dismissed(f, SPAN_LIT("GET / HTTP/1.1\r\n\r\n"));
    expect_dismissed(f, SPAN_LIT("\0\0\0\6\0\4\x0a\2\x08\1")); /* Its call id does not grow. */
    expect_dismissed(f, SPAN_LIT("\0\0\0\6\0\4\x12\2\x08\7")); /* A response. */
    expect_dismissed(f, SPAN_LIT("\0\0\0\6\0\4\x3a\2\x08\7")); /* No kind we know. */
    expect_dismissed(f, SPAN_LIT("\0\0\0\0"));
    struct net_stats stats;
    net_server_stats(f->server, &stats);
    assert_int_equal(stats.bad_frame_count, 5);
    assert_int_equal(atomic_load(&f->ended_count), 5);
}

static void test_ping(void **state) {
    struct client c = client_as(*state, 1);
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    struct frame frame;
    for (uint64_t token = 1; token <= 61; token++) {
        frame_set_ping(&header, token, false);
        client_send_frame(&c, &header, SPAN_EMPTY);
    }
    for (uint64_t token = 1; token <= 60; token++) {
        assert_true(client_frame(&c, &frame));
        assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_ping_tag);
        assert_true(frame.header.kind.ping.ack);
        assert_int_equal(frame.header.kind.ping.token, token);
    }
    client_goaway(&c, STATUS_RESOURCE_EXHAUSTED);
    client_close(&c);
}

/* The peer says goodbye: what is in flight is answered, then the server closes. */
static void test_client_goaway(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    const struct status bye = { .code = STATUS_OK, .text = "bye" };
    struct frame frame;
    client_get(&c, 1, "hold", 0);
    frame_set_goaway(&header, 0, &bye);
    client_send_frame(&c, &header, SPAN_EMPTY);
    client_derive(&c, 2, "late", 0);
    client_response(&c, 2, STATUS_UNAVAILABLE);
    assert_true(net_server_post(f->server, 0, fixture_release_all, f));
    client_response(&c, 1, STATUS_OK);
    assert_false(client_frame(&c, &frame));
    client_close(&c);
}

static void test_anonymous(void **state) {
    struct client c = client_open(*state, NULL, TLS_ALPN_NOVAKMS);
    assert_ok(c.rc);
    client_request(&c, 1, "novakms.v1.NodeService/GetStatus", SPAN_EMPTY, 0);
    client_response(&c, 1, STATUS_OK);
    client_derive(&c, 2, "x", 0);
    client_response(&c, 2, STATUS_UNAUTHENTICATED);
    client_close(&c);
}

static void test_bad_binding(void **state) {
    struct fixture *f = *state;
    struct client c = client_open(f, test_credential(1, 1, -1), TLS_ALPN_NOVAKMS);
    assert_ok(c.rc);
    client_goaway(&c, STATUS_UNAUTHENTICATED);
    client_close(&c);
    struct net_stats stats;
    net_server_stats(f->server, &stats);
    assert_int_equal(stats.handshakes[NET_HANDSHAKE_IDENTITY], 1);
}

static void test_refused_admission(void **state) {
    struct fixture *f = *state;
    atomic_store(&f->refuses_admission, true);
    struct client c = client_as(f, 1);
    client_derive(&c, 1, "x", 0); /* Not looked at. */
    client_goaway(&c, STATUS_PERMISSION_DENIED);
    client_close(&c);
}

static void admit_all(void *arg) {
    struct fixture *f = arg;
    for (size_t i = 0; i < f->pending_count; i++) {
        net_conn_admit(f->pending[i]);
        net_conn_admit(f->pending[i]); /* Twice does nothing. */
    }
    f->pending_count = 0;
}

static void test_late_admission(void **state) {
    struct fixture *f = *state;
    atomic_store(&f->admits_later, true);
    struct client c = client_as(f, 1);
    client_derive(&c, 1, "x", 0);
    struct client anonymous = client_open(f, NULL, TLS_ALPN_NOVAKMS);
    client_request(&anonymous, 1, "novakms.v1.NodeService/GetStatus", SPAN_EMPTY, 0);
    client_response(&anonymous, 1, STATUS_OK);
    struct pollfd p = { .fd = c.fd, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 50), 0); /* Waits: nothing was answered meanwhile. */
    assert_true(net_server_post(f->server, 0, admit_all, f));
    client_response(&c, 1, STATUS_OK);
    client_close(&c);
    client_close(&anonymous);
}

static void test_check(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    client_get(&c, 1, "hold", 0);
    client_derive(&c, 2, "x", 0);
    client_response(&c, 2, STATUS_OK);
    atomic_store(&f->refuses_calls, true);
    client_derive(&c, 3, "x", 0);
    struct frame frame = client_response(&c, 3, STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(frame.header.kind.response.details.retry_after_ms, 1234);
    atomic_store(&f->refuses_calls, false);
    atomic_store(&f->refuses_rechecks, true);
    client_get(&c, 4, "release", 0);
    client_response(&c, 1, STATUS_RESOURCE_EXHAUSTED); /* Revoked while it waited. */
    client_response(&c, 4, STATUS_OK);
    client_get(&c, 5, "hold", 0);
    client_get(&c, 6, "recheck", 0); /* Also when its service asks. */
    client_response(&c, 5, STATUS_RESOURCE_EXHAUSTED);
    client_response(&c, 6, STATUS_OK);
    atomic_store(&f->refuses_rechecks, false);
    client_get(&c, 7, "hold", 0);
    client_get(&c, 8, "recheck", 0);
    client_response(&c, 7, STATUS_OK);
    client_response(&c, 8, STATUS_OK);
    client_close(&c);
}

/* A call that is executed says so however it ends: what it has written goes with the error, whose
 * code is none with which it would be made again. */
static void test_executed(void **state) {
    static const struct {
        enum status_code said;
        enum status_code told;
    } rows[] = {
        { STATUS_UNAVAILABLE, STATUS_UNKNOWN },
        { STATUS_RESOURCE_EXHAUSTED, STATUS_UNKNOWN },
        { STATUS_ABORTED, STATUS_UNKNOWN },
        { STATUS_PERMISSION_DENIED, STATUS_PERMISSION_DENIED },
    };
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    uint64_t id = 0;
    atomic_store(&f->refuses_rechecks, true);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        atomic_store(&f->recheck_code, rows[i].said);
        client_get(&c, id + 1, "write", 0);
        client_get(&c, id + 2, "release", 0);
        expect_details(&c, id + 1, rows[i].told);
        client_response(&c, id + 2, STATUS_OK);
        client_get(&c, id + 3, "hold", 0); /* Has not done anything. */
        client_get(&c, id + 4, "release", 0);
        struct frame frame = client_response(&c, id + 3, rows[i].said);
        assert_false(frame.header.kind.response.details.has_stamp);
        client_response(&c, id + 4, STATUS_OK);
        id += 4;
    }
    client_get(&c, id + 1, "write", 1);
    expect_details(&c, id + 1, STATUS_DEADLINE_EXCEEDED);
    client_derive(&c, id + 2, "write", 5000000); /* Larger than a frame. */
    expect_details(&c, id + 2, STATUS_UNKNOWN);
    client_close(&c);
}

/* A client that goes away takes its calls with it. */
static void test_disconnect(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    client_get(&c, 1, "hold", 0);
    client_get(&c, 2, "hold", 0);
    client_derive(&c, 3, "x", 0);
    client_response(&c, 3, STATUS_OK);
    client_close(&c);
    while (atomic_load(&f->ended_count) < 2 || atomic_load(&f->closed_count) < 1) {
        (void)sched_yield();
    }
}

/* A half-close ends the connection in order. */
static void test_half_close(void **state) {
    struct client c = client_as(*state, 1);
    struct frame frame;
    client_derive(&c, 1, "x", 0);
    client_get(&c, 2, "hold", 0);
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    client_response(&c, 1, STATUS_OK);
    assert_false(client_frame(&c, &frame));
    client_close(&c);
}

static void test_wrong_alpn(void **state) {
    struct fixture *f = *state;
    struct client c = client_open(f, test_credential(1, TEST_CHAIN_ID, -1), "h2");
    assert_int_not_equal(c.rc.err, E_OK);
    client_close(&c);
}

static void test_garbage_before_tls(void **state) {
    struct fixture *f = *state;
    int fd = client_socket(net_server_port(f->server));
    client_send_raw(fd, SPAN_LIT("GET / HTTP/1.1\r\n\r\n"));
    uint8_t buf[256];
    while (client_recv_raw(fd, buf, sizeof(buf)) > 0) {
    }
    (void)close(fd);
    struct net_stats stats;
    do {
        net_server_stats(f->server, &stats);
    } while (stats.handshakes[NET_HANDSHAKE_TLS] == 0);
}

static void test_stream(void **state) {
    struct client c = client_open(*state, NULL, TLS_ALPN_HTTP);
    assert_ok(c.rc);
    client_send(&c, SPAN_LIT("echo"));
    while (c.input_len < 4) {
        assert_true(client_read_more(&c));
    }
    client_send(&c, SPAN_LIT(" this!"));
    while (client_read_more(&c)) {
    }
    assert_true(span_equal((struct span){ c.input, c.input_len }, SPAN_LIT("echo this!")));
    client_close(&c);
}

static void on_drained(void *ctx) {
    (void)sem_post(&((struct fixture *)ctx)->drained);
}

static void test_drain(void **state) {
    struct fixture *f = *state;
    struct client busy = client_as(f, 1);
    struct client idle = client_as(f, 2);
    client_get(&busy, 1, "hold", 0);
    client_derive(&busy, 2, "x", 0);
    client_response(&busy, 2, STATUS_OK);
    client_derive(&idle, 1, "x", 0);
    client_response(&idle, 1, STATUS_OK);
    net_server_drain(f->server, 60000, on_drained, f);
    net_server_drain(f->server, 60000, on_drained, f); /* Once. */
    struct frame frame;
    assert_true(client_frame(&busy, &frame));
    assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_goaway_tag);
    assert_int_equal(frame.header.kind.goaway.last_call_id, 2);
    assert_int_equal(frame.header.kind.goaway.status, STATUS_OK);
    client_goaway(&idle, STATUS_OK);
    client_close(&idle);
    client_derive(&busy, 3, "late", 0);
    client_response(&busy, 3, STATUS_UNAVAILABLE);
    assert_int_equal(sem_trywait(&f->drained), -1);
    assert_true(net_server_post(f->server, 0, fixture_release_all, f));
    client_response(&busy, 1, STATUS_OK);
    assert_false(client_frame(&busy, &frame));
    client_close(&busy);
    assert_int_equal(sem_wait(&f->drained), 0);
}

static void test_drain_timeout(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    client_get(&c, 1, "hold", 0);
    client_derive(&c, 2, "x", 0);
    client_response(&c, 2, STATUS_OK);
    net_server_drain(f->server, 20, on_drained, f);
    client_goaway(&c, STATUS_OK);
    assert_int_equal(sem_wait(&f->drained), 0);
    assert_int_equal(atomic_load(&f->ended_count), 1);
    client_close(&c);
}

/* Renewal: newcomers see the new certificate, the connected stay. */
static void test_renewal(void **state) {
    struct fixture *f = *state;
    struct client before = client_as(f, 1);
    struct identity_credential *fresh = test_credential(201, TEST_CHAIN_ID, -1);
    struct tls_config *config = test_server_config(fresh);
    net_server_set_tls(f->server, config);
    tls_config_close(&config);
    struct client after = client_as(f, 1);
    assert_true(wallet_equal(&tls_peer(after.tls)->wallet, identity_credential_wallet(fresh)));
    assert_false(wallet_equal(&tls_peer(before.tls)->wallet, identity_credential_wallet(fresh)));
    client_derive(&before, 1, "x", 0);
    client_response(&before, 1, STATUS_OK);
    client_derive(&after, 1, "x", 0);
    client_response(&after, 1, STATUS_OK);
    identity_credential_close(&fresh);
    client_close(&before);
    client_close(&after);
}

static void test_stats(void **state) {
    struct fixture *f = *state;
    struct client c = client_as(f, 1);
    client_derive(&c, 1, "x", 0);
    client_response(&c, 1, STATUS_OK);
    client_get(&c, 2, "nothing", 0);
    client_response(&c, 2, STATUS_NOT_FOUND);
    struct net_stats stats;
    net_server_stats(f->server, &stats);
    assert_int_equal(stats.conn_count, 1);
    assert_int_equal(stats.conn_total, 1);
    assert_int_equal(stats.handshakes[NET_HANDSHAKE_OK], 1);
    assert_int_equal(stats.method_count, 11);
    assert_string_equal(stats.methods[0].name, METHOD("Derive"));
    assert_int_equal(stats.methods[0].count[STATUS_OK], 1);
    assert_int_equal(stats.methods[2].count[STATUS_NOT_FOUND], 1);
    uint64_t calls = 0;
    for (size_t i = 0; i < NET_LATENCY_COUNT; i++) {
        calls += stats.methods[0].latency[i];
    }
    assert_int_equal(calls, 1);
    assert_true(stats.read_bytes > 0 && stats.written_bytes > 0);
    client_close(&c);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_call),
        CASE(test_pipeline),
        CASE(test_out_of_order),
        CASE(test_cancel),
        CASE(test_deadline),
        CASE(test_error_details),
        CASE(test_bad_calls),
        CASE(test_malformed),
        CASE(test_ping),
        CASE(test_client_goaway),
        CASE(test_anonymous),
        CASE(test_bad_binding),
        CASE(test_refused_admission),
        CASE(test_late_admission),
        CASE(test_check),
        CASE(test_executed),
        CASE(test_disconnect),
        CASE(test_half_close),
        CASE(test_wrong_alpn),
        CASE(test_garbage_before_tls),
        CASE(test_stream),
        CASE(test_drain),
        CASE(test_drain_timeout),
        CASE(test_renewal),
        CASE(test_stats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
