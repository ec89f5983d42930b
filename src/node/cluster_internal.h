/* SPDX-License-Identifier: Apache-2.0 */
/* What the cluster's files share; not for others. Everything is the cluster thread's own, but for
 * what a mutex guards, and for a page that is merged in the pool (cluster_page.c). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "identity/odyn.h"
#include "net/channel.h"
#include "node/cluster.h"
#include "registry/url.h"
#include "service/keys.h"
#include "service/peer_message.h"

#define CLUSTER_WHY_BYTES 160

/* One member, as it was listed. A change of wallet or URL makes another one. */
struct peer {
    struct peer *prev;
    struct peer *next;
    struct cluster *cluster;
    struct wallet wallet;
    char url[REGISTRY_URL_BYTES];
    struct net_channel *channel; /* NULL: see why. */
    char why[CLUSTER_WHY_BYTES]; /* Why there can be no connection to it; or empty. */
    bool is_listed;
    uint64_t kept_until_ms; /* Not listed, but asked for something lately. */
};

/* Something that another thread waits for. */
struct cluster_job {
    struct cluster_job *next;
    void (*start)(struct cluster *cluster, struct cluster_job *job);
    bool is_done; /* Guarded. */
};

struct cluster {
    struct cluster_cfg cfg;
    struct node_peers node_peers;
    struct peer_limits limits;
    uv_loop_t loop;
    uv_async_t woken;
    uv_timer_t timer; /* When the replica wants to be asked again. */
    struct net_budget budget;
    struct net_io *io;
    pthread_t thread;

    struct peer *peers;
    size_t peer_count; /* Those whose memory is not gone yet. */
    struct tls_config *tls;
    uint64_t members_at_ms; /* As of when the list is. */
    struct cluster_page
        *pages;        /* That came and are not done with; the first is being dealt with. */
    size_t page_bytes; /* Of them all. */
    bool is_merging;   /* In the pool, which uses scratch, and keys under their mutex. */
    pthread_mutex_t keys_mutex;
    struct service_keys *keys;
    uint8_t *scratch; /* Where records are opened to see that they do. */
    size_t scratch_bytes;
    struct arena in;  /* Of the answer that is being looked at. */
    struct arena out; /* Of the request that is being made. */
    bool is_ready;    /* What the node was told last. */
    char reason[REPLICA_REASON_BYTES];
    bool is_complete;               /* All data was here at the last look. */
    uint64_t snapshot_at_us;        /* When the first page was asked for; 0: all is here. */
    uint64_t snapshot_record_count; /* As counted then, and the next. */
    uint64_t snapshot_applied_count;
    uint64_t logged_at_ms;
    struct replica_stats logged;
    uint64_t durability_reset_count; /* As logged. */
    bool is_ending;

    pthread_mutex_t mutex; /* Guards the rest. */
    pthread_cond_t changed;
    bool is_cancelled; /* No calls any more. */
    bool is_closing;
    struct cluster_job *jobs;
    struct registry_members *new_members; /* NULL: the ones in use are the latest. */
    struct wallet new_self;
    struct tls_config *new_tls;
    struct identity_odyn *odyn; /* While a secret is opened. */
    struct cluster_stats stats;
};

/* ---- cluster.c ---- */

struct replica_now cluster_now(const struct cluster *c);
/* Copies what a peer said for log, /status and /health: printable ASCII, the rest as "?". */
void cluster_plain(const char *text, char *out, size_t out_bytes);
/* Looks again soon at what is to be done. */
void cluster_soon(struct cluster *c);
/* Tells the thread that waits. */
void cluster_job_done(struct cluster *c, struct cluster_job *job);
/* Waits until the job is done. False when the cluster is stopping: it was not started. */
bool cluster_job_run(struct cluster *c, struct cluster_job *job);

/* ---- cluster_peers.c ---- */

/* The peer with that wallet that is listed; NULL when there is none. */
struct peer *cluster_find(struct cluster *c, const struct wallet *wallet);
/* The peer of a member, listed or not: made if need be, and kept for a while. NULL when memory is
 * out. */
struct peer *cluster_reach(struct cluster *c, const struct auth_instance *member);
/* Takes the new list, and new TLS. */
void cluster_take_members(struct cluster *c, const struct wallet *wallet,
                          const struct registry_members *members);
void cluster_take_tls(struct cluster *c, struct tls_config *tls);
/* Drops those that are neither listed nor kept; with all, every one. */
void cluster_drop_peers(struct cluster *c, bool all);
/* Every peer's memory is gone. In cluster.c. */
void cluster_peers_gone(struct cluster *c);

/* ---- cluster_pull.c ---- */

/* Does what the replica wants done now; gives when it wants to be asked again (monotonic). */
uint64_t cluster_pump(struct cluster *c);
/* Sends a PULL of the replica's, or tells the replica why not. */
void cluster_pull(struct cluster *c, const struct replica_todo *todo);
/* Tells the replica that a pull has failed. */
void cluster_pull_failed(struct cluster *c, uint32_t ticket, bool is_starting, const char *reason);

/* ---- cluster_page.c ---- */

/* In the closure of a pull: takes its answer, which is dealt with when those before it are. */
void cluster_take_page(struct peer *peer, uint32_t ticket, const Novakms__V1__PullResponse *in);
/* The store is emptied under a new writer. Under its lock. */
void cluster_empty_store(struct store *store);

/* ---- cluster_ask.c ---- */

RC cluster_ask(void *ctx, const struct registry_members *members, const struct bootstrap_hash *held,
               struct bootstrap_peers *out, char reason[static REGISTRY_REASON_BYTES]);

/* ---- cluster_fetch.c ---- */

RC cluster_fetch(void *ctx, const struct registry_members *members,
                 const struct bootstrap_hash *wanted, struct kdf_master *out,
                 char reason[static REGISTRY_REASON_BYTES]);
