/* SPDX-License-Identifier: Apache-2.0 */
#include "service/node_service.h"

#include "net/server.h"

static void fail_nomem(struct net_call *call) {
    struct status why = { 0 };
    status_set(&why, STATUS_UNAVAILABLE, "the node is out of memory for this call; try again");
    net_call_fail(call, &why, NULL);
}

/* The fixed part is lent: protobuf-c reads it only. */
static ProtobufCBinaryData bytes_out(struct arena *arena, struct span in) {
    uint8_t *copy = arena_take(arena, in.len);
    if (copy == NULL) {
        return (ProtobufCBinaryData){ 0 };
    }
    memcpy(copy, in.ptr, in.len);
    return (ProtobufCBinaryData){ in.len, copy };
}

static char *text_out(struct arena *arena, const char *text) {
    return (char *)bytes_out(arena, (struct span){ (const uint8_t *)text, strlen(text) + 1 }).data;
}

static void get_status(Novakms__V1__NodeService_Service *service,
                       const Novakms__V1__GetStatusRequest *in,
                       Novakms__V1__GetStatusResponse_Closure closure, void *closure_data) {
    (void)in;
    const struct service_node *node = (const struct service_node *)service;
    const struct service_status_cfg *cfg = service_status_cfg(node->status);
    struct net_call *call = net_call_from(closure_data);
    struct arena *arena = net_call_arena(call);
    struct service_snapshot now;
    service_status_read(node->status, uv_now(net_call_loop(call)), &now);
    Novakms__V1__DataStoreStatus data = NOVAKMS__V1__DATA_STORE_STATUS__INIT;
    data.namespaces = now.store.namespace_count;
    data.total_keys = now.store.key_count;
    data.total_bytes = now.store.bytes;
    data.tombstones = now.store.tombstone_count;
    ProtobufCBinaryData writer = { sizeof(now.writer), now.writer };
    Novakms__V1__GetStatusResponse out;
    novakms__v1__get_status_response__init(&out); /* The INIT macro casts a const away. */
    out.serving = now.serving;
    out.reason = now.reason;
    out.version = text_out(arena, cfg->version);
    out.uptime_ms = now.uptime_ms;
    out.wallet = bytes_out(arena, wallet_span(&now.wallet));
    out.chain_id = cfg->chain_id;
    out.kms_app_id = cfg->kms_app_id;
    out.master_secret_hash = bytes_out(arena, (struct span){ now.master_hash, SERVICE_HASH_BYTES });
    out.n_writers = 1;
    out.writers = &writer;
    out.data_store = &data;
    out.total_instances = now.member_count;
    if (out.version == NULL || out.wallet.data == NULL || out.master_secret_hash.data == NULL) {
        fail_nomem(call);
        return;
    }
    closure(&out, closure_data);
}

struct listing {
    struct arena *arena;
    struct wallet self;
    Novakms__V1__Node **nodes;
    size_t count;
    bool failed;
};

static bool add_node(void *ctx, const struct auth_instance *member) {
    struct listing *listing = ctx;
    Novakms__V1__Node *node = arena_take(listing->arena, sizeof(*node));
    if (node == NULL) {
        listing->failed = true;
        return false;
    }
    novakms__v1__node__init(node);
    node->wallet = bytes_out(listing->arena, wallet_span(&member->wallet));
    node->url = text_out(listing->arena, member->url);
    node->instance_id = member->id;
    node->version_id = member->version_id;
    node->is_self = wallet_equal(&member->wallet, &listing->self);
    listing->failed = node->wallet.data == NULL || node->url == NULL;
    listing->nodes[listing->count] = node;
    listing->count++;
    return !listing->failed;
}

static void list_nodes(Novakms__V1__NodeService_Service *service,
                       const Novakms__V1__ListNodesRequest *in,
                       Novakms__V1__ListNodesResponse_Closure closure, void *closure_data) {
    (void)in;
    const struct service_node *node = (const struct service_node *)service;
    struct net_call *call = net_call_from(closure_data);
    struct service_snapshot now;
    service_status_read(node->status, uv_now(net_call_loop(call)), &now);
    struct listing listing = { .arena = net_call_arena(call), .self = now.wallet };
    listing.nodes =
        arena_take(listing.arena, REGISTRY_MEMBER_COUNT_MAX * sizeof(Novakms__V1__Node *));
    if (listing.nodes == NULL) {
        fail_nomem(call);
        return;
    }
    service_status_each_member(node->status, add_node, &listing);
    if (listing.failed) {
        fail_nomem(call);
        return;
    }
    Novakms__V1__ListNodesResponse out = NOVAKMS__V1__LIST_NODES_RESPONSE__INIT;
    out.n_nodes = listing.count;
    out.nodes = listing.nodes;
    closure(&out, closure_data);
}

void service_node_init(struct service_node *node, struct service_status *status) {
    node->service = (Novakms__V1__NodeService_Service){
        .base = NOVAKMS__V1__NODE_SERVICE__BASE_INIT,
        .get_status = get_status,
        .list_nodes = list_nodes,
    };
    node->status = status;
}
