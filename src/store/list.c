/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of keys in order. */
#include "store/state.h"

static struct record *next_in_range(struct index_place *place, struct span prefix) {
    struct record *r = index_next(place);
    return r != NULL && span_has_prefix(record_key(r), prefix) ? r : NULL;
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
    struct index_place place =
        index_seek(&app->index, first_page ? range->prefix : range->after, first_page);
    const struct record *last = NULL;
    size_t skipped_count = 0;
    for (;;) {
        const struct record *r = next_in_range(&place, range->prefix);
        if (r == NULL) {
            return OK;
        }
        if (page->count == range->limit || skipped_count == STORE_LIST_SKIP_MAX) {
            ASSERT(last != NULL);
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
