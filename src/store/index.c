/* SPDX-License-Identifier: Apache-2.0 */
#include "store/index.h"

#include <stdlib.h>
#include <string.h>

/* Siblings with no more entries than this together become one. Less than full, so that the next
 * insert does not split them again. */
#define MERGE_FILL(max) ((max)*3 / 4)
/* A longer shared prefix than before is worth reading all keys again from this many bytes on. */
#define SKIP_GAIN 4
#define POOL_KEPT INDEX_HEIGHT_MAX
#define CACHE_LINE_BYTES 64

/* The way from the root to a leaf: in each node the entry taken. */
struct step {
    struct index_node *node;
    unsigned idx;
};

/* ---- One node ---- */

static unsigned count_max(const struct index_node *n) {
    return n->is_leaf ? INDEX_LEAF_MAX : INDEX_INNER_MAX;
}

static uint64_t *slices(struct index_node *n) {
    return n->is_leaf ? n->at.leaf.slices : n->at.inner.slices;
}

static const uint64_t *slices_of(const struct index_node *n) {
    return n->is_leaf ? n->at.leaf.slices : n->at.inner.slices;
}

static struct record **records(struct index_node *n) {
    return n->is_leaf ? n->at.leaf.records : n->at.inner.records;
}

static struct record *record_at(const struct index_node *n, unsigned idx) {
    return n->is_leaf ? n->at.leaf.records[idx] : n->at.inner.records[idx];
}

/* Zeros stand for what a short key does not have, so equal slices say nothing about order. */
static uint64_t slice_of(struct span key, size_t skip) {
    uint64_t slice = 0;
    size_t len = key.len > skip ? key.len - skip : 0;
    len = len > sizeof(slice) ? sizeof(slice) : len;
    for (size_t i = 0; i < len; i++) {
        slice |= (uint64_t)key.ptr[skip + i] << (56 - 8 * i);
    }
    return slice;
}

static size_t shared_len(struct span a, struct span b, size_t len_max) {
    size_t len = 0;
    while (len < len_max && len < a.len && len < b.len && a.ptr[len] == b.ptr[len]) {
        len++;
    }
    return len;
}

static void set_skip(struct index_node *n, size_t skip) {
    n->skip = (uint8_t)skip;
    memcpy(n->prefix, record_key(record_at(n, 0)).ptr, skip);
    for (unsigned i = 0; i < n->count; i++) {
        slices(n)[i] = slice_of(record_key(record_at(n, i)), skip);
    }
}

/* What the first and the last key share, all between them share. */
static size_t shared_by_all(const struct index_node *n) {
    return shared_len(record_key(record_at(n, 0)), record_key(record_at(n, n->count - 1U)),
                      INDEX_PREFIX_BYTES);
}

/* Makes room for a key that does not share the prefix. */
static void admit(struct index_node *n, struct span key) {
    size_t shared = shared_len((struct span){ n->prefix, n->skip }, key, n->skip);
    if (shared < n->skip) {
        set_skip(n, shared);
    }
}

/* How many of the node's keys are not greater than key. */
static unsigned count_up_to(const struct index_node *n, struct span key) {
    struct span head = { key.ptr, key.len < n->skip ? key.len : n->skip };
    int order = span_compare(head, (struct span){ n->prefix, n->skip });
    if (order != 0) {
        return order < 0 ? 0 : n->count;
    }
    uint64_t slice = slice_of(key, n->skip);
    const uint64_t *all = slices_of(n);
    unsigned low = 0;
    unsigned high = n->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        bool up_to =
            all[middle] < slice ||
            (all[middle] == slice && span_compare(record_key(record_at(n, middle)), key) <= 0);
        low = up_to ? middle + 1 : low;
        high = up_to ? high : middle;
    }
    return low;
}

