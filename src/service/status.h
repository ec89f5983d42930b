/* SPDX-License-Identifier: Apache-2.0 */
/* What the node tells anybody about itself: one snapshot that GetStatus, ListNodes and the HTTP
 * pages share. Any thread. */
#pragma once

#include "registry/registry.h"
#include "service/clock.h"
#include "service/kv.h"
#include "service/readiness.h"

#define SERVICE_HASH_BYTES 32

/* What a node starts with. Everything is lent until service_status_close. */
struct service_status_cfg {
    struct service_readiness *readiness;
    struct service_kv *kv;
    const char *version;
    const char *url;      /* The node's own; may be empty. */
    struct wallet wallet; /* Zero: not known yet; as the hash, see the setters below. */
    uint64_t chain_id;
    uint64_t kms_app_id;
    uint8_t master_hash[SERVICE_HASH_BYTES];
    uint64_t started_at_ms; /* Monotonic. */
    const struct service_clock *clock;
    uint64_t tls_lifetime_s; /* Of the credential, when it is made. */
};

struct service_status; /* Opaque. */

/* Gives *out, NULL on error. Copies cfg. NOMEM. */
RC service_status_init(struct service_status **out, const struct service_status_cfg *cfg);
/* Takes *status: frees, sets NULL. Accepts a closed one. */
void service_status_close(struct service_status **status);

/* The cluster's members as the registry has them; copied. Called when they were read again. */
void service_status_set_members(struct service_status *status,
                                const struct registry_members *members);

/* The wallet that Odyn names, and the hash of the master secret that is held; zeros: none. */
void service_status_set_wallet(struct service_status *status, const struct wallet *wallet);
void service_status_set_master_hash(struct service_status *status,
                                    const uint8_t hash[static SERVICE_HASH_BYTES]);

/* Until when the TLS credential in use counts; 0: there is none. */
void service_status_set_tls(struct service_status *status, uint64_t not_after_unix_s);

struct service_snapshot {
    struct wallet wallet;
    uint8_t master_hash[SERVICE_HASH_BYTES];
    bool serving;
    char reason[SERVICE_REASON_BYTES]; /* Empty when serving. */
    uint64_t uptime_ms;
    uint64_t unix_ms; /* The date that requests use. */
    uint64_t tls_not_after_unix_s;
    bool is_operator; /* Whether the node itself is among the members. */
    uint64_t member_count;
    uint8_t writer[STORE_WRITER_BYTES];
    struct store_stats store;
};

/* Lends the fixed part: all but wallet and master_hash, which the snapshot has. */
const struct service_status_cfg *service_status_cfg(const struct service_status *status);
/* Copies all of it; now_ms is monotonic. */
void service_status_read(struct service_status *status, uint64_t now_ms,
                         struct service_snapshot *out);
/* Calls each(ctx, member) for every member, under the lock that service_status_set_members takes:
 * it must only copy. Stops when it gives false. */
void service_status_each_member(struct service_status *status,
                                bool (*each)(void *ctx, const struct auth_instance *member),
                                void *ctx);
