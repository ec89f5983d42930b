/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/rpc_batch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"
#include "base/json.h"
#include "registry/abi.h"
#include "registry/escape.h"

#define MESSAGE_SHOWN_BYTES 96
/* geth's and its successors' code for a call that reverted. */
#define CODE_REVERTED 3
#define REVERT_BYTES_MAX 4096

/* ---- Request ---- */

void rpc_batch_close(struct rpc_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        json_decref(batch->calls[i].params);
    }
    json_decref(batch->answer);
    *batch = (struct rpc_batch){ 0 };
}

RC rpc_batch_add(struct rpc_batch *batch, const char *method, json_t *params) {
    ENSURE(params != NULL, NOMEM);
    if (batch->count == RPC_CALL_COUNT_MAX) {
        json_decref(params);
        return ERR(TOO_BIG);
    }
    batch->calls[batch->count++] = (struct rpc_call){ .method = method, .params = params };
    return OK;
}

static json_t *call_json(const struct rpc_call *call) {
    return json_pack("{s:s, s:I, s:s, s:O}", "jsonrpc", "2.0", "id", (json_int_t)call->id, "method",
                     call->method, "params", call->params);
}

static void json_close(json_t **value) {
    json_decref(*value);
}

RC rpc_batch_request(struct rpc_batch *batch, uint64_t first_id, char **text) {
    *text = NULL;
    ENSURE(batch->count > 0, INVALID);
    AUTO(json_close) json_t *list = json_array();
    ENSURE(list != NULL, NOMEM);
    for (size_t i = 0; i < batch->count; i++) {
        batch->calls[i].id = first_id + i;
        ENSURE(json_array_append_new(list, call_json(&batch->calls[i])) == 0, NOMEM);
    }
    const json_t *whole = batch->count == 1 ? json_array_get(list, 0) : list;
    *text = json_dumps(whole, JSON_COMPACT);
    ENSURE(*text != NULL, NOMEM);
    return OK;
}

/* ---- Answer ---- */

static void say(char *reason, const char *text) {
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "%s", text);
}

static RC refuse(char *reason, const char *text) {
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "answer is not JSON-RPC 2.0: %s", text);
    return ERR(MALFORMED);
}

static struct rpc_call *call_of_id(struct rpc_batch *batch, const json_t *id) {
    if (!json_is_integer(id)) {
        return NULL;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if ((json_int_t)batch->calls[i].id == json_integer_value(id)) {
            return &batch->calls[i];
        }
    }
    return NULL;
}

static bool is_error(const json_t *error) {
    return json_is_object(error) && json_is_integer(json_object_get(error, "code")) &&
           json_is_string(json_object_get(error, "message"));
}

static struct span string_span(const json_t *text) {
    return (struct span){ (const uint8_t *)json_string_value(text), json_string_length(text) };
}

/* "error -32000 (message)" */
static void format_error(const json_t *error, char *out, size_t out_bytes) {
    char message[MESSAGE_SHOWN_BYTES];
    const json_t *code = json_object_get(error, "code");
    (void)snprintf(
        out, out_bytes, "error %" JSON_INTEGER_FORMAT " (%s)", json_integer_value(code),
        registry_escape(string_span(json_object_get(error, "message")), message, sizeof(message)));
}

static bool is_version_2(const json_t *item) {
    const json_t *version = json_object_get(item, "jsonrpc");
    return json_is_string(version) && span_equal(string_span(version), SPAN_LIT("2.0"));
}

static RC take_item(struct rpc_batch *batch, const json_t *item, char *reason) {
    const json_t *result = json_object_get(item, "result");
    const json_t *error = json_object_get(item, "error");
    if (!is_version_2(item)) {
        return refuse(reason, "jsonrpc must be \"2.0\"");
    }
    struct rpc_call *call = call_of_id(batch, json_object_get(item, "id"));
    if (call == NULL) {
        return refuse(reason, "id must be that of a call");
    }
    if (call->result != NULL || call->error != NULL) {
        return refuse(reason, "an id must not be answered twice");
    }
    if ((result == NULL) == (error == NULL)) {
        return refuse(reason, "it must have either result or error");
    }
    if (error != NULL && !is_error(error)) {
        return refuse(reason, "error must have an integer code and a message");
    }
    call->result = result;
    call->error = error;
    return OK;
}

