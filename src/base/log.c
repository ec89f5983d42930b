/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES 1024
#define PEER_TEXT_MAX 64

static enum log_level level_min = LOG_INFO;
static pthread_mutex_t limit_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t emit_mutex = PTHREAD_MUTEX_INITIALIZER;

void log_set_level(enum log_level level) {
    level_min = level;
}

RC log_parse_level(const char *name, enum log_level *out) {
    static const struct {
        const char *name;
        enum log_level level;
    } rows[] = {
        { "DEBUG", LOG_DEBUG }, { "INFO", LOG_INFO },   { "WARNING", LOG_WARN },
        { "WARN", LOG_WARN },   { "ERROR", LOG_ERROR },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (span_equal(span_str(name), span_str(rows[i].name))) {
            *out = rows[i].level;
            return OK;
        }
    }
    return ERR(BAD_CONFIG);
}

static const char *level_name(enum log_level level) {
    switch (level) {
    case LOG_DEBUG:
        return "DEBUG";
    case LOG_INFO:
        return "INFO";
    case LOG_WARN:
        return "WARNING";
    case LOG_ERROR:
        return "ERROR";
    }
    return "?";
}

/* "2024-01-15 10:30:00 [INFO] nova-kms.sync: sync.pull " */
static size_t write_head(char *line, enum log_level level, const char *event) {
    time_t now = (time_t)(clock_unix_ms() / 1000);
    struct tm utc = { 0 };
    ASSERT(gmtime_r(&now, &utc) != NULL);
    size_t len = strftime(line, LINE_BYTES, "%Y-%m-%d %H:%M:%S", &utc);
    int area_len = (int)strcspn(event, ".");
    int head = snprintf(line + len, LINE_BYTES - len, " [%s] nova-kms.%.*s: %s ", level_name(level),
                        area_len, event, event);
    ASSERT(head > 0 && (size_t)head < LINE_BYTES - len);
    return len + (size_t)head;
}

/* A line that does not fit says so by its end. */
static size_t end_line(char *line, size_t len) {
    static const char cut[] = "...\n";
    if (len > LINE_BYTES - sizeof(cut)) {
        len = LINE_BYTES - sizeof(cut);
        memcpy(line + len, cut, sizeof(cut));
        return len + sizeof(cut) - 1;
    }
    line[len] = '\n';
    return len + 1;
}

/* Whether stdout takes a line at once. When nobody reads its pipe, a worker must not wait for
 * that. */
static bool stdout_is_ready(void) {
    struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
    return poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0;
}

/* One write a line, under a lock, so that lines of several threads do not mix. A log that cannot be
 * written has nowhere to report to; lines left out are counted in the next one that gets
 * through. */
static void emit(const char *line, size_t len) {
    static uint32_t lost_count;
    (void)pthread_mutex_lock(&emit_mutex);
    if (!stdout_is_ready()) {
        lost_count++;
        (void)pthread_mutex_unlock(&emit_mutex);
        return;
    }
    if (lost_count > 0) {
        char note[LINE_BYTES];
        size_t note_len = write_head(note, LOG_WARN, "log.lost");
        int n = snprintf(note + note_len, LINE_BYTES - note_len, "lines=%u", lost_count);
        note_len = end_line(note, note_len + (n > 0 ? (size_t)n : 0));
        lost_count = write(STDOUT_FILENO, note, note_len) == (ssize_t)note_len ? 0 : lost_count;
    }
    if (write(STDOUT_FILENO, line, len) != (ssize_t)len) {
        lost_count++;
    }
    (void)pthread_mutex_unlock(&emit_mutex);
}

void log_line(enum log_level level, const char *event, const char *format, ...) {
    if (level < level_min) {
        return;
    }
    char line[LINE_BYTES];
    size_t len = write_head(line, level, event);
    va_list args;
    va_start(args, format);
    int body = vsnprintf(line + len, sizeof(line) - len, format, args);
    va_end(args);
    ASSERT(body >= 0);
    emit(line, end_line(line, len + (size_t)body));
}

bool log_limit_pass(struct log_limit *limit, uint32_t *dropped) {
    uint64_t second = clock_mono_ms() / 1000;
    (void)pthread_mutex_lock(&limit_mutex);
    if (limit->second != second) {
        limit->second = second;
        limit->count = 0;
    }
    bool pass = limit->count < LOG_PER_SECOND_MAX;
    if (pass) {
        limit->count++;
        *dropped = limit->dropped;
        limit->dropped = 0;
    } else {
        limit->dropped++;
    }
    (void)pthread_mutex_unlock(&limit_mutex);
    return pass;
}

const char *log_peer_text(struct span text, char buf[static LOG_PEER_TEXT_BYTES]) {
    size_t take = text.len < PEER_TEXT_MAX ? text.len : PEER_TEXT_MAX;
    size_t len = 0;
    for (size_t i = 0; i < take; i++) {
        uint8_t c = text.ptr[i];
        bool plain = c > 0x20 && c < 0x7f && c != '\\';
        int n = snprintf(buf + len, LOG_PEER_TEXT_BYTES - len, plain ? "%c" : "\\x%02x", c);
        ASSERT(n > 0);
        len += (size_t)n;
    }
    (void)snprintf(buf + len, LOG_PEER_TEXT_BYTES - len, "%s", take < text.len ? "..." : "");
    return buf;
}
