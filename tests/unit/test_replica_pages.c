/* SPDX-License-Identifier: Apache-2.0 */
/* The pulling side: which pages are taken, and when cursor and vector move. */
#include "replica_fixture.h"

/* a pulls from b, up to where the answer is on the wire. */
static void pair_answer(struct pair *p) {
    pull_next(&p->pull, &p->a, &p->b);
    assert_true(pull_serve(&p->pull, true));
}

static void pair_pull(struct pair *p) {
    pass_ms(6000); /* Past any backoff. */
    pair_answer(p);
    pull_deliver(&p->pull, 9);
}

static size_t known_count(const struct pair *p) {
    return store_known_count(p->a.store);
}

/* ---- Pages that are dropped ---- */

static void other_requester(struct pair *p) {
    p->pull.page.requester_incarnation[0] = 77;
}

static void no_incarnation(struct pair *p) {
    memset(p->pull.page.state.incarnation, 0, STORE_WRITER_BYTES);
}

static void other_secret(struct pair *p) {
    p->pull.page.state.secret_hash[0]++;
}

static void not_in_service(struct pair *p) {
    p->pull.page.state.in_service = false;
}

static void other_start(struct pair *p) {
    p->pull.page.from = 1;
}

static void next_before_from(struct pair *p) {
    p->pull.page.from = 0;
    p->pull.page.next = 2;
    p->pull.page.last = 1;
}

static void known_of_the_future(struct pair *p) {
    p->pull.told[0].hlc = HLC(world.unix_ms + SKEW_MS + 1, 0);
}

static void rest_of_the_future(struct pair *p) {
    p->pull.page.known.rest_hlc = HLC(world.unix_ms + SKEW_MS + 1, 0);
}

static void floor_of_the_future(struct pair *p) {
    p->pull.page.floor.rest_hlc = HLC(world.unix_ms + SKEW_MS + 1, 0);
}

static void known_of_nobody(struct pair *p) {
    memset(p->pull.told[0].writer, 0, STORE_WRITER_BYTES);
}

static void known_of_what_was_not_written(struct pair *p) {
    memcpy(p->pull.told[0].writer, store_writer(p->a.store), STORE_WRITER_BYTES);
}

static void known_too_long(struct pair *p) {
    p->pull.page.known.count = REPLICA_KNOWN_COUNT_MAX + 1;
}

static void heard_too_long(struct pair *p) {
    p->pull.page.heard_count = REPLICA_HEARD_COUNT_MAX + 1;
}

static void reset_of_nothing(struct pair *p) {
    p->pull.page.reset = true;
}

static void own_reset(struct pair *p) {
    uint8_t writer[STORE_WRITER_BYTES] = { 50 };
    store_reset(p->a.store, writer);
}

static void floor_is_not_covered(struct pair *p) {
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    struct store_known floor = { &e, 1, 0 };
    assert_ok(store_join_floor(p->a.store, &floor, world.unix_ms));
}

static void floor_meets_empty_known(struct pair *p) {
    struct store_known floor = { .rest_hlc = HLC(NOW - 1000, 0) };
    assert_ok(store_join_floor(p->a.store, &floor, world.unix_ms));
    p->pull.page.known = (struct store_known){ 0 };
}

static struct drop_row {
    const char *name;
    void (*spoil)(struct pair *p);
    const char *want; /* A part of the reason. */
} drop_rows[] = {
    { "answers_an_earlier_incarnation", other_requester, "earlier incarnation of this node" },
    { "no_incarnation", no_incarnation, "names no incarnation" },
    { "other_secret", other_secret, "another master secret" },
    { "not_in_service", not_in_service, "not in service" },
    { "starts_elsewhere", other_start, "another position" },
    { "goes_backwards", next_before_from, "backwards" },
    { "known_of_the_future", known_of_the_future, "future" },
    { "rest_of_the_future", rest_of_the_future, "future" },
    { "floor_of_the_future", floor_of_the_future, "future" },
    { "known_of_nobody", known_of_nobody, "all zero" },
    { "known_of_what_was_not_written", known_of_what_was_not_written, "more of this node's" },
    { "known_too_long", known_too_long, "too many entries" },
    { "heard_too_long", heard_too_long, "too many incarnations" },
    { "reset_of_one_who_knows_nothing", reset_of_nothing, "knows nothing" },
    { "the_store_was_reset", own_reset, "earlier incarnation of this node" },
    { "floor_is_not_covered", floor_is_not_covered, "collected here" },
    { "floor_meets_empty_known", floor_meets_empty_known, "collected here" },
};

