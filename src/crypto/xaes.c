/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/xaes.h"

#include "base/secret.h"
#include "crypto/aes_gcm.h"

/* The nonce's first part picks the key, the second is GCM's own. */
#define SUBKEY_NONCE_BYTES 12

_Static_assert(SUBKEY_NONCE_BYTES + AES_GCM_NONCE_BYTES == XAES_NONCE_BYTES, "nothing is left");
_Static_assert(XAES_KEY_BYTES == AES_GCM_KEY_BYTES, "one key length");
_Static_assert(XAES_TAG_BYTES == AES_GCM_TAG_BYTES, "one tag length");

/* CMAC's K1 (NIST SP 800-38B, section 6.1): the encrypted zero block, doubled in GF(2^128). */
static void make_k1(struct xaes_key *key) {
    static const uint8_t zero[AES_BLOCK_SIZE];
    uint8_t *k1 = key->k1;
    aes256_encrypt(&key->aes, AES_BLOCK_SIZE, k1, zero);
    uint8_t carry = (uint8_t)(0x87 & -(k1[0] >> 7)); /* No branch on key bits. */
    for (size_t i = 0; i + 1 < AES_BLOCK_SIZE; i++) {
        k1[i] = (uint8_t)(k1[i] << 1 | k1[i + 1] >> 7);
    }
    k1[AES_BLOCK_SIZE - 1] = (uint8_t)(k1[AES_BLOCK_SIZE - 1] << 1 ^ carry);
}

void xaes_key_init(struct xaes_key *key, const uint8_t bytes[static XAES_KEY_BYTES]) {
    aes256_set_encrypt_key(&key->aes, bytes);
    make_k1(key);
}

void xaes_key_close(struct xaes_key *key) {
    secret_wipe(key, sizeof(*key));
}

/* Two CMACs of one block each make the message's key (NIST SP 800-108, counter mode). */
static void derive_subkey(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
                          uint8_t subkey[static XAES_KEY_BYTES]) {
    uint8_t blocks[2][AES_BLOCK_SIZE] = { { 0, 1, 'X', 0 }, { 0, 2, 'X', 0 } };
    for (size_t n = 0; n < 2; n++) {
        memcpy(blocks[n] + 4, nonce, SUBKEY_NONCE_BYTES);
        for (size_t i = 0; i < AES_BLOCK_SIZE; i++) {
            blocks[n][i] ^= key->k1[i];
        }
    }
    aes256_encrypt(&key->aes, sizeof(blocks), subkey, blocks[0]);
    secret_wipe(blocks, sizeof(blocks));
}

void xaes_seal(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
               struct span aad, struct span plain, uint8_t *out) {
    uint8_t subkey[XAES_KEY_BYTES];
    derive_subkey(key, nonce, subkey);
    const struct aes_gcm gcm = { subkey, nonce + SUBKEY_NONCE_BYTES };
    aes_gcm_seal(&gcm, aad, plain, out);
    secret_wipe(subkey, sizeof(subkey));
}

RC xaes_open(const struct xaes_key *key, const uint8_t nonce[static XAES_NONCE_BYTES],
             struct span aad, struct span sealed, uint8_t *out) {
    uint8_t subkey[XAES_KEY_BYTES];
    derive_subkey(key, nonce, subkey);
    const struct aes_gcm gcm = { subkey, nonce + SUBKEY_NONCE_BYTES };
    struct rc rc = aes_gcm_open(&gcm, aad, sealed, out);
    secret_wipe(subkey, sizeof(subkey));
    return rc;
}
