/* SPDX-License-Identifier: Apache-2.0 */
/* What the chain's files share. */
#pragma once

#include "registry/abi.h"
#include "registry/chain.h"
#include "registry/rpc.h"

struct chain {
    struct registry_chain_cfg cfg; /* With the defaults; rpc_url is NULL. */
    struct rpc *rpc;
    struct head_anchor anchor;
    bool has_head;
    struct head head;
    uint64_t base_fee_wei; /* Of head; 0 when the chain has none. */
    uint64_t as_of_mono_ms;
    uint64_t head_read_ms; /* Monotonic. */
};

/* Makes chain->head the newest block, or one read at most head_reuse_ms ago unless is_new. */
RC chain_refresh_head(struct chain *chain, bool is_new, char *reason);

/* One eth_call's data. Owned. */
struct chain_data {
    uint8_t *ptr;
    size_t len;
};
void chain_data_close(struct chain_data *data);

struct chain_call {
    enum abi_function function;
    struct abi_word args[ABI_ARG_COUNT_MAX];
    uint64_t block;
};
/* Appends an eth_call of the contract that has the function. */
RC chain_add_call(struct chain *chain, struct rpc_batch *batch, const struct chain_call *call);
/* Sends; on failure the next read begins with a new head. */
RC chain_send(struct chain *chain, struct rpc_batch *batch, char *reason);
/* What the idx-th call of a batch that was sent, of this function, returned. */
struct chain_answer {
    const struct rpc_batch *batch;
    size_t idx;
    enum abi_function function;
};
/* Gives *out (chain_data_close): the answer's data. */
RC chain_data_of(struct chain *chain, const struct chain_answer *answer, struct chain_data *out,
                 char *reason);
/* Says in reason that the function's return data was refused. Gives rc as this room's callers
 * expect it. */
RC chain_refuse(struct chain *chain, struct rc rc, enum abi_function function,
                const struct abi_why *why, char *reason);
/* The same with words instead of why. MALFORMED. */
RC chain_refuse_text(struct chain *chain, enum abi_function function, const char *text,
                     char *reason);
/* "chain RPC HOST: TEXT" */
void chain_say(const struct chain *chain, const char *text, char *reason);
