/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound of the server, at its value and one past it; slow, silent and greedy clients. */
#include "server_fixture.h"

#define SHORT_MS 300u

static int teardown(void **state) {
    (void)state;
    fixture_stop(&the_fixture);
    return 0;
}

static void get_stats(struct net_stats *out) {
    net_server_stats(the_fixture.server, out);
}

/* A message of exactly payload_len bytes that any method accepts: one unknown field of bytes. */
static uint8_t *filler(size_t payload_len) {
    uint8_t *payload = calloc(1, payload_len);
    struct writer w = { payload, 0, payload_len };
    size_t field_len = payload_len - 6; /* Two bytes of key, four of length. */
    assert_ok(write_u8(&w, 0xFA));      /* Field 127, length-delimited. */
    assert_ok(write_u8(&w, 0x07));
    for (int shift = 0; shift < 28; shift += 7) {
        uint8_t more = shift < 21 ? 0x80U : 0;
        assert_ok(write_u8(&w, (uint8_t)((field_len >> shift) & 0x7FU) | more));
    }
    return payload;
}

/* A frame of frame_len bytes, as the limit counts them. */
static void send_frame_of(struct client *c, uint64_t id, const char *method, size_t frame_len) {
    size_t header_len = 2 + 2 + 2 + strlen(method); /* Key, length; call id; key, length, method. */
    size_t payload_len = frame_len - 2 - header_len;
    uint8_t *payload = filler(payload_len);
    client_request(c, id, method, (struct span){ payload, payload_len }, 0);
    free(payload);
}

#define STATUS_METHOD "novakms.v1.NodeService/GetStatus"

static void test_stranger_frame(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_open(&the_fixture, NULL, TLS_ALPN_NOVAKMS);
    send_frame_of(&c, 1, STATUS_METHOD, FRAME_BYTES_MAX_STRANGER);
    client_response(&c, 1, STATUS_OK);
    send_frame_of(&c, 2, STATUS_METHOD, FRAME_BYTES_MAX_STRANGER + 1);
    client_goaway(&c, STATUS_INVALID_ARGUMENT);
    client_close(&c);
}

static void test_caller_frame(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_as(&the_fixture, 1);
    send_frame_of(&c, 1, STATUS_METHOD, FRAME_BYTES_MAX_DEFAULT);
    client_response(&c, 1, STATUS_OK);
    send_frame_of(&c, 2, STATUS_METHOD, FRAME_BYTES_MAX_DEFAULT + 1);
    client_goaway(&c, STATUS_INVALID_ARGUMENT);
    client_close(&c);
}

static void test_answer_size(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_as(&the_fixture, 1);
    uint32_t max = (uint32_t)(FRAME_BYTES_MAX_DEFAULT - FRAME_OVERHEAD_MAX);
    uint32_t field = 1 + 4; /* The key's own tag and length. */
    client_derive(&c, 1, "x", max - field);
    struct frame frame = client_response(&c, 1, STATUS_OK);
    assert_int_equal(frame.payload.len, max);
    client_derive(&c, 2, "x", max - field + 1);
    client_response(&c, 2, STATUS_RESOURCE_EXHAUSTED);
    client_close(&c);
}

/* Many small fields are far larger in memory than on the wire. */
static void test_message_budget(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .message_bytes_max = 64 * 1024 });
    struct client c = client_as(&the_fixture, 1);
    size_t len = 20000;
    uint8_t *payload = calloc(1, len);
    for (size_t i = 0; i < len; i += 2) {
        payload[i] = 0x0A; /* An empty DeriveRequest. */
    }
    client_request(&c, 1, METHOD("BatchDerive"), (struct span){ payload, len }, 0);
    client_response(&c, 1, STATUS_RESOURCE_EXHAUSTED);
    free(payload);
    client_derive(&c, 2, "x", 0);
    client_response(&c, 2, STATUS_OK);
    client_close(&c);
}

static uint64_t held_count(struct client *c, uint64_t *id) {
    (*id)++;
    client_get(c, *id, "count", 0);
    struct frame frame = client_response(c, *id, STATUS_OK);
    Novakms__V1__GetResponse *answer =
        novakms__v1__get_response__unpack(NULL, frame.payload.len, frame.payload.ptr);
    assert_non_null(answer);
    uint64_t count = answer->expires_unix_ms;
    novakms__v1__get_response__free_unpacked(answer, NULL);
    return count;
}

