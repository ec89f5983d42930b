/* SPDX-License-Identifier: Apache-2.0 */
/* A node that becomes ready, and the world it asks. */
#pragma once

#include "bootstrap/bootstrap.h"
#include "test.h"

#define TTL_MS 180000
#define TICK_MS 60000
#define POLL_MS 2000
#define STUCK_MS 60000

static const uint8_t pubkey[] = { 0x30, 0x76, 1, 2, 3 };
static const uint8_t other_pubkey[] = { 0x30, 0x76, 9, 9, 9 };

static inline struct bootstrap_hash hash_of(uint8_t n) {
    struct bootstrap_hash hash = { .bytes = { n } };
    return hash;
}

static inline struct wallet wallet_of(uint8_t n) {
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

static inline void world_init(struct world *w, struct bootstrap_hash held) {
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

static inline void take_actions(struct world *w) {
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

static inline void step(struct world *w, struct bootstrap_event *event) {
    event->now_ms = w->now_ms;
    bootstrap_step(&w->b, event, &w->out);
    take_actions(w);
}

static inline void tick(struct world *w, uint64_t span_ms) {
    w->now_ms += span_ms;
    struct bootstrap_event event = { .is_tick = true };
    step(w, &event);
}

static inline void fill_result(struct world *w, struct bootstrap_event *event) {
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
