/* SPDX-License-Identifier: Apache-2.0 */
/* Pages: of keys in order, and of the change log. */
#include <stdio.h>

#include "store_fixture.h"

#define ROOM 2000

static struct store_record records[ROOM];

static struct store_page list(const struct store *s, const char *prefix, struct span after,
                              size_t limit, uint64_t now_unix_ms) {
    struct store_range range = { 1, span_str(prefix), after, now_unix_ms, limit };
    struct store_page page;
    assert_ok(store_list(s, &range, records, &page));
    assert_true(page.count <= limit);
    assert_int_equal(page.more, page.next_after.len > 0);
    return page;
}

static void test_list_order(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    static const char *const keys[] = { "b", "a", "ab", "\xff", "abc", "a\x01", "B", "ac" };
    static const char *const want[] = { "B", "a", "a\x01", "ab", "abc", "ac", "b", "\xff" };
    assert_int_equal(list(s, "", SPAN_EMPTY, ROOM, NOW).count, 0);
    for (size_t i = 0; i < 8; i++) {
        fixture_put(s, keys[i], keys[i], 0, NOW);
    }
    struct store_page page = list(s, "", SPAN_EMPTY, ROOM, NOW);
    assert_int_equal(page.count, 8);
    assert_false(page.more);
    for (size_t i = 0; i < 8; i++) {
        assert_span(records[i].key, want[i]);
        assert_span(records[i].sealed, want[i]);
    }
    assert_int_equal(list(s, "ab", SPAN_EMPTY, ROOM, NOW).count, 2);
    assert_int_equal(list(s, "a", SPAN_EMPTY, ROOM, NOW).count, 5);
    assert_int_equal(list(s, "c", SPAN_EMPTY, ROOM, NOW).count, 0);
    assert_int_equal(list(s, "\xff", SPAN_EMPTY, ROOM, NOW).count, 1);
    assert_int_equal(list(s, "a", SPAN_LIT("abb"), ROOM, NOW).count, 2); /* A key that is gone. */
    page = list(s, "a", SPAN_EMPTY, 5, NOW);
    assert_false(page.more); /* The page is full and the range has ended. */
    page = list(s, "a", SPAN_EMPTY, 4, NOW);
    assert_true(page.more);
    assert_span(page.next_after, "abc");
    store_close(&s);
}

static void test_list_errors(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store_range range = { 1, SPAN_LIT("a"), SPAN_LIT("b"), NOW, 1 };
    struct store_page page;
    assert_err(store_list(s, &range, records, &page), INVALID);
    range.after = SPAN_LIT("a");
    assert_ok(store_list(s, &range, records, &page));
    range.limit = 0;
    assert_err(store_list(s, &range, records, &page), INVALID);
    store_close(&s);
}

static void key_of(size_t i, char key[static 16]) {
    (void)snprintf(key, 16, "key%06u", (unsigned)i);
}

/* Deleted, expired and live keys by turns; what is live the whole time is seen exactly once. */
static void test_list_changes_meanwhile(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    char key[16];
    for (size_t i = 0; i < 3000; i++) {
        key_of(i, key);
        fixture_put(s, key, "v", i % 3 == 1 ? 10 : 0, NOW);
        if (i % 3 == 2) {
            fixture_delete(s, key, NOW);
        }
    }
    uint8_t after[16];
    size_t after_len = 0;
    size_t seen = 0;
    struct store_page page;
    do {
        page = list(s, "key", (struct span){ after, after_len }, 7, NOW + 10);
        for (size_t i = 0; i < page.count; i++) {
            key_of(3 * seen, key);
            assert_span(records[i].key, key);
            seen++;
        }
        assert_true(page.next_after.len <= sizeof(after));
        after_len = page.next_after.len;
        if (after_len > 0) {
            memcpy(after, page.next_after.ptr, after_len);
        }
        key_of(3 * (seen / 2), key); /* Overwrites do not move a key. */
        fixture_put(s, key, "w", 0, NOW);
    } while (page.more);
    assert_int_equal(seen, 1000);
    store_check(s);
    store_close(&s);
}

