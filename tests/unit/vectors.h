/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON files of tests/vectors: {"cases": [{...}, ...]}, bytes in hex. */
#pragma once

#include <stdio.h>

#include <jansson.h>

#include "base/hex.h"
#include "test.h"

struct bytes {
    uint8_t *ptr; /* Exact-size; free() it. */
    size_t len;
};

/* Gives one of the file's lists (vectors_close). */
static inline json_t *vectors_load_list(const char *file, const char *list) {
    char path[512];
    assert_true(snprintf(path, sizeof(path), "%s/%s", TEST_VECTORS, file) < (int)sizeof(path));
    json_error_t error = { 0 };
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL) {
        fail_msg("%s: %s", path, error.text);
    }
    json_t *cases = json_incref(json_object_get(root, list));
    assert_true(json_is_array(cases));
    json_decref(root);
    return cases;
}

static inline json_t *vectors_load(const char *file) {
    return vectors_load_list(file, "cases");
}

static inline void vectors_close(json_t *cases) {
    json_decref(cases);
}

static inline struct span vectors_text(const json_t *row, const char *field) {
    const json_t *value = json_object_get(row, field);
    assert_true(json_is_string(value));
    return (struct span){ (const uint8_t *)json_string_value(value), json_string_length(value) };
}

static inline struct bytes vectors_hex(const json_t *row, const char *field) {
    struct span text = vectors_text(row, field);
    size_t prefix_len = span_has_prefix(text, SPAN_LIT("0x")) ? 2 : 0;
    struct bytes out = { NULL, (text.len - prefix_len) / 2 };
    out.ptr = malloc(out.len == 0 ? 1 : out.len);
    assert_non_null(out.ptr);
    assert_ok(hex_decode(text, out.ptr, out.len));
    return out;
}

/* Checks every row of a file that has some. */
static inline void vectors_each(const char *file, void (*check_row)(const json_t *row)) {
    json_t *cases = vectors_load(file);
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        check_row(row);
    }
    assert_true(i > 0);
    vectors_close(cases);
}
