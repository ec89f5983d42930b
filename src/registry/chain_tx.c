/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "registry/chain_tx.h"

#include <stdio.h>
#include <string.h>

#include "crypto/keccak.h"
#include "registry/chain_internal.h"

static RC refuse(struct chain *chain, const char *what, const char *text, struct rc rc,
                 char *reason) {
    char words[REGISTRY_REASON_BYTES];
    (void)snprintf(words, sizeof(words), "%s %s", what, text);
    chain_say(chain, words, reason);
    return rc;
}

static RC take_quantity(struct chain *chain, const char *what, const json_t *value, uint64_t *out,
                        char *reason) {
    struct rc rc = rpc_quantity(value, out);
    if (rc.err != E_OK) {
        return refuse(chain, what, "must be a quantity up to 2^64-1", rc, reason);
    }
    return OK;
}

/* The idx-th result as a quantity. */
static RC quantity_at(struct chain *chain, const struct rpc_batch *batch, size_t idx, uint64_t *out,
                      char *reason) {
    const json_t *value = NULL;
    struct rc rc = rpc_batch_result(batch, idx, &value, reason);
    if (rc.err != E_OK) {
        chain_say(chain, reason, reason);
        return rc;
    }
    return take_quantity(chain, batch->calls[idx].method, value, out, reason);
}

/* ---- What it costs ---- */

enum { CALL_NONCE, CALL_BALANCE, CALL_PRIORITY_FEE, CALL_PENDING };

static RC ask_state(struct chain *chain, const struct wallet *sender, struct rpc_batch *batch,
                    char *reason) {
    char text[WALLET_TEXT_BYTES];
    const char *from = wallet_format(sender, text);
    TRY(rpc_batch_add(batch, "eth_getTransactionCount", json_pack("[s, s]", from, "latest")));
    TRY(rpc_batch_add(batch, "eth_getBalance", json_pack("[s, s]", from, "latest")));
    TRY(rpc_batch_add(batch, "eth_maxPriorityFeePerGas", json_array()));
    TRY(rpc_batch_add(batch, "eth_getTransactionCount", json_pack("[s, s]", from, "pending")));
    return chain_send(chain, batch, reason);
}

static RC take_state(struct chain *chain, const struct rpc_batch *batch, struct chain_tx_state *out,
                     char *reason) {
    TRY(quantity_at(chain, batch, CALL_NONCE, &out->nonce, reason));
    struct rc rc = quantity_at(chain, batch, CALL_BALANCE, &out->balance_wei, reason);
    if (rc.err != E_OK && rc.err != E_TOO_BIG) { /* More is enough. */
        return rc;
    }
    TRY(quantity_at(chain, batch, CALL_PRIORITY_FEE, &out->priority_fee_wei, reason));
    struct rpc_error error;
    out->pending_nonce = out->nonce;
    if (!rpc_batch_error(batch, CALL_PENDING, &error)) { /* A light client has no pool. */
        TRY(quantity_at(chain, batch, CALL_PENDING, &out->pending_nonce, reason));
    }
    reason[0] = '\0';
    return OK;
}

RC chain_tx_state(struct chain *chain, const struct wallet *sender, struct chain_tx_state *out,
                  char reason[static REGISTRY_REASON_BYTES]) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    struct chain_tx_state state = { 0 };
    *out = state;
    reason[0] = '\0';
    TRY(chain_refresh_head(chain, true, reason));
    TRY(ask_state(chain, sender, &batch, reason));
    TRY(take_state(chain, &batch, &state, reason));
    state.base_fee_wei = chain->base_fee_wei;
    state.head = chain->head;
    *out = state;
    return OK;
}

void chain_tx_set_hash(const uint8_t hash[static CHAIN_HASH_BYTES], struct abi_call *out) {
    struct abi_word word;
    memcpy(word.bytes, hash, sizeof(word.bytes));
    abi_encode_call(ABI_SET_MASTER_SECRET_HASH, &word, out);
}

RC chain_tx_estimate(struct chain *chain, const struct wallet *sender, const struct abi_call *call,
                     uint64_t *gas, char reason[static REGISTRY_REASON_BYTES]) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    char from[WALLET_TEXT_BYTES];
    char to[WALLET_TEXT_BYTES];
    *gas = 0;
    reason[0] = '\0';
    TRY(chain_refresh_head(chain, false, reason));
    json_t *params = json_pack("[{s:s, s:s, s:o}]", "from", wallet_format(sender, from), "to",
                               wallet_format(&chain->cfg.kms_registry, to), "data",
                               rpc_data_json((struct span){ call->bytes, call->len }));
    TRY(rpc_batch_add(&batch, "eth_estimateGas", params));
    TRY(chain_send(chain, &batch, reason));
    return quantity_at(chain, &batch, 0, gas, reason);
}

/* ---- Sending ---- */

