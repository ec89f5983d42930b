/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/chain.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hex.h"
#include "registry/chain_internal.h"

struct chain_registry {
    struct registry base;
    struct chain *chain;
};

/* ---- Words ---- */

void chain_say(const struct chain *chain, const char *text, char *reason) {
    char copy[REGISTRY_REASON_BYTES];
    (void)snprintf(copy, sizeof(copy), "%s", text); /* text may be reason itself. */
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "chain RPC %s: %.120s", rpc_where(chain->rpc),
                   copy);
}

RC chain_refuse_text(struct chain *chain, enum abi_function function, const char *text,
                     char *reason) {
    char name[48];
    char words[REGISTRY_REASON_BYTES];
    (void)snprintf(name, sizeof(name), "%.40s", abi_function_signature(function));
    name[strcspn(name, "(")] = '\0';
    (void)snprintf(words, sizeof(words), "%s returned what must not be: %.100s", name, text);
    chain_say(chain, words, reason);
    return ERR(MALFORMED);
}

RC chain_refuse(struct chain *chain, struct rc rc, enum abi_function function,
                const struct abi_why *why, char *reason) {
    struct rc refused = chain_refuse_text(chain, function, why->text, reason);
    return rc.err == E_TOO_BIG ? rc : refused;
}

/* ---- Calls ---- */

void chain_data_close(struct chain_data *data) {
    free(data->ptr);
    *data = (struct chain_data){ 0 };
}

static const struct wallet *contract_of(const struct chain *chain, enum abi_function function) {
    switch (function) {
    case ABI_GET_APP:
    case ABI_GET_VERSION:
    case ABI_GET_INSTANCE_BY_WALLET:
    case ABI_GET_ACTIVE_INSTANCES:
        return &chain->cfg.nova_app_registry;
    case ABI_MASTER_SECRET_HASH:
    case ABI_SET_MASTER_SECRET_HASH:
    case ABI_IS_OPERATOR:
    case ABI_KMS_APP_ID:
    case ABI_NOVA_APP_REGISTRY:
    case ABI_FUNCTION_COUNT:
        break;
    }
    return &chain->cfg.kms_registry;
}

RC chain_add_call(struct chain *chain, struct rpc_batch *batch, const struct chain_call *call) {
    char to[WALLET_TEXT_BYTES];
    struct abi_call data;
    abi_encode_call(call->function, call->args, &data);
    json_t *params = json_pack(
        "[{s:s, s:o}, o]", "to", wallet_format(contract_of(chain, call->function), to), "data",
        rpc_data_json((struct span){ data.bytes, data.len }), rpc_quantity_json(call->block));
    return rpc_batch_add(batch, "eth_call", params);
}

RC chain_send(struct chain *chain, struct rpc_batch *batch, char *reason) {
    struct rc rc = rpc_send(chain->rpc, batch, reason);
    if (rc.err != E_OK) {
        chain->has_head = false;
    }
    return rc;
}

/* The idx-th result. A revert is not the server's failure, but of what it was asked. */
static RC result_of(struct chain *chain, const struct rpc_batch *batch, size_t idx,
                    const json_t **out, char *reason) {
    struct rc rc = rpc_batch_result(batch, idx, out, reason);
    if (rc.err != E_OK) {
        chain->has_head = false;
        chain_say(chain, reason, reason);
    }
    return rc.err == E_DENIED ? ERR(MALFORMED) : rc;
}

RC chain_data_of(struct chain *chain, const struct chain_answer *answer, struct chain_data *out,
                 char *reason) {
    const json_t *result = NULL;
    *out = (struct chain_data){ 0 };
    TRY(result_of(chain, answer->batch, answer->idx, &result, reason));
    struct rc rc = rpc_data(result, &out->ptr, &out->len);
    if (rc.err == E_MALFORMED) {
        return chain_refuse_text(chain, answer->function, "must be 0x and pairs of hex digits",
                                 reason);
    }
    TRY(rc);
    if (out->len == 0) {
        return chain_refuse_text(chain, answer->function, "there is no contract at its address",
                                 reason);
    }
    return OK;
}

/* ---- The head ---- */

static RC refuse_head(struct chain *chain, const char *text, char *reason) {
    chain_say(chain, text, reason);
    return ERR(MALFORMED);
}

