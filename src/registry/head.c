/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/head.h"

#include <stdio.h>

/* The year 36812: beyond it sums of milliseconds need no more care. */
#define TIMESTAMP_UNIX_S_MAX (1ULL << 40)

static uint64_t ms_of(const struct head *head) {
    return head->timestamp_unix_s * 1000;
}

static RC check_future(const struct head_anchor *anchor, const struct head *head,
                       struct head_instant at, char *reason) {
    if (head->timestamp_unix_s <= TIMESTAMP_UNIX_S_MAX &&
        ms_of(head) <= at.answered_unix_ms + anchor->cfg.skew_ms) {
        return OK;
    }
    (void)snprintf(
        reason, REGISTRY_REASON_BYTES,
        "block %llu is dated in the future: its timestamp is %llu, this node's clock %llu",
        (unsigned long long)head->number, (unsigned long long)head->timestamp_unix_s,
        (unsigned long long)(at.answered_unix_ms / 1000));
    return ERR(MALFORMED);
}

static RC check_number(const struct head_anchor *anchor, const struct head *head, char *reason) {
    uint64_t highest = anchor->highest_number;
    if (head->number >= highest || highest - head->number <= anchor->cfg.reorg_block_count_max) {
        return OK;
    }
    (void)snprintf(reason, REGISTRY_REASON_BYTES,
                   "the head went back from block %llu to %llu, must be at most %u blocks",
                   (unsigned long long)highest, (unsigned long long)head->number,
                   anchor->cfg.reorg_block_count_max);
    return ERR(MALFORMED);
}

static bool hash_equal(const struct head *a, const struct head *b) {
    return span_equal((struct span){ a->hash, HEAD_HASH_BYTES },
                      (struct span){ b->hash, HEAD_HASH_BYTES });
}

/* A hash stands for one number and one timestamp. */
static RC check_same(const struct head *latest, const struct head *head, char *reason) {
    if (!hash_equal(latest, head) ||
        (latest->number == head->number && latest->timestamp_unix_s == head->timestamp_unix_s)) {
        return OK;
    }
    (void)snprintf(reason, REGISTRY_REASON_BYTES,
                   "block %llu is given with another number or timestamp than before",
                   (unsigned long long)head->number);
    return ERR(MALFORMED);
}

static void take(struct head_anchor *anchor, const struct head *head, struct head_instant at) {
    int64_t bound_ms = (int64_t)ms_of(head) - (int64_t)at.answered_mono_ms;
    if (!anchor->has_head || bound_ms > anchor->bound_ms) {
        anchor->bound_ms = bound_ms;
    }
    if (!anchor->has_head || head->number > anchor->highest_number) {
        anchor->highest_number = head->number;
    }
    anchor->latest = *head;
    anchor->has_head = true;
}

/* age_ms by the monotonic clock, wall_age_ms by the other. */
static RC check_age(const struct head_anchor *anchor, int64_t age_ms, int64_t wall_age_ms,
                    char *reason) {
    int64_t stall_ms = anchor->cfg.stall_ms;
    if (age_ms > stall_ms) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "the head has stalled: its newest block %llu is %lld s old, must be at most "
                       "%lld s",
                       (unsigned long long)anchor->latest.number, (long long)(age_ms / 1000),
                       (long long)(stall_ms / 1000));
        return ERR(UNAVAILABLE);
    }
    if (wall_age_ms > stall_ms + anchor->cfg.skew_ms) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "the newest block %llu is %lld s old by this node's clock, must be at most "
                       "%lld s",
                       (unsigned long long)anchor->latest.number, (long long)(wall_age_ms / 1000),
                       (long long)((stall_ms + anchor->cfg.skew_ms) / 1000));
        return ERR(UNAVAILABLE);
    }
    return OK;
}

RC head_take(struct head_anchor *anchor, const struct head *head, struct head_instant at,
             uint64_t *as_of_mono_ms, char reason[static REGISTRY_REASON_BYTES]) {
    *as_of_mono_ms = 0;
    reason[0] = '\0';
    TRY(check_future(anchor, head, at, reason));
    if (anchor->has_head) {
        TRY(check_number(anchor, head, reason));
        TRY(check_same(&anchor->latest, head, reason));
    }
    take(anchor, head, at);
    int64_t as_of_ms = (int64_t)ms_of(head) - anchor->bound_ms;
    TRY(check_age(anchor, (int64_t)at.answered_mono_ms - as_of_ms,
                  (int64_t)at.answered_unix_ms - (int64_t)ms_of(head), reason));
    if (as_of_ms > (int64_t)at.asked_mono_ms) {
        as_of_ms = (int64_t)at.asked_mono_ms;
    }
    if (as_of_ms < 0) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "the newest block %llu is older than this machine's start",
                       (unsigned long long)head->number);
        return ERR(UNAVAILABLE);
    }
    *as_of_mono_ms = (uint64_t)as_of_ms;
    return OK;
}
