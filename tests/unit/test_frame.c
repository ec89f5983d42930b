/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"
#include "test.h"
#include "wire/frame.h"

#define LIMIT 64

/* Hand-made frames: length, header length, header, payload; in hex. */
static struct row {
    const char *name;
    const char *hex;
    enum err want;
    size_t left;
} rows[] = {
    { "empty", "", E_AGAIN, 0 },
    { "length_cut", "000000", E_AGAIN, 3 },
    { "length_0", "00000000", E_MALFORMED, 4 },
    { "length_1", "0000000100", E_MALFORMED, 5 },
    { "length_at_limit_incomplete", "00000040", E_AGAIN, 4 },
    { "length_over_limit", "00000041", E_TOO_BIG, 4 },
    { "length_near_wrap", "ffffffff", E_TOO_BIG, 4 },
    { "no_header", "000000020000", E_MALFORMED, 6 },
    { "header_longer_than_frame", "0000000300020a", E_TRUNCATED, 7 },
    { "request",
      "00000006"
      "0004"
      "0a020807",
      E_OK, 0 },
    { "request_with_payload",
      "00000009"
      "0004"
      "0a020807"
      "aabbcc",
      E_OK, 0 },
    { "request_one_byte_short",
      "00000009"
      "0004"
      "0a020807"
      "aabb",
      E_AGAIN, 12 },
    { "request_and_more",
      "00000006"
      "0004"
      "0a020807"
      "00",
      E_OK, 1 },
    { "request_without_call_id",
      "00000004"
      "0002"
      "0a00",
      E_MALFORMED, 8 },
    { "request_call_id_0",
      "00000006"
      "0004"
      "0a020800",
      E_MALFORMED, 10 },
    { "request_unknown_field_inside",
      "00000008"
      "0006"
      "0a0408077801",
      E_OK, 0 },
    { "request_and_cancel",
      "0000000a"
      "0008"
      "0a0208071a020807",
      E_MALFORMED, 14 },
    { "garbage_after_kind",
      "00000007"
      "0005"
      "0a02080700",
      E_MALFORMED, 11 },
    { "kind_cut",
      "00000005"
      "0003"
      "0a0208",
      E_MALFORMED, 9 },
    { "kind_0",
      "00000006"
      "0004"
      "02020807",
      E_MALFORMED, 10 },
    { "kind_unknown",
      "00000006"
      "0004"
      "32020807",
      E_MALFORMED, 10 },
    { "kind_wrong_wire_type",
      "00000004"
      "0002"
      "0807",
      E_MALFORMED, 8 },
    { "kind_length_not_shortest",
      "00000007"
      "0005"
      "0a82000807",
      E_MALFORMED, 11 },
    { "kind_length_of_three_bytes",
      "00000008"
      "0006"
      "0a8280000807",
      E_MALFORMED, 12 },
    { "kind_garbage",
      "00000005"
      "0003"
      "0a01ff",
      E_MALFORMED, 9 },
    { "field_0_inside",
      "00000008"
      "0006"
      "0a0408070000",
      E_MALFORMED, 12 },
    { "response",
      "00000006"
      "0004"
      "12020807",
      E_OK, 0 },
    { "response_with_payload",
      "00000007"
      "0004"
      "12020807"
      "aa",
      E_OK, 0 },
    { "response_call_id_0",
      "00000004"
      "0002"
      "1200",
      E_MALFORMED, 8 },
    { "response_error",
      "0000000b"
      "0009"
      "120708071005"
      "1a0178",
      E_OK, 0 },
    { "response_error_with_payload",
      "00000009"
      "0006"
      "120408071005"
      "aa",
      E_MALFORMED, 13 },
    { "response_text_not_utf8",
      "0000000b"
      "0009"
      "120708071005"
      "1a01ff",
      E_MALFORMED, 15 },
    { "response_details",
      "0000000a"
      "0008"
      "1206080722020801",
      E_OK, 0 },
    { "response_stamp_writer_short",
      "0000000e"
      "000c"
      "120a08072206120412020102",
      E_MALFORMED, 18 },
    { "cancel",
      "00000006"
      "0004"
      "1a020807",
      E_OK, 0 },
    { "cancel_call_id_0",
      "00000004"
      "0002"
      "1a00",
      E_MALFORMED, 8 },
    { "cancel_with_payload",
      "00000007"
      "0004"
      "1a020807"
      "aa",
      E_MALFORMED, 11 },
    { "ping",
      "0000000d"
      "000b"
      "2209090100000000000000",
      E_OK, 0 },
    { "ping_empty",
      "00000004"
      "0002"
      "2200",
      E_OK, 0 },
    { "ping_with_payload",
      "00000005"
      "0002"
      "2200"
      "aa",
      E_MALFORMED, 9 },
    { "goaway",
      "00000004"
      "0002"
      "2a00",
      E_OK, 0 },
    { "goaway_not_utf8",
      "00000007"
      "0005"
      "2a031a01ff",
      E_MALFORMED, 11 },
    { "goaway_with_payload",
      "00000005"
      "0002"
      "2a00"
      "aa",
      E_MALFORMED, 9 },
};

