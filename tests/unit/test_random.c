/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/random.h"
#include "test.h"

/* All bytes are written: 64 draws that all leave some byte as it was have probability 2^-500. */
static void test_fills_every_byte(void **state) {
    (void)state;
    uint8_t seen[300] = { 0 };
    for (size_t i = 0; i < 64; i++) {
        uint8_t out[sizeof(seen)] = { 0 };
        assert_ok(random_bytes(out, sizeof(out)));
        for (size_t at = 0; at < sizeof(out); at++) {
            seen[at] |= out[at];
        }
    }
    for (size_t at = 0; at < sizeof(seen); at++) {
        assert_true(seen[at] != 0);
    }
    assert_ok(random_bytes(seen, 0));
}

static void test_for_mbedtls(void **state) {
    (void)state;
    uint8_t a[32] = { 0 };
    uint8_t b[32] = { 0 };
    assert_int_equal(random_mbedtls(NULL, a, sizeof(a)), 0);
    assert_int_equal(random_mbedtls(NULL, b, sizeof(b)), 0);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_ok(random_mbedtls_init());
    assert_ok(random_mbedtls_init());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fills_every_byte),
        cmocka_unit_test(test_for_mbedtls),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
