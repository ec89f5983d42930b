/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that are asked for before those before them are merged, and what can become of them. */
#include "replica_fixture.h"

#define RECORDS 26

/* Members with the same records, and one that begins: the last. */
static struct scene {
    struct cluster c;
    struct node *from;
    struct node *n;
    struct pull pulls[1 + REPLICA_AHEAD_COUNT_MAX]; /* In the order of their asking. */
} scene;

static void scene_open_with(size_t count) {
    memset(&scene, 0, sizeof(scene));
    cluster_boot(&scene.c, count);
    cluster_join(&scene.c, count - 1);
    scene.from = &scene.c.nodes[0];
    scene.n = &scene.c.nodes[count - 1];
    for (uint8_t i = 0; i < RECORDS; i++) {
        const char key[] = { (char)('a' + i), '\0' };
        (void)fixture_put(scene.from->store, key, "v", 0, world.unix_ms);
    }
    for (size_t i = 1; i + 1 < count; i++) {
        pull_round(&scene.c, &scene.c.nodes[i], 1);
    }
}

static void scene_open(void) {
    scene_open_with(2);
}

static void scene_close(void) {
    cluster_close(&scene.c);
}

static bool may_ask_ahead(const struct pull *p, struct replica_todo *todo) {
    struct replica_now now = now_of(p->from);
    struct replica_arrival arrival = arrival_of(p);
    return replica_ahead(p->from->replica, &arrival, &now, todo);
}

/* The page is there: one more is asked for behind it, the first by its position. */
static bool ask_ahead(const struct pull *p, struct pull *ahead, bool follows) {
    struct replica_todo todo;
    if (!may_ask_ahead(p, &todo)) {
        assert_int_equal(todo.kind, REPLICA_IDLE);
        return false;
    }
    assert_int_equal(todo.kind, REPLICA_PULL);
    assert_true(wallet_equal(&todo.wallet, &p->to->wallet));
    pull_send(ahead, p->from, p->to, todo.ticket);
    assert_int_equal(ahead->request.since, p->page.next);
    assert_int_equal(ahead->request.follow, follows);
    assert_int_equal(ahead->request.wait_ms, 0);
    replica_check(p->from->replica, p->from->store);
    return true;
}

/* The page arrives, and the next one is asked for before it is merged: not before. */
static bool begin_and_ask(struct pull *p, struct pull *ahead) {
    struct replica_todo todo;
    assert_false(may_ask_ahead(p, &todo));
    assert_int_equal(pull_begin(p), REPLICA_TAKE);
    return ask_ahead(p, ahead, false);
}

static void finish(struct pull *p) {
    (void)pull_merge(p, 0, p->record_count);
    pull_end(p);
    replica_check(p->from->replica, p->from->store);
}

static void assert_dropped(struct pull *p) {
    assert_int_equal(pull_begin(p), REPLICA_DROP);
    replica_check(p->from->replica, p->from->store);
}

/* Asks the first member for its first page, and gets it. */
static void pull_first(struct pull *p) {
    pull_next(p, scene.n, scene.from);
    assert_true(pull_serve(p, false));
    assert_true(p->page.more);
}

/* Asks the first member as soon as it may be, after a pause. */
static struct pull *pull_again(void) {
    struct pull *p = &scene.pulls[0];
    pass_ms(1000);
    pull_next(p, scene.n, scene.from);
    return p;
}

static void assert_goes_on(void) {
    struct pull *p = &scene.pulls[0];
    assert_true(pull_serve(p, false));
    pull_deliver(p, 0);
    assert_int_equal(p->verdict, REPLICA_TAKE);
    pull_round(&scene.c, scene.n, 1);
    assert_true(is_in_service(scene.n));
}

static void assert_each_came_once(void) {
    struct replica_stats stats = stats_of(scene.n);
    assert_int_equal(stats.record_count, RECORDS);
    assert_int_equal(stats.applied_count, RECORDS);
    assert_int_equal(stats.dropped_page_count, 0);
    assert_int_equal(stats.pull_failed_count, 0);
}

/* ---- As many as there may be ---- */

/* The page begins, and as many are asked for behind it as may be. They are read at once. Returns how
 * many are under way then, with this one. */
