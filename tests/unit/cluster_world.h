/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's thread over a real store and replica, and members that the test plays: each is a
 * server on loopback with a loop of its own, all of them on the test's thread. */
#pragma once

#include <sched.h>

#include "crypto/envelope.h"
#include "node/cluster.h"
#include "novakms/v1/node.pb-c.h"
#include "novakms/v1/peer.pb-c.h"
#include "scripted_server.h"
#include "service_fixture.h"

#define WORLD_MEMBER_MAX 12
#define WORLD_TICK_MS 2u
#define WORLD_RUN_MS_MAX \
    120000u /* Far more than anything takes: a hang fails, slowness does not. */
#define WORLD_SELF ((struct wallet){ { 0xaa } })

struct world;
struct member;

/* What a member does with a request; it may answer, fail, or say nothing. */
typedef void (*member_fn)(struct member *m, const struct scripted_request *r);

struct member {
    struct scripted_server server; /* First. */
    uv_loop_t loop;
    uv_timer_t tick; /* Turns the loop, so that what the cluster did is looked at. */
    struct world *world;
    struct auth_instance facts;
    struct envelope_key tee;
    uint8_t incarnation[STORE_WRITER_BYTES];
    member_fn answer;
    unsigned pull_count;
    unsigned fetch_count;
    uint64_t asked_ms[64]; /* When its pulls came. */
    uint64_t written;      /* Records that it has shown. */
};

struct world {
    struct fixture f;
    struct node_config config;
    struct tls_config *tls;
    struct cluster *cluster;
    struct registry_members *list;
    struct member *members[WORLD_MEMBER_MAX];
    size_t count;
    pthread_mutex_t mutex; /* Guards the rest. */
    bool is_told;
    char reason[REPLICA_REASON_BYTES]; /* What the node was told last; empty: it may serve. */
    unsigned told_count;
};

/* ---- Members ---- */

static inline void member_tick(uv_timer_t *timer) {
    (void)timer;
}

static inline void member_frame(struct scripted_server *s, struct net_conn *conn,
                                const struct frame *frame) {
    struct member *m = (struct member *)(void *)s;
    (void)conn;
    if (frame->header.which_kind != novakms_v1_FrameHeader_request_tag) {
        return;
    }
    const struct scripted_request *r = &s->requests[s->request_count - 1];
    if (strstr(r->method, "/Pull") != NULL) {
        if (m->pull_count < sizeof(m->asked_ms) / sizeof(m->asked_ms[0])) {
            m->asked_ms[m->pull_count] = clock_mono_ms();
        }
        m->pull_count++;
    }
    m->fetch_count += strstr(r->method, "/FetchMasterSecret") != NULL;
    if (m->answer != NULL) {
        m->answer(m, r);
    }
    if (s->request_count == SCRIPTED_REQUEST_MAX) {
        s->request_count = 0; /* Some answer at once, for as long as a test takes. */
    }
}

/* Its wallet is that of a seed which no other member has. */
static inline struct member *add_member(struct world *w, member_fn answer) {
    assert_true(w->count < WORLD_MEMBER_MAX);
    struct member *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    uint8_t seed = (uint8_t)(0x30 + w->count);
    w->members[w->count++] = m;
    assert_int_equal(uv_loop_init(&m->loop), 0);
    assert_int_equal(uv_timer_init(&m->loop, &m->tick), 0);
    assert_int_equal(uv_timer_start(&m->tick, member_tick, WORLD_TICK_MS, WORLD_TICK_MS), 0);
    scripted_start(&m->server, &m->loop, seed);
    m->server.is_echoing = false;
    m->server.answers_pings = true;
    m->server.on_frame = member_frame;
    m->world = w;
    m->answer = answer;
    m->incarnation[0] = seed;
    assert_ok(envelope_key_init(&m->tee));
    m->facts.id = w->count;
    m->facts.wallet = *identity_credential_wallet(tls_config_credential(m->server.tls));
    (void)snprintf(m->facts.url, sizeof(m->facts.url), "https://127.0.0.1:%u", m->server.port);
    envelope_public_write(&m->tee.public_key, m->facts.tee_pubkey);
    m->facts.tee_pubkey_len = ENVELOPE_DER_BYTES;
    return m;
}

static inline void close_member(struct member *m) {
    uv_close((uv_handle_t *)&m->tick, NULL);
    scripted_close(&m->server);
    assert_int_equal(uv_loop_close(&m->loop), 0);
    envelope_key_close(&m->tee);
    free(m);
}

/* ---- Their answers ---- */

static inline uint64_t world_now_ms(const struct world *w) {
    return service_clock_unix_ms(&w->f.clock, clock_mono_ms());
}

struct member_state {
    Novakms__V1__PeerState message;
    uint8_t hash[KDF_HASH_BYTES];
};

