/* SPDX-License-Identifier: Apache-2.0 */
/* Who the members are, and when a starting node has enough to serve. */
#include "replica_fixture.h"

#define PASS_RECORDS 16

/* The last one starts beside the others. */
static void cluster_open(struct cluster *c, size_t count) {
    cluster_boot(c, count);
    cluster_join(c, count - 1);
}

static void old_ones_serve(struct cluster *c) {
    for (size_t i = 0; i + 1 < c->count; i++) {
        (void)node_next(&c->nodes[i]);
        assert_true(is_in_service(&c->nodes[i]));
    }
}

static struct start_row {
    const char *name;
    size_t count;
    unsigned up;   /* Which others answer. */
    bool at_once;  /* That is enough. */
    uint32_t acks; /* Of others, that make a quorum. */
} start_rows[] = {
    { "alone", 1, 0, true, 0 },       { "two_none", 2, 0, false, 1 },
    { "two_one", 2, 1, true, 1 },     { "three_one", 3, 1, false, 1 },
    { "three_two", 3, 3, true, 1 },   { "four_one", 4, 1, false, 2 },
    { "four_two", 4, 5, true, 2 },    { "five_two", 5, 3, false, 2 },
    { "five_three", 5, 11, true, 2 }, { "six_two", 6, 3, false, 3 },
    { "six_three", 6, 7, true, 3 },
};

static void test_start(void **state) {
    const struct start_row *row = *state;
    struct cluster c;
    cluster_open(&c, row->count);
    struct node *last = &c.nodes[row->count - 1];
    assert_int_equal(replica_acks_for_quorum(last->replica), row->acks);
    assert_int_equal(replica_other_count(last->replica), row->count - 1);
    old_ones_serve(&c);
    pull_round(&c, last, row->up);
    assert_int_equal(is_in_service(last), row->at_once);
    struct replica_stats stats = stats_of(last);
    assert_int_equal(stats.durability_reset_count, 0);
    /* After a while with what there is, and that is counted. */
    pass_ms(FIXTURE_START_WAIT_MS - 1);
    pull_round(&c, last, row->up);
    assert_int_equal(is_in_service(last), row->at_once);
    pass_ms(1);
    pull_round(&c, last, row->up);
    assert_true(is_in_service(last));
    stats = stats_of(last);
    assert_int_equal(stats.durability_reset_count, row->at_once ? 0 : 1);
    cluster_close(&c);
}

/* Whoever answers is pulled to the end first, however long ago the start was. */
static void test_start_waits_for_whoever_answers(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    struct node *last = &c.nodes[2];
    for (size_t i = 0; i < 9; i++) {
        char key[] = { (char)('0' + i), '\0' };
        (void)fixture_put(c.nodes[0].store, key, "v", 0, world.unix_ms);
    }
    (void)node_next(&c.nodes[0]);
    pass_ms(FIXTURE_START_WAIT_MS - 1);
    static struct pull pull;
    for (size_t i = 0; i < 2; i++) {
        struct replica_todo todo = node_next(last);
        assert_int_equal(todo.kind, REPLICA_PULL);
        if (todo.wallet.bytes[0] == 2) {
            node_pull_failed(last, todo.ticket, "it hangs");
            continue;
        }
        pull_send(&pull, last, &c.nodes[0], todo.ticket);
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 0);
    }
    assert_true(pull.page.more);
    pass_ms(FIXTURE_START_WAIT_MS + 1);
    assert_false(is_in_service(last));
    pull_round(&c, last, 1);
    assert_true(is_in_service(last));
    assert_value(last->store, "8", world.unix_ms, "v");
    cluster_close(&c);
}

/* A member that has begun again is pulled anew: its new boot may acknowledge without knowing of
 * this start. */
