/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/odyn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"
#include "identity/odyn_answer.h"
#include "identity/odyn_http.h"
#include "identity/odyn_json.h"

#define PATH_ADDRESS "/v1/eth/address"
#define PATH_SIGN "/v1/eth/sign"
#define PATH_SIGN_TX "/v1/eth/sign-tx"
#define PATH_RANDOM "/v1/random"
#define PATH_KEY "/v1/encryption/public_key"
#define PATH_ENCRYPT "/v1/encryption/encrypt"
#define PATH_DECRYPT "/v1/encryption/decrypt"

/* The longest request: a text of which every byte is escaped. */
#define REQUEST_BYTES_MAX 32768

struct identity_odyn {
    struct odyn_http *http;
    struct secret request; /* May hold a plaintext. */
    struct wallet wallet;
    struct envelope_public key;
    bool has_wallet;
    bool has_key;
    struct status signer_why;
};

static struct identity_odyn_cfg with_defaults(const struct identity_odyn_cfg *cfg) {
    struct identity_odyn_cfg full = *cfg;
    full.base_url = full.base_url == NULL ? IDENTITY_ODYN_URL : full.base_url;
    full.connect_timeout_ms = full.connect_timeout_ms == 0 ? 1000 : full.connect_timeout_ms;
    full.attempt_timeout_ms = full.attempt_timeout_ms == 0 ? 5000 : full.attempt_timeout_ms;
    full.attempt_count_max = full.attempt_count_max == 0 ? 3 : full.attempt_count_max;
    full.backoff_ms = full.backoff_ms == 0 ? 100 : full.backoff_ms;
    return full;
}

RC identity_odyn_init(struct identity_odyn **out, const struct identity_odyn_cfg *cfg,
                      struct status *why) {
    *out = NULL;
    status_set(why, STATUS_RESOURCE_EXHAUSTED,
               "There is no memory, or none that can be locked, for talking to Odyn.");
    const struct identity_odyn_cfg full = with_defaults(cfg);
    if (full.attempt_count_max > IDENTITY_ODYN_ATTEMPT_COUNT_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "Odyn is asked at most %d times for one thing.",
                   IDENTITY_ODYN_ATTEMPT_COUNT_MAX);
        return ERR(BAD_CONFIG);
    }
    AUTO(identity_odyn_close) struct identity_odyn *odyn = calloc(1, sizeof(*odyn));
    ENSURE(odyn != NULL, NOMEM);
    TRY(odyn_http_init(&odyn->http, &full, why));
    TRY(secret_init(&odyn->request, REQUEST_BYTES_MAX));
    *why = (struct status){ .code = STATUS_OK };
    *out = odyn;
    odyn = NULL;
    return OK;
}

void identity_odyn_close(struct identity_odyn **odyn) {
    if (*odyn == NULL) {
        return;
    }
    odyn_http_close(&(*odyn)->http);
    secret_close(&(*odyn)->request);
    free(*odyn);
    *odyn = NULL;
}

void identity_odyn_cancel(struct identity_odyn *odyn) {
    odyn_http_cancel(odyn->http);
}

/* The wallet of the first answer is the only one there may be. */
static RC check_wallet(struct identity_odyn *odyn, const struct wallet *wallet,
                       struct status *why) {
    if (odyn->has_wallet && !wallet_equal(&odyn->wallet, wallet)) {
        char before[WALLET_TEXT_BYTES];
        char after[WALLET_TEXT_BYTES];
        status_set(why, STATUS_FAILED_PRECONDITION,
                   "Odyn's wallet changed from %s to %s: what was registered and signed for the "
                   "first is lost, and this process has to be started again.",
                   wallet_format(&odyn->wallet, before), wallet_format(wallet, after));
        return ERR(BAD_AUTH);
    }
    odyn->wallet = *wallet;
    odyn->has_wallet = true;
    return OK;
}

static RC check_key(struct identity_odyn *odyn, const struct envelope_public *key,
                    struct status *why) {
    if (odyn->has_key && !envelope_public_equal(&odyn->key, key)) {
        status_set(why, STATUS_FAILED_PRECONDITION,
                   "Odyn's encryption key changed: what was encrypted to the registered one cannot "
                   "be opened any more, and this process has to be started again.");
        return ERR(BAD_AUTH);
    }
    odyn->key = *key;
    odyn->has_key = true;
    return OK;
}

/* ---- Requests ---- */

static struct writer start_request(struct identity_odyn *odyn) {
    return (struct writer){ odyn->request.ptr, 0, odyn->request.len };
}

static RC add(struct writer *w, const char *text) {
    return write_span(w, span_str(text));
}

