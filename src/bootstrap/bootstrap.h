/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this node may serve, and what to do until it may: membership checks and the convergence
 * on one master secret (docs/deployment.md, step 4.3). Pure: time, random numbers and answers come
 * in as events; what to ask for comes out as actions.
 *
 * It keeps no sequence of steps. It keeps what is known and how old that is, and after each event
 * asks what is missing first; so an answer that comes late, again or never, or takes back what an
 * earlier one said, is no special case.
 *
 * The master secret itself stays with the driver (node/), which holds at most two: the held one,
 * and a pending one that it has just generated or fetched. Here they are known by their hashes.
 * What keeps the secret safe:
 *   - The held secret is replaced in one case only: the confirmed hash on chain is another one, not
 *     zero, and the pending secret has that hash. Nothing else erases it: no zero hash, no failure,
 *     no unreadable chain, no lost membership.
 *   - A secret is generated only by a node that has never held one, while the hash is zero, and
 *     after every member it can reach has said that it holds none.
 *   - The node serves only with a fresh membership that names its own wallet, teePubkey and URL,
 *     and with a secret whose hash is the confirmed one on chain, read freshly too.
 *
 * One owner thread. Embedded; no heap. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "base/wallet.h"

#define BOOTSTRAP_HASH_BYTES 32
#define BOOTSTRAP_TEE_PUBKEY_BYTES_MAX 160
#define BOOTSTRAP_REASON_BYTES 200

struct bootstrap_hash {
    uint8_t bytes[BOOTSTRAP_HASH_BYTES]; /* All zero: none. */
};
bool bootstrap_hash_is_zero(const struct bootstrap_hash *hash);
bool bootstrap_hash_equal(const struct bootstrap_hash *a, const struct bootstrap_hash *b);

/* What the driver is asked to do. At most one of each is under way; each ends with exactly one
 * event of the same kind, however long it takes. */
#define BOOTSTRAP_TASK_MAP(X)                                                         \
    X(IDENTITY)   /* Wallet and teePubkey, from Odyn. */                              \
    X(MEMBERSHIP) /* The wallet's own entry and the other members, uncached. */       \
    X(HASH)       /* KMSRegistry's hash, confirmed and at the head. */                \
    X(PEERS)      /* Every other member: does it hold a secret, and of which hash? */ \
    X(GENERATE)   /* A pending secret of 32 bytes from Odyn's RNG. */                 \
    X(SEND_TX)    /* setMasterSecretHash(action.hash). */                             \
    X(CHECK_TX)   /* What became of the transaction sent last. */                     \
    X(FETCH)      /* A pending secret with action.hash, from a peer. */               \
    X(SNAPSHOT)   /* All data of enough other members; nothing when there is no other. */
#define BOOTSTRAP_TASK_ENUM(name) BOOTSTRAP_##name,
enum bootstrap_task { BOOTSTRAP_TASK_MAP(BOOTSTRAP_TASK_ENUM) BOOTSTRAP_TASK_COUNT };
#undef BOOTSTRAP_TASK_ENUM
/* "SEND_TX" */
const char *bootstrap_task_name(enum bootstrap_task task);

struct bootstrap_identity {
    struct wallet wallet;
    struct span tee_pubkey; /* DER; lent for the event. */
};

struct bootstrap_membership {
    bool is_permitted;   /* By auth's rules, as a peer. */
    const char *verdict; /* Why not, a sentence; lent for the event. */
    struct wallet wallet;
    struct span tee_pubkey; /* As registered; lent for the event. */
    bool is_same_url;       /* The registered URL and NODE_URL, normalised, are the same. */
    uint32_t other_count;   /* Other active, verified members. */
    uint64_t as_of_mono_ms; /* The instant the chain vouches for. */
};

struct bootstrap_hashes {
    struct bootstrap_hash confirmed; /* HASH_CONFIRMATIONS below the head. */
    struct bootstrap_hash latest;    /* At the head. */
    uint64_t as_of_mono_ms;
};

struct bootstrap_peers {
    uint32_t reached_count; /* Members that answered. */
    uint32_t holder_count;  /* Of these, how many hold any secret, */
    uint32_t same_count;    /* and how many the one we hold. */
};

enum bootstrap_tx {
    BOOTSTRAP_TX_SENT,     /* SEND_TX: the chain's server has it. */
    BOOTSTRAP_TX_PENDING,  /* CHECK_TX: known, in no block. */
    BOOTSTRAP_TX_MINED,    /* CHECK_TX: in a block, and it succeeded. */
    BOOTSTRAP_TX_REVERTED, /* CHECK_TX: in a block, and it failed: another node was faster. */
    BOOTSTRAP_TX_UNKNOWN, /* CHECK_TX: neither; the server forgot it, or a block was rolled back. */
};

/* Something happened: a task ended, or (is_tick) time passed. */
struct bootstrap_event {
    bool is_tick;
    uint64_t now_ms; /* Monotonic; never goes back. */
    uint32_t random; /* Spreads retries. */
    /* The rest is a task's end. */
    enum bootstrap_task task;
    uint32_t ticket;    /* The action's. An answer to an earlier question changes nothing. */
    const char *reason; /* A sentence when it failed, else NULL; lent for the event. */
    union {
        struct bootstrap_identity identity;
        struct bootstrap_membership membership;
        struct bootstrap_hashes hashes;
        struct bootstrap_peers peers;
        struct bootstrap_hash secret_hash; /* GENERATE, FETCH: of the pending secret. */
        enum bootstrap_tx tx;
    } result;
};

