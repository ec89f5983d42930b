/* SPDX-License-Identifier: Apache-2.0 */
/* The node's registry thread: owns the blocking source, answers workers' questions about wallets,
 * and keeps the member list. Workers never wait for it. Functions are for any thread, _init and
 * _close for one. */
#pragma once

#include "base/siphash.h"
#include "registry/registry.h"

#define REGISTRY_SERVICE_QUEUE_COUNT_MAX 65536u
/* Askers that may wait for one wallet at once: one for each worker, and some. */
#define REGISTRY_SERVICE_ASKER_COUNT_MAX 16

struct registry_service; /* Opaque. */

struct registry_service_cfg {
    uint32_t refresh_count_max;  /* Wallets queued or remembered: of those in use, */
    uint32_t unknown_count_max;  /* and of unknown ones. 1 to REGISTRY_SERVICE_QUEUE_COUNT_MAX. */
    uint32_t reuse_ms;           /* An answer younger than this serves other workers too. Keep it
                                    well below the view's refresh_ms. */
    uint32_t failure_hold_ms;    /* After a failed read, questions get its reason for this long;
                                    but not when the answer itself was refused (class PEER), which
                                    may be about that one wallet. */
    uint32_t members_refresh_ms; /* How often the member list is read; 0: source's refresh_ms. */
    uint32_t members_ttl_ms;     /* A member list older than this is not given out. */
    uint8_t hash_key[SIPHASH_KEY_BYTES];
};

/* Gives *out, NULL on error; starts the thread. Takes *source (sets it NULL) on success only.
 * BAD_CONFIG, NOMEM. */
RC registry_service_init(struct registry_service **out, struct registry **source,
                         const struct registry_service_cfg *cfg);
/* Takes *service: lets the read under way end, stops the thread, closes the source, sets NULL.
 * Questions still queued are dropped; no callback runs after it returns. Accepts a closed one. Not
 * from a callback. */
void registry_service_close(struct registry_service **service);

/* Runs ON THE REGISTRY THREAD: copy, post to the own loop, return. Exactly one of facts (found or
 * not) and reason is NULL; both are lent for the call. */
typedef void (*registry_answer_cb)(void *ctx, const struct wallet *wallet,
                                   const struct auth_facts *facts, const char *reason);

/* Refreshes of wallets in use go before unknown wallets. */
enum registry_urgency { REGISTRY_REFRESH, REGISTRY_UNKNOWN };

struct registry_asker {
    registry_answer_cb answer_cb;
    void *ctx;
};

/* Queues a question; copies wallet. Each accepted question has one answer (but see close).
 * Questions about one wallet are asked of the source once. QUOTA when the queue for this urgency,
 * or the room for askers of this wallet, is full: then no answer comes. Never blocks for the
 * source. */
RC registry_service_ask(struct registry_service *service, const struct wallet *wallet,
                        enum registry_urgency urgency, struct registry_asker asker);

/* Copies the latest member list. UNAVAILABLE with the reason when there is none yet, or the latest
 * is older than members_ttl_ms. Never blocks for the source. */
RC registry_service_members(struct registry_service *service, struct registry_members *out,
                            char reason[static REGISTRY_REASON_BYTES]);

/* For /metrics. */
struct registry_service_stats {
    uint32_t queued_count;
    uint64_t lookup_count;  /* Questions put to the source, */
    uint64_t reused_count;  /* and answered without. */
    uint64_t failed_count;  /* Failed reads of the source, member lists included. */
    uint64_t refused_count; /* Questions refused with QUOTA. */
};
void registry_service_stats(struct registry_service *service, struct registry_service_stats *out);
