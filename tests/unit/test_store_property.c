/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories against a naive model: a map from key to the write with the greatest stamp.
 * STORE_SEED=n in the environment runs that seed alone. */
#include <stdio.h>

#include "seeded.h"
#include "store_fixture.h"

#define APPS 2
#define KEYS 12
#define CELLS (APPS * KEYS)
#define REPLICAS 4
#define WRITES_MAX 4000
#define SEEDS 200

/* ---- Writes and the model ---- */

struct write {
    size_t cell;
    char key[8];
    char value[16];
    struct store_stamp stamp;
    struct store_stamp replaced;
    uint64_t ttl_ms;
    bool tombstone;
};

static struct write writes[WRITES_MAX];
static size_t write_count;

static uint64_t app_of(size_t cell) {
    return 1 + cell / KEYS;
}

static void key_of(size_t cell, char key[static 8]) {
    (void)snprintf(key, 8, "k%02u", (unsigned)(cell % KEYS));
}

/* For each cell the index of the greatest write, or -1. */
struct model {
    long best[CELLS];
};

static void model_clear(struct model *m) {
    for (size_t i = 0; i < CELLS; i++) {
        m->best[i] = -1;
    }
}

static void model_join(struct model *m, size_t w) {
    long *best = &m->best[writes[w].cell];
    if (*best < 0 || store_stamp_compare(&writes[w].stamp, &writes[*best].stamp) > 0) {
        *best = (long)w;
    }
}

/* Writes, with 1 in 4 a delete and 1 in 4 a value that expires, and joins it to the model. */
static void write_some(struct store *s, struct model *m, uint64_t now_unix_ms) {
    struct write *w = &writes[write_count];
    *w = (struct write){ .cell = below(CELLS) };
    key_of(w->cell, w->key);
    (void)snprintf(w->value, sizeof(w->value), "v%u", (unsigned)write_count);
    size_t kind = below(4);
    w->tombstone = kind == 0;
    w->ttl_ms = kind == 1 ? 1 + below(20000) : 0;
    struct store_write sw = { .app_id = app_of(w->cell),
                              .key = span_str(w->key),
                              .sealed = span_str(w->value),
                              .ttl_ms = w->ttl_ms,
                              .now_unix_ms = now_unix_ms };
    if (write_count > 0 && below(3) == 0) {
        sw.seen = writes[below(write_count)].stamp;
    }
    struct store_record before;
    struct rc rc = store_get(s, sw.app_id, sw.key, now_unix_ms, &before);
    w->replaced = before.stamp;
    struct store_written out;
    struct rc wrote = w->tombstone ? store_delete(s, &sw, &out) : store_put(s, &sw, &out);
    CHECK(wrote.err == E_OK);
    CHECK(out.existed == (rc.err == E_OK));
    CHECK(store_stamp_compare(&out.stamp, &w->replaced) > 0);
    CHECK(store_stamp_compare(&out.stamp, &sw.seen) > 0);
    w->stamp = out.stamp;
    model_join(m, write_count++);
}

static void check_cell(const struct store *s, const struct model *m, size_t cell,
                       uint64_t now_unix_ms) {
    char key[8];
    key_of(cell, key);
    struct store_record r;
    struct rc rc = store_get(s, app_of(cell), span_str(key), now_unix_ms, &r);
    const struct write *w = m->best[cell] < 0 ? NULL : &writes[m->best[cell]];
    bool dead = w == NULL || w->tombstone ||
                (w->ttl_ms != 0 && store_stamp_unix_ms(&w->stamp) + w->ttl_ms <= now_unix_ms);
    CHECK(rc.err == (dead ? E_NOT_FOUND : E_OK));
    if (!dead) {
        CHECK(span_equal(r.sealed, span_str(w->value)));
        CHECK(store_stamp_compare(&r.stamp, &w->stamp) == 0);
        CHECK(store_stamp_compare(&r.replaced, &w->replaced) == 0);
    } else if (!store_stamp_is_none(&r.stamp)) {
        CHECK(w != NULL && store_stamp_compare(&r.stamp, &w->stamp) == 0);
    }
}

