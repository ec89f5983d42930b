/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "auth/rules.h"
#include "registry/chain_internal.h"
#include "registry/url.h"

/* Calls in one request. */
#define BATCH_COUNT 32

/* One reading of the member list: all at one block. */
struct reading {
    struct chain *chain;
    uint64_t block;
    struct wallet *wallets; /* getActiveInstances. */
    size_t wallet_count;
    enum auth_app_status app_status;
    struct registry_members *out;
    char *reason;
};

static void reading_close(struct reading *r) {
    free(r->wallets);
}

static struct span span_of(const struct chain_data *data) {
    return (struct span){ data->ptr, data->len };
}

static RC refuse_count(const struct reading *r) {
    char text[96];
    (void)snprintf(text, sizeof(text), "the KMS app must have at most %d members",
                   REGISTRY_MEMBER_COUNT_MAX);
    chain_say(r->chain, text, r->reason);
    return ERR(TOO_BIG);
}

/* ---- The app and its list ---- */

static RC take_app(struct reading *r, const struct rpc_batch *batch) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct abi_app app;
    struct abi_why why;
    const struct chain_answer answer = { batch, 0, ABI_GET_APP };
    TRY(chain_data_of(r->chain, &answer, &data, r->reason));
    struct rc rc = abi_decode_app(span_of(&data), &app, &why);
    if (rc.err != E_OK) {
        return chain_refuse(r->chain, rc, ABI_GET_APP, &why, r->reason);
    }
    if (app.id != r->chain->cfg.kms_app_id) {
        return chain_refuse_text(r->chain, ABI_GET_APP, "it is another app's", r->reason);
    }
    r->app_status = app.status;
    return OK;
}

static RC take_wallets(struct reading *r, const struct rpc_batch *batch) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct abi_why why;
    const struct chain_answer answer = { batch, 1, ABI_GET_ACTIVE_INSTANCES };
    TRY(chain_data_of(r->chain, &answer, &data, r->reason));
    struct rc rc = abi_decode_wallets(span_of(&data), r->wallets, CHAIN_ACTIVE_COUNT_MAX,
                                      &r->wallet_count, &why);
    if (rc.err != E_OK) {
        return chain_refuse(r->chain, rc, ABI_GET_ACTIVE_INSTANCES, &why, r->reason);
    }
    return OK;
}

static RC read_app(struct reading *r) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    const struct abi_word id = abi_word_of_number(r->chain->cfg.kms_app_id);
    const struct chain_call app = { ABI_GET_APP, { id }, r->block };
    const struct chain_call list = { ABI_GET_ACTIVE_INSTANCES, { id }, r->block };
    TRY(chain_add_call(r->chain, &batch, &app));
    TRY(chain_add_call(r->chain, &batch, &list));
    TRY(chain_send(r->chain, &batch, r->reason));
    TRY(take_app(r, &batch));
    return take_wallets(r, &batch);
}

/* ---- Instances ---- */

/* What the peer rule says before the version is known. */
static bool may_be_member(const struct reading *r, const struct auth_instance *instance) {
    const struct auth_facts facts = { .found = instance->id != 0,
                                      .instance = *instance,
                                      .app_status = r->app_status,
                                      .version_status = AUTH_VERSION_ENROLLED };
    return auth_judge(&facts, AUTH_PEER, r->chain->cfg.kms_app_id) == AUTH_VERDICT_PERMITTED;
}

static RC refuse_instance(struct reading *r, struct rc rc, const struct wallet *wallet,
                          const struct abi_why *why) {
    char text[WALLET_TEXT_BYTES];
    char words[REGISTRY_REASON_BYTES];
    if (!why->is_value) {
        return chain_refuse(r->chain, rc, ABI_GET_INSTANCE_BY_WALLET, why, r->reason);
    }
    (void)snprintf(words, sizeof(words), "member %s cannot be used: %s",
                   wallet_format(wallet, text), why->text);
    chain_say(r->chain, words, r->reason);
    return rc;
}

