/* SPDX-License-Identifier: Apache-2.0 */
#include "node/duties.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth/rules.h"
#include "base/clock.h"
#include "base/log.h"
#include "node/hash_tx.h"
#include "registry/chain.h"
#include "registry/url.h"

struct duties {
    struct duties_cfg cfg;
    struct chain *chain;
    pthread_mutex_t mutex; /* Of odyn, as a pointer, against duties_cancel. */
    struct identity_odyn *odyn;
    atomic_bool is_cancelled; /* Lent to chain. */
    struct hash_tx tx;
    struct kdf_master pending;
    struct registry_members *others; /* As of the last MEMBERSHIP. */
    struct wallet wallet;            /* As of the last IDENTITY. */
    /* What an event lends. */
    uint8_t tee_pubkey[ENVELOPE_DER_BYTES];
    struct auth_facts facts;
    char verdict[BOOTSTRAP_REASON_BYTES];
    char reason[REGISTRY_REASON_BYTES];
};

/* ---- Life ---- */

static RC open_odyn(struct duties *duties, struct status *why) {
    const struct identity_odyn_cfg cfg = { .base_url = duties->cfg.config->odyn_url };
    struct identity_odyn *fresh = NULL;
    TRY(identity_odyn_init(&fresh, &cfg, why));
    (void)pthread_mutex_lock(&duties->mutex);
    struct identity_odyn *old = duties->odyn;
    duties->odyn = fresh;
    if (atomic_load(&duties->is_cancelled)) {
        identity_odyn_cancel(fresh);
    }
    (void)pthread_mutex_unlock(&duties->mutex);
    identity_odyn_close(&old);
    return OK;
}

static RC open_chain(struct duties *duties, struct status *why) {
    const struct node_config *config = duties->cfg.config;
    const struct registry_chain_cfg cfg = config_chain(config, &duties->is_cancelled);
    char reason[REGISTRY_REASON_BYTES];
    struct rc rc = chain_init(&duties->chain, &cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s", reason);
    }
    return rc;
}

RC duties_init(struct duties **out, const struct duties_cfg *cfg, struct status *why) {
    *out = NULL;
    struct duties *made = calloc(1, sizeof(*made));
    ENSURE(made != NULL, NOMEM);
    ASSERT(pthread_mutex_init(&made->mutex, NULL) == 0);
    AUTO(duties_close) struct duties *duties = made;
    duties->cfg = *cfg;
    duties->others = calloc(1, sizeof(*duties->others));
    ENSURE(duties->others != NULL, NOMEM);
    TRY(open_odyn(duties, why));
    TRY(open_chain(duties, why));
    *out = duties;
    duties = NULL;
    return OK;
}

void duties_close(struct duties **duties) {
    struct duties *self = *duties;
    if (self == NULL) {
        return;
    }
    chain_close(&self->chain);
    identity_odyn_close(&self->odyn);
    kdf_master_close(&self->pending);
    (void)pthread_mutex_destroy(&self->mutex);
    free(self->others);
    free(self);
    *duties = NULL;
}

void duties_cancel(struct duties *duties) {
    (void)pthread_mutex_lock(&duties->mutex);
    atomic_store(&duties->is_cancelled, true);
    identity_odyn_cancel(duties->odyn);
    (void)pthread_mutex_unlock(&duties->mutex);
}

void duties_take_secret(struct duties *duties, struct kdf_master *out) {
    ASSERT(out->secret.ptr == NULL);
    *out = duties->pending;
    duties->pending = (struct kdf_master){ 0 };
}

/* ---- Identity ---- */

static RC say_status(struct duties *duties, struct rc rc, const struct status *why) {
    (void)snprintf(duties->reason, sizeof(duties->reason), "%.190s",
                   why->text[0] == '\0' ? err_text(rc.err) : why->text);
    return rc;
}

