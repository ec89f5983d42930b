/* SPDX-License-Identifier: Apache-2.0 */
/* The server of "novakms/1" and of other protocols on the TLS port: accepts, shakes hands in a pool
 * of its own threads, hands connections to worker loops, and calls the registered services'
 * generated stubs there.
 *
 * Threads. The server's functions are for one controlling thread, except where they say otherwise.
 * Everything about a connection or a call happens on its worker's loop. All connections of one
 * wallet are on one worker, so state kept per wallet and worker needs no lock. Nothing on a worker
 * may block. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/wallet.h"
#include "net/conn.h"
#include "net/tls.h"

#define NET_WORKER_COUNT_MAX 8u
#define NET_SERVICE_COUNT_MAX 8u
#define NET_CALLS_IN_FLIGHT_MAX 256u
#define NET_TIMEOUT_DEFAULT_MS 10000u
#define NET_TIMEOUT_MAX_MS 300000u

struct net_server; /* Opaque. */
struct net_call;   /* One request in progress. Opaque. */

/* ---- What the server is given ---- */

/* A generated service and its implementation. The methods get `closure_data`, which is the call
 * (net_call_from); they answer by the closure or by net_call_fail, at once or later on the same
 * loop. Request messages are lent until the call ends. */
struct net_service {
    ProtobufCService *service; /* Lent until the server is closed; one per worker, or shared. */
    bool is_public;            /* Answered without certificate and without `check`. */
};

/* Who may call. All run on the worker's loop; ctx is the worker's. */
struct net_authority {
    void *ctx;
    /* A connection with a proved wallet shook hands. Answered, now or later on this loop, by
     * net_conn_admit or net_conn_refuse; until then nothing is read from it. Not asked for
     * connections without a certificate: they reach only public services and streams. */
    void (*admit)(void *ctx, struct net_conn *conn);
    /* Before each call of a service that is not public, and with is_recheck before the answer of a
     * call that did not answer at once, and where a service asks (net_call_recheck). False refuses
     * it with *why (code and sentence set) and *retry_after_ms (0 beforehand). O(1), no lock. */
    bool (*check)(void *ctx, struct net_call *call, bool is_recheck, struct status *why,
                  uint32_t *retry_after_ms);
    /* The connection is gone: once for each that was given to admit. An admission still open is
     * forgotten. */
    void (*closed)(void *ctx, struct net_conn *conn);
};

/* Another protocol on the TLS port, or a plain port's: a factory of connection handlers. Its
 * handlers use net_conn_write, net_conn_finish, net_conn_close and net_conn_user. */
struct net_stream {
    void *ctx;
    /* Takes over conn (its TLS is up): sets its user and gives the ops to go on with, NULL to
     * close. ops->open is not called. Runs on the connection's loop. */
    const struct net_conn_ops *(*accept)(void *ctx, struct net_conn *conn);
};

/* What one worker serves. Everything in it is lent until the server is closed. */
struct net_worker_cfg {
    struct net_service services[NET_SERVICE_COUNT_MAX];
    size_t service_count;
    struct net_authority authority;
    struct net_stream http; /* ALPN http/1.1, and clients without ALPN. accept NULL: refused. */
};

struct net_server_cfg {
    const char *host; /* IPv4 or IPv6 address, or "localhost". Lent for net_server_start. */
    uint16_t port;    /* 0: any free one; see net_server_port. */
    struct tls_config
        *tls; /* One reference is added. NULL: net_server_set_tls before it listens. */
    uint64_t identity_skew_ms; /* Connections end when the peer's binding has, plus this. */

    uint32_t worker_count;              /* 0: the CPUs, at most NET_WORKER_COUNT_MAX. */
    uint32_t handshake_threads;         /* 0: half of the workers, at least 1. */
    uint32_t handshake_count_max;       /* In progress at once; accepting pauses at it. 0: 256. */
    uint32_t conn_count_max;            /* 0: 4096. Over it: goaway RESOURCE_EXHAUSTED. */
    uint32_t conn_per_wallet_max;       /* 0: half of conn_count_max. The same over it. */
    uint32_t conn_anonymous_max;        /* Without a certificate. 0: a quarter of conn_count_max. */
    uint32_t handshake_timeout_ms;      /* 0: 10 s. */
    uint32_t idle_timeout_ms;           /* 0: 10 min. */
    uint32_t anonymous_idle_timeout_ms; /* Without a certificate. 0: 30 s. */
    uint32_t anonymous_calls_per_second_max; /* On one such connection. 0: 20. */
    uint32_t frame_timeout_ms;               /* From a frame's first byte to its last. 0: 30 s. */
    uint32_t ping_per_minute_max;            /* 0: 60. */
    size_t frame_bytes_max;                  /* Of admitted callers. 0: 4 MiB. */
    size_t message_bytes_max;                /* Of an unpacked request in memory. 0: 16 MiB. */
    size_t buffer_bytes_max;                 /* Of all connections' buffers together. 0: 128 MiB. */

