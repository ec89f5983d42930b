/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/der.h"

static RC read_length(struct reader *r, size_t *out) {
    uint8_t first = 0;
    TRY(read_u8(r, &first));
    *out = first;
    if (first < 0x80) {
        return OK;
    }
    if (first == 0x81) {
        uint8_t len = 0;
        TRY(read_u8(r, &len));
        ENSURE(len >= 0x80, MALFORMED);
        *out = len;
        return OK;
    }
    ENSURE(first == 0x82, MALFORMED);
    uint16_t len = 0;
    TRY(read_u16(r, &len));
    ENSURE(len >= 0x100, MALFORMED);
    *out = len;
    return OK;
}

RC der_read(struct reader *r, uint8_t tag, struct span *content) {
    struct reader at = *r;
    uint8_t found = 0;
    TRY(read_u8(&at, &found));
    ENSURE(found == tag, MALFORMED);
    size_t len = 0;
    TRY(read_length(&at, &len));
    TRY(read_span(&at, len, content));
    *r = at;
    return OK;
}

static RC write_length(struct writer *w, size_t len) {
    if (len < 0x80) {
        return write_u8(w, (uint8_t)len);
    }
    if (len < 0x100) {
        return write_u16(w, (uint16_t)(0x8100 | len));
    }
    TRY(write_u8(w, 0x82));
    return write_u16(w, (uint16_t)len);
}

RC der_write(struct writer *w, uint8_t tag, struct span content) {
    ENSURE(content.len <= UINT16_MAX, TOO_BIG);
    struct writer at = *w;
    TRY(write_u8(&at, tag));
    TRY(write_length(&at, content.len));
    TRY(write_span(&at, content));
    *w = at;
    return OK;
}
