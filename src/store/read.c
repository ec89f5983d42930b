/* SPDX-License-Identifier: Apache-2.0 */
/* What reads records: get, and pages of the change log. */
#include "store/state.h"

static struct store_stamp stamp_at(const struct store *s, uint64_t hlc, uint32_t writer) {
    struct store_stamp stamp = { .hlc = hlc };
    memcpy(stamp.writer, s->writers.at[writer].id, STORE_WRITER_BYTES);
    return stamp;
}

void record_show(const struct store *s, const struct record *r, uint64_t now_unix_ms,
                 struct store_record *out) {
    *out = (struct store_record){
        .app_id = r->app->app_id,
        .key = record_key(r),
        .sealed = record_sealed(r),
        .stamp = stamp_at(s, r->hlc, r->writer),
        .replaced = stamp_at(s, r->replaced_hlc, r->replaced_writer),
        .ttl_ms = record_ttl_ms(r),
        .expires_unix_ms = record_expires_unix_ms(r),
        .state = record_state(r, now_unix_ms),
    };
}

RC store_get(const struct store *s, uint64_t app_id, struct span key, uint64_t now_unix_ms,
             struct store_record *out) {
    *out = (struct store_record){ 0 };
    const struct app *app = app_find(s, app_id);
    ENSURE(app != NULL, NOT_FOUND);
    const struct record *r = table_find(&app->table, app_hash(app, key), key);
    ENSURE(r != NULL, NOT_FOUND);
    record_show(s, r, now_unix_ms, out);
    if (out->state != STORE_LIVE) {
        out->sealed = SPAN_EMPTY;
        return ERR(NOT_FOUND);
    }
    return OK;
}

RC store_log_read(struct store *s, const struct store_log_query *query, struct store_record *out,
                  struct store_log_page *page) {
    *page = (struct store_log_page){ .next = query->since };
    ENSURE(query->record_count_max > 0, INVALID);
    const uint64_t *known =
        query->known == NULL ? NULL : writers_project(&s->writers, query->known);
    uint64_t bytes = 0;
    size_t scanned_count = 0;
    const struct record *r = log_seek(&s->log, query->since);
    for (; r != NULL && scanned_count < STORE_LOG_SCAN_MAX; r = r->newer, scanned_count++) {
        if (known == NULL || known[r->writer] < r->hlc) {
            bytes += record_bytes(r->key_len, r->sealed_len);
            if (page->count == query->record_count_max ||
                (page->count > 0 && bytes > query->bytes_max)) {
                break;
            }
            record_show(s, r, 0, &out[page->count++]);
        }
        page->next = r->position;
    }
    page->more = r != NULL;
    if (!page->more && s->log.last_position > page->next) {
        page->next = s->log.last_position; /* The latest change may be a record collected since. */
    }
    return OK;
}

uint64_t store_log_last(const struct store *s) {
    return s->log.last_position;
}
