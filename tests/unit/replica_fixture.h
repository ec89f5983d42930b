/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes with a store and a replica each, and pulls between them whose request and answer are copies
 * that the test hands over when it likes, or never. */
#pragma once

#include <stdio.h>

#include "replica/replica.h"
#include "store_fixture.h"

#define FIXTURE_KNOWN_MAX 64 /* As the writers a store remembers. */
#define FIXTURE_PAGE_MAX 8
#define FIXTURE_HEARD_MAX 25
#define FIXTURE_VALUE_MAX 32

struct node {
    struct store *store;
    struct replica *replica;
    struct wallet wallet;
    char url[32];
    int64_t clock_ms; /* Ahead of the world. */
};

enum pull_stage { PULL_FREE, PULL_ASKED, PULL_ANSWERED };

/* A pull under way: what is on the wire belongs to it. */
struct pull {
    enum pull_stage stage;
    struct node *from; /* Who asks. */
    struct node *to;
    uint32_t ticket;
    bool was_taken;   /* The responder has taken the request in. */
    bool in_sections; /* The test reads the page: pull_read_some. */
    struct replica_request request;
    struct store_known_entry asked[FIXTURE_KNOWN_MAX];
    struct replica_heard asked_heard[FIXTURE_HEARD_MAX];
    struct replica_heard told_heard[FIXTURE_HEARD_MAX];
    enum replica_answer answer;
    struct status why;
    struct replica_page page;
    struct store_known_entry told[2 * FIXTURE_KNOWN_MAX];
    struct replica_record records[FIXTURE_PAGE_MAX];
    uint8_t bytes[FIXTURE_PAGE_MAX][FIXTURE_VALUE_MAX];
    size_t record_count;
    enum replica_verdict verdict; /* When it was handed over. */
    char reason[REPLICA_REASON_BYTES];
};

static struct replica_now world = { .mono_ms = 1000000, .unix_ms = NOW, .random = 1 };

static inline void pass_ms(uint64_t ms) {
    world.mono_ms += ms;
    world.unix_ms += ms;
    world.random = world.random * 1664525u + 1013904223u;
}

static inline struct replica_now now_of(const struct node *n) {
    struct replica_now now = world;
    now.unix_ms = (uint64_t)((int64_t)now.unix_ms + n->clock_ms);
    return now;
}

#define FIXTURE_SETTLE_MS 60000
#define FIXTURE_START_WAIT_MS 30000
#define FIXTURE_WAIT_MS 5000

static inline struct replica_cfg fixture_replica_cfg(void) {
    return (struct replica_cfg){ .interval_ms = 10000,
                                 .wait_ms = FIXTURE_WAIT_MS,
                                 .page_bytes_max = 4 * STORE_RECORD_BYTES,
                                 .backoff_min_ms = 100,
                                 .backoff_max_ms = 5000,
                                 .settle_ms = FIXTURE_SETTLE_MS,
                                 .start_wait_ms = FIXTURE_START_WAIT_MS,
                                 .clock_skew_ms = SKEW_MS,
                                 .head_lag_max = 10,
                                 .compact_after_ms = RETENTION_MS + SKEW_MS };
}

static const uint8_t fixture_hash[REPLICA_HASH_BYTES] = { 7 };

/* A boot: an empty store under a new writer. */
static inline void node_boot(struct node *n, uint8_t idx, uint8_t writer) {
    struct replica_cfg cfg = fixture_replica_cfg();
    n->store = fixture_open(writer);
    n->wallet = (struct wallet){ { (uint8_t)(idx + 1) } };
    (void)snprintf(n->url, sizeof(n->url), "https://n%u", (unsigned)idx);
    assert_ok(replica_init(&n->replica, &cfg));
}

static inline void node_close(struct node *n) {
    replica_close(&n->replica);
    store_close(&n->store);
}

static inline struct replica_member member_of(const struct node *n) {
    return (struct replica_member){ n->wallet, n->url, n->wallet.bytes[0] };
}

/* The registry lists nodes[0..count), without the NULL ones. */
static inline void node_list(struct node *n, struct node *const *nodes, size_t count) {
    struct replica_member members[16];
    size_t member_count = 0;
    bool is_listed = false;
    for (size_t i = 0; i < count; i++) {
        if (nodes[i] != NULL) {
            members[member_count++] = member_of(nodes[i]);
            is_listed = is_listed || nodes[i] == n;
        }
    }
    struct replica_member self = member_of(n);
    self.instance_id = is_listed ? self.instance_id : 0;
    struct replica_now now = now_of(n);
    assert_ok(replica_set_members(n->replica, &self, members, member_count, &now));
}

static inline bool is_in_service(const struct node *n) {
    char reason[REPLICA_REASON_BYTES];
    bool yes = replica_in_service(n->replica, reason);
    assert_int_equal(yes, reason[0] == '\0');
    return yes;
}

