/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of nova-kms. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/log.h"
#include "node/node.h"
#include "node/start.h"

enum flag { FLAG_HELP = 1, FLAG_VERSION, FLAG_CHECK, FLAG_DEV, FLAG_DIR, FLAG_RPC, FLAG_HTTP };

static const struct option options[] = {
    { "help", no_argument, NULL, FLAG_HELP },
    { "version", no_argument, NULL, FLAG_VERSION },
    { "check-config", no_argument, NULL, FLAG_CHECK },
    { "dev", no_argument, NULL, FLAG_DEV },
    { "dir", required_argument, NULL, FLAG_DIR },
    { "rpc", required_argument, NULL, FLAG_RPC },
    { "http", required_argument, NULL, FLAG_HTTP },
    { NULL, 0, NULL, 0 },
};

struct command {
    struct node_args args;
    const char *rpc;
    const char *http;
    bool help;
    bool print_version;
    bool check_config;
};

static void print_help(void) {
    (void)printf(
        "Usage: nova-kms [--rpc HOST:PORT] [--http HOST:PORT] [--check-config]%s\n"
        "       nova-kms --help | --version\n"
        "\n"
        "Runs a Nova KMS node (%s build).\n"
        "\n"
        "%s"
        "  --rpc HOST:PORT   where the TLS port listens; port 0 takes a free one\n"
        "  --http HOST:PORT  where the plain port of /health, /status and /metrics listens\n"
        "  --check-config    check the environment, print what would be used, and exit\n"
        "  --help            this text\n"
        "  --version         the version\n"
        "\n"
        "Exit codes: 0 stopped by SIGTERM or SIGINT, 1 failed, 2 wrong usage or "
        "configuration.\n"
        "\n"
        "Environment:\n",
        node_start_allows_dev() ? " [--dev [--dir DIR]]" : "", config_build_name(),
        node_start_help());
    config_print_help(stdout);
}

static bool allow_dev(const char *flag) {
    if (!node_start_allows_dev()) {
        (void)fprintf(stderr, "nova-kms: %s is not allowed in a production build\n", flag);
        return false;
    }
    return true;
}

static bool take_flag(struct command *command, int flag) {
    switch (flag) {
    case FLAG_HELP:
        command->help = true;
        return true;
    case FLAG_VERSION:
        command->print_version = true;
        return true;
    case FLAG_CHECK:
        command->check_config = true;
        return true;
    case FLAG_DEV:
        command->args.is_dev = true;
        return allow_dev("--dev");
    case FLAG_DIR:
        command->args.dir = optarg;
        return allow_dev("--dir");
    case FLAG_RPC:
        command->rpc = optarg;
        return true;
    case FLAG_HTTP:
        command->http = optarg;
        return true;
    default:
        return false; /* getopt has named it. */
    }
}

static bool parse_args(struct command *command, int argc, char **argv) {
    int flag = 0;
    while ((flag = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!take_flag(command, flag)) {
            (void)fprintf(stderr, "nova-kms: see nova-kms --help\n");
            return false;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "nova-kms: \"%s\" is no flag; see nova-kms --help\n", argv[optind]);
        return false;
    }
    if (command->args.dir != NULL && !command->args.is_dev) {
        (void)fprintf(stderr, "nova-kms: --dir is allowed only with --dev\n");
        return false;
    }
    return true;
}

static const char *get_variable(void *ctx, const char *name) {
    const struct command *command = ctx;
    bool is_proxy = strcasecmp(name, "https_proxy") == 0 || strcasecmp(name, "no_proxy") == 0;
    if (command->args.is_dev && is_proxy) {
        return NULL; /* It has no peers, and must start whatever a shell's proxy looks like. */
    }
    const char *value = getenv(name);
    if (value != NULL && value[0] != '\0') {
        return value;
    }
    /* A development node is for this machine alone, unless it is told otherwise. */
    if (command->args.is_dev && strcmp(name, "NODE_RPC_LISTEN") == 0) {
        return "127.0.0.1:8443";
    }
    if (command->args.is_dev && strcmp(name, "NODE_HTTP_LISTEN") == 0) {
        return "127.0.0.1:8000";
    }
    return NULL;
}

static bool set_address(const char *flag, const char *text, struct config_address *out) {
    if (text == NULL || config_parse_address(text, out).err == E_OK) {
        return true;
    }
    (void)fprintf(stderr,
                  "nova-kms: %s %s: not allowed; it must be ADDRESS:PORT with a numeric address "
                  "(or localhost) and a port from 0 to 65535\n",
                  flag, text);
    return false;
}

/* Reports everything that is wrong, flags and environment. */
static bool load_config(struct command *command, struct node_config *config) {
    char errors[CONFIG_ERRORS_BYTES];
    bool good = config_load(config, get_variable, command, errors).err == E_OK;
    if (!good) {
        (void)fprintf(stderr, "nova-kms: the configuration has wrong values:\n%s", errors);
    }
    good = set_address("--rpc", command->rpc, &config->rpc_listen) && good;
    return set_address("--http", command->http, &config->http_listen) && good;
}

int node_main(int argc, char **argv, const char *version) {
    struct command command = { .args.version = version };
    if (!parse_args(&command, argc, argv)) {
        return NODE_EXIT_USAGE;
    }
    if (command.help || command.print_version) {
        if (command.help) {
            print_help();
        } else {
            (void)printf("nova-kms %s (%s)\n", version, config_build_name());
        }
        return fflush(stdout) == 0 ? NODE_EXIT_OK : NODE_EXIT_FAILED;
    }
    AUTO(config_close) struct node_config config = { 0 };
    if (!load_config(&command, &config)) {
        return NODE_EXIT_USAGE;
    }
    if (command.check_config) {
        config_print(&config, stdout);
        return fflush(stdout) == 0 ? NODE_EXIT_OK : NODE_EXIT_FAILED;
    }
    log_set_level((enum log_level)config.log_level);
    /* A reader of the log that goes away must not take the node with it. */
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return NODE_EXIT_FAILED;
    }
    return node_start(&command.args, &config);
}
