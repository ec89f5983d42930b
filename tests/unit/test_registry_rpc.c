/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "registry/rpc.h"
#include "script_server.h"
#include "test.h"

static char reason[REGISTRY_REASON_BYTES];

static struct rpc_cfg cfg_of(const char *url) {
    return (struct rpc_cfg){ .url = url,
                             .connect_timeout_ms = 10000,
                             .timeout_ms = 10000,
                             .total_ms = 20000,
                             .attempt_count_max = 1,
                             .answer_bytes_max = 4096 };
}

static void add(struct rpc_batch *batch, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_ok(rpc_batch_add(batch, "eth_chainId", json_array()));
    }
}

/* ---- Answers, without a transport ---- */

static struct answer_row {
    const char *name;
    size_t call_count;
    const char *text;
    enum err want;
    const char *reason;
} answer_rows[] = {
    { "one", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":\"0x1\"}", E_OK, "" },
    { "result_null", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":null}", E_OK, "" },
    { "any_order", 2,
      "[{\"jsonrpc\":\"2.0\",\"id\":6,\"result\":6},{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":5}]",
      E_OK, "" },
    { "error_of_one", 2,
      "[{\"jsonrpc\":\"2.0\",\"id\":6,\"result\":6},"
      "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"code\":-32000,\"message\":\"no\"}}]",
      E_OK, "" },
    { "empty", 1, "", E_MALFORMED, "answer is not JSON: " },
    { "html", 1, "<html>\001", E_MALFORMED, "answer is not JSON: line 1" },
    { "half", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"res", E_MALFORMED, "answer is not JSON: line 1" },
    { "trailing", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":1} x", E_MALFORMED,
      "answer is not JSON: " },
    { "number_alone", 1, "5", E_MALFORMED, "answer is not JSON: " },
    { "duplicate_key", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"id\":5,\"result\":1}", E_MALFORMED,
      "answer is not JSON: " },
    { "deep", 1, "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", E_TOO_BIG, "answer is nested too deeply" },
    { "no_version", 1, "{\"id\":5,\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: jsonrpc must be \"2.0\"" },
    { "version_1", 1, "{\"jsonrpc\":\"1.0\",\"id\":5,\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: jsonrpc" },
    { "version_number", 1, "{\"jsonrpc\":2.0,\"id\":5,\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: jsonrpc" },
    { "no_id", 1, "{\"jsonrpc\":\"2.0\",\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: id must be that of a call" },
    { "wrong_id", 1, "{\"jsonrpc\":\"2.0\",\"id\":6,\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: id must be that of a call" },
    { "id_is_text", 1, "{\"jsonrpc\":\"2.0\",\"id\":\"5\",\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: id must be that of a call" },
    { "id_is_real", 1, "{\"jsonrpc\":\"2.0\",\"id\":5.0,\"result\":1}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: id must be that of a call" },
    { "id_twice", 2,
      "[{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":5},{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":5}]",
      E_MALFORMED, "answer is not JSON-RPC 2.0: an id must not be answered twice" },
    { "id_twice_null", 2,
      "[{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":null},"
      "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":null}]",
      E_MALFORMED, "answer is not JSON-RPC 2.0: an id must not be answered twice" },
    { "one_missing", 2, "[{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":5}]", E_MALFORMED,
      "answer is not JSON-RPC 2.0: it has fewer answers than calls" },
    { "all_missing", 2, "[]", E_MALFORMED,
      "answer is not JSON-RPC 2.0: it has fewer answers than calls" },
    { "one_too_many", 2, "[1,2,3]", E_MALFORMED,
      "answer is not JSON-RPC 2.0: it has more answers than calls" },
    { "members_are_numbers", 2, "[1,2]", E_MALFORMED, "answer is not JSON-RPC 2.0: jsonrpc" },
    { "list_for_one", 1, "[{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":5}]", E_MALFORMED,
      "answer is not JSON-RPC 2.0: one call must be answered with one object" },
    { "object_for_batch", 2, "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":5}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: a batch must be answered with a list" },
    { "neither", 1, "{\"jsonrpc\":\"2.0\",\"id\":5}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: it must have either result or error" },
    { "both", 1,
      "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":1,\"error\":{\"code\":1,\"message\":\"x\"}}",
      E_MALFORMED, "answer is not JSON-RPC 2.0: it must have either result or error" },
    { "error_is_text", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":\"x\"}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: error must have an integer code and a message" },
    { "error_without_code", 1, "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"message\":\"x\"}}",
      E_MALFORMED, "answer is not JSON-RPC 2.0: error must have" },
    { "error_code_real", 1,
      "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"code\":1.5,\"message\":\"x\"}}", E_MALFORMED,
      "answer is not JSON-RPC 2.0: error must have" },
    { "refused_whole", 2,
      "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"no\\nbatch\"}}",
      E_UNAVAILABLE, "refused the request with error -32600 (no\\x0abatch)" },
};

