/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap: the root has the earliest deadline; a node's children are at 2i+1 and 2i+2. */
#include <stdlib.h>

#include "net/server_internal.h"

#define HEAP_COUNT_MIN ((size_t)64)

static void put(struct deadlines *d, size_t idx, struct net_call *call) {
    d->heap[idx] = call;
    call->heap_idx = idx;
}

static void sift_up(struct deadlines *d, struct net_call *call, size_t idx) {
    while (idx > 0) {
        size_t parent = (idx - 1) / 2;
        if (d->heap[parent]->deadline_at_ms <= call->deadline_at_ms) {
            break;
        }
        put(d, idx, d->heap[parent]);
        idx = parent;
    }
    put(d, idx, call);
}

static void sift_down(struct deadlines *d, struct net_call *call, size_t idx) {
    for (;;) {
        size_t child = 2 * idx + 1;
        if (child >= d->count) {
            break;
        }
        if (child + 1 < d->count &&
            d->heap[child + 1]->deadline_at_ms < d->heap[child]->deadline_at_ms) {
            child++;
        }
        if (call->deadline_at_ms <= d->heap[child]->deadline_at_ms) {
            break;
        }
        put(d, idx, d->heap[child]);
        idx = child;
    }
    put(d, idx, call);
}

RC deadlines_reserve(struct deadlines *d) {
    if (d->count < d->bytes_count) {
        return OK;
    }
    size_t count = d->bytes_count == 0 ? HEAP_COUNT_MIN : 2 * d->bytes_count;
    struct net_call **heap = realloc(d->heap, count * sizeof(struct net_call *));
    ENSURE(heap != NULL, NOMEM);
    d->heap = heap;
    d->bytes_count = count;
    return OK;
}

void deadlines_add(struct deadlines *d, struct net_call *call) {
    ASSERT(d->count < d->bytes_count);
    d->count++;
    sift_up(d, call, d->count - 1);
}

void deadlines_remove(struct deadlines *d, struct net_call *call) {
    size_t idx = call->heap_idx;
    ASSERT(idx < d->count);
    ASSERT(d->heap[idx] == call);
    d->count--;
    if (idx == d->count) {
        return;
    }
    struct net_call *last = d->heap[d->count];
    if (last->deadline_at_ms < call->deadline_at_ms) {
        sift_up(d, last, idx);
    } else {
        sift_down(d, last, idx);
    }
}

struct net_call *deadlines_first(const struct deadlines *d) {
    return d->count == 0 ? NULL : d->heap[0];
}

void deadlines_close(struct deadlines *d) {
    free(d->heap);
    *d = (struct deadlines){ 0 };
}
