/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP call to Odyn: bounded in time and size, repeated where that is safe. For
 * identity/odyn.c, whose thread rule it shares. */
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "identity/odyn.h"

/* The longest answer: a plaintext of which every byte is escaped as \u00xx. */
#define ODYN_ANSWER_BYTES_MAX 32768

struct odyn_http; /* Opaque. */

/* cfg without defaults to fill in. Errors of identity_odyn_init. */
RC odyn_http_init(struct odyn_http **out, const struct identity_odyn_cfg *cfg, struct status *why);
/* Takes *http, wipes the last answer, sets NULL. Accepts NULL in it. */
void odyn_http_close(struct odyn_http **http);
/* Any thread. */
void odyn_http_cancel(struct odyn_http *http);

struct odyn_call {
    const char *path;
    struct span body; /* JSON to POST; empty for a GET. Lent for the call. */
    /* Whether a second execution does no harm. Otherwise it is repeated only when the connection
     * failed, because then Odyn has not seen it. */
    bool repeatable;
};

/* Lends the body of the answer, which has status 200, until the next call or odyn_http_forget. It
 * is in locked memory and may be changed in place. Errors of identity/odyn.h. */
RC odyn_http_call(struct odyn_http *http, const struct odyn_call *call, struct span *answer,
                  struct status *why);
/* Wipes the answer. */
void odyn_http_forget(struct odyn_http *http);
