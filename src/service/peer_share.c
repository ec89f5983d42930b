/* SPDX-License-Identifier: Apache-2.0 */
/* FetchMasterSecret on the worker: checks and limits the request, and waits for the thread that
 * knows the secret, reads the registry and seals. */
#include "service/peer_internal.h"

static void leave(struct share_wait *wait) {
    struct share_wait **at = &wait->peer->shares;
    while (*at != wait) {
        at = &(*at)->next;
    }
    *at = wait->next;
    wait->peer->share_count--;
}

/* The call ended without our answer. What is sealed for it later is dropped. */
static void ended_cb(void *ctx) {
    leave(ctx);
}

static bool check(struct service_peer *peer, const struct wallet *wallet,
                  const Novakms__V1__FetchMasterSecretRequest *in, struct status *why) {
    struct replica_state state;
    uint32_t retry_after_ms = 0;
    if (!peer_state_in(in->state, &state, why)) {
        return false;
    }
    if (in->wanted_hash.len != REPLICA_HASH_BYTES) {
        status_set(why, STATUS_INVALID_ARGUMENT, "wanted_hash: has %zu bytes; it must have %d",
                   in->wanted_hash.len, REPLICA_HASH_BYTES);
        return false;
    }
    if (in->nonce.len != PEER_NONCE_BYTES) {
        status_set(why, STATUS_INVALID_ARGUMENT, "nonce: has %zu bytes; it must have %d",
                   in->nonce.len, PEER_NONCE_BYTES);
        return false;
    }
    if (!auth_limiter_take(peer->share_limiter, wallet, uv_now(peer->cfg.loop), &retry_after_ms)) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "at most %u requests for the master secret a minute; try again in %u ms",
                   SERVICE_SHARE_PER_MINUTE, retry_after_ms);
        return false;
    }
    if (peer->cfg.share == NULL) {
        status_set(why, STATUS_UNIMPLEMENTED, "this node gives no master secret away");
        return false;
    }
    return true;
}

static bool start(struct service_peer *peer, struct share_wait *wait,
                  const Novakms__V1__FetchMasterSecretRequest *in) {
    const struct service_caller *caller = net_call_context(wait->call);
    struct service_share_ask ask = { .worker_idx = peer->cfg.worker_idx,
                                     .id = wait->id,
                                     .wallet = caller->wallet };
    memcpy(ask.wanted_hash, in->wanted_hash.data, sizeof(ask.wanted_hash));
    memcpy(ask.nonce, in->nonce.data, sizeof(ask.nonce));
    return peer->share_count < SERVICE_SHARE_COUNT_MAX && peer->cfg.share(peer->cfg.ctx, &ask);
}

void peer_fetch(Novakms__V1__PeerService_Service *service,
                const Novakms__V1__FetchMasterSecretRequest *in,
                Novakms__V1__FetchMasterSecretResponse_Closure closure, void *closure_data) {
    struct service_peer *peer = (struct service_peer *)service;
    struct net_call *call = net_call_from(closure_data);
    if (!peer_pass(peer, call)) {
        return;
    }
    const struct service_caller *caller = net_call_context(call);
    struct status why = { 0 };
    if (!check(peer, &caller->wallet, in, &why)) {
        net_call_fail(call, &why, NULL);
        return;
    }
    struct share_wait *wait = arena_take(net_call_arena(call), sizeof(*wait));
    if (wait == NULL) {
        peer_fail_nomem(call);
        return;
    }
    *wait = (struct share_wait){ .next = peer->shares,
                                 .peer = peer,
                                 .call = call,
                                 .closure = (ProtobufCClosure)closure,
                                 .id = ++peer->last_share_id };
    if (!start(peer, wait, in)) {
        status_set(&why, STATUS_RESOURCE_EXHAUSTED,
                   "too many requests for the master secret wait already; try again");
        net_call_fail(call, &why, NULL);
        return;
    }
    peer->shares = wait;
    peer->share_count++;
    net_call_on_end(call, ended_cb, wait);
}

/* Everything is sent before this returns: the answer's bytes are lent. */
static void answer(struct service_peer *peer, struct share_wait *wait,
                   const struct service_share_answer *answer) {
    struct service_share_answer copy = *answer;
    struct replica_state state;
    const struct service_shared *shared = peer->cfg.shared;
    const struct replica_now now = peer_now(peer);
    const struct store *store = service_kv_lock(shared->kv);
    replica_note_shared(shared->replica, &now);
    replica_own_state(shared->replica, store, &now, &state);
    service_kv_unlock(shared->kv, false);
    Novakms__V1__FetchMasterSecretResponse out = NOVAKMS__V1__FETCH_MASTER_SECRET_RESPONSE__INIT;
    if (peer_state_out(&state, net_call_arena(wait->call), &out.state).err != E_OK) {
        peer_fail_nomem(wait->call);
        return;
    }
    out.sender_public_key =
        (ProtobufCBinaryData){ sizeof(copy.sender_public_key), copy.sender_public_key };
    out.seal_nonce = (ProtobufCBinaryData){ sizeof(copy.seal_nonce), copy.seal_nonce };
    out.sealed = (ProtobufCBinaryData){ copy.sealed_len, copy.sealed };
    wait->closure(&out.base, wait->call);
}

void service_peer_shared(struct service_peer *peer, uint64_t id,
                         const struct service_share_answer *result) {
    struct share_wait *wait = peer->shares;
    while (wait != NULL && wait->id != id) {
        wait = wait->next;
    }
    if (wait == NULL) {
        return;
    }
    leave(wait);
    net_call_on_end(wait->call, NULL, NULL);
    if (result->why.code != STATUS_OK) {
        net_call_fail(wait->call, &result->why, NULL);
        return;
    }
    answer(peer, wait, result);
}
