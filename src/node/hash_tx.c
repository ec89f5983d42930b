/* SPDX-License-Identifier: Apache-2.0 */
#include "node/hash_tx.h"

#include <inttypes.h>
#include <stdio.h>

/* Servers replace a transaction only by one that pays at least a tenth more in both fees. */
#define RAISE_DIVISOR 8
/* Room above the estimate: storage may be warmer or colder when it runs. */
#define GAS_DIVISOR 4

static RC say(char *reason, struct rc rc, const char *text) {
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "%s", text);
    return rc;
}

/* ---- Versions ---- */

static void forget(struct hash_tx *tx) {
    *tx = (struct hash_tx){ 0 };
}

/* Whether what is remembered is this node's, and sets this hash. */
static bool is_of(const struct hash_tx *tx, const struct hash_tx_world *world,
                  const struct bootstrap_hash *secret_hash) {
    return tx->has_raw && wallet_equal(&tx->sender, &world->sender) &&
           bootstrap_hash_equal(&tx->secret_hash, secret_hash);
}

/* The oldest makes room: the dearer ones are likelier to be mined. */
static void remember_version(struct hash_tx *tx) {
    if (tx->version_count == HASH_TX_VERSION_COUNT_MAX) {
        memmove(tx->versions[0], tx->versions[1],
                (HASH_TX_VERSION_COUNT_MAX - 1) * sizeof(tx->versions[0]));
        tx->version_count--;
    }
    memcpy(tx->versions[tx->version_count], tx->raw.hash, CHAIN_TX_HASH_BYTES);
    tx->version_count++;
}

/* The receipt of whichever version has one. */
static RC find_receipt(const struct hash_tx *tx, const struct hash_tx_world *world,
                       struct chain_tx_receipt *out, char *reason) {
    *out = (struct chain_tx_receipt){ 0 };
    for (size_t i = tx->version_count; i > 0 && !out->is_mined; i--) {
        TRY(chain_tx_receipt(world->chain, tx->versions[i - 1], out, reason));
    }
    return OK;
}

/* ---- Making one ---- */

static uint64_t raised(uint64_t fee_wei) {
    return fee_wei + fee_wei / RAISE_DIVISOR + 1; /* Fees are at most HASH_TX_FEE_WEI_MAX. */
}

static uint64_t greater(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Twice the base fee lasts for six full blocks. */
static RC set_fees(struct eip1559_tx *tx, const struct chain_tx_state *state,
                   const struct hash_tx *replaced, char *reason) {
    bool fits = state->base_fee_wei <= HASH_TX_FEE_WEI_MAX / 4 &&
                state->priority_fee_wei <= HASH_TX_FEE_WEI_MAX / 4;
    if (fits) {
        tx->max_priority_fee_per_gas_wei = state->priority_fee_wei;
        tx->max_fee_per_gas_wei = 2 * state->base_fee_wei + state->priority_fee_wei;
    }
    if (fits && replaced != NULL) {
        tx->max_priority_fee_per_gas_wei = greater(
            tx->max_priority_fee_per_gas_wei, raised(replaced->tx.max_priority_fee_per_gas_wei));
        tx->max_fee_per_gas_wei =
            greater(tx->max_fee_per_gas_wei, raised(replaced->tx.max_fee_per_gas_wei));
    }
    if (!fits || tx->max_fee_per_gas_wei > HASH_TX_FEE_WEI_MAX) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "the fee for a unit of gas is above %" PRIu64 " wei, the most it may be",
                       HASH_TX_FEE_WEI_MAX);
        return ERR(TOO_BIG);
    }
    return OK;
}

static RC check_funds(const struct eip1559_tx *tx, const struct chain_tx_state *state,
                      const struct wallet *sender, char *reason) {
    char text[WALLET_TEXT_BYTES];
    uint64_t cost_wei = 0;
    bool is_too_much = __builtin_mul_overflow(tx->gas_limit, tx->max_fee_per_gas_wei, &cost_wei);
    if (!is_too_much && state->balance_wei >= cost_wei) {
        return OK;
    }
    cost_wei = is_too_much ? UINT64_MAX : cost_wei;
    (void)snprintf(reason, REGISTRY_REASON_BYTES,
                   "the wallet needs funds: %" PRIu64 " wei are missing in %s",
                   cost_wei - state->balance_wei, wallet_format(sender, text));
    return ERR(QUOTA);
}

static RC sign(struct hash_tx *tx, const struct hash_tx_world *world, const struct eip1559_tx *next,
               char *reason) {
    struct status why = { 0 };
    struct identity_odyn_raw raw;
    struct rc rc = identity_odyn_sign_tx(world->odyn, next, &raw, &why);
    if (rc.err != E_OK) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%.190s", why.text);
        return rc;
    }
    tx->raw = raw;
    tx->tx = *next;
    tx->tx.data = SPAN_EMPTY;
    tx->has_raw = true;
    tx->is_underpriced = false;
    tx->signed_at_ms = world->now_ms;
    remember_version(tx);
    return OK;
}

