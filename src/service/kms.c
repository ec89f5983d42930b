/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kms.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"

struct service_kms {
    Novakms__V1__KmsService_Service service; /* First: the generated code passes its address. */
    struct service_worker worker;
    struct service_kms_cfg cfg;
    struct service_waits waits;
};

/* One call. On the stack of its stub; copied into the call's arena if it must wait. */
struct run {
    struct service_wait wait; /* First. */
    struct service_kms *kms;
    struct net_call *call;
    const char *method;
    const void *in;
    ProtobufCClosure closure;
    void (*run)(struct run *run);
    bool may_miss;
    bool is_over;
    uint64_t app_id; /* When it began to wait. */
    bool is_write;
    struct service_shown shown;
    struct service_written written;
};

static bool park(struct run *run, const struct service_call *call);

static void fill_call(const struct run *run, struct service_call *call) {
    const struct service_clock *clock = run->kms->worker.shared->clock;
    call->caller = net_call_context(run->call);
    call->arena = net_call_arena(run->call);
    call->now_unix_ms = service_clock_unix_ms(clock, uv_now(run->kms->cfg.loop));
    call->answer_bytes_max = net_call_answer_bytes_max(run->call);
    call->may_miss = run->may_miss;
    call->is_over = run->is_over;
    call->written = run->written;
    call->stamp = STORE_STAMP_NONE;
    call->shown = (struct service_shown){ 0 };
    call->is_write = false;
}

/* What only the node's operator can mend goes into the log too. */
static void log_fault(const struct run *run, const struct service_call *call) {
    if (call->why.code == STATUS_INTERNAL || call->why.code == STATUS_DATA_LOSS) {
        LOG_LIMITED(ERROR, "service.fault", "method=%s app=%" PRIu64 " code=%s reason=\"%s\"",
                    run->method, call->caller->app_id, status_name(call->why.code), call->why.text);
    }
}

static struct net_error_details details_of(const struct run *run, const struct store_stamp *stamp) {
    struct net_error_details details = { .may_miss = run->may_miss };
    if (!store_stamp_is_none(stamp)) {
        details.has_stamp = true;
        details.stamp_hlc = stamp->hlc;
        memcpy(details.stamp_writer, stamp->writer, STORE_WRITER_BYTES);
    }
    return details;
}

static void fail(const struct run *run, struct service_call *call) {
    log_fault(run, call);
    bool is_written = call->written.count > 0;
    if (is_written && call->why.code == STATUS_UNAVAILABLE) {
        call->why.code = STATUS_UNKNOWN; /* The other says that nothing was done. */
    }
    const struct net_error_details details =
        details_of(run, is_written ? &call->written.stamp : &call->stamp);
    net_call_fail(run->call, &call->why, &details);
}

/* Before net may end the call by itself. */
static void say_executed(const struct run *run, const struct service_written *written) {
    const struct net_error_details details = details_of(run, &written->stamp);
    net_call_set_executed(run->call, &details);
}

static void answer(const struct run *run, const struct service_call *call,
                   const ProtobufCMessage *out) {
    if (call->written.count > 0) {
        say_executed(run, &call->written);
    }
    run->closure(out, run->call);
}

/* For each method: run_<name> calls it and ends the call, or parks it; a call that cannot be parked
 * goes on at once. stub_<name> is what the generated service calls. */
#define METHOD(name, request, response, response_name)                                       \
    static void run_##name(struct run *run) {                                                \
        struct service_call call;                                                            \
        Novakms__V1__##response out;                                                         \
        enum service_outcome outcome = SERVICE_WAITS;                                        \
        do {                                                                                 \
            novakms__v1__##response_name##__init(&out);                                      \
            fill_call(run, &call);                                                           \
            outcome = service_##name(&run->kms->worker, &call, run->in, &out);               \
        } while (outcome == SERVICE_WAITS && !park(run, &call));                             \
        if (outcome == SERVICE_ANSWERED) {                                                   \
            answer(run, &call, &out.base);                                                   \
        } else if (outcome == SERVICE_FAILED) {                                              \
            fail(run, &call);                                                                \
        }                                                                                    \
    }                                                                                        \
    static void stub_##name(Novakms__V1__KmsService_Service *service,                        \
                            const Novakms__V1__##request *in,                                \
                            Novakms__V1__##response##_Closure closure, void *closure_data) { \
        struct run run = { .kms = (struct service_kms *)service,                             \
                           .call = net_call_from(closure_data),                              \
                           .method = #name,                                                  \
                           .in = in,                                                         \
                           .closure = (ProtobufCClosure)closure,                             \
                           .run = run_##name };                                              \
        run_##name(&run);                                                                    \
    }
SERVICE_METHOD_MAP(METHOD)
#undef METHOD

/* ---- Waiting for a write that this node has not heard of yet, or for acknowledgements ---- */

static const struct run *run_of(const struct service_wait *wait) {
    return (const struct run *)(const void *)wait;
}

static bool knows_shown(const struct service_wait *wait, const struct store *store) {
    return service_shown_is_known(&run_of(wait)->shown, store);
}

static bool has_acks(const struct service_wait *wait, const struct store *store) {
    (void)store;
    const struct run *run = run_of(wait);
    uint32_t ack_count = 0;
    return service_is_durable(run->kms->worker.shared->replica, &run->written, &ack_count);
}

/* A call that waited before it did anything: its caller is judged by what the registry says now,
 * and never does in one app what it asked for in another. Nothing is written any more by a node
 * that hands over: the members may have fetched all already. False: the call has ended. */
