/* SPDX-License-Identifier: Apache-2.0 */
/* When a write may be answered: what its durability asks of the other members, and what came of it.
 * Any thread. */
#pragma once

#include <novakms/v1/kms.pb-c.h>
#include <stdatomic.h>

#include "replica/replica.h"
#include "service/kv.h"

/* What a call has written, by one writer. */
struct service_written {
    uint32_t count;           /* Writes made; 0: nothing yet. */
    struct store_stamp stamp; /* The greatest of them: who knows it knows them all. */
    bool existed;
    void *kept; /* Of a batch: its answer so far, in the arena. */
    Novakms__V1__Durability durability;
    uint32_t ack_count; /* When it was looked at last. */
    uint64_t at_ms;     /* Monotonic: when it was written. */
};

/* How long writes waited for acknowledgements: upper bounds in milliseconds; the last bucket has
 * none. */
#define SERVICE_DURABILITY_BOUNDS(X) X(1) X(3) X(10) X(30) X(100) X(300) X(1000) X(3000) X(10000)
#define SERVICE_DURABILITY_BUCKET_COUNT 10u
extern const uint32_t service_durability_bounds_ms[SERVICE_DURABILITY_BUCKET_COUNT - 1];

/* Embedded; zero to begin with. For /metrics. */
struct service_durability_stats {
    atomic_uint_least64_t waits[SERVICE_DURABILITY_BUCKET_COUNT]; /* That ended well. */
    atomic_uint_least64_t wait_sum_ms;
    atomic_uint_least64_t failed_count; /* That ended with their call's deadline. */
};

/* Whether enough members have acknowledged it; *ack_count gets how many have. The caller holds the
 * lock of store and replica. */
bool service_is_durable(const struct replica *replica, const struct service_written *written,
                        uint32_t *ack_count);
/* Counts the end of a wait. */
void service_durability_count(struct service_durability_stats *stats, uint64_t waited_ms,
                              bool is_met);
