/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/hex.h"
#include "base/wallet.h"
#include "test.h"

struct hex_row {
    const char *name;
    const char *text;
    size_t out_len;
    enum err want;
    const char *bytes;
};

static struct hex_row hex_rows[] = {
    { "lowercase", "00ff10", 3, E_OK, "\x00\xff\x10" },
    { "uppercase", "ABCDEF", 3, E_OK, "\xab\xcd\xef" },
    { "prefixed", "0xa0", 1, E_OK, "\xa0" },
    { "nothing", "", 0, E_OK, "" },
    { "only_the_prefix", "0x", 0, E_OK, "" },
    { "one_digit_short", "abc", 2, E_MALFORMED, "" },
    { "one_digit_more", "abcde", 2, E_MALFORMED, "" },
    { "before_0", "0/", 1, E_MALFORMED, "" },
    { "after_9", "0:", 1, E_MALFORMED, "" },
    { "before_A", "0@", 1, E_MALFORMED, "" },
    { "after_F", "0G", 1, E_MALFORMED, "" },
    { "before_a", "0`", 1, E_MALFORMED, "" },
    { "after_f", "0g", 1, E_MALFORMED, "" },
    { "control_that_a_case_bit_makes_a_digit", "\x10\x11", 1, E_MALFORMED, "" },
    { "high_bit", "\xb0\xb1", 1, E_MALFORMED, "" },
    { "prefix_twice", "0x0x", 1, E_MALFORMED, "" },
};

static void test_hex_decode(void **state) {
    const struct hex_row *row = *state;
    size_t len = strlen(row->text);
    uint8_t *text = test_dup(row->text, len);
    uint8_t *out = calloc(1, row->out_len + 1);
    assert_non_null(out);
    assert_err_equal(hex_decode((struct span){ text, len }, out, row->out_len), row->want);
    if (row->want == E_OK) {
        assert_memory_equal(out, row->bytes, row->out_len);
    }
    free(out);
    free(text);
}

static void test_hex_every_byte(void **state) {
    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        uint8_t back = 0;
        char text[HEX_TEXT_BYTES(1)];
        char want[HEX_TEXT_BYTES(1)];
        hex_encode((struct span){ &byte, 1 }, text);
        (void)snprintf(want, sizeof(want), "%02x", i);
        assert_string_equal(text, want);
        assert_ok(hex_decode(span_str(text), &back, 1));
        assert_int_equal(back, byte);
    }
}

/* Each character in each of the two places of a byte. */
static void test_hex_every_character(void **state) {
    (void)state;
    static const char digits[] = "0123456789abcdefABCDEF";
    for (unsigned c = 0; c < 256; c++) {
        bool is_digit = c != 0 && strchr(digits, (int)c) != NULL;
        for (size_t place = 0; place < 2; place++) {
            uint8_t text[2] = { '0', '0' };
            text[place] = (uint8_t)c;
            uint8_t out = 0;
            enum err err = hex_decode((struct span){ text, sizeof(text) }, &out, 1).err;
            assert_int_equal(err, is_digit ? E_OK : E_MALFORMED);
        }
    }
}

struct base64_row {
    const char *name;
    const char *in;
    size_t len;
    const char *want;
};

/* RFC 4648, section 10, and both ends of every range of the alphabet. */
static struct base64_row base64_rows[] = {
    { "rfc_0", "", 0, "" },
    { "rfc_1", "f", 1, "Zg==" },
    { "rfc_2", "fo", 2, "Zm8=" },
    { "rfc_3", "foo", 3, "Zm9v" },
    { "rfc_4", "foob", 4, "Zm9vYg==" },
    { "rfc_5", "fooba", 5, "Zm9vYmE=" },
    { "rfc_6", "foobar", 6, "Zm9vYmFy" },
    { "A_Z_a_z", "\x00\x06\x5a\x6b\x30", 5, "AAZaazA=" },
    { "0_9_plus_slash", "\xd3\xdf\xbf", 3, "09+/" },
};

static void test_base64(void **state) {
    const struct base64_row *row = *state;
    uint8_t *in = test_dup(row->in, row->len);
    char *text = malloc(BASE64_TEXT_BYTES(row->len));
    assert_non_null(text);
    base64_encode((struct span){ in, row->len }, text);
    assert_string_equal(text, row->want);
    free(text);
    free(in);
}

struct wallet_row {
    const char *name;
    const char *text;
    enum err want;
};

static struct wallet_row wallet_rows[] = {
    { "wallet_lowercase", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", E_OK },
    { "wallet_checksummed", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", E_OK },
    { "wallet_without_0x", "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", E_MALFORMED },
    { "wallet_39_digits", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beae", E_MALFORMED },
    { "wallet_41_digits", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed0", E_MALFORMED },
    { "wallet_not_hex", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaeg", E_MALFORMED },
    { "wallet_prefix_twice", "0x0x5aaeb6053f3e94c9b9a09f33669435e7ef1bea", E_MALFORMED },
    { "wallet_upper_case_prefix", "0X5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", E_MALFORMED },
    { "wallet_prefix_only", "0x", E_MALFORMED },
    { "wallet_empty", "", E_MALFORMED },
};

static void test_wallet(void **state) {
    const struct wallet_row *row = *state;
    struct wallet wallet = { 0 };
    assert_err_equal(wallet_parse(span_str(row->text), &wallet), row->want);
    if (row->want == E_OK) {
        char text[WALLET_TEXT_BYTES];
        assert_string_equal(wallet_format(&wallet, text), wallet_rows[0].text);
        assert_false(wallet_is_zero(&wallet));
    }
}

static void test_wallet_equal(void **state) {
    (void)state;
    struct wallet a = { 0 };
    struct wallet b = { 0 };
    assert_true(wallet_is_zero(&a));
    assert_true(wallet_equal(&a, &b));
    b.bytes[WALLET_BYTES - 1] = 1;
    assert_false(wallet_equal(&a, &b));
    assert_false(wallet_is_zero(&b));
}

int main(void) {
    struct CMUnitTest
        tests[TEST_ROWS(hex_rows) + TEST_ROWS(base64_rows) + TEST_ROWS(wallet_rows) + 3];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_hex_decode, hex_rows);
    TEST_ADD_ROWS(tests, count, test_base64, base64_rows);
    TEST_ADD_ROWS(tests, count, test_wallet, wallet_rows);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_hex_every_byte);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_hex_every_character);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_wallet_equal);
    return cmocka_run_group_tests_name("hex", tests, NULL, NULL);
}
