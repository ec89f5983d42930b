/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's only source of chance: splitmix64, the same on every compiler. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_mix(uint64_t x) {
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline uint64_t rng_u64(struct rng *rng) {
    rng->state += UINT64_C(0x9e3779b97f4a7c15);
    return rng_mix(rng->state);
}

/* 0 to n - 1; n is at least 1. */
static inline uint32_t rng_below(struct rng *rng, uint32_t n) {
    return (uint32_t)(((rng_u64(rng) >> 32) * n) >> 32);
}

/* True once in n. */
static inline bool rng_once_in(struct rng *rng, uint32_t n) {
    return rng_below(rng, n) == 0;
}

static inline void rng_fill(struct rng *rng, uint8_t *out, size_t len) {
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(rng_u64(rng) >> 56);
    }
}
