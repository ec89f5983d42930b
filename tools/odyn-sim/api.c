/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "attestation.h"
#include "base/hex.h"
#include "base/json.h"

#define TEXT_BYTES 512

static const struct route {
    const char *path;
    bool is_post;
    api_fn *handle;
} routes[] = {
    { "/v1/eth/address", false, api_address },
    { "/v1/eth/sign", true, api_sign },
    { "/v1/eth/sign-tx", true, api_sign_tx },
    { "/v1/random", false, api_random },
    { "/v1/attestation", true, api_attestation },
    { "/v1/encryption/public_key", false, api_public_key },
    { "/v1/encryption/encrypt", true, api_encrypt },
    { "/v1/encryption/decrypt", true, api_decrypt },
    { "/_sim/state", false, api_state },
    { "/_sim/fault", true, api_set_fault },
    { "/_sim/clear", true, api_clear },
    { "/_sim/wallet", true, api_set_wallet },
    { "/_sim/encryption_key", true, api_set_key },
};

void api_reply_close(struct api_reply *reply) {
    free(reply->body);
    *reply = (struct api_reply){ 0 };
}

static void set_body(struct api_reply *reply, unsigned status, const char *type, struct span body) {
    api_reply_close(reply);
    reply->body = malloc(body.len == 0 ? 1 : body.len);
    ASSERT(reply->body != NULL); /* A development tool: nothing to serve without memory. */
    if (body.len > 0) {
        memcpy(reply->body, body.ptr, body.len);
    }
    reply->body_len = body.len;
    reply->status = status;
    reply->content_type = type;
}

void api_text(struct api_reply *reply, unsigned status, const char *format, ...) {
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ASSERT(len >= 0);
    size_t used = (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
    set_body(reply, status, "text/plain; charset=utf-8",
             (struct span){ (const uint8_t *)text, used });
}

void api_json(struct api_reply *reply, json_t *value) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (text == NULL) {
        api_text(reply, 500, "the answer cannot be written as JSON");
        return;
    }
    set_body(reply, 200, "application/json", span_str(text));
    free(text);
}

void api_bytes(struct api_reply *reply, const char *content_type, struct span body) {
    set_body(reply, 200, content_type, body);
}

json_t *api_hex(struct span bytes) {
    char *text = malloc(HEX_TEXT_BYTES(bytes.len) + 2);
    ASSERT(text != NULL);
    text[0] = '0';
    text[1] = 'x';
    hex_encode(bytes, text + 2);
    json_t *value = json_string(text);
    free(text);
    return value;
}

json_t *api_attest(const struct sim *sim, bool wanted) {
    if (!wanted) {
        return json_null();
    }
    uint8_t bytes[ATTESTATION_BYTES_MAX];
    struct writer w = { bytes, 0, sizeof(bytes) };
    struct rc rc = attestation_write(sim, &(struct attestation_request){ .user_data = NULL }, &w);
    ASSERT(rc.err == E_OK); /* Nothing of it is the caller's. */
    char text[BASE64_TEXT_BYTES(ATTESTATION_BYTES_MAX)];
    base64_encode(writer_span(&w), text);
    return json_string(text);
}

bool api_take_text(const json_t *body, const char *name, struct span *out,
                   struct api_reply *reply) {
    const json_t *value = json_object_get(body, name);
    if (!json_is_string(value)) {
        api_text(reply, 400, "%s must be a string", name);
        return false;
    }
    *out = (struct span){ (const uint8_t *)json_string_value(value), json_string_length(value) };
    return true;
}

bool api_take_hex(const json_t *body, const char *name, size_t bytes_max, struct span *out,
                  struct api_reply *reply) {
    struct span text = SPAN_EMPTY;
    if (!api_take_text(body, name, &text, reply)) {
        return false;
    }
    size_t len = (text.len - (span_has_prefix(text, SPAN_LIT("0x")) ? 2 : 0)) / 2;
    uint8_t *bytes = len > bytes_max ? NULL : malloc(len == 0 ? 1 : len);
    if (bytes == NULL || hex_decode(text, bytes, len).err != E_OK) {
        free(bytes);
        api_text(reply, 400, "%s must be hex of at most %zu bytes", name, bytes_max);
        return false;
    }
    *out = (struct span){ bytes, len };
    return true;
}

bool api_take_flag(const json_t *body, const char *name, bool *out, struct api_reply *reply) {
    const json_t *value = json_object_get(body, name);
    *out = json_is_true(value);
    if (value != NULL && !json_is_boolean(value)) {
        api_text(reply, 400, "%s must be true or false", name);
        return false;
    }
    return true;
}

static const struct route *find_route(const char *path) {
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(routes[i].path, path) == 0) {
            return &routes[i];
        }
    }
    return NULL;
}

static void handle_post(struct sim *sim, const struct route *route, struct span text,
                        struct api_reply *reply) {
    char error[JSON_ERROR_BYTES];
    json_t *body = NULL;
    struct rc rc = json_parse(text, SIM_BODY_BYTES_MAX, &body, error);
    if (rc.err != E_OK || !json_is_object(body)) {
        api_text(reply, 400, "the body must be a JSON object %s", error);
    } else {
        route->handle(sim, body, reply);
    }
    json_decref(body);
}

void api_handle(struct sim *sim, const struct api_request *request, struct api_reply *reply) {
    sim->call_count++;
    const struct route *route = find_route(request->path);
    if (route == NULL) {
        api_text(reply, 404, "there is no %s", request->path);
    } else if (route->is_post != request->is_post) {
        api_text(reply, 405, "%s takes %s", route->path, route->is_post ? "POST" : "GET");
    } else if (route->is_post) {
        handle_post(sim, route, request->body, reply);
    } else {
        route->handle(sim, NULL, reply);
    }
}