static void assert_starts(const char *text, const char *start) {
    if (strncmp(text, start, strlen(start)) != 0) {
        fail_msg("\"%s\" does not start with \"%s\"", text, start);
    }
}

static void test_answer(void **state) {
    const struct answer_row *row = *state;
    struct rpc_batch batch = { 0 };
    char *request = NULL;
    add(&batch, row->call_count);
    assert_ok(rpc_batch_request(&batch, 5, &request));
    free(request);
    size_t len = strlen(row->text);
    uint8_t *text = test_dup(row->text, len);
    assert_err_equal(rpc_batch_answer(&batch, (struct span){ text, len }, 4096, reason), row->want);
    assert_starts(reason, row->reason);
    assert_int_equal(reason[0] == '\0', row->want == E_OK);
    assert_int_equal(batch.answer != NULL, row->want == E_OK);
    for (size_t i = 0; i < row->call_count; i++) {
        bool is_answered = batch.calls[i].result != NULL || batch.calls[i].error != NULL;
        assert_int_equal(is_answered, row->want == E_OK);
    }
    free(text);
    rpc_batch_close(&batch);
    rpc_batch_close(&batch);
}

static void test_answer_order(void **state) {
    (void)state;
    struct rpc_batch batch = { 0 };
    char *request = NULL;
    add(&batch, 3);
    assert_ok(rpc_batch_request(&batch, 1, &request));
    free(request);
    struct span text = SPAN_LIT("[{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":\"c\"},"
                                "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"a\"},"
                                "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"b\"}]");
    assert_ok(rpc_batch_answer(&batch, text, 4096, reason));
    for (size_t i = 0; i < 3; i++) {
        const json_t *result = NULL;
        assert_ok(rpc_batch_result(&batch, i, &result, reason));
        assert_int_equal(json_string_value(result)[0], 'a' + (int)i);
    }
    rpc_batch_close(&batch);
}

static void test_answer_size(void **state) {
    (void)state;
    struct span text = SPAN_LIT("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"c\"}");
    for (size_t cut = 0; cut < 2; cut++) {
        struct rpc_batch batch = { 0 };
        char *request = NULL;
        add(&batch, 1);
        assert_ok(rpc_batch_request(&batch, 1, &request));
        free(request);
        assert_err_equal(rpc_batch_answer(&batch, text, text.len - cut, reason),
                         cut == 0 ? E_OK : E_TOO_BIG);
        rpc_batch_close(&batch);
    }
}

