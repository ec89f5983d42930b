/* SPDX-License-Identifier: Apache-2.0 */
/* What novakmsctl writes: bytes in a format, JSON, and one sentence for an error. Buffers that held
 * keys or values are wiped. One thread. */
#pragma once

#include <stdio.h>

#include <jansson.h>

#include "options.h"

/* Writes text with control characters escaped, because a server chose it. */
void ctl_print_text(FILE *file, const char *text);
/* Writes "novakmsctl: <sentence>" to stderr. */
void ctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Wipes and frees memory of malloc. Accepts NULL. */
void ctl_free(void *ptr);
/* Makes jansson wipe what it frees. Once, before any JSON is made. */
void ctl_json_init(void);
/* Takes value. Writes it to stdout as one line. */
enum ctl_exit ctl_json_print(json_t *value);
/* Gives a JSON string of bytes in format; NULL when memory is out. Raw bytes that are not UTF-8
 * cannot be one: they give NULL too. */
json_t *ctl_json_bytes(struct novakms_span bytes, enum ctl_format format);
/* Gives a JSON integer; a string over 2^63-1, which JSON libraries do not hold. */
json_t *ctl_json_u64(uint64_t value);
/* Gives a JSON string of a wallet. */
json_t *ctl_json_wallet(const uint8_t wallet[static NOVAKMS_WALLET_BYTES]);
/* Gives {"hlc": .., "writer": ".."}, or null for no stamp. */
json_t *ctl_json_stamp(const struct novakms_stamp *stamp);

/* Writes bytes to fd in format, all of them. Text formats end with a newline; raw bytes stand for
 * themselves, with a newline only for a terminal. */
enum ctl_exit ctl_write_bytes(int fd, struct novakms_span bytes, enum ctl_format format);
/* Writes a key as one line: in format, or (raw) as text in which backslash, control characters and
 * what is not UTF-8 are \xNN. */
enum ctl_exit ctl_write_key(struct novakms_span key, enum ctl_format format);
/* "0x..". */
const char *ctl_wallet_text(const uint8_t wallet[static NOVAKMS_WALLET_BYTES],
                            char text[static NOVAKMS_WALLET_TEXT_BYTES]);

/* Gives the bytes that text stands for (ctl_free its ptr); false after a complaint that names
 * what. */
bool ctl_read_text(const char *what, const char *text, enum ctl_format format,
                   struct novakms_span *out);

/* Writes a failed result's sentence, and with --json an object to stdout. Gives the exit code. */
enum ctl_exit ctl_report(const struct novakms_result *result, bool json);