static void test_read(void **state) {
    const struct row *c = *state;
    uint8_t bytes[128];
    size_t len = strlen(c->hex) / 2;
    assert_ok(hex_decode(span_str(c->hex), bytes, len));
    uint8_t *in = test_dup(bytes, len);
    struct reader r = { in, len };
    struct frame frame;
    const char *why = NULL;
    assert_err_equal(frame_read(&r, LIMIT, &frame, &why), c->want);
    assert_int_equal(r.len, c->left);
    assert_int_equal(why != NULL, c->want != E_OK && c->want != E_AGAIN);
    free(in);
}

static size_t write_all(uint8_t *buf, size_t bytes, const novakms_v1_FrameHeader *header,
                        struct span payload) {
    struct writer w = { buf, 0, bytes };
    assert_ok(frame_write(&w, header, payload, FRAME_BYTES_MAX_DEFAULT));
    return w.len;
}

static void read_all(const uint8_t *buf, size_t len, struct frame *out) {
    struct reader r = { buf, len };
    const char *why = NULL;
    assert_ok(frame_read(&r, FRAME_BYTES_MAX_DEFAULT, out, &why));
    assert_int_equal(r.len, 0);
}

static void test_request_round_trip(void **state) {
    (void)state;
    char method[FRAME_METHOD_BYTES_MAX];
    memset(method, 'm', sizeof(method));
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_request(&header, UINT64_MAX, (struct span){ (uint8_t *)method, sizeof(method) },
                      UINT32_MAX);
    uint8_t buf[256];
    size_t len = write_all(buf, sizeof(buf), &header, SPAN_LIT("payload"));
    struct frame frame;
    read_all(buf, len, &frame);
    assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_request_tag);
    assert_true(frame.header.kind.request.call_id == UINT64_MAX);
    assert_int_equal(frame.header.kind.request.timeout_ms, UINT32_MAX);
    assert_int_equal(frame.header.kind.request.method.size, sizeof(method));
    assert_memory_equal(frame.header.kind.request.method.bytes, method, sizeof(method));
    assert_true(span_equal(frame.payload, SPAN_LIT("payload")));
}

static void test_method_too_long(void **state) {
    (void)state;
    /* Ninety-seven bytes of method: one more than the schema allows. */
    uint8_t buf[128] = { 0, 0, 0, 103, 0, 101, 0x0A, 99, 0x12, 97 };
    memset(buf + 10, 'm', 97);
    struct reader r = { buf, 107 };
    struct frame frame;
    const char *why = NULL;
    assert_err(frame_read(&r, LIMIT * 4, &frame, &why), MALFORMED);
    buf[3] = 102;
    buf[5] = 100;
    buf[7] = 98;
    buf[9] = 96;
    r = (struct reader){ buf, 106 };
    assert_err(frame_read(&r, LIMIT * 4, &frame, &why), MALFORMED); /* No call id. */
}

static void test_response_round_trip(void **state) {
    (void)state;
    struct status status;
    status_set(&status, STATUS_NOT_FOUND, "%s", "no such key");
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_response(&header, 300, &status);
    header.kind.response.has_details = true;
    header.kind.response.details = (novakms_v1_ErrorDetails)novakms_v1_ErrorDetails_init_zero;
    header.kind.response.details.retry_after_ms = 7;
    uint8_t buf[256];
    size_t len = write_all(buf, sizeof(buf), &header, SPAN_EMPTY);
    struct frame frame;
    read_all(buf, len, &frame);
    struct status got;
    frame_get_status(&frame.header.kind.response, &got);
    assert_int_equal(got.code, STATUS_NOT_FOUND);
    assert_string_equal(got.text, "no such key");
    assert_true(frame.header.kind.response.has_details);
    assert_int_equal(frame.header.kind.response.details.retry_after_ms, 7);
    header.kind.response.status = 17; /* No canonical code. */
    frame_get_status(&header.kind.response, &got);
    assert_int_equal(got.code, STATUS_UNKNOWN);
}

