/* SPDX-License-Identifier: Apache-2.0 */
/* The chain: the registry's entries and KMSRegistry's hash by block, transactions, and what goes
 * wrong with all of them. */
#include "sim.h"

static void note_confirmed(struct world *w) {
    struct chain *c = &w->chain;
    struct chain_state state;
    chain_read(c, c->head > CONFIRMATIONS ? c->head - CONFIRMATIONS : 0, &state);
    if (c->confirmed_count > 0 &&
        bootstrap_hash_equal(&c->confirmed[c->confirmed_count - 1], &state.hash)) {
        return;
    }
    ASSERT(c->confirmed_count < 64);
    c->confirmed[c->confirmed_count] = state.hash;
    c->confirmed_at_ms[c->confirmed_count] = w->now_ms;
    c->confirmed_count++;
}

#define FIRST_HEAD 10

void chain_init(struct world *w) {
    for (uint64_t i = 0; i <= FIRST_HEAD; i++) {
        w->chain.times_ms[i] = w->now_ms - (FIRST_HEAD - i) * 100;
    }
    note_confirmed(w);
}

void chain_begin(struct world *w) {
    w->chain.head = FIRST_HEAD;
    w->chain.members_changed_at_ms = 0;
    world_after(w, BLOCK_MS, (struct event){ .kind = EVENT_BLOCK });
}

void chain_read(const struct chain *c, uint64_t block, struct chain_state *out) {
    *out = (struct chain_state){ 0 };
    for (size_t i = 0; i < c->change_count && c->changes[i].block <= block; i++) {
        const struct chain_change *change = &c->changes[i];
        switch (change->kind) {
        case CHANGE_ADD:
            out->members |= UINT64_C(1) << change->entry;
            break;
        case CHANGE_REMOVE:
            out->members &= ~(UINT64_C(1) << change->entry);
            break;
        case CHANGE_HASH:
            out->hash = change->hash;
            break;
        }
    }
}

static void add_change(struct world *w, struct chain_change change) {
    struct chain *c = &w->chain;
    ASSERT(c->change_count < CHANGE_COUNT_MAX);
    c->changes[c->change_count++] = change;
    if (change.kind != CHANGE_HASH) {
        c->members_changed_at_ms = w->now_ms;
        check_registry_changed(w);
    }
}

uint32_t chain_register(struct world *w, const struct machine *m) {
    struct chain *c = &w->chain;
    ASSERT(c->entry_count < ENTRY_COUNT_MAX);
    uint32_t entry = (uint32_t)c->entry_count++;
    c->entries[entry] =
        (struct chain_entry){ .wallet = m->wallet, .machine = m->idx, .id = 100 + entry };
    add_change(w, (struct chain_change){ c->head, CHANGE_ADD, entry, { { 0 } } });
    TRACE(w, "chain: n%u registered, entry %u", m->idx, entry);
    return entry;
}

void chain_remove_entry(struct world *w, uint32_t entry) {
    w->chain.entries[entry].removed_at_ms = w->now_ms;
    add_change(w, (struct chain_change){ w->chain.head, CHANGE_REMOVE, entry, { { 0 } } });
    TRACE(w, "chain: entry %u of n%u removed", entry, w->chain.entries[entry].machine);
}

void chain_set_hash(struct world *w, const struct bootstrap_hash *hash) {
    add_change(w, (struct chain_change){ w->chain.head, CHANGE_HASH, 0, *hash });
    w->chain.was_reset = w->chain.was_reset || bootstrap_hash_is_zero(hash);
    TRACE(w, "chain: hash is %02x%02x in block %llu", hash->bytes[0], hash->bytes[1],
          (unsigned long long)w->chain.head);
}

int chain_find(const struct world *w, const struct chain_state *state,
               const struct wallet *wallet) {
    for (size_t i = 0; i < w->chain.entry_count; i++) {
        if ((state->members >> i & 1) != 0 && wallet_equal(&w->chain.entries[i].wallet, wallet)) {
            return (int)i;
        }
    }
    return -1;
}

static void mine(struct world *w, struct chain_tx *tx) {
    struct chain_state state;
    chain_read(&w->chain, w->chain.head, &state);
    tx->block = w->chain.head;
    tx->is_success = bootstrap_hash_is_zero(&state.hash) && chain_find(w, &state, &tx->from) >= 0;
    if (tx->is_success) {
        if (w->chain.was_reset) {
            world_count(w, TALLY_HASH_SET_AGAIN);
        }
        chain_set_hash(w, &tx->hash);
    }
}

