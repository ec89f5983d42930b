/* SPDX-License-Identifier: Apache-2.0 */
/* Byte ranges. Every byte that comes from outside is read through a reader and every message is
 * built through a writer: both carry their bound and refuse to pass it. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

/* Lent bytes. ptr may be NULL when len is 0. */
struct span {
    const uint8_t *ptr;
    size_t len;
};

#define SPAN_EMPTY ((struct span){ NULL, 0 })
/* A string literal without its NUL. */
#define SPAN_LIT(literal) ((struct span){ (const uint8_t *)(literal), sizeof(literal) - 1 })

static inline struct span span_str(const char *text) {
    return (struct span){ (const uint8_t *)text, strlen(text) };
}

/* Public bytes only: returns early. Secrets are compared with secret_equal. */
bool span_equal(struct span a, struct span b);
/* Order of the bytes, shorter first when one is a prefix of the other. <0, 0, >0. Public bytes. */
int span_compare(struct span a, struct span b);
/* An empty prefix is one of every span. */
bool span_has_prefix(struct span s, struct span prefix);
/* Whether s is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
bool span_is_utf8(struct span s);
/* Copies s to dst, which has room for dst_bytes. TOO_BIG if it does not fit; never cuts. */
RC span_copy(struct span s, uint8_t *dst, size_t dst_bytes);

/* What is left to read. A failed read leaves the reader where it was. */
struct reader {
    const uint8_t *ptr;
    size_t len;
};

/* Lends the next n bytes. TRUNCATED when fewer are left. */
RC read_span(struct reader *r, size_t n, struct span *out);
/* Unsigned integers, big-endian, as all on our wire. TRUNCATED. */
RC read_u8(struct reader *r, uint8_t *out);
RC read_u16(struct reader *r, uint16_t *out);
RC read_u32(struct reader *r, uint32_t *out);
RC read_u64(struct reader *r, uint64_t *out);

/* Appends to a caller's buffer. A failed write changes nothing. */
struct writer {
    uint8_t *ptr;
    size_t len;   /* In use. */
    size_t bytes; /* Capacity. */
};

static inline struct span writer_span(const struct writer *w) {
    return (struct span){ w->ptr, w->len };
}
/* TOO_BIG when the capacity would be passed. Integers are big-endian. */
RC write_span(struct writer *w, struct span s);
RC write_u8(struct writer *w, uint8_t value);
RC write_u16(struct writer *w, uint16_t value);
RC write_u32(struct writer *w, uint32_t value);
RC write_u64(struct writer *w, uint64_t value);

/* Reads a decimal number of 1 to 20 digits, with nothing before or after it. MALFORMED otherwise,
 * TOO_BIG above max. */
RC bytes_parse_decimal(struct span text, uint64_t max, uint64_t *out);