static void check_model(const struct store *s, const struct model *m, uint64_t now_unix_ms) {
    for (size_t cell = 0; cell < CELLS; cell++) {
        check_cell(s, m, cell, now_unix_ms);
    }
    store_check(s);
}

static void check_same_digests(const struct store *s, const struct store *t) {
    for (uint64_t app = 1; app <= APPS; app++) {
        struct store_digest a = store_digest(s, app);
        struct store_digest b = store_digest(t, app);
        CHECK(a.low == b.low && a.high == b.high);
    }
}

static struct store *open_replica(uint8_t writer) {
    struct store_cfg cfg = fixture_cfg(writer);
    cfg.hash_key[15] = (uint8_t)next_random();
    struct store *s = NULL;
    CHECK(store_init(&s, &cfg).err == E_OK);
    return s;
}

/* ---- The join: any order, any repetition, by any way ---- */

static void merge_write(struct store *s, size_t i, uint64_t now_unix_ms) {
    const struct write *w = &writes[i];
    struct store_remote r = { .app_id = app_of(w->cell),
                              .key = span_str(w->key),
                              .sealed = w->tombstone ? SPAN_EMPTY : span_str(w->value),
                              .stamp = w->stamp,
                              .replaced = w->replaced,
                              .ttl_ms = w->ttl_ms,
                              .tombstone = w->tombstone };
    struct store_merged merged;
    CHECK(store_merge(s, &r, now_unix_ms, &merged).err == E_OK);
}

/* Hands over what `from` has, in its log's order or backwards. */
static void merge_store(struct store *to, struct store *from, uint64_t now_unix_ms) {
    static struct store_record records[CELLS];
    struct store_log_query query = { .bytes_max = SIZE_MAX, .record_count_max = CELLS };
    struct store_log_page page;
    CHECK(store_log_read(from, &query, records, &page).err == E_OK);
    CHECK(!page.more);
    bool backwards = below(2) == 0;
    for (size_t i = 0; i < page.count; i++) {
        struct store_remote r = fixture_remote(&records[backwards ? page.count - 1 - i : i]);
        struct store_merged merged;
        CHECK(store_merge(to, &r, now_unix_ms, &merged).err == E_OK);
    }
}

static void make_writes(struct model *m, size_t count) {
    struct store *origin[REPLICAS];
    for (uint8_t i = 0; i < REPLICAS; i++) {
        origin[i] = open_replica((uint8_t)(10 + i));
    }
    for (size_t i = 0; i < count; i++) {
        size_t at = below(REPLICAS);
        write_some(origin[at], m, NOW + below(1000));
        if (below(4) == 0) { /* So that writes replace one another's. */
            merge_write(origin[below(REPLICAS)], below(write_count), NOW + 1000);
        }
    }
    for (size_t i = 0; i < REPLICAS; i++) {
        store_close(&origin[i]);
    }
}

static void run_join(void) {
    struct model m;
    model_clear(&m);
    write_count = 0;
    make_writes(&m, 1 + below(200));
    /* x gets all in a random order, with repetitions; y and z get parts that overlap. */
    struct store *x = open_replica(1);
    struct store *y = open_replica(2);
    struct store *z = open_replica(3);
    size_t first = below(write_count);
    for (size_t i = 0; i < write_count; i++) {
        merge_write(x, below(write_count), NOW + 1000);
        merge_write(below(2) == 0 ? y : z, (first + i) % write_count, NOW + 1000);
        merge_write(below(2) == 0 ? y : z, below(write_count), NOW + 1000);
    }
    for (size_t i = write_count; i-- > 0;) {
        merge_write(x, i, NOW + 1000);
    }
    check_model(x, &m, NOW + 1000);
    struct store *left = open_replica(4);  /* (x + y) + z */
    struct store *right = open_replica(5); /* y + (z + y) */
    merge_store(left, x, NOW + 1000);
    merge_store(left, y, NOW + 1000);
    merge_store(left, z, NOW + 1000);
    merge_store(z, y, NOW + 1000);
    merge_store(right, y, NOW + 1000);
    merge_store(right, z, NOW + 1000);
    merge_store(right, right, NOW + 1000); /* With itself: nothing moves. */
    check_model(left, &m, NOW + 1000);
    check_model(right, &m, NOW + 1000);
    check_same_digests(x, left);
    check_same_digests(x, right);
    struct store *all[] = { x, y, z, left, right };
    for (size_t i = 0; i < 5; i++) {
        store_close(&all[i]);
    }
}

