/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secret.h"
#include "test.h"

/* Under the sanitizers mlock does nothing. gcc and clang say so in different ways. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LOCKS_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define LOCKS_MEMORY 0
#endif
#endif
#ifndef LOCKS_MEMORY
#define LOCKS_MEMORY 1
#endif

static void test_lifecycle(void **state) {
    (void)state;
    struct secret s = { 0 };
    secret_close(&s);
    const size_t lens[] = { 1, 32, 4096, 4097 };
    for (size_t i = 0; i < TEST_ROWS(lens); i++) {
        assert_ok(secret_init(&s, lens[i]));
        assert_int_equal(s.len, lens[i]);
        for (size_t at = 0; at < lens[i]; at++) {
            assert_int_equal(s.ptr[at], 0);
            s.ptr[at] = 0xaa;
        }
        secret_close(&s);
        assert_null(s.ptr);
        assert_int_equal(s.len, 0);
        secret_close(&s);
    }
    assert_err(secret_init(&s, 0), NOMEM);
    assert_err(secret_init(&s, SIZE_MAX / 2), NOMEM);
    assert_null(s.ptr);
}

/* The kernel leaves it out of core dumps ("dd" in its flags). */
static void test_is_not_dumped(void **state) {
    (void)state;
    struct secret s;
    assert_ok(secret_init(&s, 32));
    FILE *smaps = fopen("/proc/self/smaps", "r");
    assert_non_null(smaps);
    char line[512];
    bool inside = false;
    bool found = false;
    while (fgets(line, sizeof(line), smaps) != NULL) {
        char *end = line;
        unsigned long from = strtoul(line, &end, 16); /* "7f00-7f01 rw-p .." starts an area. */
        if (*end == '-') {
            inside = (uintptr_t)s.ptr >= from && (uintptr_t)s.ptr < strtoul(end + 1, NULL, 16);
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            found = strstr(line, " dd") != NULL;
        }
    }
    (void)fclose(smaps);
    assert_true(found);
    secret_close(&s);
}

static void test_equal_and_wipe(void **state) {
    (void)state;
    uint8_t a[33];
    uint8_t b[33];
    memset(a, 5, sizeof(a));
    memset(b, 5, sizeof(b));
    assert_true(secret_equal(a, b, sizeof(a)));
    assert_true(secret_equal(a, b, 0));
    for (size_t bit = 0; bit < 8 * sizeof(b); bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(secret_equal(a, b, sizeof(a)));
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    secret_wipe(a + 1, sizeof(a) - 2);
    for (size_t i = 1; i < sizeof(a) - 1; i++) {
        assert_int_equal(a[i], 0);
    }
    assert_int_equal(a[0], 5);
    assert_int_equal(a[sizeof(a) - 1], 5);
}

/* Runs body in a child, whose limits it may spoil; its exit status says how it went. */
static int run_in_child(int (*body)(void)) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(body());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int harden_and_look(void) {
    /* Whether memory can be locked depends on the machine; the rest does not. */
    enum err err = secret_harden_process().err;
    struct rlimit core = { 1, 1 };
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) {
        return 1;
    }
    if (prctl(PR_GET_DUMPABLE) != 0) {
        return 2;
    }
    return err == E_OK || err == E_NOMEM ? 0 : 3;
}

static void test_hardening(void **state) {
    (void)state;
    assert_int_equal(run_in_child(harden_and_look), 0);
}

#if LOCKS_MEMORY
/* Without the right to lock memory no secret is given, and nothing stays mapped. */
static int take_without_the_right(void) {
    const struct rlimit none = { 0, 0 };
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0)) {
        return 1;
    }
    struct secret s;
    if (secret_init(&s, 32).err != E_NOMEM) {
        return 2;
    }
    return s.ptr == NULL ? 0 : 3;
}

static void test_fails_closed(void **state) {
    (void)state;
    assert_int_equal(run_in_child(take_without_the_right), 0);
}

#define SMALL_LIMIT_BYTES (1024 * 1024)

static bool set_small_limit(void) {
    const struct rlimit small = { SMALL_LIMIT_BYTES, SMALL_LIMIT_BYTES };
    return setrlimit(RLIMIT_MEMLOCK, &small) == 0;
}

/* A limit that binds is refused at once, and what it allows stays allowed. */
static int harden_under_a_limit(void) {
    if (!set_small_limit() || (geteuid() == 0 && setuid(65534) != 0)) {
        return 1;
    }
    if (secret_harden_process().err != E_NOMEM) {
        return 2;
    }
    struct secret s;
    struct rc rc = secret_init(&s, 32);
    secret_close(&s);
    return rc.err == E_OK ? 0 : 3;
}

static void test_a_limit_is_refused(void **state) {
    (void)state;
    assert_int_equal(run_in_child(harden_under_a_limit), 0);
}

/* With CAP_IPC_LOCK there is no limit, whether it can be raised or not. Who can do neither is
 * refused. */
static int harden_with_the_right(void) {
    if (!set_small_limit()) {
        return 1;
    }
    enum err err = secret_harden_process().err;
    struct rlimit limit = { 0 };
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        return 2;
    }
    bool may_lock = limit.rlim_max == RLIM_INFINITY;
    limit = (struct rlimit){ 0, 0 };
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        return 2;
    }
    struct secret page;
    may_lock = secret_init(&page, 1).err == E_OK || may_lock;
    return err == (may_lock ? E_OK : E_NOMEM) ? 0 : 3;
}

static void test_the_right_needs_no_limit(void **state) {
    (void)state;
    assert_int_equal(run_in_child(harden_with_the_right), 0);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lifecycle),
        cmocka_unit_test(test_is_not_dumped),
        cmocka_unit_test(test_equal_and_wipe),
        cmocka_unit_test(test_hardening),
#if LOCKS_MEMORY
        cmocka_unit_test(test_fails_closed),
        cmocka_unit_test(test_a_limit_is_refused),
        cmocka_unit_test(test_the_right_needs_no_limit),
#endif
    };
    return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
