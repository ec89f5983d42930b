/* SPDX-License-Identifier: Apache-2.0 */
/* One record and what hangs on it. The header holds the key and stays where it is for as long as
 * the key is known, so that the table, the index and the log can point at it; the body is replaced
 * by every write. That makes two allocations, and an overwrite touches no neighbour but the log's.
 * Internal to the room. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "store/store.h"
#include "store/tree.h"

enum {
    RECORD_TOMBSTONE = 1,
    RECORD_EMPTIED = 2, /* An expired value whose bytes were freed. */
    RECORD_TIMED = 4,   /* The body starts with a struct timed. */
    RECORD_ANCHOR = 8,  /* The log's index points here. */
};

struct record {
    struct app *app;
    struct record *older; /* The log. */
    struct record *newer;
    uint64_t position;
    uint64_t replaced_hlc;
    uint32_t replaced_writer; /* 0 for none. */
    /* From here to the key is what a look-up reads: close together, for the sake of the cache. */
    uint32_t writer; /* An index into the writers. */
    uint64_t hlc;
    uint8_t *body;
    uint32_t sealed_len;
    uint16_t key_len;
    uint8_t flags;
    struct record *chain; /* In an overfull bucket of the table. */
    uint64_t hash;
    /* key_len bytes of key follow. */
};

/* The start of the body of a record that dies by itself: a tombstone, or a value with a ttl. */
struct timed {
    struct tree_node due; /* In the store's tree `expiring` or `dying`. */
    uint64_t due_unix_ms;
    uint64_t ttl_ms; /* 0 for a tombstone. */
    struct record *record;
    /* Sealed bytes follow. */
};

#define RECORD_BUCKET_BYTES 32 /* 2.5 to a bucket of 64 bytes, and the segments. */
#define RECORD_INDEX_BYTES 48  /* Where the index is at its emptiest. */
#define RECORD_MALLOC_BYTES 32 /* Headers and rounding, of the record and of its body. */
_Static_assert(sizeof(struct record) + sizeof(struct timed) + RECORD_BUCKET_BYTES +
                       RECORD_INDEX_BYTES + RECORD_MALLOC_BYTES <=
                   STORE_RECORD_BYTES,
               "quotas charge what a record costs");

static inline uint8_t *record_key_ptr(struct record *r) {
    return (uint8_t *)(r + 1);
}
static inline struct span record_key(const struct record *r) {
    return (struct span){ (const uint8_t *)(r + 1), r->key_len };
}
static inline struct timed *record_timed(const struct record *r) {
    return (void *)r->body;
}
static inline struct span record_sealed(const struct record *r) {
    size_t skip = (r->flags & RECORD_TIMED) != 0 ? sizeof(struct timed) : 0;
    return (struct span){ r->body + skip, r->sealed_len };
}
static inline struct timed *timed_of_due(const struct tree_node *node) {
    return (void *)((uintptr_t)node - offsetof(struct timed, due));
}
static inline uint64_t record_bytes(size_t key_len, size_t sealed_len) {
    return STORE_RECORD_BYTES + key_len + sealed_len;
}
static inline uint64_t record_unix_ms(const struct record *r) {
    return r->hlc >> STORE_HLC_LOGICAL_BITS;
}
static inline uint64_t record_ttl_ms(const struct record *r) {
    return (r->flags & RECORD_TIMED) != 0 ? record_timed(r)->ttl_ms : 0;
}
/* 48 bits of milliseconds and ten years cannot overflow. 0 when it never expires. */
static inline uint64_t record_expires_unix_ms(const struct record *r) {
    uint64_t ttl_ms = record_ttl_ms(r);
    return ttl_ms == 0 ? 0 : record_unix_ms(r) + ttl_ms;
}
static inline enum store_state record_state(const struct record *r, uint64_t now_unix_ms) {
    if ((r->flags & RECORD_TOMBSTONE) != 0) {
        return STORE_TOMBSTONE;
    }
    if ((r->flags & RECORD_EMPTIED) != 0) {
        return STORE_EXPIRED;
    }
    uint64_t expires_unix_ms = record_expires_unix_ms(r);
    return expires_unix_ms != 0 && now_unix_ms >= expires_unix_ms ? STORE_EXPIRED : STORE_LIVE;
}
