/* SPDX-License-Identifier: Apache-2.0 */
#include "store/state.h"

size_t collect_expired(struct store *s, uint64_t now_unix_ms, size_t step_max) {
    size_t step_count = 0;
    for (; step_count < step_max; step_count++) {
        struct record *r = due_first(s->expiring, now_unix_ms);
        if (r == NULL) {
            break;
        }
        change_empty(s, r, now_unix_ms);
    }
    return step_count;
}

/* Removes r if every vector covers it, or puts it off. Returns whether it is gone. */
static bool collect_one(struct store *s, struct record *r, uint64_t now_unix_ms,
                        const uint64_t *meet) {
    if (meet[r->writer] < r->hlc) {
        change_postpone(s, r, now_unix_ms + STORE_COLLECT_RETRY_MS);
        return false;
    }
    writers_raise_floor(&s->writers, r->writer, r->hlc);
    change_remove(s, r);
    return true;
}

void store_collect(struct store *s, const struct store_collect *c, struct store_collected *out) {
    *out = (struct store_collected){ 0 };
    uint64_t now_unix_ms = c->now_unix_ms;
    uint64_t emptied_before = s->emptied_count;
    size_t step_count = collect_expired(s, now_unix_ms, c->step_max);
    out->emptied_count = (size_t)(s->emptied_count - emptied_before);
    struct record *r = due_first(s->dying, now_unix_ms);
    if (r != NULL && step_count < c->step_max) {
        uint64_t rest_hlc = 0;
        const uint64_t *meet = writers_meet(&s->writers, c->members, c->member_count, &rest_hlc);
        for (; r != NULL && step_count < c->step_max; step_count++) {
            out->removed_count += collect_one(s, r, now_unix_ms, meet) ? 1 : 0;
            r = due_first(s->dying, now_unix_ms);
        }
        if (rest_hlc > s->writers.floor_folded_hlc) {
            writers_fold_floor(&s->writers, rest_hlc);
        }
    }
    out->more =
        due_first(s->dying, now_unix_ms) != NULL || due_first(s->expiring, now_unix_ms) != NULL;
}
