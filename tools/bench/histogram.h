/* SPDX-License-Identifier: Apache-2.0 */
/* Latencies in microseconds, in buckets at most 1/32 wide of their value: constant memory, and a
 * percentile that is at most 3 % off. One owner. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_BUCKET_COUNT ((64 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_BUCKET_COUNT];
};

void histogram_add(struct histogram *h, uint64_t value_us);
/* The value that `fraction` (0 to 1) of all values do not exceed; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, double fraction);
