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

/* Whether the process may lock more than its limit: with a limit of nothing only CAP_IPC_LOCK locks
 * a page. The kernel is asked and not the capability's bit, which counts for nothing inside a user
 * namespace. Leaves the soft limit at 0. */
static bool limit_does_not_bind(rlim_t hard) {
    const struct rlimit nothing = { 0, hard };
    if (setrlimit(RLIMIT_MEMLOCK, &nothing) != 0) {
        return false;
    }
    struct secret page;
    bool is_locked = secret_init(&page, 1).err == E_OK;
    secret_close(&page);
    return is_locked;
}

/* Under a limit that binds, mlockall would succeed and a later malloc fail. */
static RC raise_limit(void) {
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    if (setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0) {
        return OK;
    }
    struct rlimit limit = { 0 };
    ENSURE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0, IO);
    bool is_free = limit.rlim_max == RLIM_INFINITY || limit_does_not_bind(limit.rlim_max);
    limit.rlim_cur = limit.rlim_max; /* For single secrets, where the caller goes on without. */
    ENSURE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0, IO);
    ENSURE(is_free, NOMEM);
    return OK;
}

RC secret_harden_process(void) {
    const struct rlimit no_core = { 0, 0 };
    ENSURE(setrlimit(RLIMIT_CORE, &no_core) == 0, IO);
    ENSURE(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, IO);
    TRY(raise_limit());
    ENSURE(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0, NOMEM);
    return OK;
}
