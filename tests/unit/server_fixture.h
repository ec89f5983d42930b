/* SPDX-License-Identifier: Apache-2.0 */
/* A server with a test service on it, and a plain blocking client that speaks frames. */
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/server.h"
#include "novakms/v1/kms.pb-c.h"
#include "novakms/v1/node.pb-c.h"
#include "test_peers.h"
#include "wire/frame.h"

#define FIXTURE_WAIT_MS 20000 /* Far more than anything takes: a hang fails, slowness does not. */
#define FIXTURE_HELD_MAX 1024

/* ---- The test service. Get with key "hold" waits, and with "write" it is executed before. ---- */

struct held {
    struct net_call *call;
    Novakms__V1__GetResponse_Closure closure;
    struct fixture *f;
    size_t idx;
};

struct fixture {
    struct net_server *server;
    struct identity_credential *server_credential;
    struct tls_config *server_tls;
    ProtobufCService *kms[NET_WORKER_COUNT_MAX];
    struct held *held[FIXTURE_HELD_MAX]; /* On worker 0's loop. */
    size_t held_count;
    struct net_conn *pending[FIXTURE_HELD_MAX];
    size_t pending_count;
    atomic_uint ended_count;  /* on_end callbacks. */
    atomic_uint closed_count; /* authority's closed. */
    atomic_bool admits_later;
    atomic_bool refuses_admission;
    atomic_bool refuses_calls;
    atomic_bool refuses_rechecks;
    atomic_uint recheck_code; /* Of a refusal; 0: RESOURCE_EXHAUSTED. */
    bool asks_first;          /* Before it lets calls go on. */
    sem_t drained;
};

static struct fixture the_fixture;

static const struct net_error_details fixture_details = { .has_stamp = true,
                                                          .stamp_hlc = 7,
                                                          .may_miss = true };

static void fixture_on_end(void *ctx) {
    struct held *held = ctx;
    held->f->held[held->idx] = NULL;
    atomic_fetch_add(&held->f->ended_count, 1);
    free(held);
}

static void fixture_release_all(void *arg) {
    struct fixture *f = arg;
    while (f->held_count > 0) { /* The last one first. */
        f->held_count--;
        struct held *held = f->held[f->held_count];
        if (held != NULL) {
            Novakms__V1__GetResponse answer = NOVAKMS__V1__GET_RESPONSE__INIT;
            if (!f->asks_first || net_call_recheck(held->call)) {
                held->closure(&answer, held->call);
            }
            free(held);
        }
    }
}

static void fixture_get(Novakms__V1__KmsService_Service *service,
                        const Novakms__V1__GetRequest *input,
                        Novakms__V1__GetResponse_Closure closure, void *closure_data) {
    (void)service;
    struct fixture *f = &the_fixture;
    struct span key = { input->key.data, input->key.len };
    Novakms__V1__GetResponse answer = NOVAKMS__V1__GET_RESPONSE__INIT;
    f->asks_first = span_equal(key, SPAN_LIT("recheck"));
    if (f->asks_first || span_equal(key, SPAN_LIT("release"))) {
        fixture_release_all(f);
        closure(&answer, closure_data);
        return;
    }
    if (span_equal(key, SPAN_LIT("count"))) {
        answer.expires_unix_ms = f->held_count;
        closure(&answer, closure_data);
        return;
    }
    bool is_write = span_equal(key, SPAN_LIT("write"));
    if (!is_write && !span_equal(key, SPAN_LIT("hold"))) {
        struct status why;
        status_set(&why, STATUS_NOT_FOUND, "%s", "no such key");
        net_call_fail(net_call_from(closure_data), &why, &fixture_details);
        return;
    }
    struct held *held = calloc(1, sizeof(*held));
    *held = (struct held){ net_call_from(closure_data), closure, f, f->held_count };
    f->held[f->held_count++] = held;
    net_call_on_end(held->call, fixture_on_end, held);
    if (is_write) {
        net_call_set_executed(held->call, &fixture_details);
    }
}

/* Gives the path back as key; length asks for that many bytes instead. With the path "write" it is
 * executed. */
static void fixture_derive(Novakms__V1__KmsService_Service *service,
                           const Novakms__V1__DeriveRequest *input,
                           Novakms__V1__DeriveResponse_Closure closure, void *closure_data) {
    (void)service;
    Novakms__V1__DeriveResponse answer = NOVAKMS__V1__DERIVE_RESPONSE__INIT;
    answer.key = input->path;
    uint8_t *big = NULL;
    if (span_equal((struct span){ input->path.data, input->path.len }, SPAN_LIT("write"))) {
        net_call_set_executed(net_call_from(closure_data), &fixture_details);
    }
    if (input->length > 0) {
        big = calloc(1, input->length);
        answer.key = (ProtobufCBinaryData){ input->length, big };
    }
    closure(&answer, closure_data);
    free(big);
}

