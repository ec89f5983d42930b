/* SPDX-License-Identifier: Apache-2.0 */
/* Dialling through a proxy, which here does what each row says. */
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "net/dial.h"
#include "net/proxy.h"
#include "test.h"

#define TIMEOUT_MS 60000u /* For what must not time out. */

enum proxy_end { STAYS, HANGS_UP };

struct proxy_row {
    const char *name;
    const char *parts[3]; /* Of the answer, each written once the one before has left. */
    enum proxy_end end;
    uint32_t timeout_ms;
    const char *why;   /* What follows the names of both; NULL: the tunnel stands. */
    const char *after; /* What the caller then finds in its socket. */
};

#define GOOD "HTTP/1.1 200 OK\r\n\r\n"

static struct proxy_row proxy_rows[] = {
    { "ok", { GOOD, NULL, NULL }, STAYS, TIMEOUT_MS, NULL, "" },
    { "cut", { "HTTP/1.1 2", "00 OK\r\nVia: x\r\n\r", "\n" }, STAYS, TIMEOUT_MS, NULL, "" },
    { "bytes_after", { GOOD "hello", NULL, NULL }, STAYS, TIMEOUT_MS, NULL, "hello" },
    { "bytes_after_cut",
      { "HTTP/1.1 200 OK\r", "\n\r\nhello", NULL },
      STAYS,
      TIMEOUT_MS,
      NULL,
      "hello" },
    { "wants_credentials",
      { "HTTP/1.1 407 No\r\n\r\n", NULL, NULL },
      STAYS,
      TIMEOUT_MS,
      "it answers 407: it wants other credentials",
      NULL },
    { "bad_gateway",
      { "HTTP/1.1 502 No\r\n\r\n", NULL, NULL },
      HANGS_UP,
      TIMEOUT_MS,
      "it answers 502: it does not reach the target",
      NULL },
    { "no_http",
      { "\x15\x03\x03", NULL, NULL },
      STAYS,
      TIMEOUT_MS,
      "it does not answer in HTTP",
      NULL },
    { "hangs", { NULL, NULL, NULL }, STAYS, 20, "timed out", NULL },
    { "hangs_within", { "HTTP/1.1 200", NULL, NULL }, STAYS, 20, "timed out", NULL },
    { "hangs_up",
      { NULL, NULL, NULL },
      HANGS_UP,
      TIMEOUT_MS,
      "it ended the connection instead of an answer",
      NULL },
    { "hangs_up_within",
      { "HTTP/1.1 200", NULL, NULL },
      HANGS_UP,
      TIMEOUT_MS,
      "it ended the connection instead of an answer",
      NULL },
};

struct world {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_tcp_t peer;
    bool has_peer;
    char request[NET_PROXY_REQUEST_BYTES];
    size_t request_len;
    const struct proxy_row *row;
    size_t part_idx;
    uv_write_t write;
    struct net_proxy proxy;
    struct net_dial *dial;
    size_t dial_count;
    int fd;
    struct status why;
    size_t closed_count;
};

static void write_part(struct world *w);

static void on_written(uv_write_t *write, int status) {
    struct world *w = write->data;
    if (status == 0) {
        w->part_idx++;
        write_part(w);
    }
}

static void write_part(struct world *w) {
    const char *part = w->part_idx < 3 ? w->row->parts[w->part_idx] : NULL;
    if (part == NULL) {
        if (w->row->end == HANGS_UP) {
            uv_close((uv_handle_t *)&w->peer, NULL);
        }
        return;
    }
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)part, (unsigned)strlen(part));
    w->write.data = w;
    assert_int_equal(uv_write(&w->write, (uv_stream_t *)&w->peer, &buf, 1, on_written), 0);
}

static void give_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    struct world *w = handle->data;
    (void)size;
    *buf = uv_buf_init(w->request + w->request_len,
                       (unsigned)(sizeof(w->request) - 1 - w->request_len));
}

static void on_request(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct world *w = stream->data;
    (void)buf;
    if (n < 0) {
        (void)uv_read_stop(stream);
        return;
    }
    w->request_len += (size_t)n;
    w->request[w->request_len] = '\0';
    if (strstr(w->request, "\r\n\r\n") != NULL) {
        write_part(w);
    }
}

static void on_connection(uv_stream_t *listener, int status) {
    struct world *w = listener->data;
    assert_int_equal(status, 0);
    assert_false(w->has_peer);
    w->has_peer = true;
    assert_int_equal(uv_tcp_init(&w->loop, &w->peer), 0);
    w->peer.data = w;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&w->peer), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&w->peer, give_buffer, on_request), 0);
}

static void open_world(struct world *w, const struct proxy_row *row) {
    *w = (struct world){ .row = row, .fd = -1 };
    struct sockaddr_in address;
    int len = sizeof(address);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_tcp_init(&w->loop, &w->listener), 0);
    w->listener.data = w;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &address), 0);
    assert_int_equal(uv_tcp_bind(&w->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&w->listener, 4, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&w->listener, (struct sockaddr *)&address, &len), 0);
    char url[64];
    (void)snprintf(url, sizeof(url), "http://a:b@127.0.0.1:%u", ntohs(address.sin_port));
    assert_ok(net_proxy_set_url(&w->proxy, url));
}

