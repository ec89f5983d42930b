/* SPDX-License-Identifier: Apache-2.0 */
#include "tls_setup.h"

#include <stdio.h>

#include <mbedtls/version.h>

#include "base/clock.h"
#include "crypto/random.h"

#define CHAIN_ID 84532

static const int suites[] = {
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    0,
};

static void set_curves(mbedtls_ssl_config *conf) {
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static const uint16_t groups[] = { MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                       MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                       MBEDTLS_SSL_IANA_TLS_GROUP_NONE };
    mbedtls_ssl_conf_groups(conf, groups);
#else
    static const mbedtls_ecp_group_id curves[] = { MBEDTLS_ECP_DP_CURVE25519,
                                                   MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_NONE };
    mbedtls_ssl_conf_curves(conf, curves);
#endif
}

static RC make_credential(struct identity_credential **out, const struct identity_signer *signer) {
    const struct identity_credential_cfg cfg = {
        .signer = signer,
        .chain_id = CHAIN_ID,
        .host = NULL,
        .not_before_unix_s = clock_unix_ms() / 1000,
        .lifetime_s = 3600,
    };
    struct status why = { 0 };
    struct rc rc = identity_credential_make(out, &cfg, &why);
    if (rc.err != E_OK) {
        (void)fprintf(stderr, "novakms-bench: %s\n", why.text);
    }
    return rc;
}

RC tls_setup_init(struct tls_setup *t, int endpoint, const struct identity_signer *signer,
                  const char **alpn) {
    *t = (struct tls_setup){ 0 };
    mbedtls_ssl_config_init(&t->conf);
    TRY(random_mbedtls_init());
    TRY(make_credential(&t->credential, signer));
    ENSURE(mbedtls_ssl_config_defaults(&t->conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                       MBEDTLS_SSL_PRESET_DEFAULT) == 0,
           NOMEM);
    mbedtls_ssl_conf_rng(&t->conf, random_mbedtls, NULL);
    mbedtls_ssl_conf_authmode(&t->conf, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_ciphersuites(&t->conf, suites);
    set_curves(&t->conf);
    ENSURE(alpn == NULL || mbedtls_ssl_conf_alpn_protocols(&t->conf, alpn) == 0, INVALID);
    ENSURE(mbedtls_ssl_conf_own_cert(&t->conf, identity_credential_crt(t->credential),
                                     identity_credential_key(t->credential)) == 0,
           NOMEM);
    return OK;
}

void tls_setup_close(struct tls_setup *t) {
    mbedtls_ssl_config_free(&t->conf);
    identity_credential_close(&t->credential);
}