/* What the replica wants to have done now. */
static inline struct replica_todo node_next(struct node *n) {
    struct replica_now now = now_of(n);
    struct replica_todo todo;
    replica_next(n->replica, n->store, &now, &todo);
    return todo;
}

/* The pull that the todo asked for ends without an answer. */
static inline void node_pull_failed(struct node *n, uint32_t ticket, const char *why) {
    struct replica_now now = now_of(n);
    replica_pull_failed(n->replica, ticket, false, why, &now);
}

static inline struct replica_stats stats_of(const struct node *n) {
    struct replica_stats stats;
    replica_stats(n->replica, &stats);
    return stats;
}

/* Of the first of the other members. */
static inline struct replica_view view_of(const struct node *n) {
    struct replica_view view;
    struct replica_now now = now_of(n);
    assert_true(replica_view(n->replica, 0, &now, &view));
    return view;
}

static inline struct store_collected node_collect(struct node *n) {
    struct store_collected out;
    struct replica_now now = now_of(n);
    replica_collect(n->replica, n->store, 100, &now, &out);
    return out;
}

/* Sends what the todo asks for. */
static inline void pull_send(struct pull *p, struct node *from, struct node *to, uint32_t ticket) {
    *p = (struct pull){ .stage = PULL_ASKED, .from = from, .to = to, .ticket = ticket };
    const struct replica_ask ask = { ticket, p->asked, FIXTURE_KNOWN_MAX };
    struct replica_now now = now_of(from);
    assert_ok(replica_pull_request(from->replica, from->store, &ask, &now, &p->request));
    p->request.heard = p->asked_heard;
    p->request.heard_count = replica_heard_copy(from->replica, p->asked_heard, FIXTURE_HEARD_MAX);
}

/* One section of the page, of count_max records at most. True while the log goes on. */
static inline bool pull_read_some(struct pull *p, size_t count_max) {
    struct store_record records[FIXTURE_PAGE_MAX];
    struct store_log_query query = { p->page.next, &p->request.known, p->request.bytes_max,
                                     count_max };
    struct store_log_page page;
    assert_true(p->record_count + count_max <= FIXTURE_PAGE_MAX);
    assert_ok(store_log_read(p->to->store, &query, records, &page));
    for (size_t i = 0; i < page.count; i++) {
        struct store_remote remote = fixture_remote(&records[i]);
        uint8_t *bytes = p->bytes[p->record_count];
        assert_true(remote.key.len + remote.sealed.len <= FIXTURE_VALUE_MAX);
        memcpy(bytes, remote.key.ptr, remote.key.len);
        memcpy(bytes + remote.key.len, remote.sealed.ptr, remote.sealed.len);
        remote.key.ptr = bytes;
        remote.sealed.ptr = bytes + remote.key.len;
        p->records[p->record_count++] = (struct replica_record){ .remote = remote };
    }
    return replica_page_read(p->to->replica, p->to->store, &p->from->wallet, &page, &p->page);
}

static inline void pull_read(struct pull *p) {
    p->record_count = 0;
    if (!p->in_sections) {
        (void)pull_read_some(p, FIXTURE_PAGE_MAX);
    }
}

/* The request reaches its responder, or is looked at again. Returns whether there is an answer. */
static inline bool pull_serve(struct pull *p, bool is_over) {
    struct replica_now now = now_of(p->to);
    struct replica_serve serve = { .wallet = &p->from->wallet,
                                   .request = &p->request,
                                   .is_again = p->was_taken,
                                   .is_over = is_over,
                                   .entries = p->told,
                                   .entry_count_max = 2 * FIXTURE_KNOWN_MAX };
    struct replica_served served;
    p->was_taken = true;
    p->answer = replica_serve(p->to->replica, p->to->store, &serve, &now, &served);
    p->page = served.page;
    p->why = served.why;
    if (p->answer == REPLICA_ANSWER_WAIT || p->answer == REPLICA_ANSWER_WAIT_SHORT) {
        return false;
    }
    p->page.heard = p->told_heard;
    p->page.heard_count = replica_heard_copy(p->to->replica, p->told_heard, FIXTURE_HEARD_MAX);
    if (p->answer == REPLICA_ANSWER_PAGE) {
        pull_read(p);
    }
    p->stage = PULL_ANSWERED;
    return true;
}

static inline struct replica_arrival arrival_of(const struct pull *p) {
    return (struct replica_arrival){ p->ticket, &p->page };
}

/* The page reaches the requester: p->reason says why it is not taken. */
static inline enum replica_verdict pull_begin(struct pull *p) {
    struct replica_now now = now_of(p->from);
    struct replica_arrival arrival = arrival_of(p);
    return replica_page_begin(p->from->replica, p->from->store, &arrival, &now, p->reason);
}

/* Some of its records are merged. False when the rest is not to be. */
static inline bool pull_merge(struct pull *p, size_t first, size_t count) {
    struct replica_now now = now_of(p->from);
    struct replica_arrival arrival = arrival_of(p);
    struct replica_records records = { &p->records[first], count };
    return replica_merge(p->from->replica, p->from->store, &arrival, &records, &now);
}

