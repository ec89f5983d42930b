/* SPDX-License-Identifier: Apache-2.0 */
/* How often each kind of fault and each event worth a name has happened. A run in which one of them
 * never did has not tested what it says. */
#pragma once

#include <stdint.h>
#include <stdio.h>

/* name, text, in how many of 1,000 seeds it is expected at least; in less than a third of that, the
 * run has failed. 0: need not happen. */
#define TALLY_MAP(X)                                                             \
    X(FAULT_LOSS, "fault: messages lost", 100)                                   \
    X(FAULT_DUPLICATE, "fault: messages duplicated", 100)                        \
    X(FAULT_REORDER, "fault: messages reordered", 100)                           \
    X(FAULT_DELAY, "fault: messages delayed", 100)                               \
    X(FAULT_LATE_ANSWER, "fault: answers after the deadline", 100)               \
    X(FAULT_CUT_ONE_WAY, "fault: one-way partition", 100)                        \
    X(FAULT_CUT_PAIR, "fault: two nodes cut off from each other", 100)           \
    X(FAULT_CUT_SPLIT, "fault: partition into two sides", 100)                   \
    X(FAULT_HUNG, "fault: hung peer", 100)                                       \
    X(FAULT_CRASH, "fault: crash, restart with the same wallet", 100)            \
    X(FAULT_STUMBLE, "fault: crash while starting", 50)                          \
    X(FAULT_NEW_WALLET, "fault: restart with a new wallet", 100)                 \
    X(FAULT_CLOCK_BACK, "fault: restart with the clock set back", 100)           \
    X(FAULT_MASSACRE, "fault: most nodes crash at once", 20)                     \
    X(FAULT_CLOCK_DRIFT, "fault: clock moved within the skew", 100)              \
    X(FAULT_CLOCK_JUMP, "fault: clock jumped beyond the skew", 100)              \
    X(FAULT_MEMBER_ADDED, "fault: member added", 100)                            \
    X(FAULT_MEMBER_REMOVED, "fault: member removed, running", 100)               \
    X(FAULT_MEMBER_BACK, "fault: removed member came back", 50)                  \
    X(FAULT_MEMBER_DEAD, "fault: member that never runs", 50)                    \
    X(FAULT_HASH_ZERO, "fault: hash on chain reset to zero", 100)                \
    X(FAULT_REORG, "fault: chain reorganised", 100)                              \
    X(FAULT_CHAIN_FREEZE, "fault: chain frozen for a node", 100)                 \
    X(FAULT_CHAIN_OLD, "fault: chain answers with old state", 100)               \
    X(FAULT_CHAIN_UNREADABLE, "fault: chain unreadable", 100)                    \
    X(FAULT_CHAIN_STALL, "fault: no blocks", 50)                                 \
    X(FAULT_TX_LOST, "fault: transaction lost", 5)                               \
    X(FAULT_TASK_SLOW, "fault: answer of the chain or Odyn late", 100)           \
    X(FAULT_DRAIN, "fault: node drained and restarted", 100)                     \
    X(FAULT_HOSTILE, "fault: member turned hostile", 100)                        \
    X(LIE_MALFORMED, "lie: malformed record", 50)                                \
    X(LIE_OVERSIZED, "lie: oversized record", 50)                                \
    X(LIE_FUTURE, "lie: record from the future", 50)                             \
    X(LIE_MOVED, "lie: record moved to another key", 50)                         \
    X(LIE_OLD, "lie: old record sent again", 50)                                 \
    X(LIE_KNOWN, "lie: a vector that claims the future", 50)                     \
    X(LIE_ACK, "lie: an acknowledgement of the future", 50)                      \
    X(LIE_PAGE, "lie: page with wrong numbers", 50)                              \
    X(LIE_DIGEST, "lie: wrong digest", 20)                                       \
    X(LIE_SECRET, "lie: wrong secret given", 5)                                  \
    X(CLIENT_PUT, "client: put", 700)                                            \
    X(CLIENT_DELETE, "client: delete", 500)                                      \
    X(CLIENT_GET, "client: get", 700)                                            \
    X(CLIENT_HIT, "client: get found a value", 500)                              \
    X(CLIENT_FAILOVER, "client: went to another node", 500)                      \
    X(CLIENT_MAY_MISS, "client: told that it may miss", 100)                     \
    X(CLIENT_QUOTA, "client: refused for quota", 100)                            \
    X(CLIENT_SEEN_FUTURE, "client: shown stamp refused", 0)                      \
    X(ACK_QUORUM, "durability: QUORUM acknowledged", 500)                        \
    X(ACK_ONE_PEER, "durability: ONE_PEER acknowledged", 500)                    \
    X(ACK_TIMEOUT, "durability: deadline passed", 100)                           \
    X(ACK_OF_THE_DEAD, "durability: a counted acknowledgement has died", 0)      \
    X(QUORUM_TRACKED, "durability: acknowledged write under the promise", 300)   \
    X(QUORUM_KEPT, "durability: found again at the end", 300)                    \
    X(QUORUM_LOST, "durability: lost beside a durability_reset", 0)              \
    X(DURABILITY_RESET, "replica: durability_reset", 20)                         \
    X(NEWCOMER, "replica: member let in as a newcomer", 20)                      \
    X(STARTED, "replica: came into service", 900)                                \
    X(RESET_GIVEN, "replica: RESET given", 5)                                    \
    X(RESET_TAKEN, "replica: RESET taken, state dropped", 5)                     \
    X(PAGE_DROPPED, "replica: page dropped", 100)                                \
    X(PAGE_STOPPED, "replica: merge stopped in the middle", 0)                   \
    X(PAGE_SECTION, "replica: page read on in another section", 800)             \
    X(PAGE_CHANGED, "replica: store changed between two sections", 400)          \
    X(PAGE_FLOOR_ROSE, "replica: floor rose between two sections", 20)           \
    X(PAGE_HELD_BACK, "replica: not the last page, for its floor", 15)           \
    X(PAGE_VOID, "replica: store emptied between two sections", 0)               \
    X(PAGE_CUT_OFF, "replica: crash between two sections", 50)                   \
    X(PAGE_AHEAD, "replica: next page asked for ahead", 100)                     \
    X(PAGE_FOLLOWS, "replica: page given that follows another", 100)             \
    X(PAGE_FOLLOWS_OTHER, "replica: page dropped that followed another one", 10) \
    X(PULL_REFUSED, "replica: pull refused", 100)                                \
    X(PULL_PARKED, "replica: pull waited", 900)                                  \
    X(RECORD_REFUSED, "replica: record refused", 100)                            \
    X(RECORD_FORGED, "replica: forged record refused", 20)                       \
    X(DIGEST_EQUAL, "replica: digests compared and equal", 500)                  \
    X(DIGEST_DIFFERENT, "replica: digests differed", 10)                         \
    X(REPAIR, "replica: repair", 10)                                             \
    X(DIGEST_ALARM, "replica: differed after the repair", 1)                     \
    X(NOT_LEVEL, "replica: node behind its peers", 20)                           \
    X(DRAINED, "replica: drained", 50)                                           \
    X(REFUSED_SKEW, "refused: skew", 50)                                         \
    X(REFUSED_MALFORMED, "refused: malformed", 20)                               \
    X(REFUSED_KEY, "refused: key", 5)                                            \
    X(REFUSED_SEALED, "refused: sealed", 5)                                      \
    X(COLLECTED, "store: dead record collected", 60)                             \
    X(EMPTIED, "store: expired value emptied", 200)                              \
    X(COMPACTED, "store: vector compacted", 100)                                 \
    X(CONFLICT, "store: concurrent writes met", 100)                             \
    X(CALLER_DENIED, "auth: caller refused, no member", 100)                     \
    X(CALLER_UNREADABLE, "auth: caller refused, chain unreadable", 50)           \
    X(SECRET_GENERATED, "bootstrap: secret generated", 900)                      \
    X(SECRET_FETCHED, "bootstrap: secret fetched", 900)                          \
    X(SECRET_REPLACED, "bootstrap: secret and data replaced", 5)                 \
    X(SECRET_DISCARDED, "bootstrap: pending secret discarded", 0)                \
    X(TX_REVERTED, "bootstrap: transaction reverted", 20)                        \
    X(TX_MINED, "bootstrap: transaction mined", 900)                             \
    X(HASH_SET_AGAIN, "bootstrap: hash set again after a reset to zero", 50)     \
    X(NODE_SERVED, "node: came to serve", 900)                                   \
    X(NODE_LEFT, "node: left service", 500)                                      \
    X(CLOCK_STEPPED, "node: out of service for its clock", 50)                   \
    X(CONVERGED, "seed: converged", 1000)                                        \
    X(COLLECTED_ALL, "seed: nothing dead left in the end", 10)

#define TALLY_ENUM(name, text, floor) TALLY_##name,
enum tally { TALLY_MAP(TALLY_ENUM) TALLY_COUNT };
#undef TALLY_ENUM

struct tallies {
    uint64_t times[TALLY_COUNT];
    uint64_t seeds[TALLY_COUNT]; /* Seeds in which it happened. */
    uint64_t seed_count;
    uint64_t event_count;
    uint64_t converge_ms_sum;
    uint64_t converge_ms_max;
    uint64_t trace_hash; /* Sum over the seeds: equal wherever the same seeds run. */
};

/* Adds one seed's, or another process's. */
void tally_add(struct tallies *sum, const struct tallies *part);
void tally_print(const struct tallies *t, FILE *to);
/* Names what has happened too seldom. Returns how many there are; 0 for less than a thousand
 * seeds. */
unsigned tally_missing(const struct tallies *t, FILE *to);
