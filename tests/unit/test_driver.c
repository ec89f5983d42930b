/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's two threads, with duties that this file plays: what is decided reaches the node in
 * the right order, and a task that hangs does not stop time. */
#include <pthread.h>

#include "base/clock.h"
#include "node/driver.h"
#include "test.h"

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* What the world is. */
    struct bootstrap_hash hash;
    uint8_t secret; /* First byte of what GENERATE and FETCH give. */
    bool hangs;     /* MEMBERSHIP waits until it does not. */
    bool is_cancelled;
    struct wallet wallet;
    struct kdf_master pending;
    char verdict[32];
    /* What reached the node. */
    bool is_serving;
    char reason[BOOTSTRAP_REASON_BYTES];
    struct wallet told;
    struct kdf_master held;
    unsigned adopted_count;
    unsigned new_count;
    bool served_before_adopting;
} w;

static void lock(void) {
    (void)pthread_mutex_lock(&w.mutex);
}
static void unlock(void) {
    (void)pthread_cond_broadcast(&w.changed);
    (void)pthread_mutex_unlock(&w.mutex);
}

/* ---- Duties ---- */

RC duties_init(struct duties **out, const struct duties_cfg *cfg, struct status *why) {
    (void)cfg;
    (void)why;
    *out = (struct duties *)(void *)&w;
    return OK;
}
void duties_close(struct duties **duties) {
    *duties = NULL;
}
void duties_cancel(struct duties *duties) {
    (void)duties;
    lock();
    w.is_cancelled = true;
    unlock();
}
void duties_take_secret(struct duties *duties, struct kdf_master *out) {
    (void)duties;
    *out = w.pending;
    w.pending = (struct kdf_master){ 0 };
}

static void make_secret(struct bootstrap_event *event) {
    assert_ok(kdf_master_init(&w.pending, (const uint8_t[KDF_MASTER_BYTES]){ w.secret }));
    memcpy(event->result.secret_hash.bytes, w.pending.hash, BOOTSTRAP_HASH_BYTES);
}

static void answer(struct bootstrap_event *event) {
    switch (event->task) {
    case BOOTSTRAP_IDENTITY:
        event->result.identity = (struct bootstrap_identity){ w.wallet, SPAN_LIT("key") };
        break;
    case BOOTSTRAP_MEMBERSHIP:
        while (w.hangs && !w.is_cancelled) {
            (void)pthread_cond_wait(&w.changed, &w.mutex);
        }
        event->result.membership =
            (struct bootstrap_membership){ .is_permitted = w.verdict[0] == '\0',
                                           .verdict = w.verdict,
                                           .wallet = w.wallet,
                                           .tee_pubkey = SPAN_LIT("key"),
                                           .is_same_url = true,
                                           .as_of_mono_ms = clock_mono_ms() };
        break;
    case BOOTSTRAP_HASH:
        event->result.hashes = (struct bootstrap_hashes){ w.hash, w.hash, clock_mono_ms() };
        break;
    case BOOTSTRAP_GENERATE:
    case BOOTSTRAP_FETCH:
        make_secret(event);
        break;
    case BOOTSTRAP_SEND_TX:
        memcpy(w.hash.bytes, w.held.hash, BOOTSTRAP_HASH_BYTES); /* It is mined at once. */
        event->result.tx = BOOTSTRAP_TX_SENT;
        break;
    case BOOTSTRAP_CHECK_TX:
        event->result.tx = BOOTSTRAP_TX_MINED;
        break;
    case BOOTSTRAP_PEERS:
    case BOOTSTRAP_SNAPSHOT:
    case BOOTSTRAP_TASK_COUNT:
        break;
    }
}

void duties_do(struct duties *duties, const struct bootstrap_action *action,
               struct bootstrap_event *event) {
    (void)duties;
    *event = (struct bootstrap_event){ .task = action->task, .ticket = action->ticket };
    lock();
    answer(event);
    unlock();
}

/* ---- The node ---- */

static void reason_cb(void *ctx, const char *reason) {
    (void)ctx;
    lock();
    w.is_serving = reason == NULL;
    (void)snprintf(w.reason, sizeof(w.reason), "%s", reason == NULL ? "" : reason);
    unlock();
}
static void wallet_cb(void *ctx, const struct wallet *wallet) {
    (void)ctx;
    lock();
    w.told = *wallet;
    unlock();
}
static void adopt_cb(void *ctx, struct kdf_master *master, bool is_new) {
    (void)ctx;
    lock();
    w.served_before_adopting = w.served_before_adopting || w.is_serving;
    kdf_master_close(&w.held);
    w.held = *master;
    w.new_count += is_new ? 1 : 0;
    w.adopted_count++;
    unlock();
}

