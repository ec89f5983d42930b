/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed records in memory, by application: a replica of a lattice whose join is store_merge (the
 * proof is in docs/replication.md). Pure: time and random bytes are arguments, and
 * values are opaque ciphertext.
 *
 * Threads: there is no lock inside. One owner at a time calls any of these functions; a caller with
 * several threads wraps the store in one mutex, and keeps it for as long as it uses what was lent.
 *
 * Cost: no call walks a namespace. Get is O(1), and so is a put over a value without a ttl; other
 * writes are O(log n), and so are lists beside what they give.
 *
 * Memory: client writes are bounded by app_bytes_max and total_bytes_max, merges by hard_bytes_max,
 * where each record counts its key, its sealed bytes and STORE_RECORD_BYTES, a deleted or expired
 * one too until it is collected, and each namespace STORE_NAMESPACE_BYTES of the totals.
 *
 * Failure: a call that fails changes nothing that another call could see, also when memory ends. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/siphash.h"
#include "store/stamp.h"

struct store; /* Opaque. */

#define STORE_KEY_BYTES_MAX 1024
#define STORE_TTL_MS_MAX (UINT64_C(3653) * 24 * 3600 * 1000) /* 10 years. */
/* What a record costs beside its key and its sealed bytes: its header, the queue entry of one that
 * dies by itself, its share of the hash table and of the indexes, and malloc's own rounding. */
#define STORE_RECORD_BYTES 256
#define STORE_NAMESPACE_BYTES 2560
/* Records that one list may step over beside those it gives; see store_list. */
#define STORE_LIST_SKIP_MAX 1024
/* Records that one store_log_read looks at. */
#define STORE_LOG_SCAN_MAX 4096
/* How long a dead record that some member does not cover waits for its next look. */
#define STORE_COLLECT_RETRY_MS 60000

struct store_cfg {
    uint8_t hash_key[SIPHASH_KEY_BYTES]; /* Random: keys and writers are chosen by others. */
    uint8_t writer[STORE_WRITER_BYTES];  /* Random, never all zero, new with each boot. */
    uint64_t app_bytes_max;              /* A client's write that leaves more is refused. */
    uint64_t total_bytes_max;            /* The same over all namespaces. */
    uint64_t hard_bytes_max;             /* The same for merges; at least total_bytes_max. */
    uint64_t sealed_bytes_max;           /* Of one value as it is stored: nonce and tag included. */
    uint64_t tombstone_count_max;        /* Per app: a delete that leaves more is refused. */
    uint64_t tombstone_retention_ms;     /* Least age of a collected record. */
    uint64_t clock_skew_ms;              /* How far ahead of now a stamp may be. */
    uint32_t namespace_count_max;        /* For client writes; 1 to 2^24. */
    uint32_t writer_count_max;           /* Writers remembered; 2 to 2^20. */
};

/* Gives *out, NULL on error. Copies cfg. BAD_CONFIG when a field is outside what it says, NOMEM. */
RC store_init(struct store **out, const struct store_cfg *cfg);
/* Takes *store and sets it to NULL. Accepts a closed store. Cannot fail. */
void store_close(struct store **store);

/* ---- What the application asks for ---- */

/* Why a write or a merge was refused; the names are the labels of a metric. */
#define STORE_REFUSAL_MAP(X)      \
    X(NONE, "none")               \
    X(KEY, "key")                 \
    X(SEALED, "sealed")           \
    X(TTL, "ttl")                 \
    X(SEEN, "seen_future")        \
    X(CLOCK, "clock")             \
    X(APP_BYTES, "app_bytes")     \
    X(TOTAL_BYTES, "total_bytes") \
    X(TOMBSTONES, "tombstones")   \
    X(NAMESPACES, "namespaces")   \
    X(SKEW, "skew")               \
    X(MALFORMED, "malformed")     \
    X(HARD_BYTES, "hard_bytes")   \
    X(WRITERS, "writers")         \
    X(MEMORY, "memory")
#define STORE_REFUSAL_ENUM(name, text) STORE_REFUSED_##name,
enum store_refusal { STORE_REFUSAL_MAP(STORE_REFUSAL_ENUM) STORE_REFUSAL_COUNT };
#undef STORE_REFUSAL_ENUM
/* "app_bytes" */
const char *store_refusal_name(enum store_refusal refusal);