/* The short way writes the same bytes as the general one. */
static void test_write_ok(void **state) {
    (void)state;
    static const uint64_t ids[] = { 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX };
    const struct status ok = { .code = STATUS_OK, .text = "" };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        uint8_t general[64];
        uint8_t quick[64];
        novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
        frame_set_response(&header, ids[i], &ok);
        size_t len = write_all(general, sizeof(general), &header, SPAN_LIT("xyz"));
        struct writer w = { quick, 0, sizeof(quick) };
        assert_ok(frame_write_ok(&w, ids[i], 3, LIMIT));
        assert_ok(write_span(&w, SPAN_LIT("xyz")));
        assert_int_equal(w.len, len);
        assert_memory_equal(general, quick, len);
    }
}

/* The longest header there is: a length of two bytes. */
static void test_goaway_longest(void **state) {
    (void)state;
    struct status status = { .code = STATUS_UNAUTHENTICATED };
    memset(status.text, 'w', STATUS_TEXT_BYTES - 1);
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_goaway(&header, UINT64_MAX, &status);
    uint8_t buf[FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX];
    size_t len = write_all(buf, sizeof(buf), &header, SPAN_EMPTY);
    struct frame frame;
    read_all(buf, len, &frame);
    struct status got;
    frame_get_reason(&frame.header.kind.goaway, &got);
    assert_int_equal(got.code, STATUS_UNAUTHENTICATED);
    assert_string_equal(got.text, status.text);
    assert_true(frame.header.kind.goaway.last_call_id == UINT64_MAX);
    struct writer small = { buf, 0, len - 1 };
    assert_err(frame_write(&small, &header, SPAN_EMPTY, FRAME_BYTES_MAX_DEFAULT), TOO_BIG);
    assert_int_equal(small.len, 0);
}

/* A sentence is never cut inside a character. */
static void test_text_cut(void **state) {
    (void)state;
    char text[STATUS_TEXT_BYTES + 8];
    memset(text, 'a', sizeof(text));
    struct status status = { .code = STATUS_INTERNAL };
    memset(status.text, 'a', STATUS_TEXT_BYTES - 1);
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_response(&header, 1, &status);
    assert_int_equal(header.kind.response.message.size, FRAME_TEXT_BYTES_MAX);
}

static void test_cancel_and_ping(void **state) {
    (void)state;
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    uint8_t buf[64];
    struct frame frame;
    frame_set_cancel(&header, 9);
    read_all(buf, write_all(buf, sizeof(buf), &header, SPAN_EMPTY), &frame);
    assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_cancel_tag);
    assert_true(frame.header.kind.cancel.call_id == 9);
    frame_set_ping(&header, 0x0123456789ABCDEFU, true);
    read_all(buf, write_all(buf, sizeof(buf), &header, SPAN_EMPTY), &frame);
    assert_int_equal(frame.header.which_kind, novakms_v1_FrameHeader_ping_tag);
    assert_true(frame.header.kind.ping.token == 0x0123456789ABCDEFU);
    assert_true(frame.header.kind.ping.ack);
}

/* Limits count what follows the length field: at the limit it passes, one byte more does not. */
static void test_limits(void **state) {
    (void)state;
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_cancel(&header, 1);
    header.which_kind = novakms_v1_FrameHeader_request_tag;
    header.kind.request = (novakms_v1_Request){ .call_id = 1 };
    uint8_t payload[64] = { 0 };
    uint8_t buf[128];
    struct writer w = { buf, 0, sizeof(buf) };
    struct frame frame;
    const char *why = NULL;
    assert_ok(frame_write(&w, &header, (struct span){ payload, 58 }, LIMIT));
    struct reader r = { buf, w.len };
    assert_ok(frame_read(&r, LIMIT, &frame, &why));
    r = (struct reader){ buf, w.len };
    assert_err(frame_read(&r, LIMIT - 1, &frame, &why), TOO_BIG);
    w.len = 0;
    assert_err(frame_write(&w, &header, (struct span){ payload, 59 }, LIMIT), TOO_BIG);
    assert_err(frame_write_ok(&w, 1, 59, LIMIT), TOO_BIG);
    assert_err(frame_write_ok(&w, 1, SIZE_MAX, LIMIT), TOO_BIG);
    assert_ok(frame_write_ok(&w, 1, 58, LIMIT));
}

