/* SPDX-License-Identifier: Apache-2.0 */
/* The small parts of the service: clock, readiness, keys, checks, tokens. */
#include "service/checks.h"
#include "service/clock.h"
#include "service/keys.h"
#include "service/readiness.h"
#include "service/token.h"
#include "service_fixture.h"
#include "test.h"

#define SKEW_MS 5000

/* ---- Clock ---- */

static void test_clock_follows_small_corrections(void **state) {
    (void)state;
    struct service_clock clock;
    int64_t step = 0;
    service_clock_init(&clock, SKEW_MS, 100, 1000000);
    assert_int_equal(service_clock_unix_ms(&clock, 150), 1000050);
    assert_true(service_clock_check(&clock, 1100, 1001000 + SKEW_MS, &step));
    assert_int_equal(step, SKEW_MS);
    assert_int_equal(service_clock_unix_ms(&clock, 1100), 1001000 + SKEW_MS);
}

static void test_clock_step_does_not_enter(void **state) {
    (void)state;
    struct service_clock clock;
    int64_t step = 0;
    service_clock_init(&clock, SKEW_MS, 0, 1000000);
    assert_false(service_clock_check(&clock, 1000, 1001000 + SKEW_MS + 1, &step));
    assert_int_equal(step, SKEW_MS + 1);
    assert_int_equal(service_clock_unix_ms(&clock, 1000), 1001000);
    assert_false(service_clock_check(&clock, 2000, 1002000 - SKEW_MS - 1, &step));
    assert_int_equal(step, -SKEW_MS - 1);
    /* Time does not heal a step, the way back does. */
    uint64_t later = 10 * SERVICE_CLOCK_WINDOW_MS;
    assert_false(service_clock_check(&clock, later, 1000000 + later + 6000, &step));
    assert_true(service_clock_check(&clock, later + 1, 1000000 + later + 1, &step));
    assert_int_equal(service_clock_unix_ms(&clock, later + 1), 1000000 + later + 1);
}

/* Small corrections in one direction add up to a step within a window, not over many. */
static void test_clock_window(void **state) {
    (void)state;
    struct service_clock clock;
    int64_t step = 0;
    service_clock_init(&clock, SKEW_MS, 0, 1000000);
    assert_true(service_clock_check(&clock, 1000, 1001000 + 3000, &step));
    assert_false(service_clock_check(&clock, 2000, 1002000 + 6000, &step));
    assert_true(service_clock_check(&clock, 3000, 1003000 + 3000, &step));
    assert_true(service_clock_check(&clock, SERVICE_CLOCK_WINDOW_MS,
                                    1003000 + SERVICE_CLOCK_WINDOW_MS, &step));
    uint64_t next = SERVICE_CLOCK_WINDOW_MS + 1000;
    assert_true(service_clock_check(&clock, next, 1000000 + next + 6000, &step));
}

/* ---- Readiness ---- */

static void test_readiness_gives_the_first_reason(void **state) {
    (void)state;
    struct service_readiness r;
    char text[SERVICE_REASON_BYTES];
    service_readiness_init(&r);
    assert_false(service_readiness_reason(&r, text));
    assert_string_equal(text, "the node is starting");
    assert_false(service_readiness_allows(&r));
    assert_true(service_readiness_is_closed(&r, SERVICE_GATE_STARTING));
    assert_false(service_readiness_is_closed(&r, SERVICE_GATE_REGISTRY));
    assert_string_equal(service_gate_name(SERVICE_GATE_MEMORY), "memory");
    assert_false(service_readiness_set(&r, SERVICE_GATE_REGISTRY, "registry"));
    assert_true(service_readiness_set(&r, SERVICE_GATE_STARTING, NULL));
    assert_false(service_readiness_reason(&r, text));
    assert_string_equal(text, "registry");
    assert_false(service_readiness_set(&r, SERVICE_GATE_REGISTRY, "registry"));
    assert_true(service_readiness_set(&r, SERVICE_GATE_REGISTRY, "registry 2"));
    assert_true(service_readiness_set(&r, SERVICE_GATE_REGISTRY, NULL));
    assert_true(service_readiness_reason(&r, text));
    assert_string_equal(text, "");
    assert_true(service_readiness_allows(&r));
    service_readiness_close(&r);
}