static void test_list_bounded(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    char key[16];
    for (size_t i = 0; i < STORE_LIST_SKIP_MAX + 1; i++) {
        key_of(i, key);
        fixture_put(s, key, "v", 10, NOW);
    }
    struct store_page page = list(s, "", SPAN_EMPTY, 5, NOW + 10);
    assert_int_equal(page.count, 0);
    assert_true(page.more);
    key_of(STORE_LIST_SKIP_MAX - 1, key);
    assert_span(page.next_after, key);
    page = list(s, "", page.next_after, 5, NOW + 10);
    assert_int_equal(page.count, 0);
    assert_false(page.more);
    page = list(s, "", SPAN_EMPTY, 5, NOW + 9);
    assert_int_equal(page.count, 5);
    store_close(&s);
}

/* ---- The change log ---- */

static struct store_log_page log_read(struct store *s, uint64_t since,
                                      const struct store_known *known, size_t bytes_max,
                                      size_t count_max) {
    struct store_log_query query = { since, known, bytes_max, count_max };
    struct store_log_page page;
    assert_ok(store_log_read(s, &query, records, &page));
    return page;
}

static void test_log_order(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    assert_int_equal(store_log_last(s), 0);
    struct store_log_page page = log_read(s, 0, NULL, 1000, ROOM);
    assert_int_equal(page.count, 0);
    assert_false(page.more);
    fixture_put(s, "a", "1", 0, NOW);
    fixture_put(s, "b", "1", 9, NOW);
    fixture_put(s, "c", "1", 0, NOW);
    fixture_put(s, "a", "2", 0, NOW);
    fixture_delete(s, "c", NOW);
    page = log_read(s, 0, NULL, 100000, ROOM);
    assert_int_equal(page.count, 3);
    assert_false(page.more);
    assert_int_equal(page.next, 5);
    assert_int_equal(store_log_last(s), 5);
    assert_span(records[0].key, "b");
    assert_int_equal(records[0].ttl_ms, 9);
    assert_span(records[1].key, "a");
    assert_span(records[1].sealed, "2");
    assert_span(records[2].key, "c");
    assert_int_equal(records[2].state, STORE_TOMBSTONE);
    assert_int_equal(log_read(s, 4, NULL, 100000, ROOM).count, 1);
    assert_int_equal(log_read(s, 5, NULL, 100000, ROOM).count, 0);
    assert_int_equal(log_read(s, UINT64_MAX, NULL, 100000, ROOM).next, UINT64_MAX);
    struct store_log_query query = { 0 };
    assert_err(store_log_read(s, &query, records, &page), INVALID);
    store_close(&s);
}

static void test_log_limits(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    for (int i = 0; i < 3; i++) {
        char key[2] = { (char)('a' + i) };
        fixture_put(s, key, "12345", 0, NOW);
    }
    size_t one = STORE_RECORD_BYTES + 1 + 5;
    assert_int_equal(log_read(s, 0, NULL, 0, ROOM).count, 1);
    assert_int_equal(log_read(s, 0, NULL, 2 * one - 1, ROOM).count, 1);
    struct store_log_page page = log_read(s, 0, NULL, 2 * one, ROOM);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.next, 2);
    assert_true(page.more);
    page = log_read(s, page.next, NULL, 2 * one, ROOM);
    assert_int_equal(page.count, 1);
    assert_false(page.more);
    page = log_read(s, 0, NULL, SIZE_MAX, 2);
    assert_int_equal(page.count, 2);
    assert_true(page.more);
    store_close(&s);
}

static void test_log_known(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    uint64_t first = fixture_put(s, "a", "1", 0, NOW).stamp.hlc;
    fixture_put(s, "b", "1", 0, NOW);
    struct store_known_entry entries[] = { { { 7 }, first }, { { 9 }, UINT64_MAX } };
    struct store_known known = { entries, 2, 0 };
    struct store_log_page page = log_read(s, 0, &known, 100000, ROOM);
    assert_int_equal(page.count, 1);
    assert_span(records[0].key, "b");
    known.rest_hlc = first + 1;
    page = log_read(s, 0, &known, 100000, ROOM);
    assert_int_equal(page.count, 0);
    assert_int_equal(page.next, 2);
    assert_false(page.more);
    store_close(&s);
}

