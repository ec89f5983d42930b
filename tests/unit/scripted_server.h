/* SPDX-License-Identifier: Apache-2.0 */
/* A "novakms/1" server for tests of clients: on the test's own loop, and it does to each frame
 * exactly what the test's script says. */
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "base/clock.h"
#include "net/conn.h"
#include "novakms/v1/kms.pb-c.h"
#include "test_peers.h"
#include "wire/frame.h"

#define SCRIPTED_CONN_MAX 32
#define SCRIPTED_REQUEST_MAX 2048

/* Turns the loop of `w` until a condition holds; fails when it never does. */
#define RUN_MS_MAX 120000u
#define RUN_UNTIL(w, condition)                          \
    do {                                                 \
        uint64_t end_ms_ = clock_mono_ms() + RUN_MS_MAX; \
        while (!(condition)) {                           \
            assert_true(clock_mono_ms() < end_ms_);      \
            (void)uv_run(&(w)->loop, UV_RUN_ONCE);       \
        }                                                \
    } while (0)

struct scripted_server;

/* One request that arrived. */
struct scripted_request {
    struct net_conn *conn;
    uint64_t call_id;
    uint32_t timeout_ms;
    char method[FRAME_METHOD_BYTES_MAX + 1];
    uint8_t key[64]; /* Of a Get; the rest is cut. */
    size_t key_len;
    uint8_t payload[1024]; /* Cut as well. */
    size_t payload_len;
};

struct scripted_server {
    uv_loop_t *loop;
    struct net_io *io;
    struct net_budget budget;
    uv_poll_t accept_poll;
    int fd;
    uint16_t port;
    struct tls_config *tls;
    bool is_mute;    /* Accepts, and never says a word. */
    bool hangs_up;   /* Closes what it accepts. */
    bool is_echoing; /* Answers each Get at once, with its key as the value. */
    void (*on_open)(struct scripted_server *s, struct net_conn *conn);
    void (*on_frame)(struct scripted_server *s, struct net_conn *conn, const struct frame *frame);

    struct net_conn *conns[SCRIPTED_CONN_MAX]; /* Open, in order; NULL when gone. */
    int mute_fds[SCRIPTED_CONN_MAX];
    size_t accept_count;
    size_t open_count;        /* Finished handshakes. */
    size_t read_count;        /* Times that data arrived. */
    size_t first_read_frames; /* Frames in the first of them. */
    size_t closed_count;
    size_t request_count;
    struct scripted_request requests[SCRIPTED_REQUEST_MAX];
    size_t cancel_count;
    uint64_t cancelled_id;
    size_t ping_ack_count;
    size_t ping_count;
    bool answers_pings;
};

static inline void scripted_send(struct net_conn *conn, const novakms_v1_FrameHeader *header,
                                 struct span payload) {
    size_t bytes = FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX + payload.len;
    uint8_t *frame = malloc(bytes);
    assert_non_null(frame);
    struct writer w = { frame, 0, bytes };
    assert_ok(frame_write(&w, header, payload, (size_t)64 * 1024 * 1024));
    net_conn_write(conn, writer_span(&w));
    free(frame);
}

static inline void scripted_answer_with(const struct scripted_request *r,
                                        const ProtobufCMessage *message) {
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(len + 1);
    assert_non_null(packed);
    (void)protobuf_c_message_pack(message, packed);
    novakms_v1_FrameHeader header;
    struct status ok = { .code = STATUS_OK };
    frame_set_response(&header, r->call_id, &ok);
    scripted_send(r->conn, &header, (struct span){ packed, len });
    free(packed);
}

/* Answers a Get. */
static inline void scripted_answer(const struct scripted_request *r, struct span value) {
    Novakms__V1__GetResponse m = NOVAKMS__V1__GET_RESPONSE__INIT;
    m.value = (ProtobufCBinaryData){ value.len, (uint8_t *)(uintptr_t)value.ptr };
    scripted_answer_with(r, &m.base);
}

static inline void scripted_fail(const struct scripted_request *r, enum status_code code,
                                 const char *text, const novakms_v1_ErrorDetails *details) {
    novakms_v1_FrameHeader header;
    struct status status;
    status_set(&status, code, "%s", text);
    frame_set_response(&header, r->call_id, &status);
    if (details != NULL) {
        header.kind.response.has_details = true;
        header.kind.response.details = *details;
    }
    scripted_send(r->conn, &header, SPAN_EMPTY);
}

static inline void scripted_goaway(struct net_conn *conn, uint64_t last_call_id,
                                   enum status_code code, const char *text) {
    novakms_v1_FrameHeader header;
    struct status status;
    status_set(&status, code, "%s", text);
    frame_set_goaway(&header, last_call_id, &status);
    scripted_send(conn, &header, SPAN_EMPTY);
}

static inline void scripted_take_request(struct scripted_server *s, struct net_conn *conn,
                                         const struct frame *frame) {
    const novakms_v1_Request *request = &frame->header.kind.request;
    assert_true(s->request_count < SCRIPTED_REQUEST_MAX);
    struct scripted_request *r = &s->requests[s->request_count++];
    r->conn = conn;
    r->call_id = request->call_id;
    r->timeout_ms = request->timeout_ms;
    memcpy(r->method, request->method.bytes, request->method.size);
    r->payload_len =
        frame->payload.len < sizeof(r->payload) ? frame->payload.len : sizeof(r->payload);
    if (r->payload_len > 0) {
        memcpy(r->payload, frame->payload.ptr, r->payload_len);
    }
    Novakms__V1__GetRequest *get =
        novakms__v1__get_request__unpack(NULL, frame->payload.len, frame->payload.ptr);
    if (get != NULL && strstr(r->method, "/Get") != NULL) {
        r->key_len = get->key.len < sizeof(r->key) ? get->key.len : sizeof(r->key);
        if (r->key_len > 0) {
            memcpy(r->key, get->key.data, r->key_len);
        }
    }
    novakms__v1__get_request__free_unpacked(get, NULL);
    if (s->is_echoing) {
        scripted_answer(r, (struct span){ r->key, r->key_len });
    }
}

