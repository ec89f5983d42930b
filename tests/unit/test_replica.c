/* SPDX-License-Identifier: Apache-2.0 */
#include "replica_fixture.h"

static void pull_once(struct node *from, struct node *to) {
    static struct pull pull;
    pull_next(&pull, from, to);
    assert_true(pull_serve(&pull, true));
    pull_deliver(&pull, 99);
}

static void test_plain_flow(void **state) {
    (void)state;
    struct cluster c;
    cluster_boot(&c, 2);
    cluster_join(&c, 1);
    struct node *a = &c.nodes[0]; /* It generated the secret. */
    struct node *b = &c.nodes[1];
    assert_false(is_in_service(b));
    pass_ms(1);
    static struct pull pull;
    pull_next(&pull, a, b); /* Brings a into service, as the secret is new. */
    assert_true(is_in_service(a));
    assert_true(pull_serve(&pull, false));
    assert_int_equal(pull.answer, REPLICA_ANSWER_REFUSE);
    assert_int_equal(pull.why.code, STATUS_UNAVAILABLE);
    pull_deliver(&pull, 0);

    struct store_written put = fixture_put(a->store, "k", "v", 0, world.unix_ms);
    pull_once(b, a);
    assert_true(is_in_service(b));
    assert_value(b->store, "k", world.unix_ms, "v");
    assert_int_equal(replica_acks(a->replica, &put.stamp), 0);

    /* The next request acknowledges, once b has answered a. */
    pull_next(&pull, b, a);
    assert_false(pull_serve(&pull, false));
    assert_int_equal(pull.answer, REPLICA_ANSWER_WAIT);
    assert_int_equal(replica_acks(a->replica, &put.stamp), 0);
    pull_once(a, b);
    assert_int_equal(replica_acks(a->replica, &put.stamp), 1);
    assert_int_equal(replica_acks_for_quorum(a->replica), 1);

    /* What is written now ends the wait. */
    put = fixture_put(a->store, "k", "w", 0, world.unix_ms);
    assert_int_equal(replica_acks(a->replica, &put.stamp), 0);
    assert_true(pull_serve(&pull, false));
    pull_deliver(&pull, 0);
    assert_value(b->store, "k", world.unix_ms, "w");
    pull_next(&pull, b, a);
    assert_false(pull_serve(&pull, false));
    assert_int_equal(replica_acks(a->replica, &put.stamp), 1);
    cluster_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_plain_flow) };
    return cmocka_run_group_tests_name("replica", tests, NULL, NULL);
}
