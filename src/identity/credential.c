/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/credential.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/version.h>

#include "crypto/random.h"
#include "identity/binding.h"
#include "identity/der.h"

#define SPKI_BYTES_MAX 128
#define CRT_BYTES_MAX 2048
#define SERIAL_BYTES 16
/* A header of three bytes around the name, one of four around that. */
#define SAN_BYTES_MAX (IDENTITY_HOST_BYTES_MAX + 7)
/* "20260101000000" and its NUL, as mbedTLS wants dates. */
#define DATE_BYTES 15
#define SUBJECT "CN=nova-kms"

struct identity_credential {
    atomic_uint ref_count;
    mbedtls_pk_context key;
    mbedtls_x509_crt crt;
    struct wallet wallet;
    uint64_t not_after_unix_s;
};

struct identity_credential *identity_credential_ref(struct identity_credential *credential) {
    unsigned before = atomic_fetch_add_explicit(&credential->ref_count, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return credential;
}

void identity_credential_close(struct identity_credential **credential) {
    struct identity_credential *c = *credential;
    *credential = NULL;
    if (c == NULL) {
        return;
    }
    /* Release what this thread did with it; the last one acquires what all did. */
    if (atomic_fetch_sub_explicit(&c->ref_count, 1, memory_order_acq_rel) > 1) {
        return;
    }
    mbedtls_x509_crt_free(&c->crt);
    mbedtls_pk_free(&c->key); /* Wipes the private key. */
    free(c);
}

mbedtls_x509_crt *identity_credential_crt(struct identity_credential *credential) {
    return &credential->crt;
}

mbedtls_pk_context *identity_credential_key(struct identity_credential *credential) {
    return &credential->key;
}

const struct wallet *identity_credential_wallet(const struct identity_credential *credential) {
    return &credential->wallet;
}

uint64_t identity_credential_not_after_unix_s(const struct identity_credential *credential) {
    return credential->not_after_unix_s;
}

static bool is_dns_name(struct span host) {
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.ptr[i];
        bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_';
        if (!allowed) {
            return false;
        }
    }
    return host.len > 0 && host.len <= IDENTITY_HOST_BYTES_MAX;
}

/* GeneralNames with the one name (RFC 5280, section 4.2.1.6). Written by hand: mbedTLS 2.28 has no
 * function for it. */
static RC write_san(struct writer *out, const char *host) {
    uint8_t name[SAN_BYTES_MAX];
    uint8_t address[16];
    struct writer w = { name, 0, sizeof(name) };
    if (inet_pton(AF_INET, host, address) == 1) {
        TRY(der_write(&w, DER_IP_ADDRESS, (struct span){ address, 4 }));
    } else if (inet_pton(AF_INET6, host, address) == 1) {
        TRY(der_write(&w, DER_IP_ADDRESS, (struct span){ address, 16 }));
    } else {
        ENSURE(is_dns_name(span_str(host)), BAD_CONFIG);
        TRY(der_write(&w, DER_DNS_NAME, span_str(host)));
    }
    return der_write(out, DER_SEQUENCE, writer_span(&w));
}

static RC generate_key(mbedtls_pk_context *key) {
    ENSURE(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) == 0, NOMEM);
    ENSURE(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), random_mbedtls,
                               NULL) == 0,
           CRYPTO);
    return OK;
}

/* Has the signer sign the claim about the key. Writes the extension's value. */
static RC bind_key(mbedtls_pk_context *key, const struct identity_credential_cfg *cfg,
                   struct writer *out) {
    uint8_t buf[SPKI_BYTES_MAX];
    int len = mbedtls_pk_write_pubkey_der(key, buf, sizeof(buf)); /* At the end of buf. */
    ENSURE(len > 0, CRYPTO);
    const struct identity_claim claim = {
        cfg->chain_id,
        { buf + sizeof(buf) - (size_t)len, (size_t)len },
        cfg->not_before_unix_s,
        cfg->not_before_unix_s + cfg->lifetime_s,
    };
    char text_buf[IDENTITY_TEXT_BYTES];
    struct span text = SPAN_EMPTY;
    TRY(identity_claim_text(&claim, text_buf, &text));
    struct identity_binding binding = {
        cfg->signer->wallet, claim.not_before_unix_s, claim.not_after_unix_s, { { 0 } }
    };
    TRY(cfg->signer->sign_text(cfg->signer->ctx, text, &binding.signature));
    return identity_binding_encode(&binding, out);
}

