/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/random.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

#include <mbedtls/entropy.h>
#include <mbedtls/version.h>
#if MBEDTLS_VERSION_MAJOR >= 3
#include <psa/crypto.h>
#endif

RC random_bytes(uint8_t *out, size_t len) {
    while (len > 0) {
        ssize_t got = getrandom(out, len, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        ENSURE(got > 0, IO);
        out += got;
        len -= (size_t)got;
    }
    return OK;
}

int random_mbedtls(void *context, unsigned char *out, size_t len) {
    (void)context;
    return random_bytes(out, len).err == E_OK ? 0 : MBEDTLS_ERR_ENTROPY_SOURCE_FAILED;
}

#if MBEDTLS_VERSION_MAJOR >= 3
static pthread_once_t psa_once = PTHREAD_ONCE_INIT;
static psa_status_t psa_result;

static void start_psa(void) {
    psa_result = psa_crypto_init();
}

RC random_mbedtls_init(void) {
    ENSURE(pthread_once(&psa_once, start_psa) == 0, CRYPTO);
    ENSURE(psa_result == PSA_SUCCESS, CRYPTO);
    return OK;
}
#else
RC random_mbedtls_init(void) {
    return OK; /* Version 2 keeps no global state that we use. */
}
#endif
