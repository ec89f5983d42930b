/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "auth/rules.h"
#include "fake_chain.h"
#include "registry/chain.h"
#include "registry/url.h"
#include "test.h"

#define WALL_S 1700000000ULL
#define APP 100

static char reason[REGISTRY_REASON_BYTES];
static struct fake_chain *fake;
static struct registry *registry;
static struct chain *chain;
static struct registry_members *members;

/* The test's clocks; the registry reads them on the test's thread. */
static uint64_t mono_ms;
static uint64_t unix_ms;

/* Whatever a test changes in the fake between two questions, the server's thread sees. */
#define SYNC(expr)                \
    __extension__({               \
        fake_lock(fake);          \
        fake_unlock(fake);        \
        struct rc sync_ = (expr); \
        fake_lock(fake);          \
        fake_unlock(fake);        \
        sync_;                    \
    })

static uint64_t read_mono(void) {
    return mono_ms;
}

static uint64_t read_unix(void) {
    return unix_ms;
}

static void pass(uint64_t span_ms) {
    mono_ms += span_ms;
    unix_ms += span_ms;
}

static struct registry_chain_cfg cfg_of(const char *url) {
    struct registry_chain_cfg cfg = fake_cfg(url);
    cfg.mono_ms = read_mono;
    cfg.unix_ms = read_unix;
    return cfg;
}

static int setup(void **state) {
    (void)state;
    mono_ms = 5000000;
    unix_ms = WALL_S * 1000;
    fake = fake_start_chain(WALL_S);
    const struct registry_chain_cfg cfg = cfg_of(fake->server->url);
    assert_ok(registry_chain_init(&registry, &cfg, reason));
    assert_ok(chain_init(&chain, &cfg, reason));
    members = calloc(1, sizeof(*members));
    assert_non_null(members);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    registry_close(&registry);
    chain_close(&chain);
    fake_stop_chain(&fake);
    free(members);
    return 0;
}

/* Adds under the lock. */
static struct fake_instance *add(uint64_t number, uint64_t app_id) {
    fake_lock(fake);
    struct fake_instance *instance = fake_add(fake, number, app_id);
    fake_unlock(fake);
    return instance;
}

static void assert_says(const char *words) {
    if (strstr(reason, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", reason, words);
    }
    assert_int_equal(strncmp(reason, "chain RPC 127.0.0.1:", 20), 0);
}

static void lookup_ok(uint64_t number, struct auth_facts *facts) {
    const struct wallet wallet = fake_wallet(number);
    struct rc rc = SYNC(registry_lookup(registry, &wallet, facts, reason));
    assert_string_equal(reason, "");
    assert_ok(rc);
}

static void lookup_bad(uint64_t number, enum err want, const char *words) {
    const struct wallet wallet = fake_wallet(number);
    struct auth_facts facts;
    assert_err_equal(SYNC(registry_lookup(registry, &wallet, &facts, reason)), want);
    assert_false(facts.found);
    assert_true(facts.as_of_mono_ms == 0);
    assert_says(words);
}

/* ---- Lookups ---- */

static void test_lookup(void **state) {
    (void)state;
    (void)add(7, APP);
    struct auth_facts facts;
    lookup_ok(7, &facts);
    assert_true(facts.found);
    assert_int_equal(facts.instance.app_id, APP);
    assert_string_equal(facts.instance.url, "https://node-7:8443");
    assert_int_equal(facts.instance.tee_pubkey_len, 120);
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, FAKE_KMS_APP), AUTH_VERDICT_PERMITTED);
    assert_int_equal(auth_judge(&facts, AUTH_PEER, FAKE_KMS_APP), AUTH_VERDICT_OTHER_APP);
    assert_true(facts.as_of_mono_ms == mono_ms);
    assert_true(fake->block_min == 1000 && fake->block_max == 1000);
    lookup_ok(8, &facts);
    assert_false(facts.found);
    assert_true(facts.as_of_mono_ms == mono_ms);
    assert_int_equal(registry->kms_app_id, FAKE_KMS_APP);
    assert_int_equal(registry->refresh_ms, CHAIN_REFRESH_MS);
}

