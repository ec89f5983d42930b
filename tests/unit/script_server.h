/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP server that does what a test tells it, in a thread of the test, on a free port of
 * 127.0.0.1. One connection at a time. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define SCRIPT_REQUEST_BYTES 262144

struct script_server;

/* What happens to the connection after a request. */
enum script_next { SCRIPT_KEEP, SCRIPT_CLOSE, SCRIPT_HANG };

/* Answers one request (its body, with a NUL after it) on the server's thread, with the lock
 * held. */
typedef enum script_next (*script_cb)(void *ctx, struct script_server *server, const char *body);

struct script_server {
    script_cb answer_cb;
    void *ctx;
    pthread_mutex_t lock; /* Of ctx and the counts. */
    pthread_t thread;
    int listen_fd;
    int fd; /* The connection. */
    int stop_fds[2];
    unsigned request_count;
    unsigned connection_count;
    char url[64];
    char request[SCRIPT_REQUEST_BYTES];
};

/* Waits until fd can be read. False when the test ends. */
static inline bool script_wait(struct script_server *server, int fd, int timeout_ms) {
    struct pollfd fds[2] = { { .fd = server->stop_fds[0], .events = POLLIN },
                             { .fd = fd, .events = POLLIN } };
    int n = poll(fds, 2, timeout_ms);
    return n >= 0 && fds[0].revents == 0;
}

/* False when the client is gone. */
static inline bool script_write(struct script_server *server, const void *data, size_t len) {
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(server->fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool script_write_text(struct script_server *server, const char *text) {
    return script_write(server, text, strlen(text));
}

/* Answers with a status and a body. */
static inline void script_reply(struct script_server *server, unsigned status, const char *body) {
    char head[128];
    (void)snprintf(head, sizeof(head), "HTTP/1.1 %u X\r\nContent-Length: %zu\r\n\r\n", status,
                   strlen(body));
    if (script_write_text(server, head)) {
        (void)script_write_text(server, body);
    }
}

/* The request's body once all of it is there, else NULL. */
static inline char *script_body(char *request, size_t len) {
    request[len] = '\0';
    char *end = strstr(request, "\r\n\r\n");
    const char *length = strcasestr(request, "\r\nContent-Length:");
    if (end == NULL) {
        return NULL;
    }
    char *body = end + 4;
    size_t want = length == NULL ? 0 : strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
    return len - (size_t)(body - request) >= want ? body : NULL;
}

/* Reads one request. NULL when the client is gone or the test ends. */
static inline char *script_read(struct script_server *server) {
    size_t len = 0;
    char *body = NULL;
    while (body == NULL && len < SCRIPT_REQUEST_BYTES - 1) {
        if (!script_wait(server, server->fd, -1)) {
            return NULL;
        }
        ssize_t n = read(server->fd, server->request + len, SCRIPT_REQUEST_BYTES - 1 - len);
        if (n <= 0) {
            return NULL;
        }
        len += (size_t)n;
        body = script_body(server->request, len);
    }
    return body;
}

static inline void script_serve(struct script_server *server) {
    enum script_next next = SCRIPT_KEEP;
    while (next == SCRIPT_KEEP) {
        char *body = script_read(server);
        if (body == NULL) {
            return;
        }
        (void)pthread_mutex_lock(&server->lock);
        server->request_count++;
        next = server->answer_cb(server->ctx, server, body);
        (void)pthread_mutex_unlock(&server->lock);
    }
    if (next == SCRIPT_HANG) {
        (void)script_wait(server, server->fd, -1); /* Until the client has enough. */
    }
}

static inline void *script_main(void *arg) {
    struct script_server *server = arg;
    while (script_wait(server, server->listen_fd, -1)) {
        server->fd = accept(server->listen_fd, NULL, NULL);
        if (server->fd < 0) {
            continue;
        }
        const int on = 1; /* Head and body are two writes. */
        (void)setsockopt(server->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)pthread_mutex_lock(&server->lock);
        server->connection_count++;
        (void)pthread_mutex_unlock(&server->lock);
        script_serve(server);
        (void)close(server->fd);
    }
    return NULL;
}

static inline struct script_server *script_start(script_cb answer_cb, void *ctx) {
    struct script_server *server = calloc(1, sizeof(*server));
    assert_non_null(server);
    server->answer_cb = answer_cb;
    server->ctx = ctx;
    assert_int_equal(pthread_mutex_init(&server->lock, NULL), 0);
    assert_int_equal(pipe(server->stop_fds), 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t at_len = sizeof(at);
    server->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(server->listen_fd >= 0);
    assert_int_equal(bind(server->listen_fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(server->listen_fd, 8), 0);
    assert_int_equal(getsockname(server->listen_fd, (struct sockaddr *)&at, &at_len), 0);
    (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, script_main, server), 0);
    return server;
}

static inline void script_stop(struct script_server **server) {
    struct script_server *self = *server;
    assert_int_equal(write(self->stop_fds[1], "", 1), 1);
    assert_int_equal(pthread_join(self->thread, NULL), 0);
    (void)close(self->listen_fd);
    (void)close(self->stop_fds[0]);
    (void)close(self->stop_fds[1]);
    (void)pthread_mutex_destroy(&self->lock);
    free(self);
    *server = NULL;
}

static inline unsigned script_request_count(struct script_server *server) {
    (void)pthread_mutex_lock(&server->lock);
    unsigned count = server->request_count;
    (void)pthread_mutex_unlock(&server->lock);
    return count;
}

static inline unsigned script_connection_count(struct script_server *server) {
    (void)pthread_mutex_lock(&server->lock);
    unsigned count = server->connection_count;
    (void)pthread_mutex_unlock(&server->lock);
    return count;
}
