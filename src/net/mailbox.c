/* SPDX-License-Identifier: Apache-2.0 */
/* Without a lock: the pool's threads run at a lower priority than those they write to, and one that
 * is preempted while it holds a lock would stop them. For the same reason not uv_async_t: its
 * receiver spins until a sender is done, and a worker that wakes preempts the sender just then.
 * Measured: it spun for milliseconds, an eighth of its time in a storm. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

static void on_wake(uv_poll_t *poll, int status, int events) {
    struct mailbox *m = poll->data;
    uint64_t count = 0;
    (void)status;
    (void)events;
    ssize_t n =
        read(m->fd, &count, sizeof(count)); /* Before the mail: what comes later wakes anew. */
    (void)n;
    run_all(take_all(m, NULL));
}

RC mailbox_init(struct mailbox *m, uv_loop_t *loop) {
    m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ENSURE(m->fd >= 0, NOMEM);
    if (uv_poll_init(loop, &m->poll, m->fd) != 0) {
        (void)close(m->fd);
        return ERR(NOMEM);
    }
    m->poll.data = m;
    atomic_init(&m->first, NULL);
    int ret = uv_poll_start(&m->poll, UV_READABLE, on_wake);
    ASSERT(ret == 0); /* Fails only when it is closing. */
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
    if (first == NULL) { /* Else who put the first one wakes it. */
        const uint64_t one = 1;
        ssize_t n = write(m->fd, &one, sizeof(one));
        (void)n; /* Fails only when it was written 2^64 - 2 times unread. */
    }
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
    uv_close((uv_handle_t *)&m->poll, NULL);
    (void)close(m->fd);
}
