/* SPDX-License-Identifier: Apache-2.0 */
/* What the replica's files share. Internal to the room. */
#pragma once

#include "replica/replica.h"

/* ---- vector.c ---- */

/* A version vector that a member has shown. Shared by pointers, and never changed. */
struct vector {
    uint32_t use_count;
    uint64_t rest_hlc;
    size_t count;
    struct store_known_entry entries[]; /* By writer, growing; each once. */
};

/* Gives *out, in use once. INVALID: a writer is all zero or stands there twice. NOMEM. */
RC vector_init(struct vector **out, const struct store_known *known);
/* Ends one use and sets *v to NULL. Accepts NULL. */
void vector_close(struct vector **v);
/* Makes *to share v (or nothing, NULL) instead of what it had. */
void vector_share(struct vector **to, struct vector *v);
/* What v says of a writer. */
uint64_t vector_hlc(const struct vector *v, const uint8_t writer[static STORE_WRITER_BYTES]);
/* Whether v says at least as much as other of every writer. */
bool vector_covers(const struct vector *v, const struct vector *other);
struct store_known vector_known(const struct vector *v);
/* Why a vector from outside cannot be true, one sentence; NULL when it can. */
const char *known_fault(const struct replica *r, const struct store *s,
                        const struct store_known *known, uint64_t now_unix_ms);

/* ---- replica.c, members.c ---- */

/* Incarnations of one member that were heard of, and not yet proven alive or dead. */
#define HEARD_COUNT_MAX 4
_Static_assert((HEARD_COUNT_MAX + 1) * REPLICA_MEMBER_COUNT_MAX == REPLICA_HEARD_COUNT_MAX,
               "with the present one, all fit into a message");
/* Proven dead ones whose late messages are recognised. More than these are only heard of again. */
#define RETIRED_COUNT_MAX 16

struct heard {
    uint8_t incarnation[STORE_WRITER_BYTES];
    uint64_t turn; /* When it was first heard of, by replica.turn. */
};

/* Where a member's boot stands (docs/replication.md, section 2.3). `present` answered a request of
 * ours: it was alive then, so every other one heard of before that request was sent is dead. What
 * merely called may be a late message of a dead one. */
struct boots {
    uint8_t present[STORE_WRITER_BYTES]; /* All zero: none. */
    uint64_t present_ms;                 /* When the request was sent that it answered last. */
    struct heard heard[HEARD_COUNT_MAX];
    uint32_t heard_count;
    uint8_t retired[RETIRED_COUNT_MAX][STORE_WRITER_BYTES];
    uint32_t retired_count; /* Ever; the last RETIRED_COUNT_MAX are kept. */
};

/* What a member has shown that it knows. */
struct shown {
    uint8_t by[STORE_WRITER_BYTES]; /* The incarnation that did. */
    struct vector *asked;           /* With its latest request. */
    struct vector *latest;          /* In service: its acknowledgement. */
    struct vector *candidate;
    struct vector *settled; /* Shown at least settle_ms ago. */
    uint64_t latest_ms;
    uint64_t candidate_ms;
};

/* What is under way with a member. */
struct task {
    enum replica_todo_kind kind; /* IDLE: nothing. */
    uint32_t ticket;
    uint64_t turn; /* When it began, by replica.turn. */
    uint64_t sent_ms;
    bool was_asked;  /* The request has been made. */
    bool is_merging; /* A page was begun. */
    bool is_void;    /* The rest of it must not be merged. */
    bool is_repair;
    bool has_known; /* The request's vector was not empty. */
    uint8_t own[STORE_WRITER_BYTES];
    uint8_t theirs[STORE_WRITER_BYTES];
    uint64_t since;
    bool is_follow; /* It asks for what comes after the pull before it; since is not known yet. */
    uint32_t record_count;
    uint32_t applied_count;
    uint32_t refused_count;
    bool is_refused_for_good;
    enum store_refusal refusal; /* The last one; NONE: it was forged. */
};

/* Where the page ends that was read last for a member. */
struct given {
    uint8_t by[STORE_WRITER_BYTES]; /* Our incarnation then; all zero: none was read. */
    uint8_t to[STORE_WRITER_BYTES];
    uint64_t next;
};

enum repair { REPAIR_NONE, REPAIR_WANTED, REPAIR_UNDER_WAY, REPAIR_DONE };

/* A member that left. It may come back with what it wrote meanwhile. */
struct departed {
    bool is_set;
    struct wallet wallet;
    uint8_t boot[STORE_WRITER_BYTES]; /* That answered last. All zero: it never did. */
    uint64_t all_unix_ms;             /* Up to there, all that it stamped was here. */
    uint64_t left_ms;                 /* When this node saw that it had left. */
};

