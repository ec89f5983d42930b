/* SPDX-License-Identifier: Apache-2.0 */
#include "service/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct service_status {
    struct service_status_cfg cfg;
    atomic_uint_least64_t tls_not_after_unix_s;
    pthread_mutex_t mutex; /* Guards the rest. */
    struct wallet wallet;
    uint8_t master_hash[SERVICE_HASH_BYTES];
    struct registry_members members;
};

RC service_status_init(struct service_status **out, const struct service_status_cfg *cfg) {
    *out = NULL;
    struct service_status *status = calloc(1, sizeof(*status));
    ENSURE(status != NULL, NOMEM);
    status->cfg = *cfg;
    status->wallet = cfg->wallet;
    memcpy(status->master_hash, cfg->master_hash, sizeof(status->master_hash));
    ASSERT(pthread_mutex_init(&status->mutex, NULL) == 0);
    *out = status;
    return OK;
}

void service_status_close(struct service_status **status) {
    if (*status == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&(*status)->mutex);
    free(*status);
    *status = NULL;
}

void service_status_set_members(struct service_status *status,
                                const struct registry_members *members) {
    ASSERT(members->count <= REGISTRY_MEMBER_COUNT_MAX);
    (void)pthread_mutex_lock(&status->mutex);
    status->members.as_of_mono_ms = members->as_of_mono_ms;
    status->members.count = members->count;
    memcpy(status->members.at, members->at, members->count * sizeof(members->at[0]));
    (void)pthread_mutex_unlock(&status->mutex);
}

void service_status_set_wallet(struct service_status *status, const struct wallet *wallet) {
    (void)pthread_mutex_lock(&status->mutex);
    status->wallet = *wallet;
    (void)pthread_mutex_unlock(&status->mutex);
}

void service_status_set_master_hash(struct service_status *status,
                                    const uint8_t hash[static SERVICE_HASH_BYTES]) {
    (void)pthread_mutex_lock(&status->mutex);
    memcpy(status->master_hash, hash, sizeof(status->master_hash));
    (void)pthread_mutex_unlock(&status->mutex);
}

void service_status_set_tls(struct service_status *status, uint64_t not_after_unix_s) {
    atomic_store_explicit(&status->tls_not_after_unix_s, not_after_unix_s, memory_order_relaxed);
}

const struct service_status_cfg *service_status_cfg(const struct service_status *status) {
    return &status->cfg;
}

static void read_guarded(struct service_status *status, struct service_snapshot *out) {
    (void)pthread_mutex_lock(&status->mutex);
    out->wallet = status->wallet;
    memcpy(out->master_hash, status->master_hash, sizeof(out->master_hash));
    out->member_count = status->members.count;
    for (size_t i = 0; i < status->members.count; i++) {
        if (wallet_equal(&status->members.at[i].wallet, &status->wallet)) {
            out->is_operator = true;
        }
    }
    (void)pthread_mutex_unlock(&status->mutex);
}

void service_status_read(struct service_status *status, uint64_t now_ms,
                         struct service_snapshot *out) {
    *out = (struct service_snapshot){ 0 };
    out->serving = service_readiness_reason(status->cfg.readiness, out->reason);
    out->uptime_ms = now_ms - status->cfg.started_at_ms;
    out->unix_ms = service_clock_unix_ms(status->cfg.clock, now_ms);
    out->tls_not_after_unix_s =
        atomic_load_explicit(&status->tls_not_after_unix_s, memory_order_relaxed);
    read_guarded(status, out);
    service_kv_writer(status->cfg.kv, out->writer);
    service_kv_stats(status->cfg.kv, &out->store);
}

void service_status_each_member(struct service_status *status,
                                bool (*each)(void *ctx, const struct auth_instance *member),
                                void *ctx) {
    (void)pthread_mutex_lock(&status->mutex);
    for (size_t i = 0; i < status->members.count; i++) {
        if (!each(ctx, &status->members.at[i])) {
            break;
        }
    }
    (void)pthread_mutex_unlock(&status->mutex);
}