static RC take_instance(struct reading *r, const struct rpc_batch *batch, size_t idx,
                        const struct wallet *wallet) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct auth_instance instance;
    struct abi_why why;
    const struct chain_answer answer = { batch, idx, ABI_GET_INSTANCE_BY_WALLET };
    TRY(chain_data_of(r->chain, &answer, &data, r->reason));
    struct rc rc = abi_decode_instance(span_of(&data), &instance, &why);
    /* A stranger's record with values that are refused must not spoil the list: what decides
     * against it can be read all the same. */
    bool is_out = instance.status != AUTH_INSTANCE_ACTIVE || !instance.zk_verified;
    if (rc.err != E_OK && !(why.is_value && is_out)) {
        return refuse_instance(r, rc, wallet, &why);
    }
    if (instance.id != 0 && !wallet_equal(&instance.wallet, wallet)) {
        return chain_refuse_text(r->chain, ABI_GET_INSTANCE_BY_WALLET, "it is another wallet's",
                                 r->reason);
    }
    if (is_out || !may_be_member(r, &instance)) {
        return OK;
    }
    if (r->out->count == REGISTRY_MEMBER_COUNT_MAX) {
        return refuse_count(r);
    }
    r->out->at[r->out->count++] = instance;
    return OK;
}

static RC read_instances(struct reading *r, size_t first, size_t count) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    for (size_t i = 0; i < count; i++) {
        const struct chain_call call = { ABI_GET_INSTANCE_BY_WALLET,
                                         { abi_word_of_wallet(&r->wallets[first + i]) },
                                         r->block };
        TRY(chain_add_call(r->chain, &batch, &call));
    }
    TRY(chain_send(r->chain, &batch, r->reason));
    for (size_t i = 0; i < count; i++) {
        TRY(take_instance(r, &batch, i, &r->wallets[first + i]));
    }
    return OK;
}

/* ---- Versions ---- */

struct versions {
    size_t count;
    struct abi_version at[REGISTRY_MEMBER_COUNT_MAX];
};

static struct abi_version *find_version(struct versions *versions, uint64_t id) {
    for (size_t i = 0; i < versions->count; i++) {
        if (versions->at[i].id == id) {
            return &versions->at[i];
        }
    }
    return NULL;
}

static void list_versions(const struct registry_members *members, struct versions *versions) {
    versions->count = 0;
    for (size_t i = 0; i < members->count; i++) {
        uint64_t id = members->at[i].version_id;
        if (find_version(versions, id) == NULL) {
            versions->at[versions->count++] = (struct abi_version){ .id = id };
        }
    }
}

static RC take_version(struct reading *r, const struct rpc_batch *batch, size_t idx,
                       struct abi_version *version) {
    AUTO(chain_data_close) struct chain_data data = { 0 };
    struct abi_version got;
    struct abi_why why;
    const struct chain_answer answer = { batch, idx, ABI_GET_VERSION };
    TRY(chain_data_of(r->chain, &answer, &data, r->reason));
    struct rc rc = abi_decode_version(span_of(&data), &got, &why);
    if (rc.err != E_OK) {
        return chain_refuse(r->chain, rc, ABI_GET_VERSION, &why, r->reason);
    }
    if (got.id != version->id) {
        return chain_refuse_text(r->chain, ABI_GET_VERSION, "it is another version's", r->reason);
    }
    *version = got;
    return OK;
}

static RC read_versions(struct reading *r, struct abi_version *versions, size_t count) {
    AUTO(rpc_batch_close) struct rpc_batch batch = { 0 };
    for (size_t i = 0; i < count; i++) {
        const struct chain_call call = { ABI_GET_VERSION,
                                         { abi_word_of_number(r->chain->cfg.kms_app_id),
                                           abi_word_of_number(versions[i].id) },
                                         r->block };
        TRY(chain_add_call(r->chain, &batch, &call));
    }
    TRY(chain_send(r->chain, &batch, r->reason));
    for (size_t i = 0; i < count; i++) {
        TRY(take_version(r, &batch, i, &versions[i]));
    }
    return OK;
}

/* ---- The list ---- */

