/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include <mbedtls/version.h>

#include "crypto/random.h"
#include "identity/binding.h"
#include "identity/credential.h"
#include "identity/keyfile.h"
#include "test.h"

#define NOW 1700000000u
#define CHAIN 84532u

static struct identity_keyfile keyfile;
static struct identity_signer signer;

static int open_wallet(void **state) {
    (void)state;
    const uint8_t key[ETH_KEY_BYTES] = { 9 };
    if (identity_keyfile_from_key(&keyfile, key).err != E_OK) {
        return -1;
    }
    signer = identity_keyfile_signer(&keyfile);
    return 0;
}

static int close_wallet(void **state) {
    (void)state;
    identity_keyfile_close(&keyfile);
    return 0;
}

static struct identity_credential_cfg good_cfg(void) {
    return (struct identity_credential_cfg){ &signer, CHAIN, "kms-1.example.com", NOW, 3600 };
}

struct host_row {
    const char *name;
    const char *host;
    enum err want;
    const char *san; /* The SubjectAltName's bytes, where there is one. */
    size_t san_len;
};

#define HOST_63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"
#define HOST_253                        \
    HOST_63 "." HOST_63 "." HOST_63 "." \
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi"

static struct host_row host_rows[] = {
    { "dns", "kms-1.example.com", E_OK, "\x30\x13\x82\x11kms-1.example.com", 21 },
    { "ipv4", "127.0.0.1", E_OK, "\x30\x06\x87\x04\x7f\x00\x00\x01", 8 },
    { "ipv6", "::1", E_OK, "\x30\x12\x87\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 20 },
    { "none", NULL, E_OK, NULL, 0 },
    { "empty", "", E_OK, NULL, 0 },
    { "longest", HOST_253, E_OK, "\x30\x82\x01\x00\x82\x81\xfd" HOST_253, 260 },
    { "one_too_long", HOST_253 "x", E_BAD_CONFIG, NULL, 0 },
    { "with_port", "localhost:8443", E_BAD_CONFIG, NULL, 0 },
    { "brackets", "[::1]", E_BAD_CONFIG, NULL, 0 },
    { "wildcard", "*.example.com", E_BAD_CONFIG, NULL, 0 },
    { "space", "a b", E_BAD_CONFIG, NULL, 0 },
};

static bool contains(struct span in, struct span what) {
    for (size_t at = 0; at + what.len <= in.len; at++) {
        if (span_equal((struct span){ in.ptr + at, what.len }, what)) {
            return true;
        }
    }
    return false;
}

static void test_hosts(void **state) {
    const struct host_row *row = *state;
    struct identity_credential_cfg cfg = good_cfg();
    cfg.host = row->host;
    struct identity_credential *c = NULL;
    struct status why = { 0 };
    assert_err_equal(identity_credential_make(&c, &cfg, &why), row->want);
    if (row->want != E_OK) {
        assert_null(c);
        assert_non_null(strstr(why.text, "is not allowed"));
        return;
    }
    const mbedtls_x509_crt *crt = identity_credential_crt(c);
    const struct span der = { crt->raw.p, crt->raw.len };
    const struct span san_oid = SPAN_LIT("\x06\x03\x55\x1d\x11");
    assert_int_equal(contains(der, san_oid), row->san != NULL);
    if (row->san != NULL) {
        assert_true(contains(der, (struct span){ (const uint8_t *)row->san, row->san_len }));
    }
    identity_credential_close(&c);
}

static void test_certificate(void **state) {
    (void)state;
    const struct identity_credential_cfg cfg = good_cfg();
    struct identity_credential *c = NULL;
    struct status why = { 0 };
    assert_ok(identity_credential_make(&c, &cfg, &why));
    const mbedtls_x509_crt *crt = identity_credential_crt(c);
    struct identity_verify_cfg verify = { CHAIN, NOW + 3600, 0 };
    struct identity_peer peer;
    assert_ok(identity_verify(crt, &verify, &peer, &why));
    assert_true(wallet_equal(&peer.wallet, &keyfile.wallet));
    assert_true(wallet_equal(identity_credential_wallet(c), &keyfile.wallet));
    assert_int_equal(identity_credential_not_after_unix_s(c), NOW + 3600);
    assert_int_equal(peer.not_before_unix_s, NOW);
    assert_ok(identity_verify_der((struct span){ crt->raw.p, crt->raw.len }, &verify, &peer, &why));
    verify.now_unix_s++;
    assert_err(identity_verify(crt, &verify, &peer, &why), EXPIRED);

    assert_int_equal(crt->version, 3);
    assert_int_equal(crt->serial.len, 16);
    /* It verifies as its own CA would: signature and key belong together. */
    const struct span subject = { crt->subject_raw.p, crt->subject_raw.len };
    const struct span issuer = { crt->issuer_raw.p, crt->issuer_raw.len };
    assert_true(span_equal(subject, issuer));
    assert_true(contains((struct span){ crt->raw.p, crt->raw.len },
                         SPAN_LIT("\x06\x03\x55\x1d\x13"))); /* Basic constraints. */
    identity_credential_close(&c);
    assert_null(c);
    identity_credential_close(&c);
}

/* Two of the same cfg share neither key nor serial. */
static void test_fresh_every_time(void **state) {
    (void)state;
    const struct identity_credential_cfg cfg = good_cfg();
    struct identity_credential *a = NULL;
    struct identity_credential *b = NULL;
    struct status why = { 0 };
    assert_ok(identity_credential_make(&a, &cfg, &why));
    assert_ok(identity_credential_make(&b, &cfg, &why));
    const mbedtls_x509_crt *x = identity_credential_crt(a);
    const mbedtls_x509_crt *y = identity_credential_crt(b);
    assert_memory_not_equal(x->pk_raw.p, y->pk_raw.p, x->pk_raw.len);
    assert_memory_not_equal(x->serial.p, y->serial.p, x->serial.len);
    identity_credential_close(&a);
    identity_credential_close(&b);
}

struct lifetime_row {
    const char *name;
    uint32_t lifetime_s;
    enum err want;
};

static struct lifetime_row lifetime_rows[] = {
    { "zero", 0, E_BAD_CONFIG },
    { "one_second", 1, E_OK },
    { "24_hours", IDENTITY_SPAN_S_MAX, E_OK },
    { "24_hours_and_a_second", IDENTITY_SPAN_S_MAX + 1, E_BAD_CONFIG },
};

static void test_lifetime(void **state) {
    const struct lifetime_row *row = *state;
    struct identity_credential_cfg cfg = good_cfg();
    cfg.lifetime_s = row->lifetime_s;
    struct identity_credential *c = NULL;
    struct status why = { 0 };
    assert_err_equal(identity_credential_make(&c, &cfg, &why), row->want);
    identity_credential_close(&c);
}

/* Years that a certificate cannot hold. */
static void test_dates_out_of_range(void **state) {
    (void)state;
    const uint64_t starts[] = { 253402300800, INT64_MAX, UINT64_MAX - 10 };
    for (size_t i = 0; i < TEST_ROWS(starts); i++) {
        struct identity_credential_cfg cfg = good_cfg();
        cfg.not_before_unix_s = starts[i];
        struct identity_credential *c = NULL;
        struct status why = { 0 };
        assert_err(identity_credential_make(&c, &cfg, &why), BAD_CONFIG);
        assert_null(c);
    }
}

static RC sign_nothing(void *ctx, struct span text, struct eth_signature *out) {
    (void)ctx;
    (void)text;
    (void)out;
    return ERR(UNAVAILABLE);
}

static void test_signers_that_fail(void **state) {
    (void)state;
    struct identity_credential *c = NULL;
    struct status why = { 0 };
    struct identity_signer silent = { keyfile.wallet, sign_nothing, NULL };
    struct identity_credential_cfg cfg = good_cfg();
    cfg.signer = &silent;
    assert_err(identity_credential_make(&c, &cfg, &why), UNAVAILABLE);
    assert_null(c);
    assert_int_equal(why.code, STATUS_UNAVAILABLE);
    struct identity_signer liar = signer;
    liar.wallet.bytes[0] ^= 1;
    cfg.signer = &liar;
    assert_err(identity_credential_make(&c, &cfg, &why), BAD_AUTH);
    assert_null(c);
}

#define THREAD_COUNT 4

/* What a connection does: keeps a reference, signs its handshake, lets go. */
static void *hold_and_sign(void *arg) {
    struct identity_credential *mine = arg;
    static const uint8_t hash[32] = { 1 };
    void *ok = arg;
    for (size_t i = 0; i < 20; i++) {
        struct identity_credential *again = identity_credential_ref(mine);
        uint8_t signature[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
        size_t len = 0;
#if MBEDTLS_VERSION_MAJOR >= 3
        int code =
            mbedtls_pk_sign(identity_credential_key(again), MBEDTLS_MD_SHA256, hash, sizeof(hash),
                            signature, sizeof(signature), &len, random_mbedtls, NULL);
#else
        int code = mbedtls_pk_sign(identity_credential_key(again), MBEDTLS_MD_SHA256, hash,
                                   sizeof(hash), signature, &len, random_mbedtls, NULL);
#endif
        ok = code == 0 ? ok : NULL;
        identity_credential_close(&again);
    }
    identity_credential_close(&mine);
    return ok;
}

static void test_references_across_threads(void **state) {
    (void)state;
    const struct identity_credential_cfg cfg = good_cfg();
    struct identity_credential *c = NULL;
    struct status why = { 0 };
    assert_ok(identity_credential_make(&c, &cfg, &why));
    pthread_t threads[THREAD_COUNT];
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, hold_and_sign, identity_credential_ref(c)), 0);
    }
    identity_credential_close(&c);
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        void *ok = NULL;
        assert_int_equal(pthread_join(threads[i], &ok), 0);
        assert_non_null(ok);
    }
}

int main(void) {
    struct CMUnitTest tests[5 + TEST_ROWS(host_rows) + TEST_ROWS(lifetime_rows)] = {
        cmocka_unit_test(test_certificate),
        cmocka_unit_test(test_fresh_every_time),
        cmocka_unit_test(test_dates_out_of_range),
        cmocka_unit_test(test_signers_that_fail),
        cmocka_unit_test(test_references_across_threads),
    };
    size_t count = 5;
    TEST_ADD_ROWS(tests, count, test_hosts, host_rows);
    TEST_ADD_ROWS(tests, count, test_lifetime, lifetime_rows);
    return cmocka_run_group_tests_name("credential", tests, open_wallet, close_wallet);
}
