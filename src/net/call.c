/* SPDX-License-Identifier: Apache-2.0 */
/* One request from its frame to its answer. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/server_internal.h"

/* ---- Memory ---- */

static void *take_memory(void *data, size_t len) {
    struct net_call *call = data;
    void *memory = arena_take(&call->arena, len);
    call->is_over_budget = call->is_over_budget || memory == NULL;
    return memory;
}

static void give_memory(void *data, void *memory) {
    (void)data;
    (void)memory; /* All at once, when the call ends. */
}

static struct net_call *take_call(struct net_worker *w) {
    struct net_call *call = w->free_calls;
    if (call != NULL) {
        w->free_calls = call->next;
        w->free_call_count--;
    } else {
        call = calloc(1, sizeof(*call));
        if (call == NULL) {
            return NULL;
        }
        arena_init(&call->arena, w->server->cfg.message_bytes_max);
        call->allocator = (ProtobufCAllocator){ take_memory, give_memory, call };
    }
    call->next = NULL;
    call->prev = NULL;
    call->end_cb = NULL;
    call->is_over_budget = false;
    call->is_executed = false;
    return call;
}

static void free_call(struct net_call *call) {
    arena_close(&call->arena);
    free(call);
}

static void give_call(struct net_worker *w, struct net_call *call) {
    if (w->free_call_count >= CALL_POOL_MAX) {
        free_call(call);
        return;
    }
    arena_reset(&call->arena);
    call->next = w->free_calls;
    w->free_calls = call;
    w->free_call_count++;
}

void call_free_pool(struct net_worker *w) {
    while (w->free_calls != NULL) {
        struct net_call *call = w->free_calls;
        w->free_calls = call->next;
        free_call(call);
    }
    w->free_call_count = 0;
}

/* ---- The end of a call ---- */

static void remove_in_flight(struct net_worker *w, struct session *s, struct net_call *call) {
    if (call->prev != NULL) {
        call->prev->next = call->next;
    } else {
        s->calls = call->next;
    }
    if (call->next != NULL) {
        call->next->prev = call->prev;
    }
    s->call_count--;
    call->is_in_flight = false;
    deadlines_remove(&w->deadlines, call);
    atomic_store_explicit(&w->counters.in_flight, count_get(&w->counters.in_flight) - 1,
                          memory_order_relaxed);
}

/* The last thing that happens to a call. One that is being invoked is recycled when its stub
 * returns: the stub may still look at the request. */
static void end_call(struct net_call *call, uint32_t code) {
    struct session *s = call->session;
    ASSERT(s != NULL);
    struct net_worker *w = s->worker;
    w->now_us = clock_mono_us();
    size_t method_idx = (size_t)(call->method - w->server->methods.methods);
    worker_count_call(&w->counters, method_idx, code, w->now_us - call->started_us);
    call->session = NULL;
    call->end_cb = NULL;
    if (call->is_in_flight) {
        remove_in_flight(w, s, call);
    }
    if (!call->is_invoking) {
        give_call(w, call);
        session_call_ended(s);
    }
}

/* ---- Answers ---- */

static void set_details(novakms_v1_Response *response, const struct net_error_details *details) {
    if (details == NULL) {
        return;
    }
    novakms_v1_ErrorDetails *out = &response->details;
    response->has_details = true;
    *out = (novakms_v1_ErrorDetails){ .retry_after_ms = details->retry_after_ms,
                                      .may_miss = details->may_miss,
                                      .has_stamp = details->has_stamp };
    if (details->has_stamp) {
        out->stamp.hlc = details->stamp_hlc;
        memcpy(out->stamp.writer, details->stamp_writer, sizeof(out->stamp.writer));
    }
}

static void write_error(struct session *s, uint64_t call_id, const struct status *why,
                        const struct net_error_details *details) {
    novakms_v1_FrameHeader *header = &s->worker->header;
    frame_set_response(header, call_id, why);
    set_details(&header->kind.response, details);
    session_write_header(s, header);
}

void net_call_fail(struct net_call *call, const struct status *why,
                   const struct net_error_details *details) {
    ASSERT(call->session != NULL); /* Answered twice, or after its end. */
    ASSERT(why->code != STATUS_OK);
    write_error(call->session, call->call_id, why, details);
    end_call(call, (uint32_t)why->code);
}

/* With these a client makes the call again. */
static bool invites_again(enum status_code code) {
    return code == STATUS_UNAVAILABLE || code == STATUS_RESOURCE_EXHAUSTED ||
           code == STATUS_ABORTED;
}

/* What its service did not choose. A call that is executed must not be made again, and its caller
 * is told what was written. */
