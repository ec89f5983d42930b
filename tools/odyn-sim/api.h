/* SPDX-License-Identifier: Apache-2.0 */
/* The calls: a request's path and body in, an answer out. One thread. */
#pragma once

#include <jansson.h>

#include "sim.h"

struct api_request {
    bool is_post; /* Else GET. */
    const char *path;
    struct span body;
};

struct api_reply {
    unsigned status;
    const char *content_type;
    uint8_t *body; /* api_reply_close(). */
    size_t body_len;
};

/* Answers a call of Odyn's, or one of odyn-sim's own under /_sim/. */
void api_handle(struct sim *sim, const struct api_request *request, struct api_reply *reply);
/* Accepts a zeroed or closed reply. */
void api_reply_close(struct api_reply *reply);

/* For the handlers, in api_*.c. Each sets the reply. */
void api_text(struct api_reply *reply, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* 200 with these bytes. Copies body; lends content_type, a literal. */
void api_bytes(struct api_reply *reply, const char *content_type, struct span body);
/* Takes value; 500 when it is NULL. */
void api_json(struct api_reply *reply, json_t *value);

/* A handler. body is NULL for a GET. */
typedef void api_fn(struct sim *sim, const json_t *body, struct api_reply *reply);
api_fn api_address, api_sign, api_sign_tx, api_random, api_attestation, api_public_key, api_encrypt,
    api_decrypt, api_state, api_set_fault, api_clear, api_set_wallet, api_set_key;

/* Fields of a request. False when one is not as it must be: then reply says so, with 400. */
bool api_take_text(const json_t *body, const char *name, struct span *out, struct api_reply *reply);
/* Hex with or without 0x, of at most bytes_max; gives *out, exactly out_len bytes (free). */
bool api_take_hex(const json_t *body, const char *name, size_t bytes_max, struct span *out,
                  struct api_reply *reply);
/* A flag that may be missing. */
bool api_take_flag(const json_t *body, const char *name, bool *out, struct api_reply *reply);

/* Base64 of an attestation that names the wallet, or JSON's null when it was not asked for. */
json_t *api_attest(const struct sim *sim, bool wanted);
/* "0x" and hex, as a JSON string. */
json_t *api_hex(struct span bytes);
