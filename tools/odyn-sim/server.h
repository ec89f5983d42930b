/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 on a libuv loop, for the calls of api.h; shows the faults that were asked for. One
 * thread. */
#pragma once

#include <uv.h>

#include "sim.h"

#define SERVER_CONN_COUNT_MAX 256

struct server; /* Opaque. */

struct server_cfg {
    uv_loop_t *loop; /* Lent until server_close. */
    struct sim *sim; /* Lent too. */
    const char *address;
    uint16_t port; /* 0: any free one. */
    bool verbose;  /* A line on stderr for each call. */
};

/* Gives *out, NULL on error, listening. UNAVAILABLE when address and port cannot be had; *why lends
 * libuv's reason. BAD_CONFIG when address is no IP address. NOMEM. */
RC server_init(struct server **out, const struct server_cfg *cfg, const char **why);
/* The port it listens on. */
uint16_t server_port(const struct server *server);
/* Takes *server, sets NULL. Everything is closed once the loop has run. */
void server_close(struct server **server);
