/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

#include <stdio.h>
#include <stdlib.h>

#include <http_parser.h>

#define JSON_TYPE "application/json"
#define HEAD_BYTES 512
/* Longer than any header name this shim looks at. */
#define FIELD_BYTES 8

struct http {
    http_parser parser;
    struct http_pages pages;
    struct http_text pending;
    size_t head_len; /* Of the request under way, and line ends before it; 0 between requests. */
    char target[HTTP_TARGET_BYTES_MAX];
    size_t target_len;
    char field[FIELD_BYTES]; /* The header name being read; only as much as fits. */
    size_t field_len;
    bool in_value;
    unsigned host_count;
    bool target_too_long;
    bool has_body;
    bool complete;
    bool finished;
};

static const char *status_text(unsigned code) {
    static const struct {
        unsigned code;
        const char *text;
    } rows[] = {
        { 200, "OK" },
        { 400, "Bad Request" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 413, "Payload Too Large" },
        { 414, "URI Too Long" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 503, "Service Unavailable" },
        { 505, "HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code) {
            return rows[i].text;
        }
    }
    return "Unknown";
}

static int begin_cb(http_parser *parser) {
    struct http *http = parser->data;
    http->target_len = 0;
    http->field_len = 0;
    http->in_value = false;
    http->host_count = 0;
    http->target_too_long = false;
    http->has_body = false;
    return 0;
}

static int target_cb(http_parser *parser, const char *at, size_t len) {
    struct http *http = parser->data;
    if (len > HTTP_TARGET_BYTES_MAX - http->target_len) {
        http->target_too_long = true;
        return 1; /* Stops the parser. */
    }
    memcpy(http->target + http->target_len, at, len);
    http->target_len += len;
    return 0;
}

static int field_cb(http_parser *parser, const char *at, size_t len) {
    struct http *http = parser->data;
    if (http->in_value) {
        http->in_value = false;
        http->field_len = 0;
    }
    for (size_t i = 0; i < len; i++) {
        if (http->field_len < FIELD_BYTES) {
            http->field[http->field_len] = (char)(at[i] | 0x20);
            http->field_len++;
        }
    }
    return 0;
}

static int value_cb(http_parser *parser, const char *at, size_t len) {
    (void)at;
    (void)len;
    struct http *http = parser->data;
    struct span field = { (const uint8_t *)http->field, http->field_len };
    if (!http->in_value && span_equal(field, SPAN_LIT("host"))) {
        http->host_count++;
    }
    http->in_value = true;
    return 0;
}

static int headers_cb(http_parser *parser) {
    struct http *http = parser->data;
    bool has_length = parser->content_length != 0 && parser->content_length != UINT64_MAX;
    http->has_body = has_length || (parser->flags & F_CHUNKED) != 0;
    return http->has_body ? 2 : 0; /* 2: no body is read; the connection closes. */
}

static int complete_cb(http_parser *parser) {
    struct http *http = parser->data;
    http->complete = true;
    http_parser_pause(parser, 1); /* The next request begins only after this one's answer. */
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = begin_cb,
    .on_url = target_cb,
    .on_header_field = field_cb,
    .on_header_value = value_cb,
    .on_headers_complete = headers_cb,
    .on_message_complete = complete_cb,
};

RC http_init(struct http **out, const struct http_pages *pages) {
    *out = NULL;
    struct http *http = calloc(1, sizeof(*http));
    ENSURE(http != NULL, NOMEM);
    http->pages = *pages;
    http->pending.bytes_max = HTTP_PENDING_BYTES_MAX + HTTP_PAGE_BYTES_MAX + HEAD_BYTES;
    http_parser_init(&http->parser, HTTP_REQUEST);
    http->parser.data = http;
    *out = http;
    return OK;
}

void http_close(struct http **http) {
    if (*http == NULL) {
        return;
    }
    http_text_close(&(*http)->pending);
    free(*http);
    *http = NULL;
}

struct answer {
    unsigned code;
    const char *content_type;
    struct span body;
    bool head_only;
};

static void append_answer(struct http *http, const struct answer *answer) {
    if (http->pending.len > HTTP_PENDING_BYTES_MAX) {
        http->finished = true;
    }
    http_text_printf(&http->pending,
                     "HTTP/1.1 %u %s\r\n"
                     "Content-Type: %s\r\n"
                     "Content-Length: %zu\r\n"
                     "Cache-Control: no-store\r\n"
                     "X-Content-Type-Options: nosniff\r\n"
                     "%s"
                     "Connection: %s\r\n\r\n",
                     answer->code, status_text(answer->code), answer->content_type,
                     answer->body.len, answer->code == 405 ? "Allow: GET, HEAD\r\n" : "",
                     http->finished ? "close" : "keep-alive");
    if (!answer->head_only) {
        http_text_append(&http->pending, answer->body);
    }
}

/* Answers with a sentence in JSON. The sentences are ours, and need no escaping. */
static void append_failure(struct http *http, unsigned code, const char *sentence) {
    char body[HEAD_BYTES];
    int len = snprintf(body, sizeof(body), "{\"error\":\"%s\"}\n", sentence);
    ASSERT(len > 0);
    append_answer(http, &(struct answer){
                            .code = code,
                            .content_type = JSON_TYPE,
                            .body = { (const uint8_t *)body, (size_t)len },
                            .head_only = http->complete && http->parser.method == HTTP_HEAD,
                        });
}

