/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/kdf.h"

#include <stdio.h>

#include "crypto/keccak.h"
#include "crypto/sha256.h"

/* "nova-kms:v2:app:", 20 digits, NUL. */
#define SALT_BYTES 37

_Static_assert(SALT_BYTES <= SHA256_BLOCK_BYTES, "HMAC keys here need no hashing first");

RC kdf_master_init(struct kdf_master *master, const uint8_t secret[static KDF_MASTER_BYTES]) {
    *master = (struct kdf_master){ 0 };
    TRY(secret_init(&master->secret, KDF_MASTER_BYTES));
    memcpy(master->secret.ptr, secret, KDF_MASTER_BYTES);
    keccak256((struct span){ secret, KDF_MASTER_BYTES }, master->hash);
    return OK;
}

void kdf_master_close(struct kdf_master *master) {
    secret_close(&master->secret);
    *master = (struct kdf_master){ 0 };
}

static void expander_init(struct kdf_expander *e) {
    mbedtls_sha256_init(&e->inner);
    mbedtls_sha256_init(&e->outer);
}

static void expander_close(struct kdf_expander *e) {
    mbedtls_sha256_free(&e->inner);
    mbedtls_sha256_free(&e->outer);
}

/* Starts one of HMAC's two hashes (RFC 2104): the key, padded and xored, is its first block. */
static RC absorb_pad(mbedtls_sha256_context *hash, struct span key, uint8_t pad_byte) {
    uint8_t pad[SHA256_BLOCK_BYTES];
    memset(pad, pad_byte, sizeof(pad));
    for (size_t i = 0; i < key.len; i++) {
        pad[i] ^= key.ptr[i];
    }
    bool ok = sha256_starts(hash) == 0 && sha256_update(hash, pad, sizeof(pad)) == 0;
    secret_wipe(pad, sizeof(pad));
    ENSURE(ok, CRYPTO);
    return OK;
}

/* key is at most one block. */
static RC expander_start(struct kdf_expander *e, struct span key) {
    ASSERT(key.len <= SHA256_BLOCK_BYTES);
    TRY(absorb_pad(&e->inner, key, 0x36));
    return absorb_pad(&e->outer, key, 0x5c);
}

/* HMAC of the parts, one after the other, from the states in e. */
static RC hmac(const struct kdf_expander *e, const struct span *parts, size_t part_count,
               uint8_t out[static SHA256_BYTES]) {
    AUTO(mbedtls_sha256_free) mbedtls_sha256_context hash;
    mbedtls_sha256_init(&hash);
    mbedtls_sha256_clone(&hash, &e->inner);
    for (size_t i = 0; i < part_count; i++) {
        ENSURE(sha256_update(&hash, parts[i].ptr, parts[i].len) == 0, CRYPTO);
    }
    ENSURE(sha256_finish(&hash, out) == 0, CRYPTO);
    mbedtls_sha256_clone(&hash, &e->outer);
    ENSURE(sha256_update(&hash, out, SHA256_BYTES) == 0, CRYPTO);
    ENSURE(sha256_finish(&hash, out) == 0, CRYPTO);
    return OK;
}

/* HKDF-Extract: the key to expand is HMAC(salt, master). */
static RC extract(struct kdf_expander *e, struct span salt, const struct kdf_master *master) {
    AUTO(expander_close) struct kdf_expander salted;
    expander_init(&salted);
    TRY(expander_start(&salted, salt));
    uint8_t prk[SHA256_BYTES];
    const struct span secret = { master->secret.ptr, master->secret.len };
    struct rc rc = hmac(&salted, &secret, 1, prk);
    if (rc.err == E_OK) {
        rc = expander_start(e, (struct span){ prk, sizeof(prk) });
    }
    secret_wipe(prk, sizeof(prk));
    return rc;
}

