/* SPDX-License-Identifier: Apache-2.0 */
/* A node on chain: what its driver decides, done to the running node. */
#include <stdlib.h>

#include "base/log.h"
#include "crypto/random.h"
#include "node/internal.h"
#include "node/start.h"
#include "registry/chain.h"

#define POST_RETRY_MS 10u

/* ---- On the driver's thread ---- */

static void reason_cb(void *ctx, const char *reason) {
    node_set_gate(ctx, SERVICE_GATE_BOOTSTRAP, reason);
}

static void wallet_cb(void *ctx, const struct wallet *wallet) {
    struct node *node = ctx;
    service_status_set_wallet(node->status, wallet);
    (void)pthread_mutex_lock(&node->live_mutex);
    node->named_wallet = *wallet;
    (void)pthread_mutex_unlock(&node->live_mutex);
    (void)uv_async_send(&node->wallet_named);
}

/* One worker's part of a change. */
struct change {
    struct node *node;
    struct service_kms *kms;
    const struct kdf_master *master;
};

/* On the worker's loop, between two calls. */
static void change_worker(void *arg) {
    const struct change *change = arg;
    struct node *node = change->node;
    service_kms_set_master(change->kms, change->master);
    (void)pthread_mutex_lock(&node->live_mutex);
    node->changing_count--;
    (void)pthread_cond_signal(&node->live_changed);
    (void)pthread_mutex_unlock(&node->live_mutex);
}

/* Returns once no worker uses another master secret. What is posted always runs, and the workers
 * outlive the driver: there is no other end to wait for. */
static void change_workers(struct node *node, const struct kdf_master *master) {
    struct change changes[NET_WORKER_COUNT_MAX];
    node->changing_count = node->worker_count;
    for (uint32_t i = 0; i < node->worker_count; i++) {
        changes[i] = (struct change){ node, node->workers[i].kms, master };
        while (!node_post_run(&node->post, i, change_worker, &changes[i])) {
            uv_sleep(POST_RETRY_MS); /* Out of memory for one message. */
        }
    }
    (void)pthread_mutex_lock(&node->live_mutex);
    while (node->changing_count > 0) {
        (void)pthread_cond_wait(&node->live_changed, &node->live_mutex);
    }
    (void)pthread_mutex_unlock(&node->live_mutex);
}

/* Which one is in use, for the thread that gives it away. Wipes the one before. */
static void change_master(struct node *node, unsigned next) {
    (void)pthread_mutex_lock(&node->live_mutex);
    unsigned former = node->master_idx;
    node->master_idx = next;
    kdf_master_close(&node->masters[former]);
    node->masters[former] = (struct kdf_master){ 0 };
    (void)pthread_mutex_unlock(&node->live_mutex);
}

/* The gate is closed, so no call begins. A call that ran when it closed has ended before its worker
 * changed over; so after that nothing sealed with the former keys reaches the store. */
static void adopt_cb(void *ctx, struct kdf_master *master, bool is_new) {
    struct node *node = ctx;
    unsigned former = node->master_idx;
    unsigned next = 1 - former;
    const struct cluster_secret secret = { .master = &node->masters[next],
                                           .is_replaced = node->masters[former].secret.ptr != NULL,
                                           .is_new = is_new };
    node->masters[next] = *master;
    change_workers(node, &node->masters[next]);
    cluster_adopt(node->cluster, &secret);
    service_status_set_master_hash(node->status, node->masters[next].hash);
    change_master(node, next);
    LOG(INFO, "bootstrap.secret", "adopted replaced=%d new=%d", (int)secret.is_replaced,
        (int)is_new);
}

/* ---- On the thread that gives the secret away ---- */

static bool copy_secret_cb(void *ctx, const uint8_t hash[static KDF_HASH_BYTES],
                           uint8_t out[static KDF_MASTER_BYTES]) {
    struct node *node = ctx;
    (void)pthread_mutex_lock(&node->live_mutex);
    const struct kdf_master *master = &node->masters[node->master_idx];
    bool is_held =
        master->secret.ptr != NULL && span_equal((struct span){ master->hash, KDF_HASH_BYTES },
                                                 (struct span){ hash, KDF_HASH_BYTES });
    if (is_held) {
        memcpy(out, master->secret.ptr, KDF_MASTER_BYTES);
    }
    (void)pthread_mutex_unlock(&node->live_mutex);
    return is_held;
}

/* An answer on its way to the worker whose call it is. */
struct shared {
    struct service_peer *peer;
    uint64_t id;
    struct service_share_answer answer;
};

static void take_shared(void *arg) {
    struct shared *shared = arg;
    service_peer_shared(shared->peer, shared->id, &shared->answer);
    free(shared);
}

