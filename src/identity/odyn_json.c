/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/odyn_json.h"

#include "base/hex.h"

#define UNICODE_DIGITS 4
#define ESCAPE_BYTES_MAX 6 /* \u001f */

static RC write_escape(struct writer *w, uint8_t c) {
    char text[ESCAPE_BYTES_MAX + 1] = "\\u00";
    hex_encode((struct span){ &c, 1 }, text + UNICODE_DIGITS);
    return write_span(w, span_str(text));
}

static RC write_char(struct writer *w, uint8_t c) {
    if (c < 0x20) {
        return write_escape(w, c);
    }
    if (c == '"' || c == '\\') {
        TRY(write_u8(w, '\\'));
    }
    return write_u8(w, c);
}

RC odyn_json_write_string(struct writer *w, struct span text) {
    struct writer at = *w;
    TRY(write_u8(&at, '"'));
    for (size_t i = 0; i < text.len; i++) {
        TRY(write_char(&at, text.ptr[i]));
    }
    TRY(write_u8(&at, '"'));
    *w = at;
    return OK;
}

/* What is left to read. Strings are unescaped where they stand: they only get shorter. */
struct cursor {
    uint8_t *ptr;
    size_t len;
};

static uint8_t peek(const struct cursor *c) {
    return c->len > 0 ? c->ptr[0] : 0;
}

static void advance(struct cursor *c, size_t n) {
    c->ptr += n;
    c->len -= n;
}

static void skip_blanks(struct cursor *c) {
    while (peek(c) == ' ' || peek(c) == '\t' || peek(c) == '\r' || peek(c) == '\n') {
        advance(c, 1);
    }
}

static RC expect(struct cursor *c, uint8_t byte) {
    skip_blanks(c);
    ENSURE(c->len > 0 && c->ptr[0] == byte, MALFORMED);
    advance(c, 1);
    return OK;
}

static RC read_unit(struct cursor *c, uint32_t *unit) {
    uint8_t bytes[2];
    ENSURE(c->len >= UNICODE_DIGITS, MALFORMED);
    TRY(hex_decode((struct span){ c->ptr, UNICODE_DIGITS }, bytes, sizeof(bytes)));
    *unit = (uint32_t)bytes[0] << 8 | bytes[1];
    advance(c, UNICODE_DIGITS);
    return OK;
}

/* After \u: one unit, or the two of a surrogate pair. */
static RC read_code(struct cursor *c, uint32_t *code) {
    TRY(read_unit(c, code));
    ENSURE(*code < 0xdc00 || *code > 0xdfff, MALFORMED);
    if (*code < 0xd800 || *code > 0xdfff) {
        return OK;
    }
    ENSURE(c->len >= 2 && c->ptr[0] == '\\' && c->ptr[1] == 'u', MALFORMED);
    advance(c, 2);
    uint32_t low = 0;
    TRY(read_unit(c, &low));
    ENSURE(low >= 0xdc00 && low <= 0xdfff, MALFORMED);
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return OK;
}

static RC put_utf8(struct writer *w, uint32_t code) {
    if (code < 0x80) {
        return write_u8(w, (uint8_t)code);
    }
    if (code < 0x800) {
        TRY(write_u8(w, (uint8_t)(0xc0 | code >> 6)));
    } else if (code < 0x10000) {
        TRY(write_u8(w, (uint8_t)(0xe0 | code >> 12)));
        TRY(write_u8(w, (uint8_t)(0x80 | (code >> 6 & 0x3f))));
    } else {
        TRY(write_u8(w, (uint8_t)(0xf0 | code >> 18)));
        TRY(write_u8(w, (uint8_t)(0x80 | (code >> 12 & 0x3f))));
        TRY(write_u8(w, (uint8_t)(0x80 | (code >> 6 & 0x3f))));
    }
    return write_u8(w, (uint8_t)(0x80 | (code & 0x3f)));
}

/* After the backslash. */
static RC read_escape(struct cursor *c, struct writer *w) {
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    uint8_t name = peek(c);
    ENSURE(name != 0, MALFORMED);
    advance(c, 1);
    if (name == 'u') {
        uint32_t code = 0;
        TRY(read_code(c, &code));
        return put_utf8(w, code);
    }
    const char *at = strchr(names, name);
    ENSURE(at != NULL, MALFORMED);
    return write_u8(w, (uint8_t)values[at - names]);
}

static RC read_string(struct cursor *c, struct span *out) {
    TRY(expect(c, '"'));
    struct writer w = { c->ptr, 0, c->len };
    while (peek(c) != '"') {
        ENSURE(c->len > 0 && c->ptr[0] >= 0x20, MALFORMED);
        uint8_t byte = c->ptr[0];
        advance(c, 1);
        if (byte == '\\') {
            TRY(read_escape(c, &w));
        } else {
            TRY(write_u8(&w, byte));
        }
    }
    advance(c, 1);
    *out = writer_span(&w);
    ENSURE(span_is_utf8(*out), MALFORMED);
    return OK;
}

/* A number, true, false or null. Its value is not used, so letters and digits are all that is
 * checked. */
static RC skip_plain(struct cursor *c) {
    size_t len = 0;
    while (c->len > 0 && peek(c) != ',' && peek(c) != '}' && peek(c) > ' ') {
        uint8_t b = peek(c);
        ENSURE((b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || b == '-' || b == '+' ||
                   b == '.' || b == 'E',
               MALFORMED);
        advance(c, 1);
        len++;
    }
    ENSURE(len > 0, MALFORMED);
    return OK;
}

struct field {
    struct span name;
    struct span value;
    bool found;
    bool is_string;
};

static RC read_member(struct cursor *c, struct field *field) {
    struct span name = SPAN_EMPTY;
    TRY(read_string(c, &name));
    TRY(expect(c, ':'));
    skip_blanks(c);
    bool is_string = peek(c) == '"';
    struct span value = SPAN_EMPTY;
    if (is_string) {
        TRY(read_string(c, &value));
    } else {
        TRY(skip_plain(c));
    }
    if (span_equal(name, field->name)) {
        ENSURE(!field->found, MALFORMED);
        field->found = true;
        field->is_string = is_string;
        field->value = value;
    }
    return OK;
}

RC odyn_json_take_string(uint8_t *text, size_t text_len, const char *name, struct span *out) {
    struct cursor c = { text, text_len };
    struct field field = { .name = span_str(name) };
    TRY(expect(&c, '{'));
    skip_blanks(&c);
    bool more = peek(&c) != '}';
    while (more) {
        TRY(read_member(&c, &field));
        skip_blanks(&c);
        more = peek(&c) == ',';
        if (more) {
            advance(&c, 1);
        }
    }
    TRY(expect(&c, '}'));
    skip_blanks(&c);
    ENSURE(c.len == 0, MALFORMED);
    ENSURE(field.found, NOT_FOUND);
    ENSURE(field.is_string, INVALID);
    *out = field.value;
    return OK;
}
