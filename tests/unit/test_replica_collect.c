/* SPDX-License-Identifier: Apache-2.0 */
/* What a node may forget, and that it must know its cluster's members lately for that. */
#include "replica_fixture.h"

#define AGE_MAX_MS 30000

static struct store_collected collect(struct node *n) {
    struct store_collected out;
    struct replica_now now = now_of(n);
    replica_collect(n->replica, n->store, 100, &now, &out);
    return out;
}

/* A node alone, in service, with a tombstone that is old enough. */
static void boot_alone(struct node *n, uint32_t age_max_ms) {
    struct replica_cfg cfg = fixture_replica_cfg();
    cfg.members_age_max_ms = age_max_ms;
    node_boot(n, 0, 1);
    replica_close(&n->replica);
    assert_ok(replica_init(&n->replica, &cfg));
    struct node *all[] = { n };
    node_list(n, all, 1);
    replica_set_secret(n->replica, fixture_hash, true);
    struct replica_now now = now_of(n);
    struct replica_todo todo;
    replica_next(n->replica, n->store, &now, &todo);
    assert_true(is_in_service(n));
    (void)fixture_delete(n->store, "k", now.unix_ms);
    pass_ms(RETENTION_MS + 1);
}

static void test_forgets_with_fresh_members(void **state) {
    (void)state;
    struct node n = { 0 };
    boot_alone(&n, AGE_MAX_MS);
    struct node *all[] = { &n };
    node_list(&n, all, 1);
    pass_ms(AGE_MAX_MS);
    assert_int_equal(collect(&n).removed_count, 1);
    node_close(&n);
}

static void test_keeps_with_old_members(void **state) {
    (void)state;
    struct node n = { 0 };
    boot_alone(&n, AGE_MAX_MS);
    struct node *all[] = { &n };
    node_list(&n, all, 1);
    pass_ms(AGE_MAX_MS + 1);
    assert_int_equal(collect(&n).removed_count, 0);
    node_list(&n, all, 1);
    pass_ms(STORE_COLLECT_RETRY_MS);
    node_list(&n, all, 1);
    assert_int_equal(collect(&n).removed_count, 1);
    node_close(&n);
}

static void test_without_limit(void **state) {
    (void)state;
    struct node n = { 0 };
    boot_alone(&n, 0);
    assert_int_equal(collect(&n).removed_count, 1);
    node_close(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgets_with_fresh_members),
        cmocka_unit_test(test_keeps_with_old_members),
        cmocka_unit_test(test_without_limit),
    };
    return cmocka_run_group_tests_name("replica_collect", tests, NULL, NULL);
}
