/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the operators' shim (docs/operations.md, "Watch it"): bytes in, bytes out. It
 * opens no socket; the plain port (net/server.h) and the TLS port both drive it. GET and HEAD of a
 * few fixed pages, HTTP/1.0 and 1.1, keep-alive, pipelining; no request body. One owner thread. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"

/* Request line and headers together: longer ones are answered with 431 (414 for the target). */
#define HTTP_HEAD_BYTES_MAX 8192
#define HTTP_TARGET_BYTES_MAX 1024
/* One page at most. */
#define HTTP_PAGE_BYTES_MAX ((size_t)1024 * 1024)
/* Answers to pipelined requests that wait to be sent: past it the connection closes after the
 * answer it is at. */
#define HTTP_PENDING_BYTES_MAX ((size_t)256 * 1024)

#define HTTP_PAGE_MAP(X)           \
    X(HEALTH, "/health")           \
    X(HEALTH_LIVE, "/health/live") \
    X(STATUS, "/status")           \
    X(METRICS, "/metrics")

#define HTTP_PAGE_ENUM(name, path) HTTP_PAGE_##name,
enum http_page { HTTP_PAGE_MAP(HTTP_PAGE_ENUM) };
#undef HTTP_PAGE_ENUM

/* Text that grows on the heap up to a bound. Embedded; zero is empty. A failed append marks it:
 * check `failed` once, at the end. */
struct http_text {
    uint8_t *ptr;
    size_t len;
    size_t bytes;
    size_t bytes_max;
    bool failed;
};
/* Frees, and leaves it empty. */
void http_text_close(struct http_text *text);
/* Append; nothing is added to a text that has failed. */
void http_text_append(struct http_text *text, struct span s);
void http_text_printf(struct http_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Where the pages come from. Called on the connection's thread, for each request. */
struct http_pages {
    /* Appends the page's body to body, sets *content_type to a static string, and gives the status
     * code: 200 or 503. */
    unsigned (*write)(void *ctx, enum http_page page, struct http_text *body,
                      const char **content_type);
    void *ctx;
};

struct http; /* Opaque. */

/* Gives *out, NULL on error. Keeps pages (lent until close). NOMEM. */
RC http_init(struct http **out, const struct http_pages *pages);
/* Takes *http: frees, sets NULL. Accepts a closed one. */
void http_close(struct http **http);

/* Takes the next bytes of the connection. Answers are appended to http_pending. After an answer
 * that ends the connection, further input is ignored. NOMEM; whatever the peer sends is
 * answered. */
RC http_input(struct http *http, struct span in);
/* Lends what is to be sent, until the next call that changes http. */
struct span http_pending(const struct http *http);
/* Forgets the first len bytes of http_pending: they were sent. */
void http_sent(struct http *http, size_t len);
/* Whether the connection is to be closed once http_pending has been sent. */
bool http_is_finished(const struct http *http);
/* Whether a request has begun and not ended: such a connection may not stay silent for long. */
bool http_is_mid_request(const struct http *http);