static void test_statuses(void **state) {
    (void)state;
    struct fake_instance *instance = add(7, APP);
    struct auth_facts facts;
    instance->facts.status = AUTH_INSTANCE_STOPPED;
    lookup_ok(7, &facts);
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, 49), AUTH_VERDICT_INSTANCE_STOPPED);
    instance->facts.status = AUTH_INSTANCE_ACTIVE;
    instance->facts.zk_verified = false;
    lookup_ok(7, &facts);
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, 49), AUTH_VERDICT_NOT_ZK_VERIFIED);
    instance->facts.zk_verified = true;
    fake->apps[1].status = AUTH_APP_INACTIVE;
    lookup_ok(7, &facts);
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, 49), AUTH_VERDICT_APP_INACTIVE);
    fake->apps[1].status = AUTH_APP_ACTIVE;
    fake->versions[1].status = AUTH_VERSION_REVOKED;
    lookup_ok(7, &facts);
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, 49), AUTH_VERDICT_VERSION_REVOKED);
}

static void test_lying_records(void **state) {
    (void)state;
    struct fake_instance *instance = add(7, APP);
    instance->is_other_wallet = true;
    lookup_bad(7, E_MALFORMED, "getInstanceByWallet returned what must not be: it is another");
    instance->is_other_wallet = false;
    instance->app_id_top = 1; /* 2^64 + 100 is not 100. */
    lookup_bad(7, E_TOO_BIG, "cannot be used: appId: must be at most 2^64-1");
    assert_says("the instance of 0xaa000000");
    instance->app_id_top = 0;
    instance->url_len = AUTH_URL_BYTES_MAX + 1;
    lookup_bad(7, E_TOO_BIG, "cannot be used: instanceUrl: must have at most 256 bytes");
    instance->url_len = 0;
    instance->facts.status = AUTH_INSTANCE_STATUS_COUNT;
    lookup_bad(7, E_MALFORMED, "cannot be used: status: is a status unknown to this node");
    instance->facts.status = AUTH_INSTANCE_ACTIVE;
    fake->apps[1].id = 101; /* Unknown: the fake reverts. */
    lookup_bad(7, E_MALFORMED, "eth_call reverted: execution reverted");
    fake->apps[1].id = APP;
    struct auth_facts facts;
    lookup_ok(7, &facts);
}

