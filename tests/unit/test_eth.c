/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/eth.h"
#include "test.h"
#include "vectors.h"

/* The group's order, SEC 2 section 2.4.1. */
static const char order_hex[] = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

static void secret_from(struct secret *key, struct bytes bytes) {
    assert_ok(secret_init(key, bytes.len));
    memcpy(key->ptr, bytes.ptr, bytes.len);
}

static void check_row(const json_t *row) {
    struct span message = vectors_text(row, "message");
    uint8_t *copy = test_dup(message.ptr, message.len);
    message.ptr = copy;
    struct bytes key_bytes = vectors_hex(row, "private_key");
    struct bytes want_hash = vectors_hex(row, "hash");
    struct bytes want_signature = vectors_hex(row, "signature");
    struct wallet want_wallet;
    assert_ok(wallet_parse(vectors_text(row, "address"), &want_wallet));

    uint8_t hash[KECCAK256_BYTES];
    eth_hash_message(message, hash);
    assert_memory_equal(hash, want_hash.ptr, sizeof(hash));
    struct secret key;
    secret_from(&key, key_bytes);
    struct wallet wallet;
    assert_ok(eth_wallet_of_key(&key, &wallet));
    assert_true(wallet_equal(&wallet, &want_wallet));
    struct eth_signature signature;
    assert_ok(eth_sign_message(&key, message, &signature));
    assert_int_equal(want_signature.len, sizeof(signature.bytes));
    assert_memory_equal(signature.bytes, want_signature.ptr, sizeof(signature.bytes));
    assert_ok(eth_recover_message(message, &signature, &wallet));
    assert_true(wallet_equal(&wallet, &want_wallet));
    signature.bytes[64] = (uint8_t)(signature.bytes[64] - 27);
    assert_ok(eth_recover_message(message, &signature, &wallet));
    assert_true(wallet_equal(&wallet, &want_wallet));

    secret_close(&key);
    free(key_bytes.ptr);
    free(want_hash.ptr);
    free(want_signature.ptr);
    free(copy);
}

static void test_vectors(void **state) {
    (void)state;
    vectors_each("eip191.json", check_row);
}

static void sign_hello(struct eth_signature *signature, struct wallet *wallet) {
    struct secret key;
    assert_ok(secret_init(&key, ETH_KEY_BYTES));
    key.ptr[31] = 5;
    assert_ok(eth_sign_message(&key, SPAN_LIT("hello"), signature));
    assert_ok(eth_wallet_of_key(&key, wallet));
    secret_close(&key);
}

/* The order minus s, big-endian: the same signature with the other sign. */
static void negate_s(struct eth_signature *signature) {
    uint8_t order[32];
    assert_ok(hex_decode(span_str(order_hex), order, sizeof(order)));
    int borrow = 0;
    for (size_t i = 32; i-- > 0;) {
        int digit = order[i] - signature->bytes[32 + i] - borrow;
        borrow = digit < 0;
        signature->bytes[32 + i] = (uint8_t)(digit + 256 * borrow);
    }
}

static void test_high_s_is_refused(void **state) {
    (void)state;
    struct eth_signature signature;
    struct wallet wallet;
    sign_hello(&signature, &wallet);
    negate_s(&signature);
    signature.bytes[64] ^= 27 ^ 28; /* Recovery would give the same wallet. */
    assert_err(eth_recover_message(SPAN_LIT("hello"), &signature, &wallet), MALFORMED);
    negate_s(&signature);
    signature.bytes[64] ^= 27 ^ 28;
    assert_ok(eth_recover_message(SPAN_LIT("hello"), &signature, &wallet));
}

static void test_v_values(void **state) {
    (void)state;
    struct eth_signature signature;
    struct wallet signer;
    sign_hello(&signature, &signer);
    for (unsigned v = 0; v <= 255; v++) {
        signature.bytes[64] = (uint8_t)v;
        struct wallet wallet;
        enum err err = eth_recover_message(SPAN_LIT("hello"), &signature, &wallet).err;
        bool known = v == 0 || v == 1 || v == 27 || v == 28;
        assert_true(known ? err != E_MALFORMED : err == E_MALFORMED);
    }
}

static void test_numbers_out_of_range(void **state) {
    (void)state;
    struct eth_signature good;
    struct wallet wallet;
    sign_hello(&good, &wallet);
    for (size_t part = 0; part < 64; part += 32) {
        struct eth_signature bad = good;
        memset(bad.bytes + part, 0, 32);
        assert_true(eth_recover_message(SPAN_LIT("hello"), &bad, &wallet).err != E_OK);
        assert_ok(hex_decode(span_str(order_hex), bad.bytes + part, 32));
        assert_err(eth_recover_message(SPAN_LIT("hello"), &bad, &wallet), MALFORMED);
    }
    /* No point of the curve has this x (5 has no square root of x^3 + 7). */
    struct eth_signature off_curve = good;
    memset(off_curve.bytes, 0, 32);
    off_curve.bytes[31] = 5;
    assert_err(eth_recover_message(SPAN_LIT("hello"), &off_curve, &wallet), BAD_AUTH);
}

static void test_other_text_gives_other_wallet(void **state) {
    (void)state;
    struct eth_signature signature;
    struct wallet signer;
    struct wallet wallet;
    sign_hello(&signature, &signer);
    assert_ok(eth_recover_message(SPAN_LIT("hellp"), &signature, &wallet));
    assert_false(wallet_equal(&wallet, &signer));
}

struct key_row {
    const char *name;
    const char *hex;
    enum err want;
};

static struct key_row key_rows[] = {
    { "zero", "0000000000000000000000000000000000000000000000000000000000000000", E_INVALID },
    { "one", "0000000000000000000000000000000000000000000000000000000000000001", E_OK },
    { "order_less_one", "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140", E_OK },
    { "order", order_hex, E_INVALID },
    { "short", "00000000000000000000000000000000000000000000000000000000000001", E_INVALID },
    { "long", "000000000000000000000000000000000000000000000000000000000000000001", E_INVALID },
};

static void test_key_range(void **state) {
    const struct key_row *row = *state;
    struct secret key;
    size_t len = strlen(row->hex) / 2;
    assert_ok(secret_init(&key, len));
    assert_ok(hex_decode(span_str(row->hex), key.ptr, len));
    struct wallet wallet;
    struct eth_signature signature;
    assert_err_equal(eth_wallet_of_key(&key, &wallet), row->want);
    assert_err_equal(eth_sign_message(&key, SPAN_LIT("x"), &signature), row->want);
    secret_close(&key);
    assert_err(eth_wallet_of_key(&key, &wallet), INVALID);
}

int main(void) {
    struct CMUnitTest tests[5 + TEST_ROWS(key_rows)] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_high_s_is_refused),
        cmocka_unit_test(test_v_values),
        cmocka_unit_test(test_numbers_out_of_range),
        cmocka_unit_test(test_other_text_gives_other_wallet),
    };
    size_t count = 5;
    TEST_ADD_ROWS(tests, count, test_key_range, key_rows);
    return cmocka_run_group_tests_name("eth", tests, NULL, NULL);
}
