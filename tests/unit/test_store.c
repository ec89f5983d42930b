/* SPDX-License-Identifier: Apache-2.0 */
/* Put, get, delete: what they store, what they refuse, and what that leaves unchanged. */
#include "store_fixture.h"

static const uint8_t filler[STORE_KEY_BYTES_MAX + 1] = "filler";

static void test_put_get(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_written first = fixture_put(s, "k", "one", 0, NOW);
    assert_false(first.existed);
    assert_int_equal(first.stamp.hlc, HLC(NOW, 0));
    assert_int_equal(first.stamp.writer[0], 7);
    struct store_written second = fixture_put(s, "k", "two!", 0, NOW);
    assert_true(second.existed);
    assert_int_equal(second.stamp.hlc, HLC(NOW, 1));
    fixture_put(s, "k", "2222", 0, NOW);
    struct store_record r;
    assert_ok(store_get(s, 1, SPAN_LIT("k"), NOW, &r));
    assert_span(r.sealed, "2222");
    assert_span(r.key, "k");
    assert_int_equal(r.app_id, 1);
    assert_int_equal(r.state, STORE_LIVE);
    assert_int_equal(r.expires_unix_ms, 0);
    assert_int_equal(store_stamp_compare(&r.replaced, &second.stamp), 0);
    assert_err(store_get(s, 2, SPAN_LIT("k"), NOW, &r), NOT_FOUND);
    assert_true(store_stamp_is_none(&r.stamp));
    assert_err(store_get(s, 1, SPAN_LIT("kk"), NOW, &r), NOT_FOUND);
    assert_err(store_get(s, 1, SPAN_EMPTY, NOW, &r), NOT_FOUND);
    store_check(s);
    store_close(&s);
    store_close(&s);
    assert_null(s);
}

static void test_delete(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_written put = fixture_put(s, "k", "v", 0, NOW);
    struct store_written gone = fixture_delete(s, "k", NOW);
    assert_true(gone.existed);
    assert_true(store_stamp_compare(&gone.stamp, &put.stamp) > 0);
    struct store_record r;
    assert_err(store_get(s, 1, SPAN_LIT("k"), NOW, &r), NOT_FOUND);
    assert_int_equal(r.state, STORE_TOMBSTONE);
    assert_int_equal(store_stamp_compare(&r.stamp, &gone.stamp), 0);
    assert_int_equal(r.sealed.len, 0);
    assert_false(fixture_delete(s, "k", NOW).existed);
    assert_false(fixture_delete(s, "never seen", NOW).existed);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.tombstone_count, 2);
    assert_int_equal(stats.key_count, 0);
    assert_false(fixture_put(s, "k", "back", 0, NOW).existed);
    assert_value(s, "k", NOW, "back");
    store_check(s);
    store_close(&s);
}

static void test_ttl(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    fixture_put(s, "k", "v", 1000, NOW);
    assert_value(s, "k", NOW + 999, "v");
    struct store_record r;
    assert_ok(store_get(s, 1, SPAN_LIT("k"), NOW, &r));
    assert_int_equal(r.expires_unix_ms, NOW + 1000);
    assert_int_equal(r.ttl_ms, 1000);
    assert_err(store_get(s, 1, SPAN_LIT("k"), NOW + 1000, &r), NOT_FOUND);
    assert_int_equal(r.state, STORE_EXPIRED);
    assert_int_equal(r.stamp.hlc, HLC(NOW, 0));
    assert_int_equal(r.sealed.len, 0);
    assert_false(fixture_delete(s, "k", NOW + 1000).existed);
    fixture_put(s, "long", "v", STORE_TTL_MS_MAX, NOW + 2000);
    assert_value(s, "long", NOW + 2000 + STORE_TTL_MS_MAX - 1, "v");
    assert_absent(s, "long", NOW + 2000 + STORE_TTL_MS_MAX);
    store_check(s);
    store_close(&s);
}

