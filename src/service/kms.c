/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kms.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"

/* A list without a head of its own: whoever is in it can leave without knowing it. */
struct link {
    struct link *prev;
    struct link *next;
};

struct service_kms {
    Novakms__V1__KmsService_Service service; /* First: the generated code passes its address. */
    struct service_worker worker;
    struct service_kms_cfg cfg;
    struct link waiting; /* In the order in which their waits end. */
    unsigned waiting_count;
    uv_timer_t timer;
    atomic_bool wake_posted;
};

/* One call. On the stack of its stub; copied into the call's arena if it must wait. */
struct run {
    struct link link; /* First. */
    struct service_kms *kms;
    struct net_call *call;
    const char *method;
    const void *in;
    ProtobufCClosure closure;
    void (*run)(struct run *run);
    bool may_miss;
    bool is_waiting;
    struct store_stamp seen;
    uint64_t wait_until_ms;
};

static void list_init(struct link *head) {
    *head = (struct link){ head, head };
}

static void list_add(struct link *head, struct link *link) {
    *link = (struct link){ head->prev, head };
    head->prev->next = link;
    head->prev = link;
}

static void list_remove(struct link *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

static void park(struct run *run, const struct store_stamp *seen);

static void fill_call(const struct run *run, struct service_call *call) {
    const struct service_clock *clock = run->kms->worker.shared->clock;
    call->caller = net_call_context(run->call);
    call->arena = net_call_arena(run->call);
    call->now_unix_ms = service_clock_unix_ms(clock, uv_now(run->kms->cfg.loop));
    call->answer_bytes_max = net_call_answer_bytes_max(run->call);
    call->may_miss = run->may_miss;
    call->stamp = STORE_STAMP_NONE;
    call->seen = STORE_STAMP_NONE;
}

/* What only the node's operator can mend goes into the log too. */
static void log_fault(const struct run *run, const struct service_call *call) {
    if (call->why.code == STATUS_INTERNAL || call->why.code == STATUS_DATA_LOSS) {
        LOG_LIMITED(ERROR, "service.fault", "method=%s app=%" PRIu64 " code=%s reason=\"%s\"",
                    run->method, call->caller->app_id, status_name(call->why.code), call->why.text);
    }
}

static void fail(const struct run *run, const struct service_call *call) {
    log_fault(run, call);
    struct net_error_details details = { .may_miss = run->may_miss };
    if (!store_stamp_is_none(&call->stamp)) {
        details.has_stamp = true;
        details.stamp_hlc = call->stamp.hlc;
        memcpy(details.stamp_writer, call->stamp.writer, STORE_WRITER_BYTES);
    }
    net_call_fail(run->call, &call->why, &details);
}

/* For each method: run_<name> calls it and ends the call, and stub_<name> is what the generated
 * service calls. */
#define METHOD(name, request, response, response_name)                                          \
    static void run_##name(struct run *run) {                                                   \
        struct service_call call;                                                               \
        Novakms__V1__##response out;                                                            \
        novakms__v1__##response_name##__init(&out);                                             \
        fill_call(run, &call);                                                                  \
        enum service_outcome outcome = service_##name(&run->kms->worker, &call, run->in, &out); \
        if (outcome == SERVICE_ANSWERED) {                                                      \
            run->closure(&out.base, run->call);                                                 \
        } else if (outcome == SERVICE_FAILED) {                                                 \
            fail(run, &call);                                                                   \
        } else {                                                                                \
            park(run, &call.seen);                                                              \
        }                                                                                       \
    }                                                                                           \
    static void stub_##name(Novakms__V1__KmsService_Service *service,                           \
                            const Novakms__V1__##request *in,                                   \
                            Novakms__V1__##response##_Closure closure, void *closure_data) {    \
        struct run run = { .kms = (struct service_kms *)service,                                \
                           .call = net_call_from(closure_data),                                 \
                           .method = #name,                                                     \
                           .in = in,                                                            \
                           .closure = (ProtobufCClosure)closure,                                \
                           .run = run_##name };                                                 \
        run_##name(&run);                                                                       \
    }
SERVICE_METHOD_MAP(METHOD)
#undef METHOD

/* ---- Waiting for a write that this node has not heard of yet ---- */

static void timer_cb(uv_timer_t *timer);

static void start_timer(struct service_kms *kms) {
    if (kms->waiting.next == &kms->waiting) {
        (void)uv_timer_stop(&kms->timer);
        return;
    }
    const struct run *first = (const struct run *)(const void *)kms->waiting.next;
    uint64_t now_ms = uv_now(kms->cfg.loop);
    uint64_t wait_ms = first->wait_until_ms > now_ms ? first->wait_until_ms - now_ms : 0;
    (void)uv_timer_start(&kms->timer, timer_cb, wait_ms, 0);
}

