/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 under one spelling: mbedTLS 2.28 has the checked functions as *_ret, 3 without. */
#pragma once

#include <mbedtls/sha256.h>
#include <mbedtls/version.h>

#include "base/bytes.h"

#define SHA256_BYTES 32
#define SHA256_BLOCK_BYTES 64

#if MBEDTLS_VERSION_MAJOR >= 3
#define sha256_starts(ctx) mbedtls_sha256_starts(ctx, 0)
#define sha256_update mbedtls_sha256_update
#define sha256_finish mbedtls_sha256_finish
#define sha256_once(in, out) mbedtls_sha256((in).ptr, (in).len, out, 0)
#else
#define sha256_starts(ctx) mbedtls_sha256_starts_ret(ctx, 0)
#define sha256_update mbedtls_sha256_update_ret
#define sha256_finish mbedtls_sha256_finish_ret
#define sha256_once(in, out) mbedtls_sha256_ret((in).ptr, (in).len, out, 0)
#endif

/* Hashes the bytes of in. CRYPTO. Any thread. */
static inline RC sha256(struct span in, uint8_t out[static SHA256_BYTES]) {
    ENSURE(sha256_once(in, out) == 0, CRYPTO);
    return OK;
}
