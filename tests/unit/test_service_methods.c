/* SPDX-License-Identifier: Apache-2.0 */
/* KmsService's methods over a real store: what they check, give and refuse. */
#include "service_fixture.h"
#include "vectors.h"

/* ---- Derive ---- */

struct derive_row {
    const char *name;
    const char *path; /* NULL: path_len bytes of 'p'. */
    size_t path_len;
    size_t context_len;
    uint32_t length;
    int kdf;
    const char *why; /* NULL: it succeeds. */
};

static struct derive_row derive_rows[] = {
    { "plain", "disk", 0, 0, 32, 0, NULL },
    { "default_length", "disk", 0, 0, 0, 0, NULL },
    { "length_min", "disk", 0, 0, 1, 1, NULL },
    { "length_max", "disk", 0, 0, 1024, 0, NULL },
    { "length_over", "disk", 0, 0, 1025, 0, "length: is 1025; it must be 1 to 1024, or 0 for 32" },
    { "length_greatest", "disk", 0, 0, UINT32_MAX, 0,
      "length: is 4294967295; it must be 1 to 1024, or 0 for 32" },
    { "path_max", NULL, 1024, 0, 32, 0, NULL },
    { "path_over", NULL, 1025, 0, 32, 0, "path: has 1025 bytes; it must have 1 to 1024" },
    { "path_empty", NULL, 0, 0, 32, 0, "path: has 0 bytes; it must have 1 to 1024" },
    { "path_blank", " \t\xe3\x80\x80", 0, 0, 32, 0, "path: must not be only white space" },
    { "path_not_utf8", "a\xff", 0, 0, 32, 0, "path: must be well-formed UTF-8" },
    { "path_surrogate", "\xed\xa0\x80", 0, 0, 32, 0, "path: must be well-formed UTF-8" },
    { "path_reserved", "data_key", 0, 0, 32, 0, "path: \"data_key\" is reserved" },
    { "path_reserved_v2", "data_key", 0, 0, 32, 1, "path: \"data_key\" is reserved" },
    { "path_near_reserved", "data_keys", 0, 0, 32, 0, NULL },
    { "path_reserved_with_context", "data_key", 0, 5, 32, 0, "path: \"data_key\" is reserved" },
    { "context_max", "disk", 0, 1024, 32, 0, NULL },
    { "context_over", "disk", 0, 1025, 32, 0,
      "context: has 1025 bytes; it must have at most 1024" },
    { "kdf_over", "disk", 0, 0, 32, 2, "kdf: is 2; it must be KDF_NOVA_V1 (0) or KDF_NOVA_V2 (1)" },
    { "kdf_negative", "disk", 0, 0, 32, -1,
      "kdf: is -1; it must be KDF_NOVA_V1 (0) or KDF_NOVA_V2 (1)" },
};

static void test_derive(void **state) {
    const struct derive_row *row = *state;
    struct fixture f;
    fixture_open(&f);
    uint8_t filler[1025];
    memset(filler, 'p', sizeof(filler));
    size_t path_len = row->path == NULL ? row->path_len : strlen(row->path);
    uint8_t *path = test_dup(row->path == NULL ? (const char *)filler : row->path, path_len);
    uint8_t *context = test_dup(filler, row->context_len);
    Novakms__V1__DeriveRequest in = NOVAKMS__V1__DERIVE_REQUEST__INIT;
    in.path = (ProtobufCBinaryData){ path_len, path };
    in.context = (ProtobufCBinaryData){ row->context_len, context };
    in.length = row->length;
    in.kdf = (Novakms__V1__Kdf)row->kdf;
    Novakms__V1__DeriveResponse out;
    enum service_outcome outcome = CALL(&f, derive, derive_response, &in, &out);
    if (row->why == NULL) {
        assert_int_equal(outcome, SERVICE_ANSWERED);
        assert_int_equal(out.key.len, row->length == 0 ? 32 : row->length);
    } else {
        assert_failed(&f, outcome, INVALID_ARGUMENT);
        assert_string_equal(f.call.why.text, row->why);
    }
    free(path);
    free(context);
    fixture_close(&f);
}

