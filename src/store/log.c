/* SPDX-License-Identifier: Apache-2.0 */
#include "store/log.h"

#include <stdlib.h>
#include <string.h>

#define ANCHORS_FIRST 16

void log_close(struct log *log) {
    free(log->anchors);
    *log = (struct log){ .last_position = log->last_position };
}

/* Index of the first anchor whose position is greater than `position`. */
static size_t anchor_above(const struct log *log, uint64_t position) {
    size_t low = 0;
    size_t high = log->anchor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->anchors[middle].position <= position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void add_anchor(struct log *log, struct record *r) {
    if (log->anchor_count == log->anchor_count_max) {
        size_t wanted = log->anchor_count_max == 0 ? ANCHORS_FIRST : 2 * log->anchor_count_max;
        struct log_anchor *grown = realloc(log->anchors, wanted * sizeof(*grown));
        if (grown == NULL) {
            return; /* unanchored_count stays, so the next append tries again. */
        }
        log->anchors = grown;
        log->anchor_count_max = wanted;
    }
    log->anchors[log->anchor_count++] = (struct log_anchor){ r->position, r };
    r->flags |= RECORD_ANCHOR;
    log->unanchored_count = 0;
}

void log_append(struct log *log, struct record *r) {
    r->position = ++log->last_position;
    r->older = log->newest;
    r->newer = NULL;
    if (log->newest == NULL) {
        log->oldest = r;
    } else {
        log->newest->newer = r;
    }
    log->newest = r;
    log->unanchored_count++;
    if (log->anchor_count == 0 || log->unanchored_count >= LOG_ANCHOR_SPACING) {
        add_anchor(log, r);
    }
}

/* Hands r's anchor to the next record, which keeps the distance to the anchor after it. */
static void pass_anchor(struct log *log, struct record *r) {
    size_t idx = anchor_above(log, r->position) - 1;
    r->flags &= (uint8_t)~RECORD_ANCHOR;
    if (r->newer != NULL && (r->newer->flags & RECORD_ANCHOR) == 0) {
        log->anchors[idx] = (struct log_anchor){ r->newer->position, r->newer };
        r->newer->flags |= RECORD_ANCHOR;
        return;
    }
    log->anchor_count--;
    memmove(&log->anchors[idx], &log->anchors[idx + 1],
            (log->anchor_count - idx) * sizeof(log->anchors[0]));
    if (r->newer == NULL) {
        log->unanchored_count = LOG_ANCHOR_SPACING; /* The stretch before it may be full. */
    }
}

void log_remove(struct log *log, struct record *r) {
    if ((r->flags & RECORD_ANCHOR) != 0) {
        pass_anchor(log, r);
    }
    if (r->older == NULL) {
        log->oldest = r->newer;
    } else {
        r->older->newer = r->newer;
    }
    if (r->newer == NULL) {
        log->newest = r->older;
    } else {
        r->newer->older = r->older;
    }
}

struct record *log_seek(const struct log *log, uint64_t since) {
    if (log->newest == NULL || since >= log->newest->position) {
        return NULL;
    }
    size_t above = anchor_above(log, since);
    struct record *r = above == 0 ? log->oldest : log->anchors[above - 1].record;
    while (r->position <= since) {
        r = r->newer;
    }
    return r;
}
