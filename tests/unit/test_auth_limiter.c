/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/bucket.h"
#include "auth/limiter.h"
#include "test.h"

#define START_MS 1000000u

static struct wallet wallet_of(uint32_t n) {
    struct wallet w = { { 0 } };
    memcpy(w.bytes, &n, sizeof(n));
    return w;
}

static struct auth_limiter *make(uint32_t per_minute, uint32_t burst, uint32_t wallets) {
    struct auth_limiter_cfg cfg = { .per_minute = per_minute,
                                    .burst_count = burst,
                                    .wallet_count_max = wallets };
    struct auth_limiter *limiter = NULL;
    assert_ok(auth_limiter_init(&limiter, &cfg));
    return limiter;
}

/* Takes until refused; gives how many were had. */
static uint32_t drain(struct auth_limiter *limiter, uint32_t n, uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    uint32_t retry_ms = 0;
    uint32_t count = 0;
    while (count < 10000 && auth_limiter_take(limiter, &w, now_ms, &retry_ms)) {
        assert_int_equal(retry_ms, 0);
        count++;
    }
    assert_true(count == 10000 || retry_ms > 0);
    return count;
}

static void test_limit_and_one_past(void **state) {
    (void)state;
    struct auth_limiter *limiter = make(5, 0, 4);
    struct wallet w = wallet_of(1);
    assert_int_equal(drain(limiter, 1, START_MS), 5);
    uint32_t retry_ms = 0;
    assert_false(auth_limiter_take(limiter, &w, START_MS, &retry_ms));
    assert_int_equal(retry_ms, 12000); /* A fifth of a minute. */
    assert_false(auth_limiter_take(limiter, &w, START_MS + 11999, &retry_ms));
    assert_int_equal(retry_ms, 1);
    assert_true(auth_limiter_take(limiter, &w, START_MS + 12000, &retry_ms));
    assert_false(auth_limiter_take(limiter, &w, START_MS + 12000, &retry_ms));
    assert_int_equal(drain(limiter, 2, START_MS), 5); /* Another wallet has its own. */
    auth_limiter_close(&limiter);
    auth_limiter_close(&limiter);
    assert_null(limiter);
}

static void test_refill_stops_at_burst(void **state) {
    (void)state;
    struct auth_limiter *limiter = make(60, 3, 4);
    assert_int_equal(drain(limiter, 1, START_MS), 3);
    assert_int_equal(drain(limiter, 1, START_MS + 2000), 2);
    assert_int_equal(drain(limiter, 1, START_MS + 86400000), 3);
    assert_int_equal(drain(limiter, 1, UINT64_MAX), 3);
    assert_int_equal(drain(limiter, 1, START_MS), 0); /* A clock that goes back gives nothing. */
    auth_limiter_close(&limiter);
}

static void test_zero_is_off(void **state) {
    (void)state;
    struct auth_limiter *limiter = make(0, 0, 1);
    assert_int_equal(drain(limiter, 1, START_MS), 10000);
    assert_int_equal(drain(limiter, 2, START_MS), 10000);
    auth_limiter_close(&limiter);
}

static void test_crowding_resets_nothing(void **state) {
    (void)state;
    struct auth_limiter *limiter = make(60, 2, 3);
    uint32_t retry_ms = 0;
    assert_int_equal(drain(limiter, 1, START_MS), 2);
    assert_int_equal(drain(limiter, 2, START_MS), 2);
    assert_int_equal(drain(limiter, 3, START_MS), 2);
    struct wallet newcomer = wallet_of(4);
    assert_false(auth_limiter_take(limiter, &newcomer, START_MS, &retry_ms));
    assert_true(retry_ms > 0);
    assert_int_equal(drain(limiter, 1, START_MS), 0);
    /* One more second: none is full (burst 2), so none is forgotten. */
    assert_false(auth_limiter_take(limiter, &newcomer, START_MS + 1999, &retry_ms));
    assert_true(auth_limiter_take(limiter, &newcomer, START_MS + 2000, &retry_ms));
    auth_limiter_close(&limiter);
}

static void test_full_bucket_goes_before_empty_older_one(void **state) {
    (void)state;
    struct auth_limiter *limiter = make(6, 2, 2);
    uint32_t retry_ms = 0;
    struct wallet full = wallet_of(2);
    assert_int_equal(drain(limiter, 1, START_MS), 2); /* Full again after 20 s. */
    assert_true(auth_limiter_take(limiter, &full, START_MS + 1, &retry_ms)); /* After 10 s. */
    assert_int_equal(drain(limiter, 3, START_MS + 10001), 2);
    assert_int_equal(drain(limiter, 1, START_MS + 10001), 1); /* Was not forgotten. */
    auth_limiter_close(&limiter);
}

struct cfg_row {
    const char *name;
    struct auth_limiter_cfg cfg;
    enum err want;
};

static struct cfg_row cfg_rows[] = {
    { "no_wallets", { .per_minute = 1 }, E_BAD_CONFIG },
    { "most_wallets", { .wallet_count_max = AUTH_LIMITER_WALLET_COUNT_MAX }, E_OK },
    { "too_many_wallets", { .wallet_count_max = AUTH_LIMITER_WALLET_COUNT_MAX + 1 }, E_BAD_CONFIG },
    { "fastest", { AUTH_LIMITER_PER_MINUTE_MAX, AUTH_LIMITER_PER_MINUTE_MAX, 1, { 0 } }, E_OK },
    { "too_fast", { AUTH_LIMITER_PER_MINUTE_MAX + 1, 0, 1, { 0 } }, E_BAD_CONFIG },
    { "burst_too_big", { 1, AUTH_LIMITER_PER_MINUTE_MAX + 1, 1, { 0 } }, E_BAD_CONFIG },
};

static void test_cfg(void **state) {
    const struct cfg_row *row = *state;
    struct auth_limiter *limiter = NULL;
    assert_err_equal(auth_limiter_init(&limiter, &row->cfg), row->want);
    assert_int_equal(limiter != NULL, row->want == E_OK);
    auth_limiter_close(&limiter);
}

static void test_bucket_does_not_overflow(void **state) {
    (void)state;
    struct auth_bucket_rate rate = { AUTH_LIMITER_PER_MINUTE_MAX, AUTH_LIMITER_PER_MINUTE_MAX };
    struct auth_bucket bucket = { 0 };
    auth_bucket_refill(&bucket, rate, UINT64_MAX);
    assert_true(auth_bucket_is_full(&bucket, rate));
    assert_true(bucket.units == (uint64_t)AUTH_LIMITER_PER_MINUTE_MAX * AUTH_BUCKET_TOKEN_UNITS);
}

int main(void) {
    struct CMUnitTest tests[16] = {
        cmocka_unit_test(test_limit_and_one_past),
        cmocka_unit_test(test_refill_stops_at_burst),
        cmocka_unit_test(test_zero_is_off),
        cmocka_unit_test(test_crowding_resets_nothing),
        cmocka_unit_test(test_full_bucket_goes_before_empty_older_one),
        cmocka_unit_test(test_bucket_does_not_overflow),
    };
    size_t count = 6;
    TEST_ADD_ROWS(tests, count, test_cfg, cfg_rows);
    return _cmocka_run_group_tests("auth_limiter", tests, count, NULL, NULL);
}
