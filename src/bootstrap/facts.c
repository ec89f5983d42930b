/* SPDX-License-Identifier: Apache-2.0 */
/* What answers teach. */
#include "bootstrap/internal.h"

bool facts_are_fresh(const struct bootstrap *b, bool has, uint64_t as_of_ms) {
    return has && b->now_ms - as_of_ms <= b->cfg.cache_ttl_ms;
}

/* What the chain said later stays: an old answer takes nothing back. One from the future would stay
 * for good, so it is not believed at all. */
static bool is_news(const struct bootstrap *b, uint64_t as_of_ms, bool has, uint64_t held_ms) {
    return as_of_ms <= b->now_ms && (!has || as_of_ms >= held_ms);
}

static bool is_known_identity(const struct bootstrap *b,
                              const struct bootstrap_identity *identity) {
    return b->has_identity && wallet_equal(&b->wallet, &identity->wallet) &&
           span_equal((struct span){ b->tee_pubkey, b->tee_pubkey_len }, identity->tee_pubkey);
}

static void forget_tx(struct bootstrap *b) {
    b->has_tx = false;
    b->is_tx_mined = false;
    b->is_tx_lost = false;
    b->is_tx_stuck = false;
    task_forget(b, BOOTSTRAP_SEND_TX);
    task_forget(b, BOOTSTRAP_CHECK_TX);
}

/* Another wallet is another member: nothing that was asked or sent as the old one counts. */
static void take_identity(struct bootstrap *b, const struct bootstrap_identity *identity) {
    if (is_known_identity(b, identity)) {
        return;
    }
    if (identity->tee_pubkey.len > sizeof(b->tee_pubkey)) {
        b->has_identity = false;
        return;
    }
    b->wallet = identity->wallet;
    memcpy(b->tee_pubkey, identity->tee_pubkey.ptr, identity->tee_pubkey.len);
    b->tee_pubkey_len = identity->tee_pubkey.len;
    b->has_identity = true;
    b->has_membership = false;
    b->is_member = false;
    task_forget(b, BOOTSTRAP_MEMBERSHIP);
    forget_tx(b);
}

/* Why the entry is not this node's, or not good enough; NULL when it is. */
static const char *find_fault(const struct bootstrap *b, const struct bootstrap_membership *m) {
    if (!m->is_permitted) {
        return m->verdict == NULL ? "the registry does not permit it" : m->verdict;
    }
    if (!wallet_equal(&m->wallet, &b->wallet)) {
        return "the registry answered for another wallet";
    }
    if (!span_equal(m->tee_pubkey, (struct span){ b->tee_pubkey, b->tee_pubkey_len })) {
        return "the registered teePubkey is not this enclave's";
    }
    return m->is_same_url ? NULL : "the registered instanceUrl is not NODE_URL";
}

static void take_membership(struct bootstrap *b, const struct bootstrap_membership *m) {
    if (!is_news(b, m->as_of_mono_ms, b->has_membership, b->membership_as_of_ms)) {
        return;
    }
    const char *fault = find_fault(b, m);
    b->has_membership = true;
    b->membership_as_of_ms = m->as_of_mono_ms;
    b->is_member = fault == NULL;
    if (b->other_count != m->other_count) {
        b->has_peers = false;
        task_hasten(b, BOOTSTRAP_PEERS);
    }
    b->other_count = m->other_count;
    b->verdict[0] = '\0';
    if (fault != NULL) {
        size_t len = strnlen(fault, sizeof(b->verdict) - 1);
        memcpy(b->verdict, fault, len);
        b->verdict[len] = '\0';
    }
}

