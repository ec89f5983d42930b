/* SPDX-License-Identifier: Apache-2.0 */
/* The measurements, one function a section of the report. */
#pragma once

#include <jansson.h>

#include "identity/keyfile.h"
#include "load.h"
#include "process.h"
#include "tls_setup.h"

#define BENCH_KEY_COUNTS_MAX 8

struct bench_cfg {
    const char *node_path;
    const char *json_path; /* NULL: no file. */
    uint64_t window_ms;
    uint64_t rounds;
    uint64_t workers;
    uint64_t connections;
    uint64_t bytes;            /* Of the bulk transfer. */
    uint64_t port;             /* Of a remote node; 0: none. */
    const char *identity_path; /* Of the wallet that calls it; NULL: none. */
    uint64_t rate;             /* Calls a second that it gets. */
    uint64_t value_bytes;
    uint64_t key_counts[BENCH_KEY_COUNTS_MAX];
    size_t key_count_count;
    uint32_t section_mask; /* Bit i: section i was asked for; 0: all that run by default. */
};

/* What every section needs. */
struct bench {
    const struct bench_cfg *cfg;
    struct identity_keyfile stranger; /* A wallet that no registry knows; the echo's, too. */
    struct tls_setup stranger_tls;
    struct server_process echo; /* Runs throughout. */
};

struct bench_section {
    const char *name;
    bool by_default;
    /* Prints its table and adds its figures to out, an object. */
    RC (*run)(struct bench *bench, json_t *out);
};
#define BENCH_SECTION_COUNT 9
extern const struct bench_section bench_sections[BENCH_SECTION_COUNT];

/* Runs the sections asked for and writes the JSON. */
RC bench_run(const struct bench_cfg *cfg);

RC section_echo(struct bench *bench, json_t *out);
RC section_calls(struct bench *bench, json_t *out);
RC section_handshakes(struct bench *bench, json_t *out);
RC section_storm(struct bench *bench, json_t *out);
RC section_memory(struct bench *bench, json_t *out);
RC section_keys(struct bench *bench, json_t *out);
RC section_soak(struct bench *bench, json_t *out);
RC section_bulk(struct bench *bench, json_t *out);
RC section_remote(struct bench *bench, json_t *out);

/* A node, and as many registered wallets of its sample application as it has workers. */
struct bench_node {
    struct server_process server;
    uint32_t wallet_count;
    struct bench_wallet {
        struct identity_keyfile key;
        struct tls_setup tls;
    } wallets[LOAD_WALLETS_MAX];
};
/* environment: "NAME=value", NULL-terminated, or NULL. */
RC bench_node_start(const struct bench *bench, const char *const *environment,
                    struct bench_node *out);
/* As process_stop. */
bool bench_node_stop(struct bench_node *node);
/* A load on it; the caller changes what it needs. */
struct load_cfg bench_load(const struct bench *bench, const struct bench_node *node);

/* Server CPU of one request, in microseconds. */
double bench_cpu_us(const struct load_result *result);
double bench_rate(const struct load_result *result);
/* Adds rate, CPU and percentiles to an object. */
void bench_report(json_t *out, const struct load_result *result);
