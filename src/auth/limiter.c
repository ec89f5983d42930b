/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/limiter.h"

#include <stdlib.h>

#include "auth/bucket.h"
#include "auth/table.h"

/* How many of the wallets idle for longest a newcomer may look at for a full bucket. */
#define VICTIM_COUNT_MAX 8

struct limit {
    struct auth_node node; /* In limiter->by_use, least recent first. */
    struct auth_bucket bucket;
};

struct auth_limiter {
    struct auth_bucket_rate rate; /* per_minute 0: off. */
    struct auth_table table;
    struct auth_list by_use;
};

static struct limit *limit_of(struct auth_node *node) {
    return (struct limit *)(void *)node;
}

RC auth_limiter_init(struct auth_limiter **out, const struct auth_limiter_cfg *cfg) {
    *out = NULL;
    ENSURE(cfg->per_minute <= AUTH_LIMITER_PER_MINUTE_MAX, BAD_CONFIG);
    ENSURE(cfg->burst_count <= AUTH_LIMITER_PER_MINUTE_MAX, BAD_CONFIG);
    ENSURE(cfg->wallet_count_max >= 1, BAD_CONFIG);
    ENSURE(cfg->wallet_count_max <= AUTH_LIMITER_WALLET_COUNT_MAX, BAD_CONFIG);
    AUTO(auth_limiter_close) struct auth_limiter *limiter = calloc(1, sizeof(*limiter));
    ENSURE(limiter != NULL, NOMEM);
    limiter->rate.per_minute = cfg->per_minute;
    limiter->rate.burst_count = cfg->burst_count != 0 ? cfg->burst_count : cfg->per_minute;
    if (cfg->per_minute != 0) {
        TRY(auth_table_init(&limiter->table, cfg->wallet_count_max, sizeof(struct limit),
                            cfg->hash_key));
    }
    *out = limiter;
    limiter = NULL;
    return OK;
}

void auth_limiter_close(struct auth_limiter **limiter) {
    if (*limiter != NULL) {
        auth_table_close(&(*limiter)->table);
        free(*limiter);
        *limiter = NULL;
    }
}

/* Frees the slot of a wallet whose bucket is full: forgetting that one changes nothing. */
static bool make_room(struct auth_limiter *limiter, uint64_t now_ms) {
    struct auth_node *node = limiter->by_use.head;
    for (int i = 0; i < VICTIM_COUNT_MAX && node != NULL; i++) {
        struct limit *limit = limit_of(node);
        auth_bucket_refill(&limit->bucket, limiter->rate, now_ms);
        if (auth_bucket_is_full(&limit->bucket, limiter->rate)) {
            auth_table_remove(&limiter->table, node);
            return true;
        }
        node = node->next;
    }
    return false;
}

static struct limit *limit_add(struct auth_limiter *limiter, const struct wallet *wallet,
                               uint64_t now_ms) {
    struct auth_node *node = auth_table_add(&limiter->table, wallet);
    if (node == NULL && make_room(limiter, now_ms)) {
        node = auth_table_add(&limiter->table, wallet);
    }
    if (node == NULL) {
        return NULL;
    }
    auth_bucket_fill(&limit_of(node)->bucket, limiter->rate, now_ms);
    return limit_of(node);
}

bool auth_limiter_take(struct auth_limiter *limiter, const struct wallet *wallet, uint64_t now_ms,
                       uint32_t *retry_after_ms) {
    *retry_after_ms = 0;
    if (limiter->rate.per_minute == 0) {
        return true;
    }
    struct limit *limit = limit_of(auth_table_find(&limiter->table, wallet));
    if (limit == NULL) {
        limit = limit_add(limiter, wallet, now_ms);
    }
    if (limit == NULL) {
        *retry_after_ms = AUTH_BUCKET_TOKEN_UNITS / limiter->rate.per_minute + 1;
        return false;
    }
    auth_list_append(&limiter->by_use, &limit->node);
    auth_bucket_refill(&limit->bucket, limiter->rate, now_ms);
    *retry_after_ms = auth_bucket_wait_ms(&limit->bucket, limiter->rate);
    return auth_bucket_take(&limit->bucket);
}
