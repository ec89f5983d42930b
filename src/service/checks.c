/* SPDX-License-Identifier: Apache-2.0 */
#include "service/checks.h"

#include <inttypes.h>

/* Reserved for the key that values are sealed with. */
#define RESERVED_PATH "data_key"

/* The next code point of well-formed UTF-8. */
static uint32_t next_code_point(struct span *text) {
    uint8_t lead = text->ptr[0];
    size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t code = len == 1 ? lead : lead & (0xffU >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        code = (code << 6) | (text->ptr[i] & 0x3fU);
    }
    *text = (struct span){ text->ptr + len, text->len - len };
    return code;
}

static bool is_space(uint32_t code) {
    if (code <= 0x20) {
        return code == 0x20 || (code >= 0x09 && code <= 0x0d) || code >= 0x1c;
    }
    return code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
           code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool service_is_blank(struct span text) {
    while (text.len > 0) {
        if (!is_space(next_code_point(&text))) {
            return false;
        }
    }
    return true;
}

static bool check_path(struct span path, struct status *why) {
    if (path.len == 0 || path.len > SERVICE_PATH_BYTES_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "path: has %zu bytes; it must have 1 to %u",
                   path.len, SERVICE_PATH_BYTES_MAX);
    } else if (!span_is_utf8(path)) {
        status_set(why, STATUS_INVALID_ARGUMENT, "path: must be well-formed UTF-8");
    } else if (service_is_blank(path)) {
        status_set(why, STATUS_INVALID_ARGUMENT, "path: must not be only white space");
    } else if (span_equal(path, SPAN_LIT(RESERVED_PATH))) {
        status_set(why, STATUS_INVALID_ARGUMENT, "path: \"" RESERVED_PATH "\" is reserved");
    } else {
        return true;
    }
    return false;
}

bool service_check_derive(const Novakms__V1__DeriveRequest *in, struct status *why) {
    if (!check_path(service_span(in->path), why)) {
        return false;
    }
    if (in->context.len > SERVICE_CONTEXT_BYTES_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "context: has %zu bytes; it must have at most %u",
                   in->context.len, SERVICE_CONTEXT_BYTES_MAX);
    } else if (in->length > KDF_KEY_BYTES_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "length: is %" PRIu32 "; it must be 1 to %d, or 0 for %u", in->length,
                   KDF_KEY_BYTES_MAX, SERVICE_KEY_LENGTH_DEFAULT);
    } else if (in->kdf != NOVAKMS__V1__KDF__KDF_NOVA_V1 &&
               in->kdf != NOVAKMS__V1__KDF__KDF_NOVA_V2) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "kdf: is %d; it must be KDF_NOVA_V1 (0) or KDF_NOVA_V2 (1)", (int)in->kdf);
    } else {
        return true;
    }
    return false;
}

bool service_check_key(struct span key, struct status *why) {
    if (key.len >= 1 && key.len <= STORE_KEY_BYTES_MAX) {
        return true;
    }
    status_set(why, STATUS_INVALID_ARGUMENT, "key: has %zu bytes; it must have 1 to %d", key.len,
               STORE_KEY_BYTES_MAX);
    return false;
}

bool service_check_value(struct span value, uint64_t value_bytes_max, struct status *why) {
    if (value.len <= value_bytes_max) {
        return true;
    }
    status_set(why, STATUS_RESOURCE_EXHAUSTED, "value: has %zu bytes; MAX_VALUE_SIZE is %" PRIu64,
               value.len, value_bytes_max);
    return false;
}

bool service_check_ttl(uint64_t ttl_ms, struct status *why) {
    if (ttl_ms <= STORE_TTL_MS_MAX) {
        return true;
    }
    status_set(why, STATUS_INVALID_ARGUMENT,
               "ttl_ms: is %" PRIu64 "; it must be at most %" PRIu64 " (10 years), or 0 for never",
               ttl_ms, (uint64_t)STORE_TTL_MS_MAX);
    return false;
}

static uint32_t other_count(const struct service_shared *shared) {
    (void)service_kv_lock(shared->kv);
    uint32_t count = replica_other_count(shared->replica);
    service_kv_unlock(shared->kv, false);
    return count;
}

bool service_check_durability(const struct service_shared *shared,
                              Novakms__V1__Durability durability, struct status *why) {
    switch ((int)durability) { /* Any number arrives, so this is no switch over the enum. */
    case NOVAKMS__V1__DURABILITY__DURABILITY_LOCAL:
    case NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM: /* One member is its own majority. */
        return true;
    case NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER:
        if (other_count(shared) > 0) {
            return true;
        }
        status_set(why, STATUS_FAILED_PRECONDITION,
                   "durability: the cluster has no other member, so ONE_PEER cannot be met; "
                   "nothing was stored");
        return false;
    default:
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "durability: is %d; it must be LOCAL (0), ONE_PEER (1) or QUORUM (2)",
                   (int)durability);
        return false;
    }
}

bool service_check_batch(const char *field, size_t count, struct status *why) {
    if (count >= 1 && count <= SERVICE_BATCH_COUNT_MAX) {
        return true;
    }
    status_set(why, STATUS_INVALID_ARGUMENT, "%s: has %zu entries; it must have 1 to %u", field,
               count, SERVICE_BATCH_COUNT_MAX);
    return false;
}

bool service_check_stamp(const char *field, const Novakms__V1__Stamp *stamp,
                         const struct service_stamp_cfg *cfg, struct store_stamp *out,
                         struct status *why) {
    *out = STORE_STAMP_NONE;
    if (stamp == NULL || (stamp->hlc == 0 && stamp->writer.len == 0)) {
        return true;
    }
    if (stamp->writer.len != STORE_WRITER_BYTES) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s: its writer has %zu bytes; it must have %d",
                   field, stamp->writer.len, STORE_WRITER_BYTES);
        return false;
    }
    if (store_hlc_is_future(stamp->hlc, cfg->now_unix_ms, cfg->skew_max_ms)) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "%s: is dated more than %" PRIu64
                   " ms (MAX_CLOCK_SKEW_MS) ahead of this node's clock",
                   field, cfg->skew_max_ms);
        return false;
    }
    out->hlc = stamp->hlc;
    memcpy(out->writer, stamp->writer.data, STORE_WRITER_BYTES);
    return true;
}
