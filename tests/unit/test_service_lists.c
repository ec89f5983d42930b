/* SPDX-License-Identifier: Apache-2.0 */
/* KmsService's List and its batches, and what happens without memory. */
#include <stdio.h>

#include "service_fixture.h"

/* ---- List ---- */

/* Lists everything with pages of `limit`; checks order and count. */
static unsigned list_all(struct fixture *f, const char *prefix, uint32_t limit) {
    uint8_t token[2048];
    size_t token_len = 0;
    unsigned count = 0;
    char last[32] = "";
    do {
        Novakms__V1__ListRequest in = NOVAKMS__V1__LIST_REQUEST__INIT;
        in.prefix = fixture_text(prefix);
        in.limit = limit;
        in.page_token = (ProtobufCBinaryData){ token_len, token };
        Novakms__V1__ListResponse out;
        assert_int_equal(CALL(f, list, list_response, &in, &out), SERVICE_ANSWERED);
        assert_true(out.n_entries <= (limit == 0 ? SERVICE_LIST_LIMIT_DEFAULT : limit));
        for (size_t i = 0; i < out.n_entries; i++) {
            char key[32] = "";
            assert_true(out.entries[i]->key.len < sizeof(key));
            memcpy(key, out.entries[i]->key.data, out.entries[i]->key.len);
            assert_true(strcmp(last, key) < 0);
            memcpy(last, key, sizeof(last));
            assert_int_equal(out.entries[i]->value_bytes, 3);
            assert_non_null(out.entries[i]->stamp);
            count++;
        }
        token_len = out.next_page_token.len;
        assert_true(token_len <= sizeof(token));
        memcpy(token, out.next_page_token.data == NULL ? token : out.next_page_token.data,
               token_len);
    } while (token_len > 0);
    return count;
}

static void test_list_pages(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    assert_int_equal(list_all(&f, "", 0), 0);
    for (unsigned i = 0; i < 300; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%s-%03u", i % 3 == 0 ? "a" : "b", i);
        fixture_put_text(&f, key, "val");
    }
    assert_int_equal(list_all(&f, "", 0), 300);
    assert_int_equal(list_all(&f, "a-", 0), 100);
    assert_int_equal(list_all(&f, "a-", 1), 100);
    assert_int_equal(list_all(&f, "b", 63), 200);
    assert_int_equal(list_all(&f, "b", 64), 200);
    assert_int_equal(list_all(&f, "b", 65), 200);
    assert_int_equal(list_all(&f, "", 1000), 300);
    assert_int_equal(list_all(&f, "c", 1000), 0);
    f.caller.app_id = 8;
    assert_int_equal(list_all(&f, "", 1000), 0);
    fixture_close(&f);
}