struct store_write {
    uint64_t app_id;
    struct span key;    /* 1 to STORE_KEY_BYTES_MAX bytes. */
    struct span sealed; /* 1 to sealed_bytes_max bytes; not read by store_delete. */
    uint64_t ttl_ms;    /* 0 means never; at most STORE_TTL_MS_MAX; not read by store_delete. */
    uint64_t now_unix_ms;
    struct store_stamp seen; /* The highest stamp the caller has shown, or none. */
};

struct store_written {
    struct store_stamp stamp;   /* Of this write; none when it failed. */
    bool existed;               /* Whether a live value was here before. */
    enum store_refusal refusal; /* Why it failed; NONE when it did not. */
};

/* Stores w's value under a new stamp: greater than that of the record it replaces, than w->seen,
 * and than any this writer has given. Stamp, record and known[self] change together. Copies key and
 * sealed bytes, which s must not have lent. *out is filled in any case. Errors, with out->refusal:
 *   INVALID   KEY: empty; SEALED: empty; TTL: over STORE_TTL_MS_MAX; CLOCK: now past the year 10889
 *   TOO_BIG   KEY, SEALED: over their limit
 *   FUTURE    SEEN: the shown stamp, CLOCK: one of our own, is over now + clock_skew_ms
 *   QUOTA     APP_BYTES, TOTAL_BYTES, NAMESPACES, TOMBSTONES. A write that makes its record no
 *             bigger is never refused for bytes.
 *   NOMEM     MEMORY */
RC store_put(struct store *s, const struct store_write *w, struct store_written *out);
/* The same, leaving a tombstone; also for a key this replica has never seen, because another may
 * hold it. */
RC store_delete(struct store *s, const struct store_write *w, struct store_written *out);

enum store_state { STORE_LIVE, STORE_EXPIRED, STORE_TOMBSTONE };

struct store_record {
    uint64_t app_id;
    struct span key;
    struct span sealed; /* Empty for a tombstone, and for an expired value whose bytes are freed. */
    struct store_stamp stamp;
    struct store_stamp replaced; /* What its writer had under this key, or none. */
    uint64_t ttl_ms;             /* 0 means never. */
    uint64_t expires_unix_ms;    /* 0 means never. */
    enum store_state state;      /* At the given time; log pages do not look at the time. */
};

/* Lends *out until the next call that changes s. NOT_FOUND when there is no live value: then *out
 * still tells the stamp of the tombstone or the expired value, or is all zero. */
RC store_get(const struct store *s, uint64_t app_id, struct span key, uint64_t now_unix_ms,
             struct store_record *out);

struct store_range {
    uint64_t app_id;
    struct span prefix; /* Only keys that start with it; empty for all. */
    struct span after;  /* Only keys greater than it; empty for the first page. */
    uint64_t now_unix_ms;
    size_t limit; /* Room in the array given; at least 1. */
};

struct store_page {
    size_t count;
    bool more;              /* Ask again with after = next_after; the page may even be empty. */
    struct span next_after; /* Lent as the records; empty unless more. */
};

/* Fills out[0..page->count) with the live records of the range in key order; lends them until the
 * next call that changes s. One call gives at most `limit` records and steps over at most
 * STORE_LIST_SKIP_MAX expired ones, so that a page can be short, or empty, with more to come: the
 * range has ended only when `more` is false. A key that holds a value during the whole listing is
 * given exactly once. INVALID when limit is 0, or `after` is set and does not start with
 * `prefix`. */
RC store_list(const struct store *s, const struct store_range *range, struct store_record *out,
              struct store_page *page);

/* ---- What this replica knows ---- */

struct store_known_entry {
    uint8_t writer[STORE_WRITER_BYTES];
    uint64_t hlc;
};

/* A version vector: everything that `writer` wrote up to `hlc` is here, or was superseded. A writer
 * that is not listed counts as listed with rest_hlc; 0 is what no replica starts above. Entries are
 * in any order, each writer once. */
struct store_known {
    const struct store_known_entry *entries;
    size_t count;
    uint64_t rest_hlc;
};

