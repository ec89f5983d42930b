/* SPDX-License-Identifier: Apache-2.0 */
#include "http/samples.h"

#include <inttypes.h>

/* Names, methods, codes and reasons are ours: none needs escaping. */
void http_metric_head(struct http_text *body, const char *name, const char *type,
                      const char *help) {
    http_text_printf(body, "# HELP nova_kms_%s %s\n# TYPE nova_kms_%s %s\n", name, help, name,
                     type);
}

void http_write_samples(struct http_text *body, const struct http_sample *samples, size_t count) {
    for (size_t i = 0; i < count; i++) {
        http_metric_head(body, samples[i].name, samples[i].type, samples[i].help);
        http_text_printf(body, "nova_kms_%s %" PRIu64 "\n", samples[i].name, samples[i].value);
    }
}
