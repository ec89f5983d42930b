/* SPDX-License-Identifier: Apache-2.0 */
/* The client against an Odyn that fails, hangs, stops in the middle and answers nonsense. */
#define _GNU_SOURCE /* strcasestr */
#include "base/hex.h"
#include "identity/odyn.h"
#include "odyn_server.h"

/* ---- One row for each failure ---- */

struct row {
    const char *name;
    enum what what;
    unsigned status;
    const char *body;
    enum err want;
    const char *why;
};

static struct row rows[] = {
    { "address", ADDRESS, 200, "{\"address\":\"" WALLET_5 "\",\"public_key\":\"0x04\"}", E_OK, "" },
    { "address_upper_case", ADDRESS, 200,
      "{\"address\":\"0xE1AB8145F7E55DC933D51A18C793F901A3A0B276\"}", E_OK, "" },
    { "status_400", ADDRESS, 400, "no \"such\" \001thing\n", E_INVALID,
      "Odyn refused /v1/eth/address (400): no \"such\" ?thing?" },
    { "status_400_long", ADDRESS, 400,
      "0123456789012345678901234567890123456789012345678901234567890123456789012345678901",
      E_INVALID, "0123456789..." },
    { "status_413", SIGN, 413, "too big", E_TOO_BIG, "too large (413): too big" },
    { "status_404", ADDRESS, 404, "", E_MALFORMED, "status 404, which it never does" },
    { "status_204", ADDRESS, 204, "", E_MALFORMED, "status 204" },
    { "redirect", ADDRESS, 302, "", E_MALFORMED, "status 302" },
    { "empty_body", ADDRESS, 200, "", E_MALFORMED, "is not JSON" },
    { "not_json", ADDRESS, 200, "<html>", E_MALFORMED, "is not JSON: line 1" },
    { "json_cut", ADDRESS, 200, "{\"address\":\"0x", E_MALFORMED, "is not JSON" },
    { "json_and_more", ADDRESS, 200, "{} {}", E_MALFORMED, "is not JSON" },
    { "json_twice", ADDRESS, 200, "{\"address\":\"" WALLET_5 "\",\"address\":\"" WALLET_6 "\"}",
      E_MALFORMED, "is not JSON" },
    { "json_array", ADDRESS, 200, "[1]", E_MALFORMED, "is not a JSON object" },
    { "json_deep", ADDRESS, 200, "[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]", E_MALFORMED,
      "is not JSON" },
    { "address_missing", ADDRESS, 200, "{}", E_MALFORMED,
      "In Odyn's answer to /v1/eth/address the field address is missing." },
    { "address_null", ADDRESS, 200, "{\"address\":null}", E_MALFORMED, "is not a string" },
    { "address_number", ADDRESS, 200, "{\"address\":5}", E_MALFORMED, "is not a string" },
    { "address_short", ADDRESS, 200, "{\"address\":\"0x12\"}", E_MALFORMED, "is not a wallet" },
    { "address_without_0x", ADDRESS, 200,
      "{\"address\":\"e1ab8145f7e55dc933d51a18c793f901a3a0b276\"}", E_MALFORMED,
      "is not a wallet" },
    { "address_zero", ADDRESS, 200, "{\"address\":\"0x0000000000000000000000000000000000000000\"}",
      E_MALFORMED, "is not a wallet" },

    { "sign_without_signature", SIGN, 200, "{\"address\":\"" WALLET_5 "\"}", E_MALFORMED,
      "signature is missing" },
    { "sign_signature_short", SIGN, 200, "{\"address\":\"" WALLET_5 "\",\"signature\":\"0x00\"}",
      E_MALFORMED, "signature is too short" },
    { "sign_signature_long", SIGN, 200,
      "{\"address\":\"" WALLET_5 "\",\"signature\":\"0x" HEX_32 HEX_32 "1b00\"}", E_MALFORMED,
      "signature is too long" },
    { "sign_signature_not_hex", SIGN, 200, "{\"address\":\"" WALLET_5 "\",\"signature\":\"0xzz\"}",
      E_MALFORMED, "is not hex" },
    { "sign_signature_odd", SIGN, 200, "{\"address\":\"" WALLET_5 "\",\"signature\":\"0x123\"}",
      E_MALFORMED, "is not hex" },
    { "sign_v_2", SIGN, 200,
      "{\"address\":\"" WALLET_5 "\",\"signature\":\"0x" HEX_32 HEX_32 "02\"}", E_MALFORMED,
      "has a v other than" },
    { "sign_v_29", SIGN, 200,
      "{\"address\":\"" WALLET_5 "\",\"signature\":\"0x" HEX_32 HEX_32 "1d\"}", E_MALFORMED,
      "has a v other than" },
    { "sign_garbage", SIGN, 200,
      "{\"address\":\"" WALLET_5 "\",\"signature\":\"0x" HEX_32 HEX_32 "1b\"}", E_BAD_AUTH,
      "did not make" },

