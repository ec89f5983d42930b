/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/clock.h"
#include "net/channel_impl.h"

static void describe_failure(struct net_outcome *out, const struct net_channel *c, const char *what,
                             const char *why) {
    status_set(&out->status, STATUS_UNAVAILABLE, "%s %s: %s", what, c->target_text, why);
}

static void write_frame(struct channel_link *link, const novakms_v1_FrameHeader *header) {
    uint8_t bytes[FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX];
    struct writer w = { bytes, 0, sizeof(bytes) };
    if (frame_write_header(&w, header, 0, FRAME_BYTES_MAX_STRANGER).err == E_OK) {
        net_conn_write(link->conn, writer_span(&w));
    }
}

bool channel_link_has_room(const struct channel_link *link, size_t packed_len) {
    return link->is_open && !link->is_draining && !net_conn_is_closing(link->conn) &&
           link->in_flight_count < NET_CHANNEL_IN_FLIGHT_MAX &&
           (link->in_flight_count == 0 ||
            packed_len <= CHANNEL_WINDOW_BYTES - link->window_used_bytes);
}

bool channel_link_send(struct channel_link *link, struct channel_call *call,
                       const ProtobufCMessage *input) {
    struct net_channel *c = link->channel;
    size_t bytes = FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX + call->packed_len;
    uint8_t *at = net_conn_reserve(link->conn, bytes);
    if (at == NULL) {
        return false;
    }
    uint64_t now_ms = clock_mono_ms();
    uint64_t left_ms = call->deadline_at_ms > now_ms ? call->deadline_at_ms - now_ms : 1;
    uint8_t slot = link->free_slots[link->in_flight_count];
    uint64_t wire_id = (link->sequence + 1) << 8 | slot;
    novakms_v1_FrameHeader header;
    frame_set_request(&header, wire_id, call->service->methods[call->method_idx].span,
                      (uint32_t)left_ms);
    struct writer w = { at, 0, bytes };
    if (frame_write_header(&w, &header, call->packed_len, c->cfg.frame_bytes_max).err != E_OK) {
        net_conn_commit(link->conn, 0);
        return false;
    }
    if (input != NULL) {
        (void)protobuf_c_message_pack(input, at + w.len);
    } else if (call->packed_len > 0) {
        memcpy(at + w.len, call->packed, call->packed_len);
    }
    net_conn_commit(link->conn, w.len + call->packed_len);
    link->sequence++;
    link->in_flight_count++;
    link->window_used_bytes += call->packed_len;
    link->slots[slot] = call;
    call->wire_id = wire_id;
    return true;
}

/* The call that an id names, NULL when it has ended. */
static struct channel_call *call_of(const struct channel_link *link, uint64_t wire_id) {
    struct channel_call *call = link->slots[wire_id % NET_CHANNEL_IN_FLIGHT_MAX];
    return call != NULL && call->wire_id == wire_id ? call : NULL;
}

void channel_link_forget(struct channel_link *link, struct channel_call *call, bool is_told) {
    uint8_t slot = (uint8_t)(call->wire_id % NET_CHANNEL_IN_FLIGHT_MAX);
    link->slots[slot] = NULL;
    link->in_flight_count--;
    link->free_slots[link->in_flight_count] = slot;
    link->window_used_bytes -= call->packed_len;
    if (is_told) {
        novakms_v1_FrameHeader header;
        frame_set_cancel(&header, call->wire_id);
        write_frame(link, &header);
    }
    if (link->is_draining && link->in_flight_count == 0) {
        net_conn_finish(link->conn);
    }
}

/* Ends the calls whose id is above last_id. */
static void end_calls_above(struct channel_link *link, uint64_t last_id,
                            const struct net_outcome *outcome) {
    for (size_t i = 0; i < NET_CHANNEL_IN_FLIGHT_MAX; i++) {
        struct channel_call *call = link->slots[i];
        if (call != NULL && call->wire_id > last_id) {
            channel_link_forget(link, call, false);
            channel_end_call(link->channel, call, outcome);
        }
    }
}

void channel_link_drain(struct channel_link *link) {
    struct net_channel *c = link->channel;
    link->is_draining = true;
    if (c->current == link) {
        c->current = NULL;
    }
    if (link->in_flight_count == 0) {
        net_conn_finish(link->conn);
        return;
    }
    size_t draining_count = 0;
    struct channel_link *oldest = NULL;
    struct channel_link *at = NULL;
    DL_FOREACH(c->links, at) {
        if (at->is_draining && !net_conn_is_closing(at->conn)) {
            oldest = oldest == NULL ? at : oldest;
            draining_count++;
        }
    }
    if (draining_count > NET_CHANNEL_DRAINING_MAX) {
        net_conn_close(oldest->conn, ERR(UNAVAILABLE), "too many connections are draining");
    }
}

