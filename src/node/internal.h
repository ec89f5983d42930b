/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a running node, for this room's files only. */
#pragma once

#include <stdatomic.h>

#include "crypto/kdf.h"
#include "http/pages.h"
#include "http/stream.h"
#include "identity/odyn.h"
#include "net/server.h"
#include "node/authority.h"
#include "node/cluster.h"
#include "node/driver.h"
#include "node/node.h"
#include "node/post.h"
#include "node/share.h"
#include "service/kms.h"
#include "service/node_service.h"
#include "service/peer_service.h"

/* What one worker serves. */
struct node_worker {
    struct service_kms *kms;
    struct service_peer *peer;
    struct authority *authority;
};

enum node_phase { NODE_STARTING, NODE_SERVING, NODE_DRAINING, NODE_STOPPED };

struct node {
    const struct node_cfg *cfg;
    struct status *why;
    struct rc rc; /* What node_run returns. */
    enum node_phase phase;
    uint64_t started_at_ms; /* Monotonic. */

    /* What workers derive from, and in the other place what they derived from before, until all
     * have changed over. */
    struct kdf_master masters[2];
    unsigned master_idx;
    struct service_clock clock;
    struct service_readiness readiness;
    struct service_kv *kv;
    struct replica *replica; /* Guarded by kv's lock. */
    atomic_bool is_stopping; /* For long polls. */
    struct service_durability_stats durability_stats;
    struct service_shared shared;
    struct service_status *status;
    struct service_node node_service;
    struct registry_service *registry;
    uint32_t registry_refresh_ms;
    uint64_t registry_failed_count;   /* When it was looked at last. */
    struct registry_members *members; /* Where the watch reads them to. */
    uint64_t members_at_ms;           /* As of when those are that the cluster has. */
    uint64_t hard_refusal_count; /* Records refused for the hard bounds, when looked at last, */
    uint64_t hard_refusal_at_ms; /* and when there were some. */

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
    uv_timer_t drain_timer;
    uint64_t drain_at_ms; /* When the signal came. */
    uv_async_t drained;
    uv_signal_t signals[2];

    uv_work_t renew_work;
    bool renewing;
    bool renew_again; /* What is being made will be of a former wallet. */
    uint32_t renew_failure_count;
    struct tls_config *renewed; /* What the work made, or NULL with renew_why. */
    struct status renew_why;
    uint64_t not_after_unix_s; /* Of the credential in use. */

    struct wallet wallet; /* The node's; zero while Odyn has not named one. */

    /* On chain only. */
    struct driver *driver;
    struct cluster *cluster;
    struct share *share;
    uv_async_t wallet_named;
    pthread_mutex_t live_mutex; /* Of the rest. */
    pthread_cond_t live_changed;
    struct wallet named_wallet;        /* By Odyn, on its way to the controlling thread. */
    struct identity_odyn *signer_odyn; /* While a credential is being made. */
    bool is_closing;
    uint32_t changing_count; /* Workers that still derive from the former master secret. */
};

/* Moves a gate, and logs when that changes what the node says of itself. */
void node_set_gate(struct node *node, enum service_gate gate, const char *reason);
uint64_t node_unix_ms(const struct node *node);

/* Makes a credential and a TLS configuration of it. Blocks. Gives *out. */
RC node_tls_make(struct node *node, struct tls_config **out, struct status *why);
/* The credential has to be made, or made anew at once: the wallet is known, or is another one. */
void node_tls_renew(struct node *node);
/* Starts to renew the credential at half of its life. */
void node_tls_watch(struct node *node, struct tls_config *in_use);

/* Looks at the clocks and at the registry's member list, now and from now on. */
void node_watch_start(struct node *node);
/* Takes what expired out of the store, now and then. */
void node_collect_start(struct node *node);

/* A node on chain: what becomes ready while it runs. The gates are closed in init; prepare makes
 * what the workers use; start begins, and may be called once the workers run; stop ends it, before
 * the loop and the workers do. */
void node_live_init(struct node *node);
RC node_live_prepare(struct node *node);
RC node_live_start(struct node *node);
void node_live_stop(struct node *node);
void node_live_free(struct node *node); /* What the workers used. */
void node_live_close(struct node *node);
