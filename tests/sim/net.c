/* SPDX-License-Identifier: Apache-2.0 */
/* The network between nodes: messages that are lost, doubled, late, out of order, or held by a peer
 * that hangs. */
#include <stdlib.h>

#include "sim.h"

#define MESSAGE_COUNT_MAX 4096

struct message *message_take(struct world *w) {
    struct message *message = w->free_messages;
    if (message != NULL) {
        w->free_messages = message->next;
    } else {
        w->message_count++;
        if (w->message_count > MESSAGE_COUNT_MAX) {
            world_fail(w, "more than %d messages under way: memory is not bounded",
                       MESSAGE_COUNT_MAX);
        }
        message = malloc(sizeof(*message));
        ASSERT(message != NULL);
    }
    memset(message, 0, offsetof(struct message, records));
    return message;
}

void message_give(struct world *w, struct message *message) {
    message->next = w->free_messages;
    w->free_messages = message;
}

static void move_known(struct store_known *known, const struct message *from, struct message *to) {
    if (known->count > 0) {
        size_t at = (size_t)(known->entries - from->entries);
        memcpy(&to->entries[at], &from->entries[at], known->count * sizeof(to->entries[0]));
        known->entries = &to->entries[at];
    }
}

static void move_span(struct span *span, size_t i, const struct message *from, struct message *to) {
    if (span->len > 0 && span->len <= RECORD_BYTES_MAX) {
        span->ptr = to->bytes[i] + (span->ptr - from->bytes[i]);
    }
}

struct message *message_copy(struct world *w, const struct message *from) {
    struct message *to = message_take(w);
    struct message *next = to->next;
    memcpy(to, from, offsetof(struct message, records));
    to->next = next;
    memcpy(to->records, from->records, from->record_count * sizeof(from->records[0]));
    memcpy(to->bytes, from->bytes, from->record_count * sizeof(from->bytes[0]));
    move_known(&to->request.known, from, to);
    move_known(&to->page.known, from, to);
    move_known(&to->page.floor, from, to);
    move_known(&to->known, from, to);
    memcpy(to->heard, from->heard, from->heard_count * sizeof(from->heard[0]));
    to->request.heard = to->request.heard == NULL ? NULL : to->heard;
    to->page.heard = to->page.heard == NULL ? NULL : to->heard;
    for (size_t i = 0; i < to->record_count; i++) {
        move_span(&to->records[i].remote.key, i, from, to);
        move_span(&to->records[i].remote.sealed, i, from, to);
    }
    return to;
}

static void arrive(struct world *w, struct message *message) {
    const struct link *link = &w->links[message->from][message->to];
    uint64_t span_ms =
        1 + (uint64_t)link->delay_ms + rng_below(&w->rng, 4U + (uint32_t)link->jitter_ms);
    world_after(w, span_ms, (struct event){ .kind = EVENT_MESSAGE, .of = message });
}

void net_send(struct world *w, struct message *message) {
    const struct link *link = &w->links[message->from][message->to];
    if (link->is_cut) {
        message_give(w, message);
        return;
    }
    if (link->loss_percent > 0 && rng_below(&w->rng, 100) < link->loss_percent) {
        world_count(w, TALLY_FAULT_LOSS);
        message_give(w, message);
        return;
    }
    if (link->duplicate_percent > 0 && rng_below(&w->rng, 100) < link->duplicate_percent) {
        world_count(w, TALLY_FAULT_DUPLICATE);
        arrive(w, message_copy(w, message));
    }
    if (link->jitter_ms > 0) {
        world_count(w, TALLY_FAULT_REORDER);
    }
    if (link->delay_ms > 0) {
        world_count(w, TALLY_FAULT_DELAY);
    }
    arrive(w, message);
}

bool net_is_reachable(struct world *w, const struct machine *a, const struct machine *b) {
    const struct link *there = &w->links[a->idx][b->idx];
    const struct link *back = &w->links[b->idx][a->idx];
    return b->is_up && w->now_ms >= b->hung_until_ms && !there->is_cut && !back->is_cut &&
           rng_below(&w->rng, 100) >= there->loss_percent;
}
