/* SPDX-License-Identifier: Apache-2.0 */
/* XAES-256-GCM (https://c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived from the long key
 * and the first half of a 192-bit nonce. Random nonces need no counting: 2^80 messages under one
 * key collide with a probability of 2^-32. Not committing to its key, not misuse resistant. */
#pragma once

#include <nettle/aes.h>

#include "base/bytes.h"

#define XAES_KEY_BYTES 32
#define XAES_NONCE_BYTES 24
#define XAES_TAG_BYTES 16

/* The key's AES schedule and CMAC subkey, prepared once. It is key material: its owner allocates it
 * in locked memory (struct secret). */
struct xaes_key {
    struct aes256_ctx aes;
    uint8_t k1[AES_BLOCK_SIZE];
};

/* Reads bytes during the call only. */
void xaes_key_init(struct xaes_key *key, const uint8_t bytes[static XAES_KEY_BYTES]);
/* Wipes. Accepts a closed key. */
void xaes_key_close(struct xaes_key *key);

/* Writes plain.len + XAES_TAG_BYTES bytes, ciphertext then tag. out may be plain.ptr. nonce is
 * random and never twice under one key. Any thread, several at once on one key. */
void xaes_seal(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
               struct span aad, struct span plain, uint8_t *out);
/* Writes sealed.len - XAES_TAG_BYTES bytes. out may be sealed.ptr. Any thread, several at once on
 * one key. TRUNCATED when sealed is shorter than a tag; BAD_AUTH when key, nonce, aad or any byte
 * differs, and then out holds zeros. */
RC xaes_open(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
             struct span aad, struct span sealed, uint8_t *out);
