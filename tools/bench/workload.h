/* SPDX-License-Identifier: Apache-2.0 */
/* What a load consists of: requests to send and answers to recognise. Every request has its own
 * path, context or key, so that nothing can be answered from memory of the one before. */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

/* MIXED takes turns among all methods. */
enum workload_kind {
    WORKLOAD_ECHO,
    WORKLOAD_DERIVE,
    WORKLOAD_GET,
    WORKLOAD_PUT,
    WORKLOAD_MIXED,
};

#define WORKLOAD_VALUE_BYTES_MAX ((size_t)1024)
#define WORKLOAD_REQUEST_BYTES_MAX ((size_t)8192)

struct workload {
    enum workload_kind kind;
    size_t value_bytes; /* ECHO: the message; otherwise the stored value. */
    uint64_t key_count; /* Keys are chosen among this many. */
    bool in_order;      /* Keys 0, 1, 2, ... instead of random ones: fills a store. */
    uint64_t sequence;  /* Requests made so far. */
};

/* "Derive" */
const char *workload_name(enum workload_kind kind);
/* Appends one request. call_id is not 0. */
RC workload_request(struct workload *w, uint64_t call_id, struct writer *out);
/* Takes one whole answer off in and gives its call id. AGAIN while it is incomplete; DENIED, with
 * the server's sentence on stderr, when it is not a success. */
RC workload_response(const struct workload *w, struct reader *in, uint64_t *call_id);
/* Bytes of a request or of its answer, whichever is more, inside TLS. */
size_t workload_message_bytes(const struct workload *w);
