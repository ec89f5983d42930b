/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "test.h"

#define OUTPUT_BYTES 4096
#define PIPE_BYTES 65536 /* What Linux gives a pipe. */

/* What `write_lines` puts on stdout. */
static void capture(void (*write_lines)(void), char output[static OUTPUT_BYTES]) {
    (void)fflush(stdout);
    int terminal = dup(STDOUT_FILENO);
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(dup2(fileno(file), STDOUT_FILENO), STDOUT_FILENO);
    write_lines();
    (void)fflush(stdout);
    assert_int_equal(dup2(terminal, STDOUT_FILENO), STDOUT_FILENO);
    (void)close(terminal);
    rewind(file);
    size_t len = fread(output, 1, OUTPUT_BYTES - 1, file);
    output[len] = '\0';
    (void)fclose(file);
}

static void one_line(void) {
    LOG(WARN, "sync.pull_done", "peer=%s records=%d", "0x12", 3);
}

/* "2024-01-15 10:30:00 [WARNING] nova-kms.sync: sync.pull_done peer=0x12 records=3\n" */
static void test_line_has_the_guides_form(void **state) {
    (void)state;
    char output[OUTPUT_BYTES];
    capture(one_line, output);
    static const char shape[] = "dddd-dd-dd dd:dd:dd ";
    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] == 'd') {
            assert_in_range(output[i], '0', '9');
        } else {
            assert_int_equal(output[i], shape[i]);
        }
    }
    assert_string_equal(output + sizeof(shape) - 1,
                        "[WARNING] nova-kms.sync: sync.pull_done peer=0x12 records=3\n");
}

static void long_line(void) {
    LOG(ERROR, "area.event", "%2000d", 1);
    LOG(ERROR, "area.event", "%s", "after");
}

static void test_long_line_is_cut_and_ends(void **state) {
    (void)state;
    char output[OUTPUT_BYTES];
    capture(long_line, output);
    const char *end = strchr(output, '\n');
    assert_non_null(end);
    assert_in_range(end - output, 512, 1024);
    assert_memory_equal(end - 3, "...", 3);
    assert_non_null(strstr(end + 1, "area.event after\n"));
}

/* A pipe that nobody reads, then one that is read again. */
static void test_full_pipe_blocks_nobody(void **state) {
    (void)state;
    int pipe_fds[2];
    char *output = malloc(PIPE_BYTES + OUTPUT_BYTES);
    assert_non_null(output);
    (void)fflush(stdout);
    int terminal = dup(STDOUT_FILENO);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(dup2(pipe_fds[1], STDOUT_FILENO), STDOUT_FILENO);
    for (int i = 0; i < 5000; i++) {
        LOG(ERROR, "area.flood", "%d", i);
    }
    size_t len = (size_t)read(pipe_fds[0], output, PIPE_BYTES + OUTPUT_BYTES - 1);
    LOG(ERROR, "area.after", "%s", "flood");
    size_t more = (size_t)read(pipe_fds[0], output + len, PIPE_BYTES + OUTPUT_BYTES - 1 - len);
    output[len + more] = '\0';
    assert_int_equal(dup2(terminal, STDOUT_FILENO), STDOUT_FILENO);
    (void)close(terminal);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    assert_non_null(strstr(output, "area.flood 0\n"));
    assert_null(strstr(output, "area.flood 4999\n"));
    assert_non_null(strstr(output, "[WARNING] nova-kms.log: log.lost lines="));
    assert_non_null(strstr(output, "area.after flood\n"));
    free(output);
}

static void every_level(void) {
    LOG(DEBUG, "a.debug", "%d", 1);
    LOG(INFO, "a.info", "%d", 1);
    LOG(WARN, "a.warn", "%d", 1);
    LOG(ERROR, "a.error", "%d", 1);
}

static void test_level_drops_what_is_below(void **state) {
    (void)state;
    char output[OUTPUT_BYTES];
    log_set_level(LOG_ERROR);
    capture(every_level, output);
    assert_null(strstr(output, "a.warn"));
    assert_non_null(strstr(output, "[ERROR] nova-kms.a: a.error"));
    log_set_level(LOG_DEBUG);
    capture(every_level, output);
    assert_non_null(strstr(output, "[DEBUG] nova-kms.a: a.debug"));
    assert_non_null(strstr(output, "[INFO] nova-kms.a: a.info"));
    log_set_level(LOG_INFO);
}

static void test_parse_level(void **state) {
    (void)state;
    enum log_level level = LOG_ERROR;
    assert_ok(log_parse_level("DEBUG", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_ok(log_parse_level("WARN", &level));
    assert_int_equal(level, LOG_WARN);
    assert_ok(log_parse_level("WARNING", &level));
    assert_int_equal(level, LOG_WARN);
    assert_err(log_parse_level("info", &level), BAD_CONFIG);
    assert_err(log_parse_level("", &level), BAD_CONFIG);
    assert_int_equal(level, LOG_WARN);
}

/* Whatever second it is: within one, the eleventh is refused, and the next to pass says how
 * many. */
static void test_limit(void **state) {
    (void)state;
    struct log_limit limit = { 0 };
    uint32_t dropped = 0;
    uint32_t reported = 0;
    unsigned passed = 0;
    for (unsigned i = 0; i < 10 * LOG_PER_SECOND_MAX; i++) {
        if (log_limit_pass(&limit, &dropped)) {
            passed++;
            reported += dropped;
        }
    }
    /* The hundred may straddle seconds. */
    assert_in_range(passed, LOG_PER_SECOND_MAX, 10 * LOG_PER_SECOND_MAX - 1);
    uint32_t waiting = limit.dropped;
    assert_int_equal(passed + reported + waiting, 10 * LOG_PER_SECOND_MAX);
    limit.second--;
    assert_true(log_limit_pass(&limit, &dropped));
    assert_int_equal(dropped, waiting);
    assert_int_equal(limit.dropped, 0);
}

struct text_row {
    const char *name;
    const char *in;
    const char *want;
};

#define EIGHT(x) x x x x x x x x

static struct text_row text_rows[] = {
    { "plain", "get.key=1", "get.key=1" },
    { "empty", "", "" },
    { "escapes", "a b\n\x7f\xc3\\", "a\\x20b\\x0a\\x7f\\xc3\\x5c" },
    { "percent", "%s%n", "%s%n" },
    { "at_the_cut", EIGHT(EIGHT("x")), EIGHT(EIGHT("x")) },
    { "past_the_cut", EIGHT(EIGHT("x")) "y", EIGHT(EIGHT("x")) "..." },
    { "all_escaped", EIGHT(EIGHT("\n")) "\n", EIGHT(EIGHT("\\x0a")) "..." },
};

static void test_peer_text(void **state) {
    const struct text_row *row = *state;
    size_t len = strlen(row->in);
    uint8_t *in = test_dup(row->in, len);
    char *buf = malloc(LOG_PEER_TEXT_BYTES);
    assert_non_null(buf);
    assert_string_equal(log_peer_text((struct span){ in, len }, buf), row->want);
    free(buf);
    free(in);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(text_rows) + 6];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_peer_text, text_rows);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_line_has_the_guides_form);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_long_line_is_cut_and_ends);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_full_pipe_blocks_nobody);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_level_drops_what_is_below);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_parse_level);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_limit);
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