/* "0x", hex and the quotes, straight into w. */
static RC add_hex(struct writer *w, struct span bytes) {
    TRY(add(w, "\"0x"));
    ENSURE(w->bytes - w->len >= HEX_TEXT_BYTES(bytes.len), TOO_BIG);
    hex_encode(bytes, (char *)w->ptr + w->len);
    w->len += 2 * bytes.len;
    return add(w, "\"");
}

static RC add_public(struct writer *w, const struct envelope_public *key) {
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(key, der);
    return add_hex(w, (struct span){ der, sizeof(der) });
}

/* A quantity: hex without leading zeros. */
static RC add_quantity(struct writer *w, const char *name, uint64_t value) {
    char text[80];
    int len = snprintf(text, sizeof(text), "\"%s\":\"0x%llx\",", name, (unsigned long long)value);
    ASSERT(len > 0 && (size_t)len < sizeof(text));
    return add(w, text);
}

static RC add_value(struct writer *w, const uint8_t wei[static RLP_U256_BYTES]) {
    char text[HEX_TEXT_BYTES(RLP_U256_BYTES)];
    hex_encode((struct span){ wei, RLP_U256_BYTES }, text);
    const char *digits = text;
    while (digits[0] == '0' && digits[1] != '\0') {
        digits++;
    }
    TRY(add(w, "\"value\":\"0x"));
    TRY(add(w, digits));
    return add(w, "\",");
}

/* Wipes the request, whatever came of it, and the answer on error. */
static RC call(struct identity_odyn *odyn, const struct odyn_call *request,
               struct odyn_answer *answer, struct status *why) {
    answer->path = request->path;
    struct rc rc = odyn_http_call(odyn->http, request, &answer->text, why);
    secret_wipe(odyn->request.ptr, request->body.len);
    if (rc.err != E_OK) {
        odyn_http_forget(odyn->http); /* Half a plaintext is one too. */
    }
    return rc;
}

/* Wipes the answer too, once it has been read. */
static RC done(struct identity_odyn *odyn, struct rc rc) {
    odyn_http_forget(odyn->http);
    return rc;
}

static RC get(struct identity_odyn *odyn, const char *path, struct odyn_answer *answer,
              struct status *why) {
    return call(odyn, &(struct odyn_call){ .path = path, .repeatable = true }, answer, why);
}

/* ---- The calls ---- */

RC identity_odyn_address(struct identity_odyn *odyn, struct wallet *out, struct status *why) {
    struct odyn_answer answer = { 0 };
    TRY(get(odyn, PATH_ADDRESS, &answer, why));
    TRY(done(odyn, odyn_answer_address(&answer, out, why)));
    return check_wallet(odyn, out, why);
}

static RC refuse_argument(struct status *why, const char *sentence) {
    status_set(why, STATUS_INVALID_ARGUMENT, "%s", sentence);
    return ERR(INVALID);
}

static RC write_sign(struct writer *w, struct span text) {
    TRY(add(w, "{\"message\":"));
    TRY(odyn_json_write_string(w, text));
    return add(w, ",\"include_attestation\":false}");
}

static RC check_signature(const struct odyn_signature *made, struct span text, struct status *why) {
    struct wallet signer;
    struct rc rc = eth_recover_message(text, &made->signature, &signer);
    if (rc.err == E_OK && wallet_equal(&signer, &made->wallet)) {
        return OK;
    }
    char wallet[WALLET_TEXT_BYTES];
    status_set(why, STATUS_INTERNAL,
               "Odyn's answer to " PATH_SIGN " holds a signature that its wallet %s did not make.",
               wallet_format(&made->wallet, wallet));
    return ERR(BAD_AUTH);
}

RC identity_odyn_sign(struct identity_odyn *odyn, struct span text, struct eth_signature *out,
                      struct status *why) {
    if (text.len == 0 || text.len > IDENTITY_ODYN_TEXT_BYTES_MAX || !span_is_utf8(text)) {
        return refuse_argument(why, "A text to sign must be 1 to 4096 bytes of UTF-8.");
    }
    struct writer w = start_request(odyn);
    TRY(write_sign(&w, text));
    const struct odyn_call request = { PATH_SIGN, writer_span(&w), .repeatable = true };
    struct odyn_answer answer = { 0 };
    TRY(call(odyn, &request, &answer, why));
    struct odyn_signature made;
    TRY(done(odyn, odyn_answer_sign(&answer, &made, why)));
    TRY(check_wallet(odyn, &made.wallet, why));
    TRY(check_signature(&made, text, why));
    *out = made.signature;
    return OK;
}

