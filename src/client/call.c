/* SPDX-License-Identifier: Apache-2.0 */
/* A call from start to result: tries on channels, and when to try again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/clock.h"
#include "client/client.h"

/* ---- The end of a call ---- */

static void call_free(struct client_call *call) {
    arena_close(&call->arena); /* Wipes. */
    free(call);
}

/* Hands the result to the program. */
static void tell(struct client_call *call, struct novakms_result *result) {
    struct novakms *client = call->client;
    DL_DELETE(client->calls, call);
    client->told_count++;
    novakms_result_cb result_cb = call->result_cb;
    void *data = call->data;
    call_free(call);
    result_cb(data, result);
}

/* Gives a result with a failure's code and sentence; the one for no memory when that is out. */
static struct novakms_result *failed_result(const struct status *why) {
    struct client_result *r = client_result_make();
    if (r == NULL) {
        return client_result_nomem();
    }
    r->public.code = (enum novakms_code)why->code;
    (void)snprintf(r->public.text, sizeof(r->public.text), "%s", why->text);
    return &r->public;
}

void client_tell_ready(struct novakms *client) {
    /* Calls that a callback adds wait for the next turn. */
    uint64_t last_id = client->last_id;
    for (;;) {
        struct client_call *call = client->calls;
        while (call != NULL && (call->ready == NULL || call->id > last_id)) {
            call = call->next;
        }
        if (call == NULL) {
            return;
        }
        tell(call, call->ready);
    }
}

static void on_ready(uv_timer_t *timer) {
    client_tell_ready(timer->data);
}

/* For a result known at the start of a call: told in the loop's next turn. */
static void tell_later(struct client_call *call, const struct status *why) {
    call->ready = failed_result(why);
    int error = uv_timer_start(&call->client->ready_timer, on_ready, 0, 0);
    ASSERT(error == 0); /* Fails only for a closing handle. */
}

/* ---- Stamps ---- */

static void raise_seen(struct novakms *client, const struct novakms_stamp *stamp) {
    if (client_stamp_compare(stamp, &client->seen) > 0) {
        client->seen = *stamp;
    }
}

/* The write that was shown may be gone with its node: later reads must not wait for it. */
static void forget_seen(struct client_call *call) {
    struct novakms *client = call->client;
    if (client_stamp_compare(&client->seen, &call->seen_sent) == 0) {
        client->seen = (struct novakms_stamp){ 0 };
    }
}

static void show_seen(struct client_call *call) {
    struct novakms *client = call->client;
    call->seen_sent = client->seen;
    if (call->op->seen_offset == 0) {
        return;
    }
    Novakms__V1__Stamp **field =
        (Novakms__V1__Stamp **)(void *)((char *)call->request + call->op->seen_offset);
    *field = NULL;
    if (client->seen.hlc != 0) {
        novakms__v1__stamp__init(call->seen_message);
        call->seen_message->hlc = client->seen.hlc;
        call->seen_message->writer =
            (ProtobufCBinaryData){ NOVAKMS_WRITER_BYTES, call->seen_sent.writer };
        *field = call->seen_message;
    }
}

/* ---- Tries ---- */

static RC attempt(struct client_call *call, struct status *why);

static struct novakms_result *read_answer(struct client_call *call,
                                          const ProtobufCMessage *message) {
    struct client_result *r = client_result_make();
    struct novakms_stamp seen = { 0 };
    if (r == NULL) {
        return client_result_nomem();
    }
    struct novakms_result *result = &r->public;
    bool ok = call->op->read(r, message, &seen);
    if (result->may_miss) {
        forget_seen(call);
    }
    raise_seen(call->client, &seen);
    if (!ok) {
        novakms_free(&result);
        return client_result_nomem();
    }
    return result;
}

static struct novakms_result *read_failure(struct client_call *call,
                                           const struct net_outcome *outcome) {
    struct novakms_result *result = failed_result(&outcome->status);
    if (outcome->may_miss) {
        forget_seen(call);
    }
    struct novakms_stamp stamp = { 0 };
    if (outcome->has_stamp) {
        stamp.hlc = outcome->stamp.hlc;
        memcpy(stamp.writer, outcome->stamp.writer, sizeof(stamp.writer));
        raise_seen(call->client, &stamp);
    }
    if (result == client_result_nomem()) {
        return result;
    }
    result->retry_after_ms = outcome->retry_after_ms;
    result->may_miss = outcome->may_miss;
    result->stamp = stamp;
    result->maybe_executed = outcome->executed == NET_MAYBE_EXECUTED && !call->op->is_read;
    return result;
}

/* Whether the call may be tried again, which for a write means that it was not executed; and
 * whether only another server could do better. */
static bool may_repeat(const struct client_call *call, const struct net_outcome *outcome,
                       bool *elsewhere) {
    bool is_safe = outcome->executed == NET_NOT_EXECUTED || call->op->is_read;
    bool is_outage = outcome->status.code == STATUS_UNAVAILABLE;
    *elsewhere = outcome->is_refusal || outcome->executed == NET_ANSWERED;
    return is_safe && (is_outage || outcome->is_refusal);
}

static bool should_repeat(const struct client_call *call, const struct net_outcome *outcome) {
    const struct novakms *client = call->client;
    bool elsewhere = false;
    if (client->is_closing || !may_repeat(call, outcome, &elsewhere) ||
        clock_mono_ms() >= call->deadline_at_ms) {
        return false;
    }
    uint32_t servers = (uint32_t)client->server_count;
    uint32_t count_max = client->attempt_count_max > servers ? client->attempt_count_max : servers;
    return call->attempt_count < (elsewhere ? servers : count_max);
}

