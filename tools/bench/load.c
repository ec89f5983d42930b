/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "endpoint.h"
#include "process.h"

#define EVENTS_MAX 128
#define SILENCE_MS_MAX 60000
/* A connection that is lost in its handshake is made anew so often, until so long after the load
 * began. */
#define TRY_COUNT_MAX 16
#define OPEN_MS_MAX 120000
/* A call's slot is its id modulo this; ids in flight on a connection are closer together. */
#define SLOT_COUNT 256
#define PLAIN_BYTES ((size_t)256 * 1024)

struct load_conn {
    struct endpoint end;
    bool is_open;
    bool was_heard;      /* An answer came, ever. */
    uint32_t try_count;  /* That were lost. */
    uint32_t owed_count; /* Requests to send once it is open. */
    uint64_t next_call_id;
    uint32_t inflight;
    uint64_t sent_at_us[SLOT_COUNT];
    uint8_t *plain; /* Answers, the last of them perhaps incomplete. */
    size_t plain_len;
};

struct load {
    const struct load_cfg *cfg;
    struct workload *work;
    int epoll_fd;
    struct load_conn *conns;
    uint32_t open_count;
    uint64_t open_until_us;
    /* Counting runs while started_at_us <= now; a warm-up has not started it yet. */
    bool is_counting;
    uint64_t started_at_us;
    uint64_t counted_count; /* Answers. */
    uint64_t started_cpu_ns;
    uint64_t last_answer_at_us;
    uint64_t sent_count;
    uint64_t paced_count; /* Requests the fixed rate has released so far. */
    uint32_t paced_next;  /* The connection that gets the next one. */
    struct load_result *out;
};

