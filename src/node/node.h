/* SPDX-License-Identifier: Apache-2.0 */
/* One node: joins the rooms, and turns signals and timers into what they decide. It is the same for
 * development and production; they differ in where the wallet, the registry and the master secret
 * come from (node/start.h). */
#pragma once

#include <stdatomic.h>

#include "base/status.h"
#include "identity/signer.h"
#include "node/config.h"
#include "registry/registry.h"

#define NODE_EXIT_OK 0
#define NODE_EXIT_FAILED 1
#define NODE_EXIT_USAGE 2

/* Where a serving node can be reached. Lent for the call. */
struct node_ready {
    struct config_address rpc;
    struct config_address http;
    struct wallet wallet;
};

struct node_cfg {
    const struct node_config *config;
    const char *version;
    const char *host; /* For the certificate's SubjectAltName. */
    /* On chain: wallet and TLS credential come from Odyn, membership and the master secret's hash
     * from the chain, and signer and master_secret are not set. The node becomes ready while it
     * runs (node/driver.h). */
    bool is_on_chain;
    atomic_bool *chain_stop; /* What *source was made with: set when the node closes. */
    struct identity_signer signer;
    const uint8_t *master_secret; /* KDF_MASTER_BYTES; copied into locked memory. */
    /* Once, on the controlling thread, when the node serves for the first time. An error stops it.
     * NULL: nobody waits for it. */
    RC (*ready_cb)(void *ctx, const struct node_ready *ready, struct status *why);
    void *ctx;
};

/* Serves until SIGTERM or SIGINT, then drains. Takes *source in any case. Everything in cfg is lent
 * for the call. On error *why says in a sentence what could not be done. Blocks: it is the
 * process's main loop, and once per process. */
RC node_run(const struct node_cfg *cfg, struct registry **source, struct status *why);
