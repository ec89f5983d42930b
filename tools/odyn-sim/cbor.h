/* SPDX-License-Identifier: Apache-2.0 */
/* As much CBOR (RFC 8949, section 4.2.1: shortest lengths) as an attestation document needs. */
#pragma once

#include "base/bytes.h"

/* Each appends one head or one item; TOO_BIG when w has no room. Arrays and maps are followed by
 * their count items, or count pairs of items. */
RC cbor_write_uint(struct writer *w, uint64_t value);
/* -1 - value. */
RC cbor_write_negative(struct writer *w, uint64_t value);
RC cbor_write_bytes(struct writer *w, struct span bytes);
RC cbor_write_text(struct writer *w, const char *text);
RC cbor_write_array(struct writer *w, uint64_t count);
RC cbor_write_map(struct writer *w, uint64_t count);
RC cbor_write_null(struct writer *w);
