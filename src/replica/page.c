/* SPDX-License-Identifier: Apache-2.0 */
/* What to do with a page that came (docs/replication.md, section 2.2). */
#include <stdio.h>
#include <string.h>

#include "replica/internal.h"

/* A page that brought nothing, and came at once, is not followed by the next request sooner. */
#define PAUSE_MS 50

/* Whether anything was ever collected here. */
static bool has_floor(const struct store *s) {
    if (store_floor_count(s) > 0) {
        return true;
    }
    struct store_known floor;
    struct rc rc = store_floor_copy(s, NULL, 0, &floor);
    return rc.err != E_OK || floor.rest_hlc > 0;
}

static bool known_is_empty(const struct store_known *known) {
    return known->count == 0 && known->rest_hlc == 0;
}

/* R1: whether records read by one who knew no more than this could bring back what was collected
 * here. An empty vector is no excuse in this direction: its node may hold what came on the pages of
 * a pass that it has not ended. */
static bool could_revive(const struct store *s, const struct store_known *known) {
    return known_is_empty(known) ? has_floor(s) : store_needs_reset(s, known);
}

/* Whether the answer belongs to the request, and comes from whom it may come from. */
static const char *origin_fault(const struct replica *r, const struct store *s,
                                const struct member *m, const struct replica_page *page) {
    const struct replica_state *state = &page->state;
    if (!id_equal(page->requester_incarnation, m->task.own) ||
        !id_equal(store_writer(s), m->task.own)) {
        return "the page answers an earlier incarnation of this node";
    }
    if (id_is_zero(state->incarnation)) {
        return "the page names no incarnation of its sender";
    }
    if (boots_is_retired(&m->boots, state->incarnation)) {
        return "the page comes from an earlier incarnation of its sender";
    }
    if (!hash_equal(state->secret_hash, r->secret_hash)) {
        return "the member holds another master secret";
    }
    if (page->heard_count > REPLICA_HEARD_COUNT_MAX) {
        return "the page names too many incarnations";
    }
    if (!state->in_service) {
        return "the page comes from a member that is not in service";
    }
    return NULL;
}

/* Whether the request was understood otherwise than it was meant: the pull before it came later, or
 * not at all. Nobody's fault. */
static bool follows_another(const struct member *m, const struct replica_page *page) {
    return m->task.is_follow && page->from != m->task.since && !page->reset &&
           id_equal(page->state.incarnation, m->task.theirs);
}

/* Whether the page continues where the cursor stands. */
static const char *range_fault(const struct member *m, const struct replica_page *page) {
    bool is_same = id_equal(page->state.incarnation, m->task.theirs);
    if (page->from != (is_same ? m->task.since : 0)) {
        return "the page starts at another position than the one asked for";
    }
    if (page->next < page->from || page->last < page->next) {
        return "the page's positions go backwards";
    }
    return NULL;
}

static const char *page_fault(const struct replica *r, const struct store *s,
                              const struct member *m, const struct replica_page *page,
                              const struct replica_now *now) {
    const char *fault = range_fault(m, page);
    if (fault == NULL) {
        fault = known_fault(r, s, &page->known, now->unix_ms);
    }
    if (fault == NULL) {
        fault = known_fault(r, s, &page->floor, now->unix_ms);
    }
    if (fault == NULL && could_revive(s, &page->known)) {
        fault = "the member does not know of all that was collected here yet";
    }
    if (fault == NULL && (was_left_behind(s, m, page->state.incarnation, &page->known) ||
                          was_away_too_long(r, m, page->state.incarnation, now->mono_ms))) {
        fault = "the member was away for too long, and must drop its state first";
    }
    return fault;
}

/* Whether its vector may be joined. One that was asked for before the page before it came may have
 * been read before that too, of a network that repeats requests and changes their order: what left
 * that page's range in between is on neither, and its vector tells of it. The next one is asked for
 * by its position, when all before it have come. */
static bool is_last(const struct member *m, const struct replica_page *page) {
    return !page->more && !m->task.is_follow;
}

/* R5 for this node itself: it was out of the registry, and has come back with what it had.
 * Meanwhile the members' vectors may have been shortened to where they cover what only this node
 * has. */
static bool has_missed(struct replica *r, const struct store *s, const struct member *m,
                       const struct replica_page *page) {
    if (!m->task.has_known && !m->task.is_repair) {
        r->was_away = false; /* It came back with nothing. */
    }
    return r->was_away && page->known.rest_hlc > 0 && !rest_covers(s, page->known.rest_hlc);
}

