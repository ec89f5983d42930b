/* SPDX-License-Identifier: Apache-2.0 */
/* base's results: err, status and panic. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "test.h"

static void test_err_table(void **state) {
    (void)state;
    assert_string_equal(err_name(E_OK), "OK");
    assert_string_equal(err_name(E_NOMEM), "NOMEM");
    assert_int_equal(err_class(E_OK), ERR_NONE);
    assert_int_equal(err_class(E_TOO_BIG), ERR_PEER);
    assert_int_equal(err_class(E_NOT_FOUND), ERR_USAGE);
    assert_int_equal(err_class(E_TIMEOUT), ERR_RETRY);
    assert_int_equal(err_class(E_NOMEM), ERR_FATAL);
    for (int i = E_OK; i <= E_NOMEM; i++) {
        assert_true(strlen(err_name((enum err)i)) > 0);
        assert_true(strlen(err_text((enum err)i)) > 0);
    }
}

static RC fail_at_once(int *reached) {
    ENSURE(*reached == 0, INVALID);
    TRY(ERR(TIMEOUT));
    *reached = 1;
    return OK;
}

static void test_try_and_ensure(void **state) {
    (void)state;
    int reached = 0;
    struct rc rc = fail_at_once(&reached);
    assert_int_equal(rc.err, E_TIMEOUT);
    assert_string_equal(rc.file, "test_status.c");
    assert_int_equal(reached, 0);
    reached = 2;
    assert_err(fail_at_once(&reached), INVALID);
}

static void test_panic_says_where_and_aborts(void **state) {
    (void)state;
    int to_parent[2];
    assert_int_equal(pipe(to_parent), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(to_parent[1], STDERR_FILENO);
        panic("some.c", 12, "a < b");
    }
    (void)close(to_parent[1]);
    char text[256] = { 0 };
    assert_true(read(to_parent[0], text, sizeof(text) - 1) > 0);
    (void)close(to_parent[0]);
    assert_string_equal(text, "nova-kms: internal error at some.c:12: a < b\n");
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* The text at its limit, and one past it. */
static void test_status_text(void **state) {
    (void)state;
    struct status status = { 0 };
    status_set(&status, STATUS_NOT_FOUND, "no key %d", 7);
    assert_int_equal(status.code, STATUS_NOT_FOUND);
    assert_string_equal(status.text, "no key 7");
    status_set(&status, STATUS_INTERNAL, "%0*d", STATUS_TEXT_BYTES - 1, 0);
    assert_int_equal(strlen(status.text), STATUS_TEXT_BYTES - 1);
    assert_int_equal(status.text[STATUS_TEXT_BYTES - 2], '0');
    status_set(&status, STATUS_INTERNAL, "%0*d", STATUS_TEXT_BYTES, 0);
    assert_int_equal(strlen(status.text), STATUS_TEXT_BYTES - 1);
    assert_string_equal(status.text + STATUS_TEXT_BYTES - 4, "...");
}

static void test_status_names(void **state) {
    (void)state;
    assert_string_equal(status_name(0), "OK");
    assert_string_equal(status_name(STATUS_CODE_MAX), "UNAUTHENTICATED");
    assert_string_equal(status_name(STATUS_CODE_MAX + 1), "UNKNOWN");
    assert_string_equal(status_name(UINT32_MAX), "UNKNOWN");
}

static void test_clocks_agree(void **state) {
    (void)state;
    uint64_t us = clock_mono_us();
    uint64_t ms = clock_mono_ms();
    assert_true(ms >= us / 1000);
    assert_true(clock_mono_us() >= us);
    assert_true(clock_unix_ms() > 1700000000000); /* After 2023: milliseconds, of the wall clock. */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_table),
        cmocka_unit_test(test_try_and_ensure),
        cmocka_unit_test(test_panic_says_where_and_aborts),
        cmocka_unit_test(test_status_text),
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_clocks_agree),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
