/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong, and the healing. Each seed draws the kinds it uses, so that some histories are
 * full of one kind. */
#include <stdio.h>

#include "sim.h"

static void set_wallet(struct world *w, struct machine *m) {
    m->wallet_gen++;
    m->wallet = (struct wallet){ .bytes = { 0xa0, m->idx, (uint8_t)m->wallet_gen } };
    rng_fill(&w->rng, m->tee_pubkey, sizeof(m->tee_pubkey));
}

static struct machine *add_machine(struct world *w) {
    struct machine *m = &w->machines[w->machine_count];
    m->idx = (uint8_t)w->machine_count++;
    m->is_used = true;
    (void)snprintf(m->url, sizeof(m->url), "https://n%u", m->idx);
    set_wallet(w, m);
    m->wall_ms = (int64_t)rng_below(&w->rng, SKEW_MS * 8 / 10) - SKEW_MS * 4 / 10;
    return m;
}

static void start_after(struct world *w, struct machine *m, uint64_t span_ms) {
    world_after(w, span_ms, (struct event){ .kind = EVENT_START, .boot = m->boot, .a = m->idx });
}

/* ---- Whom ---- */

static struct machine *any_machine(struct world *w) {
    return &w->machines[rng_below(&w->rng, (uint32_t)w->machine_count)];
}

static struct machine *any_up(struct world *w) {
    struct machine *m = any_machine(w);
    return m->is_up ? m : NULL;
}

static uint32_t count_members(const struct world *w) {
    uint32_t count = 0;
    for (size_t i = 0; i < w->machine_count; i++) {
        count += w->machines[i].is_used && !w->machines[i].is_retired ? 1 : 0;
    }
    return count;
}

static bool can_boot_again(const struct world *w) {
    return w->boot_count < KNOWN_COUNT_MAX / 2 && w->chain.change_count < CHANGE_COUNT_MAX / 2 &&
           w->chain.entry_count < ENTRY_COUNT_MAX / 2;
}

/* Somebody who can go down without the secret being lost with it. */
static struct machine *any_mortal(struct world *w) {
    struct machine *m = any_up(w);
    if (m == NULL || m->is_draining || m->is_retired || !can_boot_again(w)) {
        return NULL;
    }
    for (size_t i = 0; i < w->machine_count; i++) {
        const struct machine *other = &w->machines[i];
        if (other != m && other->is_up && other->is_serving && !other->is_draining &&
            !other->is_retired && other->secret != 0) {
            return m;
        }
    }
    return NULL;
}

static uint64_t until(struct world *w) {
    return w->now_ms + 500 + rng_below(&w->rng, 9000);
}

/* ---- Network ---- */

static struct link *any_link(struct world *w) {
    uint32_t from = rng_below(&w->rng, (uint32_t)w->machine_count);
    uint32_t to = rng_below(&w->rng, (uint32_t)w->machine_count);
    return &w->links[from][to];
}

static void mend_links(struct world *w) {
    memset(w->links, 0, sizeof(w->links));
}

static void cut_split(struct world *w) {
    uint32_t side = 1 + rng_below(&w->rng, (UINT32_C(1) << w->machine_count) - 2);
    for (size_t i = 0; i < w->machine_count; i++) {
        for (size_t j = 0; j < w->machine_count; j++) {
            w->links[i][j].is_cut = (side >> i & 1) != (side >> j & 1);
        }
    }
    TRACE(w, "fault: partition %x", side);
}