static RC ask_identity(struct duties *duties, struct wallet *wallet, struct envelope_public *key) {
    struct status why = { 0 };
    struct rc rc = identity_odyn_address(duties->odyn, wallet, &why);
    if (rc.err == E_OK) {
        rc = identity_odyn_encryption_key(duties->odyn, key, &why);
    }
    return rc.err == E_OK ? OK : say_status(duties, rc, &why);
}

/* An Odyn that has restarted names another wallet or key. The client holds on to the first ones, so
 * a new client takes its place: this process is then another member, if the registry says so. */
static RC do_identity(struct duties *duties, struct bootstrap_identity *out) {
    struct envelope_public key;
    struct status why = { 0 };
    struct rc rc = ask_identity(duties, &out->wallet, &key);
    if (rc.err == E_BAD_AUTH) {
        LOG(WARN, "identity.changed", "reason=\"%s\"", duties->reason);
        rc = open_odyn(duties, &why);
        if (rc.err != E_OK) {
            return say_status(duties, rc, &why);
        }
        rc = ask_identity(duties, &out->wallet, &key);
    }
    TRY(rc);
    envelope_public_write(&key, duties->tee_pubkey);
    out->tee_pubkey = (struct span){ duties->tee_pubkey, sizeof(duties->tee_pubkey) };
    duties->wallet = out->wallet;
    return OK;
}

static RC do_generate(struct duties *duties, struct bootstrap_hash *out) {
    AUTO(secret_close) struct secret bytes = { 0 };
    struct status why = { 0 };
    struct rc rc = identity_odyn_random(duties->odyn, &bytes, &why);
    if (rc.err != E_OK) {
        return say_status(duties, rc, &why);
    }
    ASSERT(bytes.len == KDF_MASTER_BYTES);
    kdf_master_close(&duties->pending);
    rc = kdf_master_init(&duties->pending, bytes.ptr);
    if (rc.err != E_OK) {
        return say_status(duties, rc, &why);
    }
    memcpy(out->bytes, duties->pending.hash, sizeof(out->bytes));
    return OK;
}

/* ---- Chain ---- */

static void drop_self(struct registry_members *members, const struct wallet *self) {
    size_t kept = 0;
    for (size_t i = 0; i < members->count; i++) {
        if (!wallet_equal(&members->at[i].wallet, self)) {
            members->at[kept] = members->at[i];
            kept++;
        }
    }
    members->count = kept;
}

/* The others count only for a member: a refusal does not wait for their list. */
static RC do_membership(struct duties *duties, struct bootstrap_membership *out) {
    const struct node_config *config = duties->cfg.config;
    struct auth_facts *facts = &duties->facts;
    struct auth_facts confirmed;
    TRY(chain_read_instance(duties->chain, &duties->wallet, facts, &confirmed, duties->reason));
    enum auth_verdict verdict = auth_judge(facts, AUTH_PEER, config->kms_app_id);
    char text[WALLET_TEXT_BYTES];
    (void)snprintf(duties->verdict, sizeof(duties->verdict), "wallet %s: %s",
                   wallet_format(&duties->wallet, text), auth_verdict_text(verdict));
    *out = (struct bootstrap_membership){
        .is_permitted = verdict == AUTH_VERDICT_PERMITTED,
        .verdict = duties->verdict,
        .wallet = facts->instance.wallet,
        .tee_pubkey = { facts->instance.tee_pubkey, facts->instance.tee_pubkey_len },
        .is_same_url = registry_url_equal(config->node_url, facts->instance.url),
        .as_of_mono_ms = facts->as_of_mono_ms,
    };
    if (!out->is_permitted) {
        return OK;
    }
    TRY(chain_members(duties->chain, duties->others, duties->reason));
    drop_self(duties->others, &duties->wallet);
    out->other_count = (uint32_t)duties->others->count;
    if (duties->others->as_of_mono_ms < out->as_of_mono_ms) {
        out->as_of_mono_ms = duties->others->as_of_mono_ms;
    }
    return OK;
}