static void end_absence(struct replica *r, struct member *m) {
    bool is_over = true;
    m->knows_no_more = true;
    for (size_t i = 0; i < r->count; i++) {
        is_over = is_over && r->members[i].knows_no_more;
    }
    r->was_away = r->was_away && !is_over;
}

static bool covers_floor(const struct store *s, const struct store_known *floor) {
    bool covers = rest_covers(s, floor->rest_hlc);
    for (size_t i = 0; i < floor->count && covers; i++) {
        struct store_stamp stamp = { .hlc = floor->entries[i].hlc };
        memcpy(stamp.writer, floor->entries[i].writer, sizeof(stamp.writer));
        covers = store_covers(s, &stamp);
    }
    return covers;
}

/* Whether the others that sent records here in a pass that has not ended knew of all that the floor
 * tells. */
static bool partials_cover(const struct replica *r, const struct member *from,
                           const struct vector *floor) {
    bool covers = !r->has_orphans;
    for (size_t i = 0; i < r->count && covers; i++) {
        const struct member *m = &r->members[i];
        covers = m == from || !m->has_partial ||
                 (m->partial != NULL && vector_covers(m->partial, floor));
    }
    return covers;
}

/* Whether the page's sender knew it too when it sent the first of the records that are here: while
 * this node was out of the registry, it may have collected what it had not given yet. What its
 * vector does not cover now, ours will not cover either. */
static bool partial_covers(const struct member *from, const struct replica_page *page) {
    const struct vector *then = from->partial;
    if (!from->has_partial || then == NULL) {
        return !from->has_partial;
    }
    const struct store_known *floor = &page->floor;
    bool covers = then->rest_hlc >= floor->rest_hlc || page->known.rest_hlc < floor->rest_hlc;
    for (size_t i = 0; i < floor->count && covers; i++) {
        struct store_stamp stamp = { .hlc = floor->entries[i].hlc };
        memcpy(stamp.writer, floor->entries[i].writer, sizeof(stamp.writer));
        covers = vector_hlc(then, stamp.writer) >= stamp.hlc ||
                 !store_known_covers(&page->known, &stamp);
    }
    return covers;
}

/* R1 for this node itself, before it takes over a floor: what is here must not be older than what
 * was collected there. Its vector says so; while it is empty, those of the members whose pages were
 * merged do. False when memory ends. */
static bool may_join_floor(const struct replica *r, const struct store *s, const struct member *m,
                           const struct replica_page *page) {
    if (covers_floor(s, &page->floor)) {
        return true;
    }
    if (!knows_nothing(s)) {
        return false;
    }
    AUTO(vector_close) struct vector *floor = NULL;
    struct rc rc = vector_init(&floor, &page->floor);
    return rc.err == E_OK && partial_covers(m, page) && partials_cover(r, m, floor);
}

/* The member answered: it is the one alive. */
static void confirm(struct replica *r, struct member *m, const struct replica_page *page,
                    const struct replica_now *now) {
    const struct member before = *m;
    if (boots_confirm(&m->boots, page->state.incarnation, m->task.turn, m->task.sent_ms)) {
        note_bound(r, &before, now->mono_ms);
        m->clean_ms = 0;
        m->since = 0;
        m->repair_since = 0;
        m->clean_unix_ms = 0;
        m->last = 0;
        m->is_at_end = false;
        m->is_complete = false;
        r->has_orphans = r->has_orphans || m->has_partial;
        m->lag_ms = 0;
        m->has_record_alarm = false;
        m->has_digest_alarm = false;
        m->repair = REPAIR_NONE;
        m->digest_at_ms = 0;
        if (!id_equal(m->shown.by, page->state.incarnation)) {
            shown_clear(&m->shown);
        }
    }
    member_hear(m, &page->state, now);
    newcomer_hear(r, m, &page->state);
    m->answered_ms = now->mono_ms;
    m->is_starting = false;
}

static enum replica_verdict drop(struct replica *r, struct member *m, const char *fault,
                                 const struct replica_now *now, char why[REPLICA_REASON_BYTES]) {
    r->stats.dropped_page_count++;
    (void)snprintf(why, REPLICA_REASON_BYTES, "%s", fault);
    if (m != NULL) {
        task_fail(r, m, now, fault);
        start_update(r, now->mono_ms);
    }
    return REPLICA_DROP;
}

