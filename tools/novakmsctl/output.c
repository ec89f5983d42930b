/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/secret.h"
#include "base/wallet.h"

#define COMPLAINT_BYTES 1024

void ctl_print_text(FILE *file, const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            (void)fprintf(file, "\\x%02x", (unsigned)(unsigned char)*c);
        } else {
            (void)fputc(*c, file);
        }
    }
}

void ctl_complain(const char *format, ...) {
    char text[COMPLAINT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)fputs("novakmsctl: ", stderr);
    ctl_print_text(stderr, text);
    (void)fputc('\n', stderr);
}

void ctl_free(void *ptr) {
    if (ptr != NULL) {
        secret_wipe(ptr, malloc_usable_size(ptr));
    }
    free(ptr);
}

void ctl_json_init(void) {
    json_set_alloc_funcs(malloc, ctl_free);
}

static enum ctl_exit write_all(int fd, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            ctl_complain("the result could not be written: %s.", strerror(errno));
            return CTL_OTHER;
        }
        at += n;
        len -= (size_t)n;
    }
    return CTL_DONE;
}

enum ctl_exit ctl_json_print(json_t *value) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_PRESERVE_ORDER | JSON_COMPACT);
    json_decref(value);
    if (text == NULL) {
        ctl_complain("out of memory.");
        return CTL_OTHER;
    }
    enum ctl_exit code = write_all(STDOUT_FILENO, text, strlen(text));
    ctl_free(text);
    return code == CTL_DONE ? write_all(STDOUT_FILENO, "\n", 1) : code;
}

/* Gives bytes as text in hex or base64 (ctl_free), NULL when memory is out. */
static char *encode(struct novakms_span bytes, enum ctl_format format) {
    struct span in = { bytes.ptr, bytes.len };
    bool hex = format == CTL_FORMAT_HEX;
    char *text = malloc(hex ? HEX_TEXT_BYTES(in.len) : BASE64_TEXT_BYTES(in.len));
    if (text == NULL) {
        return NULL;
    }
    if (hex) {
        hex_encode(in, text);
    } else {
        base64_encode(in, text);
    }
    return text;
}

json_t *ctl_json_bytes(struct novakms_span bytes, enum ctl_format format) {
    if (format == CTL_FORMAT_RAW) {
        return json_stringn(bytes.ptr == NULL ? "" : bytes.ptr, bytes.len);
    }
    char *text = encode(bytes, format);
    json_t *string = text == NULL ? NULL : json_string(text);
    ctl_free(text);
    return string;
}

json_t *ctl_json_u64(uint64_t value) {
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_string(text);
}

const char *ctl_wallet_text(const uint8_t wallet[static NOVAKMS_WALLET_BYTES],
                            char text[static NOVAKMS_WALLET_TEXT_BYTES]) {
    struct wallet w;
    memcpy(w.bytes, wallet, sizeof(w.bytes));
    return wallet_format(&w, text);
}

json_t *ctl_json_wallet(const uint8_t wallet[static NOVAKMS_WALLET_BYTES]) {
    char text[NOVAKMS_WALLET_TEXT_BYTES];
    return json_string(ctl_wallet_text(wallet, text));
}

json_t *ctl_json_stamp(const struct novakms_stamp *stamp) {
    if (stamp->hlc == 0) {
        return json_null();
    }
    char hlc[24];
    char writer[HEX_TEXT_BYTES(NOVAKMS_WRITER_BYTES)];
    /* A string: JSON readers lose digits of 64-bit numbers. */
    (void)snprintf(hlc, sizeof(hlc), "%" PRIu64, stamp->hlc);
    hex_encode((struct span){ stamp->writer, NOVAKMS_WRITER_BYTES }, writer);
    return json_pack("{s:s,s:s}", "hlc", hlc, "writer", writer);
}

enum ctl_exit ctl_write_bytes(int fd, struct novakms_span bytes, enum ctl_format format) {
    enum ctl_exit code = CTL_OTHER;
    if (format == CTL_FORMAT_RAW) {
        code = write_all(fd, bytes.ptr, bytes.len);
        return code == CTL_DONE && isatty(fd) != 0 ? write_all(fd, "\n", 1) : code;
    }
    char *text = encode(bytes, format);
    if (text == NULL) {
        ctl_complain("out of memory.");
        return CTL_OTHER;
    }
    code = write_all(fd, text, strlen(text));
    ctl_free(text);
    return code == CTL_DONE ? write_all(fd, "\n", 1) : code;
}

