/* SPDX-License-Identifier: Apache-2.0 */
/* The node's TLS credential and its renewal. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "identity/credential.h"
#include "node/internal.h"

/* A client that pins the certificate, with a TLS stack that allows no skew and a clock that is a
 * little behind, would find it not yet valid. */
#define BACKDATE_S 60u
/* After a first failure; doubles with each, up to RETRY_MAX_MS. */
#define RETRY_MIN_MS 500u
#define RETRY_MAX_MS 30000u

static const char *const protocols[] = { TLS_ALPN_NOVAKMS, TLS_ALPN_HTTP, NULL };

static uint64_t verify_now_unix_s(void *ctx) {
    const struct node *node = ctx;
    return node_unix_ms(node) / 1000;
}

static RC make_with(struct node *node, const struct identity_signer *signer,
                    struct tls_config **out, struct status *why) {
    const struct node_config *config = node->cfg->config;
    const struct identity_credential_cfg cfg = {
        .signer = signer,
        .chain_id = config->chain_id,
        .host = node->cfg->host,
        .not_before_unix_s = node_unix_ms(node) / 1000 - BACKDATE_S,
        .lifetime_s = (uint32_t)config->tls_lifetime_s,
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

/* What connections to other members use, with the credential of this one. */
static RC make_client(struct node *node, struct tls_config *server, struct tls_config **out) {
    const struct node_config *config = node->cfg->config;
    const struct tls_client_cfg client = {
        .credential = tls_config_credential(server),
        .verify = { .chain_id = config->chain_id,
                    .skew_s = (config->clock_skew_max_ms + 999) / 1000,
                    .now_unix_s = verify_now_unix_s,
                    .ctx = node },
        .alpn = TLS_ALPN_NOVAKMS,
        .needs_tls13 = config_build_needs_tls13(),
    };
    return tls_config_client(out, &client);
}

/* Lends odyn to node_live_stop while it is used. */
static bool show_odyn(struct node *node, struct identity_odyn *odyn) {
    (void)pthread_mutex_lock(&node->live_mutex);
    node->signer_odyn = odyn;
    bool is_closing = node->is_closing;
    (void)pthread_mutex_unlock(&node->live_mutex);
    return !is_closing;
}

static RC make_by_odyn(struct node *node, struct identity_odyn *odyn, struct tls_config **out,
                       struct status *why) {
    struct identity_signer signer;
    TRY(identity_odyn_signer(odyn, &signer, why));
    struct rc rc = make_with(node, &signer, out, why);
    if (rc.err != E_OK && identity_odyn_signer_why(odyn)->text[0] != '\0') {
        *why = *identity_odyn_signer_why(odyn);
    }
    return rc;
}

/* On chain each credential is made with a client of its own: it signs as the wallet that Odyn has
 * now, and the driver's client belongs to another thread. */
RC node_tls_make(struct node *node, struct tls_config **out, struct status *why) {
    if (!node->cfg->is_on_chain) {
        return make_with(node, &node->cfg->signer, out, why);
    }
    const struct identity_odyn_cfg cfg = { .base_url = node->cfg->config->odyn_url };
    struct identity_odyn *odyn = NULL;
    TRY(identity_odyn_init(&odyn, &cfg, why));
    struct rc rc = show_odyn(node, odyn) ? make_by_odyn(node, odyn, out, why) : ERR(CLOSED);
    (void)show_odyn(node, NULL);
    identity_odyn_close(&odyn);
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

static void retry_later(struct node *node) {
    uint32_t doublings = node->renew_failure_count < 6 ? node->renew_failure_count : 6;
    uint32_t delay_ms = RETRY_MIN_MS << doublings;
    delay_ms = delay_ms < RETRY_MAX_MS ? delay_ms : RETRY_MAX_MS;
    node->renew_failure_count++;
    LOG(WARN, "tls.renew", "failed reason=\"%s\" retry_ms=%u", node->renew_why.text, delay_ms);
    set_renew_timer(node, delay_ms);
}

static void say_without(struct node *node) {
    bool has_none = node->not_after_unix_s == 0;
    if (has_none || node_unix_ms(node) / 1000 >= node->not_after_unix_s) {
        char reason[SERVICE_REASON_BYTES];
        (void)snprintf(reason, sizeof(reason), "the TLS credential could not be %s: %.150s",
                       has_none ? "made" : "renewed", node->renew_why.text);
        node_set_gate(node, SERVICE_GATE_IDENTITY, reason);
    }
}

/* On chain the first credential opens the port. */
static bool use_renewed(struct node *node) {
    if (node->cfg->is_on_chain) {
        AUTO(tls_config_close) struct tls_config *client = NULL;
        node->rc = make_client(node, node->renewed, &client);
        if (node->rc.err != E_OK) {
            return false;
        }
        cluster_set_tls(node->cluster, client);
    }
    net_server_set_tls(node->server, node->renewed);
    if (net_server_port(node->server) != 0 || node->phase == NODE_DRAINING) {
        return true;
    }
    node->rc = net_server_listen(node->server, node->why);
    return node->rc.err == E_OK;
}

static bool is_of_wallet(const struct node *node) {
    const struct identity_credential *credential = tls_config_credential(node->renewed);
    return wallet_equal(identity_credential_wallet(credential), &node->wallet);
}

static void finish_renewal(struct node *node) {
    if (!is_of_wallet(node)) {
        status_set(&node->renew_why, STATUS_FAILED_PRECONDITION,
                   "Odyn signed with another wallet than it named");
        retry_later(node);
        return;
    }
    if (!use_renewed(node)) {
        uv_stop(&node->loop);
        return;
    }
    node->renew_failure_count = 0;
    node_tls_watch(node, node->renewed);
    node_set_gate(node, SERVICE_GATE_IDENTITY, NULL);
    LOG(INFO, "tls.renew", "done not_after=%llu port=%u",
        (unsigned long long)node->not_after_unix_s, (unsigned)net_server_port(node->server));
}

static void after_work_cb(uv_work_t *work, int uv_status) {
    struct node *node = work->data;
    node->renewing = false;
    if (node->phase == NODE_STOPPED) {
        tls_config_close(&node->renewed);
        return;
    }
    if (node->renew_again) {
        set_renew_timer(node, 0);
    } else if (uv_status != 0 || node->renewed == NULL) {
        say_without(node);
        retry_later(node);
    } else {
        finish_renewal(node);
    }
    tls_config_close(&node->renewed);
}

static void renew_cb(uv_timer_t *timer) {
    struct node *node = timer->data;
    node->renew_work.data = node;
    if (uv_queue_work(&node->loop, &node->renew_work, work_cb, after_work_cb) != 0) {
        set_renew_timer(node, RETRY_MAX_MS);
        return;
    }
    node->renew_again = false;
    node->renewing = true;
}

void node_tls_renew(struct node *node) {
    node_set_gate(node, SERVICE_GATE_IDENTITY, "the TLS credential of the wallet is being made");
    node->not_after_unix_s = 0; /* The one in use is of no wallet that counts. */
    service_status_set_tls(node->status, 0);
    if (node->renewing) {
        node->renew_again = true;
    } else {
        set_renew_timer(node, 0);
    }
}

void node_tls_watch(struct node *node, struct tls_config *in_use) {
    node->not_after_unix_s = identity_credential_not_after_unix_s(tls_config_credential(in_use));
    service_status_set_tls(node->status, node->not_after_unix_s);
    uint64_t ahead_s = node->cfg->config->tls_lifetime_s - BACKDATE_S;
    set_renew_timer(node, ahead_s * 1000 / 2);
}