/* A stopping node is not healthy, but the calls it has taken run to their end. */
static void test_readiness_stopping_lets_calls_end(void **state) {
    (void)state;
    struct service_readiness r;
    char text[SERVICE_REASON_BYTES];
    service_readiness_init(&r);
    (void)service_readiness_set(&r, SERVICE_GATE_STARTING, NULL);
    (void)service_readiness_set(&r, SERVICE_GATE_STOPPING, "stopping");
    assert_false(service_readiness_reason(&r, text));
    assert_true(service_readiness_allows(&r));
    (void)service_readiness_set(&r, SERVICE_GATE_CLOCK, "clock");
    assert_false(service_readiness_allows(&r));
    service_readiness_close(&r);
}

/* ---- Keys ---- */

static void derive(struct service_keys *keys, uint64_t app_id, uint8_t out[static 32]) {
    const struct service_app_keys *app = NULL;
    const struct kdf_input input = { SPAN_LIT("p"), SPAN_EMPTY };
    assert_ok(service_keys_get(keys, app_id, &app));
    assert_ok(kdf_derive(&app->derive, KDF_NOVA_V1, &input, out, 32));
}

/* Every order of use, with fewer places than apps, gives each app its own key. */
static void test_keys_with_eviction(void **state) {
    (void)state;
    static const uint8_t secret[KDF_MASTER_BYTES] = { 9 };
    struct kdf_master master;
    assert_ok(kdf_master_init(&master, secret));
    uint8_t want[8][32];
    for (uint32_t app = 0; app < 8; app++) {
        struct kdf_app kdf;
        const struct kdf_input input = { SPAN_LIT("p"), SPAN_EMPTY };
        assert_ok(kdf_app_init(&kdf, &master, app + 1));
        assert_ok(kdf_derive(&kdf, KDF_NOVA_V1, &input, want[app], 32));
        kdf_app_close(&kdf);
    }
    for (uint32_t places = 1; places <= 9; places++) {
        struct service_keys *keys = NULL;
        assert_ok(service_keys_init(&keys, &master, places));
        uint32_t at = 1;
        for (unsigned i = 0; i < 500; i++) {
            at = at * 1103515245U + 12345U;
            uint32_t app = (at >> 16) % 8;
            uint8_t got[32];
            derive(keys, app + 1, got);
            assert_memory_equal(got, want[app], 32);
            if (i == 250) {
                service_keys_forget(keys);
            }
        }
        service_keys_close(&keys);
        service_keys_close(&keys);
    }
    struct service_keys *keys = NULL;
    assert_err(service_keys_init(&keys, &master, 0), BAD_CONFIG);
    assert_err(service_keys_init(&keys, &master, SERVICE_KEYS_APP_COUNT_MAX + 1), BAD_CONFIG);
    kdf_master_close(&master);
}

/* Without a master secret there are no keys; with another one, others. */
static void test_keys_change_the_master(void **state) {
    (void)state;
    struct kdf_master masters[2];
    assert_ok(kdf_master_init(&masters[0], (const uint8_t[KDF_MASTER_BYTES]){ 1 }));
    assert_ok(kdf_master_init(&masters[1], (const uint8_t[KDF_MASTER_BYTES]){ 2 }));
    struct service_keys *keys = NULL;
    const struct service_app_keys *app = NULL;
    assert_ok(service_keys_init(&keys, NULL, 2));
    assert_err(service_keys_get(keys, 7, &app), UNAVAILABLE);
    uint8_t got[3][32];
    service_keys_set_master(keys, &masters[0]);
    derive(keys, 7, got[0]);
    service_keys_set_master(keys, &masters[1]);
    derive(keys, 7, got[1]);
    service_keys_set_master(keys, &masters[0]);
    derive(keys, 7, got[2]);
    assert_memory_equal(got[0], got[2], 32);
    assert_memory_not_equal(got[0], got[1], 32);
    service_keys_set_master(keys, NULL);
    assert_err(service_keys_get(keys, 7, &app), UNAVAILABLE);
    service_keys_close(&keys);
    kdf_master_close(&masters[0]);
    kdf_master_close(&masters[1]);
}

