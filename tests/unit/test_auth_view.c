/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "auth/view.h"
#include "test.h"

#define KMS_APP_ID 49
#define START_MS 1000000u
#define REFRESH_MS 10000u
#define TTL_MS 180000u
#define MISS_LIFE_MS 5000u
#define TIMEOUT_MS 30000u

static struct wallet wallet_of(uint32_t n) {
    struct wallet w = { { 0 } };
    memcpy(w.bytes, &n, sizeof(n));
    return w;
}

static struct auth_view_cfg test_cfg(void) {
    return (struct auth_view_cfg){ .kms_app_id = KMS_APP_ID,
                                   .entry_count_max = 4,
                                   .miss_count_max = 3,
                                   .pending_count_max = 2,
                                   .refresh_ms = REFRESH_MS,
                                   .ttl_ms = TTL_MS,
                                   .miss_life_ms = MISS_LIFE_MS,
                                   .lookup_timeout_ms = TIMEOUT_MS,
                                   .unknown_per_minute = 60,
                                   .unknown_burst = 100 };
}

static struct auth_view *make_with(struct auth_view_cfg cfg) {
    struct auth_view *view = NULL;
    assert_ok(auth_view_init(&view, &cfg));
    return view;
}

static struct auth_view *make(void) {
    return make_with(test_cfg());
}

static struct auth_facts facts_at(uint64_t as_of_ms) {
    return (struct auth_facts){
        .found = true,
        .instance = { .id = 7, .app_id = 50, .version_id = 3, .zk_verified = true },
        .as_of_mono_ms = as_of_ms,
    };
}

static struct auth_decision decide(struct auth_view *view, uint32_t n, uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    struct auth_decision d;
    auth_view_decide(view, &w, AUTH_CALLER, now_ms, &d);
    assert_non_null(d.reason);
    return d;
}

#define assert_outcome(view, n, now_ms, want) \
    assert_int_equal(decide(view, n, now_ms).outcome, want)

static enum auth_lookup begin(struct auth_view *view, uint32_t n, uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    return auth_view_begin_lookup(view, &w, now_ms);
}

static void apply(struct auth_view *view, uint32_t n, const struct auth_facts *facts,
                  uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    auth_view_apply(view, &w, facts, now_ms);
}

static void apply_good(struct auth_view *view, uint32_t n, uint64_t now_ms) {
    struct auth_facts facts = facts_at(now_ms);
    apply(view, n, &facts, now_ms);
}

static void apply_missing(struct auth_view *view, uint32_t n, uint64_t now_ms) {
    struct auth_facts facts = { .as_of_mono_ms = now_ms };
    apply(view, n, &facts, now_ms);
}

static void unreadable(struct auth_view *view, uint32_t n, const char *reason, uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    auth_view_unreadable(view, &w, reason, now_ms);
}

static struct rc pin(struct auth_view *view, uint32_t n, uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    return auth_view_pin(view, &w, now_ms);
}

static void unpin(struct auth_view *view, uint32_t n, uint64_t now_ms) {
    struct wallet w = wallet_of(n);
    auth_view_unpin(view, &w, now_ms);
}

static size_t due_count(struct auth_view *view, uint64_t now_ms) {
    struct wallet wallets[8];
    return auth_view_due(view, now_ms, wallets, 8);
}

static struct auth_view_stats stats_of(const struct auth_view *view) {
    struct auth_view_stats stats;
    auth_view_stats(view, &stats);
    return stats;
}