/* ---- A cluster that pulls, collects, compacts and restarts ---- */

#define KNOWN_MAX 64

struct replica {
    struct store *store;
    uint64_t skew_ms; /* Its clock is this much ahead. */
    uint8_t writer;
    bool expelled; /* Not a member for now: cut off, asked by nobody, and writing nothing. */
    struct view {
        uint64_t since;                              /* Where we are in its log. */
        uint64_t complete_ms;                        /* Its clock when we last pulled to its end. */
        struct store_known_entry entries[KNOWN_MAX]; /* What it said that it knows, */
        struct store_known known;                    /* when it last pulled from us. */
    } views[REPLICAS];
};

static struct replica replicas[REPLICAS];
static uint64_t now_ms;
static size_t expelled_count;
static size_t reset_count; /* In all runs: proof that the case occurs. */
static size_t isolated;    /* Cut off from the others; REPLICAS for none. */
static uint8_t last_writer;

static uint64_t clock_of(const struct replica *r) {
    return now_ms + r->skew_ms;
}

static void boot(struct replica *r) {
    store_close(&r->store);
    memset(r, 0, sizeof(*r));
    r->writer = ++last_writer;
    r->store = open_replica(r->writer);
    r->skew_ms = below(SKEW_MS);
}

/* A page on its way: read there, and not merged here yet. */
struct flight {
    bool used;
    size_t hold; /* Looks for it until it arrives. */
    struct store_known_entry entries[KNOWN_MAX];
    struct store_known known; /* What the responder knew, copied before it read the page. */
    struct store_known_entry floor_entries[KNOWN_MAX];
    struct store_known floor;
    uint64_t complete_ms;
    struct store_log_page page;
    uint64_t since;
    struct store_remote records[8];
    uint8_t bytes[8][32]; /* Key and sealed bytes of each. */
};

static struct flight flights[REPLICAS][REPLICAS]; /* To, from. */

static void drop_flights(size_t idx) {
    for (size_t i = 0; i < REPLICAS; i++) {
        flights[idx][i].used = false;
        flights[i][idx].used = false;
    }
}

static void send_page(size_t to_idx, size_t from_idx) {
    struct replica *to = &replicas[to_idx];
    struct replica *from = &replicas[from_idx];
    struct view *noted = &from->views[to_idx];
    struct flight *f = &flights[to_idx][from_idx];
    CHECK(store_known_copy(to->store, noted->entries, KNOWN_MAX, &noted->known).err == E_OK);
    CHECK(!store_needs_reset(from->store, &noted->known));
    static struct store_record records[8];
    CHECK(store_known_copy(from->store, f->entries, KNOWN_MAX, &f->known).err == E_OK);
    CHECK(store_floor_copy(from->store, f->floor_entries, KNOWN_MAX, &f->floor).err == E_OK);
    f->since = to->views[from_idx].since;
    f->complete_ms = clock_of(from);
    struct store_log_query query = { f->since, &noted->known, 4 * STORE_RECORD_BYTES, 8 };
    CHECK(store_log_read(from->store, &query, records, &f->page).err == E_OK);
    for (size_t i = 0; i < f->page.count; i++) {
        struct store_remote r = fixture_remote(&records[i]);
        CHECK(r.key.len + r.sealed.len <= sizeof(f->bytes[i]));
        memcpy(f->bytes[i], r.key.ptr, r.key.len);
        memcpy(f->bytes[i] + r.key.len, r.sealed.ptr, r.sealed.len);
        r.key.ptr = f->bytes[i];
        r.sealed.ptr = f->bytes[i] + r.key.len;
        f->records[i] = r;
    }
    f->used = true;
}

