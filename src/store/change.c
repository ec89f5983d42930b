/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "store/state.h"

static bool is_timed(const struct change *c) {
    return c->tombstone || c->ttl_ms != 0;
}

static const uint8_t *writer_of(const struct store *s, const struct record *r) {
    return s->writers.at[r->writer].id;
}

/* ---- Sums and trees: what stands for a record elsewhere, out and in ---- */

static uint64_t *count_of(struct record *r) {
    if ((r->flags & RECORD_TOMBSTONE) != 0) {
        return &r->app->tombstone_count;
    }
    return (r->flags & RECORD_EMPTIED) != 0 ? &r->app->expired_count : &r->app->key_count;
}

static bool in_digest(const struct record *r) {
    return (r->flags & RECORD_TIMED) == 0;
}

static void account(struct store *s, struct record *r) {
    uint64_t bytes = record_bytes(r->key_len, r->sealed_len);
    r->app->bytes += bytes;
    s->bytes += bytes;
    ++*count_of(r);
    if (in_digest(r)) {
        digest_add(&r->app->digest, r, writer_of(s, r));
    }
}

static void unaccount(struct store *s, struct record *r) {
    uint64_t bytes = record_bytes(r->key_len, r->sealed_len);
    r->app->bytes -= bytes;
    s->bytes -= bytes;
    --*count_of(r);
    if (in_digest(r)) {
        digest_subtract(&r->app->digest, r, writer_of(s, r));
    }
}

/* Which tree a timed record waits in, and until when. */
static struct tree_node **waits_in(struct store *s, const struct record *r) {
    return r->sealed_len > 0 ? &s->expiring : &s->dying;
}

static uint64_t due_unix_ms(const struct store *s, const struct record *r) {
    if (r->sealed_len > 0) {
        return record_expires_unix_ms(r) + s->cfg.clock_skew_ms;
    }
    return record_unix_ms(r) + s->cfg.tombstone_retention_ms;
}

/* ---- Replacing what a key holds ---- */

/* What a change needs and can fail to get. */
struct parts {
    struct app *app;
    struct record *record;
    uint8_t *body; /* NULL: the old body has the right size. */
    uint32_t writer;
    uint32_t replaced_writer;
    bool added; /* The record is new. */
};

static struct record *make_record(struct app *app, uint64_t hash, struct span key) {
    struct record *r = malloc(sizeof(*r) + key.len);
    if (r != NULL) {
        *r = (struct record){ .app = app, .key_len = (uint16_t)key.len, .hash = hash };
        memcpy(record_key_ptr(r), key.ptr, key.len);
    }
    return r;
}

/* An overwrite of a record that is in no cache would wait for each of these in turn. */
static void prefetch_neighbours(const struct record *r) {
    __builtin_prefetch(r->older, 1);
    __builtin_prefetch(r->newer, 1);
    __builtin_prefetch(r->body, 1);
}

static RC take_parts(struct store *s, const struct change *c, struct parts *p) {
    p->app = c->app;
    p->record = c->record;
    uint64_t hash = c->hash;
    if (p->app == NULL) {
        TRY(app_open(s, c->app_id, &p->app));
        hash = app_hash(p->app, c->key);
    }
    if (p->record == NULL) {
        p->record = make_record(p->app, hash, c->key);
        ENSURE(p->record != NULL, NOMEM);
        p->added = true;
    } else {
        prefetch_neighbours(p->record);
    }
    bool in_place = !p->added && !is_timed(c) && (p->record->flags & RECORD_TIMED) == 0 &&
                    p->record->sealed_len == c->sealed.len;
    if (!in_place) {
        p->body = malloc((is_timed(c) ? sizeof(struct timed) : 0) + c->sealed.len);
        ENSURE(p->body != NULL, NOMEM);
    }
    p->writer = writers_take(&s->writers, c->stamp.writer);
    ENSURE(p->writer != 0, QUOTA);
    if (!store_stamp_is_none(&c->replaced)) {
        p->replaced_writer = writers_take(&s->writers, c->replaced.writer);
        ENSURE(p->replaced_writer != 0, QUOTA);
    }
    bool had_value = !p->added && p->record->sealed_len > 0;
    if (c->sealed.len > 0 && !had_value) {
        TRY(index_reserve(&s->index_pool, &p->app->index));
    }
    return OK;
}

