/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of one node: /health, /health/live, /status, /metrics. Any thread. */
#pragma once

#include "auth/view.h"
#include "http/http.h"
#include "net/server.h"
#include "registry/service.h"
#include "service/methods.h"
#include "service/status.h"

/* How the master secret travelled. */
struct http_secret_stats {
    uint64_t given_count;
    uint64_t refused_count;
    uint64_t give_failed_count;
    uint64_t fetched_count;
    uint64_t fetch_failed_count;
};

/* Everything is lent while pages are served. */
struct http_node {
    struct service_status *status;
    const struct service_shared *shared;
    const struct net_server *server;
    struct registry_service *registry;
    /* Sums up the workers' views. */
    void (*auth_stats)(void *ctx, struct auth_view_stats *out);
    void (*secret_stats)(void *ctx, struct http_secret_stats *out);
    void *ctx;
    uint64_t (*now_ms)(void); /* Monotonic. */
};

/* Gives the pages of node, which is lent. */
struct http_pages http_node_pages(struct http_node *node);
