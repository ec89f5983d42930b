/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON-RPC 2.0 server over HTTP. Blocks; one owner thread. One connection, kept open between
 * requests. The server is hostile: sizes, times and forms are bounded, redirects are not followed,
 * and only http and https are spoken. Proxies come from the environment, as libcurl has them. */
#pragma once

#include <stdatomic.h>

#include "registry/rpc_batch.h"

struct rpc; /* Opaque. */

/* Zero is refused everywhere but in backoff_ms. */
struct rpc_cfg {
    const char *url; /* http or https; copied. Reasons show its host and port only: RPC URLs tend to
                        hold keys. */
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;        /* One exchange, from connecting to the last byte. */
    uint32_t total_ms;          /* One rpc_send, with its retries. */
    uint32_t attempt_count_max; /* The first one included. */
    uint32_t backoff_ms; /* Before the first retry; doubled for each more. Half of it random. */
    uint32_t answer_bytes_max; /* Past it receiving stops. */
    const atomic_bool *stop; /* Once true, requests end within about a second. Lent; NULL: never. */
};

#define RPC_MS_MAX 3600000u
#define RPC_ATTEMPT_COUNT_MAX 16u
#define RPC_ANSWER_BYTES_MAX (64u * 1024 * 1024)
#define RPC_HEADER_BYTES_MAX 16384u

/* Gives *out, NULL on error. Connects at the first request. BAD_CONFIG with the reason, NOMEM. */
RC rpc_init(struct rpc **out, const struct rpc_cfg *cfg, char reason[static REGISTRY_REASON_BYTES]);
/* Takes *rpc: closes the connection, frees, sets NULL. Accepts a closed one. */
void rpc_close(struct rpc **rpc);

/* Sends the batch and reads its answer (rpc_batch_answer). Tries again after what may pass: no
 * connection, a timeout, an answer cut short, HTTP status 429 or 5xx. OK says that every call has
 * its answer, which may be an error. The reason is one sentence that names the server. TIMEOUT,
 * UNAVAILABLE (also when it was stopped), IO, MALFORMED, TOO_BIG, NOMEM. */
RC rpc_send(struct rpc *rpc, struct rpc_batch *batch, char reason[static REGISTRY_REASON_BYTES]);

/* "127.0.0.1:8545". Lent for rpc's life. */
const char *rpc_where(const struct rpc *rpc);