/* The 257th call waits in the kernel's buffers, not in the server. */
static void test_back_pressure(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_as(&the_fixture, 1);
    struct client other = client_as(&the_fixture, 2);
    uint64_t id = 0;
    for (uint64_t i = 1; i <= NET_CALLS_IN_FLIGHT_MAX + 44; i++) {
        client_get(&c, i, "hold", 0);
    }
    while (held_count(&other, &id) < NET_CALLS_IN_FLIGHT_MAX) {
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(held_count(&other, &id), NET_CALLS_IN_FLIGHT_MAX);
    }
    struct net_stats stats;
    get_stats(&stats);
    assert_int_equal(stats.calls_in_flight, NET_CALLS_IN_FLIGHT_MAX);
    client_get(&other, ++id, "release", 0);
    client_response(&other, id, STATUS_OK);
    while (held_count(&other, &id) < 44) {
    }
    client_get(&other, ++id, "release", 0);
    client_response(&other, id, STATUS_OK);
    for (uint64_t i = 1; i <= NET_CALLS_IN_FLIGHT_MAX + 44; i++) {
        struct frame frame;
        assert_true(client_frame(&c, &frame));
        assert_int_equal(frame.header.kind.response.status, STATUS_OK);
    }
    client_close(&c);
    client_close(&other);
}

/* A client that asks for far more than it reads: the server answers as it reads. */
static void test_slow_reader(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_as(&the_fixture, 1);
    struct client other = client_as(&the_fixture, 2);
    for (uint64_t i = 1; i <= 64; i++) {
        client_derive(&c, i, "x", 1024 * 1024);
    }
    client_derive(&other, 1, "x", 0);
    client_response(&other, 1, STATUS_OK);
    struct net_stats stats;
    get_stats(&stats);
    assert_true(stats.buffered_bytes < (size_t)8 * 1024 * 1024);
    for (uint64_t i = 1; i <= 64; i++) {
        struct frame frame = client_response(&c, i, STATUS_OK);
        assert_true(frame.payload.len > 1024 * 1024);
    }
    client_close(&c);
    client_close(&other);
}

static void expect_end(int fd) {
    uint8_t buf[1024];
    while (client_recv_raw(fd, buf, sizeof(buf)) > 0) {
    }
}

static void test_handshake_timeout(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .handshake_timeout_ms = SHORT_MS });
    int fd = client_socket(net_server_port(the_fixture.server));
    expect_end(fd);
    (void)close(fd);
    struct net_stats stats;
    get_stats(&stats);
    while (stats.handshakes[NET_HANDSHAKE_TIMEOUT] == 0) {
        get_stats(&stats);
    }
}

/* The pool is full of silent peers: a good one waits, and they make room long before they time out.
 */
static void test_handshake_count(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .handshake_timeout_ms = 1000 * SHORT_MS,
                                                         .handshake_count_max = 2 });
    int silent[2] = { client_socket(net_server_port(the_fixture.server)),
                      client_socket(net_server_port(the_fixture.server)) };
    struct net_stats stats;
    get_stats(&stats);
    while (stats.handshaking_count < 2) {
        get_stats(&stats);
    }
    struct client c = client_as(&the_fixture, 1);
    get_stats(&stats);
    assert_true(stats.handshakes[NET_HANDSHAKE_TIMEOUT] >= 1);
    client_derive(&c, 1, "x", 0);
    client_response(&c, 1, STATUS_OK);
    client_close(&c);
    (void)close(silent[0]);
    (void)close(silent[1]);
}

static void test_conn_limit(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .conn_count_max = 2 });
    struct client first = client_as(&the_fixture, 1);
    struct client second = client_as(&the_fixture, 2);
    struct client third = client_as(&the_fixture, 3);
    client_goaway(&third, STATUS_RESOURCE_EXHAUSTED);
    client_close(&third);
    client_close(&first);
    struct net_stats stats;
    get_stats(&stats);
    while (stats.conn_count > 1) {
        get_stats(&stats);
    }
    struct client fourth = client_as(&the_fixture, 4);
    client_derive(&fourth, 1, "x", 0);
    client_response(&fourth, 1, STATUS_OK);
    client_close(&second);
    client_close(&fourth);
}

