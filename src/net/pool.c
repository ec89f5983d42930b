/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake pool. Its threads accept and shake hands at a lower priority than the workers, a
 * bounded number at once, so that a storm of newcomers does not slow those who are connected. */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/server_internal.h"

#define CLOSE_TURNS_MAX 100
/* Without a byte from the peer, in the middle of a handshake. */
#define SILENT_HANDSHAKE_MS 2000u
/* What a handshake under way has left when the server stops. */
#define DRAIN_HANDSHAKE_MS 1000u

static void update_listener(struct net_pool *pool);

static void count_handshake(struct net_pool *pool, enum net_handshake result) {
    count_up(&pool->handshakes[result], 1);
}

/* ---- After the handshake ---- */

struct verdict {
    enum net_handshake result;
    enum status_code code;
    const char *text;
};

static const struct verdict too_many = { NET_HANDSHAKE_LIMIT, STATUS_RESOURCE_EXHAUSTED,
                                         "too many connections; close some, or try later" };

static bool is_http(const struct tls *tls) {
    const char *alpn = tls_alpn(tls);
    return alpn == NULL || span_equal(span_str(alpn), SPAN_LIT(TLS_ALPN_HTTP));
}

static struct verdict judge(struct net_pool *pool, const struct tls *tls) {
    struct net_server *server = pool->server;
    if (atomic_load_explicit(&server->is_draining, memory_order_relaxed)) {
        return (struct verdict){ NET_HANDSHAKE_DRAINING, STATUS_OK, "the node is stopping" };
    }
    if (is_http(tls)) {
        bool is_served = server->workers[0]->cfg.http.accept != NULL;
        return (struct verdict){ is_served ? NET_HANDSHAKE_OK : NET_HANDSHAKE_PROTOCOL,
                                 STATUS_UNIMPLEMENTED, "this protocol is not served here" };
    }
    if (tls_peer(tls) == NULL && tls_peer_has_certificate(tls)) {
        const struct status *why = tls_peer_why(tls);
        return (struct verdict){ NET_HANDSHAKE_IDENTITY, why->code, why->text };
    }
    return (struct verdict){ NET_HANDSHAKE_OK, STATUS_OK, "" };
}

/* A place among the connections, or why there is none. */
static bool take_place(struct net_server *server) {
    unsigned count = atomic_fetch_add_explicit(&server->conn_count, 1, memory_order_relaxed);
    if (count < server->cfg.conn_count_max) {
        return true;
    }
    atomic_fetch_sub_explicit(&server->conn_count, 1, memory_order_relaxed);
    return false;
}

/* Says why, when the protocol has a way to, and ends it in order. */
static void refuse(struct net_conn *conn, const struct verdict *verdict) {
    struct net_pool *pool = net_conn_user(conn);
    count_handshake(pool, verdict->result);
    if (!is_http(conn->tls)) {
        struct status why;
        novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
        uint8_t bytes[FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX];
        struct writer out = { bytes, 0, sizeof(bytes) };
        status_set(&why, verdict->code, "%s", verdict->text);
        frame_set_goaway(&header, 0, &why);
        struct rc rc = frame_write_header(&out, &header, 0, SIZE_MAX);
        ASSERT(rc.err == E_OK);
        net_conn_write(conn, writer_span(&out));
    }
    net_conn_finish(conn);
}

static uint64_t identity_until_ms(const struct net_server *server, const struct tls *tls) {
    uint64_t end_unix_ms = tls_peer(tls)->not_after_unix_s * 1000 + server->cfg.identity_skew_ms;
    uint64_t now_unix_ms = clock_unix_ms();
    uint64_t left_ms = end_unix_ms > now_unix_ms ? end_unix_ms - now_unix_ms : 0;
    return clock_mono_ms() + left_ms; /* From here on a clock that is set back gains nothing. */
}

static struct session *new_session(struct net_pool *pool, struct net_conn *conn) {
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    const struct identity_peer *peer = tls_peer(conn->tls);
    s->home = pool;
    s->parts.fd = -1;
    s->is_http = is_http(conn->tls);
    s->has_wallet = peer != NULL;
    if (peer != NULL) {
        s->wallet = peer->wallet;
        s->identity_until_ms = identity_until_ms(pool->server, conn->tls);
    }
    return s;
}

void pool_bury(void *session) {
    struct session *s = session;
    struct net_server *server = s->home->server;
    placement_remove(server->placement, s->has_wallet ? &s->wallet : NULL, s->worker_idx);
    atomic_fetch_sub_explicit(&server->conn_count, 1, memory_order_relaxed);
    tls_close(&s->parts.tls);
    if (s->parts.fd >= 0) {
        (void)close(s->parts.fd);
    }
    free(s->parts.unread);
    free(s);
}