static void fail_call(struct net_call *call, const struct status *why, uint32_t retry_after_ms) {
    if (!call->is_executed) {
        const struct net_error_details details = { .retry_after_ms = retry_after_ms };
        net_call_fail(call, why, retry_after_ms != 0 ? &details : NULL);
        return;
    }
    struct status done;
    status_set(&done, invites_again(why->code) ? STATUS_UNKNOWN : why->code,
               "the call was executed, but not answered: %s", why->text);
    net_call_fail(call, &done, &call->done);
}

static void fail_text(struct net_call *call, enum status_code code, const char *text) {
    struct status *why = &call->session->worker->why;
    status_set(why, code, "%s", text);
    fail_call(call, why, 0);
}

/* False: refused, and answered so. */
static bool pass_check(struct net_call *call, bool is_recheck) {
    struct session *s = call->session;
    struct net_worker *w = s->worker;
    const struct net_authority *authority = &w->cfg.authority;
    if (w->cfg.services[call->method->service_idx].is_public) {
        return true;
    }
    if (!s->has_wallet) {
        fail_text(call, STATUS_UNAUTHENTICATED,
                  "this call needs a client certificate bound to a wallet");
        return false;
    }
    uint32_t retry_after_ms = 0;
    if (authority->check == NULL ||
        authority->check(authority->ctx, call, is_recheck, &w->why, &retry_after_ms)) {
        return true;
    }
    fail_call(call, &w->why, retry_after_ms);
    return false;
}

static void write_answer(struct net_call *call, const ProtobufCMessage *message, size_t len) {
    struct session *s = call->session;
    size_t bytes = FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX + len;
    uint8_t *room = net_conn_reserve(s->conn, bytes);
    if (room == NULL) {
        return; /* The connection is closing: the answer has nowhere to go. */
    }
    struct writer out = { room, 0, bytes };
    struct rc rc = frame_write_ok(&out, call->call_id, len, SIZE_MAX);
    ASSERT(rc.err == E_OK);
    out.len += protobuf_c_message_pack(message, room + out.len);
    net_conn_commit(s->conn, out.len);
}

/* The closure that stubs get. */
static void answer(const ProtobufCMessage *message, void *closure_data) {
    struct net_call *call = net_call_from(closure_data);
    ASSERT(call->session != NULL); /* Answered twice, or after its end. */
    if (message == NULL) {
        fail_text(call, STATUS_INTERNAL, "the service gave no answer");
        return;
    }
    if (call->is_in_flight && !pass_check(call, true)) {
        return;
    }
    size_t len = protobuf_c_message_get_packed_size(message);
    if (len > net_call_answer_bytes_max(call)) {
        fail_text(call, STATUS_RESOURCE_EXHAUSTED,
                  "the answer is larger than a frame may be; ask for less at once");
        return;
    }
    write_answer(call, message, len);
    end_call(call, STATUS_OK);
}

/* ---- The start of a call ---- */

static uint64_t deadline_of(const struct net_worker *w, uint32_t timeout_ms) {
    uint32_t span_ms = timeout_ms == 0 ? NET_TIMEOUT_DEFAULT_MS : timeout_ms;
    span_ms = span_ms > NET_TIMEOUT_MAX_MS ? NET_TIMEOUT_MAX_MS : span_ms;
    return uv_now(&w->loop) + span_ms;
}

/* It did not answer at once. */
static void put_in_flight(struct net_worker *w, struct session *s, struct net_call *call) {
    deadlines_add(&w->deadlines, call);
    call->is_in_flight = true;
    call->next = s->calls;
    if (s->calls != NULL) {
        s->calls->prev = call;
    }
    s->calls = call;
    s->call_count++;
    count_up(&w->counters.in_flight, 1);
    worker_set_deadline(w);
}

static void invoke(struct net_worker *w, struct net_call *call, struct span payload) {
    const struct method *method = call->method;
    ProtobufCMessage *input =
        protobuf_c_message_unpack(method->input, &call->allocator, payload.len, payload.ptr);
    if (input == NULL) {
        if (call->is_over_budget) {
            fail_text(call, STATUS_RESOURCE_EXHAUSTED, "the request takes too much memory");
        } else {
            fail_text(call, STATUS_INVALID_ARGUMENT,
                      "the request is not a valid message of its method");
        }
        return;
    }
    ProtobufCService *service = w->cfg.services[method->service_idx].service;
    service->invoke(service, method->method_idx, input, answer, call);
}

