/* SPDX-License-Identifier: Apache-2.0 */
#include "net/channel.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/clock.h"
#include "base/secret.h"
#include "crypto/random.h"
#include "net/channel_impl.h"

static const struct net_channel_cfg defaults = {
    .timeout_ms = NET_CHANNEL_TIMEOUT_DEFAULT_MS,
    .connect_timeout_ms = 5000,
    .handshake_timeout_ms = 5000,
    .backoff_min_ms = 50,
    .backoff_max_ms = 2000,
    .queue_count_max = 1024,
    .queue_bytes_max = (size_t)32 * 1024 * 1024,
    .frame_bytes_max = FRAME_BYTES_MAX_DEFAULT,
    .message_bytes_max = (size_t)16 * 1024 * 1024,
};

#define SET_DEFAULT(cfg, field) ((cfg)->field = (cfg)->field == 0 ? defaults.field : (cfg)->field)

/* ---- Time ---- */

static void on_timer(uv_timer_t *timer);

void channel_arm(struct net_channel *c, uint64_t at_ms) {
    if (c->is_closing || (c->armed_at_ms != 0 && c->armed_at_ms <= at_ms)) {
        return;
    }
    uint64_t now_ms = uv_now(c->timer.loop);
    int error = uv_timer_start(&c->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
    ASSERT(error == 0); /* Fails only for a closing handle or no callback. */
    c->armed_at_ms = at_ms == 0 ? 1 : at_ms;
}

/* Half of the doubled minimum, and up to as much again by chance, so that clients that lost the
 * same server do not come back together. */
void channel_back_off(struct net_channel *c) {
    uint64_t span_ms = c->cfg.backoff_min_ms;
    for (uint32_t i = 0; i < c->failure_count && span_ms < c->cfg.backoff_max_ms; i++) {
        span_ms *= 2;
    }
    if (span_ms > c->cfg.backoff_max_ms) {
        span_ms = c->cfg.backoff_max_ms;
    }
    uint16_t chance = UINT16_MAX; /* Without randomness the longest wait. */
    if (random_bytes((uint8_t *)&chance, sizeof(chance)).err != E_OK) {
        chance = UINT16_MAX;
    }
    c->failure_count++;
    c->connect_at_ms = clock_mono_ms() + span_ms / 2 + span_ms * chance / 2 / UINT16_MAX;
}

/* ---- Calls ---- */

static void call_free(struct channel_call *call) {
    if (call->packed != NULL) {
        secret_wipe(call->packed, call->packed_len);
        free(call->packed);
    }
    free(call);
}

void channel_end_call(struct net_channel *c, struct channel_call *call,
                      const struct net_outcome *outcome) {
    call->outcome = *outcome;
    DL_APPEND(c->ending, call);
    c->ending_count++;
    channel_arm(c, clock_mono_ms()); /* For callers that do not deliver themselves. */
}

/* Runs the closure of a call that is in no list any more, and frees it. */
static void run_closure(struct net_channel *c, struct channel_call *call,
                        const struct net_outcome *outcome, const ProtobufCMessage *message) {
    const struct net_outcome *outer = c->outcome;
    c->outcome = outcome;
    c->call_count--;
    call->closure(message, call->closure_data);
    c->outcome = outer;
    call_free(call);
}

void channel_deliver(struct net_channel *c) {
    for (size_t left = c->ending_count; left > 0 && c->ending != NULL; left--) {
        struct channel_call *call = c->ending;
        DL_DELETE(c->ending, call);
        c->ending_count--;
        run_closure(c, call, &call->outcome, NULL);
    }
}

static void *take(void *arena, size_t size) {
    return arena_take(arena, size);
}

static void give_back(void *arena, void *ptr) {
    (void)arena; /* Everything is given back at once. */
    (void)ptr;
}

void channel_answer(struct net_channel *c, struct channel_call *call, struct span payload) {
    ProtobufCAllocator allocator = { .alloc = take,
                                     .free = give_back,
                                     .allocator_data = &c->arena };
    const ProtobufCMessageDescriptor *output =
        call->service->base.descriptor->methods[call->method_idx].output;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(output, &allocator, payload.len, payload.ptr);
    struct net_outcome outcome = { .executed = NET_ANSWERED };
    if (message == NULL) {
        outcome.executed = NET_MAYBE_EXECUTED;
        status_set(&outcome.status, STATUS_INTERNAL, "the answer of %s is not a %s", c->target_text,
                   output->name);
    }
    run_closure(c, call, &outcome, message);
    arena_reset(&c->arena);
}

void net_channel_keep_answer(struct net_channel *c, struct arena *out) {
    ASSERT(c->outcome != NULL);
    ASSERT(c->outcome->executed == NET_ANSWERED);
    *out = c->arena;
    arena_init(&c->arena, c->cfg.message_bytes_max);
}

static void unqueue(struct net_channel *c, struct channel_call *call) {
    DL_DELETE(c->queue, call);
    c->queue_count--;
    c->queue_bytes -= call->packed_len;
}

/* Where a call is known by: its slot on a link, or the queue. */
static struct channel_link *link_of(struct net_channel *c, const struct channel_call *call) {
    struct channel_link *link = NULL;
    DL_FOREACH(c->links, link) {
        if (call->wire_id != 0 && link->slots[call->wire_id % NET_CHANNEL_IN_FLIGHT_MAX] == call) {
            return link;
        }
    }
    return NULL;
}

/* Ends a waiting or sent call from this side. */
static void give_up(struct net_channel *c, struct channel_call *call, struct net_outcome *outcome) {
    struct channel_link *link = link_of(c, call);
    if (link == NULL) {
        unqueue(c, call);
        outcome->executed = NET_NOT_EXECUTED;
    } else {
        channel_link_forget(link, call, true);
        outcome->executed = NET_MAYBE_EXECUTED;
    }
    channel_end_call(c, call, outcome);
}

static void expire(struct net_channel *c, struct channel_call *call) {
    struct net_outcome outcome = { 0 };
    bool waits = call->wire_id == 0;
    if (waits && c->last_failure.code != STATUS_OK) {
        status_set(&outcome.status, STATUS_DEADLINE_EXCEEDED,
                   "%s; no better connection within %u ms", c->last_failure.text, call->timeout_ms);
    } else {
        status_set(&outcome.status, STATUS_DEADLINE_EXCEEDED, "%s %s within %u ms",
                   waits ? "no connection to" : "no answer from", c->target_text, call->timeout_ms);
    }
    give_up(c, call, &outcome);
}

/* Ends what is late; arms the timer for what will be. */
static void check_deadline(struct net_channel *c, struct channel_call *call, uint64_t now_ms) {
    if (call->deadline_at_ms <= now_ms) {
        expire(c, call);
    } else {
        channel_arm(c, call->deadline_at_ms);
    }
}

static void check_deadlines(struct net_channel *c, uint64_t now_ms) {
    struct channel_call *call = NULL;
    struct channel_call *next_call = NULL;
    DL_FOREACH_SAFE(c->queue, call, next_call) {
        check_deadline(c, call, now_ms);
    }
    struct channel_link *link = NULL;
    DL_FOREACH(c->links, link) {
        for (size_t i = 0; i < NET_CHANNEL_IN_FLIGHT_MAX; i++) {
            if (link->slots[i] != NULL) {
                check_deadline(c, link->slots[i], now_ms);
            }
        }
    }
}

static void on_timer(uv_timer_t *timer) {
    struct net_channel *c = timer->data;
    c->armed_at_ms = 0;
    uint64_t now_ms = uv_now(timer->loop);
    check_deadlines(c, now_ms);
    if (c->current != NULL) {
        uint64_t next_at_ms = channel_link_keepalive(c->current, now_ms);
        if (next_at_ms != 0) {
            channel_arm(c, next_at_ms);
        }
    }
    channel_want_link(c);
    channel_flush(c);
    channel_deliver(c);
}

/* ---- Connections ---- */

static void connect_failed_with(struct net_channel *c, const struct status *why) {
    struct net_outcome outcome = { .status = *why, .executed = NET_NOT_EXECUTED };
    channel_connect_failed(c, &outcome);
    channel_deliver(c);
}

static void on_dial(void *ctx, int fd, const struct status *why) {
    struct net_channel *c = ctx;
    c->dial = NULL;
    if (fd < 0) {
        connect_failed_with(c, why);
        return;
    }
    if (channel_link_init(c, fd).err != E_OK) {
        struct status failed;
        status_set(&failed, STATUS_UNAVAILABLE, "cannot connect to %s: out of memory",
                   c->target_text);
        connect_failed_with(c, &failed);
    }
}

void channel_want_link(struct net_channel *c) {
    if (c->is_closing || c->queue == NULL || c->current != NULL || c->dial != NULL) {
        return;
    }
    if (clock_mono_ms() < c->connect_at_ms) {
        channel_arm(c, c->connect_at_ms);
        return;
    }
    const struct net_dial_cfg cfg = { .loop = c->timer.loop,
                                      .target = &c->target,
                                      .proxy = c->cfg.proxy,
                                      .timeout_ms = c->cfg.connect_timeout_ms };
    struct rc rc = net_dial_start(&c->dial, &cfg, c, on_dial);
    if (rc.err != E_OK) {
        struct net_outcome outcome = { .executed = NET_NOT_EXECUTED };
        status_set(&outcome.status, STATUS_UNAVAILABLE, "cannot connect to %s: %s", c->target_text,
                   err_text(rc.err));
        channel_connect_failed(c, &outcome);
    }
}

void channel_connect_failed(struct net_channel *c, const struct net_outcome *outcome) {
    channel_back_off(c);
    c->last_failure = outcome->status;
    struct channel_call *call = NULL;
    struct channel_call *next_call = NULL;
    DL_FOREACH_SAFE(c->queue, call, next_call) {
        unqueue(c, call);
        channel_end_call(c, call, outcome);
    }
}

void channel_flush(struct net_channel *c) {
    while (c->queue != NULL && c->current != NULL &&
           channel_link_has_room(c->current, c->queue->packed_len)) {
        struct channel_call *call = c->queue;
        if (!channel_link_send(c->current, call, NULL)) {
            return; /* The connection is closing; its end starts the next one. */
        }
        unqueue(c, call);
        secret_wipe(call->packed, call->packed_len);
        free(call->packed);
        call->packed = NULL;
    }
}

/* ---- Starting calls ---- */

/* Puts a call into the queue with a copy of its request. */
static RC enqueue(struct net_channel *c, struct channel_call *call, const ProtobufCMessage *input) {
    ENSURE(c->queue_count < c->cfg.queue_count_max, QUOTA);
    ENSURE(call->packed_len <= c->cfg.queue_bytes_max - c->queue_bytes, QUOTA);
    call->packed = malloc(call->packed_len == 0 ? 1 : call->packed_len);
    ENSURE(call->packed != NULL, NOMEM);
    (void)protobuf_c_message_pack(input, call->packed);
    DL_APPEND(c->queue, call);
    c->queue_count++;
    c->queue_bytes += call->packed_len;
    return OK;
}

static void start(struct net_channel *c, struct channel_call *call, const ProtobufCMessage *input) {
    struct net_outcome outcome = { .executed = NET_NOT_EXECUTED };
    size_t bytes_max = c->cfg.frame_bytes_max - FRAME_OVERHEAD_MAX;
    if (call->packed_len > bytes_max) {
        status_set(&outcome.status, STATUS_RESOURCE_EXHAUSTED,
                   "the request has %zu bytes; at most %zu are allowed", call->packed_len,
                   bytes_max);
        channel_end_call(c, call, &outcome);
        return;
    }
    if (c->current != NULL) {
        channel_link_judge(c->current, uv_now(c->timer.loop));
    }
    if (c->queue == NULL && c->current != NULL &&
        channel_link_has_room(c->current, call->packed_len) &&
        channel_link_send(c->current, call, input)) {
        channel_arm(c, call->deadline_at_ms);
        return;
    }
    if (enqueue(c, call, input).err != E_OK) {
        status_set(&outcome.status, STATUS_RESOURCE_EXHAUSTED,
                   "%zu calls to %s wait already; at most %u may, with %zu bytes together",
                   c->queue_count, c->target_text, c->cfg.queue_count_max, c->cfg.queue_bytes_max);
        channel_end_call(c, call, &outcome);
        return;
    }
    channel_arm(c, call->deadline_at_ms);
    channel_want_link(c);
}

static void fail_now(struct net_channel *c, ProtobufCClosure closure, void *closure_data) {
    struct net_outcome outcome = { .executed = NET_NOT_EXECUTED };
    status_set(&outcome.status, STATUS_RESOURCE_EXHAUSTED, "out of memory");
    const struct net_outcome *outer = c->outcome;
    c->started_id = 0;
    c->outcome = &outcome;
    closure(NULL, closure_data);
    c->outcome = outer;
}

static void invoke(ProtobufCService *base, unsigned method_idx, const ProtobufCMessage *input,
                   ProtobufCClosure closure, void *closure_data) {
    const struct channel_service *service = (const struct channel_service *)base;
    struct net_channel *c = service->channel;
    ASSERT(method_idx < base->descriptor->n_methods);
    if (c->is_closing) {
        return;
    }
    struct channel_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        fail_now(c, closure, closure_data);
        return;
    }
    call->id = ++c->last_id;
    call->service = service;
    call->method_idx = method_idx;
    call->closure = closure;
    call->closure_data = closure_data;
    call->timeout_ms = c->timeout_ms;
    call->deadline_at_ms = clock_mono_ms() + c->timeout_ms;
    call->packed_len = protobuf_c_message_get_packed_size(input);
    c->started_id = call->id;
    c->call_count++;
    start(c, call, input);
}

