/* SPDX-License-Identifier: Apache-2.0 */
/* The change log: every record once, in the order of its latest change here. A linked list, so that
 * a change moves its record to the end in O(1), with an anchor at least every LOG_ANCHOR_SPACING
 * records, so that a reader finds its position without a walk from either end. Internal. */
#pragma once

#include "store/record.h"

#define LOG_ANCHOR_SPACING 256

struct log_anchor {
    uint64_t position;
    struct record *record;
};

struct log {
    struct record *oldest;
    struct record *newest;
    uint64_t last_position;
    struct log_anchor *anchors; /* By position. */
    size_t anchor_count;
    size_t anchor_count_max;
    size_t unanchored_count; /* Records appended since the last anchor. */
};

/* Frees the anchors; the records belong to others. */
void log_close(struct log *log);
/* Gives r the next position. Cannot fail: without memory for an anchor, reads get slower. */
void log_append(struct log *log, struct record *r);
void log_remove(struct log *log, struct record *r);
/* The oldest record whose position is greater than `since`, or NULL. */
struct record *log_seek(const struct log *log, uint64_t since);
