/* SPDX-License-Identifier: Apache-2.0 */
/* The join of one record: who wins, what is refused and counted, what is a conflict. */
#include <stdio.h>

#include "store_fixture.h"

#define HERE fixture_stamp(NOW, 10, 5)
#define HERE_REPLACED fixture_stamp(NOW - 10, 0, 4)

/* A store of writer 7 that holds "k" = "here", stamped HERE. */
static struct store *open_with_record(void) {
    struct store *s = fixture_open(7);
    struct store_remote r = { .app_id = 1,
                              .key = SPAN_LIT("k"),
                              .sealed = SPAN_LIT("here"),
                              .stamp = HERE,
                              .replaced = HERE_REPLACED };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged));
    assert_int_equal(merged.outcome, STORE_MERGE_APPLIED);
    return s;
}

static struct win_row {
    const char *name;
    struct store_stamp stamp;
    struct store_stamp replaced;
    enum store_outcome want;
    bool conflict;
} win_rows[] = {
    { "greater_clock_saw_it",
      { HLC(NOW, 11), { 1 } },
      { HLC(NOW, 10), { 5 } },
      STORE_MERGE_APPLIED,
      false },
    { "greater_clock_saw_greater",
      { HLC(NOW, 12), { 1 } },
      { HLC(NOW, 11), { 1 } },
      STORE_MERGE_APPLIED,
      false },
    { "greater_clock_unseen",
      { HLC(NOW, 11), { 1 } },
      { HLC(NOW - 10, 0), { 4 } },
      STORE_MERGE_APPLIED,
      true },
    { "greater_clock_saw_nothing",
      { HLC(NOW, 11), { 1 } },
      { 0, { 0 } },
      STORE_MERGE_APPLIED,
      true },
    { "greater_writer", { HLC(NOW, 10), { 6 } }, { 0, { 0 } }, STORE_MERGE_APPLIED, true },
    { "same", { HLC(NOW, 10), { 5 } }, { HLC(NOW - 10, 0), { 4 } }, STORE_MERGE_SAME, false },
    { "smaller_writer", { HLC(NOW, 10), { 4 } }, { 0, { 0 } }, STORE_MERGE_OLDER, true },
    { "smaller_unseen_by_winner",
      { HLC(NOW - 9, 0), { 1 } },
      { 0, { 0 } },
      STORE_MERGE_OLDER,
      true },
    { "smaller_was_replaced", { HLC(NOW - 10, 0), { 4 } }, { 0, { 0 } }, STORE_MERGE_OLDER, false },
    { "smaller_than_replaced",
      { HLC(NOW - 11, 0), { 9 } },
      { 0, { 0 } },
      STORE_MERGE_OLDER,
      false },
    { "at_skew",
      { HLC(NOW + SKEW_MS, 0xffff), { 1 } },
      { HLC(NOW, 10), { 5 } },
      STORE_MERGE_APPLIED,
      false },
};

static void test_win(void **state) {
    const struct win_row *c = *state;
    struct store *s = open_with_record();
    struct store_remote r = { .app_id = 1,
                              .key = SPAN_LIT("k"),
                              .sealed = SPAN_LIT("there"),
                              .stamp = c->stamp,
                              .replaced = c->replaced };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged));
    assert_int_equal(merged.outcome, c->want);
    assert_int_equal(merged.conflict, c->conflict);
    assert_value(s, "k", NOW, c->want == STORE_MERGE_APPLIED ? "there" : "here");
    assert_int_equal(store_log_last(s), c->want == STORE_MERGE_APPLIED ? 2 : 1);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.conflict_count, c->conflict ? 1 : 0);
    assert_int_equal(store_known_count(s), 0); /* Records alone are not knowledge. */
    store_check(s);
    store_close(&s);
}

static const uint8_t filler[STORE_KEY_BYTES_MAX + 1] = "filler";
#define KEY(n) \
    { filler, n }

