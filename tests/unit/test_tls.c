/* SPDX-License-Identifier: Apache-2.0 */
/* TLS in memory: two engines and the bytes between them. */
#include <mbedtls/version.h>

#include "test_peers.h"

#define PIPE_BYTES 65536

/* Bytes on their way to one side. */
struct pipe {
    uint8_t bytes[PIPE_BYTES];
    size_t len;
    size_t total; /* Ever sent. */
};

struct side {
    struct tls *tls;
    struct pipe in;
    struct rc rc;
};

struct pair {
    struct side client;
    struct side server;
};

static struct pair the_pair; /* 128 KiB. */

static void move_out(const struct tls_io *io, struct pipe *to) {
    assert_true(io->out.len <= PIPE_BYTES - to->len);
    memcpy(to->bytes + to->len, io->out.ptr, io->out.len);
    to->len += io->out.len;
    to->total += io->out.len;
}

static void consume(struct pipe *pipe, const struct tls_io *io) {
    memmove(pipe->bytes, io->in.ptr, io->in.len);
    pipe->len = io->in.len;
}

/* One step of a side's handshake, with at most `chunk` bytes of input. */
static void step(struct side *side, struct pipe *to, size_t chunk) {
    uint8_t *out = malloc(PIPE_BYTES);
    assert_non_null(out);
    size_t len = side->in.len < chunk ? side->in.len : chunk;
    uint8_t *in = test_dup(side->in.bytes, len);
    struct tls_io io = { .in = { in, len }, .out = { out, 0, PIPE_BYTES } };
    side->rc = tls_handshake(side->tls, &io);
    move_out(&io, to);
    size_t taken = len - io.in.len;
    memmove(side->in.bytes, side->in.bytes + taken, side->in.len - taken);
    side->in.len -= taken;
    free(in);
    free(out);
}

static bool is_done(const struct side *side) {
    return side->rc.err != E_AGAIN;
}

static void shake(struct pair *p, size_t chunk) {
    p->client.rc = ERR(AGAIN);
    p->server.rc = ERR(AGAIN);
    for (size_t i = 0; i < 20000; i++) {
        if (!is_done(&p->client)) {
            step(&p->client, &p->server.in, chunk);
        }
        if (!is_done(&p->server)) {
            step(&p->server, &p->client.in, chunk);
        }
        bool is_stuck = p->client.in.len == 0 && p->server.in.len == 0;
        if ((is_done(&p->client) && is_done(&p->server)) ||
            (is_stuck && (is_done(&p->client) || is_done(&p->server)))) {
            return;
        }
    }
    fail_msg("the handshake does not end");
}

struct how {
    struct identity_credential *client; /* Taken; NULL: anonymous. */
    struct identity_credential *server; /* Taken. */
    const char *alpn;
    tls_check_cb check;
    void *ctx;
};

static void open_pair(struct pair *p, struct how how) {
    memset(p, 0, sizeof(*p));
    struct tls_config *server = test_server_config(how.server);
    struct tls_config *client = test_client_config(how.client, how.alpn);
    assert_ok(tls_server_init(&p->server.tls, server));
    assert_ok(tls_client_init(&p->client.tls, client, "localhost",
                              how.check != NULL ? how.check : test_accept_any, how.ctx));
    identity_credential_close(&how.server);
    identity_credential_close(&how.client);
    tls_config_close(&server); /* The sessions hold it. */
    tls_config_close(&client);
}

static void close_pair(struct pair *p) {
    tls_close(&p->client.tls);
    tls_close(&p->server.tls);
    tls_close(&p->server.tls); /* Twice is allowed. */
}

static struct identity_credential *good(uint8_t seed) {
    return test_credential(seed, TEST_CHAIN_ID, -1);
}

static struct wallet wallet_of(uint8_t seed) {
    struct identity_credential *credential = good(seed);
    struct wallet wallet = *identity_credential_wallet(credential);
    identity_credential_close(&credential);
    return wallet;
}

static void send_text(struct side *from, struct pipe *to, struct span text) {
    uint8_t *out = malloc(PIPE_BYTES);
    assert_non_null(out);
    struct tls_io io = { .out = { out, 0, PIPE_BYTES } };
    size_t len = 0;
    assert_ok(tls_write(from->tls, &io, text, &len));
    assert_int_equal(len, text.len);
    move_out(&io, to);
    free(out);
}

/* Decrypts all that is there. */
static size_t take_text(struct side *side, uint8_t *text, size_t bytes, struct rc *rc) {
    uint8_t out[1024];
    struct tls_io io = { .in = { side->in.bytes, side->in.len }, .out = { out, 0, sizeof(out) } };
    size_t len = 0;
    *rc = OK;
    while (rc->err == E_OK && len < bytes) {
        size_t n = 0;
        *rc = tls_read(side->tls, &io, text + len, bytes - len, &n);
        len += n;
    }
    consume(&side->in, &io);
    return len;
}