static void test_list_refusals(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put_text(&f, "a", "1");
    fixture_put_text(&f, "b", "2");
    Novakms__V1__ListRequest in = NOVAKMS__V1__LIST_REQUEST__INIT;
    Novakms__V1__ListResponse out;
    in.limit = 1001;
    assert_failed(&f, CALL(&f, list, list_response, &in, &out), INVALID_ARGUMENT);
    assert_string_equal(f.call.why.text, "limit: is 1001; it must be 1 to 1000, or 0 for 100");
    in.limit = 1;
    static uint8_t prefix[1025] = { 'p' };
    in.prefix = (ProtobufCBinaryData){ 1025, prefix };
    assert_failed(&f, CALL(&f, list, list_response, &in, &out), INVALID_ARGUMENT);
    in.prefix.len = 1024;
    assert_int_equal(CALL(&f, list, list_response, &in, &out), SERVICE_ANSWERED);
    in.prefix.len = 0;
    assert_int_equal(CALL(&f, list, list_response, &in, &out), SERVICE_ANSWERED);
    size_t len = out.next_page_token.len;
    assert_true(len > 0);
    uint8_t *token = test_dup(out.next_page_token.data, len);
    in.page_token = (ProtobufCBinaryData){ len, token };
    assert_int_equal(CALL(&f, list, list_response, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.n_entries, 1);
    in.prefix = fixture_text("b");
    assert_failed(&f, CALL(&f, list, list_response, &in, &out), INVALID_ARGUMENT);
    in.prefix.len = 0;
    f.caller.app_id = 8;
    assert_failed(&f, CALL(&f, list, list_response, &in, &out), INVALID_ARGUMENT);
    f.caller.app_id = 7;
    token[len - 1] ^= 1;
    assert_failed(&f, CALL(&f, list, list_response, &in, &out), INVALID_ARGUMENT);
    in.page_token.len = 1;
    assert_failed(&f, CALL(&f, list, list_response, &in, &out), INVALID_ARGUMENT);
    free(token);
    fixture_close(&f);
}

/* ---- Batches ---- */

static void test_batch_derive(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    static Novakms__V1__DeriveRequest items[257];
    Novakms__V1__DeriveRequest *pointers[257];
    for (size_t i = 0; i < 257; i++) {
        novakms__v1__derive_request__init(&items[i]);
        items[i].path = fixture_text(i == 1 ? "data_key" : "disk");
        pointers[i] = &items[i];
    }
    Novakms__V1__BatchDeriveRequest in = NOVAKMS__V1__BATCH_DERIVE_REQUEST__INIT;
    in.items = pointers;
    Novakms__V1__BatchDeriveResponse out;
    assert_failed(&f, CALL(&f, batch_derive, batch_derive_response, &in, &out), INVALID_ARGUMENT);
    in.n_items = 257;
    assert_failed(&f, CALL(&f, batch_derive, batch_derive_response, &in, &out), INVALID_ARGUMENT);
    assert_string_equal(f.call.why.text, "items: has 257 entries; it must have 1 to 256");
    in.n_items = 256;
    assert_int_equal(CALL(&f, batch_derive, batch_derive_response, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.n_items, 256);
    assert_int_equal(out.items[0]->status->code, STATUS_OK);
    assert_int_equal(out.items[0]->key.len, 32);
    assert_int_equal(out.items[1]->status->code, STATUS_INVALID_ARGUMENT);
    assert_string_equal(out.items[1]->status->message, "path: \"data_key\" is reserved");
    assert_int_equal(out.items[1]->key.len, 0);
    assert_memory_equal(out.items[255]->key.data, out.items[0]->key.data, 32);
    fixture_close(&f);
}

static void test_batch_put_and_get(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    static uint8_t big[FIXTURE_VALUE_MAX + 1];
    Novakms__V1__BatchPutEntry entries[3];
    Novakms__V1__BatchPutEntry *pointers[3] = { &entries[0], &entries[1], &entries[2] };
    static const char *const keys[] = { "a", "b", "c" };
    for (size_t i = 0; i < 3; i++) {
        novakms__v1__batch_put_entry__init(&entries[i]);
        entries[i].key = fixture_text(keys[i]);
        entries[i].value = i == 1 ? fixture_bytes(big, sizeof(big)) : fixture_text(keys[i]);
    }
    Novakms__V1__BatchPutRequest in = NOVAKMS__V1__BATCH_PUT_REQUEST__INIT;
    in.entries = pointers;
    in.n_entries = 3;
    Novakms__V1__BatchPutResponse out;
    assert_int_equal(CALL(&f, batch_put, batch_put_response, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.n_items, 3);
    assert_int_equal(out.items[0]->status->code, STATUS_OK);
    assert_non_null(out.items[0]->stamp);
    assert_int_equal(out.items[1]->status->code, STATUS_RESOURCE_EXHAUSTED);
    assert_null(out.items[1]->stamp);
    assert_true(out.items[2]->stamp->hlc > out.items[0]->stamp->hlc);
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    assert_failed(&f, CALL(&f, batch_put, batch_put_response, &in, &out), FAILED_PRECONDITION);
    in.n_entries = 0;
    assert_failed(&f, CALL(&f, batch_put, batch_put_response, &in, &out), INVALID_ARGUMENT);

    ProtobufCBinaryData wanted[4] = { fixture_text("c"), fixture_text("b"), fixture_text(""),
                                      fixture_text("a") };
    Novakms__V1__BatchGetRequest get_in = NOVAKMS__V1__BATCH_GET_REQUEST__INIT;
    get_in.keys = wanted;
    get_in.n_keys = 4;
    Novakms__V1__BatchGetResponse got;
    assert_int_equal(CALL(&f, batch_get, batch_get_response, &get_in, &got), SERVICE_ANSWERED);
    assert_int_equal(got.n_items, 4);
    assert_bytes_equal(got.items[0]->value, "c");
    assert_int_equal(got.items[1]->status->code, STATUS_NOT_FOUND);
    assert_int_equal(got.items[2]->status->code, STATUS_INVALID_ARGUMENT);
    assert_bytes_equal(got.items[3]->value, "a");
    fixture_close(&f);
}

/* Gets a batch into an answer of at most answer_bytes_max bytes, and checks that it fits. */
static void get_bounded(struct fixture *f, const Novakms__V1__BatchGetRequest *in,
                        size_t answer_bytes_max, Novakms__V1__BatchGetResponse *out) {
    struct service_call *call = fixture_call(f);
    call->answer_bytes_max = answer_bytes_max;
    novakms__v1__batch_get_response__init(out);
    assert_int_equal(service_batch_get(&f->worker, call, in, out), SERVICE_ANSWERED);
    assert_true(novakms__v1__batch_get_response__get_packed_size(out) <= answer_bytes_max);
}

/* Values that do not fit into the answer together: the first do, the others say so. */
static void test_batch_get_is_bounded(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    static const uint8_t value[FIXTURE_VALUE_MAX] = { 1 };
    static const size_t sizes[] = { FIXTURE_VALUE_MAX, FIXTURE_VALUE_MAX, 10 };
    static const char *const names[] = { "a", "b", "c" };
    for (size_t i = 0; i < 3; i++) {
        const struct fixture_value arg = { names[i], value, sizes[i], 0 };
        assert_int_equal(fixture_put(&f, &arg, NULL), SERVICE_ANSWERED);
    }
    ProtobufCBinaryData keys[] = { fixture_text("a"), fixture_text("b"), fixture_text("c") };
    Novakms__V1__BatchGetRequest in = NOVAKMS__V1__BATCH_GET_REQUEST__INIT;
    in.keys = keys;
    in.n_keys = 3;
    Novakms__V1__BatchGetResponse out;
    get_bounded(&f, &in, FIXTURE_VALUE_MAX + 2000, &out);
    assert_int_equal(out.items[0]->status->code, STATUS_OK);
    assert_int_equal(out.items[1]->status->code, STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(out.items[1]->value.len, 0);
    assert_int_equal(out.items[2]->status->code, STATUS_OK);
    fixture_close(&f);
}

/* 256 items that fail with a sentence each, or hold what fits, stay within the bound as well. */
static void test_largest_batch_get_is_bounded(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    static const uint8_t value[FIXTURE_VALUE_MAX] = { 1 };
    const struct fixture_value arg = { "a", value, FIXTURE_VALUE_MAX, 0 };
    assert_int_equal(fixture_put(&f, &arg, NULL), SERVICE_ANSWERED);
    ProtobufCBinaryData *keys = calloc(SERVICE_BATCH_COUNT_MAX, sizeof(*keys));
    assert_non_null(keys);
    for (size_t i = 0; i < SERVICE_BATCH_COUNT_MAX; i++) {
        keys[i] = fixture_text("a");
    }
    Novakms__V1__BatchGetRequest in = NOVAKMS__V1__BATCH_GET_REQUEST__INIT;
    in.keys = keys;
    in.n_keys = SERVICE_BATCH_COUNT_MAX;
    Novakms__V1__BatchGetResponse out;
    get_bounded(&f, &in, (size_t)SERVICE_BATCH_COUNT_MAX * 400, &out);
    get_bounded(&f, &in, (size_t)SERVICE_BATCH_COUNT_MAX * 300, &out);
    free(keys);
    fixture_close(&f);
}

/* Without memory in the arena every method fails and says so; none crashes. */
static void test_no_memory(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put_text(&f, "k", "v");
    for (size_t bytes = 0; bytes < 4096; bytes += 16) {
        arena_close(&f.arena);
        arena_init(&f.arena, bytes);
        Novakms__V1__GetResponse got;
        enum service_outcome outcome = fixture_get(&f, "k", &got);
        if (outcome != SERVICE_ANSWERED) {
            assert_failed(&f, outcome, UNAVAILABLE);
        }
        Novakms__V1__ListRequest in = NOVAKMS__V1__LIST_REQUEST__INIT;
        in.limit = 3;
        Novakms__V1__ListResponse out;
        outcome = CALL(&f, list, list_response, &in, &out);
        if (outcome != SERVICE_ANSWERED) {
            assert_failed(&f, outcome, UNAVAILABLE);
        }
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_pages),
        cmocka_unit_test(test_list_refusals),
        cmocka_unit_test(test_batch_derive),
        cmocka_unit_test(test_batch_put_and_get),
        cmocka_unit_test(test_batch_get_is_bounded),
        cmocka_unit_test(test_largest_batch_get_is_bounded),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("service_lists", tests, NULL, NULL);
}
