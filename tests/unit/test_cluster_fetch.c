/* SPDX-License-Identifier: Apache-2.0 */
/* What a node that becomes ready asks of the members: who holds which secret, and the secret
 * itself, of one after the other. Whoever lies, refuses, is broken or slow costs time only. */
#define _GNU_SOURCE
#include "cluster_world.h"
#include "fake_odyn.h"
#include "node/secret_text.h"

struct fetch {
    struct world *w;
    struct fake_odyn odyn; /* Of the node that asks. */
    struct bootstrap_hash hash;
    struct bootstrap_peers peers;
    struct kdf_master master;
    char reason[REGISTRY_REASON_BYTES];
    struct rc rc;
};

/* One at a time: cmocka's state is the world. */
static struct fetch the_fetch;

static int setup_with(void **state, uint32_t fetch_timeout_ms) {
    (void)world_open_with(state, fetch_timeout_ms);
    struct fetch *f = &the_fetch;
    *f = (struct fetch){ .w = *state };
    fake_odyn_start(&f->odyn, 0x0d);
    (void)snprintf(f->w->config.odyn_url, CONFIG_URL_BYTES, "%s", f->odyn.server->url);
    memcpy(f->hash.bytes, f->w->f.master.hash, sizeof(f->hash.bytes));
    return 0;
}

static int setup(void **state) {
    return setup_with(state, 0);
}

static int setup_impatient(void **state) {
    return setup_with(state, 300);
}

static int teardown(void **state) {
    (void)world_close(state);
    fake_odyn_stop(&the_fetch.odyn);
    kdf_master_close(&the_fetch.master);
    return 0;
}

/* ---- Who holds a secret ---- */

static void answer_status(struct member *m, const struct scripted_request *r, struct span hash) {
    (void)m;
    Novakms__V1__GetStatusResponse out = NOVAKMS__V1__GET_STATUS_RESPONSE__INIT;
    out.master_secret_hash = fixture_bytes(hash.ptr, hash.len);
    if (strstr(r->method, "/GetStatus") != NULL) {
        scripted_answer_with(r, &out.base);
    }
}

static void status_same(struct member *m, const struct scripted_request *r) {
    answer_status(m, r, (struct span){ m->world->f.master.hash, KDF_HASH_BYTES });
}

static void status_other(struct member *m, const struct scripted_request *r) {
    static const uint8_t other[KDF_HASH_BYTES] = { 1 };
    answer_status(m, r, (struct span){ other, sizeof(other) });
}

static void status_none(struct member *m, const struct scripted_request *r) {
    static const uint8_t none[KDF_HASH_BYTES] = { 0 };
    answer_status(m, r, (struct span){ none, sizeof(none) });
}

static void status_short(struct member *m, const struct scripted_request *r) {
    static const uint8_t some[KDF_HASH_BYTES] = { 1 };
    answer_status(m, r, (struct span){ some, sizeof(some) - 1 });
}

static void status_silent(struct member *m, const struct scripted_request *r) {
    (void)m;
    (void)r;
}

static void ask_beside(struct world *w) {
    const struct node_peers *peers = cluster_peers(w->cluster);
    the_fetch.rc =
        peers->ask(peers->ctx, w->list, &the_fetch.hash, &the_fetch.peers, the_fetch.reason);
}

/* They need not be known to the replica: this is how a node finds out about them. */
static void test_ask(void **state) {
    struct world *w = *state;
    (void)add_member(w, status_same);
    (void)add_member(w, status_same);
    (void)add_member(w, status_other);
    (void)add_member(w, status_none);
    (void)add_member(w, status_short);
    (void)add_member(w, status_silent);
    add_member(w, NULL)->server.is_mute = true;
    scripted_stop_listening(&add_member(w, NULL)->server);
    world_list(w, 0xff);
    world_beside(w, ask_beside);
    assert_ok(the_fetch.rc);
    assert_int_equal(the_fetch.peers.reached_count, 4);
    assert_int_equal(the_fetch.peers.holder_count, 3);
    assert_int_equal(the_fetch.peers.same_count, 2);
    world_list(w, 0x0f); /* On the connections that are there. */
    world_beside(w, ask_beside);
    assert_int_equal(the_fetch.peers.reached_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(w->members[i]->server.accept_count, 1);
        assert_int_equal(w->members[i]->server.request_count, 2);
    }
    *w->list = (struct registry_members){ 0 };
    world_beside(w, ask_beside);
    assert_ok(the_fetch.rc);
    assert_int_equal(the_fetch.peers.reached_count, 0);
}

