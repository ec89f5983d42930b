/* SPDX-License-Identifier: Apache-2.0 */
/* PeerService on one worker: what this node answers to the cluster's other members. Pulls that find
 * nothing wait (long poll); the master secret is sealed on another thread. Made by the controlling
 * thread before the worker runs; then everything is on the worker's loop, but for the store's
 * signal.
 *
 * It is answered while the node serves no client too: each method says itself what it needs. */
#pragma once

#include "auth/limiter.h"
#include "crypto/envelope.h"
#include "service/methods.h"
#include "service/peer_message.h"
#include "service/waits.h"

/* Long polls of one worker that wait at once; further ones are answered at once. */
#define SERVICE_POLL_COUNT_MAX 1024u
/* The memory that they hold together: a full vector takes about 2 MiB. */
#define SERVICE_POLL_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* Records and bytes that one section under the store's lock copies. */
#define SERVICE_PAGE_STEP_COUNT 64u
#define SERVICE_PAGE_STEP_BYTES ((size_t)64 * 1024)
/* Sections of one page: past them it ends, with more to come. */
#define SERVICE_PAGE_STEPS_MAX 512u
/* Requests for the master secret that wait on one worker, and of one wallet in a minute. */
#define SERVICE_SHARE_COUNT_MAX 16u
#define SERVICE_SHARE_PER_MINUTE 30u

/* Room for the sealed JSON text (peer.proto). */
#define SERVICE_SHARE_BYTES_MAX 1024

struct service_peer; /* Opaque. */

/* A request for the master secret, of a wallet that is a member by what the worker knows. */
struct service_share_ask {
    uint32_t worker_idx;
    uint64_t id;
    struct wallet wallet;
    uint8_t wanted_hash[REPLICA_HASH_BYTES];
    uint8_t nonce[PEER_NONCE_BYTES];
};

struct service_share_answer {
    struct status why; /* OK, or why it is refused. */
    uint8_t sender_public_key[ENVELOPE_DER_BYTES];
    uint8_t seal_nonce[ENVELOPE_NONCE_BYTES];
    uint8_t sealed[SERVICE_SHARE_BYTES_MAX];
    size_t sealed_len;
};

struct service_peer_cfg {
    const struct service_shared *shared; /* Lent until close. */
    uv_loop_t *loop;                     /* The worker's. */
    service_post_fn post;
    void *post_ctx;
    uint32_t worker_idx;
    struct peer_limits limits;
    uint32_t page_bytes_max;
    bool needs_tls13; /* TLS 1.2 shows the peers' wallets on the wire. */
    /* Takes in a request (copied), which is answered by service_peer_shared on this loop. False:
     * there are too many. NULL: this node gives none. */
    bool (*share)(void *ctx, const struct service_share_ask *ask);
    /* A member was heard of: what is to be done next may have changed. May be NULL. */
    void (*heard)(void *ctx);
    void *ctx;
};

/* Gives *out, NULL on error. The connection's context (net_call_context) of every call must be a
 * struct service_caller. NOMEM, QUOTA, IO. */
RC service_peer_init(struct service_peer **out, const struct service_peer_cfg *cfg);
/* Lends the service to register with the server. */
ProtobufCService *service_peer_service(struct service_peer *peer);
/* On the loop: answers a request, unless its call has ended meanwhile. */
void service_peer_shared(struct service_peer *peer, uint64_t id,
                         const struct service_share_answer *result);
/* Answers all long polls soon, because the node stops. Any thread. */
void service_peer_wake(struct service_peer *peer);
/* On the loop, or when it does not run any more: closes the timer. */
void service_peer_stop(struct service_peer *peer);
/* Takes *peer once the loop has closed its handles: frees, sets NULL. Accepts a closed one. */
void service_peer_close(struct service_peer **peer);
