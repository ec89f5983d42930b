/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test needs: cmocka with its prerequisites, and exact-size copies. */
#pragma once

#include <setjmp.h> /* IWYU pragma: keep */
#include <stdarg.h> /* IWYU pragma: keep */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

#define assert_ok(expr) assert_int_equal((expr).err, E_OK)
#define assert_err(expr, name) assert_int_equal((expr).err, E_##name)

/* Exact-size heap copy, so that AddressSanitizer sees a one-byte overread. free() it. */
static inline uint8_t *test_dup(const void *in, size_t len) {
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    assert_non_null(copy);
    if (len > 0) {
        memcpy(copy, in, len);
    }
    return copy;
}

#define assert_err_equal(expr, want) assert_int_equal((expr).err, want)

/* Table-driven tests: one CMUnitTest for each row, named by the row, so that a failure names it. A
 * row is a struct whose first field is `const char *name`. */
#define TEST_ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))
#define TEST_ADD_ROWS(tests, count, function, rows)                                   \
    do {                                                                              \
        for (size_t i_ = 0; i_ < TEST_ROWS(rows); i_++) {                             \
            (tests)[(count)++] = (struct CMUnitTest){ .name = (rows)[i_].name,        \
                                                      .test_func = (function),        \
                                                      .initial_state = &(rows)[i_] }; \
        }                                                                             \
    } while (0)

/* Rows for the bounds of a configuration: one field of 32 bits is set to a value, and the error
 * that follows. */
struct test_cfg_row {
    const char *name;
    size_t offset;
    uint32_t value;
    enum err want;
};
#define TEST_CFG_ROW(type, field, value, want) \
    { #field "=" #value, offsetof(struct type, field), value, want }

static inline void test_cfg_set(void *cfg, const struct test_cfg_row *row) {
    memcpy((uint8_t *)cfg + row->offset, &row->value, sizeof(row->value));
}
