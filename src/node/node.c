/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/random.h"
#include "node/internal.h"

#define WRITER_COUNT_MAX REPLICA_KNOWN_COUNT_MAX
#define NAMESPACE_COUNT_MAX 65536u
#define REGISTRY_QUEUE_COUNT_MAX 8192u
#define REGISTRY_FAILURE_HOLD_MS 1000u
#define POLL_MS_MAX 25000u
#define PULL_MARGIN_MS 10000u
#define PULL_BACKOFF_MIN_MS 100u
#define PULL_BACKOFF_MAX_MS 3000u
/* Blocks behind most others at which a node does not serve. They read the head every
 * REGISTRY_REFRESH_SECONDS, and call a head unreadable after HEAD_STALL_SECONDS. */
#define HEAD_LAG_MAX 120u
/* How long a node that stops waits for the others to have its writes; at most half of
 * DRAIN_TIMEOUT_SECONDS. */
#define HAND_OVER_MS_MAX 5000u
#define HAND_OVER_LOOK_MS 20u
/* Replication may exceed the quotas by this much before the node leaves service. */
#define HARD_BYTES_FACTOR 2u

/* ---- Making the parts ---- */

static RC make_store(struct node *node) {
    const struct node_config *config = node->cfg->config;
    struct store_cfg cfg = {
        .app_bytes_max = config->app_bytes_max,
        .total_bytes_max = config->store_bytes_max,
        .hard_bytes_max = config->store_bytes_max * HARD_BYTES_FACTOR,
        .sealed_bytes_max = config->value_bytes_max + SERVICE_SEAL_BYTES,
        .tombstone_count_max = config->tombstones_per_app_max,
        .tombstone_retention_ms = config->tombstone_retention_ms,
        .clock_skew_ms = config->clock_skew_max_ms,
        .namespace_count_max = NAMESPACE_COUNT_MAX,
        .writer_count_max = WRITER_COUNT_MAX,
    };
    TRY(random_bytes(cfg.hash_key, sizeof(cfg.hash_key)));
    TRY(random_bytes(cfg.writer, sizeof(cfg.writer)));
    struct rc rc = service_kv_init(&node->kv, &cfg);
    secret_wipe(&cfg, sizeof(cfg));
    return rc;
}

static RC make_replica(struct node *node) {
    const struct node_config *config = node->cfg->config;
    uint64_t interval_ms = config->data_sync_interval_s * 1000;
    uint64_t wait_ms = interval_ms < POLL_MS_MAX ? interval_ms : POLL_MS_MAX;
    uint64_t page_bytes = config->sync_payload_bytes_max;
    const struct replica_cfg cfg = {
        .interval_ms = (uint32_t)interval_ms,
        .wait_ms = (uint32_t)wait_ms,
        .page_bytes_max =
            (uint32_t)(page_bytes < PEER_PAGE_BYTES_MAX ? page_bytes : PEER_PAGE_BYTES_MAX),
        .backoff_min_ms = PULL_BACKOFF_MIN_MS,
        .backoff_max_ms = PULL_BACKOFF_MAX_MS,
        .settle_ms = (uint32_t)(config->registry_cache_ttl_s * 1000 + wait_ms + PULL_MARGIN_MS),
        .start_wait_ms = (uint32_t)config->start_wait_s * 1000,
        .clock_skew_ms = (uint32_t)config->clock_skew_max_ms,
        .head_lag_max = HEAD_LAG_MAX,
        .compact_after_ms = config->tombstone_retention_ms + config->clock_skew_max_ms,
        .members_age_max_ms =
            node->cfg->is_on_chain ? (uint32_t)config->registry_cache_ttl_s * 1000 : 0,
    };
    return replica_init(&node->replica, &cfg);
}

/* A node of its own has no other member: it has all data from the beginning. */
static RC be_alone(struct node *node) {
    const struct replica_now now = { .mono_ms = clock_mono_ms(), .unix_ms = node_unix_ms(node) };
    const struct replica_member self = { .wallet = node->wallet,
                                         .url = node->cfg->config->node_url };
    (void)service_kv_lock(node->kv);
    replica_set_secret(node->replica, node->masters[0].hash, true);
    struct rc rc = replica_set_members(node->replica, &self, NULL, 0, &now);
    service_kv_unlock(node->kv, false);
    return rc;
}

