/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tree.h"

#include <string.h>

#include "base/err.h"

/* Divides `rest` into what is below node and what is above, as node's children. */
static void split(struct tree_node *rest, struct tree_node *node, tree_compare_cb compare) {
    struct tree_node **below = &node->left;
    struct tree_node **above = &node->right;
    while (rest != NULL) {
        if (compare(rest, node) < 0) {
            *below = rest;
            below = &rest->right;
            rest = rest->right;
        } else {
            *above = rest;
            above = &rest->left;
            rest = rest->left;
        }
    }
    *below = NULL;
    *above = NULL;
}

void tree_insert(struct tree_node **root, struct tree_node *node, tree_compare_cb compare) {
    struct tree_node **link = root;
    while (*link != NULL && (*link)->priority >= node->priority) {
        link = compare(node, *link) < 0 ? &(*link)->left : &(*link)->right;
    }
    split(*link, node, compare);
    *link = node;
}

void tree_remove(struct tree_node **root, struct tree_node *node, tree_compare_cb compare) {
    struct tree_node **link = root;
    while (*link != node) {
        ASSERT(*link != NULL);
        link = compare(node, *link) < 0 ? &(*link)->left : &(*link)->right;
    }
    struct tree_node *low = node->left;
    struct tree_node *high = node->right;
    while (low != NULL && high != NULL) {
        if (low->priority >= high->priority) {
            *link = low;
            link = &low->right;
            low = low->right;
        } else {
            *link = high;
            link = &high->left;
            high = high->left;
        }
    }
    *link = low != NULL ? low : high;
}

struct tree_node *tree_first(struct tree_node *root) {
    while (root != NULL && root->left != NULL) {
        root = root->left;
    }
    return root;
}

static void push(struct tree_cursor *c, struct tree_node *node) {
    if (c->depth == TREE_CURSOR_DEPTH_MAX) {
        memmove(&c->stack[0], &c->stack[1], sizeof(c->stack) - sizeof(c->stack[0]));
        c->depth--;
        c->dropped_count++;
    }
    c->stack[c->depth++] = node;
}

void tree_seek(struct tree_cursor *c, struct tree_node *root, const void *place,
               tree_after_cb after) {
    c->root = root;
    c->depth = 0;
    c->dropped_count = 0;
    struct tree_node *node = root;
    while (node != NULL) {
        if (after(node, place)) {
            push(c, node);
            node = node->left;
        } else {
            node = node->right;
        }
    }
}

struct tree_node *tree_next(struct tree_cursor *c) {
    if (c->depth == 0) {
        return NULL;
    }
    struct tree_node *node = c->stack[--c->depth];
    for (struct tree_node *n = node->right; n != NULL; n = n->left) {
        push(c, n);
    }
    return node;
}