/* Moves entries [from, count) to `to`, which may be in another node. */
static void move_entries(struct index_node *dst, unsigned to, struct index_node *src,
                         unsigned from) {
    size_t count = src->count - from;
    memmove(slices(dst) + to, slices(src) + from, count * sizeof(uint64_t));
    memmove(records(dst) + to, records(src) + from, count * sizeof(struct record *));
    if (!src->is_leaf) {
        memmove(dst->at.inner.children + to, src->at.inner.children + from,
                count * sizeof(struct index_node *));
    }
}

static void put_entry(struct index_node *n, unsigned idx, struct record *r,
                      struct index_node *child) {
    struct span key = record_key(r);
    if (n->count == 0) {
        n->skip = (uint8_t)(key.len < INDEX_PREFIX_BYTES ? key.len : INDEX_PREFIX_BYTES);
        memcpy(n->prefix, key.ptr, n->skip);
    }
    admit(n, key);
    move_entries(n, idx + 1, n, idx);
    slices(n)[idx] = slice_of(key, n->skip);
    records(n)[idx] = r;
    if (!n->is_leaf) {
        n->at.inner.children[idx] = child;
    }
    n->count++;
}

static void cut_entry(struct index_node *n, unsigned idx) {
    move_entries(n, idx, n, idx + 1);
    n->count--;
}

/* ---- The pool ---- */

static void release(struct index_pool *pool, struct index_node *n) {
    if (pool->count >= POOL_KEPT) {
        free(n);
        return;
    }
    n->next = pool->first;
    pool->first = n;
    pool->count++;
}

static struct index_node *take(struct index_pool *pool, bool is_leaf) {
    struct index_node *n = pool->first;
    ASSERT(n != NULL);
    pool->first = n->next;
    pool->count--;
    n->count = 0;
    n->is_leaf = is_leaf;
    n->skip = 0;
    n->prev = NULL;
    n->next = NULL;
    return n;
}

void index_pool_close(struct index_pool *pool) {
    while (pool->first != NULL) {
        struct index_node *n = pool->first;
        pool->first = n->next;
        free(n);
    }
    pool->count = 0;
}

RC index_reserve(struct index_pool *pool, const struct index *index) {
    while (pool->count <= index->height) { /* A split on every level, and a new root. */
        struct index_node *n = calloc(1, sizeof(*n));
        ENSURE(n != NULL, NOMEM);
        n->next = pool->first;
        pool->first = n;
        pool->count++;
    }
    return OK;
}

/* ---- Links within a level ---- */

static void link_after(struct index_node *n, struct index_node *added) {
    added->prev = n;
    added->next = n->next;
    if (n->next != NULL) {
        n->next->prev = added;
    }
    n->next = added;
}

static void unlink_node(struct index_node *n) {
    if (n->prev != NULL) {
        n->prev->next = n->next;
    }
    if (n->next != NULL) {
        n->next->prev = n->prev;
    }
}

/* ---- Insert ---- */

/* The search in a node is short, but would wait for its cache lines one after the other. */
static void prefetch_node(const struct index_node *n) {
    const uint8_t *start = (const uint8_t *)n;
    for (size_t at = 0; at < offsetof(struct index_node, at) + sizeof(n->at.leaf.slices);
         at += CACHE_LINE_BYTES) {
        __builtin_prefetch(start + at);
    }
}

/* Fills path[0..height); the last step's idx is how many keys of the leaf are not greater. */
static void descend(const struct index *index, struct span key,
                    struct step path[static INDEX_HEIGHT_MAX]) {
    struct index_node *n = index->root;
    for (size_t level = 0;; level++) {
        unsigned up_to = count_up_to(n, key);
        path[level] = (struct step){ n, up_to };
        if (n->is_leaf) {
            return;
        }
        path[level].idx = up_to == 0 ? 0 : up_to - 1;
        n = n->at.inner.children[path[level].idx];
        prefetch_node(n);
    }
}

