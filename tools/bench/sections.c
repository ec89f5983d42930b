/* SPDX-License-Identifier: Apache-2.0 */
#include "sections.h"

#include <stdio.h>

#include "crypto/random.h"

#define KEY_BYTES 32

const struct bench_section bench_sections[BENCH_SECTION_COUNT] = {
    { "echo", true, section_echo },
    { "calls", true, section_calls },
    { "handshakes", true, section_handshakes },
    { "storm", true, section_storm },
    { "memory", true, section_memory },
    { "keys", true, section_keys },
    { "soak", false, section_soak },
    { "bulk", false, section_bulk },
    { "remote", false, section_remote },
};

static const char *rpc_alpn[] = { "novakms/1", NULL };

double bench_cpu_us(const struct load_result *result) {
    return result->requests == 0 ? 0
                                 : (double)result->server_cpu_ns / 1000 / (double)result->requests;
}

double bench_rate(const struct load_result *result) {
    return result->duration_us == 0 ? 0
                                    : (double)result->requests * 1e6 / (double)result->duration_us;
}

void bench_report(json_t *out, const struct load_result *result) {
    (void)json_object_set_new(out, "requests_per_second", json_real(bench_rate(result)));
    (void)json_object_set_new(out, "server_cpu_us", json_real(bench_cpu_us(result)));
    static const struct {
        const char *name;
        double fraction;
    } rows[] = { { "p50_us", 0.5 }, { "p99_us", 0.99 }, { "p999_us", 0.999 } };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value_us = histogram_percentile(&result->latency, rows[i].fraction);
        (void)json_object_set_new(out, rows[i].name, json_integer((json_int_t)value_us));
    }
}

static RC open_wallet(struct bench_node *node, uint32_t idx) {
    struct bench_wallet *wallet = &node->wallets[idx];
    uint8_t key[KEY_BYTES];
    if (idx == 0) {
        char path[96];
        struct status why = { 0 };
        (void)snprintf(path, sizeof(path), "%s/app.key", node->server.dir);
        struct rc rc = identity_keyfile_load(&wallet->key, path, &why);
        if (rc.err != E_OK) {
            (void)fprintf(stderr, "novakms-bench: %s\n", why.text);
            return rc;
        }
    } else {
        TRY(random_bytes(key, sizeof(key)));
        TRY(identity_keyfile_from_key(&wallet->key, key));
        TRY(process_register(&node->server, &node->wallets[0].key.wallet, &wallet->key.wallet));
    }
    const struct identity_signer signer = identity_keyfile_signer(&wallet->key);
    return tls_setup_init(&wallet->tls, MBEDTLS_SSL_IS_CLIENT, &signer, rpc_alpn);
}

RC bench_node_start(const struct bench *bench, const char *const *environment,
                    struct bench_node *out) {
    *out = (struct bench_node){ 0 };
    const struct node_cfg cfg = {
        .path = bench->cfg->node_path,
        .workers = (uint32_t)bench->cfg->workers,
        .environment = environment,
    };
    TRY(process_start_node(&out->server, &cfg));
    while (out->wallet_count < bench->cfg->workers) {
        TRY(open_wallet(out, out->wallet_count));
        out->wallet_count++;
    }
    return OK;
}

bool bench_node_stop(struct bench_node *node) {
    bool clean = process_stop(&node->server);
    for (size_t i = 0; i < LOAD_WALLETS_MAX; i++) {
        tls_setup_close(&node->wallets[i].tls);
        identity_keyfile_close(&node->wallets[i].key);
    }
    return clean;
}

struct load_cfg bench_load(const struct bench *bench, const struct bench_node *node) {
    struct load_cfg cfg = {
        .port = node->server.port,
        .server_pid = node->server.pid,
        .wallet_count = node->wallet_count,
        .connection_count = 50,
        .inflight = 1,
        .warmup_ms = bench->cfg->window_ms / 10,
        .duration_ms = bench->cfg->window_ms,
    };
    for (uint32_t i = 0; i < node->wallet_count; i++) {
        cfg.tls[i] = &node->wallets[i].tls.conf;
    }
    return cfg;
}

static RC open_bench(struct bench *bench) {
    uint8_t key[KEY_BYTES];
    TRY(random_bytes(key, sizeof(key)));
    TRY(identity_keyfile_from_key(&bench->stranger, key));
    const struct identity_signer signer = identity_keyfile_signer(&bench->stranger);
    TRY(process_start_echo(&bench->echo, &signer));
    return tls_setup_init(&bench->stranger_tls, MBEDTLS_SSL_IS_CLIENT, &signer, NULL);
}

static void close_bench(struct bench *bench) {
    (void)process_stop(&bench->echo); /* Killed: it serves until then. */
    tls_setup_close(&bench->stranger_tls);
    identity_keyfile_close(&bench->stranger);
}

static RC run_sections(struct bench *bench, json_t *report) {
    for (size_t i = 0; i < BENCH_SECTION_COUNT; i++) {
        bool wanted = bench->cfg->section_mask == 0 ? bench_sections[i].by_default
                                                    : (bench->cfg->section_mask >> i & 1) != 0;
        if (!wanted) {
            continue;
        }
        json_t *out = json_object();
        ENSURE(json_object_set_new(report, bench_sections[i].name, out) == 0, NOMEM);
        TRY(bench_sections[i].run(bench, out));
        (void)fputc('\n', stdout);
    }
    return OK;
}

RC bench_run(const struct bench_cfg *cfg) {
    AUTO(close_bench) struct bench bench = { .cfg = cfg };
    TRY(open_bench(&bench));
    json_t *report = json_object();
    ENSURE(report != NULL, NOMEM);
    struct rc rc = run_sections(&bench, report);
    if (rc.err == E_OK && cfg->json_path != NULL &&
        json_dump_file(report, cfg->json_path, JSON_INDENT(2)) != 0) {
        (void)fprintf(stderr, "novakms-bench: cannot write %s\n", cfg->json_path);
        rc = ERR(IO);
    }
    json_decref(report);
    return rc;
}
