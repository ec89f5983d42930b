/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tree.h"

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

bool tree_contains(const struct tree_node *root, const struct tree_node *node,
                   tree_compare_cb compare) {
    while (root != NULL && root != node) {
        root = compare(node, root) < 0 ? root->left : root->right;
    }
    return root != NULL;
}