static void refuse_unknown(struct session *s, const novakms_v1_Request *request) {
    struct net_worker *w = s->worker;
    char name[LOG_PEER_TEXT_BYTES];
    struct span method = { request->method.bytes, request->method.size };
    count_up(&w->counters.unknown_method, 1);
    status_set(&w->why, STATUS_UNIMPLEMENTED, "no method \"%s\" here", log_peer_text(method, name));
    write_error(s, request->call_id, &w->why, NULL);
}

void call_start(struct session *s, const novakms_v1_Request *request, struct span payload) {
    struct net_worker *w = s->worker;
    struct span name = { request->method.bytes, request->method.size };
    const struct method *method = method_table_find(&w->server->methods, name);
    if (method == NULL) {
        refuse_unknown(s, request);
        return;
    }
    /* Also what it takes to wait: afterwards it may have written. No other call starts
     * meanwhile. */
    struct net_call *call = deadlines_reserve(&w->deadlines).err == E_OK ? take_call(w) : NULL;
    if (call == NULL) {
        status_set(&w->why, STATUS_RESOURCE_EXHAUSTED, "%s", "no memory left for more calls");
        write_error(s, request->call_id, &w->why, NULL);
        return;
    }
    call->session = s;
    call->method = method;
    call->call_id = request->call_id;
    call->started_us = w->now_us;
    call->deadline_at_ms = deadline_of(w, request->timeout_ms);
    call->is_invoking = true;
    if (pass_check(call, false)) {
        invoke(w, call, payload);
    }
    call->is_invoking = false;
    if (call->session == NULL) {
        give_call(w, call);
        return;
    }
    put_in_flight(w, s, call);
}

/* ---- Ends that the service did not choose ---- */

/* Tells the service, which must not touch the call afterwards. */
static void drop_call(struct net_call *call, uint32_t code) {
    void (*end_cb)(void *ctx) = call->end_cb;
    void *ctx = call->end_ctx;
    call->end_cb = NULL;
    if (end_cb != NULL) {
        end_cb(ctx);
    }
    end_call(call, code);
}

void call_cancel(struct session *s, uint64_t call_id) {
    for (struct net_call *call = s->calls; call != NULL; call = call->next) {
        if (call->call_id == call_id) {
            drop_call(call, STATUS_CANCELLED);
            return;
        }
    }
}

void call_end_all(struct session *s) {
    while (s->calls != NULL) {
        drop_call(s->calls, STATUS_CANCELLED);
    }
}

void call_check_deadlines(struct net_worker *w) {
    uint64_t now_ms = uv_now(&w->loop);
    struct net_call *call = deadlines_first(&w->deadlines);
    while (call != NULL && call->deadline_at_ms <= now_ms) {
        status_set(&w->why, STATUS_DEADLINE_EXCEEDED, "%s",
                   "the call was not done within its timeout");
        write_error(call->session, call->call_id, &w->why, call->is_executed ? &call->done : NULL);
        drop_call(call, STATUS_DEADLINE_EXCEEDED);
        call = deadlines_first(&w->deadlines);
    }
    worker_set_deadline(w);
}

/* ---- What services may ask ---- */

struct net_conn *net_call_conn(const struct net_call *call) {
    return call->session->conn;
}

const ProtobufCServiceDescriptor *net_call_service(const struct net_call *call) {
    const struct net_worker *w = call->session->worker;
    return w->cfg.services[call->method->service_idx].service->descriptor;
}

const struct wallet *net_call_wallet(const struct net_call *call) {
    return call->session->has_wallet ? &call->session->wallet : NULL;
}

void *net_call_context(const struct net_call *call) {
    return call->session->context;
}

uint32_t net_call_worker_idx(const struct net_call *call) {
    return call->session->worker->idx;
}

uv_loop_t *net_call_loop(const struct net_call *call) {
    return &call->session->worker->loop;
}

uint64_t net_call_deadline_at_ms(const struct net_call *call) {
    return call->deadline_at_ms;
}

struct arena *net_call_arena(struct net_call *call) {
    return &call->arena;
}

size_t net_call_held_bytes(const struct net_call *call) {
    return call->arena.held_bytes;
}

size_t net_call_answer_bytes_max(const struct net_call *call) {
    const struct session *s = call->session;
    size_t own_max = s->answer_frame_max;
    return (own_max != 0 ? own_max : s->worker->server->cfg.frame_bytes_max) - FRAME_OVERHEAD_MAX;
}

void net_call_set_executed(struct net_call *call, const struct net_error_details *details) {
    call->is_executed = true;
    call->done = *details;
}

bool net_call_recheck(struct net_call *call) {
    return pass_check(call, true);
}

void net_call_on_end(struct net_call *call, void (*end_cb)(void *ctx), void *ctx) {
    call->end_cb = end_cb;
    call->end_ctx = ctx;
}
