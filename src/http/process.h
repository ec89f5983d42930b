/* SPDX-License-Identifier: Apache-2.0 */
/* What the process uses of its machine, as Linux tells it. Any thread. */
#pragma once

#include "base/bytes.h"

/* 0: it cannot be read. */
struct http_process {
    uint64_t cpu_us;          /* Of all threads since the start. */
    uint64_t resident_bytes;  /* VmRSS of /proc/self/status. */
    uint64_t total_bytes;     /* The machine's memory: an enclave's whole, and not a container's */
    uint64_t available_bytes; /* share. MemTotal and MemAvailable of /proc/meminfo. */
};
/* Reads /proc anew. */
void http_process_read(struct http_process *out);

/* The value of the line "NAME:  123 kB" of such a file, in bytes; 0 when there is none. */
uint64_t http_process_field(struct span text, struct span name);
