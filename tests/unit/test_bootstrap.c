/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap_world.h"

/* Ends a running task with what the world says. */
static void finish(struct world *w, enum bootstrap_task task) {
    assert_true(w->b.tasks[task].is_running);
    struct bootstrap_event event = { .task = task,
                                     .ticket = w->b.tasks[task].ticket,
                                     .reason = w->failures[task] };
    if (event.reason == NULL) {
        fill_result(w, &event);
    }
    step(w, &event);
}

/* Lets everything that runs end, over and over, while time passes. */
static void settle(struct world *w, uint64_t span_ms) {
    uint64_t until_ms = w->now_ms + span_ms;
    tick(w, 0);
    while (w->now_ms < until_ms) {
        for (size_t task = 0; task < BOOTSTRAP_TASK_COUNT; task++) {
            if (w->b.tasks[task].is_running) {
                finish(w, (enum bootstrap_task)task);
            }
        }
        tick(w, 500);
    }
}

static void assert_state(struct world *w, enum bootstrap_state state) {
    assert_string_equal(bootstrap_state_name(w->b.state), bootstrap_state_name(state));
}

static void assert_reason(struct world *w, const char *part) {
    if (strstr(bootstrap_reason(&w->b), part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, bootstrap_reason(&w->b));
    }
}

/* A member with the secret whose hash is on chain. */
static void serve(struct world *w) {
    world_init(w, hash_of(5));
    w->hashes.confirmed = hash_of(5);
    w->hashes.latest = hash_of(5);
    settle(w, 5000);
    assert_state(w, BOOTSTRAP_SERVING);
    assert_string_equal(bootstrap_reason(&w->b), "");
}

/* ---- The way to serving ---- */

static void test_first_node_generates_submits_and_serves(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    tick(&w, 0);
    assert_state(&w, BOOTSTRAP_NO_IDENTITY);
    settle(&w, 3000);
    assert_state(&w, BOOTSTRAP_SUBMITTING);
    assert_true(bootstrap_hash_equal(&w.held, &w.generated));
    assert_true(bootstrap_hash_equal(&w.last[BOOTSTRAP_SEND_TX].hash, &w.generated));
    w.hashes.latest = w.generated;
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_WAITING);
    w.hashes.confirmed = w.generated;
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_SERVING);
    assert_int_equal(w.started[BOOTSTRAP_SEND_TX], 1);
    assert_int_equal(w.started[BOOTSTRAP_GENERATE], 1);
    assert_int_equal(w.started[BOOTSTRAP_FETCH], 0);
}

static void test_node_with_the_right_secret_serves(void **state) {
    (void)state;
    struct world w;
    serve(&w);
    assert_int_equal(w.started[BOOTSTRAP_GENERATE], 0);
    assert_int_equal(w.started[BOOTSTRAP_SEND_TX], 0);
}

static void test_node_with_a_wrong_secret_fetches(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(4));
    w.hashes.confirmed = hash_of(5);
    w.hashes.latest = hash_of(5);
    w.failures[BOOTSTRAP_FETCH] = "no other member answers";
    settle(&w, 20000);
    assert_state(&w, BOOTSTRAP_FETCHING);
    assert_reason(&w, "no other member answers");
    assert_true(bootstrap_hash_equal(&w.held, &(struct bootstrap_hash){ .bytes = { 4 } }));
    w.failures[BOOTSTRAP_FETCH] = NULL;
    w.fetchable = hash_of(5);
    settle(&w, 60000);
    assert_state(&w, BOOTSTRAP_SERVING);
    assert_int_equal(w.adopted_count, 1);
}

static void test_a_fetched_secret_with_another_hash_is_discarded(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(4));
    w.hashes.confirmed = hash_of(5);
    w.hashes.latest = hash_of(5);
    w.fetchable = hash_of(6);
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_FETCHING);
    assert_int_equal(w.adopted_count, 0);
    assert_true(bootstrap_hash_is_zero(&w.pending));
}

static void test_losing_the_race_fetches_the_winner(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    settle(&w, 3000);
    assert_state(&w, BOOTSTRAP_SUBMITTING);
    w.tx = BOOTSTRAP_TX_REVERTED;
    w.hashes.latest = hash_of(9);
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_WAITING);
    w.hashes.confirmed = hash_of(9);
    w.fetchable = hash_of(9);
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_SERVING);
    assert_int_equal(w.started[BOOTSTRAP_SEND_TX], 1);
    assert_int_equal(w.adopted_count, 2);
}

/* ---- Other members ---- */

