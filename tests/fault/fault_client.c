/* SPDX-License-Identifier: Apache-2.0 */
/* A write that a server has made, and memory that is out for its answer: what later calls must show
 * is kept, or the caller is told that the write may have been made. */
#include "client/client.h"
#include "client_world.h"
#include "fault.h"

#define ITEM_COUNT 2u

static unsigned nth; /* The allocation after the answer that fails. */

static void answer_put(const struct scripted_request *r) {
    answer_stored(r);
    fault_arm(nth);
}

/* One item is stored, and one is refused. */
static void answer_batch(const struct scripted_request *r) {
    Novakms__V1__BatchPutResponse m = NOVAKMS__V1__BATCH_PUT_RESPONSE__INIT;
    Novakms__V1__Stamp stamp = make_stamp(7);
    Novakms__V1__ItemStatus refused = NOVAKMS__V1__ITEM_STATUS__INIT;
    Novakms__V1__BatchPutItem items[ITEM_COUNT];
    Novakms__V1__BatchPutItem *pointers[ITEM_COUNT];
    for (size_t i = 0; i < ITEM_COUNT; i++) {
        novakms__v1__batch_put_item__init(&items[i]);
        pointers[i] = &items[i];
    }
    refused.code = STATUS_RESOURCE_EXHAUSTED;
    refused.message = mutable_text("full");
    items[0].status = &refused;
    items[1].stamp = &stamp;
    m.items = pointers;
    m.n_items = ITEM_COUNT;
    m.may_miss = 1;
    scripted_answer_with(r, &m.base);
    fault_arm(nth);
}

static uint64_t batch_put(struct world *w) {
    const struct novakms_put_args items[ITEM_COUNT] = { { .key = novakms_text("a") },
                                                        { .key = novakms_text("b") } };
    const struct novakms_batch_put_args args = { .items = items, .item_count = ITEM_COUNT };
    return novakms_batch_put_start(w->client, &args, w, keep);
}

static const struct write {
    uint64_t (*start)(struct world *w);
    void (*answer)(const struct scripted_request *r);
    bool may_miss;
    /* Whether its answer needs memory. A put's stamp and the result have theirs before. */
    bool is_cut;
} rows[] = {
    { put, answer_put, false, false },
    { batch_put, answer_batch, true, true },
};

/* Gives whether the answer was cut. */
static bool expect_known(const struct world *w, const struct write *row,
                         const struct novakms_result *r) {
    if (r->code == NOVAKMS_OK) {
        assert_int_equal(w->client->wrote.hlc, 7);
        return false;
    }
    assert_true(r->maybe_executed);
    assert_true(r->text[0] != '\0');
    assert_null(r->items);
    if (r->code != NOVAKMS_RESOURCE_EXHAUSTED) {
        return false; /* The answer did not arrive. */
    }
    assert_int_equal(r->stamp.hlc, 7);
    assert_int_equal(r->may_miss, row->may_miss);
    assert_int_equal(w->client->wrote.hlc, 7);
    assert_int_equal(w->client->seen.hlc, 7);
    return true;
}

static void test_answer_of_a_write(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct write *row = &rows[i];
        bool was_cut = false;
        bool was_hit = true;
        for (nth = 1; was_hit && nth < FAULT_ROUND_MAX; nth++) {
            struct world *w = open_world(1);
            w->answer = row->answer;
            assert_true(row->start(w) > 0);
            struct novakms_result *r = wait_result(w);
            was_hit = fault_disarm();
            was_cut = expect_known(w, row, r) || was_cut;
            novakms_free(&r);
            close_world(w);
        }
        assert_int_equal(was_cut, row->is_cut);
    }
}

/* Without memory for the result nothing is sent. */
static void test_start_of_a_write(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = answer_stored;
    unsigned refused_count = 0;
    FAULT_EACH(at) {
        size_t sent_count = w->servers[0].request_count;
        fault_arm(at);
        bool is_started = put(w) > 0;
        fault_disarm();
        if (!is_started) {
            refused_count++;
            assert_null(w->result);
            assert_int_equal(w->servers[0].request_count, sent_count);
            continue;
        }
        struct novakms_result *r = wait_result(w);
        bool is_made = w->servers[0].request_count > sent_count;
        assert_int_equal(is_made, r->code == NOVAKMS_OK || r->maybe_executed);
        novakms_free(&r);
    }
    assert_int_equal(refused_count, 2); /* The call, and its result. */
    close_world(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_of_a_write),
        cmocka_unit_test(test_start_of_a_write),
    };
    return cmocka_run_group_tests_name("fault_client", tests, NULL, NULL);
}