static struct lie_row {
    const char *name;
    const char *method;
    const char *result;
    const char *error;
    enum err want;
    const char *words;
} lie_rows[] = {
    { "chain_id_other", "eth_chainId", "\"0x1\"", NULL, E_MALFORMED,
      "the chain id is 1, must be 84532" },
    { "chain_id_huge", "eth_chainId", "\"0x10000000000014a34\"", NULL, E_MALFORMED,
      "the chain id is 18446744073709551615, must be 84532" },
    { "chain_id_number", "eth_chainId", "84532", NULL, E_MALFORMED,
      "eth_chainId must give a quantity" },
    { "chain_id_error", "eth_chainId", NULL, "{\"code\":-32601,\"message\":\"no\"}", E_UNAVAILABLE,
      "eth_chainId failed with error -32601 (no)" },
    { "syncing", "eth_syncing", "{\"currentBlock\":\"0x1\"}", NULL, E_UNAVAILABLE,
      "it is still syncing" },
    { "syncing_true", "eth_syncing", "true", NULL, E_MALFORMED,
      "eth_syncing must give false or an object" },
    { "syncing_null", "eth_syncing", "null", NULL, E_MALFORMED, "eth_syncing must give" },
    { "no_block", "eth_getBlockByNumber", "null", NULL, E_UNAVAILABLE, "it has no block yet" },
    { "block_text", "eth_getBlockByNumber", "\"0x1\"", NULL, E_MALFORMED, "the block's number" },
    { "block_empty", "eth_getBlockByNumber", "{}", NULL, E_MALFORMED, "the block's number" },
    { "block_number_huge", "eth_getBlockByNumber", "{\"number\":\"0x10000000000000000\"}", NULL,
      E_MALFORMED, "the block's number must be a quantity up to 2^64-1" },
    { "block_without_time", "eth_getBlockByNumber", "{\"number\":\"0x1\"}", NULL, E_MALFORMED,
      "the block's timestamp" },
    { "block_without_hash", "eth_getBlockByNumber",
      "{\"number\":\"0x1\",\"timestamp\":\"0x1\",\"hash\":\"0x01\"}", NULL, E_MALFORMED,
      "the block's hash must be 32 bytes" },
    { "block_fee_huge", "eth_getBlockByNumber",
      "{\"number\":\"0x1\",\"timestamp\":\"0x1\",\"baseFeePerGas\":\"0x10000000000000000\","
      "\"hash\":\"0x0000000000000000000000000000000000000000000000000000000000000000\"}",
      NULL, E_MALFORMED, "the block's baseFeePerGas" },
    { "call_fails", "eth_call", NULL, "{\"code\":-32000,\"message\":\"header not found\"}",
      E_UNAVAILABLE, "eth_call failed with error -32000 (header not found)" },
    { "call_reverts", "eth_call", NULL, "{\"code\":3,\"message\":\"execution reverted\"}",
      E_MALFORMED, "eth_call reverted: execution reverted" },
    { "call_empty", "eth_call", "\"0x\"", NULL, E_MALFORMED,
      "getInstanceByWallet returned what must not be: there is no contract at its address" },
    { "call_odd", "eth_call", "\"0x0\"", NULL, E_MALFORMED, "must be 0x and pairs of hex digits" },
    { "call_null", "eth_call", "null", NULL, E_MALFORMED, "must be 0x and pairs of hex digits" },
    { "call_short", "eth_call", "\"0x00\"", NULL, E_MALFORMED,
      "getInstanceByWallet returned what must not be: data: the data ends before it" },
};

static void test_lie(void **state) {
    const struct lie_row *row = *state;
    (void)setup(NULL);
    (void)add(7, APP);
    fake_tell(fake, row->method, row->result, row->error);
    lookup_bad(7, row->want, row->words);
    assert_err_equal(SYNC(registry_members(registry, members, reason)), row->want);
    assert_int_equal(members->count, 0);
    fake_tell(fake, NULL, NULL, NULL);
    struct auth_facts facts;
    lookup_ok(7, &facts); /* The head is read anew, and all is well. */
    assert_true(facts.found);
    (void)teardown(NULL);
}

/* ---- The head ---- */

static void test_head_reuse(void **state) {
    (void)state;
    (void)add(7, APP);
    struct auth_facts facts;
    lookup_ok(7, &facts);
    uint64_t first_ms = mono_ms;
    fake_mine(fake, 1);
    pass(CHAIN_HEAD_REUSE_MS - 1);
    lookup_ok(7, &facts);
    assert_int_equal(fake->head_count, 1);
    assert_true(facts.as_of_mono_ms == first_ms); /* Of the block, not of the question. */
    pass(1);
    lookup_ok(7, &facts);
    assert_int_equal(fake->head_count, 2);
    assert_true(facts.as_of_mono_ms == first_ms + 1000);
}

static void test_frozen_head(void **state) {
    (void)state;
    (void)add(7, APP);
    struct auth_facts facts;
    lookup_ok(7, &facts);
    uint64_t first_ms = mono_ms;
    pass(CHAIN_HEAD_STALL_MS);
    lookup_ok(7, &facts);
    assert_true(facts.as_of_mono_ms == first_ms);
    mono_ms += 1; /* The wall clock may stand still, or go back. */
    unix_ms = WALL_S * 1000 - 1000;
    pass(CHAIN_HEAD_REUSE_MS);
    lookup_bad(7, E_UNAVAILABLE, "the head has stalled: its newest block 1000 is 31 s old");
    assert_err(SYNC(registry_members(registry, members, reason)), UNAVAILABLE);
    assert_says("the head has stalled");
}

