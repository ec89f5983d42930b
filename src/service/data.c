/* SPDX-License-Identifier: Apache-2.0 */
/* Put, Get, Delete and List. */
#include <inttypes.h>

#include "crypto/random.h"
#include "service/checks.h"
#include "service/internal.h"
#include "service/seal.h"
#include "service/token.h"

RC service_stamp_out(struct arena *arena, const struct store_stamp *stamp,
                     Novakms__V1__Stamp **out) {
    *out = NULL;
    if (store_stamp_is_none(stamp)) {
        return OK;
    }
    struct {
        Novakms__V1__Stamp message;
        uint8_t writer[STORE_WRITER_BYTES];
    } *made = arena_take(arena, sizeof(*made));
    ENSURE(made != NULL, NOMEM);
    novakms__v1__stamp__init(&made->message);
    memcpy(made->writer, stamp->writer, STORE_WRITER_BYTES);
    made->message.hlc = stamp->hlc;
    made->message.writer = (ProtobufCBinaryData){ STORE_WRITER_BYTES, made->writer };
    *out = &made->message;
    return OK;
}

/* Why the store refused a write. */
static void explain_refusal(const struct service_worker *worker, const struct service_call *call,
                            enum store_refusal refusal, struct status *why) {
    const struct store_cfg *cfg = service_kv_cfg(worker->shared->kv);
    switch (refusal) {
    case STORE_REFUSED_APP_BYTES:
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "the app's storage is full: MAX_APP_STORAGE is %" PRIu64
                   " bytes, keys, values and bookkeeping together",
                   cfg->app_bytes_max);
        break;
    case STORE_REFUSED_TOTAL_BYTES:
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "the node's storage is full: MAX_STORE_BYTES is %" PRIu64 " bytes",
                   cfg->total_bytes_max);
        break;
    case STORE_REFUSED_TOMBSTONES:
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "too many deletes are still remembered: MAX_TOMBSTONES_PER_APP is %" PRIu64,
                   cfg->tombstone_count_max);
        break;
    case STORE_REFUSED_NAMESPACES:
        status_set(why, STATUS_RESOURCE_EXHAUSTED,
                   "the node holds data of too many apps: the limit is %" PRIu32,
                   cfg->namespace_count_max);
        break;
    case STORE_REFUSED_SEEN:
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "%s: is dated more than %" PRIu64
                   " ms (MAX_CLOCK_SKEW_MS) ahead of this node's clock",
                   service_shown_max(&call->shown) == &call->shown.wrote ? "wrote" : "seen",
                   cfg->clock_skew_ms);
        break;
    case STORE_REFUSED_CLOCK:
        status_set(why, STATUS_UNAVAILABLE,
                   "this node's clock is more than %" PRIu64
                   " ms (MAX_CLOCK_SKEW_MS) behind its own latest write",
                   cfg->clock_skew_ms);
        break;
    case STORE_REFUSED_MEMORY:
        status_set(why, STATUS_UNAVAILABLE, "the node is out of memory; try again");
        break;
    case STORE_REFUSED_KEY:
    case STORE_REFUSED_SEALED:
    case STORE_REFUSED_TTL:
        status_set(why, STATUS_INVALID_ARGUMENT, "the store refused the write: %s",
                   store_refusal_name(refusal));
        break;
    case STORE_REFUSED_NONE:
    case STORE_REFUSED_SKEW:
    case STORE_REFUSED_MALFORMED:
    case STORE_REFUSED_HARD_BYTES:
    case STORE_REFUSED_WRITERS:
    case STORE_REFUSAL_COUNT:
        status_set(why, STATUS_INTERNAL, "the store failed: %s", store_refusal_name(refusal));
        break;
    }
}

/* Gives *out in the arena: nonce, ciphertext, tag. */
static RC seal_value(struct service_worker *worker, struct service_call *call, struct span key,
                     struct span value, struct span *out) {
    uint8_t aad_bytes[SERVICE_AAD_BYTES_MAX];
    struct writer aad = { aad_bytes, 0, sizeof(aad_bytes) };
    const struct service_app_keys *keys = NULL;
    TRY(service_app_keys_of(worker, call, &keys));
    TRY(service_seal_aad(call->caller->app_id, key, &aad));
    uint8_t *sealed = arena_take(call->arena, SERVICE_SEAL_BYTES + value.len);
    ENSURE(sealed != NULL, NOMEM);
    TRY(random_bytes(sealed, XAES_NONCE_BYTES));
    xaes_seal(&keys->seal, sealed, writer_span(&aad), value, sealed + XAES_NONCE_BYTES);
    *out = (struct span){ sealed, SERVICE_SEAL_BYTES + value.len };
    return OK;
}

