/* SPDX-License-Identifier: Apache-2.0 */
/* novakms-bench: what a call costs the server, beside what TLS alone costs on the same machine in
 * the same run. docs/performance.md says how to read it. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "sections.h"

static const char usage[] =
    "usage: novakms-bench [options]\n"
    "\n"
    "  --node PATH       the nova-kms binary (default: build/src/nova-kms)\n"
    "  --window-ms N     length of each measurement, 50 to 3600000 (default 3000)\n"
    "  --rounds N        times each pair of echo and service is measured, 1 to 20 (default 3)\n"
    "  --workers N       worker threads of the node, and wallets that call it, 1 to 8\n"
    "                    (default 1, as the echo has)\n"
    "  --keys N,N,...    store sizes for Get and Put (default 1000,100000,1000000)\n"
    "  --only SECTION    echo, calls, handshakes, storm, memory, keys, soak, bulk or\n"
    "                    remote; may be repeated (the last three run only when\n"
    "                    asked for)\n"
    "  --connections N   clients of soak and remote, 1 to 512 (default 64)\n"
    "  --bytes N         what bulk sends over bare TLS (default 67108864)\n"
    "  --port N          remote: a node on loopback,\n"
    "  --identity FILE   the wallet that calls it,\n"
    "  --rate N          calls a second, 1 to 100000 (default 1000),\n"
    "  --value-bytes N   and the size of a value, 1 to 1024 (default 128)\n"
    "  --json FILE       also writes the results as JSON\n"
    "  --help\n";

static RC parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    uint64_t value = 0;
    TRY(bytes_parse_decimal(span_str(text), max, &value));
    ENSURE(value >= min, INVALID);
    *out = value;
    return OK;
}

static RC parse_keys(const char *text, struct bench_cfg *cfg) {
    cfg->key_count_count = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        ENSURE(cfg->key_count_count < BENCH_KEY_COUNTS_MAX, TOO_BIG);
        uint64_t value = 0;
        TRY(bytes_parse_decimal((struct span){ (const uint8_t *)text, len }, 10000000, &value));
        ENSURE(value >= 1, INVALID);
        cfg->key_counts[cfg->key_count_count++] = value;
        text += len + (text[len] == ',');
    }
    return OK;
}

static RC parse_only(const char *name, struct bench_cfg *cfg) {
    for (size_t i = 0; i < BENCH_SECTION_COUNT; i++) {
        if (span_equal(span_str(name), span_str(bench_sections[i].name))) {
            cfg->section_mask |= 1u << i;
            return OK;
        }
    }
    return ERR(INVALID);
}

enum option_id {
    OPT_NODE,
    OPT_WINDOW_MS,
    OPT_ROUNDS,
    OPT_WORKERS,
    OPT_KEYS,
    OPT_ONLY,
    OPT_CONNECTIONS,
    OPT_BYTES,
    OPT_PORT,
    OPT_IDENTITY,
    OPT_RATE,
    OPT_VALUE_BYTES,
    OPT_JSON,
    OPT_HELP
};

static const struct option options[] = {
    { "node", required_argument, NULL, OPT_NODE },
    { "window-ms", required_argument, NULL, OPT_WINDOW_MS },
    { "rounds", required_argument, NULL, OPT_ROUNDS },
    { "workers", required_argument, NULL, OPT_WORKERS },
    { "keys", required_argument, NULL, OPT_KEYS },
    { "only", required_argument, NULL, OPT_ONLY },
    { "connections", required_argument, NULL, OPT_CONNECTIONS },
    { "bytes", required_argument, NULL, OPT_BYTES },
    { "port", required_argument, NULL, OPT_PORT },
    { "identity", required_argument, NULL, OPT_IDENTITY },
    { "rate", required_argument, NULL, OPT_RATE },
    { "value-bytes", required_argument, NULL, OPT_VALUE_BYTES },
    { "json", required_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static RC parse_option(enum option_id id, const char *value, struct bench_cfg *cfg) {
    switch (id) {
    case OPT_NODE:
        cfg->node_path = value;
        return OK;
    case OPT_WINDOW_MS:
        return parse_number(value, 50, 3600000, &cfg->window_ms);
    case OPT_ROUNDS:
        return parse_number(value, 1, 20, &cfg->rounds);
    case OPT_WORKERS:
        return parse_number(value, 1, 8, &cfg->workers);
    case OPT_KEYS:
        return parse_keys(value, cfg);
    case OPT_ONLY:
        return parse_only(value, cfg);
    case OPT_CONNECTIONS:
        return parse_number(value, 1, 512, &cfg->connections);
    case OPT_BYTES:
        return parse_number(value, 1, (uint64_t)1 << 40, &cfg->bytes);
    case OPT_PORT:
        return parse_number(value, 1, UINT16_MAX, &cfg->port);
    case OPT_IDENTITY:
        cfg->identity_path = value;
        return OK;
    case OPT_RATE:
        return parse_number(value, 1, 100000, &cfg->rate);
    case OPT_VALUE_BYTES:
        return parse_number(value, 1, WORKLOAD_VALUE_BYTES_MAX, &cfg->value_bytes);
    case OPT_JSON:
        cfg->json_path = value;
        return OK;
    case OPT_HELP:
        (void)fputs(usage, stdout);
        exit(0); /* NOLINT(concurrency-mt-unsafe): one thread so far. */
    }
    return ERR(INVALID);
}

static RC parse(int argc, char **argv, struct bench_cfg *cfg) {
    int at = 0;
    int c = getopt_long(argc, argv, "", options, &at); /* NOLINT(concurrency-mt-unsafe) as above. */
    while (c != -1) {
        ENSURE(c != '?', INVALID);
        struct rc rc = parse_option((enum option_id)c, optarg, cfg);
        if (rc.err != E_OK) {
            (void)fprintf(stderr, "novakms-bench: --%s: %s is not allowed\n", options[at].name,
                          optarg);
            return rc;
        }
        c = getopt_long(argc, argv, "", options, &at); /* NOLINT(concurrency-mt-unsafe) as above. */
    }
    ENSURE(optind == argc, INVALID);
    return OK;
}

int main(int argc, char **argv) {
    struct bench_cfg cfg = {
        .node_path = "build/src/nova-kms",
        .window_ms = 3000,
        .rounds = 3,
        .workers = 1,
        .connections = 64,
        .bytes = (uint64_t)64 * 1024 * 1024,
        .rate = 1000,
        .value_bytes = 128,
        .key_counts = { 1000, 100000, 1000000 },
        .key_count_count = 3,
    };
    if (parse(argc, argv, &cfg).err != E_OK) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    struct rc rc = bench_run(&cfg);
    if (rc.err != E_OK) {
        (void)fprintf(stderr, "novakms-bench: %s (%s:%d)\n", err_text(rc.err), rc.file, rc.line);
        return 1;
    }
    return 0;
}
