/* SPDX-License-Identifier: Apache-2.0 */
/* What is missing first, and what is done about it. */
#include <stdio.h>

#include "bootstrap/internal.h"

static enum bootstrap_state without_hash(const struct bootstrap *b) {
    if (!bootstrap_hash_is_zero(&b->hashes.latest)) {
        return BOOTSTRAP_WAITING;
    }
    if (!bootstrap_hash_is_zero(&b->held)) {
        return BOOTSTRAP_SUBMITTING;
    }
    if (b->other_count == 0) {
        return BOOTSTRAP_GENERATING;
    }
    if (!b->has_peers) {
        return BOOTSTRAP_ASKING;
    }
    return b->peers.holder_count > 0 ? BOOTSTRAP_WAITING : BOOTSTRAP_GENERATING;
}

static enum bootstrap_state find_state(const struct bootstrap *b) {
    if (!b->has_identity) {
        return BOOTSTRAP_NO_IDENTITY;
    }
    if (!facts_are_fresh(b, b->has_membership, b->membership_as_of_ms)) {
        return BOOTSTRAP_NO_MEMBERSHIP;
    }
    if (!b->is_member) {
        return BOOTSTRAP_NOT_MEMBER;
    }
    if (!facts_are_fresh(b, b->has_hashes, b->hashes.as_of_mono_ms)) {
        return BOOTSTRAP_NO_HASH;
    }
    if (bootstrap_hash_is_zero(&b->hashes.confirmed)) {
        return without_hash(b);
    }
    if (!bootstrap_hash_equal(&b->held, &b->hashes.confirmed)) {
        return BOOTSTRAP_FETCHING;
    }
    if (b->is_own && b->other_count > 0) {
        return BOOTSTRAP_SPREADING;
    }
    return b->is_synced ? BOOTSTRAP_SERVING : BOOTSTRAP_SYNCING;
}

/* ---- Actions ---- */

/* Starts the task if it is due and not under way. */
static void start(struct bootstrap *b, struct bootstrap_action action,
                  struct bootstrap_actions *out) {
    struct bootstrap_schedule *task = &b->tasks[action.task];
    if (task->is_running || b->now_ms < task->next_at_ms) {
        return;
    }
    task->is_running = true;
    task->ticket++;
    action.kind = BOOTSTRAP_START;
    action.ticket = task->ticket;
    ASSERT(out->count < BOOTSTRAP_ACTION_COUNT_MAX);
    out->at[out->count++] = action;
}

/* The same, again poll_ms after each success. */
static void poll(struct bootstrap *b, struct bootstrap_action action,
                 struct bootstrap_actions *out) {
    struct bootstrap_schedule *task = &b->tasks[action.task];
    uint64_t soon_ms = b->now_ms + b->cfg.poll_ms;
    if (task->failure_count == 0 && task->next_at_ms > soon_ms) {
        task->next_at_ms = soon_ms;
    }
    start(b, action, out);
}

static void submit(struct bootstrap *b, struct bootstrap_actions *out) {
    struct bootstrap_action send = { .task = BOOTSTRAP_SEND_TX,
                                     .hash = b->held,
                                     .is_resend = b->has_tx && b->is_tx_lost,
                                     .is_dearer = b->has_tx && b->is_tx_stuck && !b->is_tx_lost };
    poll(b, (struct bootstrap_action){ .task = BOOTSTRAP_HASH }, out);
    if (b->is_hash_doubtful) {
        return;
    }
    if (!b->has_tx || send.is_resend || send.is_dearer) {
        task_hasten(b, BOOTSTRAP_SEND_TX);
        start(b, send, out);
        return;
    }
    poll(b, (struct bootstrap_action){ .task = BOOTSTRAP_CHECK_TX }, out);
}

static void act(struct bootstrap *b, struct bootstrap_actions *out) {
    const struct bootstrap_action hash = { .task = BOOTSTRAP_HASH };
    const struct bootstrap_action peers = { .task = BOOTSTRAP_PEERS, .hash = b->held };
    switch (b->state) {
    case BOOTSTRAP_NOT_MEMBER:
        poll(b, (struct bootstrap_action){ .task = BOOTSTRAP_MEMBERSHIP }, out);
        break;
    case BOOTSTRAP_ASKING:
        start(b, peers, out);
        break;
    case BOOTSTRAP_WAITING:
        poll(b, hash, out);
        if (b->other_count > 0) {
            poll(b, peers, out);
        }
        break;
    case BOOTSTRAP_GENERATING:
        if (b->other_count > 0) {
            poll(b, peers, out);
        }
        task_hasten(b, BOOTSTRAP_GENERATE);
        start(b, (struct bootstrap_action){ .task = BOOTSTRAP_GENERATE }, out);
        break;
    case BOOTSTRAP_SUBMITTING:
        submit(b, out);
        break;
    case BOOTSTRAP_FETCHING:
        task_hasten(b, BOOTSTRAP_FETCH);
        start(b, (struct bootstrap_action){ .task = BOOTSTRAP_FETCH, .hash = b->hashes.confirmed },
              out);
        break;
    case BOOTSTRAP_SPREADING:
        poll(b, peers, out);
        break;
    case BOOTSTRAP_SYNCING:
        task_hasten(b, BOOTSTRAP_SNAPSHOT);
        start(b, (struct bootstrap_action){ .task = BOOTSTRAP_SNAPSHOT }, out);
        break;
    case BOOTSTRAP_NO_IDENTITY:
    case BOOTSTRAP_NO_MEMBERSHIP:
    case BOOTSTRAP_NO_HASH:
    case BOOTSTRAP_SERVING:
    case BOOTSTRAP_STATE_COUNT:
        break;
    }
}

