/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/keccak.h"

#include "base/secret.h"

#define ROUND_COUNT 24
#define RATE_BYTES 136 /* 1088 bits. */

static const uint64_t round_constants[ROUND_COUNT] = {
    0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000,
    0x000000000000808b, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
    0x000000000000008a, 0x0000000000000088, 0x0000000080008009, 0x000000008000000a,
    0x000000008000808b, 0x800000000000008b, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};

/* rho and pi together: along the cycle that pi makes of all lanes but the first, each lane moves to
 * lane_cycle[i], rotated by lane_rotations[i]. */
static const uint8_t lane_cycle[KECCAK_LANE_COUNT - 1] = {
    10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1,
};
static const uint8_t lane_rotations[KECCAK_LANE_COUNT - 1] = {
    1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44,
};

static uint64_t rotate(uint64_t x, unsigned bits) {
    return x << bits | x >> (64 - bits);
}

static void theta(uint64_t lanes[static KECCAK_LANE_COUNT]) {
    uint64_t parity[5];
    for (size_t x = 0; x < 5; x++) {
        parity[x] = lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20];
    }
    for (size_t x = 0; x < 5; x++) {
        uint64_t column = parity[(x + 4) % 5] ^ rotate(parity[(x + 1) % 5], 1);
        for (size_t y = 0; y < KECCAK_LANE_COUNT; y += 5) {
            lanes[y + x] ^= column;
        }
    }
}

static void rho_pi(uint64_t lanes[static KECCAK_LANE_COUNT]) {
    uint64_t moving = lanes[1];
    for (size_t i = 0; i < KECCAK_LANE_COUNT - 1; i++) {
        uint64_t next = lanes[lane_cycle[i]];
        lanes[lane_cycle[i]] = rotate(moving, lane_rotations[i]);
        moving = next;
    }
}

static void chi(uint64_t lanes[static KECCAK_LANE_COUNT]) {
    for (size_t y = 0; y < KECCAK_LANE_COUNT; y += 5) {
        const uint64_t row[5] = { lanes[y], lanes[y + 1], lanes[y + 2], lanes[y + 3],
                                  lanes[y + 4] };
        for (size_t x = 0; x < 5; x++) {
            lanes[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
        }
    }
}

void keccak_permute(uint64_t lanes[static KECCAK_LANE_COUNT]) {
    for (size_t i = 0; i < ROUND_COUNT; i++) {
        theta(lanes);
        rho_pi(lanes);
        chi(lanes);
        lanes[0] ^= round_constants[i];
    }
}

struct sponge {
    uint64_t lanes[KECCAK_LANE_COUNT];
    size_t at; /* Bytes absorbed into the current block. */
};

/* Byte i of a lane is its i-th lowest, whatever the machine's order. */
static void xor_byte(struct sponge *s, size_t at, uint8_t byte) {
    s->lanes[at / 8] ^= (uint64_t)byte << (8 * (at % 8));
}

static void absorb(struct sponge *s, struct span in) {
    for (size_t i = 0; i < in.len; i++) {
        xor_byte(s, s->at, in.ptr[i]);
        s->at++;
        if (s->at == RATE_BYTES) {
            keccak_permute(s->lanes);
            s->at = 0;
        }
    }
}

void keccak256_parts(const struct span *parts, size_t part_count,
                     uint8_t out[static KECCAK256_BYTES]) {
    struct sponge s = { 0 };
    for (size_t i = 0; i < part_count; i++) {
        absorb(&s, parts[i]);
    }
    xor_byte(&s, s.at, 0x01);
    xor_byte(&s, RATE_BYTES - 1, 0x80);
    keccak_permute(s.lanes);
    for (size_t i = 0; i < KECCAK256_BYTES; i++) {
        out[i] = (uint8_t)(s.lanes[i / 8] >> (8 * (i % 8)));
    }
    secret_wipe(&s, sizeof(s));
}

void keccak256(struct span in, uint8_t out[static KECCAK256_BYTES]) {
    keccak256_parts(&in, 1, out);
}
