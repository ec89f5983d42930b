/* SPDX-License-Identifier: Apache-2.0 */
#include "client/policy.h"
#include "test.h"

/* ---- Which failures are tried again ---- */

/* Every way in which a try can have been carried out, times refusal, kind of call and the end of
 * its share, for the codes that matter; the want is written out where it is not NONE. */
static struct next_row {
    const char *name;
    struct client_try failed;
    enum client_next want;
} next_rows[] = {
    { "not_connected",
      { STATUS_UNAVAILABLE, NET_NOT_EXECUTED, .is_read = false },
      CLIENT_NEXT_ANY },
    { "not_connected_read",
      { STATUS_UNAVAILABLE, NET_NOT_EXECUTED, .is_read = true },
      CLIENT_NEXT_ANY },
    { "lost", { STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED, .is_read = false }, CLIENT_NEXT_NONE },
    { "lost_read", { STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED, .is_read = true }, CLIENT_NEXT_ANY },
    { "does_not_serve",
      { STATUS_UNAVAILABLE, NET_ANSWERED, .is_read = false },
      CLIENT_NEXT_ELSEWHERE },
    { "does_not_serve_read",
      { STATUS_UNAVAILABLE, NET_ANSWERED, .is_read = true },
      CLIENT_NEXT_ELSEWHERE },
    { "server_refused",
      { STATUS_UNAUTHENTICATED, NET_NOT_EXECUTED, .is_refusal = true },
      CLIENT_NEXT_ELSEWHERE },
    { "server_full",
      { STATUS_RESOURCE_EXHAUSTED, NET_NOT_EXECUTED, .is_refusal = true },
      CLIENT_NEXT_ELSEWHERE },
    { "caller_refused",
      { STATUS_PERMISSION_DENIED, NET_NOT_EXECUTED, .is_refusal = true },
      CLIENT_NEXT_NONE },
    { "caller_refused_read",
      { STATUS_PERMISSION_DENIED, NET_NOT_EXECUTED, .is_refusal = true, .is_read = true },
      CLIENT_NEXT_NONE },
    { "caller_denied",
      { STATUS_PERMISSION_DENIED, NET_ANSWERED, .is_read = true },
      CLIENT_NEXT_NONE },
    { "over_the_rate",
      { STATUS_RESOURCE_EXHAUSTED, NET_ANSWERED, .is_read = true },
      CLIENT_NEXT_NONE },
    { "no_such_key", { STATUS_NOT_FOUND, NET_ANSWERED, .is_read = true }, CLIENT_NEXT_NONE },
    { "bug", { STATUS_INTERNAL, NET_ANSWERED, .is_read = true }, CLIENT_NEXT_NONE },
    { "out_of_memory",
      { STATUS_RESOURCE_EXHAUSTED, NET_NOT_EXECUTED, .is_read = true },
      CLIENT_NEXT_NONE },
    { "cancelled", { STATUS_CANCELLED, NET_NOT_EXECUTED, .is_read = true }, CLIENT_NEXT_NONE },
    { "late", { STATUS_DEADLINE_EXCEEDED, NET_MAYBE_EXECUTED, .is_read = true }, CLIENT_NEXT_NONE },
    { "share_over",
      { STATUS_DEADLINE_EXCEEDED, NET_MAYBE_EXECUTED, .is_read = true, .is_cut = true },
      CLIENT_NEXT_ELSEWHERE },
    { "share_over_answered",
      { STATUS_DEADLINE_EXCEEDED, NET_ANSWERED, .is_read = true, .is_cut = true },
      CLIENT_NEXT_ELSEWHERE },
    { "share_over_write",
      { STATUS_DEADLINE_EXCEEDED, NET_MAYBE_EXECUTED, .is_read = false, .is_cut = true },
      CLIENT_NEXT_NONE },
};

static void test_next(void **state) {
    const struct next_row *row = *state;
    assert_int_equal(client_policy_next(&row->failed), row->want);
}

/* Whatever else is so, a write that may have been executed is not sent again. */
static void test_writes_are_safe(void **state) {
    (void)state;
    for (uint32_t code = 1; code <= STATUS_CODE_MAX; code++) {
        for (unsigned bits = 0; bits < 4; bits++) {
            struct client_try failed = { .code = (enum status_code)code,
                                         .executed = NET_MAYBE_EXECUTED,
                                         .is_refusal = (bits & 1) != 0,
                                         .is_cut = (bits & 2) != 0 };
            assert_int_equal(client_policy_next(&failed), CLIENT_NEXT_NONE);
            failed.executed = NET_ANSWERED;
            if (code != STATUS_UNAVAILABLE) {
                assert_int_equal(client_policy_next(&failed), CLIENT_NEXT_NONE);
            }
        }
    }
}