static void conn_left(struct net_pool *pool);

/* Gives the session a worker, which counts it from then on. */
static RC place(struct net_pool *pool, struct session *s) {
    ENSURE(s != NULL, NOMEM);
    uint32_t worker_idx = 0;
    TRY(placement_add(pool->server->placement, s->has_wallet ? &s->wallet : NULL, &worker_idx));
    s->worker_idx = worker_idx;
    s->worker = pool->server->workers[worker_idx];
    return OK;
}

static void hand_over(struct net_pool *pool, struct net_conn *conn) {
    struct session *s = new_session(pool, conn);
    struct rc rc = place(pool, s);
    if (rc.err != E_OK) {
        free(s);
        atomic_fetch_sub_explicit(&pool->server->conn_count, 1, memory_order_relaxed);
        if (rc.err == E_QUOTA) {
            refuse(conn, &too_many);
            return;
        }
        count_handshake(pool, NET_HANDSHAKE_INTERNAL);
        net_conn_close(conn, rc, "no memory left for a connection");
        return;
    }
    net_conn_detach(conn, &s->parts);
    if (s->parts.fd < 0) { /* No memory: on_closed runs. */
        count_handshake(pool, NET_HANDSHAKE_INTERNAL);
        pool_bury(s);
        return;
    }
    count_handshake(pool, NET_HANDSHAKE_OK); /* Before anybody can see it served. */
    atomic_fetch_add_explicit(&pool->server->conn_total, 1, memory_order_relaxed);
    s->mail = (struct mail){ .fn = session_arrive, .arg = s };
    if (!mailbox_put(&s->worker->mailbox, &s->mail)) {
        pool_bury(s);
    }
    conn_left(pool);
}

static void on_open(struct net_conn *conn) {
    struct net_pool *pool = net_conn_user(conn);
    struct verdict verdict = judge(pool, conn->tls);
    if (verdict.result == NET_HANDSHAKE_OK && !take_place(pool->server)) {
        verdict = too_many;
    }
    if (verdict.result != NET_HANDSHAKE_OK) {
        refuse(conn, &verdict);
        return;
    }
    hand_over(pool, conn);
}

/* What a refused peer still sends. */
static size_t on_data(struct net_conn *conn, struct span input) {
    (void)conn;
    return input.len;
}

static void check_drained(struct net_pool *pool) {
    if (pool->is_draining && !pool->is_drained && pool->conn_count == 0) {
        pool->is_drained = true;
        server_thread_drained(pool->server);
    }
}

static void conn_left(struct net_pool *pool) {
    pool->conn_count--;
    atomic_store_explicit(&pool->handshaking, pool->conn_count, memory_order_relaxed);
    update_listener(pool);
    check_drained(pool);
}

static enum net_handshake result_of(struct rc rc) {
    switch (err_class(rc.err)) {
    case ERR_PEER:
        return NET_HANDSHAKE_TLS;
    case ERR_RETRY:
        return rc.err == E_TIMEOUT ? NET_HANDSHAKE_TIMEOUT : NET_HANDSHAKE_CLOSED;
    case ERR_NONE:
    case ERR_USAGE:
    case ERR_FATAL:
        break;
    }
    return NET_HANDSHAKE_INTERNAL;
}

static void on_closed(struct net_conn *conn) {
    struct net_pool *pool = net_conn_user(conn);
    if (!tls_is_up(conn->tls)) { /* After it the result was counted. */
        struct rc rc = OK;
        const char *why = net_conn_why(conn, &rc);
        count_handshake(pool, result_of(rc));
        LOG_LIMITED(DEBUG, "tls.handshake", "err=%s why=\"%s\"", err_name(rc.err), why);
    }
    conn_left(pool);
}

static const struct net_conn_ops handshake_ops = {
    .open = on_open,
    .data = on_data,
    .closed = on_closed,
};

/* ---- Before the handshake ---- */

