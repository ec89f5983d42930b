/* SPDX-License-Identifier: Apache-2.0 */
/* The plain port and a connection without TLS, on a loop that the test turns itself. */
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/server.h"
#include "test.h"

#define TURNS_MAX 100000

static uv_loop_t loop;
static int closed_count;

static size_t echo(struct net_conn *conn, struct span input) {
    if (input.ptr[input.len - 1] != '.') {
        return 0; /* Not a whole sentence yet. */
    }
    net_conn_write(conn, input);
    return input.len;
}

static void on_closed(struct net_conn *conn) {
    assert_ptr_equal(net_conn_user(conn), &closed_count);
    closed_count++;
}

static const struct net_conn_ops echo_ops = { .data = echo, .closed = on_closed };

static const struct net_conn_ops *accept_echo(void *ctx, struct net_conn *conn) {
    net_conn_set_user(conn, &closed_count);
    assert_null(net_conn_tls(conn));
    return ctx == NULL ? NULL : &echo_ops;
}

static int connect_to(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr any;
    memcpy(&any, &address, sizeof(any));
    assert_int_equal(connect(fd, &any, sizeof(address)), 0);
    return fd;
}

/* Turns the loop until len bytes are there, or the end of the stream (0). */
static size_t receive(int fd, char *buf, size_t len) {
    size_t got = 0;
    for (int i = 0; i < TURNS_MAX && got < len; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        ssize_t n = recv(fd, buf + got, len - got, MSG_DONTWAIT);
        if (n == 0) {
            return got;
        }
        got += n > 0 ? (size_t)n : 0;
        if (n < 0) {
            struct pollfd ready = { .fd = fd, .events = POLLIN };
            (void)poll(&ready, 1, 1); /* Or a turn of the loop makes it ready. */
        }
    }
    return got;
}

static struct net_plain *open_port(void *ctx, uint32_t conn_count_max, uint32_t timeout_ms) {
    struct net_plain *plain = NULL;
    struct status why;
    struct net_plain_cfg cfg = { .loop = &loop,
                                 .host = "localhost",
                                 .stream = { ctx, accept_echo },
                                 .conn_count_max = conn_count_max,
                                 .request_timeout_ms = timeout_ms };
    assert_int_equal(uv_loop_init(&loop), 0);
    closed_count = 0;
    assert_ok(net_plain_listen(&plain, &cfg, &why));
    assert_int_not_equal(net_plain_port(plain), 0);
    return plain;
}

static void close_port(struct net_plain **plain) {
    net_plain_close(plain);
    net_plain_close(plain);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* Ends: every handle closes. */
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_echo(void **state) {
    (void)state;
    struct net_plain *plain = open_port(&loop, 0, 0);
    int fd = connect_to(net_plain_port(plain));
    char buf[64];
    assert_int_equal(send(fd, "Half a ", 7, 0), 7);
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(send(fd, "sentence.", 9, 0), 9);
    assert_int_equal(receive(fd, buf, 16), 16);
    assert_memory_equal(buf, "Half a sentence.", 16);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_int_equal(receive(fd, buf, 1), 0);
    (void)close(fd);
    close_port(&plain);
    assert_int_equal(closed_count, 1);
}

/* The second waits in the kernel's queue until the first is gone. */
static void test_conn_count(void **state) {
    (void)state;
    struct net_plain *plain = open_port(&loop, 1, 0);
    int first = connect_to(net_plain_port(plain));
    int second = connect_to(net_plain_port(plain));
    char buf[64];
    assert_int_equal(send(first, "One.", 4, 0), 4);
    assert_int_equal(send(second, "Two.", 4, 0), 4);
    assert_int_equal(receive(first, buf, 4), 4);
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(recv(second, buf, 4, MSG_DONTWAIT), -1);
    (void)close(first);
    assert_int_equal(receive(second, buf, 4), 4);
    assert_memory_equal(buf, "Two.", 4);
    (void)close(second);
    close_port(&plain);
}

static void test_timeout(void **state) {
    (void)state;
    struct net_plain *plain = open_port(&loop, 0, 20);
    int silent = connect_to(net_plain_port(plain));
    int slow = connect_to(net_plain_port(plain));
    char buf[1];
    assert_int_equal(send(slow, "Half", 4, 0), 4);
    assert_int_equal(receive(silent, buf, 1), 0);
    assert_int_equal(receive(slow, buf, 1), 0);
    assert_int_equal(closed_count, 2);
    (void)close(silent);
    (void)close(slow);
    close_port(&plain);
}

static void test_refused(void **state) {
    (void)state;
    struct net_plain *plain = open_port(NULL, 0, 0);
    int fd = connect_to(net_plain_port(plain));
    char buf[1];
    assert_int_equal(receive(fd, buf, 1), 0);
    assert_int_equal(closed_count, 0); /* No handler, no callback of it. */
    (void)close(fd);
    close_port(&plain);
}

static void test_too_much_input(void **state) {
    (void)state;
    struct net_plain *plain = open_port(&loop, 0, 0);
    int fd = connect_to(net_plain_port(plain));
    char buf[4096];
    memset(buf, 'a', sizeof(buf)); /* A sentence without end. */
    for (int i = 0; i < 100; i++) {
        (void)send(fd, buf, sizeof(buf), MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(receive(fd, buf, 1), 0);
    assert_int_equal(closed_count, 1);
    (void)close(fd);
    close_port(&plain);
}

static void test_bad_address(void **state) {
    (void)state;
    struct net_plain *plain = NULL;
    struct status why;
    struct net_plain_cfg cfg = { .loop = &loop,
                                 .host = "nowhere",
                                 .stream = { NULL, accept_echo } };
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_err(net_plain_listen(&plain, &cfg, &why), BAD_CONFIG);
    assert_null(plain);
    assert_non_null(strstr(why.text, "nowhere"));
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),           cmocka_unit_test(test_conn_count),
        cmocka_unit_test(test_timeout),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_much_input), cmocka_unit_test(test_bad_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
