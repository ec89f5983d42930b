/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's life and its input. Output is in conn_out.c. */
#include "net/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/secret.h"
#include "net/conn_internal.h"

static void link_conn(struct net_conn *conn) {
    struct net_io *io = conn->io;
    conn->next = io->conns;
    if (io->conns != NULL) {
        io->conns->prev = conn;
    }
    io->conns = conn;
}

static void unlink_conn(struct net_conn *conn) {
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        conn->io->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
}

/* Work that was deferred does not outlive the connection. */
static void unlink_ready(struct net_conn *conn) {
    struct net_io *io = conn->io;
    struct net_conn *before = NULL;
    for (struct net_conn *at = io->ready_first; conn->is_ready && at != NULL; at = at->ready_next) {
        if (at != conn) {
            before = at;
            continue;
        }
        if (before == NULL) {
            io->ready_first = conn->ready_next;
        } else {
            before->ready_next = conn->ready_next;
        }
        if (io->ready_last == conn) {
            io->ready_last = before;
        }
        conn->is_ready = false;
    }
}

/* ---- Input ---- */

static void keep_input(struct net_conn *conn, struct span rest) {
    if (conn->input.len + rest.len > conn->limits.input_bytes_max) {
        net_conn_close(conn, ERR(TOO_BIG), "more unfinished input than is allowed");
        return;
    }
    if (conn->input.len == 0) {
        conn->input_at_ms = uv_now(conn->io->loop);
    }
    struct rc rc = net_buffer_append(&conn->input, rest, conn->io->budget);
    if (rc.err != E_OK) {
        net_conn_close(conn, rc, "no memory left for the input of connections");
    }
}

static bool takes_input(const struct net_conn *conn) {
    return conn->state == CONN_OPEN && !conn->is_paused && !conn->is_detached &&
           !net_conn_is_backlogged(conn);
}

/* Kept input, when it may be consumed again. */
static void present_kept(struct net_conn *conn) {
    if (conn->input.len == 0 || !takes_input(conn)) {
        return;
    }
    size_t n = conn->ops->data(conn, net_buffer_span(&conn->input));
    if (conn->state == CONN_CLOSED || conn->is_detached || n == 0) {
        return;
    }
    conn->input_at_ms = uv_now(conn->io->loop);
    net_buffer_consume(&conn->input, n, conn->io->budget);
}

/* New input. Straight from the scratch buffer when nothing is kept. */
static void present(struct net_conn *conn, struct span fresh) {
    if (fresh.len == 0 || !net_conn_is_open(conn)) {
        return;
    }
    if (conn->input.len > 0 || !takes_input(conn)) {
        keep_input(conn, fresh);
        present_kept(conn);
        return;
    }
    size_t n = conn->ops->data(conn, fresh);
    ASSERT(n <= fresh.len);
    if (net_conn_is_open(conn) && n < fresh.len) {
        keep_input(conn, (struct span){ fresh.ptr + n, fresh.len - n });
    }
}

static void tell_eof(struct net_conn *conn) {
    if (!conn->is_eof_due || !takes_input(conn)) {
        return;
    }
    conn->is_eof_due = false;
    if (conn->ops->eof != NULL) {
        conn->ops->eof(conn);
    } else {
        net_conn_finish(conn);
    }
}

static void at_eof(struct net_conn *conn) {
    conn->is_at_eof = true;
    switch (conn->state) {
    case CONN_HANDSHAKE:
        net_conn_close(conn, ERR(CLOSED), "the peer hung up during the handshake");
        break;
    case CONN_OPEN:
        conn->is_eof_due = true;
        tell_eof(conn);
        break;
    case CONN_FINISHING: /* Closes when its output is out. */
        break;
    case CONN_LINGERING:
        net_conn_close(conn, OK, "finished");
        break;
    case CONN_CLOSED:
        break;
    }
}

/* True when the session is up and the connection still here. */
static bool shake_hands(struct net_conn *conn, struct tls_io *step) {
    struct rc rc = tls_handshake(conn->tls, step);
    net_conn_send(conn, writer_span(&step->out));
    step->out.len = 0;
    if (conn->state != CONN_HANDSHAKE) {
        return false;
    }
    if (rc.err == E_AGAIN) {
        return false;
    }
    if (rc.err != E_OK) {
        net_conn_close(conn, rc, tls_why(conn->tls));
        return false;
    }
    conn->state = CONN_OPEN;
    if (conn->ops->open != NULL) {
        conn->feeding = &step->in;
        conn->ops->open(conn);
        conn->feeding = NULL;
    }
    return conn->state == CONN_OPEN && !conn->is_detached;
}

