/* SPDX-License-Identifier: Apache-2.0 */
/* Which boot of a member is alive. */
#include <string.h>

#include "replica/internal.h"

bool id_equal(const uint8_t a[static STORE_WRITER_BYTES],
              const uint8_t b[static STORE_WRITER_BYTES]) {
    return span_equal((struct span){ a, STORE_WRITER_BYTES },
                      (struct span){ b, STORE_WRITER_BYTES });
}

bool id_is_zero(const uint8_t id[static STORE_WRITER_BYTES]) {
    static const uint8_t zero[STORE_WRITER_BYTES];
    return id_equal(id, zero);
}

bool hash_equal(const uint8_t a[static REPLICA_HASH_BYTES],
                const uint8_t b[static REPLICA_HASH_BYTES]) {
    return span_equal((struct span){ a, REPLICA_HASH_BYTES },
                      (struct span){ b, REPLICA_HASH_BYTES });
}

bool boots_is_retired(const struct boots *b, const uint8_t id[static STORE_WRITER_BYTES]) {
    for (uint32_t i = 0; i < b->retired_count && i < RETIRED_COUNT_MAX; i++) {
        if (id_equal(b->retired[i], id)) {
            return true;
        }
    }
    return false;
}

static void retire(struct boots *b, const uint8_t id[static STORE_WRITER_BYTES]) {
    if (!id_is_zero(id) && !boots_is_retired(b, id)) {
        memcpy(b->retired[b->retired_count % RETIRED_COUNT_MAX], id, STORE_WRITER_BYTES);
        b->retired_count++;
    }
}

bool boots_hear(struct boots *b, const uint8_t id[static STORE_WRITER_BYTES], uint64_t *turn) {
    if (boots_is_retired(b, id)) {
        return false;
    }
    bool is_known = id_is_zero(id) || id_equal(b->present, id);
    for (uint32_t i = 0; i < b->heard_count && !is_known; i++) {
        is_known = id_equal(b->heard[i].incarnation, id);
    }
    if (is_known) {
        return true;
    }
    ++*turn;
    if (b->heard_count == HEARD_COUNT_MAX) {
        b->heard_count--; /* The oldest goes: the others keep the present one in doubt. */
        memmove(&b->heard[0], &b->heard[1], b->heard_count * sizeof(b->heard[0]));
    }
    struct heard *h = &b->heard[b->heard_count++];
    h->turn = *turn;
    memcpy(h->incarnation, id, STORE_WRITER_BYTES);
    return true;
}

bool boots_confirm(struct boots *b, const uint8_t id[static STORE_WRITER_BYTES], uint64_t turn,
                   uint64_t sent_ms) {
    bool is_other = !id_equal(b->present, id);
    if (is_other) {
        retire(b, b->present);
        memcpy(b->present, id, STORE_WRITER_BYTES);
    }
    b->present_ms = sent_ms;
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < b->heard_count; i++) {
        struct heard h = b->heard[i];
        if (id_equal(h.incarnation, id)) {
            continue;
        }
        if (h.turn < turn) {
            retire(b, h.incarnation);
        } else {
            b->heard[kept_count++] = h;
        }
    }
    b->heard_count = kept_count;
    return is_other;
}

bool boots_is_present(const struct boots *b, const uint8_t id[static STORE_WRITER_BYTES]) {
    return b->heard_count == 0 && !id_is_zero(id) && id_equal(b->present, id);
}

static size_t copy_one(const struct member *m, struct replica_heard *out, size_t room) {
    size_t count = 0;
    if (!id_is_zero(m->boots.present) && count < room) {
        out[count].wallet = m->wallet;
        memcpy(out[count++].incarnation, m->boots.present, STORE_WRITER_BYTES);
    }
    for (uint32_t i = 0; i < m->boots.heard_count && count < room; i++) {
        out[count].wallet = m->wallet;
        memcpy(out[count++].incarnation, m->boots.heard[i].incarnation, STORE_WRITER_BYTES);
    }
    return count;
}

size_t replica_heard_copy(const struct replica *r, struct replica_heard *out,
                          size_t heard_count_max) {
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        count += copy_one(&r->members[i], out + count, heard_count_max - count);
    }
    return count;
}

void boots_hear_all(struct replica *r, const struct replica_heard *heard, size_t heard_count) {
    for (size_t i = 0; i < heard_count; i++) {
        struct member *m = member_find(r, &heard[i].wallet);
        if (m != NULL) {
            bool can_live = boots_hear(&m->boots, heard[i].incarnation, &r->turn);
            (void)can_live; /* Known to be over: whoever told of it has not heard that yet. */
        }
    }
}
