/* SPDX-License-Identifier: Apache-2.0 */
/* The service before a scripted source. The test and the registry thread meet at a gate, so that
 * nothing depends on how fast either runs. */
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "registry/service.h"
#include "test.h"

#define HOUR_MS 3600000u
#define LOG_MAX 64

static struct wallet wallet_of(uint32_t n) {
    struct wallet w = { { 0 } };
    memcpy(w.bytes, &n, sizeof(n));
    return w;
}

static uint32_t number_of(const struct wallet *w) {
    uint32_t n = 0;
    memcpy(&n, w->bytes, sizeof(n));
    return n;
}

/* ---- The source: each lookup waits at the gate. ---- */

struct fake {
    struct registry base;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool gate_is_open;
    bool fails;
    bool fails_for_one;
    bool is_waiting; /* At the gate. */
    uint32_t asked[LOG_MAX];
    uint32_t asked_count;
    uint32_t members_count; /* Reads of the list. */
    bool members_fail;
    uint64_t members_as_of_ms;
    bool is_closed;
};

static struct fake fake;

static RC fake_lookup(struct registry *registry, const struct wallet *wallet,
                      struct auth_facts *out, char reason[static REGISTRY_REASON_BYTES]) {
    (void)registry;
    (void)pthread_mutex_lock(&fake.lock);
    fake.asked[fake.asked_count++] = number_of(wallet);
    fake.is_waiting = true;
    (void)pthread_cond_broadcast(&fake.changed);
    while (!fake.gate_is_open) {
        (void)pthread_cond_wait(&fake.changed, &fake.lock);
    }
    fake.is_waiting = false;
    bool fails = fake.fails;
    (void)pthread_mutex_unlock(&fake.lock);
    if (fails) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "chain is down");
        return fake.fails_for_one ? ERR(TOO_BIG) : ERR(UNAVAILABLE);
    }
    out->found = true;
    out->instance.id = number_of(wallet);
    out->as_of_mono_ms = clock_mono_ms();
    return OK;
}

static RC fake_members(struct registry *registry, struct registry_members *out,
                       char reason[static REGISTRY_REASON_BYTES]) {
    (void)registry;
    (void)pthread_mutex_lock(&fake.lock);
    fake.members_count++;
    bool fails = fake.members_fail;
    out->as_of_mono_ms = fake.members_as_of_ms;
    (void)pthread_cond_broadcast(&fake.changed);
    (void)pthread_mutex_unlock(&fake.lock);
    if (fails) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "list is broken");
        return ERR(IO);
    }
    out->count = 2;
    out->at[0].id = 1;
    out->at[1].id = 2;
    return OK;
}

static void fake_close(struct registry *registry) {
    (void)registry;
    fake.is_closed = true;
}

static const struct registry_ops fake_ops = { fake_lookup, fake_members, fake_close };

static void gate(bool is_open) {
    (void)pthread_mutex_lock(&fake.lock);
    fake.gate_is_open = is_open;
    (void)pthread_cond_broadcast(&fake.changed);
    (void)pthread_mutex_unlock(&fake.lock);
}

static void wait_for_thread_at_gate(void) {
    (void)pthread_mutex_lock(&fake.lock);
    while (!fake.is_waiting) {
        (void)pthread_cond_wait(&fake.changed, &fake.lock);
    }
    (void)pthread_mutex_unlock(&fake.lock);
}

/* ---- The askers ---- */

struct heard {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t wallets[LOG_MAX];
    uint64_t ids[LOG_MAX]; /* 0: was told a reason. */
    char reason[REGISTRY_REASON_BYTES];
    uint32_t count;
};

static struct heard heard;