static void test_start_beside_a_new_boot(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 4);
    struct node *last = &c.nodes[3];
    old_ones_serve(&c);
    pull_round(&c, last, 1);
    assert_false(is_in_service(last));
    static struct pull pull;
    pass_ms(6000);
    struct replica_todo todo;
    do {
        todo = node_next(last);
        if (todo.wallet.bytes[0] != 2) {
            node_pull_failed(last, todo.ticket, "later");
        }
    } while (todo.wallet.bytes[0] != 2);
    pull_send(&pull, last, &c.nodes[1], todo.ticket);
    assert_true(pull_serve(&pull, true));
    struct replica_heard heard = { .wallet = c.nodes[0].wallet, .incarnation = { 44 } };
    pull.page.heard = &heard;
    pull.page.heard_count = 1;
    pull_deliver(&pull, 0);
    pull.page.heard = NULL;
    assert_int_equal(pull.verdict, REPLICA_TAKE);
    assert_false(is_in_service(last));
    pass_ms(6000);
    pull_round(&c, last, 3);
    assert_true(is_in_service(last));
    cluster_close(&c);
}

/* A member in service that refuses others' pulls while it has not enough itself. */
static void test_starting_is_not_asked_for_data(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    static struct pull pull;
    struct replica_todo todo = node_next(&c.nodes[0]);
    while (todo.wallet.bytes[0] != 3) {
        todo = node_next(&c.nodes[0]);
    }
    pull_send(&pull, &c.nodes[0], &c.nodes[2], todo.ticket);
    assert_true(pull_serve(&pull, true));
    assert_int_equal(pull.why.code, STATUS_UNAVAILABLE);
    assert_non_null(strstr(pull.why.text, "starting"));
    cluster_close(&c);
}

static void test_other_secret_starts_over(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    struct node *last = &c.nodes[2];
    old_ones_serve(&c);
    pull_round(&c, last, 3);
    assert_true(is_in_service(last));
    replica_set_secret(last->replica, fixture_hash, false); /* The same: nothing happens. */
    assert_true(is_in_service(last));
    uint8_t other[REPLICA_HASH_BYTES] = { 8 };
    uint8_t writer[STORE_WRITER_BYTES] = { 60 };
    store_reset(last->store, writer);
    replica_set_secret(last->replica, other, false);
    assert_false(is_in_service(last));
    pull_round(&c, last, 3);
    assert_false(is_in_service(last)); /* They hold another one. */
    cluster_close(&c);
}

/* ---- Members ---- */

struct entry {
    uint8_t wallet;
    uint8_t url;
    uint64_t id;
};

static struct members_row {
    const char *name;
    struct entry entries[5];
    size_t count;
    size_t want;     /* Others. */
    uint8_t wallet0; /* Of the first of them. */
} members_rows[] = {
    { "none", { { 0 } }, 0, 0, 0 },
    { "self_alone", { { 1, 1, 1 } }, 1, 0, 0 },
    { "one", { { 1, 1, 1 }, { 2, 2, 2 } }, 2, 1, 2 },
    { "own_ghost", { { 9, 1, 9 }, { 2, 2, 2 } }, 2, 1, 2 },
    { "own_wallet_elsewhere", { { 1, 9, 9 }, { 2, 2, 2 } }, 2, 1, 2 },
    { "ghost_first", { { 2, 2, 2 }, { 3, 2, 3 } }, 2, 1, 3 },
    { "ghost_last", { { 3, 2, 3 }, { 2, 2, 2 } }, 2, 1, 3 },
    { "moved", { { 2, 2, 2 }, { 2, 3, 3 } }, 2, 1, 2 },
    { "twice_the_same", { { 2, 2, 2 }, { 2, 2, 2 } }, 2, 1, 2 },
    { "three_ghosts", { { 2, 2, 2 }, { 3, 2, 4 }, { 4, 2, 3 }, { 5, 5, 5 } }, 4, 2, 3 },
};

