/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "test.h"

struct blob_row {
    const char *name;
    const char *in;
    size_t in_len;
    enum err want;
    size_t left;
};

static struct blob_row blob_rows[] = {
    { "empty", "", 0, E_TRUNCATED, 0 },
    { "length_cut", "\0\0\0", 3, E_TRUNCATED, 3 },
    { "one_byte_short", "\0\0\0\2a", 5, E_TRUNCATED, 5 },
    { "exact_fit", "\0\0\0\2ab", 6, E_OK, 0 },
    { "at_limit", "\0\0\0\4abcd", 8, E_OK, 0 },
    { "over_limit", "\0\0\0\5abcde", 9, E_TOO_BIG, 9 },
    { "length_near_wrap", "\377\377\377\377", 4, E_TOO_BIG, 4 },
};

static void test_read_blob(void **state) {
    const struct blob_row *row = *state;
    uint8_t *in = test_dup(row->in, row->in_len);
    struct reader r = { in, row->in_len };
    struct span out = { 0 };
    assert_err_equal(read_blob(&r, 4, &out), row->want);
    assert_int_equal(r.len, row->left);
    free(in);
}

struct utf8_row {
    const char *name;
    const char *in;
    bool want;
};

static struct utf8_row utf8_rows[] = {
    { "ascii", "abc", true },
    { "two_bytes", "\xc3\xa9", true },
    { "four_bytes", "\xf0\x9f\x94\x91", true },
    { "last_code_point", "\xf4\x8f\xbf\xbf", true },
    { "past_last", "\xf4\x90\x80\x80", false },
    { "surrogate", "\xed\xa0\x80", false },
    { "overlong", "\xc0\xaf", false },
    { "cut", "\xe2\x82", false },
    { "stray_continuation", "\x80", false },
    { "bad_lead", "\xff", false },
};

static void test_utf8(void **state) {
    const struct utf8_row *row = *state;
    size_t len = strlen(row->in);
    uint8_t *in = test_dup(row->in, len);
    assert_int_equal(span_is_utf8((struct span){ in, len }), row->want);
    free(in);
}

static void test_writer_stops_at_capacity(void **state) {
    (void)state;
    uint8_t buf[6];
    struct writer w = { buf, 0, sizeof(buf) };
    assert_ok(write_u16(&w, 0x0102));
    assert_err(write_blob(&w, SPAN_LIT("a")), TOO_BIG);
    assert_int_equal(w.len, 2);
    assert_ok(write_u32(&w, 0x03040506));
    assert_err(write_u8(&w, 7), TOO_BIG);
    assert_memory_equal(buf, "\1\2\3\4\5\6", 6);
}

static void test_decimal(void **state) {
    (void)state;
    uint64_t v = 0;
    assert_ok(bytes_parse_decimal(SPAN_LIT("18446744073709551615"), UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    assert_err(bytes_parse_decimal(SPAN_LIT("18446744073709551616"), UINT64_MAX, &v), TOO_BIG);
    assert_err(bytes_parse_decimal(SPAN_LIT("11"), 10, &v), TOO_BIG);
    assert_err(bytes_parse_decimal(SPAN_LIT(""), 10, &v), MALFORMED);
    assert_err(bytes_parse_decimal(SPAN_LIT("1 "), 10, &v), MALFORMED);
    assert_err(bytes_parse_decimal(SPAN_LIT("-1"), 10, &v), MALFORMED);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(blob_rows) + TEST_ROWS(utf8_rows) + 2];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_read_blob, blob_rows);
    TEST_ADD_ROWS(tests, count, test_utf8, utf8_rows);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_writer_stops_at_capacity);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_decimal);
    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