static size_t fill(size_t first, size_t count) {
    const size_t room = TEST_ROWS(scene.pulls);
    struct pull *p = &scene.pulls[first % room];
    assert_int_equal(pull_begin(p), REPLICA_TAKE);
    for (; count < room && ask_ahead(p, &scene.pulls[(first + count) % room], count > 1); count++) {
        assert_true(pull_serve(&scene.pulls[(first + count) % room], false));
    }
    struct replica_todo todo;
    assert_false(may_ask_ahead(p, &todo));
    return count;
}

/* Each page follows the one before it, though that has not come when it is asked for; those asked
 * for behind the last one are empty. */
static void test_pages_ahead(void **state) {
    (void)state;
    scene_open();
    pull_first(&scene.pulls[0]);
    size_t first = 0;
    for (size_t count = 1; count > 0; count--, first++) {
        struct pull *p = &scene.pulls[first % TEST_ROWS(scene.pulls)];
        bool has_more = p->page.more;
        count = fill(first, count);
        assert_true(!has_more || count == TEST_ROWS(scene.pulls));
        finish(p);
    }
    assert_true(first > 2 * TEST_ROWS(scene.pulls));
    assert_each_came_once();
    pull_round(&scene.c, scene.n, 1);
    assert_true(is_in_service(scene.n));
    assert_int_equal(stats_of(scene.n).record_count, RECORDS);
    scene_close();
}

/* Who waits for another's pass asks for nothing ahead. */
static void test_who_is_held_asks_nothing_ahead(void **state) {
    (void)state;
    scene_open_with(3);
    static struct pull other;
    pull_first(&scene.pulls[0]);
    pull_next(&other, scene.n, &scene.c.nodes[1]);
    assert_true(pull_serve(&other, false));
    assert_true(begin_and_ask(&scene.pulls[0], &scene.pulls[1]));
    finish(&scene.pulls[0]);
    assert_false(begin_and_ask(&other, &scene.pulls[2]));
    scene_close();
}

/* A page is merged, and the next two have been asked for and have come. */
static void ask_three(void) {
    struct pull *pulls = scene.pulls;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(ask_ahead(&pulls[0], &pulls[2], true));
    assert_true(pull_serve(&pulls[1], false));
    assert_true(pull_serve(&pulls[2], false));
    assert_true(pulls[2].page.more);
}

static void three_open(void) {
    scene_open();
    ask_three();
}

/* ---- What becomes of one ahead ---- */

enum fate { EARLY, FAILS, AFTER_REFUSAL, AFTER_RESTART, UNSENT };
static struct one_row {
    const char *name;
    enum fate fate;
    bool is_merged; /* The page before it. */
} one_rows[] = {
    { "one_early", EARLY, true },
    { "one_fails", FAILS, true },
    { "one_after_refusal", AFTER_REFUSAL, false },
    { "one_after_restart", AFTER_RESTART, false },
    { "one_unsent", UNSENT, true },
};

static void one_ahead(enum fate fate) {
    struct pull *pulls = scene.pulls;
    struct replica_todo todo;
    if (fate == UNSENT) {
        assert_int_equal(pull_begin(&pulls[0]), REPLICA_TAKE);
        assert_true(may_ask_ahead(&pulls[0], &todo));
        return;
    }
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(pull_serve(&pulls[1], false));
}

/* The page is asked for again, from where the merged ones end. */
static void test_one_is_void(void **state) {
    const struct one_row *row = *state;
    struct pull *pulls = scene.pulls;
    scene_open();
    struct replica_now now = now_of(scene.n);
    pull_first(&pulls[0]);
    one_ahead(row->fate);
    if (row->fate == EARLY) {
        assert_dropped(&pulls[1]);
    } else if (row->fate == FAILS) {
        node_pull_failed(scene.n, pulls[1].ticket, "it is gone");
    } else if (row->fate == AFTER_REFUSAL) {
        pulls[0].records[1].is_forged = true;
    } else if (row->fate == AFTER_RESTART) {
        replica_restart(scene.n->replica, &now);
        assert_dropped(&pulls[1]);
    }
    finish(&pulls[0]);
    if (row->fate == AFTER_REFUSAL) {
        assert_dropped(&pulls[1]);
    }
    uint64_t since = row->is_merged ? pulls[0].page.next : 0;
    assert_int_equal(pull_again()->request.since, since);
    assert_goes_on();
    scene_close();
}

/* ---- What becomes of two ahead ---- */

