/* SPDX-License-Identifier: Apache-2.0 */
/* libnovakms with the registry on chain: which servers it finds, which it refuses, and what it does
 * when the chain cannot be read. */
#define _GNU_SOURCE
#include "client/client.h"
#include "client_world.h"
#include "fake_chain.h"

#define REGISTRY "0x0101010101010101010101010101010101010101"

/* The fake chain, with a block for each second that has passed, like a live one. */
struct live_chain {
    struct fake_chain *fake;
    bool is_hung;
    unsigned behind_count; /* So many answers say that the server is behind. */
};

static struct live_chain live;

static enum script_next live_answer(void *ctx, struct script_server *server, const char *body) {
    struct live_chain *chain = ctx;
    struct head *head = &chain->fake->head;
    uint64_t now_unix_s = clock_unix_ms() / 1000;
    if (now_unix_s > head->timestamp_unix_s) {
        head->number++;
        head->timestamp_unix_s = now_unix_s;
        memcpy(head->hash, &head->number, sizeof(head->number));
    }
    if (chain->is_hung) {
        return SCRIPT_HANG;
    }
    if (chain->behind_count == 0) {
        return fake_answer(chain->fake, server, body);
    }
    chain->behind_count--;
    chain->fake->lie = (struct fake_lie){ .method = "eth_syncing", .result = "{}" };
    enum script_next next = fake_answer(chain->fake, server, body);
    chain->fake->lie = (struct fake_lie){ .method = NULL };
    return next;
}

static struct fake_instance *add_node(uint64_t number, uint8_t seed, const char *url) {
    fake_lock(live.fake);
    struct fake_instance *instance = fake_add(live.fake, number, FAKE_KMS_APP);
    instance->facts.wallet = wallet_of(seed);
    (void)snprintf(instance->facts.url, sizeof(instance->facts.url), "%s", url);
    fake_unlock(live.fake);
    return instance;
}

static void url_of(const struct scripted_server *server, char url[static 64]) {
    (void)snprintf(url, 64, "https://127.0.0.1:%u", server->port);
}

/* A chain without nodes, and servers that are not on it yet. */
static struct world *make_chain_world(void) {
    struct world *w = make_world(0);
    live = (struct live_chain){ .is_hung = false };
    live.fake = fake_start_chain(clock_unix_ms() / 1000);
    fake_lock(live.fake);
    live.fake->server->answer_cb = live_answer;
    live.fake->server->ctx = &live;
    fake_unlock(live.fake);
    w->answer = answer_value;
    return w;
}

static struct novakms_cfg chain_cfg(void) {
    static uint8_t key[NOVAKMS_KEY_BYTES];
    memset(key, CLIENT_SEED, sizeof(key));
    return (struct novakms_cfg){ .rpc_url = live.fake->server->url,
                                 .registry_address = REGISTRY,
                                 .kms_app_id = FAKE_KMS_APP,
                                 .identity_key = key,
                                 .timeout_ms = RUN_MS_MAX,
                                 .connect_timeout_ms = RUN_MS_MAX,
                                 .chain_id = TEST_CHAIN_ID };
}

static void open_with(struct world *w, struct novakms_cfg cfg) {
    char error[NOVAKMS_TEXT_BYTES];
    if (novakms_open_on(&w->loop, &cfg, &w->client, error) != NOVAKMS_OK) {
        fail_msg("%s", error);
    }
}

/* A world with both servers on the chain, and a client. */
static struct world *open_chain_world(void) {
    struct world *w = make_chain_world();
    char url[64];
    for (uint8_t i = 0; i < SERVER_COUNT; i++) {
        url_of(&w->servers[i], url);
        (void)add_node(i + 1u, (uint8_t)(FIRST_SEED + i), url);
    }
    open_with(w, chain_cfg());
    return w;
}

static void close_chain_world(struct world *w) {
    close_world(w);
    fake_stop_chain(&live.fake);
}

/* A Get that must end so, with these words in its sentence. */
static void get_fails(struct world *w, enum novakms_code code, const char *words) {
    struct novakms_result *r = get_key(w);
    if (r->code != code || strstr(r->text, words) == NULL) {
        fail_msg("%s: %s", novakms_code_name(r->code), r->text);
    }
    novakms_free(&r);
}

static void get_works(struct world *w) {
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    novakms_free(&r);
}

/* The list becomes as old as this. */
static void age_list(struct world *w, uint64_t age_ms) {
    w->client->members.latest->as_of_mono_ms = clock_mono_ms() - age_ms;
}

