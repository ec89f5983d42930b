/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's files share. One struct for each thread's state; who may touch what is said at
 * each. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <uv.h>

#include "base/siphash.h"
#include "net/conn_internal.h"
#include "net/server.h"
#include "wire/frame.h"
#include "wire/method.h"

#define CALL_POOL_MAX 512u      /* Ended calls that a worker keeps for the next ones. */
#define CALLS_RESUME_COUNT 192u /* In flight, when a connection at the limit is read again. */
#define SESSION_TICK_MS 1000u
#define ACCEPT_BATCH_MAX 16u
#define ACCEPT_RETRY_MS 100u

/* ---- Counters: written by one thread, read by any ---- */

static inline void count_up(atomic_uint_least64_t *counter, uint64_t by) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}
static inline uint64_t count_get(const atomic_uint_least64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

struct method_counters {
    atomic_uint_least64_t count[NET_STATUS_COUNT];
    atomic_uint_least64_t latency[NET_LATENCY_COUNT];
    atomic_uint_least64_t latency_sum_us;
};

struct worker_counters {
    struct method_counters methods[NET_METHOD_COUNT_MAX];
    atomic_uint_least64_t in_flight;
    atomic_uint_least64_t unknown_method;
    atomic_uint_least64_t bad_frame;
    atomic_uint_least64_t refused;
};
void worker_count_call(struct worker_counters *c, size_t method_idx, uint32_t code, uint64_t us);

/* ---- Functions for a loop from other threads ---- */

struct mail {
    struct mail *next;
    void (*fn)(void *arg);
    void *arg;
    bool is_ours; /* The mailbox made it and frees it. */
};

struct mailbox {
    _Atomic(struct mail *) first; /* The newest. */
    uv_poll_t poll;
    int fd; /* An eventfd. */
};
RC mailbox_init(struct mailbox *m, uv_loop_t *loop);
/* Runs mail->fn(mail->arg) on the loop. mail is the caller's, until then. False when the mailbox is
 * closed. Any thread, while the mailbox's memory is there. */
bool mailbox_put(struct mailbox *m, struct mail *mail);
/* The same with a mail of its own. False also when memory is out. */
bool mailbox_post(struct mailbox *m, void (*fn)(void *arg), void *arg);
/* Refuses further mail and runs what is there; closes the handle. When the loop's thread has
 * ended and no other thread posts any more. */
void mailbox_close(struct mailbox *m);

/* ---- Calls ---- */

struct session;
struct net_worker;

struct net_call {
    struct session *session; /* NULL once ended. */
    struct net_call *next;   /* In the session's calls in flight, or in the worker's free list. */
    struct net_call *prev;
    const struct method *method;
    uint64_t call_id;
    uint64_t started_us;
    uint64_t deadline_at_ms;
    size_t heap_idx;
    void (*end_cb)(void *ctx);
    void *end_ctx;
    struct arena arena;
    ProtobufCAllocator allocator; /* Takes from the arena. */
    bool is_over_budget;          /* The arena's bytes_max was reached. */
    bool is_executed;             /* net_call_set_executed, which told this: */
    struct net_error_details done;
    bool is_invoking;  /* The stub has not returned. */
    bool is_in_flight; /* It returned without an answer. */
};

/* Calls in flight by deadline: a binary heap. */
struct deadlines {
    struct net_call **heap;
    size_t count;
    size_t bytes_count; /* Room, in calls. */
};
/* Makes room for one more, so that nothing that a call has done is lost for it. NOMEM. */
RC deadlines_reserve(struct deadlines *d);
/* There is room. */
void deadlines_add(struct deadlines *d, struct net_call *call);
void deadlines_remove(struct deadlines *d, struct net_call *call);
struct net_call *deadlines_first(const struct deadlines *d);
void deadlines_close(struct deadlines *d);

/* Starts a request's call: judges, unpacks and invokes it. */
void call_start(struct session *s, const novakms_v1_Request *request, struct span payload);
void call_cancel(struct session *s, uint64_t call_id);
/* Ends all in flight without answers. */
void call_end_all(struct session *s);
/* Ends those whose deadline has passed. */
void call_check_deadlines(struct net_worker *w);
void call_free_pool(struct net_worker *w);

/* ---- Sessions: a connection's server side, on its worker ---- */

enum session_state {
    SESSION_ADMITTING,
    SESSION_ACTIVE,
    SESSION_LEAVING, /* goaway is sent; ends with its last call. */
    SESSION_OVER,
};

/* The pool's thread makes it and frees it, with the TLS session in it: a worker that gives memory
 * back to the pool's heap may wait for its lock, held by a thread of low priority that does not
 * run. Measured: it made one call in fifty wait for milliseconds during a storm of handshakes. */
struct session {
    struct net_conn *conn; /* The worker's; NULL before it arrives. */
    struct net_worker *worker;
    uint32_t worker_idx; /* Known after the worker is gone. */
    struct net_pool *home;
    struct mail mail;       /* To the worker, and home. */
    struct net_parts parts; /* To the worker; on the way home, what is to be freed. */
    bool is_http;
    struct session *prev; /* In the worker's list. */
    struct session *next;
    void *context;
    struct net_call *calls; /* In flight. */
    uint32_t call_count;
    enum session_state state;
    bool is_stream; /* Another protocol: only counted and drained here. */
    bool has_wallet;
    bool was_offered; /* admit was asked, so closed must be told. */
    bool is_full;     /* Paused at NET_CALLS_IN_FLIGHT_MAX. */
    struct wallet wallet;
    uint64_t identity_until_ms; /* Monotonic. */
    uint64_t last_call_id;
    uint64_t ping_minute_at_ms;
    uint32_t ping_count;
    uint32_t anonymous_call_count; /* Since anonymous_second_at_ms. */
    uint64_t anonymous_second_at_ms;
    size_t frame_bytes_max;
    size_t answer_frame_max; /* 0: the server's. */
};

/* Mail: begins to serve what the handshake pool made. */
void session_arrive(void *session);
void session_write_header(struct session *s, const novakms_v1_FrameHeader *header);
/* One of its calls ended. */
void session_call_ended(struct session *s);
/* Identities that ended. */
void session_check_time(struct session *s, uint64_t now_ms);
void session_drain(struct session *s);

/* ---- Threads ---- */

enum thread_kind {
    THREAD_PROMPT,     /* Runs soon after it is woken. */
    THREAD_BACKGROUND, /* Gives way to the others. */
};
/* Names the calling thread and tells the scheduler its kind, as far as that is permitted. */
void thread_begin(const char *name, uint32_t idx, enum thread_kind kind);

struct net_worker {
    struct net_server *server;
    uint32_t idx;
    uv_loop_t loop;
    uv_thread_t thread;
    struct mailbox mailbox;
    struct net_io *io;
    struct net_worker_cfg cfg;
    struct session *sessions;
    struct net_call *free_calls;
    uint32_t free_call_count;
    struct deadlines deadlines;
    uv_timer_t deadline_timer; /* At the first deadline. */
    uint64_t deadline_set_ms;  /* What the timer is set to; UINT64_MAX: stopped. */
    uv_timer_t tick;
    uv_timer_t drain_timer;
    struct mail stop;
    bool has_thread;
    bool is_draining;
    bool is_drained;
    uint64_t now_us;    /* End of the last call, or start of this batch. */
    struct frame frame; /* Scratch, because they are big. */
    struct status why;
    novakms_v1_FrameHeader header;
    struct worker_counters counters;
};
RC worker_init(struct net_worker **out, struct net_server *server, uint32_t idx);
RC worker_start(struct net_worker *w);
/* Ends its thread. */
void worker_stop(struct net_worker *w);
/* When all threads of the server have ended. Accepts NULL in it. */
void worker_close(struct net_worker **w);
void worker_set_deadline(struct net_worker *w);
/* Mail: goodbye to all. */
void worker_drain(void *arg);
/* After a session is gone. */
void worker_check_drained(struct net_worker *w);

struct net_pool {
    struct net_server *server;
    uint32_t idx;
    uv_loop_t loop;
    uv_thread_t thread;
    struct mailbox mailbox;
    struct net_io *io;
    uv_poll_t listener;
    uv_timer_t retry; /* Looks again whether to accept. */
    uv_timer_t drain_timer;
    struct mail stop;
    bool has_thread;
    bool is_listening;
    bool is_draining;
    bool is_drained;
    uint32_t conn_count; /* Handshakes, and refusals being said. */
    uint32_t conn_count_max;
    atomic_uint_least64_t handshaking;
    atomic_uint_least64_t handshakes[NET_HANDSHAKE_COUNT];
};
RC pool_init(struct net_pool **out, struct net_server *server, uint32_t idx);
RC pool_start(struct net_pool *pool);
/* Ends its thread. */
void pool_stop(struct net_pool *pool);
/* When all threads of the server have ended, after the workers. Accepts NULL in it. */
void pool_close(struct net_pool **p);
/* Mail: stop accepting. */
void pool_drain(void *arg);
/* Mail: a session whose connection is gone comes home. Gives its place back and frees it. */
void pool_bury(void *session);

/* ---- The server ---- */

struct placement; /* Which worker a wallet's connections are on. */
struct placement_cfg {
    uint32_t worker_count;
    uint32_t conn_per_wallet_max;
    uint32_t conn_anonymous_max;
};
RC placement_init(struct placement **out, const struct placement_cfg *cfg);
void placement_close(struct placement **p);
/* Gives the worker for a connection of wallet (NULL: anonymous) and counts it. QUOTA over the
 * maximum of such connections, NOMEM. Any thread. */
RC placement_add(struct placement *p, const struct wallet *wallet, uint32_t *worker_idx);
void placement_remove(struct placement *p, const struct wallet *wallet, uint32_t worker_idx);

struct net_server {
    struct net_server_cfg cfg; /* With the defaults filled in. host is ours. */
    char host[64];
    struct net_budget budget;
    struct method_table methods; /* Of all workers alike. */
    pthread_mutex_t tls_lock;    /* tls. */
    struct tls_config *tls;
    struct placement *placement;
    struct net_worker *workers[NET_WORKER_COUNT_MAX];
    struct net_pool *pools[NET_WORKER_COUNT_MAX];
    uint32_t pool_count;
    int listen_fd;
    uint16_t port;
    atomic_uint conn_count; /* On workers, or on their way to one. */
    atomic_uint_least64_t conn_total;
    atomic_bool is_draining;
    atomic_uint drain_left; /* Threads that are not drained. */
    uint32_t drain_timeout_ms;
    void (*drained_cb)(void *ctx);
    void *drained_ctx;
};
struct tls_config *server_tls_ref(struct net_server *server);
void server_thread_drained(struct net_server *server);

/* Gives a listening socket and its port. *why gets a sentence with the address on error. */
RC listen_open(const char *host, uint16_t port, int *fd, uint16_t *bound_port, struct status *why);
