/* SPDX-License-Identifier: Apache-2.0 */
#include "node/authority.h"

#include <stdlib.h>

#include "auth/limiter.h"
#include "base/log.h"
#include "base/secret.h"
#include "crypto/random.h"
#include "service/peer_service.h"

#define TICK_MS 100u
#define DUE_COUNT_MAX 64u
#define ENTRY_COUNT_MIN 1024u
#define MISS_COUNT_MAX 4096u
#define PENDING_COUNT_MAX 1024u
#define MISS_LIFE_MS 2000u
#define LOOKUP_TIMEOUT_MS 10000u
/* A known wallet that comes back waits so long for a fresh answer; then the held one counts. */
#define REFRESH_WAIT_MS 1000u
#define UNKNOWN_PER_MINUTE 6000u
#define UNKNOWN_BURST 500u
#define QUEUE_FULL "too many questions to the registry wait already"
#define LIMITER_WALLET_COUNT_MAX 8192u
/* Of a member: replication calls once for each change or page, so this only stops a flood. */
#define PEER_CALLS_PER_MINUTE 1200000u

/* A connection with a proved wallet. */
struct session {
    struct service_caller caller; /* First: it is the connection's context. */
    struct authority *authority;
    struct net_conn *conn;
    struct session *prev; /* While it waits for the registry. */
    struct session *next;
    uint64_t parked_at_ms;
    bool is_parked;
    bool is_pinned;
    bool is_fresh; /* A fresh answer was asked for; it need not be again. */
};

struct authority {
    struct authority_cfg cfg;
    struct auth_view *view;
    struct auth_limiter *limiter;
    struct auth_limiter *peer_limiter;
    struct session *parked; /* Waiting for the registry, in no order. */
    uv_timer_t timer;
    pthread_mutex_t stats_mutex; /* Guards stats. */
    struct auth_view_stats stats;
};

/* The registry's answer on its way from its thread to the worker's. */
struct answer {
    struct authority *authority;
    struct wallet wallet;
    bool has_facts;
    struct auth_facts facts;
    char reason[REGISTRY_REASON_BYTES];
};

static uint64_t now_ms(const struct authority *authority) {
    return uv_now(authority->cfg.loop);
}

/* ---- Waiting for the registry ---- */

static void park(struct session *session) {
    struct authority *authority = session->authority;
    session->parked_at_ms = now_ms(authority);
    session->is_parked = true;
    session->prev = NULL;
    session->next = authority->parked;
    if (session->next != NULL) {
        session->next->prev = session;
    }
    authority->parked = session;
}

static void unpark(struct session *session) {
    if (!session->is_parked) {
        return;
    }
    session->is_parked = false;
    *(session->prev == NULL ? &session->authority->parked : &session->prev->next) = session->next;
    if (session->next != NULL) {
        session->next->prev = session->prev;
    }
}

static void judge(struct session *session);

/* Judges again whoever waited for this wallet. */
static void resume_parked(struct authority *authority, const struct wallet *wallet) {
    for (struct session *at = authority->parked, *next = NULL; at != NULL; at = next) {
        next = at->next;
        if (wallet_equal(&at->caller.wallet, wallet)) {
            unpark(at);
            judge(at);
        }
    }
}

/* On the worker's loop. Takes arg. */
static void take_answer(void *arg) {
    struct answer *answer = arg;
    struct authority *authority = answer->authority;
    if (answer->has_facts) {
        auth_view_apply(authority->view, &answer->wallet, &answer->facts, now_ms(authority));
    } else {
        auth_view_unreadable(authority->view, &answer->wallet, answer->reason, now_ms(authority));
    }
    resume_parked(authority, &answer->wallet);
    free(answer);
}

/* On the registry's thread. Without memory, or a worker, the lookup counts as lost and times
 * out. */
static void answer_cb(void *ctx, const struct wallet *wallet, const struct auth_facts *facts,
                      const char *reason) {
    struct authority *authority = ctx;
    struct answer *answer = calloc(1, sizeof(*answer));
    if (answer == NULL) {
        return;
    }
    answer->authority = authority;
    answer->wallet = *wallet;
    answer->has_facts = facts != NULL;
    if (facts != NULL) {
        answer->facts = *facts;
    } else {
        (void)snprintf(answer->reason, sizeof(answer->reason), "%s", reason);
    }
    if (!node_post_run(authority->cfg.post, authority->cfg.worker_idx, take_answer, answer)) {
        free(answer);
    }
}

