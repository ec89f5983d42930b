/* SPDX-License-Identifier: Apache-2.0 */
/* The registry in a JSON file, with the contract's field and enum names (docs/protocol.md, 13):
 *
 *   { "kms_app_id": 49,
 *     "apps":      [ { "id": 49, "status": "ACTIVE" } ],
 *     "versions":  [ { "id": 1, "appId": 49, "status": "ENROLLED" } ],
 *     "instances": [ { "id": 1, "appId": 49, "versionId": 1, "teeWalletAddress": "0x..40",
 *                      "zkVerified": true, "status": "ACTIVE", "instanceUrl": "https://host:1" } ]}
 *
 * Those are the required fields, but for instanceUrl. Optional, checked for their form when there:
 *   apps       owner, teeArch, dappContract, metadataUri, latestVersionId, createdAt, appWallet
 *   versions   versionName, codeMeasurement, imageUri, auditUrl, auditHash, githubRunId,
 *              enrolledAt, enrolledBy
 *   instances  operator, instanceUrl (256 bytes), teePubkey (0x and hex, 160 bytes), registeredAt
 * Ids and unix seconds are JSON integers or decimal strings; ids are 1 to 2^64-1, and above 2^63-1
 * they must be strings. Addresses are 0x and 40 hex digits. Any other field, an id or wallet given
 * twice, and a reference to an app or version that is not there, make the file invalid.
 *
 * The file is read again when it changes. One that cannot be read or is invalid makes every answer
 * fail with the reason (file, place, field, what is allowed): there is never a partial view. */
#pragma once

#include "registry/registry.h"

#define REGISTRY_FILE_BYTES_MAX (16u * 1024 * 1024)
/* A revocation in the file reaches open connections within about two of these. */
#define REGISTRY_FILE_REFRESH_MS 1000
#define REGISTRY_FILE_RECHECK_MS_DEFAULT 100

struct registry_file_cfg {
    const char *path;    /* Copied. */
    uint32_t recheck_ms; /* The file is looked at (stat) at most this often; 0: each time. */
};

/* Gives *out (registry_close), NULL on error. Reads the file: an invalid one is an error here, with
 * the reason. A later change of kms_app_id makes the file invalid. */
RC registry_file_init(struct registry **out, const struct registry_file_cfg *cfg,
                      char reason[static REGISTRY_REASON_BYTES]);

struct registry_file_seed {
    uint64_t kms_app_id; /* Not 0. */
    struct wallet node_wallet;
    const char *node_url; /* At most AUTH_URL_BYTES_MAX. */
    uint64_t app_id;      /* A sample app; not 0, not kms_app_id. */
    struct wallet app_wallet;
};
/* Writes a first file for development: the KMS app with one instance, and the sample app with one,
 * all active. Mode 0600, whole or not at all. EXISTS when there is one already, INVALID for a seed
 * that would make an invalid file, IO. */
RC registry_file_create(const char *path, const struct registry_file_seed *seed,
                        char reason[static REGISTRY_REASON_BYTES]);
