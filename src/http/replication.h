/* SPDX-License-Identifier: Apache-2.0 */
/* What the pages say of the cluster: /status.cluster, and the metrics of replication. Any
 * thread. */
#pragma once

#include <jansson.h>

#include "http/pages.h"

/* Gives the "cluster" object; NULL when memory is out. */
json_t *http_cluster_object(const struct http_node *node, const struct service_snapshot *now);
/* Appends the metrics of replication, durability and the master secret to body. */
void http_write_replication(const struct http_node *node, struct http_text *body);
