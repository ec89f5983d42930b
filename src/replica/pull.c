/* SPDX-License-Identifier: Apache-2.0 */
/* Whom to ask next, and how. */
#include <stdio.h>
#include <string.h>

#include "replica/internal.h"

/* Digests are compared each time after so many intervals. */
#define DIGEST_INTERVALS 6
/* While this node is starting: whoever answers so fast is pulled from alone. */
#define ALONE_MS 250u
#define FIRST_PAGE_BYTES 4096u
/* Of a long poll while this node is starting. */
#define START_POLL_MS 500u

uint64_t digest_interval_ms(const struct replica *r) {
    return (uint64_t)DIGEST_INTERVALS * r->cfg.interval_ms;
}

void task_end(struct member *m) {
    m->task = (struct task){ 0 };
    ahead_drop(m, m->ahead);
}

void ahead_drop(struct member *m, const struct task *from) {
    size_t kept_count = (size_t)(from - m->ahead);
    memset(&m->ahead[kept_count], 0, (REPLICA_AHEAD_COUNT_MAX - kept_count) * sizeof(m->ahead[0]));
    m->ahead_count = kept_count < m->ahead_count ? kept_count : m->ahead_count;
}

void task_advance(struct member *m) {
    const struct task *next = m->ahead;
    bool is_next = m->ahead_count > 0 && next->was_asked &&
                   (next->is_follow || next->since == m->since) &&
                   id_equal(next->own, m->task.own) && id_equal(next->theirs, m->boots.present);
    if (!is_next) {
        task_end(m);
        return;
    }
    m->task = *next;
    m->task.since = m->since; /* Of one that follows: known now. */
    m->ahead_count--;
    memmove(m->ahead, m->ahead + 1, m->ahead_count * sizeof(m->ahead[0]));
    ahead_drop(m, m->ahead + m->ahead_count);
}

static uint64_t backoff_ms(const struct replica *r, const struct member *m, uint32_t random) {
    uint64_t delay_ms = r->cfg.backoff_min_ms;
    for (uint32_t i = 1; i < m->fail_count && delay_ms < r->cfg.backoff_max_ms; i++) {
        delay_ms *= 2;
    }
    delay_ms = delay_ms < r->cfg.backoff_max_ms ? delay_ms : r->cfg.backoff_max_ms;
    return delay_ms / 2 + random % (delay_ms - delay_ms / 2 + 1);
}

void task_fail(struct replica *r, struct member *m, const struct replica_now *now,
               const char *reason) {
    task_end(m);
    r->stats.pull_failed_count++;
    m->is_answering = false;
    m->is_at_end = false;
    m->first_until_ms = 0;
    m->lead_turn = 0;
    m->fail_count += m->fail_count < UINT32_MAX ? 1 : 0;
    /* The same random number may serve several members: their places spread them. */
    uint32_t spread = now->random + (uint32_t)(m - r->members) * 2654435761u;
    m->next_at_ms = now->mono_ms + backoff_ms(r, m, spread);
    (void)snprintf(m->error, sizeof(m->error), "%s", reason);
}

static uint32_t new_ticket(struct replica *r) {
    r->last_ticket += r->last_ticket == UINT32_MAX ? 2 : 1; /* Never 0. */
    return r->last_ticket;
}

/* More than a first page is about to be asked of the member. */
static void note_lead(struct replica *r, struct member *m, uint64_t since) {
    bool has_pass = !r->in_service && since > 0 && !m->is_at_end && !m->is_complete;
    if (has_pass && m->lead_turn == 0) {
        m->lead_turn = ++r->turn;
    }
}

static void begin_task(struct replica *r, struct member *m, const struct replica_now *now,
                       struct replica_todo *out) {
    bool digest = m->is_at_end && (m->repair == REPAIR_NONE || m->repair == REPAIR_DONE) &&
                  r->in_service && now->mono_ms >= m->digest_at_ms;
    m->task = (struct task){ .kind = digest ? REPLICA_DIGEST : REPLICA_PULL,
                             .ticket = new_ticket(r),
                             .sent_ms = now->mono_ms };
    note_lead(r, m, m->since);
    *out = (struct replica_todo){ .kind = m->task.kind,
                                  .wallet = m->wallet,
                                  .ticket = m->task.ticket };
}

