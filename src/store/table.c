/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"

#include <stdlib.h>

/* Buckets moved by one insert or removal. One keeps up; two catch up after a failure, and let a
 * table shrink as fast as it empties. */
#define STEPS_MAX 2
#define BUCKET_COUNT_MAX (UINT32_C(1) << 31) /* Tags pick the bucket. */

_Static_assert(sizeof(struct table_bucket) == 64, "a bucket is a cache line");

/* 2.5 records a bucket on average: 4 of 5 buckets that are due to be split do not overflow. */
static bool is_crowded(const struct table *t) {
    return 2 * t->record_count > 5 * t->bucket_count && t->bucket_count < BUCKET_COUNT_MAX;
}

static bool is_sparse(const struct table *t) {
    return t->record_count < t->bucket_count && t->bucket_count > TABLE_SEGMENT_BUCKETS;
}

static struct table_bucket *bucket_at(const struct table *t, size_t idx) {
    uintptr_t segment = (uintptr_t)t->segments[idx / TABLE_SEGMENT_BUCKETS];
    size_t align = sizeof(struct table_bucket);
    struct table_bucket *first = (void *)((segment + align - 1) / align * align);
    return &first[idx % TABLE_SEGMENT_BUCKETS];
}

/* A bucket that does not exist yet is still part of the one it will be split from. */
static size_t bucket_of(const struct table *t, uint32_t tag) {
    size_t idx = tag & t->mask;
    return idx < t->bucket_count ? idx : idx & (t->mask >> 1);
}

/* ---- One bucket ---- */

static unsigned placed_count(const struct table_bucket *b) {
    return b->count < TABLE_BUCKET_RECORDS ? b->count : TABLE_BUCKET_RECORDS;
}

/* First of those that found no place, or NULL. Chains of other records mean nothing. */
static struct record **overflow_of(struct table_bucket *b) {
    return &b->records[TABLE_BUCKET_RECORDS - 1]->chain;
}

static void add(struct table_bucket *b, uint32_t tag, struct record *r) {
    if (b->count < TABLE_BUCKET_RECORDS) {
        b->tags[b->count] = tag;
        b->records[b->count] = r;
    } else {
        struct record **overflow = overflow_of(b);
        r->chain = b->count == TABLE_BUCKET_RECORDS ? NULL : *overflow;
        *overflow = r;
    }
    b->count++;
}

/* Takes a record that found no place out of its bucket, and returns it. */
static struct record *pop_overflow(struct table_bucket *b) {
    struct record **overflow = overflow_of(b);
    struct record *r = *overflow;
    *overflow = r->chain;
    b->count--;
    return r;
}

static void drop_overflow(struct table_bucket *b, const struct record *r) {
    struct record **link = overflow_of(b);
    while (*link != r) {
        ASSERT(*link != NULL);
        link = &(*link)->chain;
    }
    *link = r->chain;
    b->count--;
}

static void drop(struct table_bucket *b, const struct record *r) {
    unsigned placed = placed_count(b);
    unsigned idx = 0;
    while (idx < placed && b->records[idx] != r) {
        idx++;
    }
    if (idx == placed) {
        ASSERT(b->count > TABLE_BUCKET_RECORDS);
        drop_overflow(b, r);
        return;
    }
    struct record *rest = b->count > TABLE_BUCKET_RECORDS ? pop_overflow(b) : NULL;
    if (rest == NULL) {
        b->count--;
        b->tags[idx] = b->tags[b->count];
        b->records[idx] = b->records[b->count];
        return;
    }
    if (idx == TABLE_BUCKET_RECORDS - 1) {
        rest->chain = r->chain; /* It carries the others now. */
    }
    b->tags[idx] = (uint32_t)rest->hash;
    b->records[idx] = rest;
}