    { "random", RANDOM, 200, "{\"random_bytes\":\"0x" HEX_32 "\"}", E_OK, "" },
    { "random_without_0x", RANDOM, 200, " {\n\"random_bytes\" : \"" HEX_32 "\" } \r\n", E_OK, "" },
    { "random_among_others", RANDOM, 200,
      "{\"a\":1,\"random_bytes\":\"0x" HEX_32 "\",\"b\":null,\"c\":\"\\\"}\"}", E_OK, "" },
    { "random_missing", RANDOM, 200, "{}", E_MALFORMED, "random_bytes is missing" },
    { "random_number", RANDOM, 200, "{\"random_bytes\":12}", E_MALFORMED, "is not a string" },
    { "random_short", RANDOM, 200, "{\"random_bytes\":\"0x00\"}", E_MALFORMED,
      "is not 32 random bytes" },
    { "random_long", RANDOM, 200, "{\"random_bytes\":\"0x" HEX_32 "00\"}", E_MALFORMED,
      "is not 32 random bytes" },
    { "random_zeros", RANDOM, 200,
      "{\"random_bytes\":"
      "\"0x0000000000000000000000000000000000000000000000000000000000000000\"}",
      E_MALFORMED, "is not 32 random bytes" },
    { "random_nested", RANDOM, 200, "{\"random_bytes\":{\"a\":1}}", E_MALFORMED,
      "is not a JSON object of strings" },
    { "random_cut", RANDOM, 200, "{\"random_bytes\":\"0x01", E_MALFORMED,
      "is not a JSON object of strings" },

    { "key", KEY, 200, "{\"public_key_der\":\"0x" DER_GOOD "\",\"public_key_pem\":\"\"}", E_OK,
      "" },
    { "key_missing", KEY, 200, "{\"public_key_pem\":\"\"}", E_MALFORMED,
      "public_key_der is missing" },
    { "key_cut", KEY, 200, "{\"public_key_der\":\"0x" DER_HEAD "\"}", E_MALFORMED, "is too short" },
    { "key_trailing", KEY, 200, "{\"public_key_der\":\"0x" DER_GOOD "00\"}", E_MALFORMED,
      "is too long" },
    { "key_off_curve", KEY, 200, "{\"public_key_der\":\"0x" DER_OFF_CURVE "\"}", E_MALFORMED,
      "is not a P-384 public key" },

    { "encrypt", ENCRYPT, 200,
      "{\"encrypted_data\":\"" SEALED_21 "\",\"enclave_public_key\":\"" DER_GOOD
      "\",\"nonce\":\"" NONCE_12 "\"}",
      E_OK, "" },
    { "encrypt_too_short", ENCRYPT, 200,
      "{\"encrypted_data\":\"" NONCE_12 "\",\"enclave_public_key\":\"" DER_GOOD
      "\",\"nonce\":\"" NONCE_12 "\"}",
      E_MALFORMED, "has 12 bytes instead of 21" },
    { "encrypt_nonce_long", ENCRYPT, 200,
      "{\"encrypted_data\":\"" SEALED_21 "\",\"enclave_public_key\":\"" DER_GOOD
      "\",\"nonce\":\"" NONCE_12 "00\"}",
      E_MALFORMED, "nonce is too long" },
    { "encrypt_without_key", ENCRYPT, 200,
      "{\"encrypted_data\":\"" SEALED_21 "\",\"nonce\":\"" NONCE_12 "\"}", E_MALFORMED,
      "enclave_public_key is missing" },

    { "decrypt", DECRYPT, 200, "{\"plaintext\":\"hello\"}", E_OK, "" },
    { "decrypt_nonce_reused", DECRYPT, 400, "nonce already used", E_INVALID,
      "Odyn refused /v1/encryption/decrypt (400): nonce already used" },
    { "decrypt_missing", DECRYPT, 200, "{\"plain\":\"hello\"}", E_MALFORMED,
      "plaintext is missing" },
    { "decrypt_empty", DECRYPT, 200, "{\"plaintext\":\"\"}", E_MALFORMED, "has 0 bytes" },
    { "decrypt_null", DECRYPT, 200, "{\"plaintext\":null}", E_MALFORMED, "is not a string" },
    { "decrypt_not_utf8", DECRYPT, 200, "{\"plaintext\":\"\xff\"}", E_MALFORMED,
      "is not a JSON object of strings" },
};

