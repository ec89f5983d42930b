/* SPDX-License-Identifier: Apache-2.0 */
/* Digests, what may be collected between two nodes, heads and clocks, and draining. */
#include "replica_fixture.h"

static void start(struct node *n) {
    struct replica_todo todo = node_next(n);
    if (todo.kind != REPLICA_IDLE) {
        node_pull_failed(n, todo.ticket, "not now");
    }
    assert_true(is_in_service(n));
}

/* All in service. */
static void cluster_open(struct cluster *c, size_t count) {
    cluster_boot(c, count);
    cluster_join(c, count);
    for (size_t i = 0; i < count; i++) {
        start(&c->nodes[i]);
    }
    pass_ms(6000);
}

/* ---- Digests ---- */

static bool compares; /* Whether a node whose digest is asked for answers. */
static uint64_t lie;  /* Added to the sum it gives. */
static unsigned down; /* Those that do not answer. */

static void answer_digest(struct cluster *c, struct node *n, size_t to, uint32_t ticket) {
    struct node *other = &c->nodes[to];
    struct replica_now now = now_of(n);
    if (!compares || !replica_is_comparable(other->replica)) {
        replica_digest_failed(n->replica, ticket, &now);
        return;
    }
    struct replica_now their_now = now_of(other);
    struct replica_state state;
    replica_own_state(other->replica, other->store, &their_now, &state);
    struct store_known_entry entries[FIXTURE_KNOWN_MAX];
    struct store_known known;
    assert_ok(store_known_copy(other->store, entries, FIXTURE_KNOWN_MAX, &known));
    struct replica_digest digest = { 1, store_digest(other->store, 1) };
    digest.digest.low += lie;
    const struct replica_digests theirs = { ticket, state, known, &digest, 1 };
    replica_digest_end(n->replica, n->store, &theirs, &now);
    replica_digest_end(n->replica, n->store, &theirs, &now); /* Twice. */
}

/* Everything that n has to do at this moment. Returns how many digests were asked for. */
static size_t work(struct cluster *c, struct node *n) {
    static struct pull pull;
    size_t digest_count = 0;
    for (;;) {
        struct replica_todo todo = node_next(n);
        if (todo.kind == REPLICA_IDLE) {
            return digest_count;
        }
        size_t to = (size_t)todo.wallet.bytes[0] - 1;
        if (todo.kind == REPLICA_DIGEST) {
            answer_digest(c, n, to, todo.ticket);
            digest_count++;
            continue;
        }
        pull_send(&pull, n, &c->nodes[to], todo.ticket);
        if ((down >> to & 1) != 0) {
            node_pull_failed(n, todo.ticket, "it does not answer");
            continue;
        }
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 99);
    }
}

static void work_all(struct cluster *c) {
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < c->count; i++) {
            (void)work(c, &c->nodes[i]);
        }
        pass_ms(100);
    }
}

static void test_equal_digests(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    (void)fixture_put(c.nodes[0].store, "a", "1", 0, world.unix_ms);
    (void)fixture_put(c.nodes[1].store, "b", "2", 0, world.unix_ms);
    work_all(&c);
    assert_int_equal(stats_of(&c.nodes[0]).digest_ok_count, 0); /* Not due yet. */
    pass_ms(60000);
    work_all(&c);
    assert_int_equal(stats_of(&c.nodes[0]).digest_ok_count, 1);
    assert_int_equal(stats_of(&c.nodes[0]).digest_mismatch_count, 0);
    cluster_close(&c);
}

/* While the two do not know the same, nothing is learnt; it is asked again. */
static void test_incomparable_digests(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    work_all(&c);
    pass_ms(60000);
    (void)fixture_put(c.nodes[0].store, "a", "1", 0, world.unix_ms);
    assert_int_equal(work(&c, &c.nodes[0]), 1);
    assert_int_equal(stats_of(&c.nodes[0]).digest_ok_count, 0);
    assert_int_equal(stats_of(&c.nodes[0]).digest_mismatch_count, 0);
    work_all(&c);
    pass_ms(10000);
    assert_int_equal(work(&c, &c.nodes[0]), 1);
    assert_int_equal(stats_of(&c.nodes[0]).digest_ok_count, 1);
    /* A failed one is asked again, too. */
    compares = false;
    pass_ms(60000);
    assert_int_equal(work(&c, &c.nodes[0]), 1);
    pass_ms(10000);
    assert_int_equal(work(&c, &c.nodes[0]), 1);
    assert_int_equal(stats_of(&c.nodes[0]).digest_ok_count, 1);
    cluster_close(&c);
}

