/* SPDX-License-Identifier: Apache-2.0 */
/* What libnovakms does when calls fail: which it repeats, where, what it says; stamps; trust. */
#include <pthread.h>

#include "client/client.h"
#include "client_world.h"

/* ---- What is repeated ---- */

static void drop_first(const struct scripted_request *r) {
    net_conn_close(r->conn, OK, NULL);
}

static void drop_then_answer_get(const struct scripted_request *r) {
    static const struct scripted_request *first;
    if (first == NULL || first == r) {
        first = r;
        net_conn_close(r->conn, OK, NULL);
    } else {
        first = NULL;
        answer_value(r);
    }
}

static void test_read_is_repeated_after_a_loss(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = drop_then_answer_get;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(w->servers[0].request_count, 2);
    novakms_free(&r);
    close_world(w);
}

static void test_write_is_not_repeated_after_a_loss(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = drop_first;
    assert_true(put(w) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_UNAVAILABLE);
    assert_true(r->maybe_executed);
    assert_int_equal(w->servers[0].request_count, 1);
    assert_int_equal(w->servers[1].accept_count, 0);
    novakms_free(&r);
    close_world(w);
}

static void left_service(const struct scripted_request *r) {
    scripted_fail(r, STATUS_UNKNOWN, "the node is out of service", NULL);
}

/* The node says that it made the write. */
static void test_write_is_not_repeated_after_unknown(void **state) {
    (void)state;
    struct world *w = open_world(2);
    w->answer = left_service;
    assert_true(put(w) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_UNKNOWN);
    assert_true(r->maybe_executed);
    assert_int_equal(w->servers[1].accept_count, 0);
    novakms_free(&r);
    r = get_key(w);
    assert_result(r, NOVAKMS_UNKNOWN);
    assert_false(r->maybe_executed);
    novakms_free(&r);
    close_world(w);
}

static void test_tries_are_bounded(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = drop_first;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_UNAVAILABLE);
    assert_false(r->maybe_executed); /* A read: there is nothing to look after. */
    assert_int_equal(w->servers[0].request_count, 4);
    novakms_free(&r);
    close_world(w);
}

static void goaway_then_answer_put(const struct scripted_request *r) {
    struct world *w = net_io_loop(net_conn_io(r->conn))->data;
    if (w->servers[0].request_count == 1) {
        scripted_goaway(r->conn, r->call_id - 1, STATUS_OK, "");
    } else {
        answer_stored(r);
    }
}

static void test_write_is_repeated_after_a_goaway(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = goaway_then_answer_put;
    assert_true(put(w) > 0);
    struct novakms_result *r = wait_ok(w);
    assert_int_equal(w->servers[0].request_count, 2);
    assert_int_equal(w->servers[0].open_count, 2);
    novakms_free(&r);
    close_world(w);
}

/* ---- Trust ---- */

static void open_with_wallets(struct world *w, const char *wallets) {
    uint8_t key[NOVAKMS_KEY_BYTES];
    memset(key, CLIENT_SEED, sizeof(key));
    open_client(w, (struct novakms_cfg){ .identity_key = key, .server_wallets = wallets });
}

static void test_untrusted_server_gets_nothing(void **state) {
    (void)state;
    struct world *w = make_world(1);
    open_with_wallets(w, "0x1111111111111111111111111111111111111111");
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_UNAUTHENTICATED);
    assert_int_equal(w->servers[0].open_count, 0);
    assert_int_equal(w->servers[0].read_count, 0);
    assert_int_equal(w->servers[0].accept_count, 1); /* No second try at the same server. */
    novakms_free(&r);
    close_world(w);
}

static void test_next_server_when_untrusted(void **state) {
    (void)state;
    struct world *w = make_world(2);
    char text[WALLET_TEXT_BYTES];
    struct wallet second = wallet_of(FIRST_SEED + 1);
    open_with_wallets(w, wallet_format(&second, text));
    w->answer = answer_value;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(w->servers[0].read_count, 0);
    assert_int_equal(w->servers[1].request_count, 1);
    novakms_free(&r);
    r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    assert_int_equal(w->servers[0].accept_count, 1); /* The one that answered comes first now. */
    novakms_free(&r);
    close_world(w);
}

