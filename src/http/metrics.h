/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics: Prometheus' text format, version 0.0.4. */
#pragma once

#include "http/pages.h"

void http_write_metrics(struct http_node *node, const struct service_snapshot *now,
                        struct http_text *body);

struct http_sample {
    const char *name; /* Without "nova_kms_". */
    const char *type;
    const char *help;
    uint64_t value;
};
/* The # HELP and # TYPE of a metric. */
void http_metric_head(struct http_text *body, const char *name, const char *type, const char *help);
void http_write_samples(struct http_text *body, const struct http_sample *samples, size_t count);

/* One of several values of a metric. */
struct http_labelled {
    const char *label;
    uint64_t value;
};
