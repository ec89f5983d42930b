/* SPDX-License-Identifier: Apache-2.0 */
/* The statement that a TLS key belongs to a wallet, and its check. It rides in the certificate, and
 * the TLS handshake proves that the peer holds the key; together they prove the wallet.
 *
 * The wallet signs, as an EIP-191 personal message, the text
 *     NovaKMS:TLS:v1:<chain_id>:<SHA-256 of the SubjectPublicKeyInfo DER>:<not_before>:<not_after>
 * chain_id and dates (unix seconds) in decimal, the hash in 64 lowercase hex digits. The
 * certificate carries {wallet, not_before, not_after, signature} (TlsBinding in frame.proto) as the
 * value of one non-critical extension.
 *
 * The extension's OID is made from a random UUID under the arc that Microsoft sets aside for that
 * (1.2.840.113556.1.8000.2554), from d4aacd4c-dff0-4a75-9f4f-bc682f310e37. Not under 2.25, the
 * standard's arc for UUIDs: its 128-bit component makes Go's crypto/x509, and others, refuse to
 * parse the certificate at all. */
#pragma once

#include <mbedtls/x509_crt.h>

#include "base/bytes.h"
#include "base/status.h"
#include "base/wallet.h"
#include "crypto/eth.h"

#define IDENTITY_OID "1.2.840.113556.1.8000.2554.54442.52556.57328.19061.40783.12347439.3214903.1"
/* The DER content bytes of IDENTITY_OID. */
extern const struct span identity_oid_der;

#define IDENTITY_SPAN_S_MAX 86400u
/* Room for the longest text and its NUL: three decimal numbers of up to 20 digits. */
#define IDENTITY_TEXT_BYTES (15 + 20 + 1 + 64 + 1 + 20 + 1 + 20 + 1)
/* Room for an encoded binding: wallet 22, dates 11 each at most, signature 67. */
#define IDENTITY_BINDING_BYTES_MAX 111

struct identity_binding {
    struct wallet wallet;
    uint64_t not_before_unix_s;
    uint64_t not_after_unix_s;
    struct eth_signature signature;
};

/* What the wallet signs about a key. */
struct identity_claim {
    uint64_t chain_id;
    struct span spki_der; /* Lent. */
    uint64_t not_before_unix_s;
    uint64_t not_after_unix_s;
};

/* Writes the text to sign. Gives its span in text. CRYPTO. */
RC identity_claim_text(const struct identity_claim *claim, char text[static IDENTITY_TEXT_BYTES],
                       struct span *out);
/* Writes the extension's value. Cannot run out of room. */
RC identity_binding_encode(const struct identity_binding *binding, struct writer *out);
/* Reads exactly what identity_binding_encode writes: all four fields, in order, each once, in their
 * shortest form, and nothing after them. MALFORMED otherwise. */
RC identity_binding_decode(struct span value, struct identity_binding *out);

struct identity_verify_cfg {
    uint64_t chain_id;
    uint64_t now_unix_s;
    uint64_t skew_s; /* How far the peer's clock may be from ours. */
};

struct identity_peer {
    struct wallet wallet;
    uint64_t not_before_unix_s;
    uint64_t not_after_unix_s; /* The connection's identity ends here, whatever it does. */
};

/* Checks the binding in crt (the leaf only; crt->next is not looked at) and gives the wallet. The
 * certificate's own signature is not checked: the wallet's signature covers the key, and nothing
 * else in the certificate is believed. That the peer holds the key is for the handshake to prove.
 * On error *why is UNAUTHENTICATED with one sentence, and *out is zero.
 *
 * MALFORMED: no binding, several, a critical one, or one that does not decode; a key that is not an
 * uncompressed P-256 point; dates that differ from the certificate's. EXPIRED: not valid now,
 * within the skew. TOO_BIG: valid for more than IDENTITY_SPAN_S_MAX. BAD_AUTH: signed by another
 * wallet, for another key, chain or dates. CRYPTO. Reads no clock; about 60 microseconds. Any
 * thread. */
RC identity_verify(const mbedtls_x509_crt *crt, const struct identity_verify_cfg *cfg,
                   struct identity_peer *out, struct status *why);
/* The same for a certificate in DER, with nothing after it. */
RC identity_verify_der(struct span der, const struct identity_verify_cfg *cfg,
                       struct identity_peer *out, struct status *why);
