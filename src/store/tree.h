/* SPDX-License-Identifier: Apache-2.0 */
/* An ordered tree of nodes that live inside what they order (a treap): no memory of its own, so
 * that it cannot fail. Priorities come from a keyed hash that callers do not know, so that nobody
 * can choose what makes it deep: every operation is O(log n), whatever order things come in.
 * Internal to the room. */
#pragma once

#include <stdbool.h>
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
bool tree_contains(const struct tree_node *root, const struct tree_node *node,
                   tree_compare_cb compare);
