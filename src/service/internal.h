/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the methods share; not for other rooms. */
#pragma once

#include "service/methods.h"

/* Turns a failure that is not the caller's into the call's status. */
enum service_outcome service_fail_internal(struct service_call *call, struct rc rc);
/* Lends the caller's keys until the next call of it. DENIED for app id 0, CRYPTO. */
RC service_app_keys_of(struct service_worker *worker, const struct service_call *call,
                       const struct service_app_keys **out);
/* Gives *out in the arena. NOMEM. */
RC service_item_status(struct arena *arena, const struct status *status,
                       Novakms__V1__ItemStatus **out);
/* Gives *out in the arena; NULL for no stamp. NOMEM. */
RC service_stamp_out(struct arena *arena, const struct store_stamp *stamp,
                     Novakms__V1__Stamp **out);

/* One put, checked already but for the store's own limits. On false *why is set. */
struct service_put {
    struct span key;
    struct span value;
    uint64_t ttl_ms;
};
bool service_put_one(struct service_worker *worker, struct service_call *call,
                     const struct service_put *put, struct store_stamp *stamp, struct status *why);

/* Notes a write that was made for the call. */
void service_note_written(struct service_call *call, const struct store_stamp *stamp);
/* Whether the call's writes may be answered: ANSWERED; WAITS; or FAILED, when the wait is over. */
enum service_outcome service_settle(struct service_worker *worker, struct service_call *call);

/* One get, opened in place: service_plain gives the value. OK; AGAIN when `shown` is not covered;
 * QUOTA when it is longer than the query allows; NOT_FOUND with value->stamp; else *why is set,
 * with DENIED. */
RC service_get_one(struct service_worker *worker, struct service_call *call,
                   const struct service_kv_query *query, struct service_kv_value *value,
                   struct status *why);
/* The plaintext of a value that service_get_one has opened. */
static inline ProtobufCBinaryData service_plain(const struct service_kv_value *value) {
    return (ProtobufCBinaryData){ value->sealed_len - SERVICE_SEAL_BYTES,
                                  value->sealed + XAES_NONCE_BYTES };
}

/* What every data call begins with: the caller's app id is none of the reserved, and its stamps are
 * well formed by this node's clock and skew. Fills call->shown. */
bool service_check_call(const struct service_worker *worker, struct service_call *call,
                        const Novakms__V1__Stamp *seen, const Novakms__V1__Stamp *wrote);
/* Whether this node knows of what the caller showed, or has waited for it long enough. */
bool service_has_caught_up(const struct service_worker *worker, const struct service_call *call);