/* Decrypts all of step->in: it is at most what one read() gives, so the scratch buffer holds it. */
static RC decrypt(struct net_conn *conn, struct tls_io *step, size_t *len) {
    struct net_io *io = conn->io;
    struct rc rc = OK;
    *len = 0;
    while (rc.err == E_OK && *len < NET_PLAIN_IN_BYTES) {
        size_t n = 0;
        rc = tls_read(conn->tls, step, io->plain_in + *len, NET_PLAIN_IN_BYTES - *len, &n);
        *len += n;
    }
    return rc;
}

static void feed(struct net_conn *conn, struct span bytes) {
    struct net_io *io = conn->io;
    struct tls_io step = { .in = { bytes.ptr, bytes.len },
                           .out = { io->cipher_out, 0, NET_CIPHER_OUT_BYTES } };
    if (conn->state == CONN_HANDSHAKE && !shake_hands(conn, &step)) {
        return;
    }
    size_t len = 0;
    struct rc rc = decrypt(conn, &step, &len);
    net_conn_send(conn, writer_span(&step.out)); /* An alert, if anything. */
    present(conn, (struct span){ io->plain_in, len });
    secret_wipe(io->plain_in, len);
    if (rc.err == E_AGAIN || rc.err == E_OK || conn->state == CONN_CLOSED || conn->is_detached) {
        return;
    }
    if (rc.err == E_CLOSED) {
        at_eof(conn);
    } else {
        net_conn_close(conn, rc, tls_why(conn->tls));
    }
}

static void count_read(struct net_io *io, size_t n) {
    atomic_uint_least64_t *count = &io->traffic.read_bytes;
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void take(struct net_conn *conn, struct span bytes) {
    if (!net_conn_is_open(conn)) {
        return; /* Finishing: thrown away. */
    }
    if (conn->tls != NULL) {
        feed(conn, bytes);
        return;
    }
    present(conn, bytes);
    secret_wipe(conn->io->cipher_in, bytes.len);
}

static void read_some(struct net_conn *conn) {
    struct net_io *io = conn->io;
    ssize_t n = recv(conn->fd, io->cipher_in, NET_READ_BYTES, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            net_conn_close(conn, ERR(CLOSED), "the peer reset the connection");
        }
        return;
    }
    if (n == 0) {
        at_eof(conn);
        return;
    }
    conn->read_at_ms = uv_now(io->loop);
    count_read(io, (size_t)n);
    take(conn, (struct span){ io->cipher_in, (size_t)n });
}

static void feed_unread(struct net_conn *conn) {
    if (conn->unread.len == 0 || conn->is_paused) {
        return;
    }
    struct net_buffer unread = conn->unread;
    conn->unread = (struct net_buffer){ 0 };
    take(conn, net_buffer_span(&unread));
    net_buffer_close(&unread, conn->io->budget);
}

void net_conn_run_ready(struct net_conn *conn) {
    if (conn->state == CONN_HANDSHAKE && conn->unread.len == 0) {
        feed(conn, SPAN_EMPTY); /* A client's first flight. */
    }
    feed_unread(conn);
    if (conn->state == CONN_OPEN && !conn->is_detached) {
        present_kept(conn);
        tell_eof(conn);
    }
    net_conn_flush(conn);
    net_conn_update_events(conn);
}

static void on_poll(uv_poll_t *handle, int status, int events) {
    struct net_conn *conn = handle->data;
    if (status < 0) {
        net_conn_close(conn, ERR(IO), "polling the connection failed");
        return;
    }
    if ((events & UV_WRITABLE) != 0) {
        net_conn_send_kept(conn);
    }
    if ((events & UV_READABLE) != 0 && conn->state != CONN_CLOSED) {
        read_some(conn);
    }
    net_conn_flush(conn);
    net_conn_update_events(conn);
}

