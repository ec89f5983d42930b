/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of one worker that wait for the store: for a write to arrive, for a change of the log,
 * for members' acknowledgements. Everything is on the worker's loop, but for the store's signal. */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "net/server.h"
#include "service/kv.h"

/* Runs fn(arg) on a worker's loop; any thread. False when that has ended. */
typedef bool (*service_post_fn)(void *ctx, uint32_t worker_idx, void (*fn)(void *arg), void *arg);

struct service_waits_cfg {
    struct service_kv *kv; /* Lent until stop, as the loop. */
    uv_loop_t *loop;
    service_post_fn post;
    void *post_ctx;
    uint32_t worker_idx;
    uint32_t count_max;
    size_t bytes_max; /* Of the calls' memory together. */
};

/* A list without a head of its own: whoever is in it can leave without knowing it. */
struct service_link {
    struct service_link *prev;
    struct service_link *next;
};

/* One call that waits, in its arena. */
struct service_wait {
    struct service_link link;    /* First. This and the next three are the list's. */
    struct service_waits *waits; /* NULL while it does not wait. */
    bool is_due_now;
    size_t bytes;
    struct net_call *call;
    uint64_t until_ms; /* Monotonic: when the wait is over in any case. */
    /* Whether what it waits for has happened. Under the store's lock: O(1), no side effects. */
    bool (*is_due)(const struct service_wait *wait, const struct store *store);
    /* It waits no more: continues the call. is_due as that said at last. */
    void (*resume)(struct service_wait *wait, bool is_due);
};

/* Embedded. */
struct service_waits {
    struct service_waits_cfg cfg;
    struct service_link waiting;
    atomic_uint count;
    size_t bytes; /* Of those that are counted, when each was added. */
    uv_timer_t timer;
    uint64_t timer_at_ms; /* 0: not set. */
    atomic_bool is_wake_posted;
};

/* Copies cfg. Before the worker runs. QUOTA when the store has too many listeners. */
RC service_waits_init(struct service_waits *waits, const struct service_waits_cfg *cfg);
/* On the loop, or when it does not run any more: closes the timer. */
void service_waits_stop(struct service_waits *waits);

/* Whether a call may be added: fewer than count_max wait, and with it they hold no more than
 * bytes_max. What it takes to be parked is held already. */
bool service_waits_has_room(const struct service_waits *waits, const struct net_call *call);
/* Parks a call, whose wait is filled but for the list's fields. It is resumed later, never inside
 * this; or forgotten when the call ends otherwise. */
void service_waits_add(struct service_waits *waits, struct service_wait *wait);
/* Looks at every call again soon. Any thread. */
void service_waits_wake(struct service_waits *waits);
