/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/err.h"
#include "base/json.h"
#include "fuzz.h"

#define FUZZ_TEXT_MAX 65536

/* What is accepted is written and read again: it must be the same value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[JSON_ERROR_BYTES];
    json_t *value = NULL;
    struct rc rc = json_parse((struct span){ data, size }, FUZZ_TEXT_MAX, &value, error);
    ASSERT((rc.err == E_OK) == (value != NULL));
    if (value == NULL) {
        return 0;
    }
    char *text = json_dumps(value, JSON_COMPACT);
    if (text != NULL) {
        json_t *again = NULL;
        rc = json_parse(span_str(text), SIZE_MAX, &again, error);
        ASSERT(rc.err == E_OK);
        ASSERT(json_equal(value, again) != 0);
        json_decref(again);
        free(text);
    }
    json_decref(value);
    return 0;
}
