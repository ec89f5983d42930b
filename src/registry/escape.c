/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/escape.h"

#include <stdio.h>

#define ELLIPSIS "..."
#define ELLIPSIS_LEN (sizeof(ELLIPSIS) - 1)

static bool is_plain(uint8_t c) {
    return c >= ' ' && c < 0x7f && c != '\\';
}

static size_t escaped_len(uint8_t c) {
    return is_plain(c) ? 1 : 4;
}

static size_t text_len(struct span text) {
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        len += escaped_len(text.ptr[i]);
    }
    return len;
}

const char *registry_escape(struct span text, char *out, size_t out_bytes) {
    ASSERT(out_bytes > ELLIPSIS_LEN);
    bool fits = text_len(text) < out_bytes;
    size_t room = fits ? out_bytes - 1 : out_bytes - 1 - ELLIPSIS_LEN;
    size_t len = 0;
    for (size_t i = 0; i < text.len && escaped_len(text.ptr[i]) <= room - len; i++) {
        uint8_t c = text.ptr[i];
        (void)snprintf(out + len, out_bytes - len, is_plain(c) ? "%c" : "\\x%02x", c);
        len += escaped_len(c);
    }
    (void)snprintf(out + len, out_bytes - len, "%s", fits ? "" : ELLIPSIS);
    return out;
}