static void await(bool (*condition)(void)) {
    (void)pthread_mutex_lock(&w.mutex);
    while (!condition()) {
        (void)pthread_cond_wait(&w.changed, &w.mutex);
    }
    (void)pthread_mutex_unlock(&w.mutex);
}
static bool is_serving(void) {
    return w.is_serving;
}
static bool is_stopped(void) {
    return !w.is_serving && strstr(w.reason, "instance is STOPPED") != NULL;
}
static bool is_old(void) {
    return !w.is_serving && strstr(w.reason, "membership is not known") != NULL;
}
static bool has_replaced(void) {
    return w.adopted_count == 2 && w.is_serving;
}

static struct node_config config;

static struct driver *open_driver(uint64_t ttl_s) {
    memset(&w, 0, sizeof(w));
    assert_int_equal(pthread_mutex_init(&w.mutex, NULL), 0);
    assert_int_equal(pthread_cond_init(&w.changed, NULL), 0);
    w.secret = 1;
    w.wallet.bytes[0] = 5;
    config = (struct node_config){ .tick_s = 1, .registry_cache_ttl_s = ttl_s };
    const struct driver_cfg cfg = { .config = &config,
                                    .peers = NULL,
                                    .poll_ms = 5,
                                    .retry_min_ms = 5,
                                    .retry_max_ms = 5,
                                    .reason_cb = reason_cb,
                                    .wallet_cb = wallet_cb,
                                    .adopt_cb = adopt_cb };
    struct driver *driver = NULL;
    struct status why = { 0 };
    assert_ok(driver_init(&driver, &cfg, &why));
    return driver;
}

static void close_driver(struct driver *driver) {
    driver_close(&driver);
    driver_close(&driver);
    assert_null(w.pending.secret.ptr);
    assert_false(w.served_before_adopting);
    kdf_master_close(&w.held);
    (void)pthread_cond_destroy(&w.changed);
    (void)pthread_mutex_destroy(&w.mutex);
}

static void test_becomes_ready_and_not(void **state) {
    (void)state;
    struct driver *driver = open_driver(60);
    await(is_serving);
    assert_int_equal(w.adopted_count, 1);
    assert_true(wallet_equal(&w.told, &w.wallet));
    lock();
    (void)snprintf(w.verdict, sizeof(w.verdict), "instance is STOPPED");
    unlock();
    await(is_stopped);
    lock();
    w.verdict[0] = '\0';
    unlock();
    await(is_serving);
    assert_int_equal(w.adopted_count, 1);
    close_driver(driver);
}

static void test_another_secret_replaces(void **state) {
    (void)state;
    struct driver *driver = open_driver(60);
    await(is_serving);
    struct kdf_master other;
    assert_ok(kdf_master_init(&other, (const uint8_t[KDF_MASTER_BYTES]){ 2 }));
    lock();
    memcpy(w.hash.bytes, other.hash, BOOTSTRAP_HASH_BYTES);
    w.secret = 2;
    unlock();
    await(has_replaced);
    assert_memory_equal(w.held.hash, other.hash, BOOTSTRAP_HASH_BYTES);
    kdf_master_close(&other);
    close_driver(driver);
}

/* The chain hangs: what was read grows old all the same. */
static void test_time_passes_while_a_task_hangs(void **state) {
    (void)state;
    struct driver *driver = open_driver(2);
    await(is_serving);
    lock();
    w.hangs = true;
    unlock();
    await(is_old);
    lock();
    w.hangs = false;
    unlock();
    await(is_serving);
    close_driver(driver);
}

/* Closing ends a task that hangs. */
static void test_close_while_a_task_hangs(void **state) {
    (void)state;
    struct driver *driver = open_driver(1);
    await(is_serving);
    lock();
    w.hangs = true;
    unlock();
    await(is_old);
    close_driver(driver);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_becomes_ready_and_not),
        cmocka_unit_test(test_another_secret_replaces),
        cmocka_unit_test(test_time_passes_while_a_task_hangs),
        cmocka_unit_test(test_close_while_a_task_hangs),
    };
    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