/* ---- The reason ---- */

/* The task whose last failure explains the state; BOOTSTRAP_TASK_COUNT: none. */
static enum bootstrap_task explains(enum bootstrap_state state) {
    switch (state) {
    case BOOTSTRAP_NO_IDENTITY:
        return BOOTSTRAP_IDENTITY;
    case BOOTSTRAP_NO_MEMBERSHIP:
        return BOOTSTRAP_MEMBERSHIP;
    case BOOTSTRAP_NO_HASH:
    case BOOTSTRAP_WAITING:
        return BOOTSTRAP_HASH;
    case BOOTSTRAP_ASKING:
    case BOOTSTRAP_SPREADING:
        return BOOTSTRAP_PEERS;
    case BOOTSTRAP_GENERATING:
        return BOOTSTRAP_GENERATE;
    case BOOTSTRAP_SUBMITTING:
        return BOOTSTRAP_SEND_TX;
    case BOOTSTRAP_FETCHING:
        return BOOTSTRAP_FETCH;
    case BOOTSTRAP_SYNCING:
        return BOOTSTRAP_SNAPSHOT;
    case BOOTSTRAP_NOT_MEMBER:
    case BOOTSTRAP_SERVING:
    case BOOTSTRAP_STATE_COUNT:
        break;
    }
    return BOOTSTRAP_TASK_COUNT;
}

static const char *text_of(const struct bootstrap *b) {
    static const char *const texts[BOOTSTRAP_STATE_COUNT] = {
        [BOOTSTRAP_NO_IDENTITY] = "waiting for the enclave's wallet and key from Odyn",
        [BOOTSTRAP_NO_MEMBERSHIP] = "the node's membership is not known",
        [BOOTSTRAP_NOT_MEMBER] = "the node is not a member",
        [BOOTSTRAP_NO_HASH] = "the master secret's hash on chain is not known",
        [BOOTSTRAP_ASKING] = "asking the other members whether one holds a master secret",
        [BOOTSTRAP_WAITING] = "waiting for a master secret's hash to be confirmed on chain",
        [BOOTSTRAP_GENERATING] = "generating the master secret",
        [BOOTSTRAP_SUBMITTING] = "setting the master secret's hash on chain",
        [BOOTSTRAP_FETCHING] = "fetching the master secret with the hash on chain from a peer",
        [BOOTSTRAP_SPREADING] = "waiting until another member holds the new master secret",
        [BOOTSTRAP_SYNCING] = "fetching the data of the other members",
        [BOOTSTRAP_SERVING] = "",
    };
    if (b->state == BOOTSTRAP_WAITING && bootstrap_hash_is_zero(&b->hashes.latest)) {
        return "waiting for the member that holds a master secret to set its hash on chain";
    }
    ASSERT(b->state < BOOTSTRAP_STATE_COUNT);
    return texts[b->state];
}

static void say(struct bootstrap *b) {
    enum bootstrap_task task = explains(b->state);
    const char *more = b->state == BOOTSTRAP_NOT_MEMBER ? b->verdict
                       : task < BOOTSTRAP_TASK_COUNT    ? b->tasks[task].failure
                                                        : "";
    /* Each half has its bound, so the end of a long failure is what is left out. */
    (void)snprintf(b->reason, sizeof(b->reason), "%.80s%s%.110s", text_of(b),
                   more[0] == '\0' ? "" : ": ", more);
}

void goal_pursue(struct bootstrap *b, struct bootstrap_actions *out) {
    start(b, (struct bootstrap_action){ .task = BOOTSTRAP_IDENTITY }, out);
    if (b->has_identity) {
        start(b, (struct bootstrap_action){ .task = BOOTSTRAP_MEMBERSHIP }, out);
    }
    start(b, (struct bootstrap_action){ .task = BOOTSTRAP_HASH }, out);
    b->state = find_state(b);
    act(b, out);
    say(b);
}
