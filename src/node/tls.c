/* SPDX-License-Identifier: Apache-2.0 */
/* The node's TLS credential and its renewal. */
#include "base/clock.h"
#include "base/log.h"
#include "identity/credential.h"
#include "node/internal.h"

#define LIFETIME_S 86400u
#define RETRY_MS 30000u

static const char *const protocols[] = { TLS_ALPN_NOVAKMS, TLS_ALPN_HTTP, NULL };

static uint64_t verify_now_unix_s(void *ctx) {
    const struct node *node = ctx;
    return node_unix_ms(node) / 1000;
}

RC node_tls_make(struct node *node, struct tls_config **out, struct status *why) {
    const struct node_config *config = node->cfg->config;
    const struct identity_credential_cfg cfg = {
        .signer = &node->cfg->signer,
        .chain_id = config->chain_id,
        .host = node->cfg->host,
        .not_before_unix_s = node_unix_ms(node) / 1000,
        .lifetime_s = LIFETIME_S,
    };
    AUTO(identity_credential_close) struct identity_credential *credential = NULL;
    TRY(identity_credential_make(&credential, &cfg, why));
    const struct tls_server_cfg server = {
        .credential = credential,
        .verify = { .chain_id = config->chain_id,
                    .skew_s = (config->clock_skew_max_ms + 999) / 1000,
                    .now_unix_s = verify_now_unix_s,
                    .ctx = node },
        .alpn = protocols,
    };
    struct rc rc = tls_config_server(out, &server);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INTERNAL, "the TLS configuration cannot be made: %s",
                   err_text(rc.err));
    }
    return rc;
}

static void renew_cb(uv_timer_t *timer);

static void set_renew_timer(struct node *node, uint64_t delay_ms) {
    ASSERT(uv_timer_start(&node->renew_timer, renew_cb, delay_ms, 0) == 0);
}

/* On a thread of libuv's pool: the signer may be across a network. */
static void work_cb(uv_work_t *work) {
    struct node *node = work->data;
    node->renewed = NULL;
    struct rc rc = node_tls_make(node, &node->renewed, &node->renew_why);
    ASSERT((rc.err == E_OK) == (node->renewed != NULL));
}

static void after_work_cb(uv_work_t *work, int uv_status) {
    struct node *node = work->data;
    node->renewing = false;
    if (node->phase == NODE_STOPPED) {
        tls_config_close(&node->renewed);
        return;
    }
    if (uv_status != 0 || node->renewed == NULL) {
        LOG(WARN, "tls.renew", "failed reason=\"%s\" retry_ms=%u", node->renew_why.text, RETRY_MS);
        if (node_unix_ms(node) / 1000 >= node->not_after_unix_s) {
            node_set_gate(node, SERVICE_GATE_IDENTITY, "the TLS credential could not be renewed");
        }
        set_renew_timer(node, RETRY_MS);
        return;
    }
    net_server_set_tls(node->server, node->renewed);
    node_set_gate(node, SERVICE_GATE_IDENTITY, NULL);
    node_tls_watch(node, node->renewed);
    tls_config_close(&node->renewed);
    LOG(INFO, "tls.renew", "done not_after=%llu", (unsigned long long)node->not_after_unix_s);
}

static void renew_cb(uv_timer_t *timer) {
    struct node *node = timer->data;
    node->renew_work.data = node;
    if (uv_queue_work(&node->loop, &node->renew_work, work_cb, after_work_cb) != 0) {
        set_renew_timer(node, RETRY_MS);
        return;
    }
    node->renewing = true;
}

void node_tls_watch(struct node *node, struct tls_config *in_use) {
    node->not_after_unix_s = identity_credential_not_after_unix_s(tls_config_credential(in_use));
    set_renew_timer(node, (uint64_t)LIFETIME_S * 1000 / 2);
}