/* ---- The secret ---- */

/* A good answer, but for what a liar changes in it before or after it is sealed. */
struct gift {
    uint8_t secret[KDF_MASTER_BYTES];
    struct secret_text text;
    const struct envelope_key *key;
    const struct envelope_public *receiver;
    size_t text_len;
    size_t nonce_len;
    size_t sealed_len;
    uint8_t flip;
};

static void give(struct member *m, const struct scripted_request *r,
                 void (*change)(struct member *m, struct gift *gift)) {
    uint8_t text[SECRET_TEXT_BYTES];
    uint8_t nonce[ENVELOPE_NONCE_BYTES] = { (uint8_t)m->fetch_count };
    uint8_t sealed[SECRET_TEXT_BYTES + ENVELOPE_TAG_BYTES];
    uint8_t der[ENVELOPE_DER_BYTES];
    struct member_state state;
    Novakms__V1__FetchMasterSecretRequest *in =
        novakms__v1__fetch_master_secret_request__unpack(NULL, r->payload_len, r->payload);
    assert_non_null(in);
    struct gift gift = { .key = &m->tee,
                         .receiver = &the_fetch.odyn.key.public_key,
                         .nonce_len = sizeof(nonce),
                         .text_len = sizeof(text),
                         .sealed_len = sizeof(sealed) };
    memcpy(gift.secret, m->world->f.master.secret.ptr, sizeof(gift.secret));
    memcpy(gift.text.hash, in->wanted_hash.data, in->wanted_hash.len);
    memcpy(gift.text.nonce, in->nonce.data, in->nonce.len);
    gift.text.from = m->facts.wallet;
    gift.text.to = the_fetch.odyn.wallet;
    change(m, &gift);
    secret_text_write(gift.secret, &gift.text, text);
    const struct envelope envelope = { gift.key, gift.receiver, nonce };
    assert_ok(envelope_seal(&envelope, (struct span){ text, gift.text_len }, sealed));
    sealed[3] ^= gift.flip;
    envelope_public_write(&gift.key->public_key, der);
    Novakms__V1__FetchMasterSecretResponse out = NOVAKMS__V1__FETCH_MASTER_SECRET_RESPONSE__INIT;
    out.state = state_of(m, &state);
    out.sender_public_key = fixture_bytes(der, sizeof(der));
    out.seal_nonce = fixture_bytes(nonce, gift.nonce_len);
    out.sealed = fixture_bytes(sealed, gift.sealed_len);
    scripted_answer_with(r, &out.base);
    novakms__v1__fetch_master_secret_request__free_unpacked(in, NULL);
}

static void change_nothing(struct member *m, struct gift *gift) {
    (void)m;
    (void)gift;
}
static void change_key(struct member *m, struct gift *gift) {
    static struct envelope_key other;
    (void)m;
    if (other.scalar.ptr == NULL) {
        static const uint8_t scalar[ENVELOPE_SCALAR_BYTES] = { [ENVELOPE_SCALAR_BYTES - 1] = 7 };
        assert_ok(envelope_key_from_scalar(&other, scalar));
    }
    gift->key = &other;
}
static void change_secret(struct member *m, struct gift *gift) {
    (void)m;
    gift->secret[0] ^= 1;
}
static void change_hash(struct member *m, struct gift *gift) {
    (void)m;
    gift->text.hash[31] ^= 1;
}
static void change_nonce(struct member *m, struct gift *gift) {
    (void)m;
    gift->text.nonce[0] ^= 1;
}
static void change_from(struct member *m, struct gift *gift) {
    (void)m;
    gift->text.from.bytes[19] ^= 1;
}
static void change_to(struct member *m, struct gift *gift) {
    gift->text.to = m->facts.wallet;
}
static void change_text(struct member *m, struct gift *gift) {
    (void)m;
    gift->text_len--;
    gift->sealed_len--;
}
static void change_sealed(struct member *m, struct gift *gift) {
    (void)m;
    gift->flip = 1;
}
static void change_size(struct member *m, struct gift *gift) {
    (void)m;
    gift->nonce_len--;
}
static void change_receiver(struct member *m, struct gift *gift) {
    gift->receiver = &m->tee.public_key;
}

