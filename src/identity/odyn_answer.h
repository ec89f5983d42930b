/* SPDX-License-Identifier: Apache-2.0 */
/* Odyn's answers, read strictly: bytes in, values out. For identity/odyn.c and its fuzz target.
 * MALFORMED for what is not the JSON of that answer; *why says which field is wrong. Any thread. */
#pragma once

#include "base/status.h"
#include "identity/odyn.h"

struct odyn_signature {
    struct eth_signature signature; /* v 27 or 28. */
    struct wallet wallet;           /* Odyn's word. */
};

/* An answer, and the path it answers, for the sentences. */
struct odyn_answer {
    const char *path;
    struct span text;
};

RC odyn_answer_address(const struct odyn_answer *answer, struct wallet *out, struct status *why);
RC odyn_answer_sign(const struct odyn_answer *answer, struct odyn_signature *out,
                    struct status *why);
/* The transaction as Odyn sent it, with its hash and wallet; not compared with each other yet. */
RC odyn_answer_sign_tx(const struct odyn_answer *answer, struct identity_odyn_raw *out,
                       struct wallet *wallet, struct status *why);
RC odyn_answer_encryption_key(const struct odyn_answer *answer, struct envelope_public *out,
                              struct status *why);
RC odyn_answer_encrypt(const struct odyn_answer *answer, struct identity_odyn_sealed *out,
                       struct envelope_public *sender, struct status *why);
/* Lends the one field of a secret answer, unescaped in place: the answer's text is changed. */
RC odyn_answer_secret(const struct odyn_answer *answer, const char *field, struct span *out,
                      struct status *why);
