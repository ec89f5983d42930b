/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "http/http.h"

#define TEXT_BYTES_FIRST ((size_t)1024)

void http_text_close(struct http_text *text) {
    free(text->ptr);
    *text = (struct http_text){ .bytes_max = text->bytes_max };
}

/* Makes room for len more bytes. */
static bool reserve(struct http_text *text, size_t len) {
    if (text->failed || len > text->bytes_max - text->len) {
        text->failed = true;
        return false;
    }
    size_t need = text->len + len;
    if (need <= text->bytes) {
        return true;
    }
    size_t bytes = text->bytes == 0 ? TEXT_BYTES_FIRST : text->bytes;
    while (bytes < need) {
        bytes *= 2;
    }
    uint8_t *grown = realloc(text->ptr, bytes);
    if (grown == NULL) {
        text->failed = true;
        return false;
    }
    text->ptr = grown;
    text->bytes = bytes;
    return true;
}

void http_text_append(struct http_text *text, struct span s) {
    if (s.len > 0 && reserve(text, s.len)) {
        memcpy(text->ptr + text->len, s.ptr, s.len);
        text->len += s.len;
    }
}

void http_text_printf(struct http_text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    if (!reserve(text, (size_t)len + 1)) {
        return;
    }
    va_start(args, format);
    len = vsnprintf((char *)text->ptr + text->len, (size_t)len + 1, format, args);
    va_end(args);
    ASSERT(len >= 0);
    text->len += (size_t)len;
}
