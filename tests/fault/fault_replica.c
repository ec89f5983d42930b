/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails, for every n: the call says so, or does without, and the same call
 * succeeds afterwards. */
#include "fault.h"
#include "replica_fixture.h"

static void test_init(void **state) {
    (void)state;
    struct replica_cfg cfg = fixture_replica_cfg();
    FAULT_EACH(nth) {
        struct replica *r = NULL;
        fault_arm(nth);
        struct rc rc = replica_init(&r, &cfg);
        bool failed = fault_disarm();
        assert_int_equal(rc.err, failed ? E_NOMEM : E_OK);
        assert_int_equal(r == NULL, failed);
        replica_close(&r);
    }
}

/* Nothing has changed, members and what is known of them. */
static void test_members(void **state) {
    (void)state;
    FAULT_EACH(nth) {
        struct pair p;
        pair_open_with(&p, 2);
        struct replica_member self = member_of(&p.a);
        struct replica_member members[] = { member_of(&p.a),
                                            member_of(&p.b),
                                            { { { 9 } }, "https://n9", 9 } };
        struct replica_now now = now_of(&p.a);
        fault_arm(nth);
        struct rc rc = replica_set_members(p.a.replica, &self, members, 3, &now);
        bool failed = fault_disarm();
        assert_int_equal(rc.err, failed ? E_NOMEM : E_OK);
        assert_int_equal(replica_other_count(p.a.replica), failed ? 1 : 2);
        replica_check(p.a.replica, p.a.store);
        assert_ok(replica_set_members(p.a.replica, &self, members, 3, &now));
        pair_close(&p);
    }
}

/* A request that cannot be kept is refused, and its acknowledgement does not count. */
static void test_serve(void **state) {
    (void)state;
    FAULT_EACH(nth) {
        static struct pull pull;
        struct pair p;
        pair_open_with(&p, 2);
        pull_next(&pull, &p.a, &p.b);
        fault_arm(nth);
        bool answered = pull_serve(&pull, true);
        bool failed = fault_disarm();
        assert_true(answered);
        assert_int_equal(pull.answer, failed ? REPLICA_ANSWER_REFUSE : REPLICA_ANSWER_PAGE);
        assert_int_equal(pull.why.code, failed ? STATUS_RESOURCE_EXHAUSTED : STATUS_OK);
        replica_check(p.b.replica, p.b.store);
        pull.was_taken = false;
        assert_true(pull_serve(&pull, true));
        assert_int_equal(pull.answer, REPLICA_ANSWER_PAGE);
        pair_close(&p);
    }
}

/* A record that found no room is asked for again: neither cursor nor vector moves past it. */
static void test_page(void **state) {
    (void)state;
    FAULT_EACH(nth) {
        static struct pull pull;
        struct pair p;
        pair_open_with(&p, 2);
        pull_next(&pull, &p.a, &p.b);
        assert_true(pull_serve(&pull, true));
        fault_arm(nth);
        pull_deliver(&pull, 0);
        bool failed = fault_disarm();
        replica_check(p.a.replica, p.a.store);
        store_check(p.a.store);
        if (failed && store_known_count(p.a.store) == 0) {
            struct replica_view view;
            struct replica_now now = now_of(&p.a);
            assert_true(replica_view(p.a.replica, 0, &now, &view));
            assert_int_equal(view.position, 0);
            assert_false(view.has_alarm);
        }
        pass_ms(6000);
        pull_next(&pull, &p.a, &p.b);
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 0);
        assert_value(p.a.store, "k1", world.unix_ms, "v1");
        assert_value(p.a.store, "k2", world.unix_ms, "v2");
        assert_int_equal(store_known_count(p.a.store), 1);
        pair_close(&p);
    }
}

/* Without memory nobody is drained, and no digest is compared. */
static void test_figures(void **state) {
    (void)state;
    FAULT_EACH(nth) {
        static struct pull pull;
        struct pair p;
        pair_open_with(&p, 2);
        pull_next(&pull, &p.a, &p.b);
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 0);
        pass_ms(60000);
        struct replica_now now = now_of(&p.a);
        struct replica_todo todo;
        replica_next(p.a.replica, p.a.store, &now, &todo);
        assert_int_equal(todo.kind, REPLICA_DIGEST);
        struct replica_state peer;
        replica_own_state(p.b.replica, p.b.store, &now, &peer);
        struct store_known_entry entries[4];
        struct store_known known;
        assert_ok(store_known_copy(p.b.store, entries, 4, &known));
        struct replica_digest digest = { 1, store_digest(p.b.store, 1) };
        const struct replica_digests theirs = { todo.ticket, peer, known, &digest, 1 };
        fault_arm(nth);
        bool drained = replica_is_drained(p.a.replica, p.a.store, &now);
        replica_digest_end(p.a.replica, p.a.store, &theirs, &now);
        bool failed = fault_disarm();
        struct replica_stats stats;
        replica_stats(p.a.replica, &stats);
        assert_int_equal(drained && stats.digest_ok_count == 1, !failed);
        assert_int_equal(stats.digest_mismatch_count, 0);
        pair_close(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_init), cmocka_unit_test(test_members),
                                        cmocka_unit_test(test_serve), cmocka_unit_test(test_page),
                                        cmocka_unit_test(test_figures) };
    return cmocka_run_group_tests_name("fault_replica", tests, NULL, NULL);
}