/* Tells the nodes above that the least record of path[level].node may be another. */
static void fix_least(struct step *path, size_t level) {
    for (; level > 0; level--) {
        struct index_node *above = path[level - 1].node;
        unsigned idx = path[level - 1].idx;
        struct record *least = record_at(path[level].node, 0);
        if (record_at(above, idx) == least) {
            return;
        }
        records(above)[idx] = least;
        admit(above, record_key(least));
        slices(above)[idx] = slice_of(record_key(least), above->skip);
    }
}

static void gain_skip(struct index_node *n) {
    if (n->count > 0) {
        size_t shared = shared_by_all(n);
        if (shared >= n->skip + (size_t)SKIP_GAIN) {
            set_skip(n, shared);
        }
    }
}

/* Splits a full node, in which idx is to be filled next. Keys that come in order leave full nodes
 * behind. Returns the new node, after n. */
static struct index_node *split(struct index_pool *pool, struct index_node *n, unsigned idx) {
    struct index_node *added = take(pool, n->is_leaf);
    unsigned at = idx == n->count && n->next == NULL ? n->count : n->count / 2U;
    added->skip = n->skip;
    memcpy(added->prefix, n->prefix, sizeof(n->prefix));
    move_entries(added, 0, n, at);
    added->count = (uint16_t)(n->count - at);
    n->count = (uint16_t)at;
    link_after(n, added);
    gain_skip(n);
    gain_skip(added);
    return added;
}

static void grow_root(struct index *index, struct index_pool *pool, struct index_node *added) {
    struct index_node *old = index->root;
    struct index_node *root = take(pool, false);
    put_entry(root, 0, record_at(old, 0), old);
    put_entry(root, 1, record_at(added, 0), added);
    index->root = root;
    index->height++;
    ASSERT(index->height <= INDEX_HEIGHT_MAX);
}

void index_insert(struct index *index, struct index_pool *pool, struct record *r) {
    if (index->root == NULL) {
        index->root = take(pool, true);
        index->height = 1;
    }
    struct step path[INDEX_HEIGHT_MAX];
    descend(index, record_key(r), path);
    size_t level = index->height - 1;
    unsigned idx = path[level].idx;
    struct index_node *child = NULL;
    for (;;) {
        struct index_node *n = path[level].node;
        if (n->count < count_max(n)) {
            put_entry(n, idx, r, child);
            fix_least(path, level);
            return;
        }
        struct index_node *added = split(pool, n, idx);
        if (idx <= n->count && n->count < count_max(n)) {
            put_entry(n, idx, r, child);
        } else {
            put_entry(added, idx - n->count, r, child);
        }
        fix_least(path, level);
        if (level == 0) {
            grow_root(index, pool, added);
            return;
        }
        level--;
        r = record_at(added, 0);
        child = added;
        idx = path[level].idx + 1;
    }
}

/* ---- Remove ---- */

/* Makes one of two neighbours if they are empty enough. */
static bool absorb(struct index_node *n, struct index_node *next, struct index_pool *pool) {
    if (n->count + next->count > MERGE_FILL(count_max(n))) {
        return false;
    }
    move_entries(n, n->count, next, 0);
    n->count = (uint16_t)(n->count + next->count);
    set_skip(n, shared_by_all(n));
    unlink_node(next);
    release(pool, next);
    return true;
}

/* Joins path[level].node with a neighbour under the same parent. Returns whether it did. */
static bool merge(struct step *path, size_t level, struct index_pool *pool) {
    struct index_node *above = path[level - 1].node;
    struct index_node **children = above->at.inner.children;
    unsigned idx = path[level - 1].idx;
    if (idx + 1 < above->count && absorb(children[idx], children[idx + 1], pool)) {
        cut_entry(above, idx + 1);
        return true;
    }
    if (idx > 0 && absorb(children[idx - 1], children[idx], pool)) {
        cut_entry(above, idx);
        return true;
    }
    return false;
}

static void lower_root(struct index *index, struct index_pool *pool) {
    while (index->height > 1 && index->root->count == 1) {
        struct index_node *root = index->root;
        index->root = root->at.inner.children[0];
        index->height--;
        release(pool, root);
    }
}

