/* SPDX-License-Identifier: Apache-2.0 */
/* A bare TLS echo server: what is left when a service does nothing. One thread, epoll, one read()
 * and one write() a wake-up. */
#pragma once

#include "identity/signer.h"

/* Listens on a free loopback port, writes the port (u16, host order) to port_fd and serves until
 * the process is killed. At most ECHO_CONNECTIONS_MAX connections. */
#define ECHO_CONNECTIONS_MAX 1024
RC echo_serve(const struct identity_signer *signer, int port_fd);
