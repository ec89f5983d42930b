/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories of a few nodes that speak with each other through the replica room alone:
 * requests and answers are lost, repeated, late and out of order, nodes crash and start again,
 * members leave and come back with what they hold. REPLICA_SEED=n in the environment runs that seed
 * alone. */
#include "replica_fixture.h"
#include "seeded.h"

#define NODES_MAX 5
#define KEYS 40
/* So many are written at a time; the others rest, and what is dead of them may be collected. */
#define KEYS_ACTIVE 6
#define WRITES_MAX 2000
#define FLIGHTS 32
#define STEPS 1500
#define SEEDS 150
#define BOOTS_MAX 60
#define SKEW 1000
#define RETENTION 20000
#define SETTLE 4000
#define PULL_AGE_MAX 1500
/* A registry view is at most so old. */
#define VIEW_AGE_MAX 2000

/* ---- The world ---- */

struct write {
    size_t key;
    size_t node;
    uint8_t boot;
    struct store_stamp stamp;
    bool acked;
};

struct flight {
    struct pull pull;
    size_t from;
    size_t to;
    uint8_t from_boot;
    uint64_t sent_ms;
};

struct peer {
    struct node n;
    uint8_t boot; /* 0: down. */
    bool is_listed;
    uint64_t view_ms;           /* When it last read the registry. */
    uint64_t left_ms;           /* When it left the registry, or came back. */
    uint64_t durability_resets; /* Of its boots that are over. */
};

static struct peer peers[NODES_MAX];
static size_t peer_count;
static struct flight flights[FLIGHTS];
static bool is_cut[NODES_MAX][NODES_MAX];
static struct write writes[WRITES_MAX];
static size_t write_count;
static struct store_stamp collected[KEYS]; /* The greatest of each key. */
static uint8_t last_boot;
static bool has_changing_members;
/* Over all seeds: that each kind of thing happened. */
static uint64_t acked_count, reset_count, collected_count, restart_count, lost_count, judged_count,
    collected_early_count;

static struct store *store_of(size_t idx) {
    return peers[idx].n.store;
}

static void key_of(size_t key, char text[static 8]) {
    memcpy(text, "k0", 3);
    text[1] = (char)('0' + key); /* And the characters after the digits. */
}

static void read_registry(size_t idx) {
    struct node *nodes[NODES_MAX] = { 0 };
    for (size_t i = 0; i < peer_count; i++) {
        nodes[i] = peers[i].is_listed ? &peers[i].n : NULL;
    }
    node_list(&peers[idx].n, nodes, peer_count);
    peers[idx].view_ms = world.mono_ms;
}

static uint64_t resets_of(size_t idx) {
    struct replica_stats stats;
    replica_stats(peers[idx].n.replica, &stats);
    return stats.durability_reset_count;
}

static void boot(size_t idx, bool is_new) {
    struct peer *p = &peers[idx];
    struct store_cfg store_cfg = fixture_cfg(++last_boot);
    store_cfg.tombstone_retention_ms = RETENTION;
    store_cfg.clock_skew_ms = SKEW;
    struct replica_cfg cfg = fixture_replica_cfg();
    cfg.interval_ms = 500;
    cfg.wait_ms = 500;
    cfg.clock_skew_ms = SKEW;
    cfg.settle_ms = SETTLE;
    cfg.start_wait_ms = has_changing_members ? 10000 : 120000;
    cfg.compact_after_ms = RETENTION + SKEW;
    p->boot = last_boot;
    p->n.wallet = (struct wallet){ { (uint8_t)(idx + 1) } };
    p->n.clock_ms = (int64_t)below(SKEW) - SKEW / 2;
    (void)snprintf(p->n.url, sizeof(p->n.url), "https://n%u", (unsigned)idx);
    CHECK(store_init(&p->n.store, &store_cfg).err == E_OK);
    CHECK(replica_init(&p->n.replica, &cfg).err == E_OK);
    replica_set_secret(p->n.replica, fixture_hash, is_new);
    read_registry(idx);
}

