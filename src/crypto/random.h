/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes from the kernel, getrandom(2). Not for the pure rooms: they get theirs as arguments.
 * Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Fills out. Blocks only until the kernel's pool is seeded, at boot. IO when the kernel refuses. */
RC random_bytes(uint8_t *out, size_t len);
/* The same with the signature of mbedTLS's f_rng; context is not used. 0, or a negative code. */
int random_mbedtls(void *context, unsigned char *out, size_t len);
/* Prepares mbedTLS's own key store, once for the process: mbedTLS 3 wants psa_crypto_init() before
 * TLS 1.3. Cheap to call again, from any thread. CRYPTO when the library refuses. */
RC random_mbedtls_init(void);
