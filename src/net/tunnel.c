/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/secret.h"

struct net_tunnel {
    char request[NET_PROXY_REQUEST_BYTES];
    size_t request_len;
    size_t sent_len;
    size_t head_len;
    uint8_t head[NET_PROXY_HEAD_BYTES_MAX];
};

RC net_tunnel_init(struct net_tunnel **out, const struct net_proxy *proxy,
                   const struct net_target *target) {
    *out = NULL;
    struct net_tunnel *t = calloc(1, sizeof(*t));
    ENSURE(t != NULL, NOMEM);
    t->request_len = net_proxy_write_request(proxy, target, t->request);
    *out = t;
    return OK;
}

void net_tunnel_close(struct net_tunnel **tunnel) {
    if (*tunnel != NULL) {
        secret_wipe(*tunnel, sizeof(**tunnel));
        free(*tunnel);
        *tunnel = NULL;
    }
}

bool net_tunnel_wants_to_write(const struct net_tunnel *tunnel) {
    return tunnel->sent_len < tunnel->request_len;
}

static RC lost(struct status *why, int error) {
    if (error == EAGAIN || error == EINTR) {
        return ERR(AGAIN);
    }
    status_set(why, STATUS_UNAVAILABLE, "is lost: %s", strerror(error));
    return ERR(CLOSED);
}

static RC send_request(struct net_tunnel *t, int fd, struct status *why) {
    while (net_tunnel_wants_to_write(t)) {
        ssize_t n = send(fd, t->request + t->sent_len, t->request_len - t->sent_len, MSG_NOSIGNAL);
        if (n < 0) {
            return lost(why, errno);
        }
        t->sent_len += (size_t)n;
    }
    return ERR(AGAIN);
}

/* The answer is looked at before it is taken, so that what follows it stays in the socket. */
static RC read_answer(struct net_tunnel *t, int fd, struct status *why) {
    uint8_t *at = t->head + t->head_len;
    ssize_t seen = recv(fd, at, sizeof(t->head) - t->head_len, MSG_PEEK);
    if (seen < 0) {
        return lost(why, errno);
    }
    if (seen == 0) {
        status_set(why, STATUS_UNAVAILABLE, "ended the connection instead of an answer");
        return ERR(CLOSED);
    }
    size_t end = 0;
    struct span input = { t->head, t->head_len + (size_t)seen };
    struct rc rc = net_proxy_read_answer(input, &end, why);
    if (rc.err != E_OK && rc.err != E_AGAIN) {
        return rc;
    }
    size_t taken_len = (rc.err == E_OK ? end : input.len) - t->head_len;
    if (recv(fd, at, taken_len, 0) != (ssize_t)taken_len) {
        return lost(why, ECONNRESET);
    }
    t->head_len += taken_len;
    return rc;
}

RC net_tunnel_step(struct net_tunnel *tunnel, int fd, struct status *why) {
    return net_tunnel_wants_to_write(tunnel) ? send_request(tunnel, fd, why)
                                             : read_answer(tunnel, fd, why);
}
