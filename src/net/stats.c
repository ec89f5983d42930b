/* SPDX-License-Identifier: Apache-2.0 */
#include "net/server_internal.h"

#define BOUND(us) us,
const uint32_t net_latency_bounds_us[NET_LATENCY_COUNT - 1] = { NET_LATENCY_BUCKETS(BOUND) };
#undef BOUND

#define NAME(name, text) text,
const char *const net_handshake_names[NET_HANDSHAKE_COUNT] = { "ok", NET_HANDSHAKE_MAP(NAME) };
#undef NAME

void worker_count_call(struct worker_counters *c, size_t method_idx, uint32_t code, uint64_t us) {
    struct method_counters *m = &c->methods[method_idx];
    size_t bucket = 0;
    while (bucket < NET_LATENCY_COUNT - 1 && us > net_latency_bounds_us[bucket]) {
        bucket++;
    }
    count_up(&m->count[code < NET_STATUS_COUNT ? code : STATUS_UNKNOWN], 1);
    count_up(&m->latency[bucket], 1);
    count_up(&m->latency_sum_us, us);
}

static void add_traffic(const struct net_io *io, struct net_stats *out) {
    const struct net_traffic *traffic = net_io_traffic(io);
    out->read_bytes += count_get(&traffic->read_bytes);
    out->written_bytes += count_get(&traffic->written_bytes);
}

static void add_method(const struct method_counters *m, struct net_method_stats *out) {
    for (size_t i = 0; i < NET_STATUS_COUNT; i++) {
        out->count[i] += count_get(&m->count[i]);
    }
    for (size_t i = 0; i < NET_LATENCY_COUNT; i++) {
        out->latency[i] += count_get(&m->latency[i]);
    }
    out->latency_sum_us += count_get(&m->latency_sum_us);
}

static void add_worker(const struct net_worker *w, struct net_stats *out) {
    const struct worker_counters *c = &w->counters;
    out->calls_in_flight += count_get(&c->in_flight);
    out->unknown_method_count += count_get(&c->unknown_method);
    out->bad_frame_count += count_get(&c->bad_frame);
    out->refused_count += count_get(&c->refused);
    for (size_t i = 0; i < out->method_count; i++) {
        add_method(&c->methods[i], &out->methods[i]);
    }
    add_traffic(w->io, out);
}

void net_server_stats(const struct net_server *server, struct net_stats *out) {
    *out = (struct net_stats){ 0 };
    out->conn_count = atomic_load_explicit(&server->conn_count, memory_order_relaxed);
    out->conn_total = count_get(&server->conn_total);
    out->buffered_bytes = atomic_load_explicit(&server->budget.used_bytes, memory_order_relaxed);
    out->method_count = server->methods.method_count;
    for (size_t i = 0; i < out->method_count; i++) {
        out->methods[i].name = server->methods.methods[i].name;
    }
    for (uint32_t i = 0; i < server->cfg.worker_count; i++) {
        add_worker(server->workers[i], out);
    }
    for (uint32_t i = 0; i < server->pool_count; i++) {
        const struct net_pool *pool = server->pools[i];
        out->handshaking_count += count_get(&pool->handshaking);
        add_traffic(pool->io, out);
        for (size_t k = 0; k < NET_HANDSHAKE_COUNT; k++) {
            out->handshakes[k] += count_get(&pool->handshakes[k]);
        }
    }
}
