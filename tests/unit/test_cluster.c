/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's thread and the members that it pulls from: good ones, and such as hang, lie, fail
 * or are not who they should be. What one of them does costs the others nothing. */
#define _GNU_SOURCE
#include "cluster_world.h"

#define BACKOFF_MIN_MS UINT64_C(100) /* As service_fixture.h has it, half of it random. */
#define BACKOFF_MAX_MS UINT64_C(1000)

static void answer_nothing(struct member *m, const struct scripted_request *r) {
    (void)m;
    (void)r;
}

static void answer_error(struct member *m, const struct scripted_request *r) {
    (void)m;
    scripted_fail(r, STATUS_INTERNAL, "broken \x1b[31m for good\n", NULL);
}

/* ---- Several members ---- */

/* One accepts and says no word, one answers no call, one fails each, and one hangs up. Each round
 * of the good one takes no longer for that: one after the other, fifty would take hours. */
static void test_who_hangs_delays_no_other(void **state) {
    struct world *w = *state;
    struct member *mute = add_member(w, NULL);
    struct member *silent = add_member(w, answer_nothing);
    struct member *broken = add_member(w, answer_error);
    struct member *gone = add_member(w, NULL);
    struct member *good = add_member(w, answer_record);
    mute->server.is_mute = true;
    scripted_stop_listening(&gone->server);
    world_set_members(w, 0x1f);
    WORLD_UNTIL(w, good->pull_count > 50 && silent->pull_count > 0 && broken->pull_count > 0);
    WORLD_UNTIL(w, world_stats(w).applied_count >= 50);
    assert_int_equal(good->server.accept_count, 1); /* All on one connection. */
    assert_int_equal(mute->server.request_count, 0);
    struct replica_view view;
    char error[REPLICA_REASON_BYTES];
    assert_true(world_view(w, good, &view, error));
    assert_true(view.reachable);
    assert_string_equal(error, "");
    assert_true(world_view(w, silent, &view, error));
    assert_false(view.reachable);
    WORLD_UNTIL(w, world_shows(w, broken, "broken ?[31m for good?"));
    WORLD_UNTIL(w, world_shows(w, gone, "127.0.0.1"));
}

/* The pauses grow from attempt to attempt, up to a bound: they are no shorter than they must be. */
static void test_failures_are_followed_by_pauses(void **state) {
    struct world *w = *state;
    struct member *broken = add_member(w, answer_error);
    world_set_members(w, 1);
    WORLD_UNTIL(w, broken->pull_count >= 6);
    for (unsigned i = 1; i < 6; i++) {
        uint64_t pause_ms = BACKOFF_MIN_MS << (i - 1);
        pause_ms = pause_ms < BACKOFF_MAX_MS ? pause_ms : BACKOFF_MAX_MS;
        assert_true(broken->asked_ms[i] + 1 >= broken->asked_ms[i - 1] + pause_ms / 2);
    }
    assert_int_equal(broken->server.accept_count, 1); /* A failed call is no lost connection. */
    assert_true(world_stats(w).pull_failed_count >= 5);
    broken->answer = answer_record; /* And it is not given up. */
    WORLD_UNTIL(w, world_stats(w).applied_count > 0);
    WORLD_UNTIL(w, world_shows(w, broken, ""));
}

/* ---- The list ---- */

static void test_a_removed_member_is_dropped(void **state) {
    struct world *w = *state;
    struct member *stays = add_member(w, answer_idle);
    struct member *leaves = add_member(w, answer_idle);
    struct replica_view view;
    char error[REPLICA_REASON_BYTES];
    world_set_members(w, 3);
    WORLD_UNTIL(w, stays->pull_count > 1 && leaves->pull_count > 1);
    world_set_members(w, 1);
    WORLD_UNTIL(w, leaves->server.closed_count == 1);
    assert_false(world_view(w, leaves, &view, error));
    unsigned pull_count = leaves->pull_count;
    stays->answer = answer_record;
    scripted_drop(&stays->server); /* It is connected to again, and pulled from. */
    WORLD_UNTIL(w, stays->pull_count > 20);
    assert_int_equal(leaves->pull_count, pull_count);
    assert_int_equal(leaves->server.accept_count, 1);
    world_set_members(w, 3); /* Back again. */
    WORLD_UNTIL(w, leaves->pull_count > pull_count);
    assert_int_equal(leaves->server.accept_count, 2);
}

