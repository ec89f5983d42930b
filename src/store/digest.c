/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas compare sums, so the hash has a fixed key. It finds faults of the protocol between nodes
 * that trust each other; it is no defence against somebody who makes collisions. */
#include "store/state.h"

/* A bijection of 64 bits in which every bit of the input moves every bit of the output: two rounds
 * of multiply and fold, the constants odd and without pattern. */
static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 29) * UINT64_C(0xa0761d6478bd642f);
    return x ^ x >> 32;
}

static struct store_digest digest_of(const struct record *r, const uint8_t *writer) {
    const struct siphash_key fixed = { UINT64_C(0x4e6f7661204b4d53), UINT64_C(0x6469676573742031) };
    uint64_t key_hash = siphash(&fixed, record_key(r));
    uint64_t halves[2] = { 0 };
    for (size_t i = 0; i < STORE_WRITER_BYTES; i++) {
        halves[i / 8] = halves[i / 8] << 8 | writer[i];
    }
    uint64_t stamp_hash = mix(mix(mix(r->hlc) ^ halves[0]) + halves[1]);
    return (struct store_digest){ .low = mix(key_hash ^ stamp_hash),
                                  .high = mix(key_hash + 3 * stamp_hash) };
}

void digest_add(struct store_digest *sum, const struct record *r, const uint8_t *writer) {
    struct store_digest d = digest_of(r, writer);
    sum->low += d.low;
    sum->high += d.high + (sum->low < d.low ? 1 : 0);
}

void digest_subtract(struct store_digest *sum, const struct record *r, const uint8_t *writer) {
    struct store_digest d = digest_of(r, writer);
    sum->high -= d.high + (sum->low < d.low ? 1 : 0);
    sum->low -= d.low;
}

struct store_digest store_digest(const struct store *s, uint64_t app_id) {
    const struct app *app = app_find(s, app_id);
    struct store_digest none = { 0 };
    return app == NULL ? none : app->digest;
}