static void test_drop(void **state) {
    const struct drop_row *row = *state;
    struct pair p;
    pair_open_with(&p, 3);
    pair_answer(&p);
    row->spoil(&p);
    assert_int_equal(pull_begin(&p.pull), REPLICA_DROP);
    assert_non_null(strstr(p.pull.reason, row->want));
    assert_string_equal(view_of(&p.a).error, p.pull.reason);
    assert_int_equal(view_of(&p.a).position, 0);
    struct replica_stats stats = stats_of(&p.a);
    assert_int_equal(stats.dropped_page_count, 1);
    assert_int_equal(stats.pull_failed_count, 1);
    /* The pull has ended: nothing of it is merged, and its answer is not judged again. */
    assert_false(pull_merge(&p.pull, 0, p.pull.record_count));
    pull_end(&p.pull);
    assert_int_equal(pull_begin(&p.pull), REPLICA_DROP);
    assert_int_equal(store_log_last(p.a.store), 0);
    assert_int_equal(known_count(&p), 0);
    pair_close(&p);
}

/* ---- Cursor and vector ---- */

static void test_pages_to_the_end(void **state) {
    (void)state;
    struct pair p;
    pair_open_with(&p, 3);
    (void)fixture_put(p.b.store, "k4", "v4", 0, world.unix_ms);
    (void)fixture_put(p.b.store, "k5", "v5", 0, world.unix_ms);
    pair_pull(&p); /* A page has room for three. */
    assert_true(p.pull.page.more);
    assert_int_equal(view_of(&p.a).position, 3);
    assert_int_equal(view_of(&p.a).lag_count, 2);
    assert_int_equal(known_count(&p), 0); /* Not before the end. */
    pass_ms(70);
    assert_int_equal(view_of(&p.a).lag_ms, 70);
    pair_answer(&p);
    assert_int_equal(p.pull.request.since, 3);
    assert_int_equal(p.pull.request.wait_ms, 0);
    pull_deliver(&p.pull, 0);
    assert_false(p.pull.page.more);
    assert_int_equal(view_of(&p.a).lag_count, 0);
    assert_int_equal(view_of(&p.a).lag_ms, 0);
    assert_int_equal(known_count(&p), 1);
    assert_value(p.a.store, "k5", world.unix_ms, "v5");
    pair_answer(&p);
    assert_int_equal(p.pull.request.wait_ms, FIXTURE_WAIT_MS);
    assert_int_equal(p.pull.record_count, 0);
    pair_close(&p);
}

/* A new boot of the member: its log is read from the start, whatever the cursor said. */
static void test_new_boot_of_the_member(void **state) {
    (void)state;
    struct pair p;
    pair_open_with(&p, 3);
    pair_pull(&p);
    assert_int_equal(view_of(&p.a).position, 3);
    node_close(&p.b);
    node_boot(&p.b, 1, 3);
    struct node *nodes[] = { &p.a, &p.b };
    replica_set_secret(p.b.replica, fixture_hash, true);
    node_list(&p.b, nodes, 2);
    for (size_t i = 0; i < 4; i++) {
        char key[] = { 'n', (char)('0' + i), '\0' };
        (void)fixture_put(p.b.store, key, "new", 0, world.unix_ms);
    }
    pair_pull(&p);
    assert_int_equal(p.pull.request.since, 3);
    assert_int_equal(p.pull.page.from, 0);
    assert_int_equal(p.pull.verdict, REPLICA_TAKE);
    assert_int_equal(view_of(&p.a).position, 3);
    assert_value(p.a.store, "n0", world.unix_ms, "new");
    /* What the boot before might still say is void, now that this one has answered. */
    pair_answer(&p);
    p.pull.page.state.incarnation[0] = 2;
    pull_deliver(&p.pull, 0);
    assert_int_equal(p.pull.verdict, REPLICA_DROP);
    assert_non_null(strstr(p.pull.reason, "earlier incarnation of its sender"));
    /* And a page that claims to go on from 3, of one that is new, is not believed. */
    pass_ms(6000);
    pair_answer(&p);
    p.pull.page.state.incarnation[0] = 4;
    pull_deliver(&p.pull, 0);
    assert_int_equal(p.pull.verdict, REPLICA_DROP);
    pair_close(&p);
}

/* ---- Refused records ---- */

static void forge(struct replica_record *r) {
    r->is_forged = true;
}

static void date_ahead(struct replica_record *r) {
    r->remote.stamp.hlc = HLC(world.unix_ms + SKEW_MS + 10000, 0);
}