static RC check_chain_id(struct chain *chain, const json_t *result, char *reason) {
    uint64_t id = 0;
    struct rc rc = rpc_quantity(result, &id);
    if (rc.err == E_MALFORMED) {
        return refuse_head(chain, "eth_chainId must give a quantity", reason);
    }
    if (rc.err != E_OK || id != chain->cfg.chain_id) {
        char text[96];
        (void)snprintf(text, sizeof(text), "the chain id is %llu, must be %llu",
                       (unsigned long long)id, (unsigned long long)chain->cfg.chain_id);
        return refuse_head(chain, text, reason);
    }
    return OK;
}

static RC check_syncing(struct chain *chain, const json_t *result, char *reason) {
    if (json_is_false(result)) {
        return OK;
    }
    if (!json_is_object(result)) {
        return refuse_head(chain, "eth_syncing must give false or an object", reason);
    }
    chain_say(chain, "it is still syncing", reason);
    return ERR(UNAVAILABLE);
}

static RC take_block(struct chain *chain, const json_t *block, struct head *head,
                     uint64_t *base_fee_wei, char *reason) {
    const json_t *fee = json_object_get(block, "baseFeePerGas");
    *base_fee_wei = 0;
    if (json_is_null(block)) {
        chain_say(chain, "it has no block yet", reason);
        return ERR(UNAVAILABLE);
    }
    if (rpc_quantity(json_object_get(block, "number"), &head->number).err != E_OK) {
        return refuse_head(chain, "the block's number must be a quantity up to 2^64-1", reason);
    }
    if (rpc_quantity(json_object_get(block, "timestamp"), &head->timestamp_unix_s).err != E_OK) {
        return refuse_head(chain, "the block's timestamp must be a quantity up to 2^64-1", reason);
    }
    if (rpc_data_fixed(json_object_get(block, "hash"), head->hash, HEAD_HASH_BYTES).err != E_OK) {
        return refuse_head(chain, "the block's hash must be 32 bytes", reason);
    }
    if (fee != NULL && rpc_quantity(fee, base_fee_wei).err != E_OK) {
        return refuse_head(chain, "the block's baseFeePerGas must be a quantity up to 2^64-1",
                           reason);
    }
    return OK;
}

enum { CALL_CHAIN_ID, CALL_SYNCING, CALL_BLOCK };

static RC judge_head(struct chain *chain, const struct rpc_batch *batch, struct head_instant at,
                     char *reason) {
    const json_t *chain_id = NULL;
    const json_t *syncing = NULL;
    const json_t *block = NULL;
    struct head head = { 0 };
    TRY(result_of(chain, batch, CALL_CHAIN_ID, &chain_id, reason));
    TRY(check_chain_id(chain, chain_id, reason));
    TRY(result_of(chain, batch, CALL_SYNCING, &syncing, reason));
    TRY(check_syncing(chain, syncing, reason));
    TRY(result_of(chain, batch, CALL_BLOCK, &block, reason));
    TRY(take_block(chain, block, &head, &chain->base_fee_wei, reason));
    struct rc rc = head_take(&chain->anchor, &head, at, &chain->as_of_mono_ms, reason);
    if (rc.err != E_OK) {
        chain_say(chain, reason, reason);
        return rc;
    }
    chain->head = head;
    return OK;
}

static RC read_head(struct chain *chain, struct rpc_batch *batch, char *reason) {
    TRY(rpc_batch_add(batch, "eth_chainId", json_array()));
    TRY(rpc_batch_add(batch, "eth_syncing", json_array()));
    TRY(rpc_batch_add(batch, "eth_getBlockByNumber", json_pack("[s, b]", "latest", 0)));
    struct head_instant at = { .asked_mono_ms = chain->cfg.mono_ms() };
    TRY(rpc_send(chain->rpc, batch, reason));
    at.answered_mono_ms = chain->cfg.mono_ms();
    at.answered_unix_ms = chain->cfg.unix_ms();
    chain->head_read_ms = at.asked_mono_ms;
    return judge_head(chain, batch, at, reason);
}

RC chain_refresh_head(struct chain *chain, bool is_new, char *reason) {
    uint64_t now_ms = chain->cfg.mono_ms();
    if (!is_new && chain->has_head && now_ms - chain->head_read_ms < chain->cfg.head_reuse_ms) {
        return OK;
    }
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    struct rc rc = read_head(chain, &batch, reason);
    chain->has_head = rc.err == E_OK;
    return rc;
}