/* While the first page is merged. */
static void nothing(struct pull *pulls) {
    (void)pulls;
}

static void first_fails(struct pull *pulls) {
    node_pull_failed(scene.n, pulls[1].ticket, "it is gone");
}

static void second_fails(struct pull *pulls) {
    node_pull_failed(scene.n, pulls[2].ticket, "it is gone");
}

static void first_is_early(struct pull *pulls) {
    assert_dropped(&pulls[1]);
}

static void second_is_early(struct pull *pulls) {
    assert_dropped(&pulls[2]);
}

static void merged_is_forged(struct pull *pulls) {
    pulls[0].records[1].is_forged = true;
}

static void first_is_forged(struct pull *pulls) {
    pulls[1].records[1].is_forged = true;
}

static void second_is_forged(struct pull *pulls) {
    pulls[2].records[1].is_forged = true;
}

/* What it said of its end when it came, and was believed, is another position. */
static void first_ends_elsewhere(struct pull *pulls) {
    pulls[1].page.next++;
}

static void first_starts_elsewhere(struct pull *pulls) {
    pulls[1].page.from++;
}

static void second_starts_elsewhere(struct pull *pulls) {
    pulls[2].page.from++;
}

static void first_is_of_another_secret(struct pull *pulls) {
    pulls[1].page.state.secret_hash[0] ^= 1;
}

static void second_is_of_another_secret(struct pull *pulls) {
    pulls[2].page.state.secret_hash[0] ^= 1;
}

/* It started again between the two, and gives the page from its new log's beginning. */
static void second_is_of_another_boot(struct pull *pulls) {
    pulls[2].page.state.incarnation[0] = 77;
    pulls[2].page.from = 0;
}

static void restart(struct pull *pulls) {
    struct replica_now now = now_of(scene.n);
    (void)pulls;
    replica_restart(scene.n->replica, &now);
}

static void member_goes_and_comes_back(struct pull *pulls) {
    (void)pulls;
    node_list(scene.n, &scene.n, 1);
    node_list(scene.n, scene.c.listed, 2);
}

/* This node itself does, and keeps what it has. */
static void self_goes_and_comes_back(struct pull *pulls) {
    (void)pulls;
    node_list(scene.n, scene.c.listed, 1);
    node_list(scene.n, scene.c.listed, 2);
}

/* The collector went past what the member knew: the rest of its page is not merged. */
static void collected(struct pull *pulls) {
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    const struct store_known gone = { &e, 1, 0 };
    (void)pulls;
    assert_ok(store_join_known(scene.n->store, &gone, world.unix_ms));
    assert_ok(store_join_floor(scene.n->store, &gone, world.unix_ms));
}

enum { AGAIN_FROM_START = -1 };
static struct two_row {
    const char *name;
    void (*happens)(struct pull *pulls);
    int taken_count; /* How many of the three are. */
    int again_after; /* Which page's end the next pull begins at, or AGAIN_FROM_START. */
} two_rows[] = {
    { "two_good", nothing, 3, 2 },
    { "two_first_fails", first_fails, 1, 0 },
    { "two_second_fails", second_fails, 2, 1 },
    { "two_first_early", first_is_early, 1, 0 },
    { "two_second_early", second_is_early, 2, 1 },
    { "two_merged_forged", merged_is_forged, 1, AGAIN_FROM_START },
    { "two_first_forged", first_is_forged, 2, 0 },
    { "two_second_forged", second_is_forged, 3, 1 },
    { "two_first_ends_elsewhere", first_ends_elsewhere, 2, 1 },
    { "two_first_starts_elsewhere", first_starts_elsewhere, 1, 0 },
    { "two_second_starts_elsewhere", second_starts_elsewhere, 2, 1 },
    { "two_first_other_secret", first_is_of_another_secret, 1, 0 },
    { "two_second_other_secret", second_is_of_another_secret, 2, 1 },
    { "two_second_other_boot", second_is_of_another_boot, 3, 2 },
    { "two_restart", restart, 1, AGAIN_FROM_START },
    { "two_member_back", member_goes_and_comes_back, 1, AGAIN_FROM_START },
    { "two_self_back", self_goes_and_comes_back, 1, AGAIN_FROM_START },
    { "two_collected", collected, 1, AGAIN_FROM_START },
};

