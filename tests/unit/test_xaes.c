/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/keccak.h"
#include "crypto/xaes.h"
#include "test.h"
#include "vectors.h"

static void test_vectors(void **state) {
    (void)state;
    json_t *cases = vectors_load("xaes-256-gcm.json");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        struct bytes key_bytes = vectors_hex(row, "key");
        struct bytes nonce = vectors_hex(row, "nonce");
        struct bytes plain = vectors_hex(row, "plaintext");
        struct bytes aad = vectors_hex(row, "aad");
        struct bytes want = vectors_hex(row, "ciphertext");
        struct xaes_key key;
        xaes_key_init(&key, key_bytes.ptr);
        uint8_t *got = malloc(want.len);
        assert_non_null(got);
        xaes_seal(&key, nonce.ptr, (struct span){ aad.ptr, aad.len },
                  (struct span){ plain.ptr, plain.len }, got);
        assert_memory_equal(got, want.ptr, want.len);
        assert_ok(xaes_open(&key, nonce.ptr, (struct span){ aad.ptr, aad.len },
                            (struct span){ want.ptr, want.len }, got));
        assert_memory_equal(got, plain.ptr, plain.len);
        free(got);
        xaes_key_close(&key);
        free(key_bytes.ptr);
        free(nonce.ptr);
        free(plain.ptr);
        free(aad.ptr);
        free(want.ptr);
    }
    assert_int_equal(i, 2);
    vectors_close(cases);
}

/* SHAKE128 (FIPS 202), for the specification's accumulated test. Absorb, then squeeze. */
#define SHAKE_RATE_BYTES 168
struct shake {
    uint64_t lanes[KECCAK_LANE_COUNT];
    size_t at;
    bool squeezing;
};

static void shake_absorb(struct shake *s, const uint8_t *in, size_t len) {
    for (size_t i = 0; i < len; i++) {
        s->lanes[s->at / 8] ^= (uint64_t)in[i] << (8 * (s->at % 8));
        s->at++;
        if (s->at == SHAKE_RATE_BYTES) {
            keccak_permute(s->lanes);
            s->at = 0;
        }
    }
}

static void shake_squeeze(struct shake *s, uint8_t *out, size_t len) {
    if (!s->squeezing) {
        const size_t last = SHAKE_RATE_BYTES - 1;
        s->lanes[s->at / 8] ^= (uint64_t)0x1f << (8 * (s->at % 8));
        s->lanes[last / 8] ^= (uint64_t)0x80 << (8 * (last % 8));
        s->squeezing = true;
        s->at = SHAKE_RATE_BYTES;
    }
    for (size_t i = 0; i < len; i++) {
        if (s->at == SHAKE_RATE_BYTES) {
            keccak_permute(s->lanes);
            s->at = 0;
        }
        out[i] = (uint8_t)(s->lanes[s->at / 8] >> (8 * (s->at % 8)));
        s->at++;
    }
}

static size_t squeeze_blob(struct shake *s, uint8_t out[static 255]) {
    uint8_t len = 0;
    shake_squeeze(s, &len, 1);
    shake_squeeze(s, out, len);
    return len;
}