static void refuse_wallet(struct scripted_server *s, struct net_conn *conn) {
    (void)s;
    scripted_goaway(conn, 0, STATUS_PERMISSION_DENIED, "wallet is not registered");
    net_conn_finish(conn);
}

static void test_refused_caller(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->servers[0].on_open = refuse_wallet;
    assert_true(put(w) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_PERMISSION_DENIED);
    assert_string_equal(r->text, "wallet is not registered");
    assert_false(r->maybe_executed);
    novakms_free(&r);
    close_world(w);
}

static void test_no_identity(void **state) {
    (void)state;
    struct world *w = open_world_anonymous();
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_UNAUTHENTICATED);
    assert_int_equal(w->servers[0].accept_count, 0);
    novakms_free(&r);
    uint8_t signature[NOVAKMS_SIGNATURE_BYTES];
    assert_int_equal(novakms_sign(w->client, novakms_text("hi"), signature, NULL),
                     NOVAKMS_FAILED_PRECONDITION);
    close_world(w);
}

/* ---- Ends ---- */

static void test_deadline_and_cancel(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_put_args args = { .key = novakms_text("k"), .timeout_ms = 20 };
    assert_true(novakms_put_start(w->client, &args, w, keep) > 0);
    struct novakms_result *r = wait_result(w);
    assert_result(r, NOVAKMS_DEADLINE_EXCEEDED);
    novakms_free(&r);
    uint64_t id = start_get(w);
    size_t before = w->servers[0].request_count;
    RUN_UNTIL(w, w->servers[0].request_count > before);
    novakms_cancel(w->client, id);
    assert_null(w->result);
    novakms_cancel(w->client, 999);
    r = wait_result(w);
    assert_result(r, NOVAKMS_CANCELLED);
    novakms_cancel(w->client, id);
    novakms_free(&r);
    close_world(w);
}

static void test_close_with_a_call(void **state) {
    (void)state;
    struct world *w = open_world(1);
    assert_true(put(w) > 0);
    RUN_UNTIL(w, w->servers[0].request_count == 1);
    novakms_close_notify(&w->client, w, on_client_closed);
    struct novakms_result *r = w->result;
    assert_non_null(r); /* Inside the close. */
    w->result = NULL;
    assert_result(r, NOVAKMS_CANCELLED);
    assert_true(r->maybe_executed);
    novakms_free(&r);
    close_world(w);
}

static void test_close_with_a_ready_result(void **state) {
    (void)state;
    struct world *w = open_world_anonymous();
    assert_true(start_get(w) > 0);
    novakms_close_notify(&w->client, w, on_client_closed);
    struct novakms_result *r = w->result;
    assert_non_null(r);
    w->result = NULL;
    assert_result(r, NOVAKMS_UNAUTHENTICATED);
    novakms_free(&r);
    close_world(w);
}

static void test_waiting_on_the_programs_loop(void **state) {
    (void)state;
    struct world *w = open_world(1);
    struct novakms_get_args args = { .key = novakms_text("k") };
    struct novakms_result *r = NULL;
    assert_int_equal(novakms_get(w->client, &args, &r), NOVAKMS_FAILED_PRECONDITION);
    assert_result(r, NOVAKMS_FAILED_PRECONDITION);
    novakms_free(&r);
    assert_int_equal(novakms_poll(w->client, 1000), 0); /* Does not run it. */
    close_world(w);
}

/* ---- The credential ---- */

/* One that ends soon is replaced before the next call, which goes to a new connection. */
static void test_credential_is_renewed(void **state) {
    (void)state;
    struct world *w = open_world(1);
    w->answer = answer_value;
    struct novakms_result *r = get_key(w);
    novakms_free(&r);
    struct identity_credential *old = w->client->credential;
    w->client->credential = test_credential(CLIENT_SEED, TEST_CHAIN_ID, -1); /* For an hour. */
    r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    novakms_free(&r);
    assert_int_equal(w->servers[0].open_count, 2);
    assert_true(identity_credential_not_after_unix_s(w->client->credential) >
                clock_unix_ms() / 1000 + CLIENT_CREDENTIAL_LEFT_S);
    identity_credential_close(&old);
    r = get_key(w);
    assert_int_equal(w->servers[0].open_count, 2); /* The new one stays. */
    novakms_free(&r);
    close_world(w);
}

