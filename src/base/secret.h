/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for secrets: locked, left out of core dumps, wiped when done. Any thread, but one
 * owner. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct secret {
    uint8_t *ptr; /* NULL when closed. */
    size_t len;
};

/* Gives zeroed pages of its own, because locks do not nest and malloc lets secrets share a page.
 * NOMEM when the memory cannot be locked: no key ever lives in unlocked memory. */
RC secret_init(struct secret *s, size_t len);
/* Wipes, unlocks and frees. Accepts a zeroed or closed secret. */
void secret_close(struct secret *s);
/* Wipes; the compiler cannot drop it. For stack copies, with AUTO or before returning. */
void secret_wipe(void *ptr, size_t len);
/* Constant time for a given len. */
bool secret_equal(const uint8_t *a, const uint8_t *b, size_t len);

/* Once, at the start of a process that holds keys and before any is read: no core dumps, not
 * traceable by the same user, and everything it maps stays in memory. Everything, and not the pages
 * of struct secret alone, because copies of keys pass through heaps and stacks of libraries: TLS
 * records, what mbedTLS computes with, answers that wait to be sent. It is locked when it is first
 * touched, so that it costs no memory; but the kernel counts what is mapped against RLIMIT_MEMLOCK
 * (8 MiB for each thread's stack), so no small limit can do, and one that binds is refused before
 * it fails some later malloc: it must be unlimited, or the process have CAP_IPC_LOCK. NOMEM when
 * memory cannot be locked; the caller decides whether that is fatal. */
RC secret_harden_process(void);
