/* SPDX-License-Identifier: Apache-2.0 */
/* What the controlling thread looks at again and again: the clocks, the registry, the store. */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "node/internal.h"

/* Until the node serves it looks often, so that it starts quickly. */
#define WATCH_STARTING_MS 20u
#define WATCH_BECOMING_READY_MS 250u /* On chain that takes longer, minutes even. */
#define WATCH_MS 1000u
#define COLLECT_MS 100u
#define COLLECT_STEP 64u /* In one section under the store's lock. */
#define COLLECT_STEP_MAX 1000u
/* Refused records are asked for again within the backoff of pulls. */
#define HARD_REFUSAL_HOLD_MS 10000u

void node_set_gate(struct node *node, enum service_gate gate, const char *reason) {
    if (!service_readiness_set(&node->readiness, gate, reason)) {
        return;
    }
    char text[SERVICE_REASON_BYTES];
    if (service_readiness_reason(&node->readiness, text)) {
        LOG(INFO, "node.serving", "uptime_ms=%" PRIu64, clock_mono_ms() - node->started_at_ms);
    } else {
        LOG(WARN, "node.unavailable", "reason=\"%s\"", text);
    }
}

uint64_t node_unix_ms(const struct node *node) {
    return service_clock_unix_ms(&node->clock, clock_mono_ms());
}

static void watch_clock(struct node *node) {
    int64_t step_ms = 0;
    if (service_clock_check(&node->clock, clock_mono_ms(), clock_unix_ms(), &step_ms)) {
        node_set_gate(node, SERVICE_GATE_CLOCK, NULL);
        return;
    }
    char reason[SERVICE_REASON_BYTES];
    (void)snprintf(reason, sizeof(reason),
                   "the clock stepped by more than MAX_CLOCK_SKEW_MS (%" PRIu64
                   " ms); set it right or restart the node",
                   node->cfg->config->clock_skew_max_ms);
    node_set_gate(node, SERVICE_GATE_CLOCK, reason);
}

/* A registry that cannot be read is a gate only once what is held is too old; until then it is a
 * line in the log, one for each look that found failures. */
static void watch_failures(struct node *node) {
    struct registry_service_stats stats = { 0 };
    registry_service_stats(node->registry, &stats);
    if (stats.failed_count != node->registry_failed_count) {
        LOG_LIMITED(WARN, "registry.unreadable", "failed_reads=%" PRIu64 " since_start=%" PRIu64,
                    stats.failed_count - node->registry_failed_count, stats.failed_count);
        node->registry_failed_count = stats.failed_count;
    }
}

static bool is_member(const struct node *node) {
    for (size_t i = 0; i < node->members->count; i++) {
        if (wallet_equal(&node->members->at[i].wallet, &node->wallet)) {
            return true;
        }
    }
    return false;
}

/* On chain the driver reads the node's own membership, and callers' entries expire one by one. */
static void watch_members(struct node *node) {
    static const struct wallet none;
    char text[REGISTRY_REASON_BYTES];
    if (registry_service_members(node->registry, node->members, text).err != E_OK) {
        return;
    }
    service_status_set_members(node->status, node->members);
    if (node->members->as_of_mono_ms != node->members_at_ms &&
        !wallet_equal(&node->wallet, &none)) {
        node->members_at_ms = node->members->as_of_mono_ms;
        cluster_set_members(node->cluster, &node->wallet, node->members);
    }
}

/* What peers send may pass the quotas, but not this. */
static void watch_memory(struct node *node) {
    struct store_stats stats = { 0 };
    service_kv_stats(node->kv, &stats);
    uint64_t count = stats.refused_counts[STORE_REFUSED_HARD_BYTES] +
                     stats.refused_counts[STORE_REFUSED_WRITERS];
    uint64_t now_ms = clock_mono_ms();
    if (count != node->hard_refusal_count) {
        node->hard_refusal_count = count;
        node->hard_refusal_at_ms = now_ms;
        node_set_gate(node, SERVICE_GATE_MEMORY,
                      "the node has no memory for what other members hold: raise MAX_STORE_BYTES "
                      "on all of them, or delete data");
    } else if (now_ms - node->hard_refusal_at_ms > HARD_REFUSAL_HOLD_MS) {
        node_set_gate(node, SERVICE_GATE_MEMORY, NULL);
    }
}