static void service_destroy(ProtobufCService *base) {
    (void)base; /* The channel's own. */
}

static RC service_init(struct net_channel *c, struct channel_service *service,
                       const ProtobufCServiceDescriptor *descriptor) {
    struct channel_method *methods = calloc(descriptor->n_methods, sizeof(*methods));
    ENSURE(methods != NULL, NOMEM);
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        struct rc rc = method_name(descriptor, i, methods[i].name, &methods[i].span);
        if (rc.err != E_OK) {
            free(methods);
            return rc;
        }
    }
    service->base = (ProtobufCService){ .descriptor = descriptor,
                                        .invoke = invoke,
                                        .destroy = service_destroy };
    service->channel = c;
    service->methods = methods;
    return OK;
}

ProtobufCService *net_channel_service(struct net_channel *c,
                                      const ProtobufCServiceDescriptor *descriptor) {
    for (size_t i = 0; i < c->service_count; i++) {
        if (c->services[i].base.descriptor == descriptor) {
            return &c->services[i].base;
        }
    }
    if (c->service_count == NET_CHANNEL_SERVICE_COUNT_MAX ||
        service_init(c, &c->services[c->service_count], descriptor).err != E_OK) {
        return NULL;
    }
    return &c->services[c->service_count++].base;
}

void net_channel_set_timeout(struct net_channel *c, uint32_t timeout_ms) {
    c->timeout_ms = timeout_ms == 0 ? NET_CHANNEL_TIMEOUT_DEFAULT_MS : timeout_ms;
    if (c->timeout_ms > NET_CHANNEL_TIMEOUT_MAX_MS) {
        c->timeout_ms = NET_CHANNEL_TIMEOUT_MAX_MS;
    }
}

