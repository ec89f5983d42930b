/* SPDX-License-Identifier: Apache-2.0 */
/* How one node's replica follows those of the other members (docs/replication.md has the
 * rules and the proof): whom to pull from and from where, which pages may be merged, what each
 * member has acknowledged, what may be collected, and when a starting node has enough to serve.
 * Pure: no I/O, no clock, no randomness; the node and the simulator carry the messages.
 *
 * It works on a store that the caller lends to each call. Whoever has several threads guards the
 * two with one lock. No section is long: pages are merged and read in steps.
 *
 * Messages are in plain structs; proto/novakms/v1/peer.proto says what their fields mean. What an
 * incoming struct points to is lent for the call; its sizes are checked here, its values too.
 *
 * A member is one instanceUrl of the registry: several entries with one URL (a node that restarted
 * with a new wallet) count once, the latest registered. */
#pragma once

#include "base/status.h"
#include "base/wallet.h"
#include "store/store.h"

struct replica; /* Opaque. */

#define REPLICA_MEMBER_COUNT_MAX 256u
#define REPLICA_HASH_BYTES 32
#define REPLICA_WAIT_MS_MAX 60000u
/* Records that one replica_merge takes at most: a section under the lock stays short. */
#define REPLICA_MERGE_STEP 64u
/* Entries of a vector that a message may carry. */
#define REPLICA_KNOWN_COUNT_MAX 16384u
/* How long what came through others waits in a long poll: most of it, the member gets from its
 * writer meanwhile. */
#define REPLICA_RELAY_MS 200u
#define REPLICA_HEARD_COUNT_MAX (5u * REPLICA_MEMBER_COUNT_MAX)
#define REPLICA_REASON_BYTES 200
#define REPLICA_DIGEST_APP_COUNT_MAX 1024u

struct replica_cfg {
    uint32_t interval_ms;    /* DATA_SYNC_INTERVAL_SECONDS: from each member at least this often. */
    uint32_t wait_ms;        /* Of a long poll; at most REPLICA_WAIT_MS_MAX. */
    uint32_t page_bytes_max; /* Asked of others, and given at most. */
    uint32_t backoff_min_ms; /* After a failed pull; doubles, half of it random, */
    uint32_t backoff_max_ms; /* up to this. */
    uint32_t settle_ms;      /* Registry cache life plus the longest pull: how long ago a member
                               * must have shown the vector that collection uses (R3). */
    uint32_t start_wait_ms;  /* How long a starting node insists on enough members. */
    uint32_t clock_skew_ms;
    uint32_t head_lag_max;     /* Blocks behind most others at which the node does not serve. */
    uint64_t compact_after_ms; /* store_compact_known for what is older: tombstone_retention_ms plus
                                * the skew. 0: never. */
    uint32_t members_age_max_ms; /* Nothing is collected while replica_set_members was called last
                                  * longer ago: whoever came back meanwhile counts (R3). 0: no
                                  * limit, for members that never change. */
};

/* Gives *out, NULL on error. Copies cfg. It starts without members, without a master secret and out
 * of service. BAD_CONFIG, NOMEM. */
RC replica_init(struct replica **out, const struct replica_cfg *cfg);
/* Takes *replica: frees, sets NULL. Accepts a closed one. */
void replica_close(struct replica **replica);

/* ---- What the node tells it ---- */

/* The time of a call, and a random number that spreads retries. */
struct replica_now {
    uint64_t mono_ms;
    uint64_t unix_ms;
    uint32_t random;
};

struct replica_member {
    struct wallet wallet;
    const char *url;      /* Lent. Compared as it is: the caller normalises. */
    uint64_t instance_id; /* Of several with one URL the greatest counts. 0 in self: not listed. */
};

/* The members as the registry has them, self among them or not; to be told after each read, also of
 * the same ones (members_age_max_ms). A node that was listed and is not any more leaves service,
 * until it is listed again and has pulled from enough members. Members with self's URL are left
 * out, however registered. State of a member that stays (wallet and URL) is kept. TOO_BIG over
 * REPLICA_MEMBER_COUNT_MAX, NOMEM: nothing changed. */
RC replica_set_members(struct replica *r, const struct replica_member *self,
                       const struct replica_member *members, size_t count,
                       const struct replica_now *now);
/* The master secret's hash; data flows only between equal ones. Another one than before starts all
 * over: the caller has emptied the store and given it a new writer. is_new: this node generated the
 * secret for this cluster just now, so that there is no data anywhere to wait for. */
