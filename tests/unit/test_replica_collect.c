/* SPDX-License-Identifier: Apache-2.0 */
/* What a node may forget, that it must know its cluster's members lately for that, and what becomes of
 * one that was not among them. */
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

/* ---- A node that was out of the registry ---- */

/* a pulls from b once, and the verdict on the page. */
static enum replica_verdict pull(struct node *a, struct node *b) {
    static struct pull p;
    struct replica_todo todo;
    pass_ms(FIXTURE_WAIT_MS);
    struct replica_now now = now_of(a);
    replica_next(a->replica, a->store, &now, &todo);
    if (todo.kind == REPLICA_DIGEST) { /* Not now. */
        replica_digest_failed(a->replica, todo.ticket, &now);
        replica_next(a->replica, a->store, &now, &todo);
    }
    assert_int_equal(todo.kind, REPLICA_PULL);
    pull_send(&p, a, b, todo.ticket);
    (void)pull_serve(&p, true);
    assert_int_equal(p.stage, PULL_ANSWERED);
    assert_int_not_equal(p.answer, REPLICA_ANSWER_REFUSE);
    pull_deliver(&p, 9);
    return p.verdict;
}

static void list_away(struct node *a, struct node *b) {
    struct replica_member self = member_of(a);
    struct replica_member others[] = { member_of(b) };
    struct replica_now now = now_of(a);
    self.instance_id = 0;
    assert_ok(replica_set_members(a->replica, &self, others, 1, &now));
}

/* Two nodes that know the same; then a writes what b does not hear of. */
static void boot_pair(struct node *a, struct node *b) {
    struct node *all[] = { a, b };
    node_boot(a, 0, 1);
    node_boot(b, 1, 2);
    node_list(a, all, 2);
    node_list(b, all, 2);
    replica_set_secret(b->replica, fixture_hash, true);
    replica_set_secret(a->replica, fixture_hash, true);
    struct replica_now now = now_of(b);
    struct replica_todo todo;
    replica_next(b->replica, b->store, &now, &todo);
    assert_true(is_in_service(b));
    (void)fixture_put(b->store, "k", "v", 0, world.unix_ms);
    assert_int_equal(pull(a, b), REPLICA_TAKE);
    (void)fixture_put(a->store, "l", "v", 0, world.unix_ms);
    pass_ms(RETENTION_MS + SKEW_MS);
}

static void shorten(struct node *b) {
    uint64_t at_unix_ms = world.unix_ms - RETENTION_MS;
    assert_ok(store_compact_known(b->store, HLC(at_unix_ms, 0), world.unix_ms));
}

static void test_drops_what_counts_as_known(void **state) {
    (void)state;
    struct node a = { 0 };
    struct node b = { 0 };
    struct node *all[] = { &a, &b };
    boot_pair(&a, &b);
    list_away(&a, &b);
    shorten(&b);
    node_list(&a, all, 2);
    assert_int_equal(pull(&a, &b), REPLICA_RESET);
    assert_int_equal(pull(&a, &b), REPLICA_TAKE); /* With nothing, and from the beginning. */
    assert_int_equal(pull(&a, &b), REPLICA_TAKE);
    node_close(&a);
    node_close(&b);
}

static void test_keeps_what_is_not_known_yet(void **state) {
    (void)state;
    struct node a = { 0 };
    struct node b = { 0 };
    struct node *all[] = { &a, &b };
    boot_pair(&a, &b);
    list_away(&a, &b);
    node_list(&a, all, 2);
    assert_int_equal(pull(&a, &b), REPLICA_TAKE); /* b has not shortened its vector. */
    shorten(&b);
    assert_int_equal(pull(&a, &b), REPLICA_TAKE); /* As it does for members that it waits for. */
    node_close(&a);
    node_close(&b);
}

static void test_keeps_what_it_has_while_listed(void **state) {
    (void)state;
    struct node a = { 0 };
    struct node b = { 0 };
    struct node *all[] = { &a, &b };
    boot_pair(&a, &b);
    node_list(&a, all, 2);
    shorten(&b);
    assert_int_equal(pull(&a, &b), REPLICA_TAKE);
    node_close(&a);
    node_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgets_with_fresh_members),
        cmocka_unit_test(test_keeps_with_old_members),
        cmocka_unit_test(test_without_limit),
        cmocka_unit_test(test_drops_what_counts_as_known),
        cmocka_unit_test(test_keeps_what_is_not_known_yet),
        cmocka_unit_test(test_keeps_what_it_has_while_listed),
    };
    return cmocka_run_group_tests_name("replica_collect", tests, NULL, NULL);
}