static void test_members(void **state) {
    const struct members_row *row = *state;
    static const char *const urls[] = {
        "u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9"
    };
    struct node n = { 0 };
    node_boot(&n, 0, 1);
    struct replica_member members[5];
    for (size_t i = 0; i < row->count; i++) {
        members[i] = (struct replica_member){ .wallet = { { row->entries[i].wallet } },
                                              .url = urls[row->entries[i].url],
                                              .instance_id = row->entries[i].id };
    }
    struct replica_member self = { n.wallet, "u1", 1 };
    struct replica_now now = now_of(&n);
    assert_ok(replica_set_members(n.replica, &self, members, row->count, &now));
    assert_int_equal(replica_other_count(n.replica), row->want);
    struct replica_view view;
    assert_int_equal(replica_view(n.replica, 0, &now, &view), row->want > 0);
    assert_int_equal(view.wallet.bytes[0], row->wallet0);
    assert_false(replica_view(n.replica, row->want, &now, &view));
    replica_check(n.replica, n.store);
    node_close(&n);
}

static void test_too_many_members(void **state) {
    (void)state;
    struct node n = { 0 };
    node_boot(&n, 0, 1);
    static struct replica_member members[REPLICA_MEMBER_COUNT_MAX + 1];
    static char urls[REPLICA_MEMBER_COUNT_MAX + 1][8];
    for (size_t i = 0; i <= REPLICA_MEMBER_COUNT_MAX; i++) {
        (void)snprintf(urls[i], sizeof(urls[i]), "m%u", (unsigned)(i % 1000));
        members[i] =
            (struct replica_member){ .wallet = { { 7, (uint8_t)(i / 256), (uint8_t)(i % 256) } },
                                     .url = urls[i],
                                     .instance_id = i + 1 };
    }
    struct replica_member self = member_of(&n);
    struct replica_now now = now_of(&n);
    assert_ok(replica_set_members(n.replica, &self, members, REPLICA_MEMBER_COUNT_MAX, &now));
    assert_int_equal(replica_other_count(n.replica), REPLICA_MEMBER_COUNT_MAX);
    assert_err(replica_set_members(n.replica, &self, members, REPLICA_MEMBER_COUNT_MAX + 1, &now),
               TOO_BIG);
    assert_int_equal(replica_other_count(n.replica), REPLICA_MEMBER_COUNT_MAX);
    node_close(&n);
}

/* A node that left the registry serves no more, keeps what it holds, and starts again when it is
 * back. */
static void test_leaving_and_coming_back(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    struct node *n = &c.nodes[0];
    old_ones_serve(&c);
    pull_round(&c, &c.nodes[2], 3);
    (void)fixture_put(n->store, "mine", "m", 0, world.unix_ms);
    node_list(n, &c.listed[1], 2);
    char reason[REPLICA_REASON_BYTES];
    assert_false(replica_in_service(n->replica, reason));
    assert_non_null(strstr(reason, "registry"));
    pass_ms(FIXTURE_START_WAIT_MS + 1);
    pull_round(&c, n, 0);
    assert_false(is_in_service(n));
    node_list(n, c.listed, 3);
    assert_false(is_in_service(n));
    pull_round(&c, n, 2);
    assert_false(is_in_service(n));
    pass_ms(6000);
    pull_round(&c, n, 6);
    assert_true(is_in_service(n));
    assert_value(n->store, "mine", world.unix_ms, "m");
    cluster_close(&c);
}

/* ---- Scheduling ---- */