static int sign_with_keyfile(void *data, struct novakms_span text,
                             uint8_t signature[NOVAKMS_SIGNATURE_BYTES]) {
    struct identity_keyfile *keyfile = data;
    struct identity_signer signer = identity_keyfile_signer(keyfile);
    struct eth_signature out;
    assert_memory_equal(text.ptr, NOVAKMS_SIGN_PREFIX, strlen(NOVAKMS_SIGN_PREFIX));
    assert_ok(signer.sign_text(signer.ctx, (struct span){ text.ptr, text.len }, &out));
    memcpy(signature, out.bytes, sizeof(out.bytes));
    return 0;
}

/* Signs once. */
struct tired_signer {
    struct identity_keyfile keyfile;
    size_t count;
};

static int sign_once(void *data, struct novakms_span text,
                     uint8_t signature[NOVAKMS_SIGNATURE_BYTES]) {
    struct tired_signer *signer = data;
    signer->count++;
    return signer->count == 1 ? sign_with_keyfile(&signer->keyfile, text, signature) : -1;
}

/* A signer out of reach fails no call while the credential at hand holds. */
static void test_renewal_that_fails(void **state) {
    (void)state;
    struct world *w = make_world(1);
    uint8_t key[NOVAKMS_KEY_BYTES];
    memset(key, CLIENT_SEED, sizeof(key));
    struct tired_signer signer = { .count = 0 };
    assert_ok(identity_keyfile_from_key(&signer.keyfile, key));
    struct novakms_cfg cfg = { .sign_cb = sign_once,
                               .sign_data = &signer,
                               .sign_wallet = signer.keyfile.wallet.bytes };
    open_client(w, cfg);
    w->answer = answer_value;
    identity_credential_close(&w->client->credential);
    w->client->credential = test_credential(CLIENT_SEED, TEST_CHAIN_ID, -1); /* For an hour. */
    for (size_t i = 0; i < 2; i++) {
        struct novakms_result *r = get_key(w);
        assert_result(r, NOVAKMS_OK);
        novakms_free(&r);
        assert_int_equal(signer.count, 2); /* Not asked again at once. */
    }
    identity_credential_close(&w->client->credential);
    w->client->credential =
        test_credential(CLIENT_SEED, TEST_CHAIN_ID, -2 * (int64_t)TEST_LIFETIME_S);
    w->client->refresh_at_ms = 0;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_UNAUTHENTICATED);
    novakms_free(&r);
    identity_keyfile_close(&signer.keyfile);
    close_world(w);
}

static void test_signer_callback(void **state) {
    (void)state;
    struct world *w = make_world(1);
    uint8_t key[NOVAKMS_KEY_BYTES];
    memset(key, CLIENT_SEED, sizeof(key));
    struct identity_keyfile keyfile = { 0 };
    assert_ok(identity_keyfile_from_key(&keyfile, key));
    struct novakms_cfg cfg = { .sign_cb = sign_with_keyfile,
                               .sign_data = &keyfile,
                               .sign_wallet = keyfile.wallet.bytes };
    open_client(w, cfg);
    w->answer = answer_value;
    struct novakms_result *r = get_key(w);
    assert_result(r, NOVAKMS_OK);
    const struct identity_peer *peer = tls_peer(net_conn_tls(w->servers[0].conns[0]));
    assert_non_null(peer);
    assert_true(wallet_equal(&peer->wallet, &keyfile.wallet));
    novakms_free(&r);
    identity_keyfile_close(&keyfile);
    close_world(w);
}