static bool network_fault(struct world *w, enum tally kind) {
    struct link *link = any_link(w);
    struct link *back = &w->links[(size_t)(link - w->links[0]) % MACHINE_COUNT_MAX]
                                 [(size_t)(link - w->links[0]) / MACHINE_COUNT_MAX];
    if (kind == TALLY_FAULT_LOSS) {
        link->loss_percent = (uint8_t)(5 + rng_below(&w->rng, 60));
        back->loss_percent = link->loss_percent;
    } else if (kind == TALLY_FAULT_DUPLICATE) {
        link->duplicate_percent = (uint8_t)(5 + rng_below(&w->rng, 60));
    } else if (kind == TALLY_FAULT_REORDER) {
        link->jitter_ms = (uint16_t)rng_below(&w->rng, 1000);
    } else if (kind == TALLY_FAULT_DELAY) {
        link->delay_ms = (uint16_t)rng_below(&w->rng, 2000);
    } else if (kind == TALLY_FAULT_CUT_ONE_WAY) {
        link->is_cut = true;
    } else if (kind == TALLY_FAULT_CUT_PAIR) {
        link->is_cut = true;
        back->is_cut = true;
    } else if (rng_once_in(&w->rng, 2)) {
        cut_split(w);
    } else {
        mend_links(w);
        return false;
    }
    return true;
}

/* ---- Processes ---- */

static uint64_t down_ms(struct world *w) {
    return 200 + rng_below(&w->rng, rng_once_in(&w->rng, 4) ? 15000 : 2500);
}

static bool crash(struct world *w, enum tally kind) {
    struct machine *m = any_mortal(w);
    if (m == NULL) {
        return false;
    }
    node_crash(w, m);
    if (kind == TALLY_FAULT_NEW_WALLET) {
        set_wallet(w, m);
        (void)chain_register(w, m);
    } else if (kind == TALLY_FAULT_CLOCK_BACK) {
        m->wall_ms = rng_once_in(&w->rng, 4) ? -(int64_t)(3000 + rng_below(&w->rng, 60000))
                                             : -(int64_t)rng_below(&w->rng, SKEW_MS / 2);
    }
    start_after(w, m, kind == TALLY_FAULT_CLOCK_BACK ? 20 + rng_below(&w->rng, 400) : down_ms(w));
    return true;
}

void fault_stumble(struct world *w, struct machine *m) {
    if (!w->is_healed && can_boot_again(w) && !m->is_draining) {
        node_crash(w, m);
        start_after(w, m, 5 + rng_below(&w->rng, 100));
        world_count(w, TALLY_FAULT_STUMBLE);
    }
}

static bool massacre(struct world *w) {
    if (!can_boot_again(w) || rng_once_in(&w->rng, 2)) {
        return false;
    }
    uint32_t spared = rng_below(&w->rng, (uint32_t)w->machine_count);
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        if (m->is_up && !m->is_draining && !m->is_retired && i != spared &&
            !rng_once_in(&w->rng, 4)) {
            node_crash(w, m);
            start_after(w, m, 200 + rng_below(&w->rng, 2000));
        }
    }
    return true;
}

static bool drain_some(struct world *w) {
    struct machine *m = any_mortal(w);
    if (m == NULL) {
        return false;
    }
    TRACE(w, "n%u is told to stop", m->idx);
    m->is_draining = true;
    m->drain_until_ms = w->now_ms + DRAIN_MS;
    node_hurry(w, m);
    world_after(w, DRAIN_MS + 100 + rng_below(&w->rng, 2000),
                (struct event){ .kind = EVENT_START, .boot = m->boot, .a = m->idx });
    return true;
}

static bool hang(struct world *w) {
    struct machine *m = any_up(w);
    if (m == NULL) {
        return false;
    }
    m->hung_until_ms = w->now_ms + (rng_once_in(&w->rng, 3) ? 20000 + rng_below(&w->rng, 100000)
                                                            : 1000 + rng_below(&w->rng, 8000));
    TRACE(w, "fault: n%u hangs", m->idx);
    return true;
}

static bool turn_hostile(struct world *w) {
    struct machine *m = any_up(w);
    uint32_t hostile_count = 0;
    for (size_t i = 0; i < w->machine_count; i++) {
        hostile_count += w->machines[i].is_hostile ? 1 : 0;
    }
    if (m == NULL || hostile_count > 0) {
        return false;
    }
    TRACE(w, "fault: n%u turns hostile", m->idx);
    m->is_hostile = true;
    return true;
}

/* ---- Clocks ---- */

