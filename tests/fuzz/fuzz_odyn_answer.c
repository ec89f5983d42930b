/* SPDX-License-Identifier: Apache-2.0 */
/* What Odyn answers. The first byte chooses the call, the rest is the body of the answer. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "identity/odyn_answer.h"
#include "identity/odyn_json.h"

/* A refusal has a sentence. */
static void check(struct rc rc, const struct status *why) {
    ASSERT((rc.err == E_OK) == (why->text[0] == '\0'));
}

static void try_signatures(const struct odyn_answer *answer) {
    struct status why = { .code = STATUS_OK };
    struct odyn_signature signature;
    struct rc rc = odyn_answer_sign(answer, &signature, &why);
    check(rc, &why);
    ASSERT(rc.err != E_OK || signature.signature.bytes[ETH_SIGNATURE_BYTES - 1] >= 27);
    why = (struct status){ .code = STATUS_OK };
    struct identity_odyn_raw raw;
    struct wallet wallet;
    rc = odyn_answer_sign_tx(answer, &raw, &wallet, &why);
    check(rc, &why);
    ASSERT(rc.err != E_OK || raw.len <= sizeof(raw.bytes));
}

static void try_keys(const struct odyn_answer *answer) {
    struct status why = { .code = STATUS_OK };
    struct wallet wallet;
    struct rc rc = odyn_answer_address(answer, &wallet, &why);
    check(rc, &why);
    why = (struct status){ .code = STATUS_OK };
    struct envelope_public key;
    rc = odyn_answer_encryption_key(answer, &key, &why);
    check(rc, &why);
    why = (struct status){ .code = STATUS_OK };
    struct identity_odyn_sealed sealed;
    rc = odyn_answer_encrypt(answer, &sealed, &key, &why);
    check(rc, &why);
    ASSERT(rc.err != E_OK || sealed.len <= sizeof(sealed.bytes));
}

/* What was taken is written and taken again: it must be the same text. */
static void try_secret(const struct odyn_answer *answer) {
    struct status why = { .code = STATUS_OK };
    struct span text = SPAN_EMPTY;
    struct rc rc = odyn_answer_secret(answer, "plaintext", &text, &why);
    check(rc, &why);
    if (rc.err != E_OK) {
        return;
    }
    const size_t room = 6 * text.len + 32;
    uint8_t *again = malloc(room);
    ASSERT(again != NULL);
    struct writer w = { again, 0, room };
    ASSERT(write_span(&w, SPAN_LIT("{\"plaintext\":")).err == E_OK);
    ASSERT(odyn_json_write_string(&w, text).err == E_OK);
    ASSERT(write_span(&w, SPAN_LIT("}")).err == E_OK);
    struct span back = SPAN_EMPTY;
    ASSERT(odyn_json_take_string(again, w.len, "plaintext", &back).err == E_OK);
    ASSERT(span_equal(text, back));
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const size_t len = size - 1;
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    ASSERT(copy != NULL);
    memcpy(copy, data + 1, len);
    const struct odyn_answer answer = { "/v1/fuzz", { copy, len } };
    switch (data[0]) {
    case 's':
        try_signatures(&answer);
        break;
    case 'k':
        try_keys(&answer);
        break;
    default:
        try_secret(&answer);
        break;
    }
    free(copy);
    return 0;
}
