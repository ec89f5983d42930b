/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold, whatever happens. */
#include <stdio.h>

#include "sim.h"

/* Longer than any node's view of the registry can be old. */
#define VIEW_MS (HEAD_STALL_MS + CACHE_TTL_MS + 3000)

static int compare(const struct store_stamp *a, const struct store_stamp *b) {
    return store_stamp_compare(a, b);
}

struct write *check_find_write(struct world *w, const struct store_stamp *stamp) {
    for (size_t i = w->write_count; i-- > 0;) {
        if (w->writes[i].stamp.hlc == stamp->hlc && compare(&w->writes[i].stamp, stamp) == 0) {
            return &w->writes[i];
        }
    }
    return NULL;
}

bool check_is_dead(const struct write *write, uint64_t unix_ms) {
    return write->tombstone ||
           (write->ttl_ms != 0 && store_stamp_unix_ms(&write->stamp) + write->ttl_ms <= unix_ms);
}

static unsigned long long time_of(const struct store_stamp *stamp) {
    return stamp->hlc == 0 ? 0 : store_stamp_unix_ms(stamp) - EPOCH_MS;
}

/* The stamp of what a store holds for a cell, dead or alive; none for nothing. */
static struct store_stamp held_stamp(const struct machine *m, unsigned cell) {
    char key[8];
    struct store_record r;
    cell_key(cell, key);
    struct rc rc = store_get(m->store, 1 + cell / KEY_COUNT, span_str(key), 0, &r);
    return rc.err == E_OK || rc.err == E_NOT_FOUND ? r.stamp : STORE_STAMP_NONE;
}

/* Whether the store has the write, what is greater, or had it until that was collected. */
static bool has_or_had(const struct world *w, const struct machine *m, const struct write *write) {
    struct store_stamp held = held_stamp(m, write->cell);
    return compare(&held, &write->stamp) >= 0 ||
           compare(&w->collected[m->secret][write->cell], &write->stamp) >= 0;
}

/* ---- Replicas only go forward ---- */

void check_held(struct world *w, struct machine *m, uint64_t app_id, struct span key) {
    bool is_ours = app_id >= 1 && app_id <= APP_COUNT && key.len == 2 && key.ptr[0] == 'k' &&
                   key.ptr[1] >= '0' && key.ptr[1] < '0' + KEY_COUNT;
    if (!is_ours) {
        return;
    }
    unsigned cell = (unsigned)(app_id - 1) * KEY_COUNT + key.ptr[1] - '0';
    struct store_stamp held = held_stamp(m, cell);
    int order = compare(&held, &m->best[cell]);
    if (store_stamp_is_none(&held) || order == 0) {
        return;
    }
    const struct write *write = check_find_write(w, &held);
    if (write == NULL || write->cell != cell) {
        world_fail(w, "n%u: holds in cell %u what nobody wrote there, of %llu", m->idx, cell,
                   time_of(&held));
    }
    if (order < 0) {
        world_fail(w, "n%u: cell %u went back from %llu to %llu", m->idx, cell,
                   time_of(&m->best[cell]), time_of(&held));
    }
    if (compare(&held, &w->collected[m->secret][cell]) < 0 && w->durability_resets == 0) {
        world_fail(w, "n%u: cell %u has %llu again, and %llu was collected", m->idx, cell,
                   time_of(&held), time_of(&w->collected[m->secret][cell]));
    }
    m->best[cell] = held;
    TRACE(w, "n%u has write %d", m->idx, (int)(write - w->writes));
}

/* A dead record goes only when every member has it, or what is greater. Of those that are members
 * for so long that every node knows it, and in service; and not of one that began lately, unheard
 * of: what it has pulled came from those that knew as much (docs/replication.md, 2.8). */
static void check_covered(struct world *w, const struct machine *m, unsigned cell,
                          const struct store_stamp *stamp) {
    if (w->now_ms - w->chain.members_changed_at_ms <= VIEW_MS || m->is_retired) {
        return;
    }
    for (size_t i = 0; i < w->machine_count; i++) {
        const struct machine *other = &w->machines[i];
        bool is_new = w->now_ms - other->state_since_ms <= SETTLE_MS;
        if (other->is_up && other->was_in_service && !other->is_retired && !is_new &&
            other->secret == m->secret && !store_covers(other->store, stamp)) {
            world_fail(w, "n%u collects %llu of cell %u, and n%u does not know it", m->idx,
                       time_of(stamp), cell, other->idx);
        }
    }
}

