/* SPDX-License-Identifier: Apache-2.0 */
/* A client's channel and a scripted server on one loop, for the tests of channels. */
#pragma once

#include "net/channel.h"
#include "net/dial.h"
#include "scripted_server.h"

#define SERVER_SEED 0x11
#define CLIENT_SEED 0x22

struct answer {
    size_t count; /* Closures that ran. */
    bool is_ok;
    char value[64];
    size_t value_len;
    struct net_outcome outcome;
    uint64_t id;
    struct world *world;
};

struct world {
    uv_loop_t loop;
    struct scripted_server server;
    struct net_budget budget;
    struct net_io *io;
    struct tls_config *tls;
    struct net_channel *channel;
    struct net_channel_cfg cfg;
    bool is_refusing; /* The check of the server's wallet. */
    size_t check_count;
    bool is_channel_gone;
    void (*in_closure)(struct answer *answer);
};

static inline struct rc check(void *ctx, const struct identity_peer *peer, struct status *why) {
    struct world *w = ctx;
    (void)peer;
    w->check_count++;
    if (w->is_refusing) {
        status_set(why, STATUS_UNAUTHENTICATED, "not a member");
        return ERR(DENIED);
    }
    return OK;
}

/* Makes a channel to the server with what cfg says beyond the usual. */
static inline void open_channel(struct world *w, struct net_channel_cfg cfg) {
    char target[NET_TARGET_BYTES];
    (void)snprintf(target, sizeof(target), "127.0.0.1:%u", w->server.port);
    cfg.io = w->io;
    cfg.target = cfg.target == NULL ? target : cfg.target;
    cfg.tls = w->tls;
    cfg.check = check;
    cfg.check_ctx = w;
    cfg.backoff_min_ms = 1;
    cfg.backoff_max_ms = 2;
    struct status why = { 0 };
    assert_ok(net_channel_init(&w->channel, &cfg, &why));
}

static inline struct world *make_world(void) {
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    scripted_start(&w->server, &w->loop, SERVER_SEED);
    w->budget.bytes_max = (size_t)256 * 1024 * 1024;
    assert_ok(net_io_init(&w->io, &w->loop, &w->budget));
    struct identity_credential *credential = test_credential(CLIENT_SEED, TEST_CHAIN_ID, -1);
    w->tls = test_client_config(credential, TLS_ALPN_NOVAKMS);
    identity_credential_close(&credential);
    return w;
}

static inline struct world *open_world(struct net_channel_cfg cfg) {
    struct world *w = make_world();
    open_channel(w, cfg);
    return w;
}

static inline void channel_gone(void *ctx) {
    ((struct world *)ctx)->is_channel_gone = true;
}

static inline void close_world(struct world *w) {
    if (w->channel != NULL) {
        net_channel_close(&w->channel, w, channel_gone);
        net_channel_close(&w->channel, w, channel_gone); /* Twice is allowed. */
    }
    scripted_drop(&w->server);
    RUN_UNTIL(w, w->is_channel_gone);
    (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    net_io_close(w->io, NULL, NULL);
    scripted_close(&w->server);
    tls_config_close(&w->tls);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    assert_int_equal(w->budget.used_bytes, 0);
    free(w);
}

static inline void on_get(const Novakms__V1__GetResponse *message, void *data) {
    struct answer *a = data;
    a->count++;
    a->outcome = *net_channel_outcome(a->world->channel);
    a->is_ok = message != NULL;
    if (message != NULL) {
        a->value_len =
            message->value.len < sizeof(a->value) ? message->value.len : sizeof(a->value);
        if (a->value_len > 0) {
            memcpy(a->value, message->value.data, a->value_len);
        }
    }
    if (a->world->in_closure != NULL) {
        a->world->in_closure(a);
    }
}

static inline void start_get_of(struct world *w, struct answer *a, struct span key) {
    ProtobufCService *service =
        net_channel_service(w->channel, &novakms__v1__kms_service__descriptor);
    assert_non_null(service);
    Novakms__V1__GetRequest request = NOVAKMS__V1__GET_REQUEST__INIT;
    request.key = (ProtobufCBinaryData){ key.len, (uint8_t *)(uintptr_t)key.ptr };
    *a = (struct answer){ .world = w };
    novakms__v1__kms_service__get(service, &request, on_get, a);
    assert_int_equal(a->count, 0); /* Never inside the stub. */
    a->id = net_channel_last_call(w->channel);
    assert_true(a->id > 0);
}

static inline void start_get(struct world *w, struct answer *a, const char *key) {
    start_get_of(w, a, span_str(key));
}

static inline void assert_answered(const struct answer *a, const char *value) {
    assert_int_equal(a->count, 1);
    if (!a->is_ok) {
        fail_msg("%s", a->outcome.status.text);
    }
    assert_int_equal(a->value_len, strlen(value));
    assert_memory_equal(a->value, value, a->value_len);
    assert_int_equal(a->outcome.executed, NET_ANSWERED);
}

static inline void assert_failed(const struct answer *a, enum status_code code,
                                 enum net_executed executed) {
    assert_int_equal(a->count, 1);
    assert_false(a->is_ok);
    assert_string_equal(status_name(a->outcome.status.code), status_name(code));
    assert_int_equal(a->outcome.executed, executed);
    assert_true(a->outcome.status.text[0] != '\0');
}

static inline void get_and_wait(struct world *w, struct answer *a, const char *key) {
    start_get(w, a, key);
    RUN_UNTIL(w, a->count > 0);
}
