/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "crypto/kdf.h"
#include "test.h"
#include "vectors.h"

static void open_app(struct kdf_app *app, const uint8_t master_bytes[static KDF_MASTER_BYTES],
                     uint64_t app_id) {
    struct kdf_master master;
    assert_ok(kdf_master_init(&master, master_bytes));
    assert_ok(kdf_app_init(app, &master, app_id));
    kdf_master_close(&master);
}

/* Derives into an exact-size buffer and compares it with the row's key. */
static void check_row(const json_t *row, enum kdf_variant variant, struct kdf_input input) {
    struct bytes master = vectors_hex(row, "master_secret");
    struct bytes want = vectors_hex(row, "key");
    uint64_t app_id = 0;
    assert_ok(bytes_parse_decimal(vectors_text(row, "app_id"), UINT64_MAX, &app_id));
    struct kdf_app app;
    open_app(&app, master.ptr, app_id);
    uint8_t *got = malloc(want.len);
    assert_non_null(got);
    assert_int_equal(json_integer_value(json_object_get(row, "length")), want.len);
    assert_ok(kdf_derive(&app, variant, &input, got, want.len));
    assert_memory_equal(got, want.ptr, want.len);
    free(got);
    free(want.ptr);
    free(master.ptr);
    kdf_app_close(&app);
}

static void test_v1_vectors(void **state) {
    (void)state;
    json_t *cases = vectors_load("kdf.json");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        check_row(row, KDF_NOVA_V1,
                  (struct kdf_input){ vectors_text(row, "path"), vectors_text(row, "context") });
    }
    assert_int_equal(i, 81);
    vectors_close(cases);
}

static void test_v2_vectors(void **state) {
    (void)state;
    json_t *cases = vectors_load("kdf-v2.json");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        struct bytes path = vectors_hex(row, "path");
        struct bytes context = vectors_hex(row, "context");
        check_row(row, KDF_NOVA_V2,
                  (struct kdf_input){ { path.ptr, path.len }, { context.ptr, context.len } });
        free(path.ptr);
        free(context.ptr);
    }
    assert_int_equal(i, 24);
    vectors_close(cases);
}

/* The keys with a fixed path, and the hash that stands on chain. */
static void test_fixed_keys(void **state) {
    (void)state;
    json_t *cases = vectors_load_list("kdf.json", "special");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cases, i, row) {
        struct bytes secret = vectors_hex(row, "master_secret");
        struct bytes want_hash = vectors_hex(row, "hash");
        struct bytes want_data = vectors_hex(row, "data_key_app_49");
        struct bytes want_sync = vectors_hex(row, "sync_key");
        struct kdf_master master;
        assert_ok(kdf_master_init(&master, secret.ptr));
        assert_memory_equal(master.hash, want_hash.ptr, KDF_HASH_BYTES);
        uint8_t key[KDF_DATA_KEY_BYTES];
        struct kdf_app app;
        assert_ok(kdf_app_init(&app, &master, 49));
        assert_ok(kdf_data_key(&app, key));
        assert_memory_equal(key, want_data.ptr, sizeof(key));
        kdf_app_close(&app);
        assert_ok(kdf_app_init(&app, &master, 0));
        const struct kdf_input sync = { SPAN_LIT("sync_hmac_key"), SPAN_EMPTY };
        assert_ok(kdf_derive(&app, KDF_NOVA_V1, &sync, key, sizeof(key)));
        assert_memory_equal(key, want_sync.ptr, sizeof(key));
        kdf_app_close(&app);
        kdf_master_close(&master);
        free(secret.ptr);
        free(want_hash.ptr);
        free(want_data.ptr);
        free(want_sync.ptr);
    }
    assert_int_equal(i, 3);
    vectors_close(cases);
}

static void test_length_bounds(void **state) {
    (void)state;
    const uint8_t master[KDF_MASTER_BYTES] = { 1 };
    struct kdf_app app;
    open_app(&app, master, 1);
    const struct kdf_input input = { SPAN_LIT("p"), SPAN_LIT("c") };
    uint8_t longest[KDF_KEY_BYTES_MAX + 1];
    assert_err(kdf_derive(&app, KDF_NOVA_V1, &input, longest, 0), INVALID);
    assert_err(kdf_derive(&app, KDF_NOVA_V1, &input, longest, KDF_KEY_BYTES_MAX + 1), INVALID);
    assert_ok(kdf_derive(&app, KDF_NOVA_V1, &input, longest, KDF_KEY_BYTES_MAX));
    for (size_t len = 1; len <= KDF_KEY_BYTES_MAX; len++) {
        uint8_t *key = malloc(len);
        assert_non_null(key);
        assert_ok(kdf_derive(&app, KDF_NOVA_V1, &input, key, len));
        assert_memory_equal(key, longest, len);
        free(key);
    }
    kdf_app_close(&app);
    kdf_app_close(&app);
}