/* The existing nodes' keys, through the service. Those of the reserved path are refused. */
static void test_derive_vectors(void **state) {
    (void)state;
    json_t *cases = vectors_load("kdf.json");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        struct bytes master = vectors_hex(row, "master_secret");
        struct bytes want = vectors_hex(row, "key");
        struct span path = vectors_text(row, "path");
        struct span context = vectors_text(row, "context");
        struct store_cfg cfg = fixture_store_cfg();
        struct fixture f;
        fixture_open_with(&f, master.ptr, &cfg);
        assert_ok(bytes_parse_decimal(vectors_text(row, "app_id"), UINT64_MAX, &f.caller.app_id));
        Novakms__V1__DeriveRequest in = NOVAKMS__V1__DERIVE_REQUEST__INIT;
        in.path = fixture_bytes(path.ptr, path.len);
        in.context = fixture_bytes(context.ptr, context.len);
        in.length = (uint32_t)want.len;
        Novakms__V1__DeriveResponse out;
        enum service_outcome outcome = CALL(&f, derive, derive_response, &in, &out);
        if (span_equal(path, SPAN_LIT("data_key"))) {
            assert_failed(&f, outcome, INVALID_ARGUMENT);
        } else {
            assert_int_equal(outcome, SERVICE_ANSWERED);
            assert_int_equal(out.key.len, want.len);
            assert_memory_equal(out.key.data, want.ptr, want.len);
        }
        fixture_close(&f);
        free(master.ptr);
        free(want.ptr);
    }
    assert_true(i > 0);
    vectors_close(cases);
}

static void test_app_zero_is_refused(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.caller.app_id = 0;
    Novakms__V1__DeriveRequest in = NOVAKMS__V1__DERIVE_REQUEST__INIT;
    in.path = fixture_text("disk");
    Novakms__V1__DeriveResponse out;
    assert_failed(&f, CALL(&f, derive, derive_response, &in, &out), PERMISSION_DENIED);
    Novakms__V1__PutRequest put = NOVAKMS__V1__PUT_REQUEST__INIT;
    put.key = fixture_text("k");
    Novakms__V1__PutResponse put_out;
    assert_failed(&f, CALL(&f, put, put_response, &put, &put_out), PERMISSION_DENIED);
    Novakms__V1__DeleteRequest del = NOVAKMS__V1__DELETE_REQUEST__INIT;
    del.key = fixture_text("k");
    Novakms__V1__DeleteResponse del_out;
    assert_failed(&f, CALL(&f, delete, delete_response, &del, &del_out), PERMISSION_DENIED);
    fixture_close(&f);
}

/* ---- Put, Get, Delete ---- */

static void test_put_get_delete(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    Novakms__V1__GetResponse got;
    assert_failed(&f, fixture_get(&f, "k", &got), NOT_FOUND);
    assert_true(store_stamp_is_none(&f.call.stamp));
    fixture_put_text(&f, "k", "one");
    fixture_put_text(&f, "k", "two");
    assert_int_equal(fixture_get(&f, "k", &got), SERVICE_ANSWERED);
    assert_bytes_equal(got.value, "two");
    assert_int_equal(got.expires_unix_ms, 0);
    assert_false(got.may_miss);
    assert_non_null(got.stamp);
    Novakms__V1__DeleteRequest in = NOVAKMS__V1__DELETE_REQUEST__INIT;
    in.key = fixture_text("k");
    Novakms__V1__DeleteResponse out;
    assert_int_equal(CALL(&f, delete, delete_response, &in, &out), SERVICE_ANSWERED);
    assert_true(out.existed);
    uint64_t deleted_hlc = out.stamp->hlc;
    assert_failed(&f, fixture_get(&f, "k", &got), NOT_FOUND);
    assert_int_equal(f.call.stamp.hlc, deleted_hlc);
    assert_int_equal(CALL(&f, delete, delete_response, &in, &out), SERVICE_ANSWERED);
    assert_false(out.existed);
    fixture_close(&f);
}

