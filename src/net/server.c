/* SPDX-License-Identifier: Apache-2.0 */
#include "net/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "net/server_internal.h"

#define CONN_COUNT_DEFAULT 4096u
#define HANDSHAKE_COUNT_DEFAULT 256u
#define HANDSHAKE_TIMEOUT_DEFAULT_MS 10000u
#define IDLE_TIMEOUT_DEFAULT_MS 600000u
#define FRAME_TIMEOUT_DEFAULT_MS 30000u
#define PING_PER_MINUTE_DEFAULT 60u
#define ANONYMOUS_IDLE_DEFAULT_MS 30000u
#define ANONYMOUS_CALLS_DEFAULT 20u
/* Descriptors beside connections: loops, listeners, files, other clients of the process. */
#define SPARE_FDS 256u
#define MESSAGE_BYTES_DEFAULT ((size_t)16 * 1024 * 1024)
#define BUFFER_BYTES_DEFAULT ((size_t)128 * 1024 * 1024)

#define DEFAULT(field, value)  \
    do {                       \
        if ((field) == 0) {    \
            (field) = (value); \
        }                      \
    } while (0)

static uint32_t default_worker_count(void) {
    unsigned cpus = uv_available_parallelism();
    return cpus < NET_WORKER_COUNT_MAX ? cpus : NET_WORKER_COUNT_MAX;
}

static RC fill_cfg(struct net_server *server, const struct net_server_cfg *in) {
    struct net_server_cfg *cfg = &server->cfg;
    *cfg = *in;
    DEFAULT(cfg->worker_count, default_worker_count());
    DEFAULT(cfg->handshake_threads, cfg->worker_count > 1 ? cfg->worker_count / 2 : 1);
    DEFAULT(cfg->handshake_count_max, HANDSHAKE_COUNT_DEFAULT);
    DEFAULT(cfg->conn_count_max, CONN_COUNT_DEFAULT);
    DEFAULT(cfg->conn_per_wallet_max, (cfg->conn_count_max + 1) / 2);
    DEFAULT(cfg->conn_anonymous_max, (cfg->conn_count_max + 3) / 4);
    DEFAULT(cfg->anonymous_idle_timeout_ms, ANONYMOUS_IDLE_DEFAULT_MS);
    DEFAULT(cfg->anonymous_calls_per_second_max, ANONYMOUS_CALLS_DEFAULT);
    DEFAULT(cfg->handshake_timeout_ms, HANDSHAKE_TIMEOUT_DEFAULT_MS);
    DEFAULT(cfg->idle_timeout_ms, IDLE_TIMEOUT_DEFAULT_MS);
    DEFAULT(cfg->frame_timeout_ms, FRAME_TIMEOUT_DEFAULT_MS);
    DEFAULT(cfg->ping_per_minute_max, PING_PER_MINUTE_DEFAULT);
    DEFAULT(cfg->frame_bytes_max, FRAME_BYTES_MAX_DEFAULT);
    DEFAULT(cfg->message_bytes_max, MESSAGE_BYTES_DEFAULT);
    DEFAULT(cfg->buffer_bytes_max, BUFFER_BYTES_DEFAULT);
    ENSURE(cfg->worker_count <= NET_WORKER_COUNT_MAX, BAD_CONFIG);
    ENSURE(cfg->handshake_threads <= NET_WORKER_COUNT_MAX, BAD_CONFIG);
    ENSURE(cfg->frame_bytes_max >= FRAME_BYTES_MAX_STRANGER, BAD_CONFIG);
    ENSURE(cfg->frame_bytes_max <= UINT32_MAX, BAD_CONFIG);
    ENSURE(cfg->host != NULL && strlen(cfg->host) < sizeof(server->host), BAD_CONFIG);
    memcpy(server->host, cfg->host, strlen(cfg->host) + 1);
    cfg->host = server->host;
    return OK;
}

/* One table for all workers, so they must serve the same. */
static RC check_services(const struct net_server *server) {
    const struct net_worker_cfg *first = &server->workers[0]->cfg;
    for (uint32_t i = 1; i < server->cfg.worker_count; i++) {
        const struct net_worker_cfg *other = &server->workers[i]->cfg;
        ENSURE(other->service_count == first->service_count, BAD_CONFIG);
        for (size_t k = 0; k < first->service_count; k++) {
            ENSURE(other->services[k].service->descriptor == first->services[k].service->descriptor,
                   BAD_CONFIG);
        }
    }
    return OK;
}

static RC fill_methods(struct net_server *server) {
    const struct net_worker_cfg *first = &server->workers[0]->cfg;
    ENSURE(first->service_count <= NET_SERVICE_COUNT_MAX, BAD_CONFIG);
    method_table_init(&server->methods);
    for (size_t i = 0; i < first->service_count; i++) {
        TRY(method_table_add(&server->methods, first->services[i].service->descriptor));
    }
    ENSURE(server->methods.method_count <= NET_METHOD_COUNT_MAX, BAD_CONFIG);
    return check_services(server);
}

/* The usual soft limit of 1024 descriptors is below the usual limit of connections. What cannot be
 * had is no error: accepting pauses when descriptors run out. */
static void raise_fd_limit(const struct net_server_cfg *cfg) {
    struct rlimit limit;
    rlim_t need = (rlim_t)cfg->conn_count_max + cfg->handshake_count_max + SPARE_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) {
        return;
    }
    limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

