/* SPDX-License-Identifier: Apache-2.0 */
/* What a node may forget, that it must know its cluster's members lately for that, and what becomes
 * of one that was not among them. */
#include "replica_fixture.h"

#define AGE_MAX_MS 30000

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
    (void)node_next(n);
    assert_true(is_in_service(n));
    (void)fixture_delete(n->store, "k", world.unix_ms);
    pass_ms(RETENTION_MS + 1);
}

static void test_forgets_with_fresh_members(void **state) {
    (void)state;
    struct node n = { 0 };
    boot_alone(&n, AGE_MAX_MS);
    struct node *all[] = { &n };
    node_list(&n, all, 1);
    pass_ms(AGE_MAX_MS);
    assert_int_equal(node_collect(&n).removed_count, 1);
    node_close(&n);
}

static void test_keeps_with_old_members(void **state) {
    (void)state;
    struct node n = { 0 };
    boot_alone(&n, AGE_MAX_MS);
    struct node *all[] = { &n };
    node_list(&n, all, 1);
    pass_ms(AGE_MAX_MS + 1);
    assert_int_equal(node_collect(&n).removed_count, 0);
    node_list(&n, all, 1);
    pass_ms(STORE_COLLECT_RETRY_MS);
    node_list(&n, all, 1);
    assert_int_equal(node_collect(&n).removed_count, 1);
    node_close(&n);
}

static void test_without_limit(void **state) {
    (void)state;
    struct node n = { 0 };
    boot_alone(&n, 0);
    assert_int_equal(node_collect(&n).removed_count, 1);
    node_close(&n);
}

/* ---- A node that was out of the registry ---- */

/* a pulls from b once, and the verdict on the page. */
static enum replica_verdict pull(struct node *a, struct node *b) {
    static struct pull p;
    pass_ms(FIXTURE_WAIT_MS);
    struct replica_todo todo = node_next(a);
    if (todo.kind == REPLICA_DIGEST) { /* Not now. */
        struct replica_now now = now_of(a);
        replica_digest_failed(a->replica, todo.ticket, &now);
        todo = node_next(a);
    }
    assert_int_equal(todo.kind, REPLICA_PULL);
    pull_send(&p, a, b, todo.ticket);
    (void)pull_serve(&p, true);
    assert_int_equal(p.stage, PULL_ANSWERED);
    assert_int_not_equal(p.answer, REPLICA_ANSWER_REFUSE);
    pull_deliver(&p, 9);
    return p.verdict;
}

/* Two nodes that know the same; then a writes what b does not hear of. */
static void open_apart(struct pair *p) {
    pair_open(p);
    node_pull_failed(&p->b, node_next(&p->b).ticket, "not now");
    assert_true(is_in_service(&p->b));
    (void)fixture_put(p->b.store, "k", "v", 0, world.unix_ms);
    assert_int_equal(pull(&p->a, &p->b), REPLICA_TAKE);
    (void)fixture_put(p->a.store, "l", "v", 0, world.unix_ms);
    pass_ms(RETENTION_MS + SKEW_MS);
}

/* a's registry lists both. */
static void list_back(struct pair *p) {
    struct node *all[] = { &p->a, &p->b };
    node_list(&p->a, all, 2);
}

static void list_away(struct pair *p) {
    struct node *other[] = { &p->b };
    node_list(&p->a, other, 1);
}

static void shorten(struct node *b) {
    uint64_t at_unix_ms = world.unix_ms - RETENTION_MS;
    assert_ok(store_compact_known(b->store, HLC(at_unix_ms, 0), world.unix_ms));
}

static void test_drops_what_counts_as_known(void **state) {
    (void)state;
    struct pair p;
    open_apart(&p);
    list_away(&p);
    shorten(&p.b);
    list_back(&p);
    assert_int_equal(pull(&p.a, &p.b), REPLICA_RESET);
    assert_int_equal(pull(&p.a, &p.b), REPLICA_TAKE); /* With nothing, and from the beginning. */
    assert_int_equal(pull(&p.a, &p.b), REPLICA_TAKE);
    pair_close(&p);
}

static void test_keeps_what_is_not_known_yet(void **state) {
    (void)state;
    struct pair p;
    open_apart(&p);
    list_away(&p);
    list_back(&p);
    assert_int_equal(pull(&p.a, &p.b), REPLICA_TAKE); /* b has not shortened its vector. */
    shorten(&p.b);
    assert_int_equal(pull(&p.a, &p.b), REPLICA_TAKE); /* As for members that it waits for. */
    pair_close(&p);
}

static void test_keeps_what_it_has_while_listed(void **state) {
    (void)state;
    struct pair p;
    open_apart(&p);
    list_back(&p);
    shorten(&p.b);
    assert_int_equal(pull(&p.a, &p.b), REPLICA_TAKE);
    pair_close(&p);
}

/* b sees a leave, and come back so much later; neither has shortened its vector, but another member,
 * which saw a leave and not yet come back, may have. */
static enum replica_verdict pull_after(uint64_t away_ms) {
    struct pair p;
    open_apart(&p);
    assert_int_equal(pull(&p.b, &p.a), REPLICA_TAKE);
    struct node *alone[] = { &p.b };
    struct node *both[] = { &p.a, &p.b };
    node_list(&p.b, alone, 1);
    pass_ms(away_ms - FIXTURE_WAIT_MS);
    node_list(&p.b, both, 2);
    enum replica_verdict verdict = pull(&p.a, &p.b); /* FIXTURE_WAIT_MS later. */
    assert_int_equal(stats_of(&p.b).reset_given_count, verdict == REPLICA_RESET ? 1 : 0);
    pair_close(&p);
    return verdict;
}

static void test_resets_one_that_was_away_too_long(void **state) {
    (void)state;
    assert_int_equal(pull_after(RETENTION_MS + SKEW_MS - 1), REPLICA_TAKE);
    assert_int_equal(pull_after(RETENTION_MS + SKEW_MS), REPLICA_RESET);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgets_with_fresh_members),
        cmocka_unit_test(test_keeps_with_old_members),
        cmocka_unit_test(test_without_limit),
        cmocka_unit_test(test_drops_what_counts_as_known),
        cmocka_unit_test(test_keeps_what_is_not_known_yet),
        cmocka_unit_test(test_keeps_what_it_has_while_listed),
        cmocka_unit_test(test_resets_one_that_was_away_too_long),
    };
    return cmocka_run_group_tests_name("replica_collect", tests, NULL, NULL);
}
