/* SPDX-License-Identifier: Apache-2.0 */
#include "http/pages.h"

#include <stdlib.h>

#include <jansson.h>

#include "base/hex.h"
#include "http/metrics.h"
#include "http/replication.h"

static void append_json(struct http_text *body, json_t *json) {
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text == NULL) {
        body->failed = true;
    } else {
        http_text_append(body, span_str(text));
        http_text_append(body, SPAN_LIT("\n"));
        free(text);
    }
    json_decref(json);
}

static unsigned write_health(const struct service_snapshot *now, struct http_text *body) {
    if (now->serving) {
        append_json(body, json_pack("{s:s}", "status", "healthy"));
        return 200;
    }
    append_json(body, json_pack("{s:s,s:s}", "status", "unavailable", "reason", now->reason));
    return 503;
}

/* The guide's "node" object and more. */
static json_t *node_object(const struct service_status_cfg *cfg,
                           const struct service_snapshot *now) {
    char wallet[WALLET_TEXT_BYTES];
    char writer[HEX_TEXT_BYTES(STORE_WRITER_BYTES)];
    char hash[2 + HEX_TEXT_BYTES(SERVICE_HASH_BYTES)] = "0x";
    hex_encode((struct span){ now->writer, STORE_WRITER_BYTES }, writer);
    hex_encode((struct span){ now->master_hash, SERVICE_HASH_BYTES }, hash + 2);
    return json_pack("{s:s,s:s,s:b,s:I,s:I,s:s,s:[s]}", "tee_wallet",
                     wallet_format(&now->wallet, wallet), "node_url", cfg->url, "is_operator",
                     (int)now->is_operator, "chain_id", (json_int_t)cfg->chain_id, "kms_app_id",
                     (json_int_t)cfg->kms_app_id, "master_secret_hash", hash, "writers", writer);
}

static json_t *data_store_object(const struct service_snapshot *now) {
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I}", "namespaces", (json_int_t)now->store.namespace_count, "total_keys",
        (json_int_t)now->store.key_count, "total_bytes", (json_int_t)now->store.bytes, "tombstones",
        (json_int_t)now->store.tombstone_count, "conflicts", (json_int_t)now->store.conflict_count);
}

static void write_status(const struct http_node *node, const struct service_snapshot *now,
                         struct http_text *body) {
    const struct service_status_cfg *cfg = service_status_cfg(node->status);
    append_json(body, json_pack("{s:s,s:s,s:s,s:I,s:o,s:o,s:o}", "status",
                                now->serving ? "healthy" : "unavailable", "reason", now->reason,
                                "version", cfg->version, "uptime_seconds",
                                (json_int_t)(now->uptime_ms / 1000), "node", node_object(cfg, now),
                                "cluster", http_cluster_object(node, now), "data_store",
                                data_store_object(now)));
}

static unsigned write_page(void *ctx, enum http_page page, struct http_text *body,
                           const char **content_type) {
    struct http_node *node = ctx;
    if (page == HTTP_PAGE_HEALTH_LIVE) {
        append_json(body, json_pack("{s:s}", "status", "alive"));
        return 200;
    }
    struct service_snapshot now;
    service_status_read(node->status, node->now_ms(), &now);
    switch (page) {
    case HTTP_PAGE_HEALTH:
    case HTTP_PAGE_HEALTH_LIVE:
        return write_health(&now, body);
    case HTTP_PAGE_STATUS:
        write_status(node, &now, body);
        return 200;
    case HTTP_PAGE_METRICS:
        *content_type = "text/plain; version=0.0.4; charset=utf-8";
        http_write_metrics(node, &now, body);
        return 200;
    }
    return 500;
}

struct http_pages http_node_pages(struct http_node *node) {
    return (struct http_pages){ .write = write_page, .ctx = node };
}
