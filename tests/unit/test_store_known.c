/* SPDX-License-Identifier: Apache-2.0 */
/* The version vector, collection with its floor, and what a stale replica is told. */
#include "store_fixture.h"

static struct store_known_entry entry(uint8_t writer, uint64_t hlc) {
    return (struct store_known_entry){ { writer }, hlc };
}

static void merge_tombstone(struct store *s, const char *key, struct store_stamp stamp) {
    struct store_remote r = {
        .app_id = 1, .key = span_str(key), .stamp = stamp, .tombstone = true
    };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged));
}

static void test_covers(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    assert_int_equal(store_writer(s)[0], 7);
    assert_true(store_covers(s, &STORE_STAMP_NONE));
    struct store_stamp stamp = fixture_put(s, "k", "v", 0, NOW).stamp;
    assert_true(store_covers(s, &stamp));
    stamp.hlc++;
    assert_false(store_covers(s, &stamp));
    stamp = fixture_stamp(1, 0, 9);
    assert_false(store_covers(s, &stamp));
    struct store_known_entry entries[] = { entry(9, HLC(5, 0)), entry(1, HLC(9, 0)) };
    struct store_known known = { entries, 2, HLC(1, 0) };
    assert_true(store_known_covers(&known, &stamp));
    stamp.hlc = HLC(5, 0);
    assert_true(store_known_covers(&known, &stamp));
    stamp.hlc++;
    assert_false(store_known_covers(&known, &stamp));
    store_close(&s);
}

static struct join_row {
    const char *name;
    struct store_known_entry entries[2];
    size_t count;
    uint64_t rest_hlc;
    enum err want;
} join_rows[] = {
    { "join_nothing", { { { 0 }, 0 } }, 0, 0, E_OK },
    { "join_two", { { { 1 }, HLC(NOW, 1) }, { { 2 }, HLC(NOW, 2) } }, 2, 0, E_OK },
    { "join_at_skew", { { { 1 }, HLC(NOW + SKEW_MS, 0xffff) } }, 1, 0, E_OK },
    { "join_past_skew", { { { 1 }, 5 }, { { 2 }, HLC(NOW + SKEW_MS + 1, 0) } }, 2, 0, E_FUTURE },
    { "join_rest_past_skew", { { { 1 }, 5 } }, 1, HLC(NOW + SKEW_MS + 1, 0), E_FUTURE },
    { "join_own_at_own", { { { 7 }, HLC(NOW, 0) } }, 1, 0, E_OK },
    { "join_own_above", { { { 1 }, 5 }, { { 7 }, HLC(NOW, 1) } }, 2, 0, E_INVALID },
    { "join_writer_zero", { { { 1 }, 5 }, { { 0 }, 5 } }, 2, 0, E_INVALID },
};

static void test_join(void **state) {
    const struct join_row *c = *state;
    struct store *s = fixture_open(7);
    fixture_put(s, "k", "v", 0, NOW);
    struct store_known known = { c->entries, c->count, c->rest_hlc };
    assert_err_equal(store_join_known(s, &known, NOW), c->want);
    for (size_t i = 0; i < c->count; i++) {
        struct store_stamp stamp = { .hlc = c->entries[i].hlc };
        memcpy(stamp.writer, c->entries[i].writer, sizeof(stamp.writer));
        assert_int_equal(store_covers(s, &stamp), c->want == E_OK);
    }
    assert_int_equal(store_known_count(s) > 1,
                     c->want == E_OK && c->count > 0 && c->entries[0].writer[0] != 7);
    store_check(s);
    store_close(&s);
}

static void test_join_is_a_join(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_known_entry low[] = { entry(1, 10), entry(2, 20) };
    struct store_known_entry high[] = { entry(2, 19), entry(3, 30) };
    struct store_known a = { low, 2, 0 };
    struct store_known b = { high, 2, 0 };
    for (int i = 0; i < 2; i++) {
        assert_ok(store_join_known(s, &a, NOW));
        assert_ok(store_join_known(s, &b, NOW));
    }
    struct store_known_entry copy[8];
    struct store_known known;
    assert_err(store_known_copy(s, copy, 2, &known), TOO_BIG);
    assert_int_equal(known.count, 0);
    assert_ok(store_known_copy(s, copy, 3, &known));
    assert_int_equal(known.count, 3);
    uint64_t sum = 0;
    for (size_t i = 0; i < known.count; i++) {
        assert_int_equal(known.entries[i].hlc, 10 * known.entries[i].writer[0]);
        sum += known.entries[i].hlc;
    }
    assert_int_equal(sum, 60);
    store_close(&s);
}

