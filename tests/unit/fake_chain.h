/* SPDX-License-Identifier: Apache-2.0 */
/* A chain with both registries behind a scripted server: answers JSON-RPC from tables, batches in
 * reverse order, and lies where a test tells it to. */
#pragma once

#include <jansson.h>

#include "auth/facts.h"
#include "crypto/keccak.h"
#include "registry/abi.h"
#include "registry/chain.h"
#include "registry/head.h"
#include "registry/rpc_batch.h"
#include "script_server.h"

#define FAKE_CHAIN_ID 84532
#define FAKE_KMS_APP 49
#define FAKE_RECORD_COUNT_MAX 600
#define FAKE_DATA_BYTES 65536

struct fake_app {
    uint64_t id;
    uint64_t status;
};
struct fake_version {
    uint64_t app_id;
    uint64_t id;
    uint64_t status;
};
struct fake_instance {
    struct auth_instance facts;
    uint64_t since_block; /* Before it the wallet is unknown. */
    uint8_t app_id_top;   /* Byte of the app id's word above its 64 bits. */
    size_t url_len;       /* When not 0: a URL of so many bytes instead. */
    bool is_other_wallet; /* The answer is for another wallet. */
};

/* One method's answer instead of the true one: a result or an error, as JSON. */
struct fake_lie {
    const char *method;
    const char *result;
    const char *error;
};

struct fake_chain {
    struct script_server *server;
    uint64_t chain_id;
    struct head head;
    uint64_t base_fee_wei;
    struct fake_app apps[8];
    size_t app_count;
    struct fake_version versions[FAKE_RECORD_COUNT_MAX];
    size_t version_count;
    struct fake_instance instances[FAKE_RECORD_COUNT_MAX];
    size_t instance_count;
    uint8_t hash[32];
    uint64_t hash_since_block;
    struct fake_lie lie;
    unsigned head_count; /* How often the head was read. */
    uint64_t block_min;  /* Of eth_call, since the last reset. */
    uint64_t block_max;
    char sent[2 * 4096 + 8]; /* The raw transaction. */
};

/* ---- Return data ---- */

struct fake_data {
    uint8_t bytes[FAKE_DATA_BYTES];
    size_t len;
};

static inline void fake_put(struct fake_data *d, size_t idx, uint64_t number) {
    struct abi_word word = abi_word_of_number(number);
    memcpy(d->bytes + idx * ABI_WORD_BYTES, word.bytes, sizeof(word.bytes));
}

static inline void fake_put_wallet(struct fake_data *d, size_t idx, const struct wallet *wallet) {
    struct abi_word word = abi_word_of_wallet(wallet);
    memcpy(d->bytes + idx * ABI_WORD_BYTES, word.bytes, sizeof(word.bytes));
}

static inline void fake_put_tail(struct fake_data *d, size_t field, struct span bytes) {
    fake_put(d, 1 + field, d->len - ABI_WORD_BYTES);
    fake_put(d, d->len / ABI_WORD_BYTES, bytes.len);
    if (bytes.len > 0) {
        memcpy(d->bytes + d->len + ABI_WORD_BYTES, bytes.ptr, bytes.len);
    }
    d->len += ABI_WORD_BYTES + (bytes.len + 31) / 32 * 32;
}

static inline void fake_start(struct fake_data *d, size_t field_count) {
    memset(d, 0, sizeof(*d));
    d->len = (1 + field_count) * ABI_WORD_BYTES;
    fake_put(d, 0, ABI_WORD_BYTES);
}

static inline void fake_encode_instance(struct fake_data *d, const struct fake_instance *instance) {
    const struct auth_instance *facts = &instance->facts;
    char url[4096];
    memset(url, 'u', sizeof(url));
    struct span url_span = instance->url_len > 0
                               ? (struct span){ (const uint8_t *)url, instance->url_len }
                               : span_str(facts->url);
    fake_start(d, 10);
    fake_put(d, 1, facts->id);
    fake_put(d, 2, facts->app_id);
    d->bytes[2 * ABI_WORD_BYTES + 23] = instance->app_id_top;
    fake_put(d, 3, facts->version_id);
    fake_put_wallet(d, 4, &facts->operator_wallet);
    fake_put_tail(d, 4, url_span);
    fake_put_tail(d, 5, (struct span){ facts->tee_pubkey, facts->tee_pubkey_len });
    fake_put_wallet(d, 7, &facts->wallet);
    fake_put(d, 8, facts->zk_verified);
    fake_put(d, 9, facts->status);
    fake_put(d, 10, facts->registered_unix_s);
    if (instance->is_other_wallet) {
        d->bytes[7 * ABI_WORD_BYTES + 31] ^= 1;
    }
}

