/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets the master secret, and in which form: a real thread between a chain and an Odyn of the
 * test's. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "fake_chain.h"
#include "fake_odyn.h"
#include "node/secret_text.h"
#include "node/share.h"

#define ASKER 7 /* Its wallet's number, */
#define STALL_S 3600
#define WAIT_S 120 /* Far more than anything takes. */

struct world {
    struct fake_chain *chain;
    struct fake_odyn odyn;
    struct envelope_key receiver; /* and its registered key. */
    struct kdf_master master;
    struct node_config config;
    atomic_bool stop;
    struct share *share;
    struct service_share_ask ask;

    pthread_mutex_t mutex; /* Guards the rest. */
    pthread_cond_t changed;
    bool is_gated; /* The secret is not copied before that ends. */
    unsigned entered_count;
    unsigned answered_count;
    uint64_t last_id;
    struct service_share_answer answer; /* The last one. */
};

/* ---- The node's side ---- */

static bool copy_secret(void *ctx, const uint8_t hash[static KDF_HASH_BYTES],
                        uint8_t out[static KDF_MASTER_BYTES]) {
    struct world *w = ctx;
    (void)pthread_mutex_lock(&w->mutex);
    w->entered_count++;
    (void)pthread_cond_broadcast(&w->changed);
    while (w->is_gated) {
        (void)pthread_cond_wait(&w->changed, &w->mutex);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    memcpy(out, w->master.secret.ptr, KDF_MASTER_BYTES);
    return span_equal((struct span){ hash, KDF_HASH_BYTES },
                      (struct span){ w->master.hash, KDF_HASH_BYTES });
}

static void take_answer(void *ctx, const struct service_share_ask *ask,
                        const struct service_share_answer *answer) {
    struct world *w = ctx;
    (void)pthread_mutex_lock(&w->mutex);
    w->answered_count++;
    w->last_id = ask->id;
    w->answer = *answer;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
}

/* Waits until *count, which the mutex guards, is so much. */
static void await_count(struct world *w, const unsigned *count, unsigned want) {
    struct timespec end;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &end), 0);
    end.tv_sec += WAIT_S;
    int failed = 0;
    (void)pthread_mutex_lock(&w->mutex);
    while (*count < want && failed == 0) {
        failed = pthread_cond_timedwait(&w->changed, &w->mutex, &end);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    assert_int_equal(failed, 0);
}

/* What the test has changed in the servers' tables, their threads see. */
static void publish(struct world *w) {
    struct script_server *servers[] = { w->chain->server, w->odyn.server };
    for (size_t i = 0; i < 2; i++) {
        (void)pthread_mutex_lock(&servers[i]->lock);
        (void)pthread_mutex_unlock(&servers[i]->lock);
    }
}

static struct service_share_answer ask(struct world *w) {
    publish(w);
    unsigned before = w->answered_count;
    w->ask.id++;
    assert_true(share_ask(w->share, &w->ask));
    await_count(w, &w->answered_count, before + 1);
    assert_int_equal(w->last_id, w->ask.id);
    return w->answer;
}

static struct fake_instance *add_asker(struct world *w, uint64_t number) {
    struct fake_instance *instance = fake_add(w->chain, number, FAKE_KMS_APP);
    envelope_public_write(&w->receiver.public_key, instance->facts.tee_pubkey);
    instance->facts.tee_pubkey_len = ENVELOPE_DER_BYTES;
    return instance;
}