static void crash(size_t idx) {
    peers[idx].durability_resets += resets_of(idx);
    node_close(&peers[idx].n);
    peers[idx].boot = 0;
}

/* ---- What the nodes do ---- */

static void write_some(size_t idx) {
    if (peers[idx].boot == 0 || !is_in_service(&peers[idx].n) || write_count == WRITES_MAX ||
        !peers[idx].is_listed) {
        return;
    }
    struct write *w = &writes[write_count];
    *w = (struct write){ .key = (write_count / KEYS_ACTIVE + below(KEYS_ACTIVE)) % KEYS,
                         .node = idx,
                         .boot = peers[idx].boot };
    char key[8];
    char value[16];
    key_of(w->key, key);
    (void)snprintf(value, sizeof(value), "v%u", (unsigned)write_count);
    struct store_write sw = { .app_id = 1,
                              .key = span_str(key),
                              .sealed = span_str(value),
                              .ttl_ms = below(4) == 0 ? 1 + below(20000) : 0,
                              .now_unix_ms = now_of(&peers[idx].n).unix_ms };
    struct store_written out;
    struct rc rc = below(3) == 0 ? store_delete(store_of(idx), &sw, &out)
                                 : store_put(store_of(idx), &sw, &out);
    CHECK(rc.err == E_OK);
    w->stamp = out.stamp;
    write_count++;
}

/* A client that waits for a quorum is answered as soon as there is one. */
static void note_acks(size_t idx) {
    const struct peer *p = &peers[idx];
    for (size_t i = write_count > 40 ? write_count - 40 : 0; i < write_count; i++) {
        struct write *w = &writes[i];
        if (!w->acked && w->node == idx && w->boot == p->boot &&
            replica_acks(p->n.replica, &w->stamp) >= replica_acks_for_quorum(p->n.replica)) {
            w->acked = true;
            acked_count++;
        }
    }
}

static void compare_digests(size_t idx, size_t to, uint32_t ticket) {
    struct node *n = &peers[idx].n;
    struct replica_now now = now_of(n);
    if (peers[to].boot == 0 || is_cut[idx][to] || !replica_is_comparable(peers[to].n.replica)) {
        replica_digest_failed(n->replica, ticket, &now);
        return;
    }
    struct replica_now their_now = now_of(&peers[to].n);
    struct replica_state state;
    replica_own_state(peers[to].n.replica, store_of(to), &their_now, &state);
    struct store_known_entry entries[FIXTURE_KNOWN_MAX];
    struct store_known known;
    CHECK(store_known_copy(store_of(to), entries, FIXTURE_KNOWN_MAX, &known).err == E_OK);
    struct replica_digest digest = { 1, store_digest(store_of(to), 1) };
    const struct replica_digests theirs = { ticket, state, known, &digest, 1 };
    replica_digest_end(n->replica, n->store, &theirs, &now);
}

static size_t peer_of(const struct wallet *wallet) {
    CHECK(wallet->bytes[0] > 0 && wallet->bytes[0] <= peer_count);
    return (size_t)wallet->bytes[0] - 1;
}

static struct flight *free_flight(void) {
    for (size_t i = 0; i < FLIGHTS; i++) {
        if (flights[i].pull.stage == PULL_FREE) {
            return &flights[i];
        }
    }
    return NULL;
}

static void act(size_t idx) {
    struct node *n = &peers[idx].n;
    while (peers[idx].boot != 0) {
        struct replica_now now = now_of(n);
        struct replica_todo todo;
        struct flight *f = free_flight();
        if (f == NULL) {
            return;
        }
        replica_next(n->replica, n->store, &now, &todo);
        if (todo.kind == REPLICA_IDLE) {
            CHECK(todo.at_ms > now.mono_ms);
            return;
        }
        size_t to = peer_of(&todo.wallet);
        if (todo.kind == REPLICA_DIGEST) {
            compare_digests(idx, to, todo.ticket);
            continue;
        }
        *f = (struct flight){
            .from = idx, .to = to, .from_boot = peers[idx].boot, .sent_ms = world.mono_ms
        };
        pull_send(&f->pull, n, &peers[to].n, todo.ticket);
    }
}