static void test_writer_room(void **state) {
    (void)state;
    struct store_cfg cfg = fixture_cfg(7);
    cfg.writer_count_max = 3;
    struct store *s = NULL;
    assert_ok(store_init(&s, &cfg));
    struct store_known_entry three[] = { entry(1, 10), entry(2, 20), entry(3, 30) };
    struct store_known known = { three, 3, 0 };
    assert_err(store_join_known(s, &known, NOW), QUOTA);
    assert_int_equal(store_known_count(s), 0);
    known.count = 2;
    assert_ok(store_join_known(s, &known, NOW));
    assert_int_equal(store_known_count(s), 2);
    known = (struct store_known){ three, 3, 15 }; /* Covers the first by the rest. */
    assert_err(store_join_known(s, &known, NOW), QUOTA);
    known.rest_hlc = 0;
    assert_ok(store_compact_known(s, 15, NOW));
    assert_int_equal(store_known_count(s), 1);
    assert_ok(store_join_known(s, &known, NOW));
    assert_int_equal(store_known_count(s), 2);
    store_check(s);
    store_close(&s);
}

static void test_compact(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    uint64_t old_ms = NOW - RETENTION_MS;
    assert_err(store_compact_known(s, HLC(old_ms + 1, 0), NOW), FUTURE);
    assert_err(store_compact_known(s, HLC(NOW + 1, 0), NOW), FUTURE);
    assert_ok(store_compact_known(s, HLC(old_ms, 0), NOW));
    struct store_stamp stamp = fixture_stamp(old_ms, 0, 99);
    assert_true(store_covers(s, &stamp));
    stamp.hlc++;
    assert_false(store_covers(s, &stamp));
    assert_ok(store_compact_known(s, HLC(old_ms - 5, 0), NOW)); /* Never lowers. */
    stamp.hlc--;
    assert_true(store_covers(s, &stamp));
    struct store_known known;
    assert_ok(store_known_copy(s, NULL, 0, &known));
    assert_int_equal(known.rest_hlc, HLC(old_ms, 0));
    store_check(s);
    store_close(&s);
}

/* ---- Collection ---- */

static struct store_collected collect(struct store *s, uint64_t now_unix_ms,
                                      const struct store_known *members, size_t member_count) {
    struct store_collect c = { now_unix_ms, members, member_count, 100 };
    struct store_collected out;
    store_collect(s, &c, &out);
    store_check(s);
    return out;
}

static void test_collect_alone(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    fixture_put(s, "stays", "v", 0, NOW);
    fixture_put(s, "goes", "v", 0, NOW);
    struct store_stamp stamp = fixture_delete(s, "goes", NOW).stamp;
    assert_int_equal(collect(s, NOW + RETENTION_MS - 1, NULL, 0).removed_count, 0);
    struct store_collected out = collect(s, NOW + RETENTION_MS, NULL, 0);
    assert_int_equal(out.removed_count, 1);
    assert_false(out.more);
    struct store_record r;
    assert_err(store_get(s, 1, SPAN_LIT("goes"), NOW, &r), NOT_FOUND);
    assert_true(store_stamp_is_none(&r.stamp));
    assert_value(s, "stays", NOW, "v");
    /* A clock set back does not give the key a stamp below the one that is forgotten. */
    struct store_written again = fixture_put(s, "goes", "v", 0, NOW - SKEW_MS);
    assert_true(again.stamp.hlc > stamp.hlc);
    store_close(&s);
}

/* The same when the forgotten stamp was another's: the new value must win where it is
 * remembered. */