static void on_answer(void *ctx, const struct wallet *wallet, const struct auth_facts *facts,
                      const char *reason) {
    struct heard *h = ctx;
    (void)pthread_mutex_lock(&h->lock);
    h->wallets[h->count] = number_of(wallet);
    h->ids[h->count] = facts != NULL ? facts->instance.id : 0;
    if ((facts == NULL) == (reason == NULL)) {
        abort();
    }
    if (reason != NULL) {
        (void)snprintf(h->reason, sizeof(h->reason), "%s", reason);
    }
    h->count++;
    (void)pthread_cond_broadcast(&h->changed);
    (void)pthread_mutex_unlock(&h->lock);
}

static void wait_for_answers(uint32_t count) {
    (void)pthread_mutex_lock(&heard.lock);
    while (heard.count < count) {
        (void)pthread_cond_wait(&heard.changed, &heard.lock);
    }
    (void)pthread_mutex_unlock(&heard.lock);
    assert_int_equal(heard.count, count);
}

static struct registry_service *service;

static struct rc ask(uint32_t n, enum registry_urgency urgency) {
    struct wallet w = wallet_of(n);
    return registry_service_ask(service, &w, urgency, (struct registry_asker){ on_answer, &heard });
}

static struct registry_service_cfg test_cfg(void) {
    return (struct registry_service_cfg){ .refresh_count_max = 3,
                                          .unknown_count_max = 2,
                                          .reuse_ms = 0,
                                          .failure_hold_ms = 0,
                                          .members_refresh_ms = HOUR_MS,
                                          .members_ttl_ms = HOUR_MS };
}

static void start(struct registry_service_cfg cfg) {
    struct registry *source = &fake.base;
    assert_ok(registry_service_init(&service, &source, &cfg));
    assert_null(source);
}