static void test_try_ms(void **state) {
    (void)state;
    assert_int_equal(client_policy_try_ms(9000, 3, true), 3000);
    assert_int_equal(client_policy_try_ms(6000, 2, true), 3000);
    assert_int_equal(client_policy_try_ms(3000, 1, true), 3000);
    assert_int_equal(client_policy_try_ms(3000, 0, true), 3000);
    assert_int_equal(client_policy_try_ms(9000, 3, false), 9000);
    assert_int_equal(client_policy_try_ms(3 * CLIENT_TRY_MS_MIN, 3, true), CLIENT_TRY_MS_MIN);
    assert_int_equal(client_policy_try_ms(3 * CLIENT_TRY_MS_MIN, 4, true), CLIENT_TRY_MS_MIN);
    assert_int_equal(client_policy_try_ms(CLIENT_TRY_MS_MIN - 1, 4, true), CLIENT_TRY_MS_MIN - 1);
    assert_int_equal(client_policy_try_ms(1, 16, true), 1);
    assert_int_equal(client_policy_try_ms(UINT64_MAX, 1, true), UINT32_MAX);
}

/* ---- When the member list is read ---- */

#define TTL_MS 180000u

static struct list_row {
    const char *name;
    struct client_list_state state;
    enum client_list_plan want;
    bool is_usable;
} list_rows[] = {
    { "none", { .has_list = false, .ttl_ms = TTL_MS }, CLIENT_LIST_WAIT, false },
    { "new", { true, 0, TTL_MS, false, 0, false }, CLIENT_LIST_USE, true },
    { "refresh", { true, CLIENT_LIST_REFRESH_MS, TTL_MS, false, 0, false }, CLIENT_LIST_USE, true },
    { "refresh_1",
      { true, CLIENT_LIST_REFRESH_MS + 1, TTL_MS, false, 0, false },
      CLIENT_LIST_USE_AND_READ,
      true },
    { "wait",
      { true, CLIENT_LIST_WAIT_MS, TTL_MS, false, 0, false },
      CLIENT_LIST_USE_AND_READ,
      true },
    { "wait_1",
      { true, CLIENT_LIST_WAIT_MS + 1, TTL_MS, false, 0, false },
      CLIENT_LIST_WAIT,
      true },
    { "ttl", { true, TTL_MS, TTL_MS, false, 0, false }, CLIENT_LIST_WAIT, true },
    { "ttl_1", { true, TTL_MS + 1, TTL_MS, false, 0, false }, CLIENT_LIST_WAIT, false },
    { "short_ttl", { true, 2001, 2000, false, 0, false }, CLIENT_LIST_WAIT, false },
    { "outdated", { true, 0, TTL_MS, false, 0, true }, CLIENT_LIST_USE_AND_READ, true },
    { "failed",
      { true, CLIENT_LIST_REFRESH_MS + 1, TTL_MS, true, 0, false },
      CLIENT_LIST_USE,
      true },
    { "failed_old",
      { true, TTL_MS, TTL_MS, true, CLIENT_LIST_PAUSE_MS - 1, false },
      CLIENT_LIST_USE,
      true },
    { "failed_pause",
      { true, TTL_MS, TTL_MS, true, CLIENT_LIST_PAUSE_MS, false },
      CLIENT_LIST_WAIT,
      true },
    { "failed_ttl_1",
      { true, TTL_MS + 1, TTL_MS, true, CLIENT_LIST_PAUSE_MS - 1, false },
      CLIENT_LIST_FAIL,
      false },
    { "failed_none",
      { false, 0, TTL_MS, true, CLIENT_LIST_PAUSE_MS - 1, false },
      CLIENT_LIST_FAIL,
      false },
    { "failed_none_pause",
      { false, 0, TTL_MS, true, CLIENT_LIST_PAUSE_MS, false },
      CLIENT_LIST_WAIT,
      false },
};

static void test_list(void **state) {
    const struct list_row *row = *state;
    assert_int_equal(client_policy_list(&row->state), row->want);
    assert_int_equal(client_list_is_usable(&row->state), row->is_usable);
}

int main(void) {
    struct CMUnitTest tests[2 + TEST_ROWS(next_rows) + TEST_ROWS(list_rows)] = {
        cmocka_unit_test(test_writes_are_safe),
        cmocka_unit_test(test_try_ms),
    };
    size_t count = 2;
    TEST_ADD_ROWS(tests, count, test_next, next_rows);
    TEST_ADD_ROWS(tests, count, test_list, list_rows);
    return cmocka_run_group_tests_name("client_policy", tests, NULL, NULL);
}
