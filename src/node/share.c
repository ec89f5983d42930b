/* SPDX-License-Identifier: Apache-2.0 */
#include "node/share.h"

#include <pthread.h>
#include <stdlib.h>

#include "auth/rules.h"
#include "base/log.h"
#include "identity/odyn.h"
#include "node/secret_text.h"
#include "registry/chain.h"

struct share {
    struct share_cfg cfg;
    struct chain *chain;      /* The thread's alone. */
    struct auth_facts latest; /* As these two. */
    struct auth_facts confirmed;
    pthread_t thread;
    pthread_mutex_t mutex; /* Guards the rest. */
    pthread_cond_t changed;
    struct identity_odyn *odyn; /* Used by the thread; guarded as a pointer, for the cancel. */
    bool is_stopping;
    struct service_share_ask queue[SHARE_QUEUE_COUNT_MAX]; /* Oldest first. */
    size_t queue_count;
    struct share_stats stats;
};

/* ---- Who asks ---- */

static void refuse(struct service_share_answer *answer, enum status_code code, const char *why) {
    status_set(&answer->why, code, "%s", why);
}

static bool is_member(const struct share *share, const struct auth_facts *facts,
                      struct service_share_answer *answer) {
    enum auth_verdict verdict = auth_judge(facts, AUTH_PEER, share->cfg.config->kms_app_id);
    if (verdict != AUTH_VERDICT_PERMITTED) {
        refuse(answer, STATUS_PERMISSION_DENIED, auth_verdict_text(verdict));
    }
    return verdict == AUTH_VERDICT_PERMITTED;
}

/* At the head, so that a member that was removed just now gets nothing; and at the confirmed block,
 * so that a reorganised chain cannot have let one in. */
static bool judge(struct share *share, const struct service_share_ask *ask,
                  struct envelope_public *receiver, struct service_share_answer *answer) {
    char reason[REGISTRY_REASON_BYTES];
    struct auth_facts *latest = &share->latest;
    struct auth_facts *confirmed = &share->confirmed;
    if (chain_read_instance(share->chain, &ask->wallet, latest, confirmed, reason).err != E_OK) {
        refuse(answer, STATUS_UNAVAILABLE, reason);
        return false;
    }
    if (!is_member(share, latest, answer) || !is_member(share, confirmed, answer)) {
        return false;
    }
    const struct span now = { latest->instance.tee_pubkey, latest->instance.tee_pubkey_len };
    const struct span then = { confirmed->instance.tee_pubkey, confirmed->instance.tee_pubkey_len };
    if (!span_equal(now, then) || envelope_public_parse(now, receiver).err != E_OK) {
        refuse(answer, STATUS_FAILED_PRECONDITION,
               "the registered teePubkey is no P-384 key, or has changed a moment ago");
        return false;
    }
    return true;
}

/* ---- Sealing ---- */

static RC seal_text(struct share *share, struct span text, const struct envelope_public *receiver,
                    struct service_share_answer *answer) {
    struct identity_odyn_sealed sealed;
    struct envelope_public own;
    TRY(identity_odyn_encryption_key(share->odyn, &own, &answer->why));
    TRY(identity_odyn_encrypt(share->odyn, text, receiver, &sealed, &answer->why));
    ENSURE(sealed.len <= sizeof(answer->sealed), TOO_BIG);
    envelope_public_write(&own, answer->sender_public_key);
    memcpy(answer->seal_nonce, sealed.nonce, sizeof(answer->seal_nonce));
    memcpy(answer->sealed, sealed.bytes, sealed.len);
    answer->sealed_len = sealed.len;
    return OK;
}

static RC seal(struct share *share, const struct service_share_ask *ask,
               const struct envelope_public *receiver, struct service_share_answer *answer) {
    AUTO(secret_close) struct secret memory = { 0 };
    struct secret_text said = { .to = ask->wallet };
    TRY(secret_init(&memory, KDF_MASTER_BYTES + SECRET_TEXT_BYTES));
    uint8_t *text = memory.ptr + KDF_MASTER_BYTES;
    if (!share->cfg.copy_secret(share->cfg.ctx, ask->wanted_hash, memory.ptr)) {
        refuse(answer, STATUS_FAILED_PRECONDITION,
               "this node does not hold the master secret with that hash");
        return ERR(NOT_FOUND);
    }
    TRY(identity_odyn_address(share->odyn, &said.from, &answer->why));
    memcpy(said.hash, ask->wanted_hash, sizeof(said.hash));
    memcpy(said.nonce, ask->nonce, sizeof(said.nonce));
    secret_text_write(memory.ptr, &said, text);
    const struct span plain = { text, SECRET_TEXT_BYTES };
    return seal_text(share, plain, receiver, answer);
}

/* An Odyn that has restarted names another wallet or key: a new client takes its place. */
static RC open_odyn(struct share *share, struct status *why) {
    const struct identity_odyn_cfg cfg = { .base_url = share->cfg.config->odyn_url };
    struct identity_odyn *fresh = NULL;
    TRY(identity_odyn_init(&fresh, &cfg, why));
    (void)pthread_mutex_lock(&share->mutex);
    struct identity_odyn *old = share->odyn;
    share->odyn = fresh;
    if (share->is_stopping) {
        identity_odyn_cancel(fresh);
    }
    (void)pthread_mutex_unlock(&share->mutex);
    identity_odyn_close(&old);
    return OK;
}