static void count_cb(void *ctx) {
    *(unsigned *)ctx += 1;
}

/* A section of the caller's own; listeners hear of it when it says so. */
static void test_kv_section(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    unsigned count = 0;
    assert_ok(service_kv_listen(f.shared.kv, count_cb, &count));
    const struct store_write write = {
        .app_id = 7, .key = SPAN_LIT("k"), .sealed = SPAN_LIT("x"), .now_unix_ms = FIXTURE_NOW_MS
    };
    struct store_written written;
    assert_ok(service_kv_put(f.shared.kv, &write, &written));
    assert_int_equal(count, 1);
    struct store *store = service_kv_lock(f.shared.kv);
    assert_true(store_covers(store, &written.stamp));
    store_reset(store, (const uint8_t[STORE_WRITER_BYTES]){ 0xee });
    service_kv_unlock(f.shared.kv, false);
    assert_int_equal(count, 1);
    (void)service_kv_lock(f.shared.kv);
    service_kv_unlock(f.shared.kv, true);
    assert_int_equal(count, 2);
    assert_false(service_kv_covers(f.shared.kv, &(struct service_shown){ .seen = written.stamp }));
    for (size_t i = 1; i < SERVICE_KV_LISTENER_COUNT_MAX; i++) {
        assert_ok(service_kv_listen(f.shared.kv, count_cb, &count));
    }
    assert_err(service_kv_listen(f.shared.kv, count_cb, &count), QUOTA);
    fixture_close(&f);
}

/* ---- Checks ---- */

static struct blank_row {
    const char *name;
    const char *text;
    bool want;
} blank_rows[] = {
    { "empty", "", true },
    { "space", "   ", true },
    { "controls", "\t\n\v\f\r\x1c\x1d\x1e\x1f", true },
    { "next_line", "\xc2\x85", true },
    { "no_break_space", "\xc2\xa0", true },
    { "ogham", "\xe1\x9a\x80", true },
    { "en_quad_to_hair", "\xe2\x80\x80\xe2\x80\x8a", true },
    { "line_and_paragraph", "\xe2\x80\xa8\xe2\x80\xa9", true },
    { "narrow_and_medium", "\xe2\x80\xaf\xe2\x81\x9f", true },
    { "ideographic", "\xe3\x80\x80", true },
    { "zero_width_space_is_none", "\xe2\x80\x8b", false },
    { "bell_is_none", "\x07", false },
    { "unit_before_is_none", "\x1b", false },
    { "last_is_letter", "  a", false },
    { "four_bytes", "\xf0\x9f\x94\x91", false },
};

static void test_blank(void **state) {
    const struct blank_row *row = *state;
    uint8_t *text = test_dup(row->text, strlen(row->text));
    assert_int_equal(service_is_blank((struct span){ text, strlen(row->text) }), row->want);
    free(text);
}

static struct stamp_row {
    const char *name;
    uint64_t hlc;
    size_t writer_len;
    enum status_code want;
    bool is_none;
} stamp_rows[] = {
    { "absent", 0, 0, STATUS_OK, true },
    { "now", UINT64_C(1000000) << 16, 16, STATUS_OK, false },
    { "zero_clock", 0, 16, STATUS_OK, true },
    { "skew", (UINT64_C(1000000) + SKEW_MS) << 16, 16, STATUS_OK, false },
    { "over_skew", (UINT64_C(1000000) + SKEW_MS + 1) << 16, 16, STATUS_INVALID_ARGUMENT, true },
    { "greatest", UINT64_MAX, 16, STATUS_INVALID_ARGUMENT, true },
    { "writer_short", 1, 15, STATUS_INVALID_ARGUMENT, true },
    { "writer_long", 1, 17, STATUS_INVALID_ARGUMENT, true },
    { "writer_missing", 1, 0, STATUS_INVALID_ARGUMENT, true },
    { "writer_alone", 0, 1, STATUS_INVALID_ARGUMENT, true },
};