/* An error without a call's id answers the batch as a whole. */
static bool is_refusal(const json_t *answer) {
    const json_t *id = json_object_get(answer, "id");
    return is_error(json_object_get(answer, "error")) && (id == NULL || json_is_null(id));
}

static RC take_list(struct rpc_batch *batch, const json_t *answer, char *reason) {
    if (!json_is_array(answer)) {
        return refuse(reason, "a batch must be answered with a list");
    }
    size_t count = json_array_size(answer);
    if (count > batch->count) {
        return refuse(reason, "it has more answers than calls");
    }
    for (size_t i = 0; i < count; i++) {
        TRY(take_item(batch, json_array_get(answer, i), reason));
    }
    if (count < batch->count) {
        return refuse(reason, "it has fewer answers than calls");
    }
    return OK;
}

static RC take_answer(struct rpc_batch *batch, const json_t *answer, char *reason) {
    if (is_version_2(answer) && is_refusal(answer)) {
        char error[REGISTRY_REASON_BYTES - 40];
        format_error(json_object_get(answer, "error"), error, sizeof(error));
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "refused the request with %s", error);
        return ERR(UNAVAILABLE);
    }
    if (batch->count > 1) {
        return take_list(batch, answer, reason);
    }
    if (!json_is_object(answer)) {
        return refuse(reason, "one call must be answered with one object");
    }
    return take_item(batch, answer, reason);
}

static RC parse(struct span text, size_t bytes_max, json_t **out, char *reason) {
    char error[JSON_ERROR_BYTES];
    /* A server quotes revert data in its message, NUL bytes and all. */
    struct rc rc = json_parse_nul(text, bytes_max, out, error);
    if (rc.err == E_OK) {
        return OK;
    }
    if (rc.err == E_TOO_BIG) {
        say(reason, "answer is nested too deeply, or over the limit");
        return rc;
    }
    char shown[JSON_ERROR_BYTES];
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "answer is not JSON: %s",
                   registry_escape(span_str(error), shown, sizeof(shown)));
    return rc;
}

RC rpc_batch_answer(struct rpc_batch *batch, struct span text, size_t bytes_max,
                    char reason[static REGISTRY_REASON_BYTES]) {
    reason[0] = '\0';
    ASSERT(batch->answer == NULL);
    TRY(parse(text, bytes_max, &batch->answer, reason));
    struct rc rc = take_answer(batch, batch->answer, reason);
    if (rc.err != E_OK) {
        for (size_t i = 0; i < batch->count; i++) {
            batch->calls[i].result = NULL;
            batch->calls[i].error = NULL;
        }
        json_decref(batch->answer);
        batch->answer = NULL;
    }
    return rc;
}

/* ---- Errors ---- */

/* The revert data in an error: its data, 0x and hex, perhaps with words before it. */
static bool revert_data(const json_t *error, uint8_t bytes[static REVERT_BYTES_MAX], size_t *len) {
    const char *text = json_string_value(json_object_get(error, "data"));
    const char *hex = text == NULL ? NULL : strstr(text, "0x");
    if (hex == NULL) {
        return false;
    }
    size_t hex_len = strlen(hex) - 2;
    *len = hex_len / 2;
    return hex_len % 2 == 0 && *len <= REVERT_BYTES_MAX &&
           hex_decode(span_str(hex), bytes, *len).err == E_OK;
}

static bool says_reverted(const json_t *error) {
    const char *message = json_string_value(json_object_get(error, "message"));
    return json_integer_value(json_object_get(error, "code")) == CODE_REVERTED ||
           strstr(message, "revert") != NULL;
}

bool rpc_batch_error(const struct rpc_batch *batch, size_t idx, struct rpc_error *out) {
    ASSERT(idx < batch->count);
    const json_t *error = batch->calls[idx].error;
    *out = (struct rpc_error){ 0 };
    if (error == NULL) {
        return false;
    }
    uint8_t data[REVERT_BYTES_MAX];
    size_t len = 0;
    out->code = json_integer_value(json_object_get(error, "code"));
    out->is_revert = says_reverted(error);
    if (out->is_revert && revert_data(error, data, &len)) {
        char text[ABI_REVERT_TEXT_BYTES];
        (void)snprintf(out->message, sizeof(out->message), "%s",
                       abi_revert_text((struct span){ data, len }, text));
    } else {
        (void)registry_escape(string_span(json_object_get(error, "message")), out->message,
                              sizeof(out->message));
    }
    if (out->message[0] == '\0') {
        (void)snprintf(out->message, sizeof(out->message), "no message");
    }
    return true;
}

