/* SPDX-License-Identifier: Apache-2.0 */
/* Recursive Length Prefix, Ethereum's encoding (Yellow Paper, appendix B), as much of it as
 * transactions need. Canonical in both directions: each value has one encoding, and a reader
 * refuses every other. Nothing recurses. Any thread. */
#pragma once

#include "base/bytes.h"

/* The prefix of a string or list of any length. */
#define RLP_HEAD_BYTES_MAX 9
#define RLP_U256_BYTES 32

/* Lends the next item, which must be a string. MALFORMED when it is a list, or not in its shortest
 * form; TRUNCATED. */
RC rlp_read_string(struct reader *r, struct span *out);
/* Gives a reader of the next item's elements, which must be a list. Errors as above. */
RC rlp_read_list(struct reader *r, struct reader *items);
/* The next item as an unsigned number: no leading zeros, 0 is the empty string. TOO_BIG over 64
 * bits; MALFORMED, TRUNCATED. */
RC rlp_read_u64(struct reader *r, uint64_t *out);
/* The same up to 256 bits, big-endian. */
RC rlp_read_u256(struct reader *r, uint8_t out[static RLP_U256_BYTES]);

/* TOO_BIG when w has no room; then it is unchanged, or has the head only. */
RC rlp_write_string(struct writer *w, struct span s);
RC rlp_write_u64(struct writer *w, uint64_t value);
RC rlp_write_u256(struct writer *w, const uint8_t value[static RLP_U256_BYTES]);
/* The prefix alone; payload_len bytes follow it, the elements' encodings for a list. A string of
 * one byte below 0x80 has no prefix: rlp_write_string knows. */
RC rlp_write_string_head(struct writer *w, size_t payload_len);
RC rlp_write_list_head(struct writer *w, size_t payload_len);