enum bootstrap_action_kind {
    BOOTSTRAP_START,   /* Start the task. */
    BOOTSTRAP_ADOPT,   /* The pending secret becomes the held one. The one held before, if any, is
                        * wiped with all data and keys that were made with it. */
    BOOTSTRAP_DISCARD, /* Wipe the pending secret. */
};

struct bootstrap_action {
    enum bootstrap_action_kind kind;
    enum bootstrap_task task; /* Of START, as the rest. */
    uint32_t ticket;
    struct bootstrap_hash hash; /* SEND_TX: to set. FETCH: wanted. PEERS: held, or zero. */
    bool is_resend;             /* SEND_TX: the same transaction again, the server forgot it. */
    bool is_dearer;             /* SEND_TX: the same nonce with a higher fee, it is stuck. */
};

#define BOOTSTRAP_ACTION_COUNT_MAX (BOOTSTRAP_TASK_COUNT + 2)
struct bootstrap_actions {
    size_t count;
    struct bootstrap_action at[BOOTSTRAP_ACTION_COUNT_MAX]; /* Perform in this order. */
};

/* What is missing first. */
#define BOOTSTRAP_STATE_MAP(X)                                                              \
    X(NO_IDENTITY)   /* Odyn has not answered. */                                           \
    X(NO_MEMBERSHIP) /* The registry has not been read, or too long ago. */                 \
    X(NOT_MEMBER)    /* It says no. */                                                      \
    X(NO_HASH)       /* KMSRegistry has not been read, or too long ago. */                  \
    X(ASKING)        /* The hash is zero: does a member hold a secret? */                   \
    X(WAITING)       /* One does, and will set its hash; or a hash waits for its blocks. */ \
    X(GENERATING)    /* None does. */                                                       \
    X(SUBMITTING)    /* This node's hash is to be set. */                                   \
    X(FETCHING)      /* Another hash is set: its secret is with a peer. */                  \
    X(SPREADING)     /* This node's hash won; no other member holds the secret yet. */      \
    X(SYNCING)       /* The secret is right; the data is not here yet. */                   \
    X(SERVING)
#define BOOTSTRAP_STATE_ENUM(name) BOOTSTRAP_##name,
enum bootstrap_state { BOOTSTRAP_STATE_MAP(BOOTSTRAP_STATE_ENUM) BOOTSTRAP_STATE_COUNT };
#undef BOOTSTRAP_STATE_ENUM
/* "SERVING" */
const char *bootstrap_state_name(enum bootstrap_state state);

struct bootstrap_cfg {
    uint32_t tick_ms;           /* KMS_NODE_TICK_SECONDS: how often what holds is checked again. */
    uint32_t cache_ttl_ms;      /* REGISTRY_CACHE_TTL_SECONDS: how old an answer may be. */
    uint32_t poll_ms;           /* While a change on chain or at a peer is awaited. */
    uint32_t retry_min_ms;      /* After a first failure; doubles with each, with jitter, */
    uint32_t retry_max_ms;      /* up to this. */
    uint32_t tx_stuck_ms;       /* A transaction that waits so long is sent again, dearer. */
    struct bootstrap_hash held; /* Of a secret the driver holds already; zero: none. */
};

/* One task's schedule. */
struct bootstrap_schedule {
    bool is_running;
    uint32_t ticket;
    uint32_t failure_count;
    uint64_t next_at_ms;
    char failure[BOOTSTRAP_REASON_BYTES]; /* Empty after a success. */
};

/* Fields are for bootstrap's own files and its tests. */
struct bootstrap {
    struct bootstrap_cfg cfg;
    uint64_t now_ms;
    uint32_t random;
    struct bootstrap_schedule tasks[BOOTSTRAP_TASK_COUNT];

    bool has_identity;
    struct wallet wallet;
    uint8_t tee_pubkey[BOOTSTRAP_TEE_PUBKEY_BYTES_MAX];
    size_t tee_pubkey_len;

    bool has_membership;
    bool is_member;
    char verdict[BOOTSTRAP_REASON_BYTES];
    uint32_t other_count;
    uint64_t membership_as_of_ms;

    bool has_hashes;
    struct bootstrap_hashes hashes;

    bool has_peers; /* Asked since the last change that makes their answer old. */
    struct bootstrap_peers peers;

    struct bootstrap_hash held; /* Zero: none; once set, never zero again. */
    bool is_own;                /* Generated here, and not known to be with another member. */
    bool is_synced;

    bool has_tx; /* Sent, and neither failed nor known to be without effect. */
    bool is_tx_mined;
    bool is_tx_lost;
    bool is_tx_stuck;
    bool is_hash_doubtful; /* A transaction reverted: the hash must be read before another. */
    uint64_t tx_sent_at_ms;

    enum bootstrap_state state;
    char reason[BOOTSTRAP_REASON_BYTES]; /* Empty when serving. */
};

/* BAD_CONFIG: a span of 0. Copies cfg. */
RC bootstrap_init(struct bootstrap *b, const struct bootstrap_cfg *cfg);
/* Takes in an event and gives what is to be done. The driver performs out before the next step. */
void bootstrap_step(struct bootstrap *b, const struct bootstrap_event *event,
                    struct bootstrap_actions *out);
/* When to tick at the latest, if nothing else happens before. */
uint64_t bootstrap_next_at_ms(const struct bootstrap *b);

static inline bool bootstrap_is_serving(const struct bootstrap *b) {
    return b->state == BOOTSTRAP_SERVING;
}
/* One sentence why it does not serve; empty when it does. Lent until the next step. */
static inline const char *bootstrap_reason(const struct bootstrap *b) {
    return b->reason;
}

/* ASSERTs what must hold after every step. */
void bootstrap_check(const struct bootstrap *b);