RC rpc_batch_result(const struct rpc_batch *batch, size_t idx, const json_t **out,
                    char reason[static REGISTRY_REASON_BYTES]) {
    struct rpc_error error;
    *out = NULL;
    if (!rpc_batch_error(batch, idx, &error)) {
        *out = batch->calls[idx].result;
        ASSERT(*out != NULL); /* An answered batch has one for each call. */
        return OK;
    }
    const char *method = batch->calls[idx].method;
    if (error.is_revert) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%.40s reverted: %.120s", method,
                       error.message);
        return ERR(DENIED);
    }
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "%.40s failed with error %lld (%.100s)", method,
                   (long long)error.code, error.message);
    return ERR(UNAVAILABLE);
}

/* ---- Values ---- */

static RC hex_of(const json_t *value, struct span *digits) {
    ENSURE(json_is_string(value), MALFORMED);
    struct span text = string_span(value);
    ENSURE(span_has_prefix(text, SPAN_LIT("0x")), MALFORMED);
    *digits = (struct span){ text.ptr + 2, text.len - 2 };
    return OK;
}

static RC digit_of(uint8_t c, uint64_t *out) {
    uint8_t lower = c | 0x20;
    bool is_letter = lower >= 'a' && lower <= 'f';
    ENSURE((c >= '0' && c <= '9') || is_letter, MALFORMED);
    *out = is_letter ? (uint64_t)(lower - 'a' + 10) : (uint64_t)(c - '0');
    return OK;
}

RC rpc_quantity(const json_t *value, uint64_t *out) {
    struct span digits = SPAN_EMPTY;
    uint64_t number = 0;
    *out = 0;
    TRY(hex_of(value, &digits));
    ENSURE(digits.len > 0, MALFORMED);
    ENSURE(digits.len == 1 || digits.ptr[0] != '0', MALFORMED);
    for (size_t i = 0; i < digits.len; i++) {
        uint64_t digit = 0;
        TRY(digit_of(digits.ptr[i], &digit));
        number = number << 4 | digit; /* What is shifted out makes it TOO_BIG below. */
    }
    *out = digits.len > 16 ? UINT64_MAX : number;
    ENSURE(digits.len <= 16, TOO_BIG);
    return OK;
}

json_t *rpc_quantity_json(uint64_t number) {
    char text[2 + 16 + 1];
    (void)snprintf(text, sizeof(text), "0x%llx", (unsigned long long)number);
    return json_string(text);
}

RC rpc_data(const json_t *value, uint8_t **out, size_t *len) {
    struct span digits = SPAN_EMPTY;
    *out = NULL;
    *len = 0;
    TRY(hex_of(value, &digits));
    ENSURE(digits.len % 2 == 0, MALFORMED);
    if (digits.len == 0) {
        return OK;
    }
    uint8_t *bytes = malloc(digits.len / 2);
    ENSURE(bytes != NULL, NOMEM);
    struct rc rc = hex_decode(string_span(value), bytes, digits.len / 2);
    if (rc.err != E_OK) {
        free(bytes);
        return rc;
    }
    *out = bytes;
    *len = digits.len / 2;
    return OK;
}

RC rpc_data_fixed(const json_t *value, uint8_t *out, size_t len) {
    struct span digits = SPAN_EMPTY;
    TRY(hex_of(value, &digits));
    return hex_decode(string_span(value), out, len);
}

json_t *rpc_data_json(struct span bytes) {
    char *text = malloc(2 + HEX_TEXT_BYTES(bytes.len));
    if (text == NULL) {
        return NULL;
    }
    (void)snprintf(text, 3, "0x");
    hex_encode(bytes, text + 2);
    json_t *value = json_string(text);
    free(text);
    return value;
}
