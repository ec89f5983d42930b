/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

static size_t bucket_of(uint64_t value) {
    if (value < (1u << HISTOGRAM_SUB_BITS)) {
        return (size_t)value;
    }
    unsigned top = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = top - HISTOGRAM_SUB_BITS;
    size_t sub = (size_t)(value >> shift) - (1u << HISTOGRAM_SUB_BITS);
    return ((size_t)(shift + 1) << HISTOGRAM_SUB_BITS) + sub;
}

/* The greatest value that falls into the bucket. */
static uint64_t bucket_top(size_t bucket) {
    size_t row = bucket >> HISTOGRAM_SUB_BITS;
    uint64_t sub = bucket & ((1u << HISTOGRAM_SUB_BITS) - 1);
    if (row == 0) {
        return sub;
    }
    unsigned shift = (unsigned)row - 1;
    return ((sub + (1u << HISTOGRAM_SUB_BITS) + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value_us) {
    h->buckets[bucket_of(value_us)]++;
    h->count++;
}

uint64_t histogram_percentile(const struct histogram *h, double fraction) {
    uint64_t want = (uint64_t)(fraction * (double)h->count);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        seen += h->buckets[i];
        if (seen > want) {
            return bucket_top(i);
        }
    }
    return 0;
}
