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
    ASSERT(call->result == NULL);
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

static struct client_result *take_result(struct client_call *call) {
    struct client_result *r = call->result;
    ASSERT(r != NULL); /* Told twice. */
    call->result = NULL;
    return r;
}

static void set_failure(struct novakms_result *result, const struct status *why) {
    result->code = (enum novakms_code)why->code;
    (void)snprintf(result->text, sizeof(result->text), "%s", why->text);
}

/* Gives a call's result with a failure's code and sentence. */
static struct novakms_result *failed_result(struct client_call *call, const struct status *why) {
    struct novakms_result *result = &take_result(call)->public;
    set_failure(result, why);
    return result;
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
    call->ready = failed_result(call, why);
    int error = uv_timer_start(&call->client->ready_timer, on_ready, 0, 0);
    ASSERT(error == 0); /* Fails only for a closing handle. */
}

/* ---- Stamps ---- */

static void raise_to(struct novakms_stamp *to, const struct novakms_stamp *stamp) {
    if (client_stamp_compare(stamp, to) > 0) {
        *to = *stamp;
    }
}

/* The greatest stamp of the answer to a call. */
static void note_stamp(const struct client_call *call, const struct novakms_stamp *stamp) {
    raise_to(&call->client->seen, stamp);
    if (!call->op->is_read) {
        raise_to(&call->client->wrote, stamp);
    }
}

static void forget(struct novakms_stamp *stamp, const struct client_shown *shown) {
    if (client_stamp_compare(stamp, &shown->stamp) == 0) {
        *stamp = (struct novakms_stamp){ 0 };
    }
}

/* What was shown may be gone with its node: later calls must not wait for it. */
static void forget_shown(const struct client_call *call) {
    forget(&call->client->seen, &call->seen);
    forget(&call->client->wrote, &call->wrote);
}

static void show(struct client_call *call, size_t offset, struct client_shown *shown,
                 const struct novakms_stamp *stamp) {
    Novakms__V1__Stamp **field = (Novakms__V1__Stamp **)(void *)((char *)call->request + offset);
    shown->stamp = *stamp;
    novakms__v1__stamp__init(&shown->message);
    shown->message.hlc = stamp->hlc;
    shown->message.writer = (ProtobufCBinaryData){ NOVAKMS_WRITER_BYTES, shown->stamp.writer };
    *field = stamp->hlc == 0 ? NULL : &shown->message;
}

static void show_stamps(struct client_call *call) {
    if (call->op->seen_offset != 0) {
        show(call, call->op->seen_offset, &call->seen, &call->client->seen);
        show(call, call->op->wrote_offset, &call->wrote, &call->client->wrote);
    }
}

/* ---- Tries ---- */

static RC attempt(struct client_call *call, struct status *why);
static void wait_for_list(struct client_call *call);

/* Memory is out for the answer: of a write, what it has done is told all the same. */
static void cut_answer(const struct client_call *call, struct novakms_result *result,
                       const struct novakms_stamp *highest) {
    struct status why;
    status_set(&why, STATUS_RESOURCE_EXHAUSTED, "out of memory for the answer");
    struct novakms_result cut = { .may_miss = result->may_miss };
    if (!call->op->is_read) {
        cut.maybe_executed = true;
        cut.stamp = *highest;
    }
    *result = cut; /* Its arena has what it pointed to, and goes with it. */
    set_failure(result, &why);
}

static struct novakms_result *read_answer(struct client_call *call,
                                          const ProtobufCMessage *message) {
    struct client_result *r = take_result(call);
    struct novakms_result *result = &r->public;
    struct novakms_stamp highest = { 0 };
    bool ok = call->op->read(r, message, &highest);
    if (result->may_miss) {
        forget_shown(call);
    }
    note_stamp(call, &highest);
    if (!ok) {
        cut_answer(call, result, &highest);
    }
    return result;
}

/* Some of a node's own answers say so too: UNKNOWN and whichever has a stamp that the write was
 * made, DEADLINE_EXCEEDED that it was made or its call ran out of time first. */