static inline uint64_t fake_arg(struct span call, size_t idx) {
    uint64_t number = 0;
    for (size_t i = 0; i < 8; i++) {
        number = number << 8 | call.ptr[ABI_SELECTOR_BYTES + (idx + 1) * ABI_WORD_BYTES - 8 + i];
    }
    return number;
}

static inline bool fake_get_app(const struct fake_chain *chain, struct span call,
                                struct fake_data *d) {
    for (size_t i = 0; i < chain->app_count; i++) {
        if (chain->apps[i].id == fake_arg(call, 0)) {
            fake_start(d, 9);
            fake_put(d, 1, chain->apps[i].id);
            fake_put_tail(d, 4, SPAN_LIT("ipfs://meta"));
            fake_put(d, 8, chain->apps[i].status);
            return true;
        }
    }
    return false;
}

static inline bool fake_get_version(const struct fake_chain *chain, struct span call,
                                    struct fake_data *d) {
    for (size_t i = 0; i < chain->version_count; i++) {
        const struct fake_version *version = &chain->versions[i];
        if (version->app_id == fake_arg(call, 0) && version->id == fake_arg(call, 1)) {
            fake_start(d, 10);
            fake_put(d, 1, version->id);
            fake_put_tail(d, 1, SPAN_LIT("v1"));
            fake_put_tail(d, 3, SPAN_LIT("image"));
            fake_put_tail(d, 4, SPAN_LIT(""));
            fake_put_tail(d, 5, SPAN_LIT(""));
            fake_put_tail(d, 6, SPAN_LIT("123"));
            fake_put(d, 8, version->status);
            return true;
        }
    }
    return false;
}

static inline bool fake_get_instance(const struct fake_chain *chain, struct span call,
                                     uint64_t block, struct fake_data *d) {
    struct span wallet = { call.ptr + ABI_SELECTOR_BYTES + 12, WALLET_BYTES };
    const struct fake_instance none = { 0 };
    fake_encode_instance(d, &none);
    for (size_t i = 0; i < chain->instance_count; i++) {
        const struct fake_instance *instance = &chain->instances[i];
        if (span_equal(wallet_span(&instance->facts.wallet), wallet) &&
            block >= instance->since_block) {
            fake_encode_instance(d, instance);
        }
    }
    return true;
}

static inline bool fake_get_active(const struct fake_chain *chain, struct span call,
                                   struct fake_data *d) {
    uint64_t count = 0;
    fake_start(d, 1);
    for (size_t i = 0; i < chain->instance_count; i++) {
        const struct auth_instance *facts = &chain->instances[i].facts;
        if (facts->app_id == fake_arg(call, 0) && facts->status == AUTH_INSTANCE_ACTIVE) {
            fake_put_wallet(d, 2 + count, &facts->wallet);
            count++;
        }
    }
    fake_put(d, 1, count);
    d->len = (2 + count) * ABI_WORD_BYTES;
    return true;
}

static inline bool fake_hash(const struct fake_chain *chain, uint64_t block, struct fake_data *d) {
    memset(d, 0, sizeof(*d));
    d->len = ABI_WORD_BYTES;
    if (block >= chain->hash_since_block) {
        memcpy(d->bytes, chain->hash, sizeof(chain->hash));
    }
    return true;
}

static inline bool fake_is(struct span call, enum abi_function function) {
    const struct abi_word none[ABI_ARG_COUNT_MAX] = { 0 };
    struct abi_call want;
    abi_encode_call(function, none, &want);
    return span_equal((struct span){ call.ptr, ABI_SELECTOR_BYTES },
                      (struct span){ want.bytes, ABI_SELECTOR_BYTES });
}