bool service_put_one(struct service_worker *worker, struct service_call *call,
                     const struct service_put *put, struct store_stamp *stamp, struct status *why) {
    struct store_write write = {
        .app_id = call->caller->app_id,
        .key = put->key,
        .ttl_ms = put->ttl_ms,
        .now_unix_ms = call->now_unix_ms,
        .seen = *service_shown_max(&call->shown),
    };
    struct rc rc = seal_value(worker, call, put->key, put->value, &write.sealed);
    if (rc.err != E_OK) {
        (void)service_fail_internal(call, rc);
        *why = call->why;
        return false;
    }
    struct store_written written = { 0 };
    rc = service_kv_put(worker->shared->kv, &write, &written);
    if (rc.err != E_OK) {
        explain_refusal(worker, call, written.refusal, why);
        return false;
    }
    *stamp = written.stamp;
    return true;
}

bool service_check_call(const struct service_worker *worker, struct service_call *call,
                        const Novakms__V1__Stamp *seen, const Novakms__V1__Stamp *wrote) {
    if (call->caller->app_id == 0) {
        (void)service_fail_internal(call, ERR(DENIED));
        return false;
    }
    const struct service_stamp_cfg cfg = {
        .now_unix_ms = call->now_unix_ms,
        .skew_max_ms = service_kv_cfg(worker->shared->kv)->clock_skew_ms,
    };
    return service_check_stamp("seen", seen, &cfg, &call->shown.seen, &call->why) &&
           service_check_stamp("wrote", wrote, &cfg, &call->shown.wrote, &call->why);
}

bool service_has_caught_up(const struct service_worker *worker, const struct service_call *call) {
    /* What is known stays known, so the lock may be left before the call goes on. */
    return call->may_miss || service_kv_covers(worker->shared->kv, &call->shown);
}

enum service_outcome service_settle(struct service_worker *worker, struct service_call *call) {
    struct service_written *written = &call->written;
    const struct service_shared *shared = worker->shared;
    if (written->durability == NOVAKMS__V1__DURABILITY__DURABILITY_LOCAL) {
        return SERVICE_ANSWERED;
    }
    (void)service_kv_lock(shared->kv);
    bool is_met = service_is_durable(shared->replica, written, &written->ack_count);
    service_kv_unlock(shared->kv, false);
    if (is_met) {
        return SERVICE_ANSWERED;
    }
    if (!call->is_over) {
        return SERVICE_WAITS;
    }
    status_set(&call->why, STATUS_DEADLINE_EXCEEDED,
               "durability: stored here and on %" PRIu32 " peers; that is not enough for %s",
               written->ack_count,
               written->durability == NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM ? "QUORUM"
                                                                                 : "ONE_PEER");
    call->stamp = written->stamp;
    return SERVICE_FAILED;
}

/* Notes a write that was made for the call. */
void service_note_written(struct service_call *call, const struct store_stamp *stamp) {
    call->written.count++;
    if (store_stamp_compare(stamp, &call->written.stamp) > 0) {
        call->written.stamp = *stamp;
    }
}

/* Before the wait for what the caller showed, and again after it. */
static bool check_put(const struct service_worker *worker, struct service_call *call,
                      const Novakms__V1__PutRequest *in) {
    struct status *why = &call->why;
    return service_check_key(service_span(in->key), why) &&
           service_check_value(service_span(in->value), worker->shared->value_bytes_max, why) &&
           service_check_ttl(in->ttl_ms, why) &&
           service_check_call(worker, call, in->seen, in->wrote) &&
           service_check_durability(worker->shared, in->durability, why);
}

static enum service_outcome put_now(struct service_worker *worker, struct service_call *call,
                                    const Novakms__V1__PutRequest *in) {
    const struct service_put put = { service_span(in->key), service_span(in->value), in->ttl_ms };
    struct store_stamp stamp = STORE_STAMP_NONE;
    call->is_write = true;
    if (!check_put(worker, call, in)) {
        return SERVICE_FAILED;
    }
    if (!service_has_caught_up(worker, call)) {
        return SERVICE_WAITS;
    }
    if (!service_put_one(worker, call, &put, &stamp, &call->why)) {
        return SERVICE_FAILED;
    }
    call->written.durability = in->durability;
    service_note_written(call, &stamp);
    return SERVICE_ANSWERED;
}

enum service_outcome service_put(struct service_worker *worker, struct service_call *call,
                                 const Novakms__V1__PutRequest *in, Novakms__V1__PutResponse *out) {
    enum service_outcome outcome = SERVICE_ANSWERED;
    if (call->written.count == 0) {
        outcome = put_now(worker, call, in);
    }
    if (outcome == SERVICE_ANSWERED) {
        outcome = service_settle(worker, call);
    }
    if (outcome != SERVICE_ANSWERED) {
        return outcome;
    }
    out->may_miss = call->may_miss;
    struct rc rc = service_stamp_out(call->arena, &call->written.stamp, &out->stamp);
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}