static void test_head_back(void **state) {
    (void)state;
    (void)add(7, APP);
    struct auth_facts facts;
    lookup_ok(7, &facts);
    fake->head.number = 900;
    fake->head.hash[31] = 1;
    pass(CHAIN_HEAD_REUSE_MS);
    lookup_bad(7, E_MALFORMED, "the head went back from block 1000 to 900");
    fake->head.number = 1001;
    fake->head.timestamp_unix_s += 60;
    lookup_bad(7, E_MALFORMED, "block 1001 is dated in the future");
}

/* ---- Members ---- */

static void test_members(void **state) {
    (void)state;
    (void)add(9, FAKE_KMS_APP);
    (void)add(3, FAKE_KMS_APP);
    add(5, FAKE_KMS_APP)->facts.zk_verified = false;
    add(6, FAKE_KMS_APP)->facts.status = AUTH_INSTANCE_STOPPED;
    (void)add(7, APP);
    struct fake_instance *old = add(8, FAKE_KMS_APP);
    old->facts.version_id = 2;
    fake->versions[fake->version_count++] =
        (struct fake_version){ FAKE_KMS_APP, 2, AUTH_VERSION_DEPRECATED };
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->count, 3);
    assert_int_equal(members->at[0].id, 3);
    assert_int_equal(members->at[1].id, 8);
    assert_int_equal(members->at[2].id, 9);
    assert_true(members->as_of_mono_ms == mono_ms);
    fake->versions[2].status = AUTH_VERSION_REVOKED;
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->count, 2);
    fake->apps[0].status = AUTH_APP_INACTIVE;
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->count, 0);
}

static void set_url(struct fake_instance *instance, const char *url) {
    (void)snprintf(instance->facts.url, sizeof(instance->facts.url), "%s", url);
}

static void test_members_share_url(void **state) {
    (void)state;
    set_url(add(3, FAKE_KMS_APP), "https://Node-A.example");
    struct fake_instance *early = add(4, FAKE_KMS_APP);
    set_url(early, "https://node-a.example:443/"); /* The greater id, registered before. */
    early->facts.registered_unix_s = 1;
    set_url(add(5, FAKE_KMS_APP), "https://node-a.example:8443");
    set_url(add(6, FAKE_KMS_APP), "");
    set_url(add(7, FAKE_KMS_APP), "");
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->count, 4);
    assert_int_equal(members->at[0].id, 3);
    assert_int_equal(members->at[1].id, 5);
    early->facts.registered_unix_s = 1003; /* As 3: the greater id is the later one. */
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->at[0].id, 4);
}

/* A stranger may register what is not verified; it must not spoil the list. */
static void test_members_bad_record(void **state) {
    (void)state;
    (void)add(3, FAKE_KMS_APP);
    struct fake_instance *bad = add(4, FAKE_KMS_APP);
    bad->url_len = 1000;
    assert_err(SYNC(registry_members(registry, members, reason)), TOO_BIG);
    assert_int_equal(members->count, 0);
    assert_says("cannot be used: instanceUrl: must have at most 256 bytes");
    assert_says("member 0xaa000000");
    bad->facts.zk_verified = false;
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->count, 1);
}

static void test_members_twice(void **state) {
    (void)state;
    (void)add(3, FAKE_KMS_APP);
    (void)add(3, FAKE_KMS_APP);
    assert_err(SYNC(registry_members(registry, members, reason)), MALFORMED);
    assert_says(
        "getActiveInstances returned what must not be: an instance must not be in it twice");
}

static void test_members_limit(void **state) {
    (void)state;
    for (uint64_t i = 1; i <= REGISTRY_MEMBER_COUNT_MAX; i++) {
        add(i, FAKE_KMS_APP)->facts.version_id = i;
        fake->versions[fake->version_count++] = (struct fake_version){ FAKE_KMS_APP, i, 0 };
    }
    for (uint64_t i = 0; i < 100; i++) {
        add(1000 + i, FAKE_KMS_APP)->facts.zk_verified = false;
    }
    assert_ok(SYNC(registry_members(registry, members, reason)));
    assert_int_equal(members->count, REGISTRY_MEMBER_COUNT_MAX);
    (void)add(REGISTRY_MEMBER_COUNT_MAX + 1, FAKE_KMS_APP);
    assert_err(SYNC(registry_members(registry, members, reason)), TOO_BIG);
    assert_says("the KMS app must have at most 256 members");
    assert_int_equal(members->count, 0);
}

