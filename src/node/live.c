/* SPDX-License-Identifier: Apache-2.0 */
/* A node on chain: what its driver decides, done to the running node. */
#include <stdio.h>

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

/* Returns once no worker uses another master secret. What is posted always runs, and the workers outlive
 * the driver: there is no other end to wait for. */
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

/* The gate is closed, so no call begins. A call that ran when it closed has ended before its worker
 * changed over; so after that nothing sealed with the former keys reaches the store. */
static void adopt_cb(void *ctx, struct kdf_master *master) {
    struct node *node = ctx;
    unsigned former = node->master_idx;
    unsigned next = 1 - former;
    bool is_replaced = node->masters[former].secret.ptr != NULL;
    node->masters[next] = *master;
    node->master_idx = next;
    change_workers(node, &node->masters[next]);
    kdf_master_close(&node->masters[former]);
    node->masters[former] = (struct kdf_master){ 0 };
    if (is_replaced) {
        uint8_t writer[STORE_WRITER_BYTES];
        struct rc rc = random_bytes(writer, sizeof(writer));
        ASSERT(rc.err == E_OK);
        rc = service_kv_reset(node->kv, writer);
        ASSERT(rc.err == E_OK); /* Data of a secret that is gone must not stay in service. */
    }
    service_status_set_master_hash(node->status, node->masters[next].hash);
    LOG(INFO, "bootstrap.secret", "adopted replaced=%d", (int)is_replaced);
}

/* ---- On the controlling thread ---- */

static void wallet_named_cb(uv_async_t *async) {
    struct node *node = async->data;
    char text[WALLET_TEXT_BYTES];
    (void)pthread_mutex_lock(&node->live_mutex);
    node->wallet = node->named_wallet;
    (void)pthread_mutex_unlock(&node->live_mutex);
    LOG(INFO, "identity.wallet", "wallet=%s", wallet_format(&node->wallet, text));
    node_tls_renew(node);
}

void node_live_init(struct node *node) {
    ASSERT(pthread_mutex_init(&node->live_mutex, NULL) == 0);
    ASSERT(pthread_cond_init(&node->live_changed, NULL) == 0);
    if (node->cfg->is_on_chain) {
        node_set_gate(node, SERVICE_GATE_BOOTSTRAP, "the node is becoming ready");
        node_set_gate(node, SERVICE_GATE_IDENTITY, "the TLS credential has not been made yet");
    }
}

RC node_live_start(struct node *node) {
    ENSURE(uv_async_init(&node->loop, &node->wallet_named, wallet_named_cb) == 0, NOMEM);
    node->wallet_named.data = node;
    const struct driver_cfg cfg = {
        .config = node->cfg->config,
        .peers = &node_peers_none,
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
    driver_close(&node->driver);
}

void node_live_close(struct node *node) {
    (void)pthread_cond_destroy(&node->live_changed);
    (void)pthread_mutex_destroy(&node->live_mutex);
}

/* ---- The whole ---- */

static RC open_source(const struct node_config *config, const atomic_bool *stop,
                      struct registry **out, struct status *why) {
    const struct registry_chain_cfg cfg = {
        .rpc_url = config->helios_rpc_url,
        .chain_id = config->chain_id,
        .nova_app_registry = config->nova_app_registry,
        .kms_registry = config->kms_registry,
        .kms_app_id = config->kms_app_id,
        .head_stall_ms = (uint32_t)config->head_stall_s * 1000,
        .head_skew_ms = (uint32_t)config->clock_skew_max_ms,
        .confirmation_count = (uint32_t)config->hash_confirmations,
        .stop = stop,
    };
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
