/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "fake_chain.h"
#include "registry/chain_tx.h"
#include "test.h"

#define WALL_S 1700000000ULL

static char reason[REGISTRY_REASON_BYTES];
static struct fake_chain *fake;
static struct chain *chain;

static uint64_t read_mono(void) {
    return 5000000;
}

static uint64_t read_unix(void) {
    return WALL_S * 1000;
}

static int setup(void **state) {
    (void)state;
    fake = fake_start_chain(WALL_S);
    struct registry_chain_cfg cfg = fake_cfg(fake->server->url);
    cfg.mono_ms = read_mono;
    cfg.unix_ms = read_unix;
    assert_ok(chain_init(&chain, &cfg, reason));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    chain_close(&chain);
    fake_stop_chain(&fake);
    return 0;
}

static void assert_says(const char *words) {
    if (strstr(reason, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", reason, words);
    }
    assert_int_equal(strncmp(reason, "chain RPC 127.0.0.1:", 20), 0);
}

/* ---- State and estimate ---- */

static void test_state(void **state) {
    (void)state;
    struct chain_tx_state tx;
    const struct wallet sender = fake_wallet(1);
    assert_ok(chain_tx_state(chain, &sender, &tx, reason));
    assert_true(tx.nonce == 7 && tx.pending_nonce == 7);
    assert_true(tx.balance_wei == 7 && tx.priority_fee_wei == 7);
    assert_true(tx.base_fee_wei == 1000000);
    assert_true(tx.head.number == 1000);
    assert_string_equal(reason, "");
    /* More than 18 ether. */
    fake_tell(fake, "eth_getBalance", "\"0x56bc75e2d63100000\"", NULL);
    assert_ok(chain_tx_state(chain, &sender, &tx, reason));
    assert_true(tx.balance_wei == UINT64_MAX);
    assert_string_equal(reason, "");
    fake_tell(fake, "eth_getBalance", "7", NULL);
    assert_err(chain_tx_state(chain, &sender, &tx, reason), MALFORMED);
    assert_says("eth_getBalance must be a quantity up to 2^64-1");
    fake_tell(fake, "eth_maxPriorityFeePerGas", "\"0x10000000000000000\"", NULL);
    assert_err(chain_tx_state(chain, &sender, &tx, reason), TOO_BIG);
    assert_says("eth_maxPriorityFeePerGas must be a quantity up to 2^64-1");
    assert_true(tx.nonce == 0);
    fake_tell(fake, "eth_chainId", "\"0x1\"", NULL);
    assert_err(chain_tx_state(chain, &sender, &tx, reason), MALFORMED);
    assert_says("the chain id is 1");
}

static void test_estimate(void **state) {
    (void)state;
    struct abi_call call;
    uint8_t hash[CHAIN_HASH_BYTES] = { 1 };
    uint64_t gas = 0;
    const struct wallet sender = fake_wallet(1);
    chain_tx_set_hash(hash, &call);
    assert_int_equal(call.len, 4 + 32);
    assert_int_equal(call.bytes[4], 1);
    assert_ok(chain_tx_estimate(chain, &sender, &call, &gas, reason));
    assert_true(gas == 7);
    fake_tell(fake, "eth_estimateGas", NULL,
              "{\"code\":3,\"message\":\"execution reverted\",\"data\":\"0x4e487b71"
              "0000000000000000000000000000000000000000000000000000000000000001\"}");
    assert_err(chain_tx_estimate(chain, &sender, &call, &gas, reason), DENIED);
    assert_says("eth_estimateGas reverted: panic 0x1");
    assert_true(gas == 0);
}

/* ---- Sending ---- */

static struct send_row {
    const char *name;
    const char *error;
    enum chain_tx_outcome want;
    const char *words;
} send_rows[] = {
    { "already_known", "{\"code\":-32000,\"message\":\"already known\"}", CHAIN_TX_SENT, "" },
    { "already_imported", "{\"code\":-32003,\"message\":\"transaction Already Imported\"}",
      CHAIN_TX_SENT, "" },
    { "nonce_low", "{\"code\":-32000,\"message\":\"nonce too low: next 5\"}", CHAIN_TX_NONCE_LOW,
      "nonce too low" },
    { "underpriced", "{\"code\":-32000,\"message\":\"replacement transaction underpriced\"}",
      CHAIN_TX_UNDERPRICED, "underpriced" },
    { "no_funds", "{\"code\":-32000,\"message\":\"insufficient funds for gas * price + value\"}",
      CHAIN_TX_NO_FUNDS, "insufficient funds" },
    { "other", "{\"code\":-32000,\"message\":\"unknown transaction type\\u0007\"}",
      CHAIN_TX_REFUSED, "unknown transaction type\\x07" },
};

static void test_send_refused(void **state) {
    const struct send_row *row = *state;
    (void)setup(NULL);
    uint8_t hash[CHAIN_TX_HASH_BYTES];
    enum chain_tx_outcome outcome = CHAIN_TX_REFUSED;
    fake_tell(fake, "eth_sendRawTransaction", NULL, row->error);
    assert_ok(chain_tx_send(chain, SPAN_LIT("\002abc"), hash, &outcome, reason));
    assert_int_equal(outcome, row->want);
    assert_int_equal(reason[0] == '\0', outcome == CHAIN_TX_SENT);
    if (outcome != CHAIN_TX_SENT) {
        assert_says(row->words);
    }
    (void)teardown(NULL);
}

static void test_send(void **state) {
    (void)state;
    uint8_t hash[CHAIN_TX_HASH_BYTES];
    uint8_t want[KECCAK256_BYTES];
    static const uint8_t longest[CHAIN_TX_RAW_BYTES_MAX + 1] = { 2 };
    enum chain_tx_outcome outcome = CHAIN_TX_REFUSED;
    keccak256(SPAN_LIT("\002abc"), want);
    assert_ok(chain_tx_send(chain, SPAN_LIT("\002abc"), hash, &outcome, reason));
    assert_int_equal(outcome, CHAIN_TX_SENT);
    assert_memory_equal(hash, want, sizeof(want));
    fake_lock(fake);
    assert_string_equal(fake->sent, "0x02616263");
    fake_unlock(fake);
    assert_err(chain_tx_send(chain, SPAN_EMPTY, hash, &outcome, reason), INVALID);
    struct span raw = { longest, sizeof(longest) };
    assert_err(chain_tx_send(chain, raw, hash, &outcome, reason), INVALID);
    raw.len--;
    assert_ok(chain_tx_send(chain, raw, hash, &outcome, reason));
    fake_tell(fake, "eth_sendRawTransaction",
              "\"0x0000000000000000000000000000000000000000000000000000000000000001\"", NULL);
    assert_err(chain_tx_send(chain, raw, hash, &outcome, reason), MALFORMED);
    assert_says("eth_sendRawTransaction must give the transaction's hash");
    assert_int_equal(outcome, CHAIN_TX_REFUSED);
    fake_tell(fake, "eth_sendRawTransaction", "null", NULL);
    assert_err(chain_tx_send(chain, raw, hash, &outcome, reason), MALFORMED);
}

/* ---- Receipts ---- */

#define HASH_0 "0x0000000000000000000000000000000000000000000000000000000000000000"
#define HASH_1 "0x0100000000000000000000000000000000000000000000000000000000000000"
#define RECEIPT(hash, block, status)                                                 \
    "{\"transactionHash\":\"" hash "\",\"blockNumber\":" block ",\"status\":" status \
    ",\"extra\":null}"

static struct receipt_row {
    const char *name;
    const char *result;
    enum err want;
    const char *words;
    struct chain_tx_receipt receipt;
} receipt_rows[] = {
    { "not_mined", "null", E_OK, "", { 0 } },
    { "success",
      RECEIPT(HASH_1, "\"0x3e6\"", "\"0x1\""),
      E_OK,
      "",
      { .is_mined = true, .is_success = true, .block_number = 998, .confirmation_count = 2 } },
    { "failure",
      RECEIPT(HASH_1, "\"0x3e8\"", "\"0x0\""),
      E_OK,
      "",
      { .is_mined = true, .block_number = 1000 } },
    { "above_head",
      RECEIPT(HASH_1, "\"0x3e9\"", "\"0x1\""),
      E_OK,
      "",
      { .is_mined = true, .is_success = true, .block_number = 1001 } },
    { "other_hash",
      RECEIPT(HASH_0, "\"0x1\"", "\"0x1\""),
      E_MALFORMED,
      "the receipt is another transaction's",
      { 0 } },
    { "status_2",
      RECEIPT(HASH_1, "\"0x1\"", "\"0x2\""),
      E_MALFORMED,
      "the receipt's status must be 0 or 1",
      { 0 } },
    { "status_bool",
      RECEIPT(HASH_1, "\"0x1\"", "true"),
      E_MALFORMED,
      "the receipt's status must be a quantity",
      { 0 } },
    { "pending",
      RECEIPT(HASH_1, "null", "\"0x1\""),
      E_MALFORMED,
      "the receipt's blockNumber must be a quantity",
      { 0 } },
    { "text", "\"x\"", E_MALFORMED, "the receipt is another transaction's", { 0 } },
};

static void test_receipt(void **state) {
    const struct receipt_row *row = *state;
    (void)setup(NULL);
    const uint8_t hash[CHAIN_TX_HASH_BYTES] = { 1 };
    struct chain_tx_receipt got;
    fake_tell(fake, "eth_getTransactionReceipt", row->result, NULL);
    assert_err_equal(chain_tx_receipt(chain, hash, &got, reason), row->want);
    assert_int_equal(got.is_mined, row->receipt.is_mined);
    assert_int_equal(got.is_success, row->receipt.is_success);
    assert_int_equal(got.block_number, row->receipt.block_number);
    assert_int_equal(got.confirmation_count, row->receipt.confirmation_count);
    if (row->want != E_OK) {
        assert_says(row->words);
    }
    (void)teardown(NULL);
}

int main(void) {
    static struct CMUnitTest tests[32] = {
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_estimate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send, setup, teardown),
    };
    size_t count = 3;
    TEST_ADD_ROWS(tests, count, test_send_refused, send_rows);
    TEST_ADD_ROWS(tests, count, test_receipt, receipt_rows);
    ASSERT(count <= TEST_ROWS(tests));
    return _cmocka_run_group_tests("registry_chain_tx", tests, count, NULL, NULL);
}