static void test_request(void **state) {
    (void)state;
    struct rpc_batch batch = { 0 };
    char *text = NULL;
    assert_err(rpc_batch_request(&batch, 1, &text), INVALID);
    assert_err(rpc_batch_add(&batch, "x", NULL), NOMEM);
    assert_ok(rpc_batch_add(&batch, "a", json_pack("[s]", "0x1")));
    assert_ok(rpc_batch_request(&batch, 7, &text));
    assert_string_equal(text,
                        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"a\",\"params\":[\"0x1\"]}");
    free(text);
    assert_ok(rpc_batch_add(&batch, "b", json_array()));
    assert_ok(rpc_batch_request(&batch, 8, &text));
    assert_string_equal(text,
                        "[{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"a\",\"params\":[\"0x1\"]},"
                        "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"b\",\"params\":[]}]");
    free(text);
    add(&batch, RPC_CALL_COUNT_MAX - 2);
    assert_err(rpc_batch_add(&batch, "c", json_array()), TOO_BIG);
    rpc_batch_close(&batch);
}

/* ---- Errors of one call ---- */

static struct error_row {
    const char *name;
    const char *error;
    enum err want;
    const char *reason;
} error_rows[] = {
    { "plain", "{\"code\":-32000,\"message\":\"header not found\"}", E_UNAVAILABLE,
      "eth_chainId failed with error -32000 (header not found)" },
    { "escaped", "{\"code\":-32000,\"message\":\"a\\u001b[2Jb\"}", E_UNAVAILABLE,
      "eth_chainId failed with error -32000 (a\\x1b[2Jb)" },
    { "nul", "{\"code\":-32000,\"message\":\"a\\u0000b\"}", E_UNAVAILABLE,
      "eth_chainId failed with error -32000 (a\\x00b)" },
    { "revert_nul", "{\"code\":3,\"message\":\"revert: \\u0000\",\"data\":\"0x01234567\"}",
      E_DENIED, "eth_chainId reverted: custom error 0x01234567" },
    { "no_words", "{\"code\":1,\"message\":\"\"}", E_UNAVAILABLE,
      "eth_chainId failed with error 1 (no message)" },
    { "revert_without_data", "{\"code\":3,\"message\":\"execution reverted\"}", E_DENIED,
      "eth_chainId reverted: execution reverted" },
    { "revert_panic",
      "{\"code\":3,\"message\":\"execution reverted\",\"data\":\"0x4e487b71"
      "0000000000000000000000000000000000000000000000000000000000000011\"}",
      E_DENIED, "eth_chainId reverted: panic 0x11" },
    { "revert_old_form",
      "{\"code\":-32015,\"message\":\"VM execution reverted.\",\"data\":\"Reverted 0x01234567\"}",
      E_DENIED, "eth_chainId reverted: custom error 0x01234567" },
    { "revert_data_odd", "{\"code\":3,\"message\":\"revert\",\"data\":\"0x012\"}", E_DENIED,
      "eth_chainId reverted: revert" },
    { "revert_data_number", "{\"code\":3,\"message\":\"revert\",\"data\":5}", E_DENIED,
      "eth_chainId reverted: revert" },
};

static void test_error(void **state) {
    const struct error_row *row = *state;
    struct rpc_batch batch = { 0 };
    char *request = NULL;
    char text[512];
    const json_t *result = NULL;
    add(&batch, 1);
    assert_ok(rpc_batch_request(&batch, 1, &request));
    free(request);
    (void)snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":%s}", row->error);
    assert_ok(rpc_batch_answer(&batch, span_str(text), 4096, reason));
    assert_err_equal(rpc_batch_result(&batch, 0, &result, reason), row->want);
    assert_null(result);
    assert_string_equal(reason, row->reason);
    rpc_batch_close(&batch);
}

/* ---- Values ---- */

