/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wallet.h"

#include "base/hex.h"

bool wallet_equal(const struct wallet *a, const struct wallet *b) {
    return span_equal(wallet_span(a), wallet_span(b));
}

bool wallet_is_zero(const struct wallet *w) {
    static const struct wallet zero;
    return wallet_equal(w, &zero);
}

const char *wallet_format(const struct wallet *w, char text[static WALLET_TEXT_BYTES]) {
    text[0] = '0';
    text[1] = 'x';
    hex_encode(wallet_span(w), text + 2);
    return text;
}

RC wallet_parse(struct span text, struct wallet *out) {
    ENSURE(span_has_prefix(text, SPAN_LIT("0x")), MALFORMED);
    return hex_decode(text, out->bytes, WALLET_BYTES);
}
