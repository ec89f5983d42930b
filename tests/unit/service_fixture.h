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
    struct replica *replica; /* Without other members, or with fixture_set_members. */
    atomic_bool is_stopping;
    struct service_readiness readiness;
    struct service_durability_stats durability_stats;
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

/* Every member answers a pull with nothing: its boot is known then, so that what it acknowledges
 * counts. */
static inline void fixture_answer_pulls(struct fixture *f, struct store *store) {
    const struct replica_now now = { .unix_ms = FIXTURE_NOW_MS };
    struct replica_todo todo;
    struct replica_request request;
    struct store_known_entry entries[32];
    char why[REPLICA_REASON_BYTES];
    for (replica_next(f->replica, store, &now, &todo); todo.kind == REPLICA_PULL;
         replica_next(f->replica, store, &now, &todo)) {
        const struct replica_ask ask = { todo.ticket, entries, 32 };
        assert_ok(replica_pull_request(f->replica, store, &ask, &now, &request));
        struct replica_page page = { .state = { .incarnation = { todo.wallet.bytes[0], 7 },
                                                .unix_ms = FIXTURE_NOW_MS,
                                                .in_service = true } };
        memcpy(page.state.secret_hash, f->master.hash, sizeof(page.state.secret_hash));
        memcpy(page.requester_incarnation, store_writer(store), STORE_WRITER_BYTES);
        const struct replica_arrival arrival = { todo.ticket, &page };
        assert_int_equal(replica_page_begin(f->replica, store, &arrival, &now, why), REPLICA_TAKE);
    }
}

/* The node itself and `count` others, wallets 1, 2...; it is in service. */
static inline void fixture_set_members(struct fixture *f, size_t count) {
    static const char *const urls[] = { "https://a:1", "https://b:1", "https://c:1" };
    const struct replica_now now = { .unix_ms = FIXTURE_NOW_MS };
    const struct replica_member self = { .wallet = { { 0xaa } }, .url = "https://self:1" };
    struct replica_member members[3] = { 0 };
    assert_true(count <= 3);
    for (size_t i = 0; i < count; i++) {
        members[i] = (struct replica_member){ { { (uint8_t)(i + 1) } }, urls[i], i };
    }
    struct store *store = service_kv_lock(f->shared.kv);
    assert_ok(replica_set_members(f->replica, &self, members, count, &now));
    fixture_answer_pulls(f, store);
    service_kv_unlock(f->shared.kv, true);
}

static inline void fixture_open_replica(struct fixture *f) {
    const struct replica_cfg cfg = {
        .interval_ms = 10000,
        .wait_ms = 10000,
        .page_bytes_max = 1 << 20,
        .backoff_min_ms = 100,
        .backoff_max_ms = 1000,
        .settle_ms = 1000,
        .start_wait_ms = 1000,
        .clock_skew_ms = FIXTURE_SKEW_MS,
        .head_lag_max = 100,
    };
    assert_ok(replica_init(&f->replica, &cfg));
    f->shared.replica = f->replica;
    f->shared.is_stopping = &f->is_stopping;
    service_readiness_init(&f->readiness);
    (void)service_readiness_set(&f->readiness, SERVICE_GATE_STARTING, NULL);
    f->shared.readiness = &f->readiness;
    f->shared.durability_stats = &f->durability_stats;
    replica_set_secret(f->replica, f->master.hash, true);
    fixture_set_members(f, 0);
}

/* A member's request with an empty vector, but for what it acknowledges. */
static inline enum replica_answer fixture_pull(struct fixture *f, uint8_t wallet,
                                               const struct store_stamp *acknowledged) {
    struct store_known_entry entry = { .hlc = acknowledged->hlc };
    memcpy(entry.writer, acknowledged->writer, sizeof(entry.writer));
    struct replica_request request = {
        .state = { .incarnation = { wallet, 7 }, .unix_ms = FIXTURE_NOW_MS, .in_service = true },
        .known = { &entry, acknowledged->hlc != 0, 0 }
    };
    memcpy(request.state.secret_hash, f->master.hash, sizeof(request.state.secret_hash));
    const struct wallet who = { { wallet } };
    struct store_known_entry entries[32];
    const struct replica_serve serve = {
        .wallet = &who, .request = &request, .entries = entries, .entry_count_max = 32
    };
    uint64_t stamp_ms = store_stamp_unix_ms(acknowledged);
    const struct replica_now now = { .unix_ms =
                                         stamp_ms > FIXTURE_NOW_MS ? stamp_ms : FIXTURE_NOW_MS };
    struct replica_served served;
    const struct store *store = service_kv_lock(f->shared.kv);
    enum replica_answer answer = replica_serve(f->replica, store, &serve, &now, &served);
    service_kv_unlock(f->shared.kv, true);
    return answer;
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
    fixture_open_replica(f);
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
    replica_close(&f->replica);
    service_readiness_close(&f->readiness);
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
