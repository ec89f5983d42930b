/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "net/server_internal.h"

static struct mail *take_all(struct mailbox *m, bool close) {
    (void)pthread_mutex_lock(&m->lock);
    struct mail *first = m->first;
    m->first = NULL;
    m->last = NULL;
    m->is_closed = m->is_closed || close;
    (void)pthread_mutex_unlock(&m->lock);
    return first;
}

static void run_all(struct mail *first) {
    while (first != NULL) {
        struct mail *next = first->next;
        first->fn(first->arg);
        free(first);
        first = next;
    }
}

static void on_wake(uv_async_t *wake) {
    run_all(take_all(wake->data, false));
}

RC mailbox_init(struct mailbox *m, uv_loop_t *loop) {
    ENSURE(uv_async_init(loop, &m->wake, on_wake) == 0, NOMEM);
    m->wake.data = m;
    (void)pthread_mutex_init(&m->lock, NULL);
    return OK;
}

bool mailbox_post(struct mailbox *m, void (*fn)(void *arg), void *arg) {
    struct mail *mail = malloc(sizeof(*mail));
    if (mail == NULL) {
        return false;
    }
    *mail = (struct mail){ .fn = fn, .arg = arg };
    (void)pthread_mutex_lock(&m->lock);
    bool is_open = !m->is_closed;
    if (is_open) {
        if (m->last == NULL) {
            m->first = mail;
        } else {
            m->last->next = mail;
        }
        m->last = mail;
        (void)uv_async_send(&m->wake); /* Under the lock: the handle is not closed meanwhile. */
    }
    (void)pthread_mutex_unlock(&m->lock);
    if (!is_open) {
        free(mail);
    }
    return is_open;
}

void mailbox_close(struct mailbox *m) {
    run_all(take_all(m, true));
    uv_close((uv_handle_t *)&m->wake, NULL);
}
