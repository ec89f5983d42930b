/* SPDX-License-Identifier: Apache-2.0 */
#include "net/buffer.h"

#include <stdlib.h>

#include "base/secret.h"

#define BUFFER_BYTES_MIN ((size_t)1024)

static RC charge(struct net_budget *budget, size_t bytes) {
    size_t used = atomic_fetch_add_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
    if (used > budget->bytes_max || bytes > budget->bytes_max - used) {
        atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
        return ERR(QUOTA);
    }
    return OK;
}

void net_buffer_close(struct net_buffer *b, struct net_budget *budget) {
    if (b->ptr == NULL) {
        return;
    }
    secret_wipe(b->ptr, b->start + b->len); /* What was consumed is still in front. */
    free(b->ptr);
    atomic_fetch_sub_explicit(&budget->used_bytes, b->bytes, memory_order_relaxed);
    *b = (struct net_buffer){ 0 };
}

/* Doubles, so that what arrives in pieces is copied a bounded number of times. */
static RC grow(struct net_buffer *b, size_t need, struct net_budget *budget) {
    size_t bytes = b->bytes == 0 ? BUFFER_BYTES_MIN : b->bytes;
    while (bytes < need) {
        ENSURE(bytes <= SIZE_MAX / 2, NOMEM);
        bytes *= 2;
    }
    TRY(charge(budget, bytes));
    uint8_t *ptr = malloc(bytes);
    if (ptr == NULL) {
        atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
        return ERR(NOMEM);
    }
    size_t len = b->len;
    if (len > 0) {
        memcpy(ptr, b->ptr + b->start, len);
    }
    net_buffer_close(b, budget);
    *b = (struct net_buffer){ .ptr = ptr, .len = len, .bytes = bytes };
    return OK;
}

RC net_buffer_append(struct net_buffer *b, struct span s, struct net_budget *budget) {
    if (s.len == 0) {
        return OK;
    }
    ENSURE(s.len <= SIZE_MAX - b->len, NOMEM);
    size_t need = b->len + s.len;
    if (need > b->bytes) {
        TRY(grow(b, need, budget));
    } else if (need > b->bytes - b->start) {
        memmove(b->ptr, b->ptr + b->start, b->len);
        b->start = 0;
    }
    memcpy(b->ptr + b->start + b->len, s.ptr, s.len);
    b->len += s.len;
    return OK;
}

void net_buffer_consume(struct net_buffer *b, size_t n, struct net_budget *budget) {
    ASSERT(n <= b->len);
    b->start += n;
    b->len -= n;
    if (b->len == 0) {
        net_buffer_close(b, budget);
    }
}
