/* SPDX-License-Identifier: Apache-2.0 */
#include "http/metrics.h"

#include <inttypes.h>

#include "base/status.h"
#include "http/process.h"
#include "http/replication.h"
#include "http/samples.h"

static void write_node(const struct http_node *node, const struct service_snapshot *now,
                       struct http_text *body) {
    const struct service_status_cfg *cfg = service_status_cfg(node->status);
    http_metric_head(body, "build_info", "gauge", "The version, as a label.");
    http_text_printf(body, "nova_kms_build_info{version=\"%s\"} 1\n", cfg->version);
    const struct http_sample samples[] = {
        { "serving", "gauge", "Whether the node serves keys and data.", now->serving },
        { "uptime_seconds", "gauge", "Time since the node started.", now->uptime_ms / 1000 },
        { "operator", "gauge", "Whether the registry lists this node as a member.",
          now->is_operator },
        { "cluster_instances", "gauge", "Members of the cluster in the registry.",
          now->member_count },
        { "tls_not_after_seconds", "gauge",
          "Unix time until which the TLS credential counts; 0: there is none.",
          now->tls_not_after_unix_s },
        { "tls_lifetime_seconds", "gauge", "TLS_LIFETIME_SECONDS.", cfg->tls_lifetime_s },
    };
    http_write_samples(body, samples, sizeof(samples) / sizeof(samples[0]));
    http_metric_head(body, "unix_time_seconds", "gauge", "The date that the node goes by.");
    http_text_printf(body, "nova_kms_unix_time_seconds %" PRIu64 ".%03" PRIu64 "\n",
                     now->unix_ms / 1000, now->unix_ms % 1000);
    http_metric_head(body, "gate_closed", "gauge", "Whether that keeps the node out of service.");
    for (unsigned gate = 0; gate < SERVICE_GATE_COUNT; gate++) {
        http_text_printf(body, "nova_kms_gate_closed{gate=\"%s\"} %d\n", service_gate_name(gate),
                         (int)service_readiness_is_closed(cfg->readiness, gate));
    }
}

/* What cannot be read is left out. */
static void write_process(struct http_text *body) {
    struct http_process process;
    http_process_read(&process);
    http_metric_head(body, "cpu_seconds_total", "counter", "CPU time of all threads.");
    http_text_printf(body, "nova_kms_cpu_seconds_total %" PRIu64 ".%06" PRIu64 "\n",
                     process.cpu_us / 1000000, process.cpu_us % 1000000);
    const struct http_sample samples[] = {
        { "memory_resident_bytes", "gauge", "Memory of this process.", process.resident_bytes },
        { "memory_available_bytes", "gauge", "What the machine could still give.",
          process.available_bytes },
        { "memory_total_bytes", "gauge", "What the machine has.", process.total_bytes },
    };
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        if (samples[i].value > 0) {
            http_write_samples(body, &samples[i], 1);
        }
    }
}

static void write_store(const struct http_node *node, const struct service_snapshot *now,
                        struct http_text *body) {
    const struct store_stats *store = &now->store;
    const struct store_cfg *cfg = service_kv_cfg(service_status_cfg(node->status)->kv);
    const struct http_sample samples[] = {
        { "store_namespaces", "gauge", "Apps that have records.", store->namespace_count },
        { "store_keys", "gauge", "Keys that hold a value.", store->key_count },
        { "store_tombstones", "gauge", "Deletes that are remembered.", store->tombstone_count },
        { "store_expired_keys", "gauge", "Expired values that are not collected yet.",
          store->expired_count },
        { "store_bytes", "gauge", "Memory charged to quotas.", store->bytes },
        { "store_app_bytes_peak", "gauge", "The same of the app that uses most.",
          store->app_bytes_peak },
        { "store_limit_bytes", "gauge", "MAX_STORE_BYTES.", cfg->total_bytes_max },
        { "store_app_limit_bytes", "gauge", "MAX_APP_STORAGE.", cfg->app_bytes_max },
        { "store_writers", "gauge", "Writers in the version vector.", store->writer_count },
        { "store_conflicts_total", "counter", "Concurrent writes of one key.",
          store->conflict_count },
        { "store_collected_records_total", "counter", "Deleted and expired records removed.",
          store->removed_count },
    };
    http_write_samples(body, samples, sizeof(samples) / sizeof(samples[0]));
    http_metric_head(body, "store_merge_refusals_total", "counter",
                     "Records of peers that were refused.");
    for (unsigned i = STORE_REFUSED_NONE + 1; i < STORE_REFUSAL_COUNT; i++) {
        http_text_printf(body, "nova_kms_store_merge_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
                         store_refusal_name(i), store->refused_counts[i]);
    }
}

static void write_calls(const struct net_stats *net, struct http_text *body) {
    http_metric_head(body, "calls_total", "counter",
                     "Calls that ended, by method and status code.");
    for (size_t i = 0; i < net->method_count; i++) {
        for (uint32_t code = 0; code < NET_STATUS_COUNT; code++) {
            if (code == STATUS_OK || net->methods[i].count[code] > 0) {
                http_text_printf(
                    body, "nova_kms_calls_total{method=\"%s\",code=\"%s\"} %" PRIu64 "\n",
                    net->methods[i].name, status_name(code), net->methods[i].count[code]);
            }
        }
    }
}