static inline bool fake_execute(const struct fake_chain *chain, struct span call, uint64_t block,
                                struct fake_data *d) {
    return (fake_is(call, ABI_GET_APP) && fake_get_app(chain, call, d)) ||
           (fake_is(call, ABI_GET_VERSION) && fake_get_version(chain, call, d)) ||
           (fake_is(call, ABI_GET_INSTANCE_BY_WALLET) &&
            fake_get_instance(chain, call, block, d)) ||
           (fake_is(call, ABI_GET_ACTIVE_INSTANCES) && fake_get_active(chain, call, d)) ||
           (fake_is(call, ABI_MASTER_SECRET_HASH) && fake_hash(chain, block, d));
}

/* ---- JSON-RPC ---- */

static inline json_t *fake_eth_call(struct fake_chain *chain, const json_t *params) {
    static struct fake_data data; /* Too big for a stack; the server has one thread. */
    uint8_t *call = NULL;
    size_t call_len = 0;
    uint64_t block = 0;
    const json_t *text = json_object_get(json_array_get(params, 0), "data");
    ASSERT(rpc_data(text, &call, &call_len).err == E_OK);
    ASSERT(rpc_quantity(json_array_get(params, 1), &block).err == E_OK);
    chain->block_min = block < chain->block_min ? block : chain->block_min;
    chain->block_max = block > chain->block_max ? block : chain->block_max;
    bool is_known = fake_execute(chain, (struct span){ call, call_len }, block, &data);
    free(call);
    return is_known ? rpc_data_json((struct span){ data.bytes, data.len }) : NULL;
}

static inline json_t *fake_block(const struct fake_chain *chain) {
    return json_pack("{s:o, s:o, s:o, s:o}", "number", rpc_quantity_json(chain->head.number),
                     "timestamp", rpc_quantity_json(chain->head.timestamp_unix_s), "hash",
                     rpc_data_json((struct span){ chain->head.hash, HEAD_HASH_BYTES }),
                     "baseFeePerGas", rpc_quantity_json(chain->base_fee_wei));
}

static inline json_t *fake_send(struct fake_chain *chain, const json_t *params) {
    uint8_t hash[KECCAK256_BYTES];
    uint8_t *raw = NULL;
    size_t len = 0;
    ASSERT(rpc_data(json_array_get(params, 0), &raw, &len).err == E_OK);
    keccak256((struct span){ raw, len }, hash);
    (void)snprintf(chain->sent, sizeof(chain->sent), "%s",
                   json_string_value(json_array_get(params, 0)));
    free(raw);
    return rpc_data_json((struct span){ hash, sizeof(hash) });
}

/* NULL: reverts. */
static inline json_t *fake_result(struct fake_chain *chain, const char *method,
                                  const json_t *params) {
    if (strcmp(method, "eth_chainId") == 0) {
        chain->head_count++;
        return rpc_quantity_json(chain->chain_id);
    }
    if (strcmp(method, "eth_syncing") == 0) {
        return json_false();
    }
    if (strcmp(method, "eth_getBlockByNumber") == 0) {
        return fake_block(chain);
    }
    if (strcmp(method, "eth_call") == 0) {
        return fake_eth_call(chain, params);
    }
    if (strcmp(method, "eth_sendRawTransaction") == 0) {
        return fake_send(chain, params);
    }
    if (strcmp(method, "eth_getTransactionReceipt") == 0) {
        return json_null();
    }
    return rpc_quantity_json(7);
}

static inline json_t *fake_one(struct fake_chain *chain, const json_t *call) {
    const char *method = json_string_value(json_object_get(call, "method"));
    json_t *id = json_incref(json_object_get(call, "id"));
    if (chain->lie.method != NULL && strcmp(chain->lie.method, method) == 0) {
        const char *text = chain->lie.error != NULL ? chain->lie.error : chain->lie.result;
        return json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", "id", id,
                         chain->lie.error != NULL ? "error" : "result",
                         json_loads(text, JSON_DECODE_ANY, NULL));
    }
    json_t *result = fake_result(chain, method, json_object_get(call, "params"));
    if (result != NULL) {
        return json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", "id", id, "result", result);
    }
    return json_pack("{s:s, s:o, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error", "code", 3,
                     "message", "execution reverted");
}