static bool is_alive(const struct flight *f) {
    return peers[f->from].boot == f->from_boot;
}

static void give_up(struct flight *f) {
    f->pull.stage = PULL_FREE;
    if (is_alive(f)) {
        struct replica_now now = now_of(&peers[f->from].n);
        replica_pull_failed(peers[f->from].n.replica, f->pull.ticket, false, "it timed out", &now);
    }
}

static void deliver(struct flight *f) {
    if (!is_alive(f)) {
        f->pull.stage = PULL_FREE;
        return;
    }
    bool repeat = below(8) == 0;
    uint8_t new_boot = (uint8_t)(last_boot + 1);
    bool taken = f->pull.answer != REPLICA_ANSWER_REFUSE;
    pull_deliver(&f->pull, new_boot);
    if (taken && f->pull.verdict == REPLICA_RESET) {
        last_boot++;
        reset_count++;
        peers[f->from].boot = last_boot;
        return;
    }
    if (taken && repeat) {
        CHECK(pull_begin(&f->pull) == REPLICA_DROP);
    }
}

static void carry(struct flight *f, bool is_reliable) {
    if (f->pull.stage == PULL_FREE) {
        return;
    }
    if (world.mono_ms - f->sent_ms > PULL_AGE_MAX) {
        give_up(f);
        return;
    }
    if (is_cut[f->from][f->to]) {
        return; /* It waits for the link, or for its age. */
    }
    if (!is_reliable && below(12) == 0) {
        lost_count++;
        give_up(f);
        return;
    }
    if (f->pull.stage == PULL_ANSWERED) {
        deliver(f);
        return;
    }
    if (peers[f->to].boot == 0) {
        give_up(f);
        return;
    }
    if (!is_reliable && below(10) == 0) {
        f->pull.was_taken = false; /* Comes twice. */
    }
    bool is_over = world.mono_ms - f->sent_ms >= f->pull.request.wait_ms;
    (void)pull_serve(&f->pull, is_over);
    replica_check(peers[f->to].n.replica, store_of(f->to));
    note_acks(f->to);
}

static void carry_some(void) {
    size_t first = below(FLIGHTS);
    for (size_t i = 0; i < FLIGHTS; i++) {
        struct flight *f = &flights[(first + i) % FLIGHTS];
        if (f->pull.stage != PULL_FREE) {
            carry(f, false);
            return;
        }
    }
}

static struct store_stamp stamp_at(size_t idx, size_t key) {
    char text[8];
    key_of(key, text);
    struct store_record record;
    struct rc rc = store_get(store_of(idx), 1, span_str(text), world.unix_ms, &record);
    (void)rc;
    return record.stamp;
}

static void collect_some(size_t idx) {
    if (peers[idx].boot == 0 || !peers[idx].is_listed) {
        return;
    }
    struct store_stamp before[KEYS];
    for (size_t i = 0; i < KEYS; i++) {
        before[i] = stamp_at(idx, i);
    }
    struct replica_now now = now_of(&peers[idx].n);
    struct store_collected out;
    replica_collect(peers[idx].n.replica, store_of(idx), 1 + below(20), &now, &out);
    collected_count += out.removed_count;
    for (size_t i = 0; i < KEYS; i++) {
        struct store_stamp after = stamp_at(idx, i);
        if (store_stamp_is_none(&after) && store_stamp_compare(&before[i], &collected[i]) > 0) {
            collected[i] = before[i];
        }
    }
}

/* Theorem 2: nothing comes back. Who has left may hold it, until it has pulled again. */
static void check_revived(void) {
    for (size_t idx = 0; idx < peer_count; idx++) {
        for (size_t i = 0; i < KEYS && peers[idx].boot != 0 && peers[idx].is_listed; i++) {
            struct store_stamp stamp = stamp_at(idx, i);
            CHECK(store_stamp_is_none(&stamp) || store_stamp_compare(&stamp, &collected[i]) >= 0);
        }
    }
}