static RC make_status(struct node *node) {
    const struct node_config *config = node->cfg->config;
    struct service_status_cfg cfg = {
        .readiness = &node->readiness,
        .kv = node->kv,
        .version = node->cfg->version,
        .url = config->node_url,
        .wallet = node->wallet,
        .chain_id = config->chain_id,
        .kms_app_id = config->kms_app_id,
        .started_at_ms = node->started_at_ms,
        .clock = &node->clock,
        .tls_lifetime_s = config->tls_lifetime_s,
    };
    memcpy(cfg.master_hash, node->masters[0].hash, sizeof(cfg.master_hash));
    TRY(service_status_init(&node->status, &cfg));
    service_node_init(&node->node_service, node->status);
    return OK;
}

/* Takes *source on success. */
static RC make_registry(struct node *node, struct registry **source) {
    const struct node_config *config = node->cfg->config;
    uint32_t refresh_ms = (uint32_t)config->registry_refresh_s * 1000;
    if ((*source)->refresh_ms < refresh_ms) {
        refresh_ms = (*source)->refresh_ms;
    }
    node->registry_refresh_ms = refresh_ms;
    node->members = calloc(1, sizeof(*node->members));
    ENSURE(node->members != NULL, NOMEM);
    struct registry_service_cfg cfg = {
        .refresh_count_max = REGISTRY_QUEUE_COUNT_MAX,
        .unknown_count_max = REGISTRY_QUEUE_COUNT_MAX,
        .reuse_ms = refresh_ms / 4,
        .failure_hold_ms = REGISTRY_FAILURE_HOLD_MS,
        .members_refresh_ms = refresh_ms,
        .members_ttl_ms = (uint32_t)config->peer_cache_ttl_s * 1000,
    };
    TRY(random_bytes(cfg.hash_key, sizeof(cfg.hash_key)));
    return registry_service_init(&node->registry, source, &cfg);
}

static RC make_parts(struct node *node, struct registry **source) {
    const struct node_config *config = node->cfg->config;
    TRY(random_mbedtls_init());
    if (!node->cfg->is_on_chain) {
        node->wallet = node->cfg->signer.wallet;
        TRY(kdf_master_init(&node->masters[0], node->cfg->master_secret));
    }
    service_clock_init(&node->clock, config->clock_skew_max_ms, clock_mono_ms(), clock_unix_ms());
    TRY(make_store(node));
    TRY(make_replica(node));
    node->shared = (struct service_shared){
        .kv = node->kv,
        .replica = node->replica,
        .is_stopping = &node->is_stopping,
        .readiness = &node->readiness,
        .master = node->cfg->is_on_chain ? NULL : &node->masters[0],
        .clock = &node->clock,
        .kms_app_id = config->kms_app_id,
        .value_bytes_max = config->value_bytes_max,
        .read_wait_ms = config->read_wait_ms,
        .durability_stats = &node->durability_stats,
    };
    TRY(make_status(node));
    TRY(node->cfg->is_on_chain ? node_live_prepare(node) : be_alone(node));
    return make_registry(node, source);
}

/* ---- The server ---- */

static bool share_cb(void *ctx, const struct service_share_ask *ask) {
    const struct node *node = ctx;
    return share_ask(node->share, ask);
}

static void heard_cb(void *ctx) {
    const struct node *node = ctx;
    cluster_wake(node->cluster);
}

static RC make_peer_service(struct node *node, uint32_t worker_idx, uv_loop_t *loop) {
    bool is_on_chain = node->cfg->is_on_chain;
    const struct service_peer_cfg cfg = {
        .shared = &node->shared,
        .loop = loop,
        .post = node_post_run,
        .post_ctx = &node->post,
        .worker_idx = worker_idx,
        .limits = peer_limits_of(service_kv_cfg(node->kv), PEER_PAGE_BYTES_MAX),
        .page_bytes_max = PEER_PAGE_BYTES_MAX,
        .needs_tls13 = config_build_needs_tls13(),
        .share = is_on_chain ? share_cb : NULL,
        .heard = is_on_chain ? heard_cb : NULL,
        .ctx = node,
    };
    return service_peer_init(&node->workers[worker_idx].peer, &cfg);
}

