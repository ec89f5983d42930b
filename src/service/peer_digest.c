/* SPDX-License-Identifier: Apache-2.0 */
/* GetDigest: sums of up to 1024 namespaces and what this node knows, of one moment. */
#include <stdlib.h>

#include "service/peer_internal.h"

/* Looks until the list of namespaces and the sums are of one moment. */
#define TRIES 4
#define SPARE_COUNT 16u

struct digests {
    struct replica_state state;
    struct store_known known;
    struct store_known_entry *entries;
    size_t entry_count_max;
    uint64_t *app_ids;
    size_t app_count_max;
    size_t app_count; /* All of them, */
    size_t from;      /* and those of this page. */
    size_t count;
    struct store_digest *sums;
    uint64_t last; /* The log's end when the namespaces were listed. */
    bool is_comparable;
};

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Takes memory for what a look found, with some to spare. */
static RC take_room(struct digests *d, struct arena *arena, size_t entry_count, size_t app_count) {
    if (d->entries == NULL || entry_count > d->entry_count_max) {
        d->entry_count_max = entry_count + SPARE_COUNT;
        d->entries = arena_take(arena, d->entry_count_max * sizeof(d->entries[0]));
    }
    if (d->app_ids == NULL || app_count > d->app_count_max) {
        d->app_count_max = app_count + SPARE_COUNT;
        d->app_ids = arena_take(arena, d->app_count_max * sizeof(d->app_ids[0]));
    }
    if (d->sums == NULL) {
        d->sums = arena_take(arena, REPLICA_DIGEST_APP_COUNT_MAX * sizeof(d->sums[0]));
    }
    ENSURE(d->entries != NULL && d->app_ids != NULL && d->sums != NULL, NOMEM);
    return OK;
}

/* The first section: lists the namespaces. AGAIN when there was no room for them. */
static RC list_apps(const struct service_shared *shared, struct digests *d, struct arena *arena) {
    struct store_stats stats = { 0 };
    const struct store *store = service_kv_lock(shared->kv);
    store_stats(store, &stats);
    size_t entry_count = store_known_count(store);
    size_t app_count = (size_t)stats.namespace_count;
    bool has_room = d->sums != NULL && app_count <= d->app_count_max;
    if (has_room) {
        d->app_count = store_app_ids(store, d->app_ids, d->app_count_max);
        d->last = store_log_last(store);
    }
    service_kv_unlock(shared->kv, false);
    TRY(take_room(d, arena, entry_count, app_count));
    ENSURE(has_room, AGAIN);
    return OK;
}

/* Outside of it: finds the page. */
static void choose_apps(struct digests *d, uint64_t after_app_id) {
    if (d->app_count > 1) {
        qsort(d->app_ids, d->app_count, sizeof(d->app_ids[0]), compare_ids);
    }
    d->from = 0;
    while (d->from < d->app_count && d->app_ids[d->from] <= after_app_id) {
        d->from++;
    }
    d->count = d->app_count - d->from;
    d->count = d->count < REPLICA_DIGEST_APP_COUNT_MAX ? d->count : REPLICA_DIGEST_APP_COUNT_MAX;
}

/* The second section: the sums and the vector. AGAIN when the store has changed since the first. */
static RC sum_up(const struct service_shared *shared, struct digests *d,
                 const struct replica_now *now) {
    const struct store *store = service_kv_lock(shared->kv);
    bool is_same = store_log_last(store) == d->last;
    struct rc rc =
        is_same ? store_known_copy(store, d->entries, d->entry_count_max, &d->known) : ERR(AGAIN);
    for (size_t i = 0; i < d->count && rc.err == E_OK; i++) {
        d->sums[i] = store_digest(store, d->app_ids[d->from + i]);
    }
    replica_own_state(shared->replica, store, now, &d->state);
    d->is_comparable = replica_is_comparable(shared->replica);
    service_kv_unlock(shared->kv, false);
    return rc.err == E_TOO_BIG ? ERR(AGAIN) : rc;
}