/* "Accumulated randomized tests" of the specification: 10,000 messages of 0 to 255 bytes. */
static void test_accumulated(void **state) {
    (void)state;
    struct shake random = { 0 };
    struct shake digest = { 0 };
    for (size_t i = 0; i < 10000; i++) {
        uint8_t key_bytes[XAES_KEY_BYTES];
        uint8_t nonce[XAES_NONCE_BYTES];
        uint8_t plain[255];
        uint8_t aad[255];
        uint8_t sealed[255 + XAES_TAG_BYTES];
        uint8_t opened[255];
        shake_squeeze(&random, key_bytes, sizeof(key_bytes));
        shake_squeeze(&random, nonce, sizeof(nonce));
        size_t plain_len = squeeze_blob(&random, plain);
        size_t aad_len = squeeze_blob(&random, aad);
        const struct span aad_span = { aad, aad_len };
        struct xaes_key key;
        xaes_key_init(&key, key_bytes);
        xaes_seal(&key, nonce, aad_span, (struct span){ plain, plain_len }, sealed);
        size_t sealed_len = plain_len + XAES_TAG_BYTES;
        assert_ok(xaes_open(&key, nonce, aad_span, (struct span){ sealed, sealed_len }, opened));
        assert_memory_equal(opened, plain, plain_len);
        shake_absorb(&digest, sealed, sealed_len);
        xaes_key_close(&key);
    }
    uint8_t got[32];
    shake_squeeze(&digest, got, sizeof(got));
    char text[HEX_TEXT_BYTES(sizeof(got))];
    hex_encode((struct span){ got, sizeof(got) }, text);
    assert_string_equal(text, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
}

/* Sealing and opening where the bytes lie, at sizes around AES's block. */
static void test_in_place(void **state) {
    (void)state;
    const uint8_t key_bytes[XAES_KEY_BYTES] = { 7 };
    const uint8_t nonce[XAES_NONCE_BYTES] = { 9 };
    struct xaes_key key;
    xaes_key_init(&key, key_bytes);
    for (size_t len = 0; len <= 33; len++) {
        uint8_t *buf = calloc(1, len + XAES_TAG_BYTES);
        assert_non_null(buf);
        xaes_seal(&key, nonce, SPAN_EMPTY, (struct span){ buf, len }, buf);
        assert_ok(
            xaes_open(&key, nonce, SPAN_EMPTY, (struct span){ buf, len + XAES_TAG_BYTES }, buf));
        for (size_t i = 0; i < len; i++) {
            assert_int_equal(buf[i], 0);
        }
        free(buf);
    }
    xaes_key_close(&key);
    xaes_key_close(&key);
}

/* Any byte of the sealed text, the nonce, the data or the key changed: refused, and zeros out. */
static void test_tampering(void **state) {
    (void)state;
    uint8_t key_bytes[XAES_KEY_BYTES] = { 1 };
    uint8_t nonce[XAES_NONCE_BYTES] = { 2 };
    uint8_t aad[] = "app 49, key a";
    const uint8_t plain[] = "value";
    uint8_t sealed[sizeof(plain) + XAES_TAG_BYTES];
    uint8_t out[sizeof(plain)];
    struct xaes_key key;
    xaes_key_init(&key, key_bytes);
    xaes_seal(&key, nonce, (struct span){ aad, sizeof(aad) }, (struct span){ plain, sizeof(plain) },
              sealed);
    const struct {
        uint8_t *ptr;
        size_t len;
    } inputs[] = { { sealed, sizeof(sealed) }, { nonce, sizeof(nonce) }, { aad, sizeof(aad) } };
    for (size_t i = 0; i < TEST_ROWS(inputs); i++) {
        for (size_t bit = 0; bit < 8 * inputs[i].len; bit++) {
            inputs[i].ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
            memset(out, 0xaa, sizeof(out));
            assert_err(xaes_open(&key, nonce, (struct span){ aad, sizeof(aad) },
                                 (struct span){ sealed, sizeof(sealed) }, out),
                       BAD_AUTH);
            const uint8_t zero[sizeof(out)] = { 0 };
            assert_memory_equal(out, zero, sizeof(out));
            inputs[i].ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    xaes_key_close(&key);
    key_bytes[31] ^= 1;
    xaes_key_init(&key, key_bytes);
    assert_err(xaes_open(&key, nonce, (struct span){ aad, sizeof(aad) },
                         (struct span){ sealed, sizeof(sealed) }, out),
               BAD_AUTH);
    for (size_t len = 0; len < XAES_TAG_BYTES; len++) {
        uint8_t *cut = test_dup(sealed, len);
        assert_err(xaes_open(&key, nonce, SPAN_EMPTY, (struct span){ cut, len }, out), TRUNCATED);
        free(cut);
    }
    xaes_key_close(&key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_accumulated),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_tampering),
    };
    return cmocka_run_group_tests_name("xaes", tests, NULL, NULL);
}
