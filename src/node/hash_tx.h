/* SPDX-License-Identifier: Apache-2.0 */
/* The one transaction of a node: setMasterSecretHash. It is made once for a nonce; whatever happens
 * on the way, the same bytes are sent again, or the same nonce with a higher fee, so that at most
 * one of them can ever be mined. Blocks; the thread that owns chain and Odyn. */
#pragma once

#include "bootstrap/bootstrap.h"
#include "identity/odyn.h"
#include "registry/chain_tx.h"

/* Versions of one nonce that are remembered: any of them may be the one that is mined. */
#define HASH_TX_VERSION_COUNT_MAX 16
/* 1000 gwei, a hundred times what this chain has asked in its worst hours: above it somebody wants
 * the wallet's money. */
#define HASH_TX_FEE_WEI_MAX UINT64_C(1000000000000)

/* Embedded; zero knows of none. */
struct hash_tx {
    bool has_raw;
    struct wallet sender;
    struct bootstrap_hash secret_hash;
    struct eip1559_tx tx; /* data is not set. */
    struct identity_odyn_raw raw;
    uint64_t signed_at_ms;
    bool is_underpriced; /* The server has another one of this nonce, which pays no less. */
    uint8_t versions[HASH_TX_VERSION_COUNT_MAX][CHAIN_TX_HASH_BYTES];
    size_t version_count;
};

/* What it is done with. Lent for the call. */
struct hash_tx_world {
    struct chain *chain;
    struct identity_odyn *odyn;
    struct wallet sender; /* Odyn's. */
    struct wallet kms_registry;
    uint64_t chain_id;
    uint64_t now_ms;   /* Monotonic. */
    uint64_t stuck_ms; /* A version older than this, which the server forgot, pays more. */
};

/* Sends it, for BOOTSTRAP_SEND_TX. OK once the chain's server has it. */
RC hash_tx_send(struct hash_tx *tx, const struct hash_tx_world *world,
                const struct bootstrap_action *action, char reason[static REGISTRY_REASON_BYTES]);
/* What became of it, for BOOTSTRAP_CHECK_TX. */
RC hash_tx_check(struct hash_tx *tx, const struct hash_tx_world *world, enum bootstrap_tx *out,
                 char reason[static REGISTRY_REASON_BYTES]);
