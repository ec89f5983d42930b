/* SPDX-License-Identifier: Apache-2.0 */
#include "client/members.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "registry/chain.h"
#include "registry/file.h"

/* ---- Opening ---- */

bool client_members_are_given(const struct novakms_cfg *cfg) {
    return cfg->registry_path != NULL || cfg->rpc_url != NULL;
}

static RC refuse(struct status *why, const char *text) {
    status_set(why, STATUS_INVALID_ARGUMENT, "%s", text);
    return ERR(INVALID);
}

static RC check_cfg(const struct novakms_cfg *cfg, struct status *why) {
    if (cfg->rpc_url != NULL && cfg->registry_path != NULL) {
        return refuse(why,
                      "one registry may be given: registry_path (a file) or rpc_url (a chain)");
    }
    if (cfg->rpc_url == NULL && cfg->registry_address != NULL) {
        return refuse(why, "registry_address needs rpc_url, to read the chain through");
    }
    if (cfg->registry_ttl_ms > CLIENT_LIST_TTL_MAX_MS) {
        return refuse(why, "registry_ttl_ms must be at most 86400000");
    }
    return OK;
}

static RC open_file(struct client_members *m, const struct novakms_cfg *cfg, struct status *why) {
    const struct registry_file_cfg file_cfg = { .path = cfg->registry_path,
                                                .recheck_ms = REGISTRY_FILE_RECHECK_MS_DEFAULT };
    char reason[REGISTRY_REASON_BYTES] = "";
    struct rc rc = registry_file_init(&m->source, &file_cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s",
                   reason[0] == '\0' ? err_text(rc.err) : reason);
    }
    return rc;
}

/* Nothing of this is asked of the chain: whoever answers for it could name another registry. */
static RC open_chain(struct client_members *m, const struct novakms_cfg *cfg, struct status *why) {
    struct registry_chain_cfg chain_cfg = { .rpc_url = cfg->rpc_url,
                                            .chain_id = cfg->chain_id,
                                            .members_only = true,
                                            .kms_app_id = cfg->kms_app_id,
                                            .timeout_ms = CLIENT_RPC_TIMEOUT_MS,
                                            .total_ms = CLIENT_RPC_TOTAL_MS,
                                            .attempt_count_max = CLIENT_RPC_ATTEMPT_COUNT,
                                            .head_reuse_ms = 1, /* A read is of now. */
                                            .stop = &m->stop };
    if (chain_cfg.chain_id == 0) {
        chain_cfg.chain_id = NOVAKMS_CHAIN_ID_DEFAULT;
    }
    if (cfg->kms_app_id == 0) {
        return refuse(why, "rpc_url needs kms_app_id, the app whose instances are KMS nodes");
    }
    if (cfg->registry_address == NULL ||
        wallet_parse(span_str(cfg->registry_address), &chain_cfg.nova_app_registry).err != E_OK ||
        wallet_is_zero(&chain_cfg.nova_app_registry)) {
        return refuse(why, "rpc_url needs registry_address, the address of NovaAppRegistry: 0x and "
                           "40 hex digits");
    }
    char reason[REGISTRY_REASON_BYTES] = "";
    struct rc rc = registry_chain_init(&m->source, &chain_cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s",
                   reason[0] == '\0' ? err_text(rc.err) : reason);
    }
    return rc;
}

RC client_members_init(struct client_members *m, const struct novakms_cfg *cfg,
                       struct status *why) {
    TRY(check_cfg(cfg, why));
    if (!client_members_are_given(cfg)) {
        return OK;
    }
    m->is_chain = cfg->rpc_url != NULL;
    m->ttl_ms = cfg->registry_ttl_ms == 0 ? CLIENT_LIST_TTL_DEFAULT_MS : cfg->registry_ttl_ms;
    m->work.data = m;
    m->latest = calloc(1, sizeof(*m->latest));
    m->next = calloc(1, sizeof(*m->next));
    ENSURE(m->latest != NULL && m->next != NULL, NOMEM);
    return m->is_chain ? open_chain(m, cfg, why) : open_file(m, cfg, why);
}

void client_members_close(struct client_members *m) {
    ASSERT(!m->is_reading);
    registry_close(&m->source);
    free(m->latest);
    free(m->next);
    m->latest = NULL;
    m->next = NULL;
    m->has_list = false;
}

/* ---- Age ---- */