static void test_unknown_then_allowed(void **state) {
    (void)state;
    struct auth_view *view = make();
    assert_outcome(view, 1, START_MS, AUTH_UNKNOWN);
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    assert_outcome(view, 1, START_MS + 1, AUTH_UNKNOWN);
    assert_int_equal(begin(view, 1, START_MS + 1), AUTH_LOOKUP_JOINED);
    apply_good(view, 1, START_MS + 2);
    struct auth_decision d = decide(view, 1, START_MS + 2);
    assert_int_equal(d.outcome, AUTH_ALLOW);
    assert_int_equal(d.verdict, AUTH_VERDICT_PERMITTED);
    assert_int_equal(d.app_id, 50);
    assert_int_equal(d.version_id, 3);
    assert_int_equal(d.instance_id, 7);
    assert_string_equal(d.reason, "");
    struct wallet w = wallet_of(1);
    auth_view_decide(view, &w, AUTH_PEER, START_MS + 2, &d);
    assert_int_equal(d.outcome, AUTH_DENY);
    assert_int_equal(d.verdict, AUTH_VERDICT_OTHER_APP);
    assert_int_equal(d.app_id, 0);
    auth_view_close(&view);
    auth_view_close(&view);
    assert_null(view);
}

static void test_peer_is_allowed(void **state) {
    (void)state;
    struct auth_view *view = make();
    struct auth_facts facts = facts_at(START_MS);
    facts.instance.app_id = KMS_APP_ID;
    apply(view, 1, &facts, START_MS);
    struct wallet w = wallet_of(1);
    struct auth_decision d;
    auth_view_decide(view, &w, AUTH_PEER, START_MS, &d);
    assert_int_equal(d.outcome, AUTH_ALLOW);
    auth_view_close(&view);
}

static void test_ttl_counts_from_the_source(void **state) {
    (void)state;
    struct auth_view *view = make();
    struct auth_facts facts = facts_at(START_MS - 5000); /* Came 5 s after its block. */
    apply(view, 1, &facts, START_MS);
    assert_outcome(view, 1, START_MS - 5000 + TTL_MS, AUTH_ALLOW);
    assert_outcome(view, 1, START_MS - 5000 + TTL_MS + 1, AUTH_UNKNOWN);
    auth_view_close(&view);
}

static void test_pinned_past_ttl_fails_closed(void **state) {
    (void)state;
    struct auth_view *view = make();
    apply_good(view, 1, START_MS);
    assert_ok(pin(view, 1, START_MS));
    assert_outcome(view, 1, START_MS + TTL_MS, AUTH_ALLOW);
    struct auth_decision d = decide(view, 1, START_MS + TTL_MS + 1);
    assert_int_equal(d.outcome, AUTH_UNREADABLE);
    assert_string_equal(d.reason, "registry has given no answer newer than 180 s");
    unreadable(view, 1, "connection refused", START_MS + TTL_MS + 2);
    d = decide(view, 1, START_MS + TTL_MS + 2);
    assert_int_equal(d.outcome, AUTH_UNREADABLE);
    assert_string_equal(d.reason, "registry cannot be read: connection refused");
    apply_good(view, 1, START_MS + TTL_MS + 3);
    assert_outcome(view, 1, START_MS + TTL_MS + 3, AUTH_ALLOW);
    auth_view_close(&view);
}

static void test_unreadable_keeps_what_is_fresh(void **state) {
    (void)state;
    struct auth_view *view = make();
    apply_good(view, 1, START_MS);
    unreadable(view, 1, "timed out", START_MS + 1);
    assert_outcome(view, 1, START_MS + TTL_MS, AUTH_ALLOW);
    auth_view_close(&view);
}

static void test_negative_answer_acts_at_once(void **state) {
    (void)state;
    struct auth_view *view = make();
    apply_good(view, 1, START_MS);
    assert_ok(pin(view, 1, START_MS));
    struct auth_facts facts = facts_at(START_MS + 1);
    facts.instance.status = AUTH_INSTANCE_STOPPED;
    apply(view, 1, &facts, START_MS + 1);
    struct auth_decision d = decide(view, 1, START_MS + 1);
    assert_int_equal(d.outcome, AUTH_DENY);
    assert_string_equal(d.reason, "instance is STOPPED");
    apply_missing(view, 1, START_MS + 2);
    assert_string_equal(decide(view, 1, START_MS + 2).reason, "wallet is not registered");
    auth_view_close(&view);
}