static bool move_clock(struct world *w, enum tally kind) {
    struct machine *m = any_up(w);
    if (m == NULL || m->is_clock_bad) {
        return false;
    }
    int64_t within = (int64_t)rng_below(&w->rng, SKEW_MS * 8 / 10) - SKEW_MS * 4 / 10;
    if (kind == TALLY_FAULT_CLOCK_DRIFT || !m->is_clock_right) {
        m->wall_ms = within;
    } else {
        int64_t jump = 3000 + (int64_t)rng_below(&w->rng, 100000);
        m->wall_ms += rng_once_in(&w->rng, 2) ? jump : -jump;
    }
    TRACE(w, "fault: clock of n%u is %+lld ms off", m->idx, (long long)m->wall_ms);
    return true;
}

/* ---- Members ---- */

static bool add_member(struct world *w, bool is_dead) {
    if (w->machine_count == MACHINE_COUNT_MAX || !can_boot_again(w)) {
        return false;
    }
    struct machine *m = add_machine(w);
    (void)chain_register(w, m);
    if (is_dead) {
        m->is_retired = true; /* Never boots; taken out when all is healed. */
    } else {
        start_after(w, m, rng_below(&w->rng, 3000));
    }
    return true;
}

static void unregister(struct world *w, const struct machine *m) {
    struct chain_state state;
    chain_read(&w->chain, w->chain.head, &state);
    for (uint32_t i = 0; i < w->chain.entry_count; i++) {
        if ((state.members >> i & 1) != 0 && w->chain.entries[i].machine == m->idx) {
            chain_remove_entry(w, i);
        }
    }
}

static bool remove_member(struct world *w) {
    struct machine *m = any_machine(w);
    if (!m->is_used || m->is_retired || count_members(w) < 3) {
        return false;
    }
    m->is_retired = true;
    m->retired_at_ms = w->now_ms;
    unregister(w, m);
    return true;
}

/* With all it holds, if it still runs. */
static bool bring_back(struct world *w) {
    struct machine *m = any_machine(w);
    if (!m->is_used || !m->is_retired || m->boot == 0 || !can_boot_again(w)) {
        return false;
    }
    /* Most come back after much was collected without them. */
    if (w->now_ms - m->retired_at_ms < RETENTION_MS + SETTLE_MS && !rng_once_in(&w->rng, 8)) {
        return false;
    }
    m->is_retired = false;
    (void)chain_register(w, m);
    if (!m->is_up) {
        start_after(w, m, rng_below(&w->rng, 3000));
    }
    return true;
}

/* ---- Chain ---- */

static bool zero_hash(struct world *w) {
    struct chain_state state;
    const struct bootstrap_hash zero = { { 0 } };
    chain_read(&w->chain, w->chain.head, &state);
    if (bootstrap_hash_is_zero(&state.hash) || w->chain.confirmed_count > 40) {
        return false;
    }
    chain_set_hash(w, &zero);
    return true;
}

static bool blind(struct world *w, enum chain_fault fault) {
    struct machine *m = any_machine(w);
    m->chain_fault = fault;
    m->chain_fault_until_ms = until(w) + rng_below(&w->rng, 8000);
    m->frozen_block = w->chain.head;
    return true;
}

static bool reorganise(struct world *w) {
    if (w->chain.confirmed_count > 40) {
        return false;
    }
    chain_reorganise(w, 1 + rng_below(&w->rng, CONFIRMATIONS));
    return true;
}

/* ---- All ---- */

