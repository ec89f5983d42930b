/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "crypto/eip1559.h"
#include "fuzz.h"

/* A transaction has one encoding: what is accepted is written again byte for byte. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct span raw = { data, size };
    struct eip1559_signed parsed;
    struct rc rc = eip1559_parse(raw, &parsed);
    if (rc.err != E_OK) {
        return 0;
    }
    uint8_t *again = malloc(size);
    ASSERT(again != NULL);
    struct writer w = { again, 0, size };
    rc = eip1559_encode(&parsed.tx, &parsed.signature, &w);
    ASSERT(rc.err == E_OK);
    ASSERT(span_equal(writer_span(&w), raw));
    free(again);
    return 0;
}