static void test_stamp(void **state) {
    const struct stamp_row *row = *state;
    static const uint8_t bytes[17] = { 1, 2, 3 };
    uint8_t *writer = test_dup(bytes, row->writer_len);
    Novakms__V1__Stamp stamp = NOVAKMS__V1__STAMP__INIT;
    stamp.hlc = row->hlc;
    stamp.writer = (ProtobufCBinaryData){ row->writer_len, writer };
    const struct service_stamp_cfg cfg = { .now_unix_ms = 1000000, .skew_max_ms = SKEW_MS };
    struct store_stamp out = { .hlc = 99 };
    struct status why = { 0 };
    bool good = service_check_stamp("wrote", &stamp, &cfg, &out, &why);
    assert_int_equal(good, row->want == STATUS_OK);
    assert_int_equal(good ? STATUS_OK : why.code, row->want);
    if (!good) {
        assert_memory_equal(why.text, "wrote: ", 7);
    }
    assert_int_equal(store_stamp_is_none(&out), row->is_none);
    assert_true(service_check_stamp("seen", NULL, &cfg, &out, &why));
    free(writer);
}

static struct durability_row {
    const char *name;
    int durability;
    size_t other_count;
    enum status_code want;
} durability_rows[] = {
    { "local", 0, 0, STATUS_OK },
    { "one_peer_alone", 1, 0, STATUS_FAILED_PRECONDITION },
    { "one_peer", 1, 1, STATUS_OK },
    { "quorum_alone", 2, 0, STATUS_OK },
    { "quorum", 2, 2, STATUS_OK },
    { "three", 3, 2, STATUS_INVALID_ARGUMENT },
    { "negative", -1, 0, STATUS_INVALID_ARGUMENT },
};

static void test_durability(void **state) {
    const struct durability_row *row = *state;
    struct fixture f;
    struct status why = { 0 };
    fixture_open(&f);
    fixture_set_members(&f, row->other_count);
    bool good = service_check_durability(&f.shared, (Novakms__V1__Durability)row->durability, &why);
    assert_int_equal(good ? STATUS_OK : why.code, row->want);
    if (!good) {
        assert_memory_equal(why.text, "durability: ", 12);
    }
    fixture_close(&f);
}

/* How many have acknowledged decides, and they are the members as they are now. */
static void test_is_durable(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_set_members(&f, 3); /* A quorum is this node and two others. */
    struct store_stamp stamp = STORE_STAMP_NONE;
    const struct fixture_value value = { "k", "v", 1, 0 };
    assert_int_equal(fixture_put(&f, &value, &stamp), SERVICE_ANSWERED);
    struct service_written one = { .count = 1,
                                   .stamp = stamp,
                                   .durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER };
    struct service_written quorum = one;
    quorum.durability = NOVAKMS__V1__DURABILITY__DURABILITY_QUORUM;
    struct service_written local = one;
    local.durability = NOVAKMS__V1__DURABILITY__DURABILITY_LOCAL;
    uint32_t acks = 9;
    assert_true(service_is_durable(f.replica, &local, &acks));
    assert_false(service_is_durable(f.replica, &one, &acks));
    assert_int_equal(acks, 0);
    (void)fixture_pull(&f, 1, &stamp);
    assert_true(service_is_durable(f.replica, &one, &acks));
    assert_false(service_is_durable(f.replica, &quorum, &acks));
    assert_int_equal(acks, 1);
    (void)fixture_pull(&f, 2, &stamp);
    assert_true(service_is_durable(f.replica, &quorum, &acks));
    fixture_set_members(&f, 0);
    assert_true(service_is_durable(f.replica, &quorum, &acks));
    assert_false(service_is_durable(f.replica, &one, &acks));
    fixture_close(&f);
}

