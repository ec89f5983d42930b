/* SPDX-License-Identifier: Apache-2.0 */
/* From "host:port" to a connected socket, on the caller's loop. Everything between the two is
 * behind this interface: name lookup, several addresses, and where a proxy is to be used, its
 * tunnel. One thread: the loop's. */
#pragma once

#include <uv.h>

#include "base/bytes.h"
#include "base/status.h"

struct net_dial;  /* Opaque. */
struct net_proxy; /* net/proxy.h */

#define NET_HOST_BYTES_MAX 253u
/* A host, ":", a port, brackets, NUL. */
#define NET_TARGET_BYTES (NET_HOST_BYTES_MAX + 9)
/* Addresses of a name that are tried, in the resolver's order. */
#define NET_DIAL_ADDRESS_COUNT_MAX 8

/* Where to: a host name, an IPv4 or an IPv6 address, and a port. */
struct net_target {
    char host[NET_HOST_BYTES_MAX + 1]; /* Without brackets. */
    uint16_t port;
};

/* Reads "host:port" or "[IPv6]:port"; ports are 1 to 65535. INVALID for anything else. */
RC net_target_parse(struct span text, struct net_target *out);
/* "host:port", with brackets where needed. Gives text. */
const char *net_target_format(const struct net_target *target, char text[static NET_TARGET_BYTES]);

/* Runs once. fd is a connected, non-blocking TCP socket, taken by the receiver; or -1 with *why
 * (UNAVAILABLE and one sentence). Never inside net_dial_start. dial is gone. */
typedef void (*net_dial_cb)(void *ctx, int fd, const struct status *why);

struct net_dial_cfg {
    uv_loop_t *loop;
    const struct net_target *target; /* Copied. */
    const struct net_proxy *proxy;   /* Lent for the start; NULL: directly. */
    uint32_t timeout_ms;             /* Spans lookup, all addresses, and the proxy's answer. */
};

/* Gives *out, NULL on error (then dial_cb never runs). A target that the proxy covers is reached
 * through a tunnel, and its name is then the proxy's to look up. Addresses need no thread; names
 * are looked up on libuv's pool. NOMEM, IO. */
RC net_dial_start(struct net_dial **out, const struct net_dial_cfg *cfg, void *ctx,
                  net_dial_cb dial_cb);
/* Takes *dial: dial_cb will not run; closed_cb(closed_ctx) does when its memory is gone, unless it
 * is NULL. Accepts NULL in it, and then runs closed_cb at once. */
void net_dial_close(struct net_dial **dial, void *closed_ctx, void (*closed_cb)(void *closed_ctx));