static void give_parts_back(struct store *s, struct parts *p) {
    writers_release(&s->writers, p->writer);
    writers_release(&s->writers, p->replaced_writer);
    free(p->body);
    if (p->added) {
        free(p->record);
    }
    app_drop_if_empty(s, p->app);
}

/* Takes the old version of r out of all sums and trees but the table and the index. */
static void detach(struct store *s, struct record *r) {
    unaccount(s, r);
    log_remove(&s->log, r);
    if ((r->flags & RECORD_TIMED) != 0) {
        due_remove(waits_in(s, r), record_timed(r));
    }
    writers_release(&s->writers, r->writer);
    writers_release(&s->writers, r->replaced_writer);
}

static uint8_t flags_of(const struct change *c) {
    if (c->tombstone) {
        return RECORD_TIMED | RECORD_TOMBSTONE;
    }
    if (c->sealed.len == 0) {
        return RECORD_TIMED | RECORD_EMPTIED;
    }
    return c->ttl_ms != 0 ? RECORD_TIMED : 0;
}

static void fill(struct record *r, const struct change *c, const struct parts *p) {
    if (p->body != NULL) {
        free(r->body);
        r->body = p->body;
    }
    r->flags = flags_of(c);
    r->sealed_len = (uint32_t)c->sealed.len;
    size_t skip = 0;
    if (is_timed(c)) {
        *record_timed(r) = (struct timed){ .ttl_ms = c->ttl_ms, .record = r };
        skip = sizeof(struct timed);
    }
    if (c->sealed.len > 0) {
        memcpy(r->body + skip, c->sealed.ptr, c->sealed.len);
    }
    r->hlc = c->stamp.hlc;
    r->writer = p->writer;
    r->replaced_hlc = c->replaced.hlc;
    r->replaced_writer = p->replaced_writer;
}

/* A key that held a value and holds one now keeps its place in the index. */
static void settle_index(struct store *s, struct record *r, bool had, bool has) {
    if (has && !had) {
        index_insert(&r->app->index, &s->index_pool, r);
    } else if (had && !has) {
        index_remove(&r->app->index, &s->index_pool, r);
    }
}

RC change_apply(struct store *s, const struct change *c) {
    struct parts p = { 0 };
    struct rc rc = take_parts(s, c, &p);
    if (rc.err != E_OK) {
        give_parts_back(s, &p);
        return rc;
    }
    s->recent_app = p.app;
    struct record *r = p.record;
    bool had_value = !p.added && r->sealed_len > 0;
    if (!p.added) {
        detach(s, r);
    }
    fill(r, c, &p);
    if (p.added) {
        table_insert(&p.app->table, r);
    }
    settle_index(s, r, had_value, r->sealed_len > 0);
    if ((r->flags & RECORD_TIMED) != 0) {
        due_insert(waits_in(s, r), record_timed(r), due_unix_ms(s, r));
    }
    account(s, r);
    log_append(&s->log, r);
    return OK;
}

/* ---- What time does ---- */

void change_empty(struct store *s, struct record *r, uint64_t now_unix_ms) {
    ASSERT(r->sealed_len > 0);
    due_remove(&s->expiring, record_timed(r));
    void *body = realloc(r->body, sizeof(struct timed));
    if (body == NULL) {
        due_insert(&s->expiring, record_timed(r), now_unix_ms + STORE_COLLECT_RETRY_MS);
        return;
    }
    r->body = body;
    unaccount(s, r);
    index_remove(&r->app->index, &s->index_pool, r);
    r->flags |= RECORD_EMPTIED;
    r->sealed_len = 0;
    account(s, r);
    s->emptied_count++;
    due_insert(&s->dying, record_timed(r), due_unix_ms(s, r));
}

void change_postpone(struct store *s, struct record *r, uint64_t at_unix_ms) {
    due_remove(&s->dying, record_timed(r));
    due_insert(&s->dying, record_timed(r), at_unix_ms);
}

void change_remove(struct store *s, struct record *r) {
    struct app *app = r->app;
    ASSERT(r->sealed_len == 0);
    detach(s, r);
    table_remove(&app->table, r);
    free(r->body);
    free(r);
    app_drop_if_empty(s, app);
    s->removed_count++;
}