static void fixture_whoami(Novakms__V1__KmsService_Service *service,
                           const Novakms__V1__WhoAmIRequest *input,
                           Novakms__V1__WhoAmIResponse_Closure closure, void *closure_data) {
    (void)service;
    (void)input;
    struct net_call *call = net_call_from(closure_data);
    Novakms__V1__WhoAmIResponse answer = NOVAKMS__V1__WHO_AM_IRESPONSE__INIT;
    struct wallet wallet = *net_call_wallet(call);
    answer.wallet = (ProtobufCBinaryData){ WALLET_BYTES, wallet.bytes };
    answer.app_id = net_call_worker_idx(call);
    closure(&answer, closure_data);
}

static void fixture_list(Novakms__V1__KmsService_Service *service,
                         const Novakms__V1__ListRequest *input,
                         Novakms__V1__ListResponse_Closure closure, void *closure_data) {
    (void)service;
    (void)input;
    closure(NULL, closure_data); /* A service that has nothing to say. */
}

static void fixture_status(Novakms__V1__NodeService_Service *service,
                           const Novakms__V1__GetStatusRequest *input,
                           Novakms__V1__GetStatusResponse_Closure closure, void *closure_data) {
    (void)service;
    (void)input;
    Novakms__V1__GetStatusResponse answer;
    novakms__v1__get_status_response__init(&answer);
    answer.serving = 1;
    closure(&answer, closure_data);
}

static Novakms__V1__KmsService_Service fixture_kms_service = {
    .base = NOVAKMS__V1__KMS_SERVICE__BASE_INIT,
    .derive = fixture_derive,
    .get = fixture_get,
    .list = fixture_list,
    .who_am_i = fixture_whoami,
};
static Novakms__V1__NodeService_Service fixture_node_service = {
    .base = NOVAKMS__V1__NODE_SERVICE__BASE_INIT,
    .get_status = fixture_status,
};

/* ---- Authority and streams ---- */

static void fixture_admit(void *ctx, struct net_conn *conn) {
    struct fixture *f = ctx;
    net_conn_set_context(conn, f);
    if (atomic_load(&f->refuses_admission)) {
        struct status why;
        status_set(&why, STATUS_PERMISSION_DENIED, "%s", "not registered");
        net_conn_refuse(conn, &why);
    } else if (atomic_load(&f->admits_later)) {
        f->pending[f->pending_count++] = conn;
    } else {
        net_conn_admit(conn);
    }
}

static bool fixture_check(void *ctx, struct net_call *call, bool is_recheck, struct status *why,
                          uint32_t *retry_after_ms) {
    struct fixture *f = ctx;
    if (net_call_context(call) != f) {
        return false;
    }
    if (atomic_load(is_recheck ? &f->refuses_rechecks : &f->refuses_calls)) {
        unsigned code = is_recheck ? atomic_load(&f->recheck_code) : 0;
        status_set(why, code == 0 ? STATUS_RESOURCE_EXHAUSTED : (enum status_code)code, "%s",
                   "too many");
        *retry_after_ms = 1234;
        return false;
    }
    return true;
}

static void fixture_closed(void *ctx, struct net_conn *conn) {
    struct fixture *f = ctx;
    for (size_t i = 0; i < f->pending_count; i++) {
        f->pending[i] = f->pending[i] == conn ? NULL : f->pending[i];
    }
    atomic_fetch_add(&f->closed_count, 1);
}

static size_t fixture_stream_data(struct net_conn *conn, struct span input) {
    net_conn_write(conn, input);
    if (input.ptr[input.len - 1] == '!') {
        net_conn_finish(conn);
    }
    return input.len;
}

static const struct net_conn_ops fixture_stream_ops = { .data = fixture_stream_data };

static const struct net_conn_ops *fixture_stream_accept(void *ctx, struct net_conn *conn) {
    (void)conn;
    return ctx == NULL ? NULL : &fixture_stream_ops;
}

static RC fixture_worker(void *ctx, uint32_t worker_idx, uv_loop_t *loop,
                         struct net_worker_cfg *out) {
    struct fixture *f = ctx;
    (void)worker_idx;
    (void)loop;
    *out = (struct net_worker_cfg){
        .services = { { &fixture_kms_service.base, false }, { &fixture_node_service.base, true } },
        .service_count = 2,
        .authority = { f, fixture_admit, fixture_check, fixture_closed },
        .http = { f, fixture_stream_accept },
    };
    return OK;
}

