/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the master secret to members that ask for it: one thread, which reads the registry for each
 * request, and has Odyn seal the secret to the key that is registered. Any thread. */
#pragma once

#include "crypto/kdf.h"
#include "node/config.h"
#include "service/peer_service.h"

#define SHARE_QUEUE_COUNT_MAX 32u

struct share; /* Opaque. */

struct share_cfg {
    const struct node_config *config; /* Lent until close, as the next. */
    const atomic_bool *chain_stop;    /* Set: reads of the chain end. */
    /* Copies the secret with that hash, and gives whether this node holds it. On share's thread. */
    bool (*copy_secret)(void *ctx, const uint8_t hash[static KDF_HASH_BYTES],
                        uint8_t out[static KDF_MASTER_BYTES]);
    /* Gives an answer to the worker that asked; copies it. On share's thread. */
    void (*answer)(void *ctx, const struct service_share_ask *ask,
                   const struct service_share_answer *answer);
    void *ctx;
};

struct share_stats {
    uint64_t given_count;
    uint64_t refused_count; /* The asker may not have it, or this node has another one or none. */
    uint64_t failed_count;  /* The chain could not be read, or Odyn did not seal. */
};

/* Gives *out, NULL on error with a sentence in *why; starts the thread. Connects to nobody.
 * BAD_CONFIG, NOMEM. */
RC share_init(struct share **out, const struct share_cfg *cfg, struct status *why);
/* Takes *share: lets the read under way end, stops the thread, frees, sets NULL. Requests still
 * queued are dropped. Accepts a closed one. */
void share_close(struct share **share);

/* Queues a request, copied. False when too many wait. Never blocks for chain or Odyn. */
bool share_ask(struct share *share, const struct service_share_ask *ask);
void share_stats(struct share *share, struct share_stats *out);
