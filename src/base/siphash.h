/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 (Aumasson and Bernstein, 2012): keyed hashing, so that a caller who chooses the keys
 * of a hash table cannot choose its collisions. Not for authentication. Any thread. */
#pragma once

#include "base/bytes.h"

#define SIPHASH_KEY_BYTES 16

struct siphash_key {
    uint64_t k0;
    uint64_t k1;
};

/* Key bytes are little-endian, as in the paper's vectors. */
struct siphash_key siphash_key_from(const uint8_t bytes[static SIPHASH_KEY_BYTES]);
/* The hash of in under the key. */
uint64_t siphash(const struct siphash_key *key, struct span in);
