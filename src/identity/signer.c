/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/signer.h"

RC identity_sign(const struct identity_signer *signer, struct span text,
                 struct eth_signature *out) {
    ENSURE(!span_has_prefix(text, SPAN_LIT(IDENTITY_TEXT_PREFIX)), DENIED);
    return signer->sign_text(signer->ctx, text, out);
}
