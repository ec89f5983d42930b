/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions: what one costs, sending it, and what became of it. Blocks; the chain's owner
 * thread. Every function checks the chain id and that the server is in sync, as reading does.
 * Errors are those of chain.h. Amounts are wei in 64 bits, which hold 18 ether. */
#pragma once

#include "registry/abi.h"
#include "registry/chain.h"

#define CHAIN_TX_HASH_BYTES 32
#define CHAIN_TX_RAW_BYTES_MAX 4096

/* What a sender has to know before it signs. */
struct chain_tx_state {
    uint64_t nonce;         /* Of the next transaction, by the newest block, */
    uint64_t pending_nonce; /* and with what waits to be mined; nonce when the server cannot say. */
    uint64_t balance_wei;   /* UINT64_MAX when it is more. */
    uint64_t base_fee_wei;  /* Of the newest block; 0 when the chain has none. */
    uint64_t priority_fee_wei; /* eth_maxPriorityFeePerGas. */
    struct head head;
};
/* Reads a new head first. TOO_BIG when a fee or nonce is above 2^64-1. *out is zero on error. */
RC chain_tx_state(struct chain *chain, const struct wallet *sender, struct chain_tx_state *out,
                  char reason[static REGISTRY_REASON_BYTES]);

/* setMasterSecretHash(hash) of KMSRegistry, as calldata. */
void chain_tx_set_hash(const uint8_t hash[static CHAIN_HASH_BYTES], struct abi_call *out);

/* The gas that a call of KMSRegistry by sender would use now. DENIED when it would revert, with the
 * contract's reason. */
RC chain_tx_estimate(struct chain *chain, const struct wallet *sender, const struct abi_call *call,
                     uint64_t *gas, char reason[static REGISTRY_REASON_BYTES]);

enum chain_tx_outcome {
    CHAIN_TX_SENT,        /* The server has it: now, or already from before. */
    CHAIN_TX_NONCE_LOW,   /* Another transaction with this nonce has been mined. */
    CHAIN_TX_UNDERPRICED, /* Another one with this nonce waits; this one must pay more. */
    CHAIN_TX_NO_FUNDS,    /* The wallet needs funds. */
    CHAIN_TX_REFUSED,     /* Anything else: the reason says what. */
};

/* Sends a raw transaction (at most CHAIN_TX_RAW_BYTES_MAX, INVALID) and gives its hash,
 * keccak256(raw), also when the outcome is another than SENT. OK with every outcome; the reason is
 * the server's, escaped, unless SENT. MALFORMED when the server names another hash. After an error
 * it may have been sent all the same: look for its receipt, or send it again. */
RC chain_tx_send(struct chain *chain, struct span raw, uint8_t hash[static CHAIN_TX_HASH_BYTES],
                 enum chain_tx_outcome *outcome, char reason[static REGISTRY_REASON_BYTES]);

struct chain_tx_receipt {
    bool is_mined; /* False: not in a block, and the rest is zero. */
    bool is_success;
    uint64_t block_number;
    uint64_t confirmation_count; /* Blocks on top of it, by the head. */
};
/* Reads a new head first. */
RC chain_tx_receipt(struct chain *chain, const uint8_t hash[static CHAIN_TX_HASH_BYTES],
                    struct chain_tx_receipt *out, char reason[static REGISTRY_REASON_BYTES]);
