/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "test.h"

#define TEXT_MAX 64

struct json_row {
    const char *name;
    const char *text;
    enum err want;
};

#define SIXTEEN(x) x x x x x x x x x x x x x x x x

static struct json_row json_rows[] = {
    { "object", "{\"a\": [1, true, null]}", E_OK },
    { "array", "[]", E_OK },
    { "nothing", "", E_MALFORMED },
    { "scalar", "1", E_MALFORMED },
    { "trailing", "{} {}", E_MALFORMED },
    { "cut", "{\"a\":", E_MALFORMED },
    { "escaped_nul", "[\"\\u0000\"]", E_MALFORMED },
    { "closed_too_often", "]]{}", E_MALFORMED },
    { "backslash_at_the_end", "[\"\\", E_MALFORMED },
    { "duplicate_key", "{\"a\":1,\"a\":2}", E_MALFORMED },
    { "invalid_utf8", "[\"\xff\"]", E_MALFORMED },
    { "integer_past_64_bits", "[9223372036854775808]", E_MALFORMED },
    { "depth_at_max", SIXTEEN("[") SIXTEEN("]"), E_OK },
    { "depth_past_max", "[" SIXTEEN("[") SIXTEEN("]") "]", E_TOO_BIG },
    { "brackets_in_a_string", "[\"" SIXTEEN("[") "[\"]", E_OK },
    { "escaped_quote_in_a_string", "[\"\\\"" SIXTEEN("{") "\"]", E_OK },
    { "brackets_after_a_string", "[\"\\\\\"," SIXTEEN("["), E_TOO_BIG },
    { "length_at_max", SIXTEEN(" ") SIXTEEN(" ") SIXTEEN(" ") "           [1,2]", E_OK },
    { "length_past_max", SIXTEEN(" ") SIXTEEN(" ") SIXTEEN(" ") "            [1,2]", E_TOO_BIG },
};

static void test_json_parse(void **state) {
    const struct json_row *row = *state;
    size_t len = strlen(row->text);
    uint8_t *text = test_dup(row->text, len);
    char error[JSON_ERROR_BYTES];
    json_t *value = NULL;
    assert_err_equal(json_parse((struct span){ text, len }, TEXT_MAX, &value, error), row->want);
    assert_int_equal(value != NULL, row->want == E_OK);
    /* The sentence says where parsing stopped; a limit needs none. */
    assert_int_equal(error[0] != '\0', row->want == E_MALFORMED);
    json_decref(value);
    free(text);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(json_rows)];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_json_parse, json_rows);
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