/* ---- Confirmed reads ---- */

static void test_secret_hash(void **state) {
    (void)state;
    struct chain_secret_hash hash;
    memset(fake->hash, 0x5a, sizeof(fake->hash));
    fake->hash_since_block = 998;
    assert_ok(SYNC(chain_read_secret_hash(chain, &hash, reason)));
    assert_int_equal(hash.latest[0], 0x5a);
    assert_int_equal(hash.confirmed[0], 0); /* At 997. */
    assert_true(fake->block_min == 997 && fake->block_max == 1000);
    assert_true(hash.head.number == 1000 && hash.head.timestamp_unix_s == WALL_S);
    assert_true(hash.as_of_mono_ms == mono_ms);
    fake_mine(fake, 0);
    assert_ok(
        SYNC(chain_read_secret_hash(chain, &hash, reason))); /* Without waiting for a new head. */
    assert_int_equal(hash.confirmed[0], 0x5a);
    fake_tell(fake, "eth_call", "\"0x00\"", NULL);
    assert_err(SYNC(chain_read_secret_hash(chain, &hash, reason)), MALFORMED);
    assert_int_equal(hash.confirmed[0], 0);
    assert_true(hash.as_of_mono_ms == 0);
}

static void test_short_chain(void **state) {
    (void)state;
    struct chain_secret_hash hash;
    fake->head.number = 2;
    assert_err(SYNC(chain_read_secret_hash(chain, &hash, reason)), UNAVAILABLE);
    assert_says("the chain has 2 blocks, confirmation needs 3");
    fake->head.number = 3;
    fake->head.hash[0] = 1;
    assert_ok(SYNC(chain_read_secret_hash(chain, &hash, reason)));
}

static void test_read_instance(void **state) {
    (void)state;
    struct auth_facts latest;
    struct auth_facts confirmed;
    const struct wallet wallet = fake_wallet(7);
    add(7, FAKE_KMS_APP)->since_block = 999;
    assert_ok(SYNC(chain_read_instance(chain, &wallet, &latest, &confirmed, reason)));
    assert_true(latest.found);
    assert_false(confirmed.found);
    assert_true(confirmed.as_of_mono_ms == mono_ms);
    fake_mine(fake, 0);
    fake_mine(fake, 0);
    assert_ok(SYNC(chain_read_instance(chain, &wallet, &latest, &confirmed, reason)));
    assert_true(latest.found && confirmed.found);
    fake_tell(fake, "eth_syncing", "{}", NULL);
    assert_err(SYNC(chain_read_instance(chain, &wallet, &latest, &confirmed, reason)), UNAVAILABLE);
    assert_false(latest.found || confirmed.found);
}

/* ---- Configuration and URLs ---- */

static void test_cfg(void **state) {
    (void)state;
    struct registry *other = NULL;
    for (int i = 0; i < 5; i++) {
        struct registry_chain_cfg cfg = cfg_of("http://127.0.0.1:1");
        cfg.chain_id = i == 0 ? 0 : cfg.chain_id;
        cfg.kms_app_id = i == 1 ? 0 : cfg.kms_app_id;
        cfg.nova_app_registry.bytes[0] = i == 2 ? 0 : 1;
        cfg.kms_registry.bytes[0] = i == 3 ? 0 : 1;
        cfg.rpc_url = i == 4 ? "ftp://x" : cfg.rpc_url;
        assert_err(registry_chain_init(&other, &cfg, reason), BAD_CONFIG);
        assert_null(other);
        assert_true(reason[0] != '\0');
    }
    struct registry_chain_cfg cfg = cfg_of("http://127.0.0.1:1");
    cfg.kms_registry = (struct wallet){ { 0 } };
    cfg.members_only = true;
    struct chain *for_members = NULL;
    assert_ok(chain_init(&for_members, &cfg, reason));
    chain_close(&for_members);
    chain_close(&for_members);
}