enum replica_verdict replica_page_begin(struct replica *r, const struct store *s,
                                        const struct replica_arrival *arrival,
                                        const struct replica_now *now,
                                        char why[static REPLICA_REASON_BYTES]) {
    const struct replica_page *page = arrival->page;
    why[0] = '\0';
    struct member *m = member_of_ticket(r, arrival->ticket);
    struct task *ahead = ahead_of_ticket(r, arrival->ticket, &m);
    if (ahead != NULL) { /* Before the page before it was merged. */
        ahead_drop(m, ahead);
        return drop(r, NULL, "the page came before its turn", now, why);
    }
    if (m == NULL || !m->task.was_asked || m->task.is_merging) {
        return drop(r, NULL, "the page answers a request that has ended", now, why);
    }
    const char *fault = origin_fault(r, s, m, page);
    if (fault != NULL) {
        return drop(r, m, fault, now, why);
    }
    if (follows_another(m, page)) {
        task_end(m); /* And is asked for again, by its position. */
        return drop(r, NULL, "the page follows another one than the one before it", now, why);
    }
    confirm(r, m, page, now);
    boots_hear_all(r, page->heard, page->heard_count);
    if (page->reset && !m->task.has_known) {
        return drop(r, m, "the member asks for a reset of one who knows nothing", now, why);
    }
    if (page->reset || has_missed(r, s, m, page)) {
        r->stats.reset_count++;
        (void)snprintf(why, REPLICA_REASON_BYTES, "%s",
                       page->reset ? "the member has collected what this node may not know of"
                                   : "this node was away, and the member's vector was shortened "
                                     "without waiting for it");
        task_fail(r, m, now, why);
        m->first_until_ms = now->mono_ms + FIRST_MS;
        return REPLICA_RESET;
    }
    fault = page_fault(r, s, m, page, now);
    if (fault != NULL) {
        return drop(r, m, fault, now, why);
    }
    if (is_last(m, page) && !may_join_floor(r, s, m, page)) {
        r->is_mixed = true; /* The next request says so, and the member asks for a reset. */
        return drop(r, m, "what is here may be older than what the member has collected", now, why);
    }
    m->task.is_merging = true;
    return REPLICA_TAKE;
}

/* Whether time, or what the operator does about memory, mends it. */
static bool is_for_good(enum store_refusal refusal) {
    return refusal != STORE_REFUSED_SKEW && refusal != STORE_REFUSED_HARD_BYTES &&
           refusal != STORE_REFUSED_WRITERS && refusal != STORE_REFUSED_MEMORY;
}

static void refuse(struct task *t, enum store_refusal refusal) {
    t->refused_count++;
    t->refusal = refusal;
    t->is_refused_for_good = t->is_refused_for_good || is_for_good(refusal);
}

static void merge_one(struct replica *r, struct store *s, struct task *t,
                      const struct replica_record *record, const struct replica_now *now) {
    r->stats.record_count++;
    r->stats.byte_count += record->remote.key.len + record->remote.sealed.len;
    t->record_count++;
    if (record->is_forged) {
        r->stats.forged_count++;
        refuse(t, STORE_REFUSED_NONE);
        return;
    }
    struct store_merged merged;
    struct rc rc = store_merge(s, &record->remote, now->unix_ms, &merged);
    if (rc.err != E_OK) {
        refuse(t, merged.refusal);
    } else if (merged.outcome == STORE_MERGE_APPLIED) {
        r->stats.applied_count++;
        t->applied_count++;
    }
}

/* Records are here that no vector of ours covers yet. */
static void note_partial(struct replica *r, const struct store *s, struct member *m,
                         const struct replica_page *page) {
    if (m->task.applied_count == 0 || m->has_partial) {
        return; /* The first page's vector is the least. */
    }
    m->has_partial = true;
    if (knows_nothing(s)) {
        struct rc rc = vector_init(&m->partial, &page->known);
        r->has_orphans = r->has_orphans || rc.err != E_OK;
    }
}

bool replica_merge(struct replica *r, struct store *s, const struct replica_arrival *arrival,
                   const struct replica_records *records, const struct replica_now *now) {
    ASSERT(records->count <= REPLICA_MERGE_STEP);
    struct member *m = member_of_ticket(r, arrival->ticket);
    if (m == NULL || !m->task.is_merging || m->task.is_void) {
        return false;
    }
    /* The collector may have run since the last step, or the store been given another writer. */
    if (could_revive(s, &arrival->page->known) || !id_equal(store_writer(s), m->task.own)) {
        m->task.is_void = true;
        return false;
    }
    for (size_t i = 0; i < records->count; i++) {
        store_merge_ahead(s, &records->at[i].remote);
    }
    for (size_t i = 0; i < records->count; i++) {
        merge_one(r, s, &m->task, &records->at[i], now);
    }
    note_partial(r, s, m, arrival->page);
    return true;
}