static size_t count_requests(const struct world *w) {
    return w->servers[0].request_count + w->servers[1].request_count;
}

/* How often the list was read. */
static unsigned read_count(void) {
    fake_lock(live.fake);
    unsigned count = live.fake->head_count;
    fake_unlock(live.fake);
    return count;
}

/* ---- Finding ---- */

static void test_finds_a_node(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    for (size_t i = 1; i <= 3; i++) {
        get_works(w);
        assert_int_equal(count_requests(w), i);
    }
    assert_int_equal(w->servers[0].open_count + w->servers[1].open_count, 1); /* It stays there. */
    assert_int_equal(read_count(), 1); /* And the list was read once. */
    close_chain_world(w);
}

/* Clients begin with different nodes. */
static void test_begins_anywhere(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    for (size_t i = 0; w->servers[0].request_count == 0 || w->servers[1].request_count == 0; i++) {
        assert_true(i < SCRIPTED_CONN_MAX); /* By chance once in 2^31. */
        get_works(w);
        w->is_closed = false;
        novakms_close_notify(&w->client, w, on_client_closed);
        RUN_UNTIL(w, w->is_closed);
        open_with(w, chain_cfg());
    }
    w->is_closed = false;
    close_chain_world(w);
}

static void test_dead_node_is_passed_over(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    scripted_stop_listening(&w->servers[0]);
    get_works(w);
    assert_int_equal(w->servers[1].request_count, 1);
    close_chain_world(w);
}

static void test_urls_that_are_none(void **state) {
    (void)state;
    static const char *const urls[] = { "", "http://127.0.0.1:1", "https://u:p@127.0.0.1:1",
                                        "https://127.0.0.1:1/path" };
    struct world *w = make_chain_world();
    for (size_t i = 0; i < TEST_ROWS(urls); i++) {
        (void)add_node(i + 1, (uint8_t)(FIRST_SEED + i), urls[i]);
    }
    open_with(w, chain_cfg());
    get_fails(w, NOVAKMS_UNAVAILABLE, "none of the 4 nodes that the registry lists for app 49");
    close_chain_world(w);
}

/* What is wrong with the proxy is said, not that there is no node. */
static void test_bad_proxy(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    (void)add_node(1, FIRST_SEED, "https://node.example:8443");
    struct novakms_cfg cfg = chain_cfg();
    cfg.proxy = "ftp://x";
    open_with(w, cfg);
    get_fails(w, NOVAKMS_INVALID_ARGUMENT, "proxy must be ");
    close_chain_world(w);
}