static void take_hashes(struct bootstrap *b, const struct bootstrap_hashes *hashes) {
    if (!is_news(b, hashes->as_of_mono_ms, b->has_hashes, b->hashes.as_of_mono_ms)) {
        return;
    }
    bool is_new = !b->has_hashes ||
                  !bootstrap_hash_equal(&b->hashes.confirmed, &hashes->confirmed) ||
                  !bootstrap_hash_equal(&b->hashes.latest, &hashes->latest);
    b->has_hashes = true;
    b->is_hash_doubtful = false;
    b->hashes = *hashes;
    if (is_new) {
        b->has_peers = false;
        task_forget(b, BOOTSTRAP_PEERS);
        task_forget(b, BOOTSTRAP_FETCH);
    }
    bool is_set = !bootstrap_hash_is_zero(&hashes->latest);
    if (is_set || b->is_tx_mined) {
        /* Set: by this transaction or another's. Mined and zero: it was reset since, or the block
         * was rolled back. Either way this transaction will change nothing more. */
        forget_tx(b);
    }
}

/* The secret to hold. Only here does a held one change. */
static void take_secret(struct bootstrap *b, enum bootstrap_task from,
                        const struct bootstrap_hash *hash, struct bootstrap_actions *out) {
    bool is_first = bootstrap_hash_is_zero(&b->held);
    bool is_wanted = from == BOOTSTRAP_GENERATE
                         ? is_first && b->state == BOOTSTRAP_GENERATING
                         : facts_are_fresh(b, b->has_hashes, b->hashes.as_of_mono_ms) &&
                               bootstrap_hash_equal(hash, &b->hashes.confirmed);
    bool is_same = bootstrap_hash_equal(hash, &b->held);
    if (bootstrap_hash_is_zero(hash) || !is_wanted || is_same) {
        out->at[out->count++] = (struct bootstrap_action){ .kind = BOOTSTRAP_DISCARD };
        return;
    }
    b->held = *hash;
    b->is_own = from == BOOTSTRAP_GENERATE;
    b->is_synced = false;
    b->has_peers = false;
    task_forget(b, BOOTSTRAP_SNAPSHOT);
    task_forget(b, BOOTSTRAP_PEERS);
    out->at[out->count++] = (struct bootstrap_action){ .kind = BOOTSTRAP_ADOPT };
}

static void take_peers(struct bootstrap *b, const struct bootstrap_peers *peers) {
    b->has_peers = true;
    b->peers = *peers;
    if (peers->same_count > 0) {
        b->is_own = false;
    }
}

static void take_tx(struct bootstrap *b, enum bootstrap_tx tx) {
    switch (tx) {
    case BOOTSTRAP_TX_SENT:
        b->has_tx = true;
        b->is_tx_lost = false;
        b->is_tx_stuck = false;
        b->tx_sent_at_ms = b->now_ms;
        break;
    case BOOTSTRAP_TX_PENDING:
        b->is_tx_stuck = b->now_ms - b->tx_sent_at_ms >= b->cfg.tx_stuck_ms;
        break;
    case BOOTSTRAP_TX_MINED:
        b->is_tx_mined = true;
        break;
    case BOOTSTRAP_TX_REVERTED:
        forget_tx(b);
        b->is_hash_doubtful = true;
        break;
    case BOOTSTRAP_TX_UNKNOWN:
        b->is_tx_lost = true;
        b->is_tx_mined = false;
        break;
    }
    task_hasten(b, BOOTSTRAP_HASH);
}

void facts_take(struct bootstrap *b, const struct bootstrap_event *event,
                struct bootstrap_actions *out) {
    switch (event->task) {
    case BOOTSTRAP_IDENTITY:
        take_identity(b, &event->result.identity);
        break;
    case BOOTSTRAP_MEMBERSHIP:
        take_membership(b, &event->result.membership);
        break;
    case BOOTSTRAP_HASH:
        take_hashes(b, &event->result.hashes);
        break;
    case BOOTSTRAP_PEERS:
        take_peers(b, &event->result.peers);
        break;
    case BOOTSTRAP_GENERATE:
    case BOOTSTRAP_FETCH:
        take_secret(b, event->task, &event->result.secret_hash, out);
        break;
    case BOOTSTRAP_SEND_TX:
    case BOOTSTRAP_CHECK_TX:
        take_tx(b, event->result.tx);
        break;
    case BOOTSTRAP_SNAPSHOT:
        b->is_synced = true;
        break;
    case BOOTSTRAP_TASK_COUNT:
        break;
    }
}
