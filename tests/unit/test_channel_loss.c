/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of a channel: made, refused, lost, drained, broken. */
#include "channel_world.h"
#include "net/channel_impl.h"

/* ---- Connecting ---- */

static void test_refused_connection(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    scripted_stop_listening(&w->server);
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    assert_non_null(strstr(a.outcome.status.text, "refused"));
    get_and_wait(w, &a, "k"); /* After the backoff, again. */
    assert_failed(&a, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    close_world(w);
}

static void test_unknown_host(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .target = "no-such-host.invalid:1" });
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    close_world(w);
}

/* 127.1 is no address to inet_pton, so it is looked up; and the lookup needs neither a server nor
 * an /etc/hosts, which a bare Debian root does not have. */
static void test_host_name(void **state) {
    (void)state;
    struct world *w = make_world();
    char target[NET_TARGET_BYTES];
    (void)snprintf(target, sizeof(target), "127.1:%u", w->server.port);
    open_channel(w, (struct net_channel_cfg){ .target = target });
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_answered(&a, "k");
    close_world(w);
}

static void test_close_while_looking_up(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .target = "localhost:1" });
    struct answer a;
    start_get(w, &a, "k");
    w->in_closure = NULL;
    struct net_channel *channel = w->channel; /* on_get still looks at w->channel. */
    net_channel_close(&channel, w, channel_gone);
    assert_failed(&a, STATUS_CANCELLED, NET_NOT_EXECUTED);
    w->channel = NULL;
    close_world(w);
}

static void test_hangs_up(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.hangs_up = true;
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    w->server.hangs_up = false;
    get_and_wait(w, &a, "k");
    assert_answered(&a, "k");
    close_world(w);
}

static void test_handshake_timeout(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .handshake_timeout_ms = 20 });
    w->server.is_mute = true;
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    close_world(w);
}

static void test_deadline_before_connected(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .timeout_ms = 20 });
    w->server.is_mute = true;
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_DEADLINE_EXCEEDED, NET_NOT_EXECUTED);
    close_world(w);
}

/* The server is refused before it gets anything: no finished handshake there, no frame. */
static void test_wrong_server(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->is_refusing = true;
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAUTHENTICATED, NET_NOT_EXECUTED);
    assert_true(a.outcome.is_refusal);
    assert_non_null(strstr(a.outcome.status.text, "not a member"));
    assert_int_equal(w->check_count, 1);
    RUN_UNTIL(w, w->server.closed_count == 1);
    assert_int_equal(w->server.open_count, 0);
    assert_int_equal(w->server.read_count, 0);
    w->is_refusing = false;
    get_and_wait(w, &a, "k");
    assert_answered(&a, "k");
    close_world(w);
}

/* A server with a binding for another chain does not even reach the check. */
static void test_wrong_chain(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct identity_credential *credential = test_credential(SERVER_SEED, TEST_CHAIN_ID + 1, -1);
    tls_config_close(&w->server.tls);
    w->server.tls = test_server_config(credential);
    identity_credential_close(&credential);
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAUTHENTICATED, NET_NOT_EXECUTED);
    assert_int_equal(w->check_count, 0);
    RUN_UNTIL(w, w->server.closed_count == 1);
    assert_int_equal(w->server.open_count, 0);
    close_world(w);
}

/* ---- Losing a connection ---- */

static void test_lost_in_flight(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    scripted_drop(&w->server);
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED);
    w->server.is_echoing = true;
    get_and_wait(w, &a, "again");
    assert_answered(&a, "again");
    assert_int_equal(w->server.open_count, 2);
    close_world(w);
}

static void test_orderly_goaway(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer kept;
    struct answer above;
    start_get(w, &kept, "kept");
    start_get(w, &above, "above");
    RUN_UNTIL(w, w->server.request_count == 2);
    scripted_goaway(w->server.conns[0], w->server.requests[0].call_id, STATUS_OK, "");
    RUN_UNTIL(w, above.count > 0);
    assert_failed(&above, STATUS_UNAVAILABLE, NET_NOT_EXECUTED);
    assert_false(above.outcome.is_refusal);
    assert_int_equal(kept.count, 0);
    w->server.is_echoing = true;
    struct answer later;
    get_and_wait(w, &later, "later"); /* On a connection of its own. */
    assert_answered(&later, "later");
    assert_int_equal(w->server.open_count, 2);
    scripted_answer(&w->server.requests[0], SPAN_LIT("kept"));
    RUN_UNTIL(w, kept.count > 0);
    assert_answered(&kept, "kept");
    RUN_UNTIL(w, w->server.closed_count == 1); /* The drained one. */
    close_world(w);
}