static struct refuse_row {
    const char *name;
    size_t key_len;
    size_t sealed_len;
    uint64_t ttl_ms;
    uint64_t now_unix_ms;
    uint64_t seen_hlc;
    bool deletes;
    enum err want;
    enum store_refusal refusal;
} refuse_rows[] = {
    { "put_largest", STORE_KEY_BYTES_MAX, 100, STORE_TTL_MS_MAX, NOW, 0, false, E_OK, 0 },
    { "put_no_key", 0, 1, 0, NOW, 0, false, E_INVALID, STORE_REFUSED_KEY },
    { "put_long_key", STORE_KEY_BYTES_MAX + 1, 1, 0, NOW, 0, false, E_TOO_BIG, STORE_REFUSED_KEY },
    { "put_no_value", 1, 0, 0, NOW, 0, false, E_INVALID, STORE_REFUSED_SEALED },
    { "put_long_value", 1, 101, 0, NOW, 0, false, E_TOO_BIG, STORE_REFUSED_SEALED },
    { "put_long_ttl", 1, 1, STORE_TTL_MS_MAX + 1, NOW, 0, false, E_INVALID, STORE_REFUSED_TTL },
    { "put_ttl_near_wrap", 1, 1, UINT64_MAX, NOW, 0, false, E_INVALID, STORE_REFUSED_TTL },
    { "put_seen_at_skew", 1, 1, 0, NOW, HLC(NOW + SKEW_MS, 0), false, E_OK, 0 },
    { "put_seen_past_skew", 1, 1, 0, NOW, HLC(NOW + SKEW_MS + 1, 0), false, E_FUTURE,
      STORE_REFUSED_SEEN },
    { "put_seen_last_of_skew", 1, 1, 0, NOW, HLC(NOW + SKEW_MS, 0xffff), false, E_FUTURE,
      STORE_REFUSED_SEEN },
    { "put_seen_greatest", 1, 1, 0, NOW, UINT64_MAX, false, E_FUTURE, STORE_REFUSED_SEEN },
    { "put_last_time", 1, 1, STORE_TTL_MS_MAX, STORE_UNIX_MS_MAX, 0, false, E_OK, 0 },
    { "put_after_time", 1, 1, 0, STORE_UNIX_MS_MAX + 1, 0, false, E_INVALID, STORE_REFUSED_CLOCK },
    { "delete_largest", STORE_KEY_BYTES_MAX, 0, 0, NOW, 0, true, E_OK, 0 },
    { "delete_no_key", 0, 0, 0, NOW, 0, true, E_INVALID, STORE_REFUSED_KEY },
    { "delete_long_key", STORE_KEY_BYTES_MAX + 1, 0, 0, NOW, 0, true, E_TOO_BIG,
      STORE_REFUSED_KEY },
    { "delete_seen_past_skew", 1, 0, 0, NOW, HLC(NOW + SKEW_MS + 1, 0), true, E_FUTURE,
      STORE_REFUSED_SEEN },
};

static void test_refuse(void **state) {
    const struct refuse_row *c = *state;
    struct store_cfg cfg = fixture_cfg(7);
    cfg.sealed_bytes_max = 100;
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    uint8_t *key = test_dup(filler, c->key_len);
    uint8_t *sealed = test_dup(filler, c->sealed_len);
    struct store_write w = { .app_id = 1,
                             .key = { key, c->key_len },
                             .sealed = { sealed, c->sealed_len },
                             .ttl_ms = c->ttl_ms,
                             .now_unix_ms = c->now_unix_ms,
                             .seen = { c->seen_hlc, { 9 } } };
    struct store_written out;
    struct rc rc = c->deletes ? store_delete(s, &w, &out) : store_put(s, &w, &out);
    assert_int_equal(rc.err, c->want);
    assert_int_equal(out.refusal, c->refusal);
    assert_int_equal(store_log_last(s), c->want == E_OK ? 1 : 0);
    assert_int_equal(store_known_count(s), c->want == E_OK ? 1 : 0);
    if (c->want == E_OK) {
        assert_true(out.stamp.hlc > c->seen_hlc);
        assert_true(store_covers(s, &out.stamp));
    } else {
        assert_true(store_stamp_is_none(&out.stamp));
    }
    store_check(s);
    free(key);
    free(sealed);
    store_close(&s);
}