static RC format_date(uint64_t unix_s, char text[static DATE_BYTES]) {
    ENSURE(unix_s <= INT64_MAX, BAD_CONFIG);
    time_t t = (time_t)unix_s;
    struct tm utc = { 0 };
    ENSURE(gmtime_r(&t, &utc) != NULL, BAD_CONFIG);
    /* 0 also for years of five digits, which certificates cannot hold. */
    ENSURE(strftime(text, DATE_BYTES, "%Y%m%d%H%M%S", &utc) == DATE_BYTES - 1, BAD_CONFIG);
    return OK;
}

static RC set_dates(mbedtls_x509write_cert *writer, const struct identity_credential_cfg *cfg) {
    char from[DATE_BYTES];
    char to[DATE_BYTES];
    TRY(format_date(cfg->not_before_unix_s, from));
    TRY(format_date(cfg->not_before_unix_s + cfg->lifetime_s, to));
    ENSURE(mbedtls_x509write_crt_set_validity(writer, from, to) == 0, CRYPTO);
    return OK;
}

static RC set_serial(mbedtls_x509write_cert *writer) {
    uint8_t serial[SERIAL_BYTES];
    TRY(random_bytes(serial, sizeof(serial)));
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* Positive, and always of full length. */
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
    ENSURE(mbedtls_x509write_crt_set_serial_raw(writer, serial, sizeof(serial)) == 0, CRYPTO);
#else
    AUTO(mbedtls_mpi_free) mbedtls_mpi number;
    mbedtls_mpi_init(&number);
    ENSURE(mbedtls_mpi_read_binary(&number, serial, sizeof(serial)) == 0, NOMEM);
    ENSURE(mbedtls_x509write_crt_set_serial(writer, &number) == 0, NOMEM);
#endif
    return OK;
}

static RC set_extension(mbedtls_x509write_cert *writer, struct span oid, struct span value) {
    const int critical = 0;
    ENSURE(mbedtls_x509write_crt_set_extension(writer, (const char *)oid.ptr, oid.len, critical,
                                               value.ptr, value.len) == 0,
           NOMEM);
    return OK;
}

static RC set_extensions(mbedtls_x509write_cert *writer, const char *host, struct span binding) {
    ENSURE(mbedtls_x509write_crt_set_basic_constraints(writer, 0, -1) == 0, NOMEM);
    ENSURE(mbedtls_x509write_crt_set_key_usage(writer, MBEDTLS_X509_KU_DIGITAL_SIGNATURE) == 0,
           NOMEM);
    if (host != NULL && host[0] != '\0') {
        uint8_t san[SAN_BYTES_MAX];
        struct writer w = { san, 0, sizeof(san) };
        TRY(write_san(&w, host));
        TRY(set_extension(writer, SPAN_LIT(MBEDTLS_OID_SUBJECT_ALT_NAME), writer_span(&w)));
    }
    return set_extension(writer, identity_oid_der, binding);
}

