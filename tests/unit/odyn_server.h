/* SPDX-License-Identifier: Apache-2.0 */
/* An Odyn that answers what the test says, byte by byte: one reply for each connection. */
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hex.h"
#include "identity/odyn.h"
#include "test.h"

#define SERVER_REPLY_COUNT_MAX 12
#define SERVER_REQUEST_BYTES 65536
#define SERVER_BODY_BYTES 70000

enum reply_end {
    REPLY_CLOSE,  /* Closes after the bytes. */
    REPLY_HANG,   /* Keeps the connection until the client closes it. */
    REPLY_CANCEL, /* Cancels the client's call, and hangs. */
};

struct reply {
    struct span bytes;
    enum reply_end end;
};

struct odyn_server {
    int fd;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t lock; /* Of the next three. */
    pthread_cond_t served;
    struct reply replies[SERVER_REPLY_COUNT_MAX];
    size_t reply_count;
    size_t served_count;
    struct identity_odyn *odyn;             /* For REPLY_CANCEL. */
    char request[SERVER_REQUEST_BYTES + 1]; /* The last one. */
    size_t request_len;
};

static inline size_t server_body_len(const char *request) {
    const char *at = strcasestr(request, "\r\nContent-Length: ");
    return at == NULL ? 0 : strtoul(at + 18, NULL, 10);
}

/* Reads head and body. */
static inline void server_read(struct odyn_server *s, int fd) {
    s->request_len = 0;
    for (;;) {
        ssize_t got = read(fd, s->request + s->request_len, SERVER_REQUEST_BYTES - s->request_len);
        if (got <= 0) {
            return;
        }
        s->request_len += (size_t)got;
        s->request[s->request_len] = '\0';
        const char *end = strstr(s->request, "\r\n\r\n");
        size_t head_len = end == NULL ? 0 : (size_t)(end - s->request) + 4;
        if (end != NULL && s->request_len >= head_len + server_body_len(s->request)) {
            return;
        }
    }
}

