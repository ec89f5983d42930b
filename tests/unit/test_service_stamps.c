/* SPDX-License-Identifier: Apache-2.0 */
/* The stamps that callers show: what each method makes of them. */
#include "service_fixture.h"

enum method { PUT, DELETE, BATCH_PUT, GET, LIST, BATCH_GET, METHOD_COUNT };

static const uint8_t seen_writer[STORE_WRITER_BYTES] = { 0xff, 1 };
static const uint8_t own_writer[STORE_WRITER_BYTES] = { 0xff, 2 };

/* A stamp as a request has it. An hlc of 0 is none. */
static Novakms__V1__Stamp stamp_of(const uint8_t *writer, uint64_t hlc) {
    Novakms__V1__Stamp stamp = NOVAKMS__V1__STAMP__INIT;
    stamp.hlc = hlc;
    stamp.writer = fixture_bytes(writer, hlc == 0 ? 0 : STORE_WRITER_BYTES);
    return stamp;
}

struct question {
    enum method method;
    Novakms__V1__Stamp seen;
    Novakms__V1__Stamp wrote;
    bool is_over; /* It has waited already. */
};

struct answer {
    enum service_outcome outcome;
    bool may_miss;
    uint64_t hlc; /* Of a write. */
};

static uint64_t hlc_of(const Novakms__V1__Stamp *stamp) {
    return stamp == NULL ? 0 : stamp->hlc;
}

static struct service_call *call_of(struct fixture *f, const struct question *q) {
    fixture_call(f)->may_miss = q->is_over;
    return &f->call;
}

static struct answer ask_put(struct fixture *f, struct question *q) {
    Novakms__V1__PutRequest in = NOVAKMS__V1__PUT_REQUEST__INIT;
    Novakms__V1__PutResponse out = NOVAKMS__V1__PUT_RESPONSE__INIT;
    in.key = fixture_text("k");
    in.value = fixture_text("new");
    in.seen = &q->seen;
    in.wrote = &q->wrote;
    enum service_outcome outcome = service_put(&f->worker, call_of(f, q), &in, &out);
    return (struct answer){ outcome, out.may_miss, hlc_of(out.stamp) };
}

static struct answer ask_delete(struct fixture *f, struct question *q) {
    Novakms__V1__DeleteRequest in = NOVAKMS__V1__DELETE_REQUEST__INIT;
    Novakms__V1__DeleteResponse out = NOVAKMS__V1__DELETE_RESPONSE__INIT;
    in.key = fixture_text("k");
    in.seen = &q->seen;
    in.wrote = &q->wrote;
    enum service_outcome outcome = service_delete(&f->worker, call_of(f, q), &in, &out);
    return (struct answer){ outcome, out.may_miss, hlc_of(out.stamp) };
}

static struct answer ask_batch_put(struct fixture *f, struct question *q) {
    Novakms__V1__BatchPutEntry entry = NOVAKMS__V1__BATCH_PUT_ENTRY__INIT;
    Novakms__V1__BatchPutEntry *entries[] = { &entry };
    Novakms__V1__BatchPutRequest in = NOVAKMS__V1__BATCH_PUT_REQUEST__INIT;
    Novakms__V1__BatchPutResponse out = NOVAKMS__V1__BATCH_PUT_RESPONSE__INIT;
    entry.key = fixture_text("k");
    in.entries = entries;
    in.n_entries = 1;
    in.seen = &q->seen;
    in.wrote = &q->wrote;
    enum service_outcome outcome = service_batch_put(&f->worker, call_of(f, q), &in, &out);
    return (struct answer){ outcome, out.may_miss,
                            out.n_items == 0 ? 0 : hlc_of(out.items[0]->stamp) };
}

