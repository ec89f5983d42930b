/* SPDX-License-Identifier: Apache-2.0 */
/* The one transaction: never two nonces at once, dearer when it must be, the same bytes otherwise.
 * The chain and Odyn are played by this file. */
#include <stdio.h>

#include "node/hash_tx.h"
#include "test.h"

#define STUCK_MS 60000
#define SENT_COUNT_MAX 40

static struct {
    struct chain_tx_state state;
    uint64_t gas;
    enum chain_tx_outcome outcome;
    uint8_t signed_count;
    struct eip1559_tx signed_tx[SENT_COUNT_MAX];
    size_t sent_count;
    uint8_t sent_raw[SENT_COUNT_MAX];
    int mined_raw; /* The version with a receipt; 0: none. */
    bool is_success;
    enum err fails;
} world_state;

RC chain_tx_state(struct chain *chain, const struct wallet *sender, struct chain_tx_state *out,
                  char reason[static REGISTRY_REASON_BYTES]) {
    (void)chain;
    (void)sender;
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "no chain");
    if (world_state.fails != E_OK) {
        return ERR(UNAVAILABLE);
    }
    *out = world_state.state;
    reason[0] = '\0';
    return OK;
}
void chain_tx_set_hash(const uint8_t hash[static CHAIN_HASH_BYTES], struct abi_call *out) {
    memcpy(out->bytes, hash, CHAIN_HASH_BYTES);
    out->len = CHAIN_HASH_BYTES;
}
RC chain_tx_estimate(struct chain *chain, const struct wallet *sender, const struct abi_call *call,
                     uint64_t *gas, char reason[static REGISTRY_REASON_BYTES]) {
    (void)chain;
    (void)sender;
    (void)reason;
    assert_int_equal(call->len, CHAIN_HASH_BYTES);
    *gas = world_state.gas;
    return OK;
}
RC identity_odyn_sign_tx(struct identity_odyn *odyn, const struct eip1559_tx *tx,
                         struct identity_odyn_raw *out, struct status *why) {
    (void)odyn;
    (void)why;
    world_state.signed_tx[world_state.signed_count] = *tx;
    world_state.signed_count++;
    memset(out, 0, sizeof(*out));
    out->bytes[0] = world_state.signed_count;
    out->len = 1;
    out->hash[0] = world_state.signed_count;
    return OK;
}
RC chain_tx_send(struct chain *chain, struct span raw, uint8_t hash[static CHAIN_TX_HASH_BYTES],
                 enum chain_tx_outcome *outcome, char reason[static REGISTRY_REASON_BYTES]) {
    (void)chain;
    memset(hash, 0, CHAIN_TX_HASH_BYTES);
    world_state.sent_raw[world_state.sent_count] = raw.ptr[0];
    world_state.sent_count++;
    *outcome = world_state.outcome;
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "%s",
                   *outcome == CHAIN_TX_SENT ? "" : "the server's words");
    return OK;
}
RC chain_tx_receipt(struct chain *chain, const uint8_t hash[static CHAIN_TX_HASH_BYTES],
                    struct chain_tx_receipt *out, char reason[static REGISTRY_REASON_BYTES]) {
    (void)chain;
    (void)reason;
    *out = (struct chain_tx_receipt){ 0 };
    out->is_mined = world_state.mined_raw != 0 && hash[0] == world_state.mined_raw;
    out->is_success = out->is_mined && world_state.is_success;
    return OK;
}

static struct hash_tx tx;
static struct hash_tx_world world;
static char reason[REGISTRY_REASON_BYTES];
static struct bootstrap_action action;