static bool is_maybe_executed(const struct net_outcome *outcome) {
    enum status_code code = outcome->status.code;
    return outcome->executed == NET_MAYBE_EXECUTED ||
           (outcome->executed == NET_ANSWERED &&
            (code == STATUS_UNKNOWN || code == STATUS_DEADLINE_EXCEEDED || outcome->has_stamp));
}

static struct novakms_result *read_failure(struct client_call *call,
                                           const struct net_outcome *outcome) {
    struct novakms_result *result = failed_result(call, &outcome->status);
    if (outcome->may_miss) {
        forget_shown(call);
    }
    struct novakms_stamp stamp = { 0 };
    if (outcome->has_stamp) {
        stamp.hlc = outcome->stamp.hlc;
        memcpy(stamp.writer, outcome->stamp.writer, sizeof(stamp.writer));
        note_stamp(call, &stamp);
    }
    result->retry_after_ms = outcome->retry_after_ms;
    result->may_miss = outcome->may_miss;
    result->stamp = stamp;
    result->maybe_executed = !call->op->is_read && is_maybe_executed(outcome);
    return result;
}

static bool has_time(const struct client_call *call) {
    return !call->client->is_closing && clock_mono_ms() < call->deadline_at_ms;
}

static struct client_try failed_try(const struct client_call *call,
                                    const struct net_outcome *outcome) {
    return (struct client_try){
        .code = outcome->status.code,
        .executed = outcome->executed,
        .is_refusal = outcome->is_refusal,
        .is_read = call->op->is_read,
        .is_cut = call->has_share && outcome->status.code == STATUS_DEADLINE_EXCEEDED,
    };
}

/* Chooses the server for the next try, when there may be one. False when there is none. */
static bool choose_next(struct client_call *call, enum client_next next) {
    const struct novakms *client = call->client;
    if (next == CLIENT_NEXT_NONE) {
        return false;
    }
    size_t idx = client_servers_pick(client, call->server_idx + 1, call->tried_mask);
    if (idx == NOVAKMS_SERVER_COUNT_MAX && next == CLIENT_NEXT_ANY &&
        call->attempt_count < client->attempt_count_max) {
        idx = client_servers_pick(client, call->server_idx + 1, 0);
    }
    call->server_idx = idx < NOVAKMS_SERVER_COUNT_MAX ? idx : call->server_idx;
    return idx < NOVAKMS_SERVER_COUNT_MAX;
}

/* A server that was refused may have registered anew since the list was read: once for a call. */
static bool should_read_list(struct client_call *call, enum client_next next) {
    bool should = next != CLIENT_NEXT_NONE && call->said.code == STATUS_UNAUTHENTICATED &&
                  call->client->members.is_outdated && !call->has_waited;
    call->has_waited = call->has_waited || should;
    return should;
}

/* The failure that is told: why a server refused or did not serve says more than that another one
 * was not reached. */
static struct novakms_result *last_failure(struct client_call *call,
                                           const struct net_outcome *outcome) {
    struct net_outcome told = *outcome;
    bool is_unreached = outcome->executed == NET_NOT_EXECUTED && !outcome->is_refusal &&
                        outcome->status.code == STATUS_UNAVAILABLE;
    if (is_unreached && call->said.code != STATUS_OK) {
        told.status = call->said;
    }
    return read_failure(call, &told);
}

static void on_failure(struct client_call *call, const struct net_outcome *outcome) {
    struct net_outcome failure = *outcome; /* Lent by a channel that the next try may change. */
    const struct client_try failed = failed_try(call, outcome);
    enum client_next next = has_time(call) ? client_policy_next(&failed) : CLIENT_NEXT_NONE;
    if (outcome->executed == NET_ANSWERED || outcome->is_refusal) {
        call->said = outcome->status;
    }
    if (choose_next(call, next)) {
        if (attempt(call, &failure.status).err != E_OK) {
            tell(call, read_failure(call, &failure));
        }
    } else if (should_read_list(call, next)) {
        wait_for_list(call);
    } else {
        tell(call, last_failure(call, &failure));
    }
}