struct member {
    struct wallet wallet;
    char *url;
    uint64_t instance_id;
    struct boots boots;
    struct shown shown;
    struct task task;
    struct task ahead[REPLICA_AHEAD_COUNT_MAX]; /* The pulls behind task's, in their order. */
    size_t ahead_count;
    struct given given;       /* In the other direction: for a request that follows it. */
    struct departed returned; /* How it had left, until it has been pulled to the end. */
    bool knows_no_more;       /* This node was away, and then pulled it to the end. */

    /* The cursor into the log of boots.present. */
    uint64_t since;
    uint64_t repair_since;
    uint64_t last; /* Its log's last position, as heard. */
    enum repair repair;
    bool is_at_end;         /* The last page had no more behind it. */
    uint64_t clean_ms;      /* When its last page without more was merged; */
    uint64_t clean_unix_ms; /* Its clock at its last page without more; 0: none in boots.present. */
    bool
        is_complete; /* In our incarnation, boots.present was pulled to the end while in service. */

    uint8_t newcomer[STORE_WRITER_BYTES]; /* Its first incarnation that was given a page, while this
                                           * node knew that none had been in service. */
    bool has_admitted;                    /* is_complete, and it knew that of this node. */

    struct vector *partial; /* While this node knows nothing: what the member knew when it sent the
                             * first of these: */
    bool has_partial;       /* Records came from it that no vector joined since then covers. */

    /* It told this node to begin again: until then at most, the others wait for its pass. 0: it
     * did not, or the pass has ended. */
    uint64_t first_until_ms;
    /* While this node is starting: when the member was asked for more than a first page, by
     * replica.turn; those asked later wait for its pass. 0: it was not, or the pass has ended. */
    uint64_t lead_turn;
    uint64_t next_at_ms;
    uint64_t digest_at_ms;
    uint32_t fail_count;
    bool is_answering; /* The last pull ended well. */
    bool is_starting;  /* It answered that it is. */
    uint64_t ok_ms;    /* When the last pull ended well; 0: never. */
    uint64_t lag_ms;   /* Since when there is a lag; 0: there is none. */
    uint64_t relay_at_ms;
    bool has_record_alarm;
    bool has_digest_alarm;
    char error[REPLICA_REASON_BYTES];

    /* Its latest state, from a request or an answer. */
    uint64_t heard_ms;
    uint64_t heard_unix_ms; /* Its clock then. */
    uint64_t head_block;
    int64_t clock_ahead_ms;
    bool in_service;
    uint64_t answered_ms; /* When it answered last, with a page or not; 0: never. */
};

struct replica {
    struct replica_cfg cfg;
    struct member *members;
    struct store_known *settled; /* Room for one of each member. */
    size_t count;
    size_t next_idx; /* Where replica_next looks first. */
    uint32_t last_ticket;
    uint64_t turn; /* Counts what is sent and what is heard, to know which came first. */
    bool has_members;
    bool has_secret;
    bool is_founder; /* It made the secret, and knows who can have come into service since. */
    bool has_own;
    bool in_service;
    bool is_clocked; /* start_ms is set. */
    uint64_t start_ms;
    uint64_t members_ms; /* When replica_set_members was called last. */
    uint64_t self_id;    /* This node's own entry in the registry; 0: it has none. */
    bool was_away;       /* It was out of the registry, and not every member has been asked since
                          * whether it knows of that time. */
    struct departed departed[REPLICA_MEMBER_COUNT_MAX];
    size_t departed_count; /* Ever; the last REPLICA_MEMBER_COUNT_MAX are kept. */
    bool is_mixed;         /* What is here may be older than what a member has collected. */
    bool has_orphans;      /* Records are here whose sender's vector is not kept any more. */
    bool was_listed;       /* It had an entry in the registry, once. */
    bool has_bound;        /* Of what the vector may be shortened to; see note_bound. */
    uint64_t bound_ms;     /* When it was noted last. */
    uint64_t bound_unix_ms;
    uint64_t compacted_unix_ms; /* The vector was shortened up to here. */
    bool has_shared;            /* It has given the secret away; */
    uint64_t shared_ms;         /* first then. */
    uint8_t own[STORE_WRITER_BYTES];
    uint8_t secret_hash[REPLICA_HASH_BYTES];
    uint64_t head_block;
    struct replica_stats stats;
};

bool id_equal(const uint8_t a[static STORE_WRITER_BYTES],
              const uint8_t b[static STORE_WRITER_BYTES]);
bool id_is_zero(const uint8_t id[static STORE_WRITER_BYTES]);
bool hash_equal(const uint8_t a[static REPLICA_HASH_BYTES],
                const uint8_t b[static REPLICA_HASH_BYTES]);

