/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions of type 2 (EIP-2718, EIP-1559) with an empty access list, to an existing account:
 *
 *     0x02 rlp([chain_id, nonce, max_priority_fee_per_gas, max_fee_per_gas, gas_limit, to, value,
 *               data, access_list, y_parity, r, s])
 *
 * Encoding and reading are exact inverses, so a node can prove that what its signer returned is
 * what it asked for, and nothing else. Any thread. */
#pragma once

#include "base/bytes.h"
#include "base/secret.h"
#include "base/wallet.h"
#include "crypto/eth.h"
#include "crypto/keccak.h"
#include "crypto/rlp.h"

/* Room for an encoding beside its data. */
#define EIP1559_OVERHEAD_BYTES 256

/* 64 bits hold 18 ether for each unit of gas, which no chain asks; a fee above is refused. */
struct eip1559_tx {
    uint64_t chain_id;
    uint64_t nonce;
    uint64_t max_priority_fee_per_gas_wei;
    uint64_t max_fee_per_gas_wei;
    uint64_t gas_limit;
    struct wallet to;
    uint8_t value_wei[RLP_U256_BYTES]; /* Big-endian. */
    struct span data;                  /* Lent. */
};

/* The fields in their order, for whoever says which one differs. */
#define EIP1559_FIELD_MAP(X)                                \
    X(CHAIN_ID, "chain_id")                                 \
    X(NONCE, "nonce")                                       \
    X(MAX_PRIORITY_FEE_PER_GAS, "max_priority_fee_per_gas") \
    X(MAX_FEE_PER_GAS, "max_fee_per_gas")                   \
    X(GAS_LIMIT, "gas_limit")                               \
    X(TO, "to")                                             \
    X(VALUE, "value")                                       \
    X(DATA, "data")
#define EIP1559_FIELD_ENUM(name, text) EIP1559_##name,
enum eip1559_field { EIP1559_FIELD_MAP(EIP1559_FIELD_ENUM) EIP1559_FIELD_NONE };
#undef EIP1559_FIELD_ENUM

/* The first field in which a and b differ, or EIP1559_FIELD_NONE. */
enum eip1559_field eip1559_compare(const struct eip1559_tx *a, const struct eip1559_tx *b);
/* "chain_id"; "" for EIP1559_FIELD_NONE. */
const char *eip1559_field_name(enum eip1559_field field);

/* Appends the raw transaction. The signature's v is the y parity, 0 or 1, with or without 27 added.
 * w has room for tx->data.len + EIP1559_OVERHEAD_BYTES. INVALID for another v; TOO_BIG. */
RC eip1559_encode(const struct eip1559_tx *tx, const struct eth_signature *signature,
                  struct writer *w);
/* Signs with a local key. Low s, v 27 or 28. INVALID when key is no private key; CRYPTO. */
RC eip1559_sign(const struct eip1559_tx *tx, const struct secret *key, struct eth_signature *out);

struct eip1559_signed {
    struct eip1559_tx tx;           /* data is lent from raw. */
    struct eth_signature signature; /* v 27 or 28. */
    struct wallet sender;
    uint8_t hash[KECCAK256_BYTES]; /* By which the chain knows the transaction. */
};

/* Reads exactly one raw transaction. MALFORMED for another type, an encoding that is not the
 * shortest, a wrong number of fields, to that is not 20 bytes, an access list that is not empty,
 * a parity other than 0 or 1, a high s (EIP-2), and bytes after the end; TOO_BIG for a number over
 * 64 bits (256 in value, r and s); TRUNCATED; BAD_AUTH when no key could have signed it; CRYPTO. */
RC eip1559_parse(struct span raw, struct eip1559_signed *out);
