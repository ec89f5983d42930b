/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/internal.h"

void replica_stats(const struct replica *r, struct replica_stats *out) {
    *out = r->stats;
    out->other_count = (uint32_t)r->count;
    out->reachable_count = 0;
    for (size_t i = 0; i < r->count; i++) {
        out->reachable_count += r->members[i].is_answering ? 1 : 0;
    }
}

bool replica_view(const struct replica *r, size_t idx, const struct replica_now *now,
                  struct replica_view *out) {
    *out = (struct replica_view){ 0 };
    if (idx >= r->count) {
        return false;
    }
    const struct member *m = &r->members[idx];
    *out = (struct replica_view){ .wallet = m->wallet,
                                  .url = m->url,
                                  .reachable = member_is_reachable(r, m, now->mono_ms),
                                  .in_service = m->in_service,
                                  .position = m->since,
                                  .lag_count = m->last > m->since ? m->last - m->since : 0,
                                  .lag_ms = m->lag_ms == 0 ? 0 : now->mono_ms - m->lag_ms,
                                  .heard_ms = m->answered_ms,
                                  .has_alarm = m->has_record_alarm || m->has_digest_alarm,
                                  .error = m->error };
    return true;
}

static void check_shown(const struct shown *shown) {
    const struct vector *latest = shown->latest;
    ASSERT(latest == NULL || !id_is_zero(shown->by));
    ASSERT(shown->candidate == NULL || vector_covers(latest, shown->candidate));
    ASSERT(shown->settled == NULL || vector_covers(latest, shown->settled));
    ASSERT(shown->settled == NULL || shown->candidate == NULL ||
           vector_covers(shown->candidate, shown->settled));
}

static void check_boots(const struct boots *b) {
    ASSERT(b->heard_count <= HEARD_COUNT_MAX);
    for (uint32_t i = 0; i < b->heard_count; i++) {
        ASSERT(!id_is_zero(b->heard[i].incarnation));
        ASSERT(!id_equal(b->heard[i].incarnation, b->present));
        ASSERT(!boots_is_retired(b, b->heard[i].incarnation));
    }
    ASSERT(id_is_zero(b->present) || !boots_is_retired(b, b->present));
}

static void check_member(const struct replica *r, const struct member *m) {
    check_shown(&m->shown);
    check_boots(&m->boots);
    ASSERT(m->url != NULL);
    ASSERT(m->task.kind == REPLICA_IDLE || m->task.ticket != 0);
    ASSERT(!m->task.is_merging || m->task.was_asked);
    /* What is asked ahead follows a page that has come, which may wait for its turn. */
    ASSERT(m->ahead_count == 0 || (m->task.kind == REPLICA_PULL && m->task.was_asked));
    ASSERT(m->ahead_count <= REPLICA_AHEAD_COUNT_MAX);
    for (size_t i = 0; i < REPLICA_AHEAD_COUNT_MAX; i++) {
        const struct task *t = &m->ahead[i];
        ASSERT((t->kind == REPLICA_PULL) == (i < m->ahead_count));
        ASSERT(!t->is_merging && !t->is_repair);
        ASSERT(i + 1 >= m->ahead_count || t->was_asked);
    }
    ASSERT(m->since == 0 || !id_is_zero(m->boots.present));
    ASSERT(!m->is_complete || r->has_secret);
    ASSERT(m->lead_turn <= r->turn);
}

void replica_check(const struct replica *r, const struct store *s) {
    ASSERT(r->count <= REPLICA_MEMBER_COUNT_MAX);
    ASSERT(!r->in_service || (r->has_secret && r->has_members));
    ASSERT(!r->has_own || r->own[0] == store_writer(s)[0]);
    for (size_t i = 0; i < r->count; i++) {
        check_member(r, &r->members[i]);
        for (size_t k = 0; k < i; k++) {
            ASSERT(!wallet_equal(&r->members[i].wallet, &r->members[k].wallet));
            ASSERT(r->members[i].lead_turn == 0 ||
                   r->members[i].lead_turn != r->members[k].lead_turn);
        }
    }
}
