/* SPDX-License-Identifier: Apache-2.0 */
/* A mixed load over a long time: errors, and whether memory stays flat. For sanitizer builds. */
#include <stdio.h>
#include <stdlib.h>

#include "sections.h"

#define WINDOWS 10
#define VALUE_BYTES 512
#define KEY_COUNT 2000

static RC run_windows(struct bench *bench, const struct bench_node *node,
                      struct load_result *result, json_t *out) {
    struct load_cfg cfg = bench_load(bench, node);
    cfg.connection_count = (uint32_t)bench->cfg->connections;
    cfg.warmup_ms = 0;
    cfg.duration_ms = bench->cfg->window_ms / WINDOWS;
    struct workload work = { .kind = WORKLOAD_MIXED,
                             .value_bytes = VALUE_BYTES,
                             .key_count = KEY_COUNT };
    json_t *rows = json_array();
    (void)json_object_set_new(out, "resident_mib", rows);
    for (int i = 0; i < WINDOWS; i++) {
        TRY(load_run(&cfg, &work, result));
        uint64_t resident_bytes = 0;
        TRY(process_resident_bytes(node->server.pid, &resident_bytes));
        double mib = (double)resident_bytes / (1024 * 1024);
        (void)printf("  %3d %%: %lu calls, %.1f MiB resident\n", (i + 1) * 100 / WINDOWS,
                     result->requests, mib);
        (void)fflush(stdout);
        (void)json_array_append_new(rows, json_real(mib));
    }
    return OK;
}

RC section_soak(struct bench *bench, json_t *out) {
    struct bench_node node;
    struct load_result *result = calloc(1, sizeof(*result));
    ENSURE(result != NULL, NOMEM);
    struct rc rc = bench_node_start(bench, NULL, &node);
    if (rc.err == E_OK) {
        rc = run_windows(bench, &node, result, out);
    }
    if (!bench_node_stop(&node) && rc.err == E_OK) {
        rc = ERR(IO);
    }
    free(result);
    return rc;
}
