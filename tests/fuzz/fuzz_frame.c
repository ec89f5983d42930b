/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz.h"
#include "wire/frame.h"

#define FUZZ_FRAME_MAX 4096

/* A frame that was read can be written, and reads back the same: unknown fields are gone by
 * then. */
static void check_rewrite(const struct frame *frame) {
    static uint8_t buf[FUZZ_FRAME_MAX + 512];
    struct writer w = { buf, 0, sizeof(buf) };
    struct rc rc = frame_write(&w, &frame->header, frame->payload, FUZZ_FRAME_MAX);
    if (rc.err != E_OK) {
        ASSERT(rc.err == E_TOO_BIG);
        return;
    }
    struct frame again;
    struct reader r = { buf, w.len };
    const char *why = NULL;
    ASSERT(frame_read(&r, FUZZ_FRAME_MAX, &again, &why).err == E_OK);
    ASSERT(r.len == 0);
    ASSERT(again.header.which_kind == frame->header.which_kind);
    ASSERT(span_equal(again.payload, frame->payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reader in = { data, size };
    struct rc rc = OK;
    while (rc.err == E_OK) {
        struct frame frame;
        const char *why = NULL;
        size_t before = in.len;
        rc = frame_read(&in, FUZZ_FRAME_MAX, &frame, &why);
        ASSERT((why != NULL) == (rc.err != E_OK && rc.err != E_AGAIN));
        if (rc.err == E_OK) {
            ASSERT(in.len < before);
            check_rewrite(&frame);
        } else {
            ASSERT(in.len == before);
        }
        if (rc.err == E_AGAIN) {
            ASSERT(frame_missing((struct span){ in.ptr, in.len }) > 0);
        }
    }
    return 0;
}