static struct refuse_row {
    const char *name;
    struct store_remote r;
    enum err want;
    enum store_refusal refusal;
} refuse_rows[] = {
    { "longest",
      { 1,
        KEY(STORE_KEY_BYTES_MAX),
        KEY(100),
        { HLC(NOW, 0), { 1 } },
        { 0 },
        STORE_TTL_MS_MAX,
        false,
        0 },
      E_OK,
      STORE_REFUSED_NONE },
    { "no_key",
      { 1, KEY(0), KEY(1), { HLC(NOW, 0), { 1 } }, { 0 }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "long_key",
      { 1, KEY(STORE_KEY_BYTES_MAX + 1), KEY(1), { HLC(NOW, 0), { 1 } }, { 0 }, 0, false, 0 },
      E_TOO_BIG,
      STORE_REFUSED_KEY },
    { "long_value",
      { 1, KEY(1), KEY(101), { HLC(NOW, 0), { 1 } }, { 0 }, 0, false, 0 },
      E_TOO_BIG,
      STORE_REFUSED_SEALED },
    { "no_value",
      { 1, KEY(1), KEY(0), { HLC(NOW, 0), { 1 } }, { 0 }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "tombstone",
      { 1, KEY(1), KEY(0), { HLC(NOW, 0), { 1 } }, { 0 }, 0, true, 0 },
      E_OK,
      STORE_REFUSED_NONE },
    { "tombstone_with_value",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 1 } }, { 0 }, 0, true, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "tombstone_with_ttl",
      { 1, KEY(1), KEY(0), { HLC(NOW, 0), { 1 } }, { 0 }, 1, true, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "long_ttl",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 1 } }, { 0 }, STORE_TTL_MS_MAX + 1, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "no_stamp",
      { 1, KEY(1), KEY(1), { 0, { 1 } }, { 0 }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "no_writer",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 0 } }, { 0 }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "replaced_without_writer",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 1 } }, { HLC(NOW - 1, 0), { 0 } }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "replaced_itself",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 1 } }, { HLC(NOW, 0), { 1 } }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "replaced_above",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 1 } }, { HLC(NOW, 0), { 2 } }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "past_skew",
      { 1, KEY(1), KEY(1), { HLC(NOW + SKEW_MS + 1, 0), { 1 } }, { 0 }, 0, false, 0 },
      E_FUTURE,
      STORE_REFUSED_SKEW },
    { "our_own_unwritten",
      { 1, KEY(1), KEY(1), { HLC(NOW, 0), { 7 } }, { 0 }, 0, false, 0 },
      E_MALFORMED,
      STORE_REFUSED_MALFORMED },
    { "expired_now",
      { 1, KEY(1), KEY(0), { HLC(NOW - 10, 9), { 1 } }, { 0 }, 10, false, 0 },
      E_OK,
      STORE_REFUSED_NONE },
    { "expired_there_only",
      { 1, KEY(1), KEY(0), { HLC(NOW - 10, 9), { 1 } }, { 0 }, 11, false, 0 },
      E_FUTURE,
      STORE_REFUSED_SKEW },
};

static void test_refuse(void **state) {
    const struct refuse_row *c = *state;
    struct store_cfg cfg = fixture_cfg(7);
    cfg.sealed_bytes_max = 100;
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    uint8_t *key = test_dup(c->r.key.ptr, c->r.key.len);
    uint8_t *sealed = test_dup(c->r.sealed.ptr, c->r.sealed.len);
    struct store_remote r = c->r;
    r.key.ptr = key;
    r.sealed.ptr = sealed;
    struct store_merged merged;
    assert_err_equal(store_merge(s, &r, NOW, &merged), c->want);
    assert_int_equal(merged.refusal, c->refusal);
    bool applied = c->want == E_OK;
    assert_int_equal(merged.outcome, applied ? STORE_MERGE_APPLIED : STORE_MERGE_REFUSED);
    assert_int_equal(store_log_last(s), applied ? 1 : 0);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.refused_counts[c->refusal], applied ? 0 : 1);
    assert_int_equal(stats.writer_count, applied ? 2 : 1);
    store_check(s);
    free(key);
    free(sealed);
    store_close(&s);
}

static void test_own_comes_back(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store *peer = fixture_open(8);
    fixture_put(s, "k", "ours", 0, NOW);
    struct store_record lent;
    assert_ok(store_get(s, 1, SPAN_LIT("k"), NOW, &lent));
    struct store_remote r = fixture_remote(&lent);
    struct store_merged merged;
    assert_ok(store_merge(peer, &r, NOW, &merged));
    assert_ok(store_get(peer, 1, SPAN_LIT("k"), NOW, &lent));
    r = fixture_remote(&lent);
    assert_ok(store_merge(s, &r, NOW, &merged));
    assert_int_equal(merged.outcome, STORE_MERGE_SAME);
    store_close(&s);
    store_close(&peer);
}

static void test_hard_bytes(void **state) {
    (void)state;
    struct store_cfg cfg = fixture_cfg(7);
    cfg.app_bytes_max = 1;
    cfg.total_bytes_max = 1;
    cfg.namespace_count_max = 1;
    cfg.hard_bytes_max = 2 * (STORE_NAMESPACE_BYTES + STORE_RECORD_BYTES + 1 + 100);
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    static const uint8_t value[101] = { 1 };
    struct store_remote r = { .app_id = 1,
                              .key = SPAN_LIT("k"),
                              .sealed = { value, 100 },
                              .stamp = fixture_stamp(NOW, 0, 1) };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged)); /* Clients' bounds do not count. */
    r.app_id = 2;
    r.sealed.len = 101;
    assert_err(store_merge(s, &r, NOW, &merged), QUOTA);
    assert_int_equal(merged.refusal, STORE_REFUSED_HARD_BYTES);
    r.sealed.len = 100;
    assert_ok(store_merge(s, &r, NOW, &merged));
    r.stamp.hlc++;
    r.sealed.len = 101;
    assert_err(store_merge(s, &r, NOW, &merged), QUOTA);
    r.sealed = SPAN_EMPTY;
    r.tombstone = true;
    assert_ok(store_merge(s, &r, NOW, &merged)); /* What shrinks always fits. */
    store_check(s);
    store_close(&s);
}

