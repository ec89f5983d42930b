/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics: Prometheus' text format, version 0.0.4. */
#pragma once

#include "http/pages.h"

/* Appends the whole page to body. Any thread. */
void http_write_metrics(struct http_node *node, const struct service_snapshot *now,
                        struct http_text *body);
