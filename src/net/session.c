/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's server side: admission, frames, goodbye. */
#include "base/clock.h"
#include "base/log.h"
#include "net/server_internal.h"

#define PING_WINDOW_MS 60000u
#define ANONYMOUS_WINDOW_MS 1000u

/* ---- Frames out ---- */

void session_write_header(struct session *s, const novakms_v1_FrameHeader *header) {
    size_t bytes = FRAME_PREFIX_BYTES + FRAME_HEADER_WRITTEN_MAX;
    uint8_t *room = net_conn_reserve(s->conn, bytes);
    if (room == NULL) {
        return;
    }
    struct writer out = { room, 0, bytes };
    struct rc rc = frame_write_header(&out, header, 0, SIZE_MAX);
    ASSERT(rc.err == E_OK);
    net_conn_commit(s->conn, out.len);
}

static void write_goaway(struct session *s, const struct status *why) {
    frame_set_goaway(&s->worker->header, s->last_call_id, why);
    session_write_header(s, &s->worker->header);
}

/* goaway; then nothing more is read, and it ends with its last call. */
static void leave(struct session *s, const struct status *why) {
    if (s->state != SESSION_ACTIVE && s->state != SESSION_ADMITTING) {
        return;
    }
    s->state = SESSION_LEAVING;
    write_goaway(s, why);
    if (s->call_count == 0) {
        s->state = SESSION_OVER;
        net_conn_finish(s->conn);
    }
}

/* goaway and end at once; calls in flight end without answers. */
static void dismiss_for(struct session *s, const struct status *why) {
    if (s->state == SESSION_OVER) {
        return;
    }
    s->state = SESSION_OVER;
    write_goaway(s, why);
    net_conn_finish(s->conn);
    call_end_all(s);
}

static void dismiss(struct session *s, enum status_code code, const char *text) {
    status_set(&s->worker->why, code, "%s", text);
    dismiss_for(s, &s->worker->why);
}

void session_call_ended(struct session *s) {
    if (s->is_full && s->call_count <= CALLS_RESUME_COUNT) {
        s->is_full = false;
        net_conn_resume(s->conn);
    }
    if (s->state == SESSION_LEAVING && s->call_count == 0) {
        s->state = SESSION_OVER;
        net_conn_finish(s->conn);
    }
}

/* ---- Frames in ---- */

static void refuse_frame(struct session *s, const char *why) {
    char wallet[WALLET_TEXT_BYTES] = "none";
    if (s->has_wallet) {
        (void)wallet_format(&s->wallet, wallet);
    }
    LOG_LIMITED(WARN, "rpc.bad_frame", "wallet=%s why=\"%s\"", wallet, why);
    count_up(&s->worker->counters.bad_frame, 1);
    dismiss(s, STATUS_INVALID_ARGUMENT, why);
}

static void refuse_input(struct session *s, enum err err, const char *why) {
    char text[STATUS_TEXT_BYTES];
    if (err != E_TOO_BIG) {
        refuse_frame(s, why);
        return;
    }
    (void)snprintf(text, sizeof(text), "%s: %zu bytes a frame, %u of them its header", why,
                   s->frame_bytes_max, FRAME_HEADER_BYTES_MAX);
    refuse_frame(s, text);
}

/* Nobody else limits callers without a wallet. */
static bool pass_anonymous(struct session *s, uint64_t call_id) {
    struct net_worker *w = s->worker;
    uint64_t now_ms = uv_now(&w->loop);
    if (now_ms - s->anonymous_second_at_ms >= ANONYMOUS_WINDOW_MS) {
        s->anonymous_second_at_ms = now_ms;
        s->anonymous_call_count = 0;
    }
    s->anonymous_call_count++;
    if (s->anonymous_call_count <= w->server->cfg.anonymous_calls_per_second_max) {
        return true;
    }
    status_set(&w->why, STATUS_RESOURCE_EXHAUSTED,
               "at most %u calls a second without a certificate",
               w->server->cfg.anonymous_calls_per_second_max);
    frame_set_response(&w->header, call_id, &w->why);
    w->header.kind.response.has_details = true;
    w->header.kind.response.details =
        (novakms_v1_ErrorDetails){ .retry_after_ms = ANONYMOUS_WINDOW_MS };
    session_write_header(s, &w->header);
    return false;
}

static void take_request(struct session *s, const struct frame *frame) {
    const novakms_v1_Request *request = &frame->header.kind.request;
    if (request->call_id <= s->last_call_id) {
        refuse_frame(s, "call_id does not grow; each request needs a larger one");
        return;
    }
    if (s->state == SESSION_LEAVING) {
        status_set(&s->worker->why, STATUS_UNAVAILABLE, "%s",
                   "this connection takes no new calls; make another");
        frame_set_response(&s->worker->header, request->call_id, &s->worker->why);
        session_write_header(s, &s->worker->header);
        return;
    }
    s->last_call_id = request->call_id;
    if (!s->has_wallet && !pass_anonymous(s, request->call_id)) {
        return;
    }
    call_start(s, request, frame->payload);
    if (s->call_count >= NET_CALLS_IN_FLIGHT_MAX && !s->is_full) {
        s->is_full = true;
        net_conn_pause(s->conn);
    }
}