static int setup(void **state) {
    (void)state;
    fake = (struct fake){ .base = { .ops = &fake_ops, .kms_app_id = 49, .refresh_ms = HOUR_MS },
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER,
                          .members_as_of_ms = clock_mono_ms() };
    heard =
        (struct heard){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    return 0;
}

static int teardown(void **state) {
    (void)state;
    gate(true);
    registry_service_close(&service);
    registry_service_close(&service);
    assert_null(service);
    assert_true(fake.is_closed);
    return 0;
}

static struct registry_service_stats stats(void) {
    struct registry_service_stats out;
    registry_service_stats(service, &out);
    return out;
}

static void test_answer(void **state) {
    (void)state;
    gate(true);
    start(test_cfg());
    assert_ok(ask(7, REGISTRY_UNKNOWN));
    wait_for_answers(1);
    assert_int_equal(heard.wallets[0], 7);
    assert_int_equal(heard.ids[0], 7);
}

static void test_failure_has_a_reason(void **state) {
    (void)state;
    fake.fails = true;
    gate(true);
    start(test_cfg());
    assert_ok(ask(7, REGISTRY_REFRESH));
    wait_for_answers(1);
    assert_int_equal(heard.ids[0], 0);
    assert_string_equal(heard.reason, "chain is down");
    assert_int_equal(stats().failed_count, 1);
}

static void test_refreshes_go_first(void **state) {
    (void)state;
    start(test_cfg());
    assert_ok(ask(1, REGISTRY_UNKNOWN));
    wait_for_thread_at_gate();
    assert_ok(ask(2, REGISTRY_UNKNOWN));
    assert_ok(ask(3, REGISTRY_UNKNOWN));
    assert_ok(ask(4, REGISTRY_REFRESH));
    assert_ok(ask(5, REGISTRY_REFRESH));
    assert_ok(ask(3, REGISTRY_REFRESH)); /* Somebody has it in use: it moves up. */
    assert_int_equal(stats().queued_count, 4);
    gate(true);
    wait_for_answers(6);
    static const uint32_t order[] = { 1, 4, 5, 3, 2 };
    assert_int_equal(fake.asked_count, 5);
    assert_memory_equal(fake.asked, order, sizeof(order));
}

static void test_one_lookup_for_many_askers(void **state) {
    (void)state;
    start(test_cfg());
    assert_ok(ask(1, REGISTRY_UNKNOWN));
    wait_for_thread_at_gate();
    for (int i = 1; i < REGISTRY_SERVICE_ASKER_COUNT_MAX; i++) {
        assert_ok(ask(1, i % 2 == 0 ? REGISTRY_UNKNOWN : REGISTRY_REFRESH));
    }
    assert_err(ask(1, REGISTRY_UNKNOWN), QUOTA);
    assert_int_equal(stats().refused_count, 1);
    gate(true);
    wait_for_answers(REGISTRY_SERVICE_ASKER_COUNT_MAX);
    assert_int_equal(fake.asked_count, 1);
    assert_ok(ask(1, REGISTRY_UNKNOWN)); /* Nothing is reused with reuse_ms 0. */
    wait_for_answers(REGISTRY_SERVICE_ASKER_COUNT_MAX + 1);
    assert_int_equal(fake.asked_count, 2);
}

static void test_queues_at_limit_and_one_past(void **state) {
    (void)state;
    start(test_cfg());
    assert_ok(ask(1, REGISTRY_UNKNOWN));
    wait_for_thread_at_gate();
    assert_ok(ask(2, REGISTRY_UNKNOWN));
    assert_ok(ask(3, REGISTRY_UNKNOWN));
    assert_err(ask(4, REGISTRY_UNKNOWN), QUOTA); /* 2 may queue. */
    assert_ok(ask(4, REGISTRY_REFRESH));
    assert_ok(ask(5, REGISTRY_REFRESH));
    assert_ok(ask(6, REGISTRY_REFRESH));
    assert_err(ask(7, REGISTRY_REFRESH), QUOTA); /* 3 may queue. */
    assert_ok(ask(2, REGISTRY_REFRESH));         /* Joins, although it cannot move up. */
    gate(true);
    wait_for_answers(7);
    assert_ok(ask(8, REGISTRY_REFRESH)); /* Takes the slot of one answered. */
    wait_for_answers(8);
    assert_int_equal(heard.wallets[7], 8);
}

static void test_reuse(void **state) {
    (void)state;
    struct registry_service_cfg cfg = test_cfg();
    cfg.reuse_ms = HOUR_MS;
    gate(true);
    start(cfg);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_ok(ask(7, i == 1 ? REGISTRY_UNKNOWN : REGISTRY_REFRESH));
        wait_for_answers(i);
        assert_int_equal(heard.ids[i - 1], 7);
    }
    assert_int_equal(fake.asked_count, 1);
    assert_int_equal(stats().reused_count, 2);
    assert_int_equal(stats().lookup_count, 1);
    /* Six slots: after six others, 7 is forgotten and asked again. */
    for (uint32_t i = 10; i < 16; i++) {
        assert_ok(ask(i, REGISTRY_REFRESH));
        wait_for_answers(i - 6);
    }
    assert_ok(ask(7, REGISTRY_REFRESH));
    wait_for_answers(10);
    assert_int_equal(fake.asked_count, 8);
}

static void test_failure_is_held(void **state) {
    (void)state;
    struct registry_service_cfg cfg = test_cfg();
    cfg.failure_hold_ms = HOUR_MS;
    fake.fails = true;
    gate(true);
    start(cfg);
    for (uint32_t i = 1; i <= 5; i++) {
        assert_ok(ask(i, REGISTRY_REFRESH));
        wait_for_answers(i);
        assert_int_equal(heard.ids[i - 1], 0);
    }
    assert_int_equal(fake.asked_count, 1);
    assert_string_equal(heard.reason, "chain is down");
}

/* A record that a stranger made unreadable says nothing about the other wallets. */
static void test_refused_record_is_not_held(void **state) {
    (void)state;
    struct registry_service_cfg cfg = test_cfg();
    cfg.failure_hold_ms = HOUR_MS;
    fake.fails = true;
    fake.fails_for_one = true;
    gate(true);
    start(cfg);
    for (uint32_t i = 1; i <= 5; i++) {
        assert_ok(ask(i, REGISTRY_REFRESH));
        wait_for_answers(i);
    }
    assert_int_equal(fake.asked_count, 5);
}

