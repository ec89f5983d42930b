/* SPDX-License-Identifier: Apache-2.0 */
/* The little DER (X.690) that certificate extensions need. Any thread. */
#pragma once

#include "base/bytes.h"

#define DER_BOOLEAN 0x01
#define DER_OCTET_STRING 0x04
#define DER_OID 0x06
#define DER_SEQUENCE 0x30
/* GeneralName's choices (RFC 5280, section 4.2.1.6). */
#define DER_DNS_NAME 0x82
#define DER_IP_ADDRESS 0x87

/* Lends the content of the next element, which must have this tag. MALFORMED for another tag, a
 * length that is not in its shortest form, or one of more than two bytes; TRUNCATED. */
RC der_read(struct reader *r, uint8_t tag, struct span *content);
/* Writes tag, length and content, of at most 65535 bytes. TOO_BIG. */
RC der_write(struct writer *w, uint8_t tag, struct span content);