void replica_set_secret(struct replica *r, const uint8_t hash[static REPLICA_HASH_BYTES],
                        bool is_new);
/* The secret is about to be given to another member: before it leaves. Only the first time
 * counts. */
void replica_note_shared(struct replica *r, const struct replica_now *now);
/* The newest block this node has seen. */
void replica_set_head(struct replica *r, uint64_t head_block);

/* ---- Messages ---- */

struct replica_state {
    uint8_t incarnation[STORE_WRITER_BYTES];
    uint8_t secret_hash[REPLICA_HASH_BYTES]; /* All zero: none. */
    uint64_t head_block;
    uint64_t unix_ms;
    bool in_service;
};

/* What this node says of itself in every request and answer. */
void replica_own_state(const struct replica *r, const struct store *s,
                       const struct replica_now *now, struct replica_state *out);

/* An incarnation of a member that somebody has heard of and does not know to be over. */
struct replica_heard {
    struct wallet wallet;
    uint8_t incarnation[STORE_WRITER_BYTES];
};
/* Writes what this node has heard of (room for heard_count_max; REPLICA_HEARD_COUNT_MAX is enough)
 * and returns how many. Every request and every page carries it, copied after the vector they
 * carry: without it a member's late acknowledgement, of a boot that is over, could be counted by a
 * node that has not heard of the next one, beside that of a node that has. */
size_t replica_heard_copy(const struct replica *r, struct replica_heard *out,
                          size_t heard_count_max);

struct replica_request {
    struct replica_state state;
    uint8_t responder_incarnation[STORE_WRITER_BYTES]; /* All zero: none is known. */
    uint64_t since;
    bool follow; /* From the end of the page that was read last for this requester, not since. */
    struct store_known known;
    uint32_t bytes_max;
    uint32_t wait_ms;
    const struct replica_heard *heard; /* Set by the carrier (replica_heard_copy). */
    size_t heard_count;
};

/* A page but for its records. */
struct replica_page {
    struct replica_state state;
    uint8_t requester_incarnation[STORE_WRITER_BYTES];
    uint64_t from;
    uint64_t next;
    bool more;
    bool reset;
    struct store_known known;
    struct store_known floor;
    uint64_t floor_rise_count; /* Of its sender's store when floor was copied; it is not sent. */
    uint64_t last;
    bool newcomer;
    const struct replica_heard *heard; /* As in the request. */
    size_t heard_count;
};

/* ---- The pulling side ---- */

enum replica_todo_kind {
    REPLICA_IDLE, /* Nothing before at_ms. */
    REPLICA_PULL, /* Send *request to wallet; it ends with one of replica_page_end, pull_failed. */
    REPLICA_DIGEST, /* Compare digests with wallet; it ends with digest_end or digest_failed. */
};
struct replica_todo {
    enum replica_todo_kind kind;
    uint64_t at_ms;       /* IDLE: monotonic. Anything said to the replica may move it. */
    struct wallet wallet; /* Of the member. */
    uint32_t ticket;      /* To be given back at the end. */
};
/* What to do next; call it until it gives REPLICA_IDLE. At most one task for each member is under
 * way. */
void replica_next(struct replica *r, const struct store *s, const struct replica_now *now,
                  struct replica_todo *out);
/* Fills the request of a PULL: right before it is sent. known is written to entries (room for
 * store_known_count). NOT_FOUND when the ticket has ended; TOO_BIG. */
struct replica_ask {
    uint32_t ticket; /* The PULL's. */
    struct store_known_entry *entries;
    size_t entry_count_max;
};
RC replica_pull_request(struct replica *r, const struct store *s, const struct replica_ask *ask,
                        const struct replica_now *now, struct replica_request *out);

/* A page that came, and the ticket of the PULL that it answers. */
struct replica_arrival {
    uint32_t ticket;
    const struct replica_page *page;
};

/* What to do with an answer's records. */
enum replica_verdict {
    REPLICA_TAKE, /* Merge them (replica_merge), then replica_page_end. */
    REPLICA_DROP, /* It is void: old, of another incarnation, malformed, or it could bring back what
                    * was collected. The pull has ended; `why` says it. */
    REPLICA_RESET, /* The store must be emptied: the caller takes itself out of service, gives the
                    * store a new writer (store_reset), calls replica_restart, and goes on. The pull
                    * has ended. */
};
/* Judges a page when it arrives. why gets a sentence, empty for TAKE. */
enum replica_verdict replica_page_begin(struct replica *r, const struct store *s,
                                        const struct replica_arrival *arrival,
                                        const struct replica_now *now,
                                        char why[static REPLICA_REASON_BYTES]);