uint64_t net_channel_last_call(const struct net_channel *c) {
    return c->started_id;
}

size_t net_channel_call_count(const struct net_channel *c) {
    return c->call_count;
}

bool net_channel_is_connected(const struct net_channel *c) {
    return c->current != NULL && c->current->is_open && !net_conn_is_closing(c->current->conn);
}

const struct net_outcome *net_channel_outcome(const struct net_channel *c) {
    return c->outcome;
}

static struct channel_call *find(struct net_channel *c, uint64_t call_id) {
    struct channel_call *call = NULL;
    DL_SEARCH_SCALAR(c->queue, call, id, call_id);
    if (call != NULL) {
        return call;
    }
    struct channel_link *link = NULL;
    DL_FOREACH(c->links, link) {
        for (size_t i = 0; i < NET_CHANNEL_IN_FLIGHT_MAX; i++) {
            if (link->slots[i] != NULL && link->slots[i]->id == call_id) {
                return link->slots[i];
            }
        }
    }
    return NULL;
}

void net_channel_cancel(struct net_channel *c, uint64_t call_id) {
    struct channel_call *call = find(c, call_id);
    if (call == NULL) {
        return;
    }
    struct net_outcome outcome = { 0 };
    status_set(&outcome.status, STATUS_CANCELLED, "the call was cancelled");
    give_up(c, call, &outcome);
    channel_flush(c);
}