static void wait_for_members_read(uint32_t count) {
    (void)pthread_mutex_lock(&fake.lock);
    while (fake.members_count < count) {
        (void)pthread_cond_wait(&fake.changed, &fake.lock);
    }
    (void)pthread_mutex_unlock(&fake.lock);
    /* The list is taken in before the next question is answered. */
    gate(true);
    uint32_t before = heard.count;
    assert_ok(ask(99, REGISTRY_REFRESH));
    wait_for_answers(before + 1);
}

static void test_members(void **state) {
    (void)state;
    start(test_cfg());
    wait_for_members_read(1);
    struct registry_members *members = calloc(1, sizeof(*members));
    assert_non_null(members);
    char reason[REGISTRY_REASON_BYTES];
    assert_ok(registry_service_members(service, members, reason));
    assert_int_equal(members->count, 2);
    assert_int_equal(members->at[1].id, 2);
    assert_true(members->as_of_mono_ms == fake.members_as_of_ms);
    free(members);
}

static void test_members_unreadable(void **state) {
    (void)state;
    fake.members_fail = true;
    start(test_cfg());
    wait_for_members_read(1);
    struct registry_members *members = calloc(1, sizeof(*members));
    assert_non_null(members);
    char reason[REGISTRY_REASON_BYTES];
    assert_err(registry_service_members(service, members, reason), UNAVAILABLE);
    assert_string_equal(reason, "member list cannot be read: list is broken");
    assert_int_equal(members->count, 0);
    free(members);
}

static void test_members_too_old(void **state) {
    (void)state;
    struct registry_service_cfg cfg = test_cfg();
    cfg.members_ttl_ms = 1;
    fake.members_as_of_ms = 0;
    start(cfg);
    wait_for_members_read(1);
    struct registry_members *members = calloc(1, sizeof(*members));
    assert_non_null(members);
    char reason[REGISTRY_REASON_BYTES];
    assert_err(registry_service_members(service, members, reason), UNAVAILABLE);
    assert_string_equal(reason, "member list cannot be read: its newest state is too old");
    free(members);
}

static void test_members_are_read_again(void **state) {
    (void)state;
    struct registry_service_cfg cfg = test_cfg();
    cfg.members_refresh_ms = 1;
    start(cfg);
    wait_for_members_read(3);
}

static void test_close_drops_what_is_queued(void **state) {
    (void)state;
    start(test_cfg());
    assert_ok(ask(1, REGISTRY_UNKNOWN));
    wait_for_thread_at_gate();
    assert_ok(ask(2, REGISTRY_UNKNOWN));
    /* Teardown opens the gate and closes: 1 may be answered, nothing hangs or leaks. */
}

struct hammer {
    pthread_t thread;
    uint32_t seed;
    uint32_t accepted_count;
};

static void count_answer(void *ctx, const struct wallet *wallet, const struct auth_facts *facts,
                         const char *reason) {
    (void)reason;
    if (facts == NULL || facts->instance.id != number_of(wallet)) {
        abort();
    }
    (void)__atomic_add_fetch((uint32_t *)ctx, 1, __ATOMIC_SEQ_CST);
}

static uint32_t hammer_answers;

static void *hammer_main(void *arg) {
    struct hammer *h = arg;
    struct registry_members *members = calloc(1, sizeof(*members));
    char reason[REGISTRY_REASON_BYTES];
    for (uint32_t i = 0; members != NULL && i < 2000; i++) {
        struct wallet w = wallet_of((i * 13 + h->seed) % 9 + 1);
        enum registry_urgency urgency = i % 3 == 0 ? REGISTRY_UNKNOWN : REGISTRY_REFRESH;
        struct registry_asker asker = { count_answer, &hammer_answers };
        if (registry_service_ask(service, &w, urgency, asker).err == E_OK) {
            h->accepted_count++;
        }
        if (i % 50 == 0) {
            struct rc rc = registry_service_members(service, members, reason);
            (void)rc.err;
        }
    }
    free(members);
    return NULL;
}

