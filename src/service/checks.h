/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of requests' fields. Each gives true, or false with *why set: the code, and a sentence
 * that names the field and what is allowed. Any thread. */
#pragma once

#include "service/methods.h"

static inline struct span service_span(ProtobufCBinaryData data) {
    return (struct span){ data.data, data.len };
}

/* Whether UTF-8 text is empty or only white space (Unicode's White_Space, and the separators U+001C
 * to U+001F, which the existing nodes count as such). */
bool service_is_blank(struct span text);

/* Path, context, length and kdf. */
bool service_check_derive(const Novakms__V1__DeriveRequest *in, struct status *why);
/* 1 to STORE_KEY_BYTES_MAX bytes. */
bool service_check_key(struct span key, struct status *why);
/* At most value_bytes_max bytes; and at most STORE_TTL_MS_MAX, 0 for ever. */
bool service_check_value(struct span value, uint64_t value_bytes_max, struct status *why);
bool service_check_ttl(uint64_t ttl_ms, struct status *why);
/* The durability is one of the enum's, and the cluster has the members for it. */
bool service_check_durability(const struct service_shared *shared,
                              Novakms__V1__Durability durability, struct status *why);
/* 1 to SERVICE_BATCH_COUNT_MAX. */
bool service_check_batch(const char *field, size_t count, struct status *why);

struct service_stamp_cfg {
    uint64_t now_unix_ms;
    uint64_t skew_max_ms;
};
/* A stamp that a caller shows in that field; NULL is none. Fills *out. */
bool service_check_stamp(const char *field, const Novakms__V1__Stamp *stamp,
                         const struct service_stamp_cfg *cfg, struct store_stamp *out,
                         struct status *why);
