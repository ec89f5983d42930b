/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tunnel.h"

/* Handles are embedded, so the struct lives until the last of them is closed: handle_count. */
struct net_dial {
    uv_loop_t *loop;
    struct net_target target;
    struct net_target hop;     /* Whom the socket is connected to: the target, or the proxy. */
    struct net_tunnel *tunnel; /* NULL when there is no proxy between. */
    uint32_t timeout_ms;
    net_dial_cb dial_cb;
    void *ctx;
    void (*closed_cb)(void *closed_ctx);
    void *closed_ctx;

    uv_getaddrinfo_t lookup;
    uv_timer_t timer;
    uv_poll_t polls[NET_DIAL_ADDRESS_COUNT_MAX]; /* One for each address. */
    uv_poll_t *poll;                             /* Of fd; NULL when there is none. */
    bool is_looking_up;
    bool is_closing;
    unsigned handle_count;

    struct sockaddr_storage addresses[NET_DIAL_ADDRESS_COUNT_MAX];
    size_t address_count;
    size_t address_idx;
    int fd;
    int result_fd; /* What dial_cb will get. */
    struct status why;
};

RC net_target_parse(struct span text, struct net_target *out) {
    *out = (struct net_target){ 0 };
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':') {
        colon--;
    }
    ENSURE(colon > 1, INVALID);
    struct span host = { text.ptr, colon - 1 };
    struct span port_text = { text.ptr + colon, text.len - colon };
    bool bracketed = host.ptr[0] == '[';
    if (bracketed) {
        ENSURE(host.len > 2 && host.ptr[host.len - 1] == ']', INVALID);
        host = (struct span){ host.ptr + 1, host.len - 2 };
    }
    ENSURE(host.len <= NET_HOST_BYTES_MAX, INVALID);
    for (size_t i = 0; i < host.len; i++) {
        ENSURE(host.ptr[i] > ' ' && host.ptr[i] < 0x7f, INVALID);
        ENSURE(host.ptr[i] != '[' && host.ptr[i] != ']' && host.ptr[i] != '/', INVALID);
        ENSURE(bracketed || host.ptr[i] != ':', INVALID);
    }
    uint64_t port = 0;
    TRY(bytes_parse_decimal(port_text, UINT16_MAX, &port));
    ENSURE(port > 0, INVALID);
    memcpy(out->host, host.ptr, host.len);
    out->port = (uint16_t)port;
    return OK;
}

const char *net_target_format(const struct net_target *target, char text[static NET_TARGET_BYTES]) {
    bool is_v6 = strchr(target->host, ':') != NULL;
    (void)snprintf(text, NET_TARGET_BYTES, "%s%s%s:%u", is_v6 ? "[" : "", target->host,
                   is_v6 ? "]" : "", target->port);
    return text;
}

static void finish(struct net_dial *d) {
    if (d->dial_cb != NULL) {
        d->dial_cb(d->ctx, d->result_fd, &d->why);
    } else if (d->result_fd >= 0) {
        (void)close(d->result_fd);
    }
    if (d->closed_cb != NULL) {
        d->closed_cb(d->closed_ctx);
    }
    net_tunnel_close(&d->tunnel);
    free(d);
}

static void handle_closed(uv_handle_t *handle) {
    struct net_dial *d = handle->data;
    d->handle_count--;
    if (d->handle_count == 0 && d->is_closing && !d->is_looking_up) {
        finish(d);
    }
}

/* Closes poll and socket of the address being tried. */
static void drop_attempt(struct net_dial *d) {
    if (d->poll != NULL) {
        (void)uv_poll_stop(d->poll);
        uv_close((uv_handle_t *)d->poll, handle_closed);
        d->poll = NULL;
    }
    if (d->fd >= 0) {
        (void)close(d->fd);
        d->fd = -1;
    }
}

