/* SPDX-License-Identifier: Apache-2.0 */
#include "node/post.h"

void node_post_init(struct node_post *post) {
    post->server = NULL;
    ASSERT(pthread_mutex_init(&post->mutex, NULL) == 0);
}

void node_post_close(struct node_post *post) {
    (void)pthread_mutex_destroy(&post->mutex);
}

void node_post_set(struct node_post *post, struct net_server *server) {
    (void)pthread_mutex_lock(&post->mutex);
    post->server = server;
    (void)pthread_mutex_unlock(&post->mutex);
}

bool node_post_run(void *post, uint32_t worker_idx, void (*fn)(void *arg), void *arg) {
    struct node_post *p = post;
    (void)pthread_mutex_lock(&p->mutex);
    bool posted = p->server != NULL && net_server_post(p->server, worker_idx, fn, arg);
    (void)pthread_mutex_unlock(&p->mutex);
    return posted;
}