/* A store with another writer than before holds nothing of what the cursors stand for. */
static void note_writer(struct replica *r, const struct store *s, const struct replica_now *now) {
    if (r->has_own && !id_equal(r->own, store_writer(s))) {
        replica_restart(r, now);
    }
    r->has_own = true;
    memcpy(r->own, store_writer(s), STORE_WRITER_BYTES);
}

/* Until when the member's next page can be expected soon; 0: no pass goes on. That a page takes
 * long to merge, and the next one is not looked at before, is no stall of the member's. */
static uint64_t pass_until_ms(const struct member *m) {
    if (m->first_until_ms != 0) {
        return m->first_until_ms;
    }
    if (m->lead_turn == 0) {
        return 0;
    }
    if (m->task.is_merging) {
        return UINT64_MAX;
    }
    return (m->task.sent_ms > m->ok_ms ? m->task.sent_ms : m->ok_ms) + ALONE_MS;
}

/* Who told this node to begin again goes first; then whoever was asked first for more than a first
 * page, until its pass has ended. Not whose cursor is further: positions in two logs cannot be
 * compared, and each page that moves one would make the other wait instead. */
static bool is_before(const struct member *m, const struct member *other) {
    if ((m->first_until_ms != 0) != (other->first_until_ms != 0)) {
        return m->first_until_ms != 0;
    }
    if (m->lead_turn != other->lead_turn) {
        return m->lead_turn != 0 && (other->lead_turn == 0 || m->lead_turn < other->lead_turn);
    }
    return m < other;
}

/* A starting node pulls everything from one member, and then from the others what that one did not
 * have: all at once would send the same records several times. Until when this one waits for such a
 * pass of another; 0: it does not. One that stalls lets the next one go on, and keeps its turn:
 * where every page takes long, a turn that is lost by it would go round, and each wait for all
 * others. Who told this node to begin again is waited for also with the first page: the vector of
 * another, which does not know what was collected there, would have it say so again, for ever. */
static uint64_t held_until_ms(const struct replica *r, const struct member *m, uint64_t since) {
    if (r->in_service || m->is_complete) {
        return 0;
    }
    uint64_t until_ms = 0;
    for (const struct member *other = r->members; other < r->members + r->count; other++) {
        bool is_waited_for = other != m && (since != 0 || other->first_until_ms != 0);
        uint64_t pass_ms = is_waited_for && is_before(other, m) ? pass_until_ms(other) : 0;
        until_ms = pass_ms > until_ms ? pass_ms : until_ms;
    }
    return until_ms;
}

static uint64_t next_at_ms(const struct replica *r, const struct member *m) {
    uint64_t held_ms = held_until_ms(r, m, m->since);
    return held_ms > m->next_at_ms ? held_ms : m->next_at_ms;
}

void replica_next(struct replica *r, const struct store *s, const struct replica_now *now,
                  struct replica_todo *out) {
    note_writer(r, s, now);
    start_update(r, now->mono_ms);
    *out = (struct replica_todo){ .at_ms = now->mono_ms + r->cfg.interval_ms };
    if (!r->has_secret) {
        return;
    }
    uint64_t start_at_ms = r->start_ms + r->cfg.start_wait_ms;
    if (!r->in_service && r->is_clocked && start_at_ms > now->mono_ms && start_at_ms < out->at_ms) {
        out->at_ms = start_at_ms;
    }
    for (size_t i = 0; i < r->count; i++) {
        size_t idx = (r->next_idx + i) % r->count;
        struct member *m = &r->members[idx];
        if (m->task.kind != REPLICA_IDLE) {
            continue;
        }
        uint64_t at_ms = next_at_ms(r, m);
        if (at_ms <= now->mono_ms) {
            r->next_idx = (idx + 1) % r->count;
            begin_task(r, m, now, out);
            return;
        }
        out->at_ms = at_ms < out->at_ms ? at_ms : out->at_ms;
    }
}

/* Whether pages can be asked for behind this one, which is being merged. */
static bool can_follow(const struct member *m, const struct replica_page *page) {
    const struct task *newest = m->ahead_count == 0 ? &m->task : &m->ahead[m->ahead_count - 1];
    /* An empty one only ends a wait (the relay rule): there is seldom more than one page behind. */
    size_t count_max = page->next > page->from ? REPLICA_AHEAD_COUNT_MAX : 1;
    return m->task.is_merging && !m->task.is_void && !m->task.is_repair && page->more &&
           m->ahead_count < count_max && newest->was_asked;
}