static int setup(void **state) {
    static const uint8_t secret[KDF_MASTER_BYTES] = { 0x5e, 0xc8 };
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    *state = w;
    w->chain = fake_start_chain(clock_unix_ms() / 1000);
    fake_odyn_start(&w->odyn, 0x0d);
    assert_ok(envelope_key_init(&w->receiver));
    assert_ok(kdf_master_init(&w->master, secret));
    assert_int_equal(pthread_mutex_init(&w->mutex, NULL), 0);
    assert_int_equal(pthread_cond_init(&w->changed, NULL), 0);
    w->config.chain_id = FAKE_CHAIN_ID;
    w->config.kms_app_id = FAKE_KMS_APP;
    w->config.nova_app_registry = (struct wallet){ { 1 } };
    w->config.kms_registry = (struct wallet){ { 2 } };
    w->config.head_stall_s = STALL_S;
    w->config.hash_confirmations = 3;
    (void)snprintf(w->config.helios_rpc_url, CONFIG_URL_BYTES, "%s", w->chain->server->url);
    (void)snprintf(w->config.odyn_url, CONFIG_URL_BYTES, "%s", w->odyn.server->url);
    const struct share_cfg cfg = { .config = &w->config,
                                   .chain_stop = &w->stop,
                                   .copy_secret = copy_secret,
                                   .answer = take_answer,
                                   .ctx = w };
    struct status why = { 0 };
    assert_ok(share_init(&w->share, &cfg, &why));
    w->ask = (struct service_share_ask){ .worker_idx = 2, .wallet = fake_wallet(ASKER) };
    memcpy(w->ask.wanted_hash, w->master.hash, sizeof(w->ask.wanted_hash));
    memset(w->ask.nonce, 0xa5, sizeof(w->ask.nonce));
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    share_close(&w->share);
    share_close(&w->share);
    fake_stop_chain(&w->chain);
    fake_odyn_stop(&w->odyn);
    envelope_key_close(&w->receiver);
    kdf_master_close(&w->master);
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->mutex);
    free(w);
    return 0;
}

static void assert_stats(struct world *w, struct share_stats want) {
    struct share_stats stats;
    share_stats(w->share, &stats);
    assert_int_equal(stats.given_count, want.given_count);
    assert_int_equal(stats.refused_count, want.refused_count);
    assert_int_equal(stats.failed_count, want.failed_count);
}

/* ---- What is given ---- */

/* Only the registered key opens it, and it says for whom, by whom and for which request it is. */
static void assert_given(struct world *w, const struct service_share_answer *answer) {
    assert_string_equal(answer->why.text, "");
    assert_int_equal(answer->why.code, STATUS_OK);
    assert_int_equal(answer->sealed_len, SECRET_TEXT_BYTES + ENVELOPE_TAG_BYTES);
    struct envelope_public sender;
    uint8_t text[SECRET_TEXT_BYTES];
    uint8_t secret[KDF_MASTER_BYTES];
    struct secret_text said;
    const struct span der = { answer->sender_public_key, ENVELOPE_DER_BYTES };
    assert_ok(envelope_public_parse(der, &sender));
    assert_true(envelope_public_equal(&sender, &w->odyn.key.public_key));
    const struct envelope envelope = { &w->receiver, &sender, answer->seal_nonce };
    assert_ok(envelope_open(&envelope, (struct span){ answer->sealed, answer->sealed_len }, text));
    assert_ok(secret_text_read((struct span){ text, sizeof(text) }, secret, &said));
    assert_memory_equal(secret, w->master.secret.ptr, sizeof(secret));
    assert_memory_equal(said.hash, w->master.hash, sizeof(said.hash));
    assert_memory_equal(said.nonce, w->ask.nonce, sizeof(said.nonce));
    assert_true(wallet_equal(&said.from, &w->odyn.wallet));
    assert_true(wallet_equal(&said.to, &w->ask.wallet));
}

static void test_a_member_gets_it(void **state) {
    struct world *w = *state;
    (void)add_asker(w, ASKER);
    struct service_share_answer answer = ask(w);
    assert_given(w, &answer);
    answer = ask(w);
    assert_given(w, &answer);
    assert_stats(w, (struct share_stats){ .given_count = 2 });
}

/* What was read for one request is no answer to the next. */
static void test_each_request_reads_the_chain(void **state) {
    struct world *w = *state;
    struct fake_instance *instance = add_asker(w, ASKER);
    struct service_share_answer answer = ask(w);
    assert_given(w, &answer);
    fake_lock(w->chain);
    instance->facts.status = AUTH_INSTANCE_STOPPED;
    fake_unlock(w->chain);
    answer = ask(w);
    assert_int_equal(answer.why.code, STATUS_PERMISSION_DENIED);
    assert_int_equal(answer.sealed_len, 0);
}