/* Each page in its turn; those behind one that is void are void too. */
static void test_two(void **state) {
    const struct two_row *row = *state;
    struct pull *pulls = scene.pulls;
    three_open();
    row->happens(pulls);
    finish(&pulls[0]);
    for (int i = 1; i < 3; i++) {
        enum replica_verdict verdict = pull_begin(&pulls[i]);
        assert_int_equal(verdict, i < row->taken_count ? REPLICA_TAKE : REPLICA_DROP);
        finish(&pulls[i]);
    }
    uint64_t since = row->again_after == AGAIN_FROM_START ? 0 : pulls[row->again_after].page.next;
    assert_int_equal(pull_again()->request.since, since);
    scene_close();
}

/* While the first of them waits, and its turn has come. */
static void test_the_second_fails_later(void **state) {
    (void)state;
    for (int is_early = 0; is_early < 2; is_early++) {
        three_open();
        struct pull *pulls = scene.pulls;
        finish(&pulls[0]);
        if (is_early) {
            assert_dropped(&pulls[2]);
        } else {
            node_pull_failed(scene.n, pulls[2].ticket, "it is gone");
        }
        assert_int_equal(pull_begin(&pulls[1]), REPLICA_TAKE);
        finish(&pulls[1]);
        assert_dropped(&pulls[2]);
        assert_int_equal(stats_of(scene.n).pull_failed_count, 0);
        assert_int_equal(pull_again()->request.since, pulls[1].page.next);
        assert_goes_on();
        scene_close();
    }
}

/* It could not be kept, when its turn had come: nothing behind it is good. */
static void test_the_first_fails_later(void **state) {
    (void)state;
    three_open();
    struct pull *pulls = scene.pulls;
    finish(&pulls[0]);
    node_pull_failed(scene.n, pulls[1].ticket, "too many pages");
    assert_dropped(&pulls[1]);
    assert_dropped(&pulls[2]);
    assert_int_equal(stats_of(scene.n).pull_failed_count, 1);
    uint64_t since = pulls[0].page.next;
    assert_int_equal(pull_again()->request.since, since);
    assert_goes_on();
    scene_close();
}

/* The request of the second could not be made. */
static void test_the_second_is_unsent(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    struct replica_todo todo;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(pull_serve(&pulls[1], false));
    assert_true(may_ask_ahead(&pulls[0], &todo));
    struct pull unsent = { .from = scene.n, .ticket = todo.ticket, .page = pulls[1].page };
    assert_false(may_ask_ahead(&pulls[0], &todo)); /* What would it follow? */
    finish(&pulls[0]);
    assert_int_equal(pull_begin(&pulls[1]), REPLICA_TAKE);
    finish(&pulls[1]);
    assert_dropped(&unsent);
    uint64_t since = pulls[1].page.next;
    assert_int_equal(pull_again()->request.since, since);
    assert_goes_on();
    scene_close();
}

/* The member asks for a reset in the middle: it is heard in its turn, and what was asked behind it is
 * an earlier incarnation's. */
static void test_a_reset_waits(void **state) {
    (void)state;
    scene_open();
    (void)fixture_put(scene.n->store, "own", "v", 0, world.unix_ms); /* Its vector is not empty. */
    ask_three();
    struct pull *pulls = scene.pulls;
    uint8_t writer[STORE_WRITER_BYTES] = { 99 };
    struct replica_now now = now_of(scene.n);
    pulls[1].page.reset = true;
    finish(&pulls[0]);
    assert_int_equal(pull_begin(&pulls[1]), REPLICA_RESET);
    replica_check(scene.n->replica, scene.n->store);
    store_reset(scene.n->store, writer);
    replica_restart(scene.n->replica, &now);
    assert_dropped(&pulls[2]);
    assert_int_equal(stats_of(scene.n).reset_count, 1);
    assert_int_equal(pull_again()->request.since, 0);
    assert_goes_on();
    scene_close();
}

/* ---- When nothing is asked ---- */

/* Not behind one that has failed already. */
static void test_a_void_page_is_not_followed(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    struct replica_todo todo;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    collected(pulls);
    assert_false(pull_merge(&pulls[0], 0, pulls[0].record_count));
    assert_false(may_ask_ahead(&pulls[0], &todo));
    scene_close();
}

