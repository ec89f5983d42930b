/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/xaes.h"

#include <mbedtls/gcm.h>

#include "base/secret.h"

#define AES_BLOCK_BYTES 16
/* The nonce's first part picks the key, the second is GCM's own. */
#define SUBKEY_NONCE_BYTES 12
#define GCM_NONCE_BYTES (XAES_NONCE_BYTES - SUBKEY_NONCE_BYTES)

static RC aes_block(const struct xaes_key *key, const uint8_t in[static AES_BLOCK_BYTES],
                    uint8_t out[static AES_BLOCK_BYTES]) {
    /* mbedTLS does not say const, but writes to the context only if it has moved. */
    mbedtls_aes_context *aes = (mbedtls_aes_context *)(uintptr_t)&key->aes;
    ENSURE(mbedtls_aes_crypt_ecb(aes, MBEDTLS_AES_ENCRYPT, in, out) == 0, CRYPTO);
    return OK;
}

/* CMAC's K1 (NIST SP 800-38B, section 6.1): the encrypted zero block, doubled in GF(2^128). */
static RC make_k1(struct xaes_key *key) {
    static const uint8_t zero[AES_BLOCK_BYTES];
    uint8_t *k1 = key->k1;
    TRY(aes_block(key, zero, k1));
    uint8_t carry = (uint8_t)(0x87 & -(k1[0] >> 7)); /* No branch on key bits. */
    for (size_t i = 0; i + 1 < AES_BLOCK_BYTES; i++) {
        k1[i] = (uint8_t)(k1[i] << 1 | k1[i + 1] >> 7);
    }
    k1[AES_BLOCK_BYTES - 1] = (uint8_t)(k1[AES_BLOCK_BYTES - 1] << 1 ^ carry);
    return OK;
}

RC xaes_key_init(struct xaes_key *key, const uint8_t bytes[static XAES_KEY_BYTES]) {
    mbedtls_aes_init(&key->aes);
    bool ok = mbedtls_aes_setkey_enc(&key->aes, bytes, XAES_KEY_BYTES * 8) == 0;
    if (!ok || make_k1(key).err != E_OK) {
        xaes_key_close(key);
        return ERR(CRYPTO);
    }
    return OK;
}

void xaes_key_close(struct xaes_key *key) {
    mbedtls_aes_free(&key->aes);
    secret_wipe(key, sizeof(*key));
}

/* Two CMACs of one block each make the message's key (NIST SP 800-108, counter mode). */
static RC derive_subkey(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
                        uint8_t subkey[static XAES_KEY_BYTES]) {
    uint8_t block[AES_BLOCK_BYTES] = { 0, 0, 'X', 0 };
    memcpy(block + 4, nonce, SUBKEY_NONCE_BYTES);
    for (size_t i = 0; i < AES_BLOCK_BYTES; i++) {
        block[i] ^= key->k1[i];
    }
    block[1] ^= 1; /* Counter 1, ... */
    TRY(aes_block(key, block, subkey));
    block[1] ^= 1 ^ 2; /* ... then 2. */
    TRY(aes_block(key, block, subkey + AES_BLOCK_BYTES));
    secret_wipe(block, sizeof(block));
    return OK;
}

static RC gcm_start(mbedtls_gcm_context *gcm, const struct xaes_key *key,
                    const uint8_t nonce[static XAES_NONCE_BYTES]) {
    uint8_t subkey[XAES_KEY_BYTES];
    struct rc rc = derive_subkey(key, nonce, subkey);
    if (rc.err == E_OK &&
        mbedtls_gcm_setkey(gcm, MBEDTLS_CIPHER_ID_AES, subkey, sizeof(subkey) * 8) != 0) {
        rc = ERR(CRYPTO);
    }
    secret_wipe(subkey, sizeof(subkey));
    return rc;
}

RC xaes_seal(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
             struct span aad, struct span plain, uint8_t *out) {
    AUTO(mbedtls_gcm_free) mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    TRY(gcm_start(&gcm, key, nonce));
    int code = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, plain.len,
                                         nonce + SUBKEY_NONCE_BYTES, GCM_NONCE_BYTES, aad.ptr,
                                         aad.len, plain.ptr, out, XAES_TAG_BYTES, out + plain.len);
    ENSURE(code == 0, CRYPTO);
    return OK;
}

RC xaes_open(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
             struct span aad, struct span sealed, uint8_t *out) {
    ENSURE(sealed.len >= XAES_TAG_BYTES, TRUNCATED);
    size_t plain_len = sealed.len - XAES_TAG_BYTES;
    AUTO(mbedtls_gcm_free) mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    TRY(gcm_start(&gcm, key, nonce));
    int code = mbedtls_gcm_auth_decrypt(&gcm, plain_len, nonce + SUBKEY_NONCE_BYTES,
                                        GCM_NONCE_BYTES, aad.ptr, aad.len, sealed.ptr + plain_len,
                                        XAES_TAG_BYTES, sealed.ptr, out);
    ENSURE(code != MBEDTLS_ERR_GCM_AUTH_FAILED, BAD_AUTH);
    ENSURE(code == 0, CRYPTO);
    return OK;
}
