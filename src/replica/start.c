/* SPDX-License-Identifier: Apache-2.0 */
/* When a starting node has enough to serve (docs/replication.md, section 2.6). */
#include <stdio.h>

#include "replica/internal.h"

size_t start_needed_count(const struct replica *r) {
    size_t n = r->count + 1;
    size_t w = n / 2 + 1;
    return r->count == 0 ? 0 : n - w + 1;
}

/* Whether all of the member's data is here, and the boot that gave it is the one alive: one that
 * has started again meanwhile may acknowledge without having heard of this node's start. */
static bool is_complete(const struct member *m) {
    return m->is_complete && m->boots.heard_count == 0;
}

static size_t complete_count(const struct replica *r) {
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        count += is_complete(&r->members[i]) ? 1 : 0;
    }
    return count;
}

/* Whether nobody can hold what this node must have and has not. */
static bool has_enough(const struct replica *r) {
    bool is_newcomer = false;
    for (size_t i = 0; i < r->count; i++) {
        const struct member *m = &r->members[i];
        is_newcomer = is_newcomer || (is_complete(m) && m->has_admitted);
    }
    return is_newcomer || r->is_founder || complete_count(r) >= start_needed_count(r);
}

/* Whether whoever answers from service has been pulled to the end: with the others, waiting longer
 * is of no use. */
static bool has_all_that_answer(const struct replica *r) {
    for (size_t i = 0; i < r->count; i++) {
        if (r->members[i].is_answering && !is_complete(&r->members[i])) {
            return false;
        }
    }
    return true;
}

void start_update(struct replica *r, uint64_t now_ms) {
    bool has_left = r->was_listed && r->self_id == 0;
    if (r->in_service || !r->has_members || !r->has_secret || has_left) {
        return;
    }
    if (!r->is_clocked) {
        r->is_clocked = true;
        r->start_ms = now_ms;
    }
    if (has_enough(r)) {
        r->in_service = true;
        return;
    }
    if (now_ms - r->start_ms >= r->cfg.start_wait_ms && has_all_that_answer(r)) {
        /* A write that only those acknowledged who cannot be reached would be missing here. */
        r->in_service = true;
        r->stats.durability_reset_count++;
    }
}

bool replica_in_service(const struct replica *r, char reason[static REPLICA_REASON_BYTES]) {
    reason[0] = '\0';
    if (r->in_service) {
        return true;
    }
    if (!r->has_secret) {
        (void)snprintf(reason, REPLICA_REASON_BYTES, "it holds no master secret yet");
    } else if (!r->has_members) {
        (void)snprintf(reason, REPLICA_REASON_BYTES, "it does not know the cluster's members yet");
    } else if (r->was_listed && r->self_id == 0) {
        (void)snprintf(reason, REPLICA_REASON_BYTES, "the registry does not list it any more");
    } else {
        (void)snprintf(reason, REPLICA_REASON_BYTES,
                       "it has all data of %zu other members in service, and needs those of %zu",
                       complete_count(r), start_needed_count(r));
    }
    return false;
}
