/* SPDX-License-Identifier: Apache-2.0 */
/* What bootstrap asks for, and what a node makes of its decisions; node/driver.c and node/duties.c
 * in a process. */
#include "sim.h"

#define SNAPSHOT_MS 10000

static uint64_t as_of_ms(const struct world *w, const struct machine *m, uint64_t block) {
    uint64_t age_ms = w->now_ms - w->chain.times_ms[block];
    uint64_t mono_ms = node_mono_ms(w, m);
    return mono_ms > age_ms ? mono_ms - age_ms : 0;
}

/* ---- Tasks ---- */

static bool is_chain_task(enum bootstrap_task task) {
    return task == BOOTSTRAP_MEMBERSHIP || task == BOOTSTRAP_HASH || task == BOOTSTRAP_SEND_TX ||
           task == BOOTSTRAP_CHECK_TX;
}

static void start_task(struct world *w, struct machine *m, const struct bootstrap_action *action) {
    if (action->task == BOOTSTRAP_SNAPSHOT) {
        m->has_snapshot_task = true;
        m->snapshot_ticket = action->ticket;
        m->snapshot_until_ms = w->now_ms + SNAPSHOT_MS;
        return;
    }
    uint32_t slot = 0;
    while (slot < TASK_SLOT_COUNT && m->tasks[slot].is_running) {
        slot++;
    }
    ASSERT(slot < TASK_SLOT_COUNT);
    struct task_slot *task = &m->tasks[slot];
    *task = (struct task_slot){ .is_running = true,
                                .task = action->task,
                                .ticket = action->ticket,
                                .serial = ++m->task_serial,
                                .action = *action,
                                .block = is_chain_task(action->task) ? chain_seen_by(w, m) : 0 };
    uint64_t span_ms = 5 + rng_below(&w->rng, 80);
    if (!w->is_healed && rng_once_in(&w->rng, 60)) {
        span_ms = 1000 + rng_below(&w->rng, 12000);
        world_count(w, TALLY_FAULT_TASK_SLOW);
    }
    /* The slot's serial number tells a task of this boot from one that had the slot before. */
    world_after(w, span_ms,
                (struct event){ .kind = EVENT_TASK,
                                .boot = m->boot,
                                .a = m->idx,
                                .b = task->serial * TASK_SLOT_COUNT + slot });
}

static void fill_identity(const struct machine *m, struct bootstrap_event *event) {
    event->result.identity =
        (struct bootstrap_identity){ m->wallet, { m->tee_pubkey, sizeof(m->tee_pubkey) } };
}

static uint32_t count_others(const struct world *w, const struct machine *m,
                             const struct chain_state *state) {
    uint32_t machines = 0;
    for (size_t i = 0; i < w->chain.entry_count; i++) {
        if ((state->members >> i & 1) != 0) {
            machines |= UINT32_C(1) << w->chain.entries[i].machine;
        }
    }
    machines &= ~(UINT32_C(1) << m->idx);
    return (uint32_t)__builtin_popcount(machines);
}

static void fill_membership(struct world *w, struct machine *m, uint64_t block,
                            struct bootstrap_event *event) {
    struct chain_state state;
    chain_read(&w->chain, block, &state);
    struct auth_facts facts = { 0 };
    int entry = chain_find(w, &state, &m->wallet);
    if (entry >= 0) {
        facts.found = true;
        facts.instance.id = w->chain.entries[entry].id;
        facts.instance.app_id = KMS_APP_ID;
        facts.instance.zk_verified = true;
    }
    enum auth_verdict verdict = auth_judge(&facts, AUTH_PEER, KMS_APP_ID);
    event->result.membership = (struct bootstrap_membership){
        .is_permitted = verdict == AUTH_VERDICT_PERMITTED,
        .verdict = auth_verdict_text(verdict),
        .wallet = m->wallet,
        .tee_pubkey = { m->tee_pubkey, sizeof(m->tee_pubkey) },
        .is_same_url = true,
        .other_count = count_others(w, m, &state),
        .as_of_mono_ms = as_of_ms(w, m, block),
    };
    if (event->result.membership.as_of_mono_ms >= m->members_as_of_ms) {
        m->members_as_of_ms = event->result.membership.as_of_mono_ms;
        node_set_members(w, m, &state);
    }
}

static void fill_hashes(struct world *w, struct machine *m, uint64_t block,
                        struct bootstrap_event *event) {
    struct chain_state latest;
    struct chain_state confirmed;
    chain_read(&w->chain, block, &latest);
    chain_read(&w->chain, block - CONFIRMATIONS, &confirmed);
    event->result.hashes = (struct bootstrap_hashes){ .confirmed = confirmed.hash,
                                                      .latest = latest.hash,
                                                      .as_of_mono_ms = as_of_ms(w, m, block) };
    replica_set_head(m->replica, block);
}

