/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void status_set(struct status *status, enum status_code code, const char *format, ...) {
    status->code = code;
    va_list args;
    va_start(args, format);
    int len = vsnprintf(status->text, sizeof(status->text), format, args);
    va_end(args);
    if (len >= (int)sizeof(status->text)) {
        static const char more[] = "...";
        memcpy(status->text + sizeof(status->text) - sizeof(more), more, sizeof(more));
    }
}

const char *status_name(uint32_t code) {
    static const char *const names[] = {
#define STATUS_NAME(name, value) [value] = &#name[sizeof("STATUS_") - 1],
        STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    };
    return code <= STATUS_CODE_MAX ? names[code] : names[STATUS_UNKNOWN];
}