/* Gives all records of a bucket to the buckets they belong to now. */
static void spread(struct table *t, struct table_bucket *from) {
    struct table_bucket old = *from;
    *from = (struct table_bucket){ 0 };
    struct record *rest = old.count > TABLE_BUCKET_RECORDS ? *overflow_of(&old) : NULL;
    for (unsigned i = 0; i < placed_count(&old); i++) {
        add(bucket_at(t, bucket_of(t, old.tags[i])), old.tags[i], old.records[i]);
    }
    while (rest != NULL) {
        struct record *r = rest;
        rest = r->chain;
        add(bucket_at(t, bucket_of(t, (uint32_t)r->hash)), (uint32_t)r->hash, r);
    }
}

/* ---- The table ---- */

RC table_init(struct table *t) {
    *t = (struct table){ 0 };
    t->segments = calloc(1, sizeof(*t->segments));
    ENSURE(t->segments != NULL, NOMEM);
    t->segment_count_max = 1;
    t->segments[0] = calloc(1, TABLE_SEGMENT_BYTES);
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

void table_prefetch(const struct table *t, uint64_t hash) {
    __builtin_prefetch(bucket_at(t, bucket_of(t, (uint32_t)hash)), 1);
}

struct record *table_find(const struct table *t, uint64_t hash, struct span key) {
    uint32_t tag = (uint32_t)hash;
    struct table_bucket *b = bucket_at(t, bucket_of(t, tag));
    for (unsigned i = 0; i < placed_count(b); i++) {
        if (b->tags[i] == tag && span_equal(record_key(b->records[i]), key)) {
            return b->records[i];
        }
    }
    struct record *r = b->count > TABLE_BUCKET_RECORDS ? *overflow_of(b) : NULL;
    while (r != NULL && (r->hash != hash || !span_equal(record_key(r), key))) {
        r = r->chain;
    }
    return r;
}

#ifndef __clang__ /* gcc's analyzer does not follow an array's element at an index it does not know. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif
static bool add_segment(struct table *t) {
    size_t idx = t->bucket_count / TABLE_SEGMENT_BUCKETS;
    if (idx == t->segment_count_max) {
        void **grown = realloc(t->segments, 2 * t->segment_count_max * sizeof(*t->segments));
        if (grown == NULL) {
            return false;
        }
        t->segments = grown;
        t->segment_count_max *= 2;
    }
    t->segments[idx] = calloc(1, TABLE_SEGMENT_BYTES);
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
    spread(t, bucket_at(t, added & (t->mask >> 1)));
    return true;
}
#ifndef __clang__
#pragma GCC diagnostic pop
#endif

/* Puts the last bucket back to the one it was split from. */
static void shrink(struct table *t) {
    size_t last = t->bucket_count - 1;
    t->bucket_count--;
    if (t->bucket_count - 1 <= t->mask >> 1) {
        t->mask >>= 1;
    }
    spread(t, bucket_at(t, last));
    if (last % TABLE_SEGMENT_BUCKETS == 0) {
        free(t->segments[last / TABLE_SEGMENT_BUCKETS]);
        t->segments[last / TABLE_SEGMENT_BUCKETS] = NULL;
    }
}

/* Starts fetching what the next insert may split, so that it need not wait for it. */
static void prefetch_next(const struct table *t) {
    size_t round_mask = t->bucket_count > t->mask ? t->mask : t->mask >> 1;
    __builtin_prefetch(bucket_at(t, t->bucket_count & round_mask), 1);
}

void table_insert(struct table *t, struct record *r) {
    t->record_count++;
    for (int i = 0; i < STEPS_MAX && is_crowded(t) && grow(t); i++) {
    }
    uint32_t tag = (uint32_t)r->hash;
    add(bucket_at(t, bucket_of(t, tag)), tag, r);
    prefetch_next(t);
}

void table_remove(struct table *t, struct record *r) {
    drop(bucket_at(t, bucket_of(t, (uint32_t)r->hash)), r);
    t->record_count--;
    for (int i = 0; i < STEPS_MAX && is_sparse(t); i++) {
        shrink(t);
    }
}
