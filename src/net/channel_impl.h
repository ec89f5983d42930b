/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the channel share: channel.c has the calls (queue, deadlines, closures),
 * channel_link.c has one connection (frames, pings, goaway). Private to them. */
#pragma once

#include "base/arena.h"
#include "net/channel.h"
#include "wire/method.h"

/* Requests on one connection that are not answered yet, in bytes. Below the connection's bound for
 * output by one frame, so that a request that passes this always fits. */
#define CHANNEL_WINDOW_BYTES ((size_t)8 * 1024 * 1024)
/* More than one wake-up of a connection decrypts. */
#define CHANNEL_READ_BYTES ((size_t)128 * 1024)

struct channel_method {
    char name[FRAME_METHOD_BYTES_MAX];
    struct span span; /* Of name. */
};

struct channel_service {
    ProtobufCService base; /* First: the stubs' pointer. */
    struct net_channel *channel;
    struct channel_method *methods;
};

struct channel_call {
    struct channel_call *prev; /* In the queue, or among the ending. */
    struct channel_call *next;
    uint64_t id;
    uint64_t wire_id; /* 0: not sent. */
    uint64_t deadline_at_ms;
    uint32_t timeout_ms;
    const struct channel_service *service;
    unsigned method_idx;
    ProtobufCClosure closure;
    void *closure_data;
    uint8_t *packed; /* Its request while it waits, otherwise NULL. */
    size_t packed_len;
    struct net_outcome outcome;
};

/* One connection. A call's wire id is (sequence << 8 | slot), so that ids grow and an answer finds
 * its call without a search. */
struct channel_link {
    struct channel_link *prev;
    struct channel_link *next;
    struct net_channel *channel;
    struct net_conn *conn;
    bool is_open;     /* The handshake is done. */
    bool is_draining; /* No new calls. */
    bool has_answered;
    uint64_t sequence;
    uint64_t heard_at_ms;
    uint64_t pinged_at_ms;  /* 0: no ping is out. */
    uint64_t checked_at_ms; /* When the server's wallet was judged last. */
    uint64_t ends_at_ms;    /* When its binding ends. */
    size_t window_used_bytes;
    unsigned in_flight_count;
    uint8_t free_slots[NET_CHANNEL_IN_FLIGHT_MAX]; /* A stack of those not in use. */
    struct channel_call *slots[NET_CHANNEL_IN_FLIGHT_MAX];
};

struct net_channel {
    struct net_channel_cfg cfg; /* target is not used, see below. */
    struct net_target target;
    char target_text[NET_TARGET_BYTES];
    struct tls_config *tls;
    uint32_t timeout_ms; /* For the next calls. */

    struct channel_service services[NET_CHANNEL_SERVICE_COUNT_MAX];
    size_t service_count;

    struct channel_call *queue;
    size_t queue_count;
    size_t queue_bytes;
    struct channel_call *ending; /* Their closures run next. */
    size_t ending_count;
    size_t call_count;
    uint64_t last_id;
    uint64_t started_id;

    struct net_dial *dial;
    struct channel_link *current; /* Takes new calls, once open. Also in links. */
    struct channel_link *links;
    size_t link_count;
    uint32_t failure_count; /* Connections in a row without an answer. */
    uint64_t connect_at_ms; /* Not before. */
    struct status last_failure;

    uv_timer_t timer;
    uint64_t armed_at_ms; /* 0: the timer is not running. */
    bool is_closing;
    bool is_dial_closing;
    void *closed_ctx;
    void (*closed_cb)(void *ctx);

    struct arena arena; /* For the answer whose closure runs. */
    const struct net_outcome *outcome;
};

/* ---- channel.c, for channel_link.c ---- */

/* Ends a call that is in no list any more; its closure runs with the next channel_deliver. */
void channel_end_call(struct net_channel *c, struct channel_call *call,
                      const struct net_outcome *outcome);
/* Runs closures of ended calls: those that had ended when it was called. */
void channel_deliver(struct net_channel *c);
/* Runs the closure of an answered call, which is in no list any more. */
void channel_answer(struct net_channel *c, struct channel_call *call, struct span payload);
/* The link can take calls (again): moves them from the queue. */
void channel_flush(struct net_channel *c);
/* A connection attempt failed, or was refused: the waiting calls end. */
void channel_connect_failed(struct net_channel *c, const struct net_outcome *outcome);
/* Connects if there is a reason to. */
void channel_want_link(struct net_channel *c);
/* The link is out of the lists and about to be freed. */
void channel_link_gone(struct net_channel *c);
/* Makes the timer fire at that instant at the latest. */
void channel_arm(struct net_channel *c, uint64_t at_ms);
/* A connection ended without use: the next one waits longer. */
void channel_back_off(struct net_channel *c);

/* ---- channel_link.c, for channel.c ---- */

/* Takes fd. Becomes c->current, not open yet. */
RC channel_link_init(struct net_channel *c, int fd);
bool channel_link_has_room(const struct channel_link *link, size_t packed_len);
/* Before a call starts on it: drains a link whose server's binding has ended, closes one whose
 * server is not wanted any more. */
void channel_link_judge(struct channel_link *link, uint64_t now_ms);
/* Sends a request: input's, or with NULL call->packed. False when the connection cannot take it;
 * the call is as it was. */
bool channel_link_send(struct channel_link *link, struct channel_call *call,
                       const ProtobufCMessage *input);
/* Takes a sent call out of its slot; with is_told the server is told. */
void channel_link_forget(struct channel_link *link, struct channel_call *call, bool is_told);
/* No new calls on it; closes when its calls have ended. */
void channel_link_drain(struct channel_link *link);
/* Asks whether the server is there, or gives up on it. Gives when to look again; 0: never. */
uint64_t channel_link_keepalive(struct channel_link *link, uint64_t now_ms);
