/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of one node: /health, /health/live, /status, /metrics. Any thread. */
#pragma once

#include "auth/view.h"
#include "http/http.h"
#include "net/server.h"
#include "registry/service.h"
#include "service/status.h"

/* Everything is lent while pages are served. */
struct http_node {
    struct service_status *status;
    const struct net_server *server;
    struct registry_service *registry;
    /* Sums up the workers' views. */
    void (*auth_stats)(void *ctx, struct auth_view_stats *out);
    void *ctx;
    uint64_t (*now_ms)(void); /* Monotonic. */
};

/* Gives the pages of node, which is lent. */
struct http_pages http_node_pages(struct http_node *node);
