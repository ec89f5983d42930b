/* SPDX-License-Identifier: Apache-2.0 */
/* What the members have acknowledged, and whether this node is level with them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "replica/internal.h"

/* A state counts for so many intervals. */
#define HEARD_INTERVALS 3

/* Whether the member's latest vector stands for what its living boot holds. */
static bool counts(const struct member *m) {
    return m->shown.latest != NULL && boots_is_present(&m->boots, m->shown.by);
}

static bool has_acked(const struct member *m, const struct store_stamp *stamp) {
    return counts(m) && vector_hlc(m->shown.latest, stamp->writer) >= stamp->hlc;
}

uint32_t replica_acks(const struct replica *r, const struct store_stamp *stamp) {
    uint32_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        count += has_acked(&r->members[i], stamp) ? 1 : 0;
    }
    return count;
}

uint32_t replica_acks_for_quorum(const struct replica *r) {
    return (uint32_t)((r->count + 1) / 2);
}

uint32_t replica_other_count(const struct replica *r) {
    return (uint32_t)r->count;
}

struct poll {
    size_t heard_count;
    size_t behind_count; /* Those whose head is far before ours. */
    size_t skewed_count; /* Those whose clock is far from ours. */
};

static struct poll ask_around(const struct replica *r, uint64_t now_ms) {
    uint64_t span_ms = r->cfg.interval_ms > r->cfg.wait_ms ? r->cfg.interval_ms : r->cfg.wait_ms;
    struct poll poll = { 0 };
    for (size_t i = 0; i < r->count; i++) {
        const struct member *m = &r->members[i];
        if (m->heard_ms == 0 || !m->in_service ||
            now_ms - m->heard_ms > HEARD_INTERVALS * span_ms) {
            continue;
        }
        poll.heard_count++;
        if (m->head_block > r->head_block && m->head_block - r->head_block > r->cfg.head_lag_max) {
            poll.behind_count++;
        }
        if (llabs((long long)m->clock_ahead_ms) > r->cfg.clock_skew_ms) {
            poll.skewed_count++;
        }
    }
    return poll;
}

bool replica_is_level(const struct replica *r, const struct replica_now *now,
                      char reason[static REPLICA_REASON_BYTES]) {
    reason[0] = '\0';
    struct poll poll = ask_around(r, now->mono_ms);
    if (2 * poll.behind_count > poll.heard_count) {
        (void)snprintf(reason, REPLICA_REASON_BYTES,
                       "%zu of %zu members are past its newest block by more than %" PRIu32
                       " blocks",
                       poll.behind_count, poll.heard_count, r->cfg.head_lag_max);
        return false;
    }
    if (2 * poll.skewed_count > poll.heard_count) {
        (void)snprintf(reason, REPLICA_REASON_BYTES,
                       "its clock differs from those of %zu of %zu members by more than %" PRIu32
                       " ms",
                       poll.skewed_count, poll.heard_count, r->cfg.clock_skew_ms);
        return false;
    }
    return true;
}

/* The entry of a writer itself, 0 without one. */
static uint64_t known_own_hlc(const struct store_known *known, const uint8_t *writer) {
    for (size_t i = 0; i < known->count; i++) {
        if (id_equal(known->entries[i].writer, writer)) {
            return known->entries[i].hlc;
        }
    }
    return 0; /* It wrote nothing, or nothing lately. */
}

bool replica_is_drained(const struct replica *r, const struct store *s,
                        const struct replica_now *now) {
    size_t count = store_known_count(s);
    struct store_known_entry *entries = calloc(count + 1, sizeof(*entries));
    if (entries == NULL) {
        return false;
    }
    struct store_known known;
    struct rc rc = store_known_copy(s, entries, count, &known);
    struct store_stamp stamp = { 0 };
    if (rc.err == E_OK) {
        stamp.hlc = known_own_hlc(&known, store_writer(s));
    }
    memcpy(stamp.writer, store_writer(s), sizeof(stamp.writer));
    free(entries);
    for (size_t i = 0; i < r->count; i++) {
        const struct member *m = &r->members[i];
        if (member_is_reachable(r, m, now->mono_ms) && !has_acked(m, &stamp)) {
            return false;
        }
    }
    return rc.err == E_OK;
}
