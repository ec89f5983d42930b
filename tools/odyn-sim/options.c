/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <getopt.h>
#include <stdio.h>

#define PORT 18000

enum { KEY_FILE = 'k', ADDRESS = 'a', PORT_NUMBER = 'p', LATENCY = 'l', FAULT = 'f' };
enum { VERBOSE = 'v', HELP = 'h', ALLOW_REMOTE = 1000, SIGNATURE_V = 1001 };

static const struct option long_options[] = {
    { "key-file", required_argument, NULL, KEY_FILE },
    { "address", required_argument, NULL, ADDRESS },
    { "port", required_argument, NULL, PORT_NUMBER },
    { "allow-remote", no_argument, NULL, ALLOW_REMOTE },
    { "latency-ms", required_argument, NULL, LATENCY },
    { "fault", required_argument, NULL, FAULT },
    { "signature-v", required_argument, NULL, SIGNATURE_V },
    { "verbose", no_argument, NULL, VERBOSE },
    { "help", no_argument, NULL, HELP },
    { NULL, 0, NULL, 0 },
};

const char *options_help(void) {
    return "usage: odyn-sim [OPTION...]\n"
           "\n"
           "A local stand-in for Odyn, the API of a Nova enclave: wallet, randomness, encryption\n"
           "key and attestation over HTTP. For development only: its keys are in this process, "
           "and\n"
           "its attestation documents are unsigned.\n"
           "\n"
           "  -k, --key-file PATH     keys to use; made, with new keys, when it is not there.\n"
           "                          Without it every start has new keys\n"
           "  -a, --address IP        where to listen, 127.0.0.1\n"
           "  -p, --port N            18000; 0 takes a free port\n"
           "      --allow-remote      let --address be other than loopback: whoever reaches it "
           "can\n"
           "                          sign and decrypt\n"
           "  -l, --latency-ms N      wait before every answer\n"
           "  -f, --fault PATH=WHAT   what the calls of PATH (or * for all) get: a status of 200 "
           "to\n"
           "                          599, 'hang', or 'drop'. May be given several times\n"
           "      --signature-v N     27 (v is 27 or 28) or 0 (v is 0 or 1)\n"
           "  -v, --verbose           a line on stderr for each call\n"
           "  -h, --help              this text\n"
           "\n"
           "When it listens it prints one line on stdout:\n"
           "  odyn-sim ready url=http://127.0.0.1:PORT wallet=0x... pid=N\n"
           "SIGINT and SIGTERM end it.\n"
           "\n"
           "While it runs it takes these calls of its own, with JSON bodies:\n"
           "  GET  /_sim/state\n"
           "  POST /_sim/fault           "
           "{\"path\":\"/v1/random\",\"status\":503,\"body\":\"text\",\n"
           "                              "
           "\"latency_ms\":0,\"hang\":false,\"drop\":false,\"count\":1}\n"
           "                             count 0: until it is cleared; a path has one fault\n"
           "  POST /_sim/clear           {}: no faults any more\n"
           "  POST /_sim/wallet          {\"private_key\":\"0x...\"}, or {} for a new one\n"
           "  POST /_sim/encryption_key  the same; forgets the nonces too\n";
}

static RC parse_number(const char *text, uint64_t max, const char *name, uint64_t *out,
                       char why[static 256]) {
    struct rc rc = bytes_parse_decimal(span_str(text), max, out);
    if (rc.err != E_OK) {
        (void)snprintf(why, 256, "%s must be a number from 0 to %llu", name,
                       (unsigned long long)max);
        return ERR(BAD_CONFIG);
    }
    return OK;
}

static RC add_fault(struct options *out, const struct sim_fault *fault) {
    ENSURE(out->fault_count < SIM_FAULT_COUNT_MAX, BAD_CONFIG);
    out->faults[out->fault_count] = *fault;
    out->fault_count++;
    return OK;
}

static RC parse_fault(struct options *out, const char *text, char why[static 256]) {
    struct sim_fault fault = { .say = "odyn-sim was told to fail" };
    const char *equals = strchr(text, '=');
    size_t path_len = equals == NULL ? 0 : (size_t)(equals - text);
    const char *what = equals == NULL ? "" : equals + 1;
    uint64_t status = 0;
    fault.hang = strcmp(what, "hang") == 0;
    fault.drop = strcmp(what, "drop") == 0;
    bool is_number = bytes_parse_decimal(span_str(what), 599, &status).err == E_OK && status >= 200;
    (void)snprintf(why, 256, "--fault takes PATH=STATUS, PATH=hang or PATH=drop");
    ENSURE(path_len > 0 && path_len < sizeof(fault.path), BAD_CONFIG);
    ENSURE(fault.hang || fault.drop || is_number, BAD_CONFIG);
    fault.status = (unsigned)status;
    memcpy(fault.path, text, path_len);
    return add_fault(out, &fault);
}

static RC parse_latency(struct options *out, const char *text, char why[static 256]) {
    uint64_t latency_ms = 0;
    TRY(parse_number(text, SIM_LATENCY_MS_MAX, "--latency-ms", &latency_ms, why));
    return add_fault(out, &(struct sim_fault){ .path = "*", .latency_ms = (uint32_t)latency_ms });
}

static RC parse_v(struct options *out, const char *text, char why[static 256]) {
    bool is_27 = strcmp(text, "27") == 0;
    if (!is_27 && strcmp(text, "0") != 0) {
        (void)snprintf(why, 256, "--signature-v must be 27 or 0");
        return ERR(BAD_CONFIG);
    }
    out->v_base = is_27 ? 27 : 0;
    return OK;
}

static RC parse_port(struct options *out, const char *text, char why[static 256]) {
    uint64_t port = 0;
    TRY(parse_number(text, UINT16_MAX, "--port", &port, why));
    out->port = (uint16_t)port;
    return OK;
}

static RC parse_one(struct options *out, int option, const char *value, char why[static 256]) {
    switch (option) {
    case KEY_FILE:
        out->key_file = value;
        return OK;
    case ADDRESS:
        out->address = value;
        return OK;
    case ALLOW_REMOTE:
        out->allow_remote = true;
        return OK;
    case VERBOSE:
        out->verbose = true;
        return OK;
    case HELP:
        out->help = true;
        return OK;
    case PORT_NUMBER:
        return parse_port(out, value, why);
    case LATENCY:
        return parse_latency(out, value, why);
    case FAULT:
        return parse_fault(out, value, why);
    case SIGNATURE_V:
        return parse_v(out, value, why);
    default:
        (void)snprintf(why, 256, "unknown option, or one without its value");
        return ERR(BAD_CONFIG);
    }
}

static bool is_loopback(const char *address) {
    return strcmp(address, "::1") == 0 || strncmp(address, "127.", 4) == 0;
}

RC options_parse(struct options *out, int argc, char *const *argv, char why[static 256]) {
    *out = (struct options){ .address = "127.0.0.1", .port = PORT, .v_base = 27 };
    why[0] = '\0';
    opterr = 0;
    int option = 0;
    while ((option = getopt_long(argc, argv, "k:a:p:l:f:vh", long_options, NULL)) != -1) {
        TRY(parse_one(out, option, optarg, why));
    }
    if (optind < argc) {
        (void)snprintf(why, 256, "'%.100s' is not an option", argv[optind]);
        return ERR(BAD_CONFIG);
    }
    if (!out->allow_remote && !is_loopback(out->address)) {
        (void)snprintf(why, 256, "%.100s is not loopback; --allow-remote allows it", out->address);
        return ERR(BAD_CONFIG);
    }
    return OK;
}
