/* SPDX-License-Identifier: Apache-2.0 */
/* Without a lock: the pool's threads run at a lower priority than those they write to, and one that
 * is preempted while it holds a lock would stop them. */
#include <stdlib.h>

#include "net/server_internal.h"

static struct mail closed_mark; /* As first: no more mail is taken. */

/* What came, oldest first; it is pushed newest first. */
static struct mail *take_all(struct mailbox *m, struct mail *next_first) {
    struct mail *newest = atomic_exchange_explicit(&m->first, next_first, memory_order_acquire);
    struct mail *oldest = NULL;
    while (newest != NULL && newest != &closed_mark) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void run_all(struct mail *mail) {
    while (mail != NULL) {
        struct mail *next = mail->next;
        bool is_ours = mail->is_ours;
        mail->fn(mail->arg); /* May free what the mail is part of. */
        if (is_ours) {
            free(mail);
        }
        mail = next;
    }
}

static void on_wake(uv_async_t *wake) {
    run_all(take_all(wake->data, NULL));
}

RC mailbox_init(struct mailbox *m, uv_loop_t *loop) {
    ENSURE(uv_async_init(loop, &m->wake, on_wake) == 0, NOMEM);
    m->wake.data = m;
    atomic_init(&m->first, NULL);
    return OK;
}

bool mailbox_put(struct mailbox *m, struct mail *mail) {
    struct mail *first = atomic_load_explicit(&m->first, memory_order_relaxed);
    do {
        if (first == &closed_mark) {
            return false;
        }
        mail->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&m->first, &first, mail, memory_order_release,
                                                    memory_order_relaxed));
    (void)uv_async_send(&m->wake);
    return true;
}

bool mailbox_post(struct mailbox *m, void (*fn)(void *arg), void *arg) {
    struct mail *mail = malloc(sizeof(*mail));
    if (mail == NULL) {
        return false;
    }
    *mail = (struct mail){ .fn = fn, .arg = arg, .is_ours = true };
    if (!mailbox_put(m, mail)) {
        free(mail);
        return false;
    }
    return true;
}

void mailbox_close(struct mailbox *m) {
    run_all(take_all(m, &closed_mark));
    uv_close((uv_handle_t *)&m->wake, NULL);
}
