/* SPDX-License-Identifier: Apache-2.0 */
/* What may be forgotten: rules R3 and R5 of docs/replication.md. */
#include "replica/internal.h"

/* Vectors are shortened to multiples of this part of compact_after_ms, so that those of different
 * nodes are equal but for a moment: only then digests can be compared. */
#define COMPACT_PARTS 8

/* Whether the member's settled vector may be used: its boot answered a request that was sent after
 * any vector used now was shown, so a later boot has pulled only from those who knew as much. */
static bool has_settled(const struct replica *r, struct member *m, uint64_t now_ms) {
    shown_age(&m->shown, r->cfg.settle_ms, now_ms);
    return m->shown.settled != NULL && boots_is_present(&m->boots, m->shown.by) &&
           now_ms - m->boots.present_ms <= r->cfg.settle_ms;
}

uint64_t member_all_unix_ms(const struct replica *r, const struct member *m) {
    uint64_t skew_ms = r->cfg.clock_skew_ms;
    bool is_sure = m->boots.heard_count == 0 && m->clean_unix_ms > skew_ms;
    return is_sure ? m->clean_unix_ms - skew_ms : 0;
}

bool rest_covers(const struct store *s, uint64_t hlc) {
    /* No writer is all zero: what the vector says of it is what it says of the rest. */
    struct store_stamp stamp = { .hlc = hlc };
    return store_covers(s, &stamp);
}

bool knows_nothing(const struct store *s) {
    return store_known_count(s) == 0 && !rest_covers(s, 1);
}

bool was_left_behind(const struct store *s, const struct member *m,
                     const uint8_t boot[static STORE_WRITER_BYTES],
                     const struct store_known *known) {
    if (!m->returned.is_set) {
        return false;
    }
    if (id_is_zero(m->returned.boot)) {
        /* It left before it had answered once, so nothing is known of what it has. */
        return (known->count > 0 || known->rest_hlc > 0) && rest_covers(s, known->rest_hlc + 1);
    }
    return id_equal(m->returned.boot, boot) &&
           rest_covers(s, (m->returned.all_unix_ms + 1) << STORE_HLC_LOGICAL_BITS);
}

bool was_away_too_long(const struct replica *r, const struct member *m,
                       const uint8_t boot[static STORE_WRITER_BYTES], uint64_t now_ms) {
    if (!m->returned.is_set || r->was_away || r->cfg.compact_after_ms == 0) {
        return false;
    }
    /* Another may have seen it leave so much earlier, and see it come back so much later. */
    uint64_t view_ms = r->cfg.members_age_max_ms;
    return id_equal(m->returned.boot, boot) &&
           now_ms - m->returned.left_ms + 2 * view_ms >= r->cfg.compact_after_ms;
}

/* Once every member has shown that it knows everything up to some time, whoever does not has been
 * away: the floor says so to all, also to those that start later (R2). */
static void raise_floor(const struct replica *r, struct store *s, uint64_t now_unix_ms) {
    uint64_t rest_hlc = r->count == 0 ? 0 : UINT64_MAX;
    for (size_t i = 0; i < r->count; i++) {
        rest_hlc = r->settled[i].rest_hlc < rest_hlc ? r->settled[i].rest_hlc : rest_hlc;
    }
    if (rest_hlc > 0 && rest_covers(s, rest_hlc)) {
        struct store_known floor = { .rest_hlc = rest_hlc };
        struct rc rc = store_join_floor(s, &floor, now_unix_ms);
        (void)rc; /* Of the past, and without entries: nothing to refuse. */
    }
}

/* Whether whatever was on its way then has come: every member was pulled to the end since nobody
 * can have taken it from its writer any more. */
static bool is_bound_over(const struct replica *r, uint64_t now_ms) {
    bool is_over = now_ms - r->bound_ms >= r->cfg.compact_after_ms;
    for (size_t i = 0; i < r->count && is_over; i++) {
        is_over = r->members[i].clean_ms >= r->bound_ms + r->cfg.settle_ms;
    }
    return is_over;
}

static void compact(struct replica *r, struct store *s, const struct replica_now *now) {
    uint64_t back_ms = r->cfg.compact_after_ms;
    /* Who left before this node started may come back, too: see note_bound. */
    if (back_ms == 0 || now->mono_ms - r->start_ms < back_ms) {
        return;
    }
    uint64_t all_unix_ms = now->unix_ms > back_ms ? now->unix_ms - back_ms : 0;
    r->has_bound = r->has_bound && !is_bound_over(r, now->mono_ms);
    if (r->has_bound) {
        all_unix_ms = r->bound_unix_ms < all_unix_ms ? r->bound_unix_ms : all_unix_ms;
    }
    for (size_t i = 0; i < r->count; i++) {
        uint64_t member_unix_ms = member_all_unix_ms(r, &r->members[i]);
        all_unix_ms = member_unix_ms < all_unix_ms ? member_unix_ms : all_unix_ms;
    }
    all_unix_ms -= all_unix_ms % (back_ms / COMPACT_PARTS + 1);
    if (all_unix_ms > r->compacted_unix_ms && all_unix_ms <= STORE_UNIX_MS_MAX) {
        r->compacted_unix_ms = all_unix_ms;
        /* Refused only when compact_after_ms is shorter than the retention: then never. */
        struct rc rc = store_compact_known(s, all_unix_ms << STORE_HLC_LOGICAL_BITS, now->unix_ms);
        (void)rc;
    }
}

static bool knows_members(const struct replica *r, uint64_t now_ms) {
    uint64_t age_max_ms = r->cfg.members_age_max_ms;
    return r->has_members && (age_max_ms == 0 || now_ms - r->members_ms <= age_max_ms);
}

void replica_collect(struct replica *r, struct store *s, size_t step_max,
                     const struct replica_now *now, struct store_collected *out) {
    bool can_forget = r->in_service && knows_members(r, now->mono_ms);
    bool is_allowed = can_forget;
    for (size_t i = 0; i < r->count; i++) {
        struct member *m = &r->members[i];
        bool has = has_settled(r, m, now->mono_ms);
        is_allowed = is_allowed && has;
        r->settled[i] = has ? vector_known(m->shown.settled) : (struct store_known){ 0 };
    }
    /* One vector that covers nothing keeps every dead record; expired values still give up their
     * bytes. */
    static const struct store_known nothing;
    struct store_collect c = { .now_unix_ms = now->unix_ms,
                               .members = is_allowed ? r->settled : &nothing,
                               .member_count = is_allowed ? r->count : 1,
                               .step_max = step_max };
    store_collect(s, &c, out);
    if (is_allowed) {
        raise_floor(r, s, now->unix_ms);
    }
    if (can_forget) {
        compact(r, s, now);
    }
}
