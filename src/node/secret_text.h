/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the envelope when a member gives the master secret to another (peer.proto): JSON
 * text of exactly one form, without blanks, so that it is written and read in locked memory without
 * a parser. Any thread. */
#pragma once

#include "base/bytes.h"
#include "base/secret.h"
#include "base/wallet.h"
#include "crypto/kdf.h"

#define SECRET_NONCE_BYTES 32
/* Its length, always; no NUL. */
#define SECRET_TEXT_BYTES 334

/* What it says beside the secret, which is lent. */
struct secret_text {
    uint8_t hash[KDF_HASH_BYTES];
    uint8_t nonce[SECRET_NONCE_BYTES];
    struct wallet from;
    struct wallet to;
};

/* Writes the text. out has room for SECRET_TEXT_BYTES. */
void secret_text_write(const uint8_t secret[static KDF_MASTER_BYTES],
                       const struct secret_text *text, uint8_t *out);
/* Reads it. MALFORMED for anything that secret_text_write does not write, and then secret is
 * wiped. */
RC secret_text_read(struct span in, uint8_t secret[static KDF_MASTER_BYTES],
                    struct secret_text *text);
