/* SPDX-License-Identifier: Apache-2.0 */
#include "node/peers.h"

#include <stdio.h>

static RC say_nobody(char *reason) {
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "no other member can be asked");
    return ERR(UNAVAILABLE);
}

static RC ask(void *ctx, const struct registry_members *members, const struct bootstrap_hash *held,
              struct bootstrap_peers *out, char reason[static REGISTRY_REASON_BYTES]) {
    (void)ctx;
    (void)held;
    *out = (struct bootstrap_peers){ 0 };
    return members->count == 0 ? OK : say_nobody(reason);
}

static RC fetch(void *ctx, const struct registry_members *members,
                const struct bootstrap_hash *wanted, struct kdf_master *out,
                char reason[static REGISTRY_REASON_BYTES]) {
    (void)ctx;
    (void)members;
    (void)wanted;
    *out = (struct kdf_master){ 0 };
    return say_nobody(reason);
}

static RC snapshot(void *ctx, const struct registry_members *members,
                   char reason[static REGISTRY_REASON_BYTES]) {
    (void)ctx;
    return members->count == 0 ? OK : say_nobody(reason);
}

const struct node_peers node_peers_none = { .ask = ask, .fetch = fetch, .snapshot = snapshot };