static size_t out_count(void) {
    size_t count = 0;
    for (size_t i = 0; i < peer_count; i++) {
        count += peers[i].boot == 0 || !is_in_service(&peers[i].n) ? 1 : 0;
    }
    return count;
}

static void crash_or_boot(size_t idx) {
    if (peers[idx].boot == 0) {
        boot(idx, false);
        restart_count++;
    } else if (last_boot < BOOTS_MAX && 2 * (out_count() + 1) < peer_count) {
        crash(idx);
    }
}

/* One leaves the registry, with all it holds, or comes back; in between it does not hear of
 * that. */
static void change_members(size_t idx) {
    size_t listed_count = 0;
    for (size_t i = 0; i < peer_count; i++) {
        listed_count += peers[i].is_listed ? 1 : 0;
    }
    if (peers[idx].is_listed && listed_count < peer_count) {
        return;
    }
    peers[idx].is_listed = !peers[idx].is_listed;
    bool was_long = world.mono_ms - peers[idx].left_ms > RETENTION / 2;
    if (peers[idx].is_listed && was_long && peers[idx].boot != 0) {
        crash(idx); /* Who was away for so long has to start again (docs/replication.md, 2.9). */
    }
    peers[idx].left_ms = world.mono_ms;
}

static void cut_or_heal(void) {
    size_t a = below(peer_count);
    size_t b = below(peer_count);
    bool heal = below(4) > 0;
    for (size_t i = 0; i < peer_count; i++) {
        for (size_t k = 0; k < peer_count && heal; k++) {
            is_cut[i][k] = false;
        }
    }
    is_cut[a][b] = !heal && a != b;
}

static void read_old_views(void) {
    for (size_t i = 0; i < peer_count; i++) {
        if (peers[i].boot != 0 && world.mono_ms - peers[i].view_ms > VIEW_AGE_MAX / 2) {
            read_registry(i);
        }
    }
}

static void step(void) {
    size_t idx = below(peer_count);
    size_t kind = below(100);
    if (kind < 15) {
        write_some(idx);
    } else if (kind < 35) {
        act(idx);
        act((idx + 1) % peer_count);
    } else if (kind < 76) {
        carry_some();
    } else if (kind < 86) {
        pass_ms(below(500));
    } else if (kind < 87) {
        pass_ms(below(VIEW_AGE_MAX / 2));
    } else if (kind < 93) {
        collect_some(idx);
    } else if (kind < 95) {
        crash_or_boot(idx);
    } else if (kind < 96) {
        cut_or_heal();
    } else if (kind < 97 && has_changing_members) {
        change_members(idx);
    }
    read_old_views();
}

/* ---- The end ---- */

static void settle(void) {
    memset(is_cut, 0, sizeof(is_cut));
    for (size_t i = 0; i < peer_count; i++) {
        if (!peers[i].is_listed) {
            change_members(i);
        }
        if (peers[i].boot == 0) {
            boot(i, false);
        }
    }
    for (size_t i = 0; i < peer_count; i++) {
        read_registry(i);
    }
}

static void exchange(size_t rounds) {
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < peer_count; i++) {
            act(i);
        }
        for (size_t i = 0; i < FLIGHTS; i++) {
            carry(&flights[i], true);
        }
        pass_ms(100);
        read_old_views();
    }
}

static bool is_converged(void) {
    struct store_digest first = store_digest(store_of(0), 1);
    bool same = true;
    for (size_t i = 0; i < peer_count; i++) {
        struct store_digest d = store_digest(store_of(i), 1);
        same = same && is_in_service(&peers[i].n) && d.low == first.low && d.high == first.high;
        for (size_t k = 0; k < KEYS; k++) {
            struct store_stamp a = stamp_at(0, k);
            struct store_stamp b = stamp_at(i, k);
            /* What is dead, one may have collected and the other not yet. */
            same = same && (store_stamp_is_none(&a) || store_stamp_is_none(&b) ||
                            store_stamp_compare(&a, &b) == 0);
        }
    }
    return same;
}