static void test_generates_only_when_no_member_holds_a_secret(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    w.membership.other_count = 2;
    w.peers = (struct bootstrap_peers){ .reached_count = 2, .holder_count = 1 };
    settle(&w, 20000);
    assert_state(&w, BOOTSTRAP_WAITING);
    assert_reason(&w, "the member that holds a master secret");
    assert_int_equal(w.started[BOOTSTRAP_GENERATE], 0);
    w.peers.holder_count = 0;
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_SUBMITTING);
}

static void test_the_winner_waits_until_another_member_holds_it(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    w.membership.other_count = 1;
    w.peers.reached_count = 1;
    settle(&w, 5000);
    w.hashes.latest = w.generated;
    w.hashes.confirmed = w.generated;
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_SPREADING);
    w.peers = (struct bootstrap_peers){ .reached_count = 1, .holder_count = 1, .same_count = 1 };
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_SERVING);
}

/* ---- Leaving service ---- */

static void test_a_zero_hash_never_erases(void **state) {
    (void)state;
    struct world w;
    serve(&w);
    w.hashes.latest = hash_of(0);
    settle(&w, TICK_MS + 5000);
    assert_state(&w, BOOTSTRAP_SERVING); /* Not confirmed: it may be rolled back. */
    w.hashes.confirmed = hash_of(0);
    settle(&w, TICK_MS + 5000);
    assert_state(&w, BOOTSTRAP_SUBMITTING);
    assert_true(bootstrap_hash_equal(&w.last[BOOTSTRAP_SEND_TX].hash, &w.held));
    assert_int_equal(w.adopted_count, 0);
    assert_int_equal(w.started[BOOTSTRAP_GENERATE], 0);
    w.hashes.latest = w.held;
    w.hashes.confirmed = w.held;
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_SERVING);
}

static void test_a_negative_answer_acts_at_once(void **state) {
    static const struct {
        const char *reason;
        struct bootstrap_membership membership;
    } rows[] = {
        { "instance is STOPPED", { .verdict = "instance is STOPPED", .wallet = { { 1 } } } },
        { "another wallet", { .is_permitted = true, .wallet = { { 2 } }, .is_same_url = true } },
        { "teePubkey",
          { .is_permitted = true,
            .wallet = { { 1 } },
            .tee_pubkey = { other_pubkey, sizeof(other_pubkey) },
            .is_same_url = true } },
        { "instanceUrl",
          { .is_permitted = true, .wallet = { { 1 } }, .tee_pubkey = { pubkey, sizeof(pubkey) } } },
    };
    (void)state;
    for (size_t i = 0; i < TEST_ROWS(rows); i++) {
        struct world w;
        serve(&w);
        struct bootstrap_membership good = w.membership;
        w.membership = rows[i].membership;
        tick(&w, TICK_MS);
        finish(&w, BOOTSTRAP_MEMBERSHIP);
        assert_state(&w, BOOTSTRAP_NOT_MEMBER);
        assert_reason(&w, rows[i].reason);
        w.membership = good;
        settle(&w, 10000);
        assert_state(&w, BOOTSTRAP_SERVING);
        assert_int_equal(w.adopted_count, 0);
    }
}

static void test_answers_run_out(void **state) {
    static const struct {
        enum bootstrap_task task;
        enum bootstrap_state state;
    } rows[] = { { BOOTSTRAP_MEMBERSHIP, BOOTSTRAP_NO_MEMBERSHIP },
                 { BOOTSTRAP_HASH, BOOTSTRAP_NO_HASH } };
    (void)state;
    for (size_t i = 0; i < TEST_ROWS(rows); i++) {
        struct world w;
        serve(&w);
        w.failures[rows[i].task] = "the chain does not answer";
        settle(&w, TTL_MS - TICK_MS);
        assert_state(&w, BOOTSTRAP_SERVING);
        settle(&w, TICK_MS + 10000);
        assert_state(&w, rows[i].state);
        assert_reason(&w, "the chain does not answer");
        w.failures[rows[i].task] = NULL;
        settle(&w, 60000);
        assert_state(&w, BOOTSTRAP_SERVING);
        assert_int_equal(w.adopted_count, 0);
    }
}

static void test_answers_of_a_frozen_chain_run_out(void **state) {
    (void)state;
    struct world w;
    serve(&w);
    uint64_t frozen_at_ms = w.now_ms;
    for (int i = 0; i < 20; i++) {
        w.membership.as_of_mono_ms = frozen_at_ms - w.now_ms; /* Wraps back: as of then. */
        settle(&w, 15000);
    }
    assert_state(&w, BOOTSTRAP_NO_MEMBERSHIP);
}

