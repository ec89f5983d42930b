/* SPDX-License-Identifier: Apache-2.0 */
/* A random walk over answers that are old, lying, late, missing, or zero again: the node never
 * serves without what it must have, and never loses a secret it should keep. BOOTSTRAP_SEED=n in
 * the environment walks that seed alone. */
#include "bootstrap_world.h"
#include "seeded.h"

#define WALK_STEPS 4000
#define WALK_SEEDS 300

/* Over all walks. */
static unsigned visits[BOOTSTRAP_STATE_COUNT];
static unsigned served_count;

static uint32_t draw(uint32_t n) {
    return (uint32_t)below(n);
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

static void walk(void) {
    struct world w;
    struct told told = { 0 };
    bool served = false;
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
    served_count += served ? 1 : 0;
}

static void test_random_walk(void **state) {
    (void)state;
    run_seeds("BOOTSTRAP_SEED", WALK_SEEDS, walk);
    seed = 0;
    if (getenv("BOOTSTRAP_SEED") != NULL) {
        return;
    }
    for (size_t i = 0; i < BOOTSTRAP_STATE_COUNT; i++) {
        if (visits[i] == 0) {
            fail_msg("no walk came to %s", bootstrap_state_name((enum bootstrap_state)i));
        }
    }
    assert_true(served_count > WALK_SEEDS / 2);
}

static int say_seed(void **state) {
    (void)state;
    if (seed != 0) {
        print_message("the walk of seed %lu failed\n", (unsigned long)seed);
    }
    return 0;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_random_walk, say_seed),
    };
    return cmocka_run_group_tests_name("bootstrap_walk", tests, NULL, NULL);
}
