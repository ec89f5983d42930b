/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "auth/table.h"
#include "base/clock.h"

#define CFG_MS_MAX 86400000u

/* One wallet. In the list of its urgency while it has askers, in none while the source is asked for
 * it, then in the list of answered ones until its slot is needed. */
struct question {
    struct auth_node node;
    struct registry_asker askers[REGISTRY_SERVICE_ASKER_COUNT_MAX];
    uint32_t asker_count;
    bool has_facts;
    uint64_t asked_ms; /* When the source was asked for facts. */
    struct auth_facts facts;
};

/* What the thread carries out of the lock to the callbacks. */
struct answer {
    struct wallet wallet;
    struct registry_asker askers[REGISTRY_SERVICE_ASKER_COUNT_MAX];
    uint32_t asker_count;
    bool has_facts;
    struct auth_facts facts;
    char reason[REGISTRY_REASON_BYTES];
};

struct registry_service {
    struct registry *source; /* The thread's alone. */
    struct registry_service_cfg cfg;
    struct registry_members *members_next; /* The thread's alone. */
    pthread_t thread;
    bool has_lock;
    bool has_wake;
    bool has_thread;
    pthread_mutex_t lock; /* Of everything below. Never held while the source works. */
    pthread_cond_t wake;
    bool is_stopping;
    struct auth_table table;
    struct auth_list refresh; /* Both by arrival. */
    struct auth_list unknown;
    struct auth_list answered; /* By when. */
    uint64_t failed_until_ms;
    char failure[REGISTRY_REASON_BYTES];
    uint64_t members_due_ms;
    struct registry_members *members; /* The latest complete list. */
    bool has_members;
    char members_failure[REGISTRY_REASON_BYTES]; /* "" when the last read was good. */
    struct registry_service_stats stats;
};

static struct question *question_of(struct auth_node *node) {
    return (struct question *)(void *)node;
}

static void copy_reason(char *to, const char *from) {
    (void)snprintf(to, REGISTRY_REASON_BYTES, "%s", from);
}

/* ---- The thread; functions named locked_ are called with the lock held. ---- */

static void wait_until(struct registry_service *service, uint64_t at_ms) {
    struct timespec at = { .tv_sec = (time_t)(at_ms / 1000),
                           .tv_nsec = (long)(at_ms % 1000) * 1000000 };
    /* Woken early or late, the loop looks again. */
    (void)pthread_cond_timedwait(&service->wake, &service->lock, &at);
}

static void locked_read_members(struct registry_service *service) {
    char reason[REGISTRY_REASON_BYTES] = "";
    (void)pthread_mutex_unlock(&service->lock);
    struct rc rc = registry_members(service->source, service->members_next, reason);
    (void)pthread_mutex_lock(&service->lock);
    service->members_due_ms = clock_mono_ms() + service->cfg.members_refresh_ms;
    if (rc.err != E_OK) {
        service->stats.failed_count++;
        copy_reason(service->members_failure, reason[0] != '\0' ? reason : err_text(rc.err));
        return;
    }
    struct registry_members *latest = service->members_next;
    service->members_next = service->members;
    service->members = latest;
    service->has_members = true;
    service->members_failure[0] = '\0';
}

/* Asks the source, outside the lock. */
static void locked_ask_source(struct registry_service *service, struct question *question,
                              struct answer *answer) {
    service->stats.lookup_count++;
    uint64_t asked_ms = clock_mono_ms();
    (void)pthread_mutex_unlock(&service->lock);
    struct rc rc =
        registry_lookup(service->source, &answer->wallet, &answer->facts, answer->reason);
    (void)pthread_mutex_lock(&service->lock);
    answer->has_facts = rc.err == E_OK;
    if (answer->has_facts) {
        question->facts = answer->facts;
        question->asked_ms = asked_ms;
        return;
    }
    if (answer->reason[0] == '\0') {
        copy_reason(answer->reason, err_text(rc.err));
    }
    service->stats.failed_count++;
    /* What is wrong with one wallet's record, which a stranger chose, must not answer for
     * others. */
    if (err_class(rc.err) != ERR_PEER) {
        service->failed_until_ms = clock_mono_ms() + service->cfg.failure_hold_ms;
        copy_reason(service->failure, answer->reason);
    }
}

static void locked_find_answer(struct registry_service *service, struct question *question,
                               struct answer *answer) {
    uint64_t now_ms = clock_mono_ms();
    if (question->has_facts && now_ms - question->asked_ms < service->cfg.reuse_ms) {
        service->stats.reused_count++;
        answer->has_facts = true;
        answer->facts = question->facts;
    } else if (now_ms < service->failed_until_ms) {
        service->stats.reused_count++;
        copy_reason(answer->reason, service->failure);
    } else {
        locked_ask_source(service, question, answer);
    }
}