/* Clients have no codes for these; the words are those of geth, reth, anvil and what comes from
 * them. */
static enum chain_tx_outcome outcome_of(const struct rpc_error *error) {
    static const struct {
        const char *words;
        enum chain_tx_outcome outcome;
    } known[] = {
        { "already known", CHAIN_TX_SENT },          { "already imported", CHAIN_TX_SENT },
        { "nonce too low", CHAIN_TX_NONCE_LOW },     { "underpriced", CHAIN_TX_UNDERPRICED },
        { "insufficient funds", CHAIN_TX_NO_FUNDS },
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcasestr(error->message, known[i].words) != NULL) {
            return known[i].outcome;
        }
    }
    return CHAIN_TX_REFUSED;
}

static RC take_sent(struct chain *chain, const struct rpc_batch *batch, const uint8_t *hash,
                    enum chain_tx_outcome *outcome, char *reason) {
    struct rpc_error error;
    const json_t *value = NULL;
    uint8_t got[CHAIN_TX_HASH_BYTES];
    if (rpc_batch_error(batch, 0, &error)) {
        *outcome = outcome_of(&error);
        if (*outcome != CHAIN_TX_SENT) {
            chain_say(chain, error.message, reason);
        }
        return OK;
    }
    TRY(rpc_batch_result(batch, 0, &value, reason));
    if (rpc_data_fixed(value, got, sizeof(got)).err != E_OK ||
        !span_equal((struct span){ got, sizeof(got) },
                    (struct span){ hash, CHAIN_TX_HASH_BYTES })) {
        return refuse(chain, "eth_sendRawTransaction", "must give the transaction's hash",
                      ERR(MALFORMED), reason);
    }
    *outcome = CHAIN_TX_SENT;
    return OK;
}

RC chain_tx_send(struct chain *chain, struct span raw, uint8_t hash[static CHAIN_TX_HASH_BYTES],
                 enum chain_tx_outcome *outcome, char reason[static REGISTRY_REASON_BYTES]) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    *outcome = CHAIN_TX_REFUSED;
    reason[0] = '\0';
    keccak256(raw, hash);
    ENSURE(raw.len > 0 && raw.len <= CHAIN_TX_RAW_BYTES_MAX, INVALID);
    TRY(chain_refresh_head(chain, false, reason));
    TRY(rpc_batch_add(&batch, "eth_sendRawTransaction", json_pack("[o]", rpc_data_json(raw))));
    TRY(chain_send(chain, &batch, reason));
    return take_sent(chain, &batch, hash, outcome, reason);
}

/* ---- What became of it ---- */

static RC take_receipt(struct chain *chain, const json_t *value, const uint8_t *hash,
                       struct chain_tx_receipt *out, char *reason) {
    uint8_t got[CHAIN_TX_HASH_BYTES];
    uint64_t status = 0;
    struct rc rc = rpc_data_fixed(json_object_get(value, "transactionHash"), got, sizeof(got));
    if (rc.err != E_OK || !span_equal((struct span){ got, sizeof(got) },
                                      (struct span){ hash, CHAIN_TX_HASH_BYTES })) {
        return refuse(chain, "the receipt", "is another transaction's", ERR(MALFORMED), reason);
    }
    TRY(take_quantity(chain, "the receipt's blockNumber", json_object_get(value, "blockNumber"),
                      &out->block_number, reason));
    TRY(take_quantity(chain, "the receipt's status", json_object_get(value, "status"), &status,
                      reason));
    if (status > 1) {
        return refuse(chain, "the receipt's status", "must be 0 or 1", ERR(MALFORMED), reason);
    }
    out->is_mined = true;
    out->is_success = status == 1;
    uint64_t head = chain->head.number;
    out->confirmation_count = head > out->block_number ? head - out->block_number : 0;
    return OK;
}

RC chain_tx_receipt(struct chain *chain, const uint8_t hash[static CHAIN_TX_HASH_BYTES],
                    struct chain_tx_receipt *out, char reason[static REGISTRY_REASON_BYTES]) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    struct chain_tx_receipt receipt = { 0 };
    const json_t *value = NULL;
    *out = receipt;
    reason[0] = '\0';
    TRY(chain_refresh_head(chain, true, reason));
    json_t *params = json_pack("[o]", rpc_data_json((struct span){ hash, CHAIN_TX_HASH_BYTES }));
    TRY(rpc_batch_add(&batch, "eth_getTransactionReceipt", params));
    TRY(chain_send(chain, &batch, reason));
    struct rc rc = rpc_batch_result(&batch, 0, &value, reason);
    if (rc.err != E_OK) {
        chain_say(chain, reason, reason);
        return rc;
    }
    if (json_is_null(value)) {
        return OK;
    }
    TRY(take_receipt(chain, value, hash, &receipt, reason));
    *out = receipt;
    return OK;
}
