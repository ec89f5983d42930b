/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"
#include "test.h"
#include "vectors.h"

static const uint8_t key_bytes[SIPHASH_KEY_BYTES] = { 0, 1, 2,  3,  4,  5,  6,  7,
                                                      8, 9, 10, 11, 12, 13, 14, 15 };

/* Appendix A of the paper. */
static void test_paper(void **state) {
    (void)state;
    const struct siphash_key key = siphash_key_from(key_bytes);
    assert_true(key.k0 == 0x0706050403020100 && key.k1 == 0x0f0e0d0c0b0a0908);
    assert_true(siphash(&key, (struct span){ key_bytes, 15 }) == 0xa129ca6149be45e5);
}

static void test_vectors(void **state) {
    (void)state;
    const struct siphash_key key = siphash_key_from(key_bytes);
    json_t *cases = vectors_load("siphash.json");
    json_t *row = NULL;
    size_t len = 0;
    json_array_foreach(cases, len, row) {
        struct bytes want = vectors_hex(row, "hash");
        uint8_t all[64];
        for (size_t i = 0; i < sizeof(all); i++) {
            all[i] = (uint8_t)i;
        }
        uint8_t *in = test_dup(all, len);
        uint64_t hash = siphash(&key, (struct span){ in, len });
        for (size_t i = 0; i < 8; i++) {
            assert_int_equal((uint8_t)(hash >> (8 * i)), want.ptr[i]);
        }
        free(in);
        free(want.ptr);
    }
    assert_int_equal(len, 64);
    vectors_close(cases);
    assert_true(siphash(&key, SPAN_EMPTY) == siphash(&key, (struct span){ key_bytes, 0 }));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests_name("siphash", tests, NULL, NULL);
}