static void watch_registry(struct node *node) {
    char reason[SERVICE_REASON_BYTES];
    char text[REGISTRY_REASON_BYTES];
    struct rc rc = registry_service_members(node->registry, node->members, text);
    if (rc.err != E_OK) {
        (void)snprintf(reason, sizeof(reason), "the registry cannot be read: %.160s", text);
        node_set_gate(node, SERVICE_GATE_REGISTRY, reason);
        return;
    }
    service_status_set_members(node->status, node->members);
    if (!is_member(node)) {
        char wallet[WALLET_TEXT_BYTES];
        (void)snprintf(
            reason, sizeof(reason),
            "this node's wallet %s is not an active, verified instance of KMS app %" PRIu64
            " in the registry",
            wallet_format(&node->wallet, wallet), node->cfg->config->kms_app_id);
        node_set_gate(node, SERVICE_GATE_REGISTRY, reason);
        return;
    }
    node_set_gate(node, SERVICE_GATE_REGISTRY, NULL);
}

static void log_ready(const struct node *node, const struct node_ready *ready) {
    char rpc[CONFIG_ADDRESS_TEXT_BYTES];
    char http[CONFIG_ADDRESS_TEXT_BYTES];
    char wallet[WALLET_TEXT_BYTES];
    LOG(INFO, "node.ready", "version=%s wallet=%s rpc=%s http=%s workers=%u build=%s",
        node->cfg->version, wallet_format(&ready->wallet, wallet),
        config_address_text(&ready->rpc, rpc), config_address_text(&ready->http, http),
        node->worker_count, config_build_name());
}

static void report_ready(struct node *node) {
    const struct node_config *config = node->cfg->config;
    struct node_ready ready = {
        .rpc = config->rpc_listen,
        .http = config->http_listen,
        .wallet = node->wallet,
    };
    ready.rpc.port = net_server_port(node->server);
    ready.http.port = net_plain_port(node->plain);
    log_ready(node, &ready);
    if (node->cfg->ready_cb == NULL) {
        return;
    }
    node->rc = node->cfg->ready_cb(node->cfg->ctx, &ready, node->why);
    if (node->rc.err != E_OK) {
        uv_stop(&node->loop);
    }
}

static void watch_cb(uv_timer_t *timer) {
    struct node *node = timer->data;
    watch_clock(node);
    watch_failures(node);
    watch_memory(node);
    if (node->cfg->is_on_chain) {
        watch_members(node);
    } else {
        watch_registry(node);
    }
    char reason[SERVICE_REASON_BYTES];
    if (node->phase == NODE_STARTING && service_readiness_reason(&node->readiness, reason)) {
        node->phase = NODE_SERVING;
        (void)uv_timer_set_repeat(timer, WATCH_MS);
        report_ready(node);
    }
}

void node_watch_start(struct node *node) {
    if (!node->cfg->is_on_chain) {
        node_set_gate(node, SERVICE_GATE_REGISTRY, "the registry has not been read yet");
    }
    node_set_gate(node, SERVICE_GATE_STARTING, NULL);
    uint64_t repeat_ms = node->cfg->is_on_chain ? WATCH_BECOMING_READY_MS : WATCH_STARTING_MS;
    ASSERT(uv_timer_start(&node->watch_timer, watch_cb, 0, repeat_ms) == 0);
}

static void collect_cb(uv_timer_t *timer) {
    struct node *node = timer->data;
    const struct replica_now now = { .mono_ms = clock_mono_ms(), .unix_ms = node_unix_ms(node) };
    struct store_collected got = { .more = true };
    for (size_t done = 0; done < COLLECT_STEP_MAX && got.more; done += COLLECT_STEP) {
        struct store *store = service_kv_lock(node->kv);
        replica_collect(node->replica, store, COLLECT_STEP, &now, &got);
        service_kv_unlock(node->kv, false);
    }
}

void node_collect_start(struct node *node) {
    ASSERT(uv_timer_start(&node->collect_timer, collect_cb, COLLECT_MS, COLLECT_MS) == 0);
}
