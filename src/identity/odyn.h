/* SPDX-License-Identifier: Apache-2.0 */
/* Odyn, the enclave's own service, over HTTP on loopback: it holds the wallet's key and the P-384
 * key, and signs, encrypts and decrypts with them. Nothing it answers is believed that can be
 * checked: signatures must recover to its wallet, a signed transaction must be the one asked for.
 *
 * Every call blocks, for attempt_count_max attempts and the pauses between them at the most: never
 * on a thread that serves requests. One thread at a time, except identity_odyn_cancel.
 *
 * On error *why holds one sentence: what failed, at which call, and what Odyn said. Besides the
 * errors a call names: UNAVAILABLE (unreachable, or 5xx), TIMEOUT, IO (the answer ends early),
 * CLOSED (cancelled), INVALID (400), TOO_BIG (413, or an answer over its limit), MALFORMED (any
 * other status, or an answer that is not what Odyn answers), BAD_AUTH (another wallet or key than
 * before), NOMEM.
 *
 * The first wallet and the first encryption key that Odyn names are this object's for good. They
 * change only when Odyn has restarted, and with it the enclave: what was proven for the old ones
 * holds for nobody then, so a later answer with others fails with BAD_AUTH. */
#pragma once

#include "base/secret.h"
#include "base/status.h"
#include "crypto/eip1559.h"
#include "crypto/envelope.h"
#include "identity/signer.h"

#define IDENTITY_ODYN_URL "http://127.0.0.1:18000"
#define IDENTITY_ODYN_TEXT_BYTES_MAX 4096
#define IDENTITY_ODYN_DATA_BYTES_MAX 4096
#define IDENTITY_ODYN_RAW_BYTES_MAX (IDENTITY_ODYN_DATA_BYTES_MAX + EIP1559_OVERHEAD_BYTES)
#define IDENTITY_ODYN_PLAIN_BYTES_MAX 4096
#define IDENTITY_ODYN_SEALED_BYTES_MAX (IDENTITY_ODYN_PLAIN_BYTES_MAX + ENVELOPE_TAG_BYTES)
#define IDENTITY_ODYN_RANDOM_BYTES 32
#define IDENTITY_ODYN_ATTEMPT_COUNT_MAX 10

struct identity_odyn; /* Opaque. */

/* 0 and NULL choose the default. */
struct identity_odyn_cfg {
    const char *base_url;        /* http, a loopback host, no path. IDENTITY_ODYN_URL. */
    uint32_t connect_timeout_ms; /* 1000. */
    uint32_t attempt_timeout_ms; /* 5000: from the first byte to the last. */
    uint32_t attempt_count_max;  /* 3; 1 never repeats. At most IDENTITY_ODYN_ATTEMPT_COUNT_MAX. */
    uint32_t backoff_ms;         /* 100: before the second attempt; doubles, at most 2 s, half of
                                     it random. */
};

/* Gives *out, NULL on error. Copies cfg. Calls nobody. BAD_CONFIG: base_url is not an http URL of a
 * loopback host, because whoever answers there speaks for this process; or attempt_count_max. */
RC identity_odyn_init(struct identity_odyn **out, const struct identity_odyn_cfg *cfg,
                      struct status *why);
/* Takes *odyn, wipes, sets NULL. Accepts NULL in it. */
void identity_odyn_close(struct identity_odyn **odyn);
/* The call under way and every later one fail with CLOSED. Any thread, until
 * identity_odyn_close. */
void identity_odyn_cancel(struct identity_odyn *odyn);

/* Gives Odyn's wallet. */
RC identity_odyn_address(struct identity_odyn *odyn, struct wallet *out, struct status *why);
/* Signs text (EIP-191), which is 1 to IDENTITY_ODYN_TEXT_BYTES_MAX bytes of UTF-8 (INVALID). Any
 * text: what a stranger chose goes through identity_sign. v is 27 or 28. BAD_AUTH when the
 * signature is not the wallet's. */
RC identity_odyn_sign(struct identity_odyn *odyn, struct span text, struct eth_signature *out,
                      struct status *why);

struct identity_odyn_raw {
    uint8_t bytes[IDENTITY_ODYN_RAW_BYTES_MAX];
    size_t len;
    uint8_t hash[KECCAK256_BYTES]; /* Computed here. */
};
/* Signs tx, whose data is at most IDENTITY_ODYN_DATA_BYTES_MAX bytes (INVALID). *out holds exactly
 * that transaction, signed by the wallet; BAD_AUTH otherwise. */
RC identity_odyn_sign_tx(struct identity_odyn *odyn, const struct eip1559_tx *tx,
                         struct identity_odyn_raw *out, struct status *why);

/* Gives *out (secret_close): IDENTITY_ODYN_RANDOM_BYTES bytes of the hardware's randomness. All
 * zeros are refused (MALFORMED). */
RC identity_odyn_random(struct identity_odyn *odyn, struct secret *out, struct status *why);

/* Gives Odyn's P-384 key, the on-chain teePubkey. */
RC identity_odyn_encryption_key(struct identity_odyn *odyn, struct envelope_public *out,
                                struct status *why);

struct identity_odyn_sealed {
    uint8_t nonce[ENVELOPE_NONCE_BYTES];
    uint8_t bytes[IDENTITY_ODYN_SEALED_BYTES_MAX];
    size_t len;
};
/* Encrypts plain, 1 to IDENTITY_ODYN_PLAIN_BYTES_MAX bytes of UTF-8 (INVALID), from Odyn's key to
 * receiver. The request with plain in it is wiped. */
RC identity_odyn_encrypt(struct identity_odyn *odyn, struct span plain,
                         const struct envelope_public *receiver, struct identity_odyn_sealed *out,
                         struct status *why);
/* Gives *out (secret_close): what sender encrypted to Odyn's key, 1 to
 * IDENTITY_ODYN_PLAIN_BYTES_MAX bytes of UTF-8. Sent once: Odyn opens a nonce of a sender only once
 * and refuses it then (INVALID), as it refuses what was changed on the way. */
RC identity_odyn_decrypt(struct identity_odyn *odyn, const struct identity_odyn_sealed *sealed,
                         const struct envelope_public *sender, struct secret *out,
                         struct status *why);

/* Gives a signer that lends odyn. Asks for the wallet if it is not known yet. */
RC identity_odyn_signer(struct identity_odyn *odyn, struct identity_signer *out,
                        struct status *why);
/* Lends why the signer's last signature failed; empty after a success. */
const struct status *identity_odyn_signer_why(const struct identity_odyn *odyn);