static int setup(void **state) {
    (void)state;
    memset(&world_state, 0, sizeof(world_state));
    world_state.state = (struct chain_tx_state){ .nonce = 5,
                                                 .pending_nonce = 5,
                                                 .balance_wei = UINT64_MAX,
                                                 .base_fee_wei = 1000,
                                                 .priority_fee_wei = 100 };
    world_state.gas = 80000;
    world_state.outcome = CHAIN_TX_SENT;
    tx = (struct hash_tx){ 0 };
    world = (struct hash_tx_world){ .sender = { { 1 } },
                                    .kms_registry = { { 2 } },
                                    .chain_id = 84532,
                                    .now_ms = 1000,
                                    .stuck_ms = STUCK_MS };
    action = (struct bootstrap_action){ .task = BOOTSTRAP_SEND_TX, .hash = { { 9 } } };
    return 0;
}

static void send_ok(void) {
    assert_ok(hash_tx_send(&tx, &world, &action, reason));
    assert_string_equal(reason, "");
}

static enum bootstrap_tx check(void) {
    enum bootstrap_tx out = BOOTSTRAP_TX_SENT;
    assert_ok(hash_tx_check(&tx, &world, &out, reason));
    return out;
}

static void test_first(void **state) {
    (void)state;
    assert_int_equal(check(), BOOTSTRAP_TX_UNKNOWN);
    send_ok();
    const struct eip1559_tx *sent = &world_state.signed_tx[0];
    assert_int_equal(sent->chain_id, 84532);
    assert_int_equal(sent->nonce, 5);
    assert_int_equal(sent->gas_limit, 100000);
    assert_int_equal(sent->max_priority_fee_per_gas_wei, 100);
    assert_int_equal(sent->max_fee_per_gas_wei, 2100);
    assert_true(wallet_equal(&sent->to, &world.kms_registry));
    assert_int_equal(check(), BOOTSTRAP_TX_UNKNOWN);
    world_state.state.pending_nonce = 6;
    assert_int_equal(check(), BOOTSTRAP_TX_PENDING);
    world_state.mined_raw = 1;
    assert_int_equal(check(), BOOTSTRAP_TX_REVERTED);
    world_state.is_success = true;
    assert_int_equal(check(), BOOTSTRAP_TX_MINED);
}

/* An RPC that forgot it gets the same bytes; they cost what they cost before. */
static void test_resend_is_the_same(void **state) {
    (void)state;
    send_ok();
    action.is_resend = true;
    world.now_ms += STUCK_MS - 1;
    send_ok();
    assert_int_equal(world_state.signed_count, 1);
    assert_int_equal(world_state.sent_count, 2);
    assert_int_equal(world_state.sent_raw[1], 1);
    world.now_ms++; /* Forgotten again and again, it may pay too little. */
    send_ok();
    assert_int_equal(world_state.signed_count, 2);
    assert_int_equal(world_state.signed_tx[1].nonce, 5);
    assert_int_equal(world_state.signed_tx[1].max_fee_per_gas_wei, 2100 + 262 + 1);
}

/* An answer that was lost: the next attempt sends the same. */
static void test_after_an_error_the_same(void **state) {
    (void)state;
    world_state.outcome = CHAIN_TX_REFUSED;
    assert_err(hash_tx_send(&tx, &world, &action, reason), DENIED);
    assert_string_equal(reason, "the server's words");
    world_state.outcome = CHAIN_TX_SENT;
    send_ok();
    assert_int_equal(world_state.signed_count, 1);
}

static void test_dearer(void **state) {
    (void)state;
    send_ok();
    action.is_dearer = true;
    for (uint8_t i = 1; i < 20; i++) {
        send_ok();
        const struct eip1559_tx *before = &world_state.signed_tx[i - 1];
        const struct eip1559_tx *after = &world_state.signed_tx[i];
        assert_int_equal(after->nonce, 5);
        assert_true(after->max_fee_per_gas_wei * 8 >= before->max_fee_per_gas_wei * 9);
        assert_true(after->max_priority_fee_per_gas_wei * 8 >=
                    before->max_priority_fee_per_gas_wei * 9);
    }
    world_state.is_success = true;
    world_state.mined_raw = 19; /* Not the last one. */
    assert_int_equal(check(), BOOTSTRAP_TX_MINED);
    world_state.state.nonce = 6;
    send_ok(); /* It was mined meanwhile: nothing more is sent. */
    assert_int_equal(world_state.sent_count, 20);
}

