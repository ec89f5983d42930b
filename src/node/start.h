/* SPDX-License-Identifier: Apache-2.0 */
/* From the command line to a running node. start_development.c and start_production.c implement
 * node_start; a build has one of them. */
#pragma once

#include "base/status.h"
#include "node/config.h"

struct node_args {
    bool is_dev;
    const char *dir; /* NULL: the default. */
    const char *version;
};

/* Runs the node. Gives the process's exit code; errors were printed to stderr. */
int node_start(const struct node_args *args, struct node_config *config);
/* Runs a node on chain, as it is deployed. Blocks. On error *why says in a sentence what was
 * wrong. */
RC node_run_on_chain(const struct node_args *args, const struct node_config *config,
                     struct status *why);
/* What --help says of flags that not every build has. */
const char *node_start_help(void);
/* Whether this build has --dev. */
bool node_start_allows_dev(void);

/* The program: parses flags and environment, and starts the node. Gives the exit code. */
int node_main(int argc, char **argv, const char *version);