void check_collected(struct world *w, struct machine *m) {
    for (unsigned cell = 0; cell < CELL_COUNT; cell++) {
        struct store_stamp held = held_stamp(m, cell);
        const struct store_stamp *best = &m->best[cell];
        if (!store_stamp_is_none(&held) || store_stamp_is_none(best)) {
            continue;
        }
        const struct write *write = check_find_write(w, best);
        if (write == NULL || !check_is_dead(write, node_unix_ms(w, m))) {
            world_fail(w, "n%u: cell %u was collected alive", m->idx, cell);
        }
        check_covered(w, m, cell, best);
        if (compare(best, &w->collected[m->secret][cell]) > 0) {
            w->collected[m->secret][cell] = *best;
            TRACE(w, "n%u collects cell %u, %llu", m->idx, cell, time_of(best));
        }
    }
}

/* Whether the floor tells that the write, or what superseded it, may be gone. */
static bool floor_tells(const struct world *w, const struct machine *m,
                        const struct store_known *floor, const struct write *write) {
    for (size_t i = 0; i < w->write_count; i++) {
        const struct write *later = &w->writes[i];
        if (later->cell == write->cell && later->secret == m->secret &&
            compare(&later->stamp, &write->stamp) >= 0 &&
            (later->tombstone || later->ttl_ms != 0) && store_known_covers(floor, &later->stamp)) {
            return true;
        }
    }
    return false;
}

/* What known covers is here, or was superseded and collected (docs/replication.md, invariant K);
 * and then the floor says so (R2). */
static void check_known(struct world *w, struct machine *m) {
    struct store_known_entry entries[KNOWN_COUNT_MAX];
    struct store_known_entry floor_entries[KNOWN_COUNT_MAX];
    struct store_known known;
    struct store_known floor;
    struct rc rc = store_known_copy(m->store, entries, KNOWN_COUNT_MAX, &known);
    ASSERT(rc.err == E_OK);
    rc = store_floor_copy(m->store, floor_entries, KNOWN_COUNT_MAX, &floor);
    ASSERT(rc.err == E_OK);
    if (known.rest_hlc > 0) {
        world_count(w, TALLY_COMPACTED);
    }
    for (size_t i = 0; i < w->write_count; i++) {
        const struct write *write = &w->writes[i];
        struct store_stamp held = held_stamp(m, write->cell);
        if (write->secret != m->secret || write->stamp.hlc <= known.rest_hlc ||
            !store_covers(m->store, &write->stamp) || compare(&held, &write->stamp) >= 0) {
            continue;
        }
        if (!has_or_had(w, m, write)) {
            world_fail(w, "n%u: says that it knows write %zu of cell %u, and has not seen it",
                       m->idx, i, write->cell);
        }
        if (!floor_tells(w, m, &floor, write)) {
            world_fail(
                w, "n%u: knows write %zu of cell %u, which is not here, and no floor tells of it",
                m->idx, i, write->cell);
        }
    }
}

void check_node(struct world *w, struct machine *m) {
    if (m->secret != 0) {
        check_known(w, m);
    }
    store_check(m->store);
    replica_check(m->replica, m->store);
    if (m->bootstrap.now_ms > 0) { /* It has taken a step. */
        bootstrap_check(&m->bootstrap);
    }
}

void check_losing(struct world *w, struct machine *m) {
    check_node(w, m);
    for (size_t i = 0; i < w->client_count; i++) {
        if (w->clients[i].write >= 0) {
            struct write *write = &w->writes[w->clients[i].write];
            if (m->was_in_service && store_covers(m->store, &write->stamp)) {
                write->held_once |= UINT32_C(1) << m->idx;
            }
        }
    }
}

/* ---- Durability ---- */

void check_acked(struct world *w, struct machine *m, struct write *write) {
    uint32_t alive = UINT32_C(1) << m->idx;
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *other = &w->machines[i];
        if (other->is_up && other->was_in_service && other->secret == write->secret &&
            store_covers(other->store, &write->stamp)) {
            alive |= UINT32_C(1) << i;
        }
    }
    uint32_t held = write->held_once | alive;
    bool is_quorum = write->durability == DURABILITY_QUORUM;
    uint32_t wanted = 1 + (is_quorum ? replica_acks_for_quorum(m->replica) : 1);
    if ((uint32_t)__builtin_popcount(held) < wanted) {
        world_fail(w, "n%u acknowledges write %d as on %u nodes, and it is on %d", m->idx,
                   (int)(write - w->writes), wanted, __builtin_popcount(held));
    }
    write->is_acked = true;
    write->acked_at_ms = w->now_ms;
    write->resets_before = w->durability_resets;
    world_count(w, is_quorum ? TALLY_ACK_QUORUM : TALLY_ACK_ONE_PEER);
    bool is_alive = (uint32_t)__builtin_popcount(alive) >= wanted;
    if (!is_alive) {
        world_count(w, TALLY_ACK_OF_THE_DEAD);
    }
    write->is_tracked =
        is_quorum && is_alive && w->now_ms - w->chain.members_changed_at_ms > VIEW_MS;
    if (write->is_tracked) {
        world_count(w, TALLY_QUORUM_TRACKED);
        TRACE(w, "write %d is on a quorum", (int)(write - w->writes));
    }
}

