/* SPDX-License-Identifier: Apache-2.0 */
/* Who signs for this process's wallet: a local key (identity/keyfile.h), or the enclave's Odyn. */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/wallet.h"
#include "crypto/eth.h"

/* What a wallet's holder must never sign for a stranger: texts that start so are statements about
 * the wallet itself, the binding of a TLS key first of all. */
#define IDENTITY_TEXT_PREFIX "NovaKMS:"

/* Lent by whoever owns ctx, and used until that is closed. */
struct identity_signer {
    struct wallet wallet;
    /* Signs text as an EIP-191 personal message with the wallet's key; any text. May block, on the
     * network too: it never runs on a thread that serves requests. Not called by two threads at
     * once. UNAVAILABLE when the signer cannot be reached, CRYPTO. */
    RC (*sign_text)(void *ctx, struct span text, struct eth_signature *out);
    void *ctx;
};

/* Signs a text that someone else chose. DENIED when it starts with IDENTITY_TEXT_PREFIX: such a
 * signature would hand the wallet's identity to whoever asked. Blocks as sign_text does. */
RC identity_sign(const struct identity_signer *signer, struct span text, struct eth_signature *out);