void net_channel_set_tls(struct net_channel *c, struct tls_config *tls) {
    struct tls_config *old = c->tls;
    c->tls = tls_config_ref(tls);
    tls_config_close(&old);
    if (c->current == NULL) {
        return;
    }
    if (c->current->is_open) {
        channel_link_drain(c->current);
        channel_want_link(c);
    }
}

/* ---- Life ---- */

RC net_channel_init(struct net_channel **out, const struct net_channel_cfg *cfg,
                    struct status *why) {
    *out = NULL;
    struct net_target target;
    if (net_target_parse(span_str(cfg->target), &target).err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "a server must be HOST:PORT or [IPv6]:PORT");
        return ERR(INVALID);
    }
    struct net_channel *c = calloc(1, sizeof(*c));
    if (c == NULL || uv_timer_init(net_io_loop(cfg->io), &c->timer) != 0) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        free(c);
        return ERR(NOMEM);
    }
    c->timer.data = c;
    c->cfg = *cfg;
    c->cfg.target = NULL;
    c->target = target;
    (void)net_target_format(&c->target, c->target_text);
    SET_DEFAULT(&c->cfg, timeout_ms);
    SET_DEFAULT(&c->cfg, connect_timeout_ms);
    SET_DEFAULT(&c->cfg, handshake_timeout_ms);
    SET_DEFAULT(&c->cfg, backoff_min_ms);
    SET_DEFAULT(&c->cfg, backoff_max_ms);
    SET_DEFAULT(&c->cfg, queue_count_max);
    SET_DEFAULT(&c->cfg, queue_bytes_max);
    SET_DEFAULT(&c->cfg, frame_bytes_max);
    SET_DEFAULT(&c->cfg, message_bytes_max);
    c->tls = tls_config_ref(cfg->tls);
    arena_init(&c->arena, c->cfg.message_bytes_max);
    net_channel_set_timeout(c, c->cfg.timeout_ms);
    *out = c;
    return OK;
}