static struct quantity_row {
    const char *name;
    const char *text;
    enum err want;
    uint64_t number;
} quantity_rows[] = {
    { "zero", "0x0", E_OK, 0 },
    { "chain_id", "0x14a34", E_OK, 84532 },
    { "upper_case", "0xAbC", E_OK, 0xabc },
    { "max", "0xffffffffffffffff", E_OK, UINT64_MAX },
    { "max_plus_1", "0x10000000000000000", E_TOO_BIG, UINT64_MAX },
    { "huge", "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", E_TOO_BIG,
      UINT64_MAX },
    { "none", "0x", E_MALFORMED, 0 },
    { "no_prefix", "14", E_MALFORMED, 0 },
    { "leading_zero", "0x014", E_MALFORMED, 0 },
    { "sign", "0x-1", E_MALFORMED, 0 },
    { "space", "0x1 ", E_MALFORMED, 0 },
    { "letter", "0xg", E_MALFORMED, 0 },
    { "real", "0x1.0", E_MALFORMED, 0 },
    { "capital_x", "0X1", E_MALFORMED, 0 },
    { "at_sign", "0x@", E_MALFORMED, 0 },
};

static void test_quantity(void **state) {
    const struct quantity_row *row = *state;
    json_t *value = json_string(row->text);
    uint64_t number = 1;
    assert_err_equal(rpc_quantity(value, &number), row->want);
    assert_true(number == row->number);
    json_decref(value);
}

static void test_values(void **state) {
    (void)state;
    uint64_t number = 0;
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint8_t fixed[2];
    json_t *five = json_integer(5);
    assert_err(rpc_quantity(five, &number), MALFORMED);
    assert_err(rpc_quantity(NULL, &number), MALFORMED);
    assert_err(rpc_data(five, &bytes, &len), MALFORMED);
    assert_err(rpc_data_fixed(NULL, fixed, 2), MALFORMED);
    json_decref(five);
    json_t *data = rpc_data_json((struct span){ (const uint8_t *)"\001\377", 2 });
    assert_string_equal(json_string_value(data), "0x01ff");
    assert_ok(rpc_data(data, &bytes, &len));
    assert_int_equal(len, 2);
    assert_memory_equal(bytes, "\001\377", 2);
    free(bytes);
    assert_ok(rpc_data_fixed(data, fixed, 2));
    assert_err(rpc_data_fixed(data, fixed, 1), MALFORMED);
    json_decref(data);
    static const char *const bad[] = { "", "01", "0x0", "0xgg", "0x01f" };
    for (size_t i = 0; i < TEST_ROWS(bad); i++) {
        json_t *value = json_string(bad[i]);
        assert_err(rpc_data(value, &bytes, &len), MALFORMED);
        json_decref(value);
    }
    json_t *none = json_string("0x");
    assert_ok(rpc_data(none, &bytes, &len));
    assert_null(bytes);
    json_decref(none);
    json_t *max = rpc_quantity_json(UINT64_MAX);
    assert_string_equal(json_string_value(max), "0xffffffffffffffff");
    json_decref(max);
}

/* ---- The transport, against a hostile server ---- */

#define GOOD_BODY "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"0x1\"}"
#define GOOD "HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n" GOOD_BODY

enum trick { WRITE, HANG, DRIP, FLOOD, FLOOD_HEADERS };

