/* SPDX-License-Identifier: Apache-2.0 */
#include "service/token.h"

#include "crypto/random.h"

#define TOKEN_VERSION 1
#define TOKEN_HEAD_BYTES (1 + XAES_NONCE_BYTES)
#define KEY_BYTES_MAX 1024
#define AAD_LABEL "page_token"
#define AAD_BYTES (8 + sizeof(AAD_LABEL) - 1 + KEY_BYTES_MAX)

static RC make_aad(struct span prefix, struct writer *aad) {
    TRY(write_u64(aad, 0));
    TRY(write_span(aad, SPAN_LIT(AAD_LABEL)));
    TRY(write_span(aad, prefix));
    return OK;
}

RC service_token_seal(const struct xaes_key *key, struct span prefix, struct span after,
                      struct arena *arena, struct writer *out) {
    uint8_t aad_bytes[AAD_BYTES];
    struct writer aad = { aad_bytes, 0, sizeof(aad_bytes) };
    TRY(make_aad(prefix, &aad));
    size_t len = TOKEN_HEAD_BYTES + after.len + XAES_TAG_BYTES;
    uint8_t *token = arena_take(arena, len);
    ENSURE(token != NULL, NOMEM);
    token[0] = TOKEN_VERSION;
    TRY(random_bytes(token + 1, XAES_NONCE_BYTES));
    xaes_seal(key, token + 1, writer_span(&aad), after, token + TOKEN_HEAD_BYTES);
    *out = (struct writer){ token, len, len };
    return OK;
}

RC service_token_open(const struct xaes_key *key, struct span prefix, struct span token,
                      struct arena *arena, struct span *after) {
    uint8_t aad_bytes[AAD_BYTES];
    struct writer aad = { aad_bytes, 0, sizeof(aad_bytes) };
    ENSURE(token.len > TOKEN_HEAD_BYTES + XAES_TAG_BYTES, MALFORMED);
    ENSURE(token.len <= SERVICE_TOKEN_BYTES_MAX, MALFORMED);
    ENSURE(token.ptr[0] == TOKEN_VERSION, MALFORMED);
    TRY(make_aad(prefix, &aad));
    struct span sealed = { token.ptr + TOKEN_HEAD_BYTES, token.len - TOKEN_HEAD_BYTES };
    uint8_t *plain = arena_take(arena, sealed.len);
    ENSURE(plain != NULL, NOMEM);
    TRY(xaes_open(key, token.ptr + 1, writer_span(&aad), sealed, plain));
    *after = (struct span){ plain, sealed.len - XAES_TAG_BYTES };
    return OK;
}
