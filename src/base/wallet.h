/* SPDX-License-Identifier: Apache-2.0 */
/* A wallet: the Ethereum address that identifies a node or an application. Any thread. */
#pragma once

#include "base/bytes.h"

#define WALLET_BYTES 20
/* "0x", 40 lowercase hex digits, NUL. */
#define WALLET_TEXT_BYTES 43

struct wallet {
    uint8_t bytes[WALLET_BYTES];
};

static inline struct span wallet_span(const struct wallet *w) {
    return (struct span){ w->bytes, WALLET_BYTES };
}
/* Public bytes: not in constant time. */
bool wallet_equal(const struct wallet *a, const struct wallet *b);
bool wallet_is_zero(const struct wallet *w);
/* Writes "0x" and 40 lowercase hex digits. Gives text. */
const char *wallet_format(const struct wallet *w, char text[static WALLET_TEXT_BYTES]);
/* Takes 0x and 40 hex digits of either case; a checksum in the case is not checked. MALFORMED
 * otherwise. */
RC wallet_parse(struct span text, struct wallet *out);