/* Nor behind the last page. */
static void test_the_end_is_not_followed(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    pull_first(&pulls[0]);
    pulls[0].page.more = false;
    assert_false(begin_and_ask(&pulls[0], &pulls[1]));
    scene_close();
}

/* ---- What the member that is asked takes a request to follow ---- */

/* Before the page it is meant to follow: it gives that one twice. The second is not what comes next,
 * and nobody is to blame: it is asked for again at once, by its position. */
static void test_read_in_another_order(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(ask_ahead(&pulls[0], &pulls[2], true));
    assert_true(pull_serve(&pulls[2], false));
    assert_true(pull_serve(&pulls[1], false));
    assert_int_equal(pulls[2].page.from, pulls[1].page.from);
    finish(&pulls[0]);
    assert_int_equal(pull_begin(&pulls[1]), REPLICA_TAKE);
    finish(&pulls[1]);
    assert_dropped(&pulls[2]);
    assert_int_equal(stats_of(scene.n).pull_failed_count, 0);
    uint64_t since = pulls[1].page.next;
    pull_next(&pulls[0], scene.n, scene.from); /* No pause before it. */
    assert_int_equal(pulls[0].request.since, since);
    assert_false(pulls[0].request.follow);
    assert_goes_on();
    scene_close();
}

/* In several sections: where the last of them ended. */
static void test_follows_what_was_read_in_sections(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(ask_ahead(&pulls[0], &pulls[2], true));
    pulls[1].in_sections = true;
    assert_true(pull_serve(&pulls[1], false));
    assert_true(pull_read_some(&pulls[1], 1));
    assert_true(pull_read_some(&pulls[1], 2));
    assert_true(pull_serve(&pulls[2], false));
    assert_int_equal(pulls[2].page.from, pulls[1].page.next);
    assert_true(pulls[2].page.from >= pulls[0].page.next + 3);
    scene_close();
}

static void requester_is_another(struct pull *p) {
    p->request.state.incarnation[0] ^= 1;
}

static void responder_is_another(struct pull *p) {
    uint8_t writer[STORE_WRITER_BYTES] = { 88 };
    store_reset(p->to->store, writer);
    for (uint8_t i = 0; i < RECORDS; i++) {
        const char key[] = { (char)('a' + i), '\0' };
        (void)fixture_put(p->to->store, key, "v", 0, world.unix_ms);
    }
    memcpy(p->request.responder_incarnation, writer, sizeof(writer));
}

static void responder_is_another_than_asked(struct pull *p) {
    responder_is_another(p);
    p->request.responder_incarnation[0] ^= 1;
}

static struct nothing_row {
    const char *name;
    void (*happens)(struct pull *p);
    bool from_start;
} nothing_rows[] = {
    { "nothing_for_this_requester", requester_is_another, false },
    { "nothing_in_this_boot", responder_is_another, false },
    { "nothing_and_another_log", responder_is_another_than_asked, true },
};

/* No page was read that could be meant: since counts, if it is of this log. */
static void test_nothing_to_follow(void **state) {
    const struct nothing_row *row = *state;
    scene_open();
    struct pull *pulls = scene.pulls;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(pull_serve(&pulls[1], false));
    assert_true(ask_ahead(&pulls[0], &pulls[2], true));
    row->happens(&pulls[2]);
    assert_true(pull_serve(&pulls[2], false));
    assert_int_equal(pulls[2].page.from, row->from_start ? 0 : pulls[0].page.next);
    scene_close();
}

/* Repeated by a network that changes the order too: the copy of the first whose answer comes is read
 * after the second was, and ends by chance where the lost one did. */
