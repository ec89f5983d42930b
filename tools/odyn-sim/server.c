/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>

#include <http_parser.h>

#include "api.h"

#define READ_BYTES 65536
#define HEAD_BYTES 512
#define IDLE_MS 60000
/* How long what the caller still sends is thrown away after the last answer: a reset would take the
 * answer from it. */
#define LINGER_MS 2000

enum conn_state {
    READING,   /* A request. */
    WAITING,   /* Its latency, or for ever. */
    ANSWERING, /* Writing. */
    LINGERING, /* All is said. */
};

struct server {
    uv_tcp_t tcp;
    struct server_cfg cfg;
    struct conn *conns;
    size_t conn_count;
    bool closing;
};

struct conn {
    uv_tcp_t tcp;
    uv_timer_t timer; /* Idle, latency or linger, by the state. */
    struct server *server;
    struct conn *next;
    unsigned open_handle_count;
    enum conn_state state;
    http_parser parser;
    char path[SIM_PATH_BYTES];
    size_t path_len;
    uint8_t *body;
    size_t body_len;
    size_t body_bytes;
    bool complete;
    bool too_big;
    bool keep_alive;
    struct sim_fault fault;
    struct api_reply reply;
    char head[HEAD_BYTES];
    uv_write_t write;
    uint8_t input[READ_BYTES];
};

/* ---- Closing ---- */

static void unlink_conn(struct conn *conn) {
    struct conn **at = &conn->server->conns;
    while (*at != conn) {
        at = &(*at)->next;
    }
    *at = conn->next;
    conn->server->conn_count--;
}

static void server_free_when_empty(struct server *server) {
    if (server->closing && server->conn_count == 0 &&
        uv_is_closing((const uv_handle_t *)&server->tcp) != 0) {
        free(server);
    }
}

static void handle_closed_cb(uv_handle_t *handle) {
    struct conn *conn = handle->data;
    conn->open_handle_count--;
    if (conn->open_handle_count > 0) {
        return;
    }
    struct server *server = conn->server;
    unlink_conn(conn);
    api_reply_close(&conn->reply);
    free(conn->body);
    free(conn);
    server_free_when_empty(server);
}

static void conn_close(struct conn *conn) {
    if (uv_is_closing((const uv_handle_t *)&conn->tcp) == 0) {
        uv_close((uv_handle_t *)&conn->tcp, handle_closed_cb);
        uv_close((uv_handle_t *)&conn->timer, handle_closed_cb);
    }
}

/* ---- Answering ---- */

static void timer_cb(uv_timer_t *timer);

static void set_timer(struct conn *conn, uint64_t timeout_ms) {
    int error = uv_timer_start(&conn->timer, timer_cb, timeout_ms, 0);
    ASSERT(error == 0); /* Fails only without a callback, or when closing. */
}

static void reset_request(struct conn *conn) {
    api_reply_close(&conn->reply);
    free(conn->body);
    conn->body = NULL;
    conn->body_len = 0;
    conn->body_bytes = 0;
    conn->path_len = 0;
    conn->complete = false;
    conn->fault = (struct sim_fault){ 0 };
    conn->state = READING;
    set_timer(conn, IDLE_MS);
}

static void shutdown_cb(uv_shutdown_t *request, int status) {
    (void)status;
    free(request);
}

static void linger(struct conn *conn) {
    uv_shutdown_t *request = calloc(1, sizeof(*request));
    conn->state = LINGERING;
    if (request == NULL || uv_shutdown(request, (uv_stream_t *)&conn->tcp, shutdown_cb) != 0) {
        free(request);
        conn_close(conn);
        return;
    }
    set_timer(conn, LINGER_MS);
}

static void written_cb(uv_write_t *write, int status) {
    struct conn *conn = write->data;
    if (uv_is_closing((const uv_handle_t *)&conn->tcp) != 0) {
        return;
    }
    if (status != 0) {
        conn_close(conn);
    } else if (conn->keep_alive) {
        reset_request(conn);
    } else {
        linger(conn);
    }
}

static const char *reason_of(unsigned status) {
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Payload Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Status";
    }
}

