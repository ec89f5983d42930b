/* SPDX-License-Identifier: Apache-2.0 */
#include "store/stamp.h"
#include "test.h"

#define MS(ms, logical) ((uint64_t)(ms) << STORE_HLC_LOGICAL_BITS | (logical))
#define TOP STORE_UNIX_MS_MAX

static struct next_row {
    const char *name;
    uint64_t now_unix_ms;
    uint64_t after;
    uint64_t skew_ms;
    enum err want;
    uint64_t hlc;
} next_rows[] = {
    { "next_follows_now", 1000, MS(500, 9), 5, E_OK, MS(1000, 0) },
    { "next_same_millisecond", 1000, MS(1000, 0), 5, E_OK, MS(1000, 1) },
    { "next_before_now_by_a_count", 1000, MS(999, 0xffff), 5, E_OK, MS(1000, 0) },
    { "next_full_count_carries", 1000, MS(1000, 0xffff), 5, E_OK, MS(1001, 0) },
    { "next_ahead_at_skew", 1000, MS(1005, 3), 5, E_OK, MS(1005, 4) },
    { "next_carry_over_skew", 1000, MS(1005, 0xffff), 5, E_FUTURE, 0 },
    { "next_ahead_past_skew", 1000, MS(1006, 0), 5, E_FUTURE, 0 },
    { "next_no_skew", 1000, MS(1000, 7), 0, E_OK, MS(1000, 8) },
    { "next_at_zero", 0, 0, 5, E_OK, 1 },
    { "next_last_millisecond", TOP, MS(5, 0), 5, E_OK, MS(TOP, 0) },
    { "next_past_the_end", TOP + 1, 0, 5, E_INVALID, 0 },
    { "next_nothing_after", TOP, UINT64_MAX, 5, E_FUTURE, 0 },
    { "next_wide_skew", 1000, MS(TOP, 0), UINT64_MAX, E_OK, MS(TOP, 1) },
};

static void test_next(void **state) {
    const struct next_row *c = *state;
    uint64_t hlc = 0;
    assert_err_equal(store_hlc_next(c->now_unix_ms, c->after, c->skew_ms, &hlc), c->want);
    assert_int_equal(hlc, c->hlc);
}

static struct compare_row {
    const char *name;
    struct store_stamp a;
    struct store_stamp b;
    int want;
} compare_rows[] = {
    { "compare_equal", { 7, { 1 } }, { 7, { 1 } }, 0 },
    { "compare_clock", { 6, { 9 } }, { 7, { 1 } }, -1 },
    { "compare_writer", { 7, { 2 } }, { 7, { 1, 0xff } }, 1 },
    { "compare_last_writer_byte", { 7, { [15] = 1 } }, { 7, { [15] = 2 } }, -1 },
    { "compare_high_byte_is_unsigned", { 7, { 0x80 } }, { 7, { 0x7f } }, 1 },
    { "compare_wide_clock", { UINT64_MAX, { 0 } }, { 1, { 1 } }, 1 },
    { "compare_none", { 0, { 0 } }, { 1, { 0 } }, -1 },
};

static int sign(int x) {
    return (x > 0) - (x < 0);
}

static void test_compare(void **state) {
    const struct compare_row *c = *state;
    assert_int_equal(sign(store_stamp_compare(&c->a, &c->b)), c->want);
    assert_int_equal(sign(store_stamp_compare(&c->b, &c->a)), -c->want);
}

static void test_parts(void **state) {
    (void)state;
    struct store_stamp stamp = { MS(1234, 5), { 1 } };
    assert_int_equal(store_stamp_unix_ms(&stamp), 1234);
    assert_false(store_stamp_is_none(&stamp));
    assert_true(store_stamp_is_none(&STORE_STAMP_NONE));
    assert_false(store_hlc_is_future(MS(1005, 0xffff), 1000, 5));
    assert_true(store_hlc_is_future(MS(1006, 0), 1000, 5));
    assert_false(store_hlc_is_future(MS(1, 0), 1000, 0));
}

int main(void) {
    struct CMUnitTest tests[64] = { cmocka_unit_test(test_parts) };
    size_t count = 1;
    TEST_ADD_ROWS(tests, count, test_next, next_rows);
    TEST_ADD_ROWS(tests, count, test_compare, compare_rows);
    return _cmocka_run_group_tests("store_stamp", tests, count, NULL, NULL);
}