static struct row {
    const char *name;
    enum trick trick;
    const char *raw;
    enum err want;
    const char *why;
} rows[] = {
    { "good", WRITE, GOOD, E_OK, "" },
    { "chunked", WRITE,
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n27\r\n" GOOD_BODY "\r\n0\r\n\r\n", E_OK,
      "" },
    { "hangs", HANG, "", E_TIMEOUT, "no complete answer within 150 ms" },
    { "hangs_in_body", HANG, "HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n{", E_TIMEOUT,
      "no complete answer within 150 ms" },
    { "drips", DRIP, "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", E_TIMEOUT,
      "no complete answer within 150 ms" },
    { "closes", WRITE, "", E_IO, "answer ends early: " },
    { "half_headers", WRITE, "HTTP/1.1 200", E_IO, "" },
    { "half_body", WRITE, "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" GOOD_BODY, E_IO,
      "answer ends early: " },
    { "not_http", WRITE, "SSH-2.0-x\r\n", E_IO, "exchange failed: " },
    { "status_404", WRITE, "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", E_MALFORMED,
      "HTTP status 404, must be 200" },
    { "status_429", WRITE, "HTTP/1.1 429 X\r\nContent-Length: 0\r\n\r\n", E_UNAVAILABLE,
      "HTTP status 429, must be 200" },
    { "status_500", WRITE, "HTTP/1.1 500 X\r\nContent-Length: 39\r\n\r\n" GOOD_BODY, E_UNAVAILABLE,
      "HTTP status 500, must be 200" },
    { "status_204", WRITE, "HTTP/1.1 204 X\r\n\r\n", E_MALFORMED, "HTTP status 204, must be 200" },
    { "redirect", WRITE,
      "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", E_MALFORMED,
      "HTTP status 307, must be 200" },
    { "length_over", WRITE, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{", E_IO,
      "answer ends early: " },
    { "floods", FLOOD, "HTTP/1.1 200 OK\r\n\r\n", E_TOO_BIG,
      "answer must have at most 4096 bytes" },
    { "floods_headers", FLOOD_HEADERS, "HTTP/1.1 200 OK\r\n", E_TOO_BIG,
      "answer must have at most 4096 bytes" },
    { "compressed", WRITE,
      "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
      E_MALFORMED, "answer is not JSON: " },
    { "no_body", WRITE, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", E_MALFORMED,
      "answer is not JSON: " },
};

static void flood(struct script_server *server, const char *line) {
    for (size_t i = 0; i < 10000 && script_write_text(server, line); i++) {
    }
}

static enum script_next play(void *ctx, struct script_server *server, const char *body) {
    const struct row *row = ctx;
    (void)body;
    (void)script_write_text(server, row->raw);
    switch (row->trick) {
    case WRITE:
        return SCRIPT_CLOSE;
    case HANG:
        return SCRIPT_HANG;
    case DRIP:
        while (script_write_text(server, " ") && script_wait(server, -1, 5)) {
        }
        break;
    case FLOOD:
        flood(server, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        break;
    case FLOOD_HEADERS:
        flood(server, "X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
        break;
    }
    return SCRIPT_CLOSE;
}

static struct rc send_one(struct rpc *rpc) {
    struct rpc_batch batch = { 0 };
    add(&batch, 1);
    struct rc rc = rpc_send(rpc, &batch, reason);
    rpc_batch_close(&batch);
    return rc;
}

static void test_transport(void **state) {
    struct row *row = *state;
    struct script_server *server = script_start(play, row);
    struct rpc_cfg cfg = cfg_of(server->url);
    if (row->want == E_TIMEOUT) {
        cfg.timeout_ms = 150;
    }
    struct rpc *rpc = NULL;
    assert_ok(rpc_init(&rpc, &cfg, reason));
    assert_err_equal(send_one(rpc), row->want);
    char want[128] = "";
    if (row->want != E_OK) {
        (void)snprintf(want, sizeof(want), "chain RPC %s: %s", rpc_where(rpc), row->why);
    }
    assert_starts(reason, want);
    rpc_close(&rpc);
    rpc_close(&rpc);
    script_stop(&server);
}

/* ---- Retries ---- */

struct flaky {
    unsigned bad_count; /* This many requests are answered with 503, */
    unsigned id;        /* then with this id. */
};

static enum script_next play_flaky(void *ctx, struct script_server *server, const char *body) {
    struct flaky *flaky = ctx;
    char text[128];
    (void)body;
    if (flaky->bad_count > 0) {
        flaky->bad_count--;
        script_reply(server, 503, "");
        return SCRIPT_KEEP;
    }
    (void)snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%u,\"result\":\"0x1\"}",
                   flaky->id);
    script_reply(server, 200, text);
    return SCRIPT_KEEP;
}

static void test_retries(void **state) {
    (void)state;
    struct flaky flaky = { 2, 1 };
    struct script_server *server = script_start(play_flaky, &flaky);
    struct rpc_cfg cfg = cfg_of(server->url);
    cfg.attempt_count_max = 3;
    cfg.backoff_ms = 1;
    struct rpc *rpc = NULL;
    assert_ok(rpc_init(&rpc, &cfg, reason));
    assert_ok(send_one(rpc));
    assert_int_equal(script_request_count(server), 3);
    /* Ids go on, so that a late answer to an earlier request fits no later one. */
    assert_err(send_one(rpc), MALFORMED);
    assert_int_equal(script_request_count(server), 4); /* A wrong answer is not asked for again. */
    (void)pthread_mutex_lock(&server->lock);
    flaky = (struct flaky){ 3, 3 };
    (void)pthread_mutex_unlock(&server->lock);
    assert_err(send_one(rpc), UNAVAILABLE);
    assert_int_equal(script_request_count(server), 7);
    assert_int_equal(script_connection_count(server), 1); /* Kept open all along. */
    rpc_close(&rpc);
    script_stop(&server);
}

static enum script_next hang(void *ctx, struct script_server *server, const char *body) {
    (void)server;
    (void)body;
    atomic_store((atomic_bool *)ctx, true);
    return SCRIPT_HANG;
}

/* A program that ends does not wait for a server that hangs. */
static void test_stop(void **state) {
    (void)state;
    atomic_bool stop = false;
    struct script_server *server = script_start(hang, &stop);
    struct rpc_cfg cfg = cfg_of(server->url);
    cfg.timeout_ms = RPC_MS_MAX;
    cfg.total_ms = RPC_MS_MAX;
    cfg.attempt_count_max = 3;
    cfg.stop = &stop;
    struct rpc *rpc = NULL;
    assert_ok(rpc_init(&rpc, &cfg, reason));
    assert_err(send_one(rpc), UNAVAILABLE);
    assert_non_null(strstr(reason, "it was stopped"));
    assert_int_equal(script_request_count(server), 1);
    rpc_close(&rpc);
    script_stop(&server);
}

/* The time for all attempts is bounded too: no retry whose wait would pass it. */
static void test_total(void **state) {
    (void)state;
    struct flaky flaky = { 1000, 1 };
    struct script_server *server = script_start(play_flaky, &flaky);
    struct rpc_cfg cfg = cfg_of(server->url);
    cfg.attempt_count_max = 16;
    cfg.backoff_ms = 3600000;
    cfg.total_ms = 3000;
    struct rpc *rpc = NULL;
    assert_ok(rpc_init(&rpc, &cfg, reason));
    assert_err(send_one(rpc), UNAVAILABLE);
    assert_int_equal(script_request_count(server), 1);
    rpc_close(&rpc);
    script_stop(&server);
}

static void test_cannot_connect(void **state) {
    (void)state;
    struct flaky flaky = { 0, 1 };
    struct script_server *server = script_start(play_flaky, &flaky);
    char url[64];
    (void)snprintf(url, sizeof(url), "%s", server->url);
    script_stop(&server); /* Nobody listens there now. */
    const struct rpc_cfg cfg = cfg_of(url);
    struct rpc *rpc = NULL;
    assert_ok(rpc_init(&rpc, &cfg, reason));
    assert_err(send_one(rpc), UNAVAILABLE);
    assert_non_null(strstr(reason, ": cannot connect: "));
    rpc_close(&rpc);
}

/* The environment's proxy does not come between the node and its light client. */
static void test_loopback_needs_no_proxy(void **state) {
    (void)state;
    struct flaky flaky = { 0, 1 };
    struct script_server *server = script_start(play_flaky, &flaky);
    const struct rpc_cfg cfg = cfg_of(server->url);
    struct rpc *rpc = NULL;
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_ok(rpc_init(&rpc, &cfg, reason));
    assert_ok(send_one(rpc));
    assert_int_equal(unsetenv("http_proxy"), 0);
    rpc_close(&rpc);
    script_stop(&server);
}

/* ---- Configuration ---- */

static struct cfg_row {
    const char *name;
    const char *url;
    enum err want;
    const char *where;
} cfg_rows[] = {
    { "http", "http://127.0.0.1:18545", E_OK, "127.0.0.1:18545" },
    { "https", "https://sepolia.example/v2/key", E_OK, "sepolia.example:443" },
    { "credentials", "http://user:pw@example:80/", E_OK, "example:80" },
    { "file", "file:///etc/passwd", E_BAD_CONFIG, NULL },
    { "ftp", "ftp://example/", E_BAD_CONFIG, NULL },
    { "no_scheme", "127.0.0.1:18545", E_BAD_CONFIG, NULL },
    { "empty", "", E_BAD_CONFIG, NULL },
    { "null", NULL, E_BAD_CONFIG, NULL },
};

static void test_cfg(void **state) {
    const struct cfg_row *row = *state;
    const struct rpc_cfg cfg = cfg_of(row->url);
    struct rpc *rpc = NULL;
    assert_err_equal(rpc_init(&rpc, &cfg, reason), row->want);
    assert_int_equal(reason[0] == '\0', row->want == E_OK);
    if (row->want == E_OK) {
        assert_string_equal(rpc_where(rpc), row->where);
    } else {
        assert_null(rpc);
    }
    rpc_close(&rpc);
}

static void test_cfg_ranges(void **state) {
    (void)state;
    struct rpc *rpc = NULL;
    static const struct {
        size_t at;
        uint32_t value;
        enum err want;
    } changes[] = {
        { offsetof(struct rpc_cfg, connect_timeout_ms), 0, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, connect_timeout_ms), RPC_MS_MAX, E_OK },
        { offsetof(struct rpc_cfg, connect_timeout_ms), RPC_MS_MAX + 1, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, timeout_ms), 0, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, timeout_ms), RPC_MS_MAX + 1, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, total_ms), 0, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, total_ms), RPC_MS_MAX + 1, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, attempt_count_max), 0, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, attempt_count_max), RPC_ATTEMPT_COUNT_MAX, E_OK },
        { offsetof(struct rpc_cfg, attempt_count_max), RPC_ATTEMPT_COUNT_MAX + 1, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, backoff_ms), 0, E_OK },
        { offsetof(struct rpc_cfg, backoff_ms), RPC_MS_MAX + 1, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, answer_bytes_max), 0, E_BAD_CONFIG },
        { offsetof(struct rpc_cfg, answer_bytes_max), RPC_ANSWER_BYTES_MAX + 1, E_BAD_CONFIG },
    };
    for (size_t i = 0; i < TEST_ROWS(changes); i++) {
        struct rpc_cfg cfg = cfg_of("http://127.0.0.1:1");
        memcpy((uint8_t *)&cfg + changes[i].at, &changes[i].value, sizeof(uint32_t));
        assert_err_equal(rpc_init(&rpc, &cfg, reason), changes[i].want);
        rpc_close(&rpc);
    }
}

int main(void) {
    static struct CMUnitTest tests[128] = {
        cmocka_unit_test(test_answer_order), cmocka_unit_test(test_answer_size),
        cmocka_unit_test(test_request),      cmocka_unit_test(test_values),
        cmocka_unit_test(test_retries),      cmocka_unit_test(test_total),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_cannot_connect),
        cmocka_unit_test(test_cfg_ranges),   cmocka_unit_test(test_loopback_needs_no_proxy),
    };
    size_t count = 10;
    TEST_ADD_ROWS(tests, count, test_answer, answer_rows);
    TEST_ADD_ROWS(tests, count, test_error, error_rows);
    TEST_ADD_ROWS(tests, count, test_quantity, quantity_rows);
    TEST_ADD_ROWS(tests, count, test_transport, rows);
    TEST_ADD_ROWS(tests, count, test_cfg, cfg_rows);
    ASSERT(count <= TEST_ROWS(tests));
    return _cmocka_run_group_tests("registry_rpc", tests, count, NULL, NULL);
}
