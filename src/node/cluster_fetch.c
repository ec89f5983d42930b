/* SPDX-License-Identifier: Apache-2.0 */
/* Gets the master secret from a member: one after the other in random order, until one gives what
 * opens, names both wallets, the hash and our nonce, and has the hash that is wanted. Whatever else
 * a member answers costs time, and nothing more. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "crypto/random.h"
#include "node/cluster_internal.h"
#include "node/secret_text.h"
#include "service/peer_service.h"

#define SENTENCE_BYTES 160

/* One member's answer. */
struct fetching {
    struct cluster_job job; /* First. */
    struct cluster *cluster;
    const struct auth_instance *member;
    struct peer *peer;
    const struct bootstrap_hash *wanted;
    uint8_t nonce[PEER_NONCE_BYTES];
    struct wallet self;
    struct rc rc; /* What came of it, */
    char why[SENTENCE_BYTES];
    uint8_t sender[AUTH_TEE_PUBKEY_BYTES_MAX];
    size_t sender_len;
    struct identity_odyn_sealed sealed;
};

/* ---- On the cluster's thread ---- */

static void finish(struct fetching *f, struct rc rc, const char *why) {
    f->rc = rc;
    cluster_plain(why, f->why, sizeof(f->why));
    cluster_job_done(f->cluster, &f->job);
}

static void on_secret(const Novakms__V1__FetchMasterSecretResponse *answer, void *closure_data) {
    struct fetching *f = closure_data;
    if (answer == NULL) {
        finish(f, ERR(UNAVAILABLE), net_channel_outcome(f->peer->channel)->status.text);
        return;
    }
    if (answer->seal_nonce.len != sizeof(f->sealed.nonce) ||
        answer->sender_public_key.len > sizeof(f->sender) ||
        answer->sealed.len > SERVICE_SHARE_BYTES_MAX) {
        finish(f, ERR(MALFORMED), "its answer has fields of wrong sizes");
        return;
    }
    memcpy(f->sealed.nonce, answer->seal_nonce.data, sizeof(f->sealed.nonce));
    memcpy(f->sealed.bytes, answer->sealed.data, answer->sealed.len);
    f->sealed.len = answer->sealed.len;
    memcpy(f->sender, answer->sender_public_key.data, answer->sender_public_key.len);
    f->sender_len = answer->sender_public_key.len;
    finish(f, OK, "");
}

static void start(struct cluster *c, struct cluster_job *job) {
    struct fetching *f = (struct fetching *)(void *)job;
    const struct service_shared *shared = c->cfg.shared;
    struct replica_state state;
    f->peer = cluster_reach(c, f->member);
    if (f->peer == NULL || f->peer->channel == NULL) {
        finish(f, ERR(UNAVAILABLE),
               f->peer == NULL || f->peer->why[0] == '\0' ? "there is no connection to it"
                                                          : f->peer->why);
        return;
    }
    const struct replica_now now = cluster_now(c);
    const struct store *store = service_kv_lock(shared->kv);
    replica_own_state(shared->replica, store, &now, &state);
    service_kv_unlock(shared->kv, false);
    Novakms__V1__FetchMasterSecretRequest request = NOVAKMS__V1__FETCH_MASTER_SECRET_REQUEST__INIT;
    ProtobufCService *service =
        net_channel_service(f->peer->channel, &novakms__v1__peer_service__descriptor);
    if (service == NULL || peer_state_out(&state, &c->out, &request.state).err != E_OK) {
        arena_reset(&c->out);
        finish(f, ERR(NOMEM), "memory is out");
        return;
    }
    uint8_t wanted[BOOTSTRAP_HASH_BYTES];
    memcpy(wanted, f->wanted->bytes, sizeof(wanted));
    request.wanted_hash = (ProtobufCBinaryData){ sizeof(wanted), wanted };
    request.nonce = (ProtobufCBinaryData){ sizeof(f->nonce), f->nonce };
    net_channel_set_timeout(f->peer->channel, c->cfg.fetch_timeout_ms);
    novakms__v1__peer_service__fetch_master_secret(service, &request, on_secret, f);
    arena_reset(&c->out);
}

/* ---- On the driver's working thread ---- */

static RC refuse(struct fetching *f, const char *why) {
    (void)snprintf(f->why, sizeof(f->why), "%s", why);
    return ERR(BAD_AUTH);
}

/* What the envelope holds must be about us, it, our nonce and the wanted hash. */
static RC check_text(struct fetching *f, struct span text, struct kdf_master *out) {
    AUTO(secret_close) struct secret bytes = { 0 };
    struct secret_text said;
    TRY(secret_init(&bytes, KDF_MASTER_BYTES));
    if (secret_text_read(text, bytes.ptr, &said).err != E_OK) {
        return refuse(f, "what it sealed has another form");
    }
    const struct span wanted = { f->wanted->bytes, KDF_HASH_BYTES };
    if (!span_equal((struct span){ said.nonce, sizeof(said.nonce) },
                    (struct span){ f->nonce, sizeof(f->nonce) })) {
        return refuse(f, "what it sealed was not made for this request");
    }
    if (!wallet_equal(&said.from, &f->member->wallet) || !wallet_equal(&said.to, &f->self)) {
        return refuse(f, "what it sealed names other wallets");
    }
    if (!span_equal((struct span){ said.hash, sizeof(said.hash) }, wanted)) {
        return refuse(f, "what it sealed names another hash");
    }
    TRY(kdf_master_init(out, bytes.ptr));
    if (!span_equal((struct span){ out->hash, sizeof(out->hash) }, wanted)) {
        kdf_master_close(out);
        return refuse(f, "the secret that it sealed has another hash");
    }
    return OK;
}

