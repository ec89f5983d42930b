/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"

static int compare_entries(const void *a, const void *b) {
    const struct store_known_entry *x = a;
    const struct store_known_entry *y = b;
    return span_compare((struct span){ x->writer, sizeof(x->writer) },
                        (struct span){ y->writer, sizeof(y->writer) });
}

RC vector_init(struct vector **out, const struct store_known *known) {
    *out = NULL;
    AUTO(vector_close)
    struct vector *v = calloc(1, sizeof(*v) + known->count * sizeof(v->entries[0]));
    ENSURE(v != NULL, NOMEM);
    v->use_count = 1;
    v->rest_hlc = known->rest_hlc;
    v->count = known->count;
    if (known->count > 0) {
        memcpy(v->entries, known->entries, known->count * sizeof(v->entries[0]));
        qsort(v->entries, v->count, sizeof(v->entries[0]), compare_entries);
    }
    for (size_t i = 0; i < v->count; i++) {
        ENSURE(!id_is_zero(v->entries[i].writer), INVALID);
        ENSURE(i == 0 || !id_equal(v->entries[i].writer, v->entries[i - 1].writer), INVALID);
    }
    *out = v;
    v = NULL;
    return OK;
}

void vector_close(struct vector **v) {
    if (*v != NULL) {
        ASSERT((*v)->use_count > 0);
        (*v)->use_count--;
        if ((*v)->use_count == 0) {
            free(*v);
        }
    }
    *v = NULL;
}

void vector_share(struct vector **to, struct vector *v) {
    if (v != NULL) {
        v->use_count++;
    }
    vector_close(to);
    *to = v;
}

uint64_t vector_hlc(const struct vector *v, const uint8_t writer[static STORE_WRITER_BYTES]) {
    size_t low = 0;
    size_t high = v->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = span_compare((struct span){ v->entries[middle].writer, STORE_WRITER_BYTES },
                                 (struct span){ writer, STORE_WRITER_BYTES });
        if (order == 0) {
            uint64_t hlc = v->entries[middle].hlc;
            return hlc > v->rest_hlc ? hlc : v->rest_hlc;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return v->rest_hlc;
}

bool vector_covers(const struct vector *v, const struct vector *other) {
    if (v->rest_hlc < other->rest_hlc) {
        return false;
    }
    for (size_t i = 0; i < other->count; i++) {
        if (vector_hlc(v, other->entries[i].writer) < other->entries[i].hlc) {
            return false;
        }
    }
    return true;
}

struct store_known vector_known(const struct vector *v) {
    return (struct store_known){ v->entries, v->count, v->rest_hlc };
}

static const char *entry_fault(const struct replica *r, const struct store *s,
                               const struct store_known_entry *e, uint64_t now_unix_ms) {
    if (id_is_zero(e->writer)) {
        return "known names an all zero writer";
    }
    if (store_hlc_is_future(e->hlc, now_unix_ms, r->cfg.clock_skew_ms)) {
        return "known lies in the future: ahead of this node's clock by more than the skew allowed";
    }
    struct store_stamp stamp = { .hlc = e->hlc };
    memcpy(stamp.writer, e->writer, sizeof(stamp.writer));
    if (id_equal(e->writer, store_writer(s)) && !store_covers(s, &stamp)) {
        return "known claims more of this node's own writes than there are";
    }
    return NULL;
}

const char *known_fault(const struct replica *r, const struct store *s,
                        const struct store_known *known, uint64_t now_unix_ms) {
    if (known->count > REPLICA_KNOWN_COUNT_MAX) {
        return "known has too many entries";
    }
    if (store_hlc_is_future(known->rest_hlc, now_unix_ms, r->cfg.clock_skew_ms)) {
        return "known.rest_hlc lies in the future: ahead of this node's clock by more than the "
               "skew "
               "allowed";
    }
    const char *fault = NULL;
    for (size_t i = 0; i < known->count && fault == NULL; i++) {
        fault = entry_fault(r, s, &known->entries[i], now_unix_ms);
    }
    return fault;
}