static void test_mutual(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
    assert_null(tls_peer(p->server.tls));
    assert_false(tls_is_up(p->server.tls));
    shake(p, SIZE_MAX);
    assert_ok(p->client.rc);
    assert_ok(p->server.rc);
    struct wallet client = wallet_of(1);
    struct wallet server = wallet_of(2);
    assert_true(wallet_equal(&tls_peer(p->server.tls)->wallet, &client));
    assert_true(wallet_equal(&tls_peer(p->client.tls)->wallet, &server));
    assert_string_equal(tls_alpn(p->server.tls), TLS_ALPN_NOVAKMS);
    assert_string_equal(tls_alpn(p->client.tls), TLS_ALPN_NOVAKMS);
#if MBEDTLS_VERSION_MAJOR >= 3
    assert_int_equal(tls_version(p->server.tls), 13);
#else
    assert_int_equal(tls_version(p->server.tls), 12);
#endif
    send_text(&p->client, &p->server.in, SPAN_LIT("question"));
    send_text(&p->client, &p->server.in, SPAN_LIT("s"));
    uint8_t text[64];
    struct rc rc = OK;
    size_t len = take_text(&p->server, text, sizeof(text), &rc);
    assert_err_equal(rc, E_AGAIN);
    assert_true(span_equal((struct span){ text, len }, SPAN_LIT("questions")));
    send_text(&p->server, &p->client.in, SPAN_LIT("answer"));
    len = take_text(&p->client, text, sizeof(text), &rc);
    assert_true(span_equal((struct span){ text, len }, SPAN_LIT("answer")));
    close_pair(p);
}

static void test_byte_by_byte(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
    shake(p, 1);
    assert_ok(p->client.rc);
    assert_ok(p->server.rc);
    close_pair(p);
}

static void test_anonymous(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ NULL, good(2), TLS_ALPN_HTTP, NULL, NULL });
    shake(p, SIZE_MAX);
    assert_ok(p->client.rc);
    assert_ok(p->server.rc);
    assert_null(tls_peer(p->server.tls));
    assert_false(tls_peer_has_certificate(p->server.tls));
    assert_int_equal(tls_peer_why(p->server.tls)->code, STATUS_OK);
    assert_string_equal(tls_alpn(p->server.tls), TLS_ALPN_HTTP);
    close_pair(p);
}

static void test_wrong_alpn(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), "h2", NULL, NULL });
    shake(p, SIZE_MAX);
    assert_int_not_equal(p->server.rc.err, E_OK);
    assert_int_not_equal(p->client.rc.err, E_OK);
    assert_true(strlen(tls_why(p->server.tls)) > 0);
    close_pair(p);
}

/* A client whose binding is bad still completes: the server says why at the frame layer. */
static void test_bad_client(void **state) {
    (void)state;
    const struct {
        uint64_t chain_id;
        int64_t begins_in_s;
    } rows[] = { { 1, -1 },
                 { TEST_CHAIN_ID, -(int64_t)TEST_LIFETIME_S - 60 },
                 { TEST_CHAIN_ID, 60 } };
    for (size_t i = 0; i < TEST_ROWS(rows); i++) {
        struct pair *p = &the_pair;
        struct identity_credential *bad = test_credential(1, rows[i].chain_id, rows[i].begins_in_s);
        open_pair(p, (struct how){ bad, good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
        shake(p, SIZE_MAX);
        assert_ok(p->client.rc);
        assert_ok(p->server.rc);
        assert_null(tls_peer(p->server.tls));
        assert_true(tls_peer_has_certificate(p->server.tls));
        assert_int_equal(tls_peer_why(p->server.tls)->code, STATUS_UNAUTHENTICATED);
        assert_true(strlen(tls_peer_why(p->server.tls)->text) > 0);
        close_pair(p);
    }
}

static struct rc refuse(void *ctx, const struct identity_peer *peer, struct status *why) {
    struct pair *p = ctx;
    (void)peer;
    p->client.in.total = p->server.in.total; /* What the client has sent so far. */
    status_set(why, STATUS_PERMISSION_DENIED, "%s", "the server is not a member");
    return ERR(DENIED);
}

/* The client has sent only its hello when it refuses: neither its certificate nor its proof. */
static void test_client_refuses(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, refuse, p });
    p->client.rc = ERR(AGAIN);
    step(&p->client, &p->server.in, SIZE_MAX);
    size_t hello = p->server.in.total;
    for (int i = 0; i < 10 && p->client.rc.err == E_AGAIN; i++) {
        step(&p->server, &p->client.in, SIZE_MAX);
        step(&p->client, &p->server.in, SIZE_MAX);
    }
    assert_err_equal(p->client.rc, E_BAD_AUTH);
    assert_string_equal(tls_why(p->client.tls), "the server is not a member");
    assert_int_equal(tls_peer_why(p->client.tls)->code, STATUS_PERMISSION_DENIED);
    assert_null(tls_peer(p->client.tls));
    assert_true(p->client.in.total == hello);
    assert_true(p->server.in.total - hello < 64); /* An alert, and perhaps a change-cipher-spec. */
    assert_null(tls_peer(p->server.tls));
    assert_false(tls_peer_has_certificate(p->server.tls));
    close_pair(p);
}