static void take_ping(struct session *s, const novakms_v1_Ping *ping) {
    if (ping->ack) {
        return; /* To a ping that we did not send; harmless. */
    }
    uint64_t now_ms = uv_now(&s->worker->loop);
    if (now_ms - s->ping_minute_at_ms >= PING_WINDOW_MS) {
        s->ping_minute_at_ms = now_ms;
        s->ping_count = 0;
    }
    s->ping_count++;
    if (s->ping_count > s->worker->server->cfg.ping_per_minute_max) {
        dismiss(s, STATUS_RESOURCE_EXHAUSTED, "too many pings; one a second is plenty");
        return;
    }
    frame_set_ping(&s->worker->header, ping->token, true);
    session_write_header(s, &s->worker->header);
}

static void take_frame(struct session *s, const struct frame *frame) {
    switch (frame->header.which_kind) {
    case novakms_v1_FrameHeader_request_tag:
        take_request(s, frame);
        break;
    case novakms_v1_FrameHeader_cancel_tag:
        call_cancel(s, frame->header.kind.cancel.call_id);
        break;
    case novakms_v1_FrameHeader_ping_tag:
        take_ping(s, &frame->header.kind.ping);
        break;
    case novakms_v1_FrameHeader_goaway_tag:
        if (s->state == SESSION_ACTIVE) {
            s->state = SESSION_LEAVING; /* The client ends it: no goaway back. */
            session_call_ended(s);
        }
        break;
    default: /* A response. */
        refuse_frame(s, "a server takes requests, cancels, pings and goaways, not responses");
        break;
    }
}

static bool takes_frames(const struct session *s) {
    return (s->state == SESSION_ACTIVE || s->state == SESSION_LEAVING) && !s->is_full &&
           !net_conn_is_closing(s->conn) && !net_conn_is_backlogged(s->conn);
}

static size_t on_data(struct net_conn *conn, struct span input) {
    struct session *s = net_conn_user(conn);
    struct net_worker *w = s->worker;
    struct reader r = { input.ptr, input.len };
    w->now_us = clock_mono_us();
    while (r.len > 0 && takes_frames(s)) {
        const char *why = NULL;
        struct rc rc = frame_read(&r, s->frame_bytes_max, &w->frame, &why);
        if (rc.err == E_AGAIN) {
            break;
        }
        if (rc.err != E_OK) {
            refuse_input(s, rc.err, why);
            return input.len;
        }
        take_frame(s, &w->frame);
    }
    return input.len - r.len;
}

static void on_eof(struct net_conn *conn) {
    struct session *s = net_conn_user(conn);
    s->state = SESSION_OVER;
    net_conn_finish(conn);
    call_end_all(s);
}

static void on_expired(struct net_conn *conn, const char *why) {
    struct session *s = net_conn_user(conn);
    if (s->call_count > 0 && s->state == SESSION_ACTIVE && s->is_full) {
        return; /* Not idle: it waits for us. */
    }
    dismiss(s, STATUS_DEADLINE_EXCEEDED, why);
}

static const struct net_conn_ops rpc_ops = {
    .data = on_data,
    .eof = on_eof,
    .expired = on_expired,
};

/* ---- Life ---- */

static void go_home(struct session *s) {
    s->mail = (struct mail){ .fn = pool_bury, .arg = s };
    bool is_taken = mailbox_put(&s->home->mailbox, &s->mail);
    ASSERT(is_taken); /* The pools close last. */
}