static enum service_outcome delete_now(struct service_worker *worker, struct service_call *call,
                                       const Novakms__V1__DeleteRequest *in) {
    call->is_write = true;
    if (!service_check_key(service_span(in->key), &call->why) ||
        !service_check_call(worker, call, in->seen, in->wrote) ||
        !service_check_durability(worker->shared, in->durability, &call->why)) {
        return SERVICE_FAILED;
    }
    if (!service_has_caught_up(worker, call)) {
        return SERVICE_WAITS;
    }
    const struct store_write write = {
        .app_id = call->caller->app_id,
        .key = service_span(in->key),
        .now_unix_ms = call->now_unix_ms,
        .seen = *service_shown_max(&call->shown),
    };
    struct store_written written = { 0 };
    struct rc rc = service_kv_delete(worker->shared->kv, &write, &written);
    if (rc.err != E_OK) {
        explain_refusal(worker, call, written.refusal, &call->why);
        return SERVICE_FAILED;
    }
    call->written.durability = in->durability;
    call->written.existed = written.existed;
    service_note_written(call, &written.stamp);
    return SERVICE_ANSWERED;
}

enum service_outcome service_delete(struct service_worker *worker, struct service_call *call,
                                    const Novakms__V1__DeleteRequest *in,
                                    Novakms__V1__DeleteResponse *out) {
    enum service_outcome outcome = SERVICE_ANSWERED;
    if (call->written.count == 0) {
        outcome = delete_now(worker, call, in);
    }
    if (outcome == SERVICE_ANSWERED) {
        outcome = service_settle(worker, call);
    }
    if (outcome != SERVICE_ANSWERED) {
        return outcome;
    }
    out->may_miss = call->may_miss;
    out->existed = call->written.existed;
    struct rc rc = service_stamp_out(call->arena, &call->written.stamp, &out->stamp);
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}

/* Opens in place. */
static RC open_value(struct service_worker *worker, struct service_call *call, struct span key,
                     const struct service_kv_value *value) {
    uint8_t aad_bytes[SERVICE_AAD_BYTES_MAX];
    struct writer aad = { aad_bytes, 0, sizeof(aad_bytes) };
    const struct service_app_keys *keys = NULL;
    TRY(service_app_keys_of(worker, call, &keys));
    TRY(service_seal_aad(call->caller->app_id, key, &aad));
    ENSURE(value->sealed_len >= SERVICE_SEAL_BYTES, TRUNCATED);
    uint8_t *body = value->sealed + XAES_NONCE_BYTES;
    struct span sealed = { body, value->sealed_len - XAES_NONCE_BYTES };
    return xaes_open(&keys->seal, value->sealed, writer_span(&aad), sealed, body);
}

RC service_get_one(struct service_worker *worker, struct service_call *call,
                   const struct service_kv_query *query, struct service_kv_value *value,
                   struct status *why) {
    struct rc rc = service_kv_get(worker->shared->kv, query, call->arena, value);
    if (rc.err == E_AGAIN || rc.err == E_QUOTA) {
        return rc;
    }
    if (rc.err == E_NOT_FOUND) {
        status_set(why, STATUS_NOT_FOUND, "key: holds no value");
        return rc;
    }
    if (rc.err == E_OK) {
        rc = open_value(worker, call, query->key, value);
    }
    if (rc.err == E_OK) {
        return OK;
    }
    if (rc.err == E_BAD_AUTH || rc.err == E_TRUNCATED) {
        status_set(why, STATUS_DATA_LOSS, "key: its stored value does not decrypt");
    } else {
        (void)service_fail_internal(call, rc);
        *why = call->why;
    }
    return ERR(DENIED);
}

enum service_outcome service_get(struct service_worker *worker, struct service_call *call,
                                 const Novakms__V1__GetRequest *in, Novakms__V1__GetResponse *out) {
    struct service_kv_query query = {
        .app_id = call->caller->app_id,
        .key = service_span(in->key),
        .now_unix_ms = call->now_unix_ms,
        .sealed_bytes_max = SIZE_MAX,
    };
    if (!service_check_key(query.key, &call->why) ||
        !service_check_call(worker, call, in->seen, in->wrote)) {
        return SERVICE_FAILED;
    }
    if (!call->may_miss) { /* Once it has waited in vain, it goes on without. */
        query.shown = call->shown;
    }
    struct service_kv_value value = { 0 };
    struct rc rc = service_get_one(worker, call, &query, &value, &call->why);
    if (rc.err == E_AGAIN) {
        return SERVICE_WAITS;
    }
    if (rc.err != E_OK) {
        call->stamp = value.stamp;
        return SERVICE_FAILED;
    }
    out->value = service_plain(&value);
    out->expires_unix_ms = value.expires_unix_ms;
    out->may_miss = call->may_miss;
    rc = service_stamp_out(call->arena, &value.stamp, &out->stamp);
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}

