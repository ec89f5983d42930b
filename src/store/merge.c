/* SPDX-License-Identifier: Apache-2.0 */
/* The join: the greater stamp of a key stays. */
#include "store/state.h"

static bool writer_is_none(const struct store_stamp *stamp) {
    static const uint8_t none[STORE_WRITER_BYTES];
    return span_equal((struct span){ stamp->writer, sizeof(stamp->writer) },
                      (struct span){ none, sizeof(none) });
}

static RC check_stamps(const struct store *s, const struct store_remote *r) {
    ENSURE(!store_stamp_is_none(&r->stamp), MALFORMED);
    ENSURE(!writer_is_none(&r->stamp), MALFORMED);
    if (!store_stamp_is_none(&r->replaced)) {
        ENSURE(!writer_is_none(&r->replaced), MALFORMED);
        ENSURE(store_stamp_compare(&r->replaced, &r->stamp) < 0, MALFORMED);
    }
    bool own = writers_find(&s->writers, r->stamp.writer) == s->writers.own_idx;
    ENSURE(!own || r->stamp.hlc <= s->last_hlc, MALFORMED);
    return OK;
}

static RC check_shape(const struct store *s, const struct store_remote *r) {
    ENSURE(r->key.len > 0, MALFORMED);
    ENSURE(r->key.len <= STORE_KEY_BYTES_MAX, TOO_BIG);
    ENSURE(r->sealed.len <= s->cfg.sealed_bytes_max, TOO_BIG);
    ENSURE(r->ttl_ms <= STORE_TTL_MS_MAX, MALFORMED);
    if (r->tombstone) {
        ENSURE(r->sealed.len == 0, MALFORMED);
        ENSURE(r->ttl_ms == 0, MALFORMED);
    }
    ENSURE(r->tombstone || r->sealed.len > 0 || r->ttl_ms != 0, MALFORMED);
    return OK;
}

/* A value that came without its bytes must have expired by this clock too: until then this replica
 * would deny what others still serve. */
static RC check_time(const struct store *s, const struct store_remote *r, uint64_t now_unix_ms) {
    ENSURE(!store_hlc_is_future(r->stamp.hlc, now_unix_ms, s->cfg.clock_skew_ms), FUTURE);
    bool emptied = !r->tombstone && r->sealed.len == 0;
    ENSURE(!emptied || store_stamp_unix_ms(&r->stamp) + r->ttl_ms <= now_unix_ms, FUTURE);
    return OK;
}

static enum store_refusal refusal_of(const struct store_remote *r, enum err err) {
    if (err == E_TOO_BIG) {
        return r->key.len > STORE_KEY_BYTES_MAX ? STORE_REFUSED_KEY : STORE_REFUSED_SEALED;
    }
    if (err == E_FUTURE) {
        return STORE_REFUSED_SKEW;
    }
    if (err == E_NOMEM) {
        return STORE_REFUSED_MEMORY;
    }
    return err == E_QUOTA ? STORE_REFUSED_WRITERS : STORE_REFUSED_MALFORMED;
}

static struct rc refuse(struct store *s, struct store_merged *out, enum store_refusal refusal,
                        struct rc rc) {
    out->outcome = STORE_MERGE_REFUSED;
    out->refusal = refusal;
    s->refused_counts[refusal]++;
    return rc;
}

/* Whether the winner's writer had not seen the loser. It had, if it replaced the loser or what is
 * greater; and a loser that was dead and old may have been collected where the winner was
 * written. */
static bool is_conflict(const struct store *s, const struct store_stamp *winner_replaced,
                        const struct store_stamp *winner, const struct store_record *loser) {
    if (store_stamp_compare(winner_replaced, &loser->stamp) >= 0) {
        return false;
    }
    bool mortal = loser->state == STORE_TOMBSTONE || loser->ttl_ms != 0;
    uint64_t age_ms = store_stamp_unix_ms(winner) - store_stamp_unix_ms(&loser->stamp);
    return !mortal || age_ms < s->cfg.tombstone_retention_ms;
}