struct member *member_find(struct replica *r, const struct wallet *wallet);
/* The member whose task has the ticket, or NULL. */
struct member *member_of_ticket(struct replica *r, uint32_t ticket);
/* The pull ahead that has the ticket, and its member; or NULL, and *out stays. */
struct task *ahead_of_ticket(struct replica *r, uint32_t ticket, struct member **out);
void member_close(struct member *m);
/* Ends what is under way and forgets all that our incarnation or its secret had to do with. */
void member_restart(struct member *m);
/* Takes in what it says of itself: in an answer, or in a request that is not older than what was
 * heard before. */
void member_hear(struct member *m, const struct replica_state *state,
                 const struct replica_now *now);
/* Whether the last pull ended well, and not too long ago. */
bool member_is_reachable(const struct replica *r, const struct member *m, uint64_t now_ms);

/* ---- boots.c ---- */

/* A message of this incarnation has come, or somebody told of it. Returns whether it can be
 * alive. */
bool boots_hear(struct boots *b, const uint8_t id[static STORE_WRITER_BYTES], uint64_t *turn);
/* The same for what a member has heard of the others. */
void boots_hear_all(struct replica *r, const struct replica_heard *heard, size_t heard_count);
/* It has answered a request that was sent at `turn`, sent_ms. Returns whether it is another one
 * than before: what was known of the former is void. */
bool boots_confirm(struct boots *b, const uint8_t id[static STORE_WRITER_BYTES], uint64_t turn,
                   uint64_t sent_ms);
bool boots_is_retired(const struct boots *b, const uint8_t id[static STORE_WRITER_BYTES]);
/* Whether id answered us, and nothing has been heard since that could mean that it is over. */
bool boots_is_present(const struct boots *b, const uint8_t id[static STORE_WRITER_BYTES]);

/* ---- shown.c ---- */

/* A request carries a vector. NOMEM, INVALID: as it was. */
RC shown_ask(struct shown *shown, const struct store_known *known);
/* It is an acknowledgement of the incarnation `by`. */
void shown_acknowledge(struct shown *shown, const uint8_t by[static STORE_WRITER_BYTES],
                       uint64_t now_ms);
/* Lets the candidate settle when its time has come. */
void shown_age(struct shown *shown, uint64_t settle_ms, uint64_t now_ms);
void shown_clear(struct shown *shown);

/* ---- collect.c ---- */

/* Up to which time all that the member stamped is here; 0: unknown. */
uint64_t member_all_unix_ms(const struct replica *r, const struct member *m);

/* This boot of the member is over, or it has left: what it stamped later than we know may be on its
 * way through others, or come back with it. For a while it goes on to bound what is taken for
 * known. */
void note_bound(struct replica *r, const struct member *m, uint64_t now_ms);
/* Whether our vector covers everything that anybody stamped up to hlc. */
bool rest_covers(const struct store *s, uint64_t hlc);
/* Whether our vector is empty. */
bool knows_nothing(const struct store *s);
/* R5: whether this boot of the member, which knows that, had left, and what it wrote may since have
 * come to count as known without being here: it must drop its state. */
bool was_left_behind(const struct store *s, const struct member *m,
                     const uint8_t boot[static STORE_WRITER_BYTES],
                     const struct store_known *known);
/* R5: the same for what any other member may have come to count as known meanwhile. */
bool was_away_too_long(const struct replica *r, const struct member *m,
                       const uint8_t boot[static STORE_WRITER_BYTES], uint64_t now_ms);

/* ---- start.c ---- */

/* Decides whether the node has enough to serve. */
void start_update(struct replica *r, uint64_t now_ms);
/* From how many others in service a starting node must have all: N - W + 1 meet every set of W
 * members that acknowledged a write, this one aside. */
size_t start_needed_count(const struct replica *r);

/* ---- newcomer.c ---- */

/* Whether this incarnation, which is not in service and is given a page, is the first of its member
 * that ever can be. */
bool newcomer_admit(struct replica *r, struct member *m, const struct replica_state *state,
                    uint64_t now_ms);
/* A request or a page has come. */
void newcomer_hear(struct replica *r, const struct member *m, const struct replica_state *state);
/* Before those that left are forgotten. */
void newcomer_members_changed(struct replica *r);

/* ---- pull.c ---- */

/* How long the others wait for each page of a member that told this node to begin again. */
#define FIRST_MS 2000u

/* The task ended, and what was asked ahead with it. */
void task_end(struct member *m);
/* The task ended well; the first that was asked ahead takes its place, if it asked for what comes
 * next. Otherwise all of them are void. */
void task_advance(struct member *m);
/* The pull ahead, one of m->ahead, is void, and so are those that were asked behind it. */
void ahead_drop(struct member *m, const struct task *from);
/* It ended badly: backs off, and keeps the sentence. */
void task_fail(struct replica *r, struct member *m, const struct replica_now *now,
               const char *reason);
/* How often digests are compared. */
uint64_t digest_interval_ms(const struct replica *r);
