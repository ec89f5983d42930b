/* SPDX-License-Identifier: Apache-2.0 */
/* The text that carries the master secret: one form, and nothing else. */
#include "node/secret_text.h"
#include "test.h"

static const uint8_t secret[KDF_MASTER_BYTES] = { 0xab, 0xcd };
static const struct secret_text said = {
    .hash = { 1 }, .nonce = { 2 }, .from = { { 3 } }, .to = { { 4 } }
};

static void test_there_and_back(void **state) {
    (void)state;
    uint8_t text[SECRET_TEXT_BYTES];
    uint8_t got[KDF_MASTER_BYTES];
    struct secret_text heard;
    secret_text_write(secret, &said, text);
    assert_memory_equal(text, "{\"secret\":\"0xabcd00", 19);
    assert_memory_equal(text + SECRET_TEXT_BYTES - 4, "00\"}", 4);
    uint8_t *copy = test_dup(text, sizeof(text));
    assert_ok(secret_text_read((struct span){ copy, sizeof(text) }, got, &heard));
    assert_memory_equal(got, secret, sizeof(secret));
    assert_memory_equal(&heard, &said, sizeof(said));
    free(copy);
}

/* Each byte matters, and each length but one. */
static void test_nothing_else(void **state) {
    (void)state;
    uint8_t text[SECRET_TEXT_BYTES + 1];
    uint8_t got[KDF_MASTER_BYTES];
    struct secret_text heard;
    static const uint8_t none[KDF_MASTER_BYTES];
    secret_text_write(secret, &said, text);
    text[SECRET_TEXT_BYTES] = '\n';
    for (size_t len = 0; len <= sizeof(text); len++) {
        if (len == SECRET_TEXT_BYTES) {
            continue;
        }
        uint8_t *copy = test_dup(text, len);
        memset(got, 1, sizeof(got));
        assert_err(secret_text_read((struct span){ copy, len }, got, &heard), MALFORMED);
        assert_memory_equal(got, none, sizeof(got));
        free(copy);
    }
    for (size_t i = 0; i < SECRET_TEXT_BYTES; i++) {
        uint8_t kept = text[i];
        text[i] = 'x' == kept ? 'y' : 'x';
        memset(got, 1, sizeof(got));
        assert_err(secret_text_read((struct span){ text, SECRET_TEXT_BYTES }, got, &heard),
                   MALFORMED);
        assert_memory_equal(got, none, sizeof(got));
        text[i] = kept;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_nothing_else),
    };
    return cmocka_run_group_tests_name("secret_text", tests, NULL, NULL);
}