/* Ends it with what result_fd and why say; the callback runs when the handles are closed. */
static void end(struct net_dial *d) {
    if (d->is_closing) {
        return;
    }
    d->is_closing = true;
    drop_attempt(d);
    if (d->is_looking_up) {
        (void)uv_cancel((uv_req_t *)&d->lookup); /* One that runs already ends by itself. */
    }
    uv_close((uv_handle_t *)&d->timer, handle_closed);
}

static void end_failed(struct net_dial *d, const char *what) {
    char text[NET_TARGET_BYTES];
    char hop_text[NET_TARGET_BYTES];
    bool is_direct = d->tunnel == NULL;
    status_set(&d->why, STATUS_UNAVAILABLE, "cannot connect to %s%s%s: %s",
               net_target_format(&d->target, text), is_direct ? "" : " through the proxy at ",
               is_direct ? "" : net_target_format(&d->hop, hop_text), what);
    end(d);
}

/* Starts to connect to one address. 0, or an errno. */
static int attempt(struct net_dial *d);

/* Goes through the addresses from address_idx on; ends the dial when none is left. */
static void try_from_here(struct net_dial *d, int last_error) {
    int error = last_error;
    for (; d->address_idx < d->address_count; d->address_idx++) {
        error = attempt(d);
        if (error == 0) {
            return;
        }
        drop_attempt(d);
    }
    end_failed(d, strerror(error));
}

static void end_connected(struct net_dial *d) {
    const int on = 1;
    (void)setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    d->result_fd = d->fd;
    d->fd = -1;
    end(d);
}

static void on_proxy(uv_poll_t *poll, int status, int events);

static void await_proxy(struct net_dial *d) {
    int events = net_tunnel_wants_to_write(d->tunnel) ? UV_WRITABLE : UV_READABLE;
    int error = uv_poll_start(d->poll, events, on_proxy);
    if (error != 0) {
        end_failed(d, uv_strerror(error));
    }
}

static void on_proxy(uv_poll_t *poll, int status, int events) {
    (void)status; /* The socket says more when it is used. */
    (void)events;
    struct net_dial *d = poll->data;
    struct status why = { 0 };
    (void)uv_poll_stop(poll);
    struct rc rc = net_tunnel_step(d->tunnel, d->fd, &why);
    if (rc.err == E_OK) {
        end_connected(d);
    } else if (rc.err == E_AGAIN) {
        await_proxy(d);
    } else {
        char what[STATUS_TEXT_BYTES];
        (void)snprintf(what, sizeof(what), "it %.*s", STATUS_TEXT_BYTES - 4, why.text);
        end_failed(d, what);
    }
}

static void on_writable(uv_poll_t *poll, int status, int events) {
    (void)events;
    struct net_dial *d = poll->data;
    int error = 0;
    socklen_t len = sizeof(error);
    (void)uv_poll_stop(poll);
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    } else if (error == 0 && status < 0) {
        error = -status; /* libuv says EBADF for every POLLERR, so it is asked last. */
    }
    if (error != 0) {
        drop_attempt(d);
        d->address_idx++;
        try_from_here(d, error);
        return;
    }
    if (d->tunnel == NULL) {
        end_connected(d);
    } else {
        await_proxy(d);
    }
}

static int attempt(struct net_dial *d) {
    const struct sockaddr *address = (const struct sockaddr *)&d->addresses[d->address_idx];
    socklen_t len =
        address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    d->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0) {
        return errno;
    }
    if (connect(d->fd, address, len) != 0 && errno != EINPROGRESS) {
        return errno;
    }
    uv_poll_t *poll = &d->polls[d->address_idx];
    int error = uv_poll_init(d->loop, poll, d->fd);
    if (error != 0) {
        return -error;
    }
    poll->data = d;
    d->poll = poll;
    d->handle_count++;
    return -uv_poll_start(poll, UV_WRITABLE, on_writable);
}

static void on_timeout(uv_timer_t *timer) {
    struct net_dial *d = timer->data;
    end_failed(d, "timed out");
}