static void test_value_sizes(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    static uint8_t value[FIXTURE_VALUE_MAX + 1];
    for (size_t i = 0; i < sizeof(value); i++) {
        value[i] = (uint8_t)(i * 7);
    }
    static const size_t sizes[] = { 0, 1, 2000, 2008, 2009, 2049, FIXTURE_VALUE_MAX };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct fixture_value arg = { "k", value, sizes[i], 0 };
        assert_int_equal(fixture_put(&f, &arg, NULL), SERVICE_ANSWERED);
        Novakms__V1__GetResponse got;
        assert_int_equal(fixture_get(&f, "k", &got), SERVICE_ANSWERED);
        assert_int_equal(got.value.len, sizes[i]);
        assert_memory_equal(got.value.data, value, sizes[i]);
    }
    const struct fixture_value over = { "k", value, FIXTURE_VALUE_MAX + 1, 0 };
    assert_failed(&f, fixture_put(&f, &over, NULL), RESOURCE_EXHAUSTED);
    assert_string_equal(f.call.why.text, "value: has 4097 bytes; MAX_VALUE_SIZE is 4096");
    fixture_close(&f);
}

static void test_key_sizes(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    char key[1026];
    memset(key, 'k', sizeof(key));
    key[1024] = '\0';
    fixture_put_text(&f, key, "v");
    Novakms__V1__GetResponse got;
    assert_int_equal(fixture_get(&f, key, &got), SERVICE_ANSWERED);
    key[1024] = 'k';
    key[1025] = '\0';
    const struct fixture_value over = { key, "v", 1, 0 };
    assert_failed(&f, fixture_put(&f, &over, NULL), INVALID_ARGUMENT);
    assert_string_equal(f.call.why.text, "key: has 1025 bytes; it must have 1 to 1024");
    assert_failed(&f, fixture_get(&f, key, &got), INVALID_ARGUMENT);
    assert_failed(&f, fixture_get(&f, "", &got), INVALID_ARGUMENT);
    const struct fixture_value empty = { "", "v", 1, 0 };
    assert_failed(&f, fixture_put(&f, &empty, NULL), INVALID_ARGUMENT);
    fixture_close(&f);
}

static void test_time_to_live(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    const struct fixture_value arg = { "k", "v", 1, 1000 };
    assert_int_equal(fixture_put(&f, &arg, NULL), SERVICE_ANSWERED);
    Novakms__V1__GetResponse got;
    assert_int_equal(fixture_get(&f, "k", &got), SERVICE_ANSWERED);
    assert_int_equal(got.expires_unix_ms, FIXTURE_NOW_MS + 1000);
    service_clock_init(&f.clock, FIXTURE_SKEW_MS, 0, FIXTURE_NOW_MS + 999);
    assert_int_equal(fixture_get(&f, "k", &got), SERVICE_ANSWERED);
    service_clock_init(&f.clock, FIXTURE_SKEW_MS, 0, FIXTURE_NOW_MS + 1000);
    assert_failed(&f, fixture_get(&f, "k", &got), NOT_FOUND);
    const struct fixture_value longest = { "k", "v", 1, STORE_TTL_MS_MAX };
    assert_int_equal(fixture_put(&f, &longest, NULL), SERVICE_ANSWERED);
    const struct fixture_value over = { "k", "v", 1, STORE_TTL_MS_MAX + 1 };
    assert_failed(&f, fixture_put(&f, &over, NULL), INVALID_ARGUMENT);
    const struct fixture_value greatest = { "k", "v", 1, UINT64_MAX };
    assert_failed(&f, fixture_put(&f, &greatest, NULL), INVALID_ARGUMENT);
    fixture_close(&f);
}

