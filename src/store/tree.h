/* SPDX-License-Identifier: Apache-2.0 */
/* An ordered tree of nodes that live inside what they order (a treap): no memory of its own, so that
 * it cannot fail. Priorities come from a keyed hash that callers do not know, so that nobody can
 * choose keys that make it deep: every operation is O(log n), whatever the order of the keys.
 * Internal to the room. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct tree_node {
    struct tree_node *left;
    struct tree_node *right;
    uint64_t priority; /* Set by the owner before the insert; constant while in the tree. */
};

/* <0, 0, >0. Two nodes of one tree are never equal. */
typedef int (*tree_compare_cb)(const struct tree_node *a, const struct tree_node *b);

/* Lends *node to the tree until tree_remove. */
void tree_insert(struct tree_node **root, struct tree_node *node, tree_compare_cb compare);
/* node is in the tree. */
void tree_remove(struct tree_node **root, struct tree_node *node, tree_compare_cb compare);
/* The least node, or NULL. */
struct tree_node *tree_first(struct tree_node *root);

/* Walks a tree that does not change meanwhile, upwards, without parent pointers. */
#define TREE_CURSOR_DEPTH_MAX 64
struct tree_cursor {
    struct tree_node *root;
    struct tree_node *stack[TREE_CURSOR_DEPTH_MAX]; /* Nodes still to visit, nearest on top. */
    size_t depth;
    size_t dropped_count; /* Nodes that fell off the bottom of a stack that was too small. */
};

/* Whether node comes after the place that is sought. */
typedef int (*tree_after_cb)(const struct tree_node *node, const void *place);

/* Puts the cursor before the first node for which after(node, place) is true; `after` is false, then
 * true, along the order. */
void tree_seek(struct tree_cursor *c, struct tree_node *root, const void *place,
               tree_after_cb after);
/* The next node, or NULL at the end, or when nodes were dropped: then seek again. */
struct tree_node *tree_next(struct tree_cursor *c);
