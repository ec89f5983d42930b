/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's thread: its loop, what other threads give it, and what it tells the node. */
#include "node/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/random.h"
#include "node/cluster_internal.h"

#define BUFFER_BYTES_MAX ((size_t)128 * 1024 * 1024)
#define MESSAGE_BYTES_MAX ((size_t)32 * 1024 * 1024)
#define KEYS_APP_COUNT 256u
#define LOOK_MS_MAX 1000u /* It looks this often at least. */
/* The member reads the chain for it, and its Odyn seals. */
#define FETCH_TIMEOUT_MS 15000u
#define SNAPSHOT_WAIT_MS 5000u
#define SNAPSHOT_LOOK_MS 10u

struct replica_now cluster_now(const struct cluster *c) {
    struct replica_now now = { .mono_ms = clock_mono_ms() };
    now.unix_ms = service_clock_unix_ms(c->cfg.shared->clock, now.mono_ms);
    struct rc rc = random_bytes((uint8_t *)&now.random, sizeof(now.random));
    ASSERT(rc.err == E_OK);
    return now;
}

void cluster_plain(const char *text, char *out, size_t out_bytes) {
    size_t len = 0;
    for (; len < out_bytes - 1 && text[len] != '\0'; len++) {
        out[len] = '?';
        if (text[len] >= ' ' && text[len] <= '~') {
            out[len] = text[len];
        }
    }
    out[len] = '\0';
}

/* ---- What the node is told ---- */

/* Each is a promise not kept: acknowledged writes that only the missing members held may be
 * gone. */
static void log_durability_reset(struct cluster *c) {
    struct replica_stats stats;
    (void)service_kv_lock(c->cfg.shared->kv);
    replica_stats(c->cfg.shared->replica, &stats);
    service_kv_unlock(c->cfg.shared->kv, false);
    if (stats.durability_reset_count > c->durability_reset_count) {
        LOG(WARN, "replication.durability_reset",
            "count=%" PRIu64 " reason=\"in service without the data of enough other members\" "
            "reachable=%u others=%u",
            stats.durability_reset_count, stats.reachable_count, stats.other_count);
    }
    c->durability_reset_count = stats.durability_reset_count;
}

/* The data came, and how fast. */
static void log_snapshot(struct cluster *c, bool is_complete) {
    if (is_complete && !c->is_complete && c->snapshot_at_us != 0) {
        struct replica_stats stats;
        (void)service_kv_lock(c->cfg.shared->kv);
        replica_stats(c->cfg.shared->replica, &stats);
        service_kv_unlock(c->cfg.shared->kv, false);
        LOG(INFO, "replication.snapshot", "records=%" PRIu64 " received=%" PRIu64 " us=%" PRIu64,
            stats.applied_count - c->snapshot_applied_count,
            stats.record_count - c->snapshot_record_count, clock_mono_us() - c->snapshot_at_us);
        c->snapshot_at_us = 0;
    }
    c->is_complete = is_complete;
}

static void tell_node(struct cluster *c) {
    char why[REPLICA_REASON_BYTES] = "";
    char reason[REPLICA_REASON_BYTES] = "";
    const struct replica_now now = cluster_now(c);
    const struct replica *replica = c->cfg.shared->replica;
    (void)service_kv_lock(c->cfg.shared->kv);
    bool is_complete = replica_in_service(replica, why);
    bool is_ready = is_complete && replica_is_level(replica, &now, why);
    service_kv_unlock(c->cfg.shared->kv, false);
    if (!is_ready) {
        (void)snprintf(reason, sizeof(reason), "%s: %.150s",
                       is_complete ? "the node is not level with the other members"
                                   : "the other members' data is not complete",
                       why);
    }
    log_snapshot(c, is_complete);
    if (is_ready == c->is_ready && strcmp(reason, c->reason) == 0) {
        return;
    }
    c->is_ready = is_ready;
    memcpy(c->reason, reason, sizeof(c->reason));
    c->cfg.reason_cb(c->cfg.ctx, is_ready ? NULL : reason);
    log_durability_reset(c);
}

