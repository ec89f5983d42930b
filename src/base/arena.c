/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#include "base/secret.h"

#define BLOCK_BYTES ((size_t)4096)
#define ALIGN alignof(max_align_t)

struct arena_block {
    struct arena_block *next;
    size_t len;
    size_t bytes;
    alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *a, size_t bytes_max) {
    *a = (struct arena){ .bytes_max = bytes_max };
}

static void free_block(struct arena_block *block) {
    secret_wipe(block->data, block->len);
    free(block);
}

/* Frees all blocks but `keep`, which may be NULL. */
static void free_blocks_except(struct arena *a, const struct arena_block *keep) {
    struct arena_block *block = a->head;
    while (block != NULL) {
        struct arena_block *next = block->next;
        if (block != keep) {
            free_block(block);
        }
        block = next;
    }
}

void arena_close(struct arena *a) {
    free_blocks_except(a, NULL);
    *a = (struct arena){ 0 };
}

void arena_reset(struct arena *a) {
    struct arena_block *keep = a->head;
    while (keep != NULL && keep->bytes != BLOCK_BYTES) {
        keep = keep->next;
    }
    free_blocks_except(a, keep);
    if (keep != NULL) {
        secret_wipe(keep->data, keep->len);
        keep->len = 0;
        keep->next = NULL;
    }
    a->head = keep;
    a->used_bytes = 0;
    a->held_bytes = keep == NULL ? 0 : sizeof(*keep) + keep->bytes;
}

static struct arena_block *add_block(struct arena *a, size_t len) {
    size_t bytes = len > BLOCK_BYTES ? len : BLOCK_BYTES;
    struct arena_block *block = malloc(sizeof(*block) + bytes);
    if (block == NULL) {
        return NULL;
    }
    block->next = a->head;
    block->len = 0;
    block->bytes = bytes;
    a->head = block;
    a->held_bytes += sizeof(*block) + bytes;
    return block;
}

void *arena_take(struct arena *a, size_t len) {
    if (len > a->bytes_max) {
        return NULL; /* Also keeps the rounding below from wrapping. */
    }
    size_t need = (len + ALIGN - 1) / ALIGN * ALIGN;
    if (need > a->bytes_max - a->used_bytes) {
        return NULL;
    }
    struct arena_block *block = a->head;
    if (block == NULL || need > block->bytes - block->len) {
        block = add_block(a, need);
        if (block == NULL) {
            return NULL;
        }
    }
    void *taken = block->data + block->len;
    block->len += need;
    a->used_bytes += need;
    return taken;
}
