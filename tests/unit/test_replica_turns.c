/* SPDX-License-Identifier: Apache-2.0 */
/* From whom a starting node pulls everything, while the others wait. */
#include "replica_fixture.h"

#define RECORDS 25
#define PAGE_RECORDS 4
#define LANES_MAX 3
/* While a member's next page comes within this, the others wait for it. */
#define ALONE_MS 250

/* What is under way with one of the others. */
struct lane {
    struct pull pull;
    struct pull ahead;
    bool is_merging;
    unsigned more_count; /* Asked for more than a first page, and nothing was known. */
    size_t record_count; /* That came. */
};

/* All but the last node have everything, and it starts. The same page ends at another position in
 * each one's log. */
struct race {
    struct cluster c;
    struct node *n;
    size_t lane_count;
    struct lane lanes[LANES_MAX];
};
static struct race race;

static void race_open(size_t lane_count) {
    memset(&race, 0, sizeof(race));
    race.lane_count = lane_count;
    race.n = &race.c.nodes[lane_count];
    cluster_boot(&race.c, lane_count + 1);
    cluster_join(&race.c, lane_count);
    for (uint8_t i = 1; i < RECORDS; i++) {
        const char key[] = { (char)('a' + i), '\0' };
        (void)fixture_put(race.c.nodes[0].store, key, "v", 0, world.unix_ms);
    }
    for (size_t i = 0; i < 40; i++) {
        (void)fixture_put(race.c.nodes[1].store, "a", "v", 0, world.unix_ms);
    }
    for (size_t i = 0; i < lane_count; i++) {
        pull_round(&race.c, &race.c.nodes[i], (1u << lane_count) - 1);
    }
}

static void race_close(void) {
    cluster_close(&race.c);
}

static void lane_send(size_t i, struct pull *p, uint32_t ticket) {
    struct lane *lane = &race.lanes[i];
    pull_send(p, race.n, &race.c.nodes[i], ticket);
    lane->more_count += p->request.since > 0 && p->request.known.count == 0 ? 1 : 0;
}

/* Asks whoever is to be asked; returns whom, a bit each. */
static unsigned race_ask(void) {
    unsigned asked = 0;
    for (struct replica_todo todo = node_next(race.n); todo.kind != REPLICA_IDLE;
         todo = node_next(race.n)) {
        assert_int_equal(todo.kind, REPLICA_PULL);
        size_t i = (size_t)todo.wallet.bytes[0] - 1;
        lane_send(i, &race.lanes[i].pull, todo.ticket);
        asked |= 1u << i;
    }
    return asked;
}

/* The page comes. Returns whether the next one is asked for ahead. */
static bool lane_arrive(size_t i, bool may_ask_ahead) {
    struct lane *lane = &race.lanes[i];
    assert_true(pull_serve(&lane->pull, true));
    assert_int_equal(pull_begin(&lane->pull), REPLICA_TAKE);
    lane->is_merging = true;
    lane->record_count += lane->pull.record_count;
    struct replica_arrival arrival = arrival_of(&lane->pull);
    struct replica_now now = now_of(race.n);
    struct replica_todo todo;
    if (!may_ask_ahead || !replica_ahead(race.n->replica, &arrival, &now, &todo)) {
        return false;
    }
    lane_send(i, &lane->ahead, todo.ticket);
    return true;
}

/* It is merged. */
static void lane_finish(size_t i) {
    struct lane *lane = &race.lanes[i];
    (void)pull_merge(&lane->pull, 0, lane->pull.record_count);
    pull_end(&lane->pull);
    lane->is_merging = false;
    lane->pull.stage = PULL_FREE;
    if (lane->ahead.stage == PULL_ASKED) {
        pull_copy(&lane->pull, &lane->ahead);
        lane->ahead.stage = PULL_FREE;
    }
    replica_check(race.n->replica, race.n->store);
}

static void lane_page(size_t i) {
    (void)lane_arrive(i, false);
    lane_finish(i);
}

/* ---- How pages come between each other ---- */

/* Steps, over and over: 'A' is that lane 0's page arrives, 'a' that it is merged; B and b lane 1's,
 * C and c lane 2's. What a lane has not under way it leaves out. */
