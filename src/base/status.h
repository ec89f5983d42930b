/* SPDX-License-Identifier: Apache-2.0 */
/* The outcome of a call as its caller sees it: one of gRPC's canonical codes and one sentence. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* https://grpc.github.io/grpc/core/md_doc_statuscodes.html. Whole names, because OK alone is a
 * macro. */
#define STATUS_MAP(X)                \
    X(STATUS_OK, 0)                  \
    X(STATUS_CANCELLED, 1)           \
    X(STATUS_UNKNOWN, 2)             \
    X(STATUS_INVALID_ARGUMENT, 3)    \
    X(STATUS_DEADLINE_EXCEEDED, 4)   \
    X(STATUS_NOT_FOUND, 5)           \
    X(STATUS_ALREADY_EXISTS, 6)      \
    X(STATUS_PERMISSION_DENIED, 7)   \
    X(STATUS_RESOURCE_EXHAUSTED, 8)  \
    X(STATUS_FAILED_PRECONDITION, 9) \
    X(STATUS_ABORTED, 10)            \
    X(STATUS_OUT_OF_RANGE, 11)       \
    X(STATUS_UNIMPLEMENTED, 12)      \
    X(STATUS_INTERNAL, 13)           \
    X(STATUS_UNAVAILABLE, 14)        \
    X(STATUS_DATA_LOSS, 15)          \
    X(STATUS_UNAUTHENTICATED, 16)

#define STATUS_ENUM(name, value) name = (value),
enum status_code { STATUS_MAP(STATUS_ENUM) };
#undef STATUS_ENUM

#define STATUS_CODE_MAX 16u
/* Room for the longest sentence and its NUL; the wire's limit is 256 bytes. */
#define STATUS_TEXT_BYTES 257

struct status {
    enum status_code code;
    char text[STATUS_TEXT_BYTES]; /* Empty when OK. Never holds a secret. */
};

/* Sets *status. A sentence that does not fit ends in "..."; keep peer text short beforehand. */
void status_set(struct status *status, enum status_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "INVALID_ARGUMENT"; "UNKNOWN" for a number that is no code. */
const char *status_name(uint32_t code);
