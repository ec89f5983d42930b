/* SPDX-License-Identifier: Apache-2.0 */
/* One tunnel being asked for: the request to a proxy and its answer, over a connected non-blocking
 * socket. The caller polls the socket and owns it. One thread at a time. */
#pragma once

#include "net/proxy.h"

struct net_tunnel; /* Opaque. */

/* Gives *out, NULL on error. Copies what it needs of both. NOMEM. */
RC net_tunnel_init(struct net_tunnel **out, const struct net_proxy *proxy,
                   const struct net_target *target);
/* Takes *tunnel and wipes it. Accepts NULL in it. */
void net_tunnel_close(struct net_tunnel **tunnel);
/* Whether it has something to send; otherwise it waits for the answer. */
bool net_tunnel_wants_to_write(const struct net_tunnel *tunnel);
/* Sends or reads what fd lets it. OK: the tunnel stands, and fd holds the target's bytes from the
 * first on. AGAIN: to be called when fd is ready again. Anything else is the end, with *why in
 * words that follow "it ", the proxy. */
RC net_tunnel_step(struct net_tunnel *tunnel, int fd, struct status *why);