static struct liar {
    const char *name;
    void (*change)(struct member *m, struct gift *gift); /* NULL: it only refuses. */
    const char *why;
} liars[] = {
    { "refuses", NULL, "?[31mno" },
    { "other_key", change_key, "its key is not the one in the registry" },
    { "other_secret", change_secret, "the secret that it sealed has another hash" },
    { "other_hash", change_hash, "what it sealed names another hash" },
    { "other_nonce", change_nonce, "what it sealed was not made for this request" },
    { "other_giver", change_from, "what it sealed names other wallets" },
    { "other_receiver", change_to, "what it sealed names other wallets" },
    { "other_form", change_text, "what it sealed has another form" },
    { "changed", change_sealed, "Odyn" },
    { "sealed_to_another", change_receiver, "Odyn" },
    { "short_nonce", change_size, "fields of wrong sizes" },
};
static const struct liar *the_liar;

static void answer_lie(struct member *m, const struct scripted_request *r) {
    if (strstr(r->method, "/FetchMasterSecret") == NULL) {
        return;
    }
    if (the_liar->change == NULL) {
        scripted_fail(r, STATUS_FAILED_PRECONDITION, "\x1b[31mno", NULL);
        return;
    }
    give(m, r, the_liar->change);
}

static void answer_gift(struct member *m, const struct scripted_request *r) {
    if (strstr(r->method, "/FetchMasterSecret") != NULL) {
        give(m, r, change_nothing);
    }
}

static void answer_hanging_up(struct member *m, const struct scripted_request *r) {
    (void)m;
    net_conn_close(r->conn, OK, NULL);
}

static void fetch_beside(struct world *w) {
    const struct node_peers *peers = cluster_peers(w->cluster);
    kdf_master_close(&the_fetch.master);
    the_fetch.rc =
        peers->fetch(peers->ctx, w->list, &the_fetch.hash, &the_fetch.master, the_fetch.reason);
}

static void fetch(struct world *w, unsigned mask) {
    world_list(w, mask);
    world_beside(w, fetch_beside);
}

static void assert_fetches(struct world *w, uint64_t good, uint64_t failed) {
    struct cluster_stats stats;
    cluster_stats(w->cluster, &stats);
    assert_int_equal(stats.fetched_count, good);
    assert_int_equal(stats.fetch_failed_count, failed);
}

static void assert_got(const struct world *w) {
    assert_ok(the_fetch.rc);
    assert_memory_equal(the_fetch.master.hash, w->f.master.hash, KDF_HASH_BYTES);
    assert_memory_equal(the_fetch.master.secret.ptr, w->f.master.secret.ptr, KDF_MASTER_BYTES);
}

static void assert_got_none(const char *why) {
    assert_true(the_fetch.rc.err != E_OK);
    assert_null(the_fetch.master.secret.ptr);
    if (strstr(the_fetch.reason, why) == NULL) {
        fail_msg("'%s' is not in '%s'", why, the_fetch.reason);
    }
}

/* Alone it gives nothing; with a good one beside it the secret comes, whoever is asked first. */
static void test_liar(void **state) {
    the_liar = *state;
    assert_int_equal(setup(state), 0);
    struct world *w = *state;
    struct member *liar = add_member(w, answer_lie);
    struct member *good = add_member(w, answer_gift);
    fetch(w, 1);
    assert_got_none(the_liar->why);
    assert_int_equal(liar->fetch_count, 1);
    assert_fetches(w, 0, 1);
    fetch(w, 3);
    assert_got(w);
    assert_int_equal(good->fetch_count, 1);
    assert_fetches(w, 1, liar->fetch_count);
    assert_int_equal(teardown(state), 0);
}

