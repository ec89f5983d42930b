/* SPDX-License-Identifier: Apache-2.0 */
#include <mbedtls/gcm.h>

#include "crypto/aes_gcm.h"
#include "test.h"

/* Around a block, around the groups of blocks that fast code takes at once, and a value's size. */
static const size_t lens[] = { 0,  1,  15,  16,  17,  31,  32,  33,   47,   64,
                               65, 95, 127, 128, 129, 255, 257, 1024, 1027, 16389 };
static const size_t aad_lens[] = { 0, 1, 16, 90, 333 };

static const uint8_t key[AES_GCM_KEY_BYTES] = { 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c,
                                                0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08 };
static const uint8_t nonce[AES_GCM_NONCE_BYTES] = { 0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce };
static const struct aes_gcm gcm = { key, nonce };

static uint8_t *filled(size_t len, uint8_t seed) {
    assert_in_range(len, 0, 1u << 20);
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(seed + i * 31);
    }
    return bytes;
}

/* As another implementation seals it. */
static uint8_t *seal_elsewhere(struct span aad, struct span plain) {
    uint8_t *sealed = filled(plain.len + AES_GCM_TAG_BYTES, 0);
    mbedtls_gcm_context ctx;
    mbedtls_gcm_init(&ctx);
    assert_int_equal(mbedtls_gcm_setkey(&ctx, MBEDTLS_CIPHER_ID_AES, key, 8 * sizeof(key)), 0);
    assert_int_equal(mbedtls_gcm_crypt_and_tag(&ctx, MBEDTLS_GCM_ENCRYPT, plain.len, nonce,
                                               sizeof(nonce), aad.ptr, aad.len, plain.ptr, sealed,
                                               AES_GCM_TAG_BYTES, sealed + plain.len),
                     0);
    mbedtls_gcm_free(&ctx);
    return sealed;
}

static void check_pair(struct span aad, struct span plain) {
    size_t sealed_len = plain.len + AES_GCM_TAG_BYTES;
    uint8_t *want = seal_elsewhere(aad, plain);
    uint8_t *sealed = filled(sealed_len, 0);
    uint8_t *opened = filled(plain.len, 0);
    aes_gcm_seal(&gcm, aad, plain, sealed);
    assert_memory_equal(sealed, want, sealed_len);
    assert_ok(aes_gcm_open(&gcm, aad, (struct span){ sealed, sealed_len }, opened));
    assert_memory_equal(opened, plain.ptr, plain.len);
    free(want);
    free(sealed);
    free(opened);
}

static void test_as_another_implementation(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        for (size_t j = 0; j < sizeof(aad_lens) / sizeof(*aad_lens); j++) {
            uint8_t *plain = filled(lens[i], 7);
            uint8_t *aad = filled(aad_lens[j], 99);
            check_pair((struct span){ aad, aad_lens[j] }, (struct span){ plain, lens[i] });
            free(plain);
            free(aad);
        }
    }
}

static void test_in_place(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        uint8_t *plain = filled(lens[i], 7);
        uint8_t *bytes = filled(lens[i] + AES_GCM_TAG_BYTES, 7);
        aes_gcm_seal(&gcm, SPAN_EMPTY, (struct span){ bytes, lens[i] }, bytes);
        const struct span sealed = { bytes, lens[i] + AES_GCM_TAG_BYTES };
        assert_ok(aes_gcm_open(&gcm, SPAN_EMPTY, sealed, bytes));
        assert_memory_equal(bytes, plain, lens[i]);
        free(plain);
        free(bytes);
    }
}

/* Test case 13 of the GCM specification: the zero key, and nothing sealed. */
static void test_known_answer(void **state) {
    (void)state;
    static const uint8_t zero[AES_GCM_KEY_BYTES];
    static const uint8_t want[] = { 0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9,
                                    0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b };
    uint8_t tag[AES_GCM_TAG_BYTES];
    aes_gcm_seal(&(struct aes_gcm){ zero, zero }, SPAN_EMPTY, SPAN_EMPTY, tag);
    assert_memory_equal(tag, want, sizeof(want));
}

static void test_any_changed_byte(void **state) {
    (void)state;
    enum { PLAIN_BYTES = 40, SEALED_BYTES = PLAIN_BYTES + AES_GCM_TAG_BYTES };
    static const uint8_t zero[PLAIN_BYTES];
    uint8_t aad[5] = { 1, 2, 3 };
    const struct span aad_span = { aad, sizeof(aad) };
    uint8_t sealed[SEALED_BYTES];
    uint8_t opened[PLAIN_BYTES];
    aes_gcm_seal(&gcm, aad_span, (struct span){ zero, PLAIN_BYTES }, sealed);
    for (size_t i = 0; i < SEALED_BYTES + sizeof(aad); i++) {
        uint8_t *byte = i < SEALED_BYTES ? &sealed[i] : &aad[i - SEALED_BYTES];
        *byte ^= 0x10;
        memset(opened, 0xee, sizeof(opened));
        assert_err(aes_gcm_open(&gcm, aad_span, (struct span){ sealed, sizeof(sealed) }, opened),
                   BAD_AUTH);
        assert_memory_equal(opened, zero, sizeof(opened)); /* Nothing of it is given away. */
        *byte ^= 0x10;
    }
    assert_ok(aes_gcm_open(&gcm, aad_span, (struct span){ sealed, sizeof(sealed) }, opened));
}

static void test_shorter_than_a_tag(void **state) {
    (void)state;
    uint8_t *sealed = filled(AES_GCM_TAG_BYTES - 1, 0);
    uint8_t out = 0;
    assert_err(aes_gcm_open(&gcm, SPAN_EMPTY, (struct span){ sealed, AES_GCM_TAG_BYTES - 1 }, &out),
               TRUNCATED);
    free(sealed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_another_implementation),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_known_answer),
        cmocka_unit_test(test_any_changed_byte),
        cmocka_unit_test(test_shorter_than_a_tag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
