/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of "novakms/1": calls to one server, over a connection that is made when a call
 * needs it and made again after a loss. The generated stubs of protobuf-c are the interface: a
 * channel gives a ProtobufCService for each service descriptor, and
 *     novakms__v1__kms_service__derive(net_channel_service(channel, &...descriptor), &request,
 *                                      closure, closure_data);
 * is the call. Any number of calls may be in progress, and they finish in any order.
 *
 * Each call ends in exactly one run of its closure, from the loop, not inside the stub that started
 * it (except when memory is out): with the answer, lent for that run, or with NULL. Inside the
 * closure net_channel_outcome says how the call went, and whether it may have been executed. The
 * channel itself repeats nothing: whoever knows what the method does decides.
 *
 * The server's wallet is checked inside the TLS handshake, before anything of ours is sent. No call
 * starts on a connection after the server's binding has ended.
 *
 * A channel belongs to its loop's thread and every call is made there. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"
#include "net/conn.h"
#include "net/dial.h"
#include "net/tls.h"
#include "wire/frame.h"

struct net_channel; /* Opaque. */

#define NET_CHANNEL_IN_FLIGHT_MAX 256u
#define NET_CHANNEL_SERVICE_COUNT_MAX 8u
/* Connections that only finish their last calls (after a goaway, or a new credential). */
#define NET_CHANNEL_DRAINING_MAX 4u
#define NET_CHANNEL_TIMEOUT_DEFAULT_MS 10000u
#define NET_CHANNEL_TIMEOUT_MAX_MS 300000u

struct net_channel_cfg {
    struct net_io *io;             /* Lent until the channel's memory is gone. */
    const char *target;            /* "host:port" or "[IPv6]:port". Copied. */
    const struct net_proxy *proxy; /* Lent until the channel's memory is gone. NULL: none. */
    struct tls_config *tls;        /* Of a client. One reference is added. */
    tls_check_cb check;            /* Judges the server's wallet; required. */
    void *check_ctx;               /* Lent until the channel's memory is gone. */
    uint32_t timeout_ms;           /* For calls, see net_channel_set_timeout. 0: the default. */
    uint32_t connect_timeout_ms;   /* Lookup, TCP and the proxy's answer. 0: 5 s. */
    uint32_t handshake_timeout_ms; /* 0: 5 s. */
    uint32_t recheck_ms;   /* A connection in use is judged by check again this often. 0: never. */
    uint32_t keepalive_ms; /* Silence after which the server is asked whether it is there, and
                              after as much again is taken for gone. 0: never asked. */
    uint32_t backoff_min_ms;  /* After a failed connection; doubles, with jitter. 0: 50 ms. */
    uint32_t backoff_max_ms;  /* 0: 2 s. */
    uint32_t queue_count_max; /* Calls that wait for a connection or a place on it. 0: 1024. */
    size_t queue_bytes_max;   /* Their requests together. 0: 32 MiB. */
    size_t frame_bytes_max;   /* Either way. 0: 4 MiB. */
    size_t message_bytes_max; /* An unpacked answer in memory. 0: 16 MiB. */
};

/* Gives *out, NULL on error with a sentence in *why. Copies cfg. Connects to nothing yet. INVALID
 * for a target that is none, NOMEM. */
RC net_channel_init(struct net_channel **out, const struct net_channel_cfg *cfg,
                    struct status *why);
/* Takes *channel; accepts NULL in it, and then does nothing. Calls in progress end with CANCELLED
 * inside this; a call that one of those closures starts never ends. Its memory goes while the loop
 * turns, then closed_cb(ctx) runs, unless it is NULL. */
void net_channel_close(struct net_channel **channel, void *ctx, void (*closed_cb)(void *ctx));

/* Lends a service of this channel, until the channel is closed; the same for the same descriptor.
 * Its destroy does nothing. NULL when memory is out, or over NET_CHANNEL_SERVICE_COUNT_MAX. */
ProtobufCService *net_channel_service(struct net_channel *channel,
                                      const ProtobufCServiceDescriptor *descriptor);
/* For calls that start from now on: from the start to the end, waiting for a connection included.
 * 0: the default; at most NET_CHANNEL_TIMEOUT_MAX_MS. */
void net_channel_set_timeout(struct net_channel *channel, uint32_t timeout_ms);
/* The id of the call that was started last: from 1, growing. 0 before the first, and when memory
 * was out for it (it has ended then). */
uint64_t net_channel_last_call(const struct net_channel *channel);
/* Inside a closure with an answer, once: gives the memory that the answer lies in, which stays then
 * until arena_close(out). */
void net_channel_keep_answer(struct net_channel *channel, struct arena *out);
/* Ends a call with CANCELLED, in a later turn of the loop, and tells the server when the request
 * was sent. Calls that have ended are ignored. */
void net_channel_cancel(struct net_channel *channel, uint64_t call_id);
/* Calls that have not ended. */
size_t net_channel_call_count(const struct net_channel *channel);

/* Uses another credential for connections from now on (adds a reference). The present connection
 * finishes its calls and closes; later calls get a new one. */
void net_channel_set_tls(struct net_channel *channel, struct tls_config *tls);
/* Whether a connection is up, handshake included. */
bool net_channel_is_connected(const struct net_channel *channel);

/* What a failed call can have done. */
enum net_executed {
    NET_NOT_EXECUTED,   /* Not sent, or the server said that it did not look at it. */
    NET_MAYBE_EXECUTED, /* It was sent; nothing more is known. */
    NET_ANSWERED        /* The server's own answer. */
};

struct net_outcome {
    struct status status; /* OK beside an answer. */
    enum net_executed executed;
    bool is_refusal;         /* The connection, not the call, was refused: with the server's status
                                (goaway), or because the server's identity is not accepted. */
    uint32_t retry_after_ms; /* As ErrorDetails (frame.proto). */
    bool may_miss;
    bool has_stamp;
    novakms_v1_Stamp stamp;
};

/* Inside a closure: how its call went. Lent for that run. NULL outside of one. */
const struct net_outcome *net_channel_outcome(const struct net_channel *channel);