static RC connect_to(uint16_t port, int *out) {
    static const int on = 1;
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ENSURE(fd >= 0, IO);
    if ((connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        (void)close(fd);
        return ERR(IO);
    }
    *out = fd;
    return OK;
}

static RC watch(const struct load *load, int op, struct load_conn *conn, uint32_t events) {
    struct epoll_event event = { .events = events, .data.ptr = conn };
    ENSURE(epoll_ctl(load->epoll_fd, op, conn->end.fd, &event) == 0, IO);
    return OK;
}

static RC open_conn(struct load *load, struct load_conn *conn) {
    int fd = -1;
    TRY(connect_to(load->cfg->port, &fd));
    uint32_t wallet_count = load->cfg->wallet_count == 0 ? 1 : load->cfg->wallet_count;
    uint32_t wallet_idx = (uint32_t)(conn - load->conns) % wallet_count;
    struct rc rc = endpoint_init(&conn->end, fd, load->cfg->tls[wallet_idx]);
    if (rc.err != E_OK) {
        (void)close(fd);
        return rc;
    }
    conn->is_open = false;
    conn->next_call_id = 1;
    /* Writable means connected: the handshake's first message goes out then. */
    return watch(load, EPOLL_CTL_ADD, conn, EPOLLIN | EPOLLOUT);
}

static RC make_requests(struct load *load, struct load_conn *conn, uint32_t count) {
    static uint8_t buf[WORKLOAD_REQUEST_BYTES_MAX * LOAD_INFLIGHT_MAX];
    struct writer out = { buf, 0, sizeof(buf) };
    uint64_t limit = load->cfg->request_count;
    if (limit > 0 && count > limit - load->sent_count) {
        count = (uint32_t)(limit - load->sent_count); /* Exactly so many, all of them answered. */
    }
    load->sent_count += count;
    uint64_t now_us = clock_mono_us();
    for (uint32_t i = 0; i < count; i++) {
        TRY(workload_request(load->work, conn->next_call_id, &out));
        conn->sent_at_us[conn->next_call_id % SLOT_COUNT] = now_us;
        conn->next_call_id++;
    }
    conn->inflight += count;
    TRY(endpoint_write(&conn->end, writer_span(&out)));
    struct rc rc = endpoint_flush(&conn->end);
    return rc.err == E_AGAIN ? OK : rc;
}

/* A server with too much to do resets whoever has not shaken hands in time. With TLS 1.3 this side
 * is through before the server is, so that it may do so until its first answer. Such a connection is
 * made anew, and what was asked on it is asked again. */
static RC try_again(struct load *load, struct load_conn *conn, struct rc why) {
    if ((why.err != E_CLOSED && why.err != E_IO) || conn->was_heard ||
        conn->try_count == TRY_COUNT_MAX || clock_mono_us() >= load->open_until_us) {
        return why;
    }
    conn->try_count++;
    load->open_count -= conn->is_open ? 1 : 0;
    load->sent_count -= conn->inflight;
    conn->owed_count += conn->inflight;
    conn->inflight = 0;
    conn->plain_len = 0;
    endpoint_close(&conn->end);
    return open_conn(load, conn);
}

static RC ask(struct load *load, struct load_conn *conn, uint32_t count) {
    if (!conn->is_open) {
        conn->owed_count += count;
        return OK;
    }
    struct rc rc = make_requests(load, conn, count);
    return rc.err == E_OK ? OK : try_again(load, conn, rc);
}

static RC take_answers(struct load *load, struct load_conn *conn, uint32_t *count) {
    struct reader in = { conn->plain, conn->plain_len };
    uint64_t now_us = clock_mono_us();
    *count = 0;
    for (;;) {
        uint64_t call_id = 0;
        struct rc rc = workload_response(load->work, &in, &call_id);
        if (rc.err == E_AGAIN) {
            break;
        }
        TRY(rc);
        ENSURE(call_id < conn->next_call_id, MALFORMED);
        (*count)++;
        conn->was_heard = true;
        if (load->is_counting) {
            load->counted_count++;
            load->out->requests++;
            histogram_add(&load->out->latency, now_us - conn->sent_at_us[call_id % SLOT_COUNT]);
        }
    }
    memmove(conn->plain, conn->plain + (conn->plain_len - in.len), in.len);
    conn->plain_len = in.len;
    ENSURE(*count <= conn->inflight, MALFORMED);
    conn->inflight -= *count;
    load->last_answer_at_us = now_us;
    return OK;
}

static RC read_answers(struct load *load, struct load_conn *conn, uint32_t *count) {
    *count = 0;
    size_t len = 0;
    do {
        TRY(endpoint_read(&conn->end, conn->plain + conn->plain_len, PLAIN_BYTES - conn->plain_len,
                          &len));
        conn->plain_len += len;
        uint32_t taken = 0;
        TRY(take_answers(load, conn, &taken));
        *count += taken;
    } while (len > 0);
    return OK;
}

static RC finish_handshake(struct load *load, struct load_conn *conn) {
    struct rc rc = endpoint_handshake(&conn->end);
    if (rc.err == E_AGAIN) {
        return watch(load, EPOLL_CTL_MOD, conn, EPOLLIN);
    }
    TRY(rc);
    conn->is_open = true;
    load->open_count++;
    load->last_answer_at_us = clock_mono_us();
    TRY(watch(load, EPOLL_CTL_MOD, conn, EPOLLIN));
    uint32_t owed_count = conn->owed_count;
    conn->owed_count = 0;
    return owed_count == 0 ? OK : ask(load, conn, owed_count);
}

static RC fill(struct load_conn *conn) {
    struct rc rc = endpoint_fill(&conn->end);
    return rc.err == E_AGAIN ? OK : rc;
}

static RC wake(struct load *load, struct load_conn *conn) {
    TRY(fill(conn));
    if (!conn->is_open) {
        return finish_handshake(load, conn);
    }
    uint32_t answered = 0;
    TRY(read_answers(load, conn, &answered));
    if (load->cfg->rate_per_second == 0 && answered > 0) {
        TRY(ask(load, conn, answered));
    }
    return OK;
}

static RC wait_and_wake(struct load *load, int timeout_ms) {
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(load->epoll_fd, events, EVENTS_MAX, timeout_ms);
    ENSURE(count >= 0 || errno == EINTR, IO);
    for (int i = 0; i < count; i++) {
        struct load_conn *conn = events[i].data.ptr;
        struct rc rc = wake(load, conn);
        if (rc.err != E_OK) {
            TRY(try_again(load, conn, rc));
        }
    }
    ENSURE(clock_mono_us() - load->last_answer_at_us < (uint64_t)SILENCE_MS_MAX * 1000, TIMEOUT);
    return OK;
}

/* Sends what a fixed rate has come to owe since it began, one connection after the other. */
static RC send_paced(struct load *load, uint64_t began_at_us) {
    uint64_t owed = (clock_mono_us() - began_at_us) * load->cfg->rate_per_second / 1000000;
    while (load->paced_count < owed) {
        struct load_conn *conn = &load->conns[load->paced_next];
        load->paced_next = (load->paced_next + 1) % load->cfg->connection_count;
        load->paced_count++;
        if (conn->inflight + conn->owed_count < LOAD_INFLIGHT_MAX) {
            TRY(ask(load, conn, 1));
        }
    }
    return OK;
}

static RC start_counting(struct load *load) {
    load->is_counting = true;
    load->started_at_us = clock_mono_us();
    return process_cpu_ns(load->cfg->server_pid, &load->started_cpu_ns);
}

static bool is_over(const struct load *load) {
    if (!load->is_counting) {
        return false;
    }
    uint64_t limit = load->cfg->request_count;
    return (limit > 0 && load->out->requests >= limit) ||
           clock_mono_us() - load->started_at_us >= load->cfg->duration_ms * 1000;
}

static RC run_open(struct load *load) {
    const struct load_cfg *cfg = load->cfg;
    uint64_t began_at_us = clock_mono_us();
    for (uint32_t i = 0; cfg->rate_per_second == 0 && i < cfg->connection_count; i++) {
        TRY(ask(load, &load->conns[i], cfg->inflight));
    }
    /* There is no figure without an answer, however slow the machine. */
    while (!is_over(load) || load->counted_count == 0) {
        if (!load->is_counting && clock_mono_us() - began_at_us >= cfg->warmup_ms * 1000) {
            TRY(start_counting(load));
        }
        if (cfg->rate_per_second > 0) {
            TRY(send_paced(load, began_at_us));
        }
        TRY(wait_and_wake(load, cfg->rate_per_second > 0 ? 1 : 100));
    }
    uint64_t cpu_ns = 0;
    TRY(process_cpu_ns(cfg->server_pid, &cpu_ns));
    load->out->server_cpu_ns += cpu_ns - load->started_cpu_ns;
    load->out->duration_us += clock_mono_us() - load->started_at_us;
    return OK;
}

static void load_close(struct load *load) {
    for (uint32_t i = 0; load->conns != NULL && i < load->cfg->connection_count; i++) {
        endpoint_close(&load->conns[i].end);
        free(load->conns[i].plain);
    }
    free(load->conns);
    if (load->epoll_fd >= 0) {
        (void)close(load->epoll_fd);
    }
}

static RC load_init(struct load *load, const struct load_cfg *cfg) {
    *load = (struct load){ .cfg = cfg, .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
    ENSURE(load->epoll_fd >= 0, IO);
    ENSURE(cfg->connection_count <= LOAD_CONNECTIONS_MAX, INVALID);
    ENSURE(cfg->inflight <= LOAD_INFLIGHT_MAX, INVALID);
    load->conns = calloc(cfg->connection_count, sizeof(*load->conns));
    ENSURE(load->conns != NULL, NOMEM);
    load->last_answer_at_us = clock_mono_us();
    load->open_until_us = load->last_answer_at_us + (uint64_t)OPEN_MS_MAX * 1000;
    return OK;
}

static RC open_all(struct load *load) {
    for (uint32_t i = 0; i < load->cfg->connection_count; i++) {
        load->conns[i].plain = malloc(PLAIN_BYTES);
        ENSURE(load->conns[i].plain != NULL, NOMEM);
        TRY(open_conn(load, &load->conns[i]));
    }
    while (load->open_count < load->cfg->connection_count) {
        TRY(wait_and_wake(load, 100));
    }
    return OK;
}

RC load_run(const struct load_cfg *cfg, struct workload *work, struct load_result *out) {
    AUTO(load_close) struct load load;
    TRY(load_init(&load, cfg));
    load.work = work;
    load.out = out;
    TRY(open_all(&load));
    return run_open(&load);
}

RC load_idle(const struct load_cfg *cfg, void (*open_cb)(void *ctx), void *ctx) {
    AUTO(load_close) struct load load;
    TRY(load_init(&load, cfg));
    TRY(open_all(&load));
    open_cb(ctx);
    return OK;
}

/* One handshake further; a connection that is through is replaced by a new one. */
static RC wake_handshake(struct load *load, struct load_conn *conn) {
    TRY(fill(conn));
    TRY(finish_handshake(load, conn));
    if (conn->is_open) {
        load->out->requests++;
        endpoint_close(&conn->end);
        TRY(open_conn(load, conn));
    }
    return OK;
}

RC load_handshakes(const struct load_cfg *cfg, struct load_result *out) {
    AUTO(load_close) struct load load;
    TRY(load_init(&load, cfg));
    load.out = out;
    for (uint32_t i = 0; i < cfg->connection_count; i++) {
        TRY(open_conn(&load, &load.conns[i]));
    }
    TRY(start_counting(&load));
    while (!is_over(&load)) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(load.epoll_fd, events, EVENTS_MAX, 100);
        ENSURE(count >= 0 || errno == EINTR, IO);
        for (int i = 0; i < count; i++) {
            struct load_conn *conn = events[i].data.ptr;
            struct rc rc = wake_handshake(&load, conn);
            if (rc.err == E_CLOSED || rc.err == E_IO) {
                endpoint_close(&conn->end); /* Turned away: a stranger tries again. */
                rc = open_conn(&load, conn);
            }
            TRY(rc);
        }
    }
    uint64_t cpu_ns = 0;
    TRY(process_cpu_ns(cfg->server_pid, &cpu_ns));
    out->server_cpu_ns += cpu_ns - load.started_cpu_ns;
    out->duration_us += clock_mono_us() - load.started_at_us;
    return OK;
}