static RC gather(const struct service_peer *peer, struct arena *arena, uint64_t after_app_id,
                 struct digests *d) {
    const struct service_shared *shared = peer->cfg.shared;
    struct rc rc = ERR(AGAIN);
    for (unsigned i = 0; i < TRIES && rc.err == E_AGAIN; i++) {
        rc = list_apps(shared, d, arena);
        if (rc.err == E_OK) {
            choose_apps(d, after_app_id);
            const struct replica_now now = peer_now(peer);
            rc = sum_up(shared, d, &now);
        }
    }
    return rc;
}

static RC fill(const struct digests *d, struct arena *arena, Novakms__V1__GetDigestResponse *out) {
    struct app {
        Novakms__V1__AppDigest message;
        uint8_t sum[PEER_DIGEST_BYTES];
    } *apps = arena_take(arena, (d->count + 1) * sizeof(*apps));
    Novakms__V1__AppDigest **list = arena_take(arena, (d->count + 1) * sizeof(*list));
    ENSURE(apps != NULL && list != NULL, NOMEM);
    for (size_t i = 0; i < d->count; i++) {
        struct writer w = { apps[i].sum, 0, PEER_DIGEST_BYTES };
        novakms__v1__app_digest__init(&apps[i].message);
        TRY(write_u64(&w, d->sums[i].high));
        TRY(write_u64(&w, d->sums[i].low));
        apps[i].message.app_id = d->app_ids[d->from + i];
        apps[i].message.digest = (ProtobufCBinaryData){ PEER_DIGEST_BYTES, apps[i].sum };
        list[i] = &apps[i].message;
    }
    out->apps = list;
    out->n_apps = d->count;
    out->more = d->from + d->count < d->app_count;
    TRY(peer_state_out(&d->state, arena, &out->state));
    return peer_known_out(&d->known, arena, &out->known);
}

/* Two nodes compare only what was made with the same secret, and is complete. */
static bool check(const struct replica_state *asker, const struct digests *d, struct status *why) {
    const struct span theirs = { asker->secret_hash, REPLICA_HASH_BYTES };
    if (!span_equal(theirs, (struct span){ d->state.secret_hash, REPLICA_HASH_BYTES })) {
        status_set(why, STATUS_FAILED_PRECONDITION, "the two nodes hold different master secrets");
        return false;
    }
    if (!d->state.in_service || !d->is_comparable) {
        status_set(why, STATUS_UNAVAILABLE, "the node is fetching data itself");
        return false;
    }
    return true;
}

void peer_get_digest(Novakms__V1__PeerService_Service *service,
                     const Novakms__V1__GetDigestRequest *in,
                     Novakms__V1__GetDigestResponse_Closure closure, void *closure_data) {
    const struct service_peer *peer = (const struct service_peer *)service;
    struct net_call *call = net_call_from(closure_data);
    struct arena *arena = net_call_arena(call);
    struct replica_state asker;
    struct digests digests = { 0 };
    struct status why = { 0 };
    if (!peer_pass(peer, call)) {
        return;
    }
    if (!peer_state_in(in->state, &asker, &why)) {
        net_call_fail(call, &why, NULL);
        return;
    }
    Novakms__V1__GetDigestResponse out = NOVAKMS__V1__GET_DIGEST_RESPONSE__INIT;
    struct rc rc = gather(peer, arena, in->after_app_id, &digests);
    if (rc.err == E_AGAIN) {
        status_set(&why, STATUS_UNAVAILABLE, "the data changes too fast to be summed up");
        net_call_fail(call, &why, NULL);
        return;
    }
    if (rc.err == E_OK && !check(&asker, &digests, &why)) {
        net_call_fail(call, &why, NULL);
        return;
    }
    rc = rc.err == E_OK ? fill(&digests, arena, &out) : rc;
    if (rc.err != E_OK) {
        peer_fail_nomem(call);
        return;
    }
    closure(&out, closure_data);
}