static void test_old_answers_take_nothing_back(void **state) {
    (void)state;
    struct world w;
    serve(&w);
    w.hashes.confirmed = hash_of(0);
    w.hashes.latest = hash_of(0);
    w.hashes.as_of_mono_ms = (uint64_t)0 - 100000;
    tick(&w, TICK_MS);
    finish(&w, BOOTSTRAP_HASH);
    assert_state(&w, BOOTSTRAP_SERVING);
}

static void test_answers_from_the_future_are_not_believed(void **state) {
    (void)state;
    struct world w;
    serve(&w);
    w.membership.as_of_mono_ms = 1;
    w.membership.is_permitted = false;
    tick(&w, TICK_MS);
    finish(&w, BOOTSTRAP_MEMBERSHIP);
    assert_state(&w, BOOTSTRAP_SERVING);
    w.membership.as_of_mono_ms = 0;
    settle(&w, TICK_MS + 5000);
    assert_state(&w, BOOTSTRAP_NOT_MEMBER);
}

static void test_another_wallet_starts_over(void **state) {
    (void)state;
    struct world w;
    serve(&w);
    w.wallet = wallet_of(2);
    tick(&w, TICK_MS);
    finish(&w, BOOTSTRAP_IDENTITY);
    assert_false(bootstrap_is_serving(&w.b));
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_NOT_MEMBER);
    w.membership.wallet = wallet_of(2);
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_SERVING);
    assert_int_equal(w.adopted_count, 0);
}

static void test_an_oversized_key_is_no_identity(void **state) {
    (void)state;
    struct world w;
    static const uint8_t big[BOOTSTRAP_TEE_PUBKEY_BYTES_MAX + 1];
    serve(&w);
    tick(&w, TICK_MS);
    struct bootstrap_event event = {
        .task = BOOTSTRAP_IDENTITY,
        .ticket = w.b.tasks[BOOTSTRAP_IDENTITY].ticket,
        .result.identity = { .wallet = wallet_of(1), .tee_pubkey = { big, sizeof(big) } },
    };
    step(&w, &event);
    assert_state(&w, BOOTSTRAP_NO_IDENTITY);
}

/* ---- The transaction ---- */

static void submit(struct world *w) {
    world_init(w, hash_of(0));
    settle(w, 3000);
    assert_state(w, BOOTSTRAP_SUBMITTING);
    assert_int_equal(w->started[BOOTSTRAP_SEND_TX], 1);
}

static void test_a_stuck_transaction_is_sent_dearer(void **state) {
    (void)state;
    struct world w;
    submit(&w);
    w.tx = BOOTSTRAP_TX_PENDING;
    settle(&w, STUCK_MS - 10000);
    assert_int_equal(w.started[BOOTSTRAP_SEND_TX], 1);
    settle(&w, 15000);
    assert_int_equal(w.started[BOOTSTRAP_SEND_TX], 2);
    assert_true(w.last[BOOTSTRAP_SEND_TX].is_dearer);
    assert_false(w.last[BOOTSTRAP_SEND_TX].is_resend);
}

static void test_a_forgotten_transaction_is_sent_again(void **state) {
    (void)state;
    struct world w;
    submit(&w);
    w.tx = BOOTSTRAP_TX_UNKNOWN;
    settle(&w, 2500);
    w.tx = BOOTSTRAP_TX_PENDING;
    settle(&w, 5000);
    assert_int_equal(w.started[BOOTSTRAP_SEND_TX], 2);
    assert_true(w.last[BOOTSTRAP_SEND_TX].is_resend);
    assert_false(w.last[BOOTSTRAP_SEND_TX].is_dearer);
}

static void test_a_wallet_without_funds_says_so(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    w.failures[BOOTSTRAP_SEND_TX] = "the wallet needs funds";
    settle(&w, 10000);
    assert_state(&w, BOOTSTRAP_SUBMITTING);
    assert_reason(&w, "the wallet needs funds");
    w.failures[BOOTSTRAP_SEND_TX] = NULL;
    settle(&w, 60000);
    assert_true(w.b.has_tx);
}

static void test_a_rolled_back_block_submits_again(void **state) {
    (void)state;
    struct world w;
    submit(&w);
    w.tx = BOOTSTRAP_TX_MINED;
    w.hashes.latest = w.generated;
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_WAITING);
    w.hashes.latest = hash_of(0);
    settle(&w, 5000);
    assert_state(&w, BOOTSTRAP_SUBMITTING);
    assert_true(w.started[BOOTSTRAP_SEND_TX] >= 2);
    assert_true(bootstrap_hash_equal(&w.last[BOOTSTRAP_SEND_TX].hash, &w.generated));
}