static void test_urls(void **state) {
    (void)state;
    char out[REGISTRY_URL_BYTES];
    assert_ok(registry_url_normalize("HTTPS://Node.Example", out));
    assert_string_equal(out, "https://node.example:443");
    assert_ok(registry_url_normalize("https://u:p@n:8443/A/?q#f", out));
    assert_string_equal(out, "https://n:8443/A");
    assert_ok(registry_url_normalize("http://[::1]/", out));
    assert_string_equal(out, "http://[::1]:80");
    static const char *const bad[] = { "", "node:8443/x y", "ftp://a", "https://",
                                       "https://a:99999" };
    for (size_t i = 0; i < TEST_ROWS(bad); i++) {
        assert_err(registry_url_normalize(bad[i], out), MALFORMED);
        assert_string_equal(out, "");
    }
    char url[AUTH_URL_BYTES_MAX + 2];
    (void)snprintf(url, sizeof(url), "https://a/");
    memset(url + 10, 'x', sizeof(url) - 11);
    url[AUTH_URL_BYTES_MAX + 1] = '\0';
    assert_err(registry_url_normalize(url, out), MALFORMED);
    url[AUTH_URL_BYTES_MAX] = '\0';
    assert_ok(registry_url_normalize(url, out));
    assert_true(registry_url_equal("https://a", "https://A:443/"));
    assert_false(registry_url_equal("https://a", "http://a"));
    assert_false(registry_url_equal("https://a", "x"));
    assert_true(registry_url_equal("", ""));
}

#define CHAIN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static struct target_row {
    const char *name;
    const char *url;
    const char *want; /* NULL: MALFORMED. */
} target_rows[] = {
    { "port", "https://Node.Example:8443", "node.example:8443" },
    { "no_port", "https://node.example/", "node.example:443" },
    { "v4", "HTTPS://127.0.0.1:1", "127.0.0.1:1" },
    { "v6", "https://[::1]:9443/", "[::1]:9443" },
    { "http", "http://node.example:8443", NULL },
    { "no_scheme", "node.example:8443", NULL },
    { "user", "https://u@node.example:8443", NULL },
    { "password", "https://u:p@node.example:8443", NULL },
    { "empty_user", "https://@node.example:8443", NULL },
    { "path", "https://node.example:8443/kms", NULL },
    { "query", "https://node.example:8443/?q", NULL },
    { "fragment", "https://node.example:8443/#f", NULL },
    { "port_too_big", "https://node.example:65536", NULL },
    { "no_host", "https://:8443", NULL },
    { "space", "https://node example:8443", NULL },
    { "empty", "", NULL },
};

static void test_target(void **state) {
    const struct target_row *row = *state;
    char out[REGISTRY_TARGET_BYTES] = "x";
    char *url = strdup(row->url);
    assert_non_null(url);
    struct rc rc = registry_url_target(url, out);
    free(url);
    assert_int_equal(rc.err, row->want == NULL ? E_MALFORMED : E_OK);
    assert_string_equal(out, row->want == NULL ? "" : row->want);
}

int main(void) {
    static struct CMUnitTest tests[64] = {
        CHAIN_TEST(test_lookup),
        CHAIN_TEST(test_statuses),
        CHAIN_TEST(test_lying_records),
        CHAIN_TEST(test_head_reuse),
        CHAIN_TEST(test_frozen_head),
        CHAIN_TEST(test_head_back),
        CHAIN_TEST(test_members),
        CHAIN_TEST(test_members_share_url),
        CHAIN_TEST(test_members_bad_record),
        CHAIN_TEST(test_members_twice),
        CHAIN_TEST(test_members_limit),
        CHAIN_TEST(test_secret_hash),
        CHAIN_TEST(test_short_chain),
        CHAIN_TEST(test_read_instance),
        cmocka_unit_test(test_cfg),
        cmocka_unit_test(test_urls),
    };
    size_t count = 16;
    TEST_ADD_ROWS(tests, count, test_lie, lie_rows);
    TEST_ADD_ROWS(tests, count, test_target, target_rows);
    ASSERT(count <= TEST_ROWS(tests));
    return _cmocka_run_group_tests("registry_chain", tests, count, NULL, NULL);
}