/* Merges the page, of which a part may be lost. Returns whether it was the last. */
static bool deliver_page(size_t to_idx, size_t from_idx, bool reliable) {
    struct replica *to = &replicas[to_idx];
    struct view *cursor = &to->views[from_idx];
    struct flight *f = &flights[to_idx][from_idx];
    f->used = false;
    if (f->since != cursor->since || store_needs_reset(to->store, &f->known)) {
        return false; /* Too old: this replica has collected what the page may bring back. */
    }
    size_t given = reliable || below(4) > 0 ? f->page.count : below(f->page.count + 1);
    for (size_t i = 0; i < given; i++) {
        struct store_merged merged;
        struct rc rc = store_merge(to->store, &f->records[i], clock_of(to), &merged);
        if (rc.err == E_FUTURE && merged.refusal == STORE_REFUSED_SKEW) {
            return false; /* Neither since nor known moves past a record that was refused. */
        }
        CHECK(rc.err == E_OK);
    }
    if (given < f->page.count || (!reliable && below(8) == 0)) {
        return false;
    }
    cursor->since = f->page.next;
    if (!f->page.more) {
        CHECK(store_join_floor(to->store, &f->floor, clock_of(to)).err == E_OK);
        CHECK(store_join_known(to->store, &f->known, clock_of(to)).err == E_OK);
        cursor->complete_ms = f->complete_ms;
    }
    return !f->page.more;
}

static bool pull_page(size_t to, size_t from) {
    send_page(to, from);
    return deliver_page(to, from, true);
}

/* Sends a page, or delivers the one that is on its way; nothing leaves or reaches `isolated`. */
static void pull_some(size_t to, size_t from) {
    struct flight *f = &flights[to][from];
    if (f->used && f->hold > 0) {
        f->hold--;
    } else if (f->used) {
        (void)deliver_page(to, from, false);
    } else if (to != isolated && from != isolated) {
        send_page(to, from);
        f->hold = below(6) == 0 ? below(20) : 0;
        if (f->hold == 0) {
            (void)deliver_page(to, from, false);
        }
    }
}

static void pull_all(size_t to) {
    for (size_t from = 0; from < REPLICAS; from++) {
        while (from != to && !replicas[from].expelled && !pull_page(to, from)) {
            now_ms++; /* What was refused for its time is given again. */
        }
    }
}

static void collect_some(size_t idx) {
    struct replica *r = &replicas[idx];
    struct store_known members[REPLICAS];
    size_t count = 0;
    for (size_t i = 0; i < REPLICAS; i++) {
        if (i != idx && !replicas[i].expelled) {
            members[count++] = r->views[i].known;
        }
    }
    struct store_collect c = { clock_of(r), members, count, 1 + below(20) };
    struct store_collected out;
    store_collect(r->store, &c, &out);
}

static void compact(size_t idx) {
    struct replica *r = &replicas[idx];
    uint64_t all_ms = clock_of(r);
    for (size_t i = 0; i < REPLICAS; i++) {
        if (i != idx && !replicas[i].expelled && r->views[i].complete_ms < all_ms) {
            all_ms = r->views[i].complete_ms;
        }
    }
    if (all_ms > SKEW_MS) {
        struct rc rc = store_compact_known(r->store, HLC(all_ms - SKEW_MS, 0), clock_of(r));
        CHECK(rc.err == E_OK || rc.err == E_FUTURE);
    }
}

/* Everybody gets what it has. */
static void drain(size_t idx) {
    drop_flights(idx);
    for (size_t to = 0; to < REPLICAS; to++) {
        while (to != idx && !replicas[to].expelled && !pull_page(to, idx)) {
            now_ms++;
        }
    }
}

/* Comes with an empty vector: asks everybody from the start, and everybody it. */
static void join_cluster(size_t idx) {
    drop_flights(idx);
    memset(replicas[idx].views, 0, sizeof(replicas[idx].views));
    for (size_t i = 0; i < REPLICAS; i++) {
        memset(&replicas[i].views[idx], 0, sizeof(replicas[i].views[idx]));
    }
    pull_all(idx);
}

static void restart(size_t idx) {
    drain(idx);
    boot(&replicas[idx]);
    join_cluster(idx);
}

static void expel(size_t idx) {
    drain(idx);
    drop_flights(idx);
    replicas[idx].expelled = true;
    expelled_count++;
}

static bool is_turned_away(size_t idx, size_t by) {
    struct store_known_entry entries[KNOWN_MAX];
    struct store_known known;
    CHECK(store_known_copy(replicas[idx].store, entries, KNOWN_MAX, &known).err == E_OK);
    return store_needs_reset(replicas[by].store, &known);
}

