/* SPDX-License-Identifier: Apache-2.0 */
/* KmsService on one worker: the methods behind the generated service, and the calls that wait until
 * this node knows of the write their caller has seen. Made by the controlling thread before the
 * worker runs; then everything is on the worker's loop, but for the store's signal. */
#pragma once

#include "service/methods.h"
#include "service/waits.h"

/* Calls of one worker that wait at once; further ones are answered at once, as if their wait were
 * over. */
#define SERVICE_WAIT_COUNT_MAX 4096u
/* The memory that they hold together. A request has up to a frame, and what is made of it as much
 * again: without this, 4096 of them would hold more than any machine has. */
#define SERVICE_WAIT_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* A wait ends so long before its call's deadline, so that the answer arrives: a tenth of what is
 * left, between these. */
#define SERVICE_ANSWER_MARGIN_MIN_MS 20u
#define SERVICE_ANSWER_MARGIN_MAX_MS 500u
#define SERVICE_KEYS_PER_WORKER 256u

struct service_kms; /* Opaque. */

struct service_kms_cfg {
    const struct service_shared *shared; /* Lent until close. */
    uv_loop_t *loop;                     /* The worker's. */
    service_post_fn post;
    void *post_ctx;
    uint32_t worker_idx;
};

/* Gives *out, NULL on error. The connection's context (net_call_context) of every call must be a
 * struct service_caller. NOMEM, QUOTA. */
RC service_kms_init(struct service_kms **out, const struct service_kms_cfg *cfg);
/* Lends the service to register with the server. */
ProtobufCService *service_kms_service(struct service_kms *kms);
/* On the loop: calls use keys of this master secret (lent until close, or until another is set)
 * from now on. Keys derived before are wiped. */
void service_kms_set_master(struct service_kms *kms, const struct kdf_master *master);
/* On the loop, or when it does not run any more: closes the timer. */
void service_kms_stop(struct service_kms *kms);
/* Takes *kms once the loop has closed its handles: wipes the keys, frees, sets NULL. Accepts a
 * closed one. */
void service_kms_close(struct service_kms **kms);