    /* Fills what worker worker_idx serves. Called by net_server_init, before its thread starts;
     * loop is the worker's, for timers and async handles (made with net_server_post). */
    RC (*worker_init)(void *ctx, uint32_t worker_idx, uv_loop_t *loop, struct net_worker_cfg *out);
    void *ctx;
};

/* ---- The server ---- */

/* Gives *out, NULL on error: workers and pool made, nothing runs and nothing listens. Copies cfg.
 * BAD_CONFIG, NOMEM, what worker_init returns. */
RC net_server_init(struct net_server **out, const struct net_server_cfg *cfg);
/* Starts the workers' threads, without listening: net_server_post works from here on. NOMEM. */
RC net_server_start(struct net_server *server);
/* Listens and starts the handshake pool. *why gets a sentence with the address on error. IO,
 * BAD_CONFIG. */
RC net_server_listen(struct net_server *server, struct status *why);
/* The port it listens on; 0 before net_server_listen. */
uint16_t net_server_port(const struct net_server *server);
/* Every handshake from now on uses this one (adds a reference); connections keep theirs. Any
 * thread. */
void net_server_set_tls(struct net_server *server, struct tls_config *tls);

/* Runs fn(arg) on a worker's loop, in the order posted. False when the worker has stopped; then fn
 * does not run. Any thread. */
bool net_server_post(struct net_server *server, uint32_t worker_idx, void (*fn)(void *arg),
                     void *arg);

/* Stops in order: no new connections; goaway to all; calls in flight are finished; new ones get
 * UNAVAILABLE; connections close as they empty, all of them after timeout_ms. Then done_cb(ctx)
 * runs, on one of the server's threads: it must only signal. Once; later calls do nothing. */
void net_server_drain(struct net_server *server, uint32_t timeout_ms, void (*done_cb)(void *ctx),
                      void *ctx);
/* Takes *server: closes what is left, joins the threads, frees. Accepts NULL in it. Blocks; not
 * from the server's own threads. */
void net_server_close(struct net_server **server);

/* ---- Connections, on their worker's loop ---- */

/* Answers admit. */
void net_conn_admit(struct net_conn *conn);
/* Answers admit, or ends an admitted connection: goaway with that status, then close. */
void net_conn_refuse(struct net_conn *conn, const struct status *why);
/* The wallet the peer proved; NULL without a certificate. Lent while the connection lives. */
const struct wallet *net_conn_wallet(const struct net_conn *conn);
/* Answers on this connection may make frames of up to so many bytes, instead of the server's
 * frame_bytes_max. */
void net_conn_set_answer_frame_max(struct net_conn *conn, size_t frame_bytes_max);
/* A pointer of the authority's, NULL at first. */
void net_conn_set_context(struct net_conn *conn, void *context);
void *net_conn_context(const struct net_conn *conn);

/* ---- Calls, on their worker's loop ---- */

/* The call behind a stub's closure_data. */
static inline struct net_call *net_call_from(void *closure_data) {
    return (struct net_call *)closure_data;
}

/* What a client can act on beside the code (ErrorDetails in frame.proto). */
struct net_error_details {
    uint32_t retry_after_ms;
    bool has_stamp;
    uint64_t stamp_hlc;
    uint8_t stamp_writer[16];
    bool may_miss;
};

/* Ends the call with an error. details may be NULL. */
void net_call_fail(struct net_call *call, const struct status *why,
                   const struct net_error_details *details);

/* Where the call came from, and where it runs. All are lent until the call ends. */
struct net_conn *net_call_conn(const struct net_call *call);
/* The service that the call is of: one of the generated descriptors. */
const ProtobufCServiceDescriptor *net_call_service(const struct net_call *call);
/* NULL without a certificate (public services only). */
const struct wallet *net_call_wallet(const struct net_call *call);
/* The connection's context (net_conn_set_context). */
void *net_call_context(const struct net_call *call);
uint32_t net_call_worker_idx(const struct net_call *call);
uv_loop_t *net_call_loop(const struct net_call *call);
/* Monotonic, comparable with clock_mono_ms(). */
uint64_t net_call_deadline_at_ms(const struct net_call *call);
/* Lives until the call ends, then is wiped. For the answer's parts. */
struct arena *net_call_arena(struct net_call *call);
/* The memory of its arena, which is also its request's: at most message_bytes_max and what its
 * blocks have left, as much again. */
