/* SPDX-License-Identifier: Apache-2.0 */
/* The store's life and its figures. */
#include "store/store.h"

#include <stdlib.h>

#include "store/state.h"

#define NAMESPACE_COUNT_MAX (1U << 24)
#define WRITER_COUNT_MIN 2
#define WRITER_COUNT_MAX (1U << 20)
/* Room to add the bounds to one another without a thought of overflow. */
#define BYTES_MAX (UINT64_C(1) << 48)

static bool is_zero(const uint8_t *bytes, size_t len) {
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

static RC check_cfg(const struct store_cfg *cfg) {
    ENSURE(!is_zero(cfg->writer, sizeof(cfg->writer)), BAD_CONFIG);
    ENSURE(cfg->app_bytes_max <= BYTES_MAX, BAD_CONFIG);
    ENSURE(cfg->hard_bytes_max <= BYTES_MAX, BAD_CONFIG);
    ENSURE(cfg->total_bytes_max <= cfg->hard_bytes_max, BAD_CONFIG);
    ENSURE(cfg->sealed_bytes_max >= 1, BAD_CONFIG);
    ENSURE(cfg->sealed_bytes_max <= UINT32_MAX, BAD_CONFIG);
    ENSURE(cfg->tombstone_count_max >= 1, BAD_CONFIG);
    ENSURE(cfg->tombstone_retention_ms <= STORE_UNIX_MS_MAX, BAD_CONFIG);
    ENSURE(cfg->clock_skew_ms <= STORE_UNIX_MS_MAX, BAD_CONFIG);
    ENSURE(cfg->namespace_count_max >= 1, BAD_CONFIG);
    ENSURE(cfg->namespace_count_max <= NAMESPACE_COUNT_MAX, BAD_CONFIG);
    ENSURE(cfg->writer_count_max >= WRITER_COUNT_MIN, BAD_CONFIG);
    ENSURE(cfg->writer_count_max <= WRITER_COUNT_MAX, BAD_CONFIG);
    return OK;
}

RC store_init(struct store **out, const struct store_cfg *cfg) {
    *out = NULL;
    TRY(check_cfg(cfg));
    AUTO(store_close) struct store *s = calloc(1, sizeof(*s));
    ENSURE(s != NULL, NOMEM);
    s->cfg = *cfg;
    s->app_key = siphash_key_from(cfg->hash_key);
    size_t bucket_count = 1;
    while (bucket_count < cfg->namespace_count_max) {
        bucket_count *= 2;
    }
    s->app_mask = bucket_count - 1;
    s->apps = calloc(bucket_count, sizeof(struct app *));
    ENSURE(s->apps != NULL, NOMEM);
    TRY(writers_init(&s->writers, cfg->writer_count_max, &s->app_key, cfg->writer));
    *out = s;
    s = NULL;
    return OK;
}

/* Frees all records and apps, and leaves the store as after store_init but for its counters. */
static void drop_all(struct store *s) {
    struct record *r = s->log.oldest;
    while (r != NULL) {
        struct record *newer = r->newer;
        r->app->table.record_count = 0;
        free(r->body);
        free(r);
        r = newer;
    }
    while (s->first_app != NULL) {
        app_drop_if_empty(s, s->first_app);
    }
    log_close(&s->log);
    s->expiring = NULL;
    s->dying = NULL;
    s->bytes = 0;
}

void store_close(struct store **store) {
    struct store *s = *store;
    if (s == NULL) {
        return;
    }
    drop_all(s);
    index_pool_close(&s->index_pool);
    writers_close(&s->writers);
    free(s->apps);
    free(s);
    *store = NULL;
}

void store_reset(struct store *s, const uint8_t writer[static STORE_WRITER_BYTES]) {
    ASSERT(!is_zero(writer, STORE_WRITER_BYTES));
    drop_all(s);
    writers_reset(&s->writers, writer);
}

static const char *const refusal_names[] = {
#define REFUSAL_NAME(name, text) text,
    STORE_REFUSAL_MAP(REFUSAL_NAME)
#undef REFUSAL_NAME
};

const char *store_refusal_name(enum store_refusal refusal) {
    ASSERT(refusal < STORE_REFUSAL_COUNT);
    return refusal_names[refusal];
}

static void add_app(struct store_stats *sum, const struct app *app) {
    sum->key_count += app->key_count;
    sum->tombstone_count += app->tombstone_count;
    sum->expired_count += app->expired_count;
    if (app->bytes > sum->app_bytes_peak) {
        sum->app_bytes_peak = app->bytes;
    }
}

void store_stats(const struct store *s, struct store_stats *out) {
    *out = (struct store_stats){ .namespace_count = s->app_count,
                                 .bytes = s->bytes,
                                 .writer_count = s->writers.entry_count,
                                 .conflict_count = s->conflict_count,
                                 .removed_count = s->removed_count };
    for (const struct app *app = s->first_app; app != NULL; app = app->next) {
        add_app(out, app);
    }
    memcpy(out->refused_counts, s->refused_counts, sizeof(out->refused_counts));
}

void store_app_stats(const struct store *s, uint64_t app_id, struct store_stats *out) {
    *out = (struct store_stats){ 0 };
    const struct app *app = app_find(s, app_id);
    if (app != NULL) {
        out->namespace_count = 1;
        out->bytes = app->bytes;
        add_app(out, app);
    }
}

size_t store_app_ids(const struct store *s, uint64_t *app_ids, size_t app_id_count_max) {
    size_t count = 0;
    for (const struct app *app = s->first_app; app != NULL && count < app_id_count_max;
         app = app->next) {
        app_ids[count++] = app->app_id;
    }
    return count;
}
