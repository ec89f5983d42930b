/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/envelope.h"
#include "test.h"
#include "vectors.h"

static void key_from(struct envelope_key *key, const json_t *row, const char *field) {
    struct bytes scalar = vectors_hex(row, field);
    assert_int_equal(scalar.len, ENVELOPE_SCALAR_BYTES);
    assert_ok(envelope_key_from_scalar(key, scalar.ptr));
    free(scalar.ptr);
}

static void check_public(const struct envelope_key *key, const json_t *row, const char *field) {
    struct bytes want = vectors_hex(row, field);
    assert_int_equal(want.len, ENVELOPE_POINT_BYTES);
    assert_memory_equal(key->public_key.sec1, want.ptr, want.len);
    free(want.ptr);
}

static void check_row(const json_t *row) {
    struct envelope_key sender;
    struct envelope_key receiver;
    key_from(&sender, row, "sender_private");
    key_from(&receiver, row, "receiver_private");
    check_public(&sender, row, "sender_public_sec1");
    check_public(&receiver, row, "receiver_public_sec1");
    struct span text = vectors_text(row, "plaintext");
    uint8_t *plain = test_dup(text.ptr, text.len);
    struct bytes nonce = vectors_hex(row, "nonce");
    struct bytes sealed = vectors_hex(row, "encrypted_data");
    assert_int_equal(nonce.len, ENVELOPE_NONCE_BYTES);
    assert_int_equal(sealed.len, text.len + ENVELOPE_TAG_BYTES);

    const struct envelope out = { &sender, &receiver.public_key, nonce.ptr };
    uint8_t *made = malloc(sealed.len);
    assert_non_null(made);
    assert_ok(envelope_seal(&out, (struct span){ plain, text.len }, made));
    assert_memory_equal(made, sealed.ptr, sealed.len);
    const struct envelope in = { &receiver, &sender.public_key, nonce.ptr };
    uint8_t *opened = malloc(text.len + 1);
    assert_non_null(opened);
    assert_ok(envelope_open(&in, (struct span){ sealed.ptr, sealed.len }, opened));
    assert_memory_equal(opened, plain, text.len);

    free(opened);
    free(made);
    free(sealed.ptr);
    free(nonce.ptr);
    free(plain);
    envelope_key_close(&sender);
    envelope_key_close(&receiver);
}

static void test_vectors(void **state) {
    (void)state;
    vectors_each("odyn-envelope.json", check_row);
}

static const uint8_t nonce_1[ENVELOPE_NONCE_BYTES] = { 1 };

static void test_what_differs_is_refused(void **state) {
    (void)state;
    struct envelope_key a;
    struct envelope_key b;
    struct envelope_key c;
    assert_ok(envelope_key_init(&a));
    assert_ok(envelope_key_init(&b));
    assert_ok(envelope_key_init(&c));
    uint8_t sealed[5 + ENVELOPE_TAG_BYTES];
    uint8_t opened[5];
    const struct span in = { sealed, sizeof(sealed) };
    assert_ok(
        envelope_seal(&(struct envelope){ &a, &b.public_key, nonce_1 }, SPAN_LIT("hello"), sealed));
    const struct envelope good = { &b, &a.public_key, nonce_1 };
    for (size_t i = 0; i < sizeof(sealed); i++) {
        static const uint8_t zeros[5];
        memset(opened, 0xff, sizeof(opened));
        sealed[i] ^= 1;
        assert_err(envelope_open(&good, in, opened), BAD_AUTH);
        assert_memory_equal(opened, zeros, sizeof(zeros));
        sealed[i] ^= 1;
    }
    const uint8_t nonce_2[ENVELOPE_NONCE_BYTES] = { 2 };
    assert_err(envelope_open(&(struct envelope){ &b, &a.public_key, nonce_2 }, in, opened),
               BAD_AUTH);
    assert_err(envelope_open(&(struct envelope){ &b, &c.public_key, nonce_1 }, in, opened),
               BAD_AUTH);
    assert_err(envelope_open(&(struct envelope){ &c, &a.public_key, nonce_1 }, in, opened),
               BAD_AUTH);
    assert_err(envelope_open(&good, (struct span){ sealed, ENVELOPE_TAG_BYTES - 1 }, opened),
               TRUNCATED);
    assert_err(envelope_open(&good, SPAN_EMPTY, opened), TRUNCATED);
    assert_err(envelope_seal(&good, (struct span){ sealed, ENVELOPE_PLAIN_BYTES_MAX + 1 }, opened),
               TOO_BIG);
    assert_ok(envelope_open(&good, in, opened));
    assert_memory_equal(opened, "hello", 5);
    envelope_key_close(&a);
    envelope_key_close(&a);
    envelope_key_close(&b);
    envelope_key_close(&c);
}