/* ---- One wallet ---- */

/* "instance of 0x..: appId: must be at most 2^64-1" */
static RC refuse_record(struct chain *chain, struct rc rc, const struct wallet *wallet,
                        const struct abi_why *why, char *reason) {
    char text[WALLET_TEXT_BYTES];
    char words[REGISTRY_REASON_BYTES];
    if (!why->is_value) {
        return chain_refuse(chain, rc, ABI_GET_INSTANCE_BY_WALLET, why, reason);
    }
    (void)snprintf(words, sizeof(words), "the instance of %s cannot be used: %s",
                   wallet_format(wallet, text), why->text);
    chain_say(chain, words, reason);
    return rc;
}

static RC read_instance(struct chain *chain, const struct wallet *wallet, uint64_t block,
                        struct auth_instance *out, char *reason) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    AUTO(chain_data_close) struct chain_data data = { 0 };
    const struct chain_call call = { ABI_GET_INSTANCE_BY_WALLET,
                                     { abi_word_of_wallet(wallet) },
                                     block };
    struct abi_why why;
    TRY(chain_add_call(chain, &batch, &call));
    TRY(chain_send(chain, &batch, reason));
    const struct chain_answer answer = { &batch, 0, call.function };
    TRY(chain_data_of(chain, &answer, &data, reason));
    struct rc rc = abi_decode_instance((struct span){ data.ptr, data.len }, out, &why);
    if (rc.err != E_OK) {
        return refuse_record(chain, rc, wallet, &why, reason);
    }
    if (out->id != 0 && !wallet_equal(&out->wallet, wallet)) {
        return chain_refuse_text(chain, call.function, "it is another wallet's", reason);
    }
    return OK;
}

static RC take_app(struct chain *chain, const struct rpc_batch *batch, struct auth_facts *out,
                   char *reason) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct abi_app app;
    struct abi_why why;
    const struct chain_answer answer = { batch, 0, ABI_GET_APP };
    TRY(chain_data_of(chain, &answer, &data, reason));
    struct rc rc = abi_decode_app((struct span){ data.ptr, data.len }, &app, &why);
    if (rc.err != E_OK) {
        return chain_refuse(chain, rc, ABI_GET_APP, &why, reason);
    }
    if (app.id != out->instance.app_id) {
        return chain_refuse_text(chain, ABI_GET_APP, "it is another app's", reason);
    }
    out->app_status = app.status;
    return OK;
}

static RC take_version(struct chain *chain, const struct rpc_batch *batch, struct auth_facts *out,
                       char *reason) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct abi_version version;
    struct abi_why why;
    const struct chain_answer answer = { batch, 1, ABI_GET_VERSION };
    TRY(chain_data_of(chain, &answer, &data, reason));
    struct rc rc = abi_decode_version((struct span){ data.ptr, data.len }, &version, &why);
    if (rc.err != E_OK) {
        return chain_refuse(chain, rc, ABI_GET_VERSION, &why, reason);
    }
    if (version.id != out->instance.version_id) {
        return chain_refuse_text(chain, ABI_GET_VERSION, "it is another version's", reason);
    }
    out->version_status = version.status;
    return OK;
}

/* App and version of out->instance. */
static RC read_statuses(struct chain *chain, uint64_t block, struct auth_facts *out, char *reason) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    const struct abi_word app_id = abi_word_of_number(out->instance.app_id);
    const struct abi_word version_id = abi_word_of_number(out->instance.version_id);
    const struct chain_call app = { ABI_GET_APP, { app_id }, block };
    const struct chain_call version = { ABI_GET_VERSION, { app_id, version_id }, block };
    TRY(chain_add_call(chain, &batch, &app));
    TRY(chain_add_call(chain, &batch, &version));
    TRY(chain_send(chain, &batch, reason));
    TRY(take_app(chain, &batch, out, reason));
    return take_version(chain, &batch, out, reason);
}

static RC read_facts(struct chain *chain, const struct wallet *wallet, uint64_t block,
                     struct auth_facts *out, char *reason) {
    struct auth_facts facts = { 0 };
    *out = facts;
    TRY(read_instance(chain, wallet, block, &facts.instance, reason));
    facts.found = facts.instance.id != 0;
    if (facts.found) {
        TRY(read_statuses(chain, block, &facts, reason));
    }
    facts.as_of_mono_ms = chain->as_of_mono_ms;
    *out = facts;
    return OK;
}

