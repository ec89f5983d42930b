/* SPDX-License-Identifier: Apache-2.0 */
/* Keys in order, and pages of them. Only records with sealed bytes are in it, so that a list does
 * not wade through what was deleted. */
#include "store/state.h"

static int compare_keys(const struct tree_node *a, const struct tree_node *b) {
    return span_compare(record_key(record_of_order(a)), record_key(record_of_order(b)));
}

void index_insert(struct app *app, struct record *r) {
    tree_insert(&app->order, &r->order, compare_keys);
}

void index_remove(struct app *app, struct record *r) {
    tree_remove(&app->order, &r->order, compare_keys);
}

/* Where a page starts: after a key, or at one. */
struct start {
    struct span key;
    bool inclusive;
};

static int is_after(const struct tree_node *node, const void *place) {
    const struct start *start = place;
    int order = span_compare(record_key(record_of_order(node)), start->key);
    return order > 0 || (order == 0 && start->inclusive);
}

/* The next record of the range, or NULL at its end. */
static struct record *next_in_range(struct tree_cursor *cursor, const struct record *last,
                                    struct span prefix) {
    struct tree_node *node = tree_next(cursor);
    if (node == NULL && cursor->dropped_count > 0) {
        struct start start = { record_key(last), false };
        tree_seek(cursor, cursor->root, &start, is_after);
        node = tree_next(cursor);
    }
    if (node == NULL || !span_has_prefix(record_key(record_of_order(node)), prefix)) {
        return NULL;
    }
    return record_of_order(node);
}

RC store_list(const struct store *s, const struct store_range *range, struct store_record *out,
              struct store_page *page) {
    *page = (struct store_page){ 0 };
    ENSURE(range->limit > 0, INVALID);
    ENSURE(range->after.len == 0 || span_has_prefix(range->after, range->prefix), INVALID);
    const struct app *app = app_find(s, range->app_id);
    if (app == NULL) {
        return OK;
    }
    bool first_page = range->after.len == 0;
    struct start start = { first_page ? range->prefix : range->after, first_page };
    struct tree_cursor cursor;
    tree_seek(&cursor, app->order, &start, is_after);
    const struct record *last = NULL;
    size_t skipped_count = 0;
    for (;;) {
        const struct record *r = next_in_range(&cursor, last, range->prefix);
        if (r == NULL) {
            return OK;
        }
        if (page->count == range->limit || skipped_count == STORE_LIST_SKIP_MAX) {
            page->more = true;
            page->next_after = record_key(last);
            return OK;
        }
        last = r;
        if (record_state(r, range->now_unix_ms) == STORE_LIVE) {
            record_show(s, r, range->now_unix_ms, &out[page->count++]);
        } else {
            skipped_count++;
        }
    }
}
