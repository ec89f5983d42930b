/* SPDX-License-Identifier: Apache-2.0 */
/* What a member has shown that it knows. A vector of one incarnation only grows, so of two the one
 * that covers the other is the later, in whatever order they came. */
#include <string.h>

#include "replica/internal.h"

void shown_clear(struct shown *shown) {
    vector_close(&shown->asked);
    vector_close(&shown->latest);
    vector_close(&shown->candidate);
    vector_close(&shown->settled);
    *shown = (struct shown){ 0 };
}

static void take_latest(struct shown *shown, struct vector *v, uint64_t now_ms) {
    if (shown->latest != NULL && vector_covers(shown->latest, v)) {
        return; /* Late, or a repair's empty one, or the same: that one was shown earlier. */
    }
    if (shown->latest != NULL && !vector_covers(v, shown->latest)) {
        return; /* Of no order: not what one incarnation shows. The first stays. */
    }
    vector_share(&shown->latest, v);
    shown->latest_ms = now_ms;
    if (shown->candidate == NULL) {
        vector_share(&shown->candidate, v);
        shown->candidate_ms = now_ms;
    }
}

RC shown_ask(struct shown *shown, const struct store_known *known) {
    AUTO(vector_close) struct vector *v = NULL;
    TRY(vector_init(&v, known));
    vector_share(&shown->asked, v);
    return OK;
}

void shown_acknowledge(struct shown *shown, const uint8_t by[static STORE_WRITER_BYTES],
                       uint64_t now_ms) {
    if (!id_equal(shown->by, by)) {
        struct vector *asked = shown->asked;
        shown->asked = NULL;
        shown_clear(shown);
        shown->asked = asked;
        memcpy(shown->by, by, STORE_WRITER_BYTES);
    }
    take_latest(shown, shown->asked, now_ms);
}

void shown_age(struct shown *shown, uint64_t settle_ms, uint64_t now_ms) {
    while (shown->candidate != NULL && now_ms - shown->candidate_ms >= settle_ms) {
        vector_share(&shown->settled, shown->candidate);
        vector_close(&shown->candidate);
        if (shown->latest != shown->settled) {
            vector_share(&shown->candidate, shown->latest);
            shown->candidate_ms = shown->latest_ms;
        }
    }
}