/* The machines of the members that this node sees, but itself. */
static uint32_t see_members(struct world *w, struct machine *m) {
    uint64_t block = chain_seen_by(w, m);
    struct chain_state state;
    uint32_t machines = 0;
    chain_read(&w->chain, block, &state);
    for (size_t i = 0; i < w->chain.entry_count; i++) {
        const struct chain_entry *entry = &w->chain.entries[i];
        /* A process with another wallet than the registered one fails the handshake. */
        if ((state.members >> i & 1) != 0 &&
            wallet_equal(&entry->wallet, &w->machines[entry->machine].wallet)) {
            machines |= UINT32_C(1) << entry->machine;
        }
    }
    return machines & ~(UINT32_C(1) << m->idx);
}

static void fill_peers(struct world *w, struct machine *m, const struct bootstrap_hash *held,
                       struct bootstrap_event *event) {
    uint32_t machines = see_members(w, m);
    struct bootstrap_peers *peers = &event->result.peers;
    *peers = (struct bootstrap_peers){ 0 };
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *other = &w->machines[i];
        if ((machines >> i & 1) != 0 && net_is_reachable(w, m, other)) {
            peers->reached_count++;
            peers->holder_count += other->secret != 0 ? 1 : 0;
            peers->same_count +=
                other->secret != 0 && bootstrap_hash_equal(&w->secret_hashes[other->secret], held)
                    ? 1
                    : 0;
        }
    }
}

static uint32_t make_secret(struct world *w) {
    ASSERT(w->secret_count + 1 < SECRET_COUNT_MAX);
    uint32_t secret = ++w->secret_count;
    rng_fill(&w->rng, w->secret_hashes[secret].bytes, BOOTSTRAP_HASH_BYTES);
    w->secret_hashes[secret].bytes[0] |= 1;
    return secret;
}

/* As a node does: to a member by an uncached read, at the head and confirmed. */
static bool would_give(struct world *w, struct machine *other, const struct machine *m) {
    uint64_t block = chain_seen_by(w, other);
    if (block <= CONFIRMATIONS) {
        return false;
    }
    struct chain_state head;
    struct chain_state confirmed;
    chain_read(&w->chain, block, &head);
    chain_read(&w->chain, block - CONFIRMATIONS, &confirmed);
    return chain_find(w, &head, &m->wallet) >= 0 && chain_find(w, &confirmed, &m->wallet) >= 0;
}

/* Asks one after the other; a wrong secret costs time only. Returns why it failed. */
static const char *fetch(struct world *w, struct machine *m, const struct bootstrap_hash *wanted) {
    uint32_t machines = see_members(w, m);
    uint32_t first = rng_below(&w->rng, (uint32_t)w->machine_count);
    for (size_t n = 0; n < w->machine_count; n++) {
        size_t i = (first + n) % w->machine_count;
        struct machine *other = &w->machines[i];
        if ((machines >> i & 1) == 0 || !net_is_reachable(w, m, other) || other->secret == 0 ||
            !would_give(w, other, m)) {
            continue;
        }
        if (other->is_hostile && rng_once_in(&w->rng, 2)) {
            world_count(w, TALLY_LIE_SECRET);
            continue; /* Its hash is not the wanted one. */
        }
        if (bootstrap_hash_equal(&w->secret_hashes[other->secret], wanted)) {
            const struct replica_now now = node_now(w, other);
            replica_note_shared(other->replica, &now);
            m->pending_secret = other->secret;
            return NULL;
        }
    }
    return "no member that could be reached gave it";
}

static const char *send_tx(struct world *w, struct machine *m,
                           const struct bootstrap_action *action) {
    if (action->is_resend && m->tx > 0) {
        w->chain.txs[m->tx - 1].is_lost = false;
    } else if (!action->is_dearer) {
        m->tx = 1 + chain_send(w, &m->wallet, &action->hash);
    }
    TRACE(w, "n%u sends its hash %02x%02x", m->idx, action->hash.bytes[0], action->hash.bytes[1]);
    return NULL;
}

static void count_tx(struct world *w, enum bootstrap_tx tx) {
    if (tx == BOOTSTRAP_TX_MINED || tx == BOOTSTRAP_TX_REVERTED) {
        world_count(w, tx == BOOTSTRAP_TX_MINED ? TALLY_TX_MINED : TALLY_TX_REVERTED);
    }
}