static void test_wallet_limit(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .conn_per_wallet_max = 1 });
    struct client first = client_as(&the_fixture, 1);
    struct client second = client_as(&the_fixture, 1);
    client_goaway(&second, STATUS_RESOURCE_EXHAUSTED);
    struct client other = client_as(&the_fixture, 2);
    client_derive(&other, 1, "x", 0);
    client_response(&other, 1, STATUS_OK);
    struct net_stats stats;
    get_stats(&stats);
    assert_int_equal(stats.handshakes[NET_HANDSHAKE_LIMIT], 1);
    assert_int_equal(stats.conn_count, 2);
    client_close(&first);
    client_close(&second);
    client_close(&other);
}

static void test_anonymous_limits(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .conn_anonymous_max = 1,
                                                         .anonymous_idle_timeout_ms = SHORT_MS,
                                                         .anonymous_calls_per_second_max = 3 });
    struct client first = client_open(&the_fixture, NULL, TLS_ALPN_NOVAKMS);
    struct client second = client_open(&the_fixture, NULL, TLS_ALPN_NOVAKMS);
    client_goaway(&second, STATUS_RESOURCE_EXHAUSTED);
    uint8_t *calls = malloc(4 * 64);
    struct writer w = { calls, 0, (size_t)4 * 64 };
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    for (uint64_t id = 1; id <= 4; id++) {
        frame_set_request(&header, id, SPAN_LIT(STATUS_METHOD), 0);
        assert_ok(frame_write(&w, &header, SPAN_EMPTY, SIZE_MAX));
    }
    client_send(&first, writer_span(&w)); /* In one go: within one second of the server's. */
    free(calls);
    for (uint64_t id = 1; id <= 3; id++) {
        client_response(&first, id, STATUS_OK);
    }
    struct frame frame = client_response(&first, 4, STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(frame.header.kind.response.details.retry_after_ms, 1000);
    client_goaway(&first, STATUS_DEADLINE_EXCEEDED); /* Idle. */
    client_close(&first);
    client_close(&second);
}

static void test_idle(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .idle_timeout_ms = SHORT_MS });
    struct client c = client_as(&the_fixture, 1);
    client_derive(&c, 1, "x", 0);
    client_response(&c, 1, STATUS_OK);
    client_goaway(&c, STATUS_DEADLINE_EXCEEDED);
    client_close(&c);
}

/* A frame begun and not finished. */
static void test_unfinished_frame(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .frame_timeout_ms = SHORT_MS });
    struct client c = client_as(&the_fixture, 1);
    client_send(&c, SPAN_LIT("\0\0\1\0\0"));
    client_goaway(&c, STATUS_DEADLINE_EXCEEDED);
    client_close(&c);
}

/* All connections' kept input together. */
static void test_buffer_budget(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .buffer_bytes_max = 256 * 1024 });
    struct client c = client_as(&the_fixture, 1);
    struct client other = client_as(&the_fixture, 2);
    size_t len = (size_t)1024 * 1024;
    uint8_t *bytes = calloc(1, len);
    struct writer w = { bytes, 0, len };
    assert_ok(write_u32(&w, (uint32_t)len));
    size_t sent = 0;
    while (sent < len / 2) { /* Never complete. */
        struct tls_io io = { .out = { bytes + len / 2, 0, len / 2 } };
        size_t n = 0;
        assert_ok(tls_write(c.tls, &io, (struct span){ bytes + sent, 8192 }, &n));
        client_send_raw(c.fd, writer_span(&io.out));
        sent += n;
    }
    expect_end(c.fd);
    client_derive(&other, 1, "x", 0);
    client_response(&other, 1, STATUS_OK);
    free(bytes);
    client_close(&c);
    client_close(&other);
}

/* Connections of one wallet share a worker; other wallets spread. */
static void test_placement(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ .worker_count = 3 });
    struct client clients[6];
    uint64_t worker_of[6];
    bool is_used[3] = { false };
    for (uint8_t i = 0; i < 6; i++) {
        clients[i] = client_as(&the_fixture, (uint8_t)(1 + i % 3));
        client_request(&clients[i], 1, METHOD("WhoAmI"), SPAN_EMPTY, 0);
        struct frame frame = client_response(&clients[i], 1, STATUS_OK);
        Novakms__V1__WhoAmIResponse *answer =
            novakms__v1__who_am_iresponse__unpack(NULL, frame.payload.len, frame.payload.ptr);
        assert_non_null(answer);
        worker_of[i] = answer->app_id;
        is_used[answer->app_id] = true;
        novakms__v1__who_am_iresponse__free_unpacked(answer, NULL);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(worker_of[i], worker_of[i + 3]);
        assert_true(is_used[i]);
    }
    for (size_t i = 0; i < 6; i++) {
        client_close(&clients[i]);
    }
}