/* One line an interval at most, and only when something happened. */
static void log_summary(struct cluster *c) {
    uint64_t now_ms = clock_mono_ms();
    if (now_ms - c->logged_at_ms < c->cfg.config->data_sync_interval_s * 1000) {
        return;
    }
    struct replica_stats stats;
    (void)service_kv_lock(c->cfg.shared->kv);
    replica_stats(c->cfg.shared->replica, &stats);
    service_kv_unlock(c->cfg.shared->kv, false);
    const struct replica_stats *last = &c->logged;
    if (stats.other_count > 0 && (stats.applied_count != last->applied_count ||
                                  stats.pull_failed_count != last->pull_failed_count ||
                                  stats.reachable_count != last->reachable_count)) {
        LOG(INFO, "replication.summary",
            "%u/%u members pulled records=%" PRIu64 " applied=%" PRIu64 " bytes=%" PRIu64
            " failed_pulls=%" PRIu64,
            stats.reachable_count, stats.other_count, stats.record_count - last->record_count,
            stats.applied_count - last->applied_count, stats.byte_count - last->byte_count,
            stats.pull_failed_count - last->pull_failed_count);
    }
    c->logged = stats;
    c->logged_at_ms = now_ms;
}

/* ---- The loop ---- */

static void timer_cb(uv_timer_t *timer) {
    struct cluster *c = timer->data;
    if (c->is_ending) {
        return;
    }
    uint64_t at_ms = cluster_pump(c);
    cluster_drop_peers(c, false);
    tell_node(c);
    log_summary(c);
    uint64_t now_ms = clock_mono_ms();
    uint64_t wait_ms = at_ms > now_ms ? at_ms - now_ms : 0;
    uv_update_time(&c->loop);
    (void)uv_timer_start(timer, timer_cb, wait_ms < LOOK_MS_MAX ? wait_ms : LOOK_MS_MAX, 0);
}

void cluster_soon(struct cluster *c) {
    if (!c->is_ending) {
        (void)uv_timer_start(&c->timer, timer_cb, 0, 0);
    }
}

/* What other threads have left here. */
struct mail {
    struct registry_members *members;
    struct wallet self;
    struct tls_config *tls;
    struct cluster_job *jobs;
    bool is_cancelled;
    bool is_closing;
};

static void take_mail(struct cluster *c, struct mail *mail) {
    (void)pthread_mutex_lock(&c->mutex);
    *mail = (struct mail){ .members = c->new_members,
                           .self = c->new_self,
                           .tls = c->new_tls,
                           .jobs = c->jobs,
                           .is_cancelled = c->is_cancelled,
                           .is_closing = c->is_closing };
    c->new_members = NULL;
    c->new_tls = NULL;
    c->jobs = NULL;
    (void)pthread_mutex_unlock(&c->mutex);
}

static void begin_end(struct cluster *c) {
    if (!c->is_ending) {
        c->is_ending = true;
        (void)uv_timer_stop(&c->timer);
        cluster_drop_peers(c, true);
        if (c->peer_count == 0) {
            cluster_peers_gone(c);
        }
    }
}

static void woken_cb(uv_async_t *async) {
    struct cluster *c = async->data;
    struct mail mail;
    take_mail(c, &mail);
    if (mail.tls != NULL) {
        cluster_take_tls(c, mail.tls);
    }
    if (mail.members != NULL) {
        cluster_take_members(c, &mail.self, mail.members);
        free(mail.members);
    }
    for (struct cluster_job *job = mail.jobs, *next = NULL; job != NULL; job = next) {
        next = job->next;
        job->start(c, job);
    }
    if (mail.is_closing) {
        begin_end(c);
    } else if (mail.is_cancelled) {
        cluster_drop_peers(c, true);
    } else {
        cluster_soon(c);
    }
}

static void on_io_closed(void *ctx) {
    struct cluster *c = ctx;
    uv_close((uv_handle_t *)&c->woken, NULL);
    uv_close((uv_handle_t *)&c->timer, NULL);
}

/* One turn after the last connection is gone, as net_io_close asks. */
static void last_turn_cb(uv_timer_t *timer) {
    struct cluster *c = timer->data;
    net_io_close(c->io, on_io_closed, c);
}

void cluster_peers_gone(struct cluster *c) {
    if (c->is_ending) {
        (void)uv_timer_start(&c->timer, last_turn_cb, 0, 0);
    }
}

