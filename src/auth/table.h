/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded table of slots by wallet, and lists that a slot stands in. All memory is taken in
 * _init; everything else is O(1). One owner, or the owner's lock. */
#pragma once

#include "base/siphash.h"
#include "base/wallet.h"

/* The head of the owner's own slot struct. */
struct auth_node {
    struct wallet wallet;
    struct auth_node *hash_next;
    struct auth_list *list; /* NULL when in none. */
    struct auth_node *prev;
    struct auth_node *next;
};

struct auth_list {
    struct auth_node *head;
    struct auth_node *tail;
    uint32_t count;
};

/* To the end, or the beginning; node is taken out of the list it stands in first. */
void auth_list_append(struct auth_list *list, struct auth_node *node);
void auth_list_prepend(struct auth_list *list, struct auth_node *node);
/* Does nothing for a node in no list. */
void auth_list_remove(struct auth_node *node);

/* Embedded; zero is a closed table. */
struct auth_table {
    struct siphash_key key;
    struct auth_node **buckets;
    uint64_t bucket_mask;
    uint8_t *slots;
    size_t slot_bytes;
    uint32_t slot_count;
    uint32_t touched_count; /* Slots ever used: the memory of the others is not resident. */
    struct auth_list free;  /* Slots used before. */
};

/* slot_bytes is the size of a struct that starts with a struct auth_node. NOMEM. */
RC auth_table_init(struct auth_table *table, uint32_t slot_count, size_t slot_bytes,
                   const uint8_t hash_key[static SIPHASH_KEY_BYTES]);
/* Frees. Accepts a zeroed or closed table. */
void auth_table_close(struct auth_table *table);
/* Lends the wallet's slot, or NULL. */
struct auth_node *auth_table_find(const struct auth_table *table, const struct wallet *wallet);
/* Lends a zeroed slot for a wallet that has none; NULL when all are in use. */
struct auth_node *auth_table_add(struct auth_table *table, const struct wallet *wallet);
/* Gives the slot back, out of its list too. */
void auth_table_remove(struct auth_table *table, struct auth_node *node);
