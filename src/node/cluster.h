/* SPDX-License-Identifier: Apache-2.0 */
/* The node's side of replication that asks: one thread with one connection to each other member. It
 * does what the replica room decides, gives the answers to it, and carries what becoming ready asks
 * of the members (node/peers.h). A member that hangs delays nobody else.
 *
 * Functions are for any thread, _init and _close for one. */
#pragma once

#include "crypto/kdf.h"
#include "net/tls.h"
#include "node/config.h"
#include "node/peers.h"
#include "service/methods.h"

struct cluster; /* Opaque. */

struct cluster_cfg {
    const struct node_config *config;    /* Lent until close, as the next. */
    const struct service_shared *shared; /* Store, replica, clock. */
    uint32_t fetch_timeout_ms; /* For one member that is asked for the master secret. 0: 15 s. */
    /* Why the node may not serve as far as the others go: its data is not complete, or it is far
     * behind them. NULL when it may. Whenever that changes, on the cluster's thread. */
    void (*reason_cb)(void *ctx, const char *reason);
    void *ctx;
};

/* Gives *out, NULL on error; starts the thread. NOMEM. */
RC cluster_init(struct cluster **out, const struct cluster_cfg *cfg);
/* What waits for the cluster ends soon. */
void cluster_cancel(struct cluster *cluster);
/* Takes *cluster: stops the thread, closes the connections, frees, sets NULL. Accepts a closed
 * one. */
void cluster_close(struct cluster **cluster);

/* The members as the registry has them; copied. self is this node, whose URL is the
 * configuration's. */
void cluster_set_members(struct cluster *cluster, const struct wallet *self,
                         const struct registry_members *members);
/* Connections use another credential from now on (adds a reference). */
void cluster_set_tls(struct cluster *cluster, struct tls_config *tls);
/* What is to be done may have changed. */
void cluster_wake(struct cluster *cluster);
/* Uses another master secret (lent until the next one, or close): received records must open under
 * its keys. With is_replaced all data goes, and the node begins again as a new writer. is_new: this
 * node has just generated it. Returns when it is done. */
struct cluster_secret {
    const struct kdf_master *master;
    bool is_replaced;
    bool is_new;
};
void cluster_adopt(struct cluster *cluster, const struct cluster_secret *secret);

/* What becoming ready asks of the members; for the driver's working thread. Lent until close. */
const struct node_peers *cluster_peers(const struct cluster *cluster);

/* Secrets that were asked for here, for /metrics. */
struct cluster_stats {
    uint64_t fetched_count;
    uint64_t fetch_failed_count;
};
void cluster_stats(struct cluster *cluster, struct cluster_stats *out);
