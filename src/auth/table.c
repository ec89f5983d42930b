/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/table.h"

#include <stdlib.h>

void auth_list_remove(struct auth_node *node) {
    struct auth_list *list = node->list;
    if (list == NULL) {
        return;
    }
    *(node->prev != NULL ? &node->prev->next : &list->head) = node->next;
    *(node->next != NULL ? &node->next->prev : &list->tail) = node->prev;
    list->count--;
    node->list = NULL;
    node->prev = NULL;
    node->next = NULL;
}

void auth_list_append(struct auth_list *list, struct auth_node *node) {
    auth_list_remove(node);
    node->list = list;
    node->prev = list->tail;
    *(list->tail != NULL ? &list->tail->next : &list->head) = node;
    list->tail = node;
    list->count++;
}

void auth_list_prepend(struct auth_list *list, struct auth_node *node) {
    auth_list_remove(node);
    node->list = list;
    node->next = list->head;
    *(list->head != NULL ? &list->head->prev : &list->tail) = node;
    list->head = node;
    list->count++;
}

RC auth_table_init(struct auth_table *table, uint32_t slot_count, size_t slot_bytes,
                   const uint8_t hash_key[static SIPHASH_KEY_BYTES]) {
    *table = (struct auth_table){ .key = siphash_key_from(hash_key),
                                  .slot_bytes = slot_bytes,
                                  .slot_count = slot_count };
    size_t bucket_count = 1;
    while (bucket_count < slot_count) {
        bucket_count *= 2;
    }
    table->bucket_mask = bucket_count - 1;
    table->buckets = calloc(bucket_count, sizeof(struct auth_node *));
    table->slots = calloc(slot_count, slot_bytes);
    if (table->buckets == NULL || table->slots == NULL) {
        auth_table_close(table);
        return ERR(NOMEM);
    }
    return OK;
}

void auth_table_close(struct auth_table *table) {
    free(table->buckets);
    free(table->slots);
    *table = (struct auth_table){ 0 };
}

static struct auth_node **bucket_of(const struct auth_table *table, const struct wallet *wallet) {
    return &table->buckets[siphash(&table->key, wallet_span(wallet)) & table->bucket_mask];
}

struct auth_node *auth_table_find(const struct auth_table *table, const struct wallet *wallet) {
    struct auth_node *node = *bucket_of(table, wallet);
    while (node != NULL && !wallet_equal(&node->wallet, wallet)) {
        node = node->hash_next;
    }
    return node;
}

static struct auth_node *take_free(struct auth_table *table) {
    struct auth_node *node = table->free.head;
    if (node != NULL) {
        auth_list_remove(node);
    } else if (table->touched_count < table->slot_count) {
        uint8_t *slot = table->slots + table->slot_bytes * table->touched_count++;
        node = (struct auth_node *)(void *)slot;
    }
    return node;
}

struct auth_node *auth_table_add(struct auth_table *table, const struct wallet *wallet) {
    struct auth_node *node = take_free(table);
    if (node == NULL) {
        return NULL;
    }
    memset(node, 0, table->slot_bytes);
    node->wallet = *wallet;
    struct auth_node **bucket = bucket_of(table, wallet);
    node->hash_next = *bucket;
    *bucket = node;
    return node;
}

void auth_table_remove(struct auth_table *table, struct auth_node *node) {
    struct auth_node **link = bucket_of(table, &node->wallet);
    while (*link != node) {
        link = &(*link)->hash_next;
    }
    *link = node->hash_next;
    auth_list_append(&table->free, node);
}