static void test_older_answer_is_ignored(void **state) {
    (void)state;
    struct auth_view *view = make();
    struct auth_facts stopped = facts_at(START_MS);
    stopped.instance.status = AUTH_INSTANCE_STOPPED;
    apply(view, 1, &stopped, START_MS);
    struct auth_facts old = facts_at(START_MS - 1);
    apply(view, 1, &old, START_MS + 1);
    assert_outcome(view, 1, START_MS + 1, AUTH_DENY);
    assert_int_equal(stats_of(view).stale_answer_count, 1);
    struct auth_facts same = facts_at(START_MS);
    apply(view, 1, &same, START_MS + 1);
    assert_outcome(view, 1, START_MS + 1, AUTH_ALLOW);
    auth_view_close(&view);
}

/* A source that lags behind what it said before, after that has run out. */
static void test_older_answer_to_an_expired_entry(void **state) {
    (void)state;
    struct auth_view *view = make();
    apply_good(view, 1, START_MS);
    uint64_t late_ms = START_MS + TTL_MS + 1;
    assert_int_equal(begin(view, 1, late_ms), AUTH_LOOKUP_START);
    struct auth_facts old = facts_at(START_MS - 1);
    apply(view, 1, &old, late_ms);
    struct auth_decision d = decide(view, 1, late_ms);
    assert_int_equal(d.outcome, AUTH_UNREADABLE);
    assert_string_equal(d.reason,
                        "registry cannot be read: its answer is older than the one before");
    auth_view_close(&view);
}

static void test_future_as_of_lives_no_longer(void **state) {
    (void)state;
    struct auth_view *view = make();
    struct auth_facts facts = facts_at(START_MS + 1000000);
    apply(view, 1, &facts, START_MS);
    assert_outcome(view, 1, START_MS + TTL_MS, AUTH_ALLOW);
    assert_outcome(view, 1, START_MS + TTL_MS + 1, AUTH_UNKNOWN);
    apply_missing(view, 1, START_MS + 1); /* Not older than what is held. */
    assert_outcome(view, 1, START_MS + 1, AUTH_DENY);
    auth_view_close(&view);
}

/* A frozen chain: answers come, but tell of long ago. */
static void test_answer_already_too_old(void **state) {
    (void)state;
    struct auth_view *view = make();
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    struct auth_facts facts = facts_at(START_MS - TTL_MS - 1);
    apply(view, 1, &facts, START_MS);
    struct auth_decision d = decide(view, 1, START_MS);
    assert_int_equal(d.outcome, AUTH_UNREADABLE);
    assert_string_equal(d.reason, "registry cannot be read: its newest state is 180 s old");
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS, AUTH_UNKNOWN);
    auth_view_close(&view);
}

static void test_misses_are_remembered_for_a_while(void **state) {
    (void)state;
    struct auth_view *view = make();
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    apply_missing(view, 1, START_MS);
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS - 1, AUTH_DENY);
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS, AUTH_UNKNOWN);
    assert_int_equal(begin(view, 1, START_MS + MISS_LIFE_MS), AUTH_LOOKUP_START);
    apply_good(view, 1, START_MS + MISS_LIFE_MS);
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS, AUTH_ALLOW);
    assert_int_equal(stats_of(view).miss_count, 0);
    assert_int_equal(stats_of(view).entry_count, 1);
    auth_view_close(&view);
}

static void test_failures_are_remembered_for_a_while(void **state) {
    (void)state;
    struct auth_view *view = make();
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    unreadable(view, 1, "no route", START_MS);
    assert_string_equal(decide(view, 1, START_MS).reason, "registry cannot be read: no route");
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS - 1, AUTH_UNREADABLE);
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS, AUTH_UNKNOWN);
    assert_int_equal(stats_of(view).miss_count, 1);
    unreadable(view, 9, "for a wallet that is not held", START_MS);
    assert_int_equal(stats_of(view).miss_count, 1);
    auth_view_close(&view);
}

