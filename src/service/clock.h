/* SPDX-License-Identifier: Apache-2.0 */
/* The date that requests use: the wall clock, as far as it can be believed. It follows the
 * monotonic clock at an accepted distance, so a step of the wall clock never reaches a stamp
 * (docs/architecture.md, "In service or not"); service_clock_check moves the distance along with
 * small corrections and reports a step. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The clock may be corrected by skew_max_ms in one such span, in one direction. */
#define SERVICE_CLOCK_WINDOW_MS UINT64_C(600000)

/* Embedded. The offset is read by any thread; the rest belongs to the thread that checks. */
struct service_clock {
    atomic_int_least64_t offset_ms; /* Unix time minus monotonic time, as accepted. */
    int64_t base_offset_ms;         /* What it was when the window began. */
    uint64_t base_at_ms;
    uint64_t skew_max_ms;
    bool stepped;
};

/* Takes the present distance of the clocks as right. */
void service_clock_init(struct service_clock *clock, uint64_t skew_max_ms, uint64_t mono_ms,
                        uint64_t unix_ms);
/* The date at a monotonic instant. Any thread. */
uint64_t service_clock_unix_ms(const struct service_clock *clock, uint64_t mono_ms);
/* Compares the clocks. False while the wall clock is further than skew_max_ms from where it should
 * be: *step_ms says how far, and what service_clock_unix_ms gives goes on as before. True again
 * once it is back. Call it about once a second. */
bool service_clock_check(struct service_clock *clock, uint64_t mono_ms, uint64_t unix_ms,
                         int64_t *step_ms);
