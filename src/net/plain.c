/* SPDX-License-Identifier: Apache-2.0 */
/* A port without TLS for another protocol, on its owner's loop. */
#define _GNU_SOURCE /* accept4, pthread_setname_np */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/server_internal.h"

#define PLAIN_CONN_COUNT_DEFAULT 64u
#define PLAIN_TIMEOUT_DEFAULT_MS 10000u
#define PLAIN_INPUT_BYTES_MAX ((size_t)128 * 1024)
#define PLAIN_BUFFER_BYTES_MAX ((size_t)16 * 1024 * 1024)

struct net_plain {
    struct net_plain_cfg cfg;
    struct net_budget budget;
    struct net_io *io;
    uv_poll_t listener;
    uv_timer_t retry;
    int fd;
    uint16_t port;
    uint32_t conn_count;
    int handle_count;
    bool is_listening;
    bool is_closing;
};

static void update_listener(struct net_plain *plain);

static void free_plain(void *ctx) {
    struct net_plain *plain = ctx;
    plain->handle_count--;
    if (plain->handle_count == 0) {
        free(plain);
    }
}

static void on_handle_closed(uv_handle_t *handle) {
    free_plain(handle->data);
}

/* Its io can go when its connections have. */
static void on_io_idle(uv_timer_t *timer) {
    struct net_plain *plain = timer->data;
    if (plain->io->conns != NULL) {
        return; /* Again at the next turn. */
    }
    net_io_close(plain->io, free_plain, plain);
    uv_close((uv_handle_t *)timer, on_handle_closed);
}

static void on_conn_closed(struct net_conn *conn) {
    struct net_plain *plain = conn->owner;
    plain->conn_count--;
    update_listener(plain);
}

static void start_conn(struct net_plain *plain, int fd) {
    struct net_conn *conn = NULL;
    struct net_conn_cfg cfg = { .io = plain->io, .fd = fd, .limits = NET_CONN_LIMITS_DEFAULT };
    cfg.limits.idle_timeout_ms = plain->cfg.request_timeout_ms;
    cfg.limits.input_timeout_ms = plain->cfg.request_timeout_ms;
    cfg.limits.stall_timeout_ms = plain->cfg.request_timeout_ms;
    cfg.limits.input_bytes_max = PLAIN_INPUT_BYTES_MAX;
    struct rc rc = net_conn_init(&conn, &cfg);
    if (rc.err != E_OK) {
        LOG_LIMITED(WARN, "http.accept", "err=%s", err_name(rc.err));
        return;
    }
    static const struct net_conn_ops no_ops = { 0 };
    conn->ops = &no_ops;
    conn->owner = plain;
    conn->owner_closed = on_conn_closed;
    plain->conn_count++;
    const struct net_conn_ops *ops = plain->cfg.stream.accept(plain->cfg.stream.ctx, conn);
    if (ops == NULL) {
        net_conn_close(conn, ERR(UNAVAILABLE), "the protocol's handler refused it");
        return;
    }
    conn->ops = ops;
}

static void on_retry(uv_timer_t *timer) {
    update_listener(timer->data);
}

static void on_listener(uv_poll_t *handle, int status, int events) {
    struct net_plain *plain = handle->data;
    (void)status;
    (void)events;
    while (plain->conn_count < plain->cfg.conn_count_max) {
        int fd = accept4(plain->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR)) {
            continue;
        }
        if (fd < 0 && errno != EAGAIN) {
            LOG_LIMITED(WARN, "http.accept", "errno=%d", errno);
            (void)uv_poll_stop(&plain->listener);
            plain->is_listening = false;
            (void)uv_timer_start(&plain->retry, on_retry, ACCEPT_RETRY_MS, 0);
            return;
        }
        if (fd < 0) {
            break;
        }
        start_conn(plain, fd);
    }
    update_listener(plain);
}

static void update_listener(struct net_plain *plain) {
    bool wants = !plain->is_closing && plain->conn_count < plain->cfg.conn_count_max;
    if (wants == plain->is_listening) {
        return;
    }
    plain->is_listening = wants;
    if (wants) {
        (void)uv_poll_start(&plain->listener, UV_READABLE, on_listener);
    } else if (!plain->is_closing) {
        (void)uv_poll_stop(&plain->listener);
    }
}

RC net_plain_listen(struct net_plain **out, const struct net_plain_cfg *cfg, struct status *why) {
    *out = NULL;
    struct net_plain *plain = calloc(1, sizeof(*plain));
    status_set(why, STATUS_RESOURCE_EXHAUSTED, "%s", "no memory left for the plain port");
    ENSURE(plain != NULL, NOMEM);
    plain->cfg = *cfg;
    plain->budget.bytes_max = PLAIN_BUFFER_BYTES_MAX;
    if (plain->cfg.conn_count_max == 0) {
        plain->cfg.conn_count_max = PLAIN_CONN_COUNT_DEFAULT;
    }
    if (plain->cfg.request_timeout_ms == 0) {
        plain->cfg.request_timeout_ms = PLAIN_TIMEOUT_DEFAULT_MS;
    }
    struct rc rc = listen_open(cfg->host, cfg->port, &plain->fd, &plain->port, why);
    if (rc.err != E_OK) {
        free(plain);
        return rc;
    }
    rc = net_io_init(&plain->io, cfg->loop, &plain->budget);
    if (rc.err != E_OK) {
        (void)close(plain->fd);
        free(plain);
        return rc;
    }
    (void)uv_timer_init(cfg->loop, &plain->retry);
    int ret = uv_poll_init(cfg->loop, &plain->listener, plain->fd);
    ASSERT(ret == 0); /* A socket that we just made non-blocking. */
    plain->retry.data = plain;
    plain->listener.data = plain;
    update_listener(plain);
    *out = plain;
    return OK;
}

uint16_t net_plain_port(const struct net_plain *plain) {
    return plain->port;
}

void net_plain_close(struct net_plain **p) {
    struct net_plain *plain = *p;
    *p = NULL;
    if (plain == NULL) {
        return;
    }
    plain->is_closing = true;
    plain->handle_count = 3; /* Listener, timer, io. */
    uv_close((uv_handle_t *)&plain->listener, on_handle_closed);
    (void)close(plain->fd);
    for (struct net_conn *conn = plain->io->conns; conn != NULL; conn = conn->next) {
        net_conn_close(conn, OK, "the port is closed");
    }
    (void)uv_timer_start(&plain->retry, on_io_idle, 0, 1);
}