/* Compares with what is here. Returns whether r is to be applied. */
static bool wins(struct store *s, const struct store_remote *r, const struct record *here,
                 struct store_merged *out) {
    if (here == NULL) {
        bool stale = store_covers(s, &r->stamp);
        out->outcome = stale ? STORE_MERGE_STALE : STORE_MERGE_APPLIED;
        return !stale;
    }
    struct store_record shown;
    record_show(s, here, 0, &shown);
    int order = store_stamp_compare(&r->stamp, &shown.stamp);
    if (order == 0) {
        out->outcome = STORE_MERGE_SAME;
        return false;
    }
    if (order < 0) {
        struct store_record loser = { .stamp = r->stamp,
                                      .ttl_ms = r->ttl_ms,
                                      .state = r->tombstone ? STORE_TOMBSTONE : STORE_LIVE };
        out->outcome = STORE_MERGE_OLDER;
        /* What the vector covers has been here, and was counted then if it had to be. */
        out->conflict =
            !store_covers(s, &r->stamp) && is_conflict(s, &shown.replaced, &shown.stamp, &loser);
        return false;
    }
    out->outcome = STORE_MERGE_APPLIED;
    out->conflict = is_conflict(s, &r->replaced, &r->stamp, &shown);
    return true;
}

static bool fits(const struct store *s, const struct app *app, const struct record *here,
                 const struct store_remote *r) {
    uint64_t new_bytes = record_bytes(r->key.len, r->sealed.len);
    uint64_t old_bytes = here == NULL ? 0 : record_bytes(here->key_len, here->sealed_len);
    uint64_t opened_bytes = app == NULL ? STORE_NAMESPACE_BYTES : 0;
    return new_bytes <= old_bytes ||
           s->bytes - old_bytes + new_bytes + opened_bytes <= s->cfg.hard_bytes_max;
}

static RC check_remote(const struct store *s, const struct store_remote *r, uint64_t now_unix_ms) {
    TRY(check_shape(s, r));
    TRY(check_stamps(s, r));
    return check_time(s, r, now_unix_ms);
}

void store_merge_ahead(const struct store *s, struct store_remote *r) {
    const struct app *app = app_find(s, r->app_id);
    if (app != NULL) {
        r->hash = app_hash(app, r->key);
        table_prefetch(&app->table, r->hash);
    }
}

RC store_merge(struct store *s, const struct store_remote *r, uint64_t now_unix_ms,
               struct store_merged *out) {
    *out = (struct store_merged){ 0 };
    struct rc rc = check_remote(s, r, now_unix_ms);
    if (rc.err != E_OK) {
        return refuse(s, out, refusal_of(r, rc.err), rc);
    }
    struct app *app = app_find(s, r->app_id);
    uint64_t hash = app == NULL || r->hash != 0 ? r->hash : app_hash(app, r->key);
    struct record *here = app == NULL ? NULL : table_find(&app->table, hash, r->key);
    struct store_merged merged = { 0 };
    if (wins(s, r, here, &merged)) {
        if (!fits(s, app, here, r)) {
            return refuse(s, out, STORE_REFUSED_HARD_BYTES, ERR(QUOTA));
        }
        struct change c = { .app_id = r->app_id,
                            .app = app,
                            .record = here,
                            .key = r->key,
                            .hash = hash,
                            .sealed = r->sealed,
                            .stamp = r->stamp,
                            .replaced = r->replaced,
                            .ttl_ms = r->ttl_ms,
                            .tombstone = r->tombstone };
        rc = change_apply(s, &c);
        if (rc.err != E_OK) {
            return refuse(s, out, refusal_of(r, rc.err), rc);
        }
    }
    s->conflict_count += merged.conflict ? 1 : 0;
    *out = merged;
    return OK;
}
