/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's tests share: a configuration, short calls, spans that live long enough. */
#pragma once

#include "store/store.h"
#include "test.h"

#define NOW UINT64_C(1700000000000)
#define HLC(ms, logical) ((uint64_t)(ms) << STORE_HLC_LOGICAL_BITS | (uint64_t)(logical))
#define SKEW_MS 5000
#define RETENTION_MS 86400000

static inline struct store_cfg fixture_cfg(uint8_t writer) {
    return (struct store_cfg){ .hash_key = { 1, 2, 3 },
                               .writer = { writer },
                               .app_bytes_max = 10 << 20,
                               .total_bytes_max = 100 << 20,
                               .hard_bytes_max = 200 << 20,
                               .sealed_bytes_max = 1 << 20,
                               .tombstone_count_max = 10000,
                               .tombstone_retention_ms = RETENTION_MS,
                               .clock_skew_ms = SKEW_MS,
                               .namespace_count_max = 100,
                               .writer_count_max = 64 };
}

static inline struct store *fixture_open(uint8_t writer) {
    struct store_cfg cfg = fixture_cfg(writer);
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    return s;
}

static inline struct store_stamp fixture_stamp(uint64_t ms, uint64_t logical, uint8_t writer) {
    return (struct store_stamp){ HLC(ms, logical), { writer } };
}

/* Puts in app 1; 0 for ttl_ms never expires. */
static inline struct store_written fixture_put(struct store *s, const char *key, const char *value,
                                               uint64_t ttl_ms, uint64_t now_unix_ms) {
    struct store_write w = { .app_id = 1,
                             .key = span_str(key),
                             .sealed = span_str(value),
                             .ttl_ms = ttl_ms,
                             .now_unix_ms = now_unix_ms };
    struct store_written out;
    assert_ok(store_put(s, &w, &out));
    assert_int_equal(out.refusal, STORE_REFUSED_NONE);
    return out;
}

static inline struct store_written fixture_delete(struct store *s, const char *key,
                                                  uint64_t now_unix_ms) {
    struct store_write w = { .app_id = 1, .key = span_str(key), .now_unix_ms = now_unix_ms };
    struct store_written out;
    assert_ok(store_delete(s, &w, &out));
    return out;
}

static inline void assert_span(struct span got, const char *want) {
    assert_int_equal(got.len, strlen(want));
    assert_true(span_equal(got, span_str(want)));
}

static inline void assert_value(const struct store *s, const char *key, uint64_t now_unix_ms,
                                const char *want) {
    struct store_record r;
    assert_ok(store_get(s, 1, span_str(key), now_unix_ms, &r));
    assert_span(r.sealed, want);
}

static inline void assert_absent(const struct store *s, const char *key, uint64_t now_unix_ms) {
    struct store_record r;
    assert_err(store_get(s, 1, span_str(key), now_unix_ms, &r), NOT_FOUND);
}

static inline struct store_remote fixture_remote(const struct store_record *r) {
    return (struct store_remote){ .app_id = r->app_id,
                                  .key = r->key,
                                  .sealed = r->sealed,
                                  .stamp = r->stamp,
                                  .replaced = r->replaced,
                                  .ttl_ms = r->ttl_ms,
                                  .tombstone = r->state == STORE_TOMBSTONE };
}