/* The address was given in numbers: one turn later, so that dial_cb never runs inside the start. */
static void on_numeric(uv_timer_t *timer) {
    struct net_dial *d = timer->data;
    int error = uv_timer_start(&d->timer, on_timeout, d->timeout_ms, 0);
    if (error != 0) {
        end_failed(d, uv_strerror(error));
        return;
    }
    try_from_here(d, 0);
}

static void on_lookup(uv_getaddrinfo_t *lookup, int status, struct addrinfo *list) {
    struct net_dial *d = lookup->data;
    d->is_looking_up = false;
    for (struct addrinfo *at = list; at != NULL && d->address_count < NET_DIAL_ADDRESS_COUNT_MAX;
         at = at->ai_next) {
        if (at->ai_addrlen <= sizeof(d->addresses[0])) {
            memcpy(&d->addresses[d->address_count++], at->ai_addr, at->ai_addrlen);
        }
    }
    uv_freeaddrinfo(list);
    if (d->is_closing) {
        if (d->handle_count == 0) {
            finish(d);
        }
        return;
    }
    if (status != 0 || d->address_count == 0) {
        end_failed(d, status == UV_EAI_NONAME || status == UV_EAI_NODATA || status == 0
                          ? "the host name has no address"
                          : uv_strerror(status));
        return;
    }
    try_from_here(d, 0);
}

/* Whether the hop's host is an address, which is then the one to try. */
static bool set_numeric(struct net_dial *d) {
    int port = d->hop.port;
    d->address_count = 1;
    return uv_ip4_addr(d->hop.host, port, (struct sockaddr_in *)&d->addresses[0]) == 0 ||
           uv_ip6_addr(d->hop.host, port, (struct sockaddr_in6 *)&d->addresses[0]) == 0;
}

static int start(struct net_dial *d) {
    if (set_numeric(d)) {
        return uv_timer_start(&d->timer, on_numeric, 0, 0);
    }
    d->address_count = 0;
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", d->hop.port);
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    int error = uv_getaddrinfo(d->loop, &d->lookup, on_lookup, d->hop.host, port, &hints);
    if (error != 0) {
        return error;
    }
    d->is_looking_up = true;
    return uv_timer_start(&d->timer, on_timeout, d->timeout_ms, 0);
}

RC net_dial_start(struct net_dial **out, const struct net_dial_cfg *cfg, void *ctx,
                  net_dial_cb dial_cb) {
    *out = NULL;
    struct net_dial *d = calloc(1, sizeof(*d));
    ENSURE(d != NULL, NOMEM);
    d->loop = cfg->loop;
    d->target = *cfg->target;
    d->hop = *cfg->target;
    d->timeout_ms = cfg->timeout_ms;
    d->fd = -1;
    d->result_fd = -1;
    if (net_proxy_covers(cfg->proxy, cfg->target)) {
        d->hop = cfg->proxy->target;
        struct rc rc = net_tunnel_init(&d->tunnel, cfg->proxy, cfg->target);
        if (rc.err != E_OK) {
            free(d);
            return rc;
        }
    }
    if (uv_timer_init(cfg->loop, &d->timer) != 0) {
        net_tunnel_close(&d->tunnel);
        free(d);
        return ERR(IO);
    }
    d->handle_count = 1;
    d->timer.data = d;
    d->lookup.data = d;
    if (start(d) != 0) {
        end(d);
        return ERR(IO);
    }
    d->ctx = ctx;
    d->dial_cb = dial_cb;
    *out = d;
    return OK;
}

void net_dial_close(struct net_dial **dial, void *closed_ctx, void (*closed_cb)(void *closed_ctx)) {
    struct net_dial *d = *dial;
    *dial = NULL;
    if (d == NULL) {
        if (closed_cb != NULL) {
            closed_cb(closed_ctx);
        }
        return;
    }
    d->dial_cb = NULL;
    d->closed_ctx = closed_ctx;
    d->closed_cb = closed_cb;
    end(d);
}
