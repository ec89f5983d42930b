/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/bucket.h"

/* 115 days: keeps elapsed times the highest rate within 64 bits. */
#define ELAPSED_MS_MAX 10000000000u

static uint64_t units_max(struct auth_bucket_rate rate) {
    return (uint64_t)rate.burst_count * AUTH_BUCKET_TOKEN_UNITS;
}

void auth_bucket_fill(struct auth_bucket *bucket, struct auth_bucket_rate rate, uint64_t now_ms) {
    *bucket = (struct auth_bucket){ .units = units_max(rate), .at_ms = now_ms };
}

void auth_bucket_refill(struct auth_bucket *bucket, struct auth_bucket_rate rate, uint64_t now_ms) {
    if (now_ms <= bucket->at_ms) {
        return;
    }
    uint64_t elapsed_ms = now_ms - bucket->at_ms;
    if (elapsed_ms > ELAPSED_MS_MAX) {
        elapsed_ms = ELAPSED_MS_MAX;
    }
    bucket->at_ms = now_ms;
    bucket->units += elapsed_ms * rate.per_minute;
    if (bucket->units > units_max(rate)) {
        bucket->units = units_max(rate);
    }
}

uint32_t auth_bucket_wait_ms(const struct auth_bucket *bucket, struct auth_bucket_rate rate) {
    if (bucket->units >= AUTH_BUCKET_TOKEN_UNITS) {
        return 0;
    }
    uint64_t missing = AUTH_BUCKET_TOKEN_UNITS - bucket->units;
    return (uint32_t)((missing + rate.per_minute - 1) / rate.per_minute);
}

bool auth_bucket_is_full(const struct auth_bucket *bucket, struct auth_bucket_rate rate) {
    return bucket->units >= units_max(rate);
}

bool auth_bucket_take(struct auth_bucket *bucket) {
    if (bucket->units < AUTH_BUCKET_TOKEN_UNITS) {
        return false;
    }
    bucket->units -= AUTH_BUCKET_TOKEN_UNITS;
    return true;
}
