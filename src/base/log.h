/* SPDX-License-Identifier: Apache-2.0 */
/* The log, on stdout, one line an event, in the deployment guide's form:
 *     2024-01-15 10:30:00 [INFO] nova-kms.sync: pull.done peer=0x12.. records=3
 * A fixed "area.event", then key=value. Ids, lengths and codes; never payloads, never secrets. Peer
 * text is passed through log_peer_text. A line of more than about 1000 bytes ends in "...". Never
 * blocks: lines that stdout does not take are counted in a later one (log.lost). The pure rooms do
 * not log. Any thread. */
#pragma once

#include <stdint.h>

#include "base/bytes.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below level are dropped. Call before threads start. Default LOG_INFO. */
void log_set_level(enum log_level level);
/* "DEBUG", "INFO", "WARNING" (or "WARN") and "ERROR". */
RC log_parse_level(const char *name, enum log_level *out);

/* LOG(WARN, "rpc.conn", "conn=%u err=%s", id, err_name(rc.err)). The area (up to the dot) becomes
 * part of the logger's name. */
#define LOG(level, event, ...) log_line(LOG_##level, event, __VA_ARGS__)
/* LOG's work; call that. */
void log_line(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As LOG, for what a peer can trigger: at most LOG_PER_SECOND_MAX lines a second for each call
 * site, and the next line after says how many were dropped. */
#define LOG_PER_SECOND_MAX 10
struct log_limit {
    uint64_t second;
    uint32_t count;
    uint32_t dropped;
};
#define LOG_LIMITED(level, event, format, ...)                                         \
    do {                                                                               \
        static struct log_limit limit_;                                                \
        uint32_t dropped_ = 0;                                                         \
        if (log_limit_pass(&limit_, &dropped_)) {                                      \
            log_line(LOG_##level, event, format " dropped=%u", __VA_ARGS__, dropped_); \
        }                                                                              \
    } while (0)
/* LOG_LIMITED's work: whether this line may be written; *dropped gets how many were not before
 * it. */
bool log_limit_pass(struct log_limit *limit, uint32_t *dropped);

/* Room for 64 escaped bytes. */
#define LOG_PEER_TEXT_BYTES (64 * 4 + 4)
/* Writes text with everything but printable ASCII escaped, cut after 64 bytes ("..."). Gives
 * buf. */
const char *log_peer_text(struct span text, char buf[static LOG_PEER_TEXT_BYTES]);
