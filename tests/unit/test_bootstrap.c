/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "bootstrap/bootstrap.h"
#include "test.h"

#define TTL_MS 180000
#define TICK_MS 60000
#define POLL_MS 2000
#define STUCK_MS 60000

static const uint8_t pubkey[] = { 0x30, 0x76, 1, 2, 3 };
static const uint8_t other_pubkey[] = { 0x30, 0x76, 9, 9, 9 };

static struct bootstrap_hash hash_of(uint8_t n) {
    struct bootstrap_hash hash = { .bytes = { n } };
    return hash;
}

static struct wallet wallet_of(uint8_t n) {
    struct wallet wallet = { .bytes = { n } };
    return wallet;
}

/* A node and the world it asks. Tests change the world and let tasks end. */
struct world {
    struct bootstrap b;
    struct bootstrap_actions out;
    uint64_t now_ms;
    struct wallet wallet;
    struct bootstrap_membership membership;
    struct bootstrap_hashes hashes;
    struct bootstrap_peers peers;
    struct bootstrap_hash generated;
    struct bootstrap_hash fetchable;
    enum bootstrap_tx tx;
    const char *failures[BOOTSTRAP_TASK_COUNT];
    /* What the driver holds, by ADOPT and DISCARD. */
    struct bootstrap_hash pending;
    struct bootstrap_hash held;
    unsigned adopted_count;
    unsigned started[BOOTSTRAP_TASK_COUNT];
    struct bootstrap_action last[BOOTSTRAP_TASK_COUNT];
};

static void world_init(struct world *w, struct bootstrap_hash held) {
    memset(w, 0, sizeof(*w));
    const struct bootstrap_cfg cfg = { .tick_ms = TICK_MS,
                                       .cache_ttl_ms = TTL_MS,
                                       .poll_ms = POLL_MS,
                                       .retry_min_ms = 1000,
                                       .retry_max_ms = 30000,
                                       .tx_stuck_ms = STUCK_MS,
                                       .held = held };
    assert_ok(bootstrap_init(&w->b, &cfg));
    w->now_ms = 1000000;
    w->wallet = wallet_of(1);
    w->membership = (struct bootstrap_membership){ .is_permitted = true,
                                                   .wallet = wallet_of(1),
                                                   .tee_pubkey = { pubkey, sizeof(pubkey) },
                                                   .is_same_url = true };
    w->generated = hash_of(7);
    w->held = held;
    w->tx = BOOTSTRAP_TX_SENT;
}

static void take_actions(struct world *w) {
    for (size_t i = 0; i < w->out.count; i++) {
        const struct bootstrap_action *action = &w->out.at[i];
        switch (action->kind) {
        case BOOTSTRAP_START:
            w->started[action->task]++;
            w->last[action->task] = *action;
            break;
        case BOOTSTRAP_ADOPT:
            assert_false(bootstrap_hash_is_zero(&w->pending));
            w->held = w->pending;
            w->pending = hash_of(0);
            w->adopted_count++;
            break;
        case BOOTSTRAP_DISCARD:
            w->pending = hash_of(0);
            break;
        }
    }
    assert_true(bootstrap_hash_equal(&w->held, &w->b.held));
}

static void step(struct world *w, struct bootstrap_event *event) {
    event->now_ms = w->now_ms;
    bootstrap_step(&w->b, event, &w->out);
    take_actions(w);
}

static void tick(struct world *w, uint64_t span_ms) {
    w->now_ms += span_ms;
    struct bootstrap_event event = { .is_tick = true };
    step(w, &event);
}