static void append_page(struct http *http, enum http_page page) {
    struct http_text body = { .bytes_max = HTTP_PAGE_BYTES_MAX };
    const char *content_type = JSON_TYPE;
    unsigned code = http->pages.write(http->pages.ctx, page, &body, &content_type);
    if (body.failed) {
        http->finished = true;
        append_failure(http, 500, "the page could not be made: out of memory");
    } else {
        append_answer(http, &(struct answer){
                                .code = code,
                                .content_type = content_type,
                                .body = { body.ptr, body.len },
                                .head_only = http->parser.method == HTTP_HEAD,
                            });
    }
    http_text_close(&body);
}

/* Gives the path of the target without its query. MALFORMED for what is no URL. */
static RC target_path(const struct http *http, struct span *path) {
    struct http_parser_url url;
    http_parser_url_init(&url);
    ENSURE(http_parser_parse_url(http->target, http->target_len, 0, &url) == 0, MALFORMED);
    ENSURE((url.field_set & (1U << UF_PATH)) != 0, MALFORMED);
    *path = (struct span){ (const uint8_t *)http->target + url.field_data[UF_PATH].off,
                           url.field_data[UF_PATH].len };
    return OK;
}

static void answer_path(struct http *http) {
    static const struct {
        enum http_page page;
        const char *path;
    } rows[] = {
#define PAGE_ROW(name, text) { HTTP_PAGE_##name, text },
        HTTP_PAGE_MAP(PAGE_ROW)
#undef PAGE_ROW
    };
    struct span path = SPAN_EMPTY;
    if (target_path(http, &path).err != E_OK) {
        append_failure(http, 400, "the request target is not a URL path");
        return;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (span_equal(path, span_str(rows[i].path))) {
            append_page(http, rows[i].page);
            return;
        }
    }
    append_failure(http, 404,
                   "no such page; there are /health, /health/live, /status and /metrics");
}

static void answer_request(struct http *http) {
    const http_parser *parser = &http->parser;
    bool is_1_1 = parser->http_major == 1 && parser->http_minor == 1;
    bool is_1_0 = parser->http_major == 1 && parser->http_minor == 0;
    http->finished = http->has_body || parser->upgrade != 0 || http_should_keep_alive(parser) == 0;
    if (!is_1_1 && !is_1_0) {
        http->finished = true;
        append_failure(http, 505, "the version must be HTTP/1.0 or HTTP/1.1");
    } else if (parser->method != HTTP_GET && parser->method != HTTP_HEAD) {
        append_failure(http, 405, "the method must be GET or HEAD");
    } else if (http->has_body) {
        append_failure(http, 413, "a request must not have a body");
    } else if (http->host_count > 1 || (is_1_1 && http->host_count == 0)) {
        http->finished = true;
        append_failure(http, 400, "a request must have exactly one Host header");
    } else {
        answer_path(http);
    }
}

static void answer_parse_error(struct http *http) {
    http->finished = true;
    http->complete = false; /* The method may be half read. */
    if (http->target_too_long) {
        append_failure(http, 414, "the request target must have at most 1024 bytes");
    } else if (HTTP_PARSER_ERRNO(&http->parser) == HPE_INVALID_VERSION) {
        append_failure(http, 505, "the version must be HTTP/1.0 or HTTP/1.1");
    } else if (HTTP_PARSER_ERRNO(&http->parser) == HPE_HEADER_OVERFLOW) {
        append_failure(http, 431, "request line and headers must have at most 8192 bytes");
    } else {
        append_failure(http, 400, "the request is not HTTP");
    }
}

/* Feeds the parser one byte: it reports a run of bytes (a target, a header) only at its end or at
 * the end of its input, so that with more at a time the peer's packets would decide which of two
 * faults in a request is met first, and answered. */
static void parse_byte(struct http *http, const uint8_t *byte) {
    http->complete = false;
    http->head_len += http_parser_execute(&http->parser, &settings, (const char *)byte, 1);
    enum http_errno error = HTTP_PARSER_ERRNO(&http->parser);
    if (http->complete) {
        http_parser_pause(&http->parser, 0);
        answer_request(http);
        http->head_len = 0;
    } else if (error != HPE_OK) {
        answer_parse_error(http);
    } else if (http->head_len == HTTP_HEAD_BYTES_MAX) {
        http->finished = true;
        append_failure(http, 431, "request line and headers must have at most 8192 bytes");
    }
}

RC http_input(struct http *http, struct span in) {
    for (size_t i = 0; i < in.len && !http->finished; i++) {
        parse_byte(http, in.ptr + i);
    }
    ENSURE(!http->pending.failed, NOMEM);
    return OK;
}

struct span http_pending(const struct http *http) {
    return (struct span){ http->pending.ptr, http->pending.len };
}

void http_sent(struct http *http, size_t len) {
    ASSERT(len <= http->pending.len);
    http->pending.len -= len;
    if (http->pending.len > 0) {
        memmove(http->pending.ptr, http->pending.ptr + len, http->pending.len);
    } else {
        http_text_close(&http->pending); /* An idle connection keeps no buffer. */
    }
}

bool http_is_finished(const struct http *http) {
    return http->finished;
}

bool http_is_mid_request(const struct http *http) {
    return http->head_len > 0;
}