size_t net_call_held_bytes(const struct net_call *call);
/* How long a packed answer may be. */
size_t net_call_answer_bytes_max(const struct net_call *call);
/* What the call asks for is done. Copies details, which go with every error that it ends with from
 * here on, unless the service fails it: at its deadline, at a recheck, or because its answer is too
 * large. The codes with which a client tries again (UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED)
 * become UNKNOWN. Before the answer, and before the service waits with it. */
void net_call_set_executed(struct net_call *call, const struct net_error_details *details);
/* For calls that do later what they are asked for, just before it: whether the authority still lets
 * the caller (is_recheck). False: it was answered with the reason, and must not be touched. */
bool net_call_recheck(struct net_call *call);
/* For calls that answer later: end_cb runs once if the call ends before its service answers it
 * (cancel, deadline, connection gone, server stopped); after it, the call must not be touched. Not
 * after an answer. One for each call; NULL takes it back. */
void net_call_on_end(struct net_call *call, void (*end_cb)(void *ctx), void *ctx);

/* ---- A plain port, on the caller's own loop ---- */

struct net_plain; /* Opaque. */

struct net_plain_cfg {
    uv_loop_t *loop;
    const char *host;
    uint16_t port; /* 0: any free one. */
    struct net_stream stream;
    uint32_t conn_count_max;     /* 0: 64. More wait in the kernel's queue. */
    uint32_t request_timeout_ms; /* Idle, input and stall timeouts. 0: 10 s. */
};

/* Gives *out, NULL on error: listens. Everything runs on the loop. IO, BAD_CONFIG, NOMEM with a
 * sentence in *why. */
RC net_plain_listen(struct net_plain **out, const struct net_plain_cfg *cfg, struct status *why);
/* The port it listens on. */
uint16_t net_plain_port(const struct net_plain *plain);
/* Takes *plain: closes the port and its connections. The loop must turn until its handles are
 * closed. Accepts NULL in it. */
void net_plain_close(struct net_plain **plain);

/* ---- Figures ---- */

#define NET_METHOD_COUNT_MAX 32u
#define NET_STATUS_COUNT 17u
/* Latency of a call in the server, from its frame's arrival to its answer: upper bounds in
 * microseconds; the last bucket has none. */
#define NET_LATENCY_BUCKETS(X) \
    X(10) X(25) X(50) X(100) X(250) X(500) X(1000) X(2500) X(10000) X(50000) X(250000) X(1000000)
#define NET_LATENCY_COUNT 13u
extern const uint32_t net_latency_bounds_us[NET_LATENCY_COUNT - 1];

/* How a handshake ended, when not with OK. TLS: what the peer sent is no TLS we accept. CLOSED: it
 * hung up. IDENTITY: a certificate without a good binding. PROTOCOL: none in common, or not served.
 * LIMIT: over conn_count_max. */
#define NET_HANDSHAKE_MAP(X) \
    X(TLS, "tls")            \
    X(TIMEOUT, "timeout")    \
    X(CLOSED, "closed")      \
    X(IDENTITY, "identity")  \
    X(PROTOCOL, "protocol")  \
    X(LIMIT, "limit")        \
    X(DRAINING, "draining")  \
    X(INTERNAL, "internal")
#define NET_HANDSHAKE_ENUM(name, text) NET_HANDSHAKE_##name,
enum net_handshake { NET_HANDSHAKE_OK, NET_HANDSHAKE_MAP(NET_HANDSHAKE_ENUM) NET_HANDSHAKE_COUNT };
#undef NET_HANDSHAKE_ENUM
extern const char *const net_handshake_names[NET_HANDSHAKE_COUNT];

struct net_method_stats {
    const char *name; /* "novakms.v1.KmsService/Derive"; lent for good by the server. */
    uint64_t count[NET_STATUS_COUNT]; /* By canonical code. */
    uint64_t latency[NET_LATENCY_COUNT];
    uint64_t latency_sum_us;
};

struct net_stats {
    uint64_t conn_count;        /* Open now, admitted or not. */
    uint64_t conn_total;        /* Since the start. */
    uint64_t handshaking_count; /* Now. */
    uint64_t handshakes[NET_HANDSHAKE_COUNT];
    uint64_t calls_in_flight;
    uint64_t unknown_method_count;
    uint64_t bad_frame_count;
    uint64_t refused_count; /* Connections that admit refused. */
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t buffered_bytes;
    struct net_method_stats methods[NET_METHOD_COUNT_MAX];
    size_t method_count;
};

/* A sum over all threads' counters; each is read without a lock. Any thread. */
void net_server_stats(const struct net_server *server, struct net_stats *out);
