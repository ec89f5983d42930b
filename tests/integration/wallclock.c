/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a node by tests: its wall clock runs ahead of the real one by as many seconds as
 * the file NOVA_WALLCLOCK holds, 8 bytes in this machine's order, which may change while it runs.
 * The monotonic clock stays as it is. A host can do as much to an enclave. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead_s;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("NOVA_WALLCLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        abort(); /* A test that changes no clock would pass for the wrong reason. */
    }
    (void)close(fd);
    ahead_s = at;
}

/* The system call, not the next clock_gettime: a sanitizer's may call this one back. */
int clock_gettime(clockid_t clock_id, struct timespec *tp) {
    if (syscall(SYS_clock_gettime, clock_id, tp) != 0) {
        return -1;
    }
    if ((clock_id == CLOCK_REALTIME || clock_id == CLOCK_REALTIME_COARSE) && ahead_s != NULL) {
        tp->tv_sec += (time_t)*ahead_s;
    }
    return 0;
}

int gettimeofday(struct timeval *tv, void *tz) {
    struct timespec now = { 0 };
    (void)tz;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }
    *tv = (struct timeval){ now.tv_sec, now.tv_nsec / 1000 };
    return 0;
}

time_t time(time_t *timer) {
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (timer != NULL) {
        *timer = now.tv_sec;
    }
    return now.tv_sec;
}