static void close_world(struct world *w) {
    if (w->has_peer && !uv_is_closing((uv_handle_t *)&w->peer)) {
        uv_close((uv_handle_t *)&w->peer, NULL);
    }
    uv_close((uv_handle_t *)&w->listener, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    if (w->fd >= 0) {
        (void)close(w->fd);
    }
    net_proxy_close(&w->proxy);
}

static void on_dial(void *ctx, int fd, const struct status *why) {
    struct world *w = ctx;
    w->dial_count++;
    w->fd = fd;
    w->why = *why;
}

/* The name has no address: it is the proxy's to look up. */
static void dial(struct world *w, uint32_t timeout_ms) {
    const struct net_target target = { .host = "node.invalid", .port = 8443 };
    const struct net_dial_cfg cfg = {
        .loop = &w->loop, .target = &target, .proxy = &w->proxy, .timeout_ms = timeout_ms
    };
    assert_ok(net_dial_start(&w->dial, &cfg, w, on_dial));
    assert_int_equal(w->dial_count, 0);
}

static void test_dial(void **state) {
    const struct proxy_row *row = *state;
    struct world w;
    open_world(&w, row);
    dial(&w, row->timeout_ms);
    while (w.dial_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
    }
    if (row->why != NULL) {
        char port[16];
        char want[STATUS_TEXT_BYTES];
        (void)snprintf(port, sizeof(port), "%u", w.proxy.target.port);
        (void)snprintf(want, sizeof(want),
                       "cannot connect to node.invalid:8443 through the proxy at 127.0.0.1:%s: %s",
                       port, row->why);
        assert_int_equal(w.fd, -1);
        assert_int_equal(w.why.code, STATUS_UNAVAILABLE);
        assert_string_equal(w.why.text, want);
    } else {
        char after[16] = { 0 };
        assert_true(w.fd >= 0);
        ssize_t n = recv(w.fd, after, sizeof(after) - 1, MSG_DONTWAIT);
        assert_int_equal(n, row->after[0] == '\0' ? -1 : (ssize_t)strlen(row->after));
        assert_string_equal(after, row->after);
        assert_string_equal(w.request, "CONNECT node.invalid:8443 HTTP/1.1\r\n"
                                       "Host: node.invalid:8443\r\n"
                                       "Proxy-Authorization: Basic YTpi\r\n\r\n");
    }
    close_world(&w);
}

/* A head without an end costs no more than its limit. */
static void test_giant_head(void **state) {
    (void)state;
    static char giant[64 * 1024];
    memset(giant, 'a', sizeof(giant) - 1);
    memcpy(giant, "HTTP/1.1 200 ", 13);
    const struct proxy_row row = { .parts = { giant, NULL, NULL } };
    struct world w;
    open_world(&w, &row);
    dial(&w, TIMEOUT_MS);
    while (w.dial_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
    }
    assert_int_equal(w.fd, -1);
    assert_non_null(strstr(w.why.text, ": it answers with a head of more than 8192 bytes"));
    close_world(&w);
}

static void on_dial_closed(void *ctx) {
    ((struct world *)ctx)->closed_count++;
}

/* The owner gives up while the proxy is silent. */
static void test_close_while_it_hangs(void **state) {
    (void)state;
    const struct proxy_row row = { .end = STAYS };
    struct world w;
    open_world(&w, &row);
    dial(&w, TIMEOUT_MS);
    while (w.request_len == 0) {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
    }
    net_dial_close(&w.dial, &w, on_dial_closed);
    while (w.closed_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
    }
    net_dial_close(&w.dial, NULL, NULL);
    assert_int_equal(w.dial_count, 0);
    close_world(&w);
}

static void test_proxy_refuses(void **state) {
    (void)state;
    struct world w;
    open_world(&w, NULL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &address), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    w.proxy.target.port = ntohs(address.sin_port); /* Bound by nobody who listens. */
    dial(&w, TIMEOUT_MS);
    while (w.dial_count == 0) {
        (void)uv_run(&w.loop, UV_RUN_ONCE);
    }
    (void)close(fd);
    assert_int_equal(w.fd, -1);
    assert_non_null(strstr(w.why.text, " through the proxy at 127.0.0.1:"));
    assert_non_null(strstr(w.why.text, ": Connection refused"));
    close_world(&w);
}

int main(void) {
    struct CMUnitTest tests[16] = {
        cmocka_unit_test(test_giant_head),
        cmocka_unit_test(test_close_while_it_hangs),
        cmocka_unit_test(test_proxy_refuses),
    };
    size_t count = 3;
    TEST_ADD_ROWS(tests, count, test_dial, proxy_rows);
    return _cmocka_run_group_tests("tunnel", tests, count, NULL, NULL);
}
