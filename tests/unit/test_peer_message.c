/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between peers and the replica's structs: what a hostile member sends is refused with the
 * field's name, and what is sent arrives. */
#include "service/peer_message.h"
#include "test.h"

#define KNOWN_MAX 4
#define RECORD_MAX 3

static const struct peer_limits limits = { KNOWN_MAX, RECORD_MAX };
static uint8_t ids[KNOWN_MAX + 2][STORE_WRITER_BYTES] = {
    { 5 }, { 2 }, { 9 }, { 1 }, { 7 }, { 3 }
};
static uint8_t hash[REPLICA_HASH_BYTES] = { 8 };

static ProtobufCBinaryData bytes(uint8_t *ptr, size_t len) {
    return (ProtobufCBinaryData){ len, ptr };
}

/* A message with all of its parts, each good. */
struct parts {
    struct arena arena;
    Novakms__V1__PeerState state;
    Novakms__V1__KnownEntry entries[KNOWN_MAX + 1];
    Novakms__V1__KnownEntry *entry_list[KNOWN_MAX + 1];
    Novakms__V1__Known known;
    Novakms__V1__MemberIncarnation heard[2];
    Novakms__V1__MemberIncarnation *heard_list[REPLICA_HEARD_COUNT_MAX + 1];
    Novakms__V1__Stamp stamp;
    Novakms__V1__PeerRecord records[RECORD_MAX + 1];
    Novakms__V1__PeerRecord *record_list[RECORD_MAX + 1];
    Novakms__V1__PullRequest request;
    Novakms__V1__PullResponse response;
    Novakms__V1__AppDigest digests[2];
    Novakms__V1__AppDigest *digest_list[REPLICA_DIGEST_APP_COUNT_MAX + 1];
    Novakms__V1__GetDigestResponse digest_response;
};
static struct parts p;
static uint8_t wallet[WALLET_BYTES] = { 4 };
static uint8_t sum[PEER_DIGEST_BYTES] = { 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2 };

static void fill_lists(void) {
    for (size_t i = 0; i <= KNOWN_MAX; i++) {
        novakms__v1__known_entry__init(&p.entries[i]);
        p.entries[i].writer = bytes(ids[i], STORE_WRITER_BYTES);
        p.entries[i].hlc = 100 + i;
        p.entry_list[i] = &p.entries[i];
    }
    for (size_t i = 0; i <= RECORD_MAX; i++) {
        novakms__v1__peer_record__init(&p.records[i]);
        p.records[i].app_id = i;
        p.records[i].key = bytes(ids[i], 3);
        p.records[i].sealed = bytes(ids[i], 4);
        p.records[i].stamp = &p.stamp;
        p.record_list[i] = &p.records[i];
    }
    for (size_t i = 0; i <= REPLICA_HEARD_COUNT_MAX; i++) {
        p.heard_list[i] = &p.heard[i % 2];
    }
    for (size_t i = 0; i <= REPLICA_DIGEST_APP_COUNT_MAX; i++) {
        p.digest_list[i] = &p.digests[i % 2];
    }
}

static int open_parts(void **state) {
    (void)state;
    memset(&p, 0, sizeof(p));
    arena_init(&p.arena, (size_t)1 << 20);
    novakms__v1__peer_state__init(&p.state);
    p.state.incarnation = bytes(ids[0], STORE_WRITER_BYTES);
    p.state.master_secret_hash = bytes(hash, sizeof(hash));
    p.state.head_block = 7;
    novakms__v1__known__init(&p.known);
    p.known.entries = p.entry_list;
    p.known.n_entries = 3;
    p.known.rest_hlc = 9;
    novakms__v1__stamp__init(&p.stamp);
    p.stamp.hlc = 55;
    p.stamp.writer = bytes(ids[1], STORE_WRITER_BYTES);
    for (size_t i = 0; i < 2; i++) {
        novakms__v1__member_incarnation__init(&p.heard[i]);
        p.heard[i].wallet = bytes(wallet, sizeof(wallet));
        novakms__v1__app_digest__init(&p.digests[i]);
        p.digests[i].app_id = i + 1;
        p.digests[i].digest = bytes(sum, sizeof(sum));
    }
    p.heard[1].incarnation = bytes(ids[2], STORE_WRITER_BYTES);
    fill_lists();
    novakms__v1__pull_request__init(&p.request);
    p.request.state = &p.state;
    p.request.known = &p.known;
    p.request.heard = p.heard_list;
    p.request.n_heard = 2;
    novakms__v1__pull_response__init(&p.response);
    p.response.state = &p.state;
    p.response.requester_incarnation = bytes(ids[3], STORE_WRITER_BYTES);
    p.response.known = &p.known;
    p.response.records = p.record_list;
    p.response.n_records = 2;
    novakms__v1__get_digest_response__init(&p.digest_response);
    p.digest_response.state = &p.state;
    p.digest_response.known = &p.known;
    p.digest_response.apps = p.digest_list;
    p.digest_response.n_apps = 2;
    return 0;
}

