/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

bool span_equal(struct span a, struct span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0); /* TIDY-OK: public */
}

int span_compare(struct span a, struct span b) {
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len); /* TIDY-OK: public */
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

bool span_has_prefix(struct span s, struct span prefix) {
    return prefix.len <= s.len && span_equal((struct span){ s.ptr, prefix.len }, prefix);
}

/* Length of the sequence that a lead byte starts, with the least code point that needs it. */
static size_t utf8_sequence(uint8_t lead, uint32_t *bits, uint32_t *least) {
    if (lead < 0x80) {
        *bits = lead;
        *least = 0;
        return 1;
    }
    if ((lead & 0xe0) == 0xc0) {
        *bits = lead & 0x1f;
        *least = 0x80;
        return 2;
    }
    if ((lead & 0xf0) == 0xe0) {
        *bits = lead & 0x0f;
        *least = 0x800;
        return 3;
    }
    if ((lead & 0xf8) == 0xf0) {
        *bits = lead & 0x07;
        *least = 0x10000;
        return 4;
    }
    return 0;
}

bool span_is_utf8(struct span s) {
    size_t at = 0;
    while (at < s.len) {
        uint32_t code = 0;
        uint32_t least = 0;
        size_t n = utf8_sequence(s.ptr[at], &code, &least);
        if (n == 0 || n > s.len - at) {
            return false;
        }
        for (size_t i = 1; i < n; i++) {
            if ((s.ptr[at + i] & 0xc0) != 0x80) {
                return false;
            }
            code = (code << 6) | (s.ptr[at + i] & 0x3f);
        }
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        if (code < least || code > 0x10ffff || surrogate) {
            return false;
        }
        at += n;
    }
    return true;
}

RC span_copy(struct span s, uint8_t *dst, size_t dst_bytes) {
    ENSURE(s.len <= dst_bytes, TOO_BIG);
    if (s.len > 0) {
        memcpy(dst, s.ptr, s.len);
    }
    return OK;
}

RC read_span(struct reader *r, size_t n, struct span *out) {
    ENSURE(n <= r->len, TRUNCATED); /* Compare lengths, never pointers: ptr + n can wrap. */
    *out = (struct span){ r->ptr, n };
    *r = (struct reader){ n == 0 ? r->ptr : r->ptr + n, r->len - n };
    return OK;
}

static RC read_integer(struct reader *r, size_t width, uint64_t *out) {
    struct span s = SPAN_EMPTY;
    TRY(read_span(r, width, &s));
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++) {
        value = (value << 8) | s.ptr[i];
    }
    *out = value;
    return OK;
}

RC read_u8(struct reader *r, uint8_t *out) {
    uint64_t value = 0;
    TRY(read_integer(r, sizeof(*out), &value));
    *out = (uint8_t)value;
    return OK;
}

RC read_u16(struct reader *r, uint16_t *out) {
    uint64_t value = 0;
    TRY(read_integer(r, sizeof(*out), &value));
    *out = (uint16_t)value;
    return OK;
}

RC read_u32(struct reader *r, uint32_t *out) {
    uint64_t value = 0;
    TRY(read_integer(r, sizeof(*out), &value));
    *out = (uint32_t)value;
    return OK;
}

RC read_u64(struct reader *r, uint64_t *out) {
    return read_integer(r, sizeof(*out), out);
}

RC write_span(struct writer *w, struct span s) {
    ENSURE(s.len <= w->bytes - w->len, TOO_BIG);
    if (s.len > 0) {
        memcpy(w->ptr + w->len, s.ptr, s.len);
        w->len += s.len;
    }
    return OK;
}

static RC write_integer(struct writer *w, size_t width, uint64_t value) {
    ENSURE(width <= w->bytes - w->len, TOO_BIG);
    for (size_t i = 0; i < width; i++) {
        w->ptr[w->len + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
    w->len += width;
    return OK;
}

RC write_u8(struct writer *w, uint8_t value) {
    return write_integer(w, sizeof(value), value);
}

RC write_u16(struct writer *w, uint16_t value) {
    return write_integer(w, sizeof(value), value);
}

RC write_u32(struct writer *w, uint32_t value) {
    return write_integer(w, sizeof(value), value);
}

RC write_u64(struct writer *w, uint64_t value) {
    return write_integer(w, sizeof(value), value);
}

RC bytes_parse_decimal(struct span text, uint64_t max, uint64_t *out) {
    ENSURE(text.len >= 1 && text.len <= 20, MALFORMED);
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        ENSURE(text.ptr[i] >= '0' && text.ptr[i] <= '9', MALFORMED);
        uint64_t digit = (uint64_t)(text.ptr[i] - '0');
        ENSURE(value <= (UINT64_MAX - digit) / 10, TOO_BIG);
        value = value * 10 + digit;
    }
    ENSURE(value <= max, TOO_BIG);
    *out = value;
    return OK;
}
