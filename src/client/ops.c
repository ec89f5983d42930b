/* SPDX-License-Identifier: Apache-2.0 */
/* Public arguments to generated requests, generated answers to public results: one pair of
 * functions and one row for each call. */
#include <stddef.h>
#include <string.h>

#include "client/client.h"
#include "novakms/v1/kms.pb-c.h"
#include "novakms/v1/node.pb-c.h"

#define BATCH_LIMIT "a batch must have 1 to 256 items"

/* ---- Requests ---- */

/* Gives an initialised message in the arena. */
static void *make(struct arena *arena, const ProtobufCMessageDescriptor *descriptor) {
    ProtobufCMessage *message = arena_take(arena, descriptor->sizeof_message);
    if (message != NULL) {
        protobuf_c_message_init(descriptor, message);
    }
    return message;
}

static bool copy(struct arena *arena, ProtobufCBinaryData *out, struct novakms_span in) {
    if (in.len == 0) {
        return true;
    }
    out->data = arena_take(arena, in.len);
    if (out->data == NULL) {
        return false;
    }
    memcpy(out->data, in.ptr, in.len);
    out->len = in.len;
    return true;
}

/* Gives room for count pointers to messages, or bytes; NULL when memory is out or count is not
 * allowed, with *why. */
static void *make_array(struct arena *arena, size_t count, size_t size, const char **why) {
    if (count < 1 || count > NOVAKMS_BATCH_COUNT_MAX) {
        *why = BATCH_LIMIT;
        return NULL;
    }
    void *array = arena_take(arena, count * size);
    if (array != NULL) {
        memset(array, 0, count * size);
    }
    return array;
}

static ProtobufCMessage *build_derive(struct arena *arena, const void *in, const char **why) {
    (void)why;
    const struct novakms_derive_args *args = in;
    Novakms__V1__DeriveRequest *m = make(arena, &novakms__v1__derive_request__descriptor);
    if (m == NULL || !copy(arena, &m->path, args->path) ||
        !copy(arena, &m->context, args->context)) {
        return NULL;
    }
    m->length = args->length;
    m->kdf = (Novakms__V1__Kdf)args->kdf;
    return &m->base;
}

static ProtobufCMessage *build_put(struct arena *arena, const void *in, const char **why) {
    (void)why;
    const struct novakms_put_args *args = in;
    Novakms__V1__PutRequest *m = make(arena, &novakms__v1__put_request__descriptor);
    if (m == NULL || !copy(arena, &m->key, args->key) || !copy(arena, &m->value, args->value)) {
        return NULL;
    }
    m->ttl_ms = args->ttl_ms;
    m->durability = (Novakms__V1__Durability)args->durability;
    return &m->base;
}

static ProtobufCMessage *build_get(struct arena *arena, const void *in, const char **why) {
    (void)why;
    const struct novakms_get_args *args = in;
    Novakms__V1__GetRequest *m = make(arena, &novakms__v1__get_request__descriptor);
    return m != NULL && copy(arena, &m->key, args->key) ? &m->base : NULL;
}

static ProtobufCMessage *build_delete(struct arena *arena, const void *in, const char **why) {
    (void)why;
    const struct novakms_delete_args *args = in;
    Novakms__V1__DeleteRequest *m = make(arena, &novakms__v1__delete_request__descriptor);
    if (m == NULL || !copy(arena, &m->key, args->key)) {
        return NULL;
    }
    m->durability = (Novakms__V1__Durability)args->durability;
    return &m->base;
}

static ProtobufCMessage *build_list(struct arena *arena, const void *in, const char **why) {
    (void)why;
    const struct novakms_list_args *args = in;
    Novakms__V1__ListRequest *m = make(arena, &novakms__v1__list_request__descriptor);
    if (m == NULL || !copy(arena, &m->prefix, args->prefix) ||
        !copy(arena, &m->page_token, args->page_token)) {
        return NULL;
    }
    m->limit = args->limit;
    return &m->base;
}

static ProtobufCMessage *build_batch_derive(struct arena *arena, const void *in, const char **why) {
    const struct novakms_batch_derive_args *args = in;
    Novakms__V1__BatchDeriveRequest *m =
        make(arena, &novakms__v1__batch_derive_request__descriptor);
    if (m == NULL) {
        return NULL;
    }
    m->items = make_array(arena, args->item_count, sizeof(*m->items), why);
    if (m->items == NULL) {
        return NULL;
    }
    for (; m->n_items < args->item_count; m->n_items++) {
        ProtobufCMessage *item = build_derive(arena, &args->items[m->n_items], why);
        if (item == NULL) {
            return NULL;
        }
        m->items[m->n_items] = (Novakms__V1__DeriveRequest *)item;
    }
    return &m->base;
}