static void test_long_reason_is_cut(void **state) {
    (void)state;
    struct auth_view *view = make();
    char reason[2 * AUTH_VIEW_REASON_BYTES];
    memset(reason, 'x', sizeof(reason));
    reason[sizeof(reason) - 1] = '\0';
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    unreadable(view, 1, reason, START_MS);
    assert_int_equal(strlen(decide(view, 1, START_MS).reason),
                     strlen("registry cannot be read: ") + AUTH_VIEW_REASON_BYTES - 1);
    auth_view_close(&view);
}

static void test_misses_are_bounded(void **state) {
    (void)state;
    struct auth_view *view = make();
    apply_good(view, 100, START_MS);
    for (uint32_t n = 1; n <= 50; n++) {
        apply_missing(view, n, START_MS);
    }
    assert_int_equal(stats_of(view).miss_count, 3);
    assert_outcome(view, 47, START_MS, AUTH_UNKNOWN);
    assert_outcome(view, 48, START_MS, AUTH_DENY);
    assert_outcome(view, 50, START_MS, AUTH_DENY);
    assert_outcome(view, 100, START_MS, AUTH_ALLOW); /* Strangers push out no caller. */
    assert_int_equal(stats_of(view).evicted_count, 47);
    auth_view_close(&view);
}

static void test_lru_of_unpinned(void **state) {
    (void)state;
    struct auth_view *view = make();
    for (uint32_t n = 1; n <= 4; n++) {
        apply_good(view, n, START_MS);
    }
    assert_ok(pin(view, 1, START_MS));
    assert_outcome(view, 2, START_MS, AUTH_ALLOW); /* Now 3 is the least recent. */
    apply_good(view, 5, START_MS);
    assert_outcome(view, 3, START_MS, AUTH_UNKNOWN);
    apply_good(view, 6, START_MS);
    assert_outcome(view, 4, START_MS, AUTH_UNKNOWN);
    assert_outcome(view, 1, START_MS, AUTH_ALLOW);
    assert_outcome(view, 2, START_MS, AUTH_ALLOW);
    assert_int_equal(stats_of(view).entry_count, 4);
    auth_view_close(&view);
}

static void test_pins_are_bounded(void **state) {
    (void)state;
    struct auth_view *view = make();
    for (uint32_t n = 1; n <= 4; n++) {
        apply_good(view, n, START_MS);
        assert_ok(pin(view, n, START_MS));
    }
    apply_good(view, 5, START_MS);
    assert_outcome(view, 5, START_MS, AUTH_ALLOW); /* Judged, but there is no place to keep it. */
    assert_err(pin(view, 5, START_MS), QUOTA);
    assert_ok(pin(view, 1, START_MS)); /* A second connection needs no place. */
    unpin(view, 1, START_MS);
    assert_err(pin(view, 5, START_MS), QUOTA);
    unpin(view, 1, START_MS);
    assert_ok(pin(view, 5, START_MS)); /* 1 has gone for it. */
    assert_outcome(view, 1, START_MS, AUTH_UNKNOWN);
    assert_int_equal(stats_of(view).pinned_count, 4);
    assert_int_equal(stats_of(view).entry_count, 4);
    auth_view_close(&view);
}

static void test_pin_needs_an_answer(void **state) {
    (void)state;
    struct auth_view *view = make();
    assert_err(pin(view, 1, START_MS), NOT_FOUND);
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    assert_err(pin(view, 1, START_MS), NOT_FOUND);
    unreadable(view, 1, "x", START_MS);
    assert_ok(pin(view, 1, START_MS));
    assert_outcome(view, 1, START_MS + MISS_LIFE_MS, AUTH_UNREADABLE); /* due reads it again. */
    assert_int_equal(due_count(view, START_MS + REFRESH_MS), 1);
    apply_good(view, 1, START_MS + REFRESH_MS);
    assert_outcome(view, 1, START_MS + REFRESH_MS, AUTH_ALLOW);
    auth_view_close(&view);
}

