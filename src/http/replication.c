/* SPDX-License-Identifier: Apache-2.0 */
#include "http/replication.h"

#include <inttypes.h>
#include <stdio.h>

#include "http/samples.h"

/* A member as it was at one moment: what the replica lends is copied under its lock. */
struct member {
    struct replica_view view;
    char url[AUTH_URL_BYTES_MAX + 16];
    char error[REPLICA_REASON_BYTES];
};

static bool read_member(const struct http_node *node, size_t idx, struct member *out) {
    const struct service_shared *shared = node->shared;
    const struct replica_now now = { .mono_ms = node->now_ms() };
    (void)service_kv_lock(shared->kv);
    bool is_there = replica_view(shared->replica, idx, &now, &out->view);
    if (is_there) {
        (void)snprintf(out->url, sizeof(out->url), "%s", out->view.url);
        (void)snprintf(out->error, sizeof(out->error), "%s", out->view.error);
    }
    service_kv_unlock(shared->kv, false);
    return is_there;
}

static void read_stats(const struct http_node *node, struct replica_stats *out, bool *in_service) {
    char reason[REPLICA_REASON_BYTES];
    (void)service_kv_lock(node->shared->kv);
    replica_stats(node->shared->replica, out);
    *in_service = replica_in_service(node->shared->replica, reason);
    service_kv_unlock(node->shared->kv, false);
}

/* ---- /status ---- */

static json_t *member_object(const struct http_node *node, const struct member *member) {
    const struct replica_view *view = &member->view;
    char wallet[WALLET_TEXT_BYTES];
    json_t *heard = view->heard_ms == 0
                        ? json_null()
                        : json_integer((json_int_t)(node->now_ms() - view->heard_ms));
    return json_pack("{s:s,s:s,s:b,s:b,s:I,s:I,s:I,s:o,s:b,s:s}", "wallet",
                     wallet_format(&view->wallet, wallet), "url", member->url, "reachable",
                     (int)view->reachable, "in_service", (int)view->in_service, "position",
                     (json_int_t)view->position, "lag_records", (json_int_t)view->lag_count,
                     "lag_ms", (json_int_t)view->lag_ms, "heard_ms_ago", heard, "alarm",
                     (int)view->has_alarm, "error", member->error);
}

json_t *http_cluster_object(const struct http_node *node, const struct service_snapshot *now) {
    struct replica_stats stats;
    bool in_service = false;
    json_t *members = json_array();
    struct member member;
    for (size_t i = 0; i < REPLICA_MEMBER_COUNT_MAX && read_member(node, i, &member); i++) {
        if (json_array_append_new(members, member_object(node, &member)) != 0) {
            json_decref(members);
            return NULL;
        }
    }
    read_stats(node, &stats, &in_service);
    return json_pack("{s:I,s:b,s:I,s:I,s:I,s:o}", "total_instances", (json_int_t)now->member_count,
                     "in_service", (int)in_service, "reachable", (json_int_t)stats.reachable_count,
                     "durability_resets", (json_int_t)stats.durability_reset_count, "resets",
                     (json_int_t)stats.reset_count, "members", members);
}

/* ---- /metrics ---- */

/* One of several values of a metric. */
struct labelled {
    const char *label;
    uint64_t value;
};

static void write_pairs(struct http_text *body, const char *name, const char *help,
                        const struct labelled *pairs, size_t count) {
    http_metric_head(body, name, "counter", help);
    for (size_t i = 0; i < count; i++) {
        http_text_printf(body, "nova_kms_%s{result=\"%s\"} %" PRIu64 "\n", name, pairs[i].label,
                         pairs[i].value);
    }
}
#define WRITE_PAIRS(body, name, help, ...)                                  \
    write_pairs(body, name, help, (const struct labelled[]){ __VA_ARGS__ }, \
                sizeof((const struct labelled[]){ __VA_ARGS__ }) / sizeof(struct labelled))

static void write_results(const struct replica_stats *stats, struct http_text *body) {
    WRITE_PAIRS(body, "replication_pulls_total", "Pulls from members, by how they ended.",
                { "ok", stats->pull_ok_count }, { "failed", stats->pull_failed_count });
    WRITE_PAIRS(body, "replication_digests_total",
                "Comparisons of data with a member, by what they found.",
                { "equal", stats->digest_ok_count }, { "different", stats->digest_mismatch_count });
}

