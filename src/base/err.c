/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define ERR_COUNT (sizeof(rows) / sizeof(rows[0]))

static const struct {
    const char *name;
    const char *text;
    enum err_class class;
} rows[] = {
#define ERR_ROW(name, class, text) { #name, text, ERR_##class },
    ERR_MAP(ERR_ROW)
#undef ERR_ROW
};

const char *err_name(enum err err) {
    ASSERT((size_t)err < ERR_COUNT);
    return rows[err].name;
}

const char *err_text(enum err err) {
    ASSERT((size_t)err < ERR_COUNT);
    return rows[err].text;
}

enum err_class err_class(enum err err) {
    ASSERT((size_t)err < ERR_COUNT);
    return rows[err].class;
}

void panic(const char *file, int line, const char *expr) {
    (void)fprintf(stderr, "nova-kms: internal error at %s:%d: %s\n", file, line, expr);
    abort();
}