/* Failures back off, longer and longer up to the bound, and only for the member that fails. */
static void test_backoff(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    struct node *n = &c.nodes[2];
    uint64_t bound_ms = 100;
    static struct pull pull;
    for (size_t i = 0; i < 10; i++) {
        struct replica_todo todo;
        for (size_t k = 0; k < 2; k++) {
            todo = node_next(n);
            assert_int_equal(todo.kind, REPLICA_PULL);
            node_pull_failed(n, todo.ticket, "it does not answer");
            node_pull_failed(n, todo.ticket, "twice");
        }
        todo = node_next(n);
        assert_int_equal(todo.kind, REPLICA_IDLE);
        assert_in_range(todo.at_ms, world.mono_ms + bound_ms / 2, world.mono_ms + bound_ms);
        assert_false(view_of(n).reachable);
        assert_string_equal(view_of(n).error, "it does not answer");
        pass_ms(bound_ms);
        bound_ms = 2 * bound_ms < 5000 ? 2 * bound_ms : 5000;
    }
    /* One answers now, while the other hangs: it is asked again and again all the same. */
    (void)node_next(&c.nodes[0]);
    for (size_t i = 0; i < 5; i++) {
        struct replica_todo todo;
        do {
            todo = node_next(n);
        } while (todo.kind == REPLICA_PULL && todo.wallet.bytes[0] != 1);
        assert_int_equal(todo.kind, REPLICA_PULL);
        pull_send(&pull, n, &c.nodes[0], todo.ticket);
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 0);
        pass_ms(100);
    }
    struct replica_stats stats = stats_of(n);
    assert_int_equal(stats.pull_ok_count, 5);
    assert_int_equal(stats.pull_failed_count, 20);
    assert_int_equal(stats.reachable_count, 1);
    cluster_close(&c);
}

/* Two members with the same records, and a third that begins. */
static void pass_open(struct cluster *c) {
    cluster_open(c, 3);
    for (uint8_t i = 0; i < PASS_RECORDS; i++) {
        const char key[] = { (char)('a' + i), '\0' };
        (void)fixture_put(c->nodes[0].store, key, "v", 0, world.unix_ms);
    }
    pull_round(c, &c->nodes[1], 1);
}

/* The first pages are asked of both; then the second member waits for the first one's pass. */
static void test_a_starting_node_pulls_from_one_at_a_time(void **state) {
    (void)state;
    struct cluster c;
    pass_open(&c);
    struct node *n = &c.nodes[2];
    static struct pull pulls[2];
    for (size_t i = 0; i < 2; i++) {
        pull_next(&pulls[i], n, &c.nodes[i]);
        assert_true(pull_serve(&pulls[i], false));
        pull_deliver(&pulls[i], 0);
        assert_true(pulls[i].page.more);
    }
    pull_next(&pulls[0], n, &c.nodes[0]);
    struct replica_todo todo = node_next(n);
    assert_int_equal(todo.kind, REPLICA_IDLE);
    assert_int_equal(todo.at_ms, world.mono_ms + 250);
    /* It stalls: the second goes on, and it too, when it answers. */
    pass_ms(249);
    todo = node_next(n);
    assert_int_equal(todo.kind, REPLICA_IDLE);
    pass_ms(1);
    pull_next(&pulls[1], n, &c.nodes[1]);
    for (size_t i = 0; i < 2; i++) {
        assert_true(pull_serve(&pulls[i], false));
        pull_deliver(&pulls[i], 0);
        assert_true(pulls[i].page.more);
    }
    pull_round(&c, n, 3);
    assert_true(is_in_service(n));
    struct replica_stats stats = stats_of(n);
    assert_int_equal(stats.applied_count, PASS_RECORDS);
    assert_int_equal(stats.record_count, PASS_RECORDS + pulls[0].record_count * 2);
    cluster_close(&c);
}

/* Whoever answered first goes on, and is not overtaken by one who is listed before it. */
static void test_the_first_to_answer_goes_on(void **state) {
    (void)state;
    struct cluster c;
    pass_open(&c);
    struct node *n = &c.nodes[2];
    static struct pull late;
    static struct pull early;
    pull_next(&late, n, &c.nodes[0]);
    assert_true(pull_serve(&late, false));
    for (size_t i = 0; i < 2; i++) {
        pull_next(&early, n, &c.nodes[1]);
        assert_true(pull_serve(&early, false));
        pull_deliver(&early, 0);
        assert_true(early.page.more);
    }
    pull_deliver(&late, 0);
    assert_true(late.page.more);
    pull_next(&early, n, &c.nodes[1]);
    struct replica_todo todo = node_next(n);
    assert_int_equal(todo.kind, REPLICA_IDLE);
    assert_int_equal(todo.at_ms, world.mono_ms + 250);
    cluster_close(&c);
}

