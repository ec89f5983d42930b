/* SPDX-License-Identifier: Apache-2.0 */
#include "service/clock.h"

void service_clock_init(struct service_clock *clock, uint64_t skew_max_ms, uint64_t mono_ms,
                        uint64_t unix_ms) {
    int64_t offset = (int64_t)unix_ms - (int64_t)mono_ms;
    atomic_init(&clock->offset_ms, offset);
    clock->base_offset_ms = offset;
    clock->base_at_ms = mono_ms;
    clock->skew_max_ms = skew_max_ms;
    clock->stepped = false;
}

uint64_t service_clock_unix_ms(const struct service_clock *clock, uint64_t mono_ms) {
    int64_t offset = atomic_load_explicit(&clock->offset_ms, memory_order_relaxed);
    return (uint64_t)((int64_t)mono_ms + offset);
}

bool service_clock_check(struct service_clock *clock, uint64_t mono_ms, uint64_t unix_ms,
                         int64_t *step_ms) {
    int64_t offset = (int64_t)unix_ms - (int64_t)mono_ms;
    int64_t step = offset - clock->base_offset_ms;
    uint64_t distance = step < 0 ? (uint64_t)-step : (uint64_t)step;
    *step_ms = step;
    clock->stepped = distance > clock->skew_max_ms;
    if (clock->stepped) {
        return false; /* The window stands still: time alone does not make a step right. */
    }
    atomic_store_explicit(&clock->offset_ms, offset, memory_order_relaxed);
    if (mono_ms - clock->base_at_ms >= SERVICE_CLOCK_WINDOW_MS) {
        clock->base_at_ms = mono_ms;
        clock->base_offset_ms = offset;
    }
    return true;
}
