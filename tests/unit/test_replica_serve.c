/* SPDX-License-Identifier: Apache-2.0 */
/* The answering side: who is refused, what waits, and what counts as an acknowledgement. */
#include "replica_fixture.h"

static void pull_now(struct node *from, struct node *to) {
    static struct pull pull;
    pass_ms(6000);
    pull_next(&pull, from, to);
    assert_true(pull_serve(&pull, true));
    pull_deliver(&pull, 99);
}

/* Both have met, and b asks a: the pull waits, unless there is something to tell. */
static void pair_meet(struct pair *p) {
    pull_now(&p->b, &p->a);
    pull_now(&p->a, &p->b);
    pull_next(&p->pull, &p->b, &p->a);
}

/* ---- Refused requests ---- */

static void stranger(struct pair *p) {
    p->b.wallet.bytes[0] = 77;
}

static void other_secret(struct pair *p) {
    p->pull.request.state.secret_hash[0]++;
}

static void no_secret(struct pair *p) {
    memset(p->pull.request.state.secret_hash, 0, REPLICA_HASH_BYTES);
}

static void no_incarnation(struct pair *p) {
    memset(p->pull.request.state.incarnation, 0, STORE_WRITER_BYTES);
}

static void behind_the_end(struct pair *p) {
    p->pull.request.since = store_log_last(p->a.store) + 1;
}

static void waits_too_long(struct pair *p) {
    p->pull.request.wait_ms = REPLICA_WAIT_MS_MAX + 1;
}

static void known_too_long(struct pair *p) {
    p->pull.request.known.count = REPLICA_KNOWN_COUNT_MAX + 1;
}

static void heard_too_long(struct pair *p) {
    p->pull.request.heard_count = REPLICA_HEARD_COUNT_MAX + 1;
}

static void set_known(struct pair *p, size_t idx, uint8_t writer, uint64_t hlc) {
    memset(p->pull.asked[idx].writer, 0, STORE_WRITER_BYTES);
    p->pull.asked[idx].writer[0] = writer;
    p->pull.asked[idx].hlc = hlc;
    p->pull.request.known.entries = p->pull.asked;
    p->pull.request.known.count = idx + 1;
}

static void knows_the_future(struct pair *p) {
    set_known(p, 0, 5, HLC(world.unix_ms + SKEW_MS + 1, 0));
}

static void rest_in_the_future(struct pair *p) {
    p->pull.request.known.rest_hlc = HLC(world.unix_ms + SKEW_MS + 1, 0);
}

static void knows_nobody(struct pair *p) {
    set_known(p, 0, 0, HLC(NOW, 0));
}

static void knows_twice(struct pair *p) {
    set_known(p, 0, 5, HLC(NOW, 0));
    set_known(p, 1, 5, HLC(NOW, 1));
}

static void knows_what_was_not_written(struct pair *p) {
    set_known(p, 0, 1, HLC(world.unix_ms + 1, 0));
}

static struct refuse_row {
    const char *name;
    void (*spoil)(struct pair *p);
    enum status_code want;
    const char *text;
} refuse_rows[] = {
    { "stranger", stranger, STATUS_PERMISSION_DENIED, "not a member" },
    { "other_secret", other_secret, STATUS_FAILED_PRECONDITION, "different master secrets" },
    { "no_secret", no_secret, STATUS_FAILED_PRECONDITION, "different master secrets" },
    { "no_incarnation", no_incarnation, STATUS_INVALID_ARGUMENT, "state.incarnation" },
    { "since_behind_the_end", behind_the_end, STATUS_INVALID_ARGUMENT, "since" },
    { "waits_too_long", waits_too_long, STATUS_INVALID_ARGUMENT, "wait_ms" },
    { "known_too_long", known_too_long, STATUS_INVALID_ARGUMENT, "too many entries" },
    { "heard_too_long", heard_too_long, STATUS_INVALID_ARGUMENT, "heard" },
    { "knows_the_future", knows_the_future, STATUS_INVALID_ARGUMENT, "ahead" },
    { "rest_in_the_future", rest_in_the_future, STATUS_INVALID_ARGUMENT, "rest_hlc" },
    { "knows_nobody", knows_nobody, STATUS_INVALID_ARGUMENT, "all zero" },
    { "knows_twice", knows_twice, STATUS_INVALID_ARGUMENT, "twice" },
    { "knows_what_was_not_written", knows_what_was_not_written, STATUS_INVALID_ARGUMENT,
      "more of this node's own" },
};

/* Refused, and nothing of it is taken in. */
static void test_refuse(void **state) {
    const struct refuse_row *row = *state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    row->spoil(&p);
    assert_true(pull_serve(&p.pull, true));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_REFUSE);
    assert_int_equal(p.pull.why.code, row->want);
    assert_non_null(strstr(p.pull.why.text, row->text));
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    p.b.wallet.bytes[0] = 2;
    pair_close(&p);
}

