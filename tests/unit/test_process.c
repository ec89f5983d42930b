/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's text files, as far as they are read. */
#include "http/process.h"
#include "test.h"

static struct row {
    const char *name;
    const char *text;
    uint64_t want;
} rows[] = {
    { "status", "Name:\tnova-kms\nVmRSS:\t   12345 kB\nVmData:\t 1 kB\n", 12345 * 1024 },
    { "meminfo", "MemTotal:  1 kB\nVmRSS:        2 kB\n", 2048 },
    { "last_line_without_end", "A: 1 kB\nVmRSS: 7 kB", 7168 },
    { "zero", "VmRSS: 0 kB\n", 0 },
    { "largest", "VmRSS: 18014398509481983 kB\n", UINT64_MAX - 1023 },
    { "over_the_largest", "VmRSS: 18014398509481985 kB\n", 0 },
    { "absent", "VmSize: 1 kB\n", 0 },
    { "longer_name", "VmRSSx: 1 kB\n", 0 },
    { "no_colon", "VmRSS 1 kB\n", 0 },
    { "after_a_longer_name", "VmRSSx 9 kB\nVmRSS: 1 kB\n", 1024 },
    { "name_inside_a_line", "xVmRSS: 1 kB\n", 0 },
    { "cut_in_the_unit", "VmRSS: 1 k", 0 },
    { "cut_in_the_name", "VmRSS", 0 },
    { "no_value", "VmRSS:\n", 0 },
    { "no_number", "VmRSS: kB\n", 0 },
    { "only_blanks", "VmRSS:    ", 0 },
    { "another_unit", "VmRSS: 1 MB\n", 0 },
    { "not_a_number", "VmRSS: -1 kB\n", 0 },
    { "empty_lines", "\n\n\nVmRSS: 1 kB\n\n", 1024 },
    { "empty", "", 0 },
};

static void test_field(void **state) {
    const struct row *row = *state;
    size_t len = strlen(row->text);
    uint8_t *text = test_dup(row->text, len);
    uint64_t got = http_process_field((struct span){ text, len }, SPAN_LIT("VmRSS"));
    free(text);
    assert_true(got == row->want);
}

static void test_read(void **state) {
    (void)state;
    struct http_process process;
    http_process_read(&process);
    assert_true(process.cpu_us > 0);
    assert_true(process.resident_bytes > 0);
    assert_true(process.total_bytes > process.resident_bytes);
    assert_true(process.available_bytes > 0 && process.available_bytes <= process.total_bytes);
}

int main(void) {
    struct CMUnitTest tests[sizeof(rows) / sizeof(rows[0]) + 1] = { cmocka_unit_test(test_read) };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        tests[i + 1] = (struct CMUnitTest){ .name = rows[i].name,
                                            .test_func = test_field,
                                            .initial_state = &rows[i] };
    }
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