/* Everybody is asked for a first page, so that is a small one. */
static void test_the_first_page_is_small(void **state) {
    (void)state;
    static const uint32_t configured[] = { 4095, 4096, 4097, 1 << 20 };
    for (size_t i = 0; i < sizeof(configured) / sizeof(configured[0]); i++) {
        struct cluster c;
        static struct pull pull;
        struct replica_cfg cfg = fixture_replica_cfg();
        cfg.page_bytes_max = configured[i];
        cluster_boot(&c, 2);
        for (char key[] = "a"; key[0] <= 'z'; key[0]++) {
            (void)fixture_put(c.nodes[0].store, key, "v", 0, world.unix_ms);
        }
        replica_close(&c.nodes[1].replica);
        assert_ok(replica_init(&c.nodes[1].replica, &cfg));
        cluster_join(&c, 1);
        pull_next(&pull, &c.nodes[1], &c.nodes[0]);
        assert_int_equal(pull.request.bytes_max, configured[i] < 4096 ? configured[i] : 4096);
        assert_true(pull_serve(&pull, false));
        pull_deliver(&pull, 0);
        assert_true(pull.page.more);
        pull_next(&pull, &c.nodes[1], &c.nodes[0]);
        assert_int_equal(pull.request.bytes_max, configured[i]);
        cluster_close(&c);
    }
}

/* A pass that fails makes nobody wait. */
static void test_a_failed_pass_holds_nobody(void **state) {
    (void)state;
    struct cluster c;
    pass_open(&c);
    struct node *n = &c.nodes[2];
    static struct pull pulls[2];
    for (size_t i = 0; i < 2; i++) {
        pull_next(&pulls[i], n, &c.nodes[i]);
        assert_true(pull_serve(&pulls[i], false));
        pull_deliver(&pulls[i], 0);
    }
    pull_next(&pulls[0], n, &c.nodes[0]);
    node_pull_failed(n, pulls[0].ticket, "it is gone");
    pull_next(&pulls[1], n, &c.nodes[1]);
    cluster_close(&c);
}

/* The second member serves cut off from the first, and does not know what was collected there. Its
 * vector alone would have a starting node told to begin again each time: so the first one's pass
 * comes first. */
static void test_who_asked_for_a_reset_goes_first(void **state) {
    (void)state;
    struct cluster c;
    cluster_boot(&c, 3);
    cluster_join(&c, 2);
    struct node *b = &c.nodes[0];
    struct node *apart = &c.nodes[1];
    struct node *n = &c.nodes[2];
    for (int i = '1'; i <= '6'; i++) { /* Two pages. */
        const char key[] = { 'k', (char)i, '\0' };
        (void)fixture_put(b->store, key, "v", 0, world.unix_ms);
    }
    (void)fixture_put(apart->store, "l", "v", 0, world.unix_ms);
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    const struct store_known gone = { &e, 1, 0 };
    assert_ok(store_join_known(b->store, &gone, world.unix_ms));
    assert_ok(store_join_floor(b->store, &gone, world.unix_ms));
    (void)node_next(b);
    (void)node_next(apart);
    pull_round(&c, n, 7);
    assert_int_equal(stats_of(n).reset_count, 1);
    assert_value(n->store, "k6", world.unix_ms, "v");
    assert_false(is_in_service(n));
    pass_ms(FIXTURE_START_WAIT_MS);
    pull_round(&c, n, 7);
    assert_true(is_in_service(n));
    assert_int_equal(stats_of(n).reset_count, 1);
    assert_int_equal(stats_of(n).durability_reset_count, 1);
    cluster_close(&c);
}