static void converge(void) {
    for (size_t i = 0; i < 40 && !(i > 2 && is_converged()); i++) {
        exchange(20);
    }
    CHECK(is_converged());
    check_revived();
}

/* A quorum write is there, or something greater is or was. */
static void check_acked(void) {
    uint64_t resets = 0;
    for (size_t i = 0; i < peer_count; i++) {
        resets += peers[i].durability_resets + resets_of(i);
    }
    if (resets > 0) {
        return; /* Counted: outside the promise. */
    }
    judged_count++;
    for (size_t i = 0; i < write_count; i++) {
        const struct write *w = &writes[i];
        for (size_t k = 0; k < peer_count && w->acked; k++) {
            struct store_stamp stamp = stamp_at(k, w->key);
            CHECK(store_stamp_compare(&stamp, &w->stamp) >= 0 ||
                  store_stamp_compare(&collected[w->key], &w->stamp) >= 0);
        }
    }
}

static void check_emptied(void) {
    for (size_t round = 0; round < 12; round++) {
        pass_ms(20000);
        exchange(12);
        for (size_t i = 0; i < peer_count; i++) {
            collect_some(i);
        }
    }
    exchange(30);
    for (size_t i = 0; i < peer_count; i++) {
        struct store_stats stats;
        store_stats(store_of(i), &stats);
        CHECK(stats.tombstone_count == 0);
        CHECK(stats.expired_count == 0);
    }
}

static void run(void) {
    peer_count = 2 + below(NODES_MAX - 1);
    memset(flights, 0, sizeof(flights));
    memset(is_cut, 0, sizeof(is_cut));
    memset(collected, 0, sizeof(collected));
    memset(peers, 0, sizeof(peers));
    uint64_t start_count = collected_count;
    write_count = 0;
    last_boot = 0;
    world = (struct replica_now){ .mono_ms = 1000000, .unix_ms = NOW, .random = (uint32_t)seed };
    for (size_t i = 0; i < peer_count; i++) {
        peers[i].is_listed = true;
        peers[i].n.wallet = (struct wallet){ { (uint8_t)(i + 1) } };
        (void)snprintf(peers[i].n.url, sizeof(peers[i].n.url), "https://n%u", (unsigned)i);
    }
    for (size_t i = 0; i < peer_count; i++) {
        boot(i, true); /* Nothing was written yet: nothing to wait for. */
    }
    for (size_t i = 0; i < STEPS; i++) {
        step();
        if (i % 20 == 0 && !has_changing_members) {
            check_revived();
        }
    }
    collected_early_count += collected_count - start_count;
    settle();
    converge();
    if (!has_changing_members) {
        check_acked();
    }
    check_emptied();
    converge();
    for (size_t i = 0; i < peer_count; i++) {
        struct replica_stats stats;
        replica_stats(peers[i].n.replica, &stats);
        CHECK(stats.digest_alarm_count == 0);
        store_check(store_of(i));
        node_close(&peers[i].n);
    }
}

static void test_promise(void **state) {
    (void)state;
    has_changing_members = false;
    judged_count = 0;
    run_seeds("REPLICA_SEED", SEEDS, run);
    if (getenv("REPLICA_SEED") == NULL) {
        assert_true(acked_count > 1000);
        assert_true(collected_count > 100);
        assert_true(collected_early_count > 50);
        assert_true(restart_count > 100);
        assert_true(lost_count > 100);
        assert_true(judged_count > SEEDS / 2);
    }
}

static void test_changing_members(void **state) {
    (void)state;
    has_changing_members = true;
    run_seeds("REPLICA_SEED", SEEDS, run);
    if (getenv("REPLICA_SEED") == NULL) {
        assert_true(reset_count > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_promise),
                                        cmocka_unit_test(test_changing_members) };
    return cmocka_run_group_tests_name("replica_property", tests, NULL, NULL);
}
