/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the contracts in the Solidity ABI's encoding, version 2 (contracts/src/):
 * arguments out, return data in. Return data is hostile. It is read in the specification's strict
 * mode: every part at the only place where an encoder puts it, nothing between the parts or after
 * the last, all padding zero. So no offset can wrap, overlap or point outside. Any thread. */
#pragma once

#include "auth/facts.h"
#include "base/bytes.h"

#define ABI_WORD_BYTES 32
#define ABI_SELECTOR_BYTES 4
#define ABI_ARG_COUNT_MAX 2
#define ABI_CALL_BYTES_MAX (ABI_SELECTOR_BYTES + ABI_ARG_COUNT_MAX * ABI_WORD_BYTES)

/* name, signature, number of arguments */
#define ABI_FUNCTION_MAP(X)                                      \
    X(GET_APP, "getApp(uint256)", 1)                             \
    X(GET_VERSION, "getVersion(uint256,uint256)", 2)             \
    X(GET_INSTANCE_BY_WALLET, "getInstanceByWallet(address)", 1) \
    X(GET_ACTIVE_INSTANCES, "getActiveInstances(uint256)", 1)    \
    X(MASTER_SECRET_HASH, "masterSecretHash()", 0)               \
    X(SET_MASTER_SECRET_HASH, "setMasterSecretHash(bytes32)", 1) \
    X(IS_OPERATOR, "isOperator(address)", 1)                     \
    X(KMS_APP_ID, "kmsAppId()", 0)                               \
    X(NOVA_APP_REGISTRY, "novaAppRegistry()", 0)

#define ABI_FUNCTION_ENUM(name, signature, arg_count) ABI_##name,
enum abi_function { ABI_FUNCTION_MAP(ABI_FUNCTION_ENUM) ABI_FUNCTION_COUNT };
#undef ABI_FUNCTION_ENUM

/* "getApp(uint256)" */
const char *abi_function_signature(enum abi_function function);

/* A value's 32 bytes, as the encoding has them. */
struct abi_word {
    uint8_t bytes[ABI_WORD_BYTES];
};

/* A uint256, and an address: both are padded with zeros in front. */
struct abi_word abi_word_of_number(uint64_t number);
struct abi_word abi_word_of_wallet(const struct wallet *wallet);

/* Calldata. Plain data. */
struct abi_call {
    uint8_t bytes[ABI_CALL_BYTES_MAX];
    size_t len;
};

/* Selector and arguments; args has as many as the signature. The selector is hashed anew each time:
 * a microsecond, beside a network round trip. */
void abi_encode_call(enum abi_function function, const struct abi_word *args, struct abi_call *out);

#define ABI_WHY_BYTES 112

/* Why return data was refused. */
struct abi_why {
    /* The encoding is sound, but a value is not one that this program takes (TOO_BIG: over a limit;
     * MALFORMED: the URL's bytes or a new status). It concerns this record alone: all other fields
     * have been read. False: the data is not what the function returns. */
    bool is_value;
    char text[ABI_WHY_BYTES]; /* "appId: must be at most 2^64-1"; "" on success. */
};

/* NovaAppRegistry's App and AppVersion, cut down to what is used. */
struct abi_app {
    uint64_t id;
    uint64_t latest_version_id;
    enum auth_app_status status; /* AUTH_APP_STATUS_COUNT when it is none of them. */
};
struct abi_version {
    uint64_t id;
    enum auth_version_status status; /* AUTH_VERSION_STATUS_COUNT when it is none of them. */
};

/* The return values of the functions above. *out is complete on success, zero with an unsound
 * encoding, and without the refused field when why->is_value. MALFORMED, TRUNCATED, TOO_BIG. */
RC abi_decode_app(struct span data, struct abi_app *out, struct abi_why *why);
RC abi_decode_version(struct span data, struct abi_version *out, struct abi_why *why);
RC abi_decode_instance(struct span data, struct auth_instance *out, struct abi_why *why);
/* An address[]. TOO_BIG for more than wallet_count_max. */
RC abi_decode_wallets(struct span data, struct wallet *wallets, size_t wallet_count_max,
                      size_t *wallet_count, struct abi_why *why);
/* A bytes32. */
RC abi_decode_word(struct span data, struct abi_word *out, struct abi_why *why);
/* A uint256. TOO_BIG above 2^64-1, never cut. */
RC abi_decode_number(struct span data, uint64_t *out, struct abi_why *why);

#define ABI_REVERT_TEXT_BYTES 128
/* Says in words why a call reverted: the reason string of Error(string) with everything but
 * printable ASCII escaped, the code of Panic(uint256), the name of a custom error of the contracts,
 * or the selector. Gives text, never empty. */
const char *abi_revert_text(struct span data, char text[static ABI_REVERT_TEXT_BYTES]);