/* A puller that needs nothing does not make one call walk the log. */
static void test_log_bounded(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    char key[16];
    for (size_t i = 0; i < STORE_LOG_SCAN_MAX + 10; i++) {
        key_of(i, key);
        fixture_put(s, key, "v", 0, NOW);
    }
    struct store_known known = { NULL, 0, UINT64_MAX };
    struct store_log_page page = log_read(s, 0, &known, 100000, ROOM);
    assert_int_equal(page.count, 0);
    assert_int_equal(page.next, STORE_LOG_SCAN_MAX);
    assert_true(page.more);
    page = log_read(s, page.next, &known, 100000, ROOM);
    assert_false(page.more);
    store_close(&s);
}

/* Positions are found whatever was moved to the end in between, and the distance between anchors
 * stays bounded also when anchors themselves are what moves. */
static void test_log_positions(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    char key[16];
    uint32_t random = 1;
    for (size_t i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        key_of(i % 7 < 2 ? 0 : (random >> 16) % 4000, key);
        fixture_put(s, key, "v", 0, NOW);
        if (i % 1000 == 0) {
            store_check(s);
        }
    }
    uint64_t since = 0;
    size_t count = 0;
    struct store_log_page page;
    do {
        page = log_read(s, since, NULL, SIZE_MAX, 97);
        count += page.count;
        struct store_record *first = &records[0];
        uint64_t hlc = first->stamp.hlc;
        for (size_t i = 1; i < page.count; i++) {
            assert_true(records[i].stamp.hlc > hlc); /* One writer: arrival is stamp order. */
            hlc = records[i].stamp.hlc;
        }
        since = page.next;
    } while (page.more);
    struct store_stats stats;
    store_stats(s, &stats);
    assert_int_equal(count, stats.key_count);
    store_check(s);
    store_close(&s);
}

/* ---- Digests ---- */

static void test_digest(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    struct store *t = fixture_open(8);
    assert_int_equal(store_digest(s, 1).low | store_digest(s, 1).high, 0);
    for (int i = 0; i < 3; i++) {
        char key[2] = { (char)('a' + i) };
        fixture_put(s, key, key, 0, NOW);
    }
    struct store_digest with_three = store_digest(s, 1);
    assert_true(with_three.low != 0 && with_three.high != 0);
    size_t count = log_read(s, 0, NULL, SIZE_MAX, ROOM).count;
    while (count-- > 0) { /* The other way round. */
        struct store_remote r = fixture_remote(&records[count]);
        struct store_merged merged;
        assert_ok(store_merge(t, &r, NOW, &merged));
    }
    struct store_digest theirs = store_digest(t, 1);
    assert_memory_equal(&theirs, &with_three, sizeof(theirs));
    fixture_put(s, "mortal", "v", 1, NOW); /* Values with a ttl do not count. */
    fixture_delete(s, "never", NOW);
    struct store_digest same = store_digest(s, 1);
    assert_memory_equal(&same, &with_three, sizeof(same));
    fixture_delete(s, "a", NOW);
    struct store_digest with_two = store_digest(s, 1);
    assert_true(with_two.low != with_three.low && with_two.high != with_three.high);
    fixture_put(s, "b", "b", 0, NOW); /* The same value, another stamp. */
    assert_true(store_digest(s, 1).low != with_two.low);
    store_close(&s);
    store_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_order),    cmocka_unit_test(test_list_errors),
        cmocka_unit_test(test_list_bounded),  cmocka_unit_test(test_list_changes_meanwhile),
        cmocka_unit_test(test_log_order),     cmocka_unit_test(test_log_limits),
        cmocka_unit_test(test_log_known),     cmocka_unit_test(test_log_bounded),
        cmocka_unit_test(test_log_positions), cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests_name("store_pages", tests, NULL, NULL);
}