static struct answer ask_get(struct fixture *f, struct question *q) {
    Novakms__V1__GetRequest in = NOVAKMS__V1__GET_REQUEST__INIT;
    Novakms__V1__GetResponse out = NOVAKMS__V1__GET_RESPONSE__INIT;
    in.key = fixture_text("k");
    in.seen = &q->seen;
    in.wrote = &q->wrote;
    enum service_outcome outcome = service_get(&f->worker, call_of(f, q), &in, &out);
    return (struct answer){ outcome, out.may_miss, 0 };
}

static struct answer ask_list(struct fixture *f, struct question *q) {
    Novakms__V1__ListRequest in = NOVAKMS__V1__LIST_REQUEST__INIT;
    Novakms__V1__ListResponse out = NOVAKMS__V1__LIST_RESPONSE__INIT;
    in.seen = &q->seen;
    in.wrote = &q->wrote;
    enum service_outcome outcome = service_list(&f->worker, call_of(f, q), &in, &out);
    return (struct answer){ outcome, out.may_miss, 0 };
}

static struct answer ask_batch_get(struct fixture *f, struct question *q) {
    ProtobufCBinaryData key = fixture_text("k");
    Novakms__V1__BatchGetRequest in = NOVAKMS__V1__BATCH_GET_REQUEST__INIT;
    Novakms__V1__BatchGetResponse out = NOVAKMS__V1__BATCH_GET_RESPONSE__INIT;
    in.keys = &key;
    in.n_keys = 1;
    in.seen = &q->seen;
    in.wrote = &q->wrote;
    enum service_outcome outcome = service_batch_get(&f->worker, call_of(f, q), &in, &out);
    return (struct answer){ outcome, out.may_miss, 0 };
}

static struct answer ask(struct fixture *f, struct question *q) {
    static struct answer (*const asks[METHOD_COUNT])(struct fixture *, struct question *) = {
        ask_put, ask_delete, ask_batch_put, ask_get, ask_list, ask_batch_get
    };
    return asks[q->method](f, q);
}

/* Another node's vector arrives. */
static void learn(struct fixture *f, const uint8_t *writer, uint64_t hlc) {
    struct store_known_entry entry = { .hlc = hlc };
    memcpy(entry.writer, writer, sizeof(entry.writer));
    const struct store_known known = { &entry, 1, 0 };
    assert_ok(store_join_known(service_kv_lock(f->shared.kv), &known, FIXTURE_NOW_MS));
    service_kv_unlock(f->shared.kv, true);
}

/* Key "k" as the store has it. */
static struct store_stamp held(struct fixture *f) {
    struct store_record record = { 0 };
    const struct store *store = service_kv_lock(f->shared.kv);
    struct rc rc = store_get(store, f->caller.app_id, SPAN_LIT("k"), FIXTURE_NOW_MS, &record);
    service_kv_unlock(f->shared.kv, false);
    assert_true(rc.err == E_OK || rc.err == E_NOT_FOUND);
    return record.stamp;
}

#define SEEN_HLC (FIXTURE_NOW_MS << 16)
#define WROTE_HLC (SEEN_HLC - 5)

static struct known_row {
    const char *name;
    uint64_t seen_hlc;
    uint64_t wrote_hlc;
    bool knows_seen;
    bool knows_wrote;
    bool waits;
} known_rows[] = {
    { "nothing_is_shown", 0, 0, false, false, false },
    { "seen_alone", SEEN_HLC, 0, false, false, true },
    { "seen_alone_is_known", SEEN_HLC, 0, true, false, false },
    { "wrote_alone", 0, WROTE_HLC, false, false, true },
    { "wrote_alone_is_known", 0, WROTE_HLC, false, true, false },
    { "neither_is_known", SEEN_HLC, WROTE_HLC, false, false, true },
    { "only_seen_is_known", SEEN_HLC, WROTE_HLC, true, false, true },
    { "only_wrote_is_known", SEEN_HLC, WROTE_HLC, false, true, true },
    { "both_are_known", SEEN_HLC, WROTE_HLC, true, true, false },
};

