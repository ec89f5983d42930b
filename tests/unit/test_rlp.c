/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/rlp.h"
#include "test.h"

static uint8_t filler[70000];

struct head_row {
    const char *name;
    const char *in;
    size_t in_len;
    size_t payload_len; /* Of filler, after in. */
    enum err want;
};

#define ROW(name, in, payload_len, want) \
    { name, in, sizeof(in) - 1, payload_len, want }

static struct head_row string_rows[] = {
    ROW("nothing", "", 0, E_TRUNCATED),
    ROW("empty", "\x80", 0, E_OK),
    ROW("one_small_byte", "\x7f", 0, E_OK),
    ROW("one_large_byte", "\x81\x80", 0, E_OK),
    ROW("one_small_byte_with_prefix", "\x81\x7f", 0, E_MALFORMED),
    ROW("length_2_cut", "\x82\x01", 0, E_TRUNCATED),
    ROW("length_55", "\xb7", 55, E_OK),
    ROW("length_55_cut", "\xb7", 54, E_TRUNCATED),
    ROW("length_55_in_the_long_form", "\xb8\x37", 55, E_MALFORMED),
    ROW("length_56", "\xb8\x38", 56, E_OK),
    ROW("length_56_cut", "\xb8\x38", 55, E_TRUNCATED),
    ROW("length_255", "\xb8\xff", 255, E_OK),
    ROW("length_256", "\xb9\x01\x00", 256, E_OK),
    ROW("length_with_leading_zero", "\xb9\x00\xff", 255, E_MALFORMED),
    ROW("length_65536", "\xba\x01\x00\x00", 65536, E_OK),
    ROW("length_missing", "\xb9\x01", 0, E_TRUNCATED),
    ROW("length_of_eight_bytes", "\xbf\xff\xff\xff\xff\xff\xff\xff\xff", 100, E_TRUNCATED),
    ROW("list", "\xc0", 0, E_MALFORMED),
    ROW("long_list", "\xf8\x38", 56, E_MALFORMED),
};

static struct head_row list_rows[] = {
    ROW("list_nothing", "", 0, E_TRUNCATED),
    ROW("list_empty", "\xc0", 0, E_OK),
    ROW("list_55", "\xf7", 55, E_OK),
    ROW("list_55_cut", "\xf7", 54, E_TRUNCATED),
    ROW("list_55_in_the_long_form", "\xf8\x37", 55, E_MALFORMED),
    ROW("list_56", "\xf8\x38", 56, E_OK),
    ROW("list_256", "\xf9\x01\x00", 256, E_OK),
    ROW("list_length_with_leading_zero", "\xf9\x00\xff", 255, E_MALFORMED),
    ROW("list_length_near_wrap", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9, E_TRUNCATED),
    ROW("list_that_is_a_string", "\x80", 0, E_MALFORMED),
    ROW("list_that_is_a_byte", "\x01", 0, E_MALFORMED),
};

static uint8_t *make_input(const struct head_row *row, size_t *len) {
    *len = row->in_len + row->payload_len;
    uint8_t *in = malloc(*len == 0 ? 1 : *len);
    assert_non_null(in);
    memcpy(in, row->in, row->in_len);
    memcpy(in + row->in_len, filler, row->payload_len);
    return in;
}

static void test_string(void **state) {
    const struct head_row *row = *state;
    size_t len = 0;
    uint8_t *in = make_input(row, &len);
    struct reader r = { in, len };
    struct span out = SPAN_EMPTY;
    assert_err_equal(rlp_read_string(&r, &out), row->want);
    assert_int_equal(r.len, row->want == E_OK ? 0 : len);
    if (row->want == E_OK) {
        uint8_t *again = malloc(len);
        assert_non_null(again);
        struct writer w = { again, 0, len };
        assert_ok(rlp_write_string(&w, out));
        assert_true(span_equal(writer_span(&w), (struct span){ in, len }));
        w = (struct writer){ again, 0, len - 1 };
        assert_err(rlp_write_string(&w, out), TOO_BIG);
        free(again);
    }
    free(in);
}

