/* SPDX-License-Identifier: Apache-2.0 */
/* Text forms of bytes: hex and base64 (RFC 4648), without branches or table lookups that depend on
 * the bytes, because some of them are secrets. Any thread. */
#pragma once

#include "base/bytes.h"

/* Room for n bytes in lowercase hex with its NUL. */
#define HEX_TEXT_BYTES(n) (2 * (n) + 1)
/* Room for n bytes in padded base64 with its NUL. */
#define BASE64_TEXT_BYTES(n) (4 * (((n) + 2) / 3) + 1)

/* Writes lowercase hex and a NUL. text has HEX_TEXT_BYTES(in.len). */
void hex_encode(struct span in, char *text);
/* Reads hex of either case, with or without 0x, of exactly out_len bytes. MALFORMED otherwise. */
RC hex_decode(struct span text, uint8_t *out, size_t out_len);
/* Writes padded base64 and a NUL. text has BASE64_TEXT_BYTES(in.len). */
void base64_encode(struct span in, char *text);