static void on_answer(const ProtobufCMessage *message, void *data) {
    struct client_call *call = data;
    struct novakms *client = call->client;
    const struct net_outcome *outcome =
        net_channel_outcome(client->servers[call->server_idx].channel);
    call->channel_call_id = 0;
    if (outcome->executed == NET_ANSWERED && outcome->status.code != STATUS_UNAVAILABLE) {
        client->preferred_idx = call->server_idx;
    }
    if (message != NULL) {
        tell(call, read_answer(call, message));
    } else {
        on_failure(call, outcome);
    }
}

static RC attempt(struct client_call *call, struct status *why) {
    struct novakms *client = call->client;
    TRY(client_refresh(client, why));
    struct net_channel *channel = client->servers[call->server_idx].channel;
    ProtobufCService *service = net_channel_service(channel, call->op->service);
    if (service == NULL) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return ERR(NOMEM);
    }
    const ProtobufCMethodDescriptor *method =
        protobuf_c_service_descriptor_get_method_by_name(call->op->service, call->op->method);
    uint64_t now_ms = clock_mono_ms();
    uint64_t left_ms = call->deadline_at_ms > now_ms ? call->deadline_at_ms - now_ms : 1;
    uint32_t try_ms = client_policy_try_ms(left_ms, client_servers_count(client, call->tried_mask),
                                           call->op->is_read);
    call->has_share = try_ms < left_ms;
    call->tried_mask |= 1u << call->server_idx;
    call->attempt_count++;
    show_stamps(call);
    net_channel_set_timeout(channel, try_ms);
    uint64_t told_count = client->told_count;
    service->invoke(service, (unsigned)(method - call->op->service->methods), call->request,
                    on_answer, call);
    if (client->told_count == told_count) { /* Otherwise memory was out, and the call is gone. */
        call->channel_call_id = net_channel_last_call(channel);
    }
    net_channel_set_timeout(channel, client->timeout_ms); /* For the stubs' own callers. */
    return OK;
}

/* ---- The member list before a try ---- */

/* A call's first try, or its first with a new list. */
static RC try_first(struct client_call *call, struct status *why) {
    size_t idx = client_servers_pick(call->client, call->client->preferred_idx, 0);
    if (idx == NOVAKMS_SERVER_COUNT_MAX) {
        return client_servers_explain(call->client, why);
    }
    call->tried_mask = 0;
    call->server_idx = idx;
    return attempt(call, why);
}

static void on_wait_over(uv_timer_t *timer);

/* Has the timer end the first of the waiting calls whose time is over. */
static void arm_wait(struct novakms *client) {
    uint64_t at_ms = UINT64_MAX;
    for (const struct client_call *call = client->calls; call != NULL; call = call->next) {
        if (call->is_waiting && call->deadline_at_ms < at_ms) {
            at_ms = call->deadline_at_ms;
        }
    }
    (void)uv_timer_stop(&client->wait_timer);
    if (at_ms == UINT64_MAX) {
        return;
    }
    uint64_t now_ms = clock_mono_ms();
    int error =
        uv_timer_start(&client->wait_timer, on_wait_over, at_ms > now_ms ? at_ms - now_ms : 0, 0);
    ASSERT(error == 0); /* Fails only for a closing handle. */
}

static void end_waiting(struct client_call *call, const struct status *why) {
    call->is_waiting = false;
    tell_later(call, why);
}

static void on_wait_over(uv_timer_t *timer) {
    struct novakms *client = timer->data;
    uint64_t now_ms = clock_mono_ms();
    for (struct client_call *call = client->calls; call != NULL; call = call->next) {
        if (call->is_waiting && now_ms >= call->deadline_at_ms) {
            struct status why;
            status_set(&why, STATUS_DEADLINE_EXCEEDED,
                       "the registry was not read in the call's time, so that no server could be "
                       "checked");
            end_waiting(call, &why);
        }
    }
    arm_wait(client);
}