static void test_bad_server(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), test_credential(2, 1, -1), TLS_ALPN_NOVAKMS, NULL, NULL });
    shake(p, SIZE_MAX);
    assert_err_equal(p->client.rc, E_BAD_AUTH);
    assert_int_equal(tls_peer_why(p->client.tls)->code, STATUS_UNAUTHENTICATED);
    assert_true(strlen(tls_why(p->client.tls)) > 0);
    assert_int_not_equal(p->server.rc.err, E_OK);
    close_pair(p);
}

static void test_garbage(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
    memcpy(p->server.in.bytes, "GET / HTTP/1.1\r\n\r\n", 18);
    p->server.in.len = 18;
    step(&p->server, &p->client.in, SIZE_MAX);
    assert_err_equal(p->server.rc, E_MALFORMED);
    assert_true(strlen(tls_why(p->server.tls)) > 0);
    close_pair(p);
}

/* One changed bit anywhere in a record is found. */
static void test_tampering(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
    shake(p, SIZE_MAX);
    uint8_t text[64];
    struct rc rc = OK;
    take_text(&p->client, text, sizeof(text), &rc);
    send_text(&p->client, &p->server.in, SPAN_LIT("question"));
    p->server.in.bytes[p->server.in.len - 1] ^= 1;
    assert_int_equal(take_text(&p->server, text, sizeof(text), &rc), 0);
    assert_err_equal(rc, E_MALFORMED);
    close_pair(p);
}

static void test_close_notify(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
    shake(p, SIZE_MAX);
    uint8_t out[1024];
    struct tls_io io = { .out = { out, 0, sizeof(out) } };
    send_text(&p->client, &p->server.in, SPAN_LIT("bye"));
    tls_finish(p->client.tls, &io);
    move_out(&io, &p->server.in);
    uint8_t text[64];
    struct rc rc = OK;
    assert_int_equal(take_text(&p->server, text, sizeof(text), &rc), 3);
    assert_err_equal(rc, E_CLOSED);
    close_pair(p);
}

/* Three records' worth, through an output that holds a bit more than one. */
static void test_long_write(void **state) {
    (void)state;
    struct pair *p = &the_pair;
    open_pair(p, (struct how){ good(1), good(2), TLS_ALPN_NOVAKMS, NULL, NULL });
    shake(p, SIZE_MAX);
    size_t want = 3 * TLS_PLAIN_BYTES_MAX - 5;
    uint8_t *plain = malloc(want);
    uint8_t *got = malloc(want + 1);
    uint8_t *out = malloc(TLS_RECORD_BYTES_MAX);
    assert_non_null(plain);
    assert_non_null(got);
    assert_non_null(out);
    for (size_t i = 0; i < want; i++) {
        plain[i] = (uint8_t)(i * 7);
    }
    size_t done = 0;
    int rounds = 0;
    while (done < want) {
        struct tls_io io = { .out = { out, 0, TLS_RECORD_BYTES_MAX } };
        size_t n = 0;
        assert_ok(tls_write(p->server.tls, &io, (struct span){ plain + done, want - done }, &n));
        assert_true(n > 0);
        move_out(&io, &p->client.in);
        done += n;
        rounds++;
    }
    assert_int_equal(rounds, 3);
    struct rc rc = OK;
    assert_int_equal(take_text(&p->client, got, want + 1, &rc), want);
    assert_memory_equal(got, plain, want);
    struct tls_io none = { .out = { out, 0, 10 } };
    size_t n = 1;
    assert_ok(tls_write(p->server.tls, &none, (struct span){ plain, 1 }, &n));
    assert_int_equal(n, 0);
    free(plain);
    free(got);
    free(out);
    close_pair(p);
}

static void test_config(void **state) {
    (void)state;
    struct tls_config *config = NULL;
    struct tls_server_cfg none = { .alpn = test_alpn };
    assert_err(tls_config_server(&config, &none), BAD_CONFIG);
    assert_null(config);
    struct tls_client_cfg no_alpn = { 0 };
    assert_err(tls_config_client(&config, &no_alpn), BAD_CONFIG);
    tls_config_close(&config);
    struct identity_credential *credential = good(1);
    config = test_server_config(credential);
    assert_ptr_equal(tls_config_credential(config), credential);
    struct tls_config *second = tls_config_ref(config);
    tls_config_close(&config);
    assert_ptr_equal(tls_config_credential(second), credential);
    tls_config_close(&second);
    identity_credential_close(&credential);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual),     cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_anonymous),  cmocka_unit_test(test_wrong_alpn),
        cmocka_unit_test(test_bad_client), cmocka_unit_test(test_client_refuses),
        cmocka_unit_test(test_bad_server), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_tampering),  cmocka_unit_test(test_close_notify),
        cmocka_unit_test(test_long_write), cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
