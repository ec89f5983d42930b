/* SPDX-License-Identifier: Apache-2.0 */
/* Every writer this replica has to remember, as a small number: what is known of it (the version
 * vector), what was collected of it (the floor), and how many records name it. All memory is taken
 * at init. Internal. */
#pragma once

#include "store/store.h"

struct writer_entry {
    uint8_t id[STORE_WRITER_BYTES];
    uint64_t known_hlc; /* 0: not listed in the vector. */
    uint64_t floor_hlc; /* 0: nothing of it was collected, or floor_rest_hlc covers what was. */
    uint32_t use_count; /* Records, and the store itself for its own writer. */
    uint32_t next_idx;  /* In its bucket, or in the list of free entries. */
};

struct writers {
    struct siphash_key key;
    struct writer_entry *at; /* [0] is nobody: index 0 means none. */
    uint32_t *buckets;
    uint64_t *known_scratch; /* By index: one vector, or the meet of several. */
    uint64_t *other_scratch;
    uint32_t entry_count_max;
    uint32_t bucket_mask;
    uint32_t used_count;       /* Entries that have ever been in use: [1..used_count]. */
    uint32_t free_idx;         /* First free entry among those, or 0. */
    uint32_t entry_count;      /* In use. */
    uint32_t listed_count;     /* With a known_hlc. */
    uint32_t own_idx;          /* Our own writer. */
    uint32_t recent_idx;       /* The last one taken, or 0: the next is probably the same. */
    uint64_t rest_hlc;         /* Of the vector. */
    uint64_t floor_rest_hlc;   /* Of the floor: what it says of writers not in it. */
    uint64_t floor_folded_hlc; /* Entries up to here have been folded into that. */
    uint64_t floor_top_hlc;    /* The greatest stamp ever collected. */
    uint64_t floor_rise_count; /* How often the floor rose, over all resets. */
};

/* Copies key and own. NOMEM. */
RC writers_init(struct writers *w, uint32_t entry_count_max, const struct siphash_key *key,
                const uint8_t own[static STORE_WRITER_BYTES]);
/* Frees. Accepts a zeroed or closed one. */
void writers_close(struct writers *w);
/* Forgets everything but keeps its memory. */
void writers_reset(struct writers *w, const uint8_t own[static STORE_WRITER_BYTES]);

/* Index, or 0. */
uint32_t writers_find(const struct writers *w, const uint8_t id[static STORE_WRITER_BYTES]);
/* The writer's index, in use once more; 0 when there is no room. */
uint32_t writers_take(struct writers *w, const uint8_t id[static STORE_WRITER_BYTES]);
/* Undoes one take. Accepts 0. */
void writers_release(struct writers *w, uint32_t idx);

/* What the vector says of it: its own entry, or the rest. */
uint64_t writers_known(const struct writers *w, uint32_t idx);
/* Raise its entry in the vector, or in the floor; a lower hlc changes nothing. */
void writers_raise_known(struct writers *w, uint32_t idx, uint64_t hlc);
void writers_raise_floor(struct writers *w, uint32_t idx, uint64_t hlc);
/* Folds the floor's entries up to rest_hlc, which every member's vector covers by its rest, into
 * one: a stale replica that does not is told to reset all the same. */
void writers_fold_floor(struct writers *w, uint64_t rest_hlc);
/* Raises the floor of all writers that have no entry in it, and of those that have a lower one. */
void writers_raise_floor_rest(struct writers *w, uint64_t rest_hlc);
/* Raises the rest, and unlists what it covers. */
void writers_raise_rest(struct writers *w, uint64_t rest_hlc);

/* By index, what `known` says of each of our writers; valid until the next call of this one or
 * writers_meet. */
const uint64_t *writers_project(const struct writers *w, const struct store_known *known);
/* By index, the least that our vector and all of `known` say; *rest_hlc gets the least rest. */
const uint64_t *writers_meet(const struct writers *w, const struct store_known *known, size_t count,
                             uint64_t *rest_hlc);
