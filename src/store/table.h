/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of records that grows and shrinks by one bucket at a time (linear hashing): no write
 * pays for rehashing the others. A bucket is one cache line with a piece of each record's hash, so
 * that neither a look-up of what is not there nor the split of a bucket reads records. Buckets come
 * in segments, so that none is ever moved. Internal to the room. */
#pragma once

#include "store/record.h"

#define TABLE_SEGMENT_BUCKETS 16
#define TABLE_BUCKET_RECORDS 5

struct table_bucket {
    uint32_t count; /* Of all records; those that find no place hang from the last by `chain`. */
    uint32_t
        tags[TABLE_BUCKET_RECORDS]; /* The low half of the hash, which also picks the bucket. */
    struct record *records[TABLE_BUCKET_RECORDS];
};

/* One more bucket than there are, because malloc does not align to cache lines. */
#define TABLE_SEGMENT_BYTES ((TABLE_SEGMENT_BUCKETS + 1) * sizeof(struct table_bucket))

struct table {
    void **segments;
    size_t segment_count_max; /* Capacity of `segments`. */
    size_t bucket_count;
    size_t mask; /* Least 2^k - 1 that is not below bucket_count - 1. */
    size_t record_count;
};

/* An empty table. NOMEM. */
RC table_init(struct table *t);
/* The table is empty, or its records are freed by whoever owns them. Accepts a closed table. */
void table_close(struct table *t);
/* Starts fetching the bucket that table_find() of the hash reads. */
void table_prefetch(const struct table *t, uint64_t hash);
/* NULL when there is none. */
struct record *table_find(const struct table *t, uint64_t hash, struct span key);
/* The record's key is not there yet. Growing can fail for want of memory; then it is tried again at
 * the next insert, and nothing else is lost. */
void table_insert(struct table *t, struct record *r);
/* The record is in the table. */
void table_remove(struct table *t, struct record *r);
