/* SPDX-License-Identifier: Apache-2.0 */
/* One worker's authority: joins the pure rules, view and limiter of auth with the registry's thread
 * and with net's connections. A connection waits for the registry at most once, when its wallet is
 * unknown; calls never do. Everything runs on the worker's loop, but for authority_stats. */
#pragma once

#include "auth/view.h"
#include "net/server.h"
#include "node/post.h"
#include "registry/service.h"
#include "service/readiness.h"

struct authority; /* Opaque. */

struct authority_cfg {
    uv_loop_t *loop; /* The worker's. */
    uint32_t worker_idx;
    struct node_post *post; /* Lent until close, as all pointers here. */
    struct registry_service *registry;
    struct service_readiness *readiness;
    uint64_t kms_app_id;
    uint32_t rate_limit_per_minute; /* 0: off. */
    uint32_t refresh_ms;
    uint32_t ttl_ms;
    uint32_t conn_count_max; /* Of the whole server: one worker may hold them all. */
};

/* Gives *out, NULL on error. Before the worker runs. NOMEM, IO. */
RC authority_init(struct authority **out, const struct authority_cfg *cfg);
/* The operations for net. A connection's context is a struct service_caller from then on. */
struct net_authority authority_ops(struct authority *authority);
/* On the loop, or when it does not run any more: closes the timer. */
void authority_stop(struct authority *authority);
/* Takes *authority once the loop has closed its handles and the registry service is closed: frees,
 * sets NULL. Accepts a closed one. */
void authority_close(struct authority **authority);
/* Adds the view's figures, at most a tick old, to *sum. Any thread. */
void authority_stats(struct authority *authority, struct auth_view_stats *sum);
