/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks. The pure rooms never read them: time reaches them as an argument. Any thread. */
#pragma once

#include <stdint.h>

/* Elapsed time: never jumps, no relation to dates. For deadlines and ages. */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
/* Milliseconds since 1970. Follows the host and can jump: only dates and stamps use it. */
uint64_t clock_unix_ms(void);