void net_conn_update_events(struct net_conn *conn) {
    if (conn->state == CONN_CLOSED || conn->is_detached) {
        return;
    }
    bool reads = !conn->is_at_eof;
    if (conn->state == CONN_OPEN) {
        reads = reads && !conn->is_paused && !net_conn_is_backlogged(conn);
    }
    int events = (reads ? UV_READABLE : 0) | (conn->output.len > 0 ? UV_WRITABLE : 0);
    if (events == conn->events) {
        return; /* Starting again would cost a system call. */
    }
    conn->events = events;
    int ret = events == 0 ? uv_poll_stop(&conn->poll) : uv_poll_start(&conn->poll, events, on_poll);
    if (ret != 0) {
        net_conn_close(conn, ERR(IO), "polling the connection failed");
    }
}

/* ---- Time ---- */

static void expire(struct net_conn *conn, const char *why) {
    conn->read_at_ms = uv_now(conn->io->loop); /* Not again while it says goodbye. */
    conn->input_at_ms = conn->read_at_ms;
    if (conn->ops->expired != NULL) {
        conn->ops->expired(conn, why);
    } else {
        net_conn_close(conn, ERR(TIMEOUT), why);
    }
}

static bool is_over(uint64_t since_ms, uint32_t span_ms, uint64_t now_ms) {
    return span_ms != 0 && now_ms >= since_ms && now_ms - since_ms >= span_ms;
}

void net_conn_check_time(struct net_conn *conn, uint64_t now_ms) {
    const struct net_conn_limits *limits = &conn->limits;
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (conn->output.len > 0 && is_over(conn->output_at_ms, limits->stall_timeout_ms, now_ms)) {
        net_conn_close(conn, ERR(TIMEOUT), "the peer takes nothing of what is sent to it");
    } else if (conn->state == CONN_HANDSHAKE) {
        if (is_over(conn->created_at_ms, limits->handshake_timeout_ms, now_ms)) {
            net_conn_close(conn, ERR(TIMEOUT), "the TLS handshake takes too long");
        }
    } else if (conn->state == CONN_LINGERING) {
        if (now_ms >= conn->linger_until_ms) {
            net_conn_close(conn, OK, "finished");
        }
    } else if (conn->state == CONN_OPEN && conn->input.len > 0 && takes_input(conn) &&
               is_over(conn->input_at_ms, limits->input_timeout_ms, now_ms)) {
        expire(conn, "a message was begun and not finished in time");
    } else if (conn->state == CONN_OPEN &&
               is_over(conn->read_at_ms, limits->idle_timeout_ms, now_ms)) {
        expire(conn, "idle for too long");
    }
    net_conn_flush(conn);
    net_conn_update_events(conn);
}

/* ---- Life ---- */

static RC set_up_socket(int fd) {
    int flags = fcntl(fd, F_GETFL);
    ENSURE(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0, IO);
    int one = 1; /* Answers leave at once. Fails on what is not TCP, which does not wait anyway. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return OK;
}

static RC start(struct net_conn *conn, const struct net_conn_cfg *cfg) {
    TRY(set_up_socket(cfg->fd));
    TRY(net_buffer_append(&conn->unread, cfg->unread, cfg->io->budget));
    ENSURE(uv_poll_init(cfg->io->loop, &conn->poll, cfg->fd) == 0, IO);
    conn->poll.data = conn;
    return OK;
}

RC net_conn_init(struct net_conn **out, const struct net_conn_cfg *cfg) {
    *out = NULL;
    struct tls *tls = cfg->tls;
    struct net_conn *conn = calloc(1, sizeof(*conn));
    struct rc rc = ERR(NOMEM);
    if (conn != NULL) {
        conn->io = cfg->io;
        rc = start(conn, cfg);
    }
    if (rc.err != E_OK) {
        if (conn != NULL) {
            net_buffer_close(&conn->unread, cfg->io->budget);
        }
        free(conn);
        tls_close(&tls);
        (void)close(cfg->fd);
        return rc;
    }
    conn->ops = cfg->ops;
    conn->user = cfg->user;
    conn->tls = cfg->tls;
    conn->fd = cfg->fd;
    conn->limits = cfg->limits;
    conn->state = tls == NULL || tls_is_up(tls) ? CONN_OPEN : CONN_HANDSHAKE;
    conn->created_at_ms = uv_now(cfg->io->loop);
    conn->read_at_ms = conn->created_at_ms;
    link_conn(conn);
    net_conn_make_ready(conn); /* Starts polling, and a client's handshake. */
    *out = conn;
    return OK;
}

