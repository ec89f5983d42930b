/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"

static uint64_t load_le64(const uint8_t *p, size_t len) {
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        value |= (uint64_t)p[i] << (8 * i);
    }
    return value;
}

struct siphash_key siphash_key_from(const uint8_t bytes[static SIPHASH_KEY_BYTES]) {
    return (struct siphash_key){ load_le64(bytes, 8), load_le64(bytes + 8, 8) };
}

static uint64_t rotate(uint64_t x, unsigned bits) {
    return x << bits | x >> (64 - bits);
}

static void rounds(uint64_t v[static 4], int count) {
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static void absorb(uint64_t v[static 4], uint64_t word) {
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
}

uint64_t siphash(const struct siphash_key *key, struct span in) {
    uint64_t v[4] = { key->k0 ^ 0x736f6d6570736575, key->k1 ^ 0x646f72616e646f6d,
                      key->k0 ^ 0x6c7967656e657261, key->k1 ^ 0x7465646279746573 };
    size_t at = 0;
    for (; in.len - at >= 8; at += 8) {
        absorb(v, load_le64(in.ptr + at, 8));
    }
    uint64_t tail = in.len == at ? 0 : load_le64(in.ptr + at, in.len - at);
    absorb(v, tail | (uint64_t)in.len << 56);
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
