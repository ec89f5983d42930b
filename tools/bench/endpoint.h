/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a TLS connection on a nonblocking socket, as cheap as the library allows: the TLS
 * callbacks work on buffers, with one read() and one write() a wake-up. The bench's own, so that
 * the limit it measures owes nothing to the code it is held against. One thread. */
#pragma once

#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

#include "base/bytes.h"
#include "base/err.h"

#define ENDPOINT_BUFFER_BYTES ((size_t)64 * 1024)

struct endpoint {
    int fd; /* -1 when closed. */
    mbedtls_ssl_context tls;
    uint8_t *in; /* Ciphertext that was read and not yet taken: in[in_at..in_len). */
    size_t in_at;
    size_t in_len;
    uint8_t *out; /* Ciphertext not yet written. */
    size_t out_len;
};

/* Takes fd (nonblocking) unless it fails; copies nothing of conf, which must outlive it. */
RC endpoint_init(struct endpoint *e, int fd, const mbedtls_ssl_config *conf);
/* Closes the socket. Accepts a zeroed or closed endpoint. */
void endpoint_close(struct endpoint *e);
/* One read() from the socket. AGAIN when there is nothing, CLOSED at the end. */
RC endpoint_fill(struct endpoint *e);
/* Goes on with the handshake on what was filled, and flushes. AGAIN until it is done. */
RC endpoint_handshake(struct endpoint *e);
/* Decrypts up to bytes into buf. *len is 0 when more must be filled first. */
RC endpoint_read(struct endpoint *e, uint8_t *buf, size_t bytes, size_t *len);
/* Encrypts into the output buffer; TOO_BIG when it has no room. */
RC endpoint_write(struct endpoint *e, struct span data);
/* One write() of the output. AGAIN when some is left. */
RC endpoint_flush(struct endpoint *e);