static ProtobufCMessage *build_batch_get(struct arena *arena, const void *in, const char **why) {
    const struct novakms_batch_get_args *args = in;
    Novakms__V1__BatchGetRequest *m = make(arena, &novakms__v1__batch_get_request__descriptor);
    if (m == NULL) {
        return NULL;
    }
    m->keys = make_array(arena, args->key_count, sizeof(*m->keys), why);
    if (m->keys == NULL) {
        return NULL;
    }
    for (; m->n_keys < args->key_count; m->n_keys++) {
        if (!copy(arena, &m->keys[m->n_keys], args->keys[m->n_keys])) {
            return NULL;
        }
    }
    return &m->base;
}

static Novakms__V1__BatchPutEntry *build_entry(struct arena *arena,
                                               const struct novakms_put_args *args) {
    Novakms__V1__BatchPutEntry *m = make(arena, &novakms__v1__batch_put_entry__descriptor);
    if (m == NULL || !copy(arena, &m->key, args->key) || !copy(arena, &m->value, args->value)) {
        return NULL;
    }
    m->ttl_ms = args->ttl_ms;
    return m;
}

static ProtobufCMessage *build_batch_put(struct arena *arena, const void *in, const char **why) {
    const struct novakms_batch_put_args *args = in;
    Novakms__V1__BatchPutRequest *m = make(arena, &novakms__v1__batch_put_request__descriptor);
    if (m == NULL) {
        return NULL;
    }
    m->durability = (Novakms__V1__Durability)args->durability;
    m->entries = make_array(arena, args->item_count, sizeof(*m->entries), why);
    if (m->entries == NULL) {
        return NULL;
    }
    for (; m->n_entries < args->item_count; m->n_entries++) {
        m->entries[m->n_entries] = build_entry(arena, &args->items[m->n_entries]);
        if (m->entries[m->n_entries] == NULL) {
            return NULL;
        }
    }
    return &m->base;
}

static ProtobufCMessage *build_whoami(struct arena *arena, const void *in, const char **why) {
    (void)in;
    (void)why;
    return make(arena, &novakms__v1__who_am_irequest__descriptor);
}

static ProtobufCMessage *build_status(struct arena *arena, const void *in, const char **why) {
    (void)in;
    (void)why;
    return make(arena, &novakms__v1__get_status_request__descriptor);
}

static ProtobufCMessage *build_nodes(struct arena *arena, const void *in, const char **why) {
    (void)in;
    (void)why;
    return make(arena, &novakms__v1__list_nodes_request__descriptor);
}

/* ---- Answers ---- */

static bool take(struct client_result *r, struct novakms_span *out, ProtobufCBinaryData in) {
    return client_result_copy(r, out, in.data, in.len);
}

static void take_wallet(uint8_t out[static NOVAKMS_WALLET_BYTES], ProtobufCBinaryData in) {
    if (in.len == NOVAKMS_WALLET_BYTES) {
        memcpy(out, in.data, NOVAKMS_WALLET_BYTES);
    }
}

/* Reads a stamp, and raises *highest to it. One that is not well formed is none. */
static void take_stamp(struct novakms_stamp *out, const Novakms__V1__Stamp *in,
                       struct novakms_stamp *highest) {
    *out = (struct novakms_stamp){ 0 };
    if (in == NULL || in->hlc == 0 || in->writer.len != NOVAKMS_WRITER_BYTES) {
        return;
    }
    out->hlc = in->hlc;
    memcpy(out->writer, in->writer.data, NOVAKMS_WRITER_BYTES);
    if (client_stamp_compare(out, highest) > 0) {
        *highest = *out;
    }
}

static bool take_item_status(struct client_result *r, struct novakms_item *item,
                             const Novakms__V1__ItemStatus *in) {
    item->text = "";
    if (in == NULL) {
        return true;
    }
    item->code = in->code <= STATUS_CODE_MAX ? (enum novakms_code)in->code : NOVAKMS_UNKNOWN;
    return client_result_text(r, &item->text, in->message);
}

/* Gives count zeroed items; false when memory is out. */
static bool make_items(struct client_result *r, size_t count) {
    if (count == 0) {
        return true;
    }
    r->public.items = client_result_array(r, count, sizeof(r->public.items[0]));
    r->public.item_count = r->public.items == NULL ? 0 : count;
    return r->public.items != NULL;
}

static bool read_derive(struct client_result *r, const ProtobufCMessage *in,
                        struct novakms_stamp *highest) {
    (void)highest;
    return take(r, &r->public.bytes, ((const Novakms__V1__DeriveResponse *)in)->key);
}

