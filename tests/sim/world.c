/* SPDX-License-Identifier: Apache-2.0 */
/* One history: events by time until everything is healed, has converged, and was checked. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

#define EVENT_COUNT_MIN 500
#define EVENT_COUNT_MAX 400000
#define FAULT_KIND_COUNT_MIN 3
#define WATCH_MS 500
#define COLLECT_ALL_MS (RETENTION_MS + STORE_COLLECT_RETRY_MS + SETTLE_MS)

/* ---- What it says ---- */

void world_trace(struct world *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(w->trace, "%7llu.%03llu  ", (unsigned long long)(w->now_ms / 1000),
                  (unsigned long long)(w->now_ms % 1000));
    (void)vfprintf(w->trace, format, args);
    (void)fputc('\n', w->trace);
    va_end(args);
}

void world_fail(struct world *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    check_show(w);
    (void)fflush(stdout);
    (void)fprintf(stderr, "seed %llu, at %llu ms, event %llu: ", (unsigned long long)w->seed,
                  (unsigned long long)w->now_ms, (unsigned long long)w->event_count);
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\nreplay it with: tools/sim --seed %llu --trace\n",
                  (unsigned long long)w->seed);
    va_end(args);
    exit(1);
}

void world_count_by(struct world *w, enum tally what, uint64_t times) {
    w->tallies.times[what] += times;
}

void world_count(struct world *w, enum tally what) {
    w->tallies.times[what]++;
}

void world_after(struct world *w, uint64_t span_ms, struct event event) {
    event.at_ms = w->now_ms + span_ms;
    queue_add(&w->queue, event);
}

/* ---- What happens ---- */

static void end_world(struct world *w) {
    world_count(w, TALLY_CONVERGED);
    w->is_over = true;
}

static void watch(struct world *w) {
    char why[200] = "";
    world_after(w, WATCH_MS, (struct event){ .kind = EVENT_WATCH });
    if ((w->now_ms - w->healed_at_ms) % 4000 == 0) {
        fault_heal_hash(w); /* A transaction of the past may have set it once more. */
    }
    if (w->is_collecting) {
        if (check_nothing_dead(w) && check_converged(w, why)) {
            world_count(w, TALLY_COLLECTED_ALL);
            check_end(w);
            end_world(w);
        } else if (w->now_ms > w->collect_until_ms) {
            world_fail(w, "what is dead was not collected everywhere. %s", why);
        }
        return;
    }
    if (check_converged(w, why)) {
        check_end(w);
        w->tallies.converge_ms_sum = w->now_ms - w->healed_at_ms;
        w->tallies.converge_ms_max = w->now_ms - w->healed_at_ms;
        if (rng_once_in(&w->rng, 16)) {
            w->is_collecting = true;
            w->collect_until_ms = w->now_ms + COLLECT_ALL_MS;
        } else {
            end_world(w);
        }
    } else if (w->now_ms - w->healed_at_ms > CONVERGE_MS) {
        world_fail(w, "not converged %d ms after the healing: %s", CONVERGE_MS, why);
    }
}

static void look_for_end(struct world *w) {
    if (w->is_healed || w->now_ms < w->fault_end_ms) {
        return;
    }
    if (w->event_count < EVENT_COUNT_MIN ||
        __builtin_popcountll(w->fault_kinds_seen) < FAULT_KIND_COUNT_MIN) {
        w->fault_end_ms = w->now_ms + 2000;
        fault_draw(w);
        return;
    }
    fault_heal(w);
    world_after(w, WATCH_MS, (struct event){ .kind = EVENT_WATCH });
}

static void start_machine(struct world *w, struct machine *m) {
    if (!m->is_up && !m->is_retired) {
        node_boot(w, m);
        if (!w->is_healed && m->boot > 1 && rng_once_in(&w->rng, 3)) {
            world_after(w, 50 + rng_below(&w->rng, 1200),
                        (struct event){ .kind = EVENT_STUMBLE, .boot = m->boot, .a = m->idx });
        }
    }
}