/* Zero fields of cfg have the fixture's values: one worker, loopback, port 0. */
static void fixture_start(struct fixture *f, struct net_server_cfg cfg) {
    memset(f, 0, sizeof(*f));
    assert_int_equal(sem_init(&f->drained, 0, 0), 0);
    f->server_credential = test_credential(200, TEST_CHAIN_ID, -1);
    f->server_tls = test_server_config(f->server_credential);
    cfg.host = "127.0.0.1";
    cfg.tls = f->server_tls;
    cfg.worker_count = cfg.worker_count == 0 ? 1 : cfg.worker_count;
    cfg.worker_init = fixture_worker;
    cfg.ctx = f;
    struct status why;
    assert_ok(net_server_init(&f->server, &cfg));
    assert_int_equal(net_server_port(f->server), 0);
    assert_ok(net_server_start(f->server));
    assert_ok(net_server_listen(f->server, &why));
    assert_int_not_equal(net_server_port(f->server), 0);
}

static void fixture_stop(struct fixture *f) {
    net_server_close(&f->server);
    net_server_close(&f->server);
    tls_config_close(&f->server_tls);
    identity_credential_close(&f->server_credential);
    for (size_t i = 0; i < f->held_count; i++) {
        assert_null(f->held[i]); /* Whatever was held was told of its end. */
    }
    (void)sem_destroy(&f->drained);
}

/* ---- The client ---- */

struct client {
    int fd;
    struct tls *tls; /* NULL: plain. */
    uint8_t *input;  /* Decrypted. */
    size_t input_len;
    size_t input_bytes;
    size_t consumed; /* Of input, by the frame that was lent last. */
    struct rc rc;    /* Of the handshake. */
};

static int client_socket(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr any;
    memcpy(&any, &address, sizeof(any));
    assert_int_equal(connect(fd, &any, sizeof(address)), 0);
    return fd;
}

static void client_send_raw(int fd, struct span bytes) {
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* The server hung up: what it said is read next. */
        }
        bytes = (struct span){ bytes.ptr + n, bytes.len - (size_t)n };
    }
}

/* Gives 0 at the end of the stream. */
static size_t client_recv_raw(int fd, uint8_t *buf, size_t bytes) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&p, 1, FIXTURE_WAIT_MS), 1);
    ssize_t n = recv(fd, buf, bytes, 0);
    return n > 0 ? (size_t)n : 0;
}

static void client_make_room(struct client *c) {
    if (c->input_bytes - c->input_len < TLS_PLAIN_BYTES_MAX) {
        c->input_bytes *= 2;
        c->input = realloc(c->input, c->input_bytes);
    }
}

static struct rc client_decrypt(struct client *c, struct tls_io *io) {
    struct rc rc = OK;
    while (rc.err == E_OK) {
        size_t n = 0;
        client_make_room(c);
        rc = tls_read(c->tls, io, c->input + c->input_len, c->input_bytes - c->input_len, &n);
        c->input_len += n;
    }
    return rc;
}

static void client_handshake(struct client *c) {
    uint8_t in[4096];
    uint8_t out[8192];
    size_t in_len = 0;
    for (;;) {
        struct tls_io io = { .in = { in, in_len }, .out = { out, 0, sizeof(out) } };
        c->rc = tls_handshake(c->tls, &io);
        client_send_raw(c->fd, writer_span(&io.out));
        if (c->rc.err == E_OK) {
            client_decrypt(c, &io); /* What came with the last flight. */
        }
        if (c->rc.err != E_AGAIN) {
            return;
        }
        in_len = client_recv_raw(c->fd, in, sizeof(in));
        if (in_len == 0) {
            c->rc = ERR(CLOSED);
            return;
        }
    }
}

/* credential is taken; NULL: anonymous. alpn NULL: no TLS. */
static struct client client_open(struct fixture *f, struct identity_credential *credential,
                                 const char *alpn) {
    struct client c = { .fd = client_socket(net_server_port(f->server)) };
    c.input_bytes = (size_t)64 * 1024;
    c.input = malloc(c.input_bytes);
    if (alpn != NULL) {
        struct tls_config *config = test_client_config(credential, alpn);
        assert_ok(tls_client_init(&c.tls, config, NULL, test_accept_any, NULL));
        tls_config_close(&config);
        client_handshake(&c);
    }
    identity_credential_close(&credential);
    return c;
}

static struct client client_as(struct fixture *f, uint8_t seed) {
    struct client c = client_open(f, test_credential(seed, TEST_CHAIN_ID, -1), TLS_ALPN_NOVAKMS);
    assert_ok(c.rc);
    return c;
}

