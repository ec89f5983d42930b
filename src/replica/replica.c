/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/replica.h"

#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"

static RC check_cfg(const struct replica_cfg *cfg) {
    ENSURE(cfg->interval_ms > 0, BAD_CONFIG);
    ENSURE(cfg->wait_ms <= REPLICA_WAIT_MS_MAX, BAD_CONFIG);
    ENSURE(cfg->page_bytes_max > 0, BAD_CONFIG);
    ENSURE(cfg->backoff_min_ms > 0, BAD_CONFIG);
    ENSURE(cfg->backoff_min_ms <= cfg->backoff_max_ms, BAD_CONFIG);
    return OK;
}

RC replica_init(struct replica **out, const struct replica_cfg *cfg) {
    *out = NULL;
    TRY(check_cfg(cfg));
    struct replica *r = calloc(1, sizeof(*r));
    ENSURE(r != NULL, NOMEM);
    r->cfg = *cfg;
    *out = r;
    return OK;
}

void replica_close(struct replica **replica) {
    struct replica *r = *replica;
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        member_close(&r->members[i]);
    }
    free(r->members);
    free(r->settled);
    free(r);
    *replica = NULL;
}

static void start_over(struct replica *r) {
    for (size_t i = 0; i < r->count; i++) {
        member_restart(&r->members[i]);
    }
    r->in_service = false;
    r->is_clocked = false;
    r->is_founder = false;
    r->has_shared = false;
    r->has_own = false;
    r->compacted_unix_ms = 0;
    r->was_away = false;
    r->has_orphans = false;
    r->is_mixed = false;
}

void replica_set_secret(struct replica *r, const uint8_t hash[static REPLICA_HASH_BYTES],
                        bool is_new) {
    bool is_same = r->has_secret && hash_equal(r->secret_hash, hash);
    if (!is_same) {
        start_over(r);
        memcpy(r->secret_hash, hash, REPLICA_HASH_BYTES);
        r->has_secret = true;
        r->is_founder = is_new;
    }
}

void replica_set_head(struct replica *r, uint64_t head_block) {
    r->head_block = head_block > r->head_block ? head_block : r->head_block;
}

void replica_restart(struct replica *r, const struct replica_now *now) {
    start_over(r);
    start_update(r, now->mono_ms);
}

void replica_own_state(const struct replica *r, const struct store *s,
                       const struct replica_now *now, struct replica_state *out) {
    *out = (struct replica_state){ .head_block = r->head_block,
                                   .unix_ms = now->unix_ms,
                                   .in_service = r->in_service };
    memcpy(out->incarnation, store_writer(s), STORE_WRITER_BYTES);
    memcpy(out->secret_hash, r->secret_hash, REPLICA_HASH_BYTES);
}