static RC write_sign_tx(struct writer *w, const struct eip1559_tx *tx) {
    TRY(add(w, "{\"include_attestation\":false,\"payload\":{\"kind\":\"structured\","));
    TRY(add_quantity(w, "chain_id", tx->chain_id));
    TRY(add_quantity(w, "nonce", tx->nonce));
    TRY(add_quantity(w, "max_priority_fee_per_gas", tx->max_priority_fee_per_gas_wei));
    TRY(add_quantity(w, "max_fee_per_gas", tx->max_fee_per_gas_wei));
    TRY(add_quantity(w, "gas_limit", tx->gas_limit));
    TRY(add_value(w, tx->value_wei));
    TRY(add(w, "\"to\":"));
    TRY(add_hex(w, wallet_span(&tx->to)));
    TRY(add(w, ",\"data\":"));
    TRY(add_hex(w, tx->data));
    return add(w, ",\"access_list\":[]}}");
}

static RC refuse_tx(struct status *why, const char *what) {
    status_set(why, STATUS_INTERNAL,
               "Odyn's answer to " PATH_SIGN_TX " is not the transaction it was asked to sign: %s.",
               what);
    return ERR(BAD_AUTH);
}

static RC check_tx(const struct eip1559_tx *tx, const struct identity_odyn_raw *raw,
                   const struct wallet *wallet, struct status *why) {
    struct eip1559_signed parsed;
    struct rc rc = eip1559_parse((struct span){ raw->bytes, raw->len }, &parsed);
    if (rc.err != E_OK) {
        return refuse_tx(why, "it is not a signed transaction of type 2 without access list");
    }
    enum eip1559_field field = eip1559_compare(tx, &parsed.tx);
    if (field != EIP1559_FIELD_NONE) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%s differs", eip1559_field_name(field));
        return refuse_tx(why, text);
    }
    if (!wallet_equal(&parsed.sender, wallet)) {
        return refuse_tx(why, "another wallet signed it");
    }
    if (!span_equal((struct span){ parsed.hash, sizeof(parsed.hash) },
                    (struct span){ raw->hash, sizeof(raw->hash) })) {
        return refuse_tx(why, "its hash is another");
    }
    return OK;
}

RC identity_odyn_sign_tx(struct identity_odyn *odyn, const struct eip1559_tx *tx,
                         struct identity_odyn_raw *out, struct status *why) {
    out->len = 0;
    if (tx->data.len > IDENTITY_ODYN_DATA_BYTES_MAX) {
        return refuse_argument(why, "A transaction's data must be at most 4096 bytes.");
    }
    struct writer w = start_request(odyn);
    TRY(write_sign_tx(&w, tx));
    const struct odyn_call request = { PATH_SIGN_TX, writer_span(&w), .repeatable = true };
    struct odyn_answer answer = { 0 };
    TRY(call(odyn, &request, &answer, why));
    struct wallet wallet;
    struct identity_odyn_raw raw;
    TRY(done(odyn, odyn_answer_sign_tx(&answer, &raw, &wallet, why)));
    TRY(check_wallet(odyn, &wallet, why));
    TRY(check_tx(tx, &raw, &wallet, why));
    *out = raw;
    return OK;
}

static RC take_random(const struct odyn_answer *answer, struct secret *out, struct status *why) {
    struct span text = SPAN_EMPTY;
    TRY(odyn_answer_secret(answer, "random_bytes", &text, why));
    uint8_t any = 0;
    struct rc rc = hex_decode(text, out->ptr, out->len);
    for (size_t i = 0; i < out->len; i++) {
        any |= out->ptr[i];
    }
    if (rc.err != E_OK || any == 0) {
        status_set(why, STATUS_INTERNAL,
                   "In Odyn's answer to %s the field random_bytes is not 32 random bytes in hex.",
                   answer->path);
        return ERR(MALFORMED);
    }
    return OK;
}

static RC give_secret(struct secret *out, size_t len, struct status *why) {
    struct rc rc = secret_init(out, len);
    if (rc.err != E_OK) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED, "There is no lockable memory for a secret.");
    }
    return rc;
}

RC identity_odyn_random(struct identity_odyn *odyn, struct secret *out, struct status *why) {
    *out = (struct secret){ 0 };
    struct odyn_answer answer = { 0 };
    TRY(get(odyn, PATH_RANDOM, &answer, why));
    struct rc rc = give_secret(out, IDENTITY_ODYN_RANDOM_BYTES, why);
    if (rc.err == E_OK) {
        rc = take_random(&answer, out, why);
    }
    if (rc.err != E_OK) {
        secret_close(out);
    }
    return done(odyn, rc);
}

RC identity_odyn_encryption_key(struct identity_odyn *odyn, struct envelope_public *out,
                                struct status *why) {
    struct odyn_answer answer = { 0 };
    TRY(get(odyn, PATH_KEY, &answer, why));
    TRY(done(odyn, odyn_answer_encryption_key(&answer, out, why)));
    return check_key(odyn, out, why);
}

