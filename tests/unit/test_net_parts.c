/* SPDX-License-Identifier: Apache-2.0 */
/* The server's parts without sockets: kept bytes, deadlines, placement, latency buckets. */
#include "net/server_internal.h"
#include "test.h"

static void test_buffer(void **state) {
    (void)state;
    struct net_budget budget = { .bytes_max = 4096 };
    struct net_buffer b = { 0 };
    uint8_t model[4096];
    size_t start = 0;
    size_t end = 0;
    uint8_t next = 0;
    assert_ok(net_buffer_append(&b, SPAN_EMPTY, &budget));
    assert_null(b.ptr);
    for (int round = 0; round < 300; round++) {
        uint8_t piece[7];
        for (size_t i = 0; i < sizeof(piece); i++) {
            piece[i] = next;
            model[end++] = next++;
        }
        assert_ok(net_buffer_append(&b, (struct span){ piece, sizeof(piece) }, &budget));
        if (round % 3 != 0) {
            net_buffer_consume(&b, 5, &budget);
            start += 5;
        }
        assert_true(span_equal(net_buffer_span(&b), (struct span){ model + start, end - start }));
        assert_int_equal(atomic_load(&budget.used_bytes), b.bytes);
    }
    net_buffer_consume(&b, b.len, &budget);
    assert_null(b.ptr);
    assert_int_equal(atomic_load(&budget.used_bytes), 0);
    net_buffer_close(&b, &budget);
}

/* The budget at its value, and one step past it. Growing needs old and new at once. */
static void test_buffer_budget(void **state) {
    (void)state;
    struct net_budget budget = { .bytes_max = 3072 };
    struct net_buffer b = { 0 };
    uint8_t bytes[2048] = { 0 };
    assert_ok(net_buffer_append(&b, (struct span){ bytes, 1024 }, &budget));
    assert_ok(net_buffer_append(&b, (struct span){ bytes, 1024 }, &budget));
    assert_int_equal(b.len, 2048);
    assert_err(net_buffer_append(&b, (struct span){ bytes, 1 }, &budget), QUOTA);
    assert_int_equal(b.len, 2048);
    assert_int_equal(atomic_load(&budget.used_bytes), 2048);
    struct net_buffer other = { 0 };
    assert_ok(net_buffer_append(&other, (struct span){ bytes, 1 }, &budget));
    struct net_buffer third = { 0 };
    assert_err(net_buffer_append(&third, (struct span){ bytes, 1 }, &budget), QUOTA);
    net_buffer_close(&b, &budget);
    net_buffer_close(&b, &budget);
    net_buffer_close(&other, &budget);
    assert_int_equal(atomic_load(&budget.used_bytes), 0);
}

#define CALL_COUNT 500

static uint32_t random_next(uint32_t *seed) {
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 8U;
}

/* Random adds and removals: the first is always the smallest. */
static void test_deadlines(void **state) {
    (void)state;
    struct deadlines d = { 0 };
    struct net_call *calls = calloc(CALL_COUNT, sizeof(*calls));
    bool is_in[CALL_COUNT] = { false };
    uint32_t seed = 7;
    assert_null(deadlines_first(&d));
    for (int round = 0; round < 20000; round++) {
        size_t i = random_next(&seed) % CALL_COUNT;
        if (is_in[i]) {
            deadlines_remove(&d, &calls[i]);
        } else {
            calls[i].deadline_at_ms = random_next(&seed) % 100;
            assert_ok(deadlines_reserve(&d));
            deadlines_add(&d, &calls[i]);
        }
        is_in[i] = !is_in[i];
        uint64_t smallest = UINT64_MAX;
        for (size_t k = 0; k < CALL_COUNT && round % 50 == 0; k++) {
            if (is_in[k] && calls[k].deadline_at_ms < smallest) {
                smallest = calls[k].deadline_at_ms;
            }
        }
        if (round % 50 == 0 && d.count > 0) {
            assert_int_equal(deadlines_first(&d)->deadline_at_ms, smallest);
        }
    }
    deadlines_close(&d);
    deadlines_close(&d);
    free(calls);
}

