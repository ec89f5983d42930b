/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/server_internal.h"

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static RC parse(const char *host, uint16_t port, union address *out, socklen_t *len) {
    memset(out, 0, sizeof(*out));
    const char *text = span_equal(span_str(host), SPAN_LIT("localhost")) ? "127.0.0.1" : host;
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        *len = sizeof(out->v4);
        return OK;
    }
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        *len = sizeof(out->v6);
        return OK;
    }
    return ERR(BAD_CONFIG);
}

static RC bind_and_listen(int fd, const union address *address, socklen_t len, uint16_t *port) {
    int one = 1;
    union address bound;
    socklen_t bound_len = sizeof(bound);
    ENSURE(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0, IO);
    ENSURE(bind(fd, &address->any, len) == 0, IO);
    ENSURE(listen(fd, SOMAXCONN) == 0, IO);
    ENSURE(getsockname(fd, &bound.any, &bound_len) == 0, IO);
    *port = ntohs(bound.any.sa_family == AF_INET ? bound.v4.sin_port : bound.v6.sin6_port);
    return OK;
}

RC listen_open(const char *host, uint16_t port, int *fd, uint16_t *bound_port, struct status *why) {
    union address address;
    socklen_t len = 0;
    struct rc rc = parse(host, port, &address, &len);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "cannot listen on \"%s\": it must be an IPv4 or IPv6 address", host);
        return rc;
    }
    int listen_fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    rc = listen_fd < 0 ? ERR(IO) : bind_and_listen(listen_fd, &address, len, bound_port);
    if (rc.err != E_OK) {
        status_set(why, STATUS_UNAVAILABLE, "cannot listen on %s port %u: %s", host, port,
                   uv_strerror(uv_translate_sys_error(errno)));
        if (listen_fd >= 0) {
            (void)close(listen_fd);
        }
        return rc;
    }
    *fd = listen_fd;
    return OK;
}
