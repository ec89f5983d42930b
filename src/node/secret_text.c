/* SPDX-License-Identifier: Apache-2.0 */
#include "node/secret_text.h"

#include "base/hex.h"

#define FIELD_COUNT 5
#define HEX_BYTES_MAX HEX_TEXT_BYTES(32)

struct field {
    const char *before;
    size_t len;
};

static const struct field fields[FIELD_COUNT] = {
    { "{\"secret\":\"0x", KDF_MASTER_BYTES },    { "\",\"hash\":\"0x", KDF_HASH_BYTES },
    { "\",\"nonce\":\"0x", SECRET_NONCE_BYTES }, { "\",\"from\":\"0x", WALLET_BYTES },
    { "\",\"to\":\"0x", WALLET_BYTES },
};
static const char end[] = "\"}";

void secret_text_write(const uint8_t secret[static KDF_MASTER_BYTES],
                       const struct secret_text *text, uint8_t *out) {
    const uint8_t *values[FIELD_COUNT] = { secret, text->hash, text->nonce, text->from.bytes,
                                           text->to.bytes };
    struct writer w = { out, 0, SECRET_TEXT_BYTES };
    char hex[HEX_BYTES_MAX];
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        hex_encode((struct span){ values[i], fields[i].len }, hex);
        struct rc rc = write_span(&w, span_str(fields[i].before));
        ASSERT(rc.err == E_OK);
        rc = write_span(&w, (struct span){ (const uint8_t *)hex, 2 * fields[i].len });
        ASSERT(rc.err == E_OK);
    }
    struct rc rc = write_span(&w, span_str(end));
    ASSERT(rc.err == E_OK);
    ASSERT(w.len == SECRET_TEXT_BYTES);
    secret_wipe(hex, sizeof(hex));
}

static RC read_literal(struct reader *r, const char *literal) {
    struct span got = SPAN_EMPTY;
    TRY(read_span(r, strlen(literal), &got));
    ENSURE(span_equal(got, span_str(literal)), MALFORMED);
    return OK;
}

static RC read_hex(struct reader *r, uint8_t *out, size_t len) {
    struct span got = SPAN_EMPTY;
    TRY(read_span(r, 2 * len, &got));
    return hex_decode(got, out, len);
}

static RC read_all(struct span in, uint8_t *const values[FIELD_COUNT]) {
    struct reader r = { in.ptr, in.len };
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        TRY(read_literal(&r, fields[i].before));
        TRY(read_hex(&r, values[i], fields[i].len));
    }
    TRY(read_literal(&r, end));
    ENSURE(r.len == 0, MALFORMED);
    return OK;
}

RC secret_text_read(struct span in, uint8_t secret[static KDF_MASTER_BYTES],
                    struct secret_text *text) {
    uint8_t *const values[FIELD_COUNT] = { secret, text->hash, text->nonce, text->from.bytes,
                                           text->to.bytes };
    if (read_all(in, values).err == E_OK) {
        return OK;
    }
    secret_wipe(secret, KDF_MASTER_BYTES);
    return ERR(MALFORMED);
}
