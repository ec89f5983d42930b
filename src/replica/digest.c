/* SPDX-License-Identifier: Apache-2.0 */
/* Digests check the protocol itself: two nodes that know the same must hold the same. */
#include <stdio.h>
#include <stdlib.h>

#include "replica/internal.h"

static RC own_vector(const struct store *s, struct vector **out) {
    size_t count = store_known_count(s);
    struct store_known_entry *entries = calloc(count + 1, sizeof(*entries));
    ENSURE(entries != NULL, NOMEM);
    struct store_known known;
    struct rc rc = store_known_copy(s, entries, count, &known);
    if (rc.err == E_OK) {
        rc = vector_init(out, &known);
    }
    free(entries);
    return rc;
}

/* Whether this node and the owner of `known` know the same. Not, when memory ends. */
static bool knows_the_same(const struct store *s, const struct store_known *known) {
    AUTO(vector_close) struct vector *own = NULL;
    AUTO(vector_close) struct vector *theirs = NULL;
    struct rc rc = own_vector(s, &own);
    if (rc.err == E_OK) {
        rc = vector_init(&theirs, known);
    }
    if (rc.err != E_OK) {
        return false;
    }
    return vector_covers(own, theirs) && vector_covers(theirs, own);
}

bool replica_is_comparable(const struct replica *r) {
    for (size_t i = 0; i < r->count; i++) {
        if (r->members[i].has_partial) {
            return false;
        }
    }
    return r->in_service;
}

static bool digest_equal(struct store_digest a, struct store_digest b) {
    return a.low == b.low && a.high == b.high;
}

static bool digest_is_zero(struct store_digest d) {
    return d.low == 0 && d.high == 0;
}

static const struct replica_digest *find_app(const struct replica_digest *digests, size_t count,
                                             uint64_t app_id) {
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (digests[middle].app_id == app_id) {
            return &digests[middle];
        }
        low = digests[middle].app_id < app_id ? middle + 1 : low;
        high = digests[middle].app_id < app_id ? high : middle;
    }
    return NULL;
}

/* Every namespace of ours has the same sum there, and there is none there that we lack. */
static bool sums_match(const struct store *s, const uint64_t *app_ids, size_t app_count,
                       const struct replica_digest *digests, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!digest_equal(digests[i].digest, store_digest(s, digests[i].app_id))) {
            return false;
        }
    }
    for (size_t i = 0; i < app_count; i++) {
        if (find_app(digests, count, app_ids[i]) == NULL &&
            !digest_is_zero(store_digest(s, app_ids[i]))) {
            return false;
        }
    }
    return true;
}

static RC compare_sums(const struct store *s, const struct replica_digest *digests, size_t count,
                       bool *equal) {
    struct store_stats stats;
    store_stats(s, &stats);
    size_t app_count = (size_t)stats.namespace_count;
    uint64_t *app_ids = calloc(app_count + 1, sizeof(*app_ids));
    ENSURE(app_ids != NULL, NOMEM);
    app_count = store_app_ids(s, app_ids, app_count);
    *equal = sums_match(s, app_ids, app_count, digests, count);
    free(app_ids);
    return OK;
}

/* By app id and growing, or the search for one would be wrong. */
static bool is_ordered(const struct replica_digest *digests, size_t count) {
    for (size_t i = 1; i < count; i++) {
        if (digests[i].app_id <= digests[i - 1].app_id) {
            return false;
        }
    }
    return true;
}

static void note_equal(struct replica *r, struct member *m) {
    r->stats.digest_ok_count++;
    m->has_digest_alarm = false;
    m->repair = REPAIR_NONE;
}

static void note_different(struct replica *r, struct member *m) {
    r->stats.digest_mismatch_count++;
    if (m->repair == REPAIR_DONE) {
        r->stats.digest_alarm_count++;
        m->has_digest_alarm = true;
        m->repair = REPAIR_NONE;
        (void)snprintf(m->error, sizeof(m->error),
                       "its data differ from this node's, and did so after a repair");
    } else if (!m->has_digest_alarm) {
        m->repair = REPAIR_WANTED; /* With the alarm one more would bring nothing. */
    }
}

static void end_task(struct member *m, const struct replica_now *now, uint64_t again_ms) {
    task_end(m);
    m->digest_at_ms = now->mono_ms + again_ms;
    m->next_at_ms = now->mono_ms;
}

static struct member *find_digest_task(struct replica *r, uint32_t ticket) {
    struct member *m = member_of_ticket(r, ticket);
    return m != NULL && m->task.kind == REPLICA_DIGEST ? m : NULL;
}

void replica_digest_end(struct replica *r, const struct store *s,
                        const struct replica_digests *theirs, const struct replica_now *now) {
    struct member *m = find_digest_task(r, theirs->ticket);
    if (m == NULL) {
        return;
    }
    bool is_equal = false;
    if (!id_equal(theirs->state.incarnation, m->boots.present) ||
        !is_ordered(theirs->at, theirs->count) || theirs->known.count > REPLICA_KNOWN_COUNT_MAX ||
        !replica_is_comparable(r) || !knows_the_same(s, &theirs->known) ||
        compare_sums(s, theirs->at, theirs->count, &is_equal).err != E_OK) {
        end_task(m, now, r->cfg.interval_ms);
        return;
    }
    end_task(m, now, digest_interval_ms(r));
    if (is_equal) {
        note_equal(r, m);
    } else {
        note_different(r, m);
    }
}

void replica_digest_failed(struct replica *r, uint32_t ticket, const struct replica_now *now) {
    struct member *m = find_digest_task(r, ticket);
    if (m != NULL) {
        end_task(m, now, r->cfg.interval_ms);
    }
}