static RC do_hash(struct duties *duties, struct bootstrap_hashes *out) {
    struct chain_secret_hash hash;
    TRY(chain_read_secret_hash(duties->chain, &hash, duties->reason));
    memcpy(out->latest.bytes, hash.latest, sizeof(out->latest.bytes));
    memcpy(out->confirmed.bytes, hash.confirmed, sizeof(out->confirmed.bytes));
    out->as_of_mono_ms = hash.as_of_mono_ms;
    return OK;
}

static struct hash_tx_world world_of(const struct duties *duties) {
    const struct node_config *config = duties->cfg.config;
    return (struct hash_tx_world){
        .chain = duties->chain,
        .odyn = duties->odyn,
        .sender = duties->wallet,
        .kms_registry = config->kms_registry,
        .chain_id = config->chain_id,
        .now_ms = clock_mono_ms(),
        .stuck_ms = duties->cfg.tx_stuck_ms,
    };
}

static RC do_send(struct duties *duties, const struct bootstrap_action *action,
                  enum bootstrap_tx *out) {
    const struct hash_tx_world world = world_of(duties);
    TRY(hash_tx_send(&duties->tx, &world, action, duties->reason));
    *out = BOOTSTRAP_TX_SENT;
    const struct eip1559_tx *tx = &duties->tx.tx;
    LOG(INFO, "bootstrap.tx", "nonce=%llu max_fee_wei=%llu resend=%d dearer=%d",
        (unsigned long long)tx->nonce, (unsigned long long)tx->max_fee_per_gas_wei,
        (int)action->is_resend, (int)action->is_dearer);
    return OK;
}

/* ---- Tasks ---- */

static RC run(struct duties *duties, const struct bootstrap_action *action,
              struct bootstrap_event *event) {
    const struct node_peers *peers = duties->cfg.peers;
    struct hash_tx_world world;
    switch (action->task) {
    case BOOTSTRAP_IDENTITY:
        return do_identity(duties, &event->result.identity);
    case BOOTSTRAP_MEMBERSHIP:
        return do_membership(duties, &event->result.membership);
    case BOOTSTRAP_HASH:
        return do_hash(duties, &event->result.hashes);
    case BOOTSTRAP_PEERS:
        return peers->ask(peers->ctx, duties->others, &action->hash, &event->result.peers,
                          duties->reason);
    case BOOTSTRAP_GENERATE:
        return do_generate(duties, &event->result.secret_hash);
    case BOOTSTRAP_SEND_TX:
        return do_send(duties, action, &event->result.tx);
    case BOOTSTRAP_CHECK_TX:
        world = world_of(duties);
        return hash_tx_check(&duties->tx, &world, &event->result.tx, duties->reason);
    case BOOTSTRAP_FETCH:
        kdf_master_close(&duties->pending);
        TRY(peers->fetch(peers->ctx, duties->others, &action->hash, &duties->pending,
                         duties->reason));
        memcpy(event->result.secret_hash.bytes, duties->pending.hash, BOOTSTRAP_HASH_BYTES);
        return OK;
    case BOOTSTRAP_SNAPSHOT:
        return peers->snapshot(peers->ctx, duties->others, duties->reason);
    case BOOTSTRAP_TASK_COUNT:
        break;
    }
    return ERR(INVALID);
}

void duties_do(struct duties *duties, const struct bootstrap_action *action,
               struct bootstrap_event *event) {
    duties->reason[0] = '\0';
    *event = (struct bootstrap_event){ .task = action->task, .ticket = action->ticket };
    struct rc rc = run(duties, action, event);
    if (rc.err == E_OK) {
        return;
    }
    if (duties->reason[0] == '\0') {
        (void)snprintf(duties->reason, sizeof(duties->reason), "%s", err_text(rc.err));
    }
    event->reason = duties->reason;
}
