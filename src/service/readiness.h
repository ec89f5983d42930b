/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the node serves, and if not, why: one sentence that the log, /health, /status, GetStatus
 * and refused calls share. Each gate is one thing that must be right; the first closed one in the
 * order below gives the reason. Any thread. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

#define SERVICE_REASON_BYTES 200

enum service_gate {
    SERVICE_GATE_STOPPING, /* Calls in flight go on; everything else stops everything. */
    SERVICE_GATE_STARTING,
    SERVICE_GATE_CLOCK,
    SERVICE_GATE_BOOTSTRAP, /* Membership and the master secret, in a node on chain. */
    SERVICE_GATE_REPLICA, /* The other members' data is here, and the node is not far behind them. */
    SERVICE_GATE_IDENTITY,
    SERVICE_GATE_REGISTRY,
    SERVICE_GATE_MEMORY,
};
#define SERVICE_GATE_COUNT 8

/* Embedded; one lock, taken only when a gate moves or a reason is asked for. */
struct service_readiness {
    pthread_mutex_t mutex;
    atomic_uint closed; /* Bit n: gate n is closed. */
    char reasons[SERVICE_GATE_COUNT][SERVICE_REASON_BYTES];
};

/* Starts with STARTING closed. */
void service_readiness_init(struct service_readiness *readiness);
void service_readiness_close(struct service_readiness *readiness);

/* Closes a gate for a reason (copied, cut at SERVICE_REASON_BYTES), or opens it with NULL. Gives
 * whether that changed what service_readiness_reason gives: then the caller logs it. */
bool service_readiness_set(struct service_readiness *readiness, enum service_gate gate,
                           const char *reason);
/* Whether all gates are open. text gets the reason, empty when they are. */
bool service_readiness_reason(struct service_readiness *readiness,
                              char text[static SERVICE_REASON_BYTES]);
/* Whether calls may run: all gates but STOPPING are open. One atomic read. */
bool service_readiness_allows(const struct service_readiness *readiness);
