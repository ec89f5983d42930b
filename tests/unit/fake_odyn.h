/* SPDX-License-Identifier: Apache-2.0 */
/* An Odyn with real keys behind a scripted server: it names its wallet and its P-384 key, encrypts
 * and decrypts with it, and fails or hangs where a test tells it to. */
#pragma once

#include <semaphore.h>

#include <jansson.h>

#include "base/hex.h"
#include "base/wallet.h"
#include "crypto/envelope.h"
#include "script_server.h"

#define FAKE_ODYN_TEXT_BYTES 4096

struct fake_odyn {
    struct script_server *server;
    struct wallet wallet;
    struct envelope_key key;
    uint8_t nonce; /* Of the last envelope: each has another. */
    bool is_broken;
    bool is_hanging;
    sem_t hung; /* Posted for each request that it hangs on. */
};

static inline json_t *fake_odyn_hex(struct span bytes) {
    char text[2 + HEX_TEXT_BYTES(FAKE_ODYN_TEXT_BYTES)] = "0x";
    ASSERT(bytes.len <= FAKE_ODYN_TEXT_BYTES);
    hex_encode(bytes, text + 2);
    return json_string(text);
}

static inline json_t *fake_odyn_public(const struct fake_odyn *odyn) {
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(&odyn->key.public_key, der);
    return fake_odyn_hex((struct span){ der, sizeof(der) });
}

/* Gives the length. */
static inline size_t fake_odyn_take(const json_t *in, const char *name, uint8_t *out,
                                    size_t bytes) {
    struct span text = span_str(json_string_value(json_object_get(in, name)));
    size_t len = (text.len - (span_has_prefix(text, SPAN_LIT("0x")) ? 2 : 0)) / 2;
    ASSERT(len <= bytes && hex_decode(text, out, len).err == E_OK);
    return len;
}

static inline json_t *fake_odyn_encrypt(struct fake_odyn *odyn, const json_t *in) {
    struct span plain = span_str(json_string_value(json_object_get(in, "plaintext")));
    uint8_t der[ENVELOPE_DER_BYTES];
    uint8_t nonce[ENVELOPE_NONCE_BYTES] = { ++odyn->nonce };
    uint8_t sealed[FAKE_ODYN_TEXT_BYTES];
    struct envelope_public peer;
    size_t len = fake_odyn_take(in, "client_public_key", der, sizeof(der));
    ASSERT(plain.len + ENVELOPE_TAG_BYTES <= sizeof(sealed));
    ASSERT(envelope_public_parse((struct span){ der, len }, &peer).err == E_OK);
    const struct envelope envelope = { &odyn->key, &peer, nonce };
    ASSERT(envelope_seal(&envelope, plain, sealed).err == E_OK);
    return json_pack("{s:o, s:o, s:o}", "encrypted_data",
                     fake_odyn_hex((struct span){ sealed, plain.len + ENVELOPE_TAG_BYTES }),
                     "enclave_public_key", fake_odyn_public(odyn), "nonce",
                     fake_odyn_hex((struct span){ nonce, sizeof(nonce) }));
}

/* NULL: it does not open. */
static inline json_t *fake_odyn_decrypt(const struct fake_odyn *odyn, const json_t *in) {
    uint8_t der[ENVELOPE_DER_BYTES];
    uint8_t nonce[ENVELOPE_NONCE_BYTES];
    uint8_t sealed[FAKE_ODYN_TEXT_BYTES];
    uint8_t plain[FAKE_ODYN_TEXT_BYTES];
    struct envelope_public peer;
    size_t der_len = fake_odyn_take(in, "client_public_key", der, sizeof(der));
    size_t len = fake_odyn_take(in, "encrypted_data", sealed, sizeof(sealed));
    (void)fake_odyn_take(in, "nonce", nonce, sizeof(nonce));
    ASSERT(envelope_public_parse((struct span){ der, der_len }, &peer).err == E_OK);
    const struct envelope envelope = { &odyn->key, &peer, nonce };
    if (envelope_open(&envelope, (struct span){ sealed, len }, plain).err != E_OK) {
        return NULL;
    }
    return json_pack("{s:s#}", "plaintext", plain, (int)(len - ENVELOPE_TAG_BYTES));
}

static inline json_t *fake_odyn_result(struct fake_odyn *odyn, const json_t *in) {
    const char *request = odyn->server->request;
    char wallet[WALLET_TEXT_BYTES];
    if (strstr(request, " /v1/eth/address ") != NULL) {
        return json_pack("{s:s}", "address", wallet_format(&odyn->wallet, wallet));
    }
    if (strstr(request, " /v1/encryption/public_key ") != NULL) {
        return json_pack("{s:o}", "public_key_der", fake_odyn_public(odyn));
    }
    if (strstr(request, " /v1/encryption/encrypt ") != NULL) {
        return fake_odyn_encrypt(odyn, in);
    }
    ASSERT(strstr(request, " /v1/encryption/decrypt ") != NULL);
    return fake_odyn_decrypt(odyn, in);
}

static inline enum script_next fake_odyn_answer(void *ctx, struct script_server *server,
                                                const char *body) {
    struct fake_odyn *odyn = ctx;
    if (odyn->is_hanging) {
        (void)sem_post(&odyn->hung);
        return SCRIPT_HANG;
    }
    json_t *in = json_loads(body, 0, NULL);
    json_t *out = odyn->is_broken ? NULL : fake_odyn_result(odyn, in);
    char *text = json_dumps(out, 0);
    script_reply(server, odyn->is_broken ? 500 : (out == NULL ? 400 : 200),
                 text == NULL ? "{\"error\":\"no\"}" : text);
    free(text);
    json_decref(out);
    json_decref(in);
    return SCRIPT_KEEP;
}

/* Whatever the test changes in it, it changes under its server's lock. */
static inline void fake_odyn_start(struct fake_odyn *odyn, uint8_t wallet) {
    *odyn = (struct fake_odyn){ .wallet = { { wallet, wallet } } };
    assert_ok(envelope_key_init(&odyn->key));
    assert_int_equal(sem_init(&odyn->hung, 0, 0), 0);
    odyn->server = script_start(fake_odyn_answer, odyn);
}

static inline void fake_odyn_stop(struct fake_odyn *odyn) {
    script_stop(&odyn->server);
    envelope_key_close(&odyn->key);
    (void)sem_destroy(&odyn->hung);
}
