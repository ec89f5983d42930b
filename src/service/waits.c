/* SPDX-License-Identifier: Apache-2.0 */
#include "service/waits.h"

/* Calls that one section under the store's lock looks at. */
#define LOOK_STEP 64u

static void list_init(struct service_link *head) {
    *head = (struct service_link){ head, head };
}

static void list_add(struct service_link *head, struct service_link *link) {
    *link = (struct service_link){ head->prev, head };
    head->prev->next = link;
    head->prev = link;
}

static void list_remove(struct service_link *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

static struct service_wait *wait_of(struct service_link *link) {
    return (struct service_wait *)(void *)link;
}

static void timer_cb(uv_timer_t *timer);

/* A timer that fires early finds nothing; so it is only ever moved forward. */
static void set_timer(struct service_waits *waits, uint64_t at_ms) {
    uint64_t now_ms = uv_now(waits->cfg.loop);
    if (waits->timer_at_ms != 0 && waits->timer_at_ms <= at_ms) {
        return;
    }
    waits->timer_at_ms = at_ms == 0 ? 1 : at_ms;
    (void)uv_timer_start(&waits->timer, timer_cb, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

/* Takes it out of whichever list it is in. */
static void leave(struct service_wait *wait) {
    list_remove(&wait->link);
    if (wait->waits != NULL) {
        atomic_fetch_sub(&wait->waits->count, 1);
        wait->waits->bytes -= wait->bytes;
        wait->waits = NULL;
    }
}

/* The call ended without our answer: cancelled, timed out, or its connection is gone. */
static void ended_cb(void *ctx) {
    leave(ctx);
}

bool service_waits_has_room(const struct service_waits *waits, const struct net_call *call) {
    size_t bytes = net_call_held_bytes(call);
    return atomic_load_explicit(&waits->count, memory_order_relaxed) < waits->cfg.count_max &&
           bytes <= waits->cfg.bytes_max && waits->bytes <= waits->cfg.bytes_max - bytes;
}

void service_waits_add(struct service_waits *waits, struct service_wait *wait) {
    wait->waits = waits;
    list_add(&waits->waiting, &wait->link);
    atomic_fetch_add(&waits->count, 1);
    wait->bytes = net_call_held_bytes(wait->call);
    waits->bytes += wait->bytes;
    net_call_on_end(wait->call, ended_cb, wait);
    /* It may have happened between the caller's look and the count: nobody was told then. */
    const struct store *store = service_kv_lock(waits->cfg.kv);
    bool is_due = wait->is_due(wait, store);
    service_kv_unlock(waits->cfg.kv, false);
    set_timer(waits, is_due ? 0 : wait->until_ms);
}

/* Moves the calls whose wait is over to another list. Gives when the next of the others is. */
static uint64_t take_due(struct service_waits *waits, struct service_link *ready) {
    uint64_t now_ms = uv_now(waits->cfg.loop);
    uint64_t next_at_ms = UINT64_MAX;
    struct service_link *at = waits->waiting.next;
    while (at != &waits->waiting) {
        const struct store *store = service_kv_lock(waits->cfg.kv);
        for (unsigned i = 0; i < LOOK_STEP && at != &waits->waiting; i++) {
            struct service_wait *wait = wait_of(at);
            at = at->next;
            wait->is_due_now = wait->is_due(wait, store);
            if (wait->is_due_now || wait->until_ms <= now_ms) {
                list_remove(&wait->link);
                list_add(ready, &wait->link);
            } else if (wait->until_ms < next_at_ms) {
                next_at_ms = wait->until_ms;
            }
        }
        service_kv_unlock(waits->cfg.kv, false);
    }
    return next_at_ms;
}

static void resume_due(struct service_waits *waits) {
    struct service_link ready;
    list_init(&ready);
    uint64_t next_at_ms = take_due(waits, &ready);
    if (next_at_ms != UINT64_MAX) {
        set_timer(waits, next_at_ms);
    }
    while (ready.next != &ready) {
        struct service_wait *wait = wait_of(ready.next);
        leave(wait);
        net_call_on_end(wait->call, NULL, NULL);
        wait->resume(wait, wait->is_due_now);
    }
}

static void timer_cb(uv_timer_t *timer) {
    struct service_waits *waits = timer->data;
    waits->timer_at_ms = 0;
    resume_due(waits);
}

static void wake(void *arg) {
    struct service_waits *waits = arg;
    atomic_store(&waits->is_wake_posted, false);
    resume_due(waits);
}

void service_waits_wake(struct service_waits *waits) {
    const struct service_waits_cfg *cfg = &waits->cfg;
    if (!atomic_exchange(&waits->is_wake_posted, true) &&
        !cfg->post(cfg->post_ctx, cfg->worker_idx, wake, waits)) {
        atomic_store(&waits->is_wake_posted, false);
    }
}

/* On any thread. */
static void store_changed_cb(void *ctx) {
    struct service_waits *waits = ctx;
    if (atomic_load(&waits->count) > 0) {
        service_waits_wake(waits);
    }
}

RC service_waits_init(struct service_waits *waits, const struct service_waits_cfg *cfg) {
    *waits = (struct service_waits){ .cfg = *cfg };
    list_init(&waits->waiting);
    TRY(service_kv_listen(cfg->kv, store_changed_cb, waits));
    ASSERT(uv_timer_init(cfg->loop, &waits->timer) == 0);
    waits->timer.data = waits;
    uv_unref((uv_handle_t *)&waits->timer);
    return OK;
}

void service_waits_stop(struct service_waits *waits) {
    if (uv_is_closing((uv_handle_t *)&waits->timer) == 0) {
        uv_close((uv_handle_t *)&waits->timer, NULL);
    }
}