static void test_row(void **state) {
    const struct row *row = *state;
    (void)setup(state);
    reply(row->status, row->body);
    assert_err_equal(run_call(row->what), row->want);
    check_why(row->why);
    assert_int_equal(f.why.code == STATUS_OK, row->want == E_OK);
    assert_int_equal(server_served(&f.server), 1); /* None of these is tried again. */
    (void)teardown(state);
}

/* ---- Transport ---- */

static void test_unreachable(void **state) {
    (void)state;
    memset(&f, 0, sizeof(f));
    server_bind(&f.server);
    open_with(&(struct identity_odyn_cfg){ .attempt_count_max = 2 });
    for (enum what what = ADDRESS; what <= DECRYPT; what++) {
        assert_err(run_call(what), UNAVAILABLE);
        check_why("cannot be reached for /v1/");
        assert_int_equal(f.why.code, STATUS_UNAVAILABLE);
    }
    identity_odyn_close(&f.odyn);
    (void)close(f.server.fd);
}

static void reopen(const struct identity_odyn_cfg *cfg) {
    identity_odyn_close(&f.odyn);
    open_with(cfg);
}

static void test_hang_then_answer(void **state) {
    (void)state;
    reopen(&(struct identity_odyn_cfg){ .attempt_timeout_ms = 200, .attempt_count_max = 10 });
    reply_raw(SPAN_EMPTY, REPLY_HANG);
    for (size_t i = 0; i < 9; i++) {
        reply(200, "{\"address\":\"" WALLET_5 "\"}");
    }
    assert_ok(run_call(ADDRESS));
    assert_int_equal(f.why.code, STATUS_OK);
    assert_in_range(server_served(&f.server), 2, 10);
}

static void test_hang(void **state) {
    (void)state;
    reopen(&(struct identity_odyn_cfg){ .attempt_timeout_ms = 500, .attempt_count_max = 1 });
    reply_raw(SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"ad"), REPLY_HANG);
    assert_err(run_call(ADDRESS), TIMEOUT);
    check_why("did not answer /v1/eth/address within 500 ms");
    assert_int_equal(f.why.code, STATUS_DEADLINE_EXCEEDED);
}

/* Odyn may have opened it, and would refuse to do so again. */
static void test_decrypt_is_sent_once(void **state) {
    (void)state;
    reopen(&(struct identity_odyn_cfg){ .attempt_timeout_ms = 200 });
    reply_raw(SPAN_EMPTY, REPLY_HANG);
    assert_err(run_call(DECRYPT), TIMEOUT);
    server_wait(&f.server, 1);
    reopen(&(struct identity_odyn_cfg){ 0 });
    reply(503, "busy");
    assert_err(run_call(DECRYPT), UNAVAILABLE);
    assert_int_equal(server_served(&f.server), 2);
    reply_raw(SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), REPLY_CLOSE);
    assert_err(run_call(DECRYPT), IO);
    check_why("ends early");
    assert_int_equal(server_served(&f.server), 3);
}

static void test_503_is_tried_again(void **state) {
    (void)state;
    reply(503, "no NSM");
    reply(503, "no NSM");
    reply(200, "{\"random_bytes\":\"" HEX_32 "\"}");
    assert_ok(run_call(RANDOM));
    assert_int_equal(f.why.code, STATUS_OK);
    assert_string_equal(f.why.text, "");
    for (size_t i = 0; i < 3; i++) {
        reply(503, "no NSM");
    }
    assert_err(run_call(RANDOM), UNAVAILABLE);
    check_why("Odyn cannot serve /v1/random now (503): no NSM");
    assert_int_equal(server_served(&f.server), 6);
}

static void test_answer_ends_early(void **state) {
    (void)state;
    reopen(&(struct identity_odyn_cfg){ .attempt_count_max = 1 });
    reply_raw(SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"address\""), REPLY_CLOSE);
    assert_err(run_call(ADDRESS), IO);
    check_why("Odyn's answer to /v1/eth/address ends early");
    reply_raw(SPAN_EMPTY, REPLY_CLOSE);
    assert_err(run_call(ADDRESS), IO);
    reply_raw(SPAN_LIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"add"),
              REPLY_CLOSE);
    assert_err(run_call(ADDRESS), IO);
}

static void test_not_http(void **state) {
    (void)state;
    reply_raw(SPAN_LIT("SSH-2.0-OpenSSH_9.2\r\n"), REPLY_CLOSE);
    assert_err(run_call(ADDRESS), MALFORMED);
    check_why("is not an HTTP server");
    assert_int_equal(server_served(&f.server), 1);
}