/* A record that this node lost behind its vector's back: the repair brings it again, if it was not
 * collected: then known covers it and it stays away. */
static void test_repair(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    struct node *n = &c.nodes[0];
    (void)fixture_put(c.nodes[1].store, "b", "2", 0, world.unix_ms);
    work_all(&c);
    lie = 5;
    pass_ms(60000);
    assert_int_equal(work(&c, n), 1);
    assert_int_equal(stats_of(n).digest_mismatch_count, 1);
    assert_int_equal(stats_of(n).repair_count, 1); /* It pulled from 0 at once. */
    assert_int_equal(stats_of(n).record_count, 2);
    assert_int_equal(stats_of(n).applied_count, 1);
    assert_int_equal(stats_of(n).digest_alarm_count, 0);
    /* Once more, and it is an alarm; it does not repair over and over. */
    pass_ms(10000);
    assert_int_equal(work(&c, n), 1);
    assert_int_equal(stats_of(n).digest_alarm_count, 1);
    assert_true(view_of(n).has_alarm);
    pass_ms(60000);
    assert_int_equal(work(&c, n), 1);
    assert_int_equal(stats_of(n).repair_count, 1);
    lie = 0;
    pass_ms(60000);
    assert_int_equal(work(&c, n), 1);
    assert_false(view_of(n).has_alarm);
    cluster_close(&c);
}

/* A repair asks for everything, and takes nothing that is known and gone. */
static void test_repair_revives_nothing(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    struct node *n = &c.nodes[0];
    struct node *other = &c.nodes[1];
    (void)fixture_put(other->store, "b", "2", 0, world.unix_ms);
    work_all(&c);
    /* As if n had collected it: its vector covers it, and it is not there. */
    struct store_known_entry entries[4];
    struct store_known known;
    assert_ok(store_known_copy(n->store, entries, 4, &known));
    uint8_t writer[STORE_WRITER_BYTES] = { 1 };
    store_reset(n->store, writer);
    assert_ok(store_join_known(n->store, &known, world.unix_ms));
    pass_ms(60000);
    assert_int_equal(work(&c, n), 1);
    assert_int_equal(stats_of(n).digest_mismatch_count, 1);
    assert_int_equal(stats_of(n).repair_count, 1);
    assert_absent(n->store, "b", world.unix_ms);
    cluster_close(&c);
}

/* A page that came too early made this node doubt what is here; it has learnt better since. Its
 * repair shows an empty vector, and is no reason to have it drop its state. */
static void test_repair_after_doubt(void **state) {
    (void)state;
    static struct pull p;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    struct node *n = &c.nodes[0];
    struct node *other = &c.nodes[1];
    struct store_known_entry entry = { { 66 }, HLC(NOW - 1000, 0) };
    const struct store_known gone = { &entry, 1, 0 };
    assert_ok(store_join_known(other->store, &gone, world.unix_ms));
    assert_ok(store_join_floor(other->store, &gone, world.unix_ms));
    (void)node_next(other);
    pull_next(&p, n, other);
    assert_true(pull_serve(&p, true));
    entry.hlc--;
    assert_ok(store_join_known(n->store, &gone, world.unix_ms));
    pull_deliver(&p, 0);
    assert_int_equal(p.verdict, REPLICA_DROP);
    entry.hlc++;
    assert_ok(store_join_known(n->store, &gone, world.unix_ms));
    pass_ms(6000);
    work_all(&c);
    lie = 5;
    pass_ms(60000);
    assert_int_equal(work(&c, n), 1);
    lie = 0;
    assert_int_equal(stats_of(n).repair_count, 1);
    assert_int_equal(stats_of(n).reset_count, 0);
    cluster_close(&c);
}

