/* SPDX-License-Identifier: Apache-2.0 */
/* An attestation document of the shape that AWS Nitro's security module makes, for development: a
 * COSE_Sign1 whose signature is 96 zero bytes, whose measurements are zero and which holds no
 * certificate. No verifier that checks anything takes it for a real one. */
#pragma once

#include <jansson.h>

#include "sim.h"

/* The security module's own limits. */
#define ATTESTATION_NONCE_BYTES_MAX 512
#define ATTESTATION_USER_DATA_BYTES_MAX 512
#define ATTESTATION_KEY_BYTES_MAX 1024
#define ATTESTATION_BYTES_MAX 4096

struct attestation_request {
    struct span nonce;       /* Empty: null in the document. */
    struct span public_key;  /* Empty: the P-384 key. */
    const json_t *user_data; /* An object, or NULL; eth_addr is added to it. */
};

/* Appends the document. TOO_BIG over the limits above; NOMEM. */
RC attestation_write(const struct sim *sim, const struct attestation_request *request,
                     struct writer *w);