static void call_askers(const struct answer *answer) {
    for (uint32_t i = 0; i < answer->asker_count; i++) {
        const struct registry_asker *asker = &answer->askers[i];
        asker->answer_cb(asker->ctx, &answer->wallet, answer->has_facts ? &answer->facts : NULL,
                         answer->has_facts ? NULL : answer->reason);
    }
}

static void locked_serve(struct registry_service *service, struct question *question) {
    auth_list_remove(&question->node);
    struct answer answer = { .wallet = question->node.wallet };
    locked_find_answer(service, question, &answer);
    /* Only now: whoever asked meanwhile is answered too. */
    memcpy(answer.askers, question->askers, sizeof(answer.askers));
    answer.asker_count = question->asker_count;
    question->asker_count = 0;
    question->has_facts = answer.has_facts;
    if (answer.has_facts) {
        auth_list_append(&service->answered, &question->node);
    } else {
        auth_table_remove(&service->table, &question->node);
    }
    (void)pthread_mutex_unlock(&service->lock);
    call_askers(&answer);
    (void)pthread_mutex_lock(&service->lock);
}

static void locked_step(struct registry_service *service) {
    struct auth_node *next =
        service->refresh.head != NULL ? service->refresh.head : service->unknown.head;
    if (clock_mono_ms() >= service->members_due_ms) {
        locked_read_members(service);
    } else if (next != NULL) {
        locked_serve(service, question_of(next));
    } else {
        wait_until(service, service->members_due_ms);
    }
}

static void *thread_main(void *arg) {
    struct registry_service *service = arg;
    (void)pthread_mutex_lock(&service->lock);
    while (!service->is_stopping) {
        locked_step(service);
    }
    (void)pthread_mutex_unlock(&service->lock);
    return NULL;
}

/* ---- Life ---- */

static bool in_range(uint32_t value, uint32_t max) {
    return value >= 1 && value <= max;
}

static bool cfg_is_allowed(const struct registry_service_cfg *cfg) {
    return in_range(cfg->refresh_count_max, REGISTRY_SERVICE_QUEUE_COUNT_MAX) &&
           in_range(cfg->unknown_count_max, REGISTRY_SERVICE_QUEUE_COUNT_MAX) &&
           cfg->reuse_ms <= CFG_MS_MAX && cfg->failure_hold_ms <= CFG_MS_MAX &&
           in_range(cfg->members_refresh_ms, CFG_MS_MAX) &&
           in_range(cfg->members_ttl_ms, CFG_MS_MAX);
}

