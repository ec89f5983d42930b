/* SPDX-License-Identifier: Apache-2.0 */
/* Result of every function that can fail because of input, peers or resources: what happened, how
 * to react (the class), and where it was found. Bugs of our own are ASSERTs. */
#pragma once

/* How the caller of a failed function reacts: RETRY backs off and tries again, PEER closes that
 * connection, USAGE rejects the call or the configuration, FATAL stops the process. */
enum err_class { ERR_NONE, ERR_RETRY, ERR_PEER, ERR_USAGE, ERR_FATAL };

/* name, class, text: one row feeds the enum, the names and the classes. */
#define ERR_MAP(X)                                     \
    X(OK, NONE, "ok")                                  \
    X(TRUNCATED, PEER, "input ends early")             \
    X(TOO_BIG, PEER, "input over limit")               \
    X(MALFORMED, PEER, "input malformed")              \
    X(BAD_AUTH, PEER, "authentication failed")         \
    X(EXPIRED, PEER, "outside its validity dates")     \
    X(BAD_CONFIG, USAGE, "value not allowed")          \
    X(INVALID, USAGE, "argument not allowed")          \
    X(NOT_FOUND, USAGE, "not found")                   \
    X(EXISTS, USAGE, "already exists")                 \
    X(QUOTA, USAGE, "over quota")                      \
    X(FUTURE, USAGE, "dated too far in the future")    \
    X(DENIED, USAGE, "not permitted")                  \
    X(AGAIN, RETRY, "not ready, try again")            \
    X(TIMEOUT, RETRY, "timed out")                     \
    X(UNAVAILABLE, RETRY, "unavailable")               \
    X(IO, RETRY, "input or output failed")             \
    X(CLOSED, RETRY, "connection closed")              \
    X(CRYPTO, FATAL, "cryptographic operation failed") \
    X(NOMEM, FATAL, "out of memory")

#define ERR_ENUM(name, class, text) E_##name,
enum err { ERR_MAP(ERR_ENUM) };
#undef ERR_ENUM

/* 16 bytes: returned in two registers. */
struct rc {
    const char *file;
    int line;
    enum err err;
};

#define RC __attribute__((warn_unused_result)) struct rc
#define OK ((struct rc){ .err = E_OK })
#define ERR(name) ((struct rc){ __FILE_NAME__, __LINE__, E_##name })
#define TRY(expr)               \
    do {                        \
        struct rc rc_ = (expr); \
        if (rc_.err != E_OK) {  \
            return rc_;         \
        }                       \
    } while (0)
#define ENSURE(cond, name)    \
    do {                      \
        if (!(cond)) {        \
            return ERR(name); \
        }                     \
    } while (0)

/* For our own bugs only, one condition each; peer bytes never reach one. On in release builds. */
#define ASSERT(cond) ((cond) ? (void)0 : panic(__FILE_NAME__, __LINE__, #cond))

/* Owning locals: an early return stays safe. close_fn takes a pointer to the variable. */
#define AUTO(close_fn) __attribute__((cleanup(close_fn)))

/* "TOO_BIG" */
const char *err_name(enum err err);
/* "input over limit" */
const char *err_text(enum err err);
enum err_class err_class(enum err err);

/* Prints one line to stderr and aborts. Any thread. */
_Noreturn void panic(const char *file, int line, const char *expr);