/* Comes back with all it had, and pulls from one after the other. Whoever knows of something that
 * was collected meanwhile, and that it may not know, tells it to drop its state. */
static void come_back(size_t idx) {
    struct replica *r = &replicas[idx];
    r->expelled = false;
    expelled_count--;
    size_t first = below(REPLICAS);
    for (size_t n = 0; n < REPLICAS; n++) {
        size_t from = (first + n) % REPLICAS;
        if (from != idx && is_turned_away(idx, from)) {
            uint8_t writer[STORE_WRITER_BYTES] = { ++last_writer };
            store_reset(r->store, writer);
            r->writer = last_writer;
            reset_count++;
            join_cluster(idx);
            return;
        }
        while (from != idx && !pull_page(idx, from)) {
            now_ms++;
        }
    }
}

static void change_members(size_t at) {
    if (last_writer >= 50 || isolated < REPLICAS) {
        return;
    }
    if (replicas[at].expelled) {
        come_back(at);
    } else if (expelled_count == 0 && below(2) == 0) {
        expel(at);
    } else {
        restart(at);
    }
}

static void step(struct model *m) {
    size_t at = below(REPLICAS);
    size_t other = (at + 1 + below(REPLICAS - 1)) % REPLICAS;
    size_t kind = below(100);
    if ((replicas[at].expelled || replicas[other].expelled) && kind < 85) {
        return;
    }
    if (kind < 40) {
        write_some(replicas[at].store, m, clock_of(&replicas[at]));
    } else if (kind < 75) {
        pull_some(at, other);
    } else if (kind < 85) {
        collect_some(at);
    } else if (kind < 95) {
        now_ms += below(3) == 0 ? below(RETENTION_MS / 2) : below(2000);
    } else if (kind < 98) {
        compact(at);
    } else if (kind < 99) {
        isolated = expelled_count > 0 ? REPLICAS : below(REPLICAS + 2);
    } else {
        change_members(at);
    }
}

static void converge(const struct model *m) {
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < REPLICAS; i++) {
            pull_all(i);
        }
    }
    now_ms += SKEW_MS; /* Past the differences of the clocks: what expired, expired everywhere. */
    for (size_t i = 0; i < REPLICAS; i++) {
        check_same_digests(replicas[0].store, replicas[i].store);
        check_model(replicas[i].store, m, now_ms);
    }
}

static void run_cluster(void) {
    struct model m;
    model_clear(&m);
    write_count = 0;
    now_ms = NOW;
    last_writer = 0;
    isolated = REPLICAS;
    expelled_count = 0;
    memset(flights, 0, sizeof(flights));
    for (size_t i = 0; i < REPLICAS; i++) {
        boot(&replicas[i]);
    }
    for (size_t i = 0; i < 1500; i++) {
        step(&m);
        if (i % 100 == 0) {
            store_check(replicas[below(REPLICAS)].store);
        }
    }
    for (size_t i = 0; i < REPLICAS; i++) {
        if (replicas[i].expelled) {
            come_back(i);
        }
    }
    converge(&m);
    /* In the end nothing dead is left anywhere. */
    for (size_t round = 0; round < 60; round++) {
        now_ms += RETENTION_MS / 4;
        for (size_t i = 0; i < REPLICAS; i++) {
            pull_all(i);
            collect_some(i);
        }
    }
    converge(&m);
    for (size_t i = 0; i < REPLICAS; i++) {
        struct store_stats stats;
        store_stats(replicas[i].store, &stats);
        CHECK(stats.tombstone_count == 0);
        CHECK(stats.expired_count == 0);
        store_close(&replicas[i].store);
    }
}

static void test_join(void **state) {
    (void)state;
    run_seeds("STORE_SEED", SEEDS, run_join);
}

static void test_cluster(void **state) {
    (void)state;
    reset_count = 0;
    run_seeds("STORE_SEED", SEEDS, run_cluster);
    assert_true(reset_count > 0 || getenv("STORE_SEED") != NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_join),
                                        cmocka_unit_test(test_cluster) };
    return cmocka_run_group_tests_name("store_property", tests, NULL, NULL);
}
