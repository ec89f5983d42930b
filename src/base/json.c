/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <stdio.h>

/* jansson's own limit is 2048 levels; brackets inside strings do not count. */
static bool depth_is_allowed(struct span text) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            }
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
        if (depth > JSON_DEPTH_MAX) {
            return false;
        }
    }
    return true;
}

static RC parse(struct span text, size_t text_max, size_t flags, json_t **out,
                char error[static JSON_ERROR_BYTES]) {
    *out = NULL;
    error[0] = '\0';
    ENSURE(text.len <= text_max, TOO_BIG);
    ENSURE(depth_is_allowed(text), TOO_BIG);
    json_error_t at = { 0 };
    *out = json_loadb((const char *)text.ptr, text.len, flags, &at);
    if (*out == NULL) {
        (void)snprintf(error, JSON_ERROR_BYTES, "line %d column %d: %.100s", at.line, at.column,
                       at.text);
        return ERR(MALFORMED);
    }
    return OK;
}

RC json_parse(struct span text, size_t text_max, json_t **out,
              char error[static JSON_ERROR_BYTES]) {
    return parse(text, text_max, JSON_REJECT_DUPLICATES, out, error);
}

RC json_parse_nul(struct span text, size_t text_max, json_t **out,
                  char error[static JSON_ERROR_BYTES]) {
    return parse(text, text_max, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, out, error);
}
