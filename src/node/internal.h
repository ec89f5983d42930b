/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a running node, for this room's files only. */
#pragma once

#include <stdatomic.h>

#include "crypto/kdf.h"
#include "http/pages.h"
#include "http/stream.h"
#include "net/server.h"
#include "node/authority.h"
#include "node/node.h"
#include "node/post.h"
#include "service/kms.h"
#include "service/node_service.h"

/* What one worker serves. */
struct node_worker {
    struct service_kms *kms;
    struct authority *authority;
};

enum node_phase { NODE_STARTING, NODE_SERVING, NODE_DRAINING, NODE_STOPPED };

struct node {
    const struct node_cfg *cfg;
    struct status *why;
    struct rc rc; /* What node_run returns. */
    enum node_phase phase;
    uint64_t started_at_ms; /* Monotonic. */

    struct kdf_master master;
    struct service_clock clock;
    struct service_readiness readiness;
    struct service_kv *kv;
    struct service_shared shared;
    struct service_status *status;
    struct service_node node_service;
    struct registry_service *registry;
    uint32_t registry_refresh_ms;
    uint64_t registry_failed_count;   /* When it was looked at last. */
    struct registry_members *members; /* Where the watch reads them to. */

    struct node_post post;
    struct net_server *server;
    struct node_worker workers[NET_WORKER_COUNT_MAX];
    uint32_t worker_count; /* Those that were made. */

    struct http_node http;
    struct http_pages pages;
    struct net_plain *plain;

    uv_loop_t loop; /* The controlling thread's. */
    bool loop_is_open;
    uv_timer_t watch_timer;
    uv_timer_t collect_timer;
    uv_timer_t renew_timer;
    uv_async_t drained;
    uv_signal_t signals[2];

    uv_work_t renew_work;
    bool renewing;
    struct tls_config *renewed; /* What the work made, or NULL with renew_why. */
    struct status renew_why;
    uint64_t not_after_unix_s; /* Of the credential in use. */
};

/* Moves a gate, and logs when that changes what the node says of itself. */
void node_set_gate(struct node *node, enum service_gate gate, const char *reason);
uint64_t node_unix_ms(const struct node *node);

/* Makes a credential and a TLS configuration of it. Blocks. Gives *out. */
RC node_tls_make(struct node *node, struct tls_config **out, struct status *why);
/* Starts to renew the credential at half of its life. */
void node_tls_watch(struct node *node, struct tls_config *in_use);

/* Looks at the clocks and at the registry's member list, now and from now on. */
void node_watch_start(struct node *node);
/* Takes what expired out of the store, now and then. */
void node_collect_start(struct node *node);
