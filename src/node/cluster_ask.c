/* SPDX-License-Identifier: Apache-2.0 */
/* Asks all members at once which master secret they hold: GetStatus, which a node answers before it
 * serves. Who answers is proved by the connection. */
#include <novakms/v1/node.pb-c.h>
#include <stdio.h>

#include "base/clock.h"
#include "node/cluster_internal.h"

#define ASK_TIMEOUT_MS 3000u

struct asking {
    struct cluster_job job; /* First. */
    struct cluster *cluster;
    const struct registry_members *members;
    const struct bootstrap_hash *held;
    struct bootstrap_peers *out;
    unsigned pending_count;
    struct call {
        struct asking *asking;
        struct peer *peer;
    } calls[REGISTRY_MEMBER_COUNT_MAX];
};

static void leave(struct asking *asking) {
    asking->pending_count--;
    if (asking->pending_count == 0) {
        cluster_job_done(asking->cluster, &asking->job);
    }
}

static void on_status(const Novakms__V1__GetStatusResponse *answer, void *closure_data) {
    const struct call *call = closure_data;
    struct asking *asking = call->asking;
    struct bootstrap_hash hash = { 0 };
    if (answer != NULL && answer->master_secret_hash.len == sizeof(hash.bytes)) {
        memcpy(hash.bytes, answer->master_secret_hash.data, sizeof(hash.bytes));
        asking->out->reached_count++;
        if (!bootstrap_hash_is_zero(&hash)) {
            asking->out->holder_count++;
            asking->out->same_count += bootstrap_hash_equal(&hash, asking->held) ? 1 : 0;
        }
    }
    leave(asking);
}

static void ask_one(struct asking *asking, struct call *call) {
    struct net_channel *channel = call->peer == NULL ? NULL : call->peer->channel;
    ProtobufCService *service =
        channel == NULL ? NULL
                        : net_channel_service(channel, &novakms__v1__node_service__descriptor);
    if (service == NULL) {
        return;
    }
    Novakms__V1__GetStatusRequest request = NOVAKMS__V1__GET_STATUS_REQUEST__INIT;
    asking->pending_count++;
    net_channel_set_timeout(channel, ASK_TIMEOUT_MS);
    novakms__v1__node_service__get_status(service, &request, on_status, call);
}

static void start(struct cluster *c, struct cluster_job *job) {
    struct asking *asking = (struct asking *)(void *)job;
    asking->pending_count = 1; /* Held until all are asked. */
    for (size_t i = 0; i < asking->members->count; i++) {
        asking->calls[i] = (struct call){ asking, cluster_reach(c, &asking->members->at[i]) };
        ask_one(asking, &asking->calls[i]);
    }
    leave(asking);
}

RC cluster_ask(void *ctx, const struct registry_members *members, const struct bootstrap_hash *held,
               struct bootstrap_peers *out, char reason[static REGISTRY_REASON_BYTES]) {
    struct cluster *c = ctx;
    struct asking asking;
    asking.job = (struct cluster_job){ .start = start };
    asking.cluster = c;
    asking.members = members;
    asking.held = held;
    asking.out = out;
    asking.pending_count = 0;
    *out = (struct bootstrap_peers){ 0 };
    if (!cluster_job_run(c, &asking.job)) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "the node is stopping");
        return ERR(CLOSED);
    }
    return OK;
}