/* After the protocol's own closed callback. */
static void on_owner_closed(struct net_conn *conn) {
    struct session *s = conn->owner;
    struct net_worker *w = s->worker;
    s->state = SESSION_OVER;
    call_end_all(s);
    if (s->was_offered && w->cfg.authority.closed != NULL) {
        w->cfg.authority.closed(w->cfg.authority.ctx, conn);
    }
    if (s->prev != NULL) {
        s->prev->next = s->next;
    } else {
        w->sessions = s->next;
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    s->parts.tls = conn->tls;
    conn->tls = NULL;
    go_home(s);
    worker_check_drained(w);
}

static void link_session(struct session *s) {
    struct net_worker *w = s->worker;
    s->next = w->sessions;
    if (w->sessions != NULL) {
        w->sessions->prev = s;
    }
    w->sessions = s;
}

static void activate(struct session *s, size_t frame_bytes_max) {
    s->state = SESSION_ACTIVE;
    s->frame_bytes_max = frame_bytes_max;
    net_conn_limits(s->conn)->input_bytes_max =
        FRAME_LENGTH_BYTES + frame_bytes_max + NET_PLAIN_IN_BYTES;
}

static void begin_rpc(struct session *s) {
    struct net_worker *w = s->worker;
    const struct net_authority *authority = &w->cfg.authority;
    activate(s, FRAME_BYTES_MAX_STRANGER);
    if (!s->has_wallet) {
        return;
    }
    s->state = SESSION_ADMITTING;
    net_conn_pause(s->conn);
    if (authority->admit == NULL) {
        net_conn_admit(s->conn);
        return;
    }
    s->was_offered = true;
    authority->admit(authority->ctx, s->conn);
}

static void begin_http(struct session *s) {
    const struct net_stream *http = &s->worker->cfg.http;
    s->is_stream = true;
    s->state = SESSION_ACTIVE;
    const struct net_conn_ops *ops = http->accept(http->ctx, s->conn);
    if (ops == NULL) {
        net_conn_close(s->conn, ERR(UNAVAILABLE), "the protocol's handler refused it");
        return;
    }
    s->conn->ops = ops;
}

static struct net_conn_limits limits_of(const struct net_server_cfg *cfg, bool has_wallet) {
    struct net_conn_limits limits = NET_CONN_LIMITS_DEFAULT;
    limits.idle_timeout_ms = has_wallet ? cfg->idle_timeout_ms : cfg->anonymous_idle_timeout_ms;
    limits.input_timeout_ms = cfg->frame_timeout_ms;
    limits.stall_timeout_ms = cfg->frame_timeout_ms;
    limits.output_bytes_max = 4 * cfg->frame_bytes_max;
    return limits;
}

static RC start_session(struct session *s) {
    struct net_worker *w = s->worker;
    struct net_conn_cfg cfg = {
        .io = w->io,
        .fd = s->parts.fd,
        .tls = s->parts.tls,
        .unread = { s->parts.unread, s->parts.unread_len },
        .ops = &rpc_ops,
        .user = s,
        .limits = limits_of(&w->server->cfg, s->has_wallet),
    };
    s->parts.fd = -1;
    s->parts.tls = NULL;
    TRY(net_conn_init(&s->conn, &cfg));
    s->conn->owner = s;
    s->conn->owner_closed = on_owner_closed;
    link_session(s);
    return OK;
}

void session_arrive(void *session) {
    struct session *s = session;
    struct net_worker *w = s->worker;
    struct rc rc = start_session(s);
    if (rc.err != E_OK) {
        LOG_LIMITED(ERROR, "rpc.conn", "err=%s", err_name(rc.err));
        go_home(s);
        return;
    }
    if (s->is_http) {
        begin_http(s);
    } else {
        begin_rpc(s);
    }
    if (w->is_draining) {
        session_drain(s);
    }
}

void session_drain(struct session *s) {
    if (s->is_stream) {
        net_conn_finish(s->conn);
        return;
    }
    status_set(&s->worker->why, STATUS_OK, "%s", "the node is stopping");
    leave(s, &s->worker->why);
}

void session_check_time(struct session *s, uint64_t now_ms) {
    if (!s->has_wallet || s->is_stream || now_ms < s->identity_until_ms) {
        return;
    }
    status_set(&s->worker->why, STATUS_UNAUTHENTICATED, "%s",
               "the certificate's binding has ended; connect with a new one");
    leave(s, &s->worker->why);
}

/* ---- What the authority and services may do ---- */

void net_conn_admit(struct net_conn *conn) {
    struct session *s = conn->owner;
    if (s->state != SESSION_ADMITTING) {
        return;
    }
    activate(s, s->worker->server->cfg.frame_bytes_max);
    net_conn_resume(conn);
}

void net_conn_refuse(struct net_conn *conn, const struct status *why) {
    struct session *s = conn->owner;
    if (s->state == SESSION_OVER) {
        return;
    }
    count_up(&s->worker->counters.refused, 1);
    net_conn_resume(conn); /* To read the peer's goodbye. */
    dismiss_for(s, why);
}

const struct wallet *net_conn_wallet(const struct net_conn *conn) {
    const struct session *s = conn->owner;
    return s != NULL && s->has_wallet ? &s->wallet : NULL;
}

void net_conn_set_answer_frame_max(struct net_conn *conn, size_t frame_bytes_max) {
    struct session *s = conn->owner;
    s->answer_frame_max = frame_bytes_max;
}

void net_conn_set_context(struct net_conn *conn, void *context) {
    ((struct session *)conn->owner)->context = context;
}

void *net_conn_context(const struct net_conn *conn) {
    return ((const struct session *)conn->owner)->context;
}
