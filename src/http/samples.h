/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a metric in Prometheus' text format. What appends to a body leaves it to the body's
 * `failed` whether there was room. Any thread. */
#pragma once

#include "http/http.h"

struct http_sample {
    const char *name; /* Without "nova_kms_". */
    const char *type;
    const char *help;
    uint64_t value;
};
/* The # HELP and # TYPE of a metric. */
void http_metric_head(struct http_text *body, const char *name, const char *type, const char *help);
/* Metrics of one value each, with their heads. */
void http_write_samples(struct http_text *body, const struct http_sample *samples, size_t count);
