/* SPDX-License-Identifier: Apache-2.0 */
/* Application keys: HKDF-SHA256 (RFC 5869) of the cluster's master secret.
 *
 *              salt (Extract)                        info (Expand)
 *     V1       "nova-kms:app:" app_id                path, or path ":" context if there is one
 *     V2       "nova-kms:v2:app:" app_id             u32(path.len) path u32(context.len) context
 *
 * app_id is decimal without leading zeros, the lengths are big-endian. V1 makes the bytes of the
 * nodes that came before, and there ("a:b", "") and ("a", "b") give the same key. In V2 the lengths
 * tell where path ends, so two different (path, context) never have the same info; and no salt of
 * V2 is a salt of V1 or of another app, so Extract gives another, independent key to expand. With
 * both, as in HKDF itself, a shorter key is the beginning of a longer one of the same input.
 *
 * Bytes only: which paths are reserved, blank or too long is the service's to say. */
#pragma once

#include <mbedtls/sha256.h>

#include "base/bytes.h"
#include "base/secret.h"

#define KDF_MASTER_BYTES 32
#define KDF_HASH_BYTES 32
#define KDF_KEY_BYTES_MAX 1024
#define KDF_DATA_KEY_BYTES 32

enum kdf_variant { KDF_NOVA_V1, KDF_NOVA_V2 };
#define KDF_VARIANT_COUNT 2

/* The cluster's master secret, locked in memory. Embedded; zero is closed. One owner. */
struct kdf_master {
    struct secret secret;
    uint8_t hash[KDF_HASH_BYTES]; /* keccak256 of the secret: public, it stands on chain. */
};

/* Copies secret; the caller wipes its own. NOMEM. */
RC kdf_master_init(struct kdf_master *master, const uint8_t secret[static KDF_MASTER_BYTES]);
/* Wipes. Accepts a zeroed or closed master. */
void kdf_master_close(struct kdf_master *master);

/* What is the same in every key of one app: the extracted key of each variant, as the two SHA-256
 * states that HMAC starts from. A derivation of up to 32 bytes is then two compressions, and one
 * more for each 64 bytes of path and context.
 *
 * It is key material: its owner allocates it in locked memory (struct secret) or on a stack that
 * it wipes. Does not move after kdf_app_init. */
struct kdf_app {
    struct kdf_expander {
        mbedtls_sha256_context inner;
        mbedtls_sha256_context outer;
    } expanders[KDF_VARIANT_COUNT];
};

/* Reads master during the call only. Any app_id, 0 included (the sync key's). CRYPTO. */
RC kdf_app_init(struct kdf_app *app, const struct kdf_master *master, uint64_t app_id);
/* Wipes. Accepts a zeroed or closed app. */
void kdf_app_close(struct kdf_app *app);

/* What a key is derived from. Both are lent. */
struct kdf_input {
    struct span path;
    struct span context; /* May be empty. */
};

/* Writes key_len bytes of key. Takes no memory; wipes what it leaves on the stack. Any thread, also
 * several at once on one app. INVALID unless key_len is 1 to KDF_KEY_BYTES_MAX; TOO_BIG when path
 * or context is over 2^32 - 1 bytes; CRYPTO. On error key is wiped. */
RC kdf_derive(const struct kdf_app *app, enum kdf_variant variant, const struct kdf_input *input,
              uint8_t *key, size_t key_len);

/* The key that the app's values are sealed with: V1, path "data_key", no context. */
RC kdf_data_key(const struct kdf_app *app, uint8_t key[static KDF_DATA_KEY_BYTES]);
