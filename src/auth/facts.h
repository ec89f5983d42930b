/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry says about one wallet: NovaAppRegistry's structs
 * (contracts/src/INovaAppRegistry.sol), cut down to what authorization and membership need. Plain
 * data; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wallet.h"

/* The contract's enums, in its order: the numbers are the ABI's. A decoder refuses a number past
 * the last. */
#define AUTH_APP_STATUS_MAP(X) X(ACTIVE) X(INACTIVE) X(REVOKED)
#define AUTH_VERSION_STATUS_MAP(X) X(ENROLLED) X(DEPRECATED) X(REVOKED)
#define AUTH_INSTANCE_STATUS_MAP(X) X(ACTIVE) X(STOPPED) X(FAILED)

#define AUTH_APP_ENUM(name) AUTH_APP_##name,
#define AUTH_VERSION_ENUM(name) AUTH_VERSION_##name,
#define AUTH_INSTANCE_ENUM(name) AUTH_INSTANCE_##name,
enum auth_app_status { AUTH_APP_STATUS_MAP(AUTH_APP_ENUM) AUTH_APP_STATUS_COUNT };
enum auth_version_status { AUTH_VERSION_STATUS_MAP(AUTH_VERSION_ENUM) AUTH_VERSION_STATUS_COUNT };
enum auth_instance_status {
    AUTH_INSTANCE_STATUS_MAP(AUTH_INSTANCE_ENUM) AUTH_INSTANCE_STATUS_COUNT
};
#undef AUTH_APP_ENUM
#undef AUTH_VERSION_ENUM
#undef AUTH_INSTANCE_ENUM

#define AUTH_URL_BYTES_MAX 256
/* A DER SubjectPublicKeyInfo of a P-384 key has 120 bytes. */
#define AUTH_TEE_PUBKEY_BYTES_MAX 160

struct auth_instance {
    uint64_t id; /* 0 on chain means that the wallet is unknown. */
    uint64_t app_id;
    uint64_t version_id;
    struct wallet wallet; /* teeWalletAddress. */
    struct wallet operator_wallet;
    char url[AUTH_URL_BYTES_MAX + 1]; /* instanceUrl with its NUL; may be empty. */
    uint8_t tee_pubkey[AUTH_TEE_PUBKEY_BYTES_MAX];
    size_t tee_pubkey_len;
    bool zk_verified;
    enum auth_instance_status status;
    uint64_t registered_unix_s;
};

/* A registry's answer about one wallet. With found false only as_of_mono_ms has a meaning. */
struct auth_facts {
    bool found;
    struct auth_instance instance;
    enum auth_app_status app_status;
    enum auth_version_status version_status;
    /* The instant for which the source vouches, on this process's monotonic clock: a file's check,
     * or a block's timestamp through the source's anchor. Never when the answer came. */
    uint64_t as_of_mono_ms;
};
