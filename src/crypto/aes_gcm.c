/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/aes_gcm.h"

#include <nettle/gcm.h>

#include "base/secret.h"

_Static_assert(AES_GCM_KEY_BYTES == AES256_KEY_SIZE, "AES-256");
_Static_assert(AES_GCM_NONCE_BYTES == GCM_IV_SIZE, "the nonce that needs no hashing");
_Static_assert(AES_GCM_TAG_BYTES == GCM_DIGEST_SIZE, "the whole tag");

static void begin(struct gcm_aes256_ctx *ctx, const struct aes_gcm *gcm, struct span aad) {
    gcm_aes256_set_key(ctx, gcm->key);
    gcm_aes256_set_iv(ctx, AES_GCM_NONCE_BYTES, gcm->nonce);
    gcm_aes256_update(ctx, aad.len, aad.ptr);
}

void aes_gcm_seal(const struct aes_gcm *gcm, struct span aad, struct span plain, uint8_t *out) {
    struct gcm_aes256_ctx ctx;
    begin(&ctx, gcm, aad);
    gcm_aes256_encrypt(&ctx, plain.len, out, plain.ptr);
    gcm_aes256_digest(&ctx, AES_GCM_TAG_BYTES, out + plain.len);
    secret_wipe(&ctx, sizeof(ctx));
}

RC aes_gcm_open(const struct aes_gcm *gcm, struct span aad, struct span sealed, uint8_t *out) {
    ENSURE(sealed.len >= AES_GCM_TAG_BYTES, TRUNCATED);
    size_t plain_len = sealed.len - AES_GCM_TAG_BYTES;
    struct gcm_aes256_ctx ctx;
    uint8_t tag[AES_GCM_TAG_BYTES];
    begin(&ctx, gcm, aad);
    gcm_aes256_decrypt(&ctx, plain_len, out, sealed.ptr);
    gcm_aes256_digest(&ctx, sizeof(tag), tag);
    secret_wipe(&ctx, sizeof(ctx));
    if (!secret_equal(tag, sealed.ptr + plain_len, sizeof(tag))) {
        secret_wipe(out, plain_len);
        return ERR(BAD_AUTH);
    }
    return OK;
}
