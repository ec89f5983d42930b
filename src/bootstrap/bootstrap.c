/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/bootstrap.h"

#include "bootstrap/internal.h"

#define BACKOFF_DOUBLINGS_MAX 16

bool bootstrap_hash_is_zero(const struct bootstrap_hash *hash) {
    static const struct bootstrap_hash zero;
    return bootstrap_hash_equal(hash, &zero);
}

bool bootstrap_hash_equal(const struct bootstrap_hash *a, const struct bootstrap_hash *b) {
    return span_equal((struct span){ a->bytes, BOOTSTRAP_HASH_BYTES },
                      (struct span){ b->bytes, BOOTSTRAP_HASH_BYTES });
}

const char *bootstrap_task_name(enum bootstrap_task task) {
    static const char *const names[] = {
#define TASK_NAME(name) #name,
        BOOTSTRAP_TASK_MAP(TASK_NAME)
#undef TASK_NAME
    };
    return task < BOOTSTRAP_TASK_COUNT ? names[task] : "?";
}

const char *bootstrap_state_name(enum bootstrap_state state) {
    static const char *const names[] = {
#define STATE_NAME(name) #name,
        BOOTSTRAP_STATE_MAP(STATE_NAME)
#undef STATE_NAME
    };
    return state < BOOTSTRAP_STATE_COUNT ? names[state] : "?";
}

RC bootstrap_init(struct bootstrap *b, const struct bootstrap_cfg *cfg) {
    *b = (struct bootstrap){ 0 };
    ENSURE(cfg->tick_ms > 0 && cfg->cache_ttl_ms > 0 && cfg->poll_ms > 0, BAD_CONFIG);
    ENSURE(cfg->retry_min_ms > 0 && cfg->retry_max_ms >= cfg->retry_min_ms, BAD_CONFIG);
    ENSURE(cfg->tx_stuck_ms > 0, BAD_CONFIG);
    b->cfg = *cfg;
    b->held = cfg->held;
    b->state = BOOTSTRAP_NO_IDENTITY;
    return OK;
}

void task_hasten(struct bootstrap *b, enum bootstrap_task task) {
    if (b->tasks[task].failure_count == 0) {
        b->tasks[task].next_at_ms = b->now_ms;
    }
}

void task_forget(struct bootstrap *b, enum bootstrap_task task) {
    b->tasks[task].is_running = false;
    b->tasks[task].ticket++;
    task_hasten(b, task);
}

/* Doubles with each failure, and varies by a quarter, so that nodes do not retry in step. */
static uint64_t backoff_ms(const struct bootstrap *b, uint32_t failure_count) {
    uint32_t doublings = failure_count - 1;
    doublings = doublings < BACKOFF_DOUBLINGS_MAX ? doublings : BACKOFF_DOUBLINGS_MAX;
    uint64_t span_ms = (uint64_t)b->cfg.retry_min_ms << doublings;
    span_ms = span_ms < b->cfg.retry_max_ms ? span_ms : b->cfg.retry_max_ms;
    return span_ms - span_ms / 4 + b->random % (span_ms / 2 + 1);
}

static void copy_reason(char *out, const char *reason) {
    size_t len = strnlen(reason, BOOTSTRAP_REASON_BYTES - 1);
    memcpy(out, reason, len);
    out[len] = '\0';
}

/* Whether the event ends the task that is under way. */
static bool is_answer(const struct bootstrap *b, const struct bootstrap_event *event) {
    return !event->is_tick && event->task < BOOTSTRAP_TASK_COUNT &&
           b->tasks[event->task].is_running && b->tasks[event->task].ticket == event->ticket;
}

static void finish_task(struct bootstrap *b, const struct bootstrap_event *event) {
    struct bootstrap_schedule *task = &b->tasks[event->task];
    task->is_running = false;
    if (event->reason != NULL) {
        task->failure_count++;
        task->next_at_ms = b->now_ms + backoff_ms(b, task->failure_count);
        copy_reason(task->failure, event->reason);
    } else {
        task->failure_count = 0;
        task->next_at_ms = b->now_ms + b->cfg.tick_ms;
        task->failure[0] = '\0';
    }
}

/* A pending secret that nobody waits for any more is not left lying about. */
static void discard_stray(const struct bootstrap_event *event, struct bootstrap_actions *out) {
    bool makes_secret = event->task == BOOTSTRAP_GENERATE || event->task == BOOTSTRAP_FETCH;
    if (!event->is_tick && makes_secret && event->reason == NULL) {
        out->at[out->count++] = (struct bootstrap_action){ .kind = BOOTSTRAP_DISCARD };
    }
}

void bootstrap_step(struct bootstrap *b, const struct bootstrap_event *event,
                    struct bootstrap_actions *out) {
    ASSERT(event->now_ms >= b->now_ms);
    b->now_ms = event->now_ms;
    b->random = event->random;
    out->count = 0;
    if (is_answer(b, event)) {
        finish_task(b, event);
        if (event->reason == NULL) {
            facts_take(b, event, out);
        }
    } else {
        discard_stray(event, out);
    }
    goal_pursue(b, out);
    bootstrap_check(b);
}

uint64_t bootstrap_next_at_ms(const struct bootstrap *b) {
    uint64_t at_ms = b->now_ms + b->cfg.poll_ms;
    for (size_t i = 0; i < BOOTSTRAP_TASK_COUNT; i++) {
        const struct bootstrap_schedule *task = &b->tasks[i];
        if (!task->is_running && task->next_at_ms > b->now_ms && task->next_at_ms < at_ms) {
            at_ms = task->next_at_ms;
        }
    }
    return at_ms;
}

void bootstrap_check(const struct bootstrap *b) {
    bool has_reason = b->reason[0] != '\0';
    ASSERT(has_reason != bootstrap_is_serving(b));
    ASSERT(!b->is_own || !bootstrap_hash_is_zero(&b->held));
    if (!bootstrap_is_serving(b)) {
        return;
    }
    ASSERT(b->has_identity);
    ASSERT(b->is_member);
    ASSERT(facts_are_fresh(b, b->has_membership, b->membership_as_of_ms));
    ASSERT(facts_are_fresh(b, b->has_hashes, b->hashes.as_of_mono_ms));
    ASSERT(!bootstrap_hash_is_zero(&b->held));
    ASSERT(bootstrap_hash_equal(&b->held, &b->hashes.confirmed));
    ASSERT(b->is_synced);
}