static void test_more_nodes_than_places(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    char url[64];
    for (uint64_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX + 4; i++) {
        (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u", 1 + (unsigned)i);
        (void)add_node(i + 1, (uint8_t)(FIRST_SEED + i), url);
    }
    struct novakms_cfg cfg = chain_cfg();
    open_with(w, cfg);
    get_fails(w, NOVAKMS_UNAVAILABLE, "cannot connect to 127.0.0.1:");
    assert_int_equal(client_servers_count(w->client, 0), NOVAKMS_SERVER_COUNT_MAX);
    close_chain_world(w);
}

static void test_no_node(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    open_with(w, chain_cfg());
    get_fails(w, NOVAKMS_UNAVAILABLE, "the registry lists no active, verified node: app 49");
    close_chain_world(w);
}

/* ---- Trust ---- */

static void test_impostor_gets_nothing(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    char url[64];
    url_of(&w->servers[0], url);
    (void)add_node(1, FIRST_SEED + 7, url);
    open_with(w, chain_cfg());
    get_fails(w, NOVAKMS_UNAUTHENTICATED, "is no active, verified instance of app 49");
    assert_int_equal(w->servers[0].accept_count, 1);
    assert_int_equal(w->servers[0].open_count, 0);
    assert_int_equal(w->servers[0].read_count, 0);
    close_chain_world(w);
}

/* Named servers are checked by the chain as well. */
static void test_named_server(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    char servers[64];
    (void)add_node(1, FIRST_SEED + 1, "");
    (void)snprintf(servers, sizeof(servers), "127.0.0.1:%u,127.0.0.1:%u", w->servers[0].port,
                   w->servers[1].port);
    struct novakms_cfg cfg = chain_cfg();
    cfg.servers = servers;
    open_with(w, cfg);
    get_works(w);
    assert_int_equal(w->servers[0].read_count, 0);
    assert_int_equal(w->servers[0].accept_count, 1);
    assert_null(novakms_channel_service(w->client, &novakms__v1__kms_service__descriptor));
    assert_int_equal(novakms_channel_error(w->client, NULL), NOVAKMS_FAILED_PRECONDITION);
    close_chain_world(w);
}

/* A node that was restarted registers anew, with another wallet at its URL. */
static void test_node_with_a_new_wallet(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    char url[64];
    url_of(&w->servers[0], url);
    struct fake_instance *old = add_node(1, FIRST_SEED + 7, url);
    open_with(w, chain_cfg());
    get_fails(w, NOVAKMS_UNAUTHENTICATED, "is no active");
    assert_int_equal(read_count(), 1);
    fake_lock(live.fake);
    old->facts.status = AUTH_INSTANCE_STOPPED;
    fake_unlock(live.fake);
    (void)add_node(2, FIRST_SEED, url);
    age_list(w, 2 * CLIENT_LIST_RECENT_MS); /* Older than the registration. */
    get_works(w);
    assert_int_equal(read_count(), 2);
    close_chain_world(w);
}

/* ---- Change ---- */

static void test_stopped_node_is_not_called(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    get_works(w);
    size_t used = w->servers[0].request_count > 0 ? 0 : 1;
    fake_lock(live.fake);
    live.fake->instances[used].facts.status = AUTH_INSTANCE_STOPPED;
    fake_unlock(live.fake);
    age_list(w, CLIENT_LIST_WAIT_MS + 1);
    get_works(w);
    assert_int_equal(w->servers[used].request_count, 1);
    assert_int_equal(w->servers[1 - used].request_count, 1);
    assert_int_equal(client_servers_count(w->client, 0), 1);
    fake_lock(live.fake);
    live.fake->instances[1 - used].facts.zk_verified = false;
    fake_unlock(live.fake);
    age_list(w, CLIENT_LIST_WAIT_MS + 1);
    get_fails(w, NOVAKMS_UNAVAILABLE, "lists no active, verified node");
    assert_int_equal(w->servers[1 - used].request_count, 1);
    close_chain_world(w);
}

/* A node that left while a call was under way there: the call ends, and its channel with the next
 * list. */
static void test_node_leaves_under_a_call(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    char url[64];
    url_of(&w->servers[0], url);
    struct fake_instance *node = add_node(1, FIRST_SEED, url);
    open_with(w, chain_cfg());
    w->answer = NULL;
    struct novakms_get_args args = { .key = novakms_text("key") };
    assert_true(novakms_get_start(w->client, &args, w, keep) > 0);
    RUN_UNTIL(w, w->servers[0].request_count == 1);
    fake_lock(live.fake);
    node->facts.status = AUTH_INSTANCE_FAILED;
    fake_unlock(live.fake);
    client_members_read(&w->client->members);
    RUN_UNTIL(w, !w->client->members.is_reading);
    assert_int_equal(client_servers_count(w->client, 0), 0);
    assert_non_null(w->client->servers[0].channel);
    answer_value(&w->servers[0].requests[0]);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    novakms_free(&r);
    client_members_read(&w->client->members);
    RUN_UNTIL(w, !w->client->members.is_reading);
    assert_null(w->client->servers[0].channel);
    close_chain_world(w);
}

/* The list is read beside the call when it is not very old. */
static void test_list_is_read_beside_a_call(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    get_works(w);
    age_list(w, CLIENT_LIST_REFRESH_MS + 1);
    struct novakms_get_args args = { .key = novakms_text("key") };
    assert_true(novakms_get_start(w->client, &args, w, keep) > 0);
    assert_true(w->client->members.is_reading);
    assert_true(w->client->calls->channel_call_id != 0); /* It has been sent. */
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_OK);
    novakms_free(&r);
    RUN_UNTIL(w, !w->client->members.is_reading);
    assert_int_equal(read_count(), 2);
    close_chain_world(w);
}

/* ---- A chain that cannot be read ---- */

static void test_chain_is_down(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    get_works(w);
    fake_tell(live.fake, "eth_syncing", "{\"currentBlock\":\"0x1\"}", NULL);
    age_list(w, CLIENT_LIST_WAIT_MS + 1);
    get_works(w); /* The list still counts; */
    assert_true(w->client->members.has_failed);
    age_list(w, CLIENT_LIST_TTL_DEFAULT_MS + 1);
    get_fails(w, NOVAKMS_UNAVAILABLE, "the registry cannot be read: chain RPC 127.0.0.1:");
    assert_int_equal(count_requests(w), 2); /* now it does not. */
    w->client->members.has_failed = false;
    struct status why;
    assert_err(client_members_explain(&w->client->members, &why), UNAVAILABLE);
    assert_string_equal(why.text, "the registry cannot be read: its newest state is too old");
    fake_tell(live.fake, NULL, NULL, NULL);
    get_works(w);
    close_chain_world(w);
}