void index_remove(struct index *index, struct index_pool *pool, const struct record *r) {
    struct step path[INDEX_HEIGHT_MAX];
    descend(index, record_key(r), path);
    size_t level = index->height - 1;
    struct index_node *n = path[level].node;
    ASSERT(path[level].idx > 0);
    ASSERT(record_at(n, path[level].idx - 1) == r);
    cut_entry(n, path[level].idx - 1);
    while (n->count == 0 && level > 0) {
        unlink_node(n);
        release(pool, n);
        level--;
        n = path[level].node;
        cut_entry(n, path[level].idx);
    }
    if (n->count == 0) {
        release(pool, n);
        *index = (struct index){ 0 };
        return;
    }
    fix_least(path, level);
    while (level > 0 && merge(path, level, pool)) {
        level--;
    }
    lower_root(index, pool);
}

void index_close(struct index *index) {
    struct index_node *level = index->root;
    while (level != NULL) {
        struct index_node *below = level->is_leaf ? NULL : level->at.inner.children[0];
        while (level != NULL) {
            struct index_node *next = level->next;
            free(level);
            level = next;
        }
        level = below;
    }
    *index = (struct index){ 0 };
}

/* ---- Reading ---- */

struct index_place index_seek(const struct index *index, struct span key, bool inclusive) {
    if (index->root == NULL) {
        return (struct index_place){ 0 };
    }
    struct step path[INDEX_HEIGHT_MAX];
    descend(index, key, path);
    struct step last = path[index->height - 1];
    if (inclusive && last.idx > 0 &&
        span_equal(record_key(record_at(last.node, last.idx - 1)), key)) {
        last.idx--;
    }
    return (struct index_place){ last.node, last.idx };
}

struct record *index_next(struct index_place *place) {
    if (place->leaf != NULL && place->idx == place->leaf->count) {
        *place = (struct index_place){ place->leaf->next, 0 };
    }
    if (place->leaf == NULL) {
        return NULL;
    }
    return place->leaf->at.leaf.records[place->idx++];
}

/* ---- Invariants ---- */

static void check_node(const struct index_node *n, const struct record *before) {
    ASSERT(n->count > 0);
    ASSERT(n->count <= count_max(n));
    ASSERT(n->next == NULL || n->next->prev == n);
    ASSERT(n->next == NULL || n->next->is_leaf == n->is_leaf);
    for (unsigned i = 0; i < n->count; i++) {
        struct span key = record_key(record_at(n, i));
        ASSERT(before == NULL || span_compare(record_key(before), key) < 0);
        ASSERT(span_has_prefix(key, (struct span){ n->prefix, n->skip }));
        ASSERT(slices_of(n)[i] == slice_of(key, n->skip));
        if (!n->is_leaf) {
            ASSERT(record_at(n->at.inner.children[i], 0) == record_at(n, i));
        }
        before = record_at(n, i);
    }
}

/* Checks a level, and that the nodes below are just its children in their order. */
static size_t check_level(const struct index_node *n) {
    const struct index_node *below = n->is_leaf ? NULL : n->at.inner.children[0];
    const struct record *before = NULL;
    size_t count = 0;
    ASSERT(n->prev == NULL);
    for (; n != NULL; n = n->next) {
        check_node(n, before);
        before = record_at(n, n->count - 1U);
        count += n->count;
        for (unsigned i = 0; !n->is_leaf && i < n->count; i++) {
            ASSERT(n->at.inner.children[i] == below);
            below = below->next;
        }
    }
    ASSERT(below == NULL);
    return count;
}

size_t index_check(const struct index *index) {
    size_t count = 0;
    size_t height = 0;
    const struct index_node *n = index->root;
    for (; n != NULL; n = n->is_leaf ? NULL : n->at.inner.children[0]) {
        count = check_level(n);
        height++;
    }
    ASSERT(height == index->height);
    return count;
}