static int close_parts(void **state) {
    (void)state;
    arena_close(&p.arena);
    return 0;
}

/* ---- What is refused ---- */

static void no_state(void) {
    p.request.state = NULL;
    p.response.state = NULL;
    p.digest_response.state = NULL;
}
static void short_incarnation(void) {
    p.state.incarnation.len = 15;
}
static void long_incarnation(void) {
    static uint8_t longer[STORE_WRITER_BYTES + 1] = { 1 };
    p.state.incarnation = bytes(longer, sizeof(longer));
}
static void zero_incarnation(void) {
    static uint8_t zero[STORE_WRITER_BYTES];
    p.state.incarnation = bytes(zero, sizeof(zero));
}
static void short_hash(void) {
    p.state.master_secret_hash.len = 31;
}
static void short_writer(void) {
    p.entries[1].writer.len = 0;
}
static void writer_twice(void) {
    p.entries[2].writer = p.entries[0].writer;
}
static void too_many_writers(void) {
    p.known.n_entries = KNOWN_MAX + 1;
}
static void short_wallet(void) {
    p.heard[1].wallet.len = 19;
}
static void short_boot(void) {
    p.heard[1].incarnation.len = 1;
}
static void too_many_heard(void) {
    p.request.n_heard = REPLICA_HEARD_COUNT_MAX + 1;
    p.response.n_heard = REPLICA_HEARD_COUNT_MAX + 1;
    p.response.heard = p.heard_list;
}
static void short_responder(void) {
    p.request.responder_incarnation = bytes(ids[1], 3);
}
static void long_wait(void) {
    p.request.wait_ms = REPLICA_WAIT_MS_MAX + 1;
}
static void no_requester(void) {
    p.response.requester_incarnation.len = 0;
}
static void too_many_records(void) {
    p.response.n_records = RECORD_MAX + 1;
}
static void bad_floor(void) {
    static Novakms__V1__KnownEntry *list[1];
    static Novakms__V1__Known floor;
    novakms__v1__known__init(&floor);
    list[0] = &p.entries[0];
    p.entries[0].writer.len = 1;
    p.known.n_entries = 0;
    floor.entries = list;
    floor.n_entries = 1;
    p.response.floor = &floor;
}
static void too_many_digests(void) {
    p.digest_response.n_apps = REPLICA_DIGEST_APP_COUNT_MAX + 1;
}
static void short_digest(void) {
    p.digests[1].digest.len = 15;
}
static void unordered_digests(void) {
    p.digests[1].app_id = p.digests[0].app_id;
}

enum { REQUEST = 1, RESPONSE = 2, DIGESTS = 4 };
static struct refusal_row {
    const char *name;
    void (*spoil)(void);
    unsigned of; /* The messages that it makes bad. */
    const char *says;
} refusal_rows[] = {
    { "no_state", no_state, REQUEST | RESPONSE | DIGESTS, "state: is missing" },
    { "short_incarnation", short_incarnation, REQUEST | RESPONSE | DIGESTS, "state.incarnation: " },
    { "long_incarnation", long_incarnation, REQUEST | RESPONSE | DIGESTS, "state.incarnation: " },
    { "zero_incarnation", zero_incarnation, REQUEST | RESPONSE | DIGESTS, "state.incarnation: " },
    { "short_hash", short_hash, REQUEST | RESPONSE | DIGESTS, "state.master_secret_hash: " },
    { "short_writer", short_writer, REQUEST | RESPONSE | DIGESTS, "known: " },
    { "writer_twice", writer_twice, REQUEST | RESPONSE | DIGESTS, "known: names a writer twice" },
    { "too_many_writers", too_many_writers, REQUEST | RESPONSE | DIGESTS, "known: has 5 entries" },
    { "short_wallet", short_wallet, REQUEST, "heard.wallet: " },
    { "short_boot", short_boot, REQUEST, "heard.incarnation: " },
    { "too_many_heard", too_many_heard, REQUEST | RESPONSE, "heard: has 1281 entries" },
    { "short_responder", short_responder, REQUEST, "responder_incarnation: " },
    { "long_wait", long_wait, REQUEST, "wait_ms: is 60001" },
    { "no_requester", no_requester, RESPONSE, "requester_incarnation: " },
    { "too_many_records", too_many_records, RESPONSE, "records: has 4 entries" },
    { "bad_floor", bad_floor, RESPONSE, "floor: " },
    { "too_many_digests", too_many_digests, DIGESTS, "apps: has 1025 entries" },
    { "short_digest", short_digest, DIGESTS, "apps.digest: " },
    { "unordered_digests", unordered_digests, DIGESTS, "apps: must be in the order" },
};

