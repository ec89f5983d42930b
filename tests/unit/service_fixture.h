/* SPDX-License-Identifier: Apache-2.0 */
/* One worker of the service over a real store, on a clock that the test sets. */
#pragma once

#include "service/methods.h"
#include "test.h"

#define FIXTURE_NOW_MS UINT64_C(1700000000000)
#define FIXTURE_SKEW_MS 5000
#define FIXTURE_VALUE_MAX 4096
#define FIXTURE_ANSWER_MAX ((size_t)4 << 20)

struct fixture {
    struct kdf_master master;
    struct service_clock clock;
    struct service_shared shared;
    struct service_worker worker;
    struct service_caller caller;
    struct arena arena;
    struct service_call call;
};

static inline struct store_cfg fixture_store_cfg(void) {
    return (struct store_cfg){
        .hash_key = { 1 },
        .writer = { 0xaa, 1 },
        .app_bytes_max = 1 << 20,
        .total_bytes_max = 2 << 20,
        .hard_bytes_max = 4 << 20,
        .sealed_bytes_max = FIXTURE_VALUE_MAX + SERVICE_SEAL_BYTES,
        .tombstone_count_max = 100,
        .tombstone_retention_ms = 1000000,
        .clock_skew_ms = FIXTURE_SKEW_MS,
        .namespace_count_max = 4,
        .writer_count_max = 16,
    };
}

static inline void fixture_open_with(struct fixture *f, const uint8_t *secret,
                                     const struct store_cfg *cfg) {
    memset(f, 0, sizeof(*f));
    assert_ok(kdf_master_init(&f->master, secret));
    assert_ok(service_kv_init(&f->shared.kv, cfg));
    service_clock_init(&f->clock, FIXTURE_SKEW_MS, 0, FIXTURE_NOW_MS);
    f->shared.master = &f->master;
    f->shared.clock = &f->clock;
    f->shared.kms_app_id = 49;
    f->shared.value_bytes_max = FIXTURE_VALUE_MAX;
    f->shared.read_wait_ms = 1000;
    f->worker.shared = &f->shared;
    assert_ok(service_keys_init(&f->worker.keys, &f->master, 2));
    f->caller = (struct service_caller){ .app_id = 7, .version_id = 8, .instance_id = 9 };
    f->caller.wallet.bytes[0] = 0xab;
    arena_init(&f->arena, (size_t)32 << 20);
}

static inline void fixture_open(struct fixture *f) {
    static const uint8_t secret[KDF_MASTER_BYTES] = { 1, 2, 3 };
    struct store_cfg cfg = fixture_store_cfg();
    fixture_open_with(f, secret, &cfg);
}

static inline void fixture_close(struct fixture *f) {
    arena_close(&f->arena);
    service_keys_close(&f->worker.keys);
    service_keys_close(&f->worker.keys);
    service_kv_close(&f->shared.kv);
    service_kv_close(&f->shared.kv);
    kdf_master_close(&f->master);
}

/* A fresh call; what the last one gave is gone. */
static inline struct service_call *fixture_call(struct fixture *f) {
    arena_reset(&f->arena);
    f->call = (struct service_call){ .caller = &f->caller,
                                     .arena = &f->arena,
                                     .now_unix_ms = service_clock_unix_ms(&f->clock, 0),
                                     .answer_bytes_max = FIXTURE_ANSWER_MAX };
    return &f->call;
}

/* Protobuf's bytes of a string that the message does not change. */
static inline ProtobufCBinaryData fixture_bytes(const void *ptr, size_t len) {
    return (ProtobufCBinaryData){ len, (uint8_t *)(uintptr_t)ptr };
}

static inline ProtobufCBinaryData fixture_text(const char *text) {
    return fixture_bytes(text, strlen(text));
}

#define assert_bytes_equal(bytes, text)                       \
    do {                                                      \
        assert_int_equal((bytes).len, strlen(text));          \
        assert_memory_equal((bytes).data, text, (bytes).len); \
    } while (0)

/* Calls a method into a fresh response. */
#define CALL(f, name, response_name, in, out)   \
    (novakms__v1__##response_name##__init(out), \
     service_##name(&(f)->worker, fixture_call(f), (in), (out)))

#define assert_failed(f, outcome, want)                      \
    do {                                                     \
        assert_int_equal(outcome, SERVICE_FAILED);           \
        assert_int_equal((f)->call.why.code, STATUS_##want); \
        assert_true((f)->call.why.text[0] != '\0');          \
    } while (0)

struct fixture_value {
    const char *key;
    const void *value;
    size_t value_len;
    uint64_t ttl_ms;
};

static inline enum service_outcome fixture_put(struct fixture *f, const struct fixture_value *arg,
                                               struct store_stamp *stamp) {
    Novakms__V1__PutRequest in = NOVAKMS__V1__PUT_REQUEST__INIT;
    in.key = fixture_text(arg->key);
    in.value = fixture_bytes(arg->value, arg->value_len);
    in.ttl_ms = arg->ttl_ms;
    Novakms__V1__PutResponse out;
    enum service_outcome outcome = CALL(f, put, put_response, &in, &out);
    if (outcome == SERVICE_ANSWERED && stamp != NULL) {
        assert_non_null(out.stamp);
        stamp->hlc = out.stamp->hlc;
        assert_int_equal(out.stamp->writer.len, STORE_WRITER_BYTES);
        memcpy(stamp->writer, out.stamp->writer.data, STORE_WRITER_BYTES);
    }
    return outcome;
}

static inline void fixture_put_text(struct fixture *f, const char *key, const char *value) {
    const struct fixture_value arg = { key, value, strlen(value), 0 };
    assert_int_equal(fixture_put(f, &arg, NULL), SERVICE_ANSWERED);
}

static inline enum service_outcome fixture_get(struct fixture *f, const char *key,
                                               Novakms__V1__GetResponse *out) {
    Novakms__V1__GetRequest in = NOVAKMS__V1__GET_REQUEST__INIT;
    in.key = fixture_text(key);
    return CALL(f, get, get_response, &in, out);
}