/* What is not known is waited for, by reads and before writes; past that the answer says so. */
static void check_wait(const struct known_row *row, enum method method) {
    struct fixture f;
    fixture_open(&f);
    fixture_put_text(&f, "k", "v");
    const struct store_stamp before = held(&f);
    if (row->knows_seen) {
        learn(&f, seen_writer, SEEN_HLC);
    }
    if (row->knows_wrote) {
        learn(&f, own_writer, WROTE_HLC);
    }
    struct question q = { method, stamp_of(seen_writer, row->seen_hlc),
                          stamp_of(own_writer, row->wrote_hlc), false };
    struct answer got = ask(&f, &q);
    assert_int_equal(got.outcome, row->waits ? SERVICE_WAITS : SERVICE_ANSWERED);
    assert_false(got.may_miss);
    if (row->waits) {
        assert_int_equal(f.call.is_write, method <= BATCH_PUT);
        assert_int_equal(f.call.shown.seen.hlc, row->seen_hlc);
        assert_int_equal(f.call.shown.wrote.hlc, row->wrote_hlc);
        assert_int_equal(f.call.written.count, 0);
        const struct store_stamp now = held(&f);
        assert_int_equal(store_stamp_compare(&now, &before), 0);
        q.is_over = true;
        got = ask(&f, &q);
        assert_int_equal(got.outcome, SERVICE_ANSWERED);
        assert_true(got.may_miss);
    }
    if (method <= BATCH_PUT) {
        assert_true(got.hlc > row->seen_hlc && got.hlc > row->wrote_hlc);
        assert_int_equal(held(&f).hlc, got.hlc);
    }
    fixture_close(&f);
}

static void test_what_is_waited_for(void **state) {
    for (int method = 0; method < METHOD_COUNT; method++) {
        check_wait(*state, (enum method)method);
    }
}

/* Whichever of the two is greater. */
static void test_writes_are_stamped_after_both(void **state) {
    (void)state;
    const uint64_t high = (FIXTURE_NOW_MS + FIXTURE_SKEW_MS) << 16;
    for (int method = PUT; method <= BATCH_PUT; method++) {
        struct fixture f;
        fixture_open(&f);
        struct question q = { (enum method)method, stamp_of(seen_writer, high),
                              stamp_of(own_writer, high + 5), true };
        assert_true(ask(&f, &q).hlc > high + 5);
        q.seen = stamp_of(seen_writer, high + 20);
        assert_true(ask(&f, &q).hlc > high + 20);
        fixture_close(&f);
    }
}

static struct bad_row {
    const char *name;
    uint64_t hlc;
    size_t writer_len;
} bad_rows[] = {
    { "over_skew", (FIXTURE_NOW_MS + FIXTURE_SKEW_MS + 1) << 16, STORE_WRITER_BYTES },
    { "greatest", UINT64_MAX, STORE_WRITER_BYTES },
    { "writer_short", SEEN_HLC, STORE_WRITER_BYTES - 1 },
    { "writer_missing", SEEN_HLC, 0 },
    { "writer_alone", 0, 1 },
};

/* It is refused at once, by its field's name, and nothing is written. */
static void test_bad_stamps(void **state) {
    const struct bad_row *row = *state;
    Novakms__V1__Stamp bad = stamp_of(own_writer, row->hlc);
    bad.writer.len = row->writer_len;
    for (int method = 0; method < METHOD_COUNT; method++) {
        struct fixture f;
        fixture_open(&f);
        struct question q = { (enum method)method, bad, stamp_of(own_writer, 0), false };
        assert_failed(&f, ask(&f, &q).outcome, INVALID_ARGUMENT);
        assert_memory_equal(f.call.why.text, "seen: ", 6);
        q.wrote = bad;
        q.seen = stamp_of(seen_writer, SEEN_HLC); /* Not known: it would wait. */
        assert_failed(&f, ask(&f, &q).outcome, INVALID_ARGUMENT);
        assert_memory_equal(f.call.why.text, "wrote: ", 7);
        assert_int_equal(held(&f).hlc, 0);
        fixture_close(&f);
    }
}

