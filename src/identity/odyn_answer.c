/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/odyn_answer.h"

#include "base/hex.h"
#include "base/json.h"
#include "identity/odyn_http.h"
#include "identity/odyn_json.h"

#define V_BASE 27

static void free_json(json_t **value) {
    json_decref(*value);
}

static RC refuse(const struct odyn_answer *answer, const char *field, const char *what,
                 struct status *why) {
    status_set(why, STATUS_INTERNAL, "In Odyn's answer to %s the field %s %s.", answer->path, field,
               what);
    return ERR(MALFORMED);
}

static RC parse_object(const struct odyn_answer *answer, json_t **root, struct status *why) {
    char error[JSON_ERROR_BYTES];
    struct rc rc = json_parse(answer->text, ODYN_ANSWER_BYTES_MAX, root, error);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INTERNAL, "Odyn's answer to %s is not JSON%s%s.", answer->path,
                   error[0] == '\0' ? "" : ": ", error);
        return ERR(MALFORMED);
    }
    if (!json_is_object(*root)) {
        json_decref(*root);
        *root = NULL;
        status_set(why, STATUS_INTERNAL, "Odyn's answer to %s is not a JSON object.", answer->path);
        return ERR(MALFORMED);
    }
    return OK;
}

/* One field of an answer. */
struct field {
    const struct odyn_answer *answer;
    const json_t *root;
    const char *name;
};

static RC read_text(const struct field *field, struct span *out, struct status *why) {
    const json_t *value = json_object_get(field->root, field->name);
    if (value == NULL) {
        return refuse(field->answer, field->name, "is missing", why);
    }
    if (!json_is_string(value)) {
        return refuse(field->answer, field->name, "is not a string", why);
    }
    *out = (struct span){ (const uint8_t *)json_string_value(value), json_string_length(value) };
    return OK;
}

/* Hex of at most out_bytes bytes. */
static RC read_hex(const struct field *field, struct writer *out, struct status *why) {
    struct span text = SPAN_EMPTY;
    TRY(read_text(field, &text, why));
    size_t digits = text.len - (span_has_prefix(text, SPAN_LIT("0x")) ? 2 : 0);
    if (digits / 2 > out->bytes) {
        return refuse(field->answer, field->name, "is too long", why);
    }
    if (hex_decode(text, out->ptr, digits / 2).err != E_OK) {
        return refuse(field->answer, field->name, "is not hex", why);
    }
    out->len = digits / 2;
    return OK;
}

/* Hex of exactly len bytes. */
static RC read_hex_exact(const struct field *field, uint8_t *out, size_t len, struct status *why) {
    struct writer w = { out, 0, len };
    TRY(read_hex(field, &w, why));
    if (w.len != len) {
        return refuse(field->answer, field->name, "is too short", why);
    }
    return OK;
}

static RC read_wallet(const struct odyn_answer *answer, const json_t *root, struct wallet *out,
                      struct status *why) {
    const struct field field = { answer, root, "address" };
    struct span text = SPAN_EMPTY;
    TRY(read_text(&field, &text, why));
    if (wallet_parse(text, out).err != E_OK || wallet_is_zero(out)) {
        return refuse(answer, field.name, "is not a wallet", why);
    }
    return OK;
}

static RC read_key(const struct field *field, struct envelope_public *out, struct status *why) {
    uint8_t der[ENVELOPE_DER_BYTES];
    TRY(read_hex_exact(field, der, sizeof(der), why));
    struct rc rc = envelope_public_parse((struct span){ der, sizeof(der) }, out);
    if (rc.err != E_OK) {
        return refuse(field->answer, field->name, "is not a P-384 public key", why);
    }
    return OK;
}

RC odyn_answer_address(const struct odyn_answer *answer, struct wallet *out, struct status *why) {
    AUTO(free_json) json_t *root = NULL;
    TRY(parse_object(answer, &root, why));
    return read_wallet(answer, root, out, why);
}

RC odyn_answer_sign(const struct odyn_answer *answer, struct odyn_signature *out,
                    struct status *why) {
    AUTO(free_json) json_t *root = NULL;
    TRY(parse_object(answer, &root, why));
    TRY(read_wallet(answer, root, &out->wallet, why));
    const struct field field = { answer, root, "signature" };
    TRY(read_hex_exact(&field, out->signature.bytes, ETH_SIGNATURE_BYTES, why));
    uint8_t *v = &out->signature.bytes[ETH_SIGNATURE_BYTES - 1];
    *v = (uint8_t)(*v <= 1 ? *v + V_BASE : *v);
    if (*v != V_BASE && *v != V_BASE + 1) {
        return refuse(answer, field.name, "has a v other than 0, 1, 27 and 28", why);
    }
    return OK;
}

/* The field "signature" is not read: the transaction holds it, and there it is checked. */
RC odyn_answer_sign_tx(const struct odyn_answer *answer, struct identity_odyn_raw *out,
                       struct wallet *wallet, struct status *why) {
    AUTO(free_json) json_t *root = NULL;
    TRY(parse_object(answer, &root, why));
    TRY(read_wallet(answer, root, wallet, why));
    const struct field hash = { answer, root, "transaction_hash" };
    TRY(read_hex_exact(&hash, out->hash, sizeof(out->hash), why));
    const struct field raw = { answer, root, "raw_transaction" };
    struct writer w = { out->bytes, 0, sizeof(out->bytes) };
    TRY(read_hex(&raw, &w, why));
    out->len = w.len;
    return OK;
}

RC odyn_answer_encryption_key(const struct odyn_answer *answer, struct envelope_public *out,
                              struct status *why) {
    AUTO(free_json) json_t *root = NULL;
    TRY(parse_object(answer, &root, why));
    const struct field field = { answer, root, "public_key_der" };
    return read_key(&field, out, why);
}

RC odyn_answer_encrypt(const struct odyn_answer *answer, struct identity_odyn_sealed *out,
                       struct envelope_public *sender, struct status *why) {
    AUTO(free_json) json_t *root = NULL;
    TRY(parse_object(answer, &root, why));
    const struct field key = { answer, root, "enclave_public_key" };
    TRY(read_key(&key, sender, why));
    const struct field nonce = { answer, root, "nonce" };
    TRY(read_hex_exact(&nonce, out->nonce, sizeof(out->nonce), why));
    const struct field sealed = { answer, root, "encrypted_data" };
    struct writer w = { out->bytes, 0, sizeof(out->bytes) };
    TRY(read_hex(&sealed, &w, why));
    out->len = w.len;
    return OK;
}

RC odyn_answer_secret(const struct odyn_answer *answer, const char *field, struct span *out,
                      struct status *why) {
    uint8_t *text = (uint8_t *)(uintptr_t)answer->text.ptr; /* Ours, and not constant. */
    struct rc rc = odyn_json_take_string(text, answer->text.len, field, out);
    if (rc.err == E_NOT_FOUND) {
        return refuse(answer, field, "is missing", why);
    }
    if (rc.err == E_INVALID) {
        return refuse(answer, field, "is not a string", why);
    }
    if (rc.err != E_OK) {
        status_set(why, STATUS_INTERNAL, "Odyn's answer to %s is not a JSON object of strings.",
                   answer->path);
        return ERR(MALFORMED);
    }
    return OK;
}
