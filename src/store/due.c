/* SPDX-License-Identifier: Apache-2.0 */
#include "store/state.h"

static int compare_due(const struct tree_node *a, const struct tree_node *b) {
    const struct timed *x = timed_of_due(a);
    const struct timed *y = timed_of_due(b);
    if (x->due_unix_ms != y->due_unix_ms) {
        return x->due_unix_ms < y->due_unix_ms ? -1 : 1;
    }
    return ((uintptr_t)x > (uintptr_t)y) - ((uintptr_t)x < (uintptr_t)y);
}

void due_insert(struct tree_node **root, struct timed *t, uint64_t due_unix_ms) {
    t->due_unix_ms = due_unix_ms;
    t->due.priority = t->record->hash;
    tree_insert(root, &t->due, compare_due);
}

void due_remove(struct tree_node **root, struct timed *t) {
    tree_remove(root, &t->due, compare_due);
}

bool due_contains(const struct tree_node *root, const struct timed *t) {
    return tree_contains(root, &t->due, compare_due);
}

struct record *due_first(struct tree_node *root, uint64_t now_unix_ms) {
    const struct tree_node *first = tree_first(root);
    if (first == NULL || timed_of_due(first)->due_unix_ms > now_unix_ms) {
        return NULL;
    }
    return timed_of_due(first)->record;
}