/* Of several servers behind one URL one may be behind the others. */
static void test_chain_is_behind_once(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    fake_lock(live.fake);
    live.behind_count = 1;
    fake_unlock(live.fake);
    get_works(w);
    assert_int_equal(read_count(), 2);
    close_chain_world(w);
}

static void test_another_chain(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    fake_lock(live.fake);
    live.fake->chain_id = 1;
    fake_unlock(live.fake);
    get_fails(w, NOVAKMS_UNAVAILABLE, "the chain id is 1, must be 84532");
    assert_int_equal(w->servers[0].accept_count + w->servers[1].accept_count, 0);
    get_fails(w, NOVAKMS_UNAVAILABLE, "the chain id is 1"); /* Not asked again at once. */
    assert_int_equal(read_count(), 1);
    close_chain_world(w);
}

static void test_another_app(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    struct novakms_cfg cfg = chain_cfg();
    cfg.kms_app_id = 50;
    w->is_closed = false;
    novakms_close_notify(&w->client, w, on_client_closed);
    RUN_UNTIL(w, w->is_closed);
    open_with(w, cfg);
    get_fails(w, NOVAKMS_UNAVAILABLE, "the registry cannot be read: chain RPC");
    w->is_closed = false;
    close_chain_world(w);
}

/* ---- Calls that wait ---- */

static void hang_chain(void) {
    fake_lock(live.fake);
    live.is_hung = true;
    fake_unlock(live.fake);
}

static void test_calls_end_while_the_chain_hangs(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    hang_chain();
    struct novakms_get_args args = { .key = novakms_text("key"), .timeout_ms = 20 };
    assert_true(novakms_get_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_DEADLINE_EXCEEDED);
    assert_non_null(strstr(r->text, "the registry was not read"));
    novakms_free(&r);
    args.timeout_ms = 0;
    uint64_t id = novakms_get_start(w->client, &args, w, keep);
    assert_true(id > 0);
    novakms_cancel(w->client, id);
    assert_null(w->result);
    r = wait_result(w);
    assert_result(r, NOVAKMS_CANCELLED);
    novakms_free(&r);
    close_chain_world(w); /* Does not wait for the chain. */
}

static void test_close_while_the_chain_hangs(void **state) {
    (void)state;
    struct world *w = open_chain_world();
    hang_chain();
    struct novakms_get_args args = { .key = novakms_text("key") };
    assert_true(novakms_get_start(w->client, &args, w, keep) > 0);
    RUN_UNTIL(w, script_request_count(live.fake->server) == 1 || w->result != NULL);
    novakms_close_notify(&w->client, w, on_client_closed);
    assert_non_null(w->result); /* Inside the close. */
    assert_result(w->result, NOVAKMS_CANCELLED);
    close_chain_world(w);
}

/* ---- A file ---- */

/* With two members at one address; the second lives there. */
static void write_registry(FILE *file, uint16_t port) {
    char first[WALLET_TEXT_BYTES];
    char second[WALLET_TEXT_BYTES];
    struct wallet wallets[] = { wallet_of(FIRST_SEED), wallet_of(FIRST_SEED + 1) };
    (void)fprintf(
        file,
        "{\"kms_app_id\":49,\"apps\":[{\"id\":49,\"status\":\"ACTIVE\"}],"
        "\"versions\":[{\"id\":1,\"appId\":49,\"status\":\"ENROLLED\"}],\"instances\":["
        "{\"id\":1,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"%s\","
        "\"zkVerified\":true,\"status\":\"ACTIVE\",\"instanceUrl\":\"https://127.0.0.1:%u\"},"
        "{\"id\":2,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"%s\","
        "\"zkVerified\":true,\"status\":\"ACTIVE\",\"instanceUrl\":\"https://127.0.0.1:%u/\"}]}",
        wallet_format(&wallets[0], first), port, wallet_format(&wallets[1], second), port);
}

