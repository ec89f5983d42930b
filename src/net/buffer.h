/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that a connection must keep: a queue that grows as they come and frees itself when it is
 * empty. Charged to the budget, wiped when freed. The room's own; one owner thread. */
#pragma once

#include "base/bytes.h"
#include "net/conn.h"

/* Embedded; zero is empty. */
struct net_buffer {
    uint8_t *ptr;
    size_t start; /* Of the bytes in use. */
    size_t len;
    size_t bytes;
};

static inline struct span net_buffer_span(const struct net_buffer *b) {
    return (struct span){ b->ptr == NULL ? NULL : b->ptr + b->start, b->len };
}
/* Copies s to the end. QUOTA when the budget is spent, NOMEM; nothing is changed then. */
RC net_buffer_append(struct net_buffer *b, struct span s, struct net_budget *budget);
/* Drops the first n bytes. */
void net_buffer_consume(struct net_buffer *b, size_t n, struct net_budget *budget);
/* Accepts an empty one. */
void net_buffer_close(struct net_buffer *b, struct net_budget *budget);