static const enum tally kinds[] = {
    TALLY_FAULT_LOSS,
    TALLY_FAULT_DUPLICATE,
    TALLY_FAULT_REORDER,
    TALLY_FAULT_DELAY,
    TALLY_FAULT_CUT_ONE_WAY,
    TALLY_FAULT_CUT_PAIR,
    TALLY_FAULT_CUT_SPLIT,
    TALLY_FAULT_HUNG,
    TALLY_FAULT_CRASH,
    TALLY_FAULT_NEW_WALLET,
    TALLY_FAULT_CLOCK_BACK,
    TALLY_FAULT_MASSACRE,
    TALLY_FAULT_CLOCK_DRIFT,
    TALLY_FAULT_CLOCK_JUMP,
    TALLY_FAULT_MEMBER_ADDED,
    TALLY_FAULT_MEMBER_REMOVED,
    TALLY_FAULT_MEMBER_BACK,
    TALLY_FAULT_MEMBER_DEAD,
    TALLY_FAULT_HASH_ZERO,
    TALLY_FAULT_REORG,
    TALLY_FAULT_CHAIN_FREEZE,
    TALLY_FAULT_CHAIN_OLD,
    TALLY_FAULT_CHAIN_UNREADABLE,
    TALLY_FAULT_CHAIN_STALL,
    TALLY_FAULT_DRAIN,
    TALLY_FAULT_HOSTILE,
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))
#define FAULT_KIND_COUNT_MIN 4

static bool inject_rest(struct world *w, enum tally kind) {
    if (kind == TALLY_FAULT_MEMBER_ADDED || kind == TALLY_FAULT_MEMBER_DEAD) {
        return add_member(w, kind == TALLY_FAULT_MEMBER_DEAD);
    }
    if (kind == TALLY_FAULT_MEMBER_REMOVED) {
        return remove_member(w);
    }
    if (kind == TALLY_FAULT_MEMBER_BACK) {
        return bring_back(w);
    }
    if (kind == TALLY_FAULT_HASH_ZERO) {
        return zero_hash(w);
    }
    if (kind == TALLY_FAULT_REORG) {
        return reorganise(w);
    }
    if (kind == TALLY_FAULT_CHAIN_STALL) {
        w->chain.stalled_until_ms = until(w);
        return true;
    }
    return blind(w, kind == TALLY_FAULT_CHAIN_FREEZE ? CHAIN_FROZEN
                    : kind == TALLY_FAULT_CHAIN_OLD  ? CHAIN_OLD
                                                     : CHAIN_UNREADABLE);
}

static bool inject(struct world *w, enum tally kind) {
    if (kind <= TALLY_FAULT_CUT_SPLIT) {
        return network_fault(w, kind);
    }
    if (kind == TALLY_FAULT_CRASH || kind == TALLY_FAULT_NEW_WALLET ||
        kind == TALLY_FAULT_CLOCK_BACK) {
        return crash(w, kind);
    }
    if (kind == TALLY_FAULT_MASSACRE) {
        return massacre(w);
    }
    if (kind == TALLY_FAULT_DRAIN) {
        return drain_some(w);
    }
    if (kind == TALLY_FAULT_HUNG) {
        return hang(w);
    }
    if (kind == TALLY_FAULT_HOSTILE) {
        return turn_hostile(w);
    }
    if (kind == TALLY_FAULT_CLOCK_DRIFT || kind == TALLY_FAULT_CLOCK_JUMP) {
        return move_clock(w, kind);
    }
    return inject_rest(w, kind);
}

static void calm_some(struct world *w) {
    struct machine *m = any_machine(w);
    if (rng_once_in(&w->rng, 2)) {
        mend_links(w);
    }
    m->hung_until_ms = w->now_ms;
    m->is_hostile = false;
}

void fault_some(struct world *w) {
    if (w->is_healed) {
        return;
    }
    world_after(w, 100 + rng_below(&w->rng, 1400), (struct event){ .kind = EVENT_FAULT });
    if (rng_once_in(&w->rng, 8)) {
        calm_some(w);
        return;
    }
    enum tally kind = w->fault_kinds[rng_below(&w->rng, w->fault_kind_count)];
    if (inject(w, kind)) {
        /* What the network does to messages is counted when it does it. */
        if (kind > TALLY_FAULT_DELAY) {
            world_count(w, kind);
        }
        w->fault_kinds_seen |= UINT64_C(1) << kind;
    }
}

void fault_draw(struct world *w) {
    uint32_t place = rng_below(&w->rng, w->fault_kind_count);
    w->fault_kinds[place] = kinds[rng_below(&w->rng, KIND_COUNT)];
}

/* What takes longer than tombstones live: a member that is out and comes back, a hostile one that
 * knows what was deleted, a partition. */
