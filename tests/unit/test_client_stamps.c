/* SPDX-License-Identifier: Apache-2.0 */
/* The stamps that libnovakms shows: the greatest it has seen, and that of its own latest write. */
#include "client/client.h"
#include "client_world.h"

struct shown {
    uint64_t seen;
    uint64_t wrote;
};

static uint64_t hlc_of(const Novakms__V1__Stamp *stamp) {
    return stamp == NULL ? 0 : stamp->hlc;
}

static const struct scripted_request *last_request(const struct world *w, size_t server_idx) {
    const struct scripted_server *s = &w->servers[server_idx];
    assert_true(s->request_count > 0);
    return &s->requests[s->request_count - 1];
}

#define DEFINE_SHOWN(name, Request)                                                  \
    static struct shown name##_shown(const struct world *w, size_t server_idx) {     \
        const struct scripted_request *r = last_request(w, server_idx);              \
        Novakms__V1__##Request *in =                                                 \
            novakms__v1__##name##_request__unpack(NULL, r->payload_len, r->payload); \
        assert_non_null(in);                                                         \
        const struct shown shown = { hlc_of(in->seen), hlc_of(in->wrote) };          \
        novakms__v1__##name##_request__free_unpacked(in, NULL);                      \
        return shown;                                                                \
    }
DEFINE_SHOWN(get, GetRequest)
DEFINE_SHOWN(put, PutRequest)
DEFINE_SHOWN(delete, DeleteRequest)
DEFINE_SHOWN(list, ListRequest)
DEFINE_SHOWN(batch_get, BatchGetRequest)
DEFINE_SHOWN(batch_put, BatchPutRequest)
#undef DEFINE_SHOWN

#define assert_shown(got, want_seen, want_wrote)    \
    do {                                            \
        const struct shown got_ = (got);            \
        assert_int_equal(got_.seen, (want_seen));   \
        assert_int_equal(got_.wrote, (want_wrote)); \
    } while (0)

static void answer_newer(const struct scripted_request *r) {
    Novakms__V1__GetResponse m = NOVAKMS__V1__GET_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(9);
    m.stamp = &stamp;
    scripted_answer_with(r, &m.base);
}

static void answer_may_miss(const struct scripted_request *r) {
    Novakms__V1__GetResponse m = NOVAKMS__V1__GET_RESPONSE__INIT;
    m.may_miss = 1;
    scripted_answer_with(r, &m.base);
}

typedef void (*answer_fn)(const struct scripted_request *r);
typedef uint64_t (*start_fn)(struct world *w);

/* A call from start to end. */
static struct novakms_result *run(struct world *w, start_fn start, answer_fn answer,
                                  enum novakms_code code) {
    w->answer = answer;
    assert_true(start(w) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, code);
    return r;
}

static void run_ok(struct world *w, start_fn start, answer_fn answer, bool may_miss) {
    struct novakms_result *r = run(w, start, answer, NOVAKMS_OK);
    assert_int_equal(r->may_miss, may_miss);
    novakms_free(&r);
}

static void store_7(struct world *w) {
    run_ok(w, put, answer_stored, false);
}

static void get_ok(struct world *w, answer_fn answer) {
    run_ok(w, start_get, answer, false);
}

/* What others wrote does not hide what this client wrote; also not on the next server. */
static void test_own_write_stays_shown(void **state) {
    (void)state;
    struct world *w = open_world(2);
    get_ok(w, answer_value);
    assert_shown(get_shown(w, 0), 0, 0);
    store_7(w);
    assert_shown(put_shown(w, 0), 0, 0);
    get_ok(w, answer_newer);
    assert_shown(get_shown(w, 0), 7, 7);
    get_ok(w, answer_newer);
    assert_shown(get_shown(w, 0), 9, 7);
    scripted_stop_listening(&w->servers[0]);
    scripted_drop(&w->servers[0]);
    get_ok(w, answer_newer);
    assert_shown(get_shown(w, 1), 9, 7);
    store_7(w);
    assert_shown(put_shown(w, 1), 9, 7);
    close_world(w);
}

