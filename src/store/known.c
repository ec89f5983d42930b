/* SPDX-License-Identifier: Apache-2.0 */
/* The version vector as others see it: covers, copy, join, compact, and the floor's question. */
#include "store/state.h"

static bool id_is_zero(const uint8_t *id) {
    static const uint8_t zero[STORE_WRITER_BYTES];
    return span_equal((struct span){ id, STORE_WRITER_BYTES }, (struct span){ zero, sizeof(zero) });
}

bool store_covers(const struct store *s, const struct store_stamp *stamp) {
    return writers_known(&s->writers, writers_find(&s->writers, stamp->writer)) >= stamp->hlc;
}

bool store_known_covers(const struct store_known *known, const struct store_stamp *stamp) {
    if (stamp->hlc <= known->rest_hlc) {
        return true;
    }
    for (size_t i = 0; i < known->count; i++) {
        const struct store_known_entry *e = &known->entries[i];
        if (e->hlc >= stamp->hlc && span_equal((struct span){ e->writer, sizeof(e->writer) },
                                               (struct span){ stamp->writer, sizeof(e->writer) })) {
            return true;
        }
    }
    return false;
}

size_t store_known_count(const struct store *s) {
    return s->writers.listed_count;
}

size_t store_floor_count(const struct store *s) {
    size_t count = 0;
    for (uint32_t idx = 1; idx <= s->writers.used_count; idx++) {
        count += s->writers.at[idx].floor_hlc != 0 ? 1 : 0;
    }
    return count;
}

uint64_t store_floor_rise_count(const struct store *s) {
    return s->writers.floor_rise_count;
}

RC store_floor_copy(const struct store *s, struct store_known_entry *entries,
                    size_t entry_count_max, struct store_known *out) {
    const struct writers *w = &s->writers;
    *out = (struct store_known){ 0 };
    ENSURE(store_floor_count(s) <= entry_count_max, TOO_BIG);
    size_t count = 0;
    for (uint32_t idx = 1; idx <= w->used_count; idx++) {
        if (w->at[idx].floor_hlc != 0) {
            entries[count].hlc = w->at[idx].floor_hlc;
            memcpy(entries[count].writer, w->at[idx].id, STORE_WRITER_BYTES);
            count++;
        }
    }
    *out = (struct store_known){ entries, count, w->floor_rest_hlc };
    return OK;
}

RC store_known_copy(const struct store *s, struct store_known_entry *entries,
                    size_t entry_count_max, struct store_known *out) {
    const struct writers *w = &s->writers;
    *out = (struct store_known){ 0 };
    ENSURE(w->listed_count <= entry_count_max, TOO_BIG);
    size_t count = 0;
    for (uint32_t idx = 1; idx <= w->used_count; idx++) {
        if (w->at[idx].known_hlc != 0) {
            entries[count].hlc = w->at[idx].known_hlc;
            memcpy(entries[count].writer, w->at[idx].id, STORE_WRITER_BYTES);
            count++;
        }
    }
    *out = (struct store_known){ entries, count, w->rest_hlc };
    return OK;
}

const uint8_t *store_writer(const struct store *s) {
    return s->writers.at[s->writers.own_idx].id;
}

/* Checks an entry and adds 1 to *added when it needs a place of its own, being above rest_hlc. */
static RC check_entry(const struct store *s, const struct store_known_entry *e,
                      uint64_t now_unix_ms, uint64_t rest_hlc, size_t *added) {
    const struct writers *w = &s->writers;
    ENSURE(!id_is_zero(e->writer), INVALID);
    ENSURE(!store_hlc_is_future(e->hlc, now_unix_ms, s->cfg.clock_skew_ms), FUTURE);
    uint32_t idx = writers_find(w, e->writer);
    ENSURE(idx != w->own_idx || e->hlc <= s->last_hlc, INVALID);
    *added += idx == 0 && e->hlc > rest_hlc ? 1 : 0;
    return OK;
}

static RC check_vector(const struct store *s, const struct store_known *peer, uint64_t now_unix_ms,
                       uint64_t rest_hlc) {
    ENSURE(!store_hlc_is_future(peer->rest_hlc, now_unix_ms, s->cfg.clock_skew_ms), FUTURE);
    size_t added = 0;
    for (size_t i = 0; i < peer->count; i++) {
        TRY(check_entry(s, &peer->entries[i], now_unix_ms, rest_hlc, &added));
    }
    ENSURE(added <= s->writers.entry_count_max - s->writers.entry_count, QUOTA);
    return OK;
}

RC store_join_known(struct store *s, const struct store_known *peer, uint64_t now_unix_ms) {
    struct writers *w = &s->writers;
    TRY(check_vector(s, peer, now_unix_ms, w->rest_hlc));
    for (size_t i = 0; i < peer->count; i++) {
        const struct store_known_entry *e = &peer->entries[i];
        if (e->hlc > w->rest_hlc) {
            uint32_t idx = writers_take(w, e->writer);
            writers_raise_known(w, idx, e->hlc);
            writers_release(w, idx);
        }
    }
    writers_raise_rest(w, peer->rest_hlc);
    return OK;
}

RC store_join_floor(struct store *s, const struct store_known *peer, uint64_t now_unix_ms) {
    struct writers *w = &s->writers;
    TRY(check_vector(s, peer, now_unix_ms, w->floor_rest_hlc));
    for (size_t i = 0; i < peer->count; i++) {
        const struct store_known_entry *e = &peer->entries[i];
        if (e->hlc > w->floor_rest_hlc) {
            uint32_t idx = writers_take(w, e->writer);
            writers_raise_floor(w, idx, e->hlc);
            writers_release(w, idx);
        }
    }
    writers_raise_floor_rest(w, peer->rest_hlc);
    return OK;
}

RC store_compact_known(struct store *s, uint64_t hlc, uint64_t now_unix_ms) {
    uint64_t at_unix_ms = hlc >> STORE_HLC_LOGICAL_BITS;
    ENSURE(at_unix_ms < now_unix_ms && now_unix_ms - at_unix_ms >= s->cfg.tombstone_retention_ms,
           FUTURE);
    writers_raise_rest(&s->writers, hlc);
    return OK;
}

bool store_needs_reset(const struct store *s, const struct store_known *peer) {
    const struct writers *w = &s->writers;
    bool empty = peer->rest_hlc == 0;
    for (size_t i = 0; i < peer->count && empty; i++) {
        empty = peer->entries[i].hlc == 0;
    }
    if (empty) {
        return false;
    }
    if (peer->rest_hlc < w->floor_rest_hlc) {
        return true;
    }
    const uint64_t *known = writers_project(w, peer);
    for (uint32_t idx = 1; idx <= w->used_count; idx++) {
        if (known[idx] < w->at[idx].floor_hlc) {
            return true;
        }
    }
    return false;
}