static void lose_stamp(struct replica_record *r) {
    r->remote.stamp = STORE_STAMP_NONE;
}

static void lengthen_ttl(struct replica_record *r) {
    r->remote.ttl_ms = STORE_TTL_MS_MAX + 1;
}

static struct refuse_row {
    const char *name;
    void (*spoil)(struct replica_record *r);
    bool is_alarm;
    const char *want;
} refuse_rows[] = {
    { "forged", forge, true, "forged" },
    { "skew", date_ahead, false, "skew" },
    { "no_stamp", lose_stamp, true, "malformed" },
    { "ttl", lengthen_ttl, true, "malformed" },
};

/* The others of the page are merged, but neither cursor nor vector moves, and it is asked again. */
static void test_refused(void **state) {
    const struct refuse_row *row = *state;
    struct pair p;
    pair_open_with(&p, 3);
    pair_answer(&p);
    assert_false(p.pull.page.more);
    row->spoil(&p.pull.records[1]);
    pull_deliver(&p.pull, 0);
    assert_int_equal(p.pull.verdict, REPLICA_TAKE);
    assert_value(p.a.store, "k1", world.unix_ms, "v1");
    assert_value(p.a.store, "k3", world.unix_ms, "v3");
    assert_absent(p.a.store, "k2", world.unix_ms);
    struct replica_view view = view_of(&p.a);
    assert_int_equal(view.position, 0);
    assert_int_equal(view.has_alarm, row->is_alarm);
    assert_non_null(strstr(view.error, row->want));
    assert_false(view.reachable);
    assert_int_equal(known_count(&p), 0);
    assert_false(replica_is_comparable(p.a.replica));
    /* Not at once, but again; and what is not refused any more is taken. */
    struct replica_todo todo = node_next(&p.a);
    assert_int_equal(todo.kind, REPLICA_IDLE);
    assert_in_range(todo.at_ms, world.mono_ms + 50, world.mono_ms + 100);
    pair_pull(&p);
    assert_int_equal(view_of(&p.a).position, 3);
    assert_false(view_of(&p.a).has_alarm);
    assert_string_equal(view_of(&p.a).error, "");
    assert_value(p.a.store, "k2", world.unix_ms, "v2");
    assert_int_equal(known_count(&p), 1);
    assert_true(replica_is_comparable(p.a.replica));
    pair_close(&p);
}

/* ---- Between the steps of a page ---- */

static void test_collected_between_steps(void **state) {
    (void)state;
    struct pair p;
    pair_open_with(&p, 3);
    pair_answer(&p);
    assert_int_equal(pull_begin(&p.pull), REPLICA_TAKE);
    assert_true(pull_merge(&p.pull, 0, 1));
    floor_is_not_covered(&p);
    assert_false(pull_merge(&p.pull, 1, 2));
    assert_absent(p.a.store, "k2", world.unix_ms);
    pull_end(&p.pull);
    assert_int_equal(view_of(&p.a).position, 0);
    assert_int_equal(known_count(&p), 0);
    pair_close(&p);
}

static void test_member_left_between_steps(void **state) {
    (void)state;
    struct pair p;
    pair_open_with(&p, 3);
    pair_answer(&p);
    assert_int_equal(pull_begin(&p.pull), REPLICA_TAKE);
    node_list(&p.a, NULL, 0);
    assert_false(pull_merge(&p.pull, 0, 3));
    pull_end(&p.pull);
    assert_int_equal(known_count(&p), 0);
    struct store_known_entry entries[4];
    struct replica_request request;
    const struct replica_ask ask = { p.pull.ticket, entries, 4 };
    struct replica_now now = now_of(&p.a);
    assert_err(replica_pull_request(p.a.replica, p.a.store, &ask, &now, &request), NOT_FOUND);
    pair_close(&p);
}

/* ---- RESET ---- */

static void test_reset(void **state) {
    (void)state;
    struct pair p;
    pair_open_with(&p, 3);
    pair_pull(&p);
    (void)fixture_put(p.a.store, "mine", "m", 0, world.unix_ms);
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    struct store_known floor = { &e, 1, 0 };
    assert_ok(store_join_floor(p.b.store, &floor, world.unix_ms));
    pair_answer(&p);
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_RESET);
    pull_deliver(&p.pull, 9);
    assert_int_equal(p.pull.verdict, REPLICA_RESET);
    assert_false(is_in_service(&p.a));
    assert_absent(p.a.store, "mine", world.unix_ms);
    struct replica_stats stats = stats_of(&p.a);
    assert_int_equal(stats.reset_count, 1);
    stats = stats_of(&p.b);
    assert_int_equal(stats.reset_given_count, 1);
    /* It begins again, as another writer that knows nothing, from 0. */
    pair_answer(&p);
    assert_int_equal(p.pull.request.state.incarnation[0], 9);
    assert_int_equal(p.pull.request.since, 0);
    assert_false(p.pull.request.state.in_service);
    pull_deliver(&p.pull, 0);
    assert_true(is_in_service(&p.a));
    assert_value(p.a.store, "k1", world.unix_ms, "v1");
    pair_close(&p);
}