/* An answer of any kind, without a stamp. */
static void answer_empty(const struct scripted_request *r) {
    Novakms__V1__PutResponse m = NOVAKMS__V1__PUT_RESPONSE__INIT;
    scripted_answer_with(r, &m.base);
}

static uint64_t start_delete(struct world *w) {
    const struct novakms_delete_args args = { .key = novakms_text("k") };
    return novakms_delete_start(w->client, &args, w, keep);
}

static uint64_t start_list(struct world *w) {
    const struct novakms_list_args args = { .limit = 1 };
    return novakms_list_start(w->client, &args, w, keep);
}

static uint64_t start_batch_get(struct world *w) {
    const struct novakms_span key = novakms_text("k");
    const struct novakms_batch_get_args args = { .keys = &key, .key_count = 1 };
    return novakms_batch_get_start(w->client, &args, w, keep);
}

static uint64_t start_batch_put(struct world *w) {
    const struct novakms_put_args items[] = { { .key = novakms_text("a") },
                                              { .key = novakms_text("b") } };
    const struct novakms_batch_put_args args = { .items = items, .item_count = 2 };
    return novakms_batch_put_start(w->client, &args, w, keep);
}

static void test_every_call_shows_both(void **state) {
    static const struct {
        start_fn start;
        struct shown (*shown)(const struct world *w, size_t server_idx);
    } calls[] = {
        { start_get, get_shown },
        { put, put_shown },
        { start_delete, delete_shown },
        { start_list, list_shown },
        { start_batch_get, batch_get_shown },
        { start_batch_put, batch_put_shown },
    };
    (void)state;
    struct world *w = open_world(1);
    store_7(w);
    get_ok(w, answer_newer);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        run_ok(w, calls[i].start, answer_empty, false);
        assert_shown(calls[i].shown(w, 0), 9, 7);
    }
    close_world(w);
}

static void answer_deleted(const struct scripted_request *r) {
    Novakms__V1__DeleteResponse m = NOVAKMS__V1__DELETE_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(17);
    m.stamp = &stamp;
    scripted_answer_with(r, &m.base);
}

static void answer_batch_stored(const struct scripted_request *r) {
    Novakms__V1__BatchPutResponse m = NOVAKMS__V1__BATCH_PUT_RESPONSE__INIT;
    Novakms__V1__Stamp stamps[] = { make_stamp(32), make_stamp(31) };
    Novakms__V1__BatchPutItem items[2];
    Novakms__V1__BatchPutItem *pointers[2];
    for (size_t i = 0; i < 2; i++) {
        novakms__v1__batch_put_item__init(&items[i]);
        items[i].stamp = &stamps[i];
        pointers[i] = &items[i];
    }
    m.items = pointers;
    m.n_items = 2;
    m.may_miss = 1;
    scripted_answer_with(r, &m.base);
}

static void stored_too_late(const struct scripted_request *r) {
    novakms_v1_ErrorDetails details = { .has_stamp = true,
                                        .stamp = { .hlc = 50, .writer = { 2 } } };
    scripted_fail(r, STATUS_DEADLINE_EXCEEDED, "stored here and on 0 peers", &details);
}

static void no_longer_permitted(const struct scripted_request *r) {
    novakms_v1_ErrorDetails details = { .has_stamp = true,
                                        .stamp = { .hlc = 55, .writer = { 2 } } };
    scripted_fail(r, STATUS_PERMISSION_DENIED, "the app is not ACTIVE", &details);
}

/* The node made it, and then would not answer. */
static void test_refused_write_has_a_stamp(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_result *r = run(w, put, no_longer_permitted, NOVAKMS_PERMISSION_DENIED);
    assert_true(r->maybe_executed);
    assert_int_equal(r->stamp.hlc, 55);
    assert_int_equal(w->client->wrote.hlc, 55);
    novakms_free(&r);
    r = run(w, start_get, no_longer_permitted, NOVAKMS_PERMISSION_DENIED);
    assert_false(r->maybe_executed); /* A read. */
    novakms_free(&r);
    close_world(w);
}

