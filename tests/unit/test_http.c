/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "http/http.h"
#include "test.h"

#define FILL_BYTES 16384

static unsigned page_code = 200;
static size_t page_bytes = 2;

static unsigned write_page(void *ctx, enum http_page page, struct http_text *body,
                           const char **content_type) {
    (void)ctx;
    (void)page;
    *content_type = "text/plain";
    for (size_t i = 0; i < page_bytes; i++) {
        http_text_append(body, SPAN_LIT("x"));
    }
    return page_code;
}

static struct http *open_http(void) {
    struct http *http = NULL;
    page_code = 200;
    page_bytes = 2;
    assert_ok(http_init(&http, &(struct http_pages){ .write = write_page }));
    return http;
}

/* Feeds text in pieces of piece_bytes, each a heap copy of its exact size. */
static void feed(struct http *http, const char *text, size_t len, size_t piece_bytes) {
    while (len > 0) {
        size_t n = len < piece_bytes ? len : piece_bytes;
        uint8_t *piece = test_dup(text, n);
        assert_ok(http_input(http, (struct span){ piece, n }));
        free(piece);
        text += n;
        len -= n;
    }
}

static char *pending_text(const struct http *http) {
    struct span pending = http_pending(http);
    char *text = calloc(1, pending.len + 1);
    assert_non_null(text);
    if (pending.len > 0) {
        memcpy(text, pending.ptr, pending.len);
    }
    return text;
}

static size_t count_of(const char *text, const char *what) {
    size_t count = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        count++;
    }
    return count;
}

struct request_row {
    const char *name;
    const char *request;
    const char *want; /* The answer's status line; "" for no answer yet. */
    bool finished;
};

#define HOST "Host: a\r\n"