static uint64_t age_ms(const struct client_members *m) {
    uint64_t now_ms = clock_mono_ms();
    return now_ms > m->latest->as_of_mono_ms ? now_ms - m->latest->as_of_mono_ms : 0;
}

static struct client_list_state state_of(const struct client_members *m) {
    return (struct client_list_state){
        .has_list = m->has_list,
        .age_ms = age_ms(m),
        .ttl_ms = m->ttl_ms,
        .has_failed = m->has_failed,
        .since_failure_ms = m->has_failed ? clock_mono_ms() - m->failed_at_ms : 0,
        .is_outdated = m->is_outdated,
    };
}

enum client_list_plan client_members_plan(const struct client_members *m) {
    const struct client_list_state state = state_of(m);
    return client_policy_list(&state);
}

bool client_members_are_usable(const struct client_members *m) {
    const struct client_list_state state = state_of(m);
    return client_list_is_usable(&state);
}

RC client_members_explain(const struct client_members *m, struct status *why) {
    status_set(why, STATUS_UNAVAILABLE, "the registry cannot be read: %s",
               m->has_failed ? m->failure : "its newest state is too old");
    return ERR(UNAVAILABLE);
}

/* ---- Reading ---- */

static void take_result(struct client_members *m) {
    m->is_reading = false;
    m->is_outdated = false;
    m->has_failed = m->result.err != E_OK;
    if (m->has_failed) {
        m->failed_at_ms = clock_mono_ms();
        (void)snprintf(m->failure, sizeof(m->failure), "%s",
                       m->reason[0] == '\0' ? err_text(m->result.err) : m->reason);
    } else {
        struct registry_members *read = m->next;
        m->next = m->latest;
        m->latest = read;
        m->has_list = true;
    }
    m->read_cb(m->ctx);
}

/* On a thread of the pool. */
static void work(uv_work_t *request) {
    struct client_members *m = request->data;
    uint64_t start_ms = clock_mono_ms();
    m->result = registry_members(m->source, m->next, m->reason);
    if (m->is_chain && err_class(m->result.err) == ERR_RETRY && !atomic_load(&m->stop) &&
        clock_mono_ms() - start_ms < CLIENT_READ_AGAIN_MS) {
        m->result = registry_members(m->source, m->next, m->reason);
    }
}

static void on_worked(uv_work_t *request, int status) {
    struct client_members *m = request->data;
    if (status != 0) { /* It was stopped before it began. */
        m->result = ERR(UNAVAILABLE);
        m->reason[0] = '\0';
    }
    take_result(m);
}

void client_members_read(struct client_members *m) {
    if (m->is_reading) {
        return;
    }
    m->is_reading = true;
    if (!m->is_chain) {
        work(&m->work);
        take_result(m);
        return;
    }
    int error = uv_queue_work(m->loop, &m->work, work, on_worked);
    ASSERT(error == 0); /* Fails only without a function to run. */
}

void client_members_stop(struct client_members *m) {
    atomic_store(&m->stop, true);
    if (m->is_reading) {
        (void)uv_cancel((uv_req_t *)&m->work); /* Works only while no thread has taken it. */
    }
}

/* ---- Who is a node ---- */

static RC check_list(struct client_members *m, const struct wallet *wallet, struct status *why) {
    char text[WALLET_TEXT_BYTES];
    if (!client_members_are_usable(m)) {
        return client_members_explain(m, why);
    }
    for (size_t i = 0; i < m->latest->count; i++) {
        if (wallet_equal(&m->latest->at[i].wallet, wallet)) {
            return OK;
        }
    }
    m->is_outdated = m->is_outdated || age_ms(m) > CLIENT_LIST_RECENT_MS;
    status_set(why, STATUS_UNAUTHENTICATED,
               "its wallet %s is no active, verified instance of app %llu in the registry",
               wallet_format(wallet, text), (unsigned long long)m->source->kms_app_id);
    return ERR(DENIED);
}

static RC check_file(struct client_members *m, const struct wallet *wallet, struct status *why) {
    char text[WALLET_TEXT_BYTES];
    char reason[REGISTRY_REASON_BYTES] = "";
    struct rc rc = registry_check_member(m->source, wallet, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_UNAUTHENTICATED, "its wallet %s is not a KMS member: %s",
                   wallet_format(wallet, text), reason[0] == '\0' ? err_text(rc.err) : reason);
    }
    return rc;
}

RC client_members_check(struct client_members *m, const struct wallet *wallet, struct status *why) {
    return m->is_chain ? check_list(m, wallet, why) : check_file(m, wallet, why);
}
