/* SPDX-License-Identifier: Apache-2.0 */
/* How old is what a block says? Age on a clock that the host cannot turn back. Pure: clocks come in
 * as arguments. One owner.
 *
 * What is there to work with: block timestamps, which come with the chain's consensus; the
 * monotonic clock, which only runs; and the wall clock, which the host can set. What a host can
 * also do is to hold blocks back, all of them or each for a while.
 *
 * When a head with timestamp T is seen at monotonic M, the true time is T or later. So T - M is a
 * lower bound of (true time - monotonic clock). The anchor keeps the greatest such bound of all
 * heads seen since start: it only grows, with each head that arrives faster than any before. The
 * state of a block with timestamp T is then as of the monotonic instant T - bound.
 *
 *  - A frozen head stays at its instant while the monotonic clock runs: it ages.
 *  - Heads that are held back, or replayed slowly, keep the bound, and so age by their delay.
 *  - The wall clock has no part in it: set back it makes nothing younger, set forward nothing
 *    older. It serves to refuse only: a head too old or too far in the future by it is unreadable.
 *    That bounds the one thing the anchor cannot see, a delay that all heads since start have had.
 *  - With growing timestamps the instants grow too, so newer answers are never taken for older.
 *
 * A head is unreadable when its instant, or its timestamp by the wall clock, is older than the
 * stall; when its instant is before the monotonic clock's zero, which cannot be told; when its
 * number is further back than a reorganization may go; when it is in the future; and when it
 * contradicts what was seen of the same block. */
#pragma once

#include <stdbool.h>

#include "registry/registry.h"

#define HEAD_HASH_BYTES 32

struct head {
    uint64_t number;
    uint64_t timestamp_unix_s;
    uint8_t hash[HEAD_HASH_BYTES];
};

struct head_cfg {
    uint32_t stall_ms;              /* HEAD_STALL_SECONDS. */
    uint32_t skew_ms;               /* How wrong the wall clock may be. */
    uint32_t reorg_block_count_max; /* A head may be this much lower than the highest one seen. */
};

/* Embedded. Zero with cfg set is an anchor that has seen no head. */
struct head_anchor {
    struct head_cfg cfg;
    bool has_head;
    struct head latest;
    uint64_t highest_number;
    int64_t bound_ms; /* The greatest T - M. */
};

/* When a head was read. */
struct head_instant {
    uint64_t asked_mono_ms;    /* Before the question: an answer vouches for no later instant. */
    uint64_t answered_mono_ms; /* After the answer. */
    uint64_t answered_unix_ms;
};

/* Takes a head in. Gives the instant for which its state vouches, at most asked_mono_ms. On error
 * *as_of_mono_ms is 0: UNAVAILABLE for a head too old (it may pass), MALFORMED for one that cannot
 * be (the anchor is unchanged). The reason is one sentence. */
RC head_take(struct head_anchor *anchor, const struct head *head, struct head_instant at,
             uint64_t *as_of_mono_ms, char reason[static REGISTRY_REASON_BYTES]);
