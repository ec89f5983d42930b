/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that came: one after the other, each in short sections under the store's lock. Opening and
 * merging the records of a large page takes as long as receiving them, so a thread of the pool does
 * it while the cluster's own receives the next page. */
#include <stdlib.h>

#include <utlist.h>

#include "base/log.h"
#include "crypto/random.h"
#include "node/cluster_internal.h"

#define MERGE_STEP_BYTES ((size_t)64 * 1024)
/* Of all pages that are merged or wait. At most four of each member are, and while the node starts
 * they are of one member; what is too much is asked for again later. */
#define PAGES_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* With so many waiting nothing is asked for ahead: it would have to be asked for again. */
#define AHEAD_BYTES_MAX (PAGES_BYTES_MAX / 2)

/* One page, with the memory of the message that it lends from. */
struct cluster_page {
    struct cluster_page *prev;
    struct cluster_page *next;
    struct cluster *cluster;
    struct wallet wallet;           /* Of the member it came from, which may be gone. */
    struct replica_arrival arrival; /* Lends page.page. */
    struct arena arena;
    size_t bytes; /* Of arena, with what is lent from it. */
    struct peer_page page;
    uv_work_t work;
};

static void page_free(struct cluster_page *p) {
    struct cluster *c = p->cluster;
    DL_DELETE(c->pages, p);
    c->page_bytes -= p->bytes;
    arena_close(&p->arena);
    free(p);
}

/* ---- In the pool ---- */

/* A dead record has no bytes to check: its stamp is believed to a member, as its place in the log
 * is. */
static bool is_forged(struct cluster *c, const struct store_remote *record) {
    const struct service_app_keys *keys = NULL;
    if (record->sealed.len == 0) {
        return false;
    }
    return record->app_id == 0 || record->sealed.len > c->scratch_bytes ||
           service_keys_get(c->keys, record->app_id, &keys).err != E_OK ||
           !service_seal_is_good(&keys->seal, record, c->scratch);
}

static void check_records(struct cluster *c, struct peer_page *page) {
    size_t used = 0;
    (void)pthread_mutex_lock(&c->keys_mutex);
    for (size_t i = 0; i < page->count; i++) {
        const struct store_remote *record = &page->records[i].remote;
        page->records[i].is_forged = is_forged(c, record);
        used = record->sealed.len > used ? record->sealed.len : used;
    }
    (void)pthread_mutex_unlock(&c->keys_mutex);
    secret_wipe(c->scratch, used < c->scratch_bytes ? used : c->scratch_bytes);
}

/* How many of the records one section merges. */
static size_t step_of(const struct peer_page *page, size_t from) {
    size_t count = 0;
    size_t bytes = 0;
    while (from + count < page->count && count < REPLICA_MERGE_STEP && bytes < MERGE_STEP_BYTES) {
        bytes += page->records[from + count].remote.sealed.len;
        count++;
    }
    return count;
}

static void merge(struct cluster_page *p) {
    struct cluster *c = p->cluster;
    struct peer_page *page = &p->page;
    const struct service_shared *shared = c->cfg.shared;
    bool goes_on = true;
    check_records(c, page);
    for (size_t at = 0, step = 0; at < page->count && goes_on; at += step) {
        step = step_of(page, at);
        const struct replica_records records = { &page->records[at], step };
        const struct replica_now now = cluster_now(c);
        struct store *store = service_kv_lock(shared->kv);
        goes_on = replica_merge(shared->replica, store, &p->arrival, &records, &now);
        service_kv_unlock(shared->kv, false);
    }
}

static void work_cb(uv_work_t *work) {
    merge(work->data);
}

/* ---- In the cluster's thread ---- */

void cluster_empty_store(struct store *store) {
    uint8_t writer[STORE_WRITER_BYTES];
    struct rc rc = random_bytes(writer, sizeof(writer));
    ASSERT(rc.err == E_OK);
    store_reset(store, writer);
}

static void begin_again(struct cluster *c, const struct wallet *wallet, const char *why) {
    const struct service_shared *shared = c->cfg.shared;
    char text[WALLET_TEXT_BYTES];
    LOG(WARN, "replication.reset", "peer=%s reason=\"%s\"", wallet_format(wallet, text), why);
    c->is_ready = false;
    (void)snprintf(c->reason, sizeof(c->reason), "the data is being fetched again");
    c->cfg.reason_cb(c->cfg.ctx, c->reason);
    const struct replica_now now = cluster_now(c);
    struct store *store = service_kv_lock(shared->kv);
    cluster_empty_store(store);
    replica_restart(shared->replica, &now);
    service_kv_unlock(shared->kv, true);
}

