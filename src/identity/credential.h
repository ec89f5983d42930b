/* SPDX-License-Identifier: Apache-2.0 */
/* A fresh TLS key with its certificate, bound to a wallet. Counted references, because connections
 * that shook hands with the old one keep it while the process renews. */
#pragma once

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

#include "base/bytes.h"
#include "base/status.h"
#include "identity/signer.h"

struct identity_credential; /* Opaque. */

#define IDENTITY_HOST_BYTES_MAX 253

struct identity_credential_cfg {
    const struct identity_signer *signer; /* Lent for the call. */
    uint64_t chain_id;
    /* DNS name, IPv4 or IPv6 address for the SubjectAltName, so that stock TLS clients can match
     * it. NULL or empty: none, as in a client's certificate. */
    const char *host;
    uint64_t not_before_unix_s;
    uint32_t lifetime_s; /* 1 to IDENTITY_SPAN_S_MAX. */
};

/* Gives *out with one reference, NULL on error: an ephemeral P-256 key and a self-signed
 * certificate (CA:FALSE, random serial, ECDSA with SHA-256) whose binding the signer signed, and
 * which passes identity_verify. Calls the signer, so it may block: never on a thread that serves
 * requests. *why gets a sentence on error. BAD_CONFIG: host or lifetime not allowed; BAD_AUTH: the
 * signer signs with another wallet than it says; what the signer returns; CRYPTO, NOMEM. */
RC identity_credential_make(struct identity_credential **out,
                            const struct identity_credential_cfg *cfg, struct status *why);

/* One more reference to it. Any thread. */
struct identity_credential *identity_credential_ref(struct identity_credential *credential);
/* Takes one reference, sets NULL; the last one wipes and frees. Accepts NULL in it. Any thread. */
void identity_credential_close(struct identity_credential **credential);

/* Lends, while a reference is held. The types are what mbedtls_ssl_conf_own_cert takes; nobody
 * changes them, and connections of several threads may sign with the key at once. */
mbedtls_x509_crt *identity_credential_crt(struct identity_credential *credential);
mbedtls_pk_context *identity_credential_key(struct identity_credential *credential);
const struct wallet *identity_credential_wallet(const struct identity_credential *credential);
uint64_t identity_credential_not_after_unix_s(const struct identity_credential *credential);
