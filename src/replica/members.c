/* SPDX-License-Identifier: Apache-2.0 */
/* Who the members are: one for each URL, and what is kept of each. */
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"

/* A member was reached if its last pull ended well at most this many intervals ago. */
#define REACHED_INTERVALS 2

struct member *member_find(struct replica *r, const struct wallet *wallet) {
    for (size_t i = 0; i < r->count; i++) {
        if (wallet_equal(&r->members[i].wallet, wallet)) {
            return &r->members[i];
        }
    }
    return NULL;
}

struct task *ahead_of_ticket(struct replica *r, uint32_t ticket, struct member **out) {
    for (size_t i = 0; i < r->count; i++) {
        struct member *m = &r->members[i];
        for (size_t k = 0; k < m->ahead_count; k++) {
            if (m->ahead[k].ticket == ticket) {
                *out = m;
                return &m->ahead[k];
            }
        }
    }
    return NULL;
}

struct member *member_of_ticket(struct replica *r, uint32_t ticket) {
    for (size_t i = 0; i < r->count; i++) {
        const struct task *t = &r->members[i].task;
        if (t->kind != REPLICA_IDLE && t->ticket == ticket) {
            return &r->members[i];
        }
    }
    return NULL;
}

void member_close(struct member *m) {
    shown_clear(&m->shown);
    vector_close(&m->partial);
    free(m->url);
    *m = (struct member){ 0 };
}

void member_restart(struct member *m) {
    shown_clear(&m->shown);
    vector_close(&m->partial);
    /* Its boots are no matter of ours: what was proven of them stays so. */
    struct member fresh = { .wallet = m->wallet,
                            .url = m->url,
                            .instance_id = m->instance_id,
                            .boots = m->boots,
                            .returned = m->returned,
                            .first_until_ms = m->first_until_ms,
                            .heard_ms = m->heard_ms,
                            .heard_unix_ms = m->heard_unix_ms,
                            .head_block = m->head_block,
                            .clock_ahead_ms = m->clock_ahead_ms };
    *m = fresh;
}

void member_hear(struct member *m, const struct replica_state *state,
                 const struct replica_now *now) {
    m->heard_ms = now->mono_ms;
    m->heard_unix_ms = state->unix_ms;
    m->head_block = state->head_block;
    /* Both are below 2^63, or the clock is so far off that any number says it. */
    m->clock_ahead_ms = (int64_t)(state->unix_ms & INT64_MAX) - (int64_t)(now->unix_ms & INT64_MAX);
    m->in_service = state->in_service;
}

bool member_is_reachable(const struct replica *r, const struct member *m, uint64_t now_ms) {
    uint64_t span_ms = r->cfg.interval_ms > r->cfg.wait_ms ? r->cfg.interval_ms : r->cfg.wait_ms;
    return m->is_answering && now_ms - m->ok_ms <= REACHED_INTERVALS * span_ms;
}

/* ---- replica_set_members ---- */

static bool same_text(const char *a, const char *b) {
    return span_equal(span_str(a), span_str(b));
}

static bool is_self(const struct replica_member *self, const struct replica_member *m) {
    return same_text(self->url, m->url) || wallet_equal(&self->wallet, &m->wallet);
}

/* Whether an entry is superseded by another one of the same URL, or of the same wallet: one wallet
 * is one process, which cannot be two members. */
static bool is_superseded(const struct replica_member *members, size_t count, size_t idx) {
    const struct replica_member *m = &members[idx];
    for (size_t i = 0; i < count; i++) {
        const struct replica_member *other = &members[i];
        bool is_later = other->instance_id > m->instance_id ||
                        (other->instance_id == m->instance_id && i > idx);
        if (is_later &&
            (same_text(m->url, other->url) || wallet_equal(&m->wallet, &other->wallet))) {
            return true;
        }
    }
    return false;
}

static struct member *find_same(struct replica *r, const struct replica_member *wanted) {
    struct member *m = member_find(r, &wanted->wallet);
    return m != NULL && same_text(m->url, wanted->url) ? m : NULL;
}

struct roster {
    struct member *members;
    struct store_known *settled;
    size_t count;
};

static void roster_close(struct roster *roster) {
    for (size_t i = 0; i < roster->count; i++) {
        free(roster->members[i].url);
    }
    free(roster->members);
    free(roster->settled);
    *roster = (struct roster){ 0 };
}

static RC roster_add(struct roster *roster, const struct replica_member *wanted) {
    ENSURE(roster->count < REPLICA_MEMBER_COUNT_MAX, TOO_BIG);
    size_t len = strlen(wanted->url) + 1;
    char *url = malloc(len);
    ENSURE(url != NULL, NOMEM);
    memcpy(url, wanted->url, len);
    roster->members[roster->count++] =
        (struct member){ .wallet = wanted->wallet, .url = url, .instance_id = wanted->instance_id };
    return OK;
}