/* Whether known[stamp.writer] >= stamp.hlc. No stamp is always covered. */
bool store_covers(const struct store *s, const struct store_stamp *stamp);
/* The same for somebody else's vector. O(count). */
bool store_known_covers(const struct store_known *known, const struct store_stamp *stamp);
/* Entries that store_known_copy writes; at most writer_count_max. */
size_t store_known_count(const struct store *s);
/* Writes this replica's vector to entries (room for entry_count_max; TOO_BIG if that is less than
 * store_known_count) and points *out at them. */
RC store_known_copy(const struct store *s, struct store_known_entry *entries,
                    size_t entry_count_max, struct store_known *out);
/* Joins what a peer knows into our own: only after everything it gave has been merged. All or
 * nothing. FUTURE: an entry is beyond now + clock_skew_ms. INVALID: an entry for our own writer is
 * above our own, or a writer is all zero. QUOTA: over writer_count_max. */
RC store_join_known(struct store *s, const struct store_known *peer, uint64_t now_unix_ms);
/* Sets rest_hlc and drops the entries it covers, so that the vector does not grow with every boot
 * of every node. The caller vouches that everything any writer stamped up to hlc is here: it has
 * pulled to the end from every member since that member's clock passed it. Never lowers. FUTURE
 * when hlc is within tombstone_retention_ms of now: a writer must have time to be heard of. */
RC store_compact_known(struct store *s, uint64_t hlc, uint64_t now_unix_ms);
/* Our own writer. Lends STORE_WRITER_BYTES until store_reset. */
const uint8_t *store_writer(const struct store *s);

/* ---- Replication ---- */

struct store_remote {
    uint64_t app_id;
    struct span key;
    struct span sealed; /* Empty for a tombstone, or a value that expired at the sender. */
    struct store_stamp stamp;
    struct store_stamp replaced;
    uint64_t ttl_ms;
    bool tombstone;
    uint64_t hash; /* What store_merge_ahead() made of app and key; 0: it was not called. */
};

enum store_outcome {
    STORE_MERGE_REFUSED, /* Nothing happened; the RC and refusal say why. */
    STORE_MERGE_APPLIED, /* It is the greatest of its key so far and is here now. */
    STORE_MERGE_SAME,    /* It was here already. */
    STORE_MERGE_OLDER,   /* What is here is greater and stays. */
    STORE_MERGE_STALE,   /* Known covers it and nothing of the key is here: it was superseded and
                          * collected, and is not revived. */
};

struct store_merged {
    enum store_outcome outcome;
    bool conflict; /* The winner's writer had not seen the loser. */
    enum store_refusal refusal;
};

/* Fetches what store_merge() of r will look for into the processor's cache, without waiting for it.
 * For a few dozen records that are merged right after; s is not reset between. Sets r->hash. */
void store_merge_ahead(const struct store *s, struct store_remote *r);
/* Joins one record of another replica: the greater stamp stays. Order, repetition and loss of other
 * records do not change the result. Copies what s must not have lent. *out is filled in any case,
 * and refusals are counted by reason. Never refused for a quota. Errors, with out->refusal:
 *   FUTURE     SKEW: beyond now + clock_skew_ms, or expired at the sender only. Time mends it.
 *   TOO_BIG    KEY, SEALED
 *   MALFORMED  MALFORMED: no key, no stamp, a stamp not above the one it replaced, a value without
 *              bytes or a tombstone with some, a ttl over its limit, or our own writer's stamp that
 *              we did not give
 *   QUOTA      HARD_BYTES, WRITERS: the node must leave service
 *   NOMEM      MEMORY */
RC store_merge(struct store *s, const struct store_remote *r, uint64_t now_unix_ms,
               struct store_merged *out);

struct store_log_query {
    uint64_t since;                  /* Position of a page before, or 0 for the whole log. */
    const struct store_known *known; /* Records it covers are left out; NULL leaves out none. */
    size_t bytes_max;                /* Of keys, sealed bytes and STORE_RECORD_BYTES each. */
    size_t record_count_max;         /* Room in the array given; at least 1. */
};

struct store_log_page {
    size_t count;
    uint64_t next; /* `since` of the next page. */
    bool more;     /* The log goes on; the page may be empty all the same. */
};

/* Fills out[0..page->count) with the change log's records after `since`, oldest first; lends them
 * until the next call that changes s. Each record stands in the log once, at its latest change. The
 * first record is given even if it is over bytes_max. Looks at STORE_LOG_SCAN_MAX records at most.
 * INVALID when record_count_max is 0. */
