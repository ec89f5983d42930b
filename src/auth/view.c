/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/view.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth/bucket.h"
#include "auth/table.h"

#define CFG_MS_MAX 86400000u

const uint32_t auth_revocation_bounds_s[AUTH_REVOCATION_BOUND_COUNT] = { 1,  2,  5,  10,  15,
                                                                         20, 30, 60, 120, 180 };

/* Stands in exactly one of the view's lists. */
struct entry {
    struct auth_node node;
    uint64_t app_id;
    uint64_t version_id;
    uint64_t instance_id;
    enum auth_verdict verdict[AUTH_ROLE_COUNT];
    uint32_t pin_count;
    bool has_facts; /* The fields above, as_of_ms and learned_ms are set. */
    bool in_flight; /* A lookup was begun at asked_ms and has not been answered. */
    bool failed;    /* The last read failed, at failed_ms. */
    uint64_t as_of_ms;
    uint64_t learned_ms;
    uint64_t asked_ms;
    uint64_t failed_ms;
    uint64_t due_ms; /* For pinned ones: when to read again. */
};

struct auth_view {
    struct auth_view_cfg cfg;
    struct auth_table table;
    struct auth_list pinned;    /* By due_ms. With permitted: at most entry_count_max. */
    struct auth_list permitted; /* No connection, permitted to call; by last use. */
    struct auth_list missed;    /* No connection, anything else; by when it was learned. */
    struct auth_list pending;   /* Never answered; by asked_ms. */
    struct auth_bucket_rate budget_rate;
    struct auth_bucket budget;
    struct auth_view_stats stats;
    char failure[AUTH_VIEW_REASON_BYTES];     /* Why the last failed read failed. */
    char reason[AUTH_VIEW_REASON_BYTES + 64]; /* What a decision lends. */
};

static struct entry *entry_of(struct auth_node *node) {
    return (struct entry *)(void *)node;
}

static struct entry *entry_find(const struct auth_view *view, const struct wallet *wallet) {
    return entry_of(auth_table_find(&view->table, wallet));
}

static bool in_range(uint32_t value, uint32_t max) {
    return value >= 1 && value <= max;
}

static bool cfg_is_allowed(const struct auth_view_cfg *cfg) {
    return in_range(cfg->entry_count_max, AUTH_VIEW_ENTRY_COUNT_MAX) &&
           in_range(cfg->miss_count_max, AUTH_VIEW_ENTRY_COUNT_MAX) &&
           in_range(cfg->pending_count_max, AUTH_VIEW_ENTRY_COUNT_MAX) &&
           in_range(cfg->refresh_ms, CFG_MS_MAX) && in_range(cfg->ttl_ms, CFG_MS_MAX) &&
           in_range(cfg->miss_life_ms, CFG_MS_MAX) &&
           in_range(cfg->lookup_timeout_ms, CFG_MS_MAX) &&
           in_range(cfg->unknown_per_minute, AUTH_VIEW_UNKNOWN_MAX) &&
           in_range(cfg->unknown_burst, AUTH_VIEW_UNKNOWN_MAX);
}

RC auth_view_init(struct auth_view **out, const struct auth_view_cfg *cfg) {
    *out = NULL;
    ENSURE(cfg_is_allowed(cfg), BAD_CONFIG);
    AUTO(auth_view_close) struct auth_view *view = calloc(1, sizeof(*view));
    ENSURE(view != NULL, NOMEM);
    view->cfg = *cfg;
    view->budget_rate = (struct auth_bucket_rate){ cfg->unknown_per_minute, cfg->unknown_burst };
    auth_bucket_fill(&view->budget, view->budget_rate, 0);
    /* One spare: an answer takes its slot before its list makes room. */
    uint32_t slot_count = cfg->entry_count_max + cfg->miss_count_max + cfg->pending_count_max + 1;
    TRY(auth_table_init(&view->table, slot_count, sizeof(struct entry), cfg->hash_key));
    *out = view;
    view = NULL;
    return OK;
}

void auth_view_close(struct auth_view **view) {
    if (*view != NULL) {
        auth_table_close(&(*view)->table);
        free(*view);
        *view = NULL;
    }
}