/* Pulls of one member that are asked ahead of the one whose turn it is. While a page is merged, the
 * next comes in, and the member need not wait for a request when it has sent that. */
#define REPLICA_AHEAD_COUNT_MAX 3
/* After REPLICA_TAKE of a page with more, and before it is merged: whether a page behind it is to
 * be asked for now, so that the member reads it meanwhile. Then *out is that PULL, to be sent at
 * once (replica_pull_request), on the connection of those before it; call it until it says no, with
 * *out IDLE. The first is under way when this page has ended well, the second when that has, and so
 * on. Otherwise it has ended too, with those behind it, and its answer is void, as one that is
 * begun before the page before it has ended. */
bool replica_ahead(struct replica *r, const struct replica_arrival *arrival,
                   const struct replica_now *now, struct replica_todo *out);

/* Why a record was refused, beyond the store's reasons. */
struct replica_record {
    struct store_remote remote;
    bool is_forged; /* It does not open under its app's key and name: refused. */
};
/* Some of the page's records. */
struct replica_records {
    struct replica_record *at;
    size_t count;
};
/* Merges records of the page, at most REPLICA_MERGE_STEP. Each refused one is counted, and neither
 * the cursor nor the vector will move past this page. False when the rest is not to be merged: the
 * collector has gone past the page's vector, or the member is gone. Ends with replica_page_end in
 * any case. */
bool replica_merge(struct replica *r, struct store *s, const struct replica_arrival *arrival,
                   const struct replica_records *records, const struct replica_now *now);
/* Moves the cursor, and after a last page joins floor and vector; or keeps both where they are,
 * when a record was refused. */
void replica_page_end(struct replica *r, struct store *s, const struct replica_arrival *arrival,
                      const struct replica_now *now);
/* The pull ended without a page. is_starting: the member answered that it is not in service. reason
 * is one sentence, copied. */
void replica_pull_failed(struct replica *r, uint32_t ticket, bool is_starting, const char *reason,
                         const struct replica_now *now);
/* The store was emptied under a new writer: all cursors and acknowledgements start again, out of
 * service. */
void replica_restart(struct replica *r, const struct replica_now *now);

/* ---- The answering side ---- */

enum replica_answer {
    REPLICA_ANSWER_PAGE, /* Read the log from page->next on (store_log_read with the request's
                           * known, then replica_page_read), and send. */
    REPLICA_ANSWER_WAIT, /* There is nothing to tell: ask again at a change, or until wait_ms is
                           * over; then with is_over, which never waits. */
    REPLICA_ANSWER_WAIT_SHORT, /* The same, but ask again after REPLICA_RELAY_MS at the latest. */
    REPLICA_ANSWER_RESET,      /* Send page as it is. */
    REPLICA_ANSWER_AGAIN, /* The same: it is empty, and makes the member ask again at once, so that
                            * it gets only what it does not have by then. */
    REPLICA_ANSWER_REFUSE /* why is set. */
};
/* Takes in a member's request, once for each (is_again false): its vector is its acknowledgement.
 * Then decides the answer. known and floor are copied to entries (room for store_known_count plus
 * store_floor_count, else REFUSE RESOURCE_EXHAUSTED) before the page is read. */
struct replica_serve {
    const struct wallet *wallet;
    const struct replica_request *request;
    bool is_again;
    bool is_over;
    struct store_known_entry *entries;
    size_t entry_count_max;
};
struct replica_served {
    struct replica_page page;
    struct status why; /* Of REFUSE; else OK. */
};
enum replica_answer replica_serve(struct replica *r, const struct store *s,
                                  const struct replica_serve *serve, const struct replica_now *now,
                                  struct replica_served *out);

/* A page may be read in several sections, each under the lock, while the node writes, merges and
 * collects between them. In each section, after store_log_read: moves the page to where the log was
 * read, and notes that for a request of the member that follows it. True while the log goes on. At
 * its end the page is the last one only if the floor has not risen since it was copied: else what
 * was collected meanwhile is on no page, and the floor that the member would join does not tell of
 * it. Then more is set, and the member asks again at once. The page is void when the store has
 * another writer than page->state.incarnation. */
bool replica_page_read(struct replica *r, const struct store *s, const struct wallet *member,
                       const struct store_log_page *got, struct replica_page *page);