/* Every kind of write, one that was stored but not acknowledged too. */
static void test_writes_raise_wrote(void **state) {
    (void)state;
    struct world *w = open_world(1);
    run_ok(w, start_delete, answer_deleted, false);
    assert_int_equal(w->client->wrote.hlc, 17);
    run_ok(w, start_batch_put, answer_batch_stored, true);
    assert_shown(batch_put_shown(w, 0), 17, 17);
    assert_int_equal(w->client->wrote.hlc, 32);
    assert_int_equal(novakms_seen(w->client).hlc, 32);
    struct novakms_result *r = run(w, put, stored_too_late, NOVAKMS_DEADLINE_EXCEEDED);
    assert_true(r->maybe_executed);
    novakms_free(&r);
    assert_int_equal(w->client->wrote.hlc, 50);
    close_world(w);
}

static void not_found_after_delete(const struct scripted_request *r) {
    novakms_v1_ErrorDetails details = { .has_stamp = true,
                                        .stamp = { .hlc = 50, .writer = { 2 } },
                                        .may_miss = true };
    scripted_fail(r, STATUS_NOT_FOUND, "no such key", &details);
}

/* Said once, and what was shown is forgotten. */
static void test_may_miss_forgets(void **state) {
    (void)state;
    struct world *w = open_world(1);
    store_7(w);
    const struct novakms_stamp lower = { .hlc = 6 };
    const struct novakms_stamp higher = { .hlc = 8 };
    novakms_raise_seen(w->client, &lower);
    assert_int_equal(novakms_seen(w->client).hlc, 7);
    novakms_raise_seen(w->client, &higher);
    run_ok(w, start_get, answer_may_miss, true);
    assert_shown(get_shown(w, 0), 8, 7);
    get_ok(w, answer_value);
    assert_shown(get_shown(w, 0), 0, 0);
    store_7(w);
    struct novakms_result *r = run(w, start_get, not_found_after_delete, NOVAKMS_NOT_FOUND);
    assert_true(r->may_miss);
    assert_int_equal(r->stamp.hlc, 50);
    novakms_free(&r);
    get_ok(w, answer_value);
    assert_shown(get_shown(w, 0), 50, 0);
    close_world(w);
}

static void stored_may_miss(const struct scripted_request *r) {
    Novakms__V1__PutResponse m = NOVAKMS__V1__PUT_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(60);
    m.stamp = &stamp;
    m.may_miss = 1;
    scripted_answer_with(r, &m.base);
}

/* A write's own stamp is not what it was shown. */
static void test_may_miss_of_a_write(void **state) {
    (void)state;
    struct world *w = open_world(1);
    store_7(w);
    run_ok(w, put, stored_may_miss, true);
    assert_shown(put_shown(w, 0), 7, 7);
    get_ok(w, answer_value);
    assert_shown(get_shown(w, 0), 60, 60);
    close_world(w);
}

/* What was seen or written meanwhile was not shown. */
static void test_what_came_meanwhile_is_kept(void **state) {
    (void)state;
    struct world *w = open_world(1);
    store_7(w);
    w->answer = answer_may_miss;
    assert_true(start_get(w) > 0);
    const struct novakms_stamp seen = { .hlc = 70 };
    novakms_raise_seen(w->client, &seen);
    struct novakms_result *r = wait_ok(w);
    assert_true(r->may_miss);
    novakms_free(&r);
    get_ok(w, answer_value);
    assert_shown(get_shown(w, 0), 70, 0);
    close_world(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_write_stays_shown),
        cmocka_unit_test(test_every_call_shows_both),
        cmocka_unit_test(test_writes_raise_wrote),
        cmocka_unit_test(test_refused_write_has_a_stamp),
        cmocka_unit_test(test_may_miss_forgets),
        cmocka_unit_test(test_may_miss_of_a_write),
        cmocka_unit_test(test_what_came_meanwhile_is_kept),
    };
    return cmocka_run_group_tests_name("client_stamps", tests, NULL, NULL);
}