static void test_clock_set_back(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    uint64_t hlc = fixture_put(s, "k", "v", 0, NOW).stamp.hlc;
    assert_true(fixture_put(s, "other", "v", 0, NOW - SKEW_MS).stamp.hlc > hlc);
    struct store_write w = {
        .app_id = 1, .key = SPAN_LIT("k"), .sealed = SPAN_LIT("v"), .now_unix_ms = NOW - SKEW_MS - 1
    };
    struct store_written out;
    assert_err(store_put(s, &w, &out), FUTURE);
    assert_int_equal(out.refusal, STORE_REFUSED_CLOCK);
    store_close(&s);
}

static void test_stamp_follows_replaced(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_remote r = { .app_id = 1,
                              .key = SPAN_LIT("k"),
                              .sealed = SPAN_LIT("theirs"),
                              .stamp = fixture_stamp(NOW + 3000, 5, 9) };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged));
    struct store_written out = fixture_put(s, "k", "ours", 0, NOW);
    assert_int_equal(out.stamp.hlc, HLC(NOW + 3000, 6));
    assert_value(s, "k", NOW, "ours");
    store_close(&s);
}

/* ---- Quotas ---- */

static struct store *open_with(uint64_t app_bytes_max, uint64_t total_bytes_max,
                               uint64_t tombstone_count_max) {
    struct store_cfg cfg = fixture_cfg(7);
    cfg.app_bytes_max = app_bytes_max;
    cfg.total_bytes_max = total_bytes_max;
    cfg.tombstone_count_max = tombstone_count_max;
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    return s;
}

static enum store_refusal try_write(struct store *s, struct store_write w, size_t len) {
    uint8_t *sealed = calloc(1, len);
    assert_non_null(sealed);
    w.sealed = (struct span){ sealed, len };
    struct store_written out;
    struct rc rc = store_put(s, &w, &out);
    assert_int_equal(rc.err, out.refusal == STORE_REFUSED_NONE ? E_OK : E_QUOTA);
    free(sealed);
    store_check(s);
    return out.refusal;
}

static enum store_refusal try_put(struct store *s, uint64_t app_id, const char *key, size_t len) {
    struct store_write w = { .app_id = app_id, .key = span_str(key), .now_unix_ms = NOW };
    return try_write(s, w, len);
}

/* In app 1. */
static enum store_refusal try_put_at(struct store *s, uint64_t now_unix_ms, const char *key,
                                     size_t len, uint64_t ttl_ms) {
    struct store_write w = {
        .app_id = 1, .key = span_str(key), .ttl_ms = ttl_ms, .now_unix_ms = now_unix_ms
    };
    return try_write(s, w, len);
}

static enum store_refusal try_delete(struct store *s, uint64_t app_id, const char *key,
                                     uint64_t now_unix_ms) {
    struct store_write w = { .app_id = app_id, .key = span_str(key), .now_unix_ms = now_unix_ms };
    struct store_written out;
    struct rc rc = store_delete(s, &w, &out);
    assert_int_equal(rc.err, out.refusal == STORE_REFUSED_NONE ? E_OK : E_QUOTA);
    store_check(s);
    return out.refusal;
}

static void test_quota_app(void **state) {
    (void)state;
    struct store *s = open_with(2 * (STORE_RECORD_BYTES + 1 + 100), 1 << 20, 10);
    assert_int_equal(try_put(s, 1, "a", 100), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, 1, "b", 101), STORE_REFUSED_APP_BYTES);
    assert_int_equal(try_put(s, 1, "bb", 100), STORE_REFUSED_APP_BYTES);
    assert_int_equal(try_put(s, 1, "b", 100), STORE_REFUSED_NONE);
    struct store_stats stats;
    store_app_stats(s, 1, &stats);
    assert_int_equal(stats.bytes, 2 * (STORE_RECORD_BYTES + 1 + 100));
    assert_int_equal(try_put(s, 1, "b", 101), STORE_REFUSED_APP_BYTES);
    assert_int_equal(try_delete(s, 1, "c", NOW), STORE_REFUSED_APP_BYTES);
    assert_int_equal(try_put(s, 1, "b", 100), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, 2, "b", 100), STORE_REFUSED_NONE); /* Another app. */
    store_stats(s, &stats);
    assert_int_equal(stats.app_bytes_peak, 2 * (STORE_RECORD_BYTES + 1 + 100));
    assert_int_equal(try_delete(s, 1, "a", NOW), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, 1, "b", 200), STORE_REFUSED_NONE);
    store_close(&s);
}

