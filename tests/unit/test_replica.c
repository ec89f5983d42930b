/* SPDX-License-Identifier: Apache-2.0 */
#include "replica_fixture.h"

/* Two nodes; the first generated the secret. */
struct pair {
    struct node a;
    struct node b;
};

static void pair_open(struct pair *p) {
    node_boot(&p->a, 0, 1);
    node_boot(&p->b, 1, 2);
    struct node *nodes[] = { &p->a, &p->b };
    for (size_t i = 0; i < 2; i++) {
        node_list(nodes[i], nodes, 2);
    }
    replica_set_secret(p->a.replica, fixture_hash, true);
    replica_set_secret(p->b.replica, fixture_hash, false);
}

static void pair_close(struct pair *p) {
    node_close(&p->a);
    node_close(&p->b);
}

static void pull_once(struct node *from, struct node *to) {
    static struct pull pull;
    pull_next(&pull, from, to);
    assert_true(pull_serve(&pull, true));
    pull_deliver(&pull, 99);
}

static void test_plain_flow(void **state) {
    (void)state;
    struct pair p = { 0 };
    pair_open(&p);
    assert_false(is_in_service(&p.b));
    pass_ms(1);
    static struct pull pull;
    pull_next(&pull, &p.a, &p.b); /* Brings a into service, as the secret is new. */
    assert_true(is_in_service(&p.a));
    assert_true(pull_serve(&pull, false));
    assert_int_equal(pull.answer, REPLICA_ANSWER_REFUSE);
    assert_int_equal(pull.why.code, STATUS_UNAVAILABLE);
    pull_deliver(&pull, 0);

    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pull_once(&p.b, &p.a);
    assert_true(is_in_service(&p.b));
    assert_value(p.b.store, "k", world.unix_ms, "v");
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);

    /* The next request acknowledges, once b has answered a. */
    pull_next(&pull, &p.b, &p.a);
    assert_false(pull_serve(&pull, false));
    assert_int_equal(pull.answer, REPLICA_ANSWER_WAIT);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    pull_once(&p.a, &p.b);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    assert_int_equal(replica_acks_for_quorum(p.a.replica), 1);

    /* What is written now ends the wait. */
    put = fixture_put(p.a.store, "k", "w", 0, world.unix_ms);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    assert_true(pull_serve(&pull, false));
    pull_deliver(&pull, 0);
    assert_value(p.b.store, "k", world.unix_ms, "w");
    pull_next(&pull, &p.b, &p.a);
    assert_false(pull_serve(&pull, false));
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    pair_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_plain_flow) };
    return cmocka_run_group_tests_name("replica", tests, NULL, NULL);
}