RC net_server_init(struct net_server **out, const struct net_server_cfg *cfg) {
    *out = NULL;
    AUTO(net_server_close) struct net_server *server = calloc(1, sizeof(*server));
    ENSURE(server != NULL, NOMEM);
    server->listen_fd = -1;
    (void)pthread_mutex_init(&server->tls_lock, NULL);
    TRY(fill_cfg(server, cfg));
    server->budget.bytes_max = server->cfg.buffer_bytes_max;
    server->tls = cfg->tls == NULL ? NULL : tls_config_ref(cfg->tls);
    struct placement_cfg placement = { .worker_count = server->cfg.worker_count,
                                       .conn_per_wallet_max = server->cfg.conn_per_wallet_max,
                                       .conn_anonymous_max = server->cfg.conn_anonymous_max };
    TRY(placement_init(&server->placement, &placement));
    raise_fd_limit(&server->cfg);
    for (uint32_t i = 0; i < server->cfg.worker_count; i++) {
        TRY(worker_init(&server->workers[i], server, i));
    }
    TRY(fill_methods(server));
    *out = server;
    server = NULL;
    return OK;
}

RC net_server_start(struct net_server *server) {
    for (uint32_t i = 0; i < server->cfg.worker_count; i++) {
        TRY(worker_start(server->workers[i]));
    }
    return OK;
}

RC net_server_listen(struct net_server *server, struct status *why) {
    ASSERT(server->listen_fd < 0);
    ASSERT(server->tls != NULL);
    TRY(listen_open(server->host, server->cfg.port, &server->listen_fd, &server->port, why));
    for (uint32_t i = 0; i < server->cfg.handshake_threads; i++) {
        struct rc rc = pool_init(&server->pools[i], server, i);
        if (rc.err == E_OK) {
            server->pool_count = i + 1;
            rc = pool_start(server->pools[i]);
        }
        if (rc.err != E_OK) {
            status_set(why, STATUS_INTERNAL, "cannot start the handshake pool: %s",
                       err_text(rc.err));
            return rc;
        }
    }
    return OK;
}

uint16_t net_server_port(const struct net_server *server) {
    return server->port;
}

struct tls_config *server_tls_ref(struct net_server *server) {
    (void)pthread_mutex_lock(&server->tls_lock);
    struct tls_config *tls = tls_config_ref(server->tls);
    (void)pthread_mutex_unlock(&server->tls_lock);
    return tls;
}

void net_server_set_tls(struct net_server *server, struct tls_config *tls) {
    struct tls_config *fresh = tls_config_ref(tls);
    (void)pthread_mutex_lock(&server->tls_lock);
    struct tls_config *old = server->tls;
    server->tls = fresh;
    (void)pthread_mutex_unlock(&server->tls_lock);
    tls_config_close(&old);
}

bool net_server_post(struct net_server *server, uint32_t worker_idx, void (*fn)(void *arg),
                     void *arg) {
    ASSERT(worker_idx < server->cfg.worker_count);
    return mailbox_post(&server->workers[worker_idx]->mailbox, fn, arg);
}

void server_thread_drained(struct net_server *server) {
    if (atomic_fetch_sub(&server->drain_left, 1) != 1) {
        return;
    }
    if (server->drained_cb != NULL) {
        server->drained_cb(server->drained_ctx);
    }
}

/* A connection that a pool hands over while this goes on is told goodbye as it arrives. */
void net_server_drain(struct net_server *server, uint32_t timeout_ms, void (*done_cb)(void *ctx),
                      void *ctx) {
    if (atomic_exchange(&server->is_draining, true)) {
        return;
    }
    server->drain_timeout_ms = timeout_ms;
    server->drained_cb = done_cb;
    server->drained_ctx = ctx;
    atomic_store(&server->drain_left, server->cfg.worker_count + server->pool_count);
    for (uint32_t i = 0; i < server->pool_count; i++) {
        (void)mailbox_post(&server->pools[i]->mailbox, pool_drain, server->pools[i]);
    }
    for (uint32_t i = 0; i < server->cfg.worker_count; i++) {
        (void)mailbox_post(&server->workers[i]->mailbox, worker_drain, server->workers[i]);
    }
}

void net_server_close(struct net_server **server) {
    struct net_server *s = *server;
    *server = NULL;
    if (s == NULL) {
        return;
    }
    for (uint32_t i = 0; i < NET_WORKER_COUNT_MAX; i++) {
        if (s->pools[i] != NULL) {
            pool_stop(s->pools[i]);
        }
        if (s->workers[i] != NULL) {
            worker_stop(s->workers[i]);
        }
    }
    for (uint32_t i = 0; i < NET_WORKER_COUNT_MAX; i++) {
        worker_close(&s->workers[i]);
    }
    for (uint32_t i = 0; i < NET_WORKER_COUNT_MAX; i++) {
        pool_close(&s->pools[i]); /* Last: the workers' sessions come home to them. */
    }
    if (s->listen_fd >= 0) {
        (void)close(s->listen_fd);
    }
    placement_close(&s->placement);
    tls_config_close(&s->tls);
    (void)pthread_mutex_destroy(&s->tls_lock);
    free(s);
}
