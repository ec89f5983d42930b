/* SPDX-License-Identifier: Apache-2.0 */
#include <stdalign.h>

#include "base/arena.h"
#include "test.h"

#define ALIGN alignof(max_align_t)

static void test_alignment_and_separation(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    uint8_t *taken[200];
    for (size_t i = 0; i < TEST_ROWS(taken); i++) {
        size_t len = 1 + i % 40;
        taken[i] = arena_take(&a, len);
        assert_non_null(taken[i]);
        assert_int_equal((uintptr_t)taken[i] % ALIGN, 0);
        memset(taken[i], (int)i, len);
    }
    for (size_t i = 0; i < TEST_ROWS(taken); i++) {
        for (size_t at = 0; at < 1 + i % 40; at++) {
            assert_int_equal(taken[i][at], (uint8_t)i);
        }
    }
    arena_close(&a);
}

struct limit_row {
    const char *name;
    size_t bytes_max;
    size_t first;
    size_t second;
    bool first_fits;
    bool second_fits;
};

static struct limit_row limit_rows[] = {
    { "nothing_allowed", 0, 1, 0, false, true },
    { "exact", 4 * ALIGN, 2 * ALIGN, 2 * ALIGN, true, true },
    { "one_over", 4 * ALIGN, 2 * ALIGN, 2 * ALIGN + 1, true, false },
    { "rounding_counts", 2 * ALIGN, 1, ALIGN + 1, true, false },
    { "rounding_up_to_max", 2 * ALIGN, 1, ALIGN, true, true },
    { "after_a_refusal", 2 * ALIGN, 2 * ALIGN + 1, 2 * ALIGN, false, true },
    { "larger_than_a_block", 100000, 50000, 40000, true, true },
    { "size_near_wrap", 4096, SIZE_MAX, SIZE_MAX - ALIGN, false, false },
};

static void test_limit(void **state) {
    const struct limit_row *row = *state;
    struct arena a;
    arena_init(&a, row->bytes_max);
    assert_int_equal(arena_take(&a, row->first) != NULL, row->first_fits);
    assert_int_equal(arena_take(&a, row->second) != NULL, row->second_fits);
    assert_true(a.used_bytes <= row->bytes_max);
    arena_close(&a);
}

/* After a reset all of bytes_max is there again, and the small block is used again. */
static void test_reset(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 64 * 1024);
    uint8_t *first = arena_take(&a, 100);
    assert_non_null(first);
    memset(first, 0xaa, 100);
    for (size_t round = 0; round < 3; round++) {
        assert_non_null(arena_take(&a, 32 * 1024)); /* A block of its own, freed by the reset. */
        assert_null(arena_take(&a, 64 * 1024));
        arena_reset(&a);
        assert_int_equal(a.used_bytes, 0);
        uint8_t *again = arena_take(&a, 100);
        assert_ptr_equal(again, first);
        for (size_t i = 0; i < 100; i++) {
            assert_int_equal(again[i], 0); /* Wiped. */
        }
        memset(again, 0xaa, 100);
    }
    arena_close(&a);
}

static void test_close(void **state) {
    (void)state;
    struct arena zero = { 0 };
    arena_close(&zero);
    arena_reset(&zero);
    assert_null(arena_take(&zero, 1));
    struct arena a;
    arena_init(&a, 100000);
    arena_reset(&a); /* Nothing was taken. */
    assert_non_null(arena_take(&a, 5000));
    arena_reset(&a); /* Nothing small to keep. */
    assert_non_null(arena_take(&a, 10));
    arena_close(&a);
    arena_close(&a);
    assert_null(arena_take(&a, 1));
}

/* What is held is what malloc was asked for, whatever is used of it. */
static void test_held_bytes(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 100000);
    assert_int_equal(a.held_bytes, 0);
    assert_non_null(arena_take(&a, 1));
    size_t small_bytes = a.held_bytes;
    assert_true(small_bytes > 4096);
    assert_non_null(arena_take(&a, 4000));
    assert_int_equal(a.held_bytes, small_bytes);
    assert_non_null(arena_take(&a, 50000));
    assert_int_equal(a.held_bytes, 2 * small_bytes - 4096 + 50000);
    assert_null(arena_take(&a, 50000));
    assert_int_equal(a.held_bytes, 2 * small_bytes - 4096 + 50000);
    arena_reset(&a);
    assert_int_equal(a.held_bytes, small_bytes);
    arena_close(&a);
    assert_int_equal(a.held_bytes, 0);
    arena_init(&a, 100000);
    assert_non_null(arena_take(&a, 50000));
    arena_reset(&a); /* Nothing small to keep. */
    assert_int_equal(a.held_bytes, 0);
    arena_close(&a);
}

int main(void) {
    struct CMUnitTest tests[4 + TEST_ROWS(limit_rows)] = {
        cmocka_unit_test(test_alignment_and_separation),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_held_bytes),
    };
    size_t count = 4;
    TEST_ADD_ROWS(tests, count, test_limit, limit_rows);
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