static inline void scripted_take(struct scripted_server *s, struct net_conn *conn,
                                 const struct frame *frame) {
    novakms_v1_FrameHeader header;
    switch (frame->header.which_kind) {
    case novakms_v1_FrameHeader_request_tag:
        scripted_take_request(s, conn, frame);
        break;
    case novakms_v1_FrameHeader_cancel_tag:
        s->cancel_count++;
        s->cancelled_id = frame->header.kind.cancel.call_id;
        break;
    case novakms_v1_FrameHeader_ping_tag:
        s->ping_ack_count += frame->header.kind.ping.ack ? 1 : 0;
        s->ping_count += frame->header.kind.ping.ack ? 0 : 1;
        if (s->answers_pings && !frame->header.kind.ping.ack) {
            frame_set_ping(&header, frame->header.kind.ping.token, true);
            scripted_send(conn, &header, SPAN_EMPTY);
        }
        break;
    default:
        fail_msg("a client sent a frame of kind %d", frame->header.which_kind);
    }
    if (s->on_frame != NULL) {
        s->on_frame(s, conn, frame);
    }
}

static inline size_t scripted_data(struct net_conn *conn, struct span input) {
    struct scripted_server *s = net_conn_user(conn);
    struct reader in = { input.ptr, input.len };
    struct frame frame;
    const char *why = NULL;
    s->read_count++;
    while (!net_conn_is_closing(conn)) {
        struct rc rc = frame_read(&in, FRAME_BYTES_MAX_DEFAULT, &frame, &why);
        if (rc.err == E_AGAIN) {
            break;
        }
        assert_ok(rc);
        s->first_read_frames += s->read_count == 1 ? 1 : 0;
        scripted_take(s, conn, &frame);
    }
    return input.len - in.len;
}

static inline void scripted_open(struct net_conn *conn) {
    struct scripted_server *s = net_conn_user(conn);
    s->open_count++;
    if (s->on_open != NULL) {
        s->on_open(s, conn);
    }
}

static inline void scripted_closed(struct net_conn *conn) {
    struct scripted_server *s = net_conn_user(conn);
    s->closed_count++;
    for (size_t i = 0; i < SCRIPTED_CONN_MAX; i++) {
        s->conns[i] = s->conns[i] == conn ? NULL : s->conns[i];
    }
}

static inline void scripted_accept(uv_poll_t *poll, int status, int events) {
    static const struct net_conn_ops ops = { .open = scripted_open,
                                             .data = scripted_data,
                                             .closed = scripted_closed };
    (void)events;
    struct scripted_server *s = poll->data;
    assert_int_equal(status, 0);
    int fd = accept(s->fd, NULL, NULL);
    if (fd < 0) {
        return;
    }
    assert_true(s->accept_count < SCRIPTED_CONN_MAX);
    size_t idx = s->accept_count++;
    if (s->hangs_up) {
        (void)close(fd);
        return;
    }
    if (s->is_mute) {
        s->mute_fds[idx] = fd;
        return;
    }
    struct net_conn_cfg cfg = {
        .io = s->io, .fd = fd, .ops = &ops, .user = s, .limits = NET_CONN_LIMITS_DEFAULT
    };
    cfg.limits.output_bytes_max = (size_t)64 * 1024 * 1024;
    assert_ok(tls_server_init(&cfg.tls, s->tls));
    assert_ok(net_conn_init(&s->conns[idx], &cfg));
}

/* Listens on a free port of loopback. */
static inline void scripted_start(struct scripted_server *s, uv_loop_t *loop, uint8_t seed) {
    memset(s, 0, sizeof(*s));
    s->loop = loop;
    s->budget.bytes_max = (size_t)256 * 1024 * 1024;
    s->is_echoing = true;
    assert_ok(net_io_init(&s->io, loop, &s->budget));
    struct identity_credential *credential = test_credential(seed, TEST_CHAIN_ID, -1);
    s->tls = test_server_config(credential);
    identity_credential_close(&credential);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(s->fd, 64), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &len), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(uv_poll_init(loop, &s->accept_poll, s->fd), 0);
    s->accept_poll.data = s;
    assert_int_equal(uv_poll_start(&s->accept_poll, UV_READABLE, scripted_accept), 0);
}

/* No further connections: the port refuses them. */
static inline void scripted_stop_listening(struct scripted_server *s) {
    if (s->fd >= 0) {
        uv_close((uv_handle_t *)&s->accept_poll, NULL);
        (void)close(s->fd);
        s->fd = -1;
    }
}

/* Drops every connection at once. */
static inline void scripted_drop(struct scripted_server *s) {
    for (size_t i = 0; i < SCRIPTED_CONN_MAX; i++) {
        if (s->conns[i] != NULL) {
            net_conn_close(s->conns[i], OK, NULL);
        }
        if (s->mute_fds[i] > 0) {
            (void)close(s->mute_fds[i]);
            s->mute_fds[i] = 0;
        }
    }
}

/* All of it; the loop is then empty, if the test's own handles are closed. */
static inline void scripted_close(struct scripted_server *s) {
    scripted_stop_listening(s);
    scripted_drop(s);
    for (size_t i = 0; i < 8; i++) {
        (void)uv_run(s->loop, UV_RUN_NOWAIT);
    }
    net_io_close(s->io, NULL, NULL);
    tls_config_close(&s->tls);
    (void)uv_run(s->loop, UV_RUN_DEFAULT);
}