enum ctl_exit ctl_write_key(struct novakms_span key, enum ctl_format format) {
    if (format == CTL_FORMAT_HEX || format == CTL_FORMAT_BASE64) {
        return ctl_write_bytes(STDOUT_FILENO, key, format);
    }
    const uint8_t *bytes = key.ptr;
    bool is_text = span_is_utf8((struct span){ bytes, key.len });
    char *line = malloc(4 * key.len + 1);
    if (line == NULL) {
        ctl_complain("out of memory.");
        return CTL_OTHER;
    }
    size_t len = 0;
    for (size_t i = 0; i < key.len; i++) {
        if (bytes[i] < 0x20 || bytes[i] == 0x7f || bytes[i] == '\\' ||
            (bytes[i] >= 0x80 && !is_text)) {
            static const char digits[] = "0123456789abcdef";
            line[len++] = '\\';
            line[len++] = 'x';
            line[len++] = digits[bytes[i] >> 4];
            line[len++] = digits[bytes[i] & 15];
        } else {
            line[len++] = (char)bytes[i];
        }
    }
    line[len++] = '\n';
    enum ctl_exit code = write_all(STDOUT_FILENO, line, len);
    ctl_free(line);
    return code;
}

/* The number of bytes that padded base64 of text_len digits stands for; its form is checked by
 * re-encoding, which leaves one decoder less to get wrong. */
static bool base64_decode(const char *text, uint8_t *out, size_t *out_len) {
    size_t text_len = strlen(text);
    size_t len = 0;
    if (text_len % 4 != 0) {
        return false;
    }
    uint32_t group = 0;
    size_t digit_count = 0;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (; digit_count < text_len && text[digit_count] != '='; digit_count++) {
        const char *digit = strchr(digits, text[digit_count]);
        if (digit == NULL) {
            return false;
        }
        group = (group << 6) | (uint32_t)(digit - digits);
        if (digit_count % 4 == 0) {
            continue;
        }
        unsigned shift = 6 - 2 * (unsigned)(digit_count % 4);
        out[len++] = (uint8_t)(group >> shift);
    }
    *out_len = len;
    struct novakms_span decoded = { out, len };
    char *again = encode(decoded, CTL_FORMAT_BASE64);
    bool same = again != NULL && strcmp(again, text) == 0;
    ctl_free(again);
    return same;
}

bool ctl_read_text(const char *what, const char *text, enum ctl_format format,
                   struct novakms_span *out) {
    size_t text_len = strlen(text);
    uint8_t *bytes = malloc(text_len + 1);
    if (bytes == NULL) {
        ctl_complain("out of memory.");
        return false;
    }
    size_t len = text_len;
    bool ok = true;
    if (format == CTL_FORMAT_HEX) {
        const char *digits = strncmp(text, "0x", 2) == 0 ? text + 2 : text;
        len = strlen(digits) / 2;
        ok = strlen(digits) % 2 == 0 && hex_decode(span_str(digits), bytes, len).err == E_OK;
    } else if (format == CTL_FORMAT_BASE64) {
        ok = base64_decode(text, bytes, &len);
    } else {
        memcpy(bytes, text, text_len + 1);
    }
    if (!ok) {
        ctl_complain("%s must be %s.", what,
                     format == CTL_FORMAT_HEX ? "hex digits, two for a byte" : "padded base64");
        ctl_free(bytes);
        return false;
    }
    *out = (struct novakms_span){ bytes, len };
    return true;
}

static enum ctl_exit exit_of(enum novakms_code code) {
    switch (code) {
    case NOVAKMS_OK:
        return CTL_DONE;
    case NOVAKMS_INVALID_ARGUMENT:
        return CTL_USAGE;
    case NOVAKMS_NOT_FOUND:
        return CTL_NOT_FOUND;
    case NOVAKMS_PERMISSION_DENIED:
    case NOVAKMS_UNAUTHENTICATED:
        return CTL_PERMISSION;
    case NOVAKMS_UNAVAILABLE:
    case NOVAKMS_DEADLINE_EXCEEDED:
        return CTL_UNAVAILABLE;
    case NOVAKMS_CANCELLED:
    case NOVAKMS_UNKNOWN:
    case NOVAKMS_ALREADY_EXISTS:
    case NOVAKMS_RESOURCE_EXHAUSTED:
    case NOVAKMS_FAILED_PRECONDITION:
    case NOVAKMS_ABORTED:
    case NOVAKMS_OUT_OF_RANGE:
    case NOVAKMS_UNIMPLEMENTED:
    case NOVAKMS_INTERNAL:
    case NOVAKMS_DATA_LOSS:
        return CTL_OTHER;
    }
    return CTL_OTHER;
}

enum ctl_exit ctl_report(const struct novakms_result *result, bool json) {
    char hint[64] = "";
    if (result->retry_after_ms > 0) {
        (void)snprintf(hint, sizeof(hint), " (try again in %" PRIu32 " ms)",
                       result->retry_after_ms);
    }
    ctl_complain("%s%s%s", result->text[0] == '\0' ? novakms_code_name(result->code) : result->text,
                 hint,
                 result->maybe_executed ? " (the write may have been made all the same)" : "");
    if (json) {
        json_t *error =
            json_pack("{s:{s:s,s:s,s:I,s:b}}", "error", "code", novakms_code_name(result->code),
                      "message", result->text, "retry_after_ms", (json_int_t)result->retry_after_ms,
                      "maybe_executed", (int)result->maybe_executed);
        if (ctl_json_print(error) != CTL_DONE) {
            return CTL_OTHER;
        }
    }
    return exit_of(result->code);
}