static void check_refusal(bool is_good, bool must_fail, const struct status *why,
                          const char *says) {
    assert_int_equal(is_good, !must_fail);
    if (must_fail) {
        assert_int_equal(why->code, STATUS_INVALID_ARGUMENT);
        assert_int_equal(strncmp(why->text, says, strlen(says)), 0);
    }
}

static void test_refusal(void **state) {
    const struct refusal_row *row = *state;
    struct replica_request request;
    struct peer_page page;
    struct peer_digests digests;
    struct status why = { 0 };
    (void)open_parts(NULL);
    assert_true(peer_pull_request_in(&p.request, &limits, &p.arena, &request, &why));
    assert_true(peer_page_in(&p.response, &limits, &p.arena, &page, &why));
    assert_true(peer_digests_in(&p.digest_response, &limits, &p.arena, &digests, &why));
    row->spoil();
    bool good = peer_pull_request_in(&p.request, &limits, &p.arena, &request, &why);
    check_refusal(good, (row->of & REQUEST) != 0, &why, row->says);
    good = peer_page_in(&p.response, &limits, &p.arena, &page, &why);
    check_refusal(good, (row->of & RESPONSE) != 0, &why, row->says);
    good = peer_digests_in(&p.digest_response, &limits, &p.arena, &digests, &why);
    check_refusal(good, (row->of & DIGESTS) != 0, &why, row->says);
    (void)close_parts(NULL);
}

/* ---- What is taken ---- */

static void test_limits_are_allowed(void **state) {
    (void)state;
    struct replica_request request;
    struct peer_page page;
    struct status why = { 0 };
    p.known.n_entries = KNOWN_MAX;
    p.request.wait_ms = REPLICA_WAIT_MS_MAX;
    p.request.n_heard = REPLICA_HEARD_COUNT_MAX;
    p.response.n_records = RECORD_MAX;
    assert_true(peer_pull_request_in(&p.request, &limits, &p.arena, &request, &why));
    assert_int_equal(request.known.count, KNOWN_MAX);
    assert_int_equal(request.heard_count, REPLICA_HEARD_COUNT_MAX);
    for (size_t i = 1; i < KNOWN_MAX; i++) {
        assert_true(request.known.entries[i - 1].writer[0] < request.known.entries[i].writer[0]);
    }
    assert_true(peer_page_in(&p.response, &limits, &p.arena, &page, &why));
    assert_int_equal(page.count, RECORD_MAX);
    p.state.master_secret_hash.len = 0; /* A node without a secret. */
    p.request.known = NULL;
    assert_true(peer_pull_request_in(&p.request, &limits, &p.arena, &request, &why));
    assert_int_equal(request.state.secret_hash[0], 0);
    assert_int_equal(request.known.count, 0);
}

/* One bad record must not keep the others of its page from being merged: the store refuses it. */
static void test_bad_records_are_for_the_store(void **state) {
    (void)state;
    struct peer_page page;
    struct status why = { 0 };
    static Novakms__V1__Stamp bad;
    bad = p.stamp;
    bad.writer.len = 15;
    p.records[0].stamp = NULL;
    p.records[1].stamp = &bad;
    p.records[2].replaced = &bad;
    p.records[2].key.len = 0;
    p.response.n_records = 3;
    assert_true(peer_page_in(&p.response, &limits, &p.arena, &page, &why));
    for (size_t i = 0; i < 3; i++) {
        assert_true(store_stamp_is_none(&page.records[i].remote.stamp));
    }
}

static void test_no_memory(void **state) {
    (void)state;
    struct replica_request request;
    struct peer_page page;
    struct status why = { 0 };
    struct arena none;
    arena_init(&none, 1);
    assert_false(peer_pull_request_in(&p.request, &limits, &none, &request, &why));
    assert_int_equal(why.code, STATUS_RESOURCE_EXHAUSTED);
    assert_false(peer_page_in(&p.response, &limits, &none, &page, &why));
    assert_int_equal(why.code, STATUS_RESOURCE_EXHAUSTED);
    Novakms__V1__PullRequest *out = NULL;
    assert_true(peer_pull_request_in(&p.request, &limits, &p.arena, &request, &why));
    assert_err(peer_pull_request_out(&request, &none, &out), NOMEM);
    arena_close(&none);
}