/* False when the registry's queue is full: then no answer comes. */
static bool ask(struct authority *authority, const struct wallet *wallet,
                enum registry_urgency urgency) {
    const struct registry_asker asker = { .answer_cb = answer_cb, .ctx = authority };
    struct rc rc = registry_service_ask(authority->cfg.registry, wallet, urgency, asker);
    if (rc.err != E_OK) {
        auth_view_unreadable(authority->view, wallet, QUEUE_FULL, now_ms(authority));
    }
    return rc.err == E_OK;
}

/* ---- Connections ---- */

static void refuse(struct session *session, enum status_code code, const char *reason) {
    char wallet[WALLET_TEXT_BYTES];
    struct status why = { 0 };
    status_set(&why, code, "wallet %s: %s", wallet_format(&session->caller.wallet, wallet), reason);
    LOG_LIMITED(INFO, "auth.refuse", "wallet=%s code=%s reason=\"%s\"", wallet, status_name(code),
                reason);
    net_conn_refuse(session->conn, &why);
}

static void set_caller(struct session *session, const struct auth_decision *decision) {
    session->caller.app_id = decision->app_id;
    session->caller.version_id = decision->version_id;
    session->caller.instance_id = decision->instance_id;
    session->caller.is_kms_member = decision->app_id == session->authority->cfg.kms_app_id;
}

/* Asks the registry about every wallet that is due. Gives whether `wallet` was one of them, and its
 * answer will come. */
static bool refresh_due(struct authority *authority, const struct wallet *wallet) {
    struct wallet due[DUE_COUNT_MAX];
    size_t count = 0;
    bool found = false;
    do {
        count = auth_view_due(authority->view, now_ms(authority), due, DUE_COUNT_MAX);
        for (size_t i = 0; i < count; i++) {
            bool is_coming = ask(authority, &due[i], REGISTRY_REFRESH);
            found = found || (is_coming && wallet != NULL && wallet_equal(&due[i], wallet));
        }
    } while (count == DUE_COUNT_MAX);
    return found;
}

/* The held answer permits the wallet. If it is not a fresh one, because the wallet had no
 * connection for a while, the connection waits for the registry once more: a revoked wallet that
 * comes back would otherwise have its calls answered until the refresh arrives. */
static void admit(struct session *session, const struct auth_decision *decision) {
    struct authority *authority = session->authority;
    if (!session->is_pinned) {
        struct rc rc = auth_view_pin(authority->view, &session->caller.wallet, now_ms(authority));
        if (rc.err != E_OK) {
            refuse(session, STATUS_RESOURCE_EXHAUSTED, "too many wallets are connected");
            return;
        }
        session->is_pinned = true;
    }
    if (!session->is_fresh) {
        session->is_fresh = true;
        if (refresh_due(authority, &session->caller.wallet)) {
            park(session);
            return;
        }
    }
    set_caller(session, decision);
    if (session->caller.is_kms_member) {
        net_conn_set_answer_frame_max(session->conn, PEER_FRAME_BYTES_MAX);
    }
    net_conn_admit(session->conn);
}

static void look_up(struct session *session) {
    struct authority *authority = session->authority;
    const struct wallet wallet = session->caller.wallet;
    switch (auth_view_begin_lookup(authority->view, &wallet, now_ms(authority))) {
    case AUTH_LOOKUP_START:
        if (ask(authority, &wallet, REGISTRY_UNKNOWN)) {
            park(session);
        } else {
            refuse(session, STATUS_UNAVAILABLE, QUEUE_FULL);
        }
        break;
    case AUTH_LOOKUP_JOINED:
        park(session);
        break;
    case AUTH_LOOKUP_BUSY:
        refuse(session, STATUS_RESOURCE_EXHAUSTED,
               "too many unknown wallets connect at once; try again");
        break;
    }
}

/* Decides about a new connection, or looks its wallet up. */
static void judge(struct session *session) {
    struct authority *authority = session->authority;
    struct auth_decision decision = { 0 };
    auth_view_decide(authority->view, &session->caller.wallet, AUTH_CALLER, now_ms(authority),
                     &decision);
    switch (decision.outcome) {
    case AUTH_ALLOW:
        admit(session, &decision);
        break;
    case AUTH_DENY:
        refuse(session, STATUS_PERMISSION_DENIED, decision.reason);
        break;
    case AUTH_UNREADABLE:
        refuse(session, STATUS_UNAVAILABLE, decision.reason);
        break;
    case AUTH_BUSY:
        refuse(session, STATUS_RESOURCE_EXHAUSTED, decision.reason);
        break;
    case AUTH_UNKNOWN:
        look_up(session);
        break;
    }
}

static void admit_cb(void *ctx, struct net_conn *conn) {
    struct authority *authority = ctx;
    struct session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        struct status why = { 0 };
        status_set(&why, STATUS_UNAVAILABLE, "the node is out of memory; try again");
        net_conn_refuse(conn, &why);
        return;
    }
    session->authority = authority;
    session->conn = conn;
    session->caller.wallet = *net_conn_wallet(conn);
    net_conn_set_context(conn, session);
    judge(session);
}