static bool read_put(struct client_result *r, const ProtobufCMessage *in,
                     struct novakms_stamp *highest) {
    const Novakms__V1__PutResponse *m = (const Novakms__V1__PutResponse *)in;
    take_stamp(&r->public.stamp, m->stamp, highest);
    r->public.may_miss = m->may_miss != 0;
    return true;
}

static bool read_get(struct client_result *r, const ProtobufCMessage *in,
                     struct novakms_stamp *highest) {
    const Novakms__V1__GetResponse *m = (const Novakms__V1__GetResponse *)in;
    take_stamp(&r->public.stamp, m->stamp, highest);
    r->public.expires_unix_ms = m->expires_unix_ms;
    r->public.may_miss = m->may_miss != 0;
    return take(r, &r->public.bytes, m->value);
}

static bool read_delete(struct client_result *r, const ProtobufCMessage *in,
                        struct novakms_stamp *highest) {
    const Novakms__V1__DeleteResponse *m = (const Novakms__V1__DeleteResponse *)in;
    take_stamp(&r->public.stamp, m->stamp, highest);
    r->public.existed = m->existed != 0;
    r->public.may_miss = m->may_miss != 0;
    return true;
}

static bool read_list(struct client_result *r, const ProtobufCMessage *in,
                      struct novakms_stamp *highest) {
    const Novakms__V1__ListResponse *m = (const Novakms__V1__ListResponse *)in;
    if (!make_items(r, m->n_entries)) {
        return false;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        struct novakms_item *item = &r->public.items[i];
        item->text = "";
        item->value_bytes = m->entries[i]->value_bytes;
        item->expires_unix_ms = m->entries[i]->expires_unix_ms;
        take_stamp(&item->stamp, m->entries[i]->stamp, highest);
        if (!take(r, &item->key, m->entries[i]->key)) {
            return false;
        }
    }
    take_stamp(&r->public.stamp, m->stamp, highest);
    r->public.may_miss = m->may_miss != 0;
    return take(r, &r->public.page_token, m->next_page_token);
}

static bool read_batch_derive(struct client_result *r, const ProtobufCMessage *in,
                              struct novakms_stamp *highest) {
    (void)highest;
    const Novakms__V1__BatchDeriveResponse *m = (const Novakms__V1__BatchDeriveResponse *)in;
    if (!make_items(r, m->n_items)) {
        return false;
    }
    for (size_t i = 0; i < m->n_items; i++) {
        struct novakms_item *item = &r->public.items[i];
        if (!take_item_status(r, item, m->items[i]->status) ||
            !take(r, &item->bytes, m->items[i]->key)) {
            return false;
        }
    }
    return true;
}

static bool read_batch_get(struct client_result *r, const ProtobufCMessage *in,
                           struct novakms_stamp *highest) {
    const Novakms__V1__BatchGetResponse *m = (const Novakms__V1__BatchGetResponse *)in;
    if (!make_items(r, m->n_items)) {
        return false;
    }
    for (size_t i = 0; i < m->n_items; i++) {
        struct novakms_item *item = &r->public.items[i];
        item->expires_unix_ms = m->items[i]->expires_unix_ms;
        take_stamp(&item->stamp, m->items[i]->stamp, highest);
        if (!take_item_status(r, item, m->items[i]->status) ||
            !take(r, &item->bytes, m->items[i]->value)) {
            return false;
        }
    }
    r->public.may_miss = m->may_miss != 0;
    return true;
}

static bool read_batch_put(struct client_result *r, const ProtobufCMessage *in,
                           struct novakms_stamp *highest) {
    const Novakms__V1__BatchPutResponse *m = (const Novakms__V1__BatchPutResponse *)in;
    struct novakms_stamp stamp;
    r->public.may_miss = m->may_miss != 0;
    for (size_t i = 0; i < m->n_items; i++) {
        take_stamp(&stamp, m->items[i]->stamp, highest); /* Before memory may be out. */
    }
    if (!make_items(r, m->n_items)) {
        return false;
    }
    for (size_t i = 0; i < m->n_items; i++) {
        struct novakms_item *item = &r->public.items[i];
        take_stamp(&item->stamp, m->items[i]->stamp, highest);
        if (!take_item_status(r, item, m->items[i]->status)) {
            return false;
        }
    }
    return true;
}

static bool read_whoami(struct client_result *r, const ProtobufCMessage *in,
                        struct novakms_stamp *highest) {
    (void)highest;
    const Novakms__V1__WhoAmIResponse *m = (const Novakms__V1__WhoAmIResponse *)in;
    struct novakms_caller *c = &r->public.caller;
    take_wallet(c->wallet, m->wallet);
    c->app_id = m->app_id;
    c->version_id = m->version_id;
    c->instance_id = m->instance_id;
    c->is_kms_member = m->is_kms_member != 0;
    return true;
}