/* The next pages are asked for before this one is merged, so that the member reads them
 * meanwhile. */
static void ask_ahead(struct cluster_page *p) {
    struct cluster *c = p->cluster;
    struct replica_todo todo = { .kind = REPLICA_PULL };
    for (unsigned i = 0; i < REPLICA_AHEAD_COUNT_MAX && todo.kind == REPLICA_PULL &&
                         c->page_bytes <= AHEAD_BYTES_MAX;
         i++) {
        const struct replica_now now = cluster_now(c);
        (void)service_kv_lock(c->cfg.shared->kv);
        bool is_wanted = replica_ahead(c->cfg.shared->replica, &p->arrival, &now, &todo);
        service_kv_unlock(c->cfg.shared->kv, false);
        if (is_wanted) {
            cluster_pull(c, &todo);
        }
    }
}

/* Whether its records are to be merged. */
static bool begin(struct cluster_page *p) {
    struct cluster *c = p->cluster;
    const struct service_shared *shared = c->cfg.shared;
    char why[REPLICA_REASON_BYTES];
    char text[WALLET_TEXT_BYTES];
    const struct replica_now now = cluster_now(c);
    const struct store *store = service_kv_lock(shared->kv);
    enum replica_verdict verdict =
        replica_page_begin(shared->replica, store, &p->arrival, &now, why);
    service_kv_unlock(shared->kv, true); /* It may acknowledge something. */
    switch (verdict) {
    case REPLICA_TAKE:
        return true;
    case REPLICA_DROP:
        LOG_LIMITED(DEBUG, "replication.drop", "peer=%s reason=\"%s\"",
                    wallet_format(&p->wallet, text), why);
        return false;
    case REPLICA_RESET:
        begin_again(c, &p->wallet, why);
        return false;
    }
    return false;
}

static void end(struct cluster_page *p) {
    struct cluster *c = p->cluster;
    const struct service_shared *shared = c->cfg.shared;
    const struct replica_now now = cluster_now(c);
    struct store *store = service_kv_lock(shared->kv);
    replica_page_end(shared->replica, store, &p->arrival, &now);
    service_kv_unlock(shared->kv, true);
    page_free(p);
    cluster_soon(c);
}

static void work_off(struct cluster *c);

static void after_work_cb(uv_work_t *work, int status) {
    struct cluster_page *p = work->data;
    struct cluster *c = p->cluster;
    ASSERT(status == 0); /* Nobody cancels it. */
    c->is_merging = false;
    end(p);
    work_off(c);
}

/* True: it is under way in the pool. A small page is not worth the way there. */
static bool start_merge(struct cluster_page *p) {
    struct cluster *c = p->cluster;
    p->work.data = p;
    if (p->page.count > REPLICA_MERGE_STEP &&
        uv_queue_work(&c->loop, &p->work, work_cb, after_work_cb) == 0) {
        return true;
    }
    merge(p);
    end(p);
    return false;
}

/* Begins pages until one is under way. Those of one member came in the order in which they were
 * asked for: on its connection, each answer before the next. */
static void work_off(struct cluster *c) {
    while (c->pages != NULL && !c->is_merging) {
        struct cluster_page *p = c->pages;
        if (c->is_ending || !begin(p)) {
            page_free(p);
            continue;
        }
        ask_ahead(p);
        c->is_merging = start_merge(p);
    }
}

void cluster_take_page(struct peer *peer, uint32_t ticket, const Novakms__V1__PullResponse *in) {
    struct cluster *c = peer->cluster;
    struct cluster_page *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        cluster_pull_failed(c, ticket, false, err_text(E_NOMEM));
        return;
    }
    p->cluster = c;
    p->wallet = peer->wallet;
    p->arrival = (struct replica_arrival){ ticket, &p->page.page };
    net_channel_keep_answer(peer->channel, &p->arena);
    struct status status = { 0 };
    bool is_good = peer_page_in(in, &c->limits, &p->arena, &p->page, &status);
    p->bytes = p->arena.used_bytes;
    c->page_bytes += p->bytes;
    DL_APPEND(c->pages, p);
    if (!is_good) {
        cluster_pull_failed(c, ticket, false, status.text);
        page_free(p);
        return;
    }
    if (c->is_merging && c->page_bytes > PAGES_BYTES_MAX) {
        cluster_pull_failed(c, ticket, false, "too many pages came at once");
        page_free(p);
        return;
    }
    work_off(c);
}
