/* SPDX-License-Identifier: Apache-2.0 */
/* Which worker serves a wallet: the one that has connections of it, so that what is kept for a
 * wallet has one owner; else the one with the fewest connections. Touched once when a connection
 * comes and once when it is buried, by the pool's threads only, so its lock stops no worker. */
#include <pthread.h>
#include <stdlib.h>

#include "crypto/random.h"
#include "net/server_internal.h"

#define BUCKET_COUNT 1024u /* A quarter of the usual limit of connections. */

struct place {
    struct place *next; /* In its bucket. */
    struct wallet wallet;
    uint32_t worker_idx;
    uint32_t conn_count;
};

struct placement {
    pthread_mutex_t lock;                /* Everything below. */
    struct place *buckets[BUCKET_COUNT]; /* As many places as connections, at most. */
    uint32_t conn_counts[NET_WORKER_COUNT_MAX];
    uint32_t anonymous_count;
    struct placement_cfg cfg;
    struct siphash_key key; /* Callers choose their wallets: not their collisions. */
};

RC placement_init(struct placement **out, const struct placement_cfg *cfg) {
    uint8_t key[SIPHASH_KEY_BYTES];
    *out = NULL;
    TRY(random_bytes(key, sizeof(key)));
    struct placement *p = calloc(1, sizeof(*p));
    ENSURE(p != NULL, NOMEM);
    p->key = siphash_key_from(key);
    p->cfg = *cfg;
    (void)pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return OK;
}

void placement_close(struct placement **placement) {
    struct placement *p = *placement;
    *placement = NULL;
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        while (p->buckets[i] != NULL) {
            struct place *place = p->buckets[i];
            p->buckets[i] = place->next;
            free(place);
        }
    }
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static uint32_t least_loaded(const struct placement *p) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < p->cfg.worker_count; i++) {
        best = p->conn_counts[i] < p->conn_counts[best] ? i : best;
    }
    return best;
}

static struct place **bucket_of(struct placement *p, const struct wallet *wallet) {
    return &p->buckets[siphash(&p->key, wallet_span(wallet)) % BUCKET_COUNT];
}

/* NULL: no memory. */
static struct place *find_or_add(struct placement *p, const struct wallet *wallet) {
    struct place **bucket = bucket_of(p, wallet);
    struct place *place = *bucket;
    while (place != NULL && !wallet_equal(&place->wallet, wallet)) {
        place = place->next;
    }
    if (place != NULL) {
        return place;
    }
    place = calloc(1, sizeof(*place));
    if (place != NULL) {
        place->wallet = *wallet;
        place->worker_idx = least_loaded(p);
        place->next = *bucket;
        *bucket = place;
    }
    return place;
}

static RC add_anonymous(struct placement *p, uint32_t *worker_idx) {
    ENSURE(p->anonymous_count < p->cfg.conn_anonymous_max, QUOTA);
    p->anonymous_count++;
    *worker_idx = least_loaded(p);
    return OK;
}

static RC add_of_wallet(struct placement *p, const struct wallet *wallet, uint32_t *worker_idx) {
    struct place *place = find_or_add(p, wallet);
    ENSURE(place != NULL, NOMEM);
    ENSURE(place->conn_count < p->cfg.conn_per_wallet_max, QUOTA);
    place->conn_count++;
    *worker_idx = place->worker_idx;
    return OK;
}

RC placement_add(struct placement *p, const struct wallet *wallet, uint32_t *worker_idx) {
    (void)pthread_mutex_lock(&p->lock);
    struct rc rc =
        wallet == NULL ? add_anonymous(p, worker_idx) : add_of_wallet(p, wallet, worker_idx);
    if (rc.err == E_OK) {
        p->conn_counts[*worker_idx]++;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return rc;
}

void placement_remove(struct placement *p, const struct wallet *wallet, uint32_t worker_idx) {
    (void)pthread_mutex_lock(&p->lock);
    p->conn_counts[worker_idx]--;
    if (wallet == NULL) {
        p->anonymous_count--;
    } else {
        struct place **at = bucket_of(p, wallet);
        while (*at != NULL && !wallet_equal(&(*at)->wallet, wallet)) {
            at = &(*at)->next;
        }
        struct place *place = *at;
        ASSERT(place != NULL);
        place->conn_count--;
        if (place->conn_count == 0) {
            *at = place->next;
            free(place);
        }
    }
    (void)pthread_mutex_unlock(&p->lock);
}