static void test_unpinned_refusal_leaves_as_a_miss(void **state) {
    (void)state;
    struct auth_view *view = make();
    apply_good(view, 1, START_MS);
    assert_ok(pin(view, 1, START_MS));
    apply_missing(view, 1, START_MS + 1);
    assert_outcome(view, 1, START_MS + 2 * MISS_LIFE_MS, AUTH_DENY);
    unpin(view, 1, START_MS + 2 * MISS_LIFE_MS);
    assert_int_equal(stats_of(view).entry_count, 0);
    assert_int_equal(stats_of(view).miss_count, 1);
    assert_outcome(view, 1, START_MS + 2 * MISS_LIFE_MS, AUTH_DENY);
    assert_outcome(view, 1, START_MS + 3 * MISS_LIFE_MS, AUTH_UNKNOWN);
    auth_view_close(&view);
}

static void test_due(void **state) {
    (void)state;
    struct auth_view *view = make();
    for (uint32_t n = 1; n <= 3; n++) {
        assert_int_equal(begin(view, n, START_MS + n), AUTH_LOOKUP_START);
        apply_good(view, n, START_MS + n);
    }
    assert_ok(pin(view, 1, START_MS + 3));
    assert_ok(pin(view, 2, START_MS + 4));
    assert_int_equal(due_count(view, START_MS + 2 + REFRESH_MS), 0);
    struct wallet wallets[1];
    assert_int_equal(auth_view_due(view, START_MS + 4 + REFRESH_MS, wallets, 1), 1);
    struct wallet first = wallet_of(1);
    assert_true(wallet_equal(&wallets[0], &first));
    assert_int_equal(auth_view_due(view, START_MS + 4 + REFRESH_MS, wallets, 1), 1);
    assert_int_equal(auth_view_due(view, START_MS + 4 + REFRESH_MS, wallets, 1), 0);
    /* In flight: a call does not start another, and it is not due again before the timeout. */
    assert_int_equal(begin(view, 1, START_MS + 4 + REFRESH_MS), AUTH_LOOKUP_JOINED);
    assert_int_equal(due_count(view, START_MS + 4 + 2 * REFRESH_MS), 0);
    assert_int_equal(due_count(view, START_MS + 4 + 3 * REFRESH_MS), 0);
    assert_int_equal(due_count(view, START_MS + 4 + 4 * REFRESH_MS), 2); /* Taken as lost. */
    apply_good(view, 1, START_MS + 4 + 4 * REFRESH_MS);
    assert_int_equal(due_count(view, START_MS + 4 + 5 * REFRESH_MS), 1);
    auth_view_close(&view);
}

static void test_pin_after_a_while_is_due_at_once(void **state) {
    (void)state;
    struct auth_view *view = make();
    for (uint32_t n = 1; n <= 2; n++) {
        assert_int_equal(begin(view, n, START_MS), AUTH_LOOKUP_START);
        apply_good(view, n, START_MS);
    }
    assert_ok(pin(view, 1, START_MS + REFRESH_MS / 2));
    assert_int_equal(due_count(view, START_MS + REFRESH_MS / 2), 0);
    assert_ok(pin(view, 2, START_MS + REFRESH_MS / 2 + 1));
    assert_int_equal(due_count(view, START_MS + REFRESH_MS / 2 + 1), 1);
    auth_view_close(&view);
}

static void test_budget_and_one_past(void **state) {
    (void)state;
    struct auth_view_cfg cfg = test_cfg();
    cfg.unknown_burst = 2;
    cfg.pending_count_max = 100;
    struct auth_view *view = make_with(cfg);
    apply_good(view, 50, START_MS);
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    assert_int_equal(begin(view, 2, START_MS), AUTH_LOOKUP_START);
    struct auth_decision d = decide(view, 3, START_MS);
    assert_int_equal(d.outcome, AUTH_BUSY);
    assert_int_equal(d.retry_after_ms, 1000);
    assert_int_equal(begin(view, 3, START_MS), AUTH_LOOKUP_BUSY);
    assert_outcome(view, 1, START_MS, AUTH_UNKNOWN); /* Already asked: waits, costs nothing. */
    assert_outcome(view, 50, START_MS, AUTH_ALLOW);
    assert_outcome(view, 3, START_MS + 999, AUTH_BUSY);
    assert_outcome(view, 3, START_MS + 1000, AUTH_UNKNOWN);
    assert_int_equal(begin(view, 3, START_MS + 1000), AUTH_LOOKUP_START);
    assert_int_equal(stats_of(view).busy_count, 3);
    auth_view_close(&view);
}