void chain_block(struct world *w) {
    struct chain *c = &w->chain;
    world_after(w, BLOCK_MS, (struct event){ .kind = EVENT_BLOCK });
    if (w->now_ms < c->stalled_until_ms) {
        return;
    }
    ASSERT(c->head + 1 < BLOCK_COUNT_MAX);
    c->head++;
    c->times_ms[c->head] = w->now_ms;
    for (size_t i = 0; i < c->tx_count; i++) {
        struct chain_tx *tx = &c->txs[i];
        if (tx->block == 0 && !tx->is_lost && !rng_once_in(&w->rng, 3)) {
            mine(w, tx);
        }
    }
    note_confirmed(w);
}

/* Until now nodes could see the registry without this change: for long, if there were no blocks. */
static void note_moved(struct world *w, const struct chain_change *change) {
    if (change->kind == CHANGE_REMOVE) {
        w->chain.entries[change->entry].removed_at_ms = w->now_ms;
    }
    if (change->kind != CHANGE_HASH) {
        w->chain.members_changed_at_ms = w->now_ms;
    }
}

void chain_reorganise(struct world *w, uint32_t depth) {
    struct chain *c = &w->chain;
    uint64_t first = c->head + 1 - depth;
    TRACE(w, "chain: blocks from %llu on are replaced", (unsigned long long)first);
    for (size_t i = 0; i < c->tx_count; i++) {
        struct chain_tx *tx = &c->txs[i];
        if (tx->block >= first) {
            tx->block = 0;
            tx->is_lost = rng_once_in(&w->rng, 2);
        }
    }
    /* The registry's and the administrator's transactions come again, in the new head; what nodes
     * set is with their transactions. */
    size_t kept = 0;
    for (size_t i = 0; i < c->change_count; i++) {
        struct chain_change change = c->changes[i];
        if (change.block >= first) {
            if (change.kind == CHANGE_HASH && !bootstrap_hash_is_zero(&change.hash)) {
                continue;
            }
            change.block = c->head;
            note_moved(w, &change);
        }
        c->changes[kept++] = change;
    }
    c->change_count = kept;
    if (c->members_changed_at_ms == w->now_ms) {
        check_registry_changed(w);
    }
    note_confirmed(w);
}

uint32_t chain_send(struct world *w, const struct wallet *from, const struct bootstrap_hash *hash) {
    struct chain *c = &w->chain;
    if (c->tx_count == TX_COUNT_MAX) { /* The oldest is long settled. */
        memmove(&c->txs[0], &c->txs[1], (TX_COUNT_MAX - 1) * sizeof(c->txs[0]));
        c->tx_count--;
        for (size_t i = 0; i < w->machine_count; i++) {
            w->machines[i].tx -= w->machines[i].tx > 0 ? 1 : 0;
        }
    }
    c->txs[c->tx_count] = (struct chain_tx){ .hash = *hash, .from = *from };
    if (rng_once_in(&w->rng, 8) && !w->is_healed) {
        c->txs[c->tx_count].is_lost = true;
        world_count(w, TALLY_FAULT_TX_LOST);
    }
    return (uint32_t)c->tx_count++;
}

enum bootstrap_tx chain_ask_tx(const struct world *w, uint32_t tx) {
    const struct chain_tx *t = &w->chain.txs[tx];
    if (t->is_lost) {
        return BOOTSTRAP_TX_UNKNOWN;
    }
    if (t->block == 0) {
        return BOOTSTRAP_TX_PENDING;
    }
    return t->is_success ? BOOTSTRAP_TX_MINED : BOOTSTRAP_TX_REVERTED;
}

bool chain_was_confirmed(const struct world *w, const struct bootstrap_hash *hash,
                         uint64_t since_ms) {
    const struct chain *c = &w->chain;
    for (size_t i = c->confirmed_count; i-- > 0;) {
        if (bootstrap_hash_equal(&c->confirmed[i], hash)) {
            return true;
        }
        if (c->confirmed_at_ms[i] < since_ms) {
            return false; /* What was before had ended by then. */
        }
    }
    return false;
}

uint64_t chain_seen_by(struct world *w, struct machine *m) {
    const struct chain *c = &w->chain;
    uint64_t block = c->head;
    if (w->now_ms >= m->chain_fault_until_ms) {
        m->chain_fault = CHAIN_FINE;
    }
    switch (m->chain_fault) {
    case CHAIN_FINE:
        break;
    case CHAIN_FROZEN:
        block = m->frozen_block < block ? m->frozen_block : block;
        break;
    case CHAIN_OLD:
        block -= rng_below(&w->rng, 6);
        break;
    case CHAIN_UNREADABLE:
        return 0;
    }
    return w->now_ms - c->times_ms[block] > HEAD_STALL_MS ? 0 : block;
}