static RC start_handshake(struct net_pool *pool, int fd) {
    struct net_server *server = pool->server;
    struct tls_config *config = server_tls_ref(server);
    struct tls *tls = NULL;
    struct rc rc = tls_server_init(&tls, config);
    tls_config_close(&config);
    if (rc.err != E_OK) {
        (void)close(fd);
        return rc;
    }
    struct net_conn_cfg cfg = { .io = pool->io,
                                .fd = fd,
                                .tls = tls,
                                .ops = &handshake_ops,
                                .user = pool,
                                .limits = NET_CONN_LIMITS_DEFAULT };
    cfg.limits.handshake_timeout_ms = server->cfg.handshake_timeout_ms;
    struct net_conn *conn = NULL;
    TRY(net_conn_init(&conn, &cfg));
    pool->conn_count++;
    atomic_store_explicit(&pool->handshaking, pool->conn_count, memory_order_relaxed);
    return OK;
}

/* No place is left and the pool has its hands full: a handshake only to say so would cost more than
 * it tells. */
static bool is_flooded(const struct net_pool *pool) {
    const struct net_server *server = pool->server;
    unsigned count = atomic_load_explicit(&server->conn_count, memory_order_relaxed);
    return count >= server->cfg.conn_count_max && pool->conn_count >= pool->conn_count_max / 2;
}

/* Whether a connection, or bytes on one, wait in the kernel. */
static bool is_readable(int fd) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) > 0;
}

/* Silent peers cannot keep others out: when the pool is full and somebody waits, they make room.
 * Not those whose bytes wait for us to have time: a crowd is slow without being at fault. */
static void make_room(struct net_pool *pool) {
    uint64_t now_ms = uv_now(&pool->loop);
    uint32_t closed_count = 0;
    for (struct net_conn *conn = pool->io->conns; conn != NULL; conn = conn->next) {
        bool is_silent = conn->state == CONN_HANDSHAKE &&
                         now_ms - conn->read_at_ms >= SILENT_HANDSHAKE_MS && !is_readable(conn->fd);
        if (is_silent && closed_count < ACCEPT_BATCH_MAX) {
            net_conn_close(conn, ERR(TIMEOUT), "silent while others wait");
            closed_count++;
        }
    }
}

static void on_retry(uv_timer_t *timer) {
    struct net_pool *pool = timer->data;
    if (pool->conn_count >= pool->conn_count_max && is_readable(pool->server->listen_fd)) {
        make_room(pool);
    }
    update_listener(pool);
}

/* Out of descriptors or memory: the connection stays in the kernel's queue for a while. */
static void pause_accepting(struct net_pool *pool, int error) {
    LOG_LIMITED(WARN, "net.accept", "errno=%d", error);
    (void)uv_poll_stop(&pool->listener);
    pool->is_listening = false;
    (void)uv_timer_start(&pool->retry, on_retry, ACCEPT_RETRY_MS, ACCEPT_RETRY_MS);
}

static bool is_transient(int error) {
    return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM ||
           error == ENETDOWN || error == EHOSTUNREACH || error == ENETUNREACH;
}

static void on_listener(uv_poll_t *handle, int status, int events) {
    struct net_pool *pool = handle->data;
    (void)status;
    (void)events;
    for (uint32_t i = 0; i < ACCEPT_BATCH_MAX && pool->conn_count < pool->conn_count_max; i++) {
        int fd = accept4(pool->server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EAGAIN) {
            break; /* Another of the pool's threads was faster. */
        }
        if (fd < 0 && is_transient(errno)) {
            continue;
        }
        if (fd < 0) {
            pause_accepting(pool, errno);
            return;
        }
        if (is_flooded(pool)) {
            (void)close(fd);
            count_handshake(pool, NET_HANDSHAKE_LIMIT);
            continue;
        }
        struct rc rc = start_handshake(pool, fd);
        if (rc.err != E_OK) {
            count_handshake(pool, NET_HANDSHAKE_INTERNAL);
        }
    }
    update_listener(pool);
}

static void update_listener(struct net_pool *pool) {
    bool wants = !pool->is_draining && pool->conn_count < pool->conn_count_max;
    if (wants == pool->is_listening || uv_is_closing((uv_handle_t *)&pool->listener)) {
        return;
    }
    pool->is_listening = wants;
    if (wants) {
        (void)uv_timer_stop(&pool->retry);
        (void)uv_poll_start(&pool->listener, UV_READABLE, on_listener);
    } else {
        (void)uv_poll_stop(&pool->listener);
        (void)uv_timer_start(&pool->retry, on_retry, ACCEPT_RETRY_MS, ACCEPT_RETRY_MS);
    }
}

/* ---- The thread ---- */