static uint64_t elapsed_ms(uint64_t since_ms, uint64_t now_ms) {
    return now_ms > since_ms ? now_ms - since_ms : 0;
}

static bool is_in_flight(const struct auth_view *view, const struct entry *entry, uint64_t now_ms) {
    return entry->in_flight && elapsed_ms(entry->asked_ms, now_ms) < view->cfg.lookup_timeout_ms;
}

/* Whether the held facts may answer a call now. A refusal of a wallet without a connection lives
 * shorter: nothing refreshes it, and an operator's change should be seen soon. */
static bool is_fresh(const struct auth_view *view, const struct entry *entry, uint64_t now_ms) {
    if (!entry->has_facts || elapsed_ms(entry->as_of_ms, now_ms) > view->cfg.ttl_ms) {
        return false;
    }
    return entry->pin_count > 0 || entry->verdict[AUTH_CALLER] == AUTH_VERDICT_PERMITTED ||
           elapsed_ms(entry->learned_ms, now_ms) < view->cfg.miss_life_ms;
}

static void decide_fresh(const struct entry *entry, enum auth_role role,
                         struct auth_decision *out) {
    out->verdict = entry->verdict[role];
    if (out->verdict != AUTH_VERDICT_PERMITTED) {
        out->outcome = AUTH_DENY;
        out->reason = auth_verdict_text(out->verdict);
        return;
    }
    out->outcome = AUTH_ALLOW;
    out->app_id = entry->app_id;
    out->version_id = entry->version_id;
    out->instance_id = entry->instance_id;
}

static void decide_unreadable(struct auth_view *view, const struct entry *entry,
                              struct auth_decision *out) {
    out->outcome = AUTH_UNREADABLE;
    out->reason = view->reason;
    if (entry->failed) {
        (void)snprintf(view->reason, sizeof(view->reason), "registry cannot be read: %s",
                       view->failure);
    } else {
        (void)snprintf(view->reason, sizeof(view->reason),
                       "registry has given no answer newer than %u s", view->cfg.ttl_ms / 1000);
    }
}

/* Whether a lookup of an unknown wallet may begin; *wait_ms says when to try again if not. */
static bool may_look_up(struct auth_view *view, const struct entry *entry, uint64_t now_ms,
                        uint32_t *wait_ms) {
    auth_bucket_refill(&view->budget, view->budget_rate, now_ms);
    *wait_ms = auth_bucket_wait_ms(&view->budget, view->budget_rate);
    if (*wait_ms > 0) {
        return false;
    }
    const struct auth_node *oldest = view->pending.head;
    if (entry == NULL && view->pending.count == view->cfg.pending_count_max &&
        is_in_flight(view, (const struct entry *)(const void *)oldest, now_ms)) {
        *wait_ms = view->cfg.lookup_timeout_ms;
        return false;
    }
    return true;
}

static void decide_unknown(struct auth_view *view, const struct entry *entry, uint64_t now_ms,
                           struct auth_decision *out) {
    uint32_t wait_ms = 0;
    if ((entry != NULL && is_in_flight(view, entry, now_ms)) ||
        may_look_up(view, entry, now_ms, &wait_ms)) {
        out->outcome = AUTH_UNKNOWN;
        return;
    }
    view->stats.busy_count++;
    out->outcome = AUTH_BUSY;
    out->reason = "too many unknown wallets are being looked up";
    out->retry_after_ms = wait_ms;
}

void auth_view_decide(struct auth_view *view, const struct wallet *wallet, enum auth_role role,
                      uint64_t now_ms, struct auth_decision *out) {
    *out = (struct auth_decision){ .verdict = AUTH_VERDICT_NOT_REGISTERED, .reason = "" };
    struct entry *entry = entry_find(view, wallet);
    if (entry != NULL && is_fresh(view, entry, now_ms)) {
        decide_fresh(entry, role, out);
        if (entry->node.list == &view->permitted) {
            auth_list_append(&view->permitted, &entry->node);
        }
    } else if (entry != NULL &&
               (entry->pin_count > 0 ||
                (entry->failed && elapsed_ms(entry->failed_ms, now_ms) < view->cfg.miss_life_ms))) {
        decide_unreadable(view, entry, out);
    } else {
        decide_unknown(view, entry, now_ms, out);
    }
}