static struct race_row {
    const char *name;
    const char *steps;
    size_t lane_count;
    bool is_ahead; /* Pages are asked for ahead. */
} race_rows[] = {
    { "in_turns", "AaBb", 2, false },
    { "in_turns_ahead", "AaBb", 2, true },
    { "second_first", "BbAa", 2, false },
    { "second_first_ahead", "BbAa", 2, true },
    { "both_arrive", "ABab", 2, false },
    { "both_arrive_ahead", "ABab", 2, true },
    { "second_within_first_ahead", "ABba", 2, true },
    { "first_within_second_ahead", "BAab", 2, true },
    { "first_is_slow_ahead", "BbBbAa", 2, true },
    { "second_is_slow_ahead", "AaAaBb", 2, true },
    { "three", "AaBbCc", 3, false },
    { "three_arrive_ahead", "CBAcba", 3, true },
    { "three_within_ahead", "CcABbaAaBCcb", 3, true },
};

static void race_step(char step, bool is_ahead) {
    bool is_merge = step >= 'a';
    size_t i = (size_t)(step - (is_merge ? 'a' : 'A'));
    struct lane *lane = &race.lanes[i];
    if (is_merge && lane->is_merging) {
        lane_finish(i);
    } else if (!is_merge && !lane->is_merging && lane->pull.stage == PULL_ASKED) {
        (void)lane_arrive(i, is_ahead);
    }
}

static void test_race(void **state) {
    const struct race_row *row = *state;
    race_open(row->lane_count);
    size_t step_count = strlen(row->steps);
    for (size_t i = 0; !is_in_service(race.n); i++) {
        assert_true(i < 1000);
        (void)race_ask();
        race_step(row->steps[i % step_count], row->is_ahead);
        pass_ms(10);
    }
    size_t pulled_count = 0;
    for (size_t i = 0; i < row->lane_count; i++) {
        const struct lane *lane = &race.lanes[i];
        assert_true(lane->more_count == 0 || lane->record_count == RECORDS);
        assert_true(lane->more_count > 0 || lane->record_count <= PAGE_RECORDS);
        pulled_count += lane->more_count > 0 ? 1 : 0;
    }
    assert_int_equal(pulled_count, 1);
    race_close();
}

/* ---- What ends it ---- */

/* First pages of all, and the next one is asked of lane 0: it leads. */
static void lead_open(size_t lane_count) {
    race_open(lane_count);
    assert_int_equal(race_ask(), (1u << lane_count) - 1);
    for (size_t i = 0; i < lane_count; i++) {
        lane_page(i);
    }
    assert_int_equal(race_ask(), 1);
}

/* Whoever stalls makes one other go on, not all; and when it answers it goes on itself, so that a
 * slow network makes nobody slower than it is. */
static void test_a_stall(void **state) {
    (void)state;
    lead_open(3);
    pass_ms(ALONE_MS - 1);
    assert_int_equal(race_ask(), 0);
    pass_ms(1);
    assert_int_equal(race_ask(), 2);
    lane_page(0);
    assert_int_equal(race_ask(), 1);
    lane_page(1);
    assert_int_equal(race_ask(), 0);
    /* Both stall. */
    pass_ms(ALONE_MS);
    assert_int_equal(race_ask(), 2);
    pass_ms(ALONE_MS);
    assert_int_equal(race_ask(), 4);
    race_close();
}

/* Also when the next one is listed before it. */
static void test_a_stall_of_the_second(void **state) {
    (void)state;
    race_open(2);
    assert_int_equal(race_ask(), 3);
    lane_page(1);
    assert_int_equal(race_ask(), 2);
    lane_page(0);
    pass_ms(ALONE_MS);
    assert_int_equal(race_ask(), 1);
    lane_page(1);
    assert_int_equal(race_ask(), 2);
    lane_page(0);
    assert_int_equal(race_ask(), 0);
    race_close();
}

/* A page that takes long to merge is no stall of its sender's, and neither is one that has waited
 * for that. */
static void test_a_long_merge(void **state) {
    (void)state;
    lead_open(2);
    assert_true(lane_arrive(0, true));
    pass_ms(10 * ALONE_MS);
    assert_int_equal(race_ask(), 0);
    lane_finish(0);
    assert_int_equal(race_ask(), 0);
    lane_page(0);
    assert_int_equal(race_ask(), 1);
    race_close();
}

