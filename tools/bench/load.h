/* SPDX-License-Identifier: Apache-2.0 */
/* A load of requests from one thread: so many connections, so many calls in flight on each. Either
 * as fast as answers come (closed loop), or at a fixed rate. */
#pragma once

#include <sys/types.h>

#include <mbedtls/ssl.h>

#include "histogram.h"
#include "workload.h"

#define LOAD_CONNECTIONS_MAX 1024
#define LOAD_INFLIGHT_MAX 64
#define LOAD_WALLETS_MAX 8

struct load_cfg {
    uint16_t port; /* On loopback. */
    pid_t server_pid;
    /* Lent. Connections take turns among them: all connections of one wallet are on one worker. */
    const mbedtls_ssl_config *tls[LOAD_WALLETS_MAX];
    uint32_t wallet_count; /* 0: 1. */
    uint32_t connection_count;
    uint32_t inflight;        /* Calls in flight on each connection. */
    uint64_t warmup_ms;       /* Not counted. */
    uint64_t duration_ms;     /* Counted, unless request_count ends it; one answer at least. */
    uint64_t request_count;   /* 0, or stop after so many. */
    uint32_t rate_per_second; /* 0: closed loop. Otherwise over all connections. */
};

struct load_result {
    uint64_t requests;
    uint64_t duration_us;
    uint64_t server_cpu_ns;
    struct histogram latency;
};

/* Runs the load. Adds to *out, so that several rounds add up. DENIED when the server refuses a
 * call, CLOSED when it closes a connection, TIMEOUT when nothing arrives for a minute. A connection
 * that is lost in its handshake is made anew, 16 times and for two minutes at most. */
RC load_run(const struct load_cfg *cfg, struct workload *work, struct load_result *out);

/* Opens connection_count connections, finishes their handshakes, calls back, closes them. */
RC load_idle(const struct load_cfg *cfg, void (*open_cb)(void *ctx), void *ctx);

/* Shakes hands and closes, again and again with `inflight` handshakes at a time, for duration_ms or
 * until request_count are done. *out gets requests = handshakes and the server's CPU. */
RC load_handshakes(const struct load_cfg *cfg, struct load_result *out);