static inline void server_reply(struct odyn_server *s, const struct reply *reply, int fd) {
    size_t at = 0;
    while (at < reply->bytes.len) {
        ssize_t sent = send(fd, reply->bytes.ptr + at, reply->bytes.len - at, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        at += (size_t)sent;
    }
    if (reply->end == REPLY_CANCEL) {
        identity_odyn_cancel(s->odyn);
    }
    char rest = 0;
    while (reply->end != REPLY_CLOSE && read(fd, &rest, 1) > 0) {
    }
}

/* What the next connection gets, and counts it. */
static inline struct reply server_take(struct odyn_server *s) {
    struct reply reply = { SPAN_EMPTY, REPLY_CLOSE };
    (void)pthread_mutex_lock(&s->lock);
    if (s->served_count < s->reply_count) {
        reply = s->replies[s->served_count];
    }
    s->served_count++;
    (void)pthread_cond_signal(&s->served);
    (void)pthread_mutex_unlock(&s->lock);
    return reply;
}

static inline size_t server_served(struct odyn_server *s) {
    (void)pthread_mutex_lock(&s->lock);
    size_t count = s->served_count;
    (void)pthread_mutex_unlock(&s->lock);
    return count;
}

/* Waits until count connections were taken: one that the client gave up may still be on its way. */
static inline void server_wait(struct odyn_server *s, size_t count) {
    (void)pthread_mutex_lock(&s->lock);
    while (s->served_count < count) {
        (void)pthread_cond_wait(&s->served, &s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

static inline void *server_run(void *ctx) {
    struct odyn_server *s = ctx;
    for (;;) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0) {
            return NULL; /* server_stop() */
        }
        server_read(s, fd);
        const struct reply reply = server_take(s);
        server_reply(s, &reply, fd);
        (void)shutdown(fd, SHUT_WR);
        char rest = 0;
        while (read(fd, &rest, 1) > 0) { /* Or what is unread would reset what was sent. */
        }
        (void)close(fd);
    }
}

/* Loopback, a free port; not listening yet, so that a connection is refused. */
static inline void server_bind(struct odyn_server *s) {
    assert_int_equal(pthread_mutex_init(&s->lock, NULL), 0);
    assert_int_equal(pthread_cond_init(&s->served, NULL), 0);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(s->fd >= 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    assert_int_equal(bind(s->fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &len), 0);
    s->port = ntohs(address.sin_port);
}

static inline void server_start(struct odyn_server *s) {
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, server_run, s), 0);
}

static inline void server_stop(struct odyn_server *s) {
    (void)shutdown(s->fd, SHUT_RDWR); /* Ends accept(). */
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    (void)close(s->fd);
}

/* Of the private keys 5 and 6. */
#define WALLET_5 "0xe1ab8145f7e55dc933d51a18c793f901a3a0b276"
#define WALLET_6 "0xe57bfe9f44b819898f47bf37e5af72a0783e1141"

/* ---- A client and its server ---- */

struct fixture {
    struct odyn_server server;
    struct identity_odyn *odyn;
    struct status why;
    uint8_t bytes[SERVER_BODY_BYTES + 1024];
};

static struct fixture f;

static inline void open_with(const struct identity_odyn_cfg *base) {
    char url[64];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", f.server.port);
    struct identity_odyn_cfg cfg = *base;
    cfg.base_url = url;
    cfg.backoff_ms = cfg.backoff_ms == 0 ? 1 : cfg.backoff_ms;
    assert_ok(identity_odyn_init(&f.odyn, &cfg, &f.why));
    f.server.odyn = f.odyn;
}

static inline int setup(void **state) {
    (void)state;
    memset(&f, 0, sizeof(f));
    server_bind(&f.server);
    server_start(&f.server);
    open_with(&(struct identity_odyn_cfg){ 0 });
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    server_stop(&f.server);
    identity_odyn_close(&f.odyn);
    identity_odyn_close(&f.odyn);
    for (size_t i = 0; i < f.server.reply_count; i++) {
        free((void *)(uintptr_t)f.server.replies[i].bytes.ptr);
    }
    return 0;
}

static inline void reply_raw(struct span bytes, enum reply_end end) {
    assert_int_equal(pthread_mutex_lock(&f.server.lock), 0);
    assert_true(f.server.reply_count < SERVER_REPLY_COUNT_MAX);
    f.server.replies[f.server.reply_count] =
        (struct reply){ { test_dup(bytes.ptr, bytes.len), bytes.len }, end };
    f.server.reply_count++;
    assert_int_equal(pthread_mutex_unlock(&f.server.lock), 0);
}

static inline void reply(unsigned status, const char *body) {
    static char text[SERVER_BODY_BYTES + 200];
    int len = snprintf(text, sizeof(text), "HTTP/1.1 %u Any\r\nContent-Length: %zu\r\n\r\n%s",
                       status, strlen(body), body);
    assert_in_range(len, 1, sizeof(text) - 1);
    reply_raw((struct span){ (const uint8_t *)text, (size_t)len }, REPLY_CLOSE);
}

static inline void key_of(unsigned number, struct secret *key) {
    assert_ok(secret_init(key, ETH_KEY_BYTES));
    key->ptr[ETH_KEY_BYTES - 1] = (uint8_t)number;
}

static inline void check_why(const char *want) {
    if (strstr(f.why.text, want) == NULL) {
        fail_msg("'%s' is not in '%s'", want, f.why.text);
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

enum what { ADDRESS, SIGN, RANDOM, KEY, ENCRYPT, DECRYPT };

static inline struct rc run_call(enum what what) {
    struct wallet wallet;
    struct eth_signature signature;
    struct secret secret = { 0 };
    struct envelope_key other;
    struct envelope_public key;
    struct identity_odyn_sealed sealed = { .len = 17 };
    struct rc rc;
    assert_ok(envelope_key_init(&other));
    switch (what) {
    case ADDRESS:
        rc = identity_odyn_address(f.odyn, &wallet, &f.why);
        break;
    case SIGN:
        rc = identity_odyn_sign(f.odyn, SPAN_LIT("hello"), &signature, &f.why);
        break;
    case RANDOM:
        rc = identity_odyn_random(f.odyn, &secret, &f.why);
        break;
    case KEY:
        rc = identity_odyn_encryption_key(f.odyn, &key, &f.why);
        break;
    case ENCRYPT:
        rc = identity_odyn_encrypt(f.odyn, SPAN_LIT("hello"), &other.public_key, &sealed, &f.why);
        break;
    case DECRYPT:
        rc = identity_odyn_decrypt(f.odyn, &sealed, &other.public_key, &secret, &f.why);
        break;
    }
    assert_true((secret.ptr != NULL) == (rc.err == E_OK && (what == RANDOM || what == DECRYPT)));
    secret_close(&secret);
    envelope_key_close(&other);
    return rc;
}

/* The public key of tests/vectors, and one whose point is off the curve. */
#define DER_HEAD "3076301006072a8648ce3d020106052b8104002203620004"
#define DER_GOOD                                                                              \
    DER_HEAD "f531a4018c424e8baf54a223d8672a3e301731e817eb717acb2cc3a7718d4d00baa342848928a1" \
             "08bfa976994aae2b89fd73bf274346580b2ee7e217c4f5c584f06ffb6bba6cf79c795f3c035c69" \
             "c51eea5fdd46811a1f79a43558ec5dcd36d8"
#define DER_OFF_CURVE                                                                         \
    DER_HEAD "f531a4018c424e8baf54a223d8672a3e301731e817eb717acb2cc3a7718d4d00baa342848928a1" \
             "08bfa976994aae2b89fd73bf274346580b2ee7e217c4f5c584f06ffb6bba6cf79c795f3c035c69" \
             "c51eea5fdd46811a1f79a43558ec5dcd36d9"
#define HEX_32 "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
#define SEALED_21 "000102030405060708090a0b0c0d0e0f1011121314"
#define NONCE_12 "000102030405060708090a0b"
