/* SPDX-License-Identifier: Apache-2.0 */
/* What a node that becomes ready asks of the other members. Each call blocks, within bounds of its
 * own, and runs on the driver's working thread only. On error the reason is one sentence. */
#pragma once

#include "bootstrap/bootstrap.h"
#include "crypto/kdf.h"
#include "registry/registry.h"

/* members are the cluster's as the registry has them, without this node. */
struct node_peers {
    void *ctx;
    /* Which of them hold a secret, and which of these the held one (zero: none is held). */
    RC(*ask)
    (void *ctx, const struct registry_members *members, const struct bootstrap_hash *held,
     struct bootstrap_peers *out, char reason[static REGISTRY_REASON_BYTES]);
    /* Gives *out (kdf_master_close): the secret with that hash. */
    RC(*fetch)
    (void *ctx, const struct registry_members *members, const struct bootstrap_hash *wanted,
     struct kdf_master *out, char reason[static REGISTRY_REASON_BYTES]);
    /* Brings all data here. */
    RC(*snapshot)
    (void *ctx, const struct registry_members *members, char reason[static REGISTRY_REASON_BYTES]);
};
