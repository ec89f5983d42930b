/* SPDX-License-Identifier: Apache-2.0 */
/* A development build runs on chain too; nova-kms --dev is one process, a local wallet, a registry
 * file, no chain and no Odyn. */
#include <stdio.h>

#include "base/log.h"
#include "base/secret.h"
#include "node/dev.h"
#include "node/node.h"
#include "node/start.h"

const char *node_start_help(void) {
    return "  --dev             a node for development: a local wallet, a registry file, on "
           "loopback\n"
           "  --dir DIR         its files; default $XDG_STATE_HOME/nova-kms-dev, or\n"
           "                    ~/.local/state/nova-kms-dev\n";
}

bool node_start_allows_dev(void) {
    return true;
}

static RC run_dev(const struct node_args *args, const struct node_config *config,
                  struct status *why) {
    AUTO(dev_close) struct dev *dev = NULL;
    TRY(dev_init(&dev, args->dir, config, why));
    return dev_run(dev, config, args->version, why);
}

int node_start(const struct node_args *args, struct node_config *config) {
    if (secret_harden_process().err != E_OK) {
        LOG(WARN, "node.harden",
            "memory cannot be locked: keys could reach the swap; raise "
            "RLIMIT_MEMLOCK (ulimit -l unlimited)%s",
            "");
    }
    struct status why = { 0 };
    struct rc rc =
        args->is_dev ? run_dev(args, config, &why) : node_run_on_chain(args, config, &why);
    if (rc.err == E_OK) {
        return NODE_EXIT_OK;
    }
    (void)fprintf(stderr, "nova-kms: %s\n", why.text);
    return NODE_EXIT_FAILED;
}
