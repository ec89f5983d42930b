/* SPDX-License-Identifier: Apache-2.0 */
#include "service/keys.h"

#include <stdlib.h>

#define NONE UINT32_MAX

/* In locked memory. Links are indexes into the array. */
struct entry {
    struct service_app_keys keys;
    uint64_t app_id;
    bool in_use;
    uint32_t chain_next; /* In its bucket. */
    uint32_t newer;
    uint32_t older;
};

struct service_keys {
    const struct kdf_master *master;
    struct secret memory;
    struct entry *entries;
    uint32_t entry_count;
    uint32_t used_count;
    uint32_t newest;
    uint32_t oldest;
    uint32_t bucket_count; /* A power of two. */
    uint32_t *buckets;
};

static void reset_links(struct service_keys *keys) {
    keys->used_count = 0;
    keys->newest = NONE;
    keys->oldest = NONE;
    for (uint32_t i = 0; i < keys->bucket_count; i++) {
        keys->buckets[i] = NONE;
    }
}

RC service_keys_init(struct service_keys **out, const struct kdf_master *master,
                     uint32_t app_count) {
    *out = NULL;
    ENSURE(app_count >= 1, BAD_CONFIG);
    ENSURE(app_count <= SERVICE_KEYS_APP_COUNT_MAX, BAD_CONFIG);
    AUTO(service_keys_close) struct service_keys *keys = calloc(1, sizeof(*keys));
    ENSURE(keys != NULL, NOMEM);
    keys->master = master;
    keys->entry_count = app_count;
    keys->bucket_count = 1;
    while (keys->bucket_count < app_count) {
        keys->bucket_count *= 2;
    }
    keys->buckets = calloc(keys->bucket_count, sizeof(*keys->buckets));
    ENSURE(keys->buckets != NULL, NOMEM);
    TRY(secret_init(&keys->memory, app_count * sizeof(struct entry)));
    keys->entries = (struct entry *)(void *)keys->memory.ptr;
    reset_links(keys);
    *out = keys;
    keys = NULL;
    return OK;
}

static void close_entry(struct entry *entry) {
    if (entry->in_use) {
        kdf_app_close(&entry->keys.derive);
        xaes_key_close(&entry->keys.seal);
        entry->in_use = false;
    }
}

void service_keys_forget(struct service_keys *keys) {
    for (uint32_t i = 0; i < keys->used_count; i++) {
        close_entry(&keys->entries[i]);
    }
    reset_links(keys);
}

void service_keys_set_master(struct service_keys *keys, const struct kdf_master *master) {
    service_keys_forget(keys);
    keys->master = master;
}

void service_keys_close(struct service_keys **keys) {
    struct service_keys *k = *keys;
    if (k == NULL) {
        return;
    }
    if (k->entries != NULL) {
        service_keys_forget(k);
    }
    secret_close(&k->memory);
    free(k->buckets);
    free(k);
    *keys = NULL;
}

/* App ids are given out by the registry, one after the other: nobody chooses collisions. */
static uint32_t *bucket_of(struct service_keys *keys, uint64_t app_id) {
    return &keys->buckets[app_id & (keys->bucket_count - 1)];
}

static void unlink_entry(struct service_keys *keys, uint32_t idx) {
    struct entry *entry = &keys->entries[idx];
    *(entry->newer == NONE ? &keys->newest : &keys->entries[entry->newer].older) = entry->older;
    *(entry->older == NONE ? &keys->oldest : &keys->entries[entry->older].newer) = entry->newer;
}

static void link_newest(struct service_keys *keys, uint32_t idx) {
    struct entry *entry = &keys->entries[idx];
    entry->newer = NONE;
    entry->older = keys->newest;
    *(keys->newest == NONE ? &keys->oldest : &keys->entries[keys->newest].newer) = idx;
    keys->newest = idx;
}

static void unchain_entry(struct service_keys *keys, uint32_t idx) {
    uint32_t *link = bucket_of(keys, keys->entries[idx].app_id);
    while (*link != idx) {
        link = &keys->entries[*link].chain_next;
    }
    *link = keys->entries[idx].chain_next;
}

static RC fill_entry(struct service_keys *keys, struct entry *entry, uint64_t app_id) {
    uint8_t data_key[KDF_DATA_KEY_BYTES];
    TRY(kdf_app_init(&entry->keys.derive, keys->master, app_id));
    struct rc rc = kdf_data_key(&entry->keys.derive, data_key);
    if (rc.err == E_OK) {
        xaes_key_init(&entry->keys.seal, data_key);
    }
    secret_wipe(data_key, sizeof(data_key));
    if (rc.err != E_OK) {
        kdf_app_close(&entry->keys.derive);
        return rc;
    }
    entry->app_id = app_id;
    entry->in_use = true;
    return OK;
}

/* An entry that is in no list: a fresh one, or the one least recently used. */
static uint32_t take_entry(struct service_keys *keys) {
    if (keys->used_count < keys->entry_count) {
        return keys->used_count;
    }
    uint32_t idx = keys->oldest;
    unlink_entry(keys, idx);
    unchain_entry(keys, idx);
    close_entry(&keys->entries[idx]);
    return idx;
}

static RC add_entry(struct service_keys *keys, uint64_t app_id, uint32_t *out) {
    uint32_t idx = take_entry(keys);
    struct entry *entry = &keys->entries[idx];
    struct rc rc = fill_entry(keys, entry, app_id);
    if (rc.err != E_OK && idx < keys->used_count) {
        service_keys_forget(keys); /* The evicted entry left a hole; a full start is simplest. */
    }
    TRY(rc);
    if (idx == keys->used_count) {
        keys->used_count++;
    }
    uint32_t *bucket = bucket_of(keys, app_id);
    entry->chain_next = *bucket;
    *bucket = idx;
    link_newest(keys, idx);
    *out = idx;
    return OK;
}

RC service_keys_get(struct service_keys *keys, uint64_t app_id,
                    const struct service_app_keys **out) {
    ENSURE(keys->master != NULL, UNAVAILABLE);
    uint32_t idx = *bucket_of(keys, app_id);
    while (idx != NONE && keys->entries[idx].app_id != app_id) {
        idx = keys->entries[idx].chain_next;
    }
    if (idx == NONE) {
        TRY(add_entry(keys, app_id, &idx));
    } else if (idx != keys->newest) {
        unlink_entry(keys, idx);
        link_newest(keys, idx);
    }
    *out = &keys->entries[idx].keys;
    return OK;
}