static void fail_refused(struct replica *r, struct member *m, const struct replica_now *now) {
    const struct task *t = &m->task;
    char reason[REPLICA_REASON_BYTES];
    m->has_record_alarm = m->has_record_alarm || t->is_refused_for_good;
    (void)snprintf(reason, sizeof(reason),
                   "%u records of its page were refused, the last one as %s",
                   (unsigned)t->refused_count,
                   t->refusal == STORE_REFUSED_NONE ? "forged" : store_refusal_name(t->refusal));
    task_fail(r, m, now, reason);
}

static void end_repair(struct replica *r, struct member *m, uint64_t now_ms) {
    m->repair = REPAIR_DONE;
    m->repair_since = 0;
    m->digest_at_ms = now_ms + r->cfg.interval_ms;
    r->stats.repair_count++;
}

/* The page was the last one: what its sender knew before it read it is here too. */
static bool join(struct replica *r, struct store *s, struct member *m,
                 const struct replica_page *page, const struct replica_now *now) {
    /* The floor first: a failure between the two leaves a floor that is too high, which only turns
     * away more than it must. */
    struct rc rc = may_join_floor(r, s, m, page) ? store_join_floor(s, &page->floor, now->unix_ms)
                                                 : ERR(AGAIN); /* Judged anew with the next page. */
    if (rc.err == E_OK) {
        rc = store_join_known(s, &page->known, now->unix_ms);
    }
    if (rc.err != E_OK) {
        char reason[REPLICA_REASON_BYTES];
        (void)snprintf(reason, sizeof(reason), "its version vector cannot be joined: %s",
                       err_text(rc.err));
        task_fail(r, m, now, reason);
        return false;
    }
    if (m->task.is_repair) {
        end_repair(r, m, now->mono_ms);
    }
    m->clean_unix_ms = page->state.unix_ms;
    m->clean_ms = now->mono_ms;
    m->is_complete = true;
    m->has_admitted = page->newcomer;
    if (!knows_nothing(s)) { /* Else they may be such as its sender has from a pass half done. */
        m->has_partial = false;
        vector_close(&m->partial);
    }
    m->returned = (struct departed){ 0 };
    m->first_until_ms = 0;
    m->lead_turn = 0;
    end_absence(r, m);
    return true;
}

static void note_lag(struct member *m, const struct replica_page *page, uint64_t now_ms) {
    m->last = page->last;
    if (m->since >= m->last) {
        m->lag_ms = 0;
    } else if (m->lag_ms == 0) {
        m->lag_ms = now_ms;
    }
}

static void succeed(struct replica *r, struct member *m, const struct replica_page *page,
                    const struct replica_now *now) {
    bool is_idle = m->task.record_count == 0 && page->next == page->from;
    uint64_t sent_ms = m->task.sent_ms;
    r->stats.pull_ok_count++;
    m->is_at_end = is_last(m, page);
    m->is_answering = true;
    m->has_record_alarm = false;
    m->ok_ms = now->mono_ms;
    m->fail_count = 0;
    m->error[0] = '\0';
    m->next_at_ms = now->mono_ms;
    m->first_until_ms = m->first_until_ms == 0 ? 0 : now->mono_ms + FIRST_MS;
    if (m->digest_at_ms == 0) {
        m->digest_at_ms = now->mono_ms + digest_interval_ms(r);
    }
    if (m->is_at_end && r->cfg.wait_ms == 0) {
        m->next_at_ms = now->mono_ms + r->cfg.interval_ms;
    } else if (is_idle && (m->is_at_end || page->more) && now->mono_ms - sent_ms < PAUSE_MS) {
        m->next_at_ms = sent_ms + PAUSE_MS;
    }
    task_advance(m);
}

void replica_page_end(struct replica *r, struct store *s, const struct replica_arrival *arrival,
                      const struct replica_now *now) {
    const struct replica_page *page = arrival->page;
    struct member *m = member_of_ticket(r, arrival->ticket);
    if (m == NULL || !m->task.is_merging) {
        return;
    }
    if (m->task.is_void || !id_equal(store_writer(s), m->task.own)) {
        task_fail(r, m, now, "what the member did not know of was collected here meanwhile");
        start_update(r, now->mono_ms);
        return;
    }
    if (m->task.refused_count > 0) {
        fail_refused(r, m, now);
        start_update(r, now->mono_ms);
        return;
    }
    if (m->task.is_repair) {
        m->repair_since = page->next;
    } else {
        m->since = page->next;
    }
    note_lag(m, page, now->mono_ms);
    if (!is_last(m, page) || join(r, s, m, page, now)) {
        succeed(r, m, page, now);
    }
    start_update(r, now->mono_ms);
}