/* What is under way ends on the old connection; then that goes. */
static void test_another_credential(void **state) {
    struct world *w = *state;
    struct member *m = add_member(w, answer_record);
    world_set_members(w, 1);
    WORLD_UNTIL(w, m->pull_count > 3);
    assert_int_equal(m->server.accept_count, 1);
    cluster_set_tls(w->cluster, w->tls);
    WORLD_UNTIL(w, m->server.accept_count == 2 && m->server.closed_count == 1);
    unsigned pull_count = m->pull_count;
    WORLD_UNTIL(w, m->pull_count > pull_count + 3);
    assert_int_equal(world_stats(w).pull_failed_count, 0);
}

/* The registry's wallet must be in the certificate; before that, nothing is said. */
static void test_somebody_else_answers(void **state) {
    struct world *w = *state;
    struct member *other = add_member(w, answer_record);
    other->facts.wallet.bytes[0] ^= 1;
    world_set_members(w, 1);
    WORLD_UNTIL(w, world_shows(w, other, "answers where the registry has"));
    assert_int_equal(other->server.request_count, 0);
    assert_int_equal(world_stats(w).record_count, 0);
}

static struct url {
    const char *name;
    const char *url;
    const char *error;
} urls[] = {
    { "no_https", "http://127.0.0.1:1", "must begin with https://" },
    { "credentials", "https://user:word@127.0.0.1:1", "has credentials" },
    { "no_port", "https://127.0.0.1:0", "no usable host and port" },
    { "no_host", "https://", "no usable host and port" },
};

static void test_bad_url(void **state) {
    const struct url *row = *state;
    assert_int_equal(world_open(state), 0);
    struct world *w = *state;
    struct member *m = add_member(w, answer_record);
    (void)snprintf(m->facts.url, sizeof(m->facts.url), "%s", row->url);
    world_set_members(w, 1);
    WORLD_UNTIL(w, world_shows(w, m, row->error));
    assert_int_equal(m->server.accept_count, 0);
    assert_int_equal(world_close(state), 0);
}

/* Nobody is asked on the word of a list that is too old. */
static void test_an_old_list(void **state) {
    struct world *w = *state;
    struct member *m = add_member(w, answer_record);
    const struct wallet self = WORLD_SELF;
    w->config.peer_cache_ttl_s = 1;
    world_list(w, 1);
    w->list->as_of_mono_ms -= 1001;
    cluster_set_members(w->cluster, &self, w->list);
    WORLD_UNTIL(w, world_shows(w, m, "older than PEER_CACHE_TTL_SECONDS"));
    assert_int_equal(m->server.request_count, 0);
}

/* ---- Pages ---- */

static void garbage(struct page *page, struct member *m) {
    (void)m;
    page->message.requester_incarnation = fixture_text("short");
}

static void other_secret(struct page *page, struct member *m) {
    (void)m;
    page->state.hash[0] ^= 1;
}

static void other_asker(struct page *page, struct member *m) {
    page->message.requester_incarnation = fixture_bytes(m->incarnation, STORE_WRITER_BYTES);
}

static void backwards(struct page *page, struct member *m) {
    (void)m;
    page->message.from = 5;
}

static void starting(struct page *page, struct member *m) {
    (void)m;
    page->state.message.in_service = false;
}

static struct bad_page {
    const char *name;
    void (*change)(struct page *page, struct member *m);
    const char *error;
} bad_pages[] = {
    { "garbage", garbage, "requester_incarnation" },
    { "other_secret", other_secret, "holds another master secret" },
    { "other_asker", other_asker, "an earlier incarnation" },
    { "backwards", backwards, "another position" },
    { "starting", starting, "not in service" },
};
static const struct bad_page *the_bad_page;

static void answer_bad_page(struct member *m, const struct scripted_request *r) {
    answer_changed(m, r, the_bad_page->change);
}

/* Nothing of it is taken, it is said why, and it is asked for again. */
static void test_bad_page(void **state) {
    the_bad_page = *state;
    assert_int_equal(world_open(state), 0);
    struct world *w = *state;
    struct member *m = add_member(w, answer_bad_page);
    world_set_members(w, 1);
    WORLD_UNTIL(w, m->pull_count >= 3);
    WORLD_UNTIL(w, world_shows(w, m, the_bad_page->error));
    assert_int_equal(world_stats(w).record_count, 0);
    m->answer = answer_record;
    WORLD_UNTIL(w, world_stats(w).applied_count > 0);
    assert_int_equal(world_close(state), 0);
}

