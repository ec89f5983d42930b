/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "store/state.h"

/* Apps are hashed because their ids come from others; the two halves of an app's own key are hashes
 * of its id with these marks, which no app id of 8 bytes can equal. */
static uint64_t hash_app(const struct store *s, uint64_t app_id, uint8_t mark) {
    uint8_t in[9];
    memcpy(in, &app_id, sizeof(app_id));
    in[8] = mark;
    return siphash(&s->app_key, (struct span){ in, sizeof(in) });
}

static struct app **bucket_for(const struct store *s, uint64_t app_id) {
    return &s->apps[hash_app(s, app_id, 0) & s->app_mask];
}

struct app *app_find(const struct store *s, uint64_t app_id) {
    if (s->recent_app != NULL && s->recent_app->app_id == app_id) {
        return s->recent_app; /* As in a log, where many come in a row; spares the hash. */
    }
    struct app *app = *bucket_for(s, app_id);
    while (app != NULL && app->app_id != app_id) {
        app = app->chain;
    }
    return app;
}

RC app_open(struct store *s, uint64_t app_id, struct app **out) {
    *out = NULL;
    struct app *app = calloc(1, sizeof(*app));
    ENSURE(app != NULL, NOMEM);
    struct rc rc = table_init(&app->table);
    if (rc.err != E_OK) {
        free(app);
        return rc;
    }
    app->app_id = app_id;
    app->key = (struct siphash_key){ hash_app(s, app_id, 1), hash_app(s, app_id, 2) };
    struct app **bucket = bucket_for(s, app_id);
    app->chain = *bucket;
    *bucket = app;
    app->next = s->first_app;
    if (app->next != NULL) {
        app->next->prev = app;
    }
    s->first_app = app;
    s->app_count++;
    s->bytes += STORE_NAMESPACE_BYTES;
    *out = app;
    return OK;
}

void app_drop_if_empty(struct store *s, struct app *app) {
    if (app == NULL || app->table.record_count > 0) {
        return;
    }
    s->recent_app = s->recent_app == app ? NULL : s->recent_app;
    struct app **link = bucket_for(s, app->app_id);
    while (*link != app) {
        link = &(*link)->chain;
    }
    *link = app->chain;
    if (app->prev != NULL) {
        app->prev->next = app->next;
    } else {
        s->first_app = app->next;
    }
    if (app->next != NULL) {
        app->next->prev = app->prev;
    }
    s->app_count--;
    s->bytes -= STORE_NAMESPACE_BYTES;
    index_close(&app->index);
    table_close(&app->table);
    free(app);
}

uint64_t app_hash(const struct app *app, struct span key) {
    return siphash(&app->key, key);
}