/* Without memory, or a worker, the call ends with its deadline. */
static void answer_cb(void *ctx, const struct service_share_ask *ask,
                      const struct service_share_answer *answer) {
    struct node *node = ctx;
    struct shared *shared = malloc(sizeof(*shared));
    if (shared == NULL) {
        return;
    }
    *shared = (struct shared){ node->workers[ask->worker_idx].peer, ask->id, *answer };
    if (!node_post_run(&node->post, ask->worker_idx, take_shared, shared)) {
        free(shared);
    }
}

/* ---- On the cluster's thread ---- */

static void cluster_reason_cb(void *ctx, const char *reason) {
    node_set_gate(ctx, SERVICE_GATE_REPLICA, reason);
}

/* ---- On the controlling thread ---- */

static void wallet_named_cb(uv_async_t *async) {
    struct node *node = async->data;
    char text[WALLET_TEXT_BYTES];
    (void)pthread_mutex_lock(&node->live_mutex);
    node->wallet = node->named_wallet;
    (void)pthread_mutex_unlock(&node->live_mutex);
    node->members_at_ms = 0; /* The list is to be looked at again, by whom it leaves out. */
    LOG(INFO, "identity.wallet", "wallet=%s", wallet_format(&node->wallet, text));
    node_tls_renew(node);
}

void node_live_init(struct node *node) {
    ASSERT(pthread_mutex_init(&node->live_mutex, NULL) == 0);
    ASSERT(pthread_cond_init(&node->live_changed, NULL) == 0);
    if (node->cfg->is_on_chain) {
        node_set_gate(node, SERVICE_GATE_BOOTSTRAP, "the node is becoming ready");
        node_set_gate(node, SERVICE_GATE_REPLICA,
                      "the other members' data has not been fetched yet");
        node_set_gate(node, SERVICE_GATE_IDENTITY, "the TLS credential has not been made yet");
    }
}

RC node_live_prepare(struct node *node) {
    const struct cluster_cfg cluster = {
        .config = node->cfg->config,
        .shared = &node->shared,
        .reason_cb = cluster_reason_cb,
        .ctx = node,
    };
    const struct share_cfg share = {
        .config = node->cfg->config,
        .chain_stop = node->cfg->chain_stop,
        .copy_secret = copy_secret_cb,
        .answer = answer_cb,
        .ctx = node,
    };
    TRY(cluster_init(&node->cluster, &cluster));
    return share_init(&node->share, &share, node->why);
}

RC node_live_start(struct node *node) {
    ENSURE(uv_async_init(&node->loop, &node->wallet_named, wallet_named_cb) == 0, NOMEM);
    node->wallet_named.data = node;
    const struct driver_cfg cfg = {
        .config = node->cfg->config,
        .peers = cluster_peers(node->cluster),
        .reason_cb = reason_cb,
        .wallet_cb = wallet_cb,
        .adopt_cb = adopt_cb,
        .ctx = node,
    };
    char http[CONFIG_ADDRESS_TEXT_BYTES];
    struct config_address address = node->cfg->config->http_listen;
    address.port = net_plain_port(node->plain);
    LOG(INFO, "node.start", "version=%s http=%s build=%s", node->cfg->version,
        config_address_text(&address, http), config_build_name());
    return driver_init(&node->driver, &cfg, node->why);
}

void node_live_stop(struct node *node) {
    (void)pthread_mutex_lock(&node->live_mutex);
    node->is_closing = true;
    if (node->signer_odyn != NULL) {
        identity_odyn_cancel(node->signer_odyn);
    }
    (void)pthread_mutex_unlock(&node->live_mutex);
    if (node->cfg->is_on_chain) {
        atomic_store(node->cfg->chain_stop, true);
    }
    if (node->cluster != NULL) {
        cluster_cancel(node->cluster);
    }
    driver_close(&node->driver);
}

void node_live_free(struct node *node) {
    share_close(&node->share);
    cluster_close(&node->cluster);
}

void node_live_close(struct node *node) {
    (void)pthread_cond_destroy(&node->live_changed);
    (void)pthread_mutex_destroy(&node->live_mutex);
}

/* ---- The whole ---- */

static RC open_source(const struct node_config *config, const atomic_bool *stop,
                      struct registry **out, struct status *why) {
    const struct registry_chain_cfg cfg = config_chain(config, stop);
    char reason[REGISTRY_REASON_BYTES];
    struct rc rc = registry_chain_init(out, &cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s", reason);
    }
    return rc;
}

RC node_run_on_chain(const struct node_args *args, const struct node_config *config,
                     struct status *why) {
    struct registry *source = NULL;
    atomic_bool chain_stop = false;
    TRY(open_source(config, &chain_stop, &source, why));
    char host[CONFIG_URL_BYTES];
    config_url_host(config->node_url, host);
    const struct node_cfg cfg = {
        .config = config,
        .version = args->version,
        .host = host[0] != '\0' ? host : config->rpc_listen.host,
        .is_on_chain = true,
        .chain_stop = &chain_stop,
    };
    return node_run(&cfg, &source, why);
}
