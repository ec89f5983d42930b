/* SPDX-License-Identifier: Apache-2.0 */
/* What to answer a member that pulls (docs/replication.md, section 2.5). */
#include <string.h>

#include "replica/internal.h"

static void refuse(struct status *why, enum status_code code, const char *text) {
    status_set(why, code, "%s", text);
}

static const char *request_fault(const struct replica *r, const struct store *s,
                                 const struct replica_request *q, uint64_t now_unix_ms) {
    if (id_is_zero(q->state.incarnation)) {
        return "state.incarnation must be 16 bytes, not all zero";
    }
    if (q->heard_count > REPLICA_HEARD_COUNT_MAX) {
        return "heard has too many entries";
    }
    if (q->wait_ms > REPLICA_WAIT_MS_MAX) {
        return "wait_ms must be at most 60000";
    }
    if (id_equal(q->responder_incarnation, store_writer(s)) && q->since > store_log_last(s)) {
        return "since lies behind the end of this node's log";
    }
    return known_fault(r, s, &q->known, now_unix_ms);
}

/* Takes in what it says of itself. A message that was held up for long, or comes from another boot
 * than the one that answers, may be old: it must not decide where the clocks stand. */
static void hear_state(struct member *m, const struct replica_state *state,
                       const struct replica_now *now) {
    bool is_present = boots_is_present(&m->boots, state->incarnation);
    if (is_present && state->unix_ms > m->heard_unix_ms) {
        member_hear(m, state, now);
    }
    /* Who is in service, and was not when it was asked last, is asked again at once. */
    if (state->in_service && (!is_present || m->is_starting) && m->next_at_ms > now->mono_ms) {
        m->next_at_ms = now->mono_ms;
        m->is_starting = false;
    }
}

/* Takes in the vector. Of a boot that may be a dead one's late message, only to know what it asks
 * for. */
static RC take_vector(const struct replica *r, struct member *m, const struct replica_request *q,
                      const struct replica_now *now) {
    TRY(shown_ask(&m->shown, &q->known));
    const uint8_t *present = m->boots.present;
    if (q->state.in_service && (id_is_zero(present) || id_equal(present, q->state.incarnation))) {
        shown_acknowledge(&m->shown, q->state.incarnation, now->mono_ms);
    }
    shown_age(&m->shown, r->cfg.settle_ms, now->mono_ms);
    return OK;
}

/* Whether the request may be taken in. False when it is refused. */
static bool judge_request(const struct replica *r, const struct store *s,
                          const struct replica_request *q, uint64_t now_unix_ms,
                          struct status *why) {
    if (!r->has_secret) {
        refuse(why, STATUS_UNAVAILABLE, "this node holds no master secret yet");
        return false;
    }
    if (!hash_equal(q->state.secret_hash, r->secret_hash)) {
        refuse(why, STATUS_FAILED_PRECONDITION, "the two nodes hold different master secrets");
        return false;
    }
    const char *fault = request_fault(r, s, q, now_unix_ms);
    if (fault != NULL) {
        refuse(why, STATUS_INVALID_ARGUMENT, fault);
        return false;
    }
    return true;
}

/* Takes in what the request says. False when it is refused. */
static bool take_request(struct replica *r, struct member *m, const struct replica_request *q,
                         const struct replica_now *now, struct status *why) {
    if (!boots_hear(&m->boots, q->state.incarnation, &r->turn)) {
        refuse(why, STATUS_FAILED_PRECONDITION,
               "the request comes from an earlier incarnation of its sender");
        return false;
    }
    boots_hear_all(r, q->heard, q->heard_count);
    struct rc rc = take_vector(r, m, q, now);
    if (rc.err == E_NOMEM) {
        refuse(why, STATUS_RESOURCE_EXHAUSTED, "this node is out of memory");
        return false;
    }
    if (rc.err != E_OK) {
        refuse(why, STATUS_INVALID_ARGUMENT, "known names a writer twice");
        return false;
    }
    hear_state(m, &q->state, now);
    newcomer_hear(r, m, &q->state);
    m->relay_at_ms = 0;
    return true;
}

enum news { NEWS_NONE, NEWS_RELAYED, NEWS_OWN };

/* What this node knows and the member does not: of its own writes, or of others' that the member
 * may be getting from them at this moment. Of its own it knows all. */
static enum news find_news(const struct store *s, const struct member *m,
                           const struct replica_request *q, const struct store_known *known) {
    enum news news = NEWS_NONE;
    for (size_t i = 0; i < known->count; i++) {
        const struct store_known_entry *e = &known->entries[i];
        if (vector_hlc(m->shown.asked, e->writer) >= e->hlc ||
            id_equal(e->writer, q->state.incarnation)) {
            continue;
        }
        if (id_equal(e->writer, store_writer(s))) {
            return NEWS_OWN;
        }
        news = NEWS_RELAYED;
    }
    return news;
}

