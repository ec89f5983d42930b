/* SPDX-License-Identifier: Apache-2.0 */
/* The TLS settings of both ends of the bench: the service's own suites and curves, so that echo and
 * service encrypt alike. */
#pragma once

#include <mbedtls/ssl.h>

#include "identity/credential.h"

struct tls_setup {
    mbedtls_ssl_config conf;
    struct identity_credential *credential;
};

/* Gives a configuration for endpoint MBEDTLS_SSL_IS_CLIENT or _IS_SERVER, with a certificate bound
 * to signer's wallet. alpn (NULL: none) is a NULL-terminated list that outlives it. Peers are not
 * verified: the bench made both ends. */
RC tls_setup_init(struct tls_setup *t, int endpoint, const struct identity_signer *signer,
                  const char **alpn);
void tls_setup_close(struct tls_setup *t);