/* ---- What it knows ---- */

/* How many members beside this node have acknowledged the write. */
uint32_t replica_acks(const struct replica *r, const struct store_stamp *stamp);
/* How many acknowledgements make a QUORUM: W - 1, where W = N / 2 + 1 and N counts this node. */
uint32_t replica_acks_for_quorum(const struct replica *r);
/* Members beside this node. */
uint32_t replica_other_count(const struct replica *r);

/* Whether the node may serve and acknowledge: it has pulled to the end from enough members. Gives
 * the reason, one sentence, when not. It becomes true in replica_next, replica_page_end or
 * replica_set_*; then in_service is what later messages say. */
bool replica_in_service(const struct replica *r, char reason[static REPLICA_REASON_BYTES]);
/* Whether this node is level with its peers: its head and its clock are not far from those of most
 * members in service that it heard of lately. Gives the reason when not: the same sentence for as
 * long as it holds, because each change of it is logged. */
bool replica_is_level(const struct replica *r, const struct replica_now *now,
                      char reason[static REPLICA_REASON_BYTES]);
/* Whether every member that was reached lately has acknowledged everything this node wrote: a
 * stopping node waits for it. */
bool replica_is_drained(const struct replica *r, const struct store *s,
                        const struct replica_now *now);

/* store_collect with the members' vectors by rule R3, and store_compact_known. */
void replica_collect(struct replica *r, struct store *s, size_t step_max,
                     const struct replica_now *now, struct store_collected *out);

/* ---- Digests ---- */

struct replica_digest {
    uint64_t app_id;
    struct store_digest digest;
};
/* Whether this node's digests may be compared: with a pass half done it holds more than its vector
 * says. Otherwise GetDigest is answered UNAVAILABLE. */
bool replica_is_comparable(const struct replica *r);
/* A member's answer to the DIGEST with the ticket: all of its digests. */
struct replica_digests {
    uint32_t ticket;
    struct replica_state state;
    struct store_known known;
    const struct replica_digest *at; /* By app id, growing. */
    size_t count;
};
/* Compares a member's complete digests with our own, if both know the same and no pass is half done
 * here; otherwise nothing is learnt and it is asked again later. A difference makes the next pull
 * from it a repair, from position 0 with an empty known; one that is still there after the repair
 * is an alarm. */
void replica_digest_end(struct replica *r, const struct store *s,
                        const struct replica_digests *theirs, const struct replica_now *now);
void replica_digest_failed(struct replica *r, uint32_t ticket, const struct replica_now *now);

/* ---- Figures ---- */

struct replica_stats {
    uint64_t pull_ok_count;
    uint64_t pull_failed_count;
    uint64_t dropped_page_count;
    uint64_t reset_count;       /* Of our own state. */
    uint64_t reset_given_count; /* To members. */
    uint64_t record_count;      /* Merged, and of these those that changed something. */
    uint64_t applied_count;
    uint64_t byte_count;   /* Keys and sealed bytes received. */
    uint64_t forged_count; /* Beside the store's own refusals. */
    uint64_t digest_ok_count;
    uint64_t digest_mismatch_count;
    uint64_t repair_count;
    uint64_t digest_alarm_count;     /* A difference survived its repair. */
    uint64_t durability_reset_count; /* Served without having heard enough members. */
    uint64_t newcomer_count;         /* Members told that they never were in service. */
    uint32_t other_count;
    uint32_t reachable_count;
};
void replica_stats(const struct replica *r, struct replica_stats *out);

/* One member, for /status. */
struct replica_view {
    struct wallet wallet;
    const char *url; /* Lent until the members change. */
    bool reachable;  /* Its last pull, at most two intervals ago, ended well. */
    bool in_service; /* As it says. */
    uint64_t position;
    uint64_t lag_count; /* Log positions not pulled yet. */
    uint64_t lag_ms;    /* Since when there is a lag; 0 without one. */
    uint64_t heard_ms;  /* Monotonic time of its last answer; 0: never. */
    bool has_alarm;     /* A record of it is refused for good, or digests differ after a repair. */
    const char *error;  /* Last one, a sentence; empty after a success. Lent until the next call. */
};
/* False past the last one. */
bool replica_view(const struct replica *r, size_t idx, const struct replica_now *now,
                  struct replica_view *out);

/* ASSERTs every invariant. For tests and the simulator. */
void replica_check(const struct replica *r, const struct store *s);
