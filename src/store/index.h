/* SPDX-License-Identifier: Apache-2.0 */
/* An app's keys in order: a B+ tree. Only records with sealed bytes are in it, so that a list does
 * not wade through what was deleted.
 *
 * A comparison that must read a key is a cache miss, so a node keeps 8 bytes of each key beside one
 * another, taken behind the prefix that all its keys share; keys are read only where these are
 * equal. Internal to the room. */
#pragma once

#include "store/record.h"

#define INDEX_LEAF_MAX 64
#define INDEX_INNER_MAX 42 /* An inner entry is 24 bytes: both kinds of node are of one size. */
#define INDEX_PREFIX_BYTES 44
#define INDEX_HEIGHT_MAX 12 /* Nodes that are a third full hold 2^48 keys with less. */

/* Entry i is a record, or a child with the least record under it. */
struct index_node {
    uint16_t count;
    bool is_leaf;
    uint8_t skip; /* Bytes that all keys share: at most INDEX_PREFIX_BYTES. */
    uint8_t prefix[INDEX_PREFIX_BYTES];
    struct index_node *prev; /* On its level. */
    struct index_node *next;
    union {
        struct {
            uint64_t slices[INDEX_LEAF_MAX]; /* 8 bytes of each key from `skip`, big-endian. */
            struct record *records[INDEX_LEAF_MAX];
        } leaf;
        struct {
            uint64_t slices[INDEX_INNER_MAX];
            struct record *records[INDEX_INNER_MAX];
            struct index_node *children[INDEX_INNER_MAX];
        } inner;
    } at;
};

struct index {
    struct index_node *root; /* NULL when empty. */
    size_t height;           /* Levels. */
};

/* Nodes taken before they are needed, so that an insert cannot fail half way. */
struct index_pool {
    struct index_node *first; /* Linked by next. */
    size_t count;
};

void index_pool_close(struct index_pool *pool);
/* Takes what one insert can need. NOMEM. */
RC index_reserve(struct index_pool *pool, const struct index *index);
/* After index_reserve. The record's key is not in the index. */
void index_insert(struct index *index, struct index_pool *pool, struct record *r);
void index_remove(struct index *index, struct index_pool *pool, const struct record *r);
/* Frees all nodes. Reads no record, so they may be gone. */
void index_close(struct index *index);

/* A place between two changes. */
struct index_place {
    const struct index_node *leaf; /* NULL at the end. */
    unsigned idx;
};

/* The first key that is greater than `key`, or equal to it when inclusive. */
struct index_place index_seek(const struct index *index, struct span key, bool inclusive);
/* The record at the place, which moves on; NULL at the end. */
struct record *index_next(struct index_place *place);
/* ASSERTs every invariant. Returns how many records there are. */
size_t index_check(const struct index *index);
