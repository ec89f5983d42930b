/* SPDX-License-Identifier: Apache-2.0 */
/* The P-384 key: its public half, the envelope, and attestation documents. */
#include <stdio.h>
#include <stdlib.h>

#include <mbedtls/base64.h>
#include <mbedtls/pk.h>

#include "api.h"
#include "attestation.h"
#include "base/hex.h"
#include "crypto/random.h"

#define PEM_LINE_CHARS 64
#define PEM_BYTES 512

static void free_span(struct span *span) {
    free((void *)(uintptr_t)span->ptr);
}

/* RFC 7468. */
static void write_pem(struct span der, char pem[static PEM_BYTES]) {
    char text[BASE64_TEXT_BYTES(ENVELOPE_DER_BYTES)];
    base64_encode(der, text);
    struct writer w = { (uint8_t *)pem, 0, PEM_BYTES - 1 };
    struct rc rc = write_span(&w, SPAN_LIT("-----BEGIN PUBLIC KEY-----\n"));
    for (size_t at = 0; at < strlen(text) && rc.err == E_OK; at += PEM_LINE_CHARS) {
        size_t left = strlen(text) - at;
        rc = write_span(&w, (struct span){ (const uint8_t *)text + at,
                                           left < PEM_LINE_CHARS ? left : PEM_LINE_CHARS });
        rc = rc.err == E_OK ? write_u8(&w, '\n') : rc;
    }
    rc = rc.err == E_OK ? write_span(&w, SPAN_LIT("-----END PUBLIC KEY-----\n")) : rc;
    ASSERT(rc.err == E_OK);
    pem[w.len] = '\0';
}

void api_public_key(struct sim *sim, const json_t *body, struct api_reply *reply) {
    (void)body;
    uint8_t der[ENVELOPE_DER_BYTES];
    char pem[PEM_BYTES];
    envelope_public_write(&sim->key.public_key, der);
    write_pem((struct span){ der, sizeof(der) }, pem);
    api_json(reply, json_pack("{so, ss}", "public_key_der",
                              api_hex((struct span){ der, sizeof(der) }), "public_key_pem", pem));
}

static bool take_peer(const json_t *body, struct envelope_public *out, struct api_reply *reply) {
    AUTO(free_span) struct span der = SPAN_EMPTY;
    if (!api_take_hex(body, "client_public_key", ENVELOPE_DER_BYTES, &der, reply)) {
        return false;
    }
    if (envelope_public_parse(der, out).err != E_OK) {
        api_text(reply, 400, "client_public_key must be a P-384 public key in DER");
        return false;
    }
    return true;
}

/* Hex without 0x, as these two calls write it. */
static json_t *bare_hex(struct span bytes) {
    char *text = malloc(HEX_TEXT_BYTES(bytes.len));
    ASSERT(text != NULL);
    hex_encode(bytes, text);
    json_t *value = json_string(text);
    free(text);
    return value;
}

static void reply_sealed(struct sim *sim, struct span sealed, const uint8_t *nonce,
                         struct api_reply *reply) {
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(&sim->key.public_key, der);
    api_json(reply, json_pack("{so, so, so}", "encrypted_data", bare_hex(sealed),
                              "enclave_public_key", bare_hex((struct span){ der, sizeof(der) }),
                              "nonce", bare_hex((struct span){ nonce, ENVELOPE_NONCE_BYTES })));
}

void api_encrypt(struct sim *sim, const json_t *body, struct api_reply *reply) {
    struct span plain = SPAN_EMPTY;
    struct envelope_public peer;
    if (!api_take_text(body, "plaintext", &plain, reply) || !take_peer(body, &peer, reply)) {
        return;
    }
    uint8_t nonce[ENVELOPE_NONCE_BYTES];
    uint8_t *sealed = malloc(plain.len + ENVELOPE_TAG_BYTES);
    ASSERT(sealed != NULL);
    struct rc rc = random_bytes(nonce, sizeof(nonce));
    if (rc.err == E_OK) {
        rc = envelope_seal(&(struct envelope){ &sim->key, &peer, nonce }, plain, sealed);
    }
    if (rc.err == E_OK) {
        reply_sealed(sim, (struct span){ sealed, plain.len + ENVELOPE_TAG_BYTES }, nonce, reply);
    } else {
        api_text(reply, 503, "cannot encrypt: %s", err_text(rc.err));
    }
    free(sealed);
}

/* What a caller sends to decrypt. */
struct sealed {
    struct envelope_public sender;
    struct span nonce;
    struct span data;
};

static void close_sealed(struct sealed *sealed) {
    free_span(&sealed->nonce);
    free_span(&sealed->data);
}

static bool take_sealed(const json_t *body, struct sealed *out, struct api_reply *reply) {
    if (!api_take_hex(body, "nonce", ENVELOPE_NONCE_BYTES, &out->nonce, reply) ||
        !take_peer(body, &out->sender, reply) ||
        !api_take_hex(body, "encrypted_data", SIM_BODY_BYTES_MAX, &out->data, reply)) {
        return false;
    }
    if (out->nonce.len != ENVELOPE_NONCE_BYTES) {
        api_text(reply, 400, "nonce must have 12 bytes");
        return false;
    }
    if (out->data.len < ENVELOPE_TAG_BYTES) {
        api_text(reply, 400, "encrypted_data must have at least 16 bytes");
        return false;
    }
    return true;
}

