/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that are born with their cluster: they serve at once, and when the founder must not vouch
 * for one. */
#include "replica_fixture.h"

/* All begin, and the first makes the secret. */
static void birth_open(struct cluster *c, size_t count) {
    cluster_boot(c, count);
    for (size_t i = 0; i < count; i++) {
        node_list(&c->nodes[i], c->listed, count);
        replica_set_secret(c->nodes[i].replica, fixture_hash, i == 0);
    }
    (void)node_next(&c->nodes[0]);
    assert_true(is_in_service(&c->nodes[0]));
}

static void give_secret(struct cluster *c) {
    struct replica_now now = now_of(&c->nodes[0]);
    replica_note_shared(c->nodes[0].replica, &now);
}

/* The same machine begins again, under the same wallet. */
static void boot_again(struct cluster *c, size_t idx, uint8_t writer) {
    node_close(&c->nodes[idx]);
    node_boot(&c->nodes[idx], (uint8_t)idx, writer);
    node_list(&c->nodes[idx], c->listed, c->count);
    replica_set_secret(c->nodes[idx].replica, fixture_hash, false);
}

/* Pulls the founder to the end; the others are still starting. */
static bool joins(struct cluster *c, size_t idx) {
    pull_round(c, &c->nodes[idx], 1);
    return is_in_service(&c->nodes[idx]);
}

/* All come into service at once, with the founder's data, and none counts a durability_reset. */
static void test_born_together(void **state) {
    (void)state;
    struct cluster c;
    birth_open(&c, 3);
    (void)fixture_put(c.nodes[0].store, "first", "v", 0, world.unix_ms);
    give_secret(&c);
    for (size_t i = 1; i < 3; i++) {
        assert_true(joins(&c, i));
        assert_value(c.nodes[i].store, "first", world.unix_ms, "v");
        assert_int_equal(stats_of(&c.nodes[i]).durability_reset_count, 0);
    }
    cluster_close(&c);
}

/* The same boot may ask as often as it likes: it is the same one. */
static void test_a_newcomer_asks_again(void **state) {
    (void)state;
    struct cluster c;
    birth_open(&c, 2);
    give_secret(&c);
    static struct pull pull;
    pull_next(&pull, &c.nodes[1], &c.nodes[0]);
    assert_true(pull_serve(&pull, true));
    assert_true(pull.page.newcomer);
    node_pull_failed(&c.nodes[1], pull.ticket, "it was lost");
    pass_ms(FIXTURE_START_WAIT_MS / 2);
    pull_next(&pull, &c.nodes[1], &c.nodes[0]);
    assert_true(pull_serve(&pull, true));
    assert_true(pull.page.newcomer);
    cluster_close(&c);
}

enum birth_fault {
    BIRTH_UNSHARED,  /* The founder gave the secret to nobody: it does not know who has it. */
    BIRTH_LATE,      /* Others may have waited long enough meanwhile. */
    BIRTH_SECOND,    /* An earlier boot of the member may have been in service. */
    BIRTH_RESET,     /* Another incarnation of the same boot. */
    BIRTH_STRANGER,  /* Somebody came into service without the founder. */
    BIRTH_CHANGED,   /* A member left, or came back as another, after some were let in. */
    BIRTH_FOUNDER_2, /* The founder is another boot. */
};
static struct birth_row {
    const char *name;
    enum birth_fault fault;
} birth_rows[] = {
    { "unshared", BIRTH_UNSHARED },       { "late", BIRTH_LATE },
    { "second_boot", BIRTH_SECOND },      { "after_a_reset", BIRTH_RESET },
    { "stranger", BIRTH_STRANGER },       { "members_changed", BIRTH_CHANGED },
    { "founder_again", BIRTH_FOUNDER_2 },
};

/* The fifth of five, which needs three others in service. */
static void test_no_newcomer(void **state) {
    const struct birth_row *row = *state;
    struct cluster c;
    birth_open(&c, 5);
    if (row->fault != BIRTH_UNSHARED) {
        give_secret(&c);
    }
    if (row->fault == BIRTH_LATE) {
        pass_ms(FIXTURE_START_WAIT_MS / 2);
    } else if (row->fault == BIRTH_SECOND) {
        assert_true(joins(&c, 4));
        boot_again(&c, 4, 50);
    } else if (row->fault == BIRTH_RESET) {
        static struct pull pull;
        pull_next(&pull, &c.nodes[4], &c.nodes[0]);
        assert_true(pull_serve(&pull, true));
        const uint8_t writer[STORE_WRITER_BYTES] = { 51 };
        struct replica_now now = now_of(&c.nodes[4]);
        store_reset(c.nodes[4].store, writer);
        replica_restart(c.nodes[4].replica, &now);
    } else if (row->fault == BIRTH_STRANGER) {
        replica_set_secret(c.nodes[3].replica, (const uint8_t[REPLICA_HASH_BYTES]){ 9 }, false);
        replica_set_secret(c.nodes[3].replica, fixture_hash, true);
        pull_round(&c, &c.nodes[3], 1);
    } else if (row->fault == BIRTH_CHANGED) {
        assert_true(joins(&c, 1));
        node_list(&c.nodes[0], c.listed, 4);
        node_list(&c.nodes[0], c.listed, 5);
    } else if (row->fault == BIRTH_FOUNDER_2) {
        struct replica_now now = now_of(&c.nodes[0]);
        const uint8_t writer[STORE_WRITER_BYTES] = { 52 };
        store_reset(c.nodes[0].store, writer);
        replica_restart(c.nodes[0].replica, &now);
        pass_ms(FIXTURE_START_WAIT_MS);
        pull_round(&c, &c.nodes[0], 0);
        assert_true(is_in_service(&c.nodes[0]));
        pass_ms(1000);
    }
    assert_false(joins(&c, 4));
    cluster_close(&c);
}

/* Who joins before anybody else was let in changes nothing. */
static void test_members_join_before_the_first_newcomer(void **state) {
    (void)state;
    struct cluster c;
    birth_open(&c, 3);
    node_list(&c.nodes[0], c.listed, 1);
    give_secret(&c);
    node_list(&c.nodes[0], c.listed, 3);
    assert_true(joins(&c, 1));
    cluster_close(&c);
}

/* As soon as those who were let in are enough for another, the founder is not asked any more who is
 * in service. */
static void test_newcomers_are_bounded(void **state) {
    (void)state;
    struct cluster c;
    birth_open(&c, 6);
    give_secret(&c);
    for (size_t i = 1; i < 4; i++) {
        assert_true(joins(&c, i));
    }
    assert_false(joins(&c, 4));
    pass_ms(1000);
    pull_round(&c, &c.nodes[4], 7);
    assert_true(is_in_service(&c.nodes[4]));
    assert_int_equal(stats_of(&c.nodes[4]).durability_reset_count, 0);
    cluster_close(&c);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(birth_rows) + 4] = {
        cmocka_unit_test(test_born_together),
        cmocka_unit_test(test_a_newcomer_asks_again),
        cmocka_unit_test(test_members_join_before_the_first_newcomer),
        cmocka_unit_test(test_newcomers_are_bounded),
    };
    size_t count = 4;
    TEST_ADD_ROWS(tests, count, test_no_newcomer, birth_rows);
    return cmocka_run_group_tests_name("replica_birth", tests, NULL, NULL);
}
