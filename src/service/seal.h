/* SPDX-License-Identifier: Apache-2.0 */
/* How values are sealed in the store: nonce, ciphertext, tag (XAES-256-GCM) under the app's data
 * key, bound to their place. Any thread. */
#pragma once

#include "crypto/xaes.h"
#include "store/store.h"

/* What sealing adds to a value: the nonce before it and the tag behind it. */
#define SERVICE_SEAL_BYTES (XAES_NONCE_BYTES + XAES_TAG_BYTES)
#define SERVICE_AAD_BYTES_MAX (8 + STORE_KEY_BYTES_MAX)

/* Writes the associated data: app id, key (docs/security.md, "Stored values"). TOO_BIG for a longer
 * key. */
RC service_seal_aad(uint64_t app_id, struct span key, struct writer *aad);
/* Whether a sealed value opens under its app's key and name. Opens it into scratch, which has room
 * for sealed.len bytes; the caller wipes that. */
bool service_seal_is_good(const struct xaes_key *key, const struct store_remote *record,
                          uint8_t *scratch);
