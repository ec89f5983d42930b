/* SPDX-License-Identifier: Apache-2.0 */
/* Output of a connection: gathered in the loop's scratch buffer, encrypted into as few records as
 * hold it, sent with one write; what the socket does not take is kept. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/secret.h"
#include "net/conn_internal.h"

static void drop_plain_out(struct net_io *io) {
    secret_wipe(io->plain_out.ptr, io->plain_out.len);
    if (io->plain_out.ptr != io->plain_out_base) {
        free(io->plain_out.ptr);
    }
    io->plain_out = (struct writer){ io->plain_out_base, 0, NET_PLAIN_OUT_BYTES };
    io->writer = NULL;
}

static void count_written(struct net_io *io, size_t n) {
    atomic_uint_least64_t *count = &io->traffic.written_bytes;
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Gives how much the socket took; an error closes the connection. */
static size_t send_some(struct net_conn *conn, struct span bytes) {
    ssize_t n = 0;
    do {
        n = send(conn->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN) {
            net_conn_close(conn, ERR(CLOSED), "the connection was reset while sending");
        }
        return 0;
    }
    count_written(conn->io, (size_t)n);
    return (size_t)n;
}

void net_conn_send(struct net_conn *conn, struct span bytes) {
    if (conn->state == CONN_CLOSED || bytes.len == 0) {
        return;
    }
    if (conn->output.len == 0) {
        size_t n = send_some(conn, bytes);
        if (n == bytes.len || conn->state == CONN_CLOSED) {
            return;
        }
        bytes = (struct span){ bytes.ptr + n, bytes.len - n };
        conn->output_at_ms = uv_now(conn->io->loop);
    }
    if (conn->output.len + bytes.len > conn->limits.output_bytes_max) {
        net_conn_close(conn, ERR(QUOTA), "the peer does not take what is sent to it");
        return;
    }
    struct rc rc = net_buffer_append(&conn->output, bytes, conn->io->budget);
    if (rc.err != E_OK) {
        net_conn_close(conn, rc, "no memory left for the output of connections");
    }
}

void net_conn_send_kept(struct net_conn *conn) {
    struct span kept = net_buffer_span(&conn->output);
    if (kept.len == 0) {
        return;
    }
    bool was_backlogged = net_conn_is_backlogged(conn);
    size_t n = send_some(conn, kept);
    if (conn->state == CONN_CLOSED || n == 0) {
        return;
    }
    conn->output_at_ms = uv_now(conn->io->loop);
    net_buffer_consume(&conn->output, n, conn->io->budget);
    if (was_backlogged && !net_conn_is_backlogged(conn)) {
        net_conn_make_ready(conn);
    }
    net_conn_shut_when_sent(conn);
}

void net_conn_shut_when_sent(struct net_conn *conn) {
    if (conn->state != CONN_FINISHING || conn->output.len > 0) {
        return;
    }
    (void)shutdown(conn->fd, SHUT_WR); /* A reset shows when reading. */
    conn->state = CONN_LINGERING;
    conn->linger_until_ms = uv_now(conn->io->loop) + NET_LINGER_MS;
    if (conn->is_at_eof) {
        net_conn_close(conn, OK, "finished");
    }
}

static void encrypt(struct net_conn *conn, struct span plain) {
    struct net_io *io = conn->io;
    while (plain.len > 0 && conn->state != CONN_CLOSED) {
        struct tls_io step = { .out = { io->cipher_out, 0, NET_CIPHER_OUT_BYTES } };
        size_t n = 0;
        struct rc rc = tls_write(conn->tls, &step, plain, &n);
        if (rc.err != E_OK || n == 0) {
            net_conn_close(conn, rc.err != E_OK ? rc : ERR(CRYPTO), "TLS cannot encrypt");
            return;
        }
        plain = (struct span){ plain.ptr + n, plain.len - n };
        net_conn_send(conn, writer_span(&step.out));
    }
}

void net_conn_flush(struct net_conn *conn) {
    struct net_io *io = conn->io;
    if (io->writer != conn) {
        return;
    }
    struct span plain = writer_span(&io->plain_out);
    if (conn->tls == NULL) {
        net_conn_send(conn, plain);
    } else {
        encrypt(conn, plain);
    }
    if (io->writer == conn) { /* Closing drops it too. */
        drop_plain_out(io);
    }
}

/* gcc 12's analyzer does not follow the pointer into io: drop_plain_out frees it. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif
/* One answer that is bigger than the scratch buffer. False: no memory. */
static bool take_big_out(struct net_io *io, size_t len) {
    uint8_t *big = malloc(len);
    if (big == NULL) {
        return false;
    }
    if (io->plain_out.ptr != io->plain_out_base) {
        free(io->plain_out.ptr); /* Of a reservation without a commit. */
    }
    io->plain_out = (struct writer){ .ptr = big, .bytes = len };
    return true;
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

uint8_t *net_conn_reserve(struct net_conn *conn, size_t len) {
    struct net_io *io = conn->io;
    if (conn->state != CONN_OPEN) {
        return NULL;
    }
    if (io->writer != conn) {
        if (io->writer != NULL) {
            struct net_conn *other = io->writer;
            net_conn_flush(other);
            net_conn_make_ready(other);
        }
        io->writer = conn;
        net_conn_make_ready(conn);
    }
    if (len > io->plain_out.bytes - io->plain_out.len && io->plain_out.len > 0) {
        net_conn_flush(conn);
        if (conn->state != CONN_OPEN) {
            return NULL;
        }
        io->writer = conn;
    }
    if (len > io->plain_out.bytes && !take_big_out(io, len)) {
        net_conn_close(conn, ERR(NOMEM), "no memory left for an answer");
        return NULL;
    }
    return io->plain_out.ptr + io->plain_out.len;
}

void net_conn_commit(struct net_conn *conn, size_t len) {
    struct net_io *io = conn->io;
    ASSERT(io->writer == conn);
    ASSERT(len <= io->plain_out.bytes - io->plain_out.len);
    io->plain_out.len += len;
}

void net_conn_write(struct net_conn *conn, struct span data) {
    uint8_t *room = net_conn_reserve(conn, data.len);
    if (room != NULL && data.len > 0) {
        memcpy(room, data.ptr, data.len);
        net_conn_commit(conn, data.len);
    }
}

bool net_conn_is_backlogged(const struct net_conn *conn) {
    return conn->output.len >= conn->limits.backlog_bytes_max;
}

void net_conn_drop_output(struct net_conn *conn) {
    if (conn->io->writer == conn) {
        drop_plain_out(conn->io);
    }
}
