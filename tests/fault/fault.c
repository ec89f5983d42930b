/* SPDX-License-Identifier: Apache-2.0 */
#include "fault.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The linker's --wrap: calls of malloc come to __wrap_malloc, and __real_malloc is malloc. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming)
 * / */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *ptr, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *ptr, size_t bytes);
char *__wrap_strdup(const char *text);

static atomic_uint left; /* 0: none fails. */
static atomic_bool hit;
static atomic_bool reallocs_fail;

static bool fails(void) {
    unsigned now = atomic_load(&left);
    while (now > 0 && !atomic_compare_exchange_weak(&left, &now, now - 1)) {
    }
    if (now == 1) {
        atomic_store(&hit, true);
    }
    return now == 1;
}

void *__wrap_malloc(size_t bytes) {
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *ptr, size_t bytes) {
    return fails() || atomic_load(&reallocs_fail) ? NULL : __real_realloc(ptr, bytes);
}

char *__wrap_strdup(const char *text) {
    return fails() ? NULL : __real_strdup(text);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming)
 */

void fault_arm(unsigned nth) {
    atomic_store(&hit, false);
    atomic_store(&left, nth);
}

bool fault_disarm(void) {
    atomic_store(&left, 0);
    return fault_was_hit();
}

bool fault_was_hit(void) {
    return atomic_load(&hit);
}

void fault_fail_reallocs(bool fail) {
    atomic_store(&reallocs_fail, fail);
}

void *fault_malloc(size_t bytes) {
    return __wrap_malloc(bytes);
}