static void free_conn(struct net_conn *conn) {
    unlink_conn(conn);
    net_buffer_close(&conn->unread, conn->io->budget);
    net_buffer_close(&conn->input, conn->io->budget);
    net_buffer_close(&conn->output, conn->io->budget);
    tls_close(&conn->tls);
    free(conn);
}

static void on_closed(uv_handle_t *handle) {
    struct net_conn *conn = handle->data;
    if (!conn->is_detached) {
        if (conn->ops->closed != NULL) {
            conn->ops->closed(conn);
        }
        if (conn->owner_closed != NULL) {
            conn->owner_closed(conn);
        }
    }
    free_conn(conn);
}

static void let_go(struct net_conn *conn) {
    conn->state = CONN_CLOSED;
    unlink_ready(conn);
    net_conn_drop_output(conn);
    uv_close((uv_handle_t *)&conn->poll, on_closed); /* Takes the fd out of the loop at once. */
}

void net_conn_close(struct net_conn *conn, struct rc rc, const char *why) {
    if (conn->state == CONN_CLOSED || conn->is_detached) {
        return;
    }
    conn->rc = rc;
    (void)snprintf(conn->why, sizeof(conn->why), "%s", why == NULL ? "" : why);
    let_go(conn);
    (void)close(conn->fd);
    conn->fd = -1;
}

void net_conn_finish(struct net_conn *conn) {
    if (conn->state == CONN_HANDSHAKE) {
        net_conn_close(conn, OK, "ended before the handshake was");
        return;
    }
    if (conn->state != CONN_OPEN || conn->is_detached) {
        return;
    }
    net_conn_flush(conn);
    if (conn->state != CONN_OPEN) {
        return;
    }
    conn->state = CONN_FINISHING;
    if (conn->tls != NULL) {
        struct tls_io step = { .out = { conn->io->cipher_out, 0, NET_CIPHER_OUT_BYTES } };
        tls_finish(conn->tls, &step);
        net_conn_send(conn, writer_span(&step.out));
    }
    net_conn_shut_when_sent(conn);
    net_conn_make_ready(conn); /* What is polled for changes. */
}

void net_conn_detach(struct net_conn *conn, struct net_parts *out) {
    ASSERT(conn->state == CONN_OPEN);
    ASSERT(conn->output.len == 0);
    struct span unread = net_buffer_span(&conn->unread);
    if (conn->feeding != NULL) {
        unread = (struct span){ conn->feeding->ptr, conn->feeding->len };
    }
    *out = (struct net_parts){ .fd = conn->fd, .tls = conn->tls };
    if (unread.ptr != NULL && unread.len > 0) {
        out->unread = malloc(unread.len);
        if (out->unread == NULL) {
            net_conn_close(conn, ERR(NOMEM), "no memory left to move the connection");
            *out = (struct net_parts){ .fd = -1 };
            return;
        }
        ASSERT(unread.ptr != NULL);
        memcpy(out->unread, unread.ptr, unread.len);
        out->unread_len = unread.len;
    }
    conn->tls = NULL;
    conn->is_detached = true;
    let_go(conn);
    conn->fd = -1;
}

void net_conn_pause(struct net_conn *conn) {
    conn->is_paused = true;
    net_conn_make_ready(conn);
}

void net_conn_resume(struct net_conn *conn) {
    conn->is_paused = false;
    net_conn_make_ready(conn);
}

/* ---- What others may know ---- */

void *net_conn_user(const struct net_conn *conn) {
    return conn->user;
}

void net_conn_set_user(struct net_conn *conn, void *user) {
    conn->user = user;
}

struct net_io *net_conn_io(const struct net_conn *conn) {
    return conn->io;
}

const struct tls *net_conn_tls(const struct net_conn *conn) {
    return conn->tls;
}

struct net_conn_limits *net_conn_limits(struct net_conn *conn) {
    return &conn->limits;
}

bool net_conn_is_closing(const struct net_conn *conn) {
    return !net_conn_is_open(conn);
}

const char *net_conn_why(const struct net_conn *conn, struct rc *rc) {
    if (rc != NULL) {
        *rc = conn->rc;
    }
    return conn->why;
}