static void test_collect_then_write(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_stamp theirs = fixture_stamp(NOW, 5, 2);
    merge_tombstone(s, "k", theirs);
    struct store_known_entry member[] = { entry(2, HLC(NOW, 5)) };
    struct store_known known = { member, 1, 0 };
    assert_ok(store_join_known(s, &known, NOW));
    assert_int_equal(collect(s, NOW + RETENTION_MS, &known, 1).removed_count, 1);
    struct store_written out = fixture_put(s, "k", "v", 0, NOW - SKEW_MS);
    assert_true(store_stamp_compare(&out.stamp, &theirs) > 0);
    store_close(&s);
}

static void test_collect_expired(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    fixture_put(s, "short", "value", 1000, NOW);
    fixture_put(s, "long", "value", 2 * (uint64_t)RETENTION_MS, NOW);
    assert_int_equal(collect(s, NOW + 1000 + SKEW_MS - 1, NULL, 0).emptied_count, 0);
    assert_int_equal(collect(s, NOW + 1000 + SKEW_MS, NULL, 0).emptied_count, 1);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.expired_count, 1);
    assert_int_equal(stats.key_count, 1);
    assert_int_equal(collect(s, NOW + RETENTION_MS, NULL, 0).removed_count, 1);
    assert_value(s, "long", NOW + RETENTION_MS, "value");
    struct store_collected out = collect(s, NOW + 2 * (uint64_t)RETENTION_MS + SKEW_MS, NULL, 0);
    assert_int_equal(out.emptied_count, 1);
    assert_int_equal(out.removed_count, 1);
    store_stats(s, &stats);
    assert_int_equal(stats.namespace_count, 0);
    assert_int_equal(stats.bytes, 0);
    assert_int_equal(stats.removed_count, 2);
    store_close(&s);
}

static void test_collect_members(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_stamp ours = fixture_delete(s, "ours", NOW).stamp;
    merge_tombstone(s, "theirs", fixture_stamp(NOW, 5, 2));
    uint64_t late = NOW + RETENTION_MS;
    /* Our own vector does not cover theirs, the member's does not cover ours. */
    struct store_known_entry member[] = { entry(2, HLC(NOW, 5)), entry(7, ours.hlc - 1) };
    struct store_known members[] = { { member, 2, 0 }, { member, 2, 0 } };
    assert_int_equal(collect(s, late, members, 2).removed_count, 0);
    member[1].hlc = ours.hlc;
    struct store_collected out = collect(s, late, members, 2);
    assert_int_equal(out.removed_count, 0);
    assert_false(out.more); /* Both wait for their next look. */
    assert_int_equal(collect(s, late + STORE_COLLECT_RETRY_MS, members, 2).removed_count, 1);
    assert_ok(store_join_known(s, &members[0], NOW));
    struct store_known_entry stale[] = { entry(2, HLC(NOW, 4)), entry(7, ours.hlc) };
    struct store_known with_stale[] = { { member, 2, 0 }, { stale, 2, 0 } };
    late += 2 * STORE_COLLECT_RETRY_MS;
    assert_int_equal(collect(s, late, with_stale, 2).removed_count, 0);
    with_stale[1].rest_hlc = HLC(NOW, 5);
    late += STORE_COLLECT_RETRY_MS;
    assert_int_equal(collect(s, late, with_stale, 2).removed_count, 1);
    store_close(&s);
}

static void test_collect_steps(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    for (int i = 0; i < 10; i++) {
        char key[8] = { 'k', (char)('0' + i) };
        if (i < 5) {
            fixture_put(s, key, "v", 1, NOW);
        } else {
            fixture_delete(s, key, NOW);
        }
    }
    struct store_collect c = { NOW + RETENTION_MS, NULL, 0, 4 };
    size_t looks = 0;
    struct store_collected out;
    do {
        store_collect(s, &c, &out);
        store_check(s);
        assert_true(out.emptied_count + out.removed_count <= 4);
        looks++;
    } while (out.more);
    assert_int_equal(looks, 4); /* 5 emptied, 10 removed. */
    c.step_max = 0;
    store_collect(s, &c, &out);
    assert_false(out.more);
    store_close(&s);
}

