/* SPDX-License-Identifier: Apache-2.0 */
#include "node/driver.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/random.h"

#define POLL_MS 1000u
#define RETRY_MIN_MS 500u
#define RETRY_MAX_MS 5000u
#define TX_STUCK_MS 60000u

struct driver {
    struct driver_cfg cfg;
    struct duties *duties;
    /* The stepping thread's alone. */
    struct bootstrap bootstrap;
    enum bootstrap_state logged_state;
    struct wallet wallet;
    bool has_wallet;
    pthread_t step_thread;
    pthread_t work_thread;
    unsigned thread_count;
    pthread_mutex_t mutex; /* Of everything below; never held while a task or a step runs. */
    pthread_cond_t changed;
    bool is_stopping;
    struct bootstrap_action queue[BOOTSTRAP_TASK_COUNT]; /* Oldest first, one of each task. */
    size_t queue_count;
    bool has_result; /* The working thread waits until it was taken. */
    struct bootstrap_event result;
};

/* ---- The working thread ---- */

static struct bootstrap_action pop(struct driver *driver) {
    struct bootstrap_action first = driver->queue[0];
    driver->queue_count--;
    memmove(driver->queue, driver->queue + 1, driver->queue_count * sizeof(driver->queue[0]));
    return first;
}

static void *work_main(void *arg) {
    struct driver *driver = arg;
    (void)pthread_mutex_lock(&driver->mutex);
    while (!driver->is_stopping) {
        if (driver->has_result || driver->queue_count == 0) {
            (void)pthread_cond_wait(&driver->changed, &driver->mutex);
            continue;
        }
        struct bootstrap_action action = pop(driver);
        struct bootstrap_event event;
        (void)pthread_mutex_unlock(&driver->mutex);
        duties_do(driver->duties, &action, &event);
        (void)pthread_mutex_lock(&driver->mutex);
        driver->result = event;
        driver->has_result = true;
        (void)pthread_cond_broadcast(&driver->changed);
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    return NULL;
}

/* ---- The stepping thread ---- */

/* A task that bootstrap has forgotten and starts again takes the place of the one still queued. */
static void enqueue(struct driver *driver, const struct bootstrap_action *action) {
    (void)pthread_mutex_lock(&driver->mutex);
    size_t at = 0;
    while (at < driver->queue_count && driver->queue[at].task != action->task) {
        at++;
    }
    if (at == driver->queue_count) {
        ASSERT(driver->queue_count < BOOTSTRAP_TASK_COUNT);
        driver->queue_count++;
    }
    driver->queue[at] = *action;
    (void)pthread_cond_broadcast(&driver->changed);
    (void)pthread_mutex_unlock(&driver->mutex);
}

/* pending is the secret of the event that was stepped, if it made one; is_generated says how. */
static void perform(struct driver *driver, const struct bootstrap_actions *actions,
                    struct kdf_master *pending, bool is_generated) {
    for (size_t i = 0; i < actions->count; i++) {
        switch (actions->at[i].kind) {
        case BOOTSTRAP_START:
            enqueue(driver, &actions->at[i]);
            break;
        case BOOTSTRAP_ADOPT:
            ASSERT(pending->secret.ptr != NULL);
            driver->cfg.adopt_cb(driver->cfg.ctx, pending, is_generated);
            *pending = (struct kdf_master){ 0 };
            break;
        case BOOTSTRAP_DISCARD:
            kdf_master_close(pending);
            break;
        }
    }
    ASSERT(pending->secret.ptr == NULL); /* Bootstrap decides at once. */
}

static void tell_wallet(struct driver *driver, const struct bootstrap_event *event) {
    if (event->is_tick || event->task != BOOTSTRAP_IDENTITY || event->reason != NULL) {
        return;
    }
    const struct wallet *wallet = &event->result.identity.wallet;
    if (!driver->has_wallet || !wallet_equal(&driver->wallet, wallet)) {
        driver->has_wallet = true;
        driver->wallet = *wallet;
        driver->cfg.wallet_cb(driver->cfg.ctx, wallet);
    }
}

static void log_state(struct driver *driver) {
    enum bootstrap_state state = driver->bootstrap.state;
    if (state != driver->logged_state) {
        driver->logged_state = state;
        LOG(INFO, "bootstrap.state", "state=%s", bootstrap_state_name(state));
    }
}

static void step(struct driver *driver, struct bootstrap_event *event) {
    struct bootstrap_actions actions;
    struct kdf_master pending = { 0 };
    if (!event->is_tick && event->reason != NULL) {
        LOG_LIMITED(WARN, "bootstrap.task", "failed task=%s reason=\"%s\"",
                    bootstrap_task_name(event->task), event->reason);
    }
    if (!event->is_tick && event->reason == NULL &&
        (event->task == BOOTSTRAP_GENERATE || event->task == BOOTSTRAP_FETCH)) {
        duties_take_secret(driver->duties, &pending);
    }
    event->now_ms = clock_mono_ms();
    struct rc rc = random_bytes((uint8_t *)&event->random, sizeof(event->random));
    ASSERT(rc.err == E_OK);
    bootstrap_step(&driver->bootstrap, event, &actions);
    /* Out of service before anything is changed, in service only after. */
    const char *reason = bootstrap_reason(&driver->bootstrap);
    bool is_serving = bootstrap_is_serving(&driver->bootstrap);
    if (!is_serving) {
        driver->cfg.reason_cb(driver->cfg.ctx, reason);
    }
    perform(driver, &actions, &pending, !event->is_tick && event->task == BOOTSTRAP_GENERATE);
    tell_wallet(driver, event);
    if (is_serving) {
        driver->cfg.reason_cb(driver->cfg.ctx, NULL);
    }
    log_state(driver);
}

static void locked_wait_until(struct driver *driver, uint64_t at_ms) {
    struct timespec at = { .tv_sec = (time_t)(at_ms / 1000),
                           .tv_nsec = (long)(at_ms % 1000) * 1000000 };
    /* Woken early or late, the loop looks again. */
    (void)pthread_cond_timedwait(&driver->changed, &driver->mutex, &at);
}

/* Called with the lock, which is left meanwhile. */
static void locked_step(struct driver *driver) {
    struct bootstrap_event event = { .is_tick = true };
    bool has_result = driver->has_result;
    if (has_result) {
        event = driver->result;
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    step(driver, &event);
    (void)pthread_mutex_lock(&driver->mutex);
    if (has_result) {
        driver->has_result = false;
        (void)pthread_cond_broadcast(&driver->changed);
    }
}

static void *step_main(void *arg) {
    struct driver *driver = arg;
    uint64_t tick_at_ms = 0;
    (void)pthread_mutex_lock(&driver->mutex);
    while (!driver->is_stopping) {
        if (driver->has_result || clock_mono_ms() >= tick_at_ms) {
            locked_step(driver);
            tick_at_ms = bootstrap_next_at_ms(&driver->bootstrap);
        } else {
            locked_wait_until(driver, tick_at_ms);
        }
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    return NULL;
}

/* ---- Life ---- */

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    return value == 0 ? otherwise : value;
}

static RC init_bootstrap(struct driver *driver) {
    const struct driver_cfg *cfg = &driver->cfg;
    const struct bootstrap_cfg bootstrap = {
        .tick_ms = (uint32_t)cfg->config->tick_s * 1000,
        .cache_ttl_ms = (uint32_t)cfg->config->registry_cache_ttl_s * 1000,
        .poll_ms = or_default(cfg->poll_ms, POLL_MS),
        .retry_min_ms = or_default(cfg->retry_min_ms, RETRY_MIN_MS),
        .retry_max_ms = or_default(cfg->retry_max_ms, RETRY_MAX_MS),
        .tx_stuck_ms = or_default(cfg->tx_stuck_ms, TX_STUCK_MS),
    };
    driver->logged_state = BOOTSTRAP_STATE_COUNT;
    return bootstrap_init(&driver->bootstrap, &bootstrap);
}

static RC init_sync(struct driver *driver) {
    pthread_condattr_t attr;
    ENSURE(pthread_condattr_init(&attr) == 0, NOMEM);
    ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&driver->changed, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
    ASSERT(pthread_mutex_init(&driver->mutex, NULL) == 0);
    return OK;
}

static RC start_threads(struct driver *driver) {
    ENSURE(pthread_create(&driver->step_thread, NULL, step_main, driver) == 0, NOMEM);
    driver->thread_count = 1;
    ENSURE(pthread_create(&driver->work_thread, NULL, work_main, driver) == 0, NOMEM);
    driver->thread_count = 2;
    return OK;
}

RC driver_init(struct driver **out, const struct driver_cfg *cfg, struct status *why) {
    *out = NULL;
    struct driver *made = calloc(1, sizeof(*made));
    ENSURE(made != NULL, NOMEM);
    struct rc rc = init_sync(made);
    if (rc.err != E_OK) {
        free(made);
        return rc;
    }
    AUTO(driver_close) struct driver *driver = made;
    driver->cfg = *cfg;
    TRY(init_bootstrap(driver));
    const struct duties_cfg duties = { .config = cfg->config,
                                       .peers = cfg->peers,
                                       .tx_stuck_ms = driver->bootstrap.cfg.tx_stuck_ms };
    TRY(duties_init(&driver->duties, &duties, why));
    TRY(start_threads(driver));
    *out = driver;
    driver = NULL;
    return OK;
}

static void stop_threads(struct driver *driver) {
    (void)pthread_mutex_lock(&driver->mutex);
    driver->is_stopping = true;
    (void)pthread_cond_broadcast(&driver->changed);
    (void)pthread_mutex_unlock(&driver->mutex);
    if (driver->duties != NULL) {
        duties_cancel(driver->duties);
    }
    if (driver->thread_count >= 1) {
        (void)pthread_join(driver->step_thread, NULL);
    }
    if (driver->thread_count == 2) {
        (void)pthread_join(driver->work_thread, NULL);
    }
}

void driver_close(struct driver **driver) {
    struct driver *self = *driver;
    if (self == NULL) {
        return;
    }
    stop_threads(self);
    duties_close(&self->duties);
    (void)pthread_cond_destroy(&self->changed);
    (void)pthread_mutex_destroy(&self->mutex);
    free(self);
    *driver = NULL;
}
