/* SPDX-License-Identifier: Apache-2.0 */
/* Page tokens of List: where the next page begins, sealed under the app's data key, so that any
 * node of the cluster reads them and nobody changes them. Form: version 1 · nonce (24) · sealed
 * key. The associated data names app id 0, which no value has, and the prefix: a token is neither a
 * value nor good for another prefix. Any thread. */
#pragma once

#include "base/arena.h"
#include "crypto/xaes.h"

#define SERVICE_TOKEN_BYTES_MAX (1 + XAES_NONCE_BYTES + 1024 + XAES_TAG_BYTES)

/* Gives *out full, in the arena. IO when there are no random bytes, NOMEM, CRYPTO. */
RC service_token_seal(const struct xaes_key *key, struct span prefix, struct span after,
                      struct arena *arena, struct writer *out);
/* Gives *after in the arena. MALFORMED or BAD_AUTH for what service_token_seal did not make for
 * this app and prefix; NOMEM, CRYPTO. */
RC service_token_open(const struct xaes_key *key, struct span prefix, struct span token,
                      struct arena *arena, struct span *after);