/* A repair's empty vector does not mean that this node, which was out of the registry, came back
 * with nothing: a member that was not asked yet may still say that it must drop what it has. */
static void test_repair_after_absence(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    compares = true;
    struct node *n = &c.nodes[0];
    struct node *third = &c.nodes[2];
    (void)fixture_put(c.nodes[1].store, "b", "2", 0, world.unix_ms);
    work_all(&c);
    node_list(n, &c.listed[1], 2);
    node_list(n, c.listed, 3);
    pass_ms(RETENTION_MS + SKEW_MS);
    assert_ok(
        store_compact_known(third->store, HLC(world.unix_ms - RETENTION_MS, 0), world.unix_ms));
    down = 1 << 2;
    (void)work(&c, n);
    pass_ms(FIXTURE_START_WAIT_MS);
    (void)work(&c, n);
    assert_true(is_in_service(n));
    lie = 5;
    pass_ms(60000);
    (void)work(&c, n);
    lie = 0;
    assert_int_equal(stats_of(n).repair_count, 1);
    assert_int_equal(stats_of(n).reset_count, 0);
    down = 0;
    pass_ms(6000);
    (void)work(&c, n);
    assert_int_equal(stats_of(n).reset_count, 1);
    cluster_close(&c);
}

/* ---- Collection ---- */

static size_t collect(struct node *n) {
    return node_collect(n).removed_count;
}

/* R3: every member's vector, shown long enough ago, by the boot that answers. */
static void test_collect(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    struct node *n = &c.nodes[0];
    (void)fixture_delete(n->store, "k", world.unix_ms);
    pass_ms(RETENTION_MS);
    assert_int_equal(collect(n), 0); /* By age alone: never. */
    pass_ms(STORE_COLLECT_RETRY_MS);
    work_all(&c); /* The member shows that it knows. */
    pass_ms(FIXTURE_SETTLE_MS - 2000);
    work_all(&c);
    assert_int_equal(collect(n), 0); /* Not long enough ago. */
    pass_ms(STORE_COLLECT_RETRY_MS + 1);
    assert_int_equal(collect(n), 0); /* Long enough, but the member has not answered since. */
    pass_ms(STORE_COLLECT_RETRY_MS);
    work_all(&c);
    assert_int_equal(collect(n), 1);
    cluster_close(&c);
}

static void test_collect_blocked_by_a_new_boot(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 2);
    compares = true;
    struct node *n = &c.nodes[0];
    (void)fixture_delete(n->store, "k", world.unix_ms);
    pass_ms(RETENTION_MS);
    work_all(&c);
    pass_ms(FIXTURE_SETTLE_MS);
    work_all(&c);
    /* The member begins again; n hears of it from its request alone. */
    node_close(&c.nodes[1]);
    node_boot(&c.nodes[1], 1, 9);
    node_list(&c.nodes[1], c.listed, 2);
    replica_set_secret(c.nodes[1].replica, fixture_hash, false);
    static struct pull pull;
    pull_next(&pull, &c.nodes[1], n);
    assert_true(pull_serve(&pull, true));
    assert_int_equal(collect(n), 0);
    pull_deliver(&pull, 0);
    pass_ms(STORE_COLLECT_RETRY_MS);
    work_all(&c);
    assert_int_equal(collect(n), 0); /* Its new vector has not settled. */
    pass_ms(FIXTURE_SETTLE_MS + STORE_COLLECT_RETRY_MS);
    work_all(&c);
    assert_int_equal(collect(n), 1);
    cluster_close(&c);
}

/* ---- Heads and clocks ---- */

