/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes that are born with their cluster (docs/replication.md, section 2.6). The node that made
 * the secret knows of everyone who has it, and so, for a while, of everyone who can have come into
 * service. A member that never was has acknowledged nothing, and so has nothing to lose. */
#include <string.h>

#include "replica/internal.h"

static size_t admitted_count(const struct replica *r) {
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        count += id_is_zero(r->members[i].newcomer) ? 0 : 1;
    }
    return count;
}

/* Whether nobody can have come into service without a page from here: those who got one are too few
 * to be enough for another, and nobody has waited long enough to do without. Half of the wait, as
 * monotonic clocks are not the same. */
static bool knows_all(const struct replica *r, uint64_t now_ms) {
    return r->has_shared && now_ms - r->shared_ms < r->cfg.start_wait_ms / 2 &&
           admitted_count(r) < start_needed_count(r);
}

bool newcomer_admit(struct replica *r, struct member *m, const struct replica_state *state,
                    uint64_t now_ms) {
    if (!r->is_founder || state->in_service) {
        return false;
    }
    if (id_is_zero(m->newcomer) && knows_all(r, now_ms)) {
        memcpy(m->newcomer, state->incarnation, STORE_WRITER_BYTES);
        r->stats.newcomer_count++;
    }
    return id_equal(m->newcomer, state->incarnation);
}

void newcomer_hear(struct replica *r, const struct member *m, const struct replica_state *state) {
    if (state->in_service && !id_equal(m->newcomer, state->incarnation)) {
        r->is_founder = false;
    }
}

void newcomer_members_changed(struct replica *r) {
    r->is_founder = r->is_founder && admitted_count(r) == 0;
}

void replica_note_shared(struct replica *r, const struct replica_now *now) {
    if (!r->has_shared) {
        r->has_shared = true;
        r->shared_ms = now->mono_ms;
    }
}