/* The last stamp within the skew is allowed, and leaves no room for one after it. */
static void test_no_room_after_a_stamp(void **state) {
    (void)state;
    const uint64_t last = ((FIXTURE_NOW_MS + FIXTURE_SKEW_MS) << 16) + 0xffff;
    struct fixture f;
    fixture_open(&f);
    struct question q = { PUT, stamp_of(seen_writer, last), stamp_of(own_writer, 0), true };
    assert_failed(&f, ask(&f, &q).outcome, INVALID_ARGUMENT);
    assert_memory_equal(f.call.why.text, "seen: ", 6);
    q = (struct question){ DELETE, stamp_of(seen_writer, 7), stamp_of(own_writer, last), true };
    assert_failed(&f, ask(&f, &q).outcome, INVALID_ARGUMENT);
    assert_memory_equal(f.call.why.text, "wrote: ", 7);
    fixture_close(&f);
}

/* What can be refused is refused before the wait. */
static void test_checks_come_before_the_wait(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    Novakms__V1__Stamp wrote = stamp_of(own_writer, WROTE_HLC);
    Novakms__V1__PutRequest put = NOVAKMS__V1__PUT_REQUEST__INIT;
    Novakms__V1__PutResponse put_out;
    put.wrote = &wrote;
    assert_failed(&f, CALL(&f, put, put_response, &put, &put_out), INVALID_ARGUMENT);
    put.key = fixture_text("k");
    put.durability = NOVAKMS__V1__DURABILITY__DURABILITY_ONE_PEER;
    assert_failed(&f, CALL(&f, put, put_response, &put, &put_out), FAILED_PRECONDITION);
    Novakms__V1__DeleteRequest delete = NOVAKMS__V1__DELETE_REQUEST__INIT;
    Novakms__V1__DeleteResponse delete_out;
    delete.wrote = &wrote;
    assert_failed(&f, CALL(&f, delete, delete_response, &delete, &delete_out), INVALID_ARGUMENT);
    Novakms__V1__BatchPutRequest batch = NOVAKMS__V1__BATCH_PUT_REQUEST__INIT;
    Novakms__V1__BatchPutResponse batch_out;
    batch.wrote = &wrote;
    assert_failed(&f, CALL(&f, batch_put, batch_put_response, &batch, &batch_out),
                  INVALID_ARGUMENT);
    fixture_close(&f);
}

static void test_own_writes_are_known(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store_stamp stamp = STORE_STAMP_NONE;
    const struct fixture_value arg = { "k", "v", 1, 0 };
    assert_int_equal(fixture_put(&f, &arg, &stamp), SERVICE_ANSWERED);
    for (int method = 0; method < METHOD_COUNT; method++) {
        struct question q = { (enum method)method, stamp_of(stamp.writer, stamp.hlc),
                              stamp_of(stamp.writer, stamp.hlc), false };
        const struct answer got = ask(&f, &q);
        assert_int_equal(got.outcome, SERVICE_ANSWERED);
        assert_false(got.may_miss);
    }
    fixture_close(&f);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(known_rows) + TEST_ROWS(bad_rows) + 4];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_what_is_waited_for, known_rows);
    TEST_ADD_ROWS(tests, count, test_bad_stamps, bad_rows);
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_writes_are_stamped_after_both),
        cmocka_unit_test(test_no_room_after_a_stamp),
        cmocka_unit_test(test_checks_come_before_the_wait),
        cmocka_unit_test(test_own_writes_are_known),
    };
    memcpy(tests + count, others, sizeof(others));
    return cmocka_run_group_tests_name("service_stamps", tests, NULL, NULL);
}