static void refuse_wallet(struct scripted_server *s, struct net_conn *conn) {
    (void)s;
    scripted_goaway(conn, 0, STATUS_PERMISSION_DENIED, "wallet is not registered");
    net_conn_finish(conn);
}

static void test_refusing_goaway(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.on_open = refuse_wallet;
    struct answer a;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_PERMISSION_DENIED, NET_NOT_EXECUTED);
    assert_true(a.outcome.is_refusal);
    assert_string_equal(a.outcome.status.text, "wallet is not registered");
    assert_int_equal(w->server.request_count, 0);
    w->server.on_open = NULL;
    get_and_wait(w, &a, "k");
    assert_answered(&a, "k");
    close_world(w);
}

/* A goaway about our frames is not about the caller's arguments. */
static void test_goaway_for_a_frame(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    scripted_goaway(w->server.conns[0], 0, STATUS_INVALID_ARGUMENT, "malformed frame");
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_INTERNAL, NET_NOT_EXECUTED);
    close_world(w);
}

static void test_connections_that_drain(void **state) {
    (void)state;
    enum { COUNT = NET_CHANNEL_DRAINING_MAX + 2 };
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer answers[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        start_get(w, &answers[i], "k");
        RUN_UNTIL(w, w->server.request_count == i + 1);
        scripted_goaway(w->server.conns[i], UINT64_MAX, STATUS_OK, "");
        RUN_UNTIL(w, !net_channel_is_connected(w->channel));
    }
    RUN_UNTIL(w, answers[0].count > 0); /* The oldest makes room. */
    assert_failed(&answers[0], STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED);
    for (size_t i = 2; i < COUNT; i++) {
        scripted_answer(&w->server.requests[i], SPAN_LIT("v"));
    }
    RUN_UNTIL(w, answers[COUNT - 1].count > 0);
    assert_answered(&answers[COUNT - 1], "v");
    close_world(w);
}

/* ---- A server that breaks the protocol ---- */

struct breach {
    const char *name;
    void (*send)(struct net_conn *conn);
};

static void send_garbage(struct net_conn *conn) {
    net_conn_write(conn, SPAN_LIT("\xff\xff\xff\xff\xff\xff"));
}

static void send_request(struct net_conn *conn) {
    novakms_v1_FrameHeader header;
    frame_set_request(&header, 1, SPAN_LIT("novakms.v1.KmsService/Get"), 0);
    scripted_send(conn, &header, SPAN_EMPTY);
}

static void send_cancel(struct net_conn *conn) {
    novakms_v1_FrameHeader header;
    frame_set_cancel(&header, 1);
    scripted_send(conn, &header, SPAN_EMPTY);
}

static void send_half_and_end(struct net_conn *conn) {
    net_conn_write(conn, SPAN_LIT("\0\0\0\x10\0"));
    net_conn_finish(conn);
}

static struct breach breaches[] = {
    { "garbage_closes", send_garbage },
    { "request_from_server_closes", send_request },
    { "cancel_from_server_closes", send_cancel },
    { "half_a_frame_then_end", send_half_and_end },
};

static void test_breach(void **state) {
    const struct breach *breach = *state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    breach->send(w->server.conns[0]);
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_UNAVAILABLE, NET_MAYBE_EXECUTED);
    w->server.is_echoing = true;
    get_and_wait(w, &a, "again");
    assert_answered(&a, "again");
    close_world(w);
}

static void test_unknown_call_is_ignored(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct answer a;
    get_and_wait(w, &a, "k");
    struct scripted_request other = w->server.requests[0];
    other.call_id += 256000; /* The same slot, another sequence. */
    scripted_answer(&w->server.requests[0], SPAN_LIT("twice"));
    scripted_answer(&other, SPAN_LIT("never asked"));
    get_and_wait(w, &a, "k2");
    assert_answered(&a, "k2");
    assert_int_equal(w->server.open_count, 1);
    close_world(w);
}

static void test_answer_that_does_not_parse(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    novakms_v1_FrameHeader header;
    struct status ok = { .code = STATUS_OK };
    frame_set_response(&header, w->server.requests[0].call_id, &ok);
    scripted_send(w->server.conns[0], &header, SPAN_LIT("\x0a\x7f"));
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_INTERNAL, NET_MAYBE_EXECUTED);
    close_world(w);
}