static RC make_worker(struct node *node, uint32_t worker_idx, uv_loop_t *loop) {
    const struct node_config *config = node->cfg->config;
    struct node_worker *worker = &node->workers[worker_idx];
    const struct service_kms_cfg kms = {
        .shared = &node->shared,
        .loop = loop,
        .post = node_post_run,
        .post_ctx = &node->post,
        .worker_idx = worker_idx,
    };
    const struct authority_cfg authority = {
        .loop = loop,
        .worker_idx = worker_idx,
        .post = &node->post,
        .registry = node->registry,
        .readiness = &node->readiness,
        .kms_app_id = config->kms_app_id,
        .rate_limit_per_minute = (uint32_t)config->rate_limit_per_minute,
        .refresh_ms = node->registry_refresh_ms,
        .ttl_ms = (uint32_t)config->registry_cache_ttl_s * 1000,
        .conn_count_max = (uint32_t)config->connections_max,
    };
    node->worker_count = worker_idx + 1;
    TRY(service_kms_init(&worker->kms, &kms));
    TRY(make_peer_service(node, worker_idx, loop));
    return authority_init(&worker->authority, &authority);
}

static RC worker_init_cb(void *ctx, uint32_t worker_idx, uv_loop_t *loop,
                         struct net_worker_cfg *out) {
    struct node *node = ctx;
    ASSERT(worker_idx < NET_WORKER_COUNT_MAX);
    TRY(make_worker(node, worker_idx, loop));
    const struct node_worker *worker = &node->workers[worker_idx];
    out->services[0] = (struct net_service){ .service = service_kms_service(worker->kms) };
    out->services[1] =
        (struct net_service){ .service = &node->node_service.service.base, .is_public = true };
    out->services[2] = (struct net_service){ .service = service_peer_service(worker->peer) };
    out->service_count = 3;
    out->authority = authority_ops(worker->authority);
    out->http = http_stream(&node->pages);
    return OK;
}

static void auth_stats_cb(void *ctx, struct auth_view_stats *out) {
    struct node *node = ctx;
    *out = (struct auth_view_stats){ 0 };
    for (uint32_t i = 0; i < node->worker_count; i++) {
        authority_stats(node->workers[i].authority, out);
    }
}

static void secret_stats_cb(void *ctx, struct http_secret_stats *out) {
    struct node *node = ctx;
    struct share_stats given = { 0 };
    struct cluster_stats fetched = { 0 };
    if (node->cfg->is_on_chain) {
        share_stats(node->share, &given);
        cluster_stats(node->cluster, &fetched);
    }
    *out = (struct http_secret_stats){ .given_count = given.given_count,
                                       .refused_count = given.refused_count,
                                       .give_failed_count = given.failed_count,
                                       .fetched_count = fetched.fetched_count,
                                       .fetch_failed_count = fetched.fetch_failed_count };
}

static RC make_server(struct node *node) {
    const struct node_config *config = node->cfg->config;
    AUTO(tls_config_close) struct tls_config *tls = NULL;
    if (!node->cfg->is_on_chain) {
        TRY(node_tls_make(node, &tls, node->why));
    }
    const struct net_server_cfg cfg = {
        .host = config->rpc_listen.host,
        .port = config->rpc_listen.port,
        .tls = tls,
        .identity_skew_ms = config->clock_skew_max_ms,
        .worker_count = (uint32_t)config->workers,
        .conn_count_max = (uint32_t)config->connections_max,
        .worker_init = worker_init_cb,
        .ctx = node,
    };
    node->pages = http_node_pages(&node->http);
    TRY(net_server_init(&node->server, &cfg));
    node->http = (struct http_node){ .status = node->status,
                                     .shared = &node->shared,
                                     .secret_stats = secret_stats_cb,
                                     .server = node->server,
                                     .registry = node->registry,
                                     .auth_stats = auth_stats_cb,
                                     .ctx = node,
                                     .now_ms = clock_mono_ms };
    node_post_set(&node->post, node->server);
    TRY(net_server_start(node->server));
    if (node->cfg->is_on_chain) {
        return OK; /* It listens once the wallet has signed for its TLS key. */
    }
    TRY(net_server_listen(node->server, node->why));
    node_tls_watch(node, tls);
    return OK;
}

