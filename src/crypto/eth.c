/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/eth.h"

#include <pthread.h>
#include <stdio.h>

#include <secp256k1.h>
#include <secp256k1_recovery.h>

#include "crypto/random.h"

#define V_BASE 27

static pthread_once_t context_once = PTHREAD_ONCE_INIT;
static secp256k1_context *context; /* NULL if it could not be made. Constant once made. */

/* Randomized, so that the timing and power of signing do not repeat from boot to boot. */
static void make_context(void) {
    uint8_t seed[32];
    if (random_bytes(seed, sizeof(seed)).err != E_OK) {
        return;
    }
    secp256k1_context *made = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    if (made != NULL && secp256k1_context_randomize(made, seed) != 1) {
        secp256k1_context_destroy(made);
        made = NULL;
    }
    secret_wipe(seed, sizeof(seed));
    context = made;
}

static RC use_context(const secp256k1_context **out) {
    ENSURE(pthread_once(&context_once, make_context) == 0, CRYPTO);
    ENSURE(context != NULL, CRYPTO);
    *out = context;
    return OK;
}

void eth_hash_message(struct span text, uint8_t hash[static KECCAK256_BYTES]) {
    char prefix[64];
    int len = snprintf(prefix, sizeof(prefix),
                       "\x19"
                       "Ethereum Signed Message:\n%zu",
                       text.len);
    ASSERT(len > 0 && (size_t)len < sizeof(prefix));
    const struct span parts[] = { span_str(prefix), text };
    keccak256_parts(parts, 2, hash);
}

static RC check_key(const secp256k1_context *ctx, const struct secret *key) {
    ENSURE(key->ptr != NULL && key->len == ETH_KEY_BYTES, INVALID);
    ENSURE(secp256k1_ec_seckey_verify(ctx, key->ptr) == 1, INVALID);
    return OK;
}

RC eth_sign_hash(const struct secret *key, const uint8_t hash[static KECCAK256_BYTES],
                 struct eth_signature *out) {
    const secp256k1_context *ctx = NULL;
    TRY(use_context(&ctx));
    TRY(check_key(ctx, key));
    secp256k1_ecdsa_recoverable_signature made;
    ENSURE(secp256k1_ecdsa_sign_recoverable(ctx, &made, hash, key->ptr, NULL, NULL) == 1, CRYPTO);
    int recovery_id = 0;
    ENSURE(secp256k1_ecdsa_recoverable_signature_serialize_compact(ctx, out->bytes, &recovery_id,
                                                                   &made) == 1,
           CRYPTO);
    /* 2 and 3 mean an r beyond the group's order: no message is known that gives one. */
    ENSURE(recovery_id <= 1, CRYPTO);
    out->bytes[64] = (uint8_t)(V_BASE + recovery_id);
    return OK;
}

RC eth_sign_message(const struct secret *key, struct span text, struct eth_signature *out) {
    uint8_t hash[KECCAK256_BYTES];
    eth_hash_message(text, hash);
    return eth_sign_hash(key, hash, out);
}

static RC write_point(const secp256k1_context *ctx, const secp256k1_pubkey *key,
                      uint8_t point[static ETH_POINT_BYTES]) {
    size_t len = ETH_POINT_BYTES;
    ENSURE(secp256k1_ec_pubkey_serialize(ctx, point, &len, key, SECP256K1_EC_UNCOMPRESSED) == 1,
           CRYPTO);
    return OK;
}

static RC wallet_of_public_key(const secp256k1_context *ctx, const secp256k1_pubkey *key,
                               struct wallet *out) {
    uint8_t point[ETH_POINT_BYTES];
    TRY(write_point(ctx, key, point));
    uint8_t hash[KECCAK256_BYTES];
    /* Without the byte that says "uncompressed". */
    keccak256((struct span){ point + 1, sizeof(point) - 1 }, hash);
    memcpy(out->bytes, hash + sizeof(hash) - WALLET_BYTES, WALLET_BYTES);
    return OK;
}

static RC parse_signature(const secp256k1_context *ctx, const struct eth_signature *signature,
                          secp256k1_ecdsa_recoverable_signature *out) {
    unsigned v = signature->bytes[64];
    v -= v >= V_BASE ? V_BASE : 0;
    ENSURE(v <= 1, MALFORMED);
    ENSURE(secp256k1_ecdsa_recoverable_signature_parse_compact(ctx, out, signature->bytes,
                                                               (int)v) == 1,
           MALFORMED);
    secp256k1_ecdsa_signature plain;
    ENSURE(secp256k1_ecdsa_recoverable_signature_convert(ctx, &plain, out) == 1, CRYPTO);
    /* Says 1 when s was high. */
    ENSURE(secp256k1_ecdsa_signature_normalize(ctx, NULL, &plain) == 0, MALFORMED);
    return OK;
}

RC eth_recover_hash(const uint8_t hash[static KECCAK256_BYTES],
                    const struct eth_signature *signature, struct wallet *out) {
    const secp256k1_context *ctx = NULL;
    TRY(use_context(&ctx));
    secp256k1_ecdsa_recoverable_signature parsed;
    TRY(parse_signature(ctx, signature, &parsed));
    secp256k1_pubkey key;
    ENSURE(secp256k1_ecdsa_recover(ctx, &key, &parsed, hash) == 1, BAD_AUTH);
    return wallet_of_public_key(ctx, &key, out);
}

RC eth_recover_message(struct span text, const struct eth_signature *signature,
                       struct wallet *out) {
    uint8_t hash[KECCAK256_BYTES];
    eth_hash_message(text, hash);
    return eth_recover_hash(hash, signature, out);
}

static RC public_of_key(const secp256k1_context *ctx, const struct secret *key,
                        secp256k1_pubkey *out) {
    TRY(check_key(ctx, key));
    ENSURE(secp256k1_ec_pubkey_create(ctx, out, key->ptr) == 1, CRYPTO);
    return OK;
}

RC eth_wallet_of_key(const struct secret *key, struct wallet *out) {
    const secp256k1_context *ctx = NULL;
    TRY(use_context(&ctx));
    secp256k1_pubkey public_key;
    TRY(public_of_key(ctx, key, &public_key));
    return wallet_of_public_key(ctx, &public_key, out);
}

RC eth_point_of_key(const struct secret *key, uint8_t point[static ETH_POINT_BYTES]) {
    const secp256k1_context *ctx = NULL;
    TRY(use_context(&ctx));
    secp256k1_pubkey public_key;
    TRY(public_of_key(ctx, key, &public_key));
    return write_point(ctx, &public_key, point);
}
