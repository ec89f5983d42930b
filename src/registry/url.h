/* SPDX-License-Identifier: Apache-2.0 */
/* Instance URLs, compared. Any thread. */
#pragma once

#include "auth/facts.h"
#include "base/err.h"

/* Room for a normalized URL: a default port, ":65535", may come in addition. */
#define REGISTRY_URL_BYTES (AUTH_URL_BYTES_MAX + 8)

/* Writes scheme://host:port/path with scheme and host in lower case, the scheme's port when there
 * is none, and no slash at the end. User, query and fragment are left out. MALFORMED when url is
 * not http or https, or over AUTH_URL_BYTES_MAX; NOMEM. */
RC registry_url_normalize(const char *url, char out[static REGISTRY_URL_BYTES]);

#define REGISTRY_TARGET_BYTES 264

/* Writes where a node is to be dialled, "host:port" or "[IPv6]:port", the port 443 when url has
 * none. MALFORMED, and "" in out, for anything but https://host, https://host:port and the same
 * with a slash at the end: a user, a path, a query or a fragment mean that it is no node's URL.
 * NOMEM. */
RC registry_url_target(const char *url, char out[static REGISTRY_TARGET_BYTES]);

/* Whether both name the same place; two that cannot be normalized, when they are the same bytes. */
bool registry_url_equal(const char *a, const char *b);