static inline Novakms__V1__PeerState *state_of(struct member *m, struct member_state *state) {
    novakms__v1__peer_state__init(&state->message);
    memcpy(state->hash, m->world->f.master.hash, sizeof(state->hash));
    state->message.incarnation = fixture_bytes(m->incarnation, STORE_WRITER_BYTES);
    state->message.master_secret_hash = fixture_bytes(state->hash, sizeof(state->hash));
    state->message.unix_ms = world_now_ms(m->world);
    state->message.in_service = true;
    return &state->message;
}

/* A page around the records, which the test may change before it is sent. */
struct page {
    struct member_state state;
    Novakms__V1__PullRequest *request;
    Novakms__V1__Known known;
    Novakms__V1__Known floor;
    Novakms__V1__PullResponse message;
};

static inline void page_open(struct page *page, struct member *m,
                             const struct scripted_request *r) {
    page->request = novakms__v1__pull_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(page->request);
    novakms__v1__known__init(&page->known);
    novakms__v1__known__init(&page->floor);
    novakms__v1__pull_response__init(&page->message);
    Novakms__V1__PullResponse *out = &page->message;
    const ProtobufCBinaryData theirs = page->request->responder_incarnation;
    bool is_same = span_equal((struct span){ theirs.data, theirs.len },
                              (struct span){ m->incarnation, STORE_WRITER_BYTES });
    out->state = state_of(m, &page->state);
    out->requester_incarnation = page->request->state->incarnation;
    out->from = is_same ? page->request->since : 0;
    out->next = out->from;
    out->last = out->from;
    out->known = &page->known;
    out->floor = &page->floor;
}

static inline void page_send(struct page *page, const struct scripted_request *r) {
    scripted_answer_with(r, &page->message.base);
    novakms__v1__pull_request__free_unpacked(page->request, NULL);
}

/* The next record of a member: a delete, which needs no key to be sealed with. */
struct member_record {
    Novakms__V1__Stamp stamp;
    Novakms__V1__PeerRecord message;
    uint8_t key[2];
};

static inline void record_open(struct member_record *record, struct member *m) {
    m->written++;
    record->key[0] = m->incarnation[0];
    record->key[1] = (uint8_t)m->written;
    novakms__v1__stamp__init(&record->stamp);
    record->stamp.hlc = (world_now_ms(m->world) << 16) + (m->written & 0xffff);
    record->stamp.writer = fixture_bytes(m->incarnation, STORE_WRITER_BYTES);
    novakms__v1__peer_record__init(&record->message);
    record->message.app_id = 7;
    record->message.key = fixture_bytes(record->key, sizeof(record->key));
    record->message.stamp = &record->stamp;
    record->message.tombstone = true;
}

/* Says nothing to what may wait, and that there is nothing to what may not. */
static inline void answer_idle(struct member *m, const struct scripted_request *r) {
    struct page page;
    if (strstr(r->method, "/Pull") == NULL) {
        return;
    }
    page_open(&page, m, r);
    if (page.request->wait_ms > 0 && page.message.from == page.request->since &&
        page.request->responder_incarnation.len > 0) {
        novakms__v1__pull_request__free_unpacked(page.request, NULL);
        return;
    }
    page_send(&page, r);
}

/* Answers with one more record, after change (NULL: none) has had the page. */
static inline void answer_changed(struct member *m, const struct scripted_request *r,
                                  void (*change)(struct page *page, struct member *m)) {
    struct page page;
    struct member_record record;
    page_open(&page, m, r);
    record_open(&record, m);
    Novakms__V1__PeerRecord *records[] = { &record.message };
    page.message.records = records;
    page.message.n_records = 1;
    page.message.next++;
    page.message.last++;
    if (change != NULL) {
        change(&page, m);
    }
    page_send(&page, r);
}

/* Has one more record each time. */
static inline void answer_record(struct member *m, const struct scripted_request *r) {
    if (strstr(r->method, "/Pull") != NULL) {
        answer_changed(m, r, NULL);
    }
}

/* ---- Turning ---- */

static inline void world_turn(struct world *w) {
    if (w->count == 0) {
        (void)sched_yield();
    }
    for (size_t i = 0; i < w->count; i++) {
        (void)uv_run(&w->members[i]->loop, UV_RUN_ONCE);
    }
}

#define WORLD_UNTIL(w, condition)                              \
    do {                                                       \
        uint64_t end_ms_ = clock_mono_ms() + WORLD_RUN_MS_MAX; \
        while (!(condition)) {                                 \
            assert_true(clock_mono_ms() < end_ms_);            \
            world_turn(w);                                     \
        }                                                      \
    } while (0)

/* What blocks runs beside the members: fn(w) on a thread of its own. */
struct world_aside {
    struct world *w;
    void (*fn)(struct world *w);
    atomic_bool is_done;
};

