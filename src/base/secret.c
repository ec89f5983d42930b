/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <mbedtls/constant_time.h>

void secret_wipe(void *ptr, size_t len) {
    explicit_bzero(ptr, len);
}

RC secret_init(struct secret *s, size_t len) {
    *s = (struct secret){ 0 };
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ENSURE(p != MAP_FAILED, NOMEM);
    *s = (struct secret){ p, len };
    if (mlock(p, len) == 0 && madvise(p, len, MADV_DONTDUMP) == 0) {
        return OK;
    }
    secret_close(s);
    return ERR(NOMEM);
}

void secret_close(struct secret *s) {
    if (s->ptr == NULL) {
        return;
    }
    secret_wipe(s->ptr, s->len);
    (void)munmap(s->ptr, s->len);
    *s = (struct secret){ 0 };
}

bool secret_equal(const uint8_t *a, const uint8_t *b, size_t len) {
    return mbedtls_ct_memcmp(a, b, len) == 0;
}

RC secret_harden_process(void) {
    const struct rlimit no_core = { 0, 0 };
    ENSURE(setrlimit(RLIMIT_CORE, &no_core) == 0, IO);
    ENSURE(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, IO);
    struct rlimit lock = { 0 };
    ENSURE(getrlimit(RLIMIT_MEMLOCK, &lock) == 0, IO);
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0) {
        lock.rlim_cur = lock.rlim_max; /* Not privileged: take what the hard limit allows. */
        ENSURE(setrlimit(RLIMIT_MEMLOCK, &lock) == 0, IO);
        /* Under a small limit a later malloc would fail instead of this call. */
        ENSURE(lock.rlim_max == RLIM_INFINITY, NOMEM);
    }
    ENSURE(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0, NOMEM);
    return OK;
}