/* b is in service and knows nothing, but holds a record of a pass that has not ended: a's vector is
 * as empty after it has pulled b to the end, and the record may be older than what c has collected. */
static void test_what_no_vector_covers(void **state) {
    (void)state;
    struct cluster nodes;
    cluster_boot(&nodes, 3);
    cluster_join(&nodes, 2);
    struct node *b = &nodes.nodes[0];
    struct node *c = &nodes.nodes[1];
    struct node *a = &nodes.nodes[2];
    const struct store_remote old = { .app_id = 1,
                                      .key = span_str("k"),
                                      .sealed = span_str("old"),
                                      .stamp = fixture_stamp(NOW - 2000, 0, 66) };
    struct store_merged merged;
    assert_ok(store_merge(b->store, &old, world.unix_ms, &merged));
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    const struct store_known gone = { &e, 1, 0 };
    assert_ok(store_join_floor(c->store, &gone, world.unix_ms));
    assert_ok(store_join_known(c->store, &gone, world.unix_ms));
    (void)node_next(b);
    (void)node_next(c);
    pull_round(&nodes, a, 1);
    assert_value(a->store, "k", world.unix_ms, "old");
    pass_ms(FIXTURE_WAIT_MS);
    pull_round(&nodes, a, 2);
    assert_int_equal(stats_of(a).dropped_page_count, 1);
    pass_ms(FIXTURE_WAIT_MS);
    pull_round(&nodes, a, 2);
    assert_int_equal(stats_of(a).reset_count, 1);
    assert_absent(a->store, "k", world.unix_ms);
    cluster_close(&nodes);
}

/* a is half through b's log when b does not list it any more. Meanwhile k1 is deleted there, and
 * the tombstone collected: nothing is left in b's log that would tell a, which shows an empty
 * vector. */
static void test_collected_while_away(void **state) {
    (void)state;
    struct cluster nodes;
    cluster_boot(&nodes, 2);
    cluster_join(&nodes, 1);
    struct node *b = &nodes.nodes[0];
    struct node *a = &nodes.nodes[1];
    for (int i = '1'; i <= '6'; i++) {
        const char key[] = { 'k', (char)i, '\0' };
        (void)fixture_put(b->store, key, "v", 0, world.unix_ms);
    }
    (void)node_next(b);
    struct pull p;
    pull_next(&p, a, b);
    assert_true(pull_serve(&p, true));
    pull_deliver(&p, 99);
    assert_true(p.page.more);
    assert_value(a->store, "k1", world.unix_ms, "v");
    node_list(b, nodes.listed, 1);
    (void)fixture_delete(b->store, "k1", world.unix_ms);
    pass_ms(RETENTION_MS + SKEW_MS);
    assert_int_equal(node_collect(b).removed_count, 1);
    node_list(b, nodes.listed, 2);
    pull_next(&p, a, b);
    assert_true(pull_serve(&p, true));
    pull_deliver(&p, 99);
    assert_int_equal(p.verdict, REPLICA_DROP);
    pass_ms(FIXTURE_WAIT_MS);
    pull_next(&p, a, b);
    assert_true(pull_serve(&p, true));
    pull_deliver(&p, 99);
    assert_int_equal(p.verdict, REPLICA_RESET);
    pull_round(&nodes, a, 1);
    assert_absent(a->store, "k1", world.unix_ms);
    assert_value(a->store, "k6", world.unix_ms, "v");
    assert_true(is_in_service(a));
    cluster_close(&nodes);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(drop_rows) + TEST_ROWS(refuse_rows) + 7];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_drop, drop_rows);
    TEST_ADD_ROWS(tests, count, test_refused, refuse_rows);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_pages_to_the_end);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_new_boot_of_the_member);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_collected_between_steps);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_member_left_between_steps);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_reset);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_what_no_vector_covers);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_collected_while_away);
    return cmocka_run_group_tests_name("replica_pages", tests, NULL, NULL);
}