/* With a length that says so, and without one. */
static void test_answer_limit(void **state) {
    (void)state;
    static char body[SERVER_BODY_BYTES];
    for (size_t len = 32768; len <= 32769; len++) {
        memset(body, ' ', len);
        body[len] = '\0';
        static const char answer[] = "{\"address\":\"" WALLET_5 "\"}";
        memcpy(body, answer, sizeof(answer) - 1);
        reply(200, body);
        assert_err_equal(run_call(ADDRESS), len == 32768 ? E_OK : E_TOO_BIG);
    }
    check_why("is longer than 32768 bytes");
    const struct span head = SPAN_LIT("HTTP/1.0 200 OK\r\n\r\n");
    memset(f.bytes, ' ', sizeof(f.bytes));
    memcpy(f.bytes, head.ptr, head.len);
    reply_raw((struct span){ f.bytes, sizeof(f.bytes) }, REPLY_CLOSE);
    assert_err(run_call(ADDRESS), TOO_BIG);
    assert_int_equal(server_served(&f.server), 3);
}

static void test_cancel(void **state) {
    (void)state;
    reopen(&(struct identity_odyn_cfg){ .attempt_timeout_ms = 600000, .backoff_ms = 600000 });
    reply_raw(SPAN_EMPTY, REPLY_CANCEL);
    assert_err(run_call(ADDRESS), CLOSED);
    check_why("was cancelled");
    assert_int_equal(f.why.code, STATUS_CANCELLED);
    assert_err(run_call(DECRYPT), CLOSED); /* For good. */
    assert_int_equal(server_served(&f.server), 1);
}

static void test_no_proxy(void **state) {
    (void)state;
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("all_proxy", "http://127.0.0.1:1", 1), 0);
    reply(200, "{\"address\":\"" WALLET_5 "\"}");
    assert_ok(run_call(ADDRESS));
    assert_int_equal(unsetenv("http_proxy"), 0);
    assert_int_equal(unsetenv("all_proxy"), 0);
    assert_non_null(strstr(f.server.request, "GET /v1/eth/address HTTP/1.1\r\n"));
}

struct url_row {
    const char *name;
    const char *url;
    enum err want;
};

static struct url_row url_rows[] = {
    { "url_default", NULL, E_OK },
    { "url_slash", "http://127.0.0.1:18000/", E_OK },
    { "url_ipv6", "http://[::1]:18000", E_OK },
    { "url_localhost", "http://localhost", E_OK },
    { "url_empty", "", E_BAD_CONFIG },
    { "url_https", "https://127.0.0.1:18000", E_BAD_CONFIG },
    { "url_file", "file:///etc/passwd", E_BAD_CONFIG },
    { "url_elsewhere", "http://10.0.0.1:18000", E_BAD_CONFIG },
    { "url_name", "http://127.0.0.1.example.com", E_BAD_CONFIG },
    { "url_path", "http://127.0.0.1:18000/v1", E_BAD_CONFIG },
    { "url_query", "http://127.0.0.1:18000?a", E_BAD_CONFIG },
    { "url_user", "http://a@127.0.0.1:18000", E_BAD_CONFIG },
    { "url_port", "http://127.0.0.1:99999", E_BAD_CONFIG },
};

static void test_url(void **state) {
    const struct url_row *row = *state;
    struct identity_odyn *odyn = NULL;
    struct status why;
    const struct identity_odyn_cfg cfg = { .base_url = row->url };
    assert_err_equal(identity_odyn_init(&odyn, &cfg, &why), row->want);
    assert_true((odyn != NULL) == (row->want == E_OK));
    assert_true((why.text[0] == '\0') == (row->want == E_OK));
    identity_odyn_close(&odyn);
}

static void test_cfg_limits(void **state) {
    (void)state;
    struct identity_odyn *odyn = NULL;
    struct status why;
    struct identity_odyn_cfg cfg = { .attempt_count_max = IDENTITY_ODYN_ATTEMPT_COUNT_MAX };
    assert_ok(identity_odyn_init(&odyn, &cfg, &why));
    identity_odyn_close(&odyn);
    cfg.attempt_count_max++;
    assert_err(identity_odyn_init(&odyn, &cfg, &why), BAD_CONFIG);
    identity_odyn_close(&odyn);
}

int main(void) {
    struct CMUnitTest tests[11 + TEST_ROWS(rows) + TEST_ROWS(url_rows)] = {
        CASE(test_hang_then_answer),
        CASE(test_hang),
        CASE(test_decrypt_is_sent_once),
        CASE(test_503_is_tried_again),
        CASE(test_answer_ends_early),
        CASE(test_not_http),
        CASE(test_answer_limit),
        CASE(test_cancel),
        CASE(test_no_proxy),
        cmocka_unit_test(test_unreachable),
        cmocka_unit_test(test_cfg_limits),
    };
    size_t count = 11;
    TEST_ADD_ROWS(tests, count, test_row, rows);
    TEST_ADD_ROWS(tests, count, test_url, url_rows);
    return cmocka_run_group_tests_name("odyn", tests, NULL, NULL);
}