static void test_reset_predicate(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_known_entry e[] = { entry(2, 5) };
    struct store_known stranger = { e, 1, 0 };
    assert_false(store_needs_reset(s, &stranger)); /* Nothing was collected. */
    struct store_stamp gone = fixture_delete(s, "k", NOW).stamp;
    collect(s, NOW + RETENTION_MS, NULL, 0);
    assert_true(store_needs_reset(s, &stranger));
    struct store_known empty = { NULL, 0, 0 };
    assert_false(store_needs_reset(s, &empty));
    e[0].hlc = 0;
    assert_false(store_needs_reset(s, &stranger));
    e[0] = entry(7, gone.hlc - 1);
    assert_true(store_needs_reset(s, &stranger));
    e[0].hlc++;
    assert_false(store_needs_reset(s, &stranger));
    /* The floor folds once every vector's rest covers it, and still turns the stranger away. */
    struct store_known rest = { NULL, 0, gone.hlc };
    uint64_t later = NOW + 2 * (uint64_t)RETENTION_MS;
    assert_ok(store_compact_known(s, gone.hlc, later));
    fixture_delete(s, "k2", NOW + 1);
    collect(s, later, &rest, 1);
    assert_false(store_needs_reset(s, &rest));
    e[0] = entry(2, 5);
    assert_true(store_needs_reset(s, &stranger));
    store_close(&s);
}

static void test_stale(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_stamp old = fixture_put(s, "k", "old", 0, NOW).stamp;
    fixture_delete(s, "k", NOW);
    collect(s, NOW + RETENTION_MS, NULL, 0);
    struct store_remote r = {
        .app_id = 1, .key = SPAN_LIT("k"), .sealed = SPAN_LIT("old"), .stamp = old
    };
    struct store_merged merged;
    assert_ok(store_merge(s, &r, NOW, &merged));
    assert_int_equal(merged.outcome, STORE_MERGE_STALE);
    assert_absent(s, "k", NOW);
    store_close(&s);
}

/* A page that was read before its responder knew of a delete, and arrives after the delete has been
 * collected, would bring the value back. What the responder knew when it read the page tells. */
static void test_late_page(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_remote page = { .app_id = 1,
                                 .key = SPAN_LIT("k"),
                                 .sealed = SPAN_LIT("old"),
                                 .stamp = fixture_stamp(NOW - 1, 0, 8) };
    struct store_known_entry then[] = { entry(8, page.stamp.hlc) };
    struct store_known with_page = { then, 1, 0 };
    struct store_stamp deleted = fixture_delete(s, "k", NOW).stamp;
    struct store_known_entry later[] = { entry(8, page.stamp.hlc), entry(7, deleted.hlc) };
    struct store_known member = { later, 2, 0 };
    assert_int_equal(collect(s, NOW + RETENTION_MS, &member, 1).removed_count, 1);
    assert_true(store_needs_reset(s, &with_page));
    assert_false(store_needs_reset(s, &member));
    store_close(&s);
}

/* A newcomer takes over a vector; with the floor it also knows whom to turn away. */
static void test_join_floor(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store *newcomer = fixture_open(8);
    struct store_stamp gone = fixture_delete(s, "k", NOW).stamp;
    collect(s, NOW + RETENTION_MS, NULL, 0);
    struct store_known_entry entries[4];
    struct store_known floor;
    assert_int_equal(store_floor_count(s), 1);
    assert_err(store_floor_copy(s, entries, 0, &floor), TOO_BIG);
    assert_ok(store_floor_copy(s, entries, 1, &floor));
    assert_int_equal(floor.entries[0].hlc, gone.hlc);
    struct store_known_entry e[] = { entry(2, 5) };
    struct store_known stranger = { e, 1, 0 };
    assert_false(store_needs_reset(newcomer, &stranger));
    assert_ok(store_join_floor(newcomer, &floor, NOW));
    assert_true(store_needs_reset(newcomer, &stranger));
    assert_false(store_needs_reset(newcomer, &floor));
    store_check(newcomer);
    entries[1] = entry(0, 5);
    struct store_known bad = { entries, 2, 0 };
    assert_err(store_join_floor(newcomer, &bad, NOW), INVALID);
    entries[1] = entry(3, HLC(NOW + SKEW_MS + 1, 0));
    assert_err(store_join_floor(newcomer, &bad, NOW), FUTURE);
    struct store_known rest = { NULL, 0, gone.hlc + 1 }; /* Takes the place of the entry. */
    assert_ok(store_join_floor(newcomer, &rest, NOW));
    assert_int_equal(store_floor_count(newcomer), 0);
    assert_true(store_needs_reset(newcomer, &floor));
    assert_false(store_needs_reset(newcomer, &rest));
    assert_ok(store_join_floor(newcomer, &floor, NOW));
    assert_int_equal(store_floor_count(newcomer), 0);
    store_check(newcomer);
    store_close(&s);
    store_close(&newcomer);
}