static inline void *world_aside_main(void *arg) {
    struct world_aside *aside = arg;
    aside->fn(aside->w);
    atomic_store(&aside->is_done, true);
    return NULL;
}

static inline void world_beside(struct world *w, void (*fn)(struct world *w)) {
    struct world_aside aside = { .w = w, .fn = fn };
    pthread_t thread = 0;
    assert_int_equal(pthread_create(&thread, NULL, world_aside_main, &aside), 0);
    WORLD_UNTIL(w, atomic_load(&aside.is_done));
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* ---- The world ---- */

static inline void world_told(void *ctx, const char *reason) {
    struct world *w = ctx;
    (void)pthread_mutex_lock(&w->mutex);
    (void)snprintf(w->reason, sizeof(w->reason), "%s", reason == NULL ? "" : reason);
    w->told_count++;
    (void)pthread_mutex_unlock(&w->mutex);
}

static inline int world_open_with(void **state, uint32_t fetch_timeout_ms) {
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    *state = w;
    fixture_open(&w->f);
    service_clock_init(&w->f.clock, FIXTURE_SKEW_MS, clock_mono_ms(), FIXTURE_NOW_MS);
    w->list = calloc(1, sizeof(*w->list));
    assert_non_null(w->list);
    assert_int_equal(pthread_mutex_init(&w->mutex, NULL), 0);
    w->config.data_sync_interval_s = 10;
    w->config.peer_cache_ttl_s = 3600;
    (void)snprintf(w->config.node_url, CONFIG_URL_BYTES, "https://self.test:8443");
    const struct cluster_cfg cfg = { .config = &w->config,
                                     .shared = &w->f.shared,
                                     .fetch_timeout_ms = fetch_timeout_ms,
                                     .reason_cb = world_told,
                                     .ctx = w };
    assert_ok(cluster_init(&w->cluster, &cfg));
    struct identity_credential *credential = test_credential(0x22, TEST_CHAIN_ID, -1);
    w->tls = test_client_config(credential, TLS_ALPN_NOVAKMS);
    identity_credential_close(&credential);
    cluster_set_tls(w->cluster, w->tls);
    return 0;
}

static inline int world_open(void **state) {
    return world_open_with(state, 0);
}

static inline void world_close_cluster(struct world *w) {
    cluster_close(&w->cluster);
    cluster_close(&w->cluster);
}

static inline int world_close(void **state) {
    struct world *w = *state;
    world_beside(w, world_close_cluster); /* A connection ends when its other side does. */
    for (size_t i = 0; i < w->count; i++) {
        close_member(w->members[i]);
    }
    tls_config_close(&w->tls);
    (void)pthread_mutex_destroy(&w->mutex);
    fixture_close(&w->f);
    free(w->list);
    free(w);
    return 0;
}

/* Fills w->list with the members of the mask. */
static inline void world_list(struct world *w, unsigned mask) {
    *w->list = (struct registry_members){ .as_of_mono_ms = clock_mono_ms(), .head_block = 1000 };
    for (size_t i = 0; i < w->count; i++) {
        if ((mask >> i & 1u) != 0) {
            w->list->at[w->list->count++] = w->members[i]->facts;
        }
    }
}

/* The cluster gets to know them. */
static inline void world_set_members(struct world *w, unsigned mask) {
    const struct wallet self = WORLD_SELF;
    world_list(w, mask);
    cluster_set_members(w->cluster, &self, w->list);
}

static inline struct replica_stats world_stats(struct world *w) {
    struct replica_stats stats;
    (void)service_kv_lock(w->f.shared.kv);
    replica_stats(w->f.replica, &stats);
    service_kv_unlock(w->f.shared.kv, false);
    return stats;
}

/* What the replica says of a member. False: it has no such member. error is copied. */
static inline bool world_view(struct world *w, const struct member *m, struct replica_view *out,
                              char error[static REPLICA_REASON_BYTES]) {
    const struct replica_now now = { .mono_ms = clock_mono_ms(), .unix_ms = world_now_ms(w) };
    bool is_there = false;
    (void)service_kv_lock(w->f.shared.kv);
    for (size_t i = 0; !is_there && replica_view(w->f.replica, i, &now, out); i++) {
        is_there = wallet_equal(&out->wallet, &m->facts.wallet);
    }
    (void)snprintf(error, REPLICA_REASON_BYTES, "%s", is_there ? out->error : "");
    service_kv_unlock(w->f.shared.kv, false);
    return is_there;
}

static inline bool world_shows(struct world *w, const struct member *m, const char *text) {
    struct replica_view view;
    char error[REPLICA_REASON_BYTES];
    return world_view(w, m, &view, error) && strstr(error, text) != NULL;
}
