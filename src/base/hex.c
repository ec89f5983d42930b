/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"

/* 0xff.. when a < b, else 0; both below 2^31. */
static uint32_t mask_below(uint32_t a, uint32_t b) {
    return 0U - ((a - b) >> 31);
}

static char hex_digit(uint32_t nibble) {
    /* Past 9, skip from ':' to 'a'. */
    return (char)('0' + nibble + (mask_below(9, nibble) & ('a' - ':')));
}

void hex_encode(struct span in, char *text) {
    for (size_t i = 0; i < in.len; i++) {
        text[2 * i] = hex_digit(in.ptr[i] >> 4);
        text[2 * i + 1] = hex_digit(in.ptr[i] & 15);
    }
    text[2 * in.len] = '\0';
}

/* The digit's value, or a value with bit 8 set when c is none. */
static uint32_t hex_value(uint32_t c) {
    uint32_t lower = c | 0x20;
    uint32_t is_digit = mask_below('0' - 1, c) & mask_below(c, '9' + 1);
    uint32_t is_letter = mask_below('a' - 1, lower) & mask_below(lower, 'f' + 1);
    return (is_digit & (c - '0')) | (is_letter & (lower - 'a' + 10)) |
           (~(is_digit | is_letter) & 0x100);
}

RC hex_decode(struct span text, uint8_t *out, size_t out_len) {
    if (span_has_prefix(text, SPAN_LIT("0x"))) {
        text = (struct span){ text.ptr + 2, text.len - 2 };
    }
    ENSURE(text.len == 2 * out_len, MALFORMED);
    uint32_t bad = 0;
    for (size_t i = 0; i < out_len; i++) {
        uint32_t high = hex_value(text.ptr[2 * i]);
        uint32_t low = hex_value(text.ptr[2 * i + 1]);
        bad |= high | low;
        out[i] = (uint8_t)(high << 4 | low);
    }
    ENSURE((bad & 0x100) == 0, MALFORMED);
    return OK;
}

static char base64_digit(uint32_t v) {
    /* Offsets between the ranges A-Z, a-z, 0-9, + and / of the alphabet. */
    uint32_t c = 'A' + v;
    c += mask_below(25, v) & (uint32_t)('a' - 'A' - 26);
    c -= mask_below(51, v) & (uint32_t)('a' - '0' + 26);
    c -= mask_below(61, v) & (uint32_t)('0' - '+' + 10);
    c += mask_below(62, v) & (uint32_t)('/' - '+' - 1);
    return (char)c;
}

void base64_encode(struct span in, char *text) {
    size_t out = 0;
    for (size_t at = 0; at < in.len; at += 3) {
        size_t left = in.len - at;
        uint32_t group = (uint32_t)in.ptr[at] << 16;
        group |= left > 1 ? (uint32_t)in.ptr[at + 1] << 8 : 0;
        group |= left > 2 ? in.ptr[at + 2] : 0;
        text[out++] = base64_digit(group >> 18);
        text[out++] = base64_digit(group >> 12 & 63);
        text[out++] = (char)(left > 1 ? base64_digit(group >> 6 & 63) : '=');
        text[out++] = (char)(left > 2 ? base64_digit(group & 63) : '=');
    }
    text[out] = '\0';
}
