/* SPDX-License-Identifier: Apache-2.0 */
/* Asking: what the replica wants asked goes out. Digests that come back are dealt with in their
 * closure, pages in cluster_page.c. */
#include <stdlib.h>

#include "base/clock.h"
#include "node/cluster_internal.h"

/* A page may take so long beyond the wait that was asked for. */
#define PULL_TIMEOUT_MS 10000u
#define DIGEST_TIMEOUT_MS 10000u
#define ENTRY_SPARE_COUNT 16u
#define HEARD_PER_MEMBER (REPLICA_HEARD_COUNT_MAX / REPLICA_MEMBER_COUNT_MAX)
#define TRIES 4
#define TODOS_MAX 1024u /* Of one look; further ones wait for the next. */
/* Pages of digests of one member. */
#define DIGEST_PAGES_MAX 128u

/* One call to a member, until its closure has run. */
struct op {
    struct cluster *cluster;
    struct peer *peer;
    uint32_t ticket;
    /* Of digests: what came so far. */
    struct replica_digest *digests;
    size_t digest_count;
    struct store_known_entry *entries;
    struct store_known known;
    unsigned page_count;
};

static struct op *op_make(struct peer *peer, uint32_t ticket) {
    struct op *op = calloc(1, sizeof(*op));
    if (op != NULL) {
        *op = (struct op){ .cluster = peer->cluster, .peer = peer, .ticket = ticket };
    }
    return op;
}

static void op_free(struct op *op) {
    free(op->digests);
    free(op->entries);
    free(op);
}

void cluster_pull_failed(struct cluster *c, uint32_t ticket, bool is_starting, const char *reason) {
    const struct replica_now now = cluster_now(c);
    char plain[REPLICA_REASON_BYTES];
    cluster_plain(reason, plain, sizeof(plain));
    (void)service_kv_lock(c->cfg.shared->kv);
    replica_pull_failed(c->cfg.shared->replica, ticket, is_starting, plain, &now);
    service_kv_unlock(c->cfg.shared->kv, false);
}

static void digest_failed(struct cluster *c, uint32_t ticket) {
    const struct replica_now now = cluster_now(c);
    (void)service_kv_lock(c->cfg.shared->kv);
    replica_digest_failed(c->cfg.shared->replica, ticket, &now);
    service_kv_unlock(c->cfg.shared->kv, false);
}

/* ---- Pull ---- */

/* The member itself said that it is not in service. */
static bool says_starting(const struct net_outcome *outcome) {
    return outcome->executed == NET_ANSWERED && outcome->status.code == STATUS_UNAVAILABLE;
}

static void on_pull(const Novakms__V1__PullResponse *answer, void *closure_data) {
    struct op *op = closure_data;
    struct cluster *c = op->cluster;
    if (answer != NULL) {
        cluster_take_page(op->peer, op->ticket, answer);
    } else {
        const struct net_outcome *outcome = net_channel_outcome(op->peer->channel);
        cluster_pull_failed(c, op->ticket, says_starting(outcome), outcome->status.text);
    }
    op_free(op);
    cluster_soon(c);
}

/* Fills request with our vector in c->out. */
static RC make_request(struct cluster *c, uint32_t ticket, struct replica_request *request) {
    const struct service_shared *shared = c->cfg.shared;
    struct rc rc = ERR(TOO_BIG);
    for (unsigned i = 0; i < TRIES && rc.err == E_TOO_BIG; i++) {
        struct store *store = service_kv_lock(shared->kv);
        size_t count = store_known_count(store) + ENTRY_SPARE_COUNT;
        size_t heard_count =
            HEARD_PER_MEMBER * replica_other_count(shared->replica) + ENTRY_SPARE_COUNT;
        service_kv_unlock(shared->kv, false);
        struct store_known_entry *entries = arena_take(&c->out, count * sizeof(*entries));
        struct replica_heard *heard = arena_take(&c->out, heard_count * sizeof(*heard));
        ENSURE(entries != NULL && heard != NULL, NOMEM);
        const struct replica_ask ask = { ticket, entries, count };
        const struct replica_now now = cluster_now(c);
        store = service_kv_lock(shared->kv);
        rc = replica_pull_request(shared->replica, store, &ask, &now, request);
        request->heard = heard;
        request->heard_count = replica_heard_copy(shared->replica, heard, heard_count);
        service_kv_unlock(shared->kv, false);
    }
    return rc;
}