static void write_counts(const struct replica_stats *stats, bool in_service,
                         struct http_text *body) {
    const struct http_sample samples[] = {
        { "replication_in_service", "gauge",
          "Whether this node has the data of enough members to serve.", in_service },
        { "replication_members", "gauge", "Members beside this node.", stats->other_count },
        { "replication_members_reachable", "gauge", "Of those, whose last pull ended well.",
          stats->reachable_count },
        { "replication_dropped_pages_total", "counter", "Answers of members that were void.",
          stats->dropped_page_count },
        { "replication_records_total", "counter", "Records received from members.",
          stats->record_count },
        { "replication_applied_records_total", "counter", "Of those, what changed something.",
          stats->applied_count },
        { "replication_received_bytes_total", "counter", "Keys and sealed bytes received.",
          stats->byte_count },
        { "replication_forged_records_total", "counter",
          "Records that do not open under their app's key and name.", stats->forged_count },
        { "replication_repairs_total", "counter", "Pulls of everything after a difference.",
          stats->repair_count },
        { "replication_digest_alarms_total", "counter", "Differences that survived their repair.",
          stats->digest_alarm_count },
        { "replication_resets_total", "counter", "Times this node dropped its data to begin again.",
          stats->reset_count },
        { "replication_resets_given_total", "counter", "Times a member was told to.",
          stats->reset_given_count },
        { "durability_resets_total", "counter",
          "Times this node began to serve without the data of enough members.",
          stats->durability_reset_count },
    };
    http_write_samples(body, samples, sizeof(samples) / sizeof(samples[0]));
}

static void write_lag(const struct http_node *node, struct http_text *body) {
    struct member member;
    uint64_t count = 0;
    uint64_t lag_ms = 0;
    uint64_t alarm_count = 0;
    for (size_t i = 0; i < REPLICA_MEMBER_COUNT_MAX && read_member(node, i, &member); i++) {
        count = member.view.lag_count > count ? member.view.lag_count : count;
        lag_ms = member.view.lag_ms > lag_ms ? member.view.lag_ms : lag_ms;
        alarm_count += member.view.has_alarm ? 1 : 0;
    }
    const struct http_sample samples[] = {
        { "replication_lag_records", "gauge",
          "Log positions not pulled yet, from the member where most are missing.", count },
        { "replication_member_alarms", "gauge",
          "Members of whom a record is refused for good, or whose data differs after a repair.",
          alarm_count },
    };
    http_write_samples(body, samples, sizeof(samples) / sizeof(samples[0]));
    http_metric_head(body, "replication_lag_seconds", "gauge",
                     "Since when changes of some member are not here.");
    http_text_printf(body, "nova_kms_replication_lag_seconds %" PRIu64 ".%03" PRIu64 "\n",
                     lag_ms / 1000, lag_ms % 1000);
}

static void write_durability(const struct service_durability_stats *stats, struct http_text *body) {
    static const char name[] = "nova_kms_durability_wait_seconds";
    const struct http_sample failed = { "durability_timeouts_total", "counter",
                                        "Writes whose durability was not met in time.",
                                        atomic_load(&stats->failed_count) };
    http_write_samples(body, &failed, 1);
    http_metric_head(body, "durability_wait_seconds", "histogram",
                     "How long writes waited for acknowledgements that came.");
    uint64_t count = 0;
    for (size_t i = 0; i < SERVICE_DURABILITY_BUCKET_COUNT - 1; i++) {
        uint32_t bound_ms = service_durability_bounds_ms[i];
        count += atomic_load(&stats->waits[i]);
        http_text_printf(body, "%s_bucket{le=\"%u.%03u\"} %" PRIu64 "\n", name, bound_ms / 1000,
                         bound_ms % 1000, count);
    }
    count += atomic_load(&stats->waits[SERVICE_DURABILITY_BUCKET_COUNT - 1]);
    uint64_t sum_ms = atomic_load(&stats->wait_sum_ms);
    http_text_printf(body, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
    http_text_printf(body, "%s_sum %" PRIu64 ".%03" PRIu64 "\n", name, sum_ms / 1000,
                     sum_ms % 1000);
    http_text_printf(body, "%s_count %" PRIu64 "\n", name, count);
}

static void write_secrets(const struct http_node *node, struct http_text *body) {
    struct http_secret_stats stats = { 0 };
    node->secret_stats(node->ctx, &stats);
    WRITE_PAIRS(body, "secret_requests_total", "Members that asked for the master secret.",
                { "given", stats.given_count }, { "refused", stats.refused_count },
                { "failed", stats.give_failed_count });
    WRITE_PAIRS(body, "secret_fetches_total", "Times a member was asked for the master secret.",
                { "ok", stats.fetched_count }, { "failed", stats.fetch_failed_count });
}

void http_write_replication(const struct http_node *node, struct http_text *body) {
    struct replica_stats stats;
    bool in_service = false;
    read_stats(node, &stats, &in_service);
    write_counts(&stats, in_service, body);
    write_results(&stats, body);
    write_lag(node, body);
    write_durability(node->shared->durability_stats, body);
    write_secrets(node, body);
}