/* An answer whose messages need more memory than is allowed. */
static void test_answer_over_memory(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .message_bytes_max = 128 });
    w->server.is_echoing = false;
    struct answer a;
    start_get(w, &a, "k");
    RUN_UNTIL(w, w->server.request_count == 1);
    uint8_t big[256] = { 0 };
    scripted_answer(&w->server.requests[0], (struct span){ big, sizeof(big) });
    RUN_UNTIL(w, a.count > 0);
    assert_failed(&a, STATUS_INTERNAL, NET_MAYBE_EXECUTED);
    close_world(w);
}

/* ---- A new credential ---- */

static void test_new_credential(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer before;
    start_get(w, &before, "before");
    RUN_UNTIL(w, w->server.request_count == 1);
    struct identity_credential *credential = test_credential(0x33, TEST_CHAIN_ID, -1);
    struct tls_config *tls = test_client_config(credential, TLS_ALPN_NOVAKMS);
    net_channel_set_tls(w->channel, tls);
    w->server.is_echoing = true;
    struct answer after;
    get_and_wait(w, &after, "after");
    assert_answered(&after, "after");
    assert_int_equal(w->server.open_count, 2);
    const struct identity_peer *peer = tls_peer(net_conn_tls(w->server.conns[1]));
    assert_non_null(peer);
    assert_true(wallet_equal(&peer->wallet, identity_credential_wallet(credential)));
    scripted_answer(&w->server.requests[0], SPAN_LIT("before"));
    RUN_UNTIL(w, before.count > 0);
    assert_answered(&before, "before");
    identity_credential_close(&credential);
    tls_config_close(&tls);
    close_world(w);
}

/* ---- A server that is not wanted any more ---- */

static void test_binding_that_ended(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    w->server.is_echoing = false;
    struct answer before;
    start_get(w, &before, "before");
    RUN_UNTIL(w, w->server.request_count == 1);
    assert_true(w->channel->current->ends_at_ms > clock_mono_ms());
    w->channel->current->ends_at_ms = 1;
    w->server.is_echoing = true;
    struct answer after;
    get_and_wait(w, &after, "after");
    assert_answered(&after, "after");
    assert_int_equal(w->server.open_count, 2);
    scripted_answer(&w->server.requests[0], SPAN_LIT("before")); /* It drains. */
    RUN_UNTIL(w, before.count > 0);
    assert_answered(&before, "before");
    close_world(w);
}

static void test_server_that_was_revoked(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ .recheck_ms = 60000 });
    struct answer a;
    get_and_wait(w, &a, "k");
    get_and_wait(w, &a, "k");
    assert_int_equal(w->check_count, 1); /* Not yet again. */
    w->is_refusing = true;
    w->channel->current->checked_at_ms -= 60000;
    get_and_wait(w, &a, "k");
    assert_failed(&a, STATUS_UNAUTHENTICATED, NET_NOT_EXECUTED);
    assert_int_equal(w->server.request_count, 2);
    assert_int_equal(w->check_count, 3); /* On the old connection, and for a new one. */
    close_world(w);
}

int main(void) {
    struct CMUnitTest tests[64] = {
        cmocka_unit_test(test_refused_connection),
        cmocka_unit_test(test_unknown_host),
        cmocka_unit_test(test_host_name),
        cmocka_unit_test(test_close_while_looking_up),
        cmocka_unit_test(test_hangs_up),
        cmocka_unit_test(test_handshake_timeout),
        cmocka_unit_test(test_deadline_before_connected),
        cmocka_unit_test(test_wrong_server),
        cmocka_unit_test(test_wrong_chain),
        cmocka_unit_test(test_lost_in_flight),
        cmocka_unit_test(test_orderly_goaway),
        cmocka_unit_test(test_refusing_goaway),
        cmocka_unit_test(test_goaway_for_a_frame),
        cmocka_unit_test(test_connections_that_drain),
        cmocka_unit_test(test_unknown_call_is_ignored),
        cmocka_unit_test(test_answer_that_does_not_parse),
        cmocka_unit_test(test_answer_over_memory),
        cmocka_unit_test(test_new_credential),
        cmocka_unit_test(test_binding_that_ended),
        cmocka_unit_test(test_server_that_was_revoked),
    };
    size_t count = 20;
    TEST_ADD_ROWS(tests, count, test_breach, breaches);
    return _cmocka_run_group_tests("channel_loss", tests, count, NULL, NULL);
}
