/* SPDX-License-Identifier: Apache-2.0 */
#include "service/durability.h"

#define BOUND(ms) ms,
const uint32_t service_durability_bounds_ms[SERVICE_DURABILITY_BUCKET_COUNT - 1] = {
    SERVICE_DURABILITY_BOUNDS(BOUND)
};
#undef BOUND

bool service_is_durable(const struct replica *replica, const struct service_written *written,
                        uint32_t *ack_count) {
    *ack_count = replica_acks(replica, &written->stamp);
    switch (written->durability) {
    case NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER:
        return *ack_count >= 1;
    case NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM:
        return *ack_count >= replica_acks_for_quorum(replica);
    case NOVAKMS__V1__DURABILITY__DURABILITY_LOCAL:
    case _NOVAKMS__V1__DURABILITY_IS_INT_SIZE:
        break;
    }
    return true;
}

void service_durability_count(struct service_durability_stats *stats, uint64_t waited_ms,
                              bool is_met) {
    if (!is_met) {
        atomic_fetch_add_explicit(&stats->failed_count, 1, memory_order_relaxed);
        return;
    }
    size_t at = 0;
    while (at < SERVICE_DURABILITY_BUCKET_COUNT - 1 &&
           waited_ms > service_durability_bounds_ms[at]) {
        at++;
    }
    atomic_fetch_add_explicit(&stats->waits[at], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->wait_sum_ms, waited_ms, memory_order_relaxed);
}
