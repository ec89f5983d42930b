/* SPDX-License-Identifier: Apache-2.0 */
/* When and by whom a write was made: (hybrid logical clock, writer). Stamps are totally ordered,
 * and grow along causality: a write's stamp is greater than that of the record it replaces and than
 * any its caller has seen (docs/protocol.md, section 9). Pure, any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define STORE_WRITER_BYTES 16
/* The clock's low 16 bits count writes within a millisecond; a full count carries into the next. */
#define STORE_HLC_LOGICAL_BITS 16
/* Greatest time that 48 bits of milliseconds hold: the year 10889. */
#define STORE_UNIX_MS_MAX ((UINT64_C(1) << 48) - 1)

/* hlc 0 is no stamp at all; no write ever gets it. */
struct store_stamp {
    uint64_t hlc;                       /* Unix milliseconds << 16 | count. */
    uint8_t writer[STORE_WRITER_BYTES]; /* Random, new with each boot. */
};

#define STORE_STAMP_NONE ((struct store_stamp){ 0 })

static inline bool store_stamp_is_none(const struct store_stamp *s) {
    return s->hlc == 0;
}
static inline uint64_t store_stamp_unix_ms(const struct store_stamp *s) {
    return s->hlc >> STORE_HLC_LOGICAL_BITS;
}

/* Order by hlc, then by the writer's bytes: <0, 0, >0. No stamp is below every stamp. */
int store_stamp_compare(const struct store_stamp *a, const struct store_stamp *b);

/* Least clock value that is not before now_unix_ms and is greater than `after`. FUTURE, and *out
 * untouched, when it is more than skew_ms ahead of now: such a stamp would be refused by the peers.
 * INVALID when now_unix_ms is over STORE_UNIX_MS_MAX. */
RC store_hlc_next(uint64_t now_unix_ms, uint64_t after, uint64_t skew_ms, uint64_t *out);

/* Whether hlc's milliseconds are more than skew_ms ahead of now_unix_ms. */
bool store_hlc_is_future(uint64_t hlc, uint64_t now_unix_ms, uint64_t skew_ms);