static inline enum script_next fake_answer(void *ctx, struct script_server *server,
                                           const char *body) {
    struct fake_chain *chain = ctx;
    json_t *request = json_loads(body, 0, NULL);
    json_t *answer = NULL;
    if (json_is_array(request)) {
        answer = json_array();
        for (size_t i = json_array_size(request); i-- > 0;) {
            (void)json_array_append_new(answer, fake_one(chain, json_array_get(request, i)));
        }
    } else {
        answer = fake_one(chain, request);
    }
    char *text = json_dumps(answer, 0);
    script_reply(server, 200, text);
    free(text);
    json_decref(answer);
    json_decref(request);
    return SCRIPT_KEEP;
}

/* ---- For tests ---- */

static inline void fake_lock(struct fake_chain *chain) {
    (void)pthread_mutex_lock(&chain->server->lock);
}

static inline void fake_unlock(struct fake_chain *chain) {
    (void)pthread_mutex_unlock(&chain->server->lock);
}

static inline struct wallet fake_wallet(uint64_t number) {
    struct wallet wallet = { { 0xaa } };
    memcpy(wallet.bytes + 4, &number, sizeof(number));
    return wallet;
}

/* Adds an active, verified instance: id and wallet `number`, version 1, its own URL. */
static inline struct fake_instance *fake_add(struct fake_chain *chain, uint64_t number,
                                             uint64_t app_id) {
    assert_true(chain->instance_count < FAKE_RECORD_COUNT_MAX);
    struct fake_instance *instance = &chain->instances[chain->instance_count++];
    *instance = (struct fake_instance){ .facts = { .id = number,
                                                   .app_id = app_id,
                                                   .version_id = 1,
                                                   .wallet = fake_wallet(number),
                                                   .tee_pubkey = { 0xbe },
                                                   .tee_pubkey_len = 120,
                                                   .zk_verified = true,
                                                   .registered_unix_s = 1000 + number } };
    (void)snprintf(instance->facts.url, sizeof(instance->facts.url), "https://node-%llu:8443",
                   (unsigned long long)number);
    return instance;
}

/* A chain with the KMS app 49 and app 100, version 1 of each enrolled, and block 1000. */
static inline struct fake_chain *fake_start_chain(uint64_t timestamp_s) {
    struct fake_chain *chain = calloc(1, sizeof(*chain));
    assert_non_null(chain);
    chain->chain_id = FAKE_CHAIN_ID;
    chain->head = (struct head){ .number = 1000, .timestamp_unix_s = timestamp_s };
    chain->base_fee_wei = 1000000;
    chain->apps[0] = (struct fake_app){ FAKE_KMS_APP, AUTH_APP_ACTIVE };
    chain->apps[1] = (struct fake_app){ 100, AUTH_APP_ACTIVE };
    chain->app_count = 2;
    chain->versions[0] = (struct fake_version){ FAKE_KMS_APP, 1, AUTH_VERSION_ENROLLED };
    chain->versions[1] = (struct fake_version){ 100, 1, AUTH_VERSION_ENROLLED };
    chain->version_count = 2;
    chain->block_min = UINT64_MAX;
    chain->server = script_start(fake_answer, chain);
    return chain;
}

static inline void fake_stop_chain(struct fake_chain **chain) {
    script_stop(&(*chain)->server);
    free(*chain);
    *chain = NULL;
}

/* The next block, `span_s` later. */
static inline void fake_mine(struct fake_chain *chain, uint64_t span_s) {
    fake_lock(chain);
    chain->head.number++;
    chain->head.timestamp_unix_s += span_s;
    memcpy(chain->head.hash, &chain->head.number, sizeof(chain->head.number));
    fake_unlock(chain);
}

static inline void fake_tell(struct fake_chain *chain, const char *method, const char *result,
                             const char *error) {
    fake_lock(chain);
    chain->lie = (struct fake_lie){ method, result, error };
    fake_unlock(chain);
}

/* For a client of the chain at `url`, one that does not try again; the clocks are left to the
 * test. */
static inline struct registry_chain_cfg fake_cfg(const char *url) {
    return (struct registry_chain_cfg){ .rpc_url = url,
                                        .chain_id = FAKE_CHAIN_ID,
                                        .nova_app_registry = { { 1 } },
                                        .kms_registry = { { 2 } },
                                        .kms_app_id = FAKE_KMS_APP,
                                        .attempt_count_max = 1,
                                        .timeout_ms = 60000,
                                        .total_ms = 60000 };
}