static enum replica_answer wait_or_answer(const struct store *s, struct member *m,
                                          const struct replica_serve *serve,
                                          const struct replica_now *now, struct replica_page *out) {
    const struct replica_request *q = serve->request;
    bool is_first = !id_equal(q->responder_incarnation, store_writer(s));
    if (is_first || serve->is_over || q->wait_ms == 0 || m->shown.asked == NULL) {
        return REPLICA_ANSWER_PAGE;
    }
    enum news news = find_news(s, m, q, &out->known);
    if (news == NEWS_OWN) {
        return REPLICA_ANSWER_PAGE;
    }
    if (news == NEWS_NONE) {
        m->relay_at_ms = 0;
        return REPLICA_ANSWER_WAIT;
    }
    if (m->relay_at_ms == 0) {
        m->relay_at_ms = now->mono_ms + REPLICA_RELAY_MS;
    }
    if (now->mono_ms < m->relay_at_ms) {
        return REPLICA_ANSWER_WAIT_SHORT;
    }
    out->more = true;
    return REPLICA_ANSWER_AGAIN;
}

static void begin_page(const struct replica *r, const struct store *s,
                       const struct replica_request *q, const struct replica_now *now,
                       struct replica_page *out) {
    *out = (struct replica_page){ 0 };
    replica_own_state(r, s, now, &out->state);
    memcpy(out->requester_incarnation, q->state.incarnation, STORE_WRITER_BYTES);
}

/* Copies what this node knows, and then may read the log: a vector that was copied later could
 * cover what the page has not. */
static bool copy_known(const struct store *s, const struct replica_serve *serve,
                       struct replica_page *out) {
    size_t known_count = store_known_count(s);
    if (known_count > serve->entry_count_max) {
        return false;
    }
    struct rc rc = store_known_copy(s, serve->entries, known_count, &out->known);
    if (rc.err == E_OK) {
        rc = store_floor_copy(s, serve->entries + known_count, serve->entry_count_max - known_count,
                              &out->floor);
    }
    out->floor_rise_count = store_floor_rise_count(s);
    return rc.err == E_OK;
}

bool replica_page_read(struct replica *r, const struct store *s, const struct wallet *member,
                       const struct store_log_page *got, struct replica_page *page) {
    struct member *m = member_find(r, member);
    ASSERT(id_equal(page->state.incarnation, store_writer(s)));
    if (m != NULL) {
        m->given = (struct given){ .next = got->next };
        memcpy(m->given.by, page->state.incarnation, STORE_WRITER_BYTES);
        memcpy(m->given.to, page->requester_incarnation, STORE_WRITER_BYTES);
    }
    page->next = got->next;
    page->more = got->more || store_floor_rise_count(s) != page->floor_rise_count;
    page->last = store_log_last(s);
    return got->more;
}

/* Where the page begins. */
static uint64_t from_of(const struct store *s, const struct member *m,
                        const struct replica_request *q) {
    const struct given *given = &m->given;
    if (!id_equal(q->responder_incarnation, store_writer(s))) {
        return 0;
    }
    bool is_given =
        id_equal(given->by, store_writer(s)) && id_equal(given->to, q->state.incarnation);
    return q->follow && is_given ? given->next : q->since;
}

/* R1 and R5. Whoever knows nothing can bring nothing back. */
static bool must_reset(const struct replica *r, const struct store *s, const struct member *m,
                       const struct replica_request *q, uint64_t now_ms) {
    bool knows = q->known.count > 0 || q->known.rest_hlc > 0;
    return store_needs_reset(s, &q->known) ||
           (knows && !r->was_away &&
            (was_left_behind(s, m, q->state.incarnation, &q->known) ||
             was_away_too_long(r, m, q->state.incarnation, now_ms)));
}

enum replica_answer replica_serve(struct replica *r, const struct store *s,
                                  const struct replica_serve *serve, const struct replica_now *now,
                                  struct replica_served *out) {
    const struct replica_request *q = serve->request;
    struct replica_page *page = &out->page;
    struct status *why = &out->why;
    begin_page(r, s, q, now, page);
    *why = (struct status){ .code = STATUS_OK };
    struct member *m = member_find(r, serve->wallet);
    if (m == NULL) {
        refuse(why, STATUS_PERMISSION_DENIED, "the caller is not a member of this cluster");
        return REPLICA_ANSWER_REFUSE;
    }
    if (!serve->is_again &&
        (!judge_request(r, s, q, now->unix_ms, why) || !take_request(r, m, q, now, why))) {
        return REPLICA_ANSWER_REFUSE;
    }
    if (!r->in_service) {
        char reason[REPLICA_REASON_BYTES];
        (void)replica_in_service(r, reason);
        status_set(why, STATUS_UNAVAILABLE, "this node is starting: %s", reason);
        return REPLICA_ANSWER_REFUSE;
    }
    if (must_reset(r, s, m, q, now->mono_ms)) {
        r->stats.reset_given_count++;
        page->reset = true;
        return REPLICA_ANSWER_RESET;
    }
    if (!copy_known(s, serve, page)) {
        refuse(why, STATUS_RESOURCE_EXHAUSTED, "this node's version vector has too many entries");
        return REPLICA_ANSWER_REFUSE;
    }
    page->from = from_of(s, m, q);
    page->next = page->from;
    page->last = store_log_last(s);
    page->newcomer = newcomer_admit(r, m, &q->state, now->mono_ms);
    return wait_or_answer(s, m, serve, now, page);
}