/* A record that does not open, between two that are good. */
static void answer_forged(struct member *m, const struct scripted_request *r) {
    static const uint8_t noise[60] = { 1, 2, 3 };
    struct page page;
    struct member_record all[3];
    Novakms__V1__PeerRecord *records[3];
    page_open(&page, m, r);
    for (size_t i = 0; i < 3; i++) {
        record_open(&all[i], m);
        records[i] = &all[i].message;
    }
    all[1].message.tombstone = false;
    all[1].message.sealed = fixture_bytes(noise, sizeof(noise));
    page.message.records = records;
    page.message.n_records = 3;
    page.message.next += 3;
    page.message.last += 3;
    page_send(&page, r);
}

static void test_a_forged_record(void **state) {
    struct world *w = *state;
    struct member *m = add_member(w, answer_forged);
    world_set_members(w, 1);
    WORLD_UNTIL(w, m->pull_count >= 2);
    struct replica_stats stats = world_stats(w);
    assert_true(stats.forged_count >= 1);
    assert_true(stats.applied_count >= 2);
    Novakms__V1__PullRequest *again = novakms__v1__pull_request__unpack(
        NULL, m->server.requests[1].payload_len, m->server.requests[1].payload);
    assert_non_null(again);
    assert_int_equal(again->since, 0); /* The cursor has not moved past it. */
    novakms__v1__pull_request__free_unpacked(again, NULL);
}

static void answer_reset(struct member *m, const struct scripted_request *r) {
    struct page page;
    page_open(&page, m, r);
    page.message.reset = true;
    m->answer = answer_nothing;
    page_send(&page, r);
}

/* The data goes, the node begins again as another writer, and the node is told before. */
static void test_reset(void **state) {
    struct world *w = *state;
    uint8_t before[STORE_WRITER_BYTES];
    uint8_t after[STORE_WRITER_BYTES];
    fixture_put_text(&w->f, "k", "v");
    service_kv_writer(w->f.shared.kv, before);
    struct member *m = add_member(w, answer_reset);
    world_set_members(w, 1);
    WORLD_UNTIL(w, m->pull_count >= 2);
    service_kv_writer(w->f.shared.kv, after);
    assert_memory_not_equal(before, after, sizeof(after));
    struct store_stats stats;
    service_kv_stats(w->f.shared.kv, &stats);
    assert_int_equal(stats.key_count, 0);
    assert_int_equal(world_stats(w).reset_count, 1);
    (void)pthread_mutex_lock(&w->mutex);
    assert_true(w->told_count > 0);
    assert_true(w->reason[0] != '\0');
    (void)pthread_mutex_unlock(&w->mutex);
}

/* ---- The end ---- */

static void test_cancel_ends_all_calls(void **state) {
    struct world *w = *state;
    struct member *m = add_member(w, answer_idle);
    world_set_members(w, 1);
    WORLD_UNTIL(w, m->pull_count > 1);
    cluster_cancel(w->cluster);
    WORLD_UNTIL(w, m->server.closed_count == 1);
    struct bootstrap_peers peers;
    const struct bootstrap_hash none = { 0 };
    char reason[REGISTRY_REASON_BYTES] = "";
    const struct node_peers *node_peers = cluster_peers(w->cluster);
    assert_err(node_peers->ask(node_peers->ctx, w->list, &none, &peers, reason), CLOSED);
    assert_string_equal(reason, "the node is stopping");
    struct kdf_master master;
    assert_err(node_peers->fetch(node_peers->ctx, w->list, &none, &master, reason), CLOSED);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_open, world_close)

int main(void) {
    const struct CMUnitTest worlds[] = {
        WORLD(test_who_hangs_delays_no_other),
        WORLD(test_failures_are_followed_by_pauses),
        WORLD(test_a_removed_member_is_dropped),
        WORLD(test_another_credential),
        WORLD(test_somebody_else_answers),
        WORLD(test_an_old_list),
        WORLD(test_a_forged_record),
        WORLD(test_reset),
        WORLD(test_cancel_ends_all_calls),
    };
    struct CMUnitTest tests[TEST_ROWS(worlds) + TEST_ROWS(urls) + TEST_ROWS(bad_pages)];
    size_t count = TEST_ROWS(worlds);
    memcpy(tests, worlds, sizeof(worlds));
    TEST_ADD_ROWS(tests, count, test_bad_url, urls);
    TEST_ADD_ROWS(tests, count, test_bad_page, bad_pages);
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