static void test_room(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    (void)fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    struct replica_now now = now_of(&p.a);
    struct store_known_entry entries[1];
    struct replica_served served;
    struct replica_serve serve = {
        .wallet = &p.b.wallet, .request = &p.pull.request, .is_over = true, .entries = entries
    };
    assert_int_equal(replica_serve(p.a.replica, p.a.store, &serve, &now, &served),
                     REPLICA_ANSWER_REFUSE);
    assert_int_equal(served.why.code, STATUS_RESOURCE_EXHAUSTED);
    serve.entry_count_max = 1;
    assert_int_equal(replica_serve(p.a.replica, p.a.store, &serve, &now, &served),
                     REPLICA_ANSWER_PAGE);
    assert_int_equal(served.page.known.count, 1);
    pair_close(&p);
}

static void test_without_secret(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct node c = { 0 };
    node_boot(&c, 2, 3);
    struct node *nodes[] = { &p.a, &p.b, &c };
    node_list(&c, nodes, 3);
    assert_int_equal(node_next(&c).kind, REPLICA_IDLE); /* It asks nobody for data. */
    pair_meet(&p);
    p.pull.to = &c;
    assert_true(pull_serve(&p.pull, true));
    assert_int_equal(p.pull.why.code, STATUS_UNAVAILABLE);
    char reason[REPLICA_REASON_BYTES];
    assert_false(replica_in_service(c.replica, reason));
    assert_non_null(strstr(reason, "master secret"));
    node_close(&c);
    pair_close(&p);
}

/* ---- What waits ---- */

static void test_own_writes_are_told_at_once(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    pair_meet(&p);
    assert_int_equal(p.pull.request.wait_ms, FIXTURE_WAIT_MS);
    assert_false(pull_serve(&p.pull, false));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_WAIT);
    (void)fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    assert_true(pull_serve(&p.pull, false));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_PAGE);
    assert_int_equal(p.pull.record_count, 1);
    pair_close(&p);
}

/* What came from others waits a little; then the member is made to ask for what it still lacks. */
static void test_relayed_writes_wait(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    pair_meet(&p);
    assert_false(pull_serve(&p.pull, false));
    struct store_known_entry e = { { 50 }, HLC(NOW - 1, 0) };
    struct store_known known = { &e, 1, 0 };
    struct store_remote remote = { .app_id = 1,
                                   .key = SPAN_LIT("third"),
                                   .sealed = SPAN_LIT("x"),
                                   .stamp = { HLC(NOW - 1, 0), { 50 } } };
    struct store_merged merged;
    assert_ok(store_merge(p.a.store, &remote, world.unix_ms, &merged));
    assert_ok(store_join_known(p.a.store, &known, world.unix_ms));
    assert_false(pull_serve(&p.pull, false));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_WAIT_SHORT);
    pass_ms(REPLICA_RELAY_MS - 1);
    assert_false(pull_serve(&p.pull, false));
    pass_ms(1);
    assert_true(pull_serve(&p.pull, false));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_AGAIN);
    assert_true(p.pull.page.more);
    assert_int_equal(p.pull.page.next, p.pull.page.from);
    pull_deliver(&p.pull, 0);
    assert_int_equal(p.pull.verdict, REPLICA_TAKE);
    /* It asks at once, and does not wait. */
    pull_next(&p.pull, &p.b, &p.a);
    assert_int_equal(p.pull.request.wait_ms, 0);
    assert_true(pull_serve(&p.pull, false));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_PAGE);
    assert_int_equal(p.pull.record_count, 1);
    pull_deliver(&p.pull, 0);
    assert_value(p.b.store, "third", world.unix_ms, "x");
    pair_close(&p);
}

/* Nobody is told of its own writes. */
static void test_own_writes_do_not_come_back(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    pair_meet(&p);
    assert_false(pull_serve(&p.pull, false));
    (void)fixture_put(p.b.store, "k", "v", 0, world.unix_ms);
    pull_now(&p.a, &p.b);
    assert_value(p.a.store, "k", world.unix_ms, "v");
    assert_false(pull_serve(&p.pull, false));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_WAIT);
    pair_close(&p);
}

/* ---- Acknowledgements ---- */

/* The position that a request carries acknowledges nothing. */
static void test_since_is_no_acknowledgement(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    p.pull.request.known = (struct store_known){ 0 };
    assert_int_equal(p.pull.request.since, store_log_last(p.a.store));
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    pair_close(&p);
}

