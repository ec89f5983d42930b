/* SPDX-License-Identifier: Apache-2.0 */
/* What one worker knows about wallets: registry answers, kept fresh while in use, so that a call is
 * judged without waiting for the registry. Pure; one owner thread, no lock. Memory is taken in
 * _init. Time is monotonic milliseconds, given by the caller, and never goes back.
 *
 * How a worker uses it (docs/architecture.md, "Who may call"):
 *  - For each call: auth_view_decide. AUTH_UNKNOWN: park the call, auth_view_begin_lookup, and on
 *    AUTH_LOOKUP_START ask the registry service. Its answer, back on the worker, goes into
 *    auth_view_apply or auth_view_unreadable; then decide the parked calls again.
 *  - When a connection has been judged: auth_view_pin; when it closes: auth_view_unpin.
 *  - On a timer (each 100 to 250 ms): auth_view_due, and ask the service for what it names. */
#pragma once

#include "auth/facts.h"
#include "auth/rules.h"
#include "base/siphash.h"

#define AUTH_VIEW_ENTRY_COUNT_MAX 65536u
#define AUTH_VIEW_REASON_BYTES 200
/* For the budget's two numbers. */
#define AUTH_VIEW_UNKNOWN_MAX 1000000000u

struct auth_view; /* Opaque. */

/* Zero is refused for every field but kms_app_id and hash_key. */
struct auth_view_cfg {
    uint64_t kms_app_id;
    /* Wallets that are permitted or have an open connection: at least the connections a worker
     * may hold, or pinning fails. 1 to AUTH_VIEW_ENTRY_COUNT_MAX, as the next two. */
    uint32_t entry_count_max;
    uint32_t miss_count_max;     /* Refused or unreadable wallets without a connection. */
    uint32_t pending_count_max;  /* Unknown wallets that are being looked up. */
    uint32_t refresh_ms;         /* How often an entry in use is read again (default 10 s). */
    uint32_t ttl_ms;             /* REGISTRY_CACHE_TTL_SECONDS: no older answer permits a call. */
    uint32_t miss_life_ms;       /* How long a refusal or a failure answers for a new connection. */
    uint32_t lookup_timeout_ms;  /* A lookup without an answer is taken as lost after this. */
    uint32_t unknown_per_minute; /* Budget for lookups of unknown wallets, */
    uint32_t unknown_burst;      /* and how many may come at once. */
    uint8_t hash_key[SIPHASH_KEY_BYTES]; /* Random: wallets are chosen by strangers. */
};

/* Gives *out, NULL on error. Copies cfg. BAD_CONFIG, NOMEM. */
RC auth_view_init(struct auth_view **out, const struct auth_view_cfg *cfg);
/* Takes *view: frees, sets NULL. Accepts a closed view. */
void auth_view_close(struct auth_view **view);

enum auth_outcome {
    AUTH_ALLOW,      /* app_id, version_id and instance_id are set. */
    AUTH_DENY,       /* The registry says no: verdict is set. PERMISSION_DENIED. */
    AUTH_UNREADABLE, /* Not known, or known too long ago, and the registry cannot be read: reason is
                        set. UNAVAILABLE. */
    AUTH_UNKNOWN,    /* Must be looked up: auth_view_begin_lookup, then decide after the answer. */
    AUTH_BUSY,       /* Unknown, and too many unknown wallets right now: retry_after_ms is set.
                        RESOURCE_EXHAUSTED. */
};

struct auth_decision {
    enum auth_outcome outcome;
    enum auth_verdict verdict; /* For ALLOW AUTH_VERDICT_PERMITTED. */
    uint64_t app_id;
    uint64_t version_id;
    uint64_t instance_id;
    const char *reason; /* One sentence for DENY, UNREADABLE and BUSY, else "". Lent until the next
                           call that changes the view. */
    uint32_t retry_after_ms; /* For BUSY; else 0. */
};

/* Judges one call. O(1), allocates nothing. */
void auth_view_decide(struct auth_view *view, const struct wallet *wallet, enum auth_role role,
                      uint64_t now_ms, struct auth_decision *out);

enum auth_lookup {
    AUTH_LOOKUP_START,  /* The caller asks the registry now, and owes apply or unreadable. */
    AUTH_LOOKUP_JOINED, /* It was asked before: the answer to that one serves this too. */
    AUTH_LOOKUP_BUSY,   /* Over the budget or over pending_count_max: as AUTH_BUSY. */
};
/* After AUTH_UNKNOWN. Spends the budget when it returns START. */
enum auth_lookup auth_view_begin_lookup(struct auth_view *view, const struct wallet *wallet,
                                        uint64_t now_ms);

/* Takes the registry's answer in. Acts at once, negative ones too; ignored when it is older than
 * what is held. An as_of_mono_ms in the future counts as now_ms, so that it cannot live longer. */
void auth_view_apply(struct auth_view *view, const struct wallet *wallet,
                     const struct auth_facts *facts, uint64_t now_ms);
/* The registry could not be read for this wallet. What is held stays valid until ttl_ms. reason is
 * one sentence; copied, cut at AUTH_VIEW_REASON_BYTES. */
void auth_view_unreadable(struct auth_view *view, const struct wallet *wallet, const char *reason,
                          uint64_t now_ms);

/* A connection of this wallet is open: its entry is refreshed and not evicted. Pins count. A wallet
 * that was last read more than half of refresh_ms ago is due at once. NOT_FOUND when the view does
 * not hold the wallet (decide says UNKNOWN or BUSY), QUOTA when entry_count_max wallets are
 * pinned. */
RC auth_view_pin(struct auth_view *view, const struct wallet *wallet, uint64_t now_ms);
/* Once for each successful pin. */
void auth_view_unpin(struct auth_view *view, const struct wallet *wallet, uint64_t now_ms);

/* Gives up to wallet_count_max pinned wallets to read again now, oldest first, and takes them as
 * asked: the caller asks the registry and owes apply or unreadable for each. Call again while it
 * returns wallet_count_max. */
size_t auth_view_due(struct auth_view *view, uint64_t now_ms, struct wallet *wallets,
                     size_t wallet_count_max);

/* Upper bounds of the histogram of revocations, in seconds; one more bucket has the rest. */
#define AUTH_REVOCATION_BOUND_COUNT 10
extern const uint32_t auth_revocation_bounds_s[AUTH_REVOCATION_BOUND_COUNT];

/* For /metrics. */
struct auth_view_stats {
    uint32_t pinned_count;
    uint32_t entry_count; /* Pinned ones included. */
    uint32_t miss_count;
    uint32_t pending_count;
    uint64_t evicted_count;      /* Since init. */
    uint64_t busy_count;         /* Lookups refused for the budget. */
    uint64_t stale_answer_count; /* Answers ignored as older than what was held. */
    uint64_t unreadable_count;   /* Failed reads. */
    /* Connected wallets that lost their permission: time from the instant for which the last good
     * answer vouched to the answer that refuses. */
    uint64_t revocation_counts[AUTH_REVOCATION_BOUND_COUNT + 1];
    uint64_t revocation_sum_ms;
};
void auth_view_stats(const struct auth_view *view, struct auth_view_stats *out);