/* Fills the event of the task's end. */
static void end_task(struct world *w, struct machine *m, struct task_slot *task,
                     struct bootstrap_event *event) {
    uint64_t block = task->block < w->chain.head ? task->block : w->chain.head;
    if (is_chain_task(task->task) && block == 0) {
        event->reason = "the chain cannot be read";
        return;
    }
    switch (task->task) {
    case BOOTSTRAP_IDENTITY:
        fill_identity(m, event);
        break;
    case BOOTSTRAP_MEMBERSHIP:
        fill_membership(w, m, block, event);
        break;
    case BOOTSTRAP_HASH:
        fill_hashes(w, m, block, event);
        break;
    case BOOTSTRAP_PEERS:
        fill_peers(w, m, &task->action.hash, event);
        break;
    case BOOTSTRAP_GENERATE:
        m->pending_secret = make_secret(w);
        event->result.secret_hash = w->secret_hashes[m->pending_secret];
        world_count(w, TALLY_SECRET_GENERATED);
        break;
    case BOOTSTRAP_SEND_TX:
        event->reason = send_tx(w, m, &task->action);
        event->result.tx = BOOTSTRAP_TX_SENT;
        break;
    case BOOTSTRAP_CHECK_TX:
        event->result.tx = m->tx == 0 ? BOOTSTRAP_TX_UNKNOWN : chain_ask_tx(w, m->tx - 1);
        count_tx(w, event->result.tx);
        break;
    case BOOTSTRAP_FETCH:
        event->reason = fetch(w, m, &task->action.hash);
        if (event->reason == NULL) {
            event->result.secret_hash = w->secret_hashes[m->pending_secret];
        }
        break;
    case BOOTSTRAP_SNAPSHOT:
    case BOOTSTRAP_TASK_COUNT:
        break;
    }
}

/* ---- Decisions ---- */

static void adopt(struct world *w, struct machine *m, bool is_generated) {
    const struct bootstrap_hash *hash = &w->secret_hashes[m->pending_secret];
    ASSERT(m->pending_secret != 0);
    if (m->secret != 0) {
        world_count(w, TALLY_SECRET_REPLACED);
        if (!chain_was_confirmed(w, hash, w->now_ms - CACHE_TTL_MS - 2000)) {
            world_fail(w, "n%u: gives up its secret for one that the chain does not have", m->idx);
        }
        node_drop_state(w, m);
    }
    TRACE(w, "n%u holds secret %u%s", m->idx, m->pending_secret,
          is_generated ? ", which it made" : "");
    world_count(w, is_generated ? TALLY_SECRET_GENERATED : TALLY_SECRET_FETCHED);
    m->secret = m->pending_secret;
    m->pending_secret = 0;
    replica_set_secret(m->replica, hash->bytes, is_generated);
    m->was_in_service = false;
}

static void perform(struct world *w, struct machine *m, const struct bootstrap_event *event,
                    const struct bootstrap_actions *actions) {
    for (size_t i = 0; i < actions->count; i++) {
        switch (actions->at[i].kind) {
        case BOOTSTRAP_START:
            start_task(w, m, &actions->at[i]);
            break;
        case BOOTSTRAP_ADOPT:
            adopt(w, m, event->task == BOOTSTRAP_GENERATE);
            break;
        case BOOTSTRAP_DISCARD:
            m->pending_secret = 0;
            world_count(w, TALLY_SECRET_DISCARDED);
            break;
        }
    }
}

void duty_step(struct world *w, struct machine *m, const struct bootstrap_event *event) {
    struct bootstrap_event e = *event;
    struct bootstrap_actions actions;
    enum bootstrap_state before = m->bootstrap.state;
    e.now_ms = node_mono_ms(w, m);
    e.random = (uint32_t)rng_u64(&w->rng);
    bootstrap_step(&m->bootstrap, &e, &actions);
    perform(w, m, &e, &actions);
    if (m->bootstrap.state != before) {
        TRACE(w, "n%u: %s", m->idx, bootstrap_state_name(m->bootstrap.state));
    }
    if (!bootstrap_hash_equal(&m->bootstrap.held, &w->secret_hashes[m->secret])) {
        world_fail(w, "n%u: a holder erased its secret", m->idx);
    }
    m->step_due_ms = w->now_ms + (bootstrap_next_at_ms(&m->bootstrap) - e.now_ms);
    /* Together with the tick, when that is soon after. */
    if (m->step_due_ms < m->tick_due_ms && m->tick_due_ms - m->step_due_ms < 300) {
        m->step_due_ms = m->tick_due_ms;
    }
}

void duty_end(struct world *w, struct machine *m, uint32_t slot, uint32_t serial) {
    struct task_slot *task = &m->tasks[slot];
    ASSERT(task->is_running && task->serial == serial);
    struct bootstrap_event event = { .task = task->task, .ticket = task->ticket };
    end_task(w, m, task, &event);
    task->is_running = false;
    duty_step(w, m, &event);
    node_hurry(w, m);
}

static void look_for_snapshot(struct world *w, struct machine *m) {
    char reason[REPLICA_REASON_BYTES];
    bool is_here = replica_in_service(m->replica, reason);
    if (!is_here && w->now_ms < m->snapshot_until_ms) {
        return;
    }
    m->has_snapshot_task = false;
    const struct bootstrap_event event = { .task = BOOTSTRAP_SNAPSHOT,
                                           .ticket = m->snapshot_ticket,
                                           .reason = is_here ? NULL : reason };
    duty_step(w, m, &event);
}

void duty_tick(struct world *w, struct machine *m) {
    if (m->has_snapshot_task) {
        look_for_snapshot(w, m);
    }
    if (w->now_ms >= m->step_due_ms) {
        const struct bootstrap_event tick = { .is_tick = true };
        duty_step(w, m, &tick);
    }
}
