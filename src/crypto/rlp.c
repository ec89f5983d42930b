/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/rlp.h"

/* A prefix is base + length up to 55; past that base + 55 + the number of bytes that the length
 * takes, and the length, big-endian. */
#define STRING_BASE 0x80
#define LIST_BASE 0xc0
#define SHORT_MAX 55u

/* n bytes without leading zeros. */
static RC read_number(struct span s, uint64_t *out) {
    ENSURE(s.len <= sizeof(uint64_t), TOO_BIG);
    ENSURE(s.len == 0 || s.ptr[0] != 0, MALFORMED);
    uint64_t value = 0;
    for (size_t i = 0; i < s.len; i++) {
        value = value << 8 | s.ptr[i];
    }
    *out = value;
    return OK;
}

/* What follows a prefix with this base. */
static RC read_payload(struct reader *r, unsigned prefix, unsigned base, struct span *out) {
    unsigned len = prefix - base;
    if (len <= SHORT_MAX) {
        return read_span(r, len, out);
    }
    struct span digits = SPAN_EMPTY;
    TRY(read_span(r, len - SHORT_MAX, &digits));
    uint64_t long_len = 0;
    TRY(read_number(digits, &long_len));
    ENSURE(long_len > SHORT_MAX, MALFORMED);
    ENSURE(long_len <= r->len, TRUNCATED);
    return read_span(r, (size_t)long_len, out);
}

RC rlp_read_string(struct reader *r, struct span *out) {
    struct reader at = *r;
    uint8_t prefix = 0;
    TRY(read_u8(&at, &prefix));
    ENSURE(prefix < LIST_BASE, MALFORMED);
    if (prefix < STRING_BASE) {
        return read_span(r, 1, out); /* The byte is its own encoding. */
    }
    struct span s = SPAN_EMPTY;
    TRY(read_payload(&at, prefix, STRING_BASE, &s));
    ENSURE(s.len != 1 || s.ptr[0] >= STRING_BASE, MALFORMED);
    *out = s;
    *r = at;
    return OK;
}

RC rlp_read_list(struct reader *r, struct reader *items) {
    struct reader at = *r;
    uint8_t prefix = 0;
    TRY(read_u8(&at, &prefix));
    ENSURE(prefix >= LIST_BASE, MALFORMED);
    struct span s = SPAN_EMPTY;
    TRY(read_payload(&at, prefix, LIST_BASE, &s));
    *items = (struct reader){ s.ptr, s.len };
    *r = at;
    return OK;
}

RC rlp_read_u64(struct reader *r, uint64_t *out) {
    struct reader at = *r;
    struct span s = SPAN_EMPTY;
    TRY(rlp_read_string(&at, &s));
    TRY(read_number(s, out));
    *r = at;
    return OK;
}

RC rlp_read_u256(struct reader *r, uint8_t out[static RLP_U256_BYTES]) {
    struct reader at = *r;
    struct span s = SPAN_EMPTY;
    TRY(rlp_read_string(&at, &s));
    ENSURE(s.len <= RLP_U256_BYTES, TOO_BIG);
    ENSURE(s.len == 0 || s.ptr[0] != 0, MALFORMED);
    memset(out, 0, RLP_U256_BYTES);
    TRY(span_copy(s, out + RLP_U256_BYTES - s.len, s.len));
    *r = at;
    return OK;
}

/* Big-endian without leading zeros. */
static struct span shorten(struct span s) {
    while (s.len > 0 && s.ptr[0] == 0) {
        s = (struct span){ s.ptr + 1, s.len - 1 };
    }
    return s;
}

static struct span number_span(uint64_t value, uint8_t bytes[static sizeof(uint64_t)]) {
    for (size_t i = 0; i < sizeof(uint64_t); i++) {
        bytes[i] = (uint8_t)(value >> (56 - 8 * i));
    }
    return shorten((struct span){ bytes, sizeof(uint64_t) });
}

static RC write_head(struct writer *w, uint8_t base, size_t payload_len) {
    if (payload_len <= SHORT_MAX) {
        return write_u8(w, (uint8_t)(base + payload_len));
    }
    uint8_t bytes[sizeof(uint64_t)];
    struct span len = number_span(payload_len, bytes);
    ENSURE(w->bytes - w->len > len.len, TOO_BIG);
    TRY(write_u8(w, (uint8_t)(base + SHORT_MAX + len.len)));
    return write_span(w, len);
}

RC rlp_write_string_head(struct writer *w, size_t payload_len) {
    return write_head(w, STRING_BASE, payload_len);
}

RC rlp_write_list_head(struct writer *w, size_t payload_len) {
    return write_head(w, LIST_BASE, payload_len);
}

RC rlp_write_string(struct writer *w, struct span s) {
    if (s.len != 1 || s.ptr[0] >= STRING_BASE) {
        TRY(rlp_write_string_head(w, s.len));
    }
    return write_span(w, s);
}

RC rlp_write_u64(struct writer *w, uint64_t value) {
    uint8_t bytes[sizeof(uint64_t)];
    return rlp_write_string(w, number_span(value, bytes));
}

RC rlp_write_u256(struct writer *w, const uint8_t value[static RLP_U256_BYTES]) {
    return rlp_write_string(w, shorten((struct span){ value, RLP_U256_BYTES }));
}