static void fill_result(struct world *w, struct bootstrap_event *event) {
    switch (event->task) {
    case BOOTSTRAP_IDENTITY:
        event->result.identity =
            (struct bootstrap_identity){ .wallet = w->wallet,
                                         .tee_pubkey = { pubkey, sizeof(pubkey) } };
        break;
    case BOOTSTRAP_MEMBERSHIP:
        event->result.membership = w->membership;
        event->result.membership.as_of_mono_ms += w->now_ms;
        break;
    case BOOTSTRAP_HASH:
        event->result.hashes = w->hashes;
        event->result.hashes.as_of_mono_ms += w->now_ms;
        break;
    case BOOTSTRAP_PEERS:
        event->result.peers = w->peers;
        break;
    case BOOTSTRAP_GENERATE:
        event->result.secret_hash = w->generated;
        w->pending = w->generated;
        break;
    case BOOTSTRAP_FETCH:
        event->result.secret_hash = w->fetchable;
        w->pending = w->fetchable;
        break;
    case BOOTSTRAP_SEND_TX:
        event->result.tx = BOOTSTRAP_TX_SENT;
        break;
    case BOOTSTRAP_CHECK_TX:
        event->result.tx = w->tx;
        break;
    case BOOTSTRAP_SNAPSHOT:
    case BOOTSTRAP_TASK_COUNT:
        break;
    }
}

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

/* ---- A random walk: answers that are old, lying, late, missing or zero again ---- */

#define WALK_STEPS 4000
#define WALK_SEEDS 300

static uint64_t walk_state;
static uint64_t walk_seed; /* Of the walk that runs. */

static uint32_t draw(uint32_t below) {
    walk_state += 0x9e3779b97f4a7c15;
    uint64_t x = walk_state;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (uint32_t)((x ^ x >> 31) % below);
}

/* What the node was last told that it should believe: its own bookkeeping, kept by the test. */
struct told {
    bool has_membership;
    bool is_good;
    uint64_t membership_as_of_ms;
    bool has_hashes;
    struct bootstrap_hash confirmed;
    uint64_t hashes_as_of_ms;
};

static void shake_world(struct world *w) {
    w->wallet = wallet_of(draw(50) == 0 ? 2 : 1);
    w->membership.is_permitted = draw(8) != 0;
    w->membership.verdict = "instance is STOPPED";
    w->membership.wallet = wallet_of(draw(20) == 0 ? 2 : 1);
    w->membership.tee_pubkey.ptr = draw(20) == 0 ? other_pubkey : pubkey;
    w->membership.is_same_url = draw(20) != 0;
    w->membership.other_count = draw(3);
    w->membership.as_of_mono_ms = (uint64_t)0 - draw(4) * draw(2) * 70000;
    w->hashes.confirmed = hash_of((uint8_t)draw(3));
    w->hashes.latest = draw(2) == 0 ? w->hashes.confirmed : hash_of((uint8_t)draw(3));
    w->hashes.as_of_mono_ms = (uint64_t)0 - draw(4) * draw(2) * 70000;
    w->peers = (struct bootstrap_peers){ .reached_count = draw(3),
                                         .holder_count = draw(2),
                                         .same_count = draw(2) };
    w->generated = hash_of((uint8_t)(1 + draw(2)));
    w->fetchable = draw(3) == 0 ? hash_of((uint8_t)draw(3)) : w->hashes.confirmed;
    w->tx = (enum bootstrap_tx)(BOOTSTRAP_TX_PENDING + draw(4));
}

static void note_told(struct told *told, const struct world *w,
                      const struct bootstrap_event *event) {
    if (event->reason != NULL) {
        return;
    }
    if (event->task == BOOTSTRAP_IDENTITY &&
        !wallet_equal(&event->result.identity.wallet, &w->b.wallet)) {
        told->has_membership = false;
    }
    const struct bootstrap_membership *m = &event->result.membership;
    if (event->task == BOOTSTRAP_MEMBERSHIP &&
        (!told->has_membership || m->as_of_mono_ms >= told->membership_as_of_ms)) {
        told->has_membership = true;
        told->membership_as_of_ms = m->as_of_mono_ms;
        told->is_good = m->is_permitted && m->is_same_url && m->tee_pubkey.ptr == pubkey &&
                        wallet_equal(&m->wallet, &w->b.wallet);
    }
    const struct bootstrap_hashes *h = &event->result.hashes;
    if (event->task == BOOTSTRAP_HASH &&
        (!told->has_hashes || h->as_of_mono_ms >= told->hashes_as_of_ms)) {
        told->has_hashes = true;
        told->hashes_as_of_ms = h->as_of_mono_ms;
        told->confirmed = h->confirmed;
    }
}

