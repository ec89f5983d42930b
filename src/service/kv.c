/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/secret.h"

/* Up to this size the arena gives memory without a large allocation, so it is asked under the lock;
 * for more, the lock is left first. */
#define COPY_UNDER_LOCK_MAX 2048u
/* A value that changes its size between two looks, each time, is given its memory under the
 * lock. */
#define COPY_TRIES 3

struct service_kv {
    pthread_mutex_t mutex; /* Guards store, and nothing else. */
    struct store *store;
    struct store_cfg cfg;
    size_t listener_count; /* Fixed before threads start, as the array. */
    struct listener {
        void (*changed)(void *ctx);
        void *ctx;
    } listeners[SERVICE_KV_LISTENER_COUNT_MAX];
};

RC service_kv_init(struct service_kv **out, const struct store_cfg *cfg) {
    *out = NULL;
    struct service_kv *kv = calloc(1, sizeof(*kv));
    ENSURE(kv != NULL, NOMEM);
    struct rc rc = store_init(&kv->store, cfg);
    if (rc.err != E_OK) {
        free(kv);
        return rc;
    }
    kv->cfg = *cfg;
    /* Sections are far shorter than a system call: spin a little before sleeping. */
    pthread_mutexattr_t attr;
    ASSERT(pthread_mutexattr_init(&attr) == 0);
    ASSERT(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP) == 0);
    ASSERT(pthread_mutex_init(&kv->mutex, &attr) == 0);
    (void)pthread_mutexattr_destroy(&attr);
    *out = kv;
    return OK;
}

void service_kv_close(struct service_kv **kv) {
    if (*kv == NULL) {
        return;
    }
    store_close(&(*kv)->store);
    (void)pthread_mutex_destroy(&(*kv)->mutex);
    secret_wipe(&(*kv)->cfg, sizeof((*kv)->cfg));
    free(*kv);
    *kv = NULL;
}

static void lock(struct service_kv *kv) {
    (void)pthread_mutex_lock(&kv->mutex);
}

static void unlock(struct service_kv *kv) {
    (void)pthread_mutex_unlock(&kv->mutex);
}

static void tell_listeners(struct service_kv *kv) {
    for (size_t i = 0; i < kv->listener_count; i++) {
        kv->listeners[i].changed(kv->listeners[i].ctx);
    }
}

struct store *service_kv_lock(struct service_kv *kv) {
    lock(kv);
    return kv->store;
}

void service_kv_unlock(struct service_kv *kv, bool changed) {
    unlock(kv);
    if (changed) {
        tell_listeners(kv);
    }
}

RC service_kv_put(struct service_kv *kv, const struct store_write *w, struct store_written *out) {
    lock(kv);
    struct rc rc = store_put(kv->store, w, out);
    unlock(kv);
    tell_listeners(kv);
    return rc;
}

RC service_kv_delete(struct service_kv *kv, const struct store_write *w,
                     struct store_written *out) {
    lock(kv);
    struct rc rc = store_delete(kv->store, w, out);
    unlock(kv);
    tell_listeners(kv);
    return rc;
}

bool service_shown_is_known(const struct service_shown *shown, const struct store *store) {
    /* A caller's own write is mostly the greatest stamp too: one look then. */
    return store_covers(store, &shown->seen) &&
           (store_stamp_is_none(&shown->wrote) ||
            store_stamp_compare(&shown->wrote, &shown->seen) == 0 ||
            store_covers(store, &shown->wrote));
}

/* Under the lock. TOO_BIG when the value wants more than *room bytes: *room says how many. */
static RC copy_value(struct service_kv *kv, const struct service_kv_query *query,
                     struct arena *arena, size_t *room, struct service_kv_value *out) {
    ENSURE(service_shown_is_known(&query->shown, kv->store), AGAIN);
    struct store_record record = { 0 };
    struct rc rc = store_get(kv->store, query->app_id, query->key, query->now_unix_ms, &record);
    out->stamp = record.stamp;
    TRY(rc);
    size_t len = record.sealed.len;
    out->sealed_len = len;
    ENSURE(len <= query->sealed_bytes_max, QUOTA);
    if (len > *room) {
        *room = len;
        ENSURE(len <= COPY_UNDER_LOCK_MAX, TOO_BIG);
        out->sealed = arena_take(arena, len);
        ENSURE(out->sealed != NULL, NOMEM);
    }
    memcpy(out->sealed, record.sealed.ptr, len);
    out->expires_unix_ms = record.expires_unix_ms;
    return OK;
}

