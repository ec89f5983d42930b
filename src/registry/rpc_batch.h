/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC 2.0 (https://www.jsonrpc.org/specification) without its transport: the calls of a batch
 * as text, the answer's text checked against them, and Ethereum's values in it. One owner. */
#pragma once

#include <jansson.h>

#include "base/bytes.h"
#include "registry/registry.h"

#define RPC_CALL_COUNT_MAX 64

struct rpc_call {
    const char *method; /* Lent: a literal. */
    json_t *params;     /* Owned. */
    uint64_t id;
    const json_t *result; /* Lent by the batch's answer, as error. One of them after an answer. */
    const json_t *error;
};

/* Embedded; zero is empty and closed. A batch is sent once. */
struct rpc_batch {
    struct rpc_call calls[RPC_CALL_COUNT_MAX];
    size_t count;
    json_t *answer; /* Owned. */
};

/* Frees. Accepts a zeroed or closed batch. */
void rpc_batch_close(struct rpc_batch *batch);

/* Appends a call. Takes params (a list), also on error; NULL, which a failed allocation gave, is
 * NOMEM. TOO_BIG past RPC_CALL_COUNT_MAX. */
RC rpc_batch_add(struct rpc_batch *batch, const char *method, json_t *params);

/* Numbers the calls from first_id and gives the request's text (free it): an object for one call, a
 * list for more. INVALID for none, NOMEM. */
RC rpc_batch_request(struct rpc_batch *batch, uint64_t first_id, char **text);

/* Reads the answer: one for each call, in any order, each with the id of its call, and with either
 * a result or a well-formed error. Nothing else is accepted. TOO_BIG over bytes_max, MALFORMED,
 * NOMEM; UNAVAILABLE when the server refused the batch as a whole. The reason is one sentence. */
RC rpc_batch_answer(struct rpc_batch *batch, struct span text, size_t bytes_max,
                    char reason[static REGISTRY_REASON_BYTES]);

/* What a server said to one call. */
struct rpc_error {
    int64_t code;
    bool is_revert;    /* The call was executed, and the contract refused it. */
    char message[160]; /* Escaped; for a revert the contract's reason. Never empty. */
};

/* Whether the idx-th call was answered with an error. */
bool rpc_batch_error(const struct rpc_batch *batch, size_t idx, struct rpc_error *out);
/* Lends the idx-th call's result until the batch is closed. For an error UNAVAILABLE with the
 * reason: DENIED when it is a revert. */
RC rpc_batch_result(const struct rpc_batch *batch, size_t idx, const json_t **out,
                    char reason[static REGISTRY_REASON_BYTES]);

/* A quantity of Ethereum's JSON-RPC: 0x and hex digits without leading zeros. Never by way of a
 * floating-point number. MALFORMED; TOO_BIG above 2^64-1, with UINT64_MAX. NULL is MALFORMED. */
RC rpc_quantity(const json_t *value, uint64_t *out);
/* "0x" and the number in hex. Gives NULL when memory is out. */
json_t *rpc_quantity_json(uint64_t number);
/* Bytes of unknown length: 0x and pairs of hex digits. Gives *out (free it), NULL when len is 0.
 * MALFORMED, NOMEM. */
RC rpc_data(const json_t *value, uint8_t **out, size_t *len);
/* Bytes of a known length. MALFORMED. */
RC rpc_data_fixed(const json_t *value, uint8_t *out, size_t len);
/* Gives NULL when memory is out. */
json_t *rpc_data_json(struct span bytes);