/* Fills the response from a page. */
static RC list_out(struct service_worker *worker, struct service_call *call,
                   const struct service_kv_page *page, struct span prefix,
                   Novakms__V1__ListResponse *out) {
    Novakms__V1__ListEntry *entries = arena_take(call->arena, page->count * sizeof(*entries));
    ENSURE(entries != NULL, NOMEM);
    out->entries = arena_take(call->arena, page->count * sizeof(Novakms__V1__ListEntry *));
    ENSURE(out->entries != NULL, NOMEM);
    struct store_stamp highest = STORE_STAMP_NONE;
    for (size_t i = 0; i < page->count; i++) {
        const struct service_kv_entry *from = &page->entries[i];
        novakms__v1__list_entry__init(&entries[i]);
        entries[i].key = (ProtobufCBinaryData){ from->key_len, from->key };
        entries[i].value_bytes = from->sealed_len - SERVICE_SEAL_BYTES;
        entries[i].expires_unix_ms = from->expires_unix_ms;
        TRY(service_stamp_out(call->arena, &from->stamp, &entries[i].stamp));
        out->entries[i] = &entries[i];
        if (store_stamp_compare(&from->stamp, &highest) > 0) {
            highest = from->stamp;
        }
    }
    out->n_entries = page->count;
    TRY(service_stamp_out(call->arena, &highest, &out->stamp));
    if (page->more) {
        const struct service_app_keys *keys = NULL;
        TRY(service_app_keys_of(worker, call, &keys));
        struct writer token = { 0 };
        TRY(service_token_seal(&keys->seal, prefix, page->next_after, call->arena, &token));
        out->next_page_token = (ProtobufCBinaryData){ token.len, token.ptr };
    }
    return OK;
}

/* Fills the range of a request. */
static bool list_range(struct service_worker *worker, struct service_call *call,
                       const Novakms__V1__ListRequest *in, struct service_kv_range *range) {
    struct status *why = &call->why;
    if (range->prefix.len > STORE_KEY_BYTES_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "prefix: has %zu bytes; it must have at most %d",
                   range->prefix.len, STORE_KEY_BYTES_MAX);
        return false;
    }
    if (in->limit > SERVICE_LIST_LIMIT_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "limit: is %" PRIu32 "; it must be 1 to %u, or 0 for %u", in->limit,
                   SERVICE_LIST_LIMIT_MAX, SERVICE_LIST_LIMIT_DEFAULT);
        return false;
    }
    range->limit = in->limit == 0 ? SERVICE_LIST_LIMIT_DEFAULT : in->limit;
    if (in->page_token.len == 0) {
        return true;
    }
    const struct service_app_keys *keys = NULL;
    struct rc rc = service_app_keys_of(worker, call, &keys);
    if (rc.err == E_OK) {
        rc = service_token_open(&keys->seal, range->prefix, service_span(in->page_token),
                                call->arena, &range->after);
    }
    if (rc.err == E_MALFORMED || rc.err == E_BAD_AUTH) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "page_token: must be next_page_token of an answer for the same prefix");
        return false;
    }
    if (rc.err != E_OK) {
        (void)service_fail_internal(call, rc);
        return false;
    }
    return true;
}

enum service_outcome service_list(struct service_worker *worker, struct service_call *call,
                                  const Novakms__V1__ListRequest *in,
                                  Novakms__V1__ListResponse *out) {
    struct service_kv_range range = {
        .app_id = call->caller->app_id,
        .prefix = service_span(in->prefix),
        .now_unix_ms = call->now_unix_ms,
    };
    if (!list_range(worker, call, in, &range) ||
        !service_check_call(worker, call, in->seen, in->wrote)) {
        return SERVICE_FAILED;
    }
    if (!call->may_miss) { /* Once it has waited in vain, it goes on without. */
        range.shown = call->shown;
    }
    struct service_kv_page page = { 0 };
    struct rc rc = service_kv_list(worker->shared->kv, &range, call->arena, &page);
    if (rc.err == E_AGAIN) {
        return SERVICE_WAITS;
    }
    if (rc.err == E_OK) {
        rc = list_out(worker, call, &page, range.prefix, out);
    }
    out->may_miss = call->may_miss;
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}
