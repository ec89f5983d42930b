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

/* STOPPING: calls in flight go on; everything else stops everything. BOOTSTRAP: membership and the
 * master secret, in a node on chain. REPLICA: the other members' data is here, and the node is not
 * far behind them. The names are the labels of a metric. */
#define SERVICE_GATE_MAP(X)   \
    X(STOPPING, "stopping")   \
    X(STARTING, "starting")   \
    X(CLOCK, "clock")         \
    X(BOOTSTRAP, "bootstrap") \
    X(REPLICA, "replica")     \
    X(IDENTITY, "identity")   \
    X(REGISTRY, "registry")   \
    X(MEMORY, "memory")
#define SERVICE_GATE_ENUM(name, text) SERVICE_GATE_##name,
enum service_gate { SERVICE_GATE_MAP(SERVICE_GATE_ENUM) SERVICE_GATE_COUNT };
#undef SERVICE_GATE_ENUM

/* Embedded; one lock, taken only when a gate moves or a reason is asked for. */
struct service_readiness {
    pthread_mutex_t mutex;
    atomic_uint closed; /* Bit n: gate n is closed. */
    atomic_bool is_handing_over;
    char reasons[SERVICE_GATE_COUNT][SERVICE_REASON_BYTES];
};

/* Starts with STARTING closed. */
void service_readiness_init(struct service_readiness *readiness);
/* When no thread asks any more. */
void service_readiness_close(struct service_readiness *readiness);

/* Closes a gate for a reason (copied, cut at SERVICE_REASON_BYTES), or opens it with NULL. Gives
 * whether that changed what service_readiness_reason gives: then the caller logs it. */
bool service_readiness_set(struct service_readiness *readiness, enum service_gate gate,
                           const char *reason);
/* Whether all gates are open. text gets the reason, empty when they are. */
bool service_readiness_reason(struct service_readiness *readiness,
                              char text[static SERVICE_REASON_BYTES]);
/* Whether that gate is closed. */
bool service_readiness_is_closed(const struct service_readiness *readiness, enum service_gate gate);
/* "clock" */
const char *service_gate_name(enum service_gate gate);
/* No call of a client begins any more, while the connections stay: the other members fetch what
 * only this node has. */
void service_readiness_hand_over(struct service_readiness *readiness);
/* Whether calls may begin. */
bool service_readiness_admits(const struct service_readiness *readiness);
/* Whether calls may run: all gates but STOPPING are open. One atomic read. */
bool service_readiness_allows(const struct service_readiness *readiness);
