/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/keccak.h"
#include "test.h"
#include "vectors.h"

static void test_vectors(void **state) {
    (void)state;
    json_t *cases = vectors_load("keccak256.json");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        struct bytes msg = vectors_hex(row, "msg");
        struct bytes want = vectors_hex(row, "keccak256");
        uint8_t got[KECCAK256_BYTES];
        keccak256((struct span){ msg.ptr, msg.len }, got);
        assert_int_equal(want.len, sizeof(got));
        assert_memory_equal(got, want.ptr, sizeof(got));
        free(msg.ptr);
        free(want.ptr);
    }
    assert_true(i > 0);
    vectors_close(cases);
}

/* Every way of cutting two blocks in two gives the hash of the whole. */
static void test_parts(void **state) {
    (void)state;
    uint8_t text[272];
    memset(text, 'k', sizeof(text));
    uint8_t want[KECCAK256_BYTES];
    keccak256((struct span){ text, sizeof(text) }, want);
    for (size_t cut = 0; cut <= sizeof(text); cut++) {
        const struct span parts[] = { { text, cut }, { text + cut, sizeof(text) - cut } };
        uint8_t got[KECCAK256_BYTES];
        keccak256_parts(parts, 2, got);
        assert_memory_equal(got, want, sizeof(got));
    }
    uint8_t none[KECCAK256_BYTES];
    uint8_t empty[KECCAK256_BYTES];
    keccak256_parts(NULL, 0, none);
    keccak256(SPAN_EMPTY, empty);
    assert_memory_equal(none, empty, sizeof(none));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests_name("keccak", tests, NULL, NULL);
}
