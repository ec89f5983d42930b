/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "fuzz.h"
#include "registry/rpc_batch.h"

#define ANSWER_BYTES_MAX 65536

static void use_result(const json_t *result) {
    uint64_t number = 0;
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint8_t fixed[32];
    struct rc rc = rpc_quantity(result, &number);
    ASSERT(rc.err == E_OK || number == 0 || number == UINT64_MAX);
    rc = rpc_data(result, &bytes, &len);
    ASSERT((bytes != NULL) == (rc.err == E_OK && len > 0));
    free(bytes);
    rc = rpc_data_fixed(result, fixed, sizeof(fixed));
    ASSERT(rc.err == E_OK || rc.err == E_MALFORMED);
}

/* The data is an answer to one or two calls, by its first byte: each call gets exactly one result
 * or error, or the answer is refused as a whole with a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char reason[REGISTRY_REASON_BYTES];
    struct rpc_batch batch = { 0 };
    char *request = NULL;
    bool is_list = size > 0 && data[0] == '[';
    for (int i = 0; i < (is_list ? 2 : 1); i++) {
        ASSERT(rpc_batch_add(&batch, "eth_call", json_array()).err == E_OK);
    }
    ASSERT(rpc_batch_request(&batch, 1, &request).err == E_OK);
    free(request);
    struct rc rc = rpc_batch_answer(&batch, (struct span){ data, size }, ANSWER_BYTES_MAX, reason);
    ASSERT((rc.err == E_OK) == (reason[0] == '\0'));
    for (size_t i = 0; rc.err == E_OK && i < batch.count; i++) {
        const json_t *result = NULL;
        struct rpc_error error;
        bool has_error = rpc_batch_error(&batch, i, &error);
        ASSERT(has_error == (error.message[0] != '\0'));
        ASSERT((rpc_batch_result(&batch, i, &result, reason).err == E_OK) == !has_error);
        if (!has_error) {
            use_result(result);
        }
    }
    rpc_batch_close(&batch);
    return 0;
}