static void test_durability_is_counted(void **state) {
    (void)state;
    struct service_durability_stats stats = { 0 };
    service_durability_count(&stats, 1, true);
    service_durability_count(&stats, 2, true);
    service_durability_count(&stats, 10000, true);
    service_durability_count(&stats, 10001, true);
    service_durability_count(&stats, 5, false);
    assert_int_equal(stats.waits[0], 1);
    assert_int_equal(stats.waits[1], 1);
    assert_int_equal(stats.waits[SERVICE_DURABILITY_BUCKET_COUNT - 2], 1);
    assert_int_equal(stats.waits[SERVICE_DURABILITY_BUCKET_COUNT - 1], 1);
    assert_int_equal(stats.wait_sum_ms, 20004);
    assert_int_equal(stats.failed_count, 1);
}

/* ---- Tokens ---- */

static void test_token(void **state) {
    (void)state;
    static const uint8_t key_bytes[XAES_KEY_BYTES] = { 5 };
    uint8_t longest[1024];
    memset(longest, 'k', sizeof(longest));
    struct xaes_key key;
    xaes_key_init(&key, key_bytes);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    const struct span afters[] = { SPAN_LIT("a"), { longest, sizeof(longest) } };
    for (size_t i = 0; i < 2; i++) {
        struct writer token = { 0 };
        struct span after = SPAN_EMPTY;
        assert_ok(service_token_seal(&key, SPAN_LIT("pre"), afters[i], &arena, &token));
        assert_true(token.len <= SERVICE_TOKEN_BYTES_MAX);
        assert_ok(service_token_open(&key, SPAN_LIT("pre"), writer_span(&token), &arena, &after));
        assert_true(span_equal(after, afters[i]));
        assert_err(service_token_open(&key, SPAN_LIT("prf"), writer_span(&token), &arena, &after),
                   BAD_AUTH);
        assert_err(service_token_open(&key, SPAN_EMPTY, writer_span(&token), &arena, &after),
                   BAD_AUTH);
        for (size_t at = 0; at < token.len; at += 1 + token.len / 64) {
            token.ptr[at] ^= 1;
            assert_int_not_equal(
                service_token_open(&key, SPAN_LIT("pre"), writer_span(&token), &arena, &after).err,
                E_OK);
            token.ptr[at] ^= 1;
        }
        for (size_t len = 0; len < token.len; len += 1 + token.len / 64) {
            uint8_t *cut = test_dup(token.ptr, len);
            assert_int_not_equal(
                service_token_open(&key, SPAN_LIT("pre"), (struct span){ cut, len }, &arena, &after)
                    .err,
                E_OK);
            free(cut);
        }
    }
    static const uint8_t huge[SERVICE_TOKEN_BYTES_MAX + 1] = { 1 };
    struct span after = SPAN_EMPTY;
    assert_err(
        service_token_open(&key, SPAN_EMPTY, (struct span){ huge, sizeof(huge) }, &arena, &after),
        MALFORMED);
    arena_close(&arena);
    xaes_key_close(&key);
}

int main(void) {
    struct CMUnitTest
        tests[TEST_ROWS(blank_rows) + TEST_ROWS(stamp_rows) + TEST_ROWS(durability_rows) + 11];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_blank, blank_rows);
    TEST_ADD_ROWS(tests, count, test_stamp, stamp_rows);
    TEST_ADD_ROWS(tests, count, test_durability, durability_rows);
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_clock_follows_small_corrections),
        cmocka_unit_test(test_clock_step_does_not_enter),
        cmocka_unit_test(test_clock_window),
        cmocka_unit_test(test_readiness_gives_the_first_reason),
        cmocka_unit_test(test_readiness_stopping_lets_calls_end),
        cmocka_unit_test(test_keys_with_eviction),
        cmocka_unit_test(test_keys_change_the_master),
        cmocka_unit_test(test_kv_section),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_is_durable),
        cmocka_unit_test(test_durability_is_counted),
    };
    memcpy(tests + count, others, sizeof(others));
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