static void on_answer(const ProtobufCMessage *message, void *data) {
    struct client_call *call = data;
    struct novakms *client = call->client;
    const struct net_outcome *outcome = net_channel_outcome(client->channels[call->server_idx]);
    call->channel_call_id = 0;
    if (message != NULL) {
        client->preferred_idx = call->server_idx;
        tell(call, read_answer(call, message));
        return;
    }
    if (should_repeat(call, outcome)) {
        struct net_outcome first = *outcome;
        call->server_idx = (call->server_idx + 1) % client->server_count;
        if (attempt(call, &first.status).err != E_OK) {
            tell(call, read_failure(call, &first));
        }
        return;
    }
    tell(call, read_failure(call, outcome));
}

static RC attempt(struct client_call *call, struct status *why) {
    struct novakms *client = call->client;
    TRY(client_refresh(client, why));
    struct net_channel *channel = client->channels[call->server_idx];
    ProtobufCService *service = net_channel_service(channel, call->op->service);
    if (service == NULL) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return ERR(NOMEM);
    }
    const ProtobufCMethodDescriptor *method =
        protobuf_c_service_descriptor_get_method_by_name(call->op->service, call->op->method);
    uint64_t now_ms = clock_mono_ms();
    uint64_t left_ms = call->deadline_at_ms > now_ms ? call->deadline_at_ms - now_ms : 1;
    call->attempt_count++;
    show_seen(call);
    net_channel_set_timeout(channel, (uint32_t)left_ms);
    uint64_t told_count = client->told_count;
    service->invoke(service, (unsigned)(method - call->op->service->methods), call->request,
                    on_answer, call);
    if (client->told_count == told_count) { /* Otherwise memory was out, and the call is gone. */
        call->channel_call_id = net_channel_last_call(channel);
    }
    net_channel_set_timeout(channel, client->timeout_ms); /* For the stubs' own callers. */
    return OK;
}

/* ---- Starting, cancelling, waiting ---- */

/* Checks the arguments and makes the first try. */
static RC begin(struct client_call *call, const void *args, struct status *why) {
    struct novakms *client = call->client;
    if (call->op->needs_identity && !client->identity.exists) {
        status_set(why, STATUS_UNAUTHENTICATED, "%s needs an identity, and the client has none",
                   call->op->method);
        return ERR(DENIED);
    }
    const char *problem = NULL;
    call->request = call->op->build(&call->arena, args, &problem);
    call->seen_message = arena_take(&call->arena, sizeof(*call->seen_message));
    if (problem != NULL) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s", problem);
        return ERR(INVALID);
    }
    if (call->request == NULL || call->seen_message == NULL) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "the request does not fit into memory; at most %zu bytes are allowed",
                   CLIENT_REQUEST_BYTES_MAX);
        return ERR(NOMEM);
    }
    return attempt(call, why);
}

static uint32_t timeout_of(const struct novakms *client, const struct client_op *op,
                           const void *args) {
    uint32_t timeout_ms = 0;
    memcpy(&timeout_ms, (const char *)args + op->timeout_offset, sizeof(timeout_ms));
    timeout_ms = timeout_ms == 0 ? client->timeout_ms : timeout_ms;
    return timeout_ms > NOVAKMS_TIMEOUT_MAX_MS ? NOVAKMS_TIMEOUT_MAX_MS : timeout_ms;
}

uint64_t client_start(struct novakms *client, const struct client_op *op, const void *args,
                      void *data, novakms_result_cb result_cb) {
    static const struct novakms_plain_args plain = { 0 };
    struct client_call *call = calloc(1, sizeof(*call));
    if (call == NULL || client->is_closing) {
        free(call);
        return 0;
    }
    args = args == NULL ? &plain : args;
    uv_update_time(client->loop);
    arena_init(&call->arena, CLIENT_REQUEST_BYTES_MAX);
    uint64_t id = ++client->last_id;
    call->id = id;
    call->client = client;
    call->op = op;
    call->data = data;
    call->result_cb = result_cb;
    call->server_idx = client->preferred_idx;
    call->deadline_at_ms = clock_mono_ms() + timeout_of(client, op, args);
    DL_APPEND(client->calls, call);
    struct status why = { 0 };
    if (begin(call, args, &why).err != E_OK) {
        tell_later(call, &why);
    }
    return id;
}

void novakms_cancel(struct novakms *client, uint64_t id) {
    struct client_call *call = NULL;
    DL_SEARCH_SCALAR(client->calls, call, id, id);
    if (call != NULL && call->channel_call_id != 0) {
        net_channel_cancel(client->channels[call->server_idx], call->channel_call_id);
    }
}

static void keep_result(void *data, struct novakms_result *result) {
    *(struct novakms_result **)data = result;
}

enum novakms_code client_wait(struct novakms *client, const struct client_op *op, const void *args,
                              struct novakms_result **out) {
    *out = NULL;
    if (!client->owns_loop || client->is_running) {
        struct status why;
        status_set(&why, STATUS_FAILED_PRECONDITION,
                   "waiting calls work on a client's own loop and outside its callbacks; use %s",
                   "the calls that start");
        *out = failed_result(&why);
        return (*out)->code;
    }
    client->is_running = true;
    (void)uv_run(client->loop, UV_RUN_NOWAIT); /* What the servers said since the last call. */
    if (client_start(client, op, args, out, keep_result) == 0) {
        *out = client_result_nomem();
    }
    while (*out == NULL) {
        (void)uv_run(client->loop, UV_RUN_ONCE);
    }
    client->is_running = false;
    return (*out)->code;
}