static void write_latency(const struct net_method_stats *method, struct http_text *body) {
    static const char name[] = "nova_kms_call_duration_seconds";
    uint64_t count = 0;
    for (size_t i = 0; i < NET_LATENCY_COUNT - 1; i++) {
        count += method->latency[i];
        uint32_t bound_us = net_latency_bounds_us[i];
        http_text_printf(body, "%s_bucket{method=\"%s\",le=\"%u.%06u\"} %" PRIu64 "\n", name,
                         method->name, bound_us / 1000000, bound_us % 1000000, count);
    }
    count += method->latency[NET_LATENCY_COUNT - 1];
    http_text_printf(body, "%s_bucket{method=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, method->name,
                     count);
    http_text_printf(body, "%s_sum{method=\"%s\"} %" PRIu64 ".%06" PRIu64 "\n", name, method->name,
                     method->latency_sum_us / 1000000, method->latency_sum_us % 1000000);
    http_text_printf(body, "%s_count{method=\"%s\"} %" PRIu64 "\n", name, method->name, count);
}

static void write_net(const struct net_stats *net, struct http_text *body) {
    const struct http_sample samples[] = {
        { "calls_in_flight", "gauge", "Calls that have not ended.", net->calls_in_flight },
        { "connections", "gauge", "Open connections on the TLS port.", net->conn_count },
        { "connections_total", "counter", "Connections whose handshake succeeded.",
          net->conn_total },
        { "refused_connections_total", "counter", "Connections that authorization refused.",
          net->refused_count },
        { "handshakes_in_progress", "gauge", "TLS handshakes under way.", net->handshaking_count },
        { "unknown_methods_total", "counter", "Calls of methods this node does not have.",
          net->unknown_method_count },
        { "bad_frames_total", "counter", "Connections closed for a malformed frame.",
          net->bad_frame_count },
        { "network_read_bytes_total", "counter", "Bytes read from the TLS port.", net->read_bytes },
        { "network_written_bytes_total", "counter", "Bytes written to the TLS port.",
          net->written_bytes },
        { "connection_buffer_bytes", "gauge", "Memory in connections' buffers.",
          net->buffered_bytes },
    };
    http_write_samples(body, samples, sizeof(samples) / sizeof(samples[0]));
    http_metric_head(body, "handshakes_total", "counter", "TLS handshakes that ended, by how.");
    for (size_t i = 0; i < NET_HANDSHAKE_COUNT; i++) {
        http_text_printf(body, "nova_kms_handshakes_total{result=\"%s\"} %" PRIu64 "\n",
                         net_handshake_names[i], net->handshakes[i]);
    }
    write_calls(net, body);
    http_metric_head(body, "call_duration_seconds", "histogram",
                     "Time from a request's arrival to its answer.");
    for (size_t i = 0; i < net->method_count; i++) {
        write_latency(&net->methods[i], body);
    }
}

static void write_revocations(const struct auth_view_stats *view, struct http_text *body) {
    static const char name[] = "nova_kms_revocation_seconds";
    http_metric_head(
        body, "revocation_seconds", "histogram",
        "Time from the last block at which a connected caller was valid to its refusal.");
    uint64_t count = 0;
    for (size_t i = 0; i < AUTH_REVOCATION_BOUND_COUNT; i++) {
        count += view->revocation_counts[i];
        http_text_printf(body, "%s_bucket{le=\"%u\"} %" PRIu64 "\n", name,
                         auth_revocation_bounds_s[i], count);
    }
    count += view->revocation_counts[AUTH_REVOCATION_BOUND_COUNT];
    http_text_printf(body, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
    http_text_printf(body, "%s_sum %" PRIu64 ".%03" PRIu64 "\n", name,
                     view->revocation_sum_ms / 1000, view->revocation_sum_ms % 1000);
    http_text_printf(body, "%s_count %" PRIu64 "\n", name, count);
}

static void write_auth(const struct http_node *node, struct http_text *body) {
    struct auth_view_stats view = { 0 };
    struct registry_service_stats registry = { 0 };
    node->auth_stats(node->ctx, &view);
    registry_service_stats(node->registry, &registry);
    const struct http_sample samples[] = {
        { "auth_entries", "gauge", "Wallets known, over all workers.", view.entry_count },
        { "auth_pinned_entries", "gauge", "Of those, wallets with an open connection.",
          view.pinned_count },
        { "auth_misses", "gauge", "Refused wallets that are remembered.", view.miss_count },
        { "auth_pending_lookups", "gauge", "Unknown wallets being looked up.", view.pending_count },
        { "auth_busy_total", "counter", "Lookups of unknown wallets refused for their budget.",
          view.busy_count },
        { "auth_unreadable_total", "counter", "Answers that the registry could not be read.",
          view.unreadable_count },
        { "registry_queued_questions", "gauge", "Questions to the registry that wait.",
          registry.queued_count },
        { "registry_lookups_total", "counter", "Questions put to the registry.",
          registry.lookup_count },
        { "registry_reused_answers_total", "counter", "Questions answered from a fresh answer.",
          registry.reused_count },
        { "registry_failed_reads_total", "counter", "Reads of the registry that failed.",
          registry.failed_count },
        { "registry_refused_questions_total", "counter", "Questions refused: too many at once.",
          registry.refused_count },
    };
    http_write_samples(body, samples, sizeof(samples) / sizeof(samples[0]));
    write_revocations(&view, body);
}

void http_write_metrics(struct http_node *node, const struct service_snapshot *now,
                        struct http_text *body) {
    struct net_stats net = { 0 };
    net_server_stats(node->server, &net);
    write_node(node, now, body);
    write_process(body);
    write_store(node, now, body);
    write_net(&net, body);
    write_auth(node, body);
    http_write_replication(node, body);
}