/* Why nothing can be asked of it now. */
static const char *unreachable(const struct cluster *c, const struct peer *peer) {
    if (peer == NULL) {
        return "there is no connection to it";
    }
    if (peer->channel == NULL) {
        return peer->why[0] != '\0' ? peer->why
                                    : "this node's TLS credential has not been made yet";
    }
    uint64_t ttl_ms = c->cfg.config->peer_cache_ttl_s * 1000;
    if (clock_mono_ms() > c->members_at_ms + ttl_ms) {
        return "the list of members is older than PEER_CACHE_TTL_SECONDS";
    }
    return NULL;
}

/* The first page of all data is asked for. */
static void note_snapshot(struct cluster *c) {
    if (c->is_complete || c->snapshot_at_us != 0) {
        return;
    }
    struct replica_stats stats;
    (void)service_kv_lock(c->cfg.shared->kv);
    replica_stats(c->cfg.shared->replica, &stats);
    service_kv_unlock(c->cfg.shared->kv, false);
    c->snapshot_at_us = clock_mono_us();
    c->snapshot_record_count = stats.record_count;
    c->snapshot_applied_count = stats.applied_count;
}

static RC send_pull(struct cluster *c, struct peer *peer, uint32_t ticket) {
    struct replica_request request;
    Novakms__V1__PullRequest *message = NULL;
    TRY(make_request(c, ticket, &request));
    TRY(peer_pull_request_out(&request, &c->out, &message));
    ProtobufCService *service =
        net_channel_service(peer->channel, &novakms__v1__peer_service__descriptor);
    struct op *op = op_make(peer, ticket);
    if (service == NULL || op == NULL) {
        free(op);
        return ERR(NOMEM);
    }
    note_snapshot(c);
    net_channel_set_timeout(peer->channel, request.wait_ms + PULL_TIMEOUT_MS);
    novakms__v1__peer_service__pull(service, message, on_pull, op);
    return OK;
}

void cluster_pull(struct cluster *c, const struct replica_todo *todo) {
    struct peer *peer = cluster_find(c, &todo->wallet);
    const char *why = unreachable(c, peer);
    if (why != NULL) {
        cluster_pull_failed(c, todo->ticket, false, why);
        return;
    }
    struct rc rc = send_pull(c, peer, todo->ticket);
    arena_reset(&c->out);
    if (rc.err != E_OK && rc.err != E_NOT_FOUND) {
        cluster_pull_failed(c, todo->ticket, false, err_text(rc.err));
    }
}

/* ---- Digests ---- */

static void send_digest(struct cluster *c, struct op *op, uint64_t after_app_id);

/* The pages together must be of one moment: what the member knows is the same on all of them. Both
 * vectors are in the writers' order. */
static bool is_same_known(const struct store_known *a, const struct store_known *b) {
    bool same = a->count == b->count && a->rest_hlc == b->rest_hlc;
    for (size_t i = 0; same && i < a->count; i++) {
        same = a->entries[i].hlc == b->entries[i].hlc &&
               span_equal((struct span){ a->entries[i].writer, STORE_WRITER_BYTES },
                          (struct span){ b->entries[i].writer, STORE_WRITER_BYTES });
    }
    return same;
}

static RC keep_known(struct op *op, const struct store_known *known) {
    op->entries = calloc(known->count + 1, sizeof(*op->entries));
    ENSURE(op->entries != NULL, NOMEM);
    memcpy(op->entries, known->entries, known->count * sizeof(*op->entries));
    op->known = (struct store_known){ op->entries, known->count, known->rest_hlc };
    return OK;
}

