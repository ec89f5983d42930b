/* SPDX-License-Identifier: Apache-2.0 */
/* BatchGet and BatchPut. */
#include "service/checks.h"
#include "service/internal.h"

/* What one item of BatchGet takes in the packed answer beside its value: its tag and length, stamp,
 * expiry, status code and the field headers (protobuf's worst case), and a status sentence. */
#define GET_ITEM_BYTES 128u
#define GET_ITEM_STATUS_BYTES STATUS_TEXT_BYTES

struct batch_get {
    struct service_worker *worker;
    struct service_call *call;
    size_t bytes_left; /* In the answer. */
};

/* Reads one key. On NOT_FOUND and errors *status is set. */
static RC read_item(struct batch_get *batch, struct span key, Novakms__V1__BatchGetItem *item,
                    struct status *status) {
    struct service_call *call = batch->call;
    const struct service_kv_query query = {
        .app_id = call->caller->app_id,
        .key = key,
        .now_unix_ms = call->now_unix_ms,
        .sealed_bytes_max = batch->bytes_left + SERVICE_SEAL_BYTES,
    };
    struct service_kv_value value = { 0 };
    struct rc rc = service_get_one(batch->worker, call, &query, &value, status);
    TRY(service_stamp_out(call->arena, &value.stamp, &item->stamp));
    if (rc.err == E_QUOTA) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED,
                   "key: its value of %zu bytes does not fit into this answer; get it in another",
                   value.sealed_len - SERVICE_SEAL_BYTES);
    }
    if (rc.err != E_OK) {
        return OK; /* The item failed, not the call. */
    }
    item->value = service_plain(&value);
    batch->bytes_left -= item->value.len;
    item->expires_unix_ms = value.expires_unix_ms;
    return OK;
}

static RC get_item(struct batch_get *batch, struct span key, Novakms__V1__BatchGetItem *item) {
    struct status status = { .code = STATUS_OK };
    novakms__v1__batch_get_item__init(item);
    if (service_check_key(key, &status)) {
        TRY(read_item(batch, key, item, &status));
    }
    return service_item_status(batch->call->arena, &status, &item->status);
}

static RC get_items(struct batch_get *batch, const Novakms__V1__BatchGetRequest *in,
                    Novakms__V1__BatchGetResponse *out) {
    struct arena *arena = batch->call->arena;
    Novakms__V1__BatchGetItem *items = arena_take(arena, in->n_keys * sizeof(*items));
    ENSURE(items != NULL, NOMEM);
    out->items = arena_take(arena, in->n_keys * sizeof(Novakms__V1__BatchGetItem *));
    ENSURE(out->items != NULL, NOMEM);
    for (size_t i = 0; i < in->n_keys; i++) {
        TRY(get_item(batch, service_span(in->keys[i]), &items[i]));
        out->items[i] = &items[i];
    }
    out->n_items = in->n_keys;
    return OK;
}

enum service_outcome service_batch_get(struct service_worker *worker, struct service_call *call,
                                       const Novakms__V1__BatchGetRequest *in,
                                       Novakms__V1__BatchGetResponse *out) {
    if (!service_check_batch("keys", in->n_keys, &call->why) ||
        !service_check_call(worker, call, in->seen, in->wrote)) {
        return SERVICE_FAILED;
    }
    if (!service_has_caught_up(worker, call)) {
        return SERVICE_WAITS;
    }
    size_t overhead = in->n_keys * (GET_ITEM_BYTES + GET_ITEM_STATUS_BYTES);
    struct batch_get batch = {
        .worker = worker,
        .call = call,
        .bytes_left = call->answer_bytes_max > overhead ? call->answer_bytes_max - overhead : 0,
    };
    struct rc rc = get_items(&batch, in, out);
    out->may_miss = call->may_miss;
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}

static RC put_item(struct service_worker *worker, struct service_call *call,
                   const struct service_put *put, Novakms__V1__BatchPutItem *item) {
    struct status status = { .code = STATUS_OK };
    struct store_stamp stamp = STORE_STAMP_NONE;
    novakms__v1__batch_put_item__init(item);
    bool done = service_check_key(put->key, &status) &&
                service_check_value(put->value, worker->shared->value_bytes_max, &status) &&
                service_check_ttl(put->ttl_ms, &status) &&
                service_put_one(worker, call, put, &stamp, &status);
    if (done) {
        service_note_written(call, &stamp);
        TRY(service_stamp_out(call->arena, &stamp, &item->stamp));
    }
    return service_item_status(call->arena, &status, &item->status);
}

static RC put_items(struct service_worker *worker, struct service_call *call,
                    const Novakms__V1__BatchPutRequest *in) {
    size_t count = in->n_entries;
    Novakms__V1__BatchPutItem *items = arena_take(call->arena, count * sizeof(*items));
    ENSURE(items != NULL, NOMEM);
    for (size_t i = 0; i < count; i++) {
        const Novakms__V1__BatchPutEntry *entry = in->entries[i];
        const struct service_put put = { service_span(entry->key), service_span(entry->value),
                                         entry->ttl_ms };
        TRY(put_item(worker, call, &put, &items[i]));
    }
    call->written.kept = items;
    return OK;
}

/* Gives the answer. stored: what became of the items that were stored. */
static RC put_answer(struct service_call *call, size_t count, const struct status *stored,
                     Novakms__V1__BatchPutResponse *out) {
    Novakms__V1__BatchPutItem *items = call->written.kept;
    out->items = arena_take(call->arena, count * sizeof(Novakms__V1__BatchPutItem *));
    ENSURE(out->items != NULL, NOMEM);
    for (size_t i = 0; i < count; i++) {
        if (stored->code != STATUS_OK && items[i].stamp != NULL) {
            TRY(service_item_status(call->arena, stored, &items[i].status));
        }
        out->items[i] = &items[i];
    }
    out->n_items = count;
    out->may_miss = call->may_miss;
    return OK;
}

enum service_outcome service_batch_put(struct service_worker *worker, struct service_call *call,
                                       const Novakms__V1__BatchPutRequest *in,
                                       Novakms__V1__BatchPutResponse *out) {
    struct rc rc = OK;
    if (call->written.kept == NULL) {
        if (!service_check_batch("entries", in->n_entries, &call->why) ||
            !service_check_call(worker, call, in->seen, in->wrote) ||
            !service_check_durability(worker->shared, in->durability, &call->why)) {
            return SERVICE_FAILED;
        }
        call->is_write = true;
        if (!service_has_caught_up(worker, call)) {
            return SERVICE_WAITS;
        }
        call->written.durability = in->durability;
        rc = put_items(worker, call, in);
    }
    struct status stored = { .code = STATUS_OK };
    if (rc.err == E_OK && call->written.count > 0) {
        enum service_outcome outcome = service_settle(worker, call);
        if (outcome == SERVICE_WAITS) {
            return SERVICE_WAITS;
        }
        stored = outcome == SERVICE_FAILED ? call->why : stored;
    }
    if (rc.err == E_OK) {
        rc = put_answer(call, in->n_entries, &stored, out);
    }
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}