static void test_underpriced_pays_more(void **state) {
    (void)state;
    world_state.outcome = CHAIN_TX_UNDERPRICED;
    assert_err(hash_tx_send(&tx, &world, &action, reason), AGAIN);
    world_state.outcome = CHAIN_TX_SENT;
    send_ok();
    assert_int_equal(world_state.signed_count, 2);
    assert_true(world_state.signed_tx[1].max_fee_per_gas_wei > 2100);
}

/* A used nonce, a reset hash, another wallet, another secret: another transaction. */
static void test_anew(void **state) {
    (void)state;
    send_ok();
    world_state.mined_raw = 1;
    world_state.is_success = true;
    world_state.state.nonce = 6;
    send_ok();
    assert_int_equal(world_state.signed_tx[1].nonce, 6);
    assert_int_equal(check(), BOOTSTRAP_TX_UNKNOWN); /* The first one's receipt is not its own. */
    world.sender.bytes[0] = 7;
    send_ok();
    assert_int_equal(world_state.signed_count, 3);
    action.hash.bytes[0] = 8;
    send_ok();
    assert_int_equal(world_state.signed_count, 4);
    world_state.state.nonce = 7; /* Somebody else's transaction took the nonce. */
    world_state.mined_raw = 0;
    action.is_resend = true;
    assert_int_equal(check(), BOOTSTRAP_TX_UNKNOWN);
    send_ok();
    assert_int_equal(world_state.signed_tx[4].nonce, 7);
}

static void test_funds(void **state) {
    (void)state;
    world_state.state.balance_wei = 100000ULL * 2100 - 1;
    assert_err(hash_tx_send(&tx, &world, &action, reason), QUOTA);
    assert_string_equal(reason, "the wallet needs funds: 1 wei are missing in "
                                "0x0100000000000000000000000000000000000000");
    world_state.state.balance_wei++;
    world_state.outcome = CHAIN_TX_NO_FUNDS;
    assert_err(hash_tx_send(&tx, &world, &action, reason), QUOTA);
    assert_string_equal(reason, "the wallet needs funds: the server's words");
}

static void test_limits(void **state) {
    (void)state;
    world_state.state.priority_fee_wei = HASH_TX_FEE_WEI_MAX / 4;
    world_state.state.base_fee_wei = HASH_TX_FEE_WEI_MAX / 4;
    send_ok();
    action.is_dearer = true;
    send_ok();
    send_ok();
    assert_err(hash_tx_send(&tx, &world, &action, reason), TOO_BIG);
    assert_string_equal(reason, "the fee for a unit of gas is above 1000000000000 wei, the most it "
                                "may be");
    (void)setup(state);
    world_state.state.base_fee_wei = HASH_TX_FEE_WEI_MAX / 4 + 1;
    assert_err(hash_tx_send(&tx, &world, &action, reason), TOO_BIG);
    (void)setup(state);
    world_state.gas = UINT64_MAX;
    assert_err(hash_tx_send(&tx, &world, &action, reason), TOO_BIG);
    (void)setup(state);
    world_state.fails = E_UNAVAILABLE;
    assert_err(hash_tx_send(&tx, &world, &action, reason), UNAVAILABLE);
    assert_int_equal(world_state.signed_count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_first, setup),
        cmocka_unit_test_setup(test_resend_is_the_same, setup),
        cmocka_unit_test_setup(test_after_an_error_the_same, setup),
        cmocka_unit_test_setup(test_dearer, setup),
        cmocka_unit_test_setup(test_underpriced_pays_more, setup),
        cmocka_unit_test_setup(test_anew, setup),
        cmocka_unit_test_setup(test_funds, setup),
        cmocka_unit_test_setup(test_limits, setup),
    };
    return cmocka_run_group_tests_name("hash_tx", tests, NULL, NULL);
}
