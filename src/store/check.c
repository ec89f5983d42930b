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
    ASSERT(app_find_record(r->app, record_key(r)) == r);
    ASSERT(r->hlc != 0);
    ASSERT(r->writer != 0 && w->at[r->writer].use_count > 0);
    ASSERT((r->replaced_hlc == 0) == (r->replaced_writer == 0));
    ASSERT(r->writer != w->own_idx || r->hlc <= s->last_hlc);
    sums->record_count++;
    sums->bytes += record_bytes(r->key_len, r->sealed_len);
    sums->use_count += r->replaced_writer != 0 ? 2 : 1;
    if ((r->flags & RECORD_TIMED) != 0) {
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

/* Walks a tree in order, seeking again where the cursor's stack was too small. */
static struct tree_node *next_node(struct tree_cursor *c, const struct tree_node *last,
                                   tree_after_cb after) {
    struct tree_node *node = tree_next(c);
    if (node == NULL && c->dropped_count > 0) {
        tree_seek(c, c->root, last, after);
        node = tree_next(c);
    }
    return node;
}

static int is_first(const struct tree_node *node, const void *place) {
    (void)node;
    (void)place;
    return true;
}

static int key_is_after(const struct tree_node *node, const void *place) {
    return span_compare(record_key(record_of_order(node)), record_key(record_of_order(place))) > 0;
}

static int due_is_after(const struct tree_node *node, const void *place) {
    const struct timed *a = timed_of_due(node);
    const struct timed *b = timed_of_due(place);
    return a->due_unix_ms != b->due_unix_ms ? a->due_unix_ms > b->due_unix_ms
                                            : (uintptr_t)a > (uintptr_t)b;
}

static void check_heap(const struct tree_node *node) {
    ASSERT(node->left == NULL || node->left->priority <= node->priority);
    ASSERT(node->right == NULL || node->right->priority <= node->priority);
}

static uint64_t check_due(struct tree_node *root, bool with_bytes) {
    struct tree_cursor cursor;
    tree_seek(&cursor, root, NULL, is_first);
    uint64_t count = 0;
    const struct tree_node *last = NULL;
    for (struct tree_node *n = tree_next(&cursor); n != NULL;
         n = next_node(&cursor, last, due_is_after)) {
        check_heap(n);
        ASSERT(last == NULL || due_is_after(n, last));
        ASSERT((timed_of_due(n)->record->sealed_len > 0) == with_bytes);
        last = n;
        count++;
    }
    return count;
}

static void check_order(const struct store *s, const struct app *app) {
    struct tree_cursor cursor;
    tree_seek(&cursor, app->order, NULL, is_first);
    struct store_digest sum = { 0 };
    uint64_t count = 0;
    const struct tree_node *last = NULL;
    for (struct tree_node *n = tree_next(&cursor); n != NULL;
         n = next_node(&cursor, last, key_is_after)) {
        const struct record *r = record_of_order(n);
        check_heap(n);
        ASSERT(last == NULL || key_is_after(n, last));
        ASSERT(r->app == app && r->sealed_len > 0);
        if ((r->flags & RECORD_TIMED) == 0) {
            digest_add(&sum, r, s->writers.at[r->writer].id);
        }
        last = n;
        count++;
    }
    ASSERT(count == app->key_count);
    ASSERT(sum.low == app->digest.low);
    ASSERT(sum.high == app->digest.high);
}

static void check_apps(const struct store *s, const struct sums *sums) {
    uint64_t bytes = 0;
    uint64_t app_count = 0;
    uint64_t record_count = 0;
    for (const struct app *app = s->first_app; app != NULL; app = app->next) {
        check_order(s, app);
        ASSERT(app_find(s, app->app_id) == app);
        ASSERT(app->table.record_count > 0);
        ASSERT(app->table.record_count ==
               app->key_count + app->tombstone_count + app->expired_count);
        ASSERT(app->table.bucket_count >= TABLE_SEGMENT_BUCKETS);
        ASSERT(app->table.bucket_count - 1 <= app->table.mask);
        bytes += app->bytes + STORE_NAMESPACE_BYTES;
        record_count += app->table.record_count;
        app_count++;
    }
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
    ASSERT(entry_count == w->entry_count);
    ASSERT(entry_count <= w->entry_count_max);
    ASSERT(listed_count == w->listed_count);
    ASSERT(used == use_count + 1); /* The store itself uses its own writer. */
}

void store_check(const struct store *s) {
    struct sums sums = { 0 };
    check_log(s, &sums);
    check_apps(s, &sums);
    ASSERT(check_due(s->expiring, true) == sums.expiring_count);
    ASSERT(check_due(s->dying, false) == sums.dying_count);
    check_writers(&s->writers, sums.use_count);
}