static void test_pending_is_bounded(void **state) {
    (void)state;
    struct auth_view *view = make();
    assert_int_equal(begin(view, 1, START_MS), AUTH_LOOKUP_START);
    assert_int_equal(begin(view, 2, START_MS + 1), AUTH_LOOKUP_START);
    assert_outcome(view, 3, START_MS + 1, AUTH_BUSY);
    assert_int_equal(begin(view, 3, START_MS + 1), AUTH_LOOKUP_BUSY);
    assert_int_equal(begin(view, 3, START_MS + TIMEOUT_MS - 1), AUTH_LOOKUP_BUSY);
    assert_int_equal(begin(view, 3, START_MS + TIMEOUT_MS), AUTH_LOOKUP_START); /* For 1. */
    assert_int_equal(stats_of(view).pending_count, 2);
    apply_good(view, 1, START_MS + TIMEOUT_MS); /* Its answer comes after all. */
    assert_outcome(view, 1, START_MS + TIMEOUT_MS, AUTH_ALLOW);
    assert_int_equal(begin(view, 2, START_MS + 1 + TIMEOUT_MS), AUTH_LOOKUP_START); /* Again. */
    assert_int_equal(stats_of(view).pending_count, 2);
    auth_view_close(&view);
}

/* Everything full at once, in every order: no list passes its bound. */
static void test_full_tables(void **state) {
    (void)state;
    struct auth_view *view = make();
    for (uint32_t n = 0; n < 2000; n++) {
        uint32_t who = n * 7919u % 23;
        uint64_t now_ms = START_MS + 40u * n;
        switch (n * 31 % 5) {
        case 0:
            (void)begin(view, who, now_ms);
            break;
        case 1:
            apply_good(view, who, now_ms);
            break;
        case 2:
            apply_missing(view, who, now_ms);
            break;
        case 3:
            if (pin(view, who, now_ms).err == E_OK && n % 3 != 0) {
                unpin(view, who, now_ms);
            }
            break;
        default:
            unreadable(view, who, "x", now_ms);
            break;
        }
        struct auth_view_stats stats = stats_of(view);
        assert_true(stats.pinned_count <= stats.entry_count && stats.entry_count <= 4);
        assert_true(stats.miss_count <= 3 && stats.pending_count <= 2);
    }
    auth_view_close(&view);
}

#define CFG_ROW(field, value, want) TEST_CFG_ROW(auth_view_cfg, field, value, want)

static struct test_cfg_row cfg_rows[] = {
    CFG_ROW(entry_count_max, 0, E_BAD_CONFIG),
    CFG_ROW(entry_count_max, AUTH_VIEW_ENTRY_COUNT_MAX, E_OK),
    CFG_ROW(entry_count_max, AUTH_VIEW_ENTRY_COUNT_MAX + 1, E_BAD_CONFIG),
    CFG_ROW(miss_count_max, 0, E_BAD_CONFIG),
    CFG_ROW(miss_count_max, AUTH_VIEW_ENTRY_COUNT_MAX + 1, E_BAD_CONFIG),
    CFG_ROW(pending_count_max, 0, E_BAD_CONFIG),
    CFG_ROW(pending_count_max, AUTH_VIEW_ENTRY_COUNT_MAX + 1, E_BAD_CONFIG),
    CFG_ROW(refresh_ms, 0, E_BAD_CONFIG),
    CFG_ROW(refresh_ms, 86400000, E_OK),
    CFG_ROW(refresh_ms, 86400001, E_BAD_CONFIG),
    CFG_ROW(ttl_ms, 0, E_BAD_CONFIG),
    CFG_ROW(miss_life_ms, 0, E_BAD_CONFIG),
    CFG_ROW(lookup_timeout_ms, 0, E_BAD_CONFIG),
    CFG_ROW(unknown_per_minute, 0, E_BAD_CONFIG),
    CFG_ROW(unknown_burst, 0, E_BAD_CONFIG),
    CFG_ROW(unknown_burst, AUTH_VIEW_UNKNOWN_MAX, E_OK),
    CFG_ROW(unknown_burst, AUTH_VIEW_UNKNOWN_MAX + 1, E_BAD_CONFIG),
};