static void test_finds_a_node_in_a_file(void **state) {
    (void)state;
    struct world *w = make_chain_world();
    char path[] = "/tmp/nova-registry-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    write_registry(file, w->servers[1].port);
    assert_int_equal(fclose(file), 0);
    struct novakms_cfg cfg = chain_cfg();
    cfg.rpc_url = NULL;
    cfg.registry_address = NULL;
    cfg.registry_path = path;
    open_with(w, cfg);
    get_works(w);
    assert_int_equal(w->servers[1].request_count, 1);
    assert_int_equal(client_servers_count(w->client, 0), 1);
    assert_int_equal(unlink(path), 0);
    uint64_t end_ms = clock_mono_ms() + RUN_MS_MAX;
    while (!w->client->members.has_failed) { /* The file is looked at every tenth of a second. */
        assert_true(clock_mono_ms() < end_ms);
        client_members_read(&w->client->members);
    }
    age_list(w, CLIENT_LIST_TTL_DEFAULT_MS + 1);
    get_fails(w, NOVAKMS_UNAVAILABLE, "the registry cannot be read: ");
    close_chain_world(w);
}

/* ---- Configuration ---- */

static struct cfg_row {
    const char *name;
    const char *words; /* Of the refusal; NULL: it opens. */
    struct novakms_cfg cfg;
} cfg_rows[] = {
    { "all", NULL, { .rpc_url = "http://a:1", .registry_address = REGISTRY, .kms_app_id = 49 } },
    { "no_address", "registry_address", { .rpc_url = "http://a:1", .kms_app_id = 49 } },
    { "no_app", "kms_app_id", { .rpc_url = "http://a:1", .registry_address = REGISTRY } },
    { "bad_address",
      "registry_address",
      { .rpc_url = "http://a:1", .registry_address = "0x12", .kms_app_id = 49 } },
    { "zero_address",
      "registry_address",
      { .rpc_url = "http://a:1",
        .registry_address = "0x0000000000000000000000000000000000000000",
        .kms_app_id = 49 } },
    { "bad_url",
      "http://host:port",
      { .rpc_url = "ftp://a:1", .registry_address = REGISTRY, .kms_app_id = 49 } },
    { "no_url", "rpc_url", { .servers = "a:1", .registry_address = REGISTRY } },
    { "two_registries",
      "one registry",
      { .rpc_url = "http://a:1",
        .registry_path = "f",
        .registry_address = REGISTRY,
        .kms_app_id = 49 } },
    { "ttl_max",
      NULL,
      { .rpc_url = "http://a:1",
        .registry_address = REGISTRY,
        .kms_app_id = 49,
        .registry_ttl_ms = CLIENT_LIST_TTL_MAX_MS } },
    { "ttl_over_max",
      "registry_ttl_ms",
      { .rpc_url = "http://a:1",
        .registry_address = REGISTRY,
        .kms_app_id = 49,
        .registry_ttl_ms = CLIENT_LIST_TTL_MAX_MS + 1 } },
};

static void test_cfg(void **state) {
    const struct cfg_row *row = *state;
    struct novakms *client = NULL;
    char error[NOVAKMS_TEXT_BYTES];
    enum novakms_code code = novakms_open(&row->cfg, &client, error);
    assert_int_equal(code, row->words == NULL ? NOVAKMS_OK : NOVAKMS_INVALID_ARGUMENT);
    if (row->words != NULL && strstr(error, row->words) == NULL) {
        fail_msg("%s", error);
    }
    novakms_close(&client);
}

int main(void) {
    struct CMUnitTest tests[32 + TEST_ROWS(cfg_rows)] = {
        cmocka_unit_test(test_finds_a_node),
        cmocka_unit_test(test_begins_anywhere),
        cmocka_unit_test(test_dead_node_is_passed_over),
        cmocka_unit_test(test_urls_that_are_none),
        cmocka_unit_test(test_bad_proxy),
        cmocka_unit_test(test_more_nodes_than_places),
        cmocka_unit_test(test_no_node),
        cmocka_unit_test(test_impostor_gets_nothing),
        cmocka_unit_test(test_named_server),
        cmocka_unit_test(test_node_with_a_new_wallet),
        cmocka_unit_test(test_stopped_node_is_not_called),
        cmocka_unit_test(test_node_leaves_under_a_call),
        cmocka_unit_test(test_list_is_read_beside_a_call),
        cmocka_unit_test(test_chain_is_down),
        cmocka_unit_test(test_chain_is_behind_once),
        cmocka_unit_test(test_another_chain),
        cmocka_unit_test(test_another_app),
        cmocka_unit_test(test_calls_end_while_the_chain_hangs),
        cmocka_unit_test(test_close_while_the_chain_hangs),
        cmocka_unit_test(test_finds_a_node_in_a_file),
    };
    size_t count = 20;
    TEST_ADD_ROWS(tests, count, test_cfg, cfg_rows);
    return _cmocka_run_group_tests("client_chain", tests, count, NULL, NULL);
}
