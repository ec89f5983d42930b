/* SPDX-License-Identifier: Apache-2.0 */
/* The shim as a protocol of net: on the plain port, and on the TLS port beside the frames. */
#pragma once

#include "http/http.h"
#include "net/server.h"

/* A connection without a byte for so long is closed: the plain port has few places, and nobody may
 * keep the probes out by holding them. */
#define HTTP_IDLE_TIMEOUT_MS 10000u
/* As is one whose request head takes longer than this. */
#define HTTP_REQUEST_TIMEOUT_MS 10000u

/* Gives the factory of the shim's connections. pages is lent while the server runs. Any thread. */
struct net_stream http_stream(const struct http_pages *pages);
