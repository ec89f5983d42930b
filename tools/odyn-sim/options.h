/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of odyn-sim. */
#pragma once

#include "sim.h"

struct options {
    const char *address;
    uint16_t port;
    bool allow_remote;
    const char *key_file; /* NULL: random keys. */
    uint8_t v_base;
    bool verbose;
    bool help;
    struct sim_fault faults[SIM_FAULT_COUNT_MAX];
    size_t fault_count;
};

/* BAD_CONFIG: *why has the sentence. Lends from argv. */
RC options_parse(struct options *out, int argc, char *const *argv, char why[static 256]);
/* The text of --help. */
const char *options_help(void);