RC chain_lookup(struct chain *chain, const struct wallet *wallet, struct auth_facts *out,
                char reason[static REGISTRY_REASON_BYTES]) {
    *out = (struct auth_facts){ 0 };
    reason[0] = '\0';
    TRY(chain_refresh_head(chain, false, reason));
    return read_facts(chain, wallet, chain->head.number, out, reason);
}

/* ---- At the head and below ---- */

/* Reads a new head; gives the block that is confirmation_count below. */
static RC confirmed_block(struct chain *chain, uint64_t *block, char *reason) {
    TRY(chain_refresh_head(chain, true, reason));
    if (chain->head.number < chain->cfg.confirmation_count) {
        char text[96];
        (void)snprintf(text, sizeof(text), "the chain has %llu blocks, confirmation needs %u",
                       (unsigned long long)chain->head.number, chain->cfg.confirmation_count);
        chain_say(chain, text, reason);
        return ERR(UNAVAILABLE);
    }
    *block = chain->head.number - chain->cfg.confirmation_count;
    return OK;
}

RC chain_read_instance(struct chain *chain, const struct wallet *wallet, struct auth_facts *latest,
                       struct auth_facts *confirmed, char reason[static REGISTRY_REASON_BYTES]) {
    uint64_t block = 0;
    struct auth_facts at_head;
    struct auth_facts below;
    *latest = (struct auth_facts){ 0 };
    *confirmed = (struct auth_facts){ 0 };
    reason[0] = '\0';
    TRY(confirmed_block(chain, &block, reason));
    TRY(read_facts(chain, wallet, chain->head.number, &at_head, reason));
    TRY(read_facts(chain, wallet, block, &below, reason));
    *latest = at_head;
    *confirmed = below;
    return OK;
}

static RC take_hash(struct chain *chain, const struct rpc_batch *batch, size_t idx,
                    uint8_t out[static CHAIN_HASH_BYTES], char *reason) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct abi_word word;
    struct abi_why why;
    const struct chain_answer answer = { batch, idx, ABI_MASTER_SECRET_HASH };
    TRY(chain_data_of(chain, &answer, &data, reason));
    struct rc rc = abi_decode_word((struct span){ data.ptr, data.len }, &word, &why);
    if (rc.err != E_OK) {
        return chain_refuse(chain, rc, ABI_MASTER_SECRET_HASH, &why, reason);
    }
    memcpy(out, word.bytes, CHAIN_HASH_BYTES);
    return OK;
}

RC chain_read_secret_hash(struct chain *chain, struct chain_secret_hash *out,
                          char reason[static REGISTRY_REASON_BYTES]) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    struct chain_secret_hash hash = { 0 };
    uint64_t block = 0;
    *out = hash;
    reason[0] = '\0';
    TRY(confirmed_block(chain, &block, reason));
    const struct chain_call latest = { .function = ABI_MASTER_SECRET_HASH,
                                       .block = chain->head.number };
    const struct chain_call confirmed = { .function = ABI_MASTER_SECRET_HASH, .block = block };
    TRY(chain_add_call(chain, &batch, &latest));
    TRY(chain_add_call(chain, &batch, &confirmed));
    TRY(chain_send(chain, &batch, reason));
    TRY(take_hash(chain, &batch, 0, hash.latest, reason));
    TRY(take_hash(chain, &batch, 1, hash.confirmed, reason));
    hash.head = chain->head;
    hash.as_of_mono_ms = chain->as_of_mono_ms;
    *out = hash;
    return OK;
}

/* ---- Life ---- */

static void set_default(uint32_t *value, uint32_t otherwise) {
    if (*value == 0) {
        *value = otherwise;
    }
}

