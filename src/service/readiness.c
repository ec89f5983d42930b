/* SPDX-License-Identifier: Apache-2.0 */
#include "service/readiness.h"

#include <stdio.h>
#include <string.h>

void service_readiness_init(struct service_readiness *readiness) {
    memset(readiness->reasons, 0, sizeof(readiness->reasons));
    ASSERT(pthread_mutex_init(&readiness->mutex, NULL) == 0);
    atomic_init(&readiness->closed, 1U << SERVICE_GATE_STARTING);
    atomic_init(&readiness->is_handing_over, false);
    (void)snprintf(readiness->reasons[SERVICE_GATE_STARTING], SERVICE_REASON_BYTES,
                   "the node is starting");
}

void service_readiness_close(struct service_readiness *readiness) {
    (void)pthread_mutex_destroy(&readiness->mutex);
}

/* The sentence that counts now; "" when all gates are open. Under the lock. */
static const char *first_reason(const struct service_readiness *readiness) {
    unsigned closed = atomic_load_explicit(&readiness->closed, memory_order_relaxed);
    for (unsigned gate = 0; gate < SERVICE_GATE_COUNT; gate++) {
        if ((closed & (1U << gate)) != 0) {
            return readiness->reasons[gate];
        }
    }
    return "";
}

bool service_readiness_set(struct service_readiness *readiness, enum service_gate gate,
                           const char *reason) {
    char before[SERVICE_REASON_BYTES];
    (void)pthread_mutex_lock(&readiness->mutex);
    (void)snprintf(before, sizeof(before), "%s", first_reason(readiness));
    if (reason == NULL) {
        atomic_fetch_and(&readiness->closed, ~(1U << gate));
    } else {
        (void)snprintf(readiness->reasons[gate], SERVICE_REASON_BYTES, "%s", reason);
        atomic_fetch_or(&readiness->closed, 1U << gate);
    }
    bool changed = strcmp(before, first_reason(readiness)) != 0;
    (void)pthread_mutex_unlock(&readiness->mutex);
    return changed;
}

bool service_readiness_reason(struct service_readiness *readiness,
                              char text[static SERVICE_REASON_BYTES]) {
    (void)pthread_mutex_lock(&readiness->mutex);
    (void)snprintf(text, SERVICE_REASON_BYTES, "%s", first_reason(readiness));
    (void)pthread_mutex_unlock(&readiness->mutex);
    return text[0] == '\0';
}

bool service_readiness_is_closed(const struct service_readiness *readiness,
                                 enum service_gate gate) {
    return (atomic_load_explicit(&readiness->closed, memory_order_relaxed) & (1U << gate)) != 0;
}

const char *service_gate_name(enum service_gate gate) {
    static const char *const names[] = {
#define GATE_NAME(name, text) text,
        SERVICE_GATE_MAP(GATE_NAME)
#undef GATE_NAME
    };
    ASSERT(gate < SERVICE_GATE_COUNT);
    return names[gate];
}

bool service_readiness_admits(const struct service_readiness *readiness) {
    return service_readiness_allows(readiness) &&
           !atomic_load_explicit(&readiness->is_handing_over, memory_order_acquire);
}

void service_readiness_hand_over(struct service_readiness *readiness) {
    atomic_store(&readiness->is_handing_over, true);
}

bool service_readiness_allows(const struct service_readiness *readiness) {
    unsigned closed = atomic_load_explicit(&readiness->closed, memory_order_acquire);
    return (closed & ~(1U << SERVICE_GATE_STOPPING)) == 0;
}
