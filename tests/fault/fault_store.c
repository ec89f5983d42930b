/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails, for every n: the call says so, nothing has changed, and the same call
 * succeeds afterwards. */
#include <stdio.h>

#include "fault.h"
#include "store_fixture.h"

#define LATER (NOW + 1000 + SKEW_MS)

static void test_init(void **state) {
    (void)state;
    struct store_cfg cfg = fixture_cfg(7);
    unsigned n = 1;
    for (;; n++) {
        struct store *s = NULL;
        fault_arm(n);
        struct rc rc = store_init(&s, &cfg);
        bool failed = fault_disarm();
        assert_int_equal(rc.err, failed ? E_NOMEM : E_OK);
        assert_int_equal(s == NULL, failed);
        store_close(&s);
        if (!failed) {
            break;
        }
    }
    assert_true(n > 4);
}

/* Enough records for the table to be about to grow by a segment, the log to want an anchor. */
static struct store *open_prepared(void) {
    struct store *s = fixture_open(7);
    char key[16];
    for (unsigned i = 0; i < 128; i++) {
        (void)snprintf(key, sizeof(key), "filler%u", i);
        fixture_put(s, key, "v", 0, NOW);
    }
    fixture_put(s, "plain", "value", 0, NOW);
    fixture_put(s, "mortal", "value", 1000, NOW);
    fixture_delete(s, "dead", NOW);
    while (store_log_last(s) < 256) { /* The next append wants an anchor. */
        fixture_put(s, "filler0", "v", 0, NOW);
    }
    store_check(s);
    return s;
}

static struct call_row {
    const char *name;
    uint64_t app_id;
    const char *key;
    const char *value; /* NULL deletes. */
    uint64_t ttl_ms;
    bool merges; /* Another's record instead of a client's write. */
} call_rows[] = {
    { "put_new_app", 2, "new", "value", 0, false },
    { "put_new", 1, "new", "value", 0, false },
    { "put_new_mortal", 1, "new", "value", 5, false },
    { "put_same_size", 1, "plain", "VALUE", 0, false },
    { "put_longer", 1, "plain", "longer value", 0, false },
    { "put_mortal", 1, "plain", "value", 5, false },
    { "put_over_mortal", 1, "mortal", "value", 0, false },
    { "put_over_dead", 1, "dead", "value", 0, false },
    { "delete_plain", 1, "plain", NULL, 0, false },
    { "delete_dead", 1, "dead", NULL, 0, false },
    { "delete_unknown", 1, "new", NULL, 0, false },
    { "merge_new_app", 2, "new", "value", 0, true },
    { "merge_new", 1, "new", "value", 0, true },
    { "merge_over", 1, "plain", "longer value", 0, true },
    { "merge_tombstone", 1, "mortal", NULL, 0, true },
};

static struct rc call(struct store *s, const struct call_row *c) {
    struct span sealed = c->value == NULL ? SPAN_EMPTY : span_str(c->value);
    if (c->merges) {
        struct store_remote r = { .app_id = c->app_id,
                                  .key = span_str(c->key),
                                  .sealed = sealed,
                                  .stamp = fixture_stamp(NOW + 1, 5, 9),
                                  .replaced = fixture_stamp(NOW, 5, 8),
                                  .ttl_ms = c->ttl_ms,
                                  .tombstone = c->value == NULL };
        struct store_merged merged;
        struct rc rc = store_merge(s, &r, NOW, &merged);
        assert_int_equal(merged.refusal,
                         rc.err == E_OK ? STORE_REFUSED_NONE : STORE_REFUSED_MEMORY);
        return rc;
    }
    struct store_write w = { c->app_id, span_str(c->key), sealed, c->ttl_ms, NOW, { 0 } };
    struct store_written out;
    struct rc rc = c->value == NULL ? store_delete(s, &w, &out) : store_put(s, &w, &out);
    assert_int_equal(out.refusal, rc.err == E_OK ? STORE_REFUSED_NONE : STORE_REFUSED_MEMORY);
    assert_int_equal(store_stamp_is_none(&out.stamp), rc.err != E_OK);
    return rc;
}

/* Everything that a caller can see. */
struct picture {
    struct store_stats stats;
    struct store_digest digests[2];
    uint64_t position;
    struct store_known_entry known[4];
    size_t known_count;
    struct store_stamp stamp;
};

static void look(struct store *s, const struct call_row *c, struct picture *out) {
    memset(out, 0, sizeof(*out));
    store_stats(s, &out->stats);
    memset(out->stats.refused_counts, 0, sizeof(out->stats.refused_counts));
    out->digests[0] = store_digest(s, 1);
    out->digests[1] = store_digest(s, 2);
    out->position = store_log_last(s);
    struct store_known known;
    assert_ok(store_known_copy(s, out->known, 4, &known));
    out->known_count = known.count;
    struct store_record r;
    struct rc rc = store_get(s, c->app_id, span_str(c->key), NOW, &r);
    assert_true(rc.err == E_OK || rc.err == E_NOT_FOUND);
    out->stamp = r.stamp;
}

static void test_call(void **state) {
    const struct call_row *c = *state;
    for (unsigned n = 1;; n++) {
        struct store *s = open_prepared();
        struct picture before;
        struct picture after;
        look(s, c, &before);
        fault_arm(n);
        struct rc rc = call(s, c);
        bool failed = fault_disarm();
        store_check(s);
        if (rc.err != E_OK) {
            assert_int_equal(rc.err, E_NOMEM);
            assert_true(failed);
            look(s, c, &after);
            assert_memory_equal(&before, &after, sizeof(before));
            assert_ok(call(s, c));
            store_check(s);
        }
        store_close(&s);
        if (!failed) {
            break;
        }
    }
}

static void test_empty(void **state) {
    (void)state;
    struct store *s = open_prepared();
    struct store_collect c = { LATER, NULL, 0, 10 };
    struct store_collected out;
    fault_arm(1);
    store_collect(s, &c, &out);
    assert_true(fault_disarm());
    store_check(s);
    assert_int_equal(out.emptied_count, 0);
    assert_false(out.more); /* Later, not in a loop. */
    assert_absent(s, "mortal", LATER);
    c.now_unix_ms += STORE_COLLECT_RETRY_MS;
    store_collect(s, &c, &out);
    assert_int_equal(out.emptied_count, 1);
    store_check(s);
    store_close(&s);
}

/* Without memory to grow, tables and the log's index stay small, and everything is still found. */
static void test_growth(void **state) {
    (void)state;
    struct store *s = fixture_open(7);
    char key[16];
    for (unsigned i = 0; i < 2000; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i);
        struct store_write w = { 1, span_str(key), SPAN_LIT("v"), 0, NOW, { 0 } };
        struct store_written out;
        fault_arm(i % 3 == 0 ? 3U : 1U); /* The third is for growth, when there is one. */
        struct rc rc = store_put(s, &w, &out);
        (void)fault_disarm();
        if (rc.err != E_OK) {
            assert_ok(store_put(s, &w, &out));
        }
    }
    store_check(s);
    for (unsigned i = 0; i < 2000; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i);
        assert_value(s, key, NOW, "v");
    }
    store_close(&s);
}

int main(void) {
    struct CMUnitTest tests[32] = { cmocka_unit_test(test_init), cmocka_unit_test(test_empty),
                                    cmocka_unit_test(test_growth) };
    size_t count = 3;
    TEST_ADD_ROWS(tests, count, test_call, call_rows);
    return _cmocka_run_group_tests("fault_store", tests, count, NULL, NULL);
}
