/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the connection share, and what the server keeps in it. */
#pragma once

#include <uv.h>

#include "net/buffer.h"
#include "net/conn.h"

/* One read() takes at most this, which also bounds how long one connection keeps the others of its
 * loop waiting; what mbedTLS may hold of a record comes on top when decrypted. */
#define NET_READ_BYTES ((size_t)32 * 1024)
#define NET_PLAIN_IN_BYTES (NET_READ_BYTES + 2 * TLS_RECORD_BYTES_MAX)
/* Answers of one wake-up before they are encrypted, and the records made of them. */
#define NET_PLAIN_OUT_BYTES ((size_t)64 * 1024)
#define NET_CIPHER_OUT_BYTES \
    (NET_PLAIN_OUT_BYTES + 4 * (TLS_RECORD_BYTES_MAX - TLS_PLAIN_BYTES_MAX))
#define NET_LINGER_MS 2000u
#define NET_TICK_MS 250u
#define NET_WHY_BYTES 160u

struct net_io {
    uv_loop_t *loop;
    struct net_budget *budget;
    struct net_traffic traffic;
    uv_prepare_t prepare; /* Before the loop sleeps: deferred work. */
    uv_timer_t tick;      /* Timeouts; runs while there are connections. */
    struct net_conn *conns;
    struct net_conn *ready_first; /* With deferred work, in order. */
    struct net_conn *ready_last;
    struct net_conn *writer; /* Whose output is in plain_out. */
    uint8_t *cipher_in;
    uint8_t *plain_in;
    uint8_t *plain_out_base; /* NET_PLAIN_OUT_BYTES. */
    struct writer plain_out; /* On the base, or on a bigger one for one big answer. */
    uint8_t *cipher_out;
    int handle_count; /* Not closed yet. */
    void (*closed_cb)(void *ctx);
    void *closed_ctx;
};

enum conn_state {
    CONN_HANDSHAKE,
    CONN_OPEN,
    CONN_FINISHING, /* Output leaves; input is thrown away. */
    CONN_LINGERING, /* FIN is sent; input is thrown away until the peer's. */
    CONN_CLOSED,    /* Waiting for the loop to let go of the handle. */
};

struct net_conn {
    uv_poll_t poll;
    struct net_io *io;
    struct net_conn *prev; /* In io->conns. */
    struct net_conn *next;
    struct net_conn *ready_next;
    const struct net_conn_ops *ops;
    void *user;
    /* The server's record of the connection, whatever protocol speaks over it. */
    void *owner;
    void (*owner_closed)(struct net_conn *conn);
    struct tls *tls;
    int fd;
    int events; /* Polled for. */
    enum conn_state state;
    bool is_paused;
    bool is_ready;   /* In io's ready list. */
    bool is_at_eof;  /* The peer's; nothing more is read. */
    bool is_eof_due; /* ops->eof is still to be called. */
    bool is_detached;
    struct net_buffer unread; /* Read from the socket, not decrypted. */
    struct net_buffer input;  /* Decrypted, not consumed. */
    struct net_buffer output; /* Encrypted, not taken by the socket. */
    struct reader *feeding;   /* The ciphertext in hand while ops->open runs. */
    struct net_conn_limits limits;
    uint64_t created_at_ms;
    uint64_t read_at_ms;   /* Last byte from the peer. */
    uint64_t input_at_ms;  /* Since when nothing of input was consumed. */
    uint64_t output_at_ms; /* Since when the socket took nothing. */
    uint64_t linger_until_ms;
    struct rc rc;
    char why[NET_WHY_BYTES];
};

/* Takes from what is ready (deferred input, end of file, output). */
void net_conn_run_ready(struct net_conn *conn);
/* Puts conn into its loop's ready list. */
void net_conn_make_ready(struct net_conn *conn);
/* Judges its timeouts. */
void net_conn_check_time(struct net_conn *conn, uint64_t now_ms);
/* Forgets what conn has in plain_out. */
void net_conn_drop_output(struct net_conn *conn);
/* Sends bytes as they are, or keeps what the socket does not take. */
void net_conn_send(struct net_conn *conn, struct span bytes);
/* The socket takes bytes again. */
void net_conn_send_kept(struct net_conn *conn);
/* FIN, once everything is out. */
void net_conn_shut_when_sent(struct net_conn *conn);
/* Polls for what the state asks for. */
void net_conn_update_events(struct net_conn *conn);
static inline bool net_conn_is_open(const struct net_conn *conn) {
    return conn->state == CONN_HANDSHAKE || conn->state == CONN_OPEN;
}
