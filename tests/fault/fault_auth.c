/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/limiter.h"
#include "auth/view.h"
#include "fault.h"
#include "test.h"

static void test_view(void **state) {
    (void)state;
    const struct auth_view_cfg cfg = { .entry_count_max = 4,
                                       .miss_count_max = 4,
                                       .pending_count_max = 4,
                                       .refresh_ms = 1,
                                       .ttl_ms = 1,
                                       .miss_life_ms = 1,
                                       .lookup_timeout_ms = 1,
                                       .unknown_per_minute = 1000,
                                       .unknown_burst = 1000 };
    FAULT_EACH(nth) {
        struct auth_view *view = NULL;
        fault_arm(nth);
        struct rc rc = auth_view_init(&view, &cfg);
        assert_int_equal(rc.err, fault_disarm() ? E_NOMEM : E_OK);
        assert_int_equal(view == NULL, fault_was_hit());
        auth_view_close(&view);
    }
}

/* After init nothing is allocated: a failure armed for the first allocation is never met. */
static void test_view_in_use(void **state) {
    (void)state;
    struct auth_view_cfg cfg = { .entry_count_max = 2,
                                 .miss_count_max = 2,
                                 .pending_count_max = 2,
                                 .refresh_ms = 1,
                                 .ttl_ms = 1000,
                                 .miss_life_ms = 10,
                                 .lookup_timeout_ms = 10,
                                 .unknown_per_minute = 100000,
                                 .unknown_burst = 100000 };
    struct auth_view *view = NULL;
    assert_ok(auth_view_init(&view, &cfg));
    fault_arm(1);
    for (uint8_t n = 0; n < 100; n++) {
        struct wallet w = { { n } };
        struct auth_facts facts = { .found = n % 2 == 0, .as_of_mono_ms = n };
        struct auth_decision decision;
        struct wallet due;
        auth_view_decide(view, &w, AUTH_CALLER, n, &decision);
        (void)auth_view_begin_lookup(view, &w, n);
        auth_view_apply(view, &w, &facts, n);
        auth_view_unreadable(view, &w, "x", n);
        if (auth_view_pin(view, &w, n).err == E_OK) {
            (void)auth_view_due(view, n, &due, 1);
            auth_view_unpin(view, &w, n);
        }
    }
    assert_false(fault_disarm());
    auth_view_close(&view);
}

static void test_limiter(void **state) {
    (void)state;
    const struct auth_limiter_cfg cfg = { .per_minute = 5, .wallet_count_max = 4 };
    FAULT_EACH(nth) {
        struct auth_limiter *limiter = NULL;
        fault_arm(nth);
        struct rc rc = auth_limiter_init(&limiter, &cfg);
        assert_int_equal(rc.err, fault_disarm() ? E_NOMEM : E_OK);
        assert_int_equal(limiter == NULL, fault_was_hit());
        auth_limiter_close(&limiter);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_view),
        cmocka_unit_test(test_view_in_use),
        cmocka_unit_test(test_limiter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
