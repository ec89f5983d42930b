/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include <mbedtls/pk.h>
#include <mbedtls/version.h>

#include "crypto/random.h"
#include "net/tls_internal.h"

/* Lists that mbedTLS keeps pointers to. AES-256-GCM only. */
static const int suites[] = {
#if MBEDTLS_VERSION_MAJOR >= 3
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    0,
};

#if MBEDTLS_VERSION_MAJOR >= 3
static const uint16_t groups[] = { MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                   MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                   MBEDTLS_SSL_IANA_TLS_GROUP_NONE };
static const uint16_t signatures[] = { MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256,
                                       MBEDTLS_TLS1_3_SIG_NONE };
#else
static const mbedtls_ecp_group_id groups[] = { MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                               MBEDTLS_ECP_DP_NONE };
static const int signatures[] = { MBEDTLS_MD_SHA256, MBEDTLS_MD_NONE };
#endif

static void restrict_version(mbedtls_ssl_config *conf) {
#if MBEDTLS_VERSION_MAJOR >= 3
    mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_tls13_key_exchange_modes(conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
    mbedtls_ssl_conf_groups(conf, groups);
    mbedtls_ssl_conf_sig_algs(conf, signatures);
#else
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_curves(conf, groups);
    mbedtls_ssl_conf_sig_hashes(conf, signatures);
#endif
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
}

/* Where the library has no TLS 1.3, nobody can ask for it. */
static void require_tls13(mbedtls_ssl_config *conf) {
#if MBEDTLS_VERSION_MAJOR >= 3
    mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_3);
#else
    (void)conf;
#endif
}

/* mbedTLS 2 computes tables for the key's curve at its first signature and keeps them with the key:
 * make that one here, before several threads sign at once. */
static RC warm_up(mbedtls_pk_context *key) {
    const uint8_t hash[32] = { 0 };
    uint8_t signature[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
    size_t len = 0;
#if MBEDTLS_VERSION_MAJOR >= 3
    int ret = mbedtls_pk_sign(key, MBEDTLS_MD_SHA256, hash, sizeof(hash), signature,
                              sizeof(signature), &len, random_mbedtls, NULL);
#else
    int ret = mbedtls_pk_sign(key, MBEDTLS_MD_SHA256, hash, sizeof(hash), signature, &len,
                              random_mbedtls, NULL);
#endif
    ENSURE(ret == 0, CRYPTO);
    return OK;
}

static RC use_credential(struct tls_config *config, struct identity_credential *credential) {
    if (credential == NULL) {
        return OK;
    }
    TRY(warm_up(identity_credential_key(credential)));
    config->credential = identity_credential_ref(credential);
    int ret = mbedtls_ssl_conf_own_cert(&config->conf, identity_credential_crt(credential),
                                        identity_credential_key(credential));
    ENSURE(ret == 0, NOMEM);
    return OK;
}

static RC fill(struct tls_config *config, struct identity_credential *credential,
               const char *const *alpn) {
    mbedtls_ssl_config *conf = &config->conf;
    int endpoint = config->is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT;
    TRY(random_mbedtls_init());
    ENSURE(mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                       MBEDTLS_SSL_PRESET_DEFAULT) == 0,
           CRYPTO);
    restrict_version(conf);
    mbedtls_ssl_conf_rng(conf, random_mbedtls, NULL);
    /* The session's verify callback decides: there is no authority to chain to. */
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    if (config->is_server) {
        mbedtls_ssl_conf_cert_req_ca_list(conf, MBEDTLS_SSL_CERT_REQ_CA_LIST_DISABLED);
    } else {
        mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    }
    /* mbedTLS 2 takes the list without const and does not write to it. */
    const char **list = NULL;
    memcpy(&list, &alpn, sizeof(list));
    ENSURE(mbedtls_ssl_conf_alpn_protocols(conf, list) == 0, BAD_CONFIG);
    return use_credential(config, credential);
}

static struct tls_config *new_config(bool is_server, const struct tls_verify_cfg *verify) {
    struct tls_config *config = calloc(1, sizeof(*config));
    if (config != NULL) {
        atomic_init(&config->ref_count, 1);
        mbedtls_ssl_config_init(&config->conf);
        config->is_server = is_server;
        config->verify = *verify;
    }
    return config;
}

RC tls_config_server(struct tls_config **out, const struct tls_server_cfg *cfg) {
    *out = NULL;
    ENSURE(cfg->credential != NULL, BAD_CONFIG);
    AUTO(tls_config_close) struct tls_config *config = new_config(true, &cfg->verify);
    ENSURE(config != NULL, NOMEM);
    TRY(fill(config, cfg->credential, cfg->alpn));
    *out = config;
    config = NULL;
    return OK;
}

RC tls_config_client(struct tls_config **out, const struct tls_client_cfg *cfg) {
    *out = NULL;
    ENSURE(cfg->alpn != NULL, BAD_CONFIG);
    AUTO(tls_config_close) struct tls_config *config = new_config(false, &cfg->verify);
    ENSURE(config != NULL, NOMEM);
    config->alpn[0] = cfg->alpn;
    TRY(fill(config, cfg->credential, config->alpn));
    if (cfg->needs_tls13) {
        require_tls13(&config->conf);
    }
    *out = config;
    config = NULL;
    return OK;
}

struct tls_config *tls_config_ref(struct tls_config *config) {
    atomic_fetch_add_explicit(&config->ref_count, 1, memory_order_relaxed);
    return config;
}

void tls_config_close(struct tls_config **config) {
    struct tls_config *c = *config;
    *config = NULL;
    if (c == NULL || atomic_fetch_sub_explicit(&c->ref_count, 1, memory_order_acq_rel) != 1) {
        return;
    }
    mbedtls_ssl_config_free(&c->conf);
    identity_credential_close(&c->credential);
    free(c);
}

struct identity_credential *tls_config_credential(const struct tls_config *config) {
    return config->credential;
}
