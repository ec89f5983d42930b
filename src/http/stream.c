/* SPDX-License-Identifier: Apache-2.0 */
#include "http/stream.h"

#include <stdlib.h>

struct stream {
    struct http *http;
    uint64_t request_began_ms; /* 0 between requests. */
};

/* How long the head under way has been coming. A byte at a time must not hold a connection. */
static bool is_too_slow(struct stream *stream, uint64_t now_ms) {
    if (!http_is_mid_request(stream->http)) {
        stream->request_began_ms = 0;
        return false;
    }
    if (stream->request_began_ms == 0) {
        stream->request_began_ms = now_ms;
    }
    return now_ms - stream->request_began_ms > HTTP_REQUEST_TIMEOUT_MS;
}

static size_t data_cb(struct net_conn *conn, struct span input) {
    struct stream *stream = net_conn_user(conn);
    struct rc rc = http_input(stream->http, input);
    if (rc.err != E_OK) {
        net_conn_close(conn, rc, "the answers do not fit into memory");
        return input.len;
    }
    struct span pending = http_pending(stream->http);
    if (pending.len > 0) {
        net_conn_write(conn, pending);
        http_sent(stream->http, pending.len);
    }
    if (http_is_finished(stream->http)) {
        net_conn_finish(conn);
    } else if (is_too_slow(stream, net_io_now_ms(net_conn_io(conn)))) {
        net_conn_close(conn, ERR(TIMEOUT), "the request took too long to arrive");
    }
    return input.len;
}

static void closed_cb(struct net_conn *conn) {
    struct stream *stream = net_conn_user(conn);
    http_close(&stream->http);
    free(stream);
}

static const struct net_conn_ops ops = { .data = data_cb, .closed = closed_cb };

static const struct net_conn_ops *accept_cb(void *ctx, struct net_conn *conn) {
    struct stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return NULL;
    }
    if (http_init(&stream->http, ctx).err != E_OK) {
        free(stream);
        return NULL;
    }
    net_conn_set_user(conn, stream);
    net_conn_limits(conn)->idle_timeout_ms = HTTP_IDLE_TIMEOUT_MS;
    return &ops;
}

struct net_stream http_stream(const struct http_pages *pages) {
    /* net hands ctx back as it is, and http_init only copies from it. */
    return (struct net_stream){ .ctx = (void *)(uintptr_t)pages, .accept = accept_cb };
}
