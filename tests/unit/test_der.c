/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/der.h"
#include "test.h"

struct read_row {
    const char *name;
    const char *in;
    size_t in_len;
    enum err want;
    size_t content_len;
};

static struct read_row read_rows[] = {
    { "empty", "", 0, E_TRUNCATED, 0 },
    { "tag_alone", "\x04", 1, E_TRUNCATED, 0 },
    { "no_content", "\x04\x00", 2, E_OK, 0 },
    { "one_byte", "\x04\x01z", 3, E_OK, 1 },
    { "one_byte_short", "\x04\x02z", 3, E_TRUNCATED, 0 },
    { "more_follows", "\x04\x01zz", 4, E_OK, 1 },
    { "other_tag", "\x05\x01z", 3, E_MALFORMED, 0 },
    { "length_of_a_length", "\x04\x81", 2, E_TRUNCATED, 0 },
    { "long_form_for_127", "\x04\x81\x7f", 3, E_MALFORMED, 0 },
    { "long_form_short", "\x04\x81\x80z", 4, E_TRUNCATED, 0 },
    { "two_byte_form_for_255", "\x04\x82\x00\xff", 4, E_MALFORMED, 0 },
    { "two_byte_form_short", "\x04\x82\x01\x00z", 5, E_TRUNCATED, 0 },
    { "two_byte_form_cut", "\x04\x82\x01", 3, E_TRUNCATED, 0 },
    { "three_byte_form", "\x04\x83\x01\x00\x00", 5, E_MALFORMED, 0 },
    { "indefinite", "\x04\x80\x00\x00", 4, E_MALFORMED, 0 },
};

static void test_read(void **state) {
    const struct read_row *row = *state;
    uint8_t *in = test_dup(row->in, row->in_len);
    struct reader r = { in, row->in_len };
    struct span content = SPAN_EMPTY;
    assert_err_equal(der_read(&r, DER_OCTET_STRING, &content), row->want);
    if (row->want == E_OK) {
        assert_int_equal(content.len, row->content_len);
        assert_int_equal(r.len, row->in_len - 2 - row->content_len);
    } else {
        assert_int_equal(r.len, row->in_len);
    }
    free(in);
}

/* What is written is read back, at every length where the form of the length changes. */
static void test_write_then_read(void **state) {
    (void)state;
    static uint8_t content[65536];
    static uint8_t buf[sizeof(content) + 4];
    const size_t lens[] = { 0, 1, 127, 128, 255, 256, 65535 };
    const size_t heads[] = { 2, 2, 2, 3, 3, 4, 4 };
    for (size_t i = 0; i < TEST_ROWS(lens); i++) {
        struct writer exact = { buf, 0, lens[i] + heads[i] };
        struct writer small = { buf, 0, lens[i] + heads[i] - 1 };
        const struct span in = { content, lens[i] };
        assert_err(der_write(&small, DER_SEQUENCE, in), TOO_BIG);
        assert_int_equal(small.len, 0);
        assert_ok(der_write(&exact, DER_SEQUENCE, in));
        assert_int_equal(exact.len, exact.bytes);
        struct reader r = { buf, exact.len };
        struct span out = SPAN_EMPTY;
        assert_ok(der_read(&r, DER_SEQUENCE, &out));
        assert_int_equal(out.len, lens[i]);
        assert_int_equal(r.len, 0);
    }
    struct writer w = { buf, 0, sizeof(buf) };
    assert_err(der_write(&w, DER_SEQUENCE, (struct span){ content, 65536 }), TOO_BIG);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(read_rows) + 1] = {
        cmocka_unit_test(test_write_then_read),
    };
    size_t count = 1;
    TEST_ADD_ROWS(tests, count, test_read, read_rows);
    return cmocka_run_group_tests_name("der", tests, NULL, NULL);
}