static bool show_odyn(struct cluster *c, struct identity_odyn *odyn) {
    (void)pthread_mutex_lock(&c->mutex);
    c->odyn = odyn;
    bool is_cancelled = c->is_cancelled;
    (void)pthread_mutex_unlock(&c->mutex);
    return !is_cancelled;
}

static RC decrypt(struct fetching *f, struct identity_odyn *odyn, struct kdf_master *out) {
    AUTO(secret_close) struct secret text = { 0 };
    struct envelope_public sender;
    struct status why = { 0 };
    const struct span said = { f->sender, f->sender_len };
    const struct span registered = { f->member->tee_pubkey, f->member->tee_pubkey_len };
    if (!span_equal(said, registered) || envelope_public_parse(registered, &sender).err != E_OK) {
        return refuse(f, "its key is not the one in the registry");
    }
    struct rc rc = identity_odyn_address(odyn, &f->self, &why);
    if (rc.err == E_OK) {
        rc = identity_odyn_decrypt(odyn, &f->sealed, &sender, &text, &why);
    }
    if (rc.err != E_OK) {
        (void)snprintf(f->why, sizeof(f->why), "%.150s", why.text);
        return rc;
    }
    return check_text(f, (struct span){ text.ptr, text.len }, out);
}

static RC open_answer(struct fetching *f, struct kdf_master *out) {
    struct cluster *c = f->cluster;
    const struct identity_odyn_cfg cfg = { .base_url = c->cfg.config->odyn_url };
    struct identity_odyn *odyn = NULL;
    struct status why = { 0 };
    TRY(identity_odyn_init(&odyn, &cfg, &why));
    struct rc rc = show_odyn(c, odyn) ? decrypt(f, odyn, out) : ERR(CLOSED);
    (void)show_odyn(c, NULL);
    identity_odyn_close(&odyn);
    return rc;
}

static RC fetch_one(struct fetching *f, struct kdf_master *out) {
    f->job = (struct cluster_job){ .start = start };
    f->why[0] = '\0';
    TRY(random_bytes(f->nonce, sizeof(f->nonce)));
    ENSURE(cluster_job_run(f->cluster, &f->job), CLOSED);
    TRY(f->rc);
    return open_answer(f, out);
}

static void count(struct cluster *c, bool is_good) {
    (void)pthread_mutex_lock(&c->mutex);
    *(is_good ? &c->stats.fetched_count : &c->stats.fetch_failed_count) += 1;
    (void)pthread_mutex_unlock(&c->mutex);
}

/* A random place to begin at is enough of an order: the load spreads, and all have their turn. */
static size_t random_below(size_t end) {
    uint32_t number = 0;
    struct rc rc = random_bytes((uint8_t *)&number, sizeof(number));
    ASSERT(rc.err == E_OK);
    return number % end;
}

static RC fetch_any(struct fetching *f, const struct registry_members *members,
                    struct kdf_master *out, char *reason) {
    struct rc rc = ERR(UNAVAILABLE);
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "there is no other member");
    size_t first = members->count == 0 ? 0 : random_below(members->count);
    for (size_t i = 0; i < members->count; i++) {
        char wallet[WALLET_TEXT_BYTES];
        f->member = &members->at[(first + i) % members->count];
        rc = fetch_one(f, out);
        count(f->cluster, rc.err == E_OK);
        (void)wallet_format(&f->member->wallet, wallet);
        if (rc.err == E_OK) {
            LOG(INFO, "secret.fetched", "from=%s", wallet);
            return OK;
        }
        const char *why = f->why[0] == '\0' ? err_text(rc.err) : f->why;
        LOG_LIMITED(WARN, "secret.fetch", "failed from=%s reason=\"%s\"", wallet, why);
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%.42s: %.140s", wallet, why);
        if (rc.err == E_CLOSED) {
            break;
        }
    }
    return rc;
}

RC cluster_fetch(void *ctx, const struct registry_members *members,
                 const struct bootstrap_hash *wanted, struct kdf_master *out,
                 char reason[static REGISTRY_REASON_BYTES]) {
    *out = (struct kdf_master){ 0 };
    struct fetching *f = calloc(1, sizeof(*f));
    ENSURE(f != NULL, NOMEM);
    f->cluster = ctx;
    f->wanted = wanted;
    struct rc rc = fetch_any(f, members, out, reason);
    free(f);
    return rc;
}