/* Takes it out of whichever list it is in. */
static void stop_waiting(struct run *run) {
    list_remove(&run->link);
    if (run->is_waiting) {
        run->is_waiting = false;
        run->kms->waiting_count--;
        service_kv_wait(run->kms->worker.shared->kv, -1);
    }
}

/* The call ended without our answer: cancelled, timed out, or its connection is gone. */
static void ended_cb(void *ctx) {
    stop_waiting(ctx);
}

static void resume(struct run *run) {
    stop_waiting(run);
    net_call_on_end(run->call, NULL, NULL);
    run->run(run);
}

static void park(struct run *run, const struct store_stamp *seen) {
    struct service_kms *kms = run->kms;
    uint64_t wait_ms = kms->worker.shared->read_wait_ms;
    struct run *parked = NULL;
    if (wait_ms > 0 && kms->waiting_count < SERVICE_WAIT_COUNT_MAX) {
        parked = arena_take(net_call_arena(run->call), sizeof(*parked));
    }
    if (parked == NULL) {
        run->may_miss = true;
        run->run(run); /* Cannot come back here: with may_miss no method waits. */
        return;
    }
    *parked = *run;
    parked->seen = *seen;
    parked->wait_until_ms = uv_now(kms->cfg.loop) + wait_ms;
    parked->is_waiting = true;
    list_add(&kms->waiting, &parked->link);
    kms->waiting_count++;
    net_call_on_end(parked->call, ended_cb, parked);
    service_kv_wait(kms->worker.shared->kv, 1);
    start_timer(kms);
    /* The write may have come between the look and the count: nobody was told then. */
    if (service_kv_covers(kms->worker.shared->kv, seen)) {
        (void)uv_timer_start(&kms->timer, timer_cb, 0, 0);
    }
}

/* Resumes the calls whose wait is over, one way or the other. */
static void resume_due(struct service_kms *kms) {
    struct link ready;
    list_init(&ready);
    uint64_t now_ms = uv_now(kms->cfg.loop);
    for (struct link *at = kms->waiting.next, *next = NULL; at != &kms->waiting; at = next) {
        struct run *run = (struct run *)(void *)at;
        next = at->next;
        bool covered = service_kv_covers(kms->worker.shared->kv, &run->seen);
        if (covered || run->wait_until_ms <= now_ms) {
            run->may_miss = !covered;
            list_remove(at);
            list_add(&ready, at);
        }
    }
    while (ready.next != &ready) {
        resume((struct run *)(void *)ready.next);
    }
    start_timer(kms);
}

static void timer_cb(uv_timer_t *timer) {
    resume_due(timer->data);
}

static void wake(void *arg) {
    struct service_kms *kms = arg;
    atomic_store(&kms->wake_posted, false);
    resume_due(kms);
}

/* On any thread. */
static void store_changed_cb(void *ctx) {
    struct service_kms *kms = ctx;
    if (!atomic_exchange(&kms->wake_posted, true) &&
        !kms->cfg.post(kms->cfg.post_ctx, kms->cfg.worker_idx, wake, kms)) {
        atomic_store(&kms->wake_posted, false);
    }
}

/* ---- Life ---- */

RC service_kms_init(struct service_kms **out, const struct service_kms_cfg *cfg) {
    *out = NULL;
    struct service_kms *kms = calloc(1, sizeof(*kms));
    ENSURE(kms != NULL, NOMEM);
    kms->cfg = *cfg;
    kms->service = (Novakms__V1__KmsService_Service)NOVAKMS__V1__KMS_SERVICE__INIT(stub_);
    kms->worker.shared = cfg->shared;
    list_init(&kms->waiting);
    struct rc rc =
        service_keys_init(&kms->worker.keys, cfg->shared->master, SERVICE_KEYS_PER_WORKER);
    if (rc.err == E_OK) {
        rc = service_kv_listen(cfg->shared->kv, store_changed_cb, kms);
    }
    if (rc.err != E_OK) {
        service_keys_close(&kms->worker.keys);
        free(kms);
        return rc;
    }
    ASSERT(uv_timer_init(cfg->loop, &kms->timer) == 0);
    kms->timer.data = kms;
    uv_unref((uv_handle_t *)&kms->timer);
    *out = kms;
    return OK;
}

ProtobufCService *service_kms_service(struct service_kms *kms) {
    return &kms->service.base;
}

void service_kms_set_master(struct service_kms *kms, const struct kdf_master *master) {
    service_keys_set_master(kms->worker.keys, master);
}

void service_kms_stop(struct service_kms *kms) {
    if (uv_is_closing((uv_handle_t *)&kms->timer) == 0) {
        uv_close((uv_handle_t *)&kms->timer, NULL);
    }
}

void service_kms_close(struct service_kms **kms) {
    if (*kms == NULL) {
        return;
    }
    service_keys_close(&(*kms)->worker.keys);
    free(*kms);
    *kms = NULL;
}