/* An Odyn that has restarted has other keys: that is noticed, and the next envelope is under
 * them. */
static void test_odyn_is_another_one(void **state) {
    struct world *w = *state;
    (void)add_asker(w, ASKER);
    struct service_share_answer answer = ask(w);
    assert_given(w, &answer);
    struct script_server *server = w->odyn.server;
    (void)pthread_mutex_lock(&server->lock);
    envelope_key_close(&w->odyn.key);
    assert_ok(envelope_key_init(&w->odyn.key));
    w->odyn.wallet.bytes[5] = 1;
    (void)pthread_mutex_unlock(&server->lock);
    answer = ask(w);
    assert_given(w, &answer);
    assert_stats(w, (struct share_stats){ .given_count = 2 });
}

/* ---- What is refused ---- */

static void nobody(struct world *w) {
    (void)w;
}

static void removed(struct world *w) {
    (void)add_asker(w, ASKER);
    struct fake_instance *now = add_asker(w, ASKER);
    now->since_block = w->chain->head.number;
    now->facts.status = AUTH_INSTANCE_STOPPED;
}

static void new_one(struct world *w) {
    add_asker(w, ASKER)->since_block = w->chain->head.number - 2;
}

static void an_app(struct world *w) {
    add_asker(w, ASKER)->facts.app_id = 100;
}

static void not_verified(struct world *w) {
    add_asker(w, ASKER)->facts.zk_verified = false;
}

static void bad_key(struct world *w) {
    add_asker(w, ASKER)->facts.tee_pubkey[ENVELOPE_DER_BYTES - 1] ^= 1;
}

static void short_key(struct world *w) {
    add_asker(w, ASKER)->facts.tee_pubkey_len--;
}

/* A good key, but another one than at the confirmed block. */
static void changed_key(struct world *w) {
    (void)add_asker(w, ASKER);
    struct fake_instance *now = add_asker(w, ASKER);
    now->since_block = w->chain->head.number;
    envelope_public_write(&w->odyn.key.public_key, now->facts.tee_pubkey);
}

static void other_hash(struct world *w) {
    (void)add_asker(w, ASKER);
    w->ask.wanted_hash[31] ^= 1;
}

static void no_chain(struct world *w) {
    (void)add_asker(w, ASKER);
    fake_tell(w->chain, "eth_call", NULL, "{\"code\":-32000,\"message\":\"no state\"}");
}

static void no_odyn(struct world *w) {
    (void)add_asker(w, ASKER);
    w->odyn.is_broken = true;
}

static struct refusal {
    const char *name;
    void (*prepare)(struct world *w);
    enum status_code code;
    const char *text;
} refusals[] = {
    { "nobody", nobody, STATUS_PERMISSION_DENIED, "wallet is not registered" },
    { "removed_a_moment_ago", removed, STATUS_PERMISSION_DENIED, "instance is STOPPED" },
    { "not_confirmed_yet", new_one, STATUS_PERMISSION_DENIED, "wallet is not registered" },
    { "an_app", an_app, STATUS_PERMISSION_DENIED, "another app than the KMS" },
    { "not_verified", not_verified, STATUS_PERMISSION_DENIED, "not zk-verified" },
    { "bad_key", bad_key, STATUS_FAILED_PRECONDITION, "teePubkey" },
    { "short_key", short_key, STATUS_FAILED_PRECONDITION, "teePubkey" },
    { "changed_key", changed_key, STATUS_FAILED_PRECONDITION, "changed a moment ago" },
    { "other_hash", other_hash, STATUS_FAILED_PRECONDITION, "does not hold" },
    { "no_chain", no_chain, STATUS_UNAVAILABLE, "" },
    { "no_odyn", no_odyn, STATUS_UNAVAILABLE, "Odyn did not seal" },
};