static bool read_status(struct client_result *r, const ProtobufCMessage *in,
                        struct novakms_stamp *highest) {
    (void)highest;
    const Novakms__V1__GetStatusResponse *m = (const Novakms__V1__GetStatusResponse *)in;
    struct novakms_node_status *n = &r->public.node;
    n->serving = m->serving != 0;
    n->uptime_ms = m->uptime_ms;
    n->chain_id = m->chain_id;
    n->kms_app_id = m->kms_app_id;
    n->instance_count = m->total_instances;
    take_wallet(n->wallet, m->wallet);
    if (m->data_store != NULL) {
        n->namespace_count = m->data_store->namespaces;
        n->key_count = m->data_store->total_keys;
        n->stored_bytes = m->data_store->total_bytes;
        n->tombstone_count = m->data_store->tombstones;
    }
    return client_result_text(r, &n->reason, m->reason) &&
           client_result_text(r, &n->version, m->version) &&
           take(r, &n->master_secret_hash, m->master_secret_hash);
}

static bool read_nodes(struct client_result *r, const ProtobufCMessage *in,
                       struct novakms_stamp *highest) {
    (void)highest;
    const Novakms__V1__ListNodesResponse *m = (const Novakms__V1__ListNodesResponse *)in;
    if (m->n_nodes == 0) {
        return true;
    }
    r->public.nodes = client_result_array(r, m->n_nodes, sizeof(r->public.nodes[0]));
    if (r->public.nodes == NULL) {
        return false;
    }
    for (; r->public.node_count < m->n_nodes; r->public.node_count++) {
        struct novakms_node *n = &r->public.nodes[r->public.node_count];
        const Novakms__V1__Node *from = m->nodes[r->public.node_count];
        take_wallet(n->wallet, from->wallet);
        n->instance_id = from->instance_id;
        n->version_id = from->version_id;
        n->is_self = from->is_self != 0;
        if (!client_result_text(r, &n->url, from->url)) {
            return false;
        }
    }
    return true;
}

/* ---- The table ---- */

#define KMS &novakms__v1__kms_service__descriptor
#define NODE &novakms__v1__node_service__descriptor
#define TIMEOUT_OF(kind) offsetof(struct novakms_##kind##_args, timeout_ms)
#define STAMPS_OF(Request) \
    offsetof(Novakms__V1__##Request, seen), offsetof(Novakms__V1__##Request, wrote)
#define NO_STAMPS 0, 0

const struct client_op client_op_derive = {
    "Derive", KMS, true, true, TIMEOUT_OF(derive), NO_STAMPS, build_derive, read_derive
};
const struct client_op client_op_put = {
    "Put", KMS, false, true, TIMEOUT_OF(put), STAMPS_OF(PutRequest), build_put, read_put
};
const struct client_op client_op_get = {
    "Get", KMS, true, true, TIMEOUT_OF(get), STAMPS_OF(GetRequest), build_get, read_get
};
const struct client_op client_op_delete = {
    "Delete",     KMS,        false, true, TIMEOUT_OF(delete), STAMPS_OF(DeleteRequest),
    build_delete, read_delete
};
const struct client_op client_op_list = {
    "List", KMS, true, true, TIMEOUT_OF(list), STAMPS_OF(ListRequest), build_list, read_list
};
const struct client_op client_op_batch_derive = {
    "BatchDerive",    KMS, true, true, TIMEOUT_OF(batch_derive), NO_STAMPS, build_batch_derive,
    read_batch_derive
};
const struct client_op client_op_batch_get = {
    "BatchGet",      KMS,           true, true, TIMEOUT_OF(batch_get), STAMPS_OF(BatchGetRequest),
    build_batch_get, read_batch_get
};
const struct client_op client_op_batch_put = {
    "BatchPut",      KMS,           false, true, TIMEOUT_OF(batch_put), STAMPS_OF(BatchPutRequest),
    build_batch_put, read_batch_put
};
const struct client_op client_op_whoami = {
    "WhoAmI", KMS, true, true, TIMEOUT_OF(plain), NO_STAMPS, build_whoami, read_whoami
};
const struct client_op client_op_status = {
    "GetStatus", NODE, true, false, TIMEOUT_OF(plain), NO_STAMPS, build_status, read_status
};
const struct client_op client_op_nodes = { "ListNodes",       NODE,      true,        false,
                                           TIMEOUT_OF(plain), NO_STAMPS, build_nodes, read_nodes };