static void client_close(struct client *c) {
    tls_close(&c->tls);
    if (c->fd >= 0) {
        (void)close(c->fd);
    }
    free(c->input);
    *c = (struct client){ .fd = -1 };
}

static void client_send(struct client *c, struct span plain) {
    size_t bytes = 2 * TLS_RECORD_BYTES_MAX;
    uint8_t *out = malloc(bytes);
    while (plain.len > 0) {
        struct tls_io io = { .out = { out, 0, bytes } };
        size_t n = 0;
        assert_ok(tls_write(c->tls, &io, plain, &n));
        client_send_raw(c->fd, writer_span(&io.out));
        plain = (struct span){ plain.ptr + n, plain.len - n };
    }
    free(out);
}

static void client_send_frame(struct client *c, const novakms_v1_FrameHeader *header,
                              struct span payload) {
    size_t bytes = FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX + payload.len;
    uint8_t *buf = malloc(bytes);
    struct writer w = { buf, 0, bytes };
    assert_ok(frame_write(&w, header, payload, SIZE_MAX));
    client_send(c, writer_span(&w));
    free(buf);
}

/* timeout_ms in the frame. */
static void client_request(struct client *c, uint64_t id, const char *method, struct span payload,
                           uint32_t timeout_ms) {
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_request(&header, id, span_str(method), timeout_ms);
    client_send_frame(c, &header, payload);
}

#define METHOD(name) "novakms.v1.KmsService/" name

static inline void client_derive(struct client *c, uint64_t id, const char *path, uint32_t length) {
    uint8_t buf[256];
    Novakms__V1__DeriveRequest request = NOVAKMS__V1__DERIVE_REQUEST__INIT;
    uint8_t text[128];
    request.path = (ProtobufCBinaryData){ strlen(path), text };
    memcpy(text, path, strlen(path));
    request.length = length;
    size_t len = novakms__v1__derive_request__pack(&request, buf);
    client_request(c, id, METHOD("Derive"), (struct span){ buf, len }, 0);
}

static void client_get(struct client *c, uint64_t id, const char *key, uint32_t timeout_ms) {
    uint8_t buf[64];
    uint8_t text[32];
    Novakms__V1__GetRequest request = NOVAKMS__V1__GET_REQUEST__INIT;
    request.key = (ProtobufCBinaryData){ strlen(key), text };
    memcpy(text, key, strlen(key));
    size_t len = novakms__v1__get_request__pack(&request, buf);
    client_request(c, id, METHOD("Get"), (struct span){ buf, len }, timeout_ms);
}

/* More plaintext. False at the end of the stream. */
static bool client_read_more(struct client *c) {
    uint8_t in[8192];
    uint8_t out[256];
    size_t len = client_recv_raw(c->fd, in, sizeof(in));
    struct tls_io io = { .in = { in, len }, .out = { out, 0, sizeof(out) } };
    return len > 0 && client_decrypt(c, &io).err == E_AGAIN;
}

/* The next frame, its payload lent until the next call. False at the end of the stream. */
static bool client_frame(struct client *c, struct frame *out) {
    memmove(c->input, c->input + c->consumed, c->input_len - c->consumed);
    c->input_len -= c->consumed;
    c->consumed = 0;
    bool is_open = true;
    for (;;) {
        struct reader r = { c->input, c->input_len };
        const char *why = NULL;
        struct rc rc = frame_read(&r, SIZE_MAX, out, &why);
        if (rc.err == E_OK) {
            c->consumed = c->input_len - r.len;
            return true;
        }
        assert_err_equal(rc, E_AGAIN);
        if (!is_open) {
            return false;
        }
        is_open = client_read_more(c);
    }
}

/* The next frame must be a response to that call. */
static struct frame client_response(struct client *c, uint64_t id, uint32_t status) {
    struct frame frame;
    assert_true(client_frame(c, &frame));
    assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_response_tag);
    assert_int_equal(frame.header.kind.response.call_id, id);
    assert_int_equal(frame.header.kind.response.status, status);
    assert_int_equal(frame.header.kind.response.message.size > 0, status != STATUS_OK);
    return frame;
}

/* The next frame must be a goaway, and then the end of the stream. */
static inline void client_goaway(struct client *c, uint32_t status) {
    struct frame frame;
    assert_true(client_frame(c, &frame));
    assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_goaway_tag);
    assert_int_equal(frame.header.kind.goaway.status, status);
    assert_true(frame.header.kind.goaway.reason.size > 0);
    assert_false(client_frame(c, &frame));
}