RC store_log_read(struct store *s, const struct store_log_query *query, struct store_record *out,
                  struct store_log_page *page);
/* Position of the latest change; 0 when there has been none. Never goes back. */
uint64_t store_log_last(const struct store *s);

/* Whether a replica that knows `peer` could bring back what was collected here: its vector is not
 * empty and does not cover the floor, the join of all collected stamps. Asked in both directions: a
 * puller for which it is true must drop its state, and a page that its responder read while it was
 * true of it must not be merged (docs/replication.md). */
bool store_needs_reset(const struct store *s, const struct store_known *peer);
/* The floor, in the form of a vector; a pull's last page carries it beside the responder's
 * vector. */
size_t store_floor_count(const struct store *s);
/* As store_known_copy. */
RC store_floor_copy(const struct store *s, struct store_known_entry *entries,
                    size_t entry_count_max, struct store_known *out);
/* How often the floor rose: equal to what it was before only if nothing was collected since that
 * the floor did not cover then. Never goes back. */
uint64_t store_floor_rise_count(const struct store *s);
/* Joins a responder's floor into our own, just before its vector is joined: whoever takes over that
 * something is known, without having seen it, must also remember that it may be gone. All or
 * nothing. FUTURE: an entry is beyond now + clock_skew_ms. INVALID: a writer is all zero. QUOTA:
 * over writer_count_max. */
RC store_join_floor(struct store *s, const struct store_known *peer, uint64_t now_unix_ms);
/* Drops every record and the vector, and goes on as `writer` (random, not all zero): what this
 * replica wrote may be gone, so it must not say as its old writer that it has it. Stamps still
 * grow. Log positions go on. Walks everything: for a node out of service. */
void store_reset(struct store *s, const uint8_t writer[static STORE_WRITER_BYTES]);

/* A 128-bit sum over the live records without ttl of (key, stamp): equal on replicas that hold the
 * same, whatever the order they came in. All zero for a namespace that is not there. */
struct store_digest {
    uint64_t low;
    uint64_t high;
};
struct store_digest store_digest(const struct store *s, uint64_t app_id);

/* ---- Housekeeping ---- */

struct store_collect {
    uint64_t now_unix_ms;
    const struct store_known *members; /* Of every current member but this node; may be NULL when */
    size_t member_count;               /* this is 0: a single node. */
    size_t step_max;                   /* Records to look at. */
};

struct store_collected {
    size_t removed_count; /* Records that are gone, key and stamp. */
    size_t emptied_count; /* Expired values whose bytes were freed. */
    bool more;            /* Work is due that step_max did not allow. */
};

/* Looks at the records that are due, at most step_max of them, each O(log n); none that is alive.
 * An expired value gives its bytes back clock_skew_ms after it expired. A tombstone or an expired
 * value goes, and the floor rises to its stamp, once every member's vector and our own cover it and
 * its stamp is at least tombstone_retention_ms old. Call it on a timer (100 ms, 1000 steps). */
void store_collect(struct store *s, const struct store_collect *c, struct store_collected *out);

struct store_stats {
    uint64_t namespace_count;
    uint64_t key_count;       /* Records that hold a value, those just expired among them. */
    uint64_t tombstone_count; /* Deleted, not collected yet. */
    uint64_t expired_count;   /* Values whose bytes were freed, not collected yet. */
    uint64_t bytes;           /* As the limits count them. */
    uint64_t app_bytes_peak;  /* Of the namespace that has the most, as its limit counts them. */
    uint64_t writer_count;
    uint64_t conflict_count; /* Since the start, as all below. */
    uint64_t removed_count;
    uint64_t refused_counts[STORE_REFUSAL_COUNT]; /* Merges, by enum store_refusal. */
};
void store_stats(const struct store *s, struct store_stats *out);
/* The counts and bytes of one namespace; the rest is 0. All zero when it is not there. */
void store_app_stats(const struct store *s, uint64_t app_id, struct store_stats *out);
/* Writes the app ids of the namespaces, in any order, up to app_id_count_max. Returns how many. */
size_t store_app_ids(const struct store *s, uint64_t *app_ids, size_t app_id_count_max);

/* Walks everything and ASSERTs every invariant. For tests. */
void store_check(const struct store *s);