static void send_reply(struct conn *conn) {
    struct api_reply *reply = &conn->reply;
    int len = snprintf(conn->head, sizeof(conn->head),
                       "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                       "Connection: %s\r\n\r\n",
                       reply->status, reason_of(reply->status), reply->content_type,
                       reply->body_len, conn->keep_alive ? "keep-alive" : "close");
    ASSERT(len > 0 && (size_t)len < sizeof(conn->head));
    if (conn->server->cfg.verbose) {
        (void)fprintf(stderr, "odyn-sim: %.*s %u\n", (int)conn->path_len, conn->path,
                      reply->status);
    }
    uv_buf_t bufs[] = {
        uv_buf_init(conn->head, (unsigned)len),
        uv_buf_init((char *)reply->body, (unsigned)reply->body_len),
    };
    conn->state = ANSWERING;
    conn->write.data = conn;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, bufs, 2, written_cb) != 0) {
        conn_close(conn);
    }
}

static void answer(struct conn *conn) {
    const struct sim_fault *fault = &conn->fault;
    if (fault->drop) {
        conn_close(conn);
        return;
    }
    if (fault->status != 0) {
        api_text(&conn->reply, fault->status, "%s", fault->say);
    } else {
        const struct api_request request = {
            .is_post = conn->parser.method == HTTP_POST,
            .path = conn->path,
            .body = { conn->body, conn->body_len },
        };
        api_handle(conn->server->cfg.sim, &request, &conn->reply);
    }
    send_reply(conn);
}

static void timer_cb(uv_timer_t *timer) {
    struct conn *conn = timer->data;
    switch (conn->state) {
    case WAITING:
        answer(conn);
        break;
    case READING:
    case ANSWERING:
    case LINGERING:
        conn_close(conn);
        break;
    }
}

/* A whole request is here. odyn-sim's own calls have no faults, or nobody could clear them. */
static void dispatch(struct conn *conn) {
    conn->path[conn->path_len] = '\0';
    const struct sim_fault *fault = NULL;
    if (strncmp(conn->path, "/_sim/", 6) != 0) {
        fault = sim_take_fault(conn->server->cfg.sim, conn->path);
    }
    if (fault != NULL) {
        conn->fault = *fault; /* Else none: reset_request() cleared it. */
    }
    if (conn->fault.hang) {
        conn->state = WAITING;
        (void)uv_timer_stop(&conn->timer);
    } else if (conn->fault.latency_ms > 0) {
        conn->state = WAITING;
        set_timer(conn, conn->fault.latency_ms);
    } else {
        answer(conn);
    }
}

static void refuse(struct conn *conn, unsigned status, const char *sentence) {
    conn->keep_alive = false;
    api_text(&conn->reply, status, "%s", sentence);
    send_reply(conn);
}

/* ---- Reading ---- */

static int target_cb(http_parser *parser, const char *at, size_t len) {
    struct conn *conn = parser->data;
    if (len >= sizeof(conn->path) - conn->path_len) {
        return 1; /* No path of ours is that long. */
    }
    memcpy(conn->path + conn->path_len, at, len);
    conn->path_len += len;
    return 0;
}

static int headers_cb(http_parser *parser) {
    struct conn *conn = parser->data;
    bool has_length = parser->content_length != UINT64_MAX;
    conn->too_big = has_length && parser->content_length > SIM_BODY_BYTES_MAX;
    return conn->too_big ? -1 : 0;
}

static int body_cb(http_parser *parser, const char *at, size_t len) {
    struct conn *conn = parser->data;
    conn->too_big = len > SIM_BODY_BYTES_MAX - conn->body_len;
    if (conn->too_big) {
        return 1;
    }
    size_t need = conn->body_len + len;
    if (need > conn->body_bytes) {
        size_t bytes = need > SIM_BODY_BYTES_MAX / 2 ? SIM_BODY_BYTES_MAX : 2 * need;
        uint8_t *grown = realloc(conn->body, bytes);
        if (grown == NULL) {
            return 1;
        }
        conn->body = grown;
        conn->body_bytes = bytes;
    }
    memcpy(conn->body + conn->body_len, at, len);
    conn->body_len = need;
    return 0;
}

static int complete_cb(http_parser *parser) {
    struct conn *conn = parser->data;
    conn->complete = true;
    conn->keep_alive = http_should_keep_alive(parser) != 0;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = target_cb,
    .on_headers_complete = headers_cb,
    .on_body = body_cb,
    .on_message_complete = complete_cb,
};