static void test_sign(void **state) {
    (void)state;
    struct world *w = open_world(1);
    uint8_t signature[NOVAKMS_SIGNATURE_BYTES] = { 0 };
    char error[NOVAKMS_TEXT_BYTES];
    assert_int_equal(novakms_sign(w->client, novakms_text("hello"), signature, error), NOVAKMS_OK);
    assert_string_equal(error, "");
    struct eth_signature given;
    struct wallet wallet;
    memcpy(given.bytes, signature, sizeof(signature));
    assert_ok(eth_recover_message(SPAN_LIT("hello"), &given, &wallet));
    struct wallet own = wallet_of(CLIENT_SEED);
    assert_true(wallet_equal(&wallet, &own));
    assert_int_equal(novakms_sign(w->client, novakms_text(""), signature, error),
                     NOVAKMS_INVALID_ARGUMENT);
    assert_int_equal(novakms_sign(w->client, novakms_text("NovaKMS:TLS:v1:1"), signature, error),
                     NOVAKMS_INVALID_ARGUMENT);
    assert_non_null(strstr(error, "NovaKMS:"));
    assert_int_equal(novakms_sign(w->client, novakms_text("NovaKMS"), signature, error),
                     NOVAKMS_OK);
    close_world(w);
}

/* ---- A program without a loop ---- */

struct background {
    struct scripted_server server;
    uv_loop_t loop;
    uv_async_t stop;
    pthread_t thread;
};

static void on_stop(uv_async_t *stop) {
    uv_close((uv_handle_t *)stop, NULL);
    uv_stop(stop->loop);
}

static void *serve(void *arg) {
    struct background *b = arg;
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void test_blocking_program(void **state) {
    (void)state;
    struct background *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    assert_int_equal(uv_loop_init(&b->loop), 0);
    scripted_start(&b->server, &b->loop, FIRST_SEED);
    assert_int_equal(uv_async_init(&b->loop, &b->stop, on_stop), 0);
    assert_int_equal(pthread_create(&b->thread, NULL, serve, b), 0);
    uint8_t key[NOVAKMS_KEY_BYTES];
    char servers[64];
    char wallet_text[WALLET_TEXT_BYTES];
    struct wallet wallet = wallet_of(FIRST_SEED);
    memset(key, CLIENT_SEED, sizeof(key));
    (void)snprintf(servers, sizeof(servers), "127.0.0.1:%u", b->server.port);
    struct novakms_cfg cfg = { .servers = servers,
                               .server_wallets = wallet_format(&wallet, wallet_text),
                               .identity_key = key,
                               .chain_id = TEST_CHAIN_ID };
    struct novakms *client = NULL;
    assert_int_equal(novakms_open(&cfg, &client, NULL), NOVAKMS_OK);
    struct novakms_get_args args = { .key = novakms_text("echo") };
    struct novakms_result *r = NULL;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(novakms_get(client, &args, &r), NOVAKMS_OK);
        assert_span(r->bytes, "echo");
        novakms_free(&r);
    }
    struct world *w = calloc(1, sizeof(*w)); /* Only what keep() needs of it. */
    assert_non_null(w);
    w->client = client;
    assert_true(start_get(w) > 0);
    while (novakms_poll(client, 1000) > 0) {
    }
    assert_non_null(w->result);
    assert_result(w->result, NOVAKMS_OK);
    novakms_free(&w->result);
    free(w);
    assert_int_equal(novakms_poll(client, 0), 0);
    novakms_close(&client);
    assert_null(client);
    assert_int_equal(uv_async_send(&b->stop), 0);
    assert_int_equal(pthread_join(b->thread, NULL), 0);
    assert_int_equal(b->server.open_count, 1);
    scripted_close(&b->server);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    free(b);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_is_repeated_after_a_loss),
        cmocka_unit_test(test_write_is_not_repeated_after_a_loss),
        cmocka_unit_test(test_write_is_not_repeated_after_unknown),
        cmocka_unit_test(test_tries_are_bounded),
        cmocka_unit_test(test_write_is_repeated_after_a_goaway),
        cmocka_unit_test(test_untrusted_server_gets_nothing),
        cmocka_unit_test(test_next_server_when_untrusted),
        cmocka_unit_test(test_refused_caller),
        cmocka_unit_test(test_no_identity),
        cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_close_with_a_call),
        cmocka_unit_test(test_close_with_a_ready_result),
        cmocka_unit_test(test_waiting_on_the_programs_loop),
        cmocka_unit_test(test_credential_is_renewed),
        cmocka_unit_test(test_signer_callback),
        cmocka_unit_test(test_renewal_that_fails),
        cmocka_unit_test(test_sign),
        cmocka_unit_test(test_blocking_program),
    };
    return cmocka_run_group_tests_name("client_retry", tests, NULL, NULL);
}