static void open_sealed(struct sim *sim, const struct sealed *in, struct api_reply *reply) {
    size_t len = in->data.len - ENVELOPE_TAG_BYTES;
    uint8_t *plain = malloc(len + 1);
    ASSERT(plain != NULL);
    struct rc rc =
        envelope_open(&(struct envelope){ &sim->key, &in->sender, in->nonce.ptr }, in->data, plain);
    if (rc.err != E_OK) {
        api_text(reply, 400, "cannot decrypt: %s", err_text(rc.err));
    } else if (!span_is_utf8((struct span){ plain, len })) {
        api_text(reply, 400, "the plaintext is not UTF-8");
    } else {
        api_json(reply, json_pack("{so}", "plaintext", json_stringn((const char *)plain, len)));
    }
    secret_wipe(plain, len + 1);
    free(plain);
}

/* A nonce counts as used from the first request with it, whether that can be opened or not: a
 * caller that repeats itself is found out here and not only at the real Odyn. */
void api_decrypt(struct sim *sim, const json_t *body, struct api_reply *reply) {
    AUTO(close_sealed) struct sealed in = { .nonce = SPAN_EMPTY, .data = SPAN_EMPTY };
    if (!take_sealed(body, &in, reply)) {
        return;
    }
    struct rc rc = sim_note_nonce(sim, &in.sender, in.nonce.ptr);
    if (rc.err == E_EXISTS) {
        api_text(reply, 400, "nonce already used by this client_public_key");
    } else if (rc.err != E_OK) {
        api_text(reply, 503, "no room for another nonce: %s", err_text(rc.err));
    } else {
        open_sealed(sim, &in, reply);
    }
}

/* ---- Attestation ---- */

static bool take_nonce(const json_t *body, struct writer *out, struct api_reply *reply) {
    struct span text = SPAN_EMPTY;
    const json_t *value = json_object_get(body, "nonce");
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (!api_take_text(body, "nonce", &text, reply)) {
        return false;
    }
    if (mbedtls_base64_decode(out->ptr, out->bytes, &out->len, text.ptr, text.len) != 0) {
        api_text(reply, 400, "nonce must be base64 of at most %zu bytes", out->bytes);
        return false;
    }
    return true;
}

/* PEM to the DER that goes into the document. */
static bool pem_to_der(const char *pem, struct writer *out) {
    AUTO(mbedtls_pk_free) mbedtls_pk_context pk;
    mbedtls_pk_init(&pk);
    if (mbedtls_pk_parse_public_key(&pk, (const unsigned char *)pem, strlen(pem) + 1) != 0) {
        return false;
    }
    int len = mbedtls_pk_write_pubkey_der(&pk, out->ptr, out->bytes);
    if (len <= 0) {
        return false;
    }
    /* It is written at the end of the room. */
    memmove(out->ptr, out->ptr + out->bytes - (size_t)len, (size_t)len);
    out->len = (size_t)len;
    return true;
}

static bool take_public_key(const json_t *body, struct writer *out, struct api_reply *reply) {
    const json_t *value = json_object_get(body, "public_key");
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (!json_is_string(value) || !pem_to_der(json_string_value(value), out)) {
        api_text(reply, 400, "public_key must be a public key in PEM");
        return false;
    }
    return true;
}

static bool take_user_data(const json_t *body, const json_t **out, struct api_reply *reply) {
    *out = json_object_get(body, "user_data");
    *out = json_is_null(*out) ? NULL : *out;
    if (*out != NULL && !json_is_object(*out)) {
        api_text(reply, 400, "user_data must be an object");
        return false;
    }
    return true;
}

void api_attestation(struct sim *sim, const json_t *body, struct api_reply *reply) {
    uint8_t nonce_bytes[ATTESTATION_NONCE_BYTES_MAX];
    uint8_t key_bytes[ATTESTATION_KEY_BYTES_MAX];
    struct writer nonce = { nonce_bytes, 0, sizeof(nonce_bytes) };
    struct writer key = { key_bytes, 0, sizeof(key_bytes) };
    struct attestation_request request = { .user_data = NULL };
    if (!take_nonce(body, &nonce, reply) || !take_public_key(body, &key, reply) ||
        !take_user_data(body, &request.user_data, reply)) {
        return;
    }
    request.nonce = writer_span(&nonce);
    request.public_key = writer_span(&key);
    uint8_t bytes[ATTESTATION_BYTES_MAX];
    struct writer w = { bytes, 0, sizeof(bytes) };
    struct rc rc = attestation_write(sim, &request, &w);
    if (rc.err != E_OK) {
        api_text(reply, 400, "user_data must have at most %d bytes with eth_addr in it",
                 ATTESTATION_USER_DATA_BYTES_MAX);
        return;
    }
    api_bytes(reply, "application/cbor", writer_span(&w));
}
