/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* pthread_setname_np, SCHED_BATCH */
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/server_internal.h"

/* A background thread gets a thirtieth of a busy CPU: a storm of handshakes takes little from the
 * workers, and newcomers still get through while the workers are busy. */
#define BACKGROUND_NICE 15
#define PROMPT_SLICE_NS 100000u

/* sched(7), sched_setattr(2); glibc declares it from 2.41 on. */
struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
};

/* From Linux 6.12 on, a thread that asks for short slices is run soon after it wakes, also when a
 * background thread is in the middle of its own slice; its share of the CPU stays the same. Older
 * kernels run what wakes before what is nice, without being asked. */
static void ask_short_slices(void) {
    struct scheduling s = { .size = sizeof(s),
                            .policy = SCHED_OTHER,
                            .nice = getpriority(PRIO_PROCESS, 0),
                            .runtime_ns = PROMPT_SLICE_NS };
    (void)syscall(SYS_sched_setattr, 0, &s, 0);
}

static void step_back(void) {
    const struct sched_param none = { 0 };
    id_t thread = (id_t)syscall(SYS_gettid); /* Linux's nice value is each thread's own. */
    (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none); /* Preempts nobody. */
    (void)setpriority(PRIO_PROCESS, thread, BACKGROUND_NICE);
}

void thread_begin(const char *name, uint32_t idx, enum thread_kind kind) {
    char text[16];
    (void)snprintf(text, sizeof(text), "%.10s-%u", name, idx % NET_WORKER_COUNT_MAX);
    (void)pthread_setname_np(pthread_self(), text);
    switch (kind) {
    case THREAD_PROMPT:
        ask_short_slices();
        break;
    case THREAD_BACKGROUND:
        step_back();
        break;
    }
}
