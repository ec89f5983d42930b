/* SPDX-License-Identifier: Apache-2.0 */
/* The registry on chain: NovaAppRegistry and KMSRegistry (contracts/src/) through a
 * JSON-RPC server. Blocks; one owner thread.
 *
 * Each answer is of one block. Before reading, one batch asks for the chain id, whether the server
 * is still syncing, and the newest block's number, timestamp and hash; all calls of an answer are
 * then made at that number. So instance, app and version belong together, and the answer is as of
 * that block (head.h). A head is used for head_reuse_ms, which spares a round trip when many
 * wallets are read; its age counts all the same.
 *
 * What is read is checked against what was asked for: an instance of another wallet, an app or
 * version with another id, make the answer MALFORMED. Error classes tell what a failure means for
 * other questions: RETRY (UNAVAILABLE, TIMEOUT, IO) is about the server or the chain, PEER
 * (MALFORMED, TOO_BIG) about this answer, for instance because a registrant's URL is too long. */
#pragma once

#include <stdatomic.h>

#include "registry/head.h"
#include "registry/registry.h"

#define CHAIN_RPC_CONNECT_TIMEOUT_MS 2000
#define CHAIN_RPC_TIMEOUT_MS 5000
#define CHAIN_RPC_TOTAL_MS 12000
#define CHAIN_RPC_ATTEMPT_COUNT 3
#define CHAIN_RPC_BACKOFF_MS 200
#define CHAIN_RPC_ANSWER_BYTES (4u * 1024 * 1024)
#define CHAIN_HEAD_STALL_MS 30000
#define CHAIN_HEAD_SKEW_MS 5000
#define CHAIN_HEAD_REUSE_MS 1000
#define CHAIN_REORG_BLOCK_COUNT 64
#define CHAIN_CONFIRMATION_COUNT 3
#define CHAIN_REFRESH_MS 10000
/* Of getActiveInstances(kms_app_id): instances that are not verified count too, and strangers may
 * be able to register those. */
#define CHAIN_ACTIVE_COUNT_MAX 4096

struct chain; /* Opaque. */

/* For 0, and for NULL clocks, the value above is taken. */
struct registry_chain_cfg {
    const char *rpc_url; /* Copied. */
    uint64_t chain_id;   /* Not 0. */
    struct wallet nova_app_registry;
    struct wallet kms_registry;
    bool members_only;   /* kms_registry is not given: for lookups and member lists alone. */
    uint64_t kms_app_id; /* Not 0. */
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms; /* One exchange, */
    uint32_t total_ms;   /* and one with its retries. */
    uint32_t attempt_count_max;
    uint32_t backoff_ms;
    uint32_t answer_bytes_max;
    uint32_t head_stall_ms; /* HEAD_STALL_SECONDS. */
    uint32_t head_skew_ms;
    uint32_t head_reuse_ms;
    uint32_t reorg_block_count_max;
    uint32_t confirmation_count; /* HASH_CONFIRMATIONS. */
    uint32_t refresh_ms;         /* struct registry's. */
    const atomic_bool *stop;     /* struct rpc_cfg's. */
    uint64_t (*mono_ms)(void);   /* Other clocks, for tests. */
    uint64_t (*unix_ms)(void);
};

/* Gives *out (registry_close), NULL on error. Does not connect yet. BAD_CONFIG with the reason,
 * NOMEM. */
RC registry_chain_init(struct registry **out, const struct registry_chain_cfg *cfg,
                       char reason[static REGISTRY_REASON_BYTES]);

/* The same without the registry around it, for the thread that makes a node ready. */
RC chain_init(struct chain **out, const struct registry_chain_cfg *cfg,
              char reason[static REGISTRY_REASON_BYTES]);
/* Takes *chain: frees, sets NULL. Accepts a closed one. */
void chain_close(struct chain **chain);

/* registry_lookup's and registry_members' work. Of members that share an instanceUrl, compared
 * after normalizing, only the latest registered counts. TOO_BIG, MALFORMED also for the record of
 * one member: the list is complete or not given. */
RC chain_lookup(struct chain *chain, const struct wallet *wallet, struct auth_facts *out,
                char reason[static REGISTRY_REASON_BYTES]);
RC chain_members(struct chain *chain, struct registry_members *out,
                 char reason[static REGISTRY_REASON_BYTES]);

#define CHAIN_HASH_BYTES 32

/* KMSRegistry's masterSecretHash; zeros while there is none. */
struct chain_secret_hash {
    uint8_t latest[CHAIN_HASH_BYTES];    /* At the head, */
    uint8_t confirmed[CHAIN_HASH_BYTES]; /* and confirmation_count blocks below. */
    struct head head;
    uint64_t as_of_mono_ms; /* Both were so as of the head. */
};
/* Reads a new head first, as chain_read_instance. UNAVAILABLE also while the chain is shorter than
 * confirmation_count. *out is zero on error. */
RC chain_read_secret_hash(struct chain *chain, struct chain_secret_hash *out,
                          char reason[static REGISTRY_REASON_BYTES]);
/* A wallet at the head and confirmation_count blocks below: a node's own entry, and a peer that
 * asks for the master secret. Both are zero on error. */
RC chain_read_instance(struct chain *chain, const struct wallet *wallet, struct auth_facts *latest,
                       struct auth_facts *confirmed, char reason[static REGISTRY_REASON_BYTES]);
