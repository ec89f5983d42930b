/* SPDX-License-Identifier: Apache-2.0 */
/* Odyn's envelope, which carries the cluster's master secret between enclaves: ECDH on P-384 (SEC
 * 1, NIST SP 800-56A), HKDF-SHA256 (RFC 5869) and AES-256-GCM (SP 800-38D).
 *
 *     key = HKDF(ikm = x of the shared point, salt = min(A, B) max(A, B) nonce,
 *                info = "capsule-ecdh-aes256gcm-v1", 32 bytes)
 *
 * A and B are the two public keys as uncompressed SEC 1 points, ordered as bytes, so both sides
 * make the same salt. No additional data. The keys are static: neither side proves that it is
 * alive, and a replay opens again; who needs more puts it into the plaintext, as the peers'
 * exchange does.
 *
 * Any thread. What mbedTLS computes with lies in its own heap, which it wipes; that is locked once
 * the process has called secret_harden_process. */
#pragma once

#include "base/bytes.h"
#include "base/secret.h"

#define ENVELOPE_SCALAR_BYTES 48
/* 0x04, x, y. */
#define ENVELOPE_POINT_BYTES 97
#define ENVELOPE_DER_BYTES 120
#define ENVELOPE_NONCE_BYTES 12
#define ENVELOPE_TAG_BYTES 16
#define ENVELOPE_PLAIN_BYTES_MAX (16 * 1024 * 1024)

/* A point of the curve, not the one at infinity: only the functions below make one. */
struct envelope_public {
    uint8_t sec1[ENVELOPE_POINT_BYTES];
};

static inline struct span envelope_public_span(const struct envelope_public *key) {
    return (struct span){ key->sec1, ENVELOPE_POINT_BYTES };
}
/* As raw SEC 1 bytes. */
bool envelope_public_equal(const struct envelope_public *a, const struct envelope_public *b);
/* Reads a DER SubjectPublicKeyInfo (RFC 5480), as teePubkey is on chain. P-384 and an uncompressed
 * point have exactly one encoding, and nothing else passes. MALFORMED for another length,
 * algorithm, curve or form, and for a point off the curve; CRYPTO, NOMEM. */
RC envelope_public_parse(struct span der, struct envelope_public *out);
/* The same of the bare point. */
RC envelope_public_from_point(struct span sec1, struct envelope_public *out);
/* The other way round: the DER that envelope_public_parse reads. */
void envelope_public_write(const struct envelope_public *key,
                           uint8_t der[static ENVELOPE_DER_BYTES]);

/* A key pair. Embedded; zero is closed. One owner to change it; any thread may seal and open. */
struct envelope_key {
    struct secret scalar; /* Big-endian. */
    struct envelope_public public_key;
};

/* A new key from the kernel's randomness. IO, CRYPTO, NOMEM. */
RC envelope_key_init(struct envelope_key *key);
/* Copies scalar; the caller wipes its own. INVALID unless it is 1 to the group's order minus 1;
 * CRYPTO, NOMEM. */
RC envelope_key_from_scalar(struct envelope_key *key,
                            const uint8_t scalar[static ENVELOPE_SCALAR_BYTES]);
/* Wipes. Accepts a zeroed or closed key. */
void envelope_key_close(struct envelope_key *key);

/* One message between two keys. All of it is lent. */
struct envelope {
    const struct envelope_key *own;
    const struct envelope_public *peer;
    const uint8_t *nonce; /* ENVELOPE_NONCE_BYTES; never twice for one pair of keys. */
};

/* Writes plain.len + ENVELOPE_TAG_BYTES bytes, ciphertext then tag. out does not overlap plain.
 * TOO_BIG over ENVELOPE_PLAIN_BYTES_MAX; CRYPTO, NOMEM. */
RC envelope_seal(const struct envelope *envelope, struct span plain, uint8_t *out);
/* Writes sealed.len - ENVELOPE_TAG_BYTES bytes. out does not overlap sealed. TRUNCATED when sealed
 * is shorter than a tag; TOO_BIG; BAD_AUTH when a key, the nonce or any byte differs, and then out
 * holds zeros; CRYPTO, NOMEM. */
RC envelope_open(const struct envelope *envelope, struct span sealed, uint8_t *out);
