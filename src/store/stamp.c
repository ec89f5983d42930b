/* SPDX-License-Identifier: Apache-2.0 */
#include "store/stamp.h"

#include "base/bytes.h"

int store_stamp_compare(const struct store_stamp *a, const struct store_stamp *b) {
    if (a->hlc != b->hlc) {
        return a->hlc < b->hlc ? -1 : 1;
    }
    return span_compare((struct span){ a->writer, sizeof(a->writer) },
                        (struct span){ b->writer, sizeof(b->writer) });
}

bool store_hlc_is_future(uint64_t hlc, uint64_t now_unix_ms, uint64_t skew_ms) {
    uint64_t at_unix_ms = hlc >> STORE_HLC_LOGICAL_BITS;
    return at_unix_ms > now_unix_ms && at_unix_ms - now_unix_ms > skew_ms;
}

RC store_hlc_next(uint64_t now_unix_ms, uint64_t after, uint64_t skew_ms, uint64_t *out) {
    ENSURE(now_unix_ms <= STORE_UNIX_MS_MAX, INVALID);
    ENSURE(after < UINT64_MAX, FUTURE);
    uint64_t hlc = now_unix_ms << STORE_HLC_LOGICAL_BITS;
    if (hlc <= after) {
        hlc = after + 1;
    }
    ENSURE(!store_hlc_is_future(hlc, now_unix_ms, skew_ms), FUTURE);
    *out = hlc;
    return OK;
}
