/* SPDX-License-Identifier: Apache-2.0 */
/* One TCP connection on one libuv loop, with or without TLS: bytes in, bytes out, all buffers
 * bounded. Server, client channel and the plain HTTP port use it alike.
 *
 * A connection belongs to its loop's thread and every call is made there. It owns no buffers while
 * it is idle: reading, decrypting, answering and encrypting use the loop's scratch buffers
 * (struct net_io), and what one wake-up writes leaves in one write() at its end. */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "base/bytes.h"
#include "base/status.h"
#include "net/tls.h"

/* Memory that connections hold in buffers (input that is not consumed yet, output that the socket
 * did not take), over all loops that share it. Past its maximum, connections that need more are
 * closed. Any thread. */
struct net_budget {
    atomic_size_t used_bytes;
    size_t bytes_max;
};

/* Bytes moved, for the metrics. Written by the loop's thread only, read by any. */
struct net_traffic {
    atomic_uint_least64_t read_bytes;
    atomic_uint_least64_t written_bytes;
};

struct net_io;   /* What the connections of one loop share. Opaque. */
struct net_conn; /* Opaque. */

/* Gives *out, NULL on error. budget is lent until the close. Its handles do not keep the loop
 * alive. NOMEM. */
RC net_io_init(struct net_io **out, uv_loop_t *loop, struct net_budget *budget);
/* Takes io: closes its handles and frees it while the loop runs on; closed_cb (or NULL) runs then.
 * All its connections must be gone (their closed callback ran and the loop turned once). */
void net_io_close(struct net_io *io, void (*closed_cb)(void *ctx), void *ctx);
/* Lend, until the close. */
uv_loop_t *net_io_loop(const struct net_io *io);
const struct net_traffic *net_io_traffic(const struct net_io *io);
/* Milliseconds, monotonic: the loop's cached time, comparable with clock_mono_ms(). */
uint64_t net_io_now_ms(const struct net_io *io);

/* What a protocol does with its connection. Each may close, finish or detach it; the struct stays
 * valid until the loop's next turn. */
struct net_conn_ops {
    /* The TLS handshake is finished; alpn and peer are known. Not called without TLS, nor for a
     * session that is up already. May be NULL. */
    void (*open)(struct net_conn *conn);
    /* All input that is not consumed yet, in order; lent for the call. Gives how much of it is
     * consumed; the rest is kept and comes again in front of the next bytes. Not called while the
     * connection is paused or backlogged, so a consumer that must wait pauses and returns. */
    size_t (*data)(struct net_conn *conn, struct span input);
    /* The peer will send no more (half-close or close_notify); output still leaves. NULL:
     * finish. */
    void (*eof)(struct net_conn *conn);
    /* Idle or input timeout; why is a sentence. Says goodbye in its protocol's way and finishes.
     * NULL: close. */
    void (*expired)(struct net_conn *conn, const char *why);
    /* The connection is gone, for the reason of net_conn_why: the last callback, once for each
     * connection except a detached one. */
    void (*closed)(struct net_conn *conn);
};

struct net_conn_limits {
    uint32_t handshake_timeout_ms; /* From net_conn_init to the end of the handshake. 0: none. */
    uint32_t idle_timeout_ms;      /* Without a byte from the peer. 0: none. */
    uint32_t input_timeout_ms;     /* Kept input of which nothing is consumed. 0: none. */
    uint32_t stall_timeout_ms;     /* Output of which the peer takes nothing. 0: none. */
    size_t input_bytes_max;        /* Kept input. Over it the connection is closed. */
    size_t backlog_bytes_max;      /* Unsent output at which data is not called any more. */
    size_t output_bytes_max;       /* Unsent output at which the connection is closed. */
};
#define NET_CONN_LIMITS_DEFAULT                                                         \
    ((struct net_conn_limits){ .handshake_timeout_ms = 10000,                           \
                               .idle_timeout_ms = 600000,                               \
                               .input_timeout_ms = 30000,                               \
                               .stall_timeout_ms = 30000,                               \
                               .input_bytes_max = (size_t)4 * 1024 * 1024 + 128 * 1024, \
                               .backlog_bytes_max = (size_t)256 * 1024,                 \
                               .output_bytes_max = (size_t)16 * 1024 * 1024 })

