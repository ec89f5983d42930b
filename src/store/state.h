/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the store share. Internal to the room. */
#pragma once

#include "store/index.h"
#include "store/log.h"
#include "store/record.h"
#include "store/store.h"
#include "store/table.h"
#include "store/writers.h"

/* One namespace. Exists while it holds a record of any state. */
struct app {
    struct app *chain; /* The store's bucket. */
    struct app *prev;  /* The store's list. */
    struct app *next;
    uint64_t app_id;
    struct siphash_key key; /* Its own, so that one app's collisions say nothing about another's. */
    struct table table;
    struct index index; /* Records with sealed bytes, by key. */
    struct store_digest digest;
    uint64_t bytes;
    uint64_t key_count;
    uint64_t tombstone_count;
    uint64_t expired_count;
};

_Static_assert(sizeof(struct app) + TABLE_SEGMENT_BYTES + sizeof(void *) +
                       sizeof(struct index_node) + 4 * 16 <=
                   STORE_NAMESPACE_BYTES,
               "the totals charge what a namespace costs");

struct store {
    struct store_cfg cfg;
    struct siphash_key app_key; /* Places apps, and makes their own keys. */
    struct app **apps;          /* Buckets; as many as namespace_count_max asks for. */
    size_t app_mask;
    struct app *first_app;
    struct app *recent_app; /* The last one changed, or NULL: the next is probably the same. */
    uint64_t app_count;
    struct writers writers;
    struct log log;
    struct index_pool index_pool;
    struct tree_node *expiring; /* Values that expire, by when their bytes can go. */
    struct tree_node *dying;    /* Tombstones and emptied values, by when to look at them. */
    uint64_t last_hlc;          /* The latest stamp given by us. */
    uint64_t bytes;
    uint64_t conflict_count;
    uint64_t emptied_count;
    uint64_t removed_count;
    uint64_t refused_counts[STORE_REFUSAL_COUNT];
};

/* ---- app.c ---- */

/* NULL when the app holds nothing. */
struct app *app_find(const struct store *s, uint64_t app_id);
/* Makes it; it is not there yet. NOMEM. */
RC app_open(struct store *s, uint64_t app_id, struct app **out);
/* Frees it if it holds nothing. Accepts NULL. */
void app_drop_if_empty(struct store *s, struct app *app);
/* Of a key, for the app's table. */
uint64_t app_hash(const struct app *app, struct span key);

/* ---- change.c: the only code that alters records ---- */

/* A version of a record, checked, about to replace what its key holds. */
struct change {
    uint64_t app_id;
    struct app *app; /* What app_find and table_find give for it, so that nobody looks twice; */
    struct record *record; /* or NULL. */
    struct span key;
    uint64_t hash; /* Of the key, when there is an app. */
    struct span sealed;
    struct store_stamp stamp;
    struct store_stamp replaced;
    uint64_t ttl_ms;
    bool tombstone;
};

/* Puts c in the place of what its key holds, and at the end of the log. QUOTA when the writers are
 * full, NOMEM; then nothing has changed. */
RC change_apply(struct store *s, const struct change *c);
/* Frees the sealed bytes of an expired value. Without memory for that it stays as it is, and is due
 * again a little later. */
void change_empty(struct store *s, struct record *r, uint64_t now_unix_ms);
/* Moves a record in `dying` to a later look. */
void change_postpone(struct store *s, struct record *r, uint64_t at_unix_ms);
/* Forgets a record of the tree `dying`, and its app if that was its last. */
void change_remove(struct store *s, struct record *r);

/* Fills *out from r, sealed bytes and all. */
void record_show(const struct store *s, const struct record *r, uint64_t now_unix_ms,
                 struct store_record *out);

/* ---- due.c: the order by time ---- */

void due_insert(struct tree_node **root, struct timed *t, uint64_t due_unix_ms);
void due_remove(struct tree_node **root, struct timed *t);
bool due_contains(const struct tree_node *root, const struct timed *t);
/* The first that is due, or NULL. */
struct record *due_first(struct tree_node *root, uint64_t now_unix_ms);

/* ---- collect.c ---- */

/* Frees expired values' bytes, at most step_max of them. Returns how many it looked at. */
size_t collect_expired(struct store *s, uint64_t now_unix_ms, size_t step_max);

/* ---- digest.c ---- */

/* Adds the record to its app's sum, or takes it out. */
void digest_add(struct store_digest *sum, const struct record *r, const uint8_t *writer);
void digest_subtract(struct store_digest *sum, const struct record *r, const uint8_t *writer);
