/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/rules.h"
#include "test.h"

#define KMS_APP_ID 49

static struct auth_facts good_facts(void) {
    return (struct auth_facts){
        .found = true,
        .instance = { .id = 7, .app_id = KMS_APP_ID, .version_id = 3, .zk_verified = true },
    };
}

/* What the rules say, written another way: every condition by itself, in order. */
static enum auth_verdict expected(const struct auth_facts *f, enum auth_role role) {
    static const enum auth_verdict instance[] = { AUTH_VERDICT_PERMITTED,
                                                  AUTH_VERDICT_INSTANCE_STOPPED,
                                                  AUTH_VERDICT_INSTANCE_FAILED,
                                                  AUTH_VERDICT_INSTANCE_STATUS_UNKNOWN };
    static const enum auth_verdict app[] = { AUTH_VERDICT_PERMITTED, AUTH_VERDICT_APP_INACTIVE,
                                             AUTH_VERDICT_APP_REVOKED,
                                             AUTH_VERDICT_APP_STATUS_UNKNOWN };
    static const enum auth_verdict version[] = { AUTH_VERDICT_PERMITTED, AUTH_VERDICT_PERMITTED,
                                                 AUTH_VERDICT_VERSION_REVOKED,
                                                 AUTH_VERDICT_VERSION_STATUS_UNKNOWN };
    const enum auth_verdict in_order[] = {
        f->found && f->instance.id != 0 ? AUTH_VERDICT_PERMITTED : AUTH_VERDICT_NOT_REGISTERED,
        instance[f->instance.status],
        f->instance.zk_verified ? AUTH_VERDICT_PERMITTED : AUTH_VERDICT_NOT_ZK_VERIFIED,
        f->instance.app_id != 0 ? AUTH_VERDICT_PERMITTED : AUTH_VERDICT_APP_ID_RESERVED,
        app[f->app_status],
        version[f->version_status],
        role == AUTH_CALLER || f->instance.app_id == KMS_APP_ID ? AUTH_VERDICT_PERMITTED
                                                                : AUTH_VERDICT_OTHER_APP,
    };
    for (size_t i = 0; i < sizeof(in_order) / sizeof(in_order[0]); i++) {
        if (in_order[i] != AUTH_VERDICT_PERMITTED) {
            return in_order[i];
        }
    }
    return AUTH_VERDICT_PERMITTED;
}

/* Digit by digit: found, id, status (3 and one unknown), zk, app id (0, KMS, other), app, version,
 * role. */
#define COMBINATION_COUNT (2 * 2 * 4 * 2 * 3 * 4 * 4 * 2)

static unsigned digit(unsigned *number, unsigned base) {
    unsigned value = *number % base;
    *number /= base;
    return value;
}

static void test_every_combination(void **state) {
    (void)state;
    static const uint64_t app_ids[] = { 0, KMS_APP_ID, 50 };
    unsigned seen[AUTH_VERDICT_COUNT] = { 0 };
    for (unsigned i = 0; i < COMBINATION_COUNT; i++) {
        unsigned n = i;
        struct auth_facts facts = { .found = digit(&n, 2) == 0 };
        facts.instance.id = digit(&n, 2);
        facts.instance.status = (enum auth_instance_status)digit(&n, 4);
        facts.instance.zk_verified = digit(&n, 2) == 0;
        facts.instance.app_id = app_ids[digit(&n, 3)];
        facts.app_status = (enum auth_app_status)digit(&n, 4);
        facts.version_status = (enum auth_version_status)digit(&n, 4);
        enum auth_role role = (enum auth_role)digit(&n, 2);
        enum auth_verdict verdict = auth_judge(&facts, role, KMS_APP_ID);
        assert_int_equal(verdict, expected(&facts, role));
        seen[verdict]++;
    }
    for (unsigned i = 0; i < AUTH_VERDICT_COUNT; i++) {
        assert_true(seen[i] > 0);
    }
    assert_int_equal(seen[AUTH_VERDICT_PERMITTED], 2 * 2 + 2); /* Apps x versions: callers, peer. */
}

static void test_number_far_out_is_refused(void **state) {
    (void)state;
    struct auth_facts facts = good_facts();
    unsigned far = 0xffffffffu;
    memcpy(&facts.instance.status, &far, sizeof(far));
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, 0), AUTH_VERDICT_INSTANCE_STATUS_UNKNOWN);
}

static void test_kms_app_id_zero_makes_no_peer(void **state) {
    (void)state;
    struct auth_facts facts = good_facts();
    assert_int_equal(auth_judge(&facts, AUTH_PEER, 0), AUTH_VERDICT_OTHER_APP);
    facts.instance.app_id = 0;
    assert_int_equal(auth_judge(&facts, AUTH_PEER, 0), AUTH_VERDICT_APP_ID_RESERVED);
}

static void test_texts(void **state) {
    (void)state;
    assert_string_equal(auth_verdict_text(AUTH_VERDICT_INSTANCE_STOPPED), "instance is STOPPED");
    assert_string_equal(auth_verdict_text(AUTH_VERDICT_NOT_REGISTERED), "wallet is not registered");
    for (unsigned i = 0; i < AUTH_VERDICT_COUNT; i++) {
        assert_true(strlen(auth_verdict_text((enum auth_verdict)i)) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_number_far_out_is_refused),
        cmocka_unit_test(test_kms_app_id_zero_makes_no_peer),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
