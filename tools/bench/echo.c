/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* accept4, pipe2, nftw */
#include "echo.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint.h"
#include "tls_setup.h"

#define EVENTS_MAX 128

struct echo_conn {
    struct endpoint end;
    bool is_open;
};

struct echo {
    int epoll_fd;
    int listen_fd;
    struct tls_setup tls;
    size_t conn_count;
};

static RC listen_on_loopback(int *listen_fd, uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ENSURE(fd >= 0, IO);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);
    if (bind(fd, (struct sockaddr *)&at, len) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        (void)close(fd);
        return ERR(IO);
    }
    *listen_fd = fd;
    *port = ntohs(at.sin_port);
    return OK;
}

static RC accept_one(struct echo *echo, int fd) {
    static const int on = 1;
    ENSURE(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, IO);
    ENSURE(echo->conn_count < ECHO_CONNECTIONS_MAX, QUOTA);
    struct echo_conn *conn = calloc(1, sizeof(*conn));
    ENSURE(conn != NULL, NOMEM);
    struct rc rc = endpoint_init(&conn->end, fd, &echo->tls.conf);
    if (rc.err != E_OK) {
        free(conn);
        return rc;
    }
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };
    ASSERT(epoll_ctl(echo->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
    echo->conn_count++;
    return OK;
}

static void accept_all(struct echo *echo) {
    int fd = accept4(echo->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd >= 0) {
        if (accept_one(echo, fd).err != E_OK) {
            (void)close(fd);
        }
        fd = accept4(echo->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
}

/* All that a wake-up does. Any error but AGAIN ends the connection. */
static RC serve_wakeup(struct echo_conn *conn) {
    static uint8_t plain[ENDPOINT_BUFFER_BYTES];
    TRY(endpoint_fill(&conn->end));
    if (!conn->is_open) {
        TRY(endpoint_handshake(&conn->end));
        conn->is_open = true;
    }
    size_t len = 0;
    TRY(endpoint_read(&conn->end, plain, sizeof(plain), &len));
    while (len > 0) {
        TRY(endpoint_write(&conn->end, (struct span){ plain, len }));
        TRY(endpoint_read(&conn->end, plain, sizeof(plain), &len));
    }
    return endpoint_flush(&conn->end);
}

RC echo_serve(const struct identity_signer *signer, int port_fd) {
    struct echo echo = { .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
    TRY(tls_setup_init(&echo.tls, MBEDTLS_SSL_IS_SERVER, signer, NULL));
    uint16_t port = 0;
    TRY(listen_on_loopback(&echo.listen_fd, &port));
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    ENSURE(epoll_ctl(echo.epoll_fd, EPOLL_CTL_ADD, echo.listen_fd, &event) == 0, IO);
    ENSURE(write(port_fd, &port, sizeof(port)) == (ssize_t)sizeof(port), IO);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(echo.epoll_fd, events, EVENTS_MAX, -1);
        ENSURE(count >= 0 || errno == EINTR, IO);
        for (int i = 0; i < count; i++) {
            struct echo_conn *conn = events[i].data.ptr;
            if (conn == NULL) {
                accept_all(&echo);
                continue;
            }
            struct rc rc = serve_wakeup(conn);
            if (rc.err != E_OK && rc.err != E_AGAIN) {
                endpoint_close(&conn->end);
                free(conn);
                echo.conn_count--;
            }
        }
    }
}
