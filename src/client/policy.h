/* SPDX-License-Identifier: Apache-2.0 */
/* Which failures are tried again, where, and for how long; and when the member list is read anew.
 * Pure: numbers in, decisions out. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "net/channel.h"

/* ---- Tries of a call ---- */

/* A try that failed. */
struct client_try {
    enum status_code code;
    enum net_executed executed;
    bool is_refusal; /* Of the connection, by either side. */
    bool is_read;    /* The call changes nothing. */
    bool is_cut;     /* The try's share of the call's time was over, not the call's time. */
};

enum client_next {
    CLIENT_NEXT_NONE,      /* The failure is the call's. */
    CLIENT_NEXT_ELSEWHERE, /* On a server that has not been tried; this one has said no. */
    CLIENT_NEXT_ANY        /* On the next server, which may be the same. */
};

/* A call is tried again when it only reads, or was certainly not executed: it was not sent, or the
 * node answered UNAVAILABLE, which says that nothing was done (docs/protocol.md). Even then only
 * for what another node, or the same a moment later, may do better: connections that cannot be made
 * or are lost, nodes that do not serve, servers whose identity is refused. What a node decided
 * about the call or its caller stands. */
enum client_next client_policy_next(const struct client_try *failed);

/* A hung node must not take all of a call's time while others could answer. */
#define CLIENT_TRY_MS_MIN 1000u
/* The time of a read's try when untried_count servers, this one included, have not been tried: an
 * equal share of what is left, but not less than CLIENT_TRY_MS_MIN. A write has all of it, because
 * it cannot be given up and made elsewhere. */
uint32_t client_policy_try_ms(uint64_t left_ms, uint32_t untried_count, bool is_read);

/* ---- The member list ---- */

/* While calls are made, the list is read this often, beside them. */
#define CLIENT_LIST_REFRESH_MS 10000u
/* A call waits for a newer list than this, when one can be had. */
#define CLIENT_LIST_WAIT_MS 30000u
/* After a failed read nobody waits for the next one, for so long. */
#define CLIENT_LIST_PAUSE_MS 1000u

struct client_list_state {
    bool has_list;
    uint64_t age_ms; /* Since the instant that its source vouches for. */
    uint64_t ttl_ms; /* An older one is not used. */
    bool has_failed; /* The last read did, */
    uint64_t since_failure_ms;
    bool is_outdated; /* A server was met that it should know. */
};

enum client_list_plan {
    CLIENT_LIST_USE,
    CLIENT_LIST_USE_AND_READ, /* Now, and read it beside the call. */
    CLIENT_LIST_WAIT,         /* For a read; then as client_list_is_usable says. */
    CLIENT_LIST_FAIL          /* With the failure of the last read. */
};

bool client_list_is_usable(const struct client_list_state *state);
enum client_list_plan client_policy_list(const struct client_list_state *state);
