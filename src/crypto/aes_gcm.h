/* SPDX-License-Identifier: Apache-2.0 */
/* AES-256-GCM (NIST SP 800-38D) of whole messages. With nettle: mbedTLS, which does the rest of our
 * cryptography, goes from block to block and takes seven times as long for a value of 1 KiB. */
#pragma once

#include "base/bytes.h"

#define AES_GCM_KEY_BYTES 32
#define AES_GCM_NONCE_BYTES 12
#define AES_GCM_TAG_BYTES 16

/* One message's key and nonce. Lends both; they are read during a call only. A nonce serves once
 * under a key. */
struct aes_gcm {
    const uint8_t *key;   /* AES_GCM_KEY_BYTES. */
    const uint8_t *nonce; /* AES_GCM_NONCE_BYTES. */
};

/* Writes plain.len + AES_GCM_TAG_BYTES bytes, ciphertext then tag. out may be plain.ptr. Any
 * thread. */
void aes_gcm_seal(const struct aes_gcm *gcm, struct span aad, struct span plain, uint8_t *out);
/* Writes sealed.len - AES_GCM_TAG_BYTES bytes. out may be sealed.ptr. Any thread. TRUNCATED when
 * sealed is shorter than a tag; BAD_AUTH when key, nonce, aad or any byte differs, and then out
 * holds zeros. */
RC aes_gcm_open(const struct aes_gcm *gcm, struct span aad, struct span sealed, uint8_t *out);
