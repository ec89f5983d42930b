/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "test.h"

struct span_row {
    const char *name;
    size_t in_len;
    size_t n;
    enum err want;
};

static struct span_row span_rows[] = {
    { "nothing_of_nothing", 0, 0, E_OK },
    { "empty", 0, 1, E_TRUNCATED },
    { "exact_fit", 3, 3, E_OK },
    { "one_byte_short", 3, 4, E_TRUNCATED },
    { "length_wraps", 3, SIZE_MAX, E_TRUNCATED },
};

static void test_read_span(void **state) {
    const struct span_row *row = *state;
    uint8_t *in = test_dup("abc", row->in_len);
    struct reader r = { in, row->in_len };
    struct span out = { 0 };
    assert_err_equal(read_span(&r, row->n, &out), row->want);
    assert_int_equal(out.len, row->want == E_OK ? row->n : 0);
    assert_int_equal(r.len, row->in_len - out.len);
    free(in);
}

static void test_read_integers(void **state) {
    (void)state;
    uint8_t *in = test_dup("\1\2\3\4\5\6\7", 7);
    struct reader r = { in, 7 };
    uint8_t u8 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    assert_err(read_u64(&r, &u64), TRUNCATED);
    assert_int_equal(r.len, 7);
    assert_ok(read_u8(&r, &u8));
    assert_ok(read_u16(&r, &u16));
    assert_ok(read_u32(&r, &u32));
    assert_true(u8 == 1 && u16 == 0x0203 && u32 == 0x04050607);
    assert_err(read_u8(&r, &u8), TRUNCATED);
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
    assert_err(write_span(&w, SPAN_LIT("abcde")), TOO_BIG);
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
    struct CMUnitTest tests[TEST_ROWS(span_rows) + TEST_ROWS(utf8_rows) + 3];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_read_span, span_rows);
    TEST_ADD_ROWS(tests, count, test_utf8, utf8_rows);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_read_integers);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_writer_stops_at_capacity);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_decimal);
    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