static void closed_cb(void *ctx, struct net_conn *conn) {
    struct authority *authority = ctx;
    struct session *session = net_conn_context(conn);
    if (session == NULL) {
        return;
    }
    unpark(session);
    if (session->is_pinned) {
        auth_view_unpin(authority->view, &session->caller.wallet, now_ms(authority));
    }
    free(session);
}

/* ---- Calls ---- */

static bool check_peer_limit(struct session *session, struct status *why,
                             uint32_t *retry_after_ms) {
    struct authority *authority = session->authority;
    if (auth_limiter_take(authority->peer_limiter, &session->caller.wallet, now_ms(authority),
                          retry_after_ms)) {
        return true;
    }
    status_set(why, STATUS_RESOURCE_EXHAUSTED, "too many calls of one member; try again in %u ms",
               *retry_after_ms);
    return false;
}

static bool check_limit(struct session *session, struct status *why, uint32_t *retry_after_ms) {
    struct authority *authority = session->authority;
    if (auth_limiter_take(authority->limiter, &session->caller.wallet, now_ms(authority),
                          retry_after_ms)) {
        return true;
    }
    status_set(why, STATUS_RESOURCE_EXHAUSTED,
               "too many calls: RATE_LIMIT_PER_MINUTE is %u; try again in %u ms",
               authority->cfg.rate_limit_per_minute, *retry_after_ms);
    return false;
}

/* The registry may have moved the wallet to another app while the call waited: its answer would be
 * of the old one. */
static bool check_same_app(struct session *session, const struct auth_decision *decision,
                           bool is_recheck, struct status *why) {
    if (is_recheck && decision->app_id != session->caller.app_id) {
        status_set(why, STATUS_ABORTED, "the wallet's app changed during the call");
        return false;
    }
    set_caller(session, decision);
    return true;
}

static bool check_cb(void *ctx, struct net_call *call, bool is_recheck, struct status *why,
                     uint32_t *retry_after_ms) {
    struct authority *authority = ctx;
    struct session *session = net_call_context(call);
    /* Members are answered while the node serves no client: they need each other to become
     * ready. */
    bool is_peer_call = net_call_service(call) == &novakms__v1__peer_service__descriptor;
    enum auth_role role = is_peer_call ? AUTH_PEER : AUTH_CALLER;
    bool may_go_on = is_recheck ? service_readiness_allows(authority->cfg.readiness)
                                : service_readiness_admits(authority->cfg.readiness);
    if (!is_peer_call && !may_go_on) {
        char reason[SERVICE_REASON_BYTES];
        (void)service_readiness_reason(authority->cfg.readiness, reason);
        status_set(why, STATUS_UNAVAILABLE, "%s", reason);
        return false;
    }
    struct auth_decision decision = { 0 };
    auth_view_decide(authority->view, &session->caller.wallet, role, now_ms(authority), &decision);
    switch (decision.outcome) {
    case AUTH_ALLOW:
        return check_same_app(session, &decision, is_recheck, why) &&
               (is_recheck ||
                (is_peer_call ? check_peer_limit : check_limit)(session, why, retry_after_ms));
    case AUTH_DENY:
        status_set(why, STATUS_PERMISSION_DENIED, "%s", decision.reason);
        return false;
    case AUTH_UNREADABLE:
        status_set(why, STATUS_UNAVAILABLE, "%s", decision.reason);
        return false;
    case AUTH_BUSY:
    case AUTH_UNKNOWN: /* A pinned wallet's entry is not forgotten. */
        break;
    }
    status_set(why, STATUS_UNAVAILABLE, "the wallet is being looked up again; try again");
    return false;
}

/* ---- The timer ---- */

/* An answer that is late must not hold a connection: a known wallet is judged by what is held, an
 * unknown one is refused. */
static void end_waits(struct authority *authority) {
    uint64_t now = now_ms(authority);
    for (struct session *at = authority->parked, *next = NULL; at != NULL; at = next) {
        next = at->next;
        uint64_t waited_ms = now - at->parked_at_ms;
        if (at->is_pinned && waited_ms > REFRESH_WAIT_MS) {
            unpark(at);
            judge(at);
        } else if (waited_ms > LOOKUP_TIMEOUT_MS) {
            unpark(at);
            refuse(at, STATUS_UNAVAILABLE, "the registry did not answer in time");
        }
    }
}