static void *thread_main(void *arg) {
    struct cluster *c = arg;
    (void)uv_run(&c->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- Jobs ---- */

void cluster_job_done(struct cluster *c, struct cluster_job *job) {
    (void)pthread_mutex_lock(&c->mutex);
    job->is_done = true;
    (void)pthread_cond_broadcast(&c->changed);
    (void)pthread_mutex_unlock(&c->mutex);
}

static void locked_run(struct cluster *c, struct cluster_job *job) {
    struct cluster_job **at = &c->jobs;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    job->next = NULL;
    *at = job;
    (void)uv_async_send(&c->woken);
    while (!job->is_done) {
        (void)pthread_cond_wait(&c->changed, &c->mutex);
    }
}

bool cluster_job_run(struct cluster *c, struct cluster_job *job) {
    (void)pthread_mutex_lock(&c->mutex);
    bool may_start = !c->is_cancelled;
    if (may_start) {
        locked_run(c, job);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return may_start;
}

struct adoption {
    struct cluster_job job; /* First. */
    const struct cluster_secret *secret;
};

/* All in one section: no message is made or judged between the old state and the new. */
static void adopt(struct cluster *c, struct cluster_job *job) {
    const struct cluster_secret *secret = ((const struct adoption *)(const void *)job)->secret;
    const struct service_shared *shared = c->cfg.shared;
    (void)pthread_mutex_lock(&c->keys_mutex);
    service_keys_set_master(c->keys, secret->master);
    (void)pthread_mutex_unlock(&c->keys_mutex);
    struct store *store = service_kv_lock(shared->kv);
    if (secret->is_replaced) {
        cluster_empty_store(store);
    }
    replica_set_secret(shared->replica, secret->master->hash, secret->is_new);
    service_kv_unlock(shared->kv, true);
    tell_node(c);
    cluster_job_done(c, job);
}

void cluster_adopt(struct cluster *c, const struct cluster_secret *secret) {
    struct adoption adoption = { .job.start = adopt, .secret = secret };
    (void)pthread_mutex_lock(&c->mutex);
    locked_run(c, &adoption.job);
    (void)pthread_mutex_unlock(&c->mutex);
}

/* ---- What other threads give ---- */

void cluster_set_members(struct cluster *c, const struct wallet *self,
                         const struct registry_members *members) {
    struct registry_members *copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        return; /* It is read again soon. */
    }
    *copy = *members;
    (void)pthread_mutex_lock(&c->mutex);
    free(c->new_members);
    c->new_members = copy;
    c->new_self = *self;
    (void)pthread_mutex_unlock(&c->mutex);
    (void)uv_async_send(&c->woken);
}

void cluster_set_tls(struct cluster *c, struct tls_config *tls) {
    (void)pthread_mutex_lock(&c->mutex);
    tls_config_close(&c->new_tls);
    c->new_tls = tls_config_ref(tls);
    (void)pthread_mutex_unlock(&c->mutex);
    (void)uv_async_send(&c->woken);
}

void cluster_wake(struct cluster *c) {
    (void)uv_async_send(&c->woken);
}

void cluster_cancel(struct cluster *c) {
    (void)pthread_mutex_lock(&c->mutex);
    c->is_cancelled = true;
    if (c->odyn != NULL) {
        identity_odyn_cancel(c->odyn);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    (void)uv_async_send(&c->woken);
}

void cluster_stats(struct cluster *c, struct cluster_stats *out) {
    (void)pthread_mutex_lock(&c->mutex);
    *out = c->stats;
    (void)pthread_mutex_unlock(&c->mutex);
}

/* ---- All data ---- */

/* It comes by itself; this waits until it is here, a while each time that it is asked. */
static RC snapshot(void *ctx, const struct registry_members *members,
                   char reason[static REGISTRY_REASON_BYTES]) {
    struct cluster *c = ctx;
    (void)members; /* The replica has its own list. */
    uint64_t until_ms = clock_mono_ms() + SNAPSHOT_WAIT_MS;
    for (;;) {
        char why[REPLICA_REASON_BYTES] = "";
        (void)service_kv_lock(c->cfg.shared->kv);
        bool is_complete = replica_in_service(c->cfg.shared->replica, why);
        service_kv_unlock(c->cfg.shared->kv, false);
        (void)pthread_mutex_lock(&c->mutex);
        bool is_cancelled = c->is_cancelled;
        (void)pthread_mutex_unlock(&c->mutex);
        if (is_complete) {
            return OK;
        }
        if (is_cancelled || clock_mono_ms() >= until_ms) {
            (void)snprintf(reason, REGISTRY_REASON_BYTES, "%.190s", why);
            return ERR(UNAVAILABLE);
        }
        uv_sleep(SNAPSHOT_LOOK_MS);
    }
}

const struct node_peers *cluster_peers(const struct cluster *c) {
    return &c->node_peers;
}

/* ---- Life ---- */

static RC init_loop(struct cluster *c) {
    ENSURE(uv_loop_init(&c->loop) == 0, NOMEM);
    ASSERT(uv_timer_init(&c->loop, &c->timer) == 0);
    c->timer.data = c;
    c->woken.data = c;
    bool has_async = uv_async_init(&c->loop, &c->woken, woken_cb) == 0;
    struct rc rc = has_async ? net_io_init(&c->io, &c->loop, &c->budget) : ERR(NOMEM);
    if (rc.err != E_OK) {
        uv_close((uv_handle_t *)&c->timer, NULL);
        if (has_async) {
            uv_close((uv_handle_t *)&c->woken, NULL);
        }
        (void)uv_run(&c->loop, UV_RUN_DEFAULT);
        ASSERT(uv_loop_close(&c->loop) == 0);
    }
    return rc;
}

static void free_cluster(struct cluster *c) {
    service_keys_close(&c->keys);
    tls_config_close(&c->tls);
    tls_config_close(&c->new_tls);
    arena_close(&c->in);
    arena_close(&c->out);
    if (c->scratch != NULL) {
        secret_wipe(c->scratch, c->scratch_bytes);
        free(c->scratch);
    }
    free(c->new_members);
    (void)pthread_cond_destroy(&c->changed);
    (void)pthread_mutex_destroy(&c->mutex);
    (void)pthread_mutex_destroy(&c->keys_mutex);
    free(c);
}

static RC start(struct cluster *c) {
    const struct service_shared *shared = c->cfg.shared;
    c->scratch_bytes = shared->value_bytes_max + SERVICE_SEAL_BYTES;
    c->scratch = malloc(c->scratch_bytes);
    ENSURE(c->scratch != NULL, NOMEM);
    TRY(service_keys_init(&c->keys, shared->master, KEYS_APP_COUNT));
    TRY(init_loop(c));
    if (pthread_create(&c->thread, NULL, thread_main, c) == 0) {
        return OK;
    }
    begin_end(c);
    (void)uv_run(&c->loop, UV_RUN_DEFAULT);
    ASSERT(uv_loop_close(&c->loop) == 0);
    return ERR(NOMEM);
}

RC cluster_init(struct cluster **out, const struct cluster_cfg *cfg) {
    *out = NULL;
    struct cluster *c = calloc(1, sizeof(*c));
    ENSURE(c != NULL, NOMEM);
    c->cfg = *cfg;
    c->cfg.fetch_timeout_ms = cfg->fetch_timeout_ms == 0 ? FETCH_TIMEOUT_MS : cfg->fetch_timeout_ms;
    c->node_peers = (struct node_peers){
        .ctx = c, .ask = cluster_ask, .fetch = cluster_fetch, .snapshot = snapshot
    };
    c->limits = peer_limits_of(service_kv_cfg(cfg->shared->kv), PEER_PAGE_BYTES_MAX);
    c->budget.bytes_max = BUFFER_BYTES_MAX;
    arena_init(&c->in, MESSAGE_BYTES_MAX);
    arena_init(&c->out, MESSAGE_BYTES_MAX);
    ASSERT(pthread_mutex_init(&c->mutex, NULL) == 0);
    ASSERT(pthread_mutex_init(&c->keys_mutex, NULL) == 0);
    ASSERT(pthread_cond_init(&c->changed, NULL) == 0);
    struct rc rc = start(c);
    if (rc.err != E_OK) {
        free_cluster(c);
        return rc;
    }
    *out = c;
    return OK;
}

void cluster_close(struct cluster **cluster) {
    struct cluster *c = *cluster;
    if (c == NULL) {
        return;
    }
    cluster_cancel(c);
    (void)pthread_mutex_lock(&c->mutex);
    c->is_closing = true;
    (void)pthread_mutex_unlock(&c->mutex);
    (void)uv_async_send(&c->woken);
    (void)pthread_join(c->thread, NULL);
    ASSERT(uv_loop_close(&c->loop) == 0);
    free_cluster(c);
    *cluster = NULL;
}
