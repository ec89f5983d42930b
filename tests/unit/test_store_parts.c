/* SPDX-License-Identifier: Apache-2.0 */
/* The store's own structures, at sizes and in orders that the store itself rarely reaches. */
#include "store/index.h"
#include "store/log.h"
#include "store/table.h"
#include "store/tree.h"
#include "store_fixture.h"

#define COUNT 5000

static struct record *make_record(uint32_t key, uint64_t hash) {
    struct record *r = calloc(1, sizeof(*r) + sizeof(key));
    assert_non_null(r);
    r->key_len = sizeof(key);
    r->hash = hash;
    memcpy(record_key_ptr(r), &key, sizeof(key));
    return r;
}

static struct record *records[COUNT];

static void make_records(uint64_t hash_factor) {
    for (uint32_t i = 0; i < COUNT; i++) {
        records[i] = make_record(i, i * hash_factor);
    }
}

static void free_records(void) {
    for (size_t i = 0; i < COUNT; i++) {
        free(records[i]);
        records[i] = NULL;
    }
}

/* ---- The table ---- */

static struct hash_row {
    const char *name;
    uint64_t factor;
} hash_rows[] = {
    { "table_spread", UINT64_C(0x9e3779b97f4a7c15) },
    { "table_in_order", 1 },
    { "table_high_bits_only", UINT64_C(1) << 40 },
};

static void assert_all_found(const struct table *t, size_t from, size_t to) {
    for (size_t i = 0; i < COUNT; i++) {
        const struct record *r = records[i];
        const struct record *want = i >= from && i < to ? r : NULL;
        assert_ptr_equal(table_find(t, r->hash, record_key(r)), want);
    }
}

static void test_table(void **state) {
    const struct hash_row *c = *state;
    make_records(c->factor);
    struct table t;
    assert_ok(table_init(&t));
    for (size_t i = 0; i < COUNT; i++) {
        size_t before = t.bucket_count;
        table_insert(&t, records[i]);
        assert_true(t.bucket_count - before <= 2); /* Nobody pays for all. */
        if (i % 1000 == 0) {
            assert_all_found(&t, 0, i + 1);
        }
    }
    assert_int_equal(t.bucket_count, COUNT * 2 / 5);
    assert_all_found(&t, 0, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        table_remove(&t, records[i]);
        if (i % 1000 == 0) {
            assert_all_found(&t, i + 1, COUNT);
        }
    }
    assert_int_equal(t.record_count, 0);
    assert_int_equal(t.bucket_count, TABLE_SEGMENT_BUCKETS);
    table_close(&t);
    table_close(&t);
    free_records();
}

/* ---- The tree ---- */

static int compare(const struct tree_node *a, const struct tree_node *b) {
    return (a > b) - (a < b); /* Nodes of one array. */
}

static struct tree_node nodes[COUNT];

static struct tree_row {
    const char *name;
    uint64_t factor; /* Of the priorities: 1 makes the tree a list. */
} tree_rows[] = {
    { "tree_spread", UINT64_C(0x9e3779b97f4a7c15) },
    { "tree_rising", 1 },
    { "tree_falling", UINT64_MAX },
    { "tree_level", 0 },
};

static void test_tree(void **state) {
    const struct tree_row *c = *state;
    struct tree_node *root = NULL;
    assert_null(tree_first(root));
    for (size_t i = 0; i < COUNT; i++) {
        size_t at = i * 7 % COUNT;
        nodes[at] = (struct tree_node){ .priority = at * c->factor };
        tree_insert(&root, &nodes[at], compare);
    }
    for (size_t i = 1; i < COUNT; i += 2) {
        assert_true(tree_contains(root, &nodes[i], compare));
        tree_remove(&root, &nodes[i], compare);
        assert_false(tree_contains(root, &nodes[i], compare));
    }
    for (size_t i = 0; i < COUNT; i += 2) {
        assert_ptr_equal(tree_first(root), &nodes[i]);
        tree_remove(&root, &nodes[i], compare);
    }
    assert_null(root);
}

/* ---- The index ---- */

/* Keys that share much or nothing, are prefixes of one another, or differ by trailing zeros. */
static size_t make_key(size_t kind, size_t i, uint8_t out[static 200]) {
    static const size_t shared_lens[] = { 0, 10, 43, 44, 45, 150 };
    memset(out, 'p', 200);
    if (kind == 6) { /* i zeros */
        memset(out, 0, 200);
        return 1 + i % 200;
    }
    size_t len = shared_lens[kind];
    out[len++] = (uint8_t)(i >> 8);
    out[len++] = (uint8_t)i;
    return len + i % 3;
}

