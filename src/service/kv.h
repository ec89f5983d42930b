/* SPDX-License-Identifier: Apache-2.0 */
/* The node's one store behind one lock. A section under it is short and O(1) or O(log n): sealing,
 * opening and random bytes happen outside, and what is read is copied out. Any thread. */
#pragma once

#include "base/arena.h"
#include "store/store.h"

struct service_kv; /* Opaque. */

/* Keys and stamps that one section under the lock copies at most for a list. */
#define SERVICE_KV_LIST_STEP 64u
/* Sections that one list takes at most. */
#define SERVICE_KV_LIST_STEPS_MAX 32u
/* Listeners: two for each worker. */
#define SERVICE_KV_LISTENER_COUNT_MAX 16u

/* Gives *out, NULL on error. Copies cfg. What store_init returns; NOMEM. */
RC service_kv_init(struct service_kv **out, const struct store_cfg *cfg);
/* Takes *kv: frees, sets NULL. Accepts a closed one. No other thread uses it any more. */
void service_kv_close(struct service_kv **kv);

/* A section of the caller's own: lends the store until service_kv_unlock. What belongs to the
 * store, as the replica does, is guarded by the same lock. Short: at most 64 records or 64 KiB at a
 * time. */
struct store *service_kv_lock(struct service_kv *kv);
/* Ends it. changed: somebody may wait for what changed; listeners are told. */
void service_kv_unlock(struct service_kv *kv, bool changed);

/* store_put and store_delete. */
RC service_kv_put(struct service_kv *kv, const struct store_write *w, struct store_written *out);
RC service_kv_delete(struct service_kv *kv, const struct store_write *w, struct store_written *out);

/* What a caller shows of what it has done; each may be none. One stamp would not do for both: who
 * knows of the greatest may not have heard of the caller's own write, if that was made
 * elsewhere. */
struct service_shown {
    struct store_stamp seen;  /* The greatest that it has seen. */
    struct store_stamp wrote; /* That of its own latest write. */
};

/* Whether the store covers both. The caller holds the lock. */
bool service_shown_is_known(const struct service_shown *shown, const struct store *store);
/* The greater of the two. */
static inline const struct store_stamp *service_shown_max(const struct service_shown *shown) {
    return store_stamp_compare(&shown->wrote, &shown->seen) > 0 ? &shown->wrote : &shown->seen;
}

struct service_kv_query {
    uint64_t app_id;
    struct span key;
    uint64_t now_unix_ms;
    struct service_shown shown; /* The read must know of it. */
    size_t sealed_bytes_max;    /* A longer value is not copied. */
};

struct service_kv_value {
    uint8_t *sealed; /* In the arena; the caller may open it in place. */
    size_t sealed_len;
    struct store_stamp stamp; /* Of the value, or of what NOT_FOUND met; or none. */
    uint64_t expires_unix_ms;
};

/* Copies a live value into the arena. AGAIN when `shown` is not covered yet, NOT_FOUND,
 * QUOTA over sealed_bytes_max (sealed_len and stamp are set), NOMEM. */
RC service_kv_get(struct service_kv *kv, const struct service_kv_query *query, struct arena *arena,
                  struct service_kv_value *out);

struct service_kv_range {
    uint64_t app_id;
    struct span prefix;
    struct span after;
    uint64_t now_unix_ms;
    uint32_t limit;
    struct service_shown shown;
};

struct service_kv_entry {
    uint8_t *key; /* In the arena. */
    size_t key_len;
    size_t sealed_len;
    struct store_stamp stamp;
    uint64_t expires_unix_ms;
};

struct service_kv_page {
    struct service_kv_entry *entries; /* In the arena, in key order. */
    uint32_t count;
    bool more;              /* Ask again with after = next_after; a page may be short. */
    struct span next_after; /* In the arena. */
};

/* Copies one page of live keys into the arena. AGAIN when `shown` is not covered yet, INVALID as
 * store_list, NOMEM. */
RC service_kv_list(struct service_kv *kv, const struct service_kv_range *range, struct arena *arena,
                   struct service_kv_page *out);

/* Whether this node knows of what the caller shows. */
bool service_kv_covers(struct service_kv *kv, const struct service_shown *shown);

/* changed(ctx) runs after what the store knows may have grown, on the thread that made it grow and
 * outside the lock: it must only signal, and be quick when nobody waits. Listeners are added before
 * threads start. QUOTA over SERVICE_KV_LISTENER_COUNT_MAX. */
RC service_kv_listen(struct service_kv *kv, void (*changed)(void *ctx), void *ctx);

void service_kv_stats(struct service_kv *kv, struct store_stats *out);
/* Copies our writer's id. */
void service_kv_writer(struct service_kv *kv, uint8_t out[static STORE_WRITER_BYTES]);
/* Lends the limits the store was made with. */
const struct store_cfg *service_kv_cfg(const struct service_kv *kv);