static void test_header_limit(void **state) {
    (void)state;
    /* A kind filled up with an unknown field of bytes: 512 bytes of header pass, 513 do not. */
    for (size_t header_len = FRAME_HEADER_BYTES_MAX; header_len <= FRAME_HEADER_BYTES_MAX + 1;
         header_len++) {
        size_t kind_len = header_len - 3;
        size_t field_len = kind_len - 2 - 3; /* After the call id; key and two bytes of length. */
        uint8_t *buf = calloc(1, FRAME_PREFIX_BYTES + header_len);
        assert_non_null(buf);
        struct writer w = { buf, 0, FRAME_PREFIX_BYTES + header_len };
        assert_ok(write_u32(&w, (uint32_t)(2 + header_len)));
        assert_ok(write_u16(&w, (uint16_t)header_len));
        const uint8_t head[] = {
            0x0A, (uint8_t)(kind_len & 0x7FU) | 0x80U,  (uint8_t)(kind_len >> 7U), 0x08, 0x01,
            0x7A, (uint8_t)(field_len & 0x7FU) | 0x80U, (uint8_t)(field_len >> 7U)
        };
        assert_ok(write_span(&w, (struct span){ head, sizeof(head) }));
        struct reader r = { buf, FRAME_PREFIX_BYTES + header_len };
        struct frame frame;
        const char *why = NULL;
        assert_err_equal(frame_read(&r, FRAME_BYTES_MAX_DEFAULT, &frame, &why),
                         header_len == FRAME_HEADER_BYTES_MAX ? E_OK : E_TOO_BIG);
        free(buf);
    }
}

static void test_missing(void **state) {
    (void)state;
    const uint8_t bytes[] = { 0, 0, 0, 6, 0, 4, 0x0A, 2, 8, 7, 0xFF };
    assert_int_equal(frame_missing(SPAN_EMPTY), 4);
    assert_int_equal(frame_missing((struct span){ bytes, 3 }), 1);
    assert_int_equal(frame_missing((struct span){ bytes, 4 }), 6);
    assert_int_equal(frame_missing((struct span){ bytes, 9 }), 1);
    assert_int_equal(frame_missing((struct span){ bytes, 10 }), 0);
    assert_int_equal(frame_missing((struct span){ bytes, 11 }), 0);
}

/* However a stream is cut, the same frames come out. */
static void test_every_cut(void **state) {
    (void)state;
    uint8_t buf[64];
    novakms_v1_FrameHeader header = novakms_v1_FrameHeader_init_zero;
    frame_set_request(&header, 5, SPAN_LIT("a.B/C"), 100);
    size_t len = write_all(buf, sizeof(buf), &header, SPAN_LIT("body"));
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *in = test_dup(buf, cut);
        struct reader r = { in, cut };
        struct frame frame;
        const char *why = NULL;
        assert_err(frame_read(&r, LIMIT, &frame, &why), AGAIN);
        assert_int_equal(r.len, cut);
        free(in);
    }
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(rows) + 16];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_read, rows);
    const struct CMUnitTest more[] = {
        cmocka_unit_test(test_request_round_trip),  cmocka_unit_test(test_method_too_long),
        cmocka_unit_test(test_response_round_trip), cmocka_unit_test(test_write_ok),
        cmocka_unit_test(test_goaway_longest),      cmocka_unit_test(test_text_cut),
        cmocka_unit_test(test_cancel_and_ping),     cmocka_unit_test(test_limits),
        cmocka_unit_test(test_header_limit),        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_every_cut),
    };
    for (size_t i = 0; i < TEST_ROWS(more); i++) {
        tests[count++] = more[i];
    }
    return _cmocka_run_group_tests("frame", tests, count, NULL, NULL);
}