static void parse(struct conn *conn, size_t len) {
    size_t taken = http_parser_execute(&conn->parser, &settings, (const char *)conn->input, len);
    if (conn->complete) {
        http_parser_pause(&conn->parser, 0);
        /* Nobody pipelines to Odyn: what came too early is dropped, with the connection. */
        conn->keep_alive = conn->keep_alive && taken == len;
        dispatch(conn);
    } else if (conn->too_big) {
        refuse(conn, 413, "the body must have at most 10485760 bytes");
    } else if (HTTP_PARSER_ERRNO(&conn->parser) != HPE_OK) {
        refuse(conn, 400, "the request is not HTTP that Odyn understands");
    }
}

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    struct conn *conn = handle->data;
    *buf = uv_buf_init((char *)conn->input, sizeof(conn->input));
}

static void read_cb(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf) {
    (void)buf;
    struct conn *conn = stream->data;
    if (got < 0) {
        conn_close(conn);
    } else if (got > 0 && conn->state == READING) {
        parse(conn, (size_t)got);
    } else if (got > 0) {
        conn->keep_alive = false;
    }
}

/* ---- Connections ---- */

static void conn_start(struct server *server) {
    struct conn *conn = calloc(1, sizeof(*conn));
    ASSERT(conn != NULL);
    conn->server = server;
    conn->next = server->conns;
    server->conns = conn;
    server->conn_count++;
    int error = uv_tcp_init(server->cfg.loop, &conn->tcp);
    ASSERT(error == 0); /* Creates no socket yet. */
    error = uv_timer_init(server->cfg.loop, &conn->timer);
    ASSERT(error == 0);
    conn->tcp.data = conn;
    conn->timer.data = conn;
    conn->open_handle_count = 2;
    http_parser_init(&conn->parser, HTTP_REQUEST);
    conn->parser.data = conn;
    if (uv_accept((uv_stream_t *)&server->tcp, (uv_stream_t *)&conn->tcp) != 0 ||
        server->conn_count > SERVER_CONN_COUNT_MAX ||
        uv_read_start((uv_stream_t *)&conn->tcp, alloc_cb, read_cb) != 0) {
        conn_close(conn);
        return;
    }
    reset_request(conn);
}

static void connection_cb(uv_stream_t *stream, int status) {
    struct server *server = stream->data;
    if (status == 0) {
        conn_start(server);
    }
}

static RC parse_address(const struct server_cfg *cfg, struct sockaddr_storage *out) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    memset(out, 0, sizeof(*out));
    if (uv_ip4_addr(cfg->address, cfg->port, &v4) == 0) {
        memcpy(out, &v4, sizeof(v4));
        return OK;
    }
    ENSURE(uv_ip6_addr(cfg->address, cfg->port, &v6) == 0, BAD_CONFIG);
    memcpy(out, &v6, sizeof(v6));
    return OK;
}

static int listen_on(struct server *server, const struct sockaddr_storage *address) {
    int error = uv_tcp_bind(&server->tcp, (const struct sockaddr *)address, 0);
    return error != 0 ? error : uv_listen((uv_stream_t *)&server->tcp, 128, connection_cb);
}

RC server_init(struct server **out, const struct server_cfg *cfg, const char **why) {
    *out = NULL;
    *why = "it is not an IP address";
    struct sockaddr_storage address;
    TRY(parse_address(cfg, &address));
    struct server *server = calloc(1, sizeof(*server));
    ENSURE(server != NULL, NOMEM);
    server->cfg = *cfg;
    int error = uv_tcp_init(cfg->loop, &server->tcp);
    ASSERT(error == 0);
    server->tcp.data = server;
    error = listen_on(server, &address);
    if (error != 0) {
        *why = uv_strerror(error);
        server_close(&server);
        return ERR(UNAVAILABLE);
    }
    *out = server;
    return OK;
}

uint16_t server_port(const struct server *server) {
    struct sockaddr_storage address;
    int len = sizeof(address);
    memset(&address, 0, sizeof(address));
    int error = uv_tcp_getsockname(&server->tcp, (struct sockaddr *)&address, &len);
    ASSERT(error == 0);
    struct sockaddr_in v4;
    memcpy(&v4, &address, sizeof(v4)); /* The port is at the same place in both families. */
    return ntohs(v4.sin_port);
}

static void listener_closed_cb(uv_handle_t *handle) {
    server_free_when_empty(handle->data);
}

void server_close(struct server **server) {
    if (*server == NULL) {
        return;
    }
    struct server *closing = *server;
    *server = NULL;
    closing->closing = true;
    for (struct conn *conn = closing->conns; conn != NULL; conn = conn->next) {
        conn_close(conn);
    }
    uv_close((uv_handle_t *)&closing->tcp, listener_closed_cb);
}