struct net_conn_cfg {
    struct net_io *io;              /* Lent until closed. */
    int fd;                         /* Taken: a connected stream socket; made non-blocking. */
    struct tls *tls;                /* Taken. NULL: plain. Fresh, or with its handshake finished. */
    struct span unread;             /* Copied: bytes that were read from fd already. */
    const struct net_conn_ops *ops; /* Lent for good. */
    void *user;                     /* net_conn_user(). */
    struct net_conn_limits limits;
};

/* Gives *out, NULL on error, and then fd and tls are closed all the same. No callback runs before
 * the loop turns. Starts reading; a client's session sends its first flight. NOMEM, IO. */
RC net_conn_init(struct net_conn **out, const struct net_conn_cfg *cfg);

/* The protocol's own pointer, at first the configuration's; and where the connection lives. */
void *net_conn_user(const struct net_conn *conn);
void net_conn_set_user(struct net_conn *conn, void *user);
struct net_io *net_conn_io(const struct net_conn *conn);
/* NULL when plain. Lent. */
const struct tls *net_conn_tls(const struct net_conn *conn);
/* Lends the limits, to change them: from the next byte or tick on the new ones count. */
struct net_conn_limits *net_conn_limits(struct net_conn *conn);

/* Output leaves at the end of the wake-up, or before the loop sleeps. A failure closes the
 * connection (closed runs on the loop's next turn), so callers need no error path: writing to a
 * closing connection does nothing.
 *
 * Lends len contiguous bytes of the output; net_conn_commit says how many of them count and must be
 * the next call on any connection of the loop. NULL when memory is out, the
 * connection closes, or its handshake is not finished. */
uint8_t *net_conn_reserve(struct net_conn *conn, size_t len);
void net_conn_commit(struct net_conn *conn, size_t len);
/* Copies data to the output. */
void net_conn_write(struct net_conn *conn, struct span data);
/* Encrypts and sends what was committed now, instead of at the end of the loop's turn. It may close
 * the connection. */
void net_conn_flush(struct net_conn *conn);
/* Whether so much output is unsent that no more input is taken now. Consumers that answer several
 * requests from one call of data ask after each and return early. */
bool net_conn_is_backlogged(const struct net_conn *conn);

/* Stops and restarts reading, and calls of data. Kept input comes again after a resume. */
void net_conn_pause(struct net_conn *conn);
void net_conn_resume(struct net_conn *conn);

/* Ends it in order: the output leaves, then a close_notify and a FIN; what the peer still sends is
 * thrown away, for 2 s at most, so that it can read what was sent. data is not called any more. */
void net_conn_finish(struct net_conn *conn);
/* Ends it now; what did not leave is lost. closed runs on the loop's next turn. rc and why (a
 * sentence, copied; may be NULL) are what net_conn_why gives. Later closes change nothing. */
void net_conn_close(struct net_conn *conn, struct rc rc, const char *why);
bool net_conn_is_closing(const struct net_conn *conn); /* Closing or finishing. */
/* Why it closed, in a sentence, for the log; *rc (if not NULL) gets the code, OK for an orderly
 * end by either side. */
const char *net_conn_why(const struct net_conn *conn, struct rc *rc);

/* Takes the connection apart without a trace on the wire, from inside or outside its callbacks: its
 * socket, session and what was read but not consumed go to the caller, who gives them to another
 * loop's net_conn_init. Output must have left. closed is not called; the struct is gone. Without
 * memory for unread the connection is closed instead, and out->fd is -1. */
struct net_parts {
    int fd;
    struct tls *tls;
    uint8_t *unread; /* free() it; NULL when there is none. */
    size_t unread_len;
};
void net_conn_detach(struct net_conn *conn, struct net_parts *out);
