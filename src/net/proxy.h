/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP proxy that carries connections (CONNECT, RFC 9110 section 9.3.6): which one, for which
 * targets, what is said to it, and what its answer means. No I/O; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"
#include "net/dial.h"

/* Of the user name and password together, decoded, with the colon between them. */
#define NET_PROXY_USER_BYTES_MAX 255u
/* "Basic ", base64 of that, NUL. */
#define NET_PROXY_AUTHORIZATION_BYTES 352u
/* Of a list of exceptions. */
#define NET_PROXY_EXCEPT_BYTES_MAX 2047u
/* The answer's status line and header fields. */
#define NET_PROXY_HEAD_BYTES_MAX 8192u
/* The request: the target twice, the authorization and the fixed words. */
#define NET_PROXY_REQUEST_BYTES (2 * NET_TARGET_BYTES + NET_PROXY_AUTHORIZATION_BYTES + 96)

/* Zeroed: there is none, and every target is dialled directly. */
struct net_proxy {
    struct net_target target; /* Port 0 when there is none. */
    /* Of the Proxy-Authorization field; empty without credentials. Secret. */
    char authorization[NET_PROXY_AUTHORIZATION_BYTES];
    char except[NET_PROXY_EXCEPT_BYTES_MAX + 1]; /* As no_proxy gives it. */
};

/* What a URL of a proxy must be, for sentences about one that is not. */
#define NET_PROXY_URL_ALLOWED \
    "http://[USER:PASSWORD@]HOST:PORT (%XX for other characters, at most 255 of USER:PASSWORD)"

/* Reads what https_proxy holds, "http://[USER:PASSWORD@]HOST:PORT", a "/" after it allowed. User
 * and password are percent-decoded (RFC 3986). Leaves proxy's exceptions; on an error all of it.
 * INVALID. */
RC net_proxy_set_url(struct net_proxy *proxy, const char *url);
/* Takes what no_proxy holds: entries between commas or blanks, each a host (itself and every name
 * below it; a leading dot changes nothing), an address, a range of addresses in CIDR notation, or
 * "*" for everything, and any but "*" with a ":PORT" if only that port is meant. An entry that is
 * none of these matches nothing. Copies list. TOO_BIG; INVALID for control characters. */
RC net_proxy_set_exceptions(struct net_proxy *proxy, const char *list);
/* Whether it names this machine: "localhost" or a loopback address. */
bool net_target_is_loopback(const struct net_target *target);
/* Whether target is to be reached through it. Accepts NULL: there is none. */
bool net_proxy_covers(const struct net_proxy *proxy, const struct net_target *target);
/* Wipes the credentials. Accepts a closed or zeroed one. */
void net_proxy_close(struct net_proxy *proxy);

/* Gives the request for a tunnel to target, and its length. It may hold credentials: wipe it. */
size_t net_proxy_write_request(const struct net_proxy *proxy, const struct net_target *target,
                               char request[static NET_PROXY_REQUEST_BYTES]);
/* Judges what the proxy answered so far; hostile input. OK when the tunnel stands: *head_len bytes
 * were the answer, what follows is the target's. AGAIN when the head is not complete. TOO_BIG,
 * MALFORMED, or DENIED for a refusal; *why then says it in words that follow "it ", the proxy. */
RC net_proxy_read_answer(struct span input, size_t *head_len, struct status *why);
