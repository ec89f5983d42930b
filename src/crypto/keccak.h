/* SPDX-License-Identifier: Apache-2.0 */
/* Keccak-256 as Ethereum uses it: the original Keccak padding, not SHA3-256's. Any thread. */
#pragma once

#include "base/bytes.h"

#define KECCAK256_BYTES 32
/* The permutation's state: 25 lanes. */
#define KECCAK_LANE_COUNT 25

/* Hashes the bytes of in. The Keccak reference, version 3.0, rate 1088, capacity 512, padding 0x01.
 * Wipes its state, because in may be the master secret. */
void keccak256(struct span in, uint8_t out[static KECCAK256_BYTES]);
/* As keccak256, over the parts one after the other. */
void keccak256_parts(const struct span *parts, size_t part_count,
                     uint8_t out[static KECCAK256_BYTES]);
/* Keccak-f[1600] (FIPS 202, section 3), in place. For other sponges, as the tests' SHAKE128. */
void keccak_permute(uint64_t lanes[static KECCAK_LANE_COUNT]);