/* FIPS 186-4, D.1.2.4. */
#define ORDER                                          \
    "ffffffffffffffffffffffffffffffffffffffffffffffff" \
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973"
#define ORDER_LESS_ONE                                 \
    "ffffffffffffffffffffffffffffffffffffffffffffffff" \
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52972"
#define ZEROS_47                                       \
    "000000000000000000000000000000000000000000000000" \
    "0000000000000000000000000000000000000000000000"

struct scalar_row {
    const char *name;
    const char *hex;
    enum err want;
};

static struct scalar_row scalar_rows[] = {
    { "zero", ZEROS_47 "00", E_INVALID },
    { "one", ZEROS_47 "01", E_OK },
    { "order_less_one", ORDER_LESS_ONE, E_OK },
    { "order", ORDER, E_INVALID },
};

static void test_scalar(void **state) {
    const struct scalar_row *row = *state;
    uint8_t scalar[ENVELOPE_SCALAR_BYTES];
    assert_ok(hex_decode(span_str(row->hex), scalar, sizeof(scalar)));
    struct envelope_key key;
    assert_err_equal(envelope_key_from_scalar(&key, scalar), row->want);
    assert_true((key.scalar.ptr != NULL) == (row->want == E_OK));
    envelope_key_close(&key);
}

static void test_public_key_forms(void **state) {
    (void)state;
    struct envelope_key key;
    assert_ok(envelope_key_init(&key));
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(&key.public_key, der);
    struct envelope_public read;
    assert_ok(envelope_public_parse((struct span){ der, sizeof(der) }, &read));
    assert_true(envelope_public_equal(&read, &key.public_key));

    /* Every length but the right one, and every byte of the head changed. */
    uint8_t *longer = malloc(sizeof(der) + 1);
    assert_non_null(longer);
    memcpy(longer, der, sizeof(der));
    longer[sizeof(der)] = 0;
    assert_err(envelope_public_parse((struct span){ longer, sizeof(der) + 1 }, &read), MALFORMED);
    free(longer);
    for (size_t len = 0; len < sizeof(der); len++) {
        uint8_t *cut = test_dup(der, len);
        assert_err(envelope_public_parse((struct span){ cut, len }, &read), MALFORMED);
        free(cut);
    }
    for (size_t i = 0; i < sizeof(der); i++) {
        der[i] ^= 1; /* In the point: off the curve. */
        assert_err(envelope_public_parse((struct span){ der, sizeof(der) }, &read), MALFORMED);
        der[i] ^= 1;
    }
    envelope_key_close(&key);
}

static void test_points_that_are_none(void **state) {
    (void)state;
    struct envelope_public read;
    uint8_t point[ENVELOPE_POINT_BYTES] = { 0x04 };
    const struct span in = { point, sizeof(point) };
    assert_err(envelope_public_from_point(in, &read), MALFORMED);
    memset(point + 1, 0xff, sizeof(point) - 1); /* Over the prime. */
    assert_err(envelope_public_from_point(in, &read), MALFORMED);
    struct envelope_key key;
    assert_ok(envelope_key_init(&key));
    memcpy(point, key.public_key.sec1, sizeof(point));
    static const uint8_t forms[] = { 0x00, 0x02, 0x03, 0x06, 0x07 };
    for (size_t i = 0; i < sizeof(forms); i++) {
        point[0] = forms[i];
        assert_err(envelope_public_from_point(in, &read), MALFORMED);
        assert_err(envelope_public_from_point((struct span){ point, 49 }, &read), MALFORMED);
    }
    const uint8_t infinity[1] = { 0 };
    assert_err(envelope_public_from_point((struct span){ infinity, 1 }, &read), MALFORMED);
    envelope_key_close(&key);
}

static void test_close_of_zero(void **state) {
    (void)state;
    struct envelope_key key = { 0 };
    envelope_key_close(&key);
    assert_null(key.scalar.ptr);
}

int main(void) {
    struct CMUnitTest tests[5 + TEST_ROWS(scalar_rows)] = {
        cmocka_unit_test(test_vectors),          cmocka_unit_test(test_what_differs_is_refused),
        cmocka_unit_test(test_public_key_forms), cmocka_unit_test(test_points_that_are_none),
        cmocka_unit_test(test_close_of_zero),
    };
    size_t count = 5;
    TEST_ADD_ROWS(tests, count, test_scalar, scalar_rows);
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