static struct index_row {
    const char *name;
    size_t kind;
    size_t count;
    size_t stride; /* Order of arrival and departure: coprime to the count. */
} index_rows[] = {
    { "index_rising", 1, 4999, 1 },        { "index_falling", 1, 4999, 4998 },
    { "index_mixed", 0, 4999, 1237 },      { "index_shares_43", 2, 4999, 1237 },
    { "index_shares_44", 3, 4999, 1237 },  { "index_shares_45", 4, 4999, 1237 },
    { "index_shares_150", 5, 4999, 1237 }, { "index_zeros", 6, 199, 17 },
    { "index_zeros_rising", 6, 199, 1 },
};

static struct record *make_keyed(size_t kind, size_t i) {
    uint8_t key[200];
    size_t len = make_key(kind, i, key);
    struct record *r = calloc(1, sizeof(*r) + len);
    assert_non_null(r);
    r->key_len = (uint16_t)len;
    memcpy(record_key_ptr(r), key, len);
    return r;
}

static void assert_seeks(const struct index *index, size_t count, const bool *present) {
    const struct record *want = NULL;
    for (size_t i = count; i-- > 0;) { /* Kinds are in the order of i. */
        struct index_place place = index_seek(index, record_key(records[i]), false);
        assert_ptr_equal(index_next(&place), want);
        want = present[i] ? records[i] : want;
        place = index_seek(index, record_key(records[i]), true);
        assert_ptr_equal(index_next(&place), want);
    }
    struct index_place place = index_seek(index, SPAN_EMPTY, true);
    assert_ptr_equal(index_next(&place), want);
}

static void test_index(void **state) {
    const struct index_row *c = *state;
    static bool present[COUNT];
    memset(present, 0, sizeof(present));
    struct index index = { 0 };
    struct index_pool pool = { 0 };
    for (size_t i = 0; i < c->count; i++) {
        records[i] = make_keyed(c->kind, i);
    }
    assert_seeks(&index, c->count, present);
    for (size_t n = 0; n < c->count; n++) {
        size_t i = n * c->stride % c->count;
        assert_ok(index_reserve(&pool, &index));
        index_insert(&index, &pool, records[i]);
        present[i] = true;
        if (n % 997 == 0 || n < 70) {
            assert_int_equal(index_check(&index), n + 1);
        }
    }
    assert_seeks(&index, c->count, present);
    for (size_t n = 0; n < c->count; n++) {
        size_t i = n * c->stride % c->count;
        index_remove(&index, &pool, records[i]);
        present[i] = false;
        if (n % 499 == 0 || n + 150 > c->count) {
            assert_int_equal(index_check(&index), c->count - n - 1);
            assert_seeks(&index, c->count, present);
        }
    }
    assert_null(index.root);
    index_close(&index);
    index_pool_close(&pool);
    free_records();
}

/* ---- The log ---- */

/* Anchors keep their distance whoever moves, so a reader never walks far. */
static void assert_anchors(const struct log *log) {
    size_t distance = 0;
    for (const struct record *r = log->oldest; r != NULL; r = r->newer) {
        distance = (r->flags & RECORD_ANCHOR) != 0 ? 1 : distance + 1;
        assert_true(distance <= LOG_ANCHOR_SPACING);
    }
}

static struct move_row {
    const char *name;
    size_t stride; /* Which record moves to the end next. */
    size_t repeat; /* How often each time. */
} move_rows[] = {
    { "log_oldest_moves", 1, 1 }, { "log_newest_moves", COUNT - 1, 1 },
    { "log_far_moves", 1237, 1 }, { "log_anchors_move", LOG_ANCHOR_SPACING, 1 },
    { "log_one_twice", 1, 2 },    { "log_before_anchors", LOG_ANCHOR_SPACING - 1, 3 },
};

static void test_log(void **state) {
    const struct move_row *c = *state;
    make_records(1);
    struct log log = { 0 };
    for (size_t i = 0; i < COUNT; i++) {
        log_append(&log, records[i]);
    }
    assert_anchors(&log);
    size_t at = 0;
    for (size_t i = 0; i < COUNT; i++) {
        at = (at + c->stride) % COUNT;
        for (size_t n = 0; n < c->repeat; n++) {
            log_remove(&log, records[at]);
            log_append(&log, records[at]);
        }
        if (i % 500 == 0) {
            assert_anchors(&log);
        }
    }
    assert_anchors(&log);
    for (const struct record *r = log.oldest; r != NULL; r = r->newer) {
        assert_ptr_equal(log_seek(&log, r->position - 1), r);
    }
    assert_null(log_seek(&log, log.last_position));
    for (size_t i = 0; i < COUNT; i++) {
        log_remove(&log, records[i]);
    }
    assert_null(log.oldest);
    assert_int_equal(log.anchor_count, 0);
    log_close(&log);
    free_records();
}

int main(void) {
    struct CMUnitTest tests[32];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_table, hash_rows);
    TEST_ADD_ROWS(tests, count, test_tree, tree_rows);
    TEST_ADD_ROWS(tests, count, test_index, index_rows);
    TEST_ADD_ROWS(tests, count, test_log, move_rows);
    return _cmocka_run_group_tests("store_parts", tests, count, NULL, NULL);
}