static struct request_row request_rows[] = {
    { "get", "GET /health HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 OK\r\n", false },
    { "head", "HEAD /status HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 OK\r\n", false },
    { "http_1_0", "GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", true },
    { "http_1_0_keep_alive", "GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      "HTTP/1.1 200 OK\r\n", false },
    { "connection_close", "GET /health/live HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
      "HTTP/1.1 200 OK\r\n", true },
    { "query", "GET /health?a=b HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 OK\r\n", false },
    { "absolute_target", "GET http://x/health HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 OK\r\n",
      false },
    { "bare_newlines", "GET /health HTTP/1.1\nHost: a\n\n", "HTTP/1.1 200 OK\r\n", false },
    { "leading_empty_lines", "\r\n\r\nGET /health HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 OK\r\n",
      false },
    { "length_zero", "GET /health HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\n", false },
    { "unfinished", "GET /health HTTP/1.1\r\nHost:", "", false },
    { "not_found", "GET / HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404 Not Found\r\n", false },
    { "prefix_of_page", "GET /healthy HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404 Not Found\r\n",
      false },
    { "dot_segments", "GET /x/../health HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404 Not Found\r\n",
      false },
    { "post", "POST /health HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 Method Not Allowed\r\n",
      false },
    { "options", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 Method Not Allowed\r\n",
      false },
    { "connect", "CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 Method Not Allowed\r\n",
      true },
    { "get_with_body", "GET /health HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab",
      "HTTP/1.1 413 Payload Too Large\r\n", true },
    { "get_chunked", "GET /health HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 413 Payload Too Large\r\n", true },
    { "length_and_chunked",
      "GET /health HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
      "HTTP/1.1 400 Bad Request\r\n", true },
    { "two_lengths",
      "GET /health HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 1\r\n\r\n",
      "HTTP/1.1 400 Bad Request\r\n", true },
    { "negative_length", "GET /health HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n",
      "HTTP/1.1 400 Bad Request\r\n", true },
    { "no_host", "GET /health HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", true },
    { "two_hosts", "GET /health HTTP/1.1\r\n" HOST HOST "\r\n", "HTTP/1.1 400 Bad Request\r\n",
      true },
    { "not_host", "GET /health HTTP/1.1\r\nHosts: a\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n",
      true },
    { "empty_host", "GET /health HTTP/1.1\r\nHost:\r\n\r\n", "HTTP/1.1 200 OK\r\n", false },
    { "http_2_0", "GET /health HTTP/2.0\r\n" HOST "\r\n",
      "HTTP/1.1 505 HTTP Version Not Supported\r\n", true },
    { "http_2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", true },
    { "http_0_9", "GET /health\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n", true },
    { "bad_version", "GET /health HTTP/x\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n",
      true },
    { "unknown_method", "FETCH /health HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 400 Bad Request\r\n",
      true },
    { "tls_hello", "\x16\x03\x01\x02", "HTTP/1.1 400 Bad Request\r\n", true },
    { "upgrade", "GET /health HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nzzz",
      "HTTP/1.1 200 OK\r\n", true },
};

static void check_request(const struct request_row *row, size_t piece_bytes) {
    struct http *http = open_http();
    feed(http, row->request, strlen(row->request), piece_bytes);
    char *text = pending_text(http);
    assert_int_equal(strncmp(text, row->want, strlen(row->want)), 0);
    assert_int_equal(count_of(text, "HTTP/1.1 "), row->want[0] == '\0' ? 0 : 1);
    assert_int_equal(http_is_finished(http), row->finished);
    if (row->want[0] != '\0') {
        const char *connection = row->finished ? "Connection: close" : "Connection: keep-alive";
        assert_non_null(strstr(text, connection));
    }
    free(text);
    http_close(&http);
    http_close(&http);
}

static void test_request(void **state) {
    const struct request_row *row = *state;
    check_request(row, SIZE_MAX);
    check_request(row, 1);
    check_request(row, 7);
}

static void test_answer_bytes(void **state) {
    (void)state;
    struct http *http = open_http();
    static const char request[] = "GET /health HTTP/1.1\r\n" HOST "\r\n";
    feed(http, request, sizeof(request) - 1, SIZE_MAX);
    char *text = pending_text(http);
    assert_string_equal(text, "HTTP/1.1 200 OK\r\n"
                              "Content-Type: text/plain\r\n"
                              "Content-Length: 2\r\n"
                              "Cache-Control: no-store\r\n"
                              "X-Content-Type-Options: nosniff\r\n"
                              "Connection: keep-alive\r\n\r\nxx");
    free(text);
    http_close(&http);
}

static void test_head_has_no_body(void **state) {
    (void)state;
    struct http *http = open_http();
    page_code = 503;
    static const char request[] = "HEAD /health HTTP/1.1\r\n" HOST "\r\n"
                                  "HEAD /nothing HTTP/1.1\r\n" HOST "\r\n";
    feed(http, request, sizeof(request) - 1, SIZE_MAX);
    char *text = pending_text(http);
    assert_non_null(strstr(text, "HTTP/1.1 503 Service Unavailable\r\n"));
    assert_non_null(strstr(text, "Content-Length: 2\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nHTTP/1.1 404"));
    assert_null(strstr(text, "error"));
    free(text);
    http_close(&http);
}

static void test_method_not_allowed_says_what_is(void **state) {
    (void)state;
    struct http *http = open_http();
    static const char request[] = "DELETE /health HTTP/1.1\r\n" HOST "\r\n";
    feed(http, request, sizeof(request) - 1, SIZE_MAX);
    char *text = pending_text(http);
    assert_non_null(strstr(text, "Allow: GET, HEAD\r\n"));
    free(text);
    http_close(&http);
}

static void test_pipelined_requests_are_answered_in_order(void **state) {
    (void)state;
    static const char requests[] = "GET /health HTTP/1.1\r\n" HOST "\r\n"
                                   "GET /none HTTP/1.1\r\n" HOST "\r\n"
                                   "POST /health HTTP/1.1\r\n" HOST "\r\n"
                                   "GET /status HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
                                   "GET /never HTTP/1.1\r\n" HOST "\r\n";
    for (size_t piece_bytes = 1; piece_bytes < sizeof(requests); piece_bytes++) {
        struct http *http = open_http();
        feed(http, requests, sizeof(requests) - 1, piece_bytes);
        char *text = pending_text(http);
        assert_int_equal(count_of(text, "HTTP/1.1 "), 4);
        const char *second = strstr(text, "HTTP/1.1 404");
        assert_non_null(second);
        const char *third = strstr(second, "HTTP/1.1 405");
        assert_non_null(third);
        assert_non_null(strstr(third, "HTTP/1.1 200"));
        assert_true(http_is_finished(http));
        free(text);
        http_close(&http);
    }
}

static void test_pending_answers_are_bounded(void **state) {
    (void)state;
    struct http *http = open_http();
    page_bytes = 100000;
    static const char request[] = "GET /health HTTP/1.1\r\n" HOST "\r\n";
    for (unsigned i = 0; i < 20; i++) {
        feed(http, request, sizeof(request) - 1, SIZE_MAX);
    }
    assert_true(http_is_finished(http));
    assert_true(http_pending(http).len < HTTP_PENDING_BYTES_MAX + 2 * page_bytes);
    http_sent(http, 1);
    http_sent(http, http_pending(http).len);
    assert_int_equal(http_pending(http).len, 0);
    http_close(&http);
}

/* Answers that are sent make room for more. */
static void test_sent_answers_do_not_count(void **state) {
    (void)state;
    struct http *http = open_http();
    page_bytes = 100000;
    static const char request[] = "GET /health HTTP/1.1\r\n" HOST "\r\n";
    for (unsigned i = 0; i < 20; i++) {
        feed(http, request, sizeof(request) - 1, SIZE_MAX);
        http_sent(http, http_pending(http).len);
    }
    assert_false(http_is_finished(http));
    http_close(&http);
}

static void test_page_over_its_bound_is_an_error(void **state) {
    (void)state;
    struct http *http = open_http();
    static const char request[] = "GET /health HTTP/1.1\r\n" HOST "\r\n";
    page_bytes = HTTP_PAGE_BYTES_MAX;
    feed(http, request, sizeof(request) - 1, SIZE_MAX);
    assert_false(http_is_finished(http));
    http_sent(http, http_pending(http).len);
    page_bytes = HTTP_PAGE_BYTES_MAX + 1;
    feed(http, request, sizeof(request) - 1, SIZE_MAX);
    char *text = pending_text(http);
    assert_int_equal(strncmp(text, "HTTP/1.1 500 ", 13), 0);
    assert_true(http_is_finished(http));
    free(text);
    http_close(&http);
}

/* A request whose head has exactly head_len bytes. */
static void check_head_length(size_t head_len, const char *want) {
    static const char start[] = "GET /health HTTP/1.1\r\n" HOST "X: ";
    static const char end[] = "\r\n\r\n";
    char *request = calloc(1, head_len + 1);
    assert_non_null(request);
    memset(request, 'y', head_len);
    memcpy(request, start, sizeof(start) - 1);
    memcpy(request + head_len - (sizeof(end) - 1), end, sizeof(end) - 1);
    for (size_t piece_bytes = 1; piece_bytes <= head_len; piece_bytes += 1021) {
        struct http *http = open_http();
        feed(http, request, head_len, piece_bytes);
        char *text = pending_text(http);
        assert_int_equal(strncmp(text, want, strlen(want)), 0);
        free(text);
        http_close(&http);
    }
    free(request);
}

static void test_head_at_its_limit(void **state) {
    (void)state;
    check_head_length(HTTP_HEAD_BYTES_MAX, "HTTP/1.1 200 ");
    check_head_length(HTTP_HEAD_BYTES_MAX + 1, "HTTP/1.1 431 ");
}

static void check_target_length(size_t target_len, const char *want) {
    char request[HTTP_TARGET_BYTES_MAX + 64];
    char target[HTTP_TARGET_BYTES_MAX + 2];
    memset(target, 'y', sizeof(target));
    memcpy(target, "/health?", 8);
    target[target_len] = '\0';
    int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" HOST "\r\n", target);
    assert_true(len > 0);
    struct http *http = open_http();
    feed(http, request, (size_t)len, 100);
    char *text = pending_text(http);
    assert_int_equal(strncmp(text, want, strlen(want)), 0);
    free(text);
    http_close(&http);
}

static void test_target_at_its_limit(void **state) {
    (void)state;
    check_target_length(HTTP_TARGET_BYTES_MAX, "HTTP/1.1 200 ");
    check_target_length(HTTP_TARGET_BYTES_MAX + 1, "HTTP/1.1 414 ");
}

static void test_endless_empty_lines_are_refused(void **state) {
    (void)state;
    struct http *http = open_http();
    char *lines = calloc(1, FILL_BYTES);
    assert_non_null(lines);
    memset(lines, '\n', FILL_BYTES);
    feed(http, lines, FILL_BYTES, 1000);
    assert_true(http_is_finished(http));
    free(lines);
    http_close(&http);
}

static void test_mid_request(void **state) {
    (void)state;
    struct http *http = open_http();
    static const char request[] = "GET /health HTTP/1.1\r\n" HOST "\r\n";
    assert_false(http_is_mid_request(http));
    feed(http, request, 1, SIZE_MAX);
    assert_true(http_is_mid_request(http));
    feed(http, request + 1, sizeof(request) - 2, SIZE_MAX);
    assert_false(http_is_mid_request(http));
    http_close(&http);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(request_rows) + 11];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_request, request_rows);
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_answer_bytes),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_method_not_allowed_says_what_is),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_pending_answers_are_bounded),
        cmocka_unit_test(test_sent_answers_do_not_count),
        cmocka_unit_test(test_page_over_its_bound_is_an_error),
        cmocka_unit_test(test_head_at_its_limit),
        cmocka_unit_test(test_target_at_its_limit),
        cmocka_unit_test(test_endless_empty_lines_are_refused),
        cmocka_unit_test(test_mid_request),
    };
    memcpy(tests + count, others, sizeof(others));
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
