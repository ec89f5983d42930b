/* SPDX-License-Identifier: Apache-2.0 */
/* What handshakes cost, and what a storm of them does to those already connected. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sections.h"

#define STORM_PROCESSES 2
#define STORM_HANDSHAKES 16
/* Connected callers ask for this many keys a second in all: a busy node, not a full one. */
#define CONNECTED_RATE 2000

static RC shake(const struct bench *bench, const struct bench_node *node, uint64_t duration_ms,
                struct load_result *out) {
    struct load_cfg cfg = bench_load(bench, node);
    cfg.tls[0] = &bench->stranger_tls.conf;
    cfg.wallet_count = 1;
    cfg.connection_count = STORM_HANDSHAKES;
    cfg.duration_ms = duration_ms;
    return load_handshakes(&cfg, out);
}

static RC run_handshakes(struct bench *bench, const struct bench_node *node, json_t *out) {
    struct load_result *result = calloc(1, sizeof(*result));
    ENSURE(result != NULL, NOMEM);
    struct rc rc = shake(bench, node, bench->cfg->window_ms, result);
    if (rc.err == E_OK) {
        (void)printf("full handshakes: %.0f a second, %.0f us of server CPU each\n",
                     bench_rate(result), bench_cpu_us(result));
        (void)json_object_set_new(out, "handshakes_per_second", json_real(bench_rate(result)));
        (void)json_object_set_new(out, "server_cpu_us", json_real(bench_cpu_us(result)));
    }
    free(result);
    return rc;
}

RC section_handshakes(struct bench *bench, json_t *out) {
    struct bench_node node;
    struct rc rc = bench_node_start(bench, NULL, &node);
    if (rc.err == E_OK) {
        rc = run_handshakes(bench, &node, out);
    }
    if (!bench_node_stop(&node) && rc.err == E_OK) {
        rc = ERR(IO);
    }
    return rc;
}

/* Strangers run at the lowest priority: on a machine of their own they would not take the CPU that
 * the measuring client needs. Gives the process ids. */
static void start_storm(const struct bench *bench, const struct bench_node *node,
                        uint64_t duration_ms, pid_t *pids) {
    for (size_t i = 0; i < STORM_PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            static struct load_result ignored;
            int code = setpriority(PRIO_PROCESS, 0, 19);
            struct rc rc = shake(bench, node, duration_ms, &ignored);
            _exit(code == 0 && rc.err == E_OK && ignored.requests > 0 ? 0 : 1);
        }
    }
}

static RC wait_for_storm(const pid_t *pids) {
    bool failed = false;
    for (size_t i = 0; i < STORM_PROCESSES; i++) {
        int code = 0;
        failed = pids[i] < 0 || waitpid(pids[i], &code, 0) != pids[i] || code != 0 || failed;
    }
    ENSURE(!failed, IO);
    return OK;
}

static RC run_storm(struct bench *bench, const struct bench_node *node, struct load_result *calm,
                    struct load_result *storm) {
    struct load_cfg cfg = bench_load(bench, node);
    cfg.rate_per_second = CONNECTED_RATE;
    struct workload work = { .kind = WORKLOAD_DERIVE };
    for (uint64_t round = 0; round < bench->cfg->rounds; round++) {
        TRY(load_run(&cfg, &work, calm));
        pid_t pids[STORM_PROCESSES];
        start_storm(bench, node, cfg.warmup_ms + cfg.duration_ms + 500, pids);
        struct rc rc = load_run(&cfg, &work, storm);
        TRY(wait_for_storm(pids));
        TRY(rc);
    }
    return OK;
}

static void report_storm(const struct load_result *calm, const struct load_result *storm,
                         json_t *out) {
    double ratio = (double)histogram_percentile(&storm->latency, 0.99) /
                   (double)histogram_percentile(&calm->latency, 0.99);
    (void)printf("50 connected callers, %d calls a second in all\n"
                 "  %-14s p50 %6lu us   p99 %6lu us\n  %-14s p50 %6lu us   p99 %6lu us   %.2f\n",
                 CONNECTED_RATE, "calm", histogram_percentile(&calm->latency, 0.5),
                 histogram_percentile(&calm->latency, 0.99), "storm",
                 histogram_percentile(&storm->latency, 0.5),
                 histogram_percentile(&storm->latency, 0.99), ratio);
    json_t *row = json_object();
    bench_report(row, calm);
    (void)json_object_set_new(out, "calm", row);
    row = json_object();
    bench_report(row, storm);
    (void)json_object_set_new(out, "storm", row);
    (void)json_object_set_new(out, "p99_ratio", json_real(ratio));
}

RC section_storm(struct bench *bench, json_t *out) {
    struct bench_node node;
    struct load_result *results = calloc(2, sizeof(*results));
    ENSURE(results != NULL, NOMEM);
    struct rc rc = bench_node_start(bench, NULL, &node);
    if (rc.err == E_OK) {
        rc = run_storm(bench, &node, &results[0], &results[1]);
    }
    if (rc.err == E_OK) {
        report_storm(&results[0], &results[1], out);
    }
    if (!bench_node_stop(&node) && rc.err == E_OK) {
        rc = ERR(IO);
    }
    free(results);
    return rc;
}
