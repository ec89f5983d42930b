/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for one message or one call: taken piece by piece, given back all at once. One owner. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct arena_block;

/* Embedded; zero is a closed arena. */
struct arena {
    struct arena_block *head; /* The block in use; older ones behind it. */
    size_t used_bytes;        /* Over all blocks, against bytes_max. */
    size_t bytes_max;
    size_t held_bytes; /* Of all blocks, what is not used of them too. */
};

/* Nothing is taken until the first arena_take. */
void arena_init(struct arena *a, size_t bytes_max);
/* Frees everything. Accepts a zeroed or closed arena. */
void arena_close(struct arena *a);
/* Forgets everything that was taken; keeps one small block to spare malloc the next message. Wipes
 * what was used, because messages hold keys and values. */
void arena_reset(struct arena *a);
/* Lends len bytes aligned for any type, until the next reset. Not zeroed. NULL when bytes_max would
 * be passed or memory is out. */
void *arena_take(struct arena *a, size_t len);