static void settle(struct share *share, const struct service_share_ask *ask,
                   struct service_share_answer *answer) {
    struct envelope_public receiver;
    if (!judge(share, ask, &receiver, answer)) {
        return;
    }
    struct rc rc = seal(share, ask, &receiver, answer);
    if (rc.err == E_BAD_AUTH && open_odyn(share, &answer->why).err == E_OK) {
        answer->why.code = STATUS_OK;
        rc = seal(share, ask, &receiver, answer);
    }
    if (rc.err == E_OK) {
        answer->why = (struct status){ .code = STATUS_OK };
    } else if (rc.err != E_NOT_FOUND) {
        /* What Odyn said is for the log here, not for the asker. */
        LOG_LIMITED(WARN, "secret.seal", "failed reason=\"%s\"",
                    answer->why.text[0] == '\0' ? err_text(rc.err) : answer->why.text);
        refuse(answer, STATUS_UNAVAILABLE, "this node's Odyn did not seal the secret");
    }
}

static void note(struct share *share, const struct service_share_ask *ask,
                 const struct status *why) {
    char wallet[WALLET_TEXT_BYTES];
    (void)wallet_format(&ask->wallet, wallet);
    (void)pthread_mutex_lock(&share->mutex);
    if (why->code == STATUS_OK) {
        share->stats.given_count++;
    } else if (why->code == STATUS_UNAVAILABLE) {
        share->stats.failed_count++;
    } else {
        share->stats.refused_count++;
    }
    (void)pthread_mutex_unlock(&share->mutex);
    if (why->code == STATUS_OK) {
        LOG(INFO, "secret.given", "to=%s", wallet);
    } else {
        LOG_LIMITED(WARN, "secret.refused", "to=%s reason=\"%s\"", wallet, why->text);
    }
}

/* ---- The thread ---- */

static void *thread_main(void *arg) {
    struct share *share = arg;
    (void)pthread_mutex_lock(&share->mutex);
    while (!share->is_stopping) {
        if (share->queue_count == 0) {
            (void)pthread_cond_wait(&share->changed, &share->mutex);
            continue;
        }
        const struct service_share_ask ask = share->queue[0];
        share->queue_count--;
        memmove(share->queue, share->queue + 1, share->queue_count * sizeof(share->queue[0]));
        (void)pthread_mutex_unlock(&share->mutex);
        struct service_share_answer answer = { .why = { .code = STATUS_OK } };
        settle(share, &ask, &answer);
        note(share, &ask, &answer.why);
        share->cfg.answer(share->cfg.ctx, &ask, &answer);
        (void)pthread_mutex_lock(&share->mutex);
    }
    (void)pthread_mutex_unlock(&share->mutex);
    return NULL;
}

bool share_ask(struct share *share, const struct service_share_ask *ask) {
    (void)pthread_mutex_lock(&share->mutex);
    bool has_room = !share->is_stopping && share->queue_count < SHARE_QUEUE_COUNT_MAX;
    if (has_room) {
        share->queue[share->queue_count] = *ask;
        share->queue_count++;
        (void)pthread_cond_signal(&share->changed);
    }
    (void)pthread_mutex_unlock(&share->mutex);
    return has_room;
}

void share_stats(struct share *share, struct share_stats *out) {
    (void)pthread_mutex_lock(&share->mutex);
    *out = share->stats;
    (void)pthread_mutex_unlock(&share->mutex);
}

/* ---- Life ---- */

static RC open_chain(struct share *share, struct status *why) {
    const struct node_config *config = share->cfg.config;
    const struct registry_chain_cfg cfg = config_chain(config, share->cfg.chain_stop);
    char reason[REGISTRY_REASON_BYTES];
    struct rc rc = chain_init(&share->chain, &cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s", reason);
    }
    return rc;
}

static void free_share(struct share *share) {
    chain_close(&share->chain);
    identity_odyn_close(&share->odyn);
    (void)pthread_cond_destroy(&share->changed);
    (void)pthread_mutex_destroy(&share->mutex);
    free(share);
}

RC share_init(struct share **out, const struct share_cfg *cfg, struct status *why) {
    *out = NULL;
    struct share *share = calloc(1, sizeof(*share));
    ENSURE(share != NULL, NOMEM);
    share->cfg = *cfg;
    ASSERT(pthread_mutex_init(&share->mutex, NULL) == 0);
    ASSERT(pthread_cond_init(&share->changed, NULL) == 0);
    struct rc rc = open_chain(share, why);
    if (rc.err == E_OK) {
        rc = open_odyn(share, why);
    }
    if (rc.err == E_OK && pthread_create(&share->thread, NULL, thread_main, share) != 0) {
        rc = ERR(NOMEM);
    }
    if (rc.err != E_OK) {
        free_share(share);
        return rc;
    }
    *out = share;
    return OK;
}

void share_close(struct share **share) {
    struct share *self = *share;
    if (self == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&self->mutex);
    self->is_stopping = true;
    identity_odyn_cancel(self->odyn);
    (void)pthread_cond_broadcast(&self->changed);
    (void)pthread_mutex_unlock(&self->mutex);
    (void)pthread_join(self->thread, NULL);
    free_share(self);
    *share = NULL;
}