static RC roster_fill(struct roster *roster, const struct replica_member *self,
                      const struct replica_member *members, size_t count) {
    size_t room = count < REPLICA_MEMBER_COUNT_MAX ? count : REPLICA_MEMBER_COUNT_MAX;
    roster->members = calloc(room + 1, sizeof(*roster->members));
    roster->settled = calloc(room + 1, sizeof(*roster->settled));
    ENSURE(roster->members != NULL, NOMEM);
    ENSURE(roster->settled != NULL, NOMEM);
    for (size_t i = 0; i < count; i++) {
        if (!is_self(self, &members[i]) && !is_superseded(members, count, i)) {
            TRY(roster_add(roster, &members[i]));
        }
    }
    return OK;
}

void note_bound(struct replica *r, const struct member *m, uint64_t now_ms) {
    uint64_t skew_ms = r->cfg.clock_skew_ms;
    uint64_t all_unix_ms = m->clean_unix_ms > skew_ms ? m->clean_unix_ms - skew_ms : 0;
    if (!r->has_bound || all_unix_ms < r->bound_unix_ms) {
        r->bound_unix_ms = all_unix_ms;
    }
    r->has_bound = true;
    r->bound_ms = now_ms;
}

static void note_departed(struct replica *r, const struct member *m, uint64_t now_ms) {
    note_bound(r, m, now_ms);
    r->has_orphans = r->has_orphans || m->has_partial;
    struct departed *d = &r->departed[r->departed_count++ % REPLICA_MEMBER_COUNT_MAX];
    *d = (struct departed){ .is_set = true,
                            .wallet = m->wallet,
                            .all_unix_ms = member_all_unix_ms(r, m),
                            .left_ms = now_ms };
    memcpy(d->boot, m->boots.present, sizeof(d->boot));
}

static void note_returned(struct replica *r, struct member *m) {
    for (size_t i = 0; i < r->departed_count && i < REPLICA_MEMBER_COUNT_MAX; i++) {
        struct departed *d = &r->departed[i];
        if (d->is_set && wallet_equal(&d->wallet, &m->wallet)) {
            m->returned = *d;
            *d = (struct departed){ 0 };
        }
    }
}

static bool has_changed(struct replica *r, const struct roster *roster) {
    bool has_changed = roster->count != r->count;
    for (size_t i = 0; i < roster->count && !has_changed; i++) {
        const struct replica_member wanted = { .wallet = roster->members[i].wallet,
                                               .url = roster->members[i].url };
        has_changed = find_same(r, &wanted) == NULL;
    }
    return has_changed;
}

/* Moves what is known of those that stay; the others are left where they are, to be closed. */
static void move_state(struct replica *r, struct roster *roster) {
    for (size_t i = 0; i < roster->count; i++) {
        struct replica_member wanted = { roster->members[i].wallet, roster->members[i].url,
                                         roster->members[i].instance_id };
        struct member *old = find_same(r, &wanted);
        if (old != NULL) {
            free(roster->members[i].url);
            roster->members[i] = *old;
            roster->members[i].instance_id = wanted.instance_id;
            *old = (struct member){ 0 };
        } else {
            note_returned(r, &roster->members[i]);
        }
    }
}

/* A node that is no member misses what is collected meanwhile. It keeps what it holds, but gives it
 * to nobody until it is a member again and has pulled as a starting node does, and has been told to
 * begin again if it must. */
static void start_again(struct replica *r) {
    for (size_t i = 0; i < r->count; i++) {
        r->members[i].is_complete = false;
        r->members[i].lead_turn = 0;
        task_end(&r->members[i]);
    }
    r->in_service = false;
    r->is_clocked = false;
    r->is_founder = false;
}

/* Whoever does not stand in the registry is not waited for when vectors are shortened. */
static void note_self(struct replica *r, const struct replica_member *self) {
    bool is_listed = self->instance_id != 0;
    bool is_same = is_listed && self->instance_id == r->self_id;
    if (r->has_members && !is_same) {
        r->was_away = true;
        for (size_t i = 0; i < r->count; i++) {
            r->members[i].knows_no_more = false;
        }
    }
    if (!is_same && r->was_listed) {
        start_again(r);
    }
    r->self_id = self->instance_id;
    r->was_listed = r->was_listed || is_listed;
}

RC replica_set_members(struct replica *r, const struct replica_member *self,
                       const struct replica_member *members, size_t count,
                       const struct replica_now *now) {
    AUTO(roster_close) struct roster roster = { 0 };
    TRY(roster_fill(&roster, self, members, count));
    if (has_changed(r, &roster)) {
        newcomer_members_changed(r);
    }
    move_state(r, &roster);
    for (size_t i = 0; i < r->count; i++) {
        if (r->members[i].url != NULL) {
            note_departed(r, &r->members[i], now->mono_ms);
        }
        member_close(&r->members[i]);
    }
    free(r->members);
    free(r->settled);
    r->members = roster.members;
    r->settled = roster.settled;
    r->count = roster.count;
    r->next_idx = 0;
    note_self(r, self);
    r->has_members = true;
    r->members_ms = now->mono_ms;
    roster = (struct roster){ 0 };
    start_update(r, now->mono_ms);
    return OK;
}