static inline void pull_end(struct pull *p) {
    struct replica_now now = now_of(p->from);
    struct replica_arrival arrival = arrival_of(p);
    replica_page_end(p->from->replica, p->from->store, &arrival, &now);
}

/* The answer reaches the requester. After RESET the store is another one: new_writer. */
static inline void pull_deliver(struct pull *p, uint8_t new_writer) {
    struct node *n = p->from;
    struct replica_now now = now_of(n);
    p->stage = PULL_FREE;
    if (p->answer == REPLICA_ANSWER_REFUSE) {
        replica_pull_failed(n->replica, p->ticket, p->why.code == STATUS_UNAVAILABLE, p->why.text,
                            &now);
        return;
    }
    p->verdict = pull_begin(p);
    assert_int_equal(p->verdict == REPLICA_TAKE, p->reason[0] == '\0');
    if (p->verdict == REPLICA_RESET) {
        uint8_t writer[STORE_WRITER_BYTES] = { new_writer };
        store_reset(n->store, writer);
        replica_restart(n->replica, &now);
    } else if (p->verdict == REPLICA_TAKE) {
        (void)pull_merge(p, 0, p->record_count);
        pull_end(p);
    }
    replica_check(n->replica, n->store);
}

/* The replica must want to pull from `to` now, and nothing else; sends it. */
static inline void pull_next(struct pull *p, struct node *from, struct node *to) {
    struct replica_todo todo = node_next(from);
    assert_int_equal(todo.kind, REPLICA_PULL);
    assert_true(wallet_equal(&todo.wallet, &to->wallet));
    pull_send(p, from, to, todo.ticket);
}

/* The request once more, for a network that repeats it. */
static inline void pull_copy(struct pull *copy, const struct pull *p) {
    *copy = *p;
    copy->request.known.entries = copy->asked;
    copy->request.heard = copy->asked_heard;
}

/* Two nodes of one cluster, with its master secret. */
struct pair {
    struct node a;
    struct node b;
    struct pull pull;
};

static inline void pair_open(struct pair *p) {
    memset(p, 0, sizeof(*p));
    node_boot(&p->a, 0, 1);
    node_boot(&p->b, 1, 2);
    struct node *nodes[] = { &p->a, &p->b };
    replica_set_secret(p->a.replica, fixture_hash, true);
    replica_set_secret(p->b.replica, fixture_hash, true);
    node_list(&p->a, nodes, 2);
    node_list(&p->b, nodes, 2);
}

/* b holds the records k1, k2 and so on, with the values v1, v2. */
static inline void pair_open_with(struct pair *p, size_t record_count) {
    pair_open(p);
    for (size_t i = 0; i < record_count; i++) {
        const char key[] = { 'k', (char)('1' + i), '\0' };
        const char value[] = { 'v', (char)('1' + i), '\0' };
        (void)fixture_put(p->b.store, key, value, 0, world.unix_ms);
    }
}

static inline void pair_close(struct pair *p) {
    node_close(&p->a);
    node_close(&p->b);
}

#define FIXTURE_NODES_MAX 6

struct cluster {
    struct node nodes[FIXTURE_NODES_MAX];
    struct node *listed[FIXTURE_NODES_MAX];
    size_t count;
};

static inline void cluster_boot(struct cluster *c, size_t count) {
    memset(c, 0, sizeof(*c));
    c->count = count;
    for (size_t i = 0; i < count; i++) {
        node_boot(&c->nodes[i], (uint8_t)i, (uint8_t)(i + 1));
        c->listed[i] = &c->nodes[i];
    }
}

/* The first old_count were there before the others were listed; these start, and have to fetch. */
static inline void cluster_join(struct cluster *c, size_t old_count) {
    for (size_t i = 0; i < c->count; i++) {
        replica_set_secret(c->nodes[i].replica, fixture_hash, i < old_count);
        node_list(&c->nodes[i], c->listed, c->count);
    }
}

static inline void cluster_close(struct cluster *c) {
    for (size_t i = 0; i < c->count; i++) {
        node_close(&c->nodes[i]);
    }
}

/* Makes n pull from everybody that is due; only those in `up` answer. */
static inline void pull_round(struct cluster *c, struct node *n, unsigned up) {
    static struct pull pull;
    for (;;) {
        struct replica_todo todo = node_next(n);
        if (todo.kind == REPLICA_IDLE) {
            return;
        }
        size_t to = (size_t)todo.wallet.bytes[0] - 1;
        assert_int_equal(todo.kind, REPLICA_PULL);
        pull_send(&pull, n, &c->nodes[to], todo.ticket);
        if ((up >> to & 1) == 0) {
            node_pull_failed(n, todo.ticket, "it does not answer");
            continue;
        }
        assert_true(pull_serve(&pull, true));
        pull_deliver(&pull, 99);
    }
}
