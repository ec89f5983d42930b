/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/head.h"
#include "test.h"

/* The true time is WALL + (mono - MONO): both clocks right. */
#define MONO_MS 1000000
#define WALL_S 1700000000ULL
#define STALL_MS 30000
#define SKEW_MS 5000
#define REORG_COUNT 64

static char reason[REGISTRY_REASON_BYTES];

static struct head_anchor anchor_of(void) {
    return (struct head_anchor){ .cfg = { STALL_MS, SKEW_MS, REORG_COUNT } };
}

/* A head whose hash is its number and fork. */
static struct head head_at(uint64_t number, uint64_t timestamp_s, uint8_t fork) {
    struct head head = { .number = number, .timestamp_unix_s = timestamp_s };
    memcpy(head.hash, &number, sizeof(number));
    head.hash[31] = fork;
    return head;
}

static struct head_instant instant(uint64_t mono_ms, uint64_t unix_ms) {
    return (struct head_instant){ mono_ms, mono_ms, unix_ms };
}

/* `at_ms` after the beginning, by clocks that are right. */
static struct head_instant right(uint64_t at_ms) {
    return instant(MONO_MS + at_ms, WALL_S * 1000 + at_ms);
}

static uint64_t take_ok(struct head_anchor *anchor, struct head head, struct head_instant at) {
    uint64_t as_of_ms = 0;
    assert_ok(head_take(anchor, &head, at, &as_of_ms, reason));
    assert_string_equal(reason, "");
    return as_of_ms;
}

static void take_bad(struct head_anchor *anchor, struct head head, struct head_instant at,
                     enum err want, const char *words) {
    uint64_t as_of_ms = 1;
    assert_err_equal(head_take(anchor, &head, at, &as_of_ms, reason), want);
    assert_true(as_of_ms == 0);
    if (strstr(reason, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", reason, words);
    }
}

static void test_prompt_heads(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(take_ok(&a, head_at(i, WALL_S + 2 * i, 0), right(2000 * i)) ==
                    MONO_MS + 2000 * i);
    }
}

/* An answer is as of its block, not of when it came. */
static void test_late_answer(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1, WALL_S, 0), right(0));
    assert_true(take_ok(&a, head_at(2, WALL_S + 2, 0), right(9000)) == MONO_MS + 2000);
    /* A head that comes faster than the first shows that the first was late. */
    struct head_anchor b = anchor_of();
    assert_true(take_ok(&b, head_at(1, WALL_S, 0), right(5000)) == MONO_MS + 5000);
    assert_true(take_ok(&b, head_at(2, WALL_S + 6, 0), right(6000)) == MONO_MS + 6000);
    assert_true(take_ok(&b, head_at(2, WALL_S + 6, 0), right(9000)) == MONO_MS + 6000);
}

/* It vouches for no instant after the question. */
static void test_asked(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    struct head_instant at = { MONO_MS, MONO_MS + 4000, WALL_S * 1000 + 4000 };
    assert_true(take_ok(&a, head_at(1, WALL_S + 4, 0), at) == MONO_MS);
}

static void test_frozen(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    for (uint64_t at_ms = 0; at_ms <= STALL_MS; at_ms += 5000) {
        assert_true(take_ok(&a, head_at(1, WALL_S, 0), right(at_ms)) == MONO_MS);
    }
    take_bad(&a, head_at(1, WALL_S, 0), right(STALL_MS + 1), E_UNAVAILABLE,
             "the head has stalled: its newest block 1 is 30 s old, must be at most 30 s");
    /* It goes on, and all is well. */
    assert_true(take_ok(&a, head_at(20, WALL_S + 40, 0), right(40000)) == MONO_MS + 40000);
}

/* The head frozen and the clock set back an hour: it ages all the same. */
static void test_frozen_clock_back(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1, WALL_S, 0), right(0));
    for (uint64_t at_ms = 1000; at_ms <= 2 * STALL_MS; at_ms += 1000) {
        uint64_t as_of_ms = 1;
        struct head head = head_at(1, WALL_S, 0);
        struct head_instant at = instant(MONO_MS + at_ms, (WALL_S - 3600) * 1000);
        struct rc rc = head_take(&a, &head, at, &as_of_ms, reason);
        assert_int_not_equal(rc.err, E_OK); /* By the clock it is an hour in the future. */
        assert_true(as_of_ms == 0);
    }
    /* Set back by less than shows: still as of the same instant. */
    struct head_instant at = instant(MONO_MS + 20000, WALL_S * 1000 - SKEW_MS);
    assert_true(take_ok(&a, head_at(1, WALL_S, 0), at) == MONO_MS);
    at = instant(MONO_MS + STALL_MS + 1, WALL_S * 1000 - SKEW_MS);
    take_bad(&a, head_at(1, WALL_S, 0), at, E_UNAVAILABLE, "the head has stalled");
}

/* Blocks held back and handed out slowly, the clock set back along with them. */
static void test_slow_replay(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(0, WALL_S, 0), right(0));
    uint64_t n = 1;
    for (; n <= 6; n++) { /* A block of 2 s each 7 s. */
        struct head_instant at = instant(MONO_MS + 7000 * n, (WALL_S + 2 * n) * 1000);
        assert_true(take_ok(&a, head_at(n, WALL_S + 2 * n, 0), at) == MONO_MS + 2000 * n);
    }
    take_bad(&a, head_at(n, WALL_S + 2 * n, 0),
             instant(MONO_MS + 7000 * n, (WALL_S + 2 * n) * 1000), E_UNAVAILABLE,
             "the head has stalled");
}

