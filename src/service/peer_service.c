/* SPDX-License-Identifier: Apache-2.0 */
#include "service/peer_service.h"

#include <stdlib.h>

#include "crypto/random.h"
#include "service/peer_internal.h"

#define SHARE_WALLET_COUNT_MAX 1024u

struct replica_now peer_now(const struct service_peer *peer) {
    struct replica_now now = { .mono_ms = uv_now(peer->cfg.loop) };
    now.unix_ms = service_clock_unix_ms(peer->cfg.shared->clock, now.mono_ms);
    if (random_bytes((uint8_t *)&now.random, sizeof(now.random)).err != E_OK) {
        now.random = UINT32_MAX; /* It only spreads retries. */
    }
    return now;
}

void peer_fail_nomem(struct net_call *call) {
    struct status why = { 0 };
    status_set(&why, STATUS_UNAVAILABLE, "the node is out of memory for this call; try again");
    net_call_fail(call, &why, NULL);
}

bool peer_pass(const struct service_peer *peer, struct net_call *call) {
    const struct service_caller *caller = net_call_context(call);
    struct status why = { .code = STATUS_OK };
    if (!caller->is_kms_member) {
        status_set(&why, STATUS_PERMISSION_DENIED, "only members of the cluster may call this");
    } else if (peer->cfg.needs_tls13 && tls_version(net_conn_tls(net_call_conn(call))) < 13) {
        status_set(&why, STATUS_FAILED_PRECONDITION, "members must use TLS 1.3");
    }
    if (why.code != STATUS_OK) {
        net_call_fail(call, &why, NULL);
    }
    return why.code == STATUS_OK;
}

/* ---- Life ---- */

static RC init_limiter(struct service_peer *peer) {
    struct auth_limiter_cfg cfg = { .per_minute = SERVICE_SHARE_PER_MINUTE,
                                    .wallet_count_max = SHARE_WALLET_COUNT_MAX };
    TRY(random_bytes(cfg.hash_key, sizeof(cfg.hash_key)));
    return auth_limiter_init(&peer->share_limiter, &cfg);
}

RC service_peer_init(struct service_peer **out, const struct service_peer_cfg *cfg) {
    *out = NULL;
    struct service_peer *peer = calloc(1, sizeof(*peer));
    ENSURE(peer != NULL, NOMEM);
    peer->cfg = *cfg;
    peer->service = (Novakms__V1__PeerService_Service){
        .base = NOVAKMS__V1__PEER_SERVICE__BASE_INIT,
        .pull = peer_pull,
        .get_digest = peer_get_digest,
        .fetch_master_secret = peer_fetch,
    };
    const struct service_waits_cfg waits = {
        .kv = cfg->shared->kv,
        .loop = cfg->loop,
        .post = cfg->post,
        .post_ctx = cfg->post_ctx,
        .worker_idx = cfg->worker_idx,
        .count_max = SERVICE_POLL_COUNT_MAX,
        .bytes_max = SERVICE_POLL_BYTES_MAX,
    };
    struct rc rc = init_limiter(peer);
    if (rc.err == E_OK) {
        rc = service_waits_init(&peer->waits, &waits);
    }
    if (rc.err != E_OK) {
        service_peer_close(&peer);
        return rc;
    }
    *out = peer;
    return OK;
}

ProtobufCService *service_peer_service(struct service_peer *peer) {
    return &peer->service.base;
}

void service_peer_wake(struct service_peer *peer) {
    service_waits_wake(&peer->waits);
}

void service_peer_stop(struct service_peer *peer) {
    service_waits_stop(&peer->waits);
}

void service_peer_close(struct service_peer **peer) {
    if (*peer == NULL) {
        return;
    }
    auth_limiter_close(&(*peer)->share_limiter);
    free(*peer);
    *peer = NULL;
}
