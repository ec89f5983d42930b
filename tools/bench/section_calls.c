/* SPDX-License-Identifier: Apache-2.0 */
/* Server CPU of a call beside that of a bare echo of as many bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "sections.h"

#define VALUE_BYTES 128
#define KEY_COUNT 1000

static const struct shape {
    const char *name;
    uint32_t connection_count;
    uint32_t inflight;
} shapes[] = { { "1x1", 1, 1 }, { "50x1", 50, 1 }, { "50x16", 50, 16 } };

static const enum workload_kind kinds[] = { WORKLOAD_DERIVE, WORKLOAD_GET, WORKLOAD_PUT };

struct pair {
    struct load_result echo;
    struct load_result call;
};

/* Echo and service take turns, so that a machine that changes its speed changes both. */
static RC measure(struct bench *bench, const struct bench_node *node, const struct shape *shape,
                  struct workload *work, struct pair *out) {
    struct load_cfg call_cfg = bench_load(bench, node);
    call_cfg.connection_count = shape->connection_count;
    call_cfg.inflight = shape->inflight;
    struct load_cfg echo_cfg = call_cfg;
    echo_cfg.port = bench->echo.port;
    echo_cfg.server_pid = bench->echo.pid;
    echo_cfg.tls[0] = &bench->stranger_tls.conf;
    echo_cfg.wallet_count = 1;
    struct workload echo = { .kind = WORKLOAD_ECHO, .value_bytes = workload_message_bytes(work) };
    for (uint64_t round = 0; round < bench->cfg->rounds; round++) {
        TRY(load_run(&echo_cfg, &echo, &out->echo));
        TRY(load_run(&call_cfg, work, &out->call));
    }
    return OK;
}

static void print_row(const char *name, const struct load_result *result, double ratio) {
    (void)printf("  %-14s %10.0f %10.2f %8lu %8lu %8lu", name, bench_rate(result),
                 bench_cpu_us(result), histogram_percentile(&result->latency, 0.5),
                 histogram_percentile(&result->latency, 0.99),
                 histogram_percentile(&result->latency, 0.999));
    if (ratio > 0) {
        (void)printf("   %.2f", ratio);
    }
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

RC section_echo(struct bench *bench, json_t *out) {
    struct load_result *result = calloc(1, sizeof(*result));
    ENSURE(result != NULL, NOMEM);
    struct rc rc = OK;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]) && rc.err == E_OK; i++) {
        struct workload work = { .kind = WORKLOAD_ECHO, .value_bytes = VALUE_BYTES };
        const struct load_cfg cfg = {
            .port = bench->echo.port,
            .server_pid = bench->echo.pid,
            .tls = { &bench->stranger_tls.conf },
            .connection_count = shapes[i].connection_count,
            .inflight = shapes[i].inflight,
            .warmup_ms = bench->cfg->window_ms / 10,
            .duration_ms = bench->cfg->window_ms,
        };
        *result = (struct load_result){ 0 };
        rc = load_run(&cfg, &work, result);
        json_t *row = json_object();
        bench_report(row, result);
        (void)json_object_set_new(out, shapes[i].name, row);
        print_row(shapes[i].name, result, 0);
    }
    free(result);
    return rc;
}

static json_t *report_pair(const struct pair *pair, double ratio) {
    json_t *row = json_object();
    json_t *echo = json_object();
    json_t *call = json_object();
    bench_report(echo, &pair->echo);
    bench_report(call, &pair->call);
    (void)json_object_set_new(row, "echo", echo);
    (void)json_object_set_new(row, "call", call);
    (void)json_object_set_new(row, "cpu_ratio", json_real(ratio));
    return row;
}

static RC run_kind(struct bench *bench, const struct bench_node *node, const struct shape *shape,
                   struct workload *work, json_t *out) {
    struct pair *pair = calloc(1, sizeof(*pair));
    ENSURE(pair != NULL, NOMEM);
    struct rc rc = measure(bench, node, shape, work, pair);
    if (rc.err == E_OK) {
        double ratio = bench_cpu_us(&pair->call) / bench_cpu_us(&pair->echo);
        char name[32];
        (void)snprintf(name, sizeof(name), "echo %zu B", workload_message_bytes(work));
        print_row(name, &pair->echo, 0);
        print_row(workload_name(work->kind), &pair->call, ratio);
        (void)snprintf(name, sizeof(name), "%s_%s", workload_name(work->kind), shape->name);
        (void)json_object_set_new(out, name, report_pair(pair, ratio));
    }
    free(pair);
    return rc;
}

static RC fill(struct bench *bench, const struct bench_node *node) {
    struct load_cfg cfg = bench_load(bench, node);
    cfg.warmup_ms = 0;
    cfg.duration_ms = 600000; /* The count ends it. */
    cfg.request_count = KEY_COUNT;
    struct workload work = {
        .kind = WORKLOAD_PUT, .value_bytes = VALUE_BYTES, .key_count = KEY_COUNT, .in_order = true
    };
    struct load_result *ignored = calloc(1, sizeof(*ignored));
    ENSURE(ignored != NULL, NOMEM);
    struct rc rc = load_run(&cfg, &work, ignored);
    free(ignored);
    return rc;
}

static RC run_shapes(struct bench *bench, const struct bench_node *node, json_t *out) {
    TRY(fill(bench, node));
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        (void)printf("%u connection%s, %u in flight on each (values of %d bytes)\n"
                     "  %-14s %10s %10s %8s %8s %8s   %s\n",
                     shapes[i].connection_count, shapes[i].connection_count == 1 ? "" : "s",
                     shapes[i].inflight, VALUE_BYTES, "", "calls/s", "cpu us", "p50 us", "p99 us",
                     "p99.9", "ratio");
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            struct workload work = { .kind = kinds[k],
                                     .value_bytes = VALUE_BYTES,
                                     .key_count = KEY_COUNT };
            TRY(run_kind(bench, node, &shapes[i], &work, out));
        }
    }
    return OK;
}

RC section_calls(struct bench *bench, json_t *out) {
    struct bench_node node;
    struct rc rc = bench_node_start(bench, NULL, &node);
    if (rc.err == E_OK) {
        rc = run_shapes(bench, &node, out);
    }
    if (!bench_node_stop(&node) && rc.err == E_OK) {
        rc = ERR(IO);
    }
    return rc;
}