/* Each is asked once, though the one before it answered nothing. */
static void test_all_in_turn(void **state) {
    struct world *w = *state;
    the_liar = &liars[2];
    struct member *bad[4];
    bad[0] = add_member(w, answer_lie);
    bad[1] = add_member(w, answer_hanging_up);
    bad[2] = add_member(w, answer_lie);
    bad[3] = add_member(w, answer_hanging_up);
    struct member *gone = add_member(w, NULL);
    scripted_stop_listening(&gone->server);
    struct member *nowhere = add_member(w, NULL);
    (void)snprintf(nowhere->facts.url, sizeof(nowhere->facts.url), "ftp://127.0.0.1");
    fetch(w, 0x2f);
    assert_got_none("0x");
    assert_fetches(w, 0, 5);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(bad[i]->fetch_count, 1);
    }
    *w->list = (struct registry_members){ 0 };
    world_beside(w, fetch_beside);
    assert_got_none("there is no other member");
}

static void answer_late(struct member *m, const struct scripted_request *r) {
    (void)m;
    if (strstr(r->method, "/FetchMasterSecret") != NULL) {
        cluster_cancel(the_fetch.w->cluster); /* While the node waits for it. */
    }
}

/* Who stops does not wait for a member that says nothing. */
static void test_cancelled(void **state) {
    struct world *w = *state;
    struct member *slow = add_member(w, answer_late);
    struct member *other = add_member(w, answer_late);
    fetch(w, 3);
    assert_got_none("");
    assert_int_equal(slow->fetch_count + other->fetch_count, 1);
}

/* One that never answers, nor ends the connection. A good one may be slow too, on a slow
 * machine. */
static void test_a_slow_one(void **state) {
    struct world *w = *state;
    struct member *slow = add_member(w, status_silent);
    (void)add_member(w, answer_gift);
    uint64_t end_ms = clock_mono_ms() + WORLD_RUN_MS_MAX;
    do {
        assert_true(clock_mono_ms() < end_ms);
        fetch(w, 1);
        assert_err(the_fetch.rc, UNAVAILABLE);
        assert_true(the_fetch.reason[0] != '\0');
    } while (slow->fetch_count == 0);
    do {
        assert_true(clock_mono_ms() < end_ms);
        fetch(w, 3);
    } while (the_fetch.rc.err != E_OK);
    assert_got(w);
}

/* Every nonce is another. */
static void test_nonces_differ(void **state) {
    struct world *w = *state;
    struct member *good = add_member(w, answer_gift);
    Novakms__V1__FetchMasterSecretRequest *in[2];
    fetch(w, 1);
    assert_got(w);
    fetch(w, 1);
    assert_got(w);
    assert_int_equal(good->server.accept_count, 1);
    for (size_t i = 0; i < 2; i++) {
        const struct scripted_request *r = &good->server.requests[i];
        in[i] = novakms__v1__fetch_master_secret_request__unpack(NULL, r->payload_len, r->payload);
        assert_non_null(in[i]);
        assert_int_equal(in[i]->nonce.len, SECRET_NONCE_BYTES);
        assert_int_equal(in[i]->wanted_hash.len, KDF_HASH_BYTES);
        assert_memory_equal(in[i]->wanted_hash.data, w->f.master.hash, KDF_HASH_BYTES);
    }
    assert_memory_not_equal(in[0]->nonce.data, in[1]->nonce.data, SECRET_NONCE_BYTES);
    novakms__v1__fetch_master_secret_request__free_unpacked(in[0], NULL);
    novakms__v1__fetch_master_secret_request__free_unpacked(in[1], NULL);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest worlds[] = {
        WORLD(test_ask),
        WORLD(test_all_in_turn),
        WORLD(test_cancelled),
        WORLD(test_nonces_differ),
        cmocka_unit_test_setup_teardown(test_a_slow_one, setup_impatient, teardown),
    };
    struct CMUnitTest tests[TEST_ROWS(worlds) + TEST_ROWS(liars)];
    size_t count = TEST_ROWS(worlds);
    memcpy(tests, worlds, sizeof(worlds));
    TEST_ADD_ROWS(tests, count, test_liar, liars);
    return cmocka_run_group_tests_name("cluster_fetch", tests, NULL, NULL);
}
