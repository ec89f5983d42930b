/* SPDX-License-Identifier: Apache-2.0 */
#include "store/writers.h"

#include <stdlib.h>

static bool id_equal(const uint8_t *a, const uint8_t *b) {
    return span_equal((struct span){ a, STORE_WRITER_BYTES },
                      (struct span){ b, STORE_WRITER_BYTES });
}

static uint32_t *bucket_for(const struct writers *w, const uint8_t *id) {
    uint64_t hash = siphash(&w->key, (struct span){ id, STORE_WRITER_BYTES });
    return &w->buckets[(uint32_t)hash & w->bucket_mask];
}

RC writers_init(struct writers *w, uint32_t entry_count_max, const struct siphash_key *key,
                const uint8_t own[static STORE_WRITER_BYTES]) {
    uint32_t bucket_count = 1;
    while (bucket_count < entry_count_max) {
        bucket_count *= 2;
    }
    size_t slots = (size_t)entry_count_max + 1;
    *w = (struct writers){ .key = *key,
                           .entry_count_max = entry_count_max,
                           .bucket_mask = bucket_count - 1,
                           .at = calloc(slots, sizeof(*w->at)),
                           .buckets = calloc(bucket_count, sizeof(*w->buckets)),
                           .known_scratch = calloc(slots, sizeof(*w->known_scratch)),
                           .other_scratch = calloc(slots, sizeof(*w->other_scratch)) };
    if (w->at == NULL || w->buckets == NULL || w->known_scratch == NULL ||
        w->other_scratch == NULL) {
        writers_close(w);
        return ERR(NOMEM);
    }
    w->own_idx = writers_take(w, own);
    return OK;
}

void writers_close(struct writers *w) {
    free(w->at);
    free(w->buckets);
    free(w->known_scratch);
    free(w->other_scratch);
    *w = (struct writers){ 0 };
}

void writers_reset(struct writers *w, const uint8_t own[static STORE_WRITER_BYTES]) {
    memset(w->at, 0, ((size_t)w->used_count + 1) * sizeof(*w->at));
    memset(w->buckets, 0, ((size_t)w->bucket_mask + 1) * sizeof(*w->buckets));
    w->used_count = 0;
    w->free_idx = 0;
    w->entry_count = 0;
    w->listed_count = 0;
    w->own_idx = 0;
    w->recent_idx = 0;
    w->rest_hlc = 0;
    w->floor_rest_hlc = 0;
    w->floor_folded_hlc = 0;
    w->own_idx = writers_take(w, own);
}

uint32_t writers_find(const struct writers *w, const uint8_t id[static STORE_WRITER_BYTES]) {
    if (w->own_idx != 0 && id_equal(w->at[w->own_idx].id, id)) {
        return w->own_idx; /* The most frequent by far; spares the hash. */
    }
    if (w->recent_idx != 0 && id_equal(w->at[w->recent_idx].id, id)) {
        return w->recent_idx; /* As in a log, where many come in a row. */
    }
    uint32_t idx = *bucket_for(w, id);
    while (idx != 0 && !id_equal(w->at[idx].id, id)) {
        idx = w->at[idx].next_idx;
    }
    return idx;
}

static uint32_t add_entry(struct writers *w, const uint8_t *id) {
    if (w->entry_count == w->entry_count_max) {
        return 0;
    }
    uint32_t idx = w->free_idx;
    if (idx != 0) {
        w->free_idx = w->at[idx].next_idx;
    } else {
        idx = ++w->used_count;
    }
    uint32_t *bucket = bucket_for(w, id);
    w->at[idx] = (struct writer_entry){ .next_idx = *bucket };
    memcpy(w->at[idx].id, id, STORE_WRITER_BYTES);
    *bucket = idx;
    w->entry_count++;
    return idx;
}

static void drop_if_unused(struct writers *w, uint32_t idx) {
    struct writer_entry *e = &w->at[idx];
    if (e->use_count != 0 || e->known_hlc != 0 || e->floor_hlc != 0) {
        return;
    }
    uint32_t *link = bucket_for(w, e->id);
    while (*link != idx) {
        ASSERT(*link != 0);
        link = &w->at[*link].next_idx;
    }
    *link = e->next_idx;
    w->recent_idx = w->recent_idx == idx ? 0 : w->recent_idx;
    *e = (struct writer_entry){ .next_idx = w->free_idx };
    w->free_idx = idx;
    w->entry_count--;
}

