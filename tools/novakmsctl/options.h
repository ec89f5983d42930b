/* SPDX-License-Identifier: Apache-2.0 */
/* novakmsctl's command line: one table of options, one of commands; help, usage errors and the
 * environment follow from them. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/novakms.h"

/* Exit codes; part of the interface (novakmsctl.1). */
enum ctl_exit {
    CTL_DONE = 0,
    CTL_OTHER = 1,
    CTL_USAGE = 2,
    CTL_NOT_FOUND = 3,
    CTL_PERMISSION = 4,
    CTL_UNAVAILABLE = 5
};

enum ctl_command {
    CTL_DERIVE,
    CTL_PUT,
    CTL_GET,
    CTL_DELETE,
    CTL_LIST,
    CTL_WHOAMI,
    CTL_STATUS,
    CTL_NODES,
    CTL_IDENTITY,
    CTL_COMMAND_COUNT
};

/* How bytes are written as text. */
enum ctl_format { CTL_FORMAT_DEFAULT, CTL_FORMAT_HEX, CTL_FORMAT_BASE64, CTL_FORMAT_RAW };

#define CTL_OPERAND_COUNT_MAX 2
#define CTL_TIMEOUT_MS_MAX NOVAKMS_TIMEOUT_MAX_MS
/* What the service allows. */
#define CTL_TTL_MS_MAX (10ull * 365 * 24 * 3600 * 1000)
#define CTL_LENGTH_MAX 1024u

/* What the command line and the environment said. Texts are lent by them. */
struct ctl_options {
    enum ctl_command command;
    const char *operands[CTL_OPERAND_COUNT_MAX];
    unsigned operand_count;

    const char *server;
    const char *server_wallet;
    const char *registry; /* A file, or with rpc_url an address. */
    const char *rpc_url;
    uint64_t kms_app_id; /* 0: not given. */
    const char *identity;
    const char *dev_dir;
    uint64_t chain_id; /* 0: not given. */
    uint32_t timeout_ms;

    enum ctl_format format;
    enum ctl_format key_format;
    bool json;

    const char *context;
    uint32_t length;
    enum novakms_kdf kdf;
    const char *file;
    const char *out;
    uint64_t ttl_ms;
    enum novakms_durability durability;
    const char *prefix;
    uint64_t limit; /* 0: all. */
};

/* Reads the environment, then argv. Returns true when *out is to be carried out; otherwise help or
 * one sentence of what is wrong was printed, and *exit_code is what the process returns. */
bool ctl_options_parse(struct ctl_options *out, int argc, char *const argv[],
                       enum ctl_exit *exit_code);
/* "derive". */
const char *ctl_command_name(enum ctl_command command);