/* More than one page is under way behind it, and none comes. */
static void test_pages_behind_stall(void **state) {
    (void)state;
    lead_open(2);
    struct lane *lane = &race.lanes[0];
    assert_true(lane_arrive(0, true));
    struct replica_arrival arrival = arrival_of(&lane->pull);
    struct replica_now now = now_of(race.n);
    struct replica_todo todo;
    static struct pull third;
    assert_true(replica_ahead(race.n->replica, &arrival, &now, &todo));
    lane_send(0, &third, todo.ticket);
    lane_finish(0);
    pass_ms(ALONE_MS - 1);
    assert_int_equal(race_ask(), 0);
    pass_ms(1);
    assert_int_equal(race_ask(), 2);
    race_close();
}

/* Both first pages are being merged at once. */
static void test_a_first_page_under_way(void **state) {
    (void)state;
    race_open(2);
    assert_int_equal(race_ask(), 3);
    assert_true(lane_arrive(1, true));
    assert_false(lane_arrive(0, true));
    lane_finish(0);
    assert_int_equal(race_ask(), 0);
    lane_finish(1);
    assert_int_equal(race_ask(), 0);
    race_close();
}

/* The next one leads, and the one that failed waits for it when it is back. */
static void test_a_failure(void **state) {
    (void)state;
    lead_open(3);
    node_pull_failed(race.n, race.lanes[0].pull.ticket, "it is gone");
    assert_int_equal(race_ask(), 2);
    for (size_t i = 0; i < 3; i++) {
        pass_ms(100);
        lane_page(1);
        assert_int_equal(race_ask(), 2);
    }
    race_close();
}

static void list_members(size_t first, size_t second) {
    struct cluster *c = &race.c;
    struct node *listed[] = { &c->nodes[first], &c->nodes[second], race.n };
    node_list(race.n, listed, 3);
}

/* The members stand in another order, and one of them has left. */
static void test_members_change(void **state) {
    (void)state;
    lead_open(3);
    list_members(1, 0);
    lane_page(0);
    assert_int_equal(race_ask(), 1);
    pass_ms(ALONE_MS - 1);
    assert_int_equal(race_ask(), 0);
    /* Now that one leaves, and the third is back. */
    list_members(2, 1);
    assert_int_equal(race_ask(), 4 | 2); /* A first page of the one that came. */
    lane_page(2);
    assert_int_equal(race_ask(), 0);
    race_close();
}

/* A node that begins again, or was out of the registry, knows of no turns. */
static void test_beginning_again(void **state) {
    (void)state;
    lead_open(2);
    struct replica_now now = now_of(race.n);
    replica_restart(race.n->replica, &now);
    assert_int_equal(race_ask(), 3);
    lane_page(1);
    assert_int_equal(race_ask(), 2);
    lane_page(0);
    assert_int_equal(race_ask(), 0);
    node_list(race.n, race.c.listed, 2);
    node_list(race.n, race.c.listed, 3);
    assert_int_equal(race_ask(), 1);
    race_close();
}

/* Nobody has much to give to a node that was away for a moment, so nobody waits. */
static void test_after_an_absence(void **state) {
    (void)state;
    race_open(2);
    pull_round(&race.c, race.n, 3);
    assert_true(is_in_service(race.n));
    node_list(race.n, race.c.listed, 2);
    node_list(race.n, race.c.listed, 3);
    pass_ms(100); /* Some asked just before it left. */
    assert_int_equal(race_ask(), 3);
    race_close();
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(race_rows) + 9];
    const struct CMUnitTest single[] = {
        cmocka_unit_test(test_a_stall),
        cmocka_unit_test(test_a_stall_of_the_second),
        cmocka_unit_test(test_a_long_merge),
        cmocka_unit_test(test_a_first_page_under_way),
        cmocka_unit_test(test_a_failure),
        cmocka_unit_test(test_members_change),
        cmocka_unit_test(test_beginning_again),
        cmocka_unit_test(test_after_an_absence),
        cmocka_unit_test(test_pages_behind_stall),
    };
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_race, race_rows);
    for (size_t i = 0; i < TEST_ROWS(single); i++) {
        tests[count++] = single[i];
    }
    return _cmocka_run_group_tests("replica_turns", tests, count, NULL, NULL);
}
