/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/odyn_json.h"
#include "test.h"

struct take_row {
    const char *name;
    const char *in;
    enum err want;
    const char *out;
};

static struct take_row take_rows[] = {
    { "plain", "{\"a\":\"b\"}", E_OK, "b" },
    { "blanks", " \t\r\n{ \"a\" : \"b\" } \n", E_OK, "b" },
    { "empty", "{\"a\":\"\"}", E_OK, "" },
    { "among_others", "{\"x\":\"y\",\"n\":-1.5E+3,\"a\":\"b\",\"t\":true,\"z\":null}", E_OK, "b" },
    { "escapes", "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", E_OK, "\"\\/\b\f\n\r\t" },
    { "unit", "{\"a\":\"\\u0041\\u00fc\\u20ac\"}", E_OK, "A\xc3\xbc\xe2\x82\xac" },
    { "pair", "{\"a\":\"\\uD83D\\ude00\"}", E_OK, "\xf0\x9f\x98\x80" },
    { "utf8", "{\"a\":\"\xc3\xbc\"}", E_OK, "\xc3\xbc" },
    { "value_like_name", "{\"b\":\"a\",\"a\":\"c\"}", E_OK, "c" },
    { "name_escaped", "{\"\\u0061\":\"b\"}", E_OK, "b" },
    { "missing", "{}", E_NOT_FOUND, "" },
    { "other_name", "{\"aa\":\"b\"}", E_NOT_FOUND, "" },
    { "number", "{\"a\":1}", E_INVALID, "" },
    { "null", "{\"a\":null}", E_INVALID, "" },
    { "nothing", "", E_MALFORMED, "" },
    { "open", "{", E_MALFORMED, "" },
    { "no_colon", "{\"a\" \"b\"}", E_MALFORMED, "" },
    { "no_value", "{\"a\":}", E_MALFORMED, "" },
    { "comma_at_end", "{\"a\":\"b\",}", E_MALFORMED, "" },
    { "no_comma", "{\"a\":\"b\" \"c\":\"d\"}", E_MALFORMED, "" },
    { "twice", "{\"a\":\"b\",\"a\":\"c\"}", E_MALFORMED, "" },
    { "twice_second_null", "{\"a\":\"b\",\"a\":null}", E_MALFORMED, "" },
    { "array", "[\"a\"]", E_MALFORMED, "" },
    { "nested_object", "{\"a\":{\"a\":\"b\"}}", E_MALFORMED, "" },
    { "nested_array", "{\"x\":[],\"a\":\"b\"}", E_MALFORMED, "" },
    { "after_the_end", "{\"a\":\"b\"}x", E_MALFORMED, "" },
    { "two_objects", "{\"a\":\"b\"}{}", E_MALFORMED, "" },
    { "unquoted_name", "{a:\"b\"}", E_MALFORMED, "" },
    { "string_open", "{\"a\":\"b", E_MALFORMED, "" },
    { "string_open_escape", "{\"a\":\"b\\", E_MALFORMED, "" },
    { "unit_cut", "{\"a\":\"\\u00", E_MALFORMED, "" },
    { "unit_not_hex", "{\"a\":\"\\u00g0\"}", E_MALFORMED, "" },
    { "unit_0x", "{\"a\":\"\\u0x12\"}", E_MALFORMED, "" },
    { "escape_unknown", "{\"a\":\"\\x\"}", E_MALFORMED, "" },
    { "lone_high", "{\"a\":\"\\ud83d\"}", E_MALFORMED, "" },
    { "lone_low", "{\"a\":\"\\ude00\"}", E_MALFORMED, "" },
    { "high_and_unit", "{\"a\":\"\\ud83d\\u0041\"}", E_MALFORMED, "" },
    { "high_cut", "{\"a\":\"\\ud83d\\u", E_MALFORMED, "" },
    { "control", "{\"a\":\"\n\"}", E_MALFORMED, "" },
    { "not_utf8", "{\"a\":\"\xff\"}", E_MALFORMED, "" },
    { "surrogate_in_utf8", "{\"a\":\"\xed\xa0\x80\"}", E_MALFORMED, "" },
    { "quote_in_number", "{\"a\":1\"2\"}", E_MALFORMED, "" },
};

static void test_take(void **state) {
    const struct take_row *row = *state;
    size_t len = strlen(row->in);
    uint8_t *in = test_dup(row->in, len);
    struct span out = SPAN_EMPTY;
    assert_err_equal(odyn_json_take_string(in, len, "a", &out), row->want);
    assert_true(span_equal(out, span_str(row->out)));
    free(in);
}

struct write_row {
    const char *name;
    const char *in;
    const char *out;
};

static struct write_row write_rows[] = {
    { "write_empty", "", "\"\"" },
    { "write_plain", "hello \xc3\xbc/", "\"hello \xc3\xbc/\"" },
    { "write_quotes", "\"\\", "\"\\\"\\\\\"" },
    { "write_control", "\x01\n\x1f\x7f", "\"\\u0001\\u000a\\u001f\x7f\"" },
};

/* Into exactly the room it takes, and into one byte less; what was written is read again. */
static void test_write(void **state) {
    const struct write_row *row = *state;
    size_t len = strlen(row->out);
    uint8_t *out = malloc(len);
    assert_non_null(out);
    struct writer w = { out, 0, len };
    assert_ok(odyn_json_write_string(&w, span_str(row->in)));
    assert_true(span_equal(writer_span(&w), span_str(row->out)));
    for (size_t room = 0; room < len; room++) {
        w = (struct writer){ out, 0, room };
        assert_err(odyn_json_write_string(&w, span_str(row->in)), TOO_BIG);
        assert_int_equal(w.len, 0);
    }
    free(out);
    uint8_t text[128];
    w = (struct writer){ text, 0, sizeof(text) };
    assert_ok(write_span(&w, SPAN_LIT("{\"a\":")));
    assert_ok(odyn_json_write_string(&w, span_str(row->in)));
    assert_ok(write_span(&w, SPAN_LIT("}")));
    struct span back = SPAN_EMPTY;
    assert_ok(odyn_json_take_string(text, w.len, "a", &back));
    assert_true(span_equal(back, span_str(row->in)));
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(take_rows) + TEST_ROWS(write_rows)];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_take, take_rows);
    TEST_ADD_ROWS(tests, count, test_write, write_rows);
    return cmocka_run_group_tests_name("odyn_json", tests, NULL, NULL);
}
