/* SPDX-License-Identifier: Apache-2.0 */
/* store_check: everything that must hold between calls. */
#include "store/state.h"

struct sums {
    uint64_t bytes;
    uint64_t record_count;
    uint64_t expiring_count;
    uint64_t dying_count;
    uint64_t use_count;
};

static void check_flags(const struct record *r) {
    bool tombstone = (r->flags & RECORD_TOMBSTONE) != 0;
    bool emptied = (r->flags & RECORD_EMPTIED) != 0;
    bool timed = (r->flags & RECORD_TIMED) != 0;
    ASSERT(r->body != NULL);
    ASSERT((r->sealed_len == 0) == (tombstone || emptied));
    ASSERT(!(tombstone && emptied));
    ASSERT(timed == (tombstone || record_ttl_ms(r) != 0));
    ASSERT(!tombstone || record_ttl_ms(r) == 0);
    ASSERT(!timed || record_timed(r)->record == r);
    ASSERT(r->key_len > 0);
}

static void check_record(const struct store *s, const struct record *r, struct sums *sums) {
    const struct writers *w = &s->writers;
    check_flags(r);
    ASSERT(table_find(&r->app->table, app_hash(r->app, record_key(r)), record_key(r)) == r);
    ASSERT(r->hlc != 0);
    ASSERT(r->writer != 0 && w->at[r->writer].use_count > 0);
    ASSERT((r->replaced_hlc == 0) == (r->replaced_writer == 0));
    ASSERT(r->writer != w->own_idx || r->hlc <= s->last_hlc);
    sums->record_count++;
    sums->bytes += record_bytes(r->key_len, r->sealed_len);
    sums->use_count += r->replaced_writer != 0 ? 2 : 1;
    if ((r->flags & RECORD_TIMED) != 0) {
        ASSERT(due_contains(r->sealed_len > 0 ? s->expiring : s->dying, record_timed(r)));
        sums->expiring_count += r->sealed_len > 0 ? 1 : 0;
        sums->dying_count += r->sealed_len == 0 ? 1 : 0;
    }
}

static void check_log(const struct store *s, struct sums *sums) {
    const struct record *older = NULL;
    size_t anchor_idx = 0;
    for (const struct record *r = s->log.oldest; r != NULL; older = r, r = r->newer) {
        ASSERT(r->older == older);
        ASSERT(r->position > (older == NULL ? 0 : older->position));
        if ((r->flags & RECORD_ANCHOR) != 0) {
            ASSERT(anchor_idx < s->log.anchor_count);
            ASSERT(s->log.anchors[anchor_idx].record == r);
            ASSERT(s->log.anchors[anchor_idx].position == r->position);
            anchor_idx++;
        }
        check_record(s, r, sums);
    }
    ASSERT(s->log.newest == older);
    ASSERT(anchor_idx == s->log.anchor_count);
    ASSERT(older == NULL || older->position <= s->log.last_position);
}

static void check_index(const struct store *s, const struct app *app) {
    ASSERT(index_check(&app->index) == app->key_count);
    struct store_digest sum = { 0 };
    struct index_place place = index_seek(&app->index, SPAN_EMPTY, true);
    for (const struct record *r = index_next(&place); r != NULL; r = index_next(&place)) {
        ASSERT(r->app == app);
        ASSERT(r->sealed_len > 0);
        if ((r->flags & RECORD_TIMED) == 0) {
            digest_add(&sum, r, s->writers.at[r->writer].id);
        }
    }
    ASSERT(sum.low == app->digest.low);
    ASSERT(sum.high == app->digest.high);
}

static void check_apps(const struct store *s, const struct sums *sums) {
    uint64_t bytes = 0;
    uint64_t app_count = 0;
    uint64_t record_count = 0;
    bool is_recent_there = s->recent_app == NULL;
    for (const struct app *app = s->first_app; app != NULL; app = app->next) {
        check_index(s, app);
        ASSERT(app_find(s, app->app_id) == app);
        ASSERT(app->table.record_count > 0);
        ASSERT(app->table.record_count ==
               app->key_count + app->tombstone_count + app->expired_count);
        ASSERT(app->table.bucket_count >= TABLE_SEGMENT_BUCKETS);
        ASSERT(app->table.bucket_count - 1 <= app->table.mask);
        bytes += app->bytes + STORE_NAMESPACE_BYTES;
        record_count += app->table.record_count;
        app_count++;
        is_recent_there = is_recent_there || app == s->recent_app;
    }
    ASSERT(is_recent_there);
    ASSERT(bytes == s->bytes);
    ASSERT(bytes == sums->bytes + app_count * STORE_NAMESPACE_BYTES);
    ASSERT(record_count == sums->record_count);
    ASSERT(app_count == s->app_count);
}

static void check_writers(const struct writers *w, uint64_t use_count) {
    uint64_t used = 0;
    uint32_t entry_count = 0;
    uint32_t listed_count = 0;
    for (uint32_t idx = 1; idx <= w->used_count; idx++) {
        const struct writer_entry *e = &w->at[idx];
        bool in_use = e->use_count != 0 || e->known_hlc != 0 || e->floor_hlc != 0;
        ASSERT(!in_use || writers_find(w, e->id) == idx);
        ASSERT(e->known_hlc == 0 || e->known_hlc > w->rest_hlc);
        entry_count += in_use ? 1 : 0;
        listed_count += e->known_hlc != 0 ? 1 : 0;
        used += e->use_count;
    }
    ASSERT(w->recent_idx == 0 || writers_find(w, w->at[w->recent_idx].id) == w->recent_idx);
    ASSERT(entry_count == w->entry_count);
    ASSERT(entry_count <= w->entry_count_max);
    ASSERT(listed_count == w->listed_count);
    ASSERT(used == use_count + 1); /* The store itself uses its own writer. */
}

void store_check(const struct store *s) {
    struct sums sums = { 0 };
    check_log(s, &sums);
    check_apps(s, &sums);
    ASSERT((s->expiring == NULL) == (sums.expiring_count == 0));
    ASSERT((s->dying == NULL) == (sums.dying_count == 0));
    check_writers(&s->writers, sums.use_count);
}
