/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int recv_cb(void *ctx, unsigned char *buf, size_t bytes) {
    struct endpoint *e = ctx;
    size_t len = e->in_len - e->in_at;
    if (len == 0) {
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    len = len < bytes ? len : bytes;
    memcpy(buf, e->in + e->in_at, len);
    e->in_at += len;
    return (int)len;
}

static int send_cb(void *ctx, const unsigned char *buf, size_t len) {
    struct endpoint *e = ctx;
    if (len > ENDPOINT_BUFFER_BYTES - e->out_len) {
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    }
    memcpy(e->out + e->out_len, buf, len);
    e->out_len += len;
    return (int)len;
}

RC endpoint_init(struct endpoint *e, int fd, const mbedtls_ssl_config *conf) {
    *e = (struct endpoint){ .fd = fd };
    mbedtls_ssl_init(&e->tls);
    e->in = malloc(ENDPOINT_BUFFER_BYTES);
    e->out = malloc(ENDPOINT_BUFFER_BYTES);
    if (e->in == NULL || e->out == NULL || mbedtls_ssl_setup(&e->tls, conf) != 0) {
        e->fd = -1; /* Stays the caller's. */
        endpoint_close(e);
        return ERR(NOMEM);
    }
    mbedtls_ssl_set_bio(&e->tls, e, send_cb, recv_cb, NULL);
    return OK;
}

void endpoint_close(struct endpoint *e) {
    if (e->in == NULL && e->out == NULL) {
        return;
    }
    mbedtls_ssl_free(&e->tls);
    free(e->in);
    free(e->out);
    if (e->fd >= 0) {
        (void)close(e->fd);
    }
    *e = (struct endpoint){ .fd = -1 };
}

RC endpoint_fill(struct endpoint *e) {
    if (e->in_at > 0) {
        memmove(e->in, e->in + e->in_at, e->in_len - e->in_at);
        e->in_len -= e->in_at;
        e->in_at = 0;
    }
    ssize_t n = recv(e->fd, e->in + e->in_len, ENDPOINT_BUFFER_BYTES - e->in_len, 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? ERR(AGAIN) : ERR(IO);
    }
    ENSURE(n > 0, CLOSED);
    e->in_len += (size_t)n;
    return OK;
}

RC endpoint_handshake(struct endpoint *e) {
    int code = mbedtls_ssl_handshake(&e->tls);
    TRY(endpoint_flush(e));
    if (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE) {
        return ERR(AGAIN);
    }
    ENSURE(code == 0, BAD_AUTH);
    return OK;
}

/* TLS 1.3 servers send tickets, which are messages and not data; they end with the input. */
static bool is_ticket(int code) {
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return code == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET;
#else
    (void)code;
    return false;
#endif
}

RC endpoint_read(struct endpoint *e, uint8_t *buf, size_t bytes, size_t *len) {
    *len = 0;
    int n = 0;
    do {
        n = mbedtls_ssl_read(&e->tls, buf, bytes);
    } while (is_ticket(n));
    if (n == MBEDTLS_ERR_SSL_WANT_READ) {
        return OK;
    }
    ENSURE(n != 0 && n != MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, CLOSED);
    ENSURE(n > 0, IO);
    *len = (size_t)n;
    return OK;
}

RC endpoint_write(struct endpoint *e, struct span data) {
    while (data.len > 0) {
        int n = mbedtls_ssl_write(&e->tls, data.ptr, data.len);
        ENSURE(n != MBEDTLS_ERR_SSL_WANT_WRITE, TOO_BIG);
        ENSURE(n > 0, IO);
        data = (struct span){ data.ptr + n, data.len - (size_t)n };
    }
    return OK;
}

RC endpoint_flush(struct endpoint *e) {
    if (e->out_len == 0) {
        return OK;
    }
    ssize_t n = send(e->fd, e->out, e->out_len, MSG_NOSIGNAL);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? ERR(AGAIN) : ERR(IO);
    }
    e->out_len -= (size_t)n;
    if (e->out_len > 0) {
        memmove(e->out, e->out + n, e->out_len);
        return ERR(AGAIN);
    }
    return OK;
}