/* ---- There and back ---- */

static void test_request_travels(void **state) {
    (void)state;
    struct replica_request first;
    struct replica_request second;
    struct status why = { 0 };
    p.request.responder_incarnation = bytes(ids[4], STORE_WRITER_BYTES);
    p.request.since = 77;
    p.request.bytes_max = 88;
    p.request.wait_ms = 99;
    p.state.in_service = 1;
    p.state.unix_ms = 123;
    assert_true(peer_pull_request_in(&p.request, &limits, &p.arena, &first, &why));
    Novakms__V1__PullRequest *out = NULL;
    assert_ok(peer_pull_request_out(&first, &p.arena, &out));
    uint8_t packed[1024];
    size_t len = novakms__v1__pull_request__pack(out, packed);
    assert_true(len <= sizeof(packed));
    Novakms__V1__PullRequest *in = novakms__v1__pull_request__unpack(NULL, len, packed);
    assert_non_null(in);
    assert_true(peer_pull_request_in(in, &limits, &p.arena, &second, &why));
    assert_memory_equal(&first.state, &second.state, sizeof(first.state));
    assert_memory_equal(first.responder_incarnation, second.responder_incarnation,
                        STORE_WRITER_BYTES);
    assert_int_equal(second.since, 77);
    assert_int_equal(second.bytes_max, 88);
    assert_int_equal(second.wait_ms, 99);
    assert_int_equal(second.known.rest_hlc, 9);
    assert_int_equal(second.known.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(&first.known.entries[i], &second.known.entries[i],
                            sizeof(first.known.entries[0]));
    }
    assert_int_equal(second.heard_count, 2);
    assert_memory_equal(second.heard[1].incarnation, ids[2], STORE_WRITER_BYTES);
    assert_int_equal(second.heard[0].incarnation[0], 0);
    novakms__v1__pull_request__free_unpacked(in, NULL);
}

static void test_record_travels(void **state) {
    (void)state;
    const struct store_record record = {
        .app_id = UINT64_MAX,
        .key = SPAN_LIT("key"),
        .sealed = SPAN_LIT("sealed"),
        .stamp = { .hlc = 9, .writer = { 1 } },
        .replaced = { .hlc = 8, .writer = { 2 } },
        .ttl_ms = 1000,
    };
    static struct peer_record_out out;
    struct peer_page page;
    struct status why = { 0 };
    static Novakms__V1__PeerRecord *list[1] = { &out.message };
    p.response.records = list;
    p.response.n_records = 1;
    peer_record_out(&record, &out);
    assert_true(peer_page_in(&p.response, &limits, &p.arena, &page, &why));
    const struct store_remote *got = &page.records[0].remote;
    assert_true(got->app_id == UINT64_MAX && got->ttl_ms == 1000 && !got->tombstone);
    assert_true(span_equal(got->key, record.key) && span_equal(got->sealed, record.sealed));
    assert_int_equal(store_stamp_compare(&got->stamp, &record.stamp), 0);
    assert_int_equal(store_stamp_compare(&got->replaced, &record.replaced), 0);
    struct store_record tombstone = record;
    tombstone.state = STORE_TOMBSTONE;
    tombstone.sealed = SPAN_EMPTY;
    tombstone.replaced = STORE_STAMP_NONE;
    peer_record_out(&tombstone, &out);
    assert_null(out.message.replaced);
    assert_true(peer_page_in(&p.response, &limits, &p.arena, &page, &why));
    assert_true(page.records[0].remote.tombstone);
    assert_true(store_stamp_is_none(&page.records[0].remote.replaced));
}

static void test_digests_are_read(void **state) {
    (void)state;
    struct peer_digests digests;
    struct status why = { 0 };
    assert_true(peer_digests_in(&p.digest_response, &limits, &p.arena, &digests, &why));
    assert_int_equal(digests.count, 2);
    assert_int_equal(digests.digests[0].digest.high, 1);
    assert_int_equal(digests.digests[0].digest.low, 2);
}

#define PART_TEST(function) cmocka_unit_test_setup_teardown(function, open_parts, close_parts)

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(refusal_rows) + 6];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_refusal, refusal_rows);
    const struct CMUnitTest others[] = {
        PART_TEST(test_limits_are_allowed), PART_TEST(test_bad_records_are_for_the_store),
        PART_TEST(test_no_memory),          PART_TEST(test_request_travels),
        PART_TEST(test_record_travels),     PART_TEST(test_digests_are_read),
    };
    memcpy(tests + count, others, sizeof(others));
    return cmocka_run_group_tests_name("peer_message", tests, NULL, NULL);
}