static void test_quota_total(void **state) {
    (void)state;
    uint64_t one = STORE_NAMESPACE_BYTES + STORE_RECORD_BYTES + 1 + 100;
    struct store *s = open_with(1 << 20, 2 * one, 10);
    assert_int_equal(try_put(s, 1, "a", 100), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, 2, "a", 101), STORE_REFUSED_TOTAL_BYTES);
    assert_int_equal(try_put(s, 2, "a", 100), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, 1, "a", 101), STORE_REFUSED_TOTAL_BYTES);
    assert_int_equal(try_delete(s, 3, "a", NOW), STORE_REFUSED_TOTAL_BYTES);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.bytes, 2 * one);
    assert_int_equal(stats.namespace_count, 2);
    store_close(&s);
}

static void test_quota_tombstones(void **state) {
    (void)state;
    struct store *s = open_with(1 << 20, 1 << 20, 2);
    assert_int_equal(try_put(s, 1, "a", 1), STORE_REFUSED_NONE);
    assert_int_equal(try_delete(s, 1, "b", NOW), STORE_REFUSED_NONE);
    assert_int_equal(try_delete(s, 1, "c", NOW), STORE_REFUSED_NONE);
    assert_int_equal(try_delete(s, 1, "a", NOW), STORE_REFUSED_TOMBSTONES);
    struct store_record r;
    assert_ok(store_get(s, 1, SPAN_LIT("a"), NOW, &r));
    assert_int_equal(try_delete(s, 1, "b", NOW), STORE_REFUSED_NONE); /* Adds none. */
    assert_int_equal(try_put(s, 1, "c", 1), STORE_REFUSED_NONE);
    assert_int_equal(try_delete(s, 1, "a", NOW), STORE_REFUSED_NONE);
    store_close(&s);
}

static void test_quota_namespaces(void **state) {
    (void)state;
    struct store_cfg cfg = fixture_cfg(7);
    cfg.namespace_count_max = 2;
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    assert_int_equal(try_put(s, 1, "a", 1), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, UINT64_MAX, "a", 1), STORE_REFUSED_NONE);
    assert_int_equal(try_put(s, 3, "a", 1), STORE_REFUSED_NAMESPACES);
    uint64_t ids[3] = { 0 };
    assert_int_equal(store_app_ids(s, ids, 1), 1);
    assert_int_equal(store_app_ids(s, ids, 3), 2);
    assert_int_equal(ids[0] ^ ids[1], 1 ^ UINT64_MAX);
    store_close(&s);
}

/* An app that fills its quota with short-lived values gets their bytes back when it asks. */
static void test_quota_expired(void **state) {
    (void)state;
    struct store *s = open_with(3 * STORE_RECORD_BYTES + 3 + 1000, 1 << 20, 10);
    assert_int_equal(try_put_at(s, NOW, "a", 900, 1000), STORE_REFUSED_NONE);
    uint64_t gone_unix_ms = NOW + 1000 + SKEW_MS;
    assert_int_equal(try_put_at(s, gone_unix_ms - 1, "b", 900, 0), STORE_REFUSED_APP_BYTES);
    assert_int_equal(try_put_at(s, gone_unix_ms, "b", 900, 0), STORE_REFUSED_NONE);
    struct store_record r;
    assert_err(store_get(s, 1, SPAN_LIT("a"), NOW, &r), NOT_FOUND); /* Even for a clock set back. */
    assert_int_equal(r.stamp.hlc, HLC(NOW, 0));
    assert_int_equal(r.ttl_ms, 1000);
    struct store_stats stats;
    store_app_stats(s, 1, &stats);
    assert_int_equal(stats.expired_count, 1);
    assert_int_equal(stats.key_count, 1);
    assert_int_equal(stats.bytes, 2 * STORE_RECORD_BYTES + 2 + 900);
    assert_int_equal(try_put_at(s, gone_unix_ms, "a", 100, 0), STORE_REFUSED_NONE);
    store_close(&s);
}

