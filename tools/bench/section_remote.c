/* SPDX-License-Identifier: Apache-2.0 */
/* A load on a node that somebody else started, at a fixed rate. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sections.h"

#define KEY_COUNT 10000

static RC open_identity(const struct bench_cfg *cfg, struct identity_keyfile *key,
                        struct tls_setup *tls) {
    static const char *alpn[] = { "novakms/1", NULL };
    struct status why = { 0 };
    struct rc rc = identity_keyfile_load(key, cfg->identity_path, &why);
    if (rc.err != E_OK) {
        (void)fprintf(stderr, "novakms-bench: %s\n", why.text);
        return rc;
    }
    const struct identity_signer signer = identity_keyfile_signer(key);
    return tls_setup_init(tls, MBEDTLS_SSL_IS_CLIENT, &signer, alpn);
}

static RC run(const struct bench_cfg *cfg, const struct tls_setup *tls,
              struct load_result *result) {
    const struct load_cfg load = {
        .port = (uint16_t)cfg->port,
        .server_pid = getpid(), /* Somebody else's is not known here, and not reported. */
        .tls = { &tls->conf },
        .connection_count = (uint32_t)cfg->connections,
        .inflight = 1,
        .duration_ms = cfg->window_ms,
        .rate_per_second = (uint32_t)cfg->rate,
    };
    struct workload work = { .kind = WORKLOAD_MIXED,
                             .value_bytes = (size_t)cfg->value_bytes,
                             .key_count = KEY_COUNT,
                             .sequence = cfg->port * KEY_COUNT };
    return load_run(&load, &work, result);
}

RC section_remote(struct bench *bench, json_t *out) {
    const struct bench_cfg *cfg = bench->cfg;
    if (cfg->port == 0 || cfg->identity_path == NULL) {
        (void)fputs("novakms-bench: --only remote needs --port and --identity\n", stderr);
        return ERR(INVALID);
    }
    struct identity_keyfile key = { 0 };
    struct tls_setup tls = { 0 };
    struct load_result *result = calloc(1, sizeof(*result));
    ENSURE(result != NULL, NOMEM);
    struct rc rc = open_identity(cfg, &key, &tls);
    if (rc.err == E_OK) {
        rc = run(cfg, &tls, result);
        tls_setup_close(&tls);
    }
    identity_keyfile_close(&key);
    if (rc.err == E_OK) {
        (void)printf("%" PRIu64 " mixed calls, %.0f a second, p99 %" PRIu64 " us\n",
                     result->requests, bench_rate(result),
                     histogram_percentile(&result->latency, 0.99));
        bench_report(out, result);
        (void)json_object_del(out, "server_cpu_us");
    }
    free(result);
    return rc;
}
