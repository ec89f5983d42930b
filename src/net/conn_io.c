/* SPDX-License-Identifier: Apache-2.0 */
/* What the connections of one loop share: scratch buffers, deferred work, the clock for
 * timeouts. */
#include <stdlib.h>

#include "base/secret.h"
#include "net/conn_internal.h"

static void on_prepare(uv_prepare_t *handle) {
    struct net_io *io = handle->data;
    while (io->ready_first != NULL) {
        struct net_conn *conn = io->ready_first;
        io->ready_first = conn->ready_next;
        if (io->ready_first == NULL) {
            io->ready_last = NULL;
        }
        conn->ready_next = NULL;
        conn->is_ready = false;
        net_conn_run_ready(conn);
    }
    uv_unref((uv_handle_t *)handle);
}

static void on_tick(uv_timer_t *handle) {
    struct net_io *io = handle->data;
    uint64_t now_ms = uv_now(io->loop);
    struct net_conn *next = NULL;
    for (struct net_conn *conn = io->conns; conn != NULL; conn = next) {
        next = conn->next; /* Closing does not unlink before the loop's next turn. */
        net_conn_check_time(conn, now_ms);
    }
}

void net_conn_make_ready(struct net_conn *conn) {
    struct net_io *io = conn->io;
    if (conn->is_ready || conn->state == CONN_CLOSED) {
        return;
    }
    conn->is_ready = true;
    conn->ready_next = NULL;
    if (io->ready_last == NULL) {
        io->ready_first = conn;
        uv_ref((uv_handle_t *)&io->prepare); /* A loop with nothing else must turn once more. */
    } else {
        io->ready_last->ready_next = conn;
    }
    io->ready_last = conn;
}

static void free_io(struct net_io *io) {
    free(io->cipher_in);
    free(io->plain_in);
    free(io->plain_out_base);
    free(io->cipher_out);
    free(io);
}

RC net_io_init(struct net_io **out, uv_loop_t *loop, struct net_budget *budget) {
    *out = NULL;
    struct net_io *io = calloc(1, sizeof(*io));
    ENSURE(io != NULL, NOMEM);
    io->loop = loop;
    io->budget = budget;
    io->cipher_in = malloc(NET_READ_BYTES);
    io->plain_in = malloc(NET_PLAIN_IN_BYTES);
    io->plain_out_base = malloc(NET_PLAIN_OUT_BYTES);
    io->cipher_out = malloc(NET_CIPHER_OUT_BYTES);
    if (io->cipher_in == NULL || io->plain_in == NULL || io->plain_out_base == NULL ||
        io->cipher_out == NULL) {
        free_io(io);
        return ERR(NOMEM);
    }
    io->plain_out = (struct writer){ io->plain_out_base, 0, NET_PLAIN_OUT_BYTES };
    (void)uv_prepare_init(loop, &io->prepare); /* These three cannot fail. */
    (void)uv_timer_init(loop, &io->tick);
    (void)uv_prepare_start(&io->prepare, on_prepare);
    io->prepare.data = io;
    io->tick.data = io;
    uv_unref((uv_handle_t *)&io->prepare);
    uv_unref((uv_handle_t *)&io->tick);
    (void)uv_timer_start(&io->tick, on_tick, NET_TICK_MS, NET_TICK_MS);
    *out = io;
    return OK;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct net_io *io = handle->data;
    io->handle_count--;
    if (io->handle_count > 0) {
        return;
    }
    void (*closed_cb)(void *ctx) = io->closed_cb;
    void *ctx = io->closed_ctx;
    free_io(io);
    if (closed_cb != NULL) {
        closed_cb(ctx);
    }
}

void net_io_close(struct net_io *io, void (*closed_cb)(void *ctx), void *ctx) {
    ASSERT(io->conns == NULL);
    io->closed_cb = closed_cb;
    io->closed_ctx = ctx;
    io->handle_count = 2;
    uv_close((uv_handle_t *)&io->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&io->tick, on_handle_closed);
}

uv_loop_t *net_io_loop(const struct net_io *io) {
    return io->loop;
}

const struct net_traffic *net_io_traffic(const struct net_io *io) {
    return &io->traffic;
}

uint64_t net_io_now_ms(const struct net_io *io) {
    return uv_now(io->loop);
}
