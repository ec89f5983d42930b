/* SPDX-License-Identifier: Apache-2.0 */
/* libnovakms on a program's loop, against two scripted servers on the same loop. */
#include "client/client.h"
#include "client_world.h"

/* ---- The calls ---- */

static void answer_derive(const struct scripted_request *r) {
    Novakms__V1__DeriveRequest *in =
        novakms__v1__derive_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(in);
    assert_int_equal(in->path.len, 4);
    assert_memory_equal(in->path.data, "path", 4);
    assert_int_equal(in->context.len, 3);
    assert_int_equal(in->length, 5);
    assert_int_equal(in->kdf, NOVAKMS__V1__KDF__KDF_NOVA_V2);
    novakms__v1__derive_request__free_unpacked(in, NULL);
    Novakms__V1__DeriveResponse m = NOVAKMS__V1__DERIVE_RESPONSE__INIT;
    m.key = bin("12345");
    scripted_answer_with(r, &m.base);
}

static void test_derive(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_derive_args args = { .path = novakms_text("path"),
                                        .context = novakms_text("ctx"),
                                        .length = 5,
                                        .kdf = NOVAKMS_KDF_NOVA_V2 };
    w->answer = answer_derive;
    assert_true(novakms_derive_start(w->client, &args, w, keep) > 0);
    assert_null(w->result);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_span(r->bytes, "12345");
    assert_string_equal(w->servers[0].requests[0].method, "novakms.v1.KmsService/Derive");
    novakms_free(&r);
    assert_null(r);
    novakms_free(&r); /* NULL is accepted. */
    close_world(w);
}

static void answer_put(const struct scripted_request *r) {
    Novakms__V1__PutRequest *in =
        novakms__v1__put_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(in);
    assert_int_equal(in->value.len, 5);
    assert_memory_equal(in->value.data, "value", 5);
    assert_int_equal(in->ttl_ms, 1000);
    assert_int_equal(in->durability, NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM);
    novakms__v1__put_request__free_unpacked(in, NULL);
    Novakms__V1__PutResponse m = NOVAKMS__V1__PUT_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(7);
    m.stamp = &stamp;
    scripted_answer_with(r, &m.base);
}