RC kdf_app_init(struct kdf_app *app, const struct kdf_master *master, uint64_t app_id) {
    static const char *const salts[KDF_VARIANT_COUNT] = {
        [KDF_NOVA_V1] = "nova-kms:app:",
        [KDF_NOVA_V2] = "nova-kms:v2:app:",
    };
    ASSERT(master->secret.len == KDF_MASTER_BYTES);
    for (size_t i = 0; i < KDF_VARIANT_COUNT; i++) {
        expander_init(&app->expanders[i]);
    }
    for (size_t i = 0; i < KDF_VARIANT_COUNT; i++) {
        char salt[SALT_BYTES];
        int len = snprintf(salt, sizeof(salt), "%s%llu", salts[i], (unsigned long long)app_id);
        ASSERT(len > 0 && (size_t)len < sizeof(salt));
        struct rc rc = extract(&app->expanders[i], span_str(salt), master);
        if (rc.err != E_OK) {
            kdf_app_close(app);
            return rc;
        }
    }
    return OK;
}

void kdf_app_close(struct kdf_app *app) {
    for (size_t i = 0; i < KDF_VARIANT_COUNT; i++) {
        expander_close(&app->expanders[i]);
    }
    secret_wipe(app, sizeof(*app));
}

/* The previous block, the info in at most four pieces, the block's number. */
#define PART_COUNT_MAX 6

struct expansion {
    struct span parts[PART_COUNT_MAX]; /* parts[0] is the previous block, the last the number. */
    size_t part_count;
    uint8_t lengths[2][4]; /* V2's, big-endian. */
    uint8_t number;
    uint8_t block[SHA256_BYTES];
};

static void expansion_add(struct expansion *x, struct span part) {
    x->parts[x->part_count] = part;
    x->part_count++;
}

static void expansion_add_blob(struct expansion *x, size_t idx, struct span part) {
    for (size_t i = 0; i < 4; i++) {
        x->lengths[idx][i] = (uint8_t)(part.len >> (24 - 8 * i));
    }
    expansion_add(x, (struct span){ x->lengths[idx], 4 });
    expansion_add(x, part);
}

static void expansion_start(struct expansion *x, enum kdf_variant variant,
                            const struct kdf_input *input) {
    expansion_add(x, SPAN_EMPTY);
    switch (variant) {
    case KDF_NOVA_V1:
        expansion_add(x, input->path);
        if (input->context.len > 0) {
            expansion_add(x, SPAN_LIT(":"));
            expansion_add(x, input->context);
        }
        break;
    case KDF_NOVA_V2:
        expansion_add_blob(x, 0, input->path);
        expansion_add_blob(x, 1, input->context);
        break;
    }
    expansion_add(x, (struct span){ &x->number, 1 });
}

static RC expand(const struct kdf_expander *e, struct expansion *x, uint8_t *key, size_t key_len) {
    for (size_t at = 0; at < key_len; at += SHA256_BYTES) {
        x->number++;
        TRY(hmac(e, x->parts, x->part_count, x->block));
        x->parts[0] = (struct span){ x->block, sizeof(x->block) };
        size_t left = key_len - at;
        memcpy(key + at, x->block, left < sizeof(x->block) ? left : sizeof(x->block));
    }
    return OK;
}

RC kdf_derive(const struct kdf_app *app, enum kdf_variant variant, const struct kdf_input *input,
              uint8_t *key, size_t key_len) {
    ENSURE(key_len >= 1 && key_len <= KDF_KEY_BYTES_MAX, INVALID);
    ENSURE(input->path.len <= UINT32_MAX && input->context.len <= UINT32_MAX, TOO_BIG);
    ASSERT(variant < KDF_VARIANT_COUNT);
    struct expansion x = { 0 };
    expansion_start(&x, variant, input);
    struct rc rc = expand(&app->expanders[variant], &x, key, key_len);
    secret_wipe(x.block, sizeof(x.block));
    if (rc.err != E_OK) {
        secret_wipe(key, key_len);
    }
    return rc;
}

RC kdf_data_key(const struct kdf_app *app, uint8_t key[static KDF_DATA_KEY_BYTES]) {
    const struct kdf_input input = { SPAN_LIT("data_key"), SPAN_EMPTY };
    return kdf_derive(app, KDF_NOVA_V1, &input, key, KDF_DATA_KEY_BYTES);
}
