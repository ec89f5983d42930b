/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: a thread with a loop that serves its connections. */
#include <stdlib.h>

#include "base/log.h"
#include "net/server_internal.h"

/* Turns of the loop that closing what is left may take; each callback chain is a few long. */
#define CLOSE_TURNS_MAX 100

static void on_tick(uv_timer_t *timer) {
    struct net_worker *w = timer->data;
    uint64_t now_ms = uv_now(&w->loop);
    for (struct session *s = w->sessions; s != NULL; s = s->next) {
        session_check_time(s, now_ms);
    }
}

static void on_deadline(uv_timer_t *timer) {
    struct net_worker *w = timer->data;
    w->deadline_set_ms = UINT64_MAX;
    call_check_deadlines(w);
}

/* The timer is moved only to an earlier deadline: most calls end before theirs, and one early
 * wake-up costs less than moving it with every call. */
void worker_set_deadline(struct net_worker *w) {
    const struct net_call *first = deadlines_first(&w->deadlines);
    if (first == NULL || first->deadline_at_ms >= w->deadline_set_ms) {
        return;
    }
    uint64_t now_ms = uv_now(&w->loop);
    uint64_t in_ms = first->deadline_at_ms > now_ms ? first->deadline_at_ms - now_ms : 0;
    w->deadline_set_ms = first->deadline_at_ms;
    (void)uv_timer_start(&w->deadline_timer, on_deadline, in_ms, 0);
}

static RC init_handles(struct net_worker *w) {
    ENSURE(uv_loop_init(&w->loop) == 0, NOMEM);
    TRY(mailbox_init(&w->mailbox, &w->loop));
    (void)uv_timer_init(&w->loop, &w->deadline_timer);
    (void)uv_timer_init(&w->loop, &w->tick);
    (void)uv_timer_init(&w->loop, &w->drain_timer);
    w->deadline_timer.data = w;
    w->tick.data = w;
    w->drain_timer.data = w;
    w->deadline_set_ms = UINT64_MAX;
    return OK;
}

RC worker_init(struct net_worker **out, struct net_server *server, uint32_t idx) {
    struct net_worker *w = calloc(1, sizeof(*w));
    ENSURE(w != NULL, NOMEM);
    w->server = server;
    w->idx = idx;
    struct rc rc = init_handles(w);
    if (rc.err != E_OK) {
        free(w);
        return rc;
    }
    *out = w; /* From here on worker_close takes it apart. */
    TRY(net_io_init(&w->io, &w->loop, &server->budget));
    return server->cfg.worker_init(server->cfg.ctx, idx, &w->loop, &w->cfg);
}

static void run(void *arg) {
    struct net_worker *w = arg;
    thread_begin("kms-worker", w->idx, THREAD_PROMPT);
    (void)uv_timer_start(&w->tick, on_tick, SESSION_TICK_MS, SESSION_TICK_MS);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT); /* The mailbox keeps it running; stop_loop ends it. */
}

RC worker_start(struct net_worker *w) {
    ENSURE(uv_thread_create(&w->thread, run, w) == 0, NOMEM);
    w->has_thread = true;
    return OK;
}

static void stop_loop(void *arg) {
    struct net_worker *w = arg;
    uv_stop(&w->loop);
}

static void close_sessions(struct net_worker *w) {
    for (struct session *s = w->sessions; s != NULL; s = s->next) {
        net_conn_close(s->conn, OK, "the server stops");
    }
    for (int i = 0; i < CLOSE_TURNS_MAX && w->io->conns != NULL; i++) {
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
}

/* By the controlling thread, when the worker's own is gone. */
static void close_loop(struct net_worker *w) {
    mailbox_close(&w->mailbox);
    if (w->io != NULL) {
        close_sessions(w);
        net_io_close(w->io, NULL, NULL);
    }
    uv_close((uv_handle_t *)&w->deadline_timer, NULL);
    uv_close((uv_handle_t *)&w->tick, NULL);
    uv_close((uv_handle_t *)&w->drain_timer, NULL);
    int ret = UV_EBUSY;
    for (int i = 0; i < CLOSE_TURNS_MAX && ret == UV_EBUSY; i++) {
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
        ret = uv_loop_close(&w->loop);
    }
    if (ret != 0) {
        LOG(WARN, "net.worker", "idx=%u handles of a service are still open", w->idx);
    }
}

void worker_stop(struct net_worker *w) {
    if (w->has_thread) {
        w->stop = (struct mail){ .fn = stop_loop, .arg = w };
        (void)mailbox_put(&w->mailbox, &w->stop);
        (void)uv_thread_join(&w->thread);
        w->has_thread = false;
    }
}

void worker_close(struct net_worker **worker) {
    struct net_worker *w = *worker;
    *worker = NULL;
    if (w == NULL) {
        return;
    }
    close_loop(w);
    call_free_pool(w);
    deadlines_close(&w->deadlines);
    free(w);
}

void worker_check_drained(struct net_worker *w) {
    if (!w->is_draining || w->is_drained || w->sessions != NULL) {
        return;
    }
    w->is_drained = true;
    (void)uv_timer_stop(&w->drain_timer);
    server_thread_drained(w->server);
}

static void on_drain_timeout(uv_timer_t *timer) {
    struct net_worker *w = timer->data;
    for (struct session *s = w->sessions; s != NULL; s = s->next) {
        net_conn_close(s->conn, OK, "the server stops");
    }
}

void worker_drain(void *arg) {
    struct net_worker *w = arg;
    w->is_draining = true;
    (void)uv_timer_start(&w->drain_timer, on_drain_timeout, w->server->drain_timeout_ms, 0);
    for (struct session *s = w->sessions; s != NULL; s = s->next) {
        session_drain(s);
    }
    worker_check_drained(w);
}
