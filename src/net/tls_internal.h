/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the TLS engine's own files. */
#pragma once

#include <stdatomic.h>

#include <mbedtls/ssl.h>

#include "net/tls.h"

struct tls_config {
    atomic_uint ref_count;
    mbedtls_ssl_config conf;
    struct identity_credential *credential; /* NULL: an anonymous client. */
    struct tls_verify_cfg verify;
    bool is_server;
    const char *alpn[2]; /* A client's own list. */
};