/* A binding that ended within the skew is let in, and the connection ends with it. */
static void test_identity_end(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c =
        client_open(&the_fixture, test_credential(1, TEST_CHAIN_ID, -(int64_t)TEST_LIFETIME_S - 1),
                    TLS_ALPN_NOVAKMS);
    assert_ok(c.rc);
    client_goaway(&c, STATUS_UNAUTHENTICATED);
    client_close(&c);
}

/* Ten thousand of the smallest frames. */
static void test_tiny_frames(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_as(&the_fixture, 1);
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    uint8_t frame[32];
    struct writer one = { frame, 0, sizeof(frame) };
    frame_set_cancel(&header, 9);
    assert_ok(frame_write(&one, &header, SPAN_EMPTY, SIZE_MAX));
    uint8_t *many = malloc(10000 * one.len);
    for (size_t i = 0; i < 10000; i++) {
        memcpy(many + i * one.len, frame, one.len);
    }
    client_send(&c, (struct span){ many, 10000 * one.len });
    free(many);
    client_derive(&c, 1, "x", 0);
    client_response(&c, 1, STATUS_OK);
    client_close(&c);
}

/* A record's bytes one at a time. */
static void test_drip(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct client c = client_as(&the_fixture, 1);
    uint8_t out[256];
    struct tls_io io = { .out = { out, 0, sizeof(out) } };
    struct span request = SPAN_LIT("\0\0\0\x28\0\x22\x0a\x20\x08\1\x12\x1c"
                                   "novakms.v1.KmsService/Derive"
                                   "\x0a\2hi");
    size_t n = 0;
    assert_ok(tls_write(c.tls, &io, request, &n));
    for (size_t i = 0; i < io.out.len; i++) {
        client_send_raw(c.fd, (struct span){ out + i, 1 });
    }
    client_response(&c, 1, STATUS_OK);
    client_close(&c);
}

static void test_bad_configs(void **state) {
    (void)state;
    fixture_start(&the_fixture, (struct net_server_cfg){ 0 });
    struct net_server *server = NULL;
    struct net_server_cfg good = { .host = "127.0.0.1",
                                   .tls = the_fixture.server_tls,
                                   .worker_count = 1,
                                   .worker_init = fixture_worker,
                                   .ctx = &the_fixture };
    struct net_server_cfg cfg = good;
    cfg.worker_count = NET_WORKER_COUNT_MAX + 1;
    assert_err(net_server_init(&server, &cfg), BAD_CONFIG);
    assert_null(server);
    cfg = good;
    cfg.frame_bytes_max = 100;
    assert_err(net_server_init(&server, &cfg), BAD_CONFIG);
    cfg = good;
    cfg.host = "example.org";
    struct status why;
    assert_ok(net_server_init(&server, &cfg));
    assert_err(net_server_listen(server, &why), BAD_CONFIG);
    assert_non_null(strstr(why.text, "example.org"));
    net_server_close(&server);
    cfg = good;
    cfg.port = net_server_port(the_fixture.server);
    assert_ok(net_server_init(&server, &cfg));
    assert_err(net_server_listen(server, &why), IO);
    assert_non_null(strstr(why.text, "127.0.0.1"));
    net_server_close(&server);
}

#define CASE(fn) cmocka_unit_test_teardown(fn, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_stranger_frame),    CASE(test_caller_frame),
        CASE(test_answer_size),       CASE(test_message_budget),
        CASE(test_back_pressure),     CASE(test_slow_reader),
        CASE(test_handshake_timeout), CASE(test_handshake_count),
        CASE(test_conn_limit),        CASE(test_idle),
        CASE(test_wallet_limit),      CASE(test_anonymous_limits),
        CASE(test_unfinished_frame),  CASE(test_buffer_budget),
        CASE(test_placement),         CASE(test_identity_end),
        CASE(test_tiny_frames),       CASE(test_drip),
        CASE(test_bad_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
