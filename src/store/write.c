/* SPDX-License-Identifier: Apache-2.0 */
/* Clients' writes: checked, stamped, applied. */
#include "store/state.h"

/* Expired values that a write over quota looks at before it gives up. */
#define PRESSURE_STEPS 32

static struct rc refuse(struct store_written *out, enum store_refusal refusal, struct rc rc) {
    out->refusal = refusal;
    return rc;
}

#define REFUSE_UNLESS(cond, reason, error)                          \
    do {                                                            \
        if (!(cond)) {                                              \
            return refuse(out, STORE_REFUSED_##reason, ERR(error)); \
        }                                                           \
    } while (0)

static RC check_put(const struct store *s, const struct store_write *w, struct store_written *out) {
    REFUSE_UNLESS(w->sealed.len > 0, SEALED, INVALID);
    REFUSE_UNLESS(w->sealed.len <= s->cfg.sealed_bytes_max, SEALED, TOO_BIG);
    REFUSE_UNLESS(w->ttl_ms <= STORE_TTL_MS_MAX, TTL, INVALID);
    return OK;
}

static RC check_both(const struct store *s, const struct store_write *w,
                     struct store_written *out) {
    REFUSE_UNLESS(w->key.len > 0, KEY, INVALID);
    REFUSE_UNLESS(w->key.len <= STORE_KEY_BYTES_MAX, KEY, TOO_BIG);
    REFUSE_UNLESS(w->now_unix_ms <= STORE_UNIX_MS_MAX, CLOCK, INVALID);
    REFUSE_UNLESS(!store_hlc_is_future(w->seen.hlc, w->now_unix_ms, s->cfg.clock_skew_ms), SEEN,
                  FUTURE);
    return OK;
}

static uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Greater than everything the new stamp must follow: our last, what the caller saw, what it
 * replaces, and also everything collected, because this key may have had a tombstone that is
 * forgotten here and not yet everywhere. */
static RC next_stamp(const struct store *s, const struct store_write *w, const struct record *r,
                     struct store_written *out) {
    uint64_t own_hlc = max_u64(s->last_hlc, r == NULL ? 0 : r->hlc);
    own_hlc = max_u64(own_hlc, max_u64(s->writers.floor_top_hlc, s->writers.rest_hlc));
    uint64_t after_hlc = max_u64(own_hlc, w->seen.hlc);
    struct rc rc = store_hlc_next(w->now_unix_ms, after_hlc, s->cfg.clock_skew_ms, &out->stamp.hlc);
    if (rc.err != E_OK) {
        bool seen_only = w->seen.hlc > own_hlc;
        return refuse(out, seen_only ? STORE_REFUSED_SEEN : STORE_REFUSED_CLOCK, rc);
    }
    memcpy(out->stamp.writer, store_writer(s), STORE_WRITER_BYTES);
    return OK;
}

/* Which bound stops a record of new_bytes that takes the place of r (or of nothing). */
static enum store_refusal over_bytes(const struct store *s, const struct app *app,
                                     const struct record *r, uint64_t new_bytes) {
    uint64_t old_bytes = r == NULL ? 0 : record_bytes(r->key_len, r->sealed_len);
    if (new_bytes <= old_bytes) {
        return STORE_REFUSED_NONE;
    }
    uint64_t grown_bytes = new_bytes - old_bytes;
    uint64_t app_bytes = app == NULL ? 0 : app->bytes;
    if (app_bytes + grown_bytes > s->cfg.app_bytes_max) {
        return STORE_REFUSED_APP_BYTES;
    }
    uint64_t opened_bytes = app == NULL ? STORE_NAMESPACE_BYTES : 0;
    if (s->bytes + grown_bytes + opened_bytes > s->cfg.total_bytes_max) {
        return STORE_REFUSED_TOTAL_BYTES;
    }
    return STORE_REFUSED_NONE;
}

static RC check_bytes(struct store *s, const struct change *c, uint64_t now_unix_ms,
                      struct store_written *out) {
    uint64_t new_bytes = record_bytes(c->key.len, c->sealed.len);
    enum store_refusal over = over_bytes(s, c->app, c->record, new_bytes);
    if (over != STORE_REFUSED_NONE && collect_expired(s, now_unix_ms, PRESSURE_STEPS) > 0) {
        over = over_bytes(s, c->app, c->record, new_bytes);
    }
    return over == STORE_REFUSED_NONE ? OK : refuse(out, over, ERR(QUOTA));
}

static RC check_counts(const struct store *s, const struct change *c, struct store_written *out) {
    REFUSE_UNLESS(c->app != NULL || s->app_count < s->cfg.namespace_count_max, NAMESPACES, QUOTA);
    bool is_tombstone = c->record != NULL && (c->record->flags & RECORD_TOMBSTONE) != 0;
    uint64_t tombstone_count = c->app == NULL ? 0 : c->app->tombstone_count;
    REFUSE_UNLESS(!c->tombstone || is_tombstone || tombstone_count < s->cfg.tombstone_count_max,
                  TOMBSTONES, QUOTA);
    return OK;
}

static struct store_stamp stamp_of(const struct store *s, const struct record *r) {
    struct store_record shown = { 0 };
    if (r != NULL) {
        record_show(s, r, 0, &shown);
    }
    return shown.stamp;
}

static RC write_change(struct store *s, const struct store_write *w, struct change *c,
                       struct store_written *out) {
    c->app = app_find(s, w->app_id);
    c->hash = c->app == NULL ? 0 : app_hash(c->app, w->key);
    c->record = c->app == NULL ? NULL : table_find(&c->app->table, c->hash, w->key);
    const struct record *r = c->record;
    out->existed = r != NULL && record_state(r, w->now_unix_ms) == STORE_LIVE;
    TRY(check_counts(s, c, out));
    TRY(check_bytes(s, c, w->now_unix_ms, out));
    TRY(next_stamp(s, w, r, out));
    c->stamp = out->stamp;
    c->replaced = stamp_of(s, r);
    struct rc rc = change_apply(s, c);
    if (rc.err != E_OK) {
        out->stamp = STORE_STAMP_NONE;
        return refuse(out, STORE_REFUSED_MEMORY, rc);
    }
    s->last_hlc = c->stamp.hlc;
    writers_raise_known(&s->writers, s->writers.own_idx, c->stamp.hlc);
    return OK;
}

RC store_put(struct store *s, const struct store_write *w, struct store_written *out) {
    *out = (struct store_written){ 0 };
    TRY(check_both(s, w, out));
    TRY(check_put(s, w, out));
    struct change c = {
        .app_id = w->app_id, .key = w->key, .sealed = w->sealed, .ttl_ms = w->ttl_ms
    };
    return write_change(s, w, &c, out);
}

RC store_delete(struct store *s, const struct store_write *w, struct store_written *out) {
    *out = (struct store_written){ 0 };
    TRY(check_both(s, w, out));
    struct change c = { .app_id = w->app_id, .key = w->key, .tombstone = true };
    return write_change(s, w, &c, out);
}