/* V1 joins path and context with a bare colon; V2 tells them apart, from V1 and between apps. */
static void test_collisions(void **state) {
    (void)state;
    const uint8_t master[KDF_MASTER_BYTES] = { 2 };
    struct kdf_app app;
    struct kdf_app other;
    open_app(&app, master, 1);
    open_app(&other, master, 11);
    const struct kdf_input joined = { SPAN_LIT("a:b"), SPAN_EMPTY };
    const struct kdf_input apart = { SPAN_LIT("a"), SPAN_LIT("b") };
    uint8_t keys[6][32];
    assert_ok(kdf_derive(&app, KDF_NOVA_V1, &joined, keys[0], 32));
    assert_ok(kdf_derive(&app, KDF_NOVA_V1, &apart, keys[1], 32));
    assert_ok(kdf_derive(&app, KDF_NOVA_V2, &joined, keys[2], 32));
    assert_ok(kdf_derive(&app, KDF_NOVA_V2, &apart, keys[3], 32));
    assert_ok(kdf_derive(&other, KDF_NOVA_V1, &joined, keys[4], 32));
    assert_ok(kdf_derive(&other, KDF_NOVA_V2, &joined, keys[5], 32));
    assert_memory_equal(keys[0], keys[1], 32);
    for (size_t i = 1; i < 6; i++) {
        for (size_t j = i + 1; j < 6; j++) {
            assert_memory_not_equal(keys[i], keys[j], 32);
        }
    }
    kdf_app_close(&app);
    kdf_app_close(&other);
}

#define THREAD_COUNT 4
#define ROUND_COUNT 2000

struct derivation {
    const struct kdf_app *app;
    uint8_t want[64];
    bool ok;
};

static void *derive_often(void *arg) {
    struct derivation *d = arg;
    d->ok = true;
    for (size_t i = 0; i < ROUND_COUNT; i++) {
        const struct kdf_input input = { SPAN_LIT("path"), SPAN_LIT("context") };
        uint8_t key[64];
        d->ok = d->ok && kdf_derive(d->app, KDF_NOVA_V2, &input, key, sizeof(key)).err == E_OK &&
                secret_equal(key, d->want, sizeof(key));
    }
    return NULL;
}

static void test_threads_share_an_app(void **state) {
    (void)state;
    const uint8_t master[KDF_MASTER_BYTES] = { 3 };
    struct kdf_app app;
    open_app(&app, master, 1);
    const struct kdf_input input = { SPAN_LIT("path"), SPAN_LIT("context") };
    pthread_t threads[THREAD_COUNT];
    struct derivation jobs[THREAD_COUNT];
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        jobs[i] = (struct derivation){ .app = &app };
        assert_ok(kdf_derive(&app, KDF_NOVA_V2, &input, jobs[i].want, sizeof(jobs[i].want)));
        assert_int_equal(pthread_create(&threads[i], NULL, derive_often, &jobs[i]), 0);
    }
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(jobs[i].ok);
    }
    kdf_app_close(&app);
}

static void test_close(void **state) {
    (void)state;
    const uint8_t bytes[KDF_MASTER_BYTES] = { 4 };
    struct kdf_master master = { 0 };
    kdf_master_close(&master);
    assert_ok(kdf_master_init(&master, bytes));
    kdf_master_close(&master);
    kdf_master_close(&master);
    assert_null(master.secret.ptr);
    struct kdf_app app = { 0 };
    kdf_app_close(&app);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1_vectors), cmocka_unit_test(test_v2_vectors),
        cmocka_unit_test(test_fixed_keys), cmocka_unit_test(test_length_bounds),
        cmocka_unit_test(test_collisions), cmocka_unit_test(test_threads_share_an_app),
        cmocka_unit_test(test_close),
    };
    return cmocka_run_group_tests_name("kdf", tests, NULL, NULL);
}