static bool may_go_on(const struct run *run) {
    if (!net_call_recheck(run->call)) {
        return false;
    }
    const struct service_caller *caller = net_call_context(run->call);
    struct status why;
    if (caller->app_id != run->app_id) {
        status_set(&why, STATUS_ABORTED, "the wallet's app changed during the call; try again");
    } else if (run->is_write && !service_readiness_admits(run->kms->worker.shared->readiness)) {
        status_set(&why, STATUS_UNAVAILABLE, "the node is stopping");
    } else {
        return true;
    }
    net_call_fail(run->call, &why, NULL);
    return false;
}

static void resume_cb(struct service_wait *wait, bool is_due) {
    struct run *run = (struct run *)(void *)wait;
    const struct service_written *written = &run->written;
    if (written->count > 0) {
        run->is_over = true;
        service_durability_count(run->kms->worker.shared->durability_stats,
                                 uv_now(run->kms->cfg.loop) - written->at_ms, is_due);
    } else if (may_go_on(run)) {
        run->may_miss = !is_due;
    } else {
        return;
    }
    run->run(run);
}

static uint64_t left_ms_of(const struct run *run, uint64_t now_ms) {
    uint64_t deadline_at_ms = net_call_deadline_at_ms(run->call);
    return deadline_at_ms > now_ms ? deadline_at_ms - now_ms : 0;
}

/* A wait is over before its call is: the answer must arrive in time. */
static uint64_t until_answer(const struct run *run, uint64_t now_ms) {
    uint64_t left_ms = left_ms_of(run, now_ms);
    uint64_t margin_ms = left_ms / 10;
    margin_ms = margin_ms < SERVICE_ANSWER_MARGIN_MIN_MS ? SERVICE_ANSWER_MARGIN_MIN_MS : margin_ms;
    margin_ms = margin_ms > SERVICE_ANSWER_MARGIN_MAX_MS ? SERVICE_ANSWER_MARGIN_MAX_MS : margin_ms;
    return now_ms + (left_ms > margin_ms ? left_ms - margin_ms : 0);
}

/* The wait for what the caller showed: a call must not fail for what it can go without, or its
 * caller would never be told to forget it. A write keeps half of its time for being made and
 * acknowledged. */
static uint64_t until_known(const struct run *run, bool is_write, uint64_t now_ms) {
    uint64_t until_ms = now_ms + run->kms->worker.shared->read_wait_ms;
    uint64_t last_ms = is_write ? now_ms + left_ms_of(run, now_ms) / 2 : until_answer(run, now_ms);
    return until_ms < last_ms ? until_ms : last_ms;
}

/* False: it does not wait, and the method must be called again; it will not wait for the same. A
 * write may wait twice: for what its caller showed, then for acknowledgements. */
static bool park(struct run *run, const struct service_call *call) {
    struct service_kms *kms = run->kms;
    uint64_t now_ms = uv_now(kms->cfg.loop);
    bool is_written = call->written.count > 0;
    run->written = call->written;
    run->written.at_ms = now_ms;
    uint64_t until_ms =
        is_written ? until_answer(run, now_ms) : until_known(run, call->is_write, now_ms);
    struct run *parked = NULL;
    if (until_ms > now_ms) {
        parked = arena_take(net_call_arena(run->call), sizeof(*parked));
    }
    if (parked == NULL || !service_waits_has_room(&kms->waits, run->call)) {
        run->may_miss = run->may_miss || !is_written;
        run->is_over = is_written;
        return false;
    }
    *parked = *run;
    parked->app_id = call->caller->app_id;
    parked->is_write = call->is_write;
    parked->shown = call->shown;
    parked->wait = (struct service_wait){
        .call = run->call,
        .until_ms = until_ms,
        .is_due = is_written ? has_acks : knows_shown,
        .resume = resume_cb,
    };
    if (is_written) {
        say_executed(run, &call->written);
    }
    service_waits_add(&kms->waits, &parked->wait);
    return true;
}

/* ---- Life ---- */

RC service_kms_init(struct service_kms **out, const struct service_kms_cfg *cfg) {
    *out = NULL;
    struct service_kms *kms = calloc(1, sizeof(*kms));
    ENSURE(kms != NULL, NOMEM);
    kms->cfg = *cfg;
    kms->service = (Novakms__V1__KmsService_Service)NOVAKMS__V1__KMS_SERVICE__INIT(stub_);
    kms->worker.shared = cfg->shared;
    struct rc rc =
        service_keys_init(&kms->worker.keys, cfg->shared->master, SERVICE_KEYS_PER_WORKER);
    if (rc.err == E_OK) {
        const struct service_waits_cfg waits = {
            .kv = cfg->shared->kv,
            .loop = cfg->loop,
            .post = cfg->post,
            .post_ctx = cfg->post_ctx,
            .worker_idx = cfg->worker_idx,
            .count_max = SERVICE_WAIT_COUNT_MAX,
            .bytes_max = SERVICE_WAIT_BYTES_MAX,
        };
        rc = service_waits_init(&kms->waits, &waits);
    }
    if (rc.err != E_OK) {
        service_keys_close(&kms->worker.keys);
        free(kms);
        return rc;
    }
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
    service_waits_stop(&kms->waits);
}

void service_kms_close(struct service_kms **kms) {
    if (*kms == NULL) {
        return;
    }
    service_keys_close(&(*kms)->worker.keys);
    free(*kms);
    *kms = NULL;
}
