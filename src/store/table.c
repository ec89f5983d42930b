/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"

#include <stdlib.h>

/* Buckets moved by one insert or removal. One keeps the load at 1; two catch up after a failure,
 * and let a table shrink as fast as it empties. */
#define STEPS_MAX 2

static struct record **bucket_at(const struct table *t, size_t idx) {
    return &t->segments[idx / TABLE_SEGMENT_BUCKETS][idx % TABLE_SEGMENT_BUCKETS];
}

/* A bucket that does not exist yet is still part of the one it will be split from. */
static size_t bucket_of(const struct table *t, uint64_t hash) {
    size_t idx = (size_t)hash & t->mask;
    return idx < t->bucket_count ? idx : idx & (t->mask >> 1);
}

RC table_init(struct table *t) {
    *t = (struct table){ 0 };
    t->segments = calloc(1, sizeof(struct record **));
    ENSURE(t->segments != NULL, NOMEM);
    t->segment_count_max = 1;
    t->segments[0] = calloc(TABLE_SEGMENT_BUCKETS, sizeof(struct record *));
    if (t->segments[0] == NULL) {
        table_close(t);
        return ERR(NOMEM);
    }
    t->bucket_count = TABLE_SEGMENT_BUCKETS;
    t->mask = TABLE_SEGMENT_BUCKETS - 1;
    return OK;
}

void table_close(struct table *t) {
    for (size_t i = 0; i < t->bucket_count; i += TABLE_SEGMENT_BUCKETS) {
        free(t->segments[i / TABLE_SEGMENT_BUCKETS]);
    }
    free(t->segments);
    *t = (struct table){ 0 };
}

struct record *table_find(const struct table *t, uint64_t hash, struct span key) {
    struct record *r = *bucket_at(t, bucket_of(t, hash));
    while (r != NULL && (r->hash != hash || !span_equal(record_key(r), key))) {
        r = r->chain;
    }
    return r;
}

static bool add_segment(struct table *t) {
    size_t idx = t->bucket_count / TABLE_SEGMENT_BUCKETS;
    if (idx == t->segment_count_max) {
        struct record ***grown =
            realloc(t->segments, 2 * t->segment_count_max * sizeof(struct record **));
        if (grown == NULL) {
            return false;
        }
        t->segments = grown;
        t->segment_count_max *= 2;
    }
    t->segments[idx] = calloc(TABLE_SEGMENT_BUCKETS, sizeof(struct record *));
    return t->segments[idx] != NULL;
}

/* Adds a bucket and moves to it what is its own. */
static bool grow(struct table *t) {
    size_t added = t->bucket_count;
    if (added % TABLE_SEGMENT_BUCKETS == 0 && !add_segment(t)) {
        return false;
    }
    if (added > t->mask) {
        t->mask = 2 * t->mask + 1;
    }
    t->bucket_count++;
    struct record **from = bucket_at(t, added & (t->mask >> 1));
    struct record **to = bucket_at(t, added);
    while (*from != NULL) {
        struct record *r = *from;
        if (bucket_of(t, r->hash) == added) {
            *from = r->chain;
            r->chain = *to;
            *to = r;
        } else {
            from = &r->chain;
        }
    }
    return true;
}

/* Starts fetching what the next two inserts will split, so that they need not wait for it. */
static void prefetch_next(const struct table *t) {
    size_t round_mask = t->bucket_count > t->mask ? t->mask : t->mask >> 1;
    size_t next = t->bucket_count & round_mask;
    __builtin_prefetch(bucket_at(t, next + 1));
    __builtin_prefetch(*bucket_at(t, next));
}

/* Puts the last bucket back to the one it was split from. */
static void shrink(struct table *t) {
    size_t last = t->bucket_count - 1;
    struct record **from = bucket_at(t, last);
    struct record **to = bucket_at(t, last & (t->mask >> 1));
    while (*to != NULL) {
        to = &(*to)->chain;
    }
    *to = *from;
    *from = NULL;
    t->bucket_count--;
    if (t->bucket_count - 1 <= t->mask >> 1) {
        t->mask >>= 1;
    }
    if (last % TABLE_SEGMENT_BUCKETS == 0) {
        free(t->segments[last / TABLE_SEGMENT_BUCKETS]);
        t->segments[last / TABLE_SEGMENT_BUCKETS] = NULL;
    }
}

void table_insert(struct table *t, struct record *r) {
    t->record_count++;
    for (int i = 0; i < STEPS_MAX && t->record_count > t->bucket_count && grow(t); i++) {
    }
    struct record **bucket = bucket_at(t, bucket_of(t, r->hash));
    r->chain = *bucket;
    *bucket = r;
    prefetch_next(t);
}

void table_remove(struct table *t, struct record *r) {
    struct record **link = bucket_at(t, bucket_of(t, r->hash));
    while (*link != r) {
        ASSERT(*link != NULL);
        link = &(*link)->chain;
    }
    *link = r->chain;
    t->record_count--;
    for (int i = 0; i < STEPS_MAX && t->bucket_count > TABLE_SEGMENT_BUCKETS &&
                    t->record_count < t->bucket_count / 2;
         i++) {
        shrink(t);
    }
}