static RC init_handles(struct net_pool *pool) {
    TRY(mailbox_init(&pool->mailbox, &pool->loop));
    (void)uv_timer_init(&pool->loop, &pool->retry);
    (void)uv_timer_init(&pool->loop, &pool->drain_timer);
    pool->drain_timer.data = pool;
    ENSURE(uv_poll_init(&pool->loop, &pool->listener, pool->server->listen_fd) == 0, NOMEM);
    pool->retry.data = pool;
    pool->listener.data = pool;
    return net_io_init(&pool->io, &pool->loop, &pool->server->budget);
}

RC pool_init(struct net_pool **out, struct net_server *server, uint32_t idx) {
    struct net_pool *pool = calloc(1, sizeof(*pool));
    ENSURE(pool != NULL, NOMEM);
    pool->server = server;
    pool->idx = idx;
    uint32_t threads = server->cfg.handshake_threads;
    pool->conn_count_max = (server->cfg.handshake_count_max + threads - 1) / threads;
    if (uv_loop_init(&pool->loop) != 0) {
        free(pool);
        return ERR(NOMEM);
    }
    struct rc rc = init_handles(pool);
    if (rc.err != E_OK) {
        free(pool); /* At the process's start, and fatal: the loop's handles go with it. */
        return rc;
    }
    *out = pool;
    return OK;
}

static void run(void *arg) {
    struct net_pool *pool = arg;
    thread_begin("kms-tls", pool->idx, THREAD_BACKGROUND);
    update_listener(pool);
    (void)uv_run(&pool->loop, UV_RUN_DEFAULT);
}

RC pool_start(struct net_pool *pool) {
    ENSURE(uv_thread_create(&pool->thread, run, pool) == 0, NOMEM);
    pool->has_thread = true;
    return OK;
}

static void stop_loop(void *arg) {
    struct net_pool *pool = arg;
    uv_stop(&pool->loop);
}

static void close_loop(struct net_pool *pool) {
    mailbox_close(&pool->mailbox);
    pool->is_draining = true;
    pool->is_drained = true; /* Nobody is told any more. */
    for (struct net_conn *conn = pool->io->conns; conn != NULL; conn = conn->next) {
        net_conn_close(conn, OK, "the server stops");
    }
    uv_close((uv_handle_t *)&pool->listener, NULL);
    uv_close((uv_handle_t *)&pool->retry, NULL);
    uv_close((uv_handle_t *)&pool->drain_timer, NULL);
    for (int i = 0; i < CLOSE_TURNS_MAX && pool->io->conns != NULL; i++) {
        (void)uv_run(&pool->loop, UV_RUN_NOWAIT);
    }
    net_io_close(pool->io, NULL, NULL);
    int ret = UV_EBUSY;
    for (int i = 0; i < CLOSE_TURNS_MAX && ret == UV_EBUSY; i++) {
        (void)uv_run(&pool->loop, UV_RUN_NOWAIT);
        ret = uv_loop_close(&pool->loop);
    }
    ASSERT(ret == 0);
}

void pool_stop(struct net_pool *pool) {
    if (pool->has_thread) {
        pool->stop = (struct mail){ .fn = stop_loop, .arg = pool };
        (void)mailbox_put(&pool->mailbox, &pool->stop);
        (void)uv_thread_join(&pool->thread);
        pool->has_thread = false;
    }
}

void pool_close(struct net_pool **p) {
    struct net_pool *pool = *p;
    *p = NULL;
    if (pool == NULL) {
        return;
    }
    close_loop(pool);
    free(pool);
}

static void on_drain_timeout(uv_timer_t *timer) {
    struct net_pool *pool = timer->data;
    for (struct net_conn *conn = pool->io->conns; conn != NULL; conn = conn->next) {
        net_conn_close(conn, OK, "the server stops");
    }
}

/* So that a peer that says nothing does not hold up the stop, and one that does gets its goaway. */
static void hurry(struct net_conn *conn, uint64_t now_ms) {
    uint64_t left_ms = now_ms - conn->created_at_ms + DRAIN_HANDSHAKE_MS;
    if (conn->state == CONN_HANDSHAKE && left_ms < conn->limits.handshake_timeout_ms) {
        conn->limits.handshake_timeout_ms = (uint32_t)left_ms;
    }
}

void pool_drain(void *arg) {
    struct net_pool *pool = arg;
    pool->is_draining = true;
    update_listener(pool);
    for (struct net_conn *conn = pool->io->conns; conn != NULL; conn = conn->next) {
        hurry(conn, net_io_now_ms(pool->io));
    }
    (void)uv_timer_stop(&pool->retry);
    (void)uv_timer_start(&pool->drain_timer, on_drain_timeout, pool->server->drain_timeout_ms, 0);
    check_drained(pool);
}
