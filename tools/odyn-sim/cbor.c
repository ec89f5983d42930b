/* SPDX-License-Identifier: Apache-2.0 */
#include "cbor.h"

enum major { UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP };

#define NULL_BYTE 0xf6

/* The head: the major type, and the argument in its shortest form. */
static RC write_head(struct writer *w, enum major major, uint64_t argument) {
    const uint8_t base = (uint8_t)(major << 5);
    if (argument < 24) {
        return write_u8(w, (uint8_t)(base | argument));
    }
    if (argument <= UINT8_MAX) {
        TRY(write_u8(w, base | 24));
        return write_u8(w, (uint8_t)argument);
    }
    if (argument <= UINT16_MAX) {
        TRY(write_u8(w, base | 25));
        return write_u16(w, (uint16_t)argument);
    }
    if (argument <= UINT32_MAX) {
        TRY(write_u8(w, base | 26));
        return write_u32(w, (uint32_t)argument);
    }
    TRY(write_u8(w, base | 27));
    return write_u64(w, argument);
}

RC cbor_write_uint(struct writer *w, uint64_t value) {
    return write_head(w, UINT, value);
}

RC cbor_write_negative(struct writer *w, uint64_t value) {
    return write_head(w, NEGATIVE, value);
}

RC cbor_write_bytes(struct writer *w, struct span bytes) {
    TRY(write_head(w, BYTES, bytes.len));
    return write_span(w, bytes);
}

RC cbor_write_text(struct writer *w, const char *text) {
    TRY(write_head(w, TEXT, strlen(text)));
    return write_span(w, span_str(text));
}

RC cbor_write_array(struct writer *w, uint64_t count) {
    return write_head(w, ARRAY, count);
}

RC cbor_write_map(struct writer *w, uint64_t count) {
    return write_head(w, MAP, count);
}

RC cbor_write_null(struct writer *w) {
    return write_u8(w, NULL_BYTE);
}