RC service_kv_get(struct service_kv *kv, const struct service_kv_query *query, struct arena *arena,
                  struct service_kv_value *out) {
    *out = (struct service_kv_value){ 0 };
    size_t room = 0;
    for (unsigned try = 0; try < COPY_TRIES; try++) {
        lock(kv);
        struct rc rc = copy_value(kv, query, arena, &room, out);
        unlock(kv);
        if (rc.err != E_TOO_BIG) {
            return rc;
        }
        out->sealed = arena_take(arena, room);
        ENSURE(out->sealed != NULL, NOMEM);
    }
    return ERR(NOMEM); /* It grew between any two looks: the arena has no room for such a race. */
}

static RC copy_bytes(struct arena *arena, struct span in, uint8_t **out) {
    *out = arena_take(arena, in.len);
    ENSURE(*out != NULL, NOMEM);
    return span_copy(in, *out, in.len);
}

/* Under the lock: one step of a list. */
static RC list_step(struct service_kv *kv, const struct service_kv_range *range,
                    struct arena *arena, struct service_kv_page *page) {
    struct store_record records[SERVICE_KV_LIST_STEP];
    uint32_t left = range->limit - page->count;
    const struct store_range step = {
        .app_id = range->app_id,
        .prefix = range->prefix,
        .after = page->more ? page->next_after : range->after,
        .now_unix_ms = range->now_unix_ms,
        .limit = left < SERVICE_KV_LIST_STEP ? left : SERVICE_KV_LIST_STEP,
    };
    struct store_page got = { 0 };
    ENSURE(service_shown_is_known(&range->shown, kv->store), AGAIN);
    TRY(store_list(kv->store, &step, records, &got));
    for (size_t i = 0; i < got.count; i++) {
        struct service_kv_entry *entry = &page->entries[page->count];
        TRY(copy_bytes(arena, records[i].key, &entry->key));
        entry->key_len = records[i].key.len;
        entry->sealed_len = records[i].sealed.len;
        entry->stamp = records[i].stamp;
        entry->expires_unix_ms = records[i].expires_unix_ms;
        page->count++;
    }
    page->more = got.more;
    if (got.more) {
        uint8_t *after = NULL;
        TRY(copy_bytes(arena, got.next_after, &after));
        page->next_after = (struct span){ after, got.next_after.len };
    }
    return OK;
}

RC service_kv_list(struct service_kv *kv, const struct service_kv_range *range, struct arena *arena,
                   struct service_kv_page *out) {
    *out = (struct service_kv_page){ 0 };
    out->entries = arena_take(arena, range->limit * sizeof(*out->entries));
    ENSURE(out->entries != NULL, NOMEM);
    for (unsigned i = 0; i < SERVICE_KV_LIST_STEPS_MAX; i++) {
        lock(kv);
        struct rc rc = list_step(kv, range, arena, out);
        unlock(kv);
        TRY(rc);
        if (!out->more || out->count == range->limit) {
            break;
        }
    }
    return OK;
}

bool service_kv_covers(struct service_kv *kv, const struct service_shown *shown) {
    if (store_stamp_is_none(service_shown_max(shown))) {
        return true;
    }
    lock(kv);
    bool covers = service_shown_is_known(shown, kv->store);
    unlock(kv);
    return covers;
}

RC service_kv_listen(struct service_kv *kv, void (*changed)(void *ctx), void *ctx) {
    ENSURE(kv->listener_count < SERVICE_KV_LISTENER_COUNT_MAX, QUOTA);
    kv->listeners[kv->listener_count] = (struct listener){ changed, ctx };
    kv->listener_count++;
    return OK;
}

void service_kv_stats(struct service_kv *kv, struct store_stats *out) {
    lock(kv);
    store_stats(kv->store, out);
    unlock(kv);
}

void service_kv_writer(struct service_kv *kv, uint8_t out[static STORE_WRITER_BYTES]) {
    lock(kv);
    memcpy(out, store_writer(kv->store), STORE_WRITER_BYTES);
    unlock(kv);
}

const struct store_cfg *service_kv_cfg(const struct service_kv *kv) {
    return &kv->cfg;
}
