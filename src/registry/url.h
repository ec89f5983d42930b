/* SPDX-License-Identifier: Apache-2.0 */
/* Instance URLs, compared. Any thread. */
#pragma once

#include "auth/facts.h"
#include "base/err.h"

/* Room for a normalized URL: a default port, ":65535", may come in addition. */
#define REGISTRY_URL_BYTES (AUTH_URL_BYTES_MAX + 8)

/* Writes scheme://host:port/path with scheme and host in lower case, the scheme's port when there is
 * none, and no slash at the end. User, query and fragment are left out. MALFORMED when url is not
 * http or https, or over AUTH_URL_BYTES_MAX; NOMEM. */
RC registry_url_normalize(const char *url, char out[static REGISTRY_URL_BYTES]);

/* Whether both name the same place; two that cannot be normalized, when they are the same bytes. */
bool registry_url_equal(const char *a, const char *b);