static void check_walk(const struct world *w, const struct told *told,
                       const struct bootstrap_hash *held_before) {
    if (!bootstrap_hash_equal(held_before, &w->held)) {
        assert_false(bootstrap_hash_is_zero(&w->held));
        if (!bootstrap_hash_is_zero(held_before)) {
            assert_true(bootstrap_hash_equal(&w->held, &told->confirmed));
            assert_true(w->now_ms - told->hashes_as_of_ms <= TTL_MS);
        }
    }
    if (bootstrap_is_serving(&w->b)) {
        assert_true(told->has_membership);
        assert_true(told->is_good);
        assert_true(w->now_ms - told->membership_as_of_ms <= TTL_MS);
        assert_true(w->now_ms - told->hashes_as_of_ms <= TTL_MS);
        assert_false(bootstrap_hash_is_zero(&told->confirmed));
        assert_true(bootstrap_hash_equal(&w->held, &told->confirmed));
    }
}

static void end_some_task(struct world *w, struct told *told) {
    enum bootstrap_task task = (enum bootstrap_task)draw(BOOTSTRAP_TASK_COUNT);
    bool is_stray = draw(20) == 0;
    if (!w->b.tasks[task].is_running && !is_stray) {
        return;
    }
    struct bootstrap_event event = { .task = task,
                                     .random = draw(1000000),
                                     .ticket = w->b.tasks[task].ticket - (is_stray ? 1 : 0),
                                     .reason = draw(6) == 0 ? "it failed" : NULL };
    if (event.reason == NULL) {
        fill_result(w, &event);
    }
    if (!is_stray) {
        note_told(told, w, &event);
    }
    step(w, &event);
}

static bool walk(uint64_t seed, unsigned visits[BOOTSTRAP_STATE_COUNT]) {
    struct world w;
    struct told told = { 0 };
    bool served = false;
    walk_state = seed;
    world_init(&w, hash_of((uint8_t)(draw(2) * draw(3))));
    for (int i = 0; i < WALK_STEPS; i++) {
        struct bootstrap_hash held_before = w.held;
        if (draw(6) == 0) {
            shake_world(&w);
        }
        if (draw(4) == 0) {
            tick(&w, draw(10) == 0 ? draw(100000) : draw(3000));
        } else {
            end_some_task(&w, &told);
        }
        check_walk(&w, &told, &held_before);
        visits[w.b.state]++;
        served = served || bootstrap_is_serving(&w.b);
    }
    return served;
}

static void test_random_walk(void **state) {
    (void)state;
    unsigned visits[BOOTSTRAP_STATE_COUNT] = { 0 };
    unsigned served = 0;
    for (uint64_t seed = 1; seed <= WALK_SEEDS; seed++) {
        walk_seed = seed;
        served += walk(seed, visits) ? 1 : 0;
    }
    walk_seed = 0;
    for (size_t i = 0; i < BOOTSTRAP_STATE_COUNT; i++) {
        if (visits[i] == 0) {
            fail_msg("no walk came to %s", bootstrap_state_name((enum bootstrap_state)i));
        }
    }
    assert_true(served > WALK_SEEDS / 2);
}

static int say_seed(void **state) {
    (void)state;
    if (walk_seed != 0) {
        print_message("the walk of seed %lu failed\n", (unsigned long)walk_seed);
    }
    return 0;
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
        cmocka_unit_test_teardown(test_random_walk, say_seed),
    };
    return cmocka_run_group_tests_name("bootstrap", tests, NULL, NULL);
}