static void test_starting_node_does_not_acknowledge(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    p.pull.request.state.in_service = false;
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    p.pull.was_taken = false;
    p.pull.request.state.in_service = true;
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    pair_close(&p);
}

/* Requests of one boot may come in any order: the vector only grows. */
static void test_late_request_takes_nothing_back(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    p.pull.was_taken = false;
    p.pull.request.known = (struct store_known){ 0 };
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    pair_close(&p);
}

/* A new boot ends what the one before acknowledged; and the late messages of that are refused once
 * the new one has answered. */
static void test_new_boot(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    static struct pull late;
    pull_copy(&late, &p.pull);
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    /* The new boot only asks: it may be a late message itself, but the acknowledgement is in
     * doubt. */
    node_close(&p.b);
    node_boot(&p.b, 1, 3);
    struct node *nodes[] = { &p.a, &p.b };
    node_list(&p.b, nodes, 2);
    replica_set_secret(p.b.replica, fixture_hash, false);
    pass_ms(6000);
    pull_next(&p.pull, &p.b, &p.a);
    assert_true(pull_serve(&p.pull, true));
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    pull_deliver(&p.pull, 0);
    assert_true(is_in_service(&p.b));
    pull_now(&p.a, &p.b);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    late.was_taken = false;
    assert_true(pull_serve(&late, true));
    assert_int_equal(late.answer, REPLICA_ANSWER_REFUSE);
    assert_int_equal(late.why.code, STATUS_FAILED_PRECONDITION);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    pass_ms(6000);
    pull_next(&p.pull, &p.b, &p.a);
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    pair_close(&p);
}

/* A late message of a boot that was never heard of before puts the present one in doubt, until it
 * has answered again; then the other is known to be over. */
static void test_unheard_boot(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    (void)pull_serve(&p.pull, false);
    static struct pull late;
    pull_copy(&late, &p.pull);
    late.request.state.incarnation[0] = 44;
    late.was_taken = false;
    (void)pull_serve(&late, true);
    assert_int_equal(late.answer, REPLICA_ANSWER_PAGE);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    pull_now(&p.a, &p.b);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    late.was_taken = false;
    assert_true(pull_serve(&late, true));
    assert_int_equal(late.why.code, STATUS_FAILED_PRECONDITION);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    pair_close(&p);
}

/* What another member has heard of counts like what came itself. */
static void test_heard_from_another(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct node c = { 0 };
    node_boot(&c, 2, 3);
    struct node *nodes[] = { &p.a, &p.b, &c };
    replica_set_secret(c.replica, fixture_hash, true);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    node_list(&p.a, nodes, 3);
    struct node *only_a[] = { &p.a };
    node_list(&c, only_a, 1);
    static struct pull pull;
    pull_next(&pull, &c, &p.a);
    struct replica_heard heard = { .wallet = p.b.wallet, .incarnation = { 44 } };
    pull.request.heard = &heard;
    pull.request.heard_count = 1;
    assert_true(pull_serve(&pull, true));
    pull.request.heard = NULL;
    assert_string_equal(pull.why.text, "");
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    /* And it is passed on. */
    struct replica_heard told[8];
    size_t count = replica_heard_copy(p.a.replica, told, 8);
    bool is_told = false;
    for (size_t i = 0; i < count; i++) {
        is_told = is_told || told[i].incarnation[0] == 44;
    }
    assert_true(is_told);
    assert_int_equal(replica_heard_copy(p.a.replica, told, 1), 1);
    node_close(&c);
    pair_close(&p);
}

/* More boots than there is room for still put the present one in doubt. */
static void test_many_boots(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p);
    struct store_written put = fixture_put(p.a.store, "k", "v", 0, world.unix_ms);
    pair_meet(&p);
    for (uint8_t i = 0; i < 20; i++) {
        static struct pull late;
        pull_copy(&late, &p.pull);
        late.request.state.incarnation[0] = (uint8_t)(100 + i);
        (void)pull_serve(&late, true);
        replica_check(p.a.replica, p.a.store);
    }
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 0);
    pull_now(&p.a, &p.b);
    p.pull.was_taken = false;
    (void)pull_serve(&p.pull, false);
    assert_int_equal(replica_acks(p.a.replica, &put.stamp), 1);
    pair_close(&p);
}

/* ---- A page in several sections ---- */

static void nothing(struct pair *p) {
    (void)p;
}

static void writes(struct pair *p) {
    (void)fixture_put(p->a.store, "k3", "v", 0, world.unix_ms);
}

static void collects(struct pair *p) {
    const struct store_collect c = { .now_unix_ms = world.unix_ms + RETENTION_MS, .step_max = 9 };
    struct store_collected out;
    store_collect(p->a.store, &c, &out);
    assert_int_equal(out.removed_count, 1);
}

