/* SPDX-License-Identifier: Apache-2.0 */
#include "service/methods.h"

#include "service/checks.h"
#include "service/internal.h"

enum service_outcome service_fail_internal(struct service_call *call, struct rc rc) {
    if (rc.err == E_DENIED) {
        status_set(&call->why, STATUS_PERMISSION_DENIED, "app id 0 is reserved");
    } else if (rc.err == E_NOMEM) {
        status_set(&call->why, STATUS_UNAVAILABLE,
                   "the node is out of memory for this call; try again");
    } else {
        status_set(&call->why, STATUS_INTERNAL, "the node failed: %s", err_text(rc.err));
    }
    return SERVICE_FAILED;
}

RC service_app_keys_of(struct service_worker *worker, const struct service_call *call,
                       const struct service_app_keys **out) {
    ENSURE(call->caller->app_id != 0,
           DENIED); /* App id 0 is reserved for the cluster's own keys. */
    return service_keys_get(worker->keys, call->caller->app_id, out);
}

/* Fills *key in the arena. */
static RC derive_key(struct service_worker *worker, struct service_call *call,
                     const Novakms__V1__DeriveRequest *in, ProtobufCBinaryData *key) {
    const struct service_app_keys *keys = NULL;
    TRY(service_app_keys_of(worker, call, &keys));
    size_t len = in->length == 0 ? SERVICE_KEY_LENGTH_DEFAULT : in->length;
    uint8_t *bytes = arena_take(call->arena, len);
    ENSURE(bytes != NULL, NOMEM);
    const struct kdf_input input = { service_span(in->path), service_span(in->context) };
    enum kdf_variant variant = in->kdf == NOVAKMS__V1__KDF__KDF_NOVA_V2 ? KDF_NOVA_V2 : KDF_NOVA_V1;
    TRY(kdf_derive(&keys->derive, variant, &input, bytes, len));
    *key = (ProtobufCBinaryData){ len, bytes };
    return OK;
}

enum service_outcome service_derive(struct service_worker *worker, struct service_call *call,
                                    const Novakms__V1__DeriveRequest *in,
                                    Novakms__V1__DeriveResponse *out) {
    if (!service_check_derive(in, &call->why)) {
        return SERVICE_FAILED;
    }
    struct rc rc = derive_key(worker, call, in, &out->key);
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}

RC service_item_status(struct arena *arena, const struct status *status,
                       Novakms__V1__ItemStatus **out) {
    Novakms__V1__ItemStatus *item = arena_take(arena, sizeof(*item));
    ENSURE(item != NULL, NOMEM);
    novakms__v1__item_status__init(item);
    item->code = status->code;
    if (status->code != STATUS_OK) {
        size_t len = strlen(status->text) + 1;
        item->message = arena_take(arena, len);
        ENSURE(item->message != NULL, NOMEM);
        memcpy(item->message, status->text, len);
    }
    *out = item;
    return OK;
}

static RC derive_item(struct service_worker *worker, struct service_call *call,
                      const Novakms__V1__DeriveRequest *in, Novakms__V1__BatchDeriveItem *item) {
    struct status status = { .code = STATUS_OK };
    if (service_check_derive(in, &status)) {
        TRY(derive_key(worker, call, in, &item->key));
    }
    return service_item_status(call->arena, &status, &item->status);
}

static RC derive_items(struct service_worker *worker, struct service_call *call,
                       const Novakms__V1__BatchDeriveRequest *in,
                       Novakms__V1__BatchDeriveResponse *out) {
    Novakms__V1__BatchDeriveItem *items = arena_take(call->arena, in->n_items * sizeof(*items));
    ENSURE(items != NULL, NOMEM);
    out->items = arena_take(call->arena, in->n_items * sizeof(Novakms__V1__BatchDeriveItem *));
    ENSURE(out->items != NULL, NOMEM);
    for (size_t i = 0; i < in->n_items; i++) {
        novakms__v1__batch_derive_item__init(&items[i]);
        TRY(derive_item(worker, call, in->items[i], &items[i]));
        out->items[i] = &items[i];
    }
    out->n_items = in->n_items;
    return OK;
}

enum service_outcome service_batch_derive(struct service_worker *worker, struct service_call *call,
                                          const Novakms__V1__BatchDeriveRequest *in,
                                          Novakms__V1__BatchDeriveResponse *out) {
    if (!service_check_batch("items", in->n_items, &call->why)) {
        return SERVICE_FAILED;
    }
    struct rc rc = derive_items(worker, call, in, out);
    return rc.err == E_OK ? SERVICE_ANSWERED : service_fail_internal(call, rc);
}

enum service_outcome service_who_am_i(struct service_worker *worker, struct service_call *call,
                                      const Novakms__V1__WhoAmIRequest *in,
                                      Novakms__V1__WhoAmIResponse *out) {
    (void)worker;
    (void)in;
    const struct service_caller *caller = call->caller;
    uint8_t *wallet = arena_take(call->arena, WALLET_BYTES);
    if (wallet == NULL) {
        return service_fail_internal(call, ERR(NOMEM));
    }
    memcpy(wallet, caller->wallet.bytes, WALLET_BYTES);
    out->wallet = (ProtobufCBinaryData){ WALLET_BYTES, wallet };
    out->app_id = caller->app_id;
    out->version_id = caller->version_id;
    out->instance_id = caller->instance_id;
    out->is_kms_member = caller->is_kms_member;
    return SERVICE_ANSWERED;
}