static void test_placement(void **state) {
    (void)state;
    struct placement *p = NULL;
    const struct placement_cfg cfg = { .worker_count = 3,
                                       .conn_per_wallet_max = 2,
                                       .conn_anonymous_max = 1 };
    assert_ok(placement_init(&p, &cfg));
    const struct wallet a = { { 1 } };
    const struct wallet b = { { 2 } };
    uint32_t first = 9;
    uint32_t again = 9;
    uint32_t other = 9;
    uint32_t anonymous = 9;
    assert_ok(placement_add(p, &a, &first));
    assert_ok(placement_add(p, &a, &again));
    assert_ok(placement_add(p, &b, &other));
    assert_ok(placement_add(p, NULL, &anonymous));
    uint32_t none = 9;
    assert_err(placement_add(p, NULL, &none), QUOTA);
    assert_err(placement_add(p, &a, &none), QUOTA);
    assert_int_equal(none, 9);
    assert_int_equal(first, again);
    assert_int_not_equal(first, other);
    assert_int_not_equal(anonymous, first);
    assert_int_not_equal(anonymous, other);
    placement_remove(p, &a, first);
    assert_ok(placement_add(p, &a, &again));
    assert_int_equal(first, again); /* One is still there. */
    placement_remove(p, &a, first);
    placement_remove(p, &a, first);
    placement_remove(p, NULL, anonymous);
    placement_close(&p); /* With b in it. */
    placement_close(&p);
}

static void test_latency(void **state) {
    (void)state;
    struct worker_counters *c = calloc(1, sizeof(*c));
    worker_count_call(c, 3, STATUS_OK, 10);
    worker_count_call(c, 3, STATUS_OK, 11);
    worker_count_call(c, 3, STATUS_UNAUTHENTICATED, 1000001);
    worker_count_call(c, 3, 17, 0); /* No code of ours. */
    const struct method_counters *m = &c->methods[3];
    assert_int_equal(count_get(&m->count[STATUS_OK]), 2);
    assert_int_equal(count_get(&m->count[STATUS_UNAUTHENTICATED]), 1);
    assert_int_equal(count_get(&m->count[STATUS_UNKNOWN]), 1);
    assert_int_equal(count_get(&m->latency[0]), 2);
    assert_int_equal(count_get(&m->latency[1]), 1);
    assert_int_equal(count_get(&m->latency[NET_LATENCY_COUNT - 1]), 1);
    assert_int_equal(count_get(&m->latency_sum_us), 1000022);
    free(c);
}

#define SENDER_COUNT 4
#define MAIL_COUNT 2000

struct sender {
    struct mailbox *mailbox;
    pthread_t thread;
    uint32_t sent;
    uint32_t received;
    uint32_t order; /* Of the letters received: each must be the next one. */
    struct letter {
        struct sender *from;
        uint32_t number;
    } letters[MAIL_COUNT];
};

static void receive(void *arg) {
    struct letter *letter = arg;
    assert_int_equal(letter->number, letter->from->order);
    letter->from->order++;
    letter->from->received++;
}

static void *send_all(void *arg) {
    struct sender *sender = arg;
    for (uint32_t i = 0; i < MAIL_COUNT; i++) {
        sender->letters[i] = (struct letter){ sender, i };
        sender->sent += mailbox_post(sender->mailbox, receive, &sender->letters[i]) ? 1 : 0;
    }
    return NULL;
}

/* Letters of several threads at once: none is lost, and each thread's come in its order. */
static void test_mailbox(void **state) {
    (void)state;
    uv_loop_t loop;
    struct mailbox mailbox;
    struct sender *senders = calloc(SENDER_COUNT, sizeof(*senders));
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_ok(mailbox_init(&mailbox, &loop));
    for (size_t i = 0; i < SENDER_COUNT; i++) {
        senders[i].mailbox = &mailbox;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    uint32_t received = 0;
    while (received < SENDER_COUNT * MAIL_COUNT) {
        (void)uv_run(&loop, UV_RUN_ONCE);
        received = 0;
        for (size_t i = 0; i < SENDER_COUNT; i++) {
            received += senders[i].received;
        }
    }
    for (size_t i = 0; i < SENDER_COUNT; i++) {
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
        assert_int_equal(senders[i].sent, MAIL_COUNT);
    }
    struct letter last = { &senders[0], MAIL_COUNT };
    struct mail mail = { .fn = receive, .arg = &last };
    assert_true(mailbox_put(&mailbox, &mail));
    mailbox_close(&mailbox); /* Runs what is there, and takes no more. */
    assert_int_equal(senders[0].received, MAIL_COUNT + 1);
    assert_false(mailbox_put(&mailbox, &mail));
    assert_false(mailbox_post(&mailbox, receive, &last));
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(senders);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer),    cmocka_unit_test(test_buffer_budget),
        cmocka_unit_test(test_deadlines), cmocka_unit_test(test_placement),
        cmocka_unit_test(test_latency),   cmocka_unit_test(test_mailbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