/* It is waited for no longer than its answers come. */
static void test_who_asked_for_a_reset_is_not_waited_for(void **state) {
    (void)state;
    struct cluster c;
    cluster_boot(&c, 3);
    cluster_join(&c, 2);
    struct node *n = &c.nodes[2];
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    const struct store_known gone = { &e, 1, 0 };
    assert_ok(store_join_known(c.nodes[0].store, &gone, world.unix_ms));
    assert_ok(store_join_floor(c.nodes[0].store, &gone, world.unix_ms));
    e.hlc--;
    assert_ok(store_join_known(n->store, &gone, world.unix_ms));
    (void)node_next(&c.nodes[0]);
    (void)node_next(&c.nodes[1]);
    static struct pull p;
    pull_next(&p, n, &c.nodes[0]);
    assert_true(pull_serve(&p, true));
    pull_deliver(&p, 99);
    assert_int_equal(p.verdict, REPLICA_RESET);
    struct replica_todo todo = node_next(n);
    assert_true(wallet_equal(&todo.wallet, &c.nodes[0].wallet));
    assert_int_equal(node_next(n).kind, REPLICA_IDLE);
    struct replica_todo second = node_next(n);
    assert_int_equal(second.at_ms, world.mono_ms + 2000);
    pass_ms(2000);
    second = node_next(n);
    assert_int_equal(second.kind, REPLICA_PULL);
    node_pull_failed(n, second.ticket, "not now");
    node_pull_failed(n, todo.ticket, "not now");
    cluster_close(&c);
}

static void test_config(void **state) {
    (void)state;
    struct replica *r = NULL;
    struct replica_cfg cfg = fixture_replica_cfg();
    cfg.interval_ms = 0;
    assert_err(replica_init(&r, &cfg), BAD_CONFIG);
    cfg = fixture_replica_cfg();
    cfg.wait_ms = REPLICA_WAIT_MS_MAX + 1;
    assert_err(replica_init(&r, &cfg), BAD_CONFIG);
    cfg = fixture_replica_cfg();
    cfg.page_bytes_max = 0;
    assert_err(replica_init(&r, &cfg), BAD_CONFIG);
    cfg = fixture_replica_cfg();
    cfg.backoff_min_ms = 0;
    assert_err(replica_init(&r, &cfg), BAD_CONFIG);
    cfg = fixture_replica_cfg();
    cfg.backoff_min_ms = cfg.backoff_max_ms + 1;
    assert_err(replica_init(&r, &cfg), BAD_CONFIG);
    assert_null(r);
    replica_close(&r);
    cfg = fixture_replica_cfg();
    cfg.wait_ms = REPLICA_WAIT_MS_MAX;
    cfg.backoff_min_ms = cfg.backoff_max_ms;
    assert_ok(replica_init(&r, &cfg));
    replica_close(&r);
    replica_close(&r);
    assert_null(r);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(start_rows) + TEST_ROWS(members_rows) + 16];
    const struct CMUnitTest single[] = {
        cmocka_unit_test(test_start_waits_for_whoever_answers),
        cmocka_unit_test(test_start_beside_a_new_boot),
        cmocka_unit_test(test_starting_is_not_asked_for_data),
        cmocka_unit_test(test_other_secret_starts_over),
        cmocka_unit_test(test_too_many_members),
        cmocka_unit_test(test_leaving_and_coming_back),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_a_starting_node_pulls_from_one_at_a_time),
        cmocka_unit_test(test_the_first_to_answer_goes_on),
        cmocka_unit_test(test_the_first_page_is_small),
        cmocka_unit_test(test_a_failed_pass_holds_nobody),
        cmocka_unit_test(test_who_asked_for_a_reset_goes_first),
        cmocka_unit_test(test_who_asked_for_a_reset_is_not_waited_for),
        cmocka_unit_test(test_config),
    };
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_start, start_rows);
    TEST_ADD_ROWS(tests, count, test_members, members_rows);
    for (size_t i = 0; i < TEST_ROWS(single); i++) {
        tests[count++] = single[i];
    }
    return _cmocka_run_group_tests("replica_start", tests, count, NULL, NULL);
}