/* ---- The controlling loop ---- */

static void drained_cb(uv_async_t *async) {
    struct node *node = async->data;
    LOG(INFO, "node.drained", "uptime_ms=%" PRIu64, clock_mono_ms() - node->started_at_ms);
    uv_stop(&node->loop);
}

/* On one of the server's threads. */
static void drain_done_cb(void *ctx) {
    struct node *node = ctx;
    (void)uv_async_send(&node->drained);
}

static bool is_handed_over(const struct node *node) {
    const struct replica_now now = { .mono_ms = clock_mono_ms(), .unix_ms = node_unix_ms(node) };
    char reason[REPLICA_REASON_BYTES];
    const struct store *store = service_kv_lock(node->kv);
    bool is_drained = !replica_in_service(node->replica, reason) ||
                      replica_is_drained(node->replica, store, &now);
    service_kv_unlock(node->kv, false);
    return is_drained;
}

/* The second half: connections end, the members' too. */
static void drain_server(struct node *node) {
    uint64_t timeout_ms = node->cfg->config->drain_timeout_s * 1000;
    uint64_t spent_ms = clock_mono_ms() - node->drain_at_ms;
    (void)uv_timer_stop(&node->drain_timer);
    atomic_store(&node->is_stopping, true);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        service_peer_wake(node->workers[i].peer);
    }
    net_server_drain(node->server, (uint32_t)(timeout_ms > spent_ms ? timeout_ms - spent_ms : 0),
                     drain_done_cb, node);
}

/* The first half: no client's call begins any more, and the members fetch what only this node
 * has. */
static void drain_cb(uv_timer_t *timer) {
    struct node *node = timer->data;
    uint64_t spent_ms = clock_mono_ms() - node->drain_at_ms;
    uint64_t timeout_ms = node->cfg->config->drain_timeout_s * 1000 / 2;
    bool is_over = spent_ms >= (timeout_ms < HAND_OVER_MS_MAX ? timeout_ms : HAND_OVER_MS_MAX);
    if (!is_over && !is_handed_over(node)) {
        return;
    }
    LOG(INFO, "node.handed_over", "complete=%d spent_ms=%" PRIu64, (int)is_handed_over(node),
        spent_ms);
    drain_server(node);
}

static bool has_others(const struct node *node) {
    (void)service_kv_lock(node->kv);
    bool has_others = replica_other_count(node->replica) > 0;
    service_kv_unlock(node->kv, false);
    return has_others;
}

static void signal_cb(uv_signal_t *handle, int signum) {
    struct node *node = handle->data;
    if (node->phase == NODE_DRAINING) {
        LOG(WARN, "node.signal", "signal=%d second: stopping at once", signum);
        _exit(128 + signum);
    }
    node->phase = NODE_DRAINING;
    uint64_t timeout_ms = node->cfg->config->drain_timeout_s * 1000;
    LOG(INFO, "node.signal", "signal=%d draining timeout_ms=%" PRIu64, signum, timeout_ms);
    node_set_gate(node, SERVICE_GATE_STOPPING, "the node is stopping");
    node->drain_at_ms = clock_mono_ms();
    if (has_others(node)) {
        service_readiness_hand_over(&node->readiness);
        ASSERT(uv_timer_start(&node->drain_timer, drain_cb, HAND_OVER_LOOK_MS, HAND_OVER_LOOK_MS) ==
               0);
    } else {
        drain_server(node);
    }
}

static void init_timer(struct node *node, uv_timer_t *timer) {
    ASSERT(uv_timer_init(&node->loop, timer) == 0);
    timer->data = node;
}