static void test_put(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_put_args args = { .key = novakms_text("key"),
                                     .value = novakms_text("value"),
                                     .ttl_ms = 1000,
                                     .durability = NOVAKMS_DURABILITY_QUORUM };
    w->answer = answer_put;
    assert_true(novakms_put_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(r->stamp.hlc, 7);
    assert_int_equal(novakms_seen(w->client).hlc, 7);
    novakms_free(&r);
    close_world(w);
}

static void answer_get(const struct scripted_request *r) {
    Novakms__V1__GetResponse m = NOVAKMS__V1__GET_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(9);
    m.value = bin("value");
    m.stamp = &stamp;
    m.expires_unix_ms = 12;
    scripted_answer_with(r, &m.base);
}

static void test_get(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = answer_get;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    assert_span(r->bytes, "value");
    assert_int_equal(r->stamp.hlc, 9);
    assert_int_equal(r->expires_unix_ms, 12);
    assert_false(r->may_miss);
    novakms_free(&r);
    close_world(w);
}

static void answer_delete(const struct scripted_request *r) {
    Novakms__V1__DeleteResponse m = NOVAKMS__V1__DELETE_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(11);
    m.stamp = &stamp;
    m.existed = 1;
    scripted_answer_with(r, &m.base);
}

static void test_delete(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_delete_args args = { .key = novakms_text("key") };
    w->answer = answer_delete;
    assert_true(novakms_delete_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_true(r->existed);
    assert_int_equal(r->stamp.hlc, 11);
    novakms_free(&r);
    close_world(w);
}

static void answer_list(const struct scripted_request *r) {
    Novakms__V1__ListRequest *in =
        novakms__v1__list_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(in);
    assert_int_equal(in->limit, 3);
    assert_int_equal(in->prefix.len, 1);
    assert_int_equal(in->page_token.len, 5);
    novakms__v1__list_request__free_unpacked(in, NULL);
    Novakms__V1__Stamp stamp = make_stamp(5);
    Novakms__V1__ListEntry a = NOVAKMS__V1__LIST_ENTRY__INIT;
    Novakms__V1__ListEntry b = NOVAKMS__V1__LIST_ENTRY__INIT;
    a.key = bin("pa");
    a.value_bytes = 100;
    a.stamp = &stamp;
    b.key = bin("pb");
    b.expires_unix_ms = 99;
    Novakms__V1__ListEntry *entries[] = { &a, &b };
    Novakms__V1__ListResponse m = NOVAKMS__V1__LIST_RESPONSE__INIT;
    m.entries = entries;
    m.n_entries = 2;
    m.next_page_token = bin("next");
    m.stamp = &stamp;
    scripted_answer_with(r, &m.base);
}

static void test_list(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_list_args args = { .prefix = novakms_text("p"),
                                      .page_token = novakms_text("token"),
                                      .limit = 3 };
    w->answer = answer_list;
    assert_true(novakms_list_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(r->item_count, 2);
    assert_span(r->items[0].key, "pa");
    assert_int_equal(r->items[0].value_bytes, 100);
    assert_int_equal(r->items[0].stamp.hlc, 5);
    assert_span(r->items[1].key, "pb");
    assert_int_equal(r->items[1].stamp.hlc, 0);
    assert_int_equal(r->items[1].expires_unix_ms, 99);
    assert_span(r->page_token, "next");
    novakms_free(&r);
    close_world(w);
}

static void answer_batch_derive(const struct scripted_request *r) {
    Novakms__V1__ItemStatus bad;
    novakms__v1__item_status__init(&bad);
    bad.code = STATUS_INVALID_ARGUMENT;
    bad.message = mutable_text("path must not be blank");
    Novakms__V1__BatchDeriveItem first = NOVAKMS__V1__BATCH_DERIVE_ITEM__INIT;
    Novakms__V1__BatchDeriveItem second = NOVAKMS__V1__BATCH_DERIVE_ITEM__INIT;
    first.key = bin("k1");
    second.status = &bad;
    Novakms__V1__BatchDeriveItem *items[] = { &first, &second };
    Novakms__V1__BatchDeriveResponse m = NOVAKMS__V1__BATCH_DERIVE_RESPONSE__INIT;
    m.items = items;
    m.n_items = 2;
    scripted_answer_with(r, &m.base);
}

static void test_batch_derive(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_derive_args items[] = { { .path = novakms_text("a") },
                                           { .path = novakms_text(" ") } };
    struct novakms_batch_derive_args args = { .items = items, .item_count = 2 };
    w->answer = answer_batch_derive;
    assert_true(novakms_batch_derive_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(r->item_count, 2);
    assert_int_equal(r->items[0].code, NOVAKMS_OK);
    assert_string_equal(r->items[0].text, "");
    assert_span(r->items[0].bytes, "k1");
    assert_int_equal(r->items[1].code, NOVAKMS_INVALID_ARGUMENT);
    assert_string_equal(r->items[1].text, "path must not be blank");
    novakms_free(&r);
    close_world(w);
}

static void answer_batch_get(const struct scripted_request *r) {
    Novakms__V1__BatchGetRequest *in =
        novakms__v1__batch_get_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(in);
    assert_int_equal(in->n_keys, 2);
    assert_memory_equal(in->keys[1].data, "b", 1);
    novakms__v1__batch_get_request__free_unpacked(in, NULL);
    Novakms__V1__Stamp stamp = make_stamp(21);
    Novakms__V1__BatchGetItem item = NOVAKMS__V1__BATCH_GET_ITEM__INIT;
    item.value = bin("v");
    item.stamp = &stamp;
    item.expires_unix_ms = 3;
    Novakms__V1__BatchGetItem *items[] = { &item };
    Novakms__V1__BatchGetResponse m = NOVAKMS__V1__BATCH_GET_RESPONSE__INIT;
    m.items = items;
    m.n_items = 1;
    m.may_miss = 1;
    scripted_answer_with(r, &m.base);
}

static void test_batch_get(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_span keys[] = { novakms_text("a"), novakms_text("b") };
    struct novakms_batch_get_args args = { .keys = keys, .key_count = 2 };
    w->answer = answer_batch_get;
    assert_true(novakms_batch_get_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_true(r->may_miss);
    assert_span(r->items[0].bytes, "v");
    assert_int_equal(r->items[0].expires_unix_ms, 3);
    assert_int_equal(novakms_seen(w->client).hlc, 21);
    novakms_free(&r);
    close_world(w);
}

static void answer_batch_put(const struct scripted_request *r) {
    Novakms__V1__BatchPutRequest *in =
        novakms__v1__batch_put_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(in);
    assert_int_equal(in->n_entries, 1);
    assert_int_equal(in->entries[0]->ttl_ms, 5);
    assert_int_equal(in->durability, NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER);
    novakms__v1__batch_put_request__free_unpacked(in, NULL);
    Novakms__V1__Stamp stamp = make_stamp(31);
    Novakms__V1__ItemStatus odd;
    novakms__v1__item_status__init(&odd);
    odd.code = 999;
    Novakms__V1__BatchPutItem item = NOVAKMS__V1__BATCH_PUT_ITEM__INIT;
    item.stamp = &stamp;
    item.status = &odd;
    Novakms__V1__BatchPutItem *items[] = { &item };
    Novakms__V1__BatchPutResponse m = NOVAKMS__V1__BATCH_PUT_RESPONSE__INIT;
    m.items = items;
    m.n_items = 1;
    scripted_answer_with(r, &m.base);
}

static void test_batch_put(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_put_args items[] = {
        { .key = novakms_text("a"), .value = novakms_text("b"), .ttl_ms = 5 }
    };
    struct novakms_batch_put_args args = { .items = items,
                                           .item_count = 1,
                                           .durability = NOVAKMS_DURABILITY_ONE_PEER };
    w->answer = answer_batch_put;
    assert_true(novakms_batch_put_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(r->items[0].code, NOVAKMS_UNKNOWN);
    assert_int_equal(r->items[0].stamp.hlc, 31);
    assert_int_equal(novakms_seen(w->client).hlc, 31);
    novakms_free(&r);
    close_world(w);
}

static void test_batch_counts(void **state) {
    (void)state;
    struct world *w = open_world(1);
    static struct novakms_span keys[NOVAKMS_BATCH_COUNT_MAX + 1];
    const size_t counts[] = { 0, NOVAKMS_BATCH_COUNT_MAX + 1 };
    for (size_t i = 0; i < 2; i++) {
        struct novakms_batch_get_args args = { .keys = keys, .key_count = counts[i] };
        assert_true(novakms_batch_get_start(w->client, &args, w, keep) > 0);
        assert_null(w->result); /* Told later, as everything. */
        struct novakms_result *r = wait_result(w);
        assert_result(r, NOVAKMS_INVALID_ARGUMENT);
        novakms_free(&r);
    }
    assert_int_equal(w->servers[0].accept_count, 0);
    close_world(w);
}

static void answer_whoami(const struct scripted_request *r) {
    Novakms__V1__WhoAmIResponse m = NOVAKMS__V1__WHO_AM_IRESPONSE__INIT;
    m.wallet = bin("12345678901234567890");
    m.app_id = UINT64_MAX;
    m.version_id = 2;
    m.instance_id = 3;
    m.is_kms_member = 1;
    scripted_answer_with(r, &m.base);
}

static void test_whoami(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = answer_whoami;
    assert_true(novakms_whoami_start(w->client, NULL, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_memory_equal(r->caller.wallet, "12345678901234567890", 20);
    assert_true(r->caller.app_id == UINT64_MAX);
    assert_int_equal(r->caller.instance_id, 3);
    assert_true(r->caller.is_kms_member);
    novakms_free(&r);
    close_world(w);
}

static void answer_status(const struct scripted_request *r) {
    Novakms__V1__DataStoreStatus store = NOVAKMS__V1__DATA_STORE_STATUS__INIT;
    store.total_keys = 4;
    Novakms__V1__GetStatusResponse m;
    novakms__v1__get_status_response__init(&m);
    m.reason = mutable_text("starting");
    m.version = mutable_text("1.2.3");
    m.master_secret_hash = bin("hash");
    m.data_store = &store;
    m.uptime_ms = 5;
    scripted_answer_with(r, &m.base);
}

static void test_status(void **state) {
    (void)state;
    struct world *w = open_world_anonymous();
    w->answer = answer_status;
    assert_true(novakms_status_start(w->client, NULL, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_false(r->node.serving);
    assert_string_equal(r->node.reason, "starting");
    assert_string_equal(r->node.version, "1.2.3");
    assert_span(r->node.master_secret_hash, "hash");
    assert_int_equal(r->node.key_count, 4);
    assert_string_equal(w->servers[0].requests[0].method, "novakms.v1.NodeService/GetStatus");
    novakms_free(&r);
    close_world(w);
}

static void answer_nodes(const struct scripted_request *r) {
    Novakms__V1__Node node;
    novakms__v1__node__init(&node);
    node.url = mutable_text("https://a:1");
    node.instance_id = 6;
    node.is_self = 1;
    Novakms__V1__Node *nodes[] = { &node, &node };
    Novakms__V1__ListNodesResponse m = NOVAKMS__V1__LIST_NODES_RESPONSE__INIT;
    m.nodes = nodes;
    m.n_nodes = 2;
    scripted_answer_with(r, &m.base);
}

static void test_nodes(void **state) {
    (void)state;
    struct world *w = open_world_anonymous();
    w->answer = answer_nodes;
    assert_true(novakms_nodes_start(w->client, NULL, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(r->node_count, 2);
    assert_string_equal(r->nodes[1].url, "https://a:1");
    assert_int_equal(r->nodes[1].instance_id, 6);
    assert_true(r->nodes[1].is_self);
    novakms_free(&r);
    close_world(w);
}

/* ---- Direct use of the stubs ---- */

static void on_stub(const Novakms__V1__WhoAmIResponse *message, void *data) {
    struct world *w = data;
    w->stub_count++;
    w->stub_code = novakms_channel_error(w->client, w->stub_text);
    assert_true((message != NULL) == (w->stub_code == NOVAKMS_OK));
}

static void test_stubs(void **state) {
    (void)state;
    struct world *w = open_world(1);
    ProtobufCService *service =
        novakms_channel_service(w->client, &novakms__v1__kms_service__descriptor);
    assert_non_null(service);
    Novakms__V1__WhoAmIRequest request = NOVAKMS__V1__WHO_AM_IREQUEST__INIT;
    w->answer = answer_whoami;
    novakms__v1__kms_service__who_am_i(service, &request, on_stub, w);
    assert_int_equal(novakms_poll(w->client, 0), 1);
    RUN_UNTIL(w, w->stub_count == 1);
    assert_int_equal(w->stub_code, NOVAKMS_OK);
    assert_int_equal(novakms_channel_error(w->client, NULL), NOVAKMS_FAILED_PRECONDITION);
    w->answer = NULL;
    scripted_stop_listening(&w->servers[0]);
    scripted_drop(&w->servers[0]);
    for (size_t i = 0; i < 4; i++) {
        (void)uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    novakms__v1__kms_service__who_am_i(service, &request, on_stub, w);
    RUN_UNTIL(w, w->stub_count == 2);
    assert_int_equal(w->stub_code, NOVAKMS_UNAVAILABLE);
    assert_true(w->stub_text[0] != '\0');
    close_world(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derive),       cmocka_unit_test(test_put),
        cmocka_unit_test(test_get),          cmocka_unit_test(test_delete),
        cmocka_unit_test(test_list),         cmocka_unit_test(test_batch_derive),
        cmocka_unit_test(test_batch_get),    cmocka_unit_test(test_batch_put),
        cmocka_unit_test(test_batch_counts), cmocka_unit_test(test_whoami),
        cmocka_unit_test(test_status),       cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_stubs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