bool replica_ahead(struct replica *r, const struct replica_arrival *arrival,
                   const struct replica_now *now, struct replica_todo *out) {
    uint64_t since = arrival->page->next;
    *out = (struct replica_todo){ 0 };
    struct member *m = member_of_ticket(r, arrival->ticket);
    if (m == NULL || !can_follow(m, arrival->page) || held_until_ms(r, m, since) > now->mono_ms) {
        return false;
    }
    note_lead(r, m, since);
    struct task *t = &m->ahead[m->ahead_count];
    *t = (struct task){ .kind = REPLICA_PULL,
                        .ticket = new_ticket(r),
                        .since = since,
                        .is_follow = m->ahead_count > 0,
                        .sent_ms = now->mono_ms };
    m->ahead_count++;
    *out = (struct replica_todo){ .kind = REPLICA_PULL, .wallet = m->wallet, .ticket = t->ticket };
    return true;
}

/* Who is not at the end, or does not know which boot it asks, wants an answer at once; and a
 * starting node hears soon of a boot that began meanwhile. */
static uint32_t wait_ms(const struct replica *r, const struct member *m) {
    if (!m->is_at_end || m->task.is_repair || m->boots.heard_count > 0) {
        return 0;
    }
    return r->in_service || r->cfg.wait_ms < START_POLL_MS ? r->cfg.wait_ms : START_POLL_MS;
}

/* A starting node asks everybody at once for a first page: only to see who answers. */
static uint32_t bytes_max(const struct replica *r, const struct task *t) {
    bool is_first = !r->in_service && t->since == 0 && !t->is_repair;
    return is_first && r->cfg.page_bytes_max > FIRST_PAGE_BYTES ? FIRST_PAGE_BYTES
                                                                : r->cfg.page_bytes_max;
}

RC replica_pull_request(struct replica *r, const struct store *s, const struct replica_ask *ask,
                        const struct replica_now *now, struct replica_request *out) {
    *out = (struct replica_request){ 0 };
    struct member *m = member_of_ticket(r, ask->ticket);
    struct task *t = m != NULL ? &m->task : ahead_of_ticket(r, ask->ticket, &m);
    ENSURE(t != NULL && t->kind == REPLICA_PULL, NOT_FOUND);
    bool is_ahead = t != &m->task;
    t->is_repair = !is_ahead && (m->repair == REPAIR_WANTED || m->repair == REPAIR_UNDER_WAY);
    if (!t->is_repair) {
        TRY(store_known_copy(s, ask->entries, ask->entry_count_max, &out->known));
    }
    if (r->is_mixed && knows_nothing(s)) {
        out->known.rest_hlc = 1; /* Not empty, and true: nothing was ever stamped so low. */
    }
    t->was_asked = true;
    t->turn = ++r->turn;
    t->sent_ms = now->mono_ms;
    t->has_known = out->known.count > 0 || out->known.rest_hlc > 0;
    if (!is_ahead) {
        t->since = t->is_repair ? m->repair_since : m->since;
    }
    memcpy(t->own, store_writer(s), sizeof(t->own));
    memcpy(t->theirs, m->boots.present, sizeof(t->theirs));
    m->repair = t->is_repair ? REPAIR_UNDER_WAY : m->repair;
    replica_own_state(r, s, now, &out->state);
    memcpy(out->responder_incarnation, t->theirs, sizeof(t->theirs));
    out->since = t->since;
    out->follow = t->is_follow;
    out->bytes_max = bytes_max(r, t);
    out->wait_ms = is_ahead ? 0 : wait_ms(r, m);
    return OK;
}

void replica_pull_failed(struct replica *r, uint32_t ticket, bool is_starting, const char *reason,
                         const struct replica_now *now) {
    struct member *m = member_of_ticket(r, ticket);
    struct task *ahead = ahead_of_ticket(r, ticket, &m);
    if (ahead != NULL) {
        ahead_drop(m, ahead); /* The pages before it are still good. */
        return;
    }
    if (m == NULL || m->task.kind != REPLICA_PULL) {
        return;
    }
    task_fail(r, m, now, reason);
    m->is_starting = is_starting;
    m->in_service = m->in_service && !is_starting;
    m->answered_ms = is_starting ? now->mono_ms : m->answered_ms;
    start_update(r, now->mono_ms);
}
