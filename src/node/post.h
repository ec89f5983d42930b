/* SPDX-License-Identifier: Apache-2.0 */
/* The way to a worker's loop that stays safe while the server comes and goes: the registry's thread
 * and the store's listeners may signal at any time. Any thread. */
#pragma once

#include <pthread.h>

#include "net/server.h"

/* Embedded. */
struct node_post {
    pthread_mutex_t mutex;
    struct net_server *server; /* NULL before it exists and once it closes. Guarded. */
};

/* Without a server. */
void node_post_init(struct node_post *post);
/* When no thread signals any more. */
void node_post_close(struct node_post *post);
/* Posts go to this server from now on, lent until the next call; NULL: nowhere. Waits for a post
 * that is under way. */
void node_post_set(struct node_post *post, struct net_server *server);
/* Runs fn(arg) on the worker's loop. False when there is no server, or its worker has ended. */
bool node_post_run(void *post, uint32_t worker_idx, void (*fn)(void *arg), void *arg);