static void test_writers_full(void **state) {
    (void)state;
    struct store_cfg cfg = fixture_cfg(7);
    cfg.writer_count_max = 2;
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    struct store_remote r = { .app_id = 1,
                              .key = SPAN_LIT("k"),
                              .sealed = SPAN_LIT("v"),
                              .stamp = fixture_stamp(NOW, 0, 2),
                              .replaced = fixture_stamp(NOW - 1, 0, 1) };
    struct store_merged merged;
    assert_err(store_merge(s, &r, NOW, &merged), QUOTA);
    assert_int_equal(merged.refusal, STORE_REFUSED_WRITERS);
    store_check(s);
    r.replaced = STORE_STAMP_NONE;
    assert_ok(store_merge(s, &r, NOW, &merged));
    fixture_put(s, "k", "ours", 0, NOW + 1);
    fixture_put(s, "k", "again", 0, NOW + 1); /* Writer 2 is forgotten with its last record. */
    r.stamp = fixture_stamp(NOW + 2, 0, 3);
    assert_ok(store_merge(s, &r, NOW, &merged));
    assert_true(merged.conflict);
    store_check(s);
    store_close(&s);
}

static void test_old_dead_loser(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_remote r = {
        .app_id = 1, .key = SPAN_LIT("k"), .stamp = fixture_stamp(NOW, 0, 1), .tombstone = true
    };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged));
    r.tombstone = false;
    r.sealed = SPAN_LIT("v");
    /* The writer may have collected the tombstone, so nothing says that it had not seen it. */
    r.stamp = fixture_stamp(NOW + RETENTION_MS, 0, 2);
    assert_ok(store_merge(s, &r, NOW + RETENTION_MS, &merged));
    assert_int_equal(merged.outcome, STORE_MERGE_APPLIED);
    assert_false(merged.conflict);
    store_close(&s);
}

/* Two versions each of more keys than the first buckets hold, in three apps that open meanwhile. */
enum { AHEAD_COUNT = 300, AHEAD_STEP = 50 };

static struct store_remote ahead_remote(size_t i, char key[static 8]) {
    (void)snprintf(key, 8, "k%zu", i % (AHEAD_COUNT / 2));
    return (struct store_remote){ .app_id = 1 + i % 3,
                                  .key = span_str(key),
                                  .sealed = SPAN_LIT("value"),
                                  .stamp = fixture_stamp(NOW, i, (uint8_t)(1 + i % 5)) };
}

static void test_ahead(void **state) {
    (void)state;
    struct store *plain = fixture_open(9);
    struct store *ahead = fixture_open(9);
    static char keys[AHEAD_COUNT][8];
    static struct store_remote remotes[AHEAD_COUNT];
    for (size_t i = 0; i < AHEAD_COUNT; i++) {
        struct store_merged merged;
        remotes[i] = ahead_remote(i, keys[i]);
        assert_ok(store_merge(plain, &remotes[i], NOW, &merged));
    }
    for (size_t i = 0; i < AHEAD_COUNT; i++) {
        for (size_t j = i; i % AHEAD_STEP == 0 && j < i + AHEAD_STEP; j++) {
            store_merge_ahead(ahead, &remotes[j]);
        }
        struct store_merged merged;
        assert_ok(store_merge(ahead, &remotes[i], NOW, &merged));
        assert_int_equal(merged.outcome, STORE_MERGE_APPLIED);
    }
    store_check(ahead); /* Each is found where its hash says. */
    for (uint64_t app_id = 1; app_id <= 3; app_id++) {
        struct store_digest want = store_digest(plain, app_id);
        struct store_digest got = store_digest(ahead, app_id);
        assert_int_equal(got.low, want.low);
        assert_int_equal(got.high, want.high);
    }
    store_close(&plain);
    store_close(&ahead);
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(store_refusal_name(STORE_REFUSED_NONE), "none");
    assert_string_equal(store_refusal_name(STORE_REFUSED_MEMORY), "memory");
    assert_string_equal(store_refusal_name(STORE_REFUSED_SKEW), "skew");
}

int main(void) {
    struct CMUnitTest tests[64] = {
        cmocka_unit_test(test_own_comes_back), cmocka_unit_test(test_hard_bytes),
        cmocka_unit_test(test_writers_full),   cmocka_unit_test(test_old_dead_loser),
        cmocka_unit_test(test_names),          cmocka_unit_test(test_ahead),
    };
    size_t count = 5;
    TEST_ADD_ROWS(tests, count, test_win, win_rows);
    TEST_ADD_ROWS(tests, count, test_refuse, refuse_rows);
    return _cmocka_run_group_tests("store_merge", tests, count, NULL, NULL);
}
