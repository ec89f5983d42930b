/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>

#include "fault.h"
#include "registry/chain.h"
#include "registry/rpc_batch.h"
#include "test.h"

static char reason[REGISTRY_REASON_BYTES];

static void test_init(void **state) {
    (void)state;
    const struct registry_chain_cfg cfg = { .rpc_url = "http://127.0.0.1:1",
                                            .chain_id = 1,
                                            .nova_app_registry = { { 1 } },
                                            .kms_registry = { { 2 } },
                                            .kms_app_id = 49 };
    FAULT_EACH(nth) {
        struct registry *registry = NULL;
        fault_arm(nth);
        struct rc rc = registry_chain_init(&registry, &cfg, reason);
        assert_int_equal(rc.err, fault_disarm() ? E_NOMEM : E_OK);
        assert_int_equal(registry == NULL, fault_was_hit());
        registry_close(&registry);
    }
}

static RC ask(struct rpc_batch *batch, char **request) {
    TRY(rpc_batch_add(batch, "eth_call", json_pack("[o]", rpc_quantity_json(5))));
    TRY(rpc_batch_add(batch, "eth_call", json_pack("[o]", rpc_data_json(SPAN_LIT("ab")))));
    return rpc_batch_request(batch, 1, request);
}

static RC answer(struct rpc_batch *batch, uint8_t **data) {
    const json_t *result = NULL;
    size_t len = 0;
    TRY(rpc_batch_answer(batch,
                         SPAN_LIT("[{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"0x01ff\"},"
                                  "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}]"),
                         4096, reason));
    TRY(rpc_batch_result(batch, 1, &result, reason));
    return rpc_data(result, data, &len);
}

/* Each allocation of asking, answering and reading: an error, never a part of an answer. */
static void test_batch(void **state) {
    (void)state;
    FAULT_EACH(nth) {
        struct rpc_batch batch = { 0 };
        char *request = NULL;
        uint8_t *data = NULL;
        fault_arm(nth);
        struct rc rc = ask(&batch, &request);
        if (rc.err == E_OK) {
            rc = answer(&batch, &data);
        }
        /* jansson does without some of what it asks for. */
        assert_true(fault_disarm() || rc.err == E_OK);
        assert_int_equal(data != NULL, rc.err == E_OK);
        free(data);
        free(request);
        rpc_batch_close(&batch);
    }
}

int main(void) {
    json_set_alloc_funcs(fault_malloc, free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