static void joins_a_floor(struct pair *p) {
    struct store_known_entry e = { { 50 }, HLC(NOW - 1, 0) };
    struct store_known floor = { &e, 1, 0 };
    assert_ok(store_join_floor(p->a.store, &floor, world.unix_ms));
}

static void joins_a_rest(struct pair *p) {
    struct store_known floor = { .rest_hlc = HLC(NOW - 1, 0) };
    assert_ok(store_join_floor(p->a.store, &floor, world.unix_ms));
}

static void raises_rest(struct pair *p) {
    assert_ok(store_compact_known(p->a.store, HLC(NOW - RETENTION_MS, 0), world.unix_ms));
}

static struct section_row {
    const char *name;
    void (*before)(struct pair *p); /* The page is begun. */
    void (*between)(struct pair *p);
    bool is_last;
} section_rows[] = {
    { "nothing_happens", nothing, nothing, true },
    { "it_writes", nothing, writes, true },
    { "its_vector_is_shortened", nothing, raises_rest, true },
    { "it_collects", nothing, collects, false },
    { "it_joins_a_floor", nothing, joins_a_floor, false },
    { "it_joins_a_rest_of_a_floor", nothing, joins_a_rest, false },
    { "its_floor_has_it_already", joins_a_floor, joins_a_floor, true },
    { "its_rest_has_it_already", joins_a_rest, joins_a_floor, true },
};

/* The floor of a last page is the one of its end; otherwise it is not the last, and the next one
 * is. */
static void test_sections(void **state) {
    const struct section_row *row = *state;
    struct pair p;
    pair_open(&p);
    struct store_stamp gone = fixture_delete(p.a.store, "gone", world.unix_ms).stamp;
    (void)fixture_put(p.a.store, "k1", "v", 0, world.unix_ms);
    (void)fixture_put(p.a.store, "k2", "v", 0, world.unix_ms);
    row->before(&p);
    pass_ms(6000);
    pull_next(&p.pull, &p.b, &p.a);
    p.pull.in_sections = true;
    assert_true(pull_serve(&p.pull, true));
    assert_int_equal(p.pull.answer, REPLICA_ANSWER_PAGE);
    assert_true(pull_read_some(&p.pull, 2));
    assert_true(p.pull.page.more);
    row->between(&p);
    assert_false(pull_read_some(&p.pull, 3));
    assert_int_equal(p.pull.page.more, !row->is_last);
    assert_int_equal(p.pull.page.next, store_log_last(p.a.store));
    pull_deliver(&p.pull, 0);
    assert_int_equal(p.pull.verdict, REPLICA_TAKE);
    assert_int_equal(store_covers(p.b.store, &gone), row->is_last);
    if (!row->is_last) { /* It asks again at once, and that ends it. */
        pull_next(&p.pull, &p.b, &p.a);
        assert_int_equal(p.pull.request.wait_ms, 0);
        assert_int_equal(p.pull.request.since, store_log_last(p.a.store));
        assert_true(pull_serve(&p.pull, false));
        assert_false(p.pull.page.more);
        pull_deliver(&p.pull, 0);
        assert_true(store_covers(p.b.store, &gone));
    }
    struct store_known_entry entries[4];
    struct store_known floor;
    assert_ok(store_floor_copy(p.a.store, entries, 4, &floor));
    assert_false(store_needs_reset(p.b.store, &floor));
    struct store_known_entry e = { { 77 }, 1 };
    const struct store_known stranger = { &e, 1, 0 };
    assert_int_equal(store_needs_reset(p.b.store, &stranger),
                     store_needs_reset(p.a.store, &stranger));
    pair_close(&p);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(refuse_rows) + TEST_ROWS(section_rows) + 16];
    const struct CMUnitTest single[] = {
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_without_secret),
        cmocka_unit_test(test_own_writes_are_told_at_once),
        cmocka_unit_test(test_relayed_writes_wait),
        cmocka_unit_test(test_own_writes_do_not_come_back),
        cmocka_unit_test(test_since_is_no_acknowledgement),
        cmocka_unit_test(test_starting_node_does_not_acknowledge),
        cmocka_unit_test(test_late_request_takes_nothing_back),
        cmocka_unit_test(test_new_boot),
        cmocka_unit_test(test_unheard_boot),
        cmocka_unit_test(test_heard_from_another),
        cmocka_unit_test(test_many_boots),
    };
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_refuse, refuse_rows);
    TEST_ADD_ROWS(tests, count, test_sections, section_rows);
    for (size_t i = 0; i < TEST_ROWS(single); i++) {
        tests[count++] = single[i];
    }
    return _cmocka_run_group_tests("replica_serve", tests, count, NULL, NULL);
}