static void set_defaults(struct registry_chain_cfg *cfg) {
    set_default(&cfg->connect_timeout_ms, CHAIN_RPC_CONNECT_TIMEOUT_MS);
    set_default(&cfg->timeout_ms, CHAIN_RPC_TIMEOUT_MS);
    set_default(&cfg->total_ms, CHAIN_RPC_TOTAL_MS);
    set_default(&cfg->attempt_count_max, CHAIN_RPC_ATTEMPT_COUNT);
    set_default(&cfg->backoff_ms, CHAIN_RPC_BACKOFF_MS);
    set_default(&cfg->answer_bytes_max, CHAIN_RPC_ANSWER_BYTES);
    set_default(&cfg->head_stall_ms, CHAIN_HEAD_STALL_MS);
    set_default(&cfg->head_skew_ms, CHAIN_HEAD_SKEW_MS);
    set_default(&cfg->head_reuse_ms, CHAIN_HEAD_REUSE_MS);
    set_default(&cfg->reorg_block_count_max, CHAIN_REORG_BLOCK_COUNT);
    set_default(&cfg->confirmation_count, CHAIN_CONFIRMATION_COUNT);
    set_default(&cfg->refresh_ms, CHAIN_REFRESH_MS);
    cfg->mono_ms = cfg->mono_ms != NULL ? cfg->mono_ms : clock_mono_ms;
    cfg->unix_ms = cfg->unix_ms != NULL ? cfg->unix_ms : clock_unix_ms;
}

static RC init_rpc(struct chain *chain, const char *url, char *reason) {
    const struct rpc_cfg cfg = { .url = url,
                                 .connect_timeout_ms = chain->cfg.connect_timeout_ms,
                                 .timeout_ms = chain->cfg.timeout_ms,
                                 .total_ms = chain->cfg.total_ms,
                                 .attempt_count_max = chain->cfg.attempt_count_max,
                                 .backoff_ms = chain->cfg.backoff_ms,
                                 .answer_bytes_max = chain->cfg.answer_bytes_max,
                                 .stop = chain->cfg.stop };
    return rpc_init(&chain->rpc, &cfg, reason);
}

RC chain_init(struct chain **out, const struct registry_chain_cfg *cfg,
              char reason[static REGISTRY_REASON_BYTES]) {
    *out = NULL;
    reason[0] = '\0';
    if (cfg->chain_id == 0 || cfg->kms_app_id == 0 || wallet_is_zero(&cfg->nova_app_registry) ||
        (wallet_is_zero(&cfg->kms_registry) && !cfg->members_only)) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "chain: the chain id, the KMS app id and both registries' addresses must "
                       "be set");
        return ERR(BAD_CONFIG);
    }
    AUTO(chain_close) struct chain *chain = calloc(1, sizeof(*chain));
    ENSURE(chain != NULL, NOMEM);
    chain->cfg = *cfg;
    chain->cfg.rpc_url = NULL;
    set_defaults(&chain->cfg);
    chain->anchor.cfg = (struct head_cfg){ chain->cfg.head_stall_ms, chain->cfg.head_skew_ms,
                                           chain->cfg.reorg_block_count_max };
    TRY(init_rpc(chain, cfg->rpc_url, reason));
    *out = chain;
    chain = NULL;
    return OK;
}

void chain_close(struct chain **chain) {
    if (*chain != NULL) {
        rpc_close(&(*chain)->rpc);
        free(*chain);
        *chain = NULL;
    }
}

/* ---- As a registry ---- */

static struct chain_registry *self_of(struct registry *registry) {
    return (struct chain_registry *)(void *)registry;
}

static RC ops_lookup(struct registry *registry, const struct wallet *wallet, struct auth_facts *out,
                     char reason[static REGISTRY_REASON_BYTES]) {
    return chain_lookup(self_of(registry)->chain, wallet, out, reason);
}

static RC ops_members(struct registry *registry, struct registry_members *out,
                      char reason[static REGISTRY_REASON_BYTES]) {
    return chain_members(self_of(registry)->chain, out, reason);
}

static void ops_close(struct registry *registry) {
    chain_close(&self_of(registry)->chain);
    free(self_of(registry));
}

RC registry_chain_init(struct registry **out, const struct registry_chain_cfg *cfg,
                       char reason[static REGISTRY_REASON_BYTES]) {
    static const struct registry_ops ops = { ops_lookup, ops_members, ops_close };
    *out = NULL;
    reason[0] = '\0';
    struct chain_registry *self = calloc(1, sizeof(*self));
    ENSURE(self != NULL, NOMEM);
    AUTO(registry_close) struct registry *owner = &self->base;
    owner->ops = &ops;
    TRY(chain_init(&self->chain, cfg, reason));
    owner->kms_app_id = cfg->kms_app_id;
    owner->refresh_ms = self->chain->cfg.refresh_ms;
    *out = owner;
    owner = NULL;
    return OK;
}
