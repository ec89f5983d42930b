/* SPDX-License-Identifier: Apache-2.0 */
/* A libnovakms client on a loop that it shares with scripted servers, for the client's tests. */
#pragma once

#include "client/novakms.h"
#include "novakms/v1/kms.pb-c.h"
#include "novakms/v1/node.pb-c.h"
#include "scripted_server.h"

#define SERVER_COUNT 2u
#define FIRST_SEED 0x41 /* Server i's wallet comes from FIRST_SEED + i. */
#define CLIENT_SEED 0x22

struct world {
    uv_loop_t loop;
    struct scripted_server servers[SERVER_COUNT];
    struct novakms *client;
    struct novakms_result *result; /* The last one that was told. */
    size_t result_count;
    /* How requests are answered; NULL: by the test. */
    void (*answer)(const struct scripted_request *r);
    bool is_closed;
    size_t stub_count;
    enum novakms_code stub_code;
    char stub_text[NOVAKMS_TEXT_BYTES];
    char targets[128];
    char wallets[128];
};

static inline void on_frame(struct scripted_server *s, struct net_conn *conn,
                            const struct frame *frame) {
    (void)conn;
    struct world *w = s->loop->data;
    if (frame->header.which_kind == novakms_v1_FrameHeader_request_tag && w->answer != NULL) {
        w->answer(&s->requests[s->request_count - 1]);
    }
}

static inline struct wallet wallet_of(uint8_t seed) {
    struct identity_credential *credential = test_credential(seed, TEST_CHAIN_ID, -1);
    struct wallet wallet = *identity_credential_wallet(credential);
    identity_credential_close(&credential);
    return wallet;
}

/* The servers, and what a client's cfg says of the first `count` of them. */
static inline struct world *make_world(size_t count) {
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    w->loop.data = w;
    for (size_t i = 0; i < SERVER_COUNT; i++) {
        scripted_start(&w->servers[i], &w->loop, (uint8_t)(FIRST_SEED + i));
        w->servers[i].is_echoing = false;
        w->servers[i].on_frame = on_frame;
    }
    for (size_t i = 0; i < count; i++) {
        char wallet_text[WALLET_TEXT_BYTES];
        struct wallet wallet = wallet_of((uint8_t)(FIRST_SEED + i));
        size_t at = strlen(w->targets);
        (void)snprintf(w->targets + at, sizeof(w->targets) - at, "%s127.0.0.1:%u",
                       i == 0 ? "" : ",", w->servers[i].port);
        at = strlen(w->wallets);
        (void)snprintf(w->wallets + at, sizeof(w->wallets) - at, "%s%s", i == 0 ? "" : ",",
                       wallet_format(&wallet, wallet_text));
    }
    return w;
}

static inline void open_client(struct world *w, struct novakms_cfg cfg) {
    char error[NOVAKMS_TEXT_BYTES];
    cfg.servers = cfg.servers == NULL ? w->targets : cfg.servers;
    cfg.server_wallets = cfg.server_wallets == NULL ? w->wallets : cfg.server_wallets;
    cfg.chain_id = TEST_CHAIN_ID;
    if (cfg.connect_timeout_ms == 0) {
        cfg.connect_timeout_ms = RUN_MS_MAX; /* A busy machine is no hung server. */
    }
    if (novakms_open_on(&w->loop, &cfg, &w->client, error) != NOVAKMS_OK) {
        fail_msg("%s", error);
    }
}

static inline struct world *open_world(size_t count) {
    struct world *w = make_world(count);
    uint8_t key[NOVAKMS_KEY_BYTES];
    memset(key, CLIENT_SEED, sizeof(key));
    open_client(w, (struct novakms_cfg){ .identity_key = key });
    return w;
}

static inline struct world *open_world_anonymous(void) {
    struct world *w = make_world(1);
    open_client(w, (struct novakms_cfg){ 0 });
    return w;
}

static inline void on_client_closed(void *data) {
    ((struct world *)data)->is_closed = true;
}

static inline void close_world(struct world *w) {
    if (w->client != NULL) {
        novakms_close_notify(&w->client, w, on_client_closed);
        assert_null(w->client);
    }
    novakms_close(&w->client); /* NULL is accepted. */
    for (size_t i = 0; i < SERVER_COUNT; i++) {
        scripted_drop(&w->servers[i]);
    }
    RUN_UNTIL(w, w->is_closed);
    novakms_free(&w->result);
    for (size_t i = 0; i < SERVER_COUNT; i++) {
        scripted_stop_listening(&w->servers[i]);
    }
    for (size_t i = 0; i < SERVER_COUNT; i++) {
        scripted_close(&w->servers[i]);
    }
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
}

/* A novakms_result_cb. */
static inline void keep(void *data, struct novakms_result *result) {
    struct world *w = data;
    assert_non_null(result);
    assert_null(w->result);
    w->result = result;
    w->result_count++;
}

static inline struct novakms_result *wait_result(struct world *w) {
    RUN_UNTIL(w, w->result != NULL);
    struct novakms_result *result = w->result;
    w->result = NULL;
    return result;
}

static inline void assert_result(const struct novakms_result *r, enum novakms_code code) {
    if (r->code != code) {
        fail_msg("%s: %s", novakms_code_name(r->code), r->text);
    }
    assert_true((code == NOVAKMS_OK) == (r->text[0] == '\0'));
}

static inline void assert_span(struct novakms_span span, const char *text) {
    assert_int_equal(span.len, strlen(text));
    assert_memory_equal(span.ptr, text, span.len);
}

/* Generated messages want text that could be changed, and do not change it. */
static inline char *mutable_text(const char *constant) {
    char *out = NULL;
    memcpy(&out, &constant, sizeof(out));
    return out;
}

static inline ProtobufCBinaryData bin(const char *text) {
    return (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
}

static inline Novakms__V1__Stamp make_stamp(uint64_t hlc) {
    static uint8_t writer[NOVAKMS_WRITER_BYTES] = { 1 };
    Novakms__V1__Stamp stamp = NOVAKMS__V1__STAMP__INIT;
    stamp.hlc = hlc;
    stamp.writer = (ProtobufCBinaryData){ sizeof(writer), writer };
    return stamp;
}

/* A Get of "key" from start to end. */
static inline struct novakms_result *get_key(struct world *w) {
    struct novakms_get_args args = { .key = novakms_text("key") };
    assert_true(novakms_get_start(w->client, &args, w, keep) > 0);
    return wait_result(w);
}

static inline uint64_t put(struct world *w) {
    struct novakms_put_args args = { .key = novakms_text("key"), .value = novakms_text("v") };
    return novakms_put_start(w->client, &args, w, keep);
}

static inline uint64_t start_get(struct world *w) {
    struct novakms_get_args args = { .key = novakms_text("key") };
    return novakms_get_start(w->client, &args, w, keep);
}

static inline void answer_value(const struct scripted_request *r) {
    scripted_answer(r, SPAN_LIT("value"));
}

static inline void answer_stored(const struct scripted_request *r) {
    Novakms__V1__PutResponse m = NOVAKMS__V1__PUT_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(7);
    m.stamp = &stamp;
    scripted_answer_with(r, &m.base);
}

static inline struct novakms_result *wait_ok(struct world *w) {
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    return r;
}
