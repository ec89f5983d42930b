/* SPDX-License-Identifier: Apache-2.0 */
#include "http/process.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* The lines that are looked for are in the first few hundred bytes. */
#define FILE_BYTES 4096

static void close_fd(const int *fd) {
    if (*fd >= 0) {
        (void)close(*fd); /* Only read from. */
    }
}

/* The beginning of a file that the kernel writes at once; empty when it cannot be read. */
static struct span read_file(const char *path, uint8_t buf[static FILE_BYTES]) {
    AUTO(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, buf, FILE_BYTES);
    return (struct span){ buf, len > 0 ? (size_t)len : 0 };
}

static struct span drop(struct span s, size_t len) {
    return (struct span){ s.ptr + len, s.len - len };
}

static size_t line_len(struct span text) {
    const uint8_t *end = text.len == 0 ? NULL : memchr(text.ptr, '\n', text.len);
    return end == NULL ? text.len : (size_t)(end - text.ptr);
}

/* What follows "NAME:" on its line. */
static struct span find_line(struct span text, struct span name) {
    while (text.len > 0) {
        struct span line = { text.ptr, line_len(text) };
        if (span_has_prefix(line, name) && line.len > name.len && line.ptr[name.len] == ':') {
            return drop(line, name.len + 1);
        }
        text = drop(text, line.len < text.len ? line.len + 1 : line.len);
    }
    return SPAN_EMPTY;
}

uint64_t http_process_field(struct span text, struct span name) {
    const struct span unit = SPAN_LIT(" kB");
    struct span value = find_line(text, name);
    while (value.len > 0 && (value.ptr[0] == ' ' || value.ptr[0] == '\t')) {
        value = drop(value, 1);
    }
    if (value.len <= unit.len || !span_equal(drop(value, value.len - unit.len), unit)) {
        return 0;
    }
    value.len -= unit.len;
    uint64_t kib = 0;
    struct rc rc = bytes_parse_decimal(value, UINT64_MAX / 1024, &kib);
    return rc.err == E_OK ? kib * 1024 : 0;
}

void http_process_read(struct http_process *out) {
    uint8_t buf[FILE_BYTES];
    struct timespec cpu = { 0 };
    *out = (struct http_process){ 0 };
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        out->cpu_us = (uint64_t)cpu.tv_sec * 1000000 + (uint64_t)cpu.tv_nsec / 1000;
    }
    out->resident_bytes =
        http_process_field(read_file("/proc/self/status", buf), SPAN_LIT("VmRSS"));
    struct span memory = read_file("/proc/meminfo", buf);
    out->total_bytes = http_process_field(memory, SPAN_LIT("MemTotal"));
    out->available_bytes = http_process_field(memory, SPAN_LIT("MemAvailable"));
}