static struct level_row {
    const char *name;
    uint64_t heads[3]; /* Of the others, beyond our own. */
    int64_t clocks[3]; /* Of the others, beyond our own. */
    bool want;
    const char *text;
} level_rows[] = {
    { "all_level", { 0, 0, 0 }, { 0, 0, 0 }, true, "" },
    { "heads_at_the_limit", { 10, 10, 10 }, { 0, 0, 0 }, true, "" },
    { "heads_past_it", { 11, 11, 0 }, { 0, 0, 0 }, false, "newest block" },
    { "one_liar_about_heads", { 1000000, 0, 0 }, { 0, 0, 0 }, true, "" },
    { "clocks_at_the_limit", { 0, 0, 0 }, { 5000, -5000, 5000 }, true, "" },
    { "clocks_past_it", { 0, 0, 0 }, { 5001, 5001, 0 }, false, "clock" },
    { "clocks_behind", { 0, 0, 0 }, { -5001, -5001, 0 }, false, "clock" },
    { "one_liar_about_clocks", { 0, 0, 0 }, { 0, 600000, 0 }, true, "" },
};

static void test_level(void **state) {
    const struct level_row *row = *state;
    struct cluster c;
    cluster_open(&c, 4);
    compares = true;
    struct node *n = &c.nodes[0];
    replica_set_head(n->replica, 500);
    replica_set_head(n->replica, 400); /* A head does not go back. */
    static struct pull pull;
    for (size_t i = 0; i < 3; i++) {
        replica_set_head(c.nodes[i + 1].replica, 500 + row->heads[i]);
        struct replica_todo todo = node_next(n);
        size_t to = (size_t)todo.wallet.bytes[0] - 1;
        pull_send(&pull, n, &c.nodes[to], todo.ticket);
        replica_set_head(c.nodes[to].replica, 500 + row->heads[to - 1]);
        c.nodes[to].clock_ms = row->clocks[to - 1];
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 0);
    }
    struct replica_now now = now_of(n);
    char reason[REPLICA_REASON_BYTES];
    assert_int_equal(replica_is_level(n->replica, &now, reason), row->want);
    assert_non_null(strstr(reason, row->text));
    assert_int_equal(reason[0] == '\0', row->want);
    /* What was heard long ago says nothing. */
    pass_ms(30001);
    now = now_of(n);
    assert_true(replica_is_level(n->replica, &now, reason));
    cluster_close(&c);
}

/* ---- Draining ---- */

static void test_drained(void **state) {
    (void)state;
    struct cluster c;
    cluster_open(&c, 3);
    compares = true;
    struct node *n = &c.nodes[0];
    struct replica_now now = now_of(n);
    assert_true(replica_is_drained(n->replica, n->store, &now)); /* Nobody was reached. */
    (void)fixture_put(n->store, "k", "v", 0, world.unix_ms);
    (void)work(&c, n);
    now = now_of(n);
    assert_false(replica_is_drained(n->replica, n->store, &now));
    (void)work(&c, &c.nodes[1]);
    pass_ms(100);
    (void)work(&c, &c.nodes[1]);
    now = now_of(n);
    assert_false(replica_is_drained(n->replica, n->store, &now));
    (void)work(&c, &c.nodes[2]);
    pass_ms(100);
    (void)work(&c, &c.nodes[2]);
    now = now_of(n);
    assert_true(replica_is_drained(n->replica, n->store, &now));
    (void)fixture_put(n->store, "k", "w", 0, world.unix_ms);
    assert_false(replica_is_drained(n->replica, n->store, &now));
    pass_ms(20001); /* Nobody answers any more. */
    now = now_of(n);
    assert_true(replica_is_drained(n->replica, n->store, &now));
    cluster_close(&c);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(level_rows) + 9];
    const struct CMUnitTest single[] = {
        cmocka_unit_test(test_equal_digests),
        cmocka_unit_test(test_incomparable_digests),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_repair_revives_nothing),
        cmocka_unit_test(test_repair_after_doubt),
        cmocka_unit_test(test_repair_after_absence),
        cmocka_unit_test(test_collect),
        cmocka_unit_test(test_collect_blocked_by_a_new_boot),
        cmocka_unit_test(test_drained),
    };
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_level, level_rows);
    for (size_t i = 0; i < TEST_ROWS(single); i++) {
        tests[count++] = single[i];
    }
    return _cmocka_run_group_tests("replica_level", tests, count, NULL, NULL);
}