static RC open_loop(struct node *node) {
    static const int numbers[] = { SIGTERM, SIGINT };
    ENSURE(uv_loop_init(&node->loop) == 0, NOMEM);
    node->loop_is_open = true;
    init_timer(node, &node->watch_timer);
    init_timer(node, &node->collect_timer);
    init_timer(node, &node->renew_timer);
    init_timer(node, &node->drain_timer);
    ENSURE(uv_async_init(&node->loop, &node->drained, drained_cb) == 0, NOMEM);
    node->drained.data = node;
    for (size_t i = 0; i < 2; i++) {
        ASSERT(uv_signal_init(&node->loop, &node->signals[i]) == 0);
        node->signals[i].data = node;
        ENSURE(uv_signal_start(&node->signals[i], signal_cb, numbers[i]) == 0, IO);
    }
    return OK;
}

static RC listen_plain(struct node *node) {
    const struct node_config *config = node->cfg->config;
    const struct net_plain_cfg cfg = {
        .loop = &node->loop,
        .host = config->http_listen.host,
        .port = config->http_listen.port,
        .stream = http_stream(&node->pages),
    };
    return net_plain_listen(&node->plain, &cfg, node->why);
}

static RC start(struct node *node, struct registry **source) {
    TRY(open_loop(node));
    TRY(make_parts(node, source));
    TRY(make_server(node));
    TRY(listen_plain(node));
    node_watch_start(node);
    node_collect_start(node);
    return node->cfg->is_on_chain ? node_live_start(node) : OK;
}

/* ---- The end ---- */

static void close_handle_cb(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (uv_is_closing(handle) == 0) {
        uv_close(handle, NULL);
    }
}

static void close_loop(struct node *node) {
    if (!node->loop_is_open) {
        return;
    }
    net_plain_close(&node->plain);
    while (node->renewing) {
        (void)uv_run(&node->loop, UV_RUN_ONCE); /* The work uses the node: wait for it. */
    }
    /* What net closes itself has begun to close; the rest is ours. */
    (void)uv_run(&node->loop, UV_RUN_NOWAIT);
    uv_walk(&node->loop, close_handle_cb, NULL);
    (void)uv_run(&node->loop, UV_RUN_DEFAULT);
    ASSERT(uv_loop_close(&node->loop) == 0);
}

static void stop_worker(void *arg) {
    struct node_worker *worker = arg;
    service_kms_stop(worker->kms);
    service_peer_stop(worker->peer);
    authority_stop(worker->authority);
}

static void close_server(struct node *node) {
    for (uint32_t i = 0; i < node->worker_count && node->server != NULL; i++) {
        (void)node_post_run(&node->post, i, stop_worker, &node->workers[i]);
    }
    node_post_set(&node->post, NULL);
    net_server_close(&node->server);
    registry_service_close(&node->registry);
    /* Requests used its threads, and its threads tell the services of changes: so it goes
     * between. */
    node_live_free(node);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        service_kms_close(&node->workers[i].kms);
        service_peer_close(&node->workers[i].peer);
        authority_close(&node->workers[i].authority);
    }
}

static void close_node(struct node *node) {
    node->phase = NODE_STOPPED;
    node_live_stop(node);
    close_loop(node);
    close_server(node);
    service_status_close(&node->status);
    replica_close(&node->replica);
    service_kv_close(&node->kv);
    kdf_master_close(&node->masters[0]);
    kdf_master_close(&node->masters[1]);
    node_live_close(node);
    free(node->members);
    service_readiness_close(&node->readiness);
    node_post_close(&node->post);
    free(node);
}

RC node_run(const struct node_cfg *cfg, struct registry **source, struct status *why) {
    why->code = STATUS_OK;
    struct node *node = calloc(1, sizeof(*node));
    ENSURE(node != NULL, NOMEM);
    node->cfg = cfg;
    node->why = why;
    node->started_at_ms = clock_mono_ms();
    service_readiness_init(&node->readiness);
    node_post_init(&node->post);
    node_live_init(node);
    struct rc rc = start(node, source);
    registry_close(source); /* NULL, unless the registry's thread did not start. */
    if (rc.err == E_OK) {
        (void)uv_run(&node->loop, UV_RUN_DEFAULT);
        rc = node->rc;
    }
    close_node(node);
    if (rc.err != E_OK && why->code == STATUS_OK) {
        status_set(why, STATUS_INTERNAL, "the node cannot start: %s (%s:%d)", err_text(rc.err),
                   rc.file, rc.line);
    }
    return rc;
}
