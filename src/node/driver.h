/* SPDX-License-Identifier: Apache-2.0 */
/* Becoming ready: drives bootstrap's decisions (docs/architecture.md, "Becoming ready"). Two
 * threads of its own: one steps bootstrap and performs what it decides, so that time always passes
 * there; the other does the tasks, which wait for Odyn, the chain and other members. Nothing here
 * runs on a request loop. */
#pragma once

#include "node/duties.h"

struct driver; /* Opaque. */

/* The functions run on the stepping thread. */
struct driver_cfg {
    const struct node_config *config; /* Lent until close, as peers. */
    const struct node_peers *peers;
    uint32_t poll_ms; /* struct bootstrap_cfg's, as the next three; 0 is the default. */
    uint32_t retry_min_ms;
    uint32_t retry_max_ms;
    uint32_t tx_stuck_ms;
    /* Why the node may not serve; NULL when it may. Called after each step. */
    void (*reason_cb)(void *ctx, const char *reason);
    /* Odyn has named this wallet, or another one than before. */
    void (*wallet_cb)(void *ctx, const struct wallet *wallet);
    /* Takes *master, which is the held secret from now on; the one before is wiped with all that
     * was made with it, before this returns. is_new: it was generated here just now. */
    void (*adopt_cb)(void *ctx, struct kdf_master *master, bool is_new);
    void *ctx;
};

/* Gives *out, NULL on error with a sentence in *why; starts the threads. BAD_CONFIG, NOMEM. */
RC driver_init(struct driver **out, const struct driver_cfg *cfg, struct status *why);
/* Takes *driver: cancels the call under way, which ends within about a second, stops the threads,
 * frees, sets NULL. Accepts a closed one. */
void driver_close(struct driver **driver);
