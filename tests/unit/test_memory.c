/* SPDX-License-Identifier: Apache-2.0 */
/* base's arena, secret memory and the keyed hash. */
#include <stdalign.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/secret.h"
#include "base/siphash.h"
#include "test.h"

static void test_arena_limits(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 8192);
    assert_non_null(arena_take(&arena, 8192));
    assert_null(arena_take(&arena, 1));
    arena_reset(&arena);
    assert_null(arena_take(&arena, 8193));
    assert_null(arena_take(&arena, SIZE_MAX));
    assert_non_null(arena_take(&arena, 8192));
    arena_close(&arena);
    arena_close(&arena);
}

static void test_arena_pieces(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    uint8_t *taken[200];
    for (size_t i = 0; i < TEST_ROWS(taken); i++) {
        taken[i] = arena_take(&arena, i + 1);
        assert_non_null(taken[i]);
        assert_int_equal((uintptr_t)taken[i] % alignof(max_align_t), 0);
        memset(taken[i], (int)i, i + 1);
    }
    for (size_t i = 0; i < TEST_ROWS(taken); i++) {
        assert_int_equal(taken[i][0], i);
        assert_int_equal(taken[i][i], i);
    }
    assert_non_null(arena_take(&arena, 0));
    arena_close(&arena);
}

/* One small block stays for the next message, wiped; a large one is given back. */
static void test_arena_reset(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    arena_reset(&arena);
    uint8_t *first = arena_take(&arena, 32);
    assert_non_null(first);
    memset(first, 0xaa, 32);
    assert_non_null(arena_take(&arena, 100000));
    arena_reset(&arena);
    assert_int_equal(arena.used_bytes, 0);
    uint8_t *again = arena_take(&arena, 32);
    assert_ptr_equal(again, first);
    static const uint8_t zero[32];
    assert_memory_equal(again, zero, sizeof(zero));
    arena_close(&arena);
}

static void test_secret(void **state) {
    (void)state;
    struct secret secret;
    assert_ok(secret_init(&secret, 32));
    assert_int_equal(secret.len, 32);
    static const uint8_t zero[32];
    assert_memory_equal(secret.ptr, zero, 32);
    memset(secret.ptr, 7, 32);
    secret_wipe(secret.ptr, 31);
    assert_int_equal(secret.ptr[30], 0);
    assert_int_equal(secret.ptr[31], 7);
    secret_close(&secret);
    assert_null(secret.ptr);
    secret_close(&secret);
    assert_err(secret_init(&secret, 0), NOMEM);
    assert_null(secret.ptr);
}

static void test_secret_equal(void **state) {
    (void)state;
    const uint8_t a[4] = { 1, 2, 3, 4 };
    const uint8_t b[4] = { 1, 2, 3, 5 };
    const uint8_t c[4] = { 0, 2, 3, 4 };
    assert_true(secret_equal(a, a, 4));
    assert_true(secret_equal(a, b, 3));
    assert_false(secret_equal(a, b, 4));
    assert_false(secret_equal(a, c, 4));
    assert_true(secret_equal(a, b, 0));
}

/* In a child, because it cannot be taken back. Exits 0 when everything that was promised holds. */
static int hardened_child(void) {
    struct rc rc = secret_harden_process();
    struct rlimit core = { 1, 1 };
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0) {
        return 1;
    }
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return 2;
    }
    /* Without the privilege to lock memory it must say so. */
    return rc.err == E_OK || rc.err == E_NOMEM ? 0 : 3;
}

static void test_harden_process(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        _exit(hardened_child());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The paper's key 00..0f, and the first len of the bytes 00 01 02 .. */
static const struct {
    size_t len;
    uint64_t want;
} siphash_vectors[] = {
    { 0, 0x726fdb47dd0e0e31 },  { 1, 0x74f839c593dc67fd },  { 2, 0x0d6c8009d9a94f5a },
    { 7, 0xab0200f58b01d137 },  { 8, 0x93f5f5799a932462 },  { 9, 0x9e0082df0ba9e4b0 },
    { 15, 0xa129ca6149be45e5 }, { 16, 0x3f2acc7f57c29bdb }, { 63, 0x958a324ceb064572 },
};

static void test_siphash(void **state) {
    (void)state;
    uint8_t key_bytes[SIPHASH_KEY_BYTES];
    uint8_t in[64];
    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)i;
    }
    memcpy(key_bytes, in, sizeof(key_bytes));
    struct siphash_key key = siphash_key_from(key_bytes);
    for (size_t i = 0; i < TEST_ROWS(siphash_vectors); i++) {
        uint8_t *exact = test_dup(in, siphash_vectors[i].len);
        assert_true(siphash(&key, (struct span){ exact, siphash_vectors[i].len }) ==
                    siphash_vectors[i].want);
        free(exact);
    }
    assert_true(siphash(&key, SPAN_EMPTY) == siphash_vectors[0].want);
    key.k1 ^= 1;
    assert_false(siphash(&key, SPAN_EMPTY) == siphash_vectors[0].want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_limits), cmocka_unit_test(test_arena_pieces),
        cmocka_unit_test(test_arena_reset),  cmocka_unit_test(test_secret),
        cmocka_unit_test(test_secret_equal), cmocka_unit_test(test_harden_process),
        cmocka_unit_test(test_siphash),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
