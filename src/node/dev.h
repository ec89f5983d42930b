/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a development node, and the node that lives in it:
 *   lock           held while a node runs
 *   node.key       the node's wallet, mode 0600
 *   app.key        the wallet of a sample application, mode 0600
 *   registry.json  the registry: KMS app with this node, sample app DEV_SAMPLE_APP_ID with app.key
 *   node.json      where the node serves; written when it does, removed when it ends
 * What is there already is used as it is. */
#pragma once

#include "node/config.h"
#include "node/node.h"

#define DEV_SAMPLE_APP_ID 1001

struct dev; /* Opaque. */

/* Gives *out, NULL on error with a sentence in *why: opens or makes the directory (dir, or with
 * NULL the default) and its files. EXISTS when another node has it. */
RC dev_init(struct dev **out, const char *dir, const struct node_config *config,
            struct status *why);
/* Takes *dev: frees, gives the lock back, sets NULL. Accepts a closed one. */
void dev_close(struct dev **dev);
/* Serves until it is stopped. Blocks. Prints one line to stdout when it serves. */
RC dev_run(struct dev *dev, const struct node_config *config, const char *version,
           struct status *why);