/* A transaction with state's nonce; with is_dearer one that takes the place of the last version. */
static RC make(struct hash_tx *tx, const struct hash_tx_world *world,
               const struct chain_tx_state *state, bool is_dearer, char *reason) {
    struct abi_call call;
    uint64_t gas = 0;
    chain_tx_set_hash(tx->secret_hash.bytes, &call);
    TRY(chain_tx_estimate(world->chain, &world->sender, &call, &gas, reason));
    struct eip1559_tx next = {
        .chain_id = world->chain_id,
        .nonce = state->nonce,
        .to = world->kms_registry,
        .data = { call.bytes, call.len },
    };
    if (__builtin_add_overflow(gas, gas / GAS_DIVISOR, &next.gas_limit)) {
        return say(reason, ERR(TOO_BIG), "the chain's estimate of the gas is above 2^64-1");
    }
    TRY(set_fees(&next, state, is_dearer ? tx : NULL, reason));
    TRY(check_funds(&next, state, &world->sender, reason));
    return sign(tx, world, &next, reason);
}

/* ---- Sending ---- */

static RC deliver(struct hash_tx *tx, const struct hash_tx_world *world, char *reason) {
    uint8_t hash[CHAIN_TX_HASH_BYTES];
    char words[REGISTRY_REASON_BYTES] = "";
    enum chain_tx_outcome outcome = CHAIN_TX_REFUSED;
    const struct span raw = { tx->raw.bytes, tx->raw.len };
    TRY(chain_tx_send(world->chain, raw, hash, &outcome, reason));
    (void)snprintf(words, sizeof(words), "%s", reason);
    switch (outcome) {
    case CHAIN_TX_SENT:
        return OK;
    case CHAIN_TX_UNDERPRICED:
        tx->is_underpriced = true;
        return ERR(AGAIN);
    case CHAIN_TX_NO_FUNDS:
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "the wallet needs funds: %.150s", words);
        return ERR(QUOTA);
    case CHAIN_TX_NONCE_LOW: /* The next attempt reads which of ours, if any, was mined. */
    case CHAIN_TX_REFUSED:
        break;
    }
    return ERR(DENIED);
}

static void begin(struct hash_tx *tx, const struct hash_tx_world *world,
                  const struct bootstrap_hash *secret_hash) {
    forget(tx);
    tx->sender = world->sender;
    tx->secret_hash = *secret_hash;
}

RC hash_tx_send(struct hash_tx *tx, const struct hash_tx_world *world,
                const struct bootstrap_action *action, char reason[static REGISTRY_REASON_BYTES]) {
    struct chain_tx_state state;
    reason[0] = '\0';
    TRY(chain_tx_state(world->chain, &world->sender, &state, reason));
    if (!is_of(tx, world, &action->hash)) {
        begin(tx, world, &action->hash);
    }
    if (tx->has_raw && tx->tx.nonce < state.nonce) {
        struct chain_tx_receipt receipt = { 0 };
        if (action->is_resend || action->is_dearer) {
            TRY(find_receipt(tx, world, &receipt, reason));
        }
        if (receipt.is_mined) {
            return OK; /* It arrived after all; checking says how it ended. */
        }
        begin(tx, world, &action->hash);
    }
    bool is_stale = tx->has_raw && world->now_ms - tx->signed_at_ms >= world->stuck_ms;
    bool is_dearer = tx->has_raw && (action->is_dearer || tx->is_underpriced || is_stale);
    if (!tx->has_raw || is_dearer) {
        TRY(make(tx, world, &state, is_dearer, reason));
    }
    return deliver(tx, world, reason);
}

RC hash_tx_check(struct hash_tx *tx, const struct hash_tx_world *world, enum bootstrap_tx *out,
                 char reason[static REGISTRY_REASON_BYTES]) {
    struct chain_tx_receipt receipt;
    struct chain_tx_state state;
    *out = BOOTSTRAP_TX_UNKNOWN;
    reason[0] = '\0';
    if (!tx->has_raw) {
        return OK;
    }
    TRY(find_receipt(tx, world, &receipt, reason));
    if (receipt.is_mined) {
        *out = receipt.is_success ? BOOTSTRAP_TX_MINED : BOOTSTRAP_TX_REVERTED;
        return OK;
    }
    TRY(chain_tx_state(world->chain, &world->sender, &state, reason));
    /* With its nonce unused, whatever waits for that nonce is one of the versions. */
    if (state.nonce == tx->tx.nonce && state.pending_nonce > state.nonce) {
        *out = BOOTSTRAP_TX_PENDING;
    }
    return OK;
}
