/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket in integers: a token is 60000 units, and a rate of n tokens a minute is n units a
 * millisecond, so nothing is lost to rounding. One owner. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define AUTH_BUCKET_TOKEN_UNITS 60000u

struct auth_bucket_rate {
    uint32_t per_minute;  /* At least 1. */
    uint32_t burst_count; /* At least 1. */
};

/* Embedded. Zero is an empty bucket; auth_bucket_fill comes first. */
struct auth_bucket {
    uint64_t units;
    uint64_t at_ms;
};

/* Full, as of now_ms. */
void auth_bucket_fill(struct auth_bucket *bucket, struct auth_bucket_rate rate, uint64_t now_ms);
/* Brings it up to now_ms. A clock that went back adds nothing. */
void auth_bucket_refill(struct auth_bucket *bucket, struct auth_bucket_rate rate, uint64_t now_ms);
/* After a refill: how long until a token is there; 0 when one is. */
uint32_t auth_bucket_wait_ms(const struct auth_bucket *bucket, struct auth_bucket_rate rate);
/* After a refill: whether nothing is missing. */
bool auth_bucket_is_full(const struct auth_bucket *bucket, struct auth_bucket_rate rate);
/* After a refill: takes a token, or gives false. */
bool auth_bucket_take(struct auth_bucket *bucket);
