/* SPDX-License-Identifier: Apache-2.0 */
/* A production build has no development code: no local signer, no registry file, no secret from the
 * environment. */
#include <stdio.h>

#include "base/secret.h"
#include "node/node.h"
#include "node/start.h"

const char *node_start_help(void) {
    return "  (--dev and --dir are refused: this build has no development node)\n";
}

bool node_start_allows_dev(void) {
    return false;
}

int node_start(const struct node_args *args, struct node_config *config) {
    if (secret_harden_process().err != E_OK) {
        (void)fprintf(stderr, "nova-kms: memory cannot be locked: raise RLIMIT_MEMLOCK (ulimit -l "
                              "unlimited) or grant CAP_IPC_LOCK\n");
        return NODE_EXIT_FAILED;
    }
    struct status why = { 0 };
    if (node_run_on_chain(args, config, &why).err == E_OK) {
        return NODE_EXIT_OK;
    }
    (void)fprintf(stderr, "nova-kms: %s\n", why.text);
    return NODE_EXIT_FAILED;
}