/* It tells whether anything was collected that the floor did not cover. */
static void test_floor_rise_count(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_known_entry e[] = { entry(2, 5) };
    const struct store_known floor = { e, 1, 0 };
    const struct store_known rest = { NULL, 0, 6 };
    assert_int_equal(store_floor_rise_count(s), 0);
    (void)fixture_delete(s, "k", NOW);
    merge_tombstone(s, "theirs", fixture_stamp(NOW - 1, 0, 2));
    assert_int_equal(store_floor_rise_count(s), 0);
    uint64_t before = store_floor_rise_count(s);
    assert_ok(store_join_floor(s, &floor, NOW));
    assert_true(store_floor_rise_count(s) > before);
    before = store_floor_rise_count(s);
    assert_ok(store_join_floor(s, &floor, NOW));
    assert_int_equal(store_floor_rise_count(s), before);
    assert_ok(store_join_floor(s, &rest, NOW));
    assert_true(store_floor_rise_count(s) > before);
    before = store_floor_rise_count(s);
    assert_ok(store_join_floor(s, &rest, NOW));
    assert_ok(store_join_floor(s, &floor, NOW));
    assert_ok(store_compact_known(s, 6, NOW));
    assert_int_equal(store_floor_rise_count(s), before);
    assert_true(collect(s, NOW + RETENTION_MS, NULL, 0).removed_count > 0);
    assert_true(store_floor_rise_count(s) > before);
    before = store_floor_rise_count(s);
    const uint8_t writer[STORE_WRITER_BYTES] = { 8 };
    store_reset(s, writer);
    assert_int_equal(store_floor_rise_count(s), before);
    store_close(&s);
}

static void test_reset(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    uint64_t hlc = fixture_put(s, "k", "v", 0, NOW).stamp.hlc;
    fixture_put(s, "t", "v", 5, NOW);
    fixture_delete(s, "d", NOW);
    merge_tombstone(s, "theirs", fixture_stamp(NOW, 5, 2));
    uint64_t position = store_log_last(s);
    uint8_t writer[STORE_WRITER_BYTES] = { 8 };
    store_reset(s, writer);
    store_check(s);
    assert_absent(s, "k", NOW);
    assert_int_equal(store_known_count(s), 0);
    assert_int_equal(store_log_last(s), position);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(stats.bytes, 0);
    struct store_stamp next = fixture_put(s, "k", "new", 0, NOW - 1).stamp;
    assert_true(next.hlc > hlc);
    assert_int_equal(next.writer[0], 8);
    store_check(s);
    store_close(&s);
}

int main(void) {
    struct CMUnitTest tests[64] = {
        cmocka_unit_test(test_covers),
        cmocka_unit_test(test_join_is_a_join),
        cmocka_unit_test(test_writer_room),
        cmocka_unit_test(test_compact),
        cmocka_unit_test(test_collect_alone),
        cmocka_unit_test(test_collect_expired),
        cmocka_unit_test(test_collect_members),
        cmocka_unit_test(test_collect_steps),
        cmocka_unit_test(test_reset_predicate),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_join_floor),
        cmocka_unit_test(test_late_page),
        cmocka_unit_test(test_collect_then_write),
        cmocka_unit_test(test_floor_rise_count),
    };
    size_t count = 15;
    TEST_ADD_ROWS(tests, count, test_join, join_rows);
    return _cmocka_run_group_tests("store_known", tests, count, NULL, NULL);
}