static void test_refused(void **state) {
    const struct refusal *row = *state;
    assert_int_equal(setup(state), 0);
    struct world *w = *state;
    row->prepare(w);
    struct service_share_answer answer = ask(w);
    assert_int_equal(answer.why.code, row->code);
    assert_non_null(strstr(answer.why.text, row->text));
    assert_true(answer.why.text[0] != '\0');
    assert_int_equal(answer.sealed_len, 0);
    bool is_failure = row->code == STATUS_UNAVAILABLE;
    assert_stats(w, (struct share_stats){ 0, !is_failure, is_failure });
    /* Without a good answer of the registry, nobody looked at the secret. */
    assert_int_equal(w->entered_count, row->prepare == other_hash || row->prepare == no_odyn);
    assert_int_equal(teardown(state), 0);
}

/* ---- The queue ---- */

static void set_gate(struct world *w, bool is_gated) {
    (void)pthread_mutex_lock(&w->mutex);
    w->is_gated = is_gated;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
}

static void test_the_queue_is_bounded(void **state) {
    struct world *w = *state;
    (void)add_asker(w, ASKER);
    publish(w);
    set_gate(w, true);
    w->ask.id = 1;
    assert_true(share_ask(w->share, &w->ask));
    await_count(w, &w->entered_count, 1); /* The first one has left the queue. */
    for (unsigned i = 0; i < SHARE_QUEUE_COUNT_MAX; i++) {
        w->ask.id++;
        assert_true(share_ask(w->share, &w->ask));
    }
    assert_false(share_ask(w->share, &w->ask));
    assert_int_equal(w->answered_count, 0);
    set_gate(w, false);
    await_count(w, &w->answered_count, 1 + SHARE_QUEUE_COUNT_MAX);
    assert_int_equal(w->last_id, 1 + SHARE_QUEUE_COUNT_MAX);
    struct service_share_answer answer = ask(w); /* There is room again. */
    assert_given(w, &answer);
    assert_stats(w, (struct share_stats){ .given_count = 2 + SHARE_QUEUE_COUNT_MAX });
}

/* A call of Odyn that hangs ends at once, and what waits is dropped. */
static void test_close_waits_for_nobody(void **state) {
    struct world *w = *state;
    (void)add_asker(w, ASKER);
    w->odyn.is_hanging = true;
    publish(w);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(share_ask(w->share, &w->ask));
    }
    while (sem_wait(&w->odyn.hung) != 0) {
    }
    share_close(&w->share);
    assert_null(w->share);
    assert_int_equal(w->answered_count, 1);
    assert_int_equal(w->answer.why.code, STATUS_UNAVAILABLE);
    assert_int_equal(sem_trywait(&w->odyn.hung), -1);
}

static void test_bad_config(void **state) {
    struct world *w = *state;
    const struct share_cfg cfg = { .config = &w->config, .chain_stop = &w->stop };
    struct share *share = NULL;
    struct status why = { 0 };
    (void)snprintf(w->config.odyn_url, CONFIG_URL_BYTES, "http://example.com");
    assert_err(share_init(&share, &cfg, &why), BAD_CONFIG);
    assert_null(share);
    assert_true(why.text[0] != '\0');
    w->config.helios_rpc_url[0] = '\0';
    assert_err(share_init(&share, &cfg, &why), BAD_CONFIG);
    share_close(&share);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest worlds[] = {
        WORLD(test_a_member_gets_it),       WORLD(test_each_request_reads_the_chain),
        WORLD(test_odyn_is_another_one),    WORLD(test_the_queue_is_bounded),
        WORLD(test_close_waits_for_nobody), WORLD(test_bad_config),
    };
    struct CMUnitTest tests[TEST_ROWS(worlds) + TEST_ROWS(refusals)];
    size_t count = TEST_ROWS(worlds);
    memcpy(tests, worlds, sizeof(worlds));
    TEST_ADD_ROWS(tests, count, test_refused, refusals);
    return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