static bool is_member(const struct reading *r, struct versions *versions,
                      const struct auth_instance *instance) {
    const struct abi_version *version = find_version(versions, instance->version_id);
    ASSERT(version != NULL);
    const struct auth_facts facts = { .found = true,
                                      .instance = *instance,
                                      .app_status = r->app_status,
                                      .version_status = version->status };
    return auth_judge(&facts, AUTH_PEER, r->chain->cfg.kms_app_id) == AUTH_VERDICT_PERMITTED;
}

static void keep_members(const struct reading *r, struct versions *versions) {
    struct registry_members *members = r->out;
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++) {
        if (is_member(r, versions, &members->at[i])) {
            members->at[count++] = members->at[i];
        }
    }
    members->count = count;
}

static bool is_later(const struct auth_instance *a, const struct auth_instance *b) {
    return a->registered_unix_s != b->registered_unix_s
               ? a->registered_unix_s > b->registered_unix_s
               : a->id > b->id;
}

/* A node that was restarted registers anew at its URL: the entry before is not another member. */
static bool is_replaced(const struct registry_members *members, size_t idx) {
    const struct auth_instance *instance = &members->at[idx];
    for (size_t i = 0; i < members->count && instance->url[0] != '\0'; i++) {
        if (is_later(&members->at[i], instance) &&
            registry_url_equal(members->at[i].url, instance->url)) {
            return true;
        }
    }
    return false;
}

static void drop_replaced(struct registry_members *members) {
    bool drop[REGISTRY_MEMBER_COUNT_MAX];
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++) {
        drop[i] = is_replaced(members, i);
    }
    for (size_t i = 0; i < members->count; i++) {
        if (!drop[i]) {
            members->at[count++] = members->at[i];
        }
    }
    members->count = count;
}

static int compare_ids(const void *a, const void *b) {
    uint64_t a_id = ((const struct auth_instance *)a)->id;
    uint64_t b_id = ((const struct auth_instance *)b)->id;
    return (a_id > b_id) - (a_id < b_id);
}

static RC sort(const struct reading *r) {
    struct registry_members *members = r->out;
    qsort(members->at, members->count, sizeof(members->at[0]), compare_ids);
    for (size_t i = 1; i < members->count; i++) {
        if (members->at[i].id == members->at[i - 1].id) {
            return chain_refuse_text(r->chain, ABI_GET_ACTIVE_INSTANCES,
                                     "an instance must not be in it twice", r->reason);
        }
    }
    return OK;
}

static RC read_members(struct reading *r) {
    struct versions versions;
    TRY(read_app(r));
    for (size_t at = 0; at < r->wallet_count; at += BATCH_COUNT) {
        size_t left = r->wallet_count - at;
        TRY(read_instances(r, at, left < BATCH_COUNT ? left : BATCH_COUNT));
    }
    TRY(sort(r));
    list_versions(r->out, &versions);
    for (size_t at = 0; at < versions.count; at += BATCH_COUNT) {
        size_t left = versions.count - at;
        TRY(read_versions(r, versions.at + at, left < BATCH_COUNT ? left : BATCH_COUNT));
    }
    keep_members(r, &versions);
    drop_replaced(r->out);
    return OK;
}

RC chain_members(struct chain *chain, struct registry_members *out,
                 char reason[static REGISTRY_REASON_BYTES]) {
    out->count = 0;
    out->as_of_mono_ms = 0;
    out->head_block = 0;
    reason[0] = '\0';
    TRY(chain_refresh_head(chain, false, reason));
    AUTO(reading_close)
    struct reading r = {
        .chain = chain, .block = chain->head.number, .out = out, .reason = reason
    };
    r.wallets = calloc(CHAIN_ACTIVE_COUNT_MAX, sizeof(*r.wallets));
    ENSURE(r.wallets != NULL, NOMEM);
    struct rc rc = read_members(&r);
    if (rc.err != E_OK) {
        out->count = 0;
        return rc;
    }
    out->as_of_mono_ms = chain->as_of_mono_ms;
    out->head_block = r.block;
    return OK;
}
