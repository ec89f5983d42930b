/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <stdlib.h>

void queue_close(struct queue *queue) {
    free(queue->heap);
    *queue = (struct queue){ 0 };
}

static bool is_before(const struct event *a, const struct event *b) {
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->seq < b->seq;
}

void queue_add(struct queue *queue, struct event event) {
    if (queue->count == queue->count_max) {
        queue->count_max = queue->count_max == 0 ? 256 : 2 * queue->count_max;
        struct event *grown = realloc(queue->heap, queue->count_max * sizeof(*grown));
        ASSERT(grown != NULL);
        queue->heap = grown;
    }
    event.seq = queue->seq++;
    size_t at = queue->count++;
    while (at > 0 && is_before(&event, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = event;
}

bool queue_take(struct queue *queue, struct event *out) {
    if (queue->count == 0) {
        return false;
    }
    *out = queue->heap[0];
    const struct event last = queue->heap[--queue->count];
    size_t at = 0;
    while (2 * at + 1 < queue->count) {
        size_t child = 2 * at + 1;
        if (child + 1 < queue->count && is_before(&queue->heap[child + 1], &queue->heap[child])) {
            child++;
        }
        if (!is_before(&queue->heap[child], &last)) {
            break;
        }
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return true;
}