static void tell_story(struct world *w) {
    static const enum tally stories[][3] = {
        { TALLY_FAULT_MEMBER_REMOVED, TALLY_FAULT_MEMBER_BACK, TALLY_FAULT_MEMBER_BACK },
        { TALLY_FAULT_HOSTILE, TALLY_FAULT_HOSTILE, TALLY_FAULT_HOSTILE },
        { TALLY_FAULT_CUT_SPLIT, TALLY_FAULT_CUT_PAIR, TALLY_FAULT_HUNG },
    };
    const enum tally *story = stories[rng_below(&w->rng, 3)];
    w->fault_kind_count = 5;
    memcpy(w->fault_kinds, story, sizeof(stories[0]));
    w->fault_end_ms = 40000;
}

void fault_init(struct world *w) {
    static const uint8_t sizes[] = { 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 7, 8, 9 };
    uint32_t count = sizes[rng_below(&w->rng, sizeof(sizes))];
    for (uint32_t i = 0; i < count; i++) {
        struct machine *m = add_machine(w);
        (void)chain_register(w, m);
        start_after(w, m, rng_below(&w->rng, 1500));
    }
    w->fault_kind_count = FAULT_KIND_COUNT_MIN + rng_below(&w->rng, FAULT_KIND_COUNT_MAX - 3);
    for (uint32_t i = 0; i < w->fault_kind_count; i++) {
        w->fault_kinds[i] = kinds[rng_below(&w->rng, KIND_COUNT)];
    }
    if (rng_once_in(&w->rng, 6)) {
        tell_story(w);
    }
    /* Some clusters are in trouble from their first moment. */
    uint64_t first_ms = rng_once_in(&w->rng, 4) ? 100 : 6000;
    world_after(w, first_ms, (struct event){ .kind = EVENT_FAULT });
    w->fault_end_ms += w->now_ms + first_ms + 6000 + rng_below(&w->rng, 16000);
}

/* ---- Healing ---- */

static void heal_members(struct world *w) {
    struct chain_state state;
    chain_read(&w->chain, w->chain.head, &state);
    for (uint32_t i = 0; i < w->chain.entry_count; i++) {
        const struct machine *m = &w->machines[w->chain.entries[i].machine];
        bool is_ghost = !wallet_equal(&w->chain.entries[i].wallet, &m->wallet);
        if ((state.members >> i & 1) != 0 && (is_ghost || m->is_retired)) {
            chain_remove_entry(w, i);
        }
    }
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        if (m->is_retired && m->is_up) {
            node_crash(w, m);
        } else if (!m->is_retired && (!m->is_up || m->is_clock_bad || m->is_draining)) {
            if (m->is_up) {
                node_crash(w, m);
            }
            m->wall_ms = 0;
            m->is_clock_bad = false;
            start_after(w, m, 50);
        }
    }
}

/* The administrator resets a hash whose secret nobody has any more. */
void fault_heal_hash(struct world *w) {
    struct chain_state state;
    const struct bootstrap_hash zero = { { 0 } };
    chain_read(&w->chain, w->chain.head, &state);
    for (size_t i = 0; i < w->machine_count; i++) {
        const struct machine *m = &w->machines[i];
        if (m->is_up && m->secret != 0 &&
            bootstrap_hash_equal(&w->secret_hashes[m->secret], &state.hash)) {
            return;
        }
    }
    if (!bootstrap_hash_is_zero(&state.hash)) {
        chain_set_hash(w, &zero);
    }
}

void fault_heal(struct world *w) {
    TRACE(w, "healed");
    w->is_healed = true;
    w->healed_at_ms = w->now_ms;
    mend_links(w);
    w->chain.stalled_until_ms = w->now_ms;
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        m->hung_until_ms = w->now_ms;
        m->chain_fault_until_ms = w->now_ms;
        m->is_hostile = false;
        if (!m->is_clock_bad) {
            m->wall_ms = 0;
        }
    }
    heal_members(w);
    fault_heal_hash(w);
}