static void test_list(void **state) {
    const struct head_row *row = *state;
    size_t len = 0;
    uint8_t *in = make_input(row, &len);
    struct reader r = { in, len };
    struct reader items = { NULL, 0 };
    assert_err_equal(rlp_read_list(&r, &items), row->want);
    assert_int_equal(r.len, row->want == E_OK ? 0 : len);
    if (row->want == E_OK) {
        assert_int_equal(items.len, row->payload_len);
        uint8_t head[RLP_HEAD_BYTES_MAX];
        struct writer w = { head, 0, sizeof(head) };
        assert_ok(rlp_write_list_head(&w, items.len));
        assert_int_equal(w.len, row->in_len);
        assert_memory_equal(head, in, w.len);
    }
    free(in);
}

struct number_row {
    const char *name;
    const char *in;
    size_t in_len;
    uint64_t value;
    enum err want;
    enum err want_u256;
};

static struct number_row number_rows[] = {
    { "zero", "\x80", 1, 0, E_OK, E_OK },
    { "zero_as_a_byte", "\x00", 1, 0, E_MALFORMED, E_MALFORMED },
    { "one", "\x01", 1, 1, E_OK, E_OK },
    { "u_127", "\x7f", 1, 127, E_OK, E_OK },
    { "u_128", "\x81\x80", 2, 128, E_OK, E_OK },
    { "u_256", "\x82\x01\x00", 3, 256, E_OK, E_OK },
    { "leading_zero", "\x82\x00\x80", 3, 0, E_MALFORMED, E_MALFORMED },
    { "u64_max", "\x88\xff\xff\xff\xff\xff\xff\xff\xff", 9, UINT64_MAX, E_OK, E_OK },
    { "u64_max_plus_one", "\x89\x01\0\0\0\0\0\0\0\0", 10, 0, E_TOO_BIG, E_OK },
    { "list", "\xc0", 1, 0, E_MALFORMED, E_MALFORMED },
    { "nothing", "", 0, 0, E_TRUNCATED, E_TRUNCATED },
};

static void test_number(void **state) {
    const struct number_row *row = *state;
    uint8_t *in = test_dup(row->in, row->in_len);
    struct reader r = { in, row->in_len };
    uint64_t value = 0;
    assert_err_equal(rlp_read_u64(&r, &value), row->want);
    assert_int_equal(r.len, row->want == E_OK ? 0 : row->in_len);
    uint8_t again[RLP_HEAD_BYTES_MAX];
    struct writer w = { again, 0, sizeof(again) };
    if (row->want == E_OK) {
        assert_true(value == row->value);
        assert_ok(rlp_write_u64(&w, value));
        assert_true(span_equal(writer_span(&w), (struct span){ in, row->in_len }));
    }
    r = (struct reader){ in, row->in_len };
    uint8_t number[RLP_U256_BYTES];
    assert_err_equal(rlp_read_u256(&r, number), row->want_u256);
    if (row->want == E_OK) {
        w.len = 0;
        assert_ok(rlp_write_u256(&w, number));
        assert_true(span_equal(writer_span(&w), (struct span){ in, row->in_len }));
    }
    free(in);
}

static void test_u256_limits(void **state) {
    (void)state;
    uint8_t in[34];
    memset(in, 0xff, sizeof(in));
    in[0] = 0xa0;
    struct reader r = { in, 33 };
    uint8_t number[RLP_U256_BYTES];
    assert_ok(rlp_read_u256(&r, number));
    assert_memory_equal(number, in + 1, 32);
    in[0] = 0xa1;
    r = (struct reader){ in, 34 };
    assert_err(rlp_read_u256(&r, number), TOO_BIG);
    uint8_t out[1];
    struct writer w = { out, 0, sizeof(out) };
    assert_err(rlp_write_list_head(&w, 56), TOO_BIG);
    assert_int_equal(w.len, 0);
    assert_ok(rlp_write_list_head(&w, 55));
    assert_err(rlp_write_string_head(&w, 0), TOO_BIG);
}

int main(void) {
    memset(filler, 0xaa, sizeof(filler));
    struct CMUnitTest tests[1 + TEST_ROWS(string_rows) + TEST_ROWS(list_rows) +
                            TEST_ROWS(number_rows)] = { cmocka_unit_test(test_u256_limits) };
    size_t count = 1;
    TEST_ADD_ROWS(tests, count, test_string, string_rows);
    TEST_ADD_ROWS(tests, count, test_list, list_rows);
    TEST_ADD_ROWS(tests, count, test_number, number_rows);
    return cmocka_run_group_tests_name("rlp", tests, NULL, NULL);
}