/* ---- Answers that nobody waits for ---- */

static void test_stale_answers_change_nothing(void **state) {
    (void)state;
    for (size_t task = 0; task < BOOTSTRAP_TASK_COUNT; task++) {
        struct world w;
        serve(&w);
        struct bootstrap before = w.b;
        struct bootstrap_event event = { .task = (enum bootstrap_task)task,
                                         .ticket = w.b.tasks[task].ticket + 1 };
        fill_result(&w, &event);
        step(&w, &event);
        assert_memory_equal(&before, &w.b, sizeof(before));
        assert_true(bootstrap_hash_is_zero(&w.pending));
    }
}

static void test_a_secret_generated_too_late_is_discarded(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    tick(&w, 0);
    finish(&w, BOOTSTRAP_IDENTITY);
    finish(&w, BOOTSTRAP_MEMBERSHIP);
    finish(&w, BOOTSTRAP_HASH);
    assert_state(&w, BOOTSTRAP_GENERATING);
    w.hashes.latest = hash_of(9);
    w.now_ms += TICK_MS;
    tick(&w, 0);
    finish(&w, BOOTSTRAP_HASH);
    finish(&w, BOOTSTRAP_GENERATE);
    assert_true(bootstrap_hash_is_zero(&w.held));
    assert_true(bootstrap_hash_is_zero(&w.pending));
}

static void test_retries_back_off_and_are_bounded(void **state) {
    (void)state;
    struct world w;
    world_init(&w, hash_of(0));
    w.failures[BOOTSTRAP_IDENTITY] = "Odyn does not answer";
    settle(&w, 600000);
    assert_state(&w, BOOTSTRAP_NO_IDENTITY);
    assert_reason(&w, "Odyn does not answer");
    /* 1, 2, 4, 8, 16 s and then 30 s each, less a quarter at most. */
    assert_in_range(w.started[BOOTSTRAP_IDENTITY], 15, 40);
}

static void test_configuration_is_checked(void **state) {
    (void)state;
    const struct bootstrap_cfg good = { .tick_ms = 1,
                                        .cache_ttl_ms = 1,
                                        .poll_ms = 1,
                                        .retry_min_ms = 1,
                                        .retry_max_ms = 1,
                                        .tx_stuck_ms = 1 };
    struct bootstrap b;
    assert_ok(bootstrap_init(&b, &good));
    for (int i = 0; i < 6; i++) {
        struct bootstrap_cfg bad = good;
        uint32_t *const fields[] = { &bad.tick_ms,      &bad.cache_ttl_ms, &bad.poll_ms,
                                     &bad.retry_min_ms, &bad.retry_max_ms, &bad.tx_stuck_ms };
        *fields[i] = 0;
        assert_err(bootstrap_init(&b, &bad), BAD_CONFIG);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_node_generates_submits_and_serves),
        cmocka_unit_test(test_node_with_the_right_secret_serves),
        cmocka_unit_test(test_node_with_a_wrong_secret_fetches),
        cmocka_unit_test(test_a_fetched_secret_with_another_hash_is_discarded),
        cmocka_unit_test(test_losing_the_race_fetches_the_winner),
        cmocka_unit_test(test_generates_only_when_no_member_holds_a_secret),
        cmocka_unit_test(test_the_winner_waits_until_another_member_holds_it),
        cmocka_unit_test(test_a_zero_hash_never_erases),
        cmocka_unit_test(test_a_negative_answer_acts_at_once),
        cmocka_unit_test(test_answers_run_out),
        cmocka_unit_test(test_answers_of_a_frozen_chain_run_out),
        cmocka_unit_test(test_old_answers_take_nothing_back),
        cmocka_unit_test(test_answers_from_the_future_are_not_believed),
        cmocka_unit_test(test_another_wallet_starts_over),
        cmocka_unit_test(test_an_oversized_key_is_no_identity),
        cmocka_unit_test(test_a_stuck_transaction_is_sent_dearer),
        cmocka_unit_test(test_a_forgotten_transaction_is_sent_again),
        cmocka_unit_test(test_a_wallet_without_funds_says_so),
        cmocka_unit_test(test_a_rolled_back_block_submits_again),
        cmocka_unit_test(test_stale_answers_change_nothing),
        cmocka_unit_test(test_a_secret_generated_too_late_is_discarded),
        cmocka_unit_test(test_retries_back_off_and_are_bounded),
        cmocka_unit_test(test_configuration_is_checked),
    };
    return cmocka_run_group_tests_name("bootstrap", tests, NULL, NULL);
}
