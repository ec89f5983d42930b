/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of PeerService share; not for other rooms. */
#pragma once

#include "service/peer_service.h"

/* A request for the master secret that waits, in its call's arena. */
struct share_wait {
    struct share_wait *next;
    struct service_peer *peer;
    struct net_call *call;
    ProtobufCClosure closure;
    uint64_t id;
};

struct service_peer {
    Novakms__V1__PeerService_Service service; /* First: the generated code passes its address. */
    struct service_peer_cfg cfg;
    struct service_waits waits;
    struct auth_limiter *share_limiter;
    struct share_wait *shares;
    uint32_t share_count;
    uint64_t last_share_id;
};

/* Time and a random number of now. */
struct replica_now peer_now(const struct service_peer *peer);
/* Whether the caller may ask anything here; false: it was answered. */
bool peer_pass(const struct service_peer *peer, struct net_call *call);
void peer_fail_nomem(struct net_call *call);

/* The methods. */
void peer_pull(Novakms__V1__PeerService_Service *service, const Novakms__V1__PullRequest *in,
               Novakms__V1__PullResponse_Closure closure, void *closure_data);
void peer_get_digest(Novakms__V1__PeerService_Service *service,
                     const Novakms__V1__GetDigestRequest *in,
                     Novakms__V1__GetDigestResponse_Closure closure, void *closure_data);
void peer_fetch(Novakms__V1__PeerService_Service *service,
                const Novakms__V1__FetchMasterSecretRequest *in,
                Novakms__V1__FetchMasterSecretResponse_Closure closure, void *closure_data);