static void wait_for_list(struct client_call *call) {
    call->is_waiting = true;
    arm_wait(call->client);
    client_members_read(&call->client->members); /* Of a file: goes on inside this. */
}

static void resume(struct client_call *call) {
    struct novakms *client = call->client;
    struct status why = { 0 };
    call->is_waiting = false;
    struct rc rc = client_members_are_usable(&client->members)
                       ? try_first(call, &why)
                       : client_members_explain(&client->members, &why);
    if (rc.err != E_OK) {
        tell_later(call, &why);
    }
}

static struct client_call *find_waiting(struct novakms *client, uint64_t last_id) {
    struct client_call *call = client->calls;
    while (call != NULL && (!call->is_waiting || call->id > last_id)) {
        call = call->next;
    }
    return call;
}

void client_resume(struct novakms *client) {
    uint64_t last_id = client->last_id;
    struct client_call *call = NULL;
    while ((call = find_waiting(client, last_id)) != NULL) {
        resume(call);
    }
    arm_wait(client);
}

static void cancel_waiting(struct client_call *call) {
    struct status why;
    status_set(&why, STATUS_CANCELLED, "the call was cancelled");
    end_waiting(call, &why);
}

void client_cancel_waiting(struct novakms *client) {
    for (struct client_call *call = client->calls; call != NULL; call = call->next) {
        if (call->is_waiting) {
            cancel_waiting(call);
        }
    }
}

/* The first try, at once or when the list was read. */
static RC try_when_listed(struct client_call *call, struct status *why) {
    struct novakms *client = call->client;
    if (!client->finds_servers && !client->members.is_chain) {
        return try_first(call, why);
    }
    switch (client_members_plan(&client->members)) {
    case CLIENT_LIST_USE_AND_READ:
        client_members_read(&client->members);
        return try_first(call, why);
    case CLIENT_LIST_USE:
        return try_first(call, why);
    case CLIENT_LIST_WAIT:
        wait_for_list(call);
        return OK;
    case CLIENT_LIST_FAIL:
        break;
    }
    return client_members_explain(&client->members, why);
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
    if (problem != NULL) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s", problem);
        return ERR(INVALID);
    }
    if (call->request == NULL) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "the request does not fit into memory; at most %zu bytes are allowed",
                   CLIENT_REQUEST_BYTES_MAX);
        return ERR(NOMEM);
    }
    return try_when_listed(call, why);
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
    if (client->is_closing) {
        return 0;
    }
    struct client_call *call = calloc(1, sizeof(*call));
    struct client_result *result = client_result_make();
    if (call == NULL || result == NULL) {
        free(call);
        free(result);
        return 0;
    }
    call->result = result;
    args = args == NULL ? &plain : args;
    uv_update_time(client->loop);
    arena_init(&call->arena, CLIENT_REQUEST_BYTES_MAX);
    uint64_t id = ++client->last_id;
    call->id = id;
    call->client = client;
    call->op = op;
    call->data = data;
    call->result_cb = result_cb;
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
    if (call != NULL && call->is_waiting) {
        cancel_waiting(call);
    } else if (call != NULL && call->channel_call_id != 0) {
        net_channel_cancel(client->servers[call->server_idx].channel, call->channel_call_id);
    }
}

static void keep_result(void *data, struct novakms_result *result) {
    *(struct novakms_result **)data = result;
}

enum novakms_code client_wait(struct novakms *client, const struct client_op *op, const void *args,
                              struct novakms_result **out) {
    *out = NULL;
    if (!client->owns_loop || client->is_running) {
        struct client_result *r = client_result_make();
        *out = client_result_nomem();
        if (r != NULL) {
            struct status why;
            status_set(&why, STATUS_FAILED_PRECONDITION,
                       "waiting calls work on a client's own loop and outside its callbacks; use "
                       "the calls that start");
            set_failure(&r->public, &why);
            *out = &r->public;
        }
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