static void timer_cb(uv_timer_t *timer) {
    struct authority *authority = timer->data;
    (void)refresh_due(authority, NULL);
    end_waits(authority);
    (void)pthread_mutex_lock(&authority->stats_mutex);
    auth_view_stats(authority->view, &authority->stats);
    (void)pthread_mutex_unlock(&authority->stats_mutex);
}

/* ---- Life ---- */

static RC init_view(struct authority *authority) {
    const struct authority_cfg *cfg = &authority->cfg;
    struct auth_view_cfg view = {
        .kms_app_id = cfg->kms_app_id,
        .entry_count_max = cfg->conn_count_max + ENTRY_COUNT_MIN,
        .miss_count_max = MISS_COUNT_MAX,
        .pending_count_max = PENDING_COUNT_MAX,
        .refresh_ms = cfg->refresh_ms,
        .ttl_ms = cfg->ttl_ms,
        .miss_life_ms = MISS_LIFE_MS,
        .lookup_timeout_ms = LOOKUP_TIMEOUT_MS,
        .unknown_per_minute = UNKNOWN_PER_MINUTE,
        .unknown_burst = UNKNOWN_BURST,
    };
    if (view.entry_count_max > AUTH_VIEW_ENTRY_COUNT_MAX) {
        view.entry_count_max = AUTH_VIEW_ENTRY_COUNT_MAX;
    }
    TRY(random_bytes(view.hash_key, sizeof(view.hash_key)));
    struct rc rc = auth_view_init(&authority->view, &view);
    secret_wipe(&view, sizeof(view));
    return rc;
}

static RC init_limiter(struct auth_limiter **out, uint32_t per_minute) {
    struct auth_limiter_cfg limiter = {
        .per_minute = per_minute,
        .wallet_count_max = LIMITER_WALLET_COUNT_MAX,
    };
    TRY(random_bytes(limiter.hash_key, sizeof(limiter.hash_key)));
    struct rc rc = auth_limiter_init(out, &limiter);
    secret_wipe(&limiter, sizeof(limiter));
    return rc;
}

RC authority_init(struct authority **out, const struct authority_cfg *cfg) {
    *out = NULL;
    struct authority *authority = calloc(1, sizeof(*authority));
    ENSURE(authority != NULL, NOMEM);
    authority->cfg = *cfg;
    ASSERT(pthread_mutex_init(&authority->stats_mutex, NULL) == 0);
    struct rc rc = init_view(authority);
    if (rc.err == E_OK) {
        rc = init_limiter(&authority->limiter, cfg->rate_limit_per_minute);
    }
    if (rc.err == E_OK) {
        rc = init_limiter(&authority->peer_limiter, PEER_CALLS_PER_MINUTE);
    }
    if (rc.err != E_OK) {
        authority_close(&authority);
        return rc;
    }
    ASSERT(uv_timer_init(cfg->loop, &authority->timer) == 0);
    authority->timer.data = authority;
    ASSERT(uv_timer_start(&authority->timer, timer_cb, TICK_MS, TICK_MS) == 0);
    uv_unref((uv_handle_t *)&authority->timer);
    *out = authority;
    return OK;
}

struct net_authority authority_ops(struct authority *authority) {
    return (struct net_authority){
        .ctx = authority,
        .admit = admit_cb,
        .check = check_cb,
        .closed = closed_cb,
    };
}

void authority_stop(struct authority *authority) {
    if (uv_is_closing((uv_handle_t *)&authority->timer) == 0) {
        uv_close((uv_handle_t *)&authority->timer, NULL);
    }
}

void authority_close(struct authority **authority) {
    if (*authority == NULL) {
        return;
    }
    auth_view_close(&(*authority)->view);
    auth_limiter_close(&(*authority)->limiter);
    auth_limiter_close(&(*authority)->peer_limiter);
    (void)pthread_mutex_destroy(&(*authority)->stats_mutex);
    free(*authority);
    *authority = NULL;
}

void authority_stats(struct authority *authority, struct auth_view_stats *sum) {
    (void)pthread_mutex_lock(&authority->stats_mutex);
    const struct auth_view_stats stats = authority->stats;
    (void)pthread_mutex_unlock(&authority->stats_mutex);
    sum->pinned_count += stats.pinned_count;
    sum->entry_count += stats.entry_count;
    sum->miss_count += stats.miss_count;
    sum->pending_count += stats.pending_count;
    sum->evicted_count += stats.evicted_count;
    sum->busy_count += stats.busy_count;
    sum->stale_answer_count += stats.stale_answer_count;
    sum->unreadable_count += stats.unreadable_count;
    for (size_t i = 0; i <= AUTH_REVOCATION_BOUND_COUNT; i++) {
        sum->revocation_counts[i] += stats.revocation_counts[i];
    }
    sum->revocation_sum_ms += stats.revocation_sum_ms;
}