static void on_timer_closed(uv_handle_t *handle) {
    struct net_channel *c = handle->data;
    for (size_t i = 0; i < c->service_count; i++) {
        free(c->services[i].methods);
    }
    void (*closed_cb)(void *ctx) = c->closed_cb;
    void *ctx = c->closed_ctx;
    tls_config_close(&c->tls);
    arena_close(&c->arena);
    free(c);
    if (closed_cb != NULL) {
        closed_cb(ctx);
    }
}

void channel_link_gone(struct net_channel *c) {
    if (c->link_count == 0 && !c->is_dial_closing) {
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    }
}

static void on_dial_closed(void *ctx) {
    struct net_channel *c = ctx;
    c->is_dial_closing = false;
    channel_link_gone(c);
}

/* Moves every call to the ending ones. */
static void cancel_all(struct net_channel *c) {
    struct net_outcome outcome = { 0 };
    status_set(&outcome.status, STATUS_CANCELLED, "the connection was closed by its owner");
    struct channel_call *call = NULL;
    struct channel_call *next_call = NULL;
    DL_FOREACH_SAFE(c->queue, call, next_call) {
        give_up(c, call, &outcome);
    }
    struct channel_link *link = NULL;
    DL_FOREACH(c->links, link) {
        link->is_draining = false; /* Closed below. */
        for (size_t i = 0; i < NET_CHANNEL_IN_FLIGHT_MAX; i++) {
            if (link->slots[i] != NULL) {
                give_up(c, link->slots[i], &outcome);
            }
        }
    }
}

void net_channel_close(struct net_channel **channel, void *ctx, void (*closed_cb)(void *ctx)) {
    struct net_channel *c = *channel;
    *channel = NULL;
    if (c == NULL) {
        return;
    }
    c->is_closing = true;
    c->closed_ctx = ctx;
    c->closed_cb = closed_cb;
    cancel_all(c);
    channel_deliver(c);
    (void)uv_timer_stop(&c->timer);
    struct channel_link *link = NULL;
    struct channel_link *next_link = NULL;
    DL_FOREACH_SAFE(c->links, link, next_link) {
        net_conn_finish(link->conn); /* What was sent, cancels too, still leaves. */
    }
    c->is_dial_closing = true;
    net_dial_close(&c->dial, c, on_dial_closed);
}
