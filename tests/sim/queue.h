/* SPDX-License-Identifier: Apache-2.0 */
/* What will happen, by simulated time; at the same time, in the order in which it was said. */
#pragma once

#include "base/err.h"
#include "rng.h"

enum event_kind {
    EVENT_WAKE,       /* a: machine. It does what is due. */
    EVENT_MESSAGE,    /* of: struct message, which arrives. */
    EVENT_TASK,       /* a: machine, b: slot of the task that ends. */
    EVENT_CALL_OVER,  /* a: machine, b: ticket. The answer has taken too long. */
    EVENT_READ,       /* a: machine, of: struct message, the page whose records are read now. */
    EVENT_MERGE,      /* a: machine, b: ticket. The next records of a page are merged. */
    EVENT_SERVE,      /* a: machine. Parked requests are asked again. */
    EVENT_PARKED_END, /* a: machine, b: serial number of a parked request. */
    EVENT_START,      /* a: machine. It boots. */
    EVENT_STUMBLE,    /* a: machine, which has just booted. It crashes again. */
    EVENT_BLOCK,
    EVENT_FAULT,
    EVENT_CLIENT, /* a: client. */
    EVENT_WATCH,  /* After the healing: has it converged? */
};

struct event {
    uint64_t at_ms;
    uint64_t seq;
    enum event_kind kind;
    uint32_t boot; /* Of the machine: what an earlier boot wanted does not happen. */
    uint32_t a;
    uint32_t b;
    void *of;
};

struct queue {
    struct event *heap;
    size_t count;
    size_t count_max;
    uint64_t seq;
};

void queue_close(struct queue *queue);
/* Takes event, and sets its seq. */
void queue_add(struct queue *queue, struct event event);
/* False when empty. */
bool queue_take(struct queue *queue, struct event *out);
