/* SPDX-License-Identifier: Apache-2.0 */
/* Resident memory at start and of an idle connection, and what a large store costs its callers. */
#include <stdio.h>
#include <stdlib.h>

#include "sections.h"

#define IDLE_CONNECTIONS 1000
#define VALUE_BYTES 128

struct idle_probe {
    pid_t pid;
    uint64_t resident_bytes;
    struct rc rc;
};

static void probe_cb(void *ctx) {
    struct idle_probe *probe = ctx;
    probe->rc = process_resident_bytes(probe->pid, &probe->resident_bytes);
}

static RC run_memory(struct bench *bench, const struct bench_node *node, json_t *out) {
    struct idle_probe start = { .pid = node->server.pid };
    probe_cb(&start);
    TRY(start.rc);
    struct idle_probe idle = { .pid = node->server.pid };
    struct load_cfg cfg = bench_load(bench, node);
    cfg.connection_count = IDLE_CONNECTIONS;
    TRY(load_idle(&cfg, probe_cb, &idle));
    TRY(idle.rc);
    double start_mib = (double)start.resident_bytes / (1024 * 1024);
    double idle_kib =
        ((double)idle.resident_bytes - (double)start.resident_bytes) / 1024 / IDLE_CONNECTIONS;
    (void)printf("resident at start: %.1f MiB\nidle connection: %.1f KiB (of %d)\n", start_mib,
                 idle_kib, IDLE_CONNECTIONS);
    (void)json_object_set_new(out, "resident_at_start_mib", json_real(start_mib));
    (void)json_object_set_new(out, "idle_connection_kib", json_real(idle_kib));
    return OK;
}

RC section_memory(struct bench *bench, json_t *out) {
    struct bench_node node;
    struct rc rc = bench_node_start(bench, NULL, &node);
    if (rc.err == E_OK) {
        rc = run_memory(bench, &node, out);
    }
    if (!bench_node_stop(&node) && rc.err == E_OK) {
        rc = ERR(IO);
    }
    return rc;
}

static RC fill(const struct bench *bench, const struct bench_node *node, uint64_t from,
               uint64_t to) {
    struct load_cfg cfg = bench_load(bench, node);
    cfg.inflight = 16;
    cfg.warmup_ms = 0;
    cfg.duration_ms = 600000;
    cfg.request_count = to - from;
    struct workload work = { .kind = WORKLOAD_PUT,
                             .value_bytes = VALUE_BYTES,
                             .key_count = to,
                             .in_order = true,
                             .sequence = from };
    struct load_result *ignored = calloc(1, sizeof(*ignored));
    ENSURE(ignored != NULL, NOMEM);
    struct rc rc = load_run(&cfg, &work, ignored);
    free(ignored);
    return rc;
}

static RC measure_keys(const struct bench *bench, const struct bench_node *node, uint64_t key_count,
                       double cpu_us[static 2]) {
    static const enum workload_kind kinds[] = { WORKLOAD_GET, WORKLOAD_PUT };
    for (size_t i = 0; i < 2; i++) {
        struct load_cfg cfg = bench_load(bench, node);
        cfg.duration_ms *= bench->cfg->rounds;
        struct workload work = { .kind = kinds[i],
                                 .value_bytes = VALUE_BYTES,
                                 .key_count = key_count };
        struct load_result *result = calloc(1, sizeof(*result));
        ENSURE(result != NULL, NOMEM);
        struct rc rc = load_run(&cfg, &work, result);
        cpu_us[i] = bench_cpu_us(result);
        free(result);
        TRY(rc);
    }
    return OK;
}

static RC run_keys(struct bench *bench, const struct bench_node *node, json_t *out) {
    double first[2] = { 0 };
    uint64_t filled = 0;
    (void)printf("%10s %10s %7s %10s %7s   (cpu us a call, 50 connections, 1 in flight)\n", "keys",
                 "Get", "ratio", "Put", "ratio");
    for (size_t i = 0; i < bench->cfg->key_count_count; i++) {
        uint64_t key_count = bench->cfg->key_counts[i];
        if (key_count > filled) {
            TRY(fill(bench, node, filled, key_count));
            filled = key_count;
        }
        double cpu_us[2] = { 0 };
        TRY(measure_keys(bench, node, key_count, cpu_us));
        if (i == 0) {
            first[0] = cpu_us[0];
            first[1] = cpu_us[1];
        }
        (void)printf("%10lu %10.2f %7.2f %10.2f %7.2f\n", key_count, cpu_us[0],
                     cpu_us[0] / first[0], cpu_us[1], cpu_us[1] / first[1]);
        (void)fflush(stdout);
        char name[32];
        (void)snprintf(name, sizeof(name), "%lu", key_count);
        (void)json_object_set_new(
            out, name, json_pack("{s:f,s:f}", "get_cpu_us", cpu_us[0], "put_cpu_us", cpu_us[1]));
    }
    return OK;
}

RC section_keys(struct bench *bench, json_t *out) {
    static const char *const environment[] = { "MAX_APP_STORAGE=8589934592",
                                               "MAX_STORE_BYTES=8589934592", NULL };
    struct bench_node node;
    struct rc rc = bench_node_start(bench, environment, &node);
    if (rc.err == E_OK) {
        rc = run_keys(bench, &node, out);
    }
    if (!bench_node_stop(&node) && rc.err == E_OK) {
        rc = ERR(IO);
    }
    return rc;
}