/* A change of the members moves the quorums: the promise goes on for what all of them hold. */
void check_registry_changed(struct world *w) {
    for (size_t i = 0; i < w->write_count; i++) {
        struct write *write = &w->writes[i];
        for (size_t n = 0; n < w->machine_count && write->is_tracked; n++) {
            struct machine *m = &w->machines[n];
            write->is_tracked = !m->is_up || !m->was_in_service || m->secret != write->secret ||
                                has_or_had(w, m, write);
        }
    }
}

void check_in_service(struct world *w, struct machine *m) {
    for (size_t i = 0; i < w->write_count; i++) {
        const struct write *write = &w->writes[i];
        if (write->is_tracked && write->secret == m->secret &&
            write->acked_at_ms < m->state_since_ms &&
            write->resets_before == w->durability_resets && !has_or_had(w, m, write)) {
            world_fail(w, "n%u comes into service without write %zu, which was on a quorum", m->idx,
                       i);
        }
    }
}

static bool is_anywhere(struct world *w, const struct write *write) {
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        if (m->is_up && m->is_serving && has_or_had(w, m, write)) {
            return true;
        }
    }
    return false;
}

/* After all nodes have converged, so that what one has is what all have, or what is dead. */
static void check_kept(struct world *w, uint32_t secret) {
    for (size_t i = 0; i < w->write_count; i++) {
        struct write *write = &w->writes[i];
        if (!write->is_tracked || write->secret != secret) {
            continue;
        }
        if (is_anywhere(w, write)) {
            world_count(w, TALLY_QUORUM_KEPT);
            continue;
        }
        if (write->resets_before == w->durability_resets) {
            world_fail(w, "write %zu of cell %u was on a quorum and is lost", i, write->cell);
        }
        world_count(w, TALLY_QUORUM_LOST);
    }
}

/* ---- Service ---- */

void check_serving(struct world *w, const struct machine *m) {
    uint64_t since_ms = w->now_ms > CACHE_TTL_MS + 1000 ? w->now_ms - CACHE_TTL_MS - 1000 : 0;
    if (m->secret == 0 || !chain_was_confirmed(w, &w->secret_hashes[m->secret], since_ms)) {
        world_fail(w, "n%u serves with a secret that the chain does not have", m->idx);
    }
    check_caller(w, m, &m->wallet); /* It must be a member itself. */
}

void check_caller(struct world *w, const struct machine *m, const struct wallet *wallet) {
    bool was_member = false;
    /* A reorganisation may move a change by some blocks. */
    uint64_t slack_ms = CACHE_TTL_MS + (CONFIRMATIONS + 1) * BLOCK_MS;
    for (size_t i = 0; i < w->chain.entry_count && !was_member; i++) {
        const struct chain_entry *entry = &w->chain.entries[i];
        was_member = wallet_equal(&entry->wallet, wallet) &&
                     (entry->removed_at_ms == 0 || entry->removed_at_ms + slack_ms >= w->now_ms);
    }
    if (!was_member) {
        world_fail(w, "n%u serves a wallet that was removed long ago", m->idx);
    }
}

/* By its stamp, as vectors are: a node that serves alone may have had its clock far back. */
static bool may_be_shortened(const struct world *w, const struct store_stamp *stamp) {
    return store_stamp_unix_ms(stamp) + RETENTION_MS < EPOCH_MS + w->now_ms;
}

void check_read(struct world *w, struct machine *m, struct client *c, unsigned cell) {
    char key[8];
    struct store_record r;
    cell_key(cell, key);
    uint64_t unix_ms = node_unix_ms(w, m);
    struct rc rc = store_get(m->store, c->app_id, span_str(key), unix_ms, &r);
    if (rc.err == E_OK) {
        const struct write *write = check_find_write(w, &r.stamp);
        uint8_t bytes[RECORD_BYTES_MAX];
        ASSERT(write != NULL);
        write_bytes(w, write, bytes);
        if (check_is_dead(write, unix_ms)) {
            world_fail(w, "n%u gives write %d of cell %u, which is dead", m->idx,
                       (int)(write - w->writes), cell);
        }
        if (!span_equal(r.sealed, (struct span){ bytes, write->sealed_len })) {
            world_fail(w, "n%u gives other bytes for write %d", m->idx, (int)(write - w->writes));
        }
    }
    const struct store_stamp *last = &c->last[cell];
    const struct write *own = check_find_write(w, last);
    if (own == NULL || own->secret != m->secret || may_be_shortened(w, last)) {
        return;
    }
    if (compare(&r.stamp, last) < 0 && compare(&w->collected[m->secret][cell], last) < 0) {
        world_fail(w, "client %d does not see its own write %d at n%u and is not told",
                   (int)(c - w->clients), (int)(own - w->writes), m->idx);
    }
}