static RC keep_digests(struct op *op, const struct peer_digests *page) {
    if (op->page_count == 0) {
        TRY(keep_known(op, &page->known));
    }
    ENSURE(is_same_known(&op->known, &page->known), AGAIN);
    ENSURE(op->digest_count == 0 || page->count == 0 ||
               page->digests[0].app_id > op->digests[op->digest_count - 1].app_id,
           MALFORMED);
    ENSURE(!page->more || page->count > 0, MALFORMED);
    ENSURE(op->page_count < DIGEST_PAGES_MAX, TOO_BIG);
    size_t count = op->digest_count + page->count;
    struct replica_digest *all = realloc(op->digests, (count + 1) * sizeof(*all));
    ENSURE(all != NULL, NOMEM);
    memcpy(all + op->digest_count, page->digests, page->count * sizeof(*all));
    op->digests = all;
    op->digest_count = count;
    op->page_count++;
    return OK;
}

/* Gives whether another page is asked for: then op is taken. */
static bool take_digests(struct cluster *c, struct op *op,
                         const Novakms__V1__GetDigestResponse *in) {
    const struct service_shared *shared = c->cfg.shared;
    struct peer_digests page;
    struct status why = { 0 };
    if (!peer_digests_in(in, &c->limits, &c->in, &page, &why) ||
        keep_digests(op, &page).err != E_OK) {
        digest_failed(c, op->ticket);
        return false;
    }
    if (page.more) {
        send_digest(c, op, op->digests[op->digest_count - 1].app_id);
        return true;
    }
    const struct replica_digests theirs = { op->ticket, page.state, op->known, op->digests,
                                            op->digest_count };
    const struct replica_now now = cluster_now(c);
    const struct store *store = service_kv_lock(shared->kv);
    replica_digest_end(shared->replica, store, &theirs, &now);
    service_kv_unlock(shared->kv, false);
    return false;
}

static void on_digest(const Novakms__V1__GetDigestResponse *answer, void *closure_data) {
    struct op *op = closure_data;
    struct cluster *c = op->cluster;
    bool goes_on = false;
    if (answer != NULL) {
        goes_on = take_digests(c, op, answer);
        arena_reset(&c->in);
    } else {
        digest_failed(c, op->ticket);
    }
    if (!goes_on) {
        op_free(op);
    }
    cluster_soon(c);
}

/* Takes op: its closure frees it. */
static void send_digest(struct cluster *c, struct op *op, uint64_t after_app_id) {
    const struct service_shared *shared = c->cfg.shared;
    struct replica_state state;
    Novakms__V1__GetDigestRequest request = NOVAKMS__V1__GET_DIGEST_REQUEST__INIT;
    const struct replica_now now = cluster_now(c);
    const struct store *store = service_kv_lock(shared->kv);
    replica_own_state(shared->replica, store, &now, &state);
    service_kv_unlock(shared->kv, false);
    ProtobufCService *service =
        net_channel_service(op->peer->channel, &novakms__v1__peer_service__descriptor);
    struct rc rc = peer_state_out(&state, &c->out, &request.state);
    if (rc.err == E_OK && service != NULL) {
        request.after_app_id = after_app_id;
        net_channel_set_timeout(op->peer->channel, DIGEST_TIMEOUT_MS);
        novakms__v1__peer_service__get_digest(service, &request, on_digest, op);
    }
    arena_reset(&c->out);
    if (rc.err != E_OK || service == NULL) {
        digest_failed(c, op->ticket);
        op_free(op);
    }
}

static void start_digest(struct cluster *c, const struct replica_todo *todo) {
    struct peer *peer = cluster_find(c, &todo->wallet);
    struct op *op = unreachable(c, peer) == NULL ? op_make(peer, todo->ticket) : NULL;
    if (op == NULL) {
        digest_failed(c, todo->ticket);
        return;
    }
    send_digest(c, op, 0);
}

/* ---- All ---- */

uint64_t cluster_pump(struct cluster *c) {
    const struct service_shared *shared = c->cfg.shared;
    struct replica_todo todo = { 0 };
    for (unsigned i = 0; i < TODOS_MAX; i++) {
        const struct replica_now now = cluster_now(c);
        const struct store *store = service_kv_lock(shared->kv);
        replica_next(shared->replica, store, &now, &todo);
        service_kv_unlock(shared->kv, false);
        switch (todo.kind) {
        case REPLICA_IDLE:
            return todo.at_ms;
        case REPLICA_PULL:
            cluster_pull(c, &todo);
            break;
        case REPLICA_DIGEST:
            start_digest(c, &todo);
            break;
        }
    }
    return clock_mono_ms();
}