static struct cfg_row {
    const char *name;
    size_t offset;
    size_t bytes;
    uint64_t value;
    enum err want;
} cfg_rows[] = {
#define CFG_ROW(label, field, value, want)                                                     \
    { label, offsetof(struct store_cfg, field), sizeof(((struct store_cfg *)0)->field), value, \
      want },
    CFG_ROW("cfg_writer_zero", writer[0], 0,
            E_BAD_CONFIG) CFG_ROW("cfg_sealed_zero", sealed_bytes_max, 0, E_BAD_CONFIG)
        CFG_ROW("cfg_sealed_most", sealed_bytes_max, UINT32_MAX, E_OK) CFG_ROW(
            "cfg_sealed_over", sealed_bytes_max, (uint64_t)UINT32_MAX + 1, E_BAD_CONFIG)
            CFG_ROW("cfg_app_over", app_bytes_max, (UINT64_C(1) << 48) + 1, E_BAD_CONFIG) CFG_ROW(
                "cfg_total_over_hard", total_bytes_max, (200 << 20) + 1,
                E_BAD_CONFIG) CFG_ROW("cfg_total_at_hard", total_bytes_max, 200 << 20, E_OK)
                CFG_ROW("cfg_hard_over", hard_bytes_max, (UINT64_C(1) << 48) + 1, E_BAD_CONFIG)
                    CFG_ROW("cfg_tombstones_zero", tombstone_count_max, 0, E_BAD_CONFIG) CFG_ROW(
                        "cfg_retention_over", tombstone_retention_ms, STORE_UNIX_MS_MAX + 1,
                        E_BAD_CONFIG) CFG_ROW("cfg_retention_zero", tombstone_retention_ms, 0, E_OK)
                        CFG_ROW("cfg_skew_over", clock_skew_ms, STORE_UNIX_MS_MAX + 1, E_BAD_CONFIG)
                            CFG_ROW("cfg_namespaces_zero", namespace_count_max, 0, E_BAD_CONFIG)
                                CFG_ROW("cfg_namespaces_over", namespace_count_max, (1 << 24) + 1,
                                        E_BAD_CONFIG)
                                    CFG_ROW("cfg_writers_one", writer_count_max, 1, E_BAD_CONFIG)
                                        CFG_ROW("cfg_writers_two", writer_count_max, 2, E_OK)
                                            CFG_ROW("cfg_writers_over", writer_count_max,
                                                    (1 << 20) + 1, E_BAD_CONFIG)
#undef CFG_ROW
};

static void test_cfg(void **state) {
    const struct cfg_row *c = *state;
    struct store_cfg cfg = fixture_cfg(7);
    memcpy((uint8_t *)&cfg + c->offset, &c->value, c->bytes); /* Little-endian machines. */
    struct store *s = NULL;
    assert_err_equal(store_init(&s, &cfg), c->want);
    assert_int_equal(s != NULL, c->want == E_OK);
    store_close(&s);
}

int main(void) {
    struct CMUnitTest tests[64] = {
        cmocka_unit_test(test_put_get),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_ttl),
        cmocka_unit_test(test_clock_set_back),
        cmocka_unit_test(test_stamp_follows_replaced),
        cmocka_unit_test(test_quota_app),
        cmocka_unit_test(test_quota_total),
        cmocka_unit_test(test_quota_tombstones),
        cmocka_unit_test(test_quota_namespaces),
        cmocka_unit_test(test_quota_expired),
    };
    size_t count = 10;
    TEST_ADD_ROWS(tests, count, test_refuse, refuse_rows);
    TEST_ADD_ROWS(tests, count, test_cfg, cfg_rows);
    return _cmocka_run_group_tests("store", tests, count, NULL, NULL);
}