static void test_repeated_and_in_another_order(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    struct pull copy;
    struct store_record got;
    pull_first(&pulls[0]);
    assert_true(begin_and_ask(&pulls[0], &pulls[1]));
    assert_true(ask_ahead(&pulls[0], &pulls[2], true));
    pull_copy(&copy, &pulls[1]);
    pulls[1].in_sections = copy.in_sections = pulls[2].in_sections = true;
    assert_true(pull_serve(&copy, false)); /* Its answer is lost. */
    assert_true(pull_read_some(&copy, 2));
    assert_true(pull_serve(&pulls[2], false));
    assert_int_equal(pulls[2].page.from, copy.page.next);
    pulls[2].request.bytes_max = 100 * STORE_RECORD_BYTES; /* To the end of the log. */
    for (bool more = true; more;) {
        struct store_record all[64];
        struct store_log_query query = { pulls[2].page.next, &pulls[2].request.known, 1000000, 64 };
        struct store_log_page page;
        assert_ok(store_log_read(scene.from->store, &query, all, &page));
        more = replica_page_read(scene.from->replica, scene.from->store, &scene.n->wallet, &page,
                                 &pulls[2].page);
        pulls[2].record_count = 0; /* What it has is no matter. */
    }
    assert_false(pulls[2].page.more);
    char moved[FIXTURE_VALUE_MAX] = { 0 };
    memcpy(moved, copy.records[0].remote.key.ptr, copy.records[0].remote.key.len);
    struct store_stamp stamp = copy.records[0].remote.stamp;
    pass_ms(5);
    (void)fixture_put(scene.from->store, moved, "w", 0, world.unix_ms); /* Goes to the log's end. */
    assert_true(pull_serve(&pulls[1], false));
    assert_true(pull_read_some(&pulls[1], 1));
    assert_int_equal(pulls[1].page.next, copy.page.next);
    finish(&pulls[0]);
    assert_int_equal(pull_begin(&pulls[1]), REPLICA_TAKE);
    finish(&pulls[1]);
    assert_int_equal(pull_begin(&pulls[2]), REPLICA_TAKE);
    finish(&pulls[2]);
    /* Invariant K. */
    bool covers = store_covers(scene.n->store, &stamp);
    struct rc rc = store_get(scene.n->store, 1, span_str(moved), world.unix_ms, &got);
    assert_true(!covers || rc.err == E_OK);
    scene_close();
}

/* How many requests one empty page of the relay rule makes. */
static void test_again_makes_few_requests(void **state) {
    (void)state;
    scene_open();
    struct pull *pulls = scene.pulls;
    pull_round(&scene.c, scene.n, 1);
    pass_ms(100);
    pull_round(&scene.c, scene.n, 1);
    pass_ms(100);
    assert_true(is_in_service(scene.n));
    pull_next(&pulls[0], scene.n, scene.from);
    assert_true(pulls[0].request.wait_ms > 0);
    struct store_known_entry e = { { 66 }, HLC(NOW - 1000, 0) };
    const struct store_known relayed = { &e, 1, 0 };
    assert_ok(store_join_known(scene.from->store, &relayed, world.unix_ms));
    assert_false(pull_serve(&pulls[0], false));
    pass_ms(300);
    assert_true(pull_serve(&pulls[0], false));
    assert_int_equal(pulls[0].answer, REPLICA_ANSWER_AGAIN);
    assert_int_equal(pull_begin(&pulls[0]), REPLICA_TAKE);
    size_t count = 1;
    while (count < TEST_ROWS(scene.pulls) && ask_ahead(&pulls[0], &pulls[count], count > 1)) {
        count++;
    }
    assert_int_equal(count - 1, 1);
    scene_close();
}

int main(void) {
    struct CMUnitTest
        tests[TEST_ROWS(one_rows) + TEST_ROWS(two_rows) + TEST_ROWS(nothing_rows) + 12];
    const struct CMUnitTest single[] = {
        cmocka_unit_test(test_pages_ahead),
        cmocka_unit_test(test_who_is_held_asks_nothing_ahead),
        cmocka_unit_test(test_the_second_fails_later),
        cmocka_unit_test(test_the_first_fails_later),
        cmocka_unit_test(test_the_second_is_unsent),
        cmocka_unit_test(test_a_reset_waits),
        cmocka_unit_test(test_a_void_page_is_not_followed),
        cmocka_unit_test(test_the_end_is_not_followed),
        cmocka_unit_test(test_read_in_another_order),
        cmocka_unit_test(test_follows_what_was_read_in_sections),
        cmocka_unit_test(test_repeated_and_in_another_order),
        cmocka_unit_test(test_again_makes_few_requests),
    };
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_one_is_void, one_rows);
    TEST_ADD_ROWS(tests, count, test_two, two_rows);
    TEST_ADD_ROWS(tests, count, test_nothing_to_follow, nothing_rows);
    for (size_t i = 0; i < TEST_ROWS(single); i++) {
        tests[count++] = single[i];
    }
    return _cmocka_run_group_tests("replica_ahead", tests, count, NULL, NULL);
}