void channel_link_judge(struct channel_link *link, uint64_t now_ms) {
    const struct net_channel_cfg *cfg = &link->channel->cfg;
    if (!link->is_open || net_conn_is_closing(link->conn)) {
        return;
    }
    if (now_ms >= link->ends_at_ms) {
        channel_link_drain(link);
        return;
    }
    if (cfg->recheck_ms == 0 || now_ms - link->checked_at_ms < cfg->recheck_ms) {
        return;
    }
    struct status why = { 0 };
    link->checked_at_ms = now_ms;
    if (cfg->check(cfg->check_ctx, tls_peer(net_conn_tls(link->conn)), &why).err != E_OK) {
        net_conn_close(link->conn, ERR(DENIED), why.text);
    }
}

static void on_response(struct channel_link *link, const struct frame *frame) {
    struct net_channel *c = link->channel;
    const novakms_v1_Response *response = &frame->header.kind.response;
    struct channel_call *call = call_of(link, response->call_id);
    link->has_answered = true;
    c->failure_count = 0;
    c->last_failure.code = STATUS_OK;
    if (call == NULL) {
        return; /* It ended here before its answer came. */
    }
    channel_link_forget(link, call, false);
    if (response->status == STATUS_OK) {
        channel_answer(c, call, frame->payload);
        return;
    }
    struct net_outcome outcome = { .executed = NET_ANSWERED };
    frame_get_status(response, &outcome.status);
    if (response->has_details) {
        outcome.retry_after_ms = response->details.retry_after_ms;
        outcome.may_miss = response->details.may_miss;
        outcome.has_stamp = response->details.has_stamp;
        outcome.stamp = response->details.stamp;
    }
    channel_end_call(c, call, &outcome);
}

static void on_goaway(struct channel_link *link, const novakms_v1_Goaway *goaway) {
    struct net_channel *c = link->channel;
    struct net_outcome outcome = { .executed = NET_NOT_EXECUTED };
    frame_get_reason(goaway, &outcome.status);
    if (goaway->status == STATUS_OK) {
        describe_failure(&outcome, c, "no new calls at", "the server is stopping");
    } else {
        outcome.is_refusal = true;
        if (outcome.status.code == STATUS_INVALID_ARGUMENT) {
            outcome.status.code = STATUS_INTERNAL; /* A frame of ours; the caller's are right. */
        }
    }
    channel_link_drain(link);
    end_calls_above(link, goaway->last_call_id, &outcome);
    if (outcome.is_refusal) {
        channel_connect_failed(c, &outcome);
    } else {
        channel_want_link(c);
    }
}

/* NULL, or what is wrong with a frame of that kind here. */
static const char *on_frame(struct channel_link *link, const struct frame *frame) {
    novakms_v1_FrameHeader header;
    switch (frame->header.which_kind) {
    case novakms_v1_FrameHeader_response_tag:
        on_response(link, frame);
        return NULL;
    case novakms_v1_FrameHeader_ping_tag:
        if (!frame->header.kind.ping.ack) {
            frame_set_ping(&header, frame->header.kind.ping.token, true);
            write_frame(link, &header);
        }
        return NULL;
    case novakms_v1_FrameHeader_goaway_tag:
        on_goaway(link, &frame->header.kind.goaway);
        return NULL;
    default: /* The tags are macros of one integer type, not an enum. */
        return "a server sends no requests or cancels";
    }
}

static size_t on_data(struct net_conn *conn, struct span input) {
    struct channel_link *link = net_conn_user(conn);
    struct net_channel *c = link->channel;
    struct reader in = { input.ptr, input.len };
    link->heard_at_ms = net_io_now_ms(net_conn_io(conn));
    link->pinged_at_ms = 0;
    while (!net_conn_is_closing(conn)) {
        struct frame frame;
        const char *why = NULL;
        struct rc rc = frame_read(&in, c->cfg.frame_bytes_max, &frame, &why);
        if (rc.err == E_AGAIN) {
            break;
        }
        if (rc.err == E_OK) {
            why = on_frame(link, &frame);
        }
        if (why != NULL) {
            net_conn_close(conn, ERR(MALFORMED), why);
            break;
        }
    }
    channel_flush(c);
    channel_deliver(c);
    return input.len - in.len;
}

static void on_eof(struct net_conn *conn) {
    net_conn_close(conn, ERR(CLOSED), "the server ended it");
}

static void on_open(struct net_conn *conn) {
    struct channel_link *link = net_conn_user(conn);
    const char *alpn = tls_alpn(net_conn_tls(conn));
    const struct identity_peer *peer = tls_peer(net_conn_tls(conn));
    ASSERT(peer != NULL); /* A client's handshake ends without one only in an error. */
    if (alpn == NULL || strcmp(alpn, TLS_ALPN_NOVAKMS) != 0) {
        net_conn_close(conn, ERR(MALFORMED), "the server does not speak " TLS_ALPN_NOVAKMS);
        return;
    }
    uint64_t now_ms = net_io_now_ms(net_conn_io(conn));
    uint64_t now_unix_s = clock_unix_ms() / 1000;
    uint64_t end_unix_s = peer->not_after_unix_s;
    link->is_open = true;
    link->heard_at_ms = now_ms;
    link->checked_at_ms = now_ms;
    link->ends_at_ms = now_ms + (end_unix_s > now_unix_s ? (end_unix_s - now_unix_s) * 1000 : 0);
    if (link->channel->cfg.keepalive_ms > 0) {
        channel_arm(link->channel, link->heard_at_ms + link->channel->cfg.keepalive_ms);
    }
    channel_flush(link->channel);
}