static void test_cfg_row(void **state) {
    const struct test_cfg_row *row = *state;
    struct auth_view_cfg cfg = test_cfg();
    test_cfg_set(&cfg, row);
    struct auth_view *view = NULL;
    assert_err_equal(auth_view_init(&view, &cfg), row->want);
    assert_int_equal(view != NULL, row->want == E_OK);
    auth_view_close(&view);
}

/* Only who is connected, and was permitted before, counts: once, from the last good block. */
static void test_revocations_are_measured(void **state) {
    (void)state;
    struct auth_view *view = make();
    struct auth_facts facts = facts_at(1000);
    apply(view, 1, &facts, 1000);
    apply(view, 2, &facts, 1000);
    assert_err(pin(view, 1, 1000), OK);
    apply_missing(view, 2, 3000);
    assert_int_equal(stats_of(view).revocation_sum_ms, 0);
    apply_missing(view, 1, 3001);
    apply_missing(view, 1, 9000);
    struct auth_view_stats stats = stats_of(view);
    assert_int_equal(stats.revocation_sum_ms, 2001);
    for (size_t i = 0; i <= AUTH_REVOCATION_BOUND_COUNT; i++) {
        assert_int_equal(stats.revocation_counts[i], i == 2); /* Above 2 s, up to 5 s. */
    }
    facts = facts_at(10000);
    apply(view, 1, &facts, 10000);
    apply_missing(view, 1, 10000 + 180001);
    assert_int_equal(stats_of(view).revocation_counts[AUTH_REVOCATION_BOUND_COUNT], 1);
    auth_view_close(&view);
}

int main(void) {
    struct CMUnitTest tests[49] = {
        cmocka_unit_test(test_revocations_are_measured),
        cmocka_unit_test(test_unknown_then_allowed),
        cmocka_unit_test(test_peer_is_allowed),
        cmocka_unit_test(test_ttl_counts_from_the_source),
        cmocka_unit_test(test_pinned_past_ttl_fails_closed),
        cmocka_unit_test(test_unreadable_keeps_what_is_fresh),
        cmocka_unit_test(test_negative_answer_acts_at_once),
        cmocka_unit_test(test_older_answer_is_ignored),
        cmocka_unit_test(test_older_answer_to_an_expired_entry),
        cmocka_unit_test(test_future_as_of_lives_no_longer),
        cmocka_unit_test(test_answer_already_too_old),
        cmocka_unit_test(test_misses_are_remembered_for_a_while),
        cmocka_unit_test(test_failures_are_remembered_for_a_while),
        cmocka_unit_test(test_long_reason_is_cut),
        cmocka_unit_test(test_misses_are_bounded),
        cmocka_unit_test(test_lru_of_unpinned),
        cmocka_unit_test(test_pins_are_bounded),
        cmocka_unit_test(test_pin_needs_an_answer),
        cmocka_unit_test(test_unpinned_refusal_leaves_as_a_miss),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_pin_after_a_while_is_due_at_once),
        cmocka_unit_test(test_budget_and_one_past),
        cmocka_unit_test(test_pending_is_bounded),
        cmocka_unit_test(test_full_tables),
    };
    size_t count = 24;
    TEST_ADD_ROWS(tests, count, test_cfg_row, cfg_rows);
    return _cmocka_run_group_tests("auth_view", tests, count, NULL, NULL);
}