static RC fill_certificate(mbedtls_x509write_cert *writer, mbedtls_pk_context *key,
                           const struct identity_credential_cfg *cfg, struct span binding) {
    mbedtls_x509write_crt_set_version(writer, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(writer, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(writer, key);
    mbedtls_x509write_crt_set_issuer_key(writer, key);
    ENSURE(mbedtls_x509write_crt_set_subject_name(writer, SUBJECT) == 0, NOMEM);
    ENSURE(mbedtls_x509write_crt_set_issuer_name(writer, SUBJECT) == 0, NOMEM);
    TRY(set_dates(writer, cfg));
    TRY(set_serial(writer));
    return set_extensions(writer, cfg->host, binding);
}

static RC make_certificate(struct identity_credential *c, const struct identity_credential_cfg *cfg,
                           struct span binding) {
    AUTO(mbedtls_x509write_crt_free) mbedtls_x509write_cert writer;
    mbedtls_x509write_crt_init(&writer);
    TRY(fill_certificate(&writer, &c->key, cfg, binding));
    uint8_t der[CRT_BYTES_MAX];
    /* Written at the end of der. This first signature also makes mbedTLS 2.28 fill the key's table
     * of multiples, which it would otherwise do in whichever threads sign first. */
    int len = mbedtls_x509write_crt_der(&writer, der, sizeof(der), random_mbedtls, NULL);
    ENSURE(len > 0, CRYPTO);
    const uint8_t *start = der + sizeof(der) - (size_t)len;
    ENSURE(mbedtls_x509_crt_parse_der(&c->crt, start, (size_t)len) == 0, CRYPTO);
    return OK;
}

static RC check_cfg(const struct identity_credential_cfg *cfg, struct status *why) {
    if (cfg->lifetime_s == 0 || cfg->lifetime_s > IDENTITY_SPAN_S_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "A certificate's lifetime of %u s is not allowed: 1 to %u s.", cfg->lifetime_s,
                   IDENTITY_SPAN_S_MAX);
        return ERR(BAD_CONFIG);
    }
    uint8_t san[SAN_BYTES_MAX];
    struct writer w = { san, 0, sizeof(san) };
    bool has_host = cfg->host != NULL && cfg->host[0] != '\0';
    if (has_host && write_san(&w, cfg->host).err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "The host \"%.100s\" is not allowed: a DNS name, or an IPv4 or IPv6 address "
                   "without brackets and port.",
                   cfg->host);
        return ERR(BAD_CONFIG);
    }
    return OK;
}

/* What every peer will check; a signer that answers for another wallet is found out here. */
static RC check_result(struct identity_credential *c, const struct identity_credential_cfg *cfg,
                       struct status *why) {
    const struct identity_verify_cfg verify = { cfg->chain_id, cfg->not_before_unix_s, 0 };
    struct identity_peer peer;
    TRY(identity_verify(&c->crt, &verify, &peer, why));
    c->wallet = peer.wallet;
    c->not_after_unix_s = peer.not_after_unix_s;
    return OK;
}

static RC fill(struct identity_credential *c, const struct identity_credential_cfg *cfg,
               struct status *why) {
    uint8_t value[IDENTITY_BINDING_BYTES_MAX];
    struct writer binding = { value, 0, sizeof(value) };
    status_set(why, STATUS_INTERNAL, "The TLS key could not be made.");
    TRY(random_mbedtls_init());
    TRY(generate_key(&c->key));
    status_set(why, STATUS_UNAVAILABLE, "The wallet's signer did not sign the TLS key.");
    TRY(bind_key(&c->key, cfg, &binding));
    status_set(why, STATUS_INTERNAL, "The TLS key's certificate could not be made.");
    TRY(make_certificate(c, cfg, writer_span(&binding)));
    return check_result(c, cfg, why);
}

RC identity_credential_make(struct identity_credential **out,
                            const struct identity_credential_cfg *cfg, struct status *why) {
    *out = NULL;
    TRY(check_cfg(cfg, why));
    AUTO(identity_credential_close) struct identity_credential *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        status_set(why, STATUS_INTERNAL, "There is no memory for a TLS key.");
        return ERR(NOMEM);
    }
    atomic_init(&c->ref_count, 1);
    mbedtls_pk_init(&c->key);
    mbedtls_x509_crt_init(&c->crt);
    TRY(fill(c, cfg, why));
    *out = c;
    c = NULL;
    return OK;
}