/* Says why the connection could not be made, or was not wanted. */
static struct net_outcome failure_before_open(const struct channel_link *link) {
    struct net_outcome outcome = { .executed = NET_NOT_EXECUTED };
    const struct tls *tls = net_conn_tls(link->conn);
    const struct status *peer_why = tls == NULL ? NULL : tls_peer_why(tls);
    if (peer_why != NULL && peer_why->code != STATUS_OK) {
        outcome.is_refusal = true;
        status_set(&outcome.status, STATUS_UNAUTHENTICATED, "the server at %s is refused: %s",
                   link->channel->target_text, peer_why->text);
    } else {
        describe_failure(&outcome, link->channel, "cannot connect to",
                         net_conn_why(link->conn, NULL));
    }
    return outcome;
}

static void on_closed(struct net_conn *conn) {
    struct channel_link *link = net_conn_user(conn);
    struct net_channel *c = link->channel;
    struct net_outcome lost = { .executed = NET_MAYBE_EXECUTED };
    describe_failure(&lost, c, "lost the connection to", net_conn_why(conn, NULL));
    struct net_outcome unmade = { 0 };
    if (!link->is_open) {
        unmade = failure_before_open(link);
    }
    DL_DELETE(c->links, link);
    c->link_count--;
    if (c->current == link) {
        c->current = NULL;
    }
    link->is_draining = false; /* There is nothing left to finish. */
    end_calls_above(link, 0, &lost);
    if (c->is_closing) {
        channel_link_gone(c);
    } else if (!link->is_open) {
        channel_connect_failed(c, &unmade);
        channel_deliver(c);
    } else {
        if (!link->has_answered) {
            channel_back_off(c);
        }
        channel_want_link(c);
        channel_deliver(c);
    }
    free(link);
}

uint64_t channel_link_keepalive(struct channel_link *link, uint64_t now_ms) {
    uint32_t keepalive_ms = link->channel->cfg.keepalive_ms;
    if (keepalive_ms == 0 || !link->is_open || net_conn_is_closing(link->conn)) {
        return 0;
    }
    if (link->pinged_at_ms == 0 && now_ms < link->heard_at_ms + keepalive_ms) {
        return link->heard_at_ms + keepalive_ms;
    }
    if (link->pinged_at_ms == 0) {
        novakms_v1_FrameHeader header;
        frame_set_ping(&header, now_ms, false);
        write_frame(link, &header);
        link->pinged_at_ms = now_ms;
    }
    if (now_ms >= link->pinged_at_ms + keepalive_ms) {
        net_conn_close(link->conn, ERR(TIMEOUT), "the server does not answer a ping");
        return 0;
    }
    return link->pinged_at_ms + keepalive_ms;
}

RC channel_link_init(struct net_channel *c, int fd) {
    static const struct net_conn_ops ops = {
        .open = on_open, .data = on_data, .eof = on_eof, .closed = on_closed
    };
    struct channel_link *link = calloc(1, sizeof(*link));
    struct net_conn_cfg cfg = {
        .io = c->cfg.io,
        .fd = fd,
        .ops = &ops,
        .user = link,
        .limits = NET_CONN_LIMITS_DEFAULT,
    };
    cfg.limits.handshake_timeout_ms = c->cfg.handshake_timeout_ms;
    cfg.limits.idle_timeout_ms =
        0; /* The server ends idle connections; keepalive finds dead ones. */
    /* One frame, and what a read may bring beyond it. */
    cfg.limits.input_bytes_max = c->cfg.frame_bytes_max + CHANNEL_READ_BYTES;
    /* Answers are always read: two sides that both wait for the other to read would wait forever.
     * The window bounds the output instead. */
    cfg.limits.output_bytes_max = 2 * (CHANNEL_WINDOW_BYTES + c->cfg.frame_bytes_max);
    cfg.limits.backlog_bytes_max = cfg.limits.output_bytes_max;
    struct rc rc = link == NULL ? ERR(NOMEM)
                                : tls_client_init(&cfg.tls, c->tls, c->target.host, c->cfg.check,
                                                  c->cfg.check_ctx);
    if (rc.err != E_OK) {
        (void)close(fd);
        free(link);
        return rc;
    }
    for (size_t i = 0; i < NET_CHANNEL_IN_FLIGHT_MAX; i++) {
        link->free_slots[i] = (uint8_t)i;
    }
    rc = net_conn_init(&link->conn, &cfg);
    if (rc.err != E_OK) {
        free(link);
        return rc;
    }
    link->channel = c;
    DL_APPEND(c->links, link);
    c->link_count++;
    c->current = link;
    return OK;
}