uint32_t writers_take(struct writers *w, const uint8_t id[static STORE_WRITER_BYTES]) {
    uint32_t idx = writers_find(w, id);
    if (idx == 0) {
        idx = add_entry(w, id);
    }
    if (idx != 0) {
        w->at[idx].use_count++;
        w->recent_idx = idx;
    }
    return idx;
}

void writers_release(struct writers *w, uint32_t idx) {
    if (idx != 0) {
        ASSERT(w->at[idx].use_count > 0);
        w->at[idx].use_count--;
        drop_if_unused(w, idx);
    }
}

uint64_t writers_known(const struct writers *w, uint32_t idx) {
    uint64_t hlc = w->at[idx].known_hlc;
    return hlc > w->rest_hlc ? hlc : w->rest_hlc;
}

void writers_raise_known(struct writers *w, uint32_t idx, uint64_t hlc) {
    if (hlc > writers_known(w, idx)) {
        w->listed_count += w->at[idx].known_hlc == 0 ? 1 : 0;
        w->at[idx].known_hlc = hlc;
    }
}

void writers_raise_floor(struct writers *w, uint32_t idx, uint64_t hlc) {
    if (hlc > w->floor_top_hlc) {
        w->floor_top_hlc = hlc;
    }
    if (hlc > w->at[idx].floor_hlc && hlc > w->floor_rest_hlc) {
        w->at[idx].floor_hlc = hlc;
        w->floor_rise_count++;
    }
}

void writers_fold_floor(struct writers *w, uint64_t rest_hlc) {
    uint64_t folded_hlc = w->floor_rest_hlc;
    for (uint32_t idx = 1; idx <= w->used_count; idx++) {
        struct writer_entry *e = &w->at[idx];
        if (e->floor_hlc == 0 || e->floor_hlc > rest_hlc) {
            continue;
        }
        folded_hlc = e->floor_hlc > folded_hlc ? e->floor_hlc : folded_hlc;
        e->floor_hlc = 0;
        drop_if_unused(w, idx);
    }
    w->floor_rise_count += folded_hlc > w->floor_rest_hlc ? 1 : 0;
    w->floor_rest_hlc = folded_hlc;
    w->floor_folded_hlc = rest_hlc > w->floor_folded_hlc ? rest_hlc : w->floor_folded_hlc;
}

void writers_raise_floor_rest(struct writers *w, uint64_t rest_hlc) {
    if (rest_hlc > w->floor_rest_hlc) {
        w->floor_rest_hlc = rest_hlc;
        w->floor_rise_count++;
        w->floor_top_hlc = rest_hlc > w->floor_top_hlc ? rest_hlc : w->floor_top_hlc;
        writers_fold_floor(w, rest_hlc);
    }
}

void writers_raise_rest(struct writers *w, uint64_t rest_hlc) {
    if (rest_hlc <= w->rest_hlc) {
        return;
    }
    w->rest_hlc = rest_hlc;
    for (uint32_t idx = 1; idx <= w->used_count; idx++) {
        struct writer_entry *e = &w->at[idx];
        if (e->known_hlc == 0 || e->known_hlc > rest_hlc) {
            continue;
        }
        e->known_hlc = 0;
        w->listed_count--;
        drop_if_unused(w, idx);
    }
}

static void project(const struct writers *w, const struct store_known *known, uint64_t *out) {
    for (uint32_t idx = 0; idx <= w->used_count; idx++) {
        out[idx] = known->rest_hlc;
    }
    for (size_t i = 0; i < known->count; i++) {
        uint32_t idx = writers_find(w, known->entries[i].writer);
        if (idx != 0 && known->entries[i].hlc > out[idx]) {
            out[idx] = known->entries[i].hlc;
        }
    }
}

const uint64_t *writers_project(const struct writers *w, const struct store_known *known) {
    project(w, known, w->known_scratch);
    return w->known_scratch;
}

const uint64_t *writers_meet(const struct writers *w, const struct store_known *known, size_t count,
                             uint64_t *rest_hlc) {
    uint64_t *meet = w->known_scratch;
    for (uint32_t idx = 0; idx <= w->used_count; idx++) {
        meet[idx] = writers_known(w, idx);
    }
    *rest_hlc = w->rest_hlc;
    for (size_t i = 0; i < count; i++) {
        project(w, &known[i], w->other_scratch);
        for (uint32_t idx = 0; idx <= w->used_count; idx++) {
            meet[idx] = w->other_scratch[idx] < meet[idx] ? w->other_scratch[idx] : meet[idx];
        }
        *rest_hlc = known[i].rest_hlc < *rest_hlc ? known[i].rest_hlc : *rest_hlc;
    }
    return meet;
}