static void evict(struct auth_view *view, struct auth_node *node) {
    view->stats.evicted_count++;
    auth_table_remove(&view->table, node);
}

/* Puts the entry into the list where it belongs, and makes room there. */
static void place(struct auth_view *view, struct entry *entry) {
    if (entry->pin_count > 0) {
        return;
    }
    auth_list_remove(&entry->node);
    bool is_permitted = entry->has_facts && entry->verdict[AUTH_CALLER] == AUTH_VERDICT_PERMITTED;
    /* With every place pinned there is no permitted list: a guest among the misses. */
    if (is_permitted && view->pinned.count < view->cfg.entry_count_max) {
        if (view->pinned.count + view->permitted.count >= view->cfg.entry_count_max) {
            evict(view, view->permitted.head);
        }
        auth_list_append(&view->permitted, &entry->node);
        return;
    }
    if (view->missed.count >= view->cfg.miss_count_max) {
        evict(view, view->missed.head);
    }
    auth_list_append(&view->missed, &entry->node);
}

enum auth_lookup auth_view_begin_lookup(struct auth_view *view, const struct wallet *wallet,
                                        uint64_t now_ms) {
    struct entry *entry = entry_find(view, wallet);
    if (entry != NULL && is_in_flight(view, entry, now_ms)) {
        return AUTH_LOOKUP_JOINED;
    }
    uint32_t wait_ms = 0;
    if (!may_look_up(view, entry, now_ms, &wait_ms)) {
        view->stats.busy_count++;
        return AUTH_LOOKUP_BUSY;
    }
    if (entry == NULL) {
        if (view->pending.count == view->cfg.pending_count_max) {
            evict(view, view->pending.head); /* Timed out, or may_look_up had refused. */
        }
        entry = entry_of(auth_table_add(&view->table, wallet));
        ASSERT(entry != NULL);
        auth_list_append(&view->pending, &entry->node);
    } else if (entry->node.list == &view->pending) {
        auth_list_append(&view->pending, &entry->node);
    }
    bool had_token = auth_bucket_take(&view->budget);
    ASSERT(had_token);
    entry->in_flight = true;
    entry->asked_ms = now_ms;
    return AUTH_LOOKUP_START;
}

static void set_failed(struct auth_view *view, struct entry *entry, uint64_t now_ms) {
    entry->failed = true;
    entry->failed_ms = now_ms;
    view->stats.unreadable_count++;
}

/* Before new facts replace those of entry. */
static void count_revocation(struct auth_view *view, const struct entry *entry,
                             const struct auth_facts *facts, uint64_t now_ms) {
    if (entry->pin_count == 0 || !entry->has_facts ||
        entry->verdict[AUTH_CALLER] != AUTH_VERDICT_PERMITTED ||
        auth_judge(facts, AUTH_CALLER, view->cfg.kms_app_id) == AUTH_VERDICT_PERMITTED) {
        return;
    }
    uint64_t took_ms = elapsed_ms(entry->as_of_ms, now_ms);
    size_t bucket = 0;
    while (bucket < AUTH_REVOCATION_BOUND_COUNT &&
           took_ms > (uint64_t)auth_revocation_bounds_s[bucket] * 1000) {
        bucket++;
    }
    view->stats.revocation_counts[bucket]++;
    view->stats.revocation_sum_ms += took_ms;
}