static RC write_encrypt(struct writer *w, struct span plain,
                        const struct envelope_public *receiver) {
    TRY(add(w, "{\"client_public_key\":"));
    TRY(add_public(w, receiver));
    TRY(add(w, ",\"plaintext\":"));
    TRY(odyn_json_write_string(w, plain));
    return add(w, "}");
}

RC identity_odyn_encrypt(struct identity_odyn *odyn, struct span plain,
                         const struct envelope_public *receiver, struct identity_odyn_sealed *out,
                         struct status *why) {
    out->len = 0;
    if (plain.len == 0 || plain.len > IDENTITY_ODYN_PLAIN_BYTES_MAX || !span_is_utf8(plain)) {
        return refuse_argument(why, "A text to encrypt must be 1 to 4096 bytes of UTF-8.");
    }
    struct writer w = start_request(odyn);
    TRY(write_encrypt(&w, plain, receiver));
    const struct odyn_call request = { PATH_ENCRYPT, writer_span(&w), .repeatable = true };
    struct odyn_answer answer = { 0 };
    TRY(call(odyn, &request, &answer, why));
    struct envelope_public sender;
    struct identity_odyn_sealed sealed;
    TRY(done(odyn, odyn_answer_encrypt(&answer, &sealed, &sender, why)));
    TRY(check_key(odyn, &sender, why));
    if (sealed.len != plain.len + ENVELOPE_TAG_BYTES) {
        status_set(why, STATUS_INTERNAL,
                   "In Odyn's answer to " PATH_ENCRYPT " the field encrypted_data has %zu bytes "
                   "instead of %zu.",
                   sealed.len, plain.len + ENVELOPE_TAG_BYTES);
        return ERR(MALFORMED);
    }
    *out = sealed;
    return OK;
}

static RC write_decrypt(struct writer *w, const struct identity_odyn_sealed *sealed,
                        const struct envelope_public *sender) {
    TRY(add(w, "{\"nonce\":"));
    TRY(add_hex(w, (struct span){ sealed->nonce, sizeof(sealed->nonce) }));
    TRY(add(w, ",\"client_public_key\":"));
    TRY(add_public(w, sender));
    TRY(add(w, ",\"encrypted_data\":"));
    TRY(add_hex(w, (struct span){ sealed->bytes, sealed->len }));
    return add(w, "}");
}

static RC take_plaintext(const struct odyn_answer *answer, struct secret *out, struct status *why) {
    struct span text = SPAN_EMPTY;
    TRY(odyn_answer_secret(answer, "plaintext", &text, why));
    if (text.len == 0 || text.len > IDENTITY_ODYN_PLAIN_BYTES_MAX) {
        status_set(why, STATUS_INTERNAL,
                   "In Odyn's answer to %s the field plaintext has %zu bytes, not 1 to %d.",
                   answer->path, text.len, IDENTITY_ODYN_PLAIN_BYTES_MAX);
        return ERR(MALFORMED);
    }
    TRY(give_secret(out, text.len, why));
    return span_copy(text, out->ptr, out->len);
}

RC identity_odyn_decrypt(struct identity_odyn *odyn, const struct identity_odyn_sealed *sealed,
                         const struct envelope_public *sender, struct secret *out,
                         struct status *why) {
    *out = (struct secret){ 0 };
    if (sealed->len <= ENVELOPE_TAG_BYTES || sealed->len > sizeof(sealed->bytes)) {
        return refuse_argument(why, "Encrypted data must be 17 to 4112 bytes.");
    }
    struct writer w = start_request(odyn);
    TRY(write_decrypt(&w, sealed, sender));
    const struct odyn_call request = { PATH_DECRYPT, writer_span(&w), .repeatable = false };
    struct odyn_answer answer = { 0 };
    TRY(call(odyn, &request, &answer, why));
    return done(odyn, take_plaintext(&answer, out, why));
}

/* ---- The signer ---- */

static RC sign_text(void *ctx, struct span text, struct eth_signature *out) {
    struct identity_odyn *odyn = ctx;
    return identity_odyn_sign(odyn, text, out, &odyn->signer_why);
}

RC identity_odyn_signer(struct identity_odyn *odyn, struct identity_signer *out,
                        struct status *why) {
    if (!odyn->has_wallet) {
        struct wallet wallet;
        TRY(identity_odyn_address(odyn, &wallet, why));
    }
    *out = (struct identity_signer){ odyn->wallet, sign_text, odyn };
    return OK;
}

const struct status *identity_odyn_signer_why(const struct identity_odyn *odyn) {
    return &odyn->signer_why;
}