/* What happens in a node, and in its present boot. */
static void happen_in(struct world *w, struct machine *m, const struct event *event) {
    switch (event->kind) {
    case EVENT_WAKE:
        if (m->wake_at_ms == w->now_ms) {
            node_wake(w, m);
        }
        break;
    case EVENT_TASK:
        duty_end(w, m, event->b % TASK_SLOT_COUNT, event->b / TASK_SLOT_COUNT);
        break;
    case EVENT_CALL_OVER:
        peer_call_over(w, m, event->b);
        break;
    case EVENT_MERGE:
        peer_merge(w, m, event->b);
        break;
    case EVENT_SERVE:
        if (m->serve_at_ms == w->now_ms) {
            peer_serve_parked(w, m);
        }
        break;
    case EVENT_PARKED_END:
        peer_parked_end(w, m, event->b);
        break;
    case EVENT_READ:
        peer_read(w, m, event->of);
        break;
    case EVENT_STUMBLE:
        fault_stumble(w, m);
        break;
    case EVENT_MESSAGE:
    case EVENT_START:
    case EVENT_BLOCK:
    case EVENT_FAULT:
    case EVENT_CLIENT:
    case EVENT_WATCH:
        break;
    }
}

static void drop(struct world *w, const struct event *event) {
    if (event->kind == EVENT_READ) {
        struct message *page = event->of;
        message_give(w, page->origin);
        message_give(w, page);
    }
}

static void happen(struct world *w, const struct event *event) {
    struct machine *m = &w->machines[event->a];
    switch (event->kind) {
    case EVENT_MESSAGE:
        peer_receive(w, event->of);
        break;
    case EVENT_START:
        start_machine(w, m);
        break;
    case EVENT_BLOCK:
        chain_block(w);
        break;
    case EVENT_FAULT:
        fault_some(w);
        break;
    case EVENT_CLIENT:
        client_step(w, &w->clients[event->a]);
        break;
    case EVENT_WATCH:
        watch(w);
        break;
    case EVENT_STUMBLE:
    case EVENT_WAKE:
    case EVENT_TASK:
    case EVENT_CALL_OVER:
    case EVENT_READ:
    case EVENT_MERGE:
    case EVENT_SERVE:
    case EVENT_PARKED_END:
        if (m->is_up && m->boot == event->boot) {
            happen_in(w, m, event);
        } else {
            drop(w, event);
            world_count_by(w, TALLY_PAGE_CUT_OFF, event->kind == EVENT_READ ? 1 : 0);
        }
        break;
    }
}

/* ---- Its beginning and end ---- */

static void close_world(struct world *w) {
    struct event event;
    for (size_t i = 0; i < w->machine_count; i++) {
        if (w->machines[i].is_up) {
            node_crash(w, &w->machines[i]);
        }
    }
    while (queue_take(&w->queue, &event)) {
        if (event.kind == EVENT_MESSAGE) {
            message_give(w, event.of);
        } else {
            drop(w, &event);
        }
    }
    while (w->free_messages != NULL) {
        struct message *next = w->free_messages->next;
        free(w->free_messages);
        w->free_messages = next;
        w->message_count--;
    }
    ASSERT(w->message_count == 0);
    queue_close(&w->queue);
}

static void settle_tallies(struct world *w, uint64_t trace_hash, struct tallies *sum) {
    struct tallies *t = &w->tallies;
    for (size_t i = 0; i < TALLY_COUNT; i++) {
        t->seeds[i] = t->times[i] > 0 ? 1 : 0;
    }
    t->seed_count = 1;
    t->event_count = w->event_count;
    t->trace_hash = trace_hash;
    tally_add(sum, t);
}

void world_run(uint64_t seed, FILE *trace, struct tallies *sum) {
    struct world *w = calloc(1, sizeof(*w));
    ASSERT(w != NULL);
    w->seed = seed;
    w->trace = trace;
    w->rng.state = rng_mix(seed + 1);
    w->now_ms = 10000;
    chain_init(w);
    fault_init(w);
    chain_begin(w);
    client_init(w);
    uint64_t hash = seed;
    struct event event;
    while (!w->is_over && queue_take(&w->queue, &event)) {
        ASSERT(event.at_ms >= w->now_ms);
        w->now_ms = event.at_ms;
        w->event_count++;
        hash = rng_mix(hash ^ w->rng.state ^ event.at_ms << 8 ^ (uint64_t)event.kind);
        happen(w, &event);
        look_for_end(w);
        if (w->event_count > EVENT_COUNT_MAX) {
            world_fail(w, "more than %d events", EVENT_COUNT_MAX);
        }
    }
    close_world(w);
    settle_tallies(w, hash, sum);
    free(w);
}
