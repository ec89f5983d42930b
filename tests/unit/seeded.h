/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories from seeds: the same seed makes the same history, and a failure names it. */
#pragma once

#include "test.h"

static uint64_t seed; /* Of the history that runs. */
static uint64_t random_state;

#define CHECK(cond)                                                     \
    do {                                                                \
        if (!(cond)) {                                                  \
            fail_msg("seed %llu: %s", (unsigned long long)seed, #cond); \
        }                                                               \
    } while (0)

static inline uint64_t next_random(void) {
    random_state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t x = random_state;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline size_t below(size_t n) {
    ASSERT(n > 0);
    return (size_t)(next_random() % n);
}

/* Seeds 1 to count; or the one that the environment's variable names. */
static inline void run_seeds(const char *variable, uint64_t count, void (*run)(void)) {
    const char *one = getenv(variable);
    uint64_t first = one == NULL ? 1 : strtoull(one, NULL, 10);
    uint64_t last = one == NULL ? count : first;
    for (seed = first; seed <= last; seed++) {
        random_state = seed;
        run();
    }
}