/* Unlike fake_lookup keeps no log, which has an end. */
static RC quick_lookup(struct registry *registry, const struct wallet *wallet,
                       struct auth_facts *out, char reason[static REGISTRY_REASON_BYTES]) {
    (void)registry;
    (void)reason;
    out->found = true;
    out->instance.id = number_of(wallet);
    return OK;
}

static void test_many_threads(void **state) {
    (void)state;
    static const struct registry_ops ops = { quick_lookup, fake_members, fake_close };
    fake.base.ops = &ops;
    hammer_answers = 0;
    struct registry_service_cfg cfg = test_cfg();
    cfg.members_refresh_ms = 1;
    start(cfg);
    struct hammer hammers[4] = { 0 };
    for (uint32_t i = 0; i < 4; i++) {
        hammers[i].seed = i;
        assert_int_equal(pthread_create(&hammers[i].thread, NULL, hammer_main, &hammers[i]), 0);
    }
    uint32_t accepted_count = 0;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(hammers[i].thread, NULL), 0);
        accepted_count += hammers[i].accepted_count;
    }
    /* The last question is answered after all the others. */
    assert_true(accepted_count > 0);
    struct registry_service_stats s = stats();
    while (s.queued_count > 0) {
        s = stats();
    }
    while (__atomic_load_n(&hammer_answers, __ATOMIC_SEQ_CST) < accepted_count) {
        s = stats();
    }
    assert_int_equal(__atomic_load_n(&hammer_answers, __ATOMIC_SEQ_CST), accepted_count);
    assert_int_equal(s.refused_count + accepted_count, 4 * 2000);
}

#define CFG_ROW(field, value, want) TEST_CFG_ROW(registry_service_cfg, field, value, want)

static struct test_cfg_row cfg_rows[] = {
    CFG_ROW(refresh_count_max, 0, E_BAD_CONFIG),
    CFG_ROW(refresh_count_max, REGISTRY_SERVICE_QUEUE_COUNT_MAX, E_OK),
    CFG_ROW(refresh_count_max, REGISTRY_SERVICE_QUEUE_COUNT_MAX + 1, E_BAD_CONFIG),
    CFG_ROW(unknown_count_max, 0, E_BAD_CONFIG),
    CFG_ROW(unknown_count_max, REGISTRY_SERVICE_QUEUE_COUNT_MAX + 1, E_BAD_CONFIG),
    CFG_ROW(reuse_ms, 86400001, E_BAD_CONFIG),
    CFG_ROW(failure_hold_ms, 86400001, E_BAD_CONFIG),
    CFG_ROW(members_refresh_ms, 0, E_OK), /* The source's. */
    CFG_ROW(members_refresh_ms, 86400001, E_BAD_CONFIG),
    CFG_ROW(members_ttl_ms, 0, E_BAD_CONFIG),
};

static void test_cfg_row(void **state) {
    const struct test_cfg_row *row = *state;
    (void)setup(NULL);
    struct registry_service_cfg cfg = test_cfg();
    test_cfg_set(&cfg, row);
    struct registry *source = &fake.base;
    assert_err_equal(registry_service_init(&service, &source, &cfg), row->want);
    assert_int_equal(service != NULL, row->want == E_OK);
    assert_int_equal(source == NULL, row->want == E_OK); /* Kept by the caller on error. */
    registry_service_close(&service);
}

int main(void) {
    struct CMUnitTest tests[32] = {
        cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failure_has_a_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refreshes_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_lookup_for_many_askers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queues_at_limit_and_one_past, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reuse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failure_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_record_is_not_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_members_unreadable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_members_too_old, setup, teardown),
        cmocka_unit_test_setup_teardown(test_members_are_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_drops_what_is_queued, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
    };
    size_t count = 14;
    TEST_ADD_ROWS(tests, count, test_cfg_row, cfg_rows);
    return _cmocka_run_group_tests("registry_service", tests, count, NULL, NULL);
}