static void test_clock_forward(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1, WALL_S, 0), right(0));
    struct head_instant at = instant(MONO_MS + 2000, (WALL_S + 3602) * 1000);
    take_bad(&a, head_at(2, WALL_S + 2, 0), at, E_UNAVAILABLE,
             "the newest block 2 is 3600 s old by this node's clock, must be at most 35 s");
    /* Mended: nothing has become older for good. */
    assert_true(take_ok(&a, head_at(3, WALL_S + 4, 0), right(4000)) == MONO_MS + 4000);
}

static void test_wall_limits(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1, WALL_S, 0), instant(MONO_MS, WALL_S * 1000 + STALL_MS + SKEW_MS));
    struct head_anchor b = anchor_of();
    take_bad(&b, head_at(1, WALL_S, 0), instant(MONO_MS, WALL_S * 1000 + STALL_MS + SKEW_MS + 1),
             E_UNAVAILABLE, "by this node's clock");
    struct head_anchor c = anchor_of();
    (void)take_ok(&c, head_at(1, WALL_S, 0), instant(MONO_MS, WALL_S * 1000 - SKEW_MS));
    struct head_anchor d = anchor_of();
    take_bad(&d, head_at(1, WALL_S, 0), instant(MONO_MS, WALL_S * 1000 - SKEW_MS - 1), E_MALFORMED,
             "block 1 is dated in the future");
    assert_false(d.has_head);
}

static void test_far_future(void **state) {
    (void)state;
    static const uint64_t timestamps[] = { WALL_S + 6, 1ULL << 40, (1ULL << 40) + 1,
                                           UINT64_MAX / 1000 + 1, UINT64_MAX };
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1, WALL_S, 0), right(0));
    for (size_t i = 0; i < TEST_ROWS(timestamps); i++) {
        take_bad(&a, head_at(2, timestamps[i], 0), right(0), E_MALFORMED, "dated in the future");
    }
    /* It has moved nothing. */
    assert_true(take_ok(&a, head_at(2, WALL_S + 2, 0), right(2000)) == MONO_MS + 2000);
}

static void test_reorganization(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1000, WALL_S + 10, 0), right(10000));
    /* Another block of this height, and lower ones, as deep as is allowed. */
    assert_true(take_ok(&a, head_at(1000, WALL_S + 10, 1), right(11000)) == MONO_MS + 10000);
    assert_true(take_ok(&a, head_at(998, WALL_S + 6, 1), right(11000)) == MONO_MS + 6000);
    assert_true(take_ok(&a, head_at(1000 - REORG_COUNT, WALL_S + 4, 1), right(11000)) ==
                MONO_MS + 4000);
    take_bad(&a, head_at(1000 - REORG_COUNT - 1, WALL_S + 4, 1), right(11000), E_MALFORMED,
             "the head went back from block 1000 to 935, must be at most 64 blocks");
    take_bad(&a, head_at(0, WALL_S + 11, 1), right(11000), E_MALFORMED, "the head went back");
    /* Not by way of small steps either. */
    take_bad(&a, head_at(930, WALL_S + 4, 1), right(11000), E_MALFORMED, "the head went back");
    assert_true(take_ok(&a, head_at(1001, WALL_S + 12, 0), right(12000)) == MONO_MS + 12000);
}

/* A new number with an old timestamp is old. */
static void test_timestamp_back(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    (void)take_ok(&a, head_at(1000, WALL_S, 0), right(0));
    take_bad(&a, head_at(1001, WALL_S - 31, 0), right(0), E_UNAVAILABLE, "the head has stalled");
    take_bad(&a, head_at(1001, 0, 1), right(0), E_UNAVAILABLE, "the head has stalled");
}

static void test_contradiction(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    struct head head = head_at(1000, WALL_S, 0);
    (void)take_ok(&a, head, right(0));
    head.timestamp_unix_s++;
    take_bad(&a, head, right(1000), E_MALFORMED, "another number or timestamp");
    head.timestamp_unix_s--;
    head.number++;
    take_bad(&a, head, right(1000), E_MALFORMED, "another number or timestamp");
}

/* Soon after the machine's start, when the monotonic clock is below a block's age. */
static void test_clock_zero(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    assert_true(take_ok(&a, head_at(10, WALL_S, 0), instant(500, WALL_S * 1000)) == 500);
    take_bad(&a, head_at(9, WALL_S - 2, 1), instant(600, WALL_S * 1000), E_UNAVAILABLE,
             "older than this machine's start");
    take_bad(&a, head_at(8, WALL_S - 31, 1), instant(700, WALL_S * 1000), E_UNAVAILABLE,
             "the head has stalled");
}

/* Newer answers are never as of an earlier instant, whatever delays there are. */
static void test_monotone(void **state) {
    (void)state;
    struct head_anchor a = anchor_of();
    uint64_t last_ms = 0;
    uint32_t random = 12345;
    for (uint64_t i = 1; i < 2000; i++) {
        random = random * 1103515245 + 12345;
        uint64_t delay_ms = (random >> 16) % 5000;
        uint64_t at_ms = 6000 * i + delay_ms;
        uint64_t as_of_ms = take_ok(&a, head_at(i, WALL_S + 6 * i, 0), right(at_ms));
        assert_true(as_of_ms >= last_ms);
        assert_true(as_of_ms <= MONO_MS + at_ms);
        last_ms = as_of_ms;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_heads),
        cmocka_unit_test(test_late_answer),
        cmocka_unit_test(test_asked),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_frozen_clock_back),
        cmocka_unit_test(test_slow_replay),
        cmocka_unit_test(test_clock_forward),
        cmocka_unit_test(test_wall_limits),
        cmocka_unit_test(test_far_future),
        cmocka_unit_test(test_reorganization),
        cmocka_unit_test(test_timestamp_back),
        cmocka_unit_test(test_contradiction),
        cmocka_unit_test(test_clock_zero),
        cmocka_unit_test(test_monotone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