void auth_view_apply(struct auth_view *view, const struct wallet *wallet,
                     const struct auth_facts *facts, uint64_t now_ms) {
    uint64_t as_of_ms = facts->as_of_mono_ms < now_ms ? facts->as_of_mono_ms : now_ms;
    struct entry *entry = entry_find(view, wallet);
    if (entry == NULL) {
        entry = entry_of(auth_table_add(&view->table, wallet));
        ASSERT(entry != NULL);
    }
    entry->in_flight = false;
    if (entry->has_facts && as_of_ms < entry->as_of_ms) {
        view->stats.stale_answer_count++;
        if (!is_fresh(view, entry, now_ms)) {
            (void)snprintf(view->failure, sizeof(view->failure),
                           "its answer is older than the one before");
            set_failed(view, entry, now_ms);
        }
        return;
    }
    count_revocation(view, entry, facts, now_ms);
    entry->has_facts = true;
    entry->failed = false;
    entry->app_id = facts->instance.app_id;
    entry->version_id = facts->instance.version_id;
    entry->instance_id = facts->instance.id;
    entry->verdict[AUTH_CALLER] = auth_judge(facts, AUTH_CALLER, view->cfg.kms_app_id);
    entry->verdict[AUTH_PEER] = auth_judge(facts, AUTH_PEER, view->cfg.kms_app_id);
    entry->as_of_ms = as_of_ms;
    entry->learned_ms = now_ms;
    if (elapsed_ms(as_of_ms, now_ms) > view->cfg.ttl_ms) {
        (void)snprintf(view->failure, sizeof(view->failure), "its newest state is %llu s old",
                       (unsigned long long)(now_ms - as_of_ms) / 1000);
        set_failed(view, entry, now_ms);
    }
    place(view, entry);
}

void auth_view_unreadable(struct auth_view *view, const struct wallet *wallet, const char *reason,
                          uint64_t now_ms) {
    (void)snprintf(view->failure, sizeof(view->failure), "%s", reason);
    struct entry *entry = entry_find(view, wallet);
    if (entry == NULL) {
        return;
    }
    entry->in_flight = false;
    set_failed(view, entry, now_ms);
    if (entry->node.list == &view->pending) {
        place(view, entry);
    }
}

RC auth_view_pin(struct auth_view *view, const struct wallet *wallet, uint64_t now_ms) {
    struct entry *entry = entry_find(view, wallet);
    ENSURE(entry != NULL && entry->node.list != &view->pending, NOT_FOUND);
    if (entry->pin_count > 0) {
        entry->pin_count++;
        return OK;
    }
    ENSURE(view->pinned.count < view->cfg.entry_count_max, QUOTA);
    auth_list_remove(&entry->node);
    if (view->pinned.count + view->permitted.count >= view->cfg.entry_count_max) {
        evict(view, view->permitted.head);
    }
    entry->pin_count = 1;
    if (elapsed_ms(entry->asked_ms, now_ms) > view->cfg.refresh_ms / 2) {
        entry->due_ms = 0;
        auth_list_prepend(&view->pinned, &entry->node);
    } else {
        entry->due_ms = now_ms + view->cfg.refresh_ms;
        auth_list_append(&view->pinned, &entry->node);
    }
    return OK;
}

void auth_view_unpin(struct auth_view *view, const struct wallet *wallet, uint64_t now_ms) {
    struct entry *entry = entry_find(view, wallet);
    ASSERT(entry != NULL);
    ASSERT(entry->pin_count > 0);
    entry->pin_count--;
    if (entry->pin_count == 0) {
        entry->learned_ms = now_ms; /* A refusal was refreshed until now: its life starts here. */
        place(view, entry);
    }
}

size_t auth_view_due(struct auth_view *view, uint64_t now_ms, struct wallet *wallets,
                     size_t wallet_count_max) {
    size_t count = 0;
    while (count < wallet_count_max && view->pinned.head != NULL) {
        struct entry *entry = entry_of(view->pinned.head);
        if (entry->due_ms > now_ms) {
            break;
        }
        entry->due_ms = now_ms + view->cfg.refresh_ms;
        auth_list_append(&view->pinned, &entry->node);
        if (!is_in_flight(view, entry, now_ms)) {
            entry->in_flight = true;
            entry->asked_ms = now_ms;
            wallets[count++] = entry->node.wallet;
        }
    }
    return count;
}

void auth_view_stats(const struct auth_view *view, struct auth_view_stats *out) {
    *out = view->stats;
    out->pinned_count = view->pinned.count;
    out->entry_count = view->pinned.count + view->permitted.count;
    out->miss_count = view->missed.count;
    out->pending_count = view->pending.count;
}