/* ---- In the end ---- */

static struct machine *any_serving(struct world *w) {
    for (size_t i = 0; i < w->machine_count; i++) {
        if (w->machines[i].is_up && w->machines[i].is_serving) {
            return &w->machines[i];
        }
    }
    return NULL;
}

static bool is_same(struct world *w, struct machine *a, struct machine *b, char why[static 200]) {
    for (uint64_t app_id = 1; app_id <= APP_COUNT; app_id++) {
        struct store_digest x = store_digest(a->store, app_id);
        struct store_digest y = store_digest(b->store, app_id);
        if (x.low != y.low || x.high != y.high) {
            (void)snprintf(why, 200, "n%u and n%u differ in app %u", a->idx, b->idx,
                           (unsigned)app_id);
            return false;
        }
    }
    for (unsigned cell = 0; cell < CELL_COUNT; cell++) {
        struct store_stamp x = held_stamp(a, cell);
        struct store_stamp y = held_stamp(b, cell);
        int order = compare(&x, &y);
        const struct store_stamp *less = order < 0 ? &x : &y;
        const struct write *write = check_find_write(w, order < 0 ? &y : &x);
        /* What is dead may have been collected at one of them. */
        bool may_differ = store_stamp_is_none(less) && write != NULL &&
                          check_is_dead(write, EPOCH_MS + w->now_ms - SKEW_MS);
        if (order != 0 && !may_differ) {
            (void)snprintf(why, 200, "n%u and n%u differ in cell %u", a->idx, b->idx, cell);
            return false;
        }
    }
    return true;
}

bool check_converged(struct world *w, char why[static 200]) {
    struct machine *first = any_serving(w);
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        if (!m->is_used || m->is_retired) {
            continue;
        }
        if (!m->is_up || !m->is_serving) {
            char reason[REPLICA_REASON_BYTES] = "";
            char level[REPLICA_REASON_BYTES] = "";
            if (m->is_up) {
                struct replica_now now = node_now(w, m);
                (void)replica_in_service(m->replica, reason);
                (void)replica_is_level(m->replica, &now, level);
            }
            (void)snprintf(why, 200, "n%u does not serve: %.60s; %.60s; %.50s", m->idx,
                           m->is_up ? bootstrap_reason(&m->bootstrap) : "it is down", reason,
                           level);
            return false;
        }
        if (m != first && !is_same(w, first, m, why)) {
            return false;
        }
    }
    return first != NULL;
}

void check_show(struct world *w) {
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        if (!m->is_up) {
            continue;
        }
        TRACE(w, "n%u %s, and holds:", m->idx, m->is_serving ? "serves" : "does not serve");
        for (unsigned cell = 0; cell < CELL_COUNT; cell++) {
            struct store_stamp held = held_stamp(m, cell);
            const struct write *write = check_find_write(w, &held);
            if (write != NULL) {
                TRACE(w, "    cell %u: write %d, %s", cell, (int)(write - w->writes),
                      check_is_dead(write, EPOCH_MS + w->now_ms) ? "dead" : "alive");
            }
        }
    }
}

void check_end(struct world *w) {
    for (size_t i = 0; i < w->machine_count; i++) {
        struct machine *m = &w->machines[i];
        if (m->is_up) {
            for (unsigned cell = 0; cell < CELL_COUNT; cell++) {
                char key[8];
                cell_key(cell, key);
                check_held(w, m, 1 + cell / KEY_COUNT, span_str(key));
            }
            check_node(w, m);
            node_tally(w, m);
        }
    }
    const struct machine *serving = any_serving(w);
    ASSERT(serving != NULL);
    check_kept(w, serving->secret);
}

bool check_nothing_dead(struct world *w) {
    for (size_t i = 0; i < w->machine_count; i++) {
        struct store_stats stats;
        if (w->machines[i].is_up) {
            store_stats(w->machines[i].store, &stats);
            if (stats.tombstone_count > 0 || stats.expired_count > 0) {
                return false;
            }
        }
    }
    return true;
}