static RC wake_init(pthread_cond_t *wake) {
    pthread_condattr_t attr;
    ENSURE(pthread_condattr_init(&attr) == 0, NOMEM);
    int error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    error = error != 0 ? error : pthread_cond_init(wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    ENSURE(error == 0, NOMEM);
    return OK;
}

static RC memory_init(struct registry_service *service) {
    const struct registry_service_cfg *cfg = &service->cfg;
    /* One for the question that the source is being asked. */
    uint32_t slot_count = cfg->refresh_count_max + cfg->unknown_count_max + 1;
    TRY(auth_table_init(&service->table, slot_count, sizeof(struct question), cfg->hash_key));
    service->members = calloc(1, sizeof(*service->members));
    service->members_next = calloc(1, sizeof(*service->members_next));
    ENSURE(service->members != NULL && service->members_next != NULL, NOMEM);
    return OK;
}

static RC thread_init(struct registry_service *service) {
    service->has_lock = pthread_mutex_init(&service->lock, NULL) == 0;
    ENSURE(service->has_lock, NOMEM);
    TRY(wake_init(&service->wake));
    service->has_wake = true;
    service->has_thread = pthread_create(&service->thread, NULL, thread_main, service) == 0;
    ENSURE(service->has_thread, NOMEM);
    return OK;
}

RC registry_service_init(struct registry_service **out, struct registry **source,
                         const struct registry_service_cfg *cfg) {
    *out = NULL;
    AUTO(registry_service_close) struct registry_service *service = calloc(1, sizeof(*service));
    ENSURE(service != NULL, NOMEM);
    service->cfg = *cfg;
    if (cfg->members_refresh_ms == 0) {
        service->cfg.members_refresh_ms = (*source)->refresh_ms;
    }
    ENSURE(cfg_is_allowed(&service->cfg), BAD_CONFIG);
    copy_reason(service->members_failure, "it has not been read yet");
    TRY(memory_init(service));
    service->source = *source;
    struct rc rc = thread_init(service);
    if (rc.err != E_OK) {
        service->source = NULL; /* The caller keeps it. */
        return rc;
    }
    *source = NULL;
    *out = service;
    service = NULL;
    return OK;
}

static void stop_thread(struct registry_service *service) {
    (void)pthread_mutex_lock(&service->lock);
    service->is_stopping = true;
    (void)pthread_cond_signal(&service->wake);
    (void)pthread_mutex_unlock(&service->lock);
    (void)pthread_join(service->thread, NULL);
}

void registry_service_close(struct registry_service **service) {
    struct registry_service *self = *service;
    if (self == NULL) {
        return;
    }
    if (self->has_thread) {
        stop_thread(self);
    }
    if (self->has_wake) {
        (void)pthread_cond_destroy(&self->wake);
    }
    if (self->has_lock) {
        (void)pthread_mutex_destroy(&self->lock);
    }
    registry_close(&self->source);
    auth_table_close(&self->table);
    free(self->members);
    free(self->members_next);
    free(self);
    *service = NULL;
}

/* ---- Any thread ---- */

static bool locked_has_room(const struct registry_service *service, enum registry_urgency urgency) {
    return urgency == REGISTRY_REFRESH ? service->refresh.count < service->cfg.refresh_count_max
                                       : service->unknown.count < service->cfg.unknown_count_max;
}

static struct auth_list *list_of(struct registry_service *service, enum registry_urgency urgency) {
    return urgency == REGISTRY_REFRESH ? &service->refresh : &service->unknown;
}

/* Gives a question about a wallet of which there is none. */
static struct question *locked_new(struct registry_service *service, const struct wallet *wallet) {
    struct auth_node *node = auth_table_add(&service->table, wallet);
    if (node == NULL && service->answered.head != NULL) {
        auth_table_remove(&service->table, service->answered.head);
        node = auth_table_add(&service->table, wallet);
    }
    /* Slots: the two queues, which have room, and the one that is being asked. */
    ASSERT(node != NULL);
    return question_of(node);
}

static RC locked_ask(struct registry_service *service, const struct wallet *wallet,
                     enum registry_urgency urgency, struct registry_asker asker) {
    struct question *question = question_of(auth_table_find(&service->table, wallet));
    bool is_idle = question == NULL || question->node.list == &service->answered;
    bool is_promoted = !is_idle && urgency == REGISTRY_REFRESH &&
                       question->node.list == &service->unknown &&
                       locked_has_room(service, urgency);
    ENSURE(!is_idle || locked_has_room(service, urgency), QUOTA);
    ENSURE(is_idle || question->asker_count < REGISTRY_SERVICE_ASKER_COUNT_MAX, QUOTA);
    if (question == NULL) {
        question = locked_new(service, wallet);
    }
    if (is_idle || is_promoted) {
        auth_list_append(list_of(service, urgency), &question->node);
    }
    question->askers[question->asker_count++] = asker;
    return OK;
}

RC registry_service_ask(struct registry_service *service, const struct wallet *wallet,
                        enum registry_urgency urgency, struct registry_asker asker) {
    (void)pthread_mutex_lock(&service->lock);
    struct rc rc = locked_ask(service, wallet, urgency, asker);
    if (rc.err != E_OK) {
        service->stats.refused_count++;
    } else {
        (void)pthread_cond_signal(&service->wake);
    }
    (void)pthread_mutex_unlock(&service->lock);
    return rc;
}

static RC locked_members(const struct registry_service *service, struct registry_members *out,
                         char *reason) {
    const struct registry_members *latest = service->members;
    uint64_t now_ms = clock_mono_ms();
    if (!service->has_members || (now_ms > latest->as_of_mono_ms &&
                                  now_ms - latest->as_of_mono_ms > service->cfg.members_ttl_ms)) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "member list cannot be read: %.160s",
                       service->members_failure[0] != '\0' ? service->members_failure
                                                           : "its newest state is too old");
        return ERR(UNAVAILABLE);
    }
    out->as_of_mono_ms = latest->as_of_mono_ms;
    out->head_block = latest->head_block;
    out->count = latest->count;
    memcpy(out->at, latest->at, latest->count * sizeof(latest->at[0]));
    return OK;
}

RC registry_service_members(struct registry_service *service, struct registry_members *out,
                            char reason[static REGISTRY_REASON_BYTES]) {
    out->count = 0;
    reason[0] = '\0';
    (void)pthread_mutex_lock(&service->lock);
    struct rc rc = locked_members(service, out, reason);
    (void)pthread_mutex_unlock(&service->lock);
    return rc;
}

void registry_service_stats(struct registry_service *service, struct registry_service_stats *out) {
    (void)pthread_mutex_lock(&service->lock);
    *out = service->stats;
    out->queued_count = service->refresh.count + service->unknown.count;
    (void)pthread_mutex_unlock(&service->lock);
}