/* The refusal comes before anything is stored. */
static void test_durability_needs_peers(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    Novakms__V1__PutRequest in = NOVAKMS__V1__PUT_REQUEST__INIT;
    in.key = fixture_text("k");
    in.value = fixture_text("v");
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    Novakms__V1__PutResponse out;
    assert_failed(&f, CALL(&f, put, put_response, &in, &out), FAILED_PRECONDITION);
    assert_non_null(strstr(f.call.why.text, "nothing was stored"));
    Novakms__V1__DeleteRequest del = NOVAKMS__V1__DELETE_REQUEST__INIT;
    del.key = fixture_text("k");
    del.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    Novakms__V1__DeleteResponse del_out;
    assert_failed(&f, CALL(&f, delete, delete_response, &del, &del_out), FAILED_PRECONDITION);
    struct store_stats stats;
    service_kv_stats(f.shared.kv, &stats);
    assert_int_equal(stats.key_count + stats.tombstone_count, 0);
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM;
    assert_int_equal(CALL(&f, put, put_response, &in, &out), SERVICE_ANSWERED);
    assert_non_null(out.stamp);
    fixture_close(&f);
}

/* Calls go on where they were: nothing is written twice. */
static void test_durability_waits(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_set_members(&f, 2);
    Novakms__V1__PutRequest in = NOVAKMS__V1__PUT_REQUEST__INIT;
    in.key = fixture_text("k");
    in.value = fixture_text("v");
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM;
    Novakms__V1__PutResponse out;
    assert_int_equal(CALL(&f, put, put_response, &in, &out), SERVICE_WAITS);
    struct service_call call = f.call;
    const struct store_stamp stamp = call.written.stamp;
    assert_int_equal(call.written.count, 1);
    assert_int_equal(service_put(&f.worker, &call, &in, &out), SERVICE_WAITS);
    call.is_over = true;
    assert_int_equal(service_put(&f.worker, &call, &in, &out), SERVICE_FAILED);
    assert_int_equal(call.why.code, STATUS_DEADLINE_EXCEEDED);
    assert_non_null(strstr(call.why.text, "stored here and on 0 peers"));
    assert_int_equal(store_stamp_compare(&call.stamp, &stamp), 0);
    (void)fixture_pull(&f, 2, &stamp);
    call.why.code = STATUS_OK;
    assert_int_equal(service_put(&f.worker, &call, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.stamp->hlc, stamp.hlc);
    struct store_stats stats;
    service_kv_stats(f.shared.kv, &stats);
    assert_int_equal(stats.key_count, 1);

    Novakms__V1__DeleteRequest del = NOVAKMS__V1__DELETE_REQUEST__INIT;
    del.key = in.key;
    del.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    Novakms__V1__DeleteResponse del_out;
    assert_int_equal(CALL(&f, delete, delete_response, &del, &del_out), SERVICE_WAITS);
    call = f.call;
    (void)fixture_pull(&f, 1, &call.written.stamp);
    assert_int_equal(service_delete(&f.worker, &call, &del, &del_out), SERVICE_ANSWERED);
    assert_true(del_out.existed);
    fixture_close(&f);
}

/* The items that were stored fail; the others keep what was wrong with them. */
static void test_batch_durability(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_set_members(&f, 2);
    Novakms__V1__BatchPutEntry entries[3];
    Novakms__V1__BatchPutEntry *list[3] = { &entries[0], &entries[1], &entries[2] };
    for (size_t i = 0; i < 3; i++) {
        novakms__v1__batch_put_entry__init(&entries[i]);
        entries[i].key = fixture_text(i == 0 ? "a" : i == 1 ? "" : "c");
        entries[i].value = fixture_text("v");
    }
    Novakms__V1__BatchPutRequest in = NOVAKMS__V1__BATCH_PUT_REQUEST__INIT;
    in.n_entries = 3;
    in.entries = list;
    in.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    Novakms__V1__BatchPutResponse out;
    assert_int_equal(CALL(&f, batch_put, batch_put_response, &in, &out), SERVICE_WAITS);
    struct service_call call = f.call;
    assert_int_equal(call.written.count, 2);
    call.is_over = true;
    assert_int_equal(service_batch_put(&f.worker, &call, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.items[0]->status->code, STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(out.items[1]->status->code, STATUS_INVALID_ARGUMENT);
    assert_int_equal(out.items[2]->status->code, STATUS_DEADLINE_EXCEEDED);
    assert_non_null(out.items[2]->stamp);

    assert_int_equal(CALL(&f, batch_put, batch_put_response, &in, &out), SERVICE_WAITS);
    call = f.call;
    (void)fixture_pull(&f, 1, &call.written.stamp);
    assert_int_equal(service_batch_put(&f.worker, &call, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.items[0]->status->code, STATUS_OK);
    in.n_entries = 2;
    in.entries = list + 1;
    entries[2].key = fixture_text(""); /* Nothing is stored: there is nothing to wait for. */
    assert_int_equal(CALL(&f, batch_put, batch_put_response, &in, &out), SERVICE_ANSWERED);
    fixture_close(&f);
}

static void test_apps_are_apart(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put_text(&f, "k", "of app 7");
    f.caller.app_id = 8;
    Novakms__V1__GetResponse got;
    assert_failed(&f, fixture_get(&f, "k", &got), NOT_FOUND);
    fixture_put_text(&f, "k", "of app 8");
    f.caller.app_id = 7;
    assert_int_equal(fixture_get(&f, "k", &got), SERVICE_ANSWERED);
    assert_bytes_equal(got.value, "of app 7");
    fixture_close(&f);
}

/* A ciphertext put under another key, or in another app, does not open. */
static void test_ciphertexts_cannot_be_moved(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put_text(&f, "k", "secret");
    struct service_kv_query query = { .app_id = 7,
                                      .key = SPAN_LIT("k"),
                                      .now_unix_ms = FIXTURE_NOW_MS,
                                      .sealed_bytes_max = SIZE_MAX };
    struct service_kv_value value;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    assert_ok(service_kv_get(f.shared.kv, &query, &arena, &value));
    assert_int_equal(value.sealed_len, 6 + SERVICE_SEAL_BYTES);
    struct store_write write = { .app_id = 7,
                                 .key = SPAN_LIT("other"),
                                 .sealed = { value.sealed, value.sealed_len },
                                 .now_unix_ms = FIXTURE_NOW_MS };
    struct store_written written;
    assert_ok(service_kv_put(f.shared.kv, &write, &written));
    Novakms__V1__GetResponse got;
    assert_failed(&f, fixture_get(&f, "other", &got), DATA_LOSS);
    write.app_id = 8;
    write.key = SPAN_LIT("k");
    assert_ok(service_kv_put(f.shared.kv, &write, &written));
    f.caller.app_id = 8;
    assert_failed(&f, fixture_get(&f, "k", &got), DATA_LOSS);
    write.sealed = SPAN_LIT("short");
    assert_ok(service_kv_put(f.shared.kv, &write, &written));
    assert_failed(&f, fixture_get(&f, "k", &got), DATA_LOSS);
    arena_close(&arena);
    fixture_close(&f);
}

/* The store holds no plaintext, and the same value twice is not the same bytes. */
static void test_values_are_sealed(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put_text(&f, "a", "the same value");
    fixture_put_text(&f, "b", "the same value");
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct service_kv_value values[2];
    static const char *const keys[] = { "a", "b" };
    for (size_t i = 0; i < 2; i++) {
        const struct service_kv_query query = { .app_id = 7,
                                                .key = span_str(keys[i]),
                                                .now_unix_ms = FIXTURE_NOW_MS,
                                                .sealed_bytes_max = SIZE_MAX };
        assert_ok(service_kv_get(f.shared.kv, &query, &arena, &values[i]));
        for (size_t at = 0; at + 4 <= values[i].sealed_len; at++) {
            struct span window = { values[i].sealed + at, 4 };
            assert_false(span_equal(window, SPAN_LIT("same")));
        }
    }
    assert_memory_not_equal(values[0].sealed, values[1].sealed, XAES_NONCE_BYTES);
    arena_close(&arena);
    fixture_close(&f);
}

/* ---- Quotas ---- */

static void test_quota_names_the_limit(void **state) {
    (void)state;
    static const uint8_t secret[KDF_MASTER_BYTES] = { 1 };
    struct store_cfg cfg = fixture_store_cfg();
    cfg.app_bytes_max = 8192;
    cfg.total_bytes_max = 16000;
    cfg.tombstone_count_max = 2;
    struct fixture f;
    fixture_open_with(&f, secret, &cfg);
    static const uint8_t value[FIXTURE_VALUE_MAX] = { 1 };
    const struct fixture_value first = { "a", value, 4000, 0 };
    const struct fixture_value second = { "b", value, 4000, 0 };
    assert_int_equal(fixture_put(&f, &first, NULL), SERVICE_ANSWERED);
    assert_failed(&f, fixture_put(&f, &second, NULL), RESOURCE_EXHAUSTED);
    assert_non_null(strstr(f.call.why.text, "MAX_APP_STORAGE is 8192"));
    f.caller.app_id = 8;
    assert_int_equal(fixture_put(&f, &first, NULL), SERVICE_ANSWERED);
    f.caller.app_id = 9;
    assert_failed(&f, fixture_put(&f, &first, NULL), RESOURCE_EXHAUSTED);
    assert_non_null(strstr(f.call.why.text, "MAX_STORE_BYTES is 16000"));
    f.caller.app_id = 7;
    static const char *const keys[] = { "x", "y", "z" };
    for (size_t i = 0; i < 3; i++) {
        Novakms__V1__DeleteRequest in = NOVAKMS__V1__DELETE_REQUEST__INIT;
        in.key = fixture_text(keys[i]);
        Novakms__V1__DeleteResponse out;
        enum service_outcome outcome = CALL(&f, delete, delete_response, &in, &out);
        if (i < 2) {
            assert_int_equal(outcome, SERVICE_ANSWERED);
        } else {
            assert_failed(&f, outcome, RESOURCE_EXHAUSTED);
            assert_non_null(strstr(f.call.why.text, "MAX_TOMBSTONES_PER_APP is 2"));
        }
    }
    fixture_close(&f);
}

static void test_who_am_i(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.caller.is_kms_member = true;
    Novakms__V1__WhoAmIRequest in = NOVAKMS__V1__WHO_AM_IREQUEST__INIT;
    Novakms__V1__WhoAmIResponse out;
    assert_int_equal(CALL(&f, who_am_i, who_am_iresponse, &in, &out), SERVICE_ANSWERED);
    assert_int_equal(out.app_id, 7);
    assert_int_equal(out.version_id, 8);
    assert_int_equal(out.instance_id, 9);
    assert_true(out.is_kms_member);
    assert_memory_equal(out.wallet.data, f.caller.wallet.bytes, WALLET_BYTES);
    fixture_close(&f);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(derive_rows) + 17];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_derive, derive_rows);
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_derive_vectors),
        cmocka_unit_test(test_app_zero_is_refused),
        cmocka_unit_test(test_put_get_delete),
        cmocka_unit_test(test_value_sizes),
        cmocka_unit_test(test_key_sizes),
        cmocka_unit_test(test_time_to_live),
        cmocka_unit_test(test_durability_needs_peers),
        cmocka_unit_test(test_durability_waits),
        cmocka_unit_test(test_batch_durability),
        cmocka_unit_test(test_apps_are_apart),
        cmocka_unit_test(test_ciphertexts_cannot_be_moved),
        cmocka_unit_test(test_values_are_sealed),
        cmocka_unit_test(test_quota_names_the_limit),
        cmocka_unit_test(test_who_am_i),
    };
    memcpy(tests + count, others, sizeof(others));
    count += sizeof(others) / sizeof(others[0]);
    return _cmocka_run_group_tests("service_methods", tests, count, NULL, NULL);
}
