/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include <mbedtls/ecp.h>
#include <mbedtls/rsa.h>
#include <mbedtls/version.h>

#include "crypto/random.h"
#include "identity/binding.h"
#include "identity/der.h"
#include "identity/keyfile.h"
#include "test.h"
#include "vectors.h"

#define NOW 1700000000u
#define HOUR 3600
#define CHAIN 84532u

/* A certificate with these dates and no binding: each test puts an extension list of its own into
 * crt->v3_ext, which identity_verify reads. Nobody checks the certificate's own signature. */
struct fixture {
    mbedtls_pk_context key;
    mbedtls_x509_crt crt;
    uint8_t extensions[1024];
    struct identity_keyfile wallet;
};

enum key_kind { KEY_P256, KEY_P384, KEY_RSA };

static void make_key(mbedtls_pk_context *key, enum key_kind kind) {
    mbedtls_pk_init(key);
    if (kind == KEY_RSA) {
        assert_int_equal(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_RSA)), 0);
        assert_int_equal(
            mbedtls_rsa_gen_key(mbedtls_pk_rsa(*key), random_mbedtls, NULL, 1024, 65537), 0);
        return;
    }
    mbedtls_ecp_group_id curve =
        kind == KEY_P256 ? MBEDTLS_ECP_DP_SECP256R1 : MBEDTLS_ECP_DP_SECP384R1;
    assert_int_equal(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(mbedtls_ecp_gen_key(curve, mbedtls_pk_ec(*key), random_mbedtls, NULL), 0);
}

static void format_date(int64_t unix_s, char text[static 15]) {
    time_t t = unix_s;
    struct tm utc;
    assert_non_null(gmtime_r(&t, &utc));
    assert_int_equal(strftime(text, 15, "%Y%m%d%H%M%S", &utc), 14);
}

static size_t write_certificate(mbedtls_pk_context *key, int64_t from, int64_t to,
                                uint8_t der[static 2048]) {
    mbedtls_x509write_cert w;
    mbedtls_x509write_crt_init(&w);
    char from_text[15];
    char to_text[15];
    format_date(from, from_text);
    format_date(to, to_text);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, key);
    mbedtls_x509write_crt_set_issuer_key(&w, key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&w, "CN=test"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&w, "CN=test"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&w, from_text, to_text), 0);
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
    uint8_t serial = 1;
    assert_int_equal(mbedtls_x509write_crt_set_serial_raw(&w, &serial, 1), 0);
#else
    mbedtls_mpi serial;
    mbedtls_mpi_init(&serial);
    assert_int_equal(mbedtls_mpi_lset(&serial, 1), 0);
    assert_int_equal(mbedtls_x509write_crt_set_serial(&w, &serial), 0);
    mbedtls_mpi_free(&serial);
#endif
    int len = mbedtls_x509write_crt_der(&w, der, 2048, random_mbedtls, NULL);
    assert_true(len > 0);
    memmove(der, der + 2048 - len, (size_t)len);
    mbedtls_x509write_crt_free(&w);
    return (size_t)len;
}

static void open_fixture(struct fixture *f, enum key_kind kind, int64_t from, int64_t to) {
    memset(f, 0, sizeof(*f));
    make_key(&f->key, kind);
    uint8_t der[2048];
    size_t len = write_certificate(&f->key, from, to, der);
    mbedtls_x509_crt_init(&f->crt);
    assert_int_equal(mbedtls_x509_crt_parse_der(&f->crt, der, len), 0);
    const uint8_t key[ETH_KEY_BYTES] = { 1 };
    assert_ok(identity_keyfile_from_key(&f->wallet, key));
}

static void close_fixture(struct fixture *f) {
    mbedtls_x509_crt_free(&f->crt);
    mbedtls_pk_free(&f->key);
    identity_keyfile_close(&f->wallet);
}

static struct identity_binding sign_binding(struct fixture *f, const struct identity_claim *claim) {
    char buf[IDENTITY_TEXT_BYTES];
    struct span text = SPAN_EMPTY;
    assert_ok(identity_claim_text(claim, buf, &text));
    struct identity_binding binding = {
        f->wallet.wallet, claim->not_before_unix_s, claim->not_after_unix_s, { { 0 } }
    };
    assert_ok(eth_sign_message(&f->wallet.key, text, &binding.signature));
    return binding;
}

/* One extension: OID, critical if it is so, and the value. */
static void add_extension(struct writer *list, struct span oid, bool critical, struct span value) {
    uint8_t buf[512];
    struct writer w = { buf, 0, sizeof(buf) };
    assert_ok(der_write(&w, DER_OID, oid));
    if (critical) {
        assert_ok(der_write(&w, DER_BOOLEAN, SPAN_LIT("\xff")));
    }
    assert_ok(der_write(&w, DER_OCTET_STRING, value));
    assert_ok(der_write(list, DER_SEQUENCE, writer_span(&w)));
}

static void use_extensions(struct fixture *f, struct span list) {
    struct writer w = { f->extensions, 0, sizeof(f->extensions) };
    assert_ok(der_write(&w, DER_SEQUENCE, list));
    f->crt.v3_ext.p = f->extensions;
    f->crt.v3_ext.len = w.len;
}

static struct span encode(const struct identity_binding *binding,
                          uint8_t value[static IDENTITY_BINDING_BYTES_MAX]) {
    struct writer w = { value, 0, IDENTITY_BINDING_BYTES_MAX };
    assert_ok(identity_binding_encode(binding, &w));
    return writer_span(&w);
}

static void use_binding(struct fixture *f, const struct identity_binding *binding) {
    uint8_t value[IDENTITY_BINDING_BYTES_MAX];
    uint8_t buf[512];
    struct writer list = { buf, 0, sizeof(buf) };
    add_extension(&list, identity_oid_der, false, encode(binding, value));
    use_extensions(f, writer_span(&list));
}

static void expect(const struct fixture *f, const struct identity_verify_cfg *cfg, enum err want,
                   const char *sentence) {
    struct identity_peer peer;
    struct status why = { 0 };
    assert_err_equal(identity_verify(&f->crt, cfg, &peer, &why), want);
    if (want == E_OK) {
        assert_true(wallet_equal(&peer.wallet, &f->wallet.wallet));
        assert_int_equal(why.code, STATUS_OK);
        return;
    }
    assert_true(wallet_is_zero(&peer.wallet));
    assert_int_equal(why.code, STATUS_UNAUTHENTICATED);
    if (strstr(why.text, sentence) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", why.text, sentence);
    }
}

/* Dates, chain and key. Dates are seconds from NOW. */
struct date_row {
    const char *name;
    int64_t from;
    int64_t to;
    int64_t binding_to; /* Where it differs from the certificate's. */
    uint64_t skew_s;
    uint64_t chain_id;
    enum err want;
    const char *sentence;
};

static struct date_row date_rows[] = {
    { "good", -HOUR, HOUR, HOUR, 0, CHAIN, E_OK, "" },
    { "starts_now", 0, HOUR, HOUR, 0, CHAIN, E_OK, "" },
    { "starts_in_a_second", 1, HOUR, HOUR, 0, CHAIN, E_EXPIRED, "not valid before" },
    { "starts_within_skew", 5, HOUR, HOUR, 5, CHAIN, E_OK, "" },
    { "starts_past_skew", 6, HOUR, HOUR, 5, CHAIN, E_EXPIRED, "not valid before" },
    { "ends_now", -HOUR, 0, 0, 0, CHAIN, E_OK, "" },
    { "ended_a_second_ago", -HOUR, -1, -1, 0, CHAIN, E_EXPIRED, "ended" },
    { "ended_within_skew", -HOUR, -5, -5, 5, CHAIN, E_OK, "" },
    { "ended_past_skew", -HOUR, -6, -6, 5, CHAIN, E_EXPIRED, "ended" },
    { "24_hours", -HOUR, 23 * HOUR, 23 * HOUR, 0, CHAIN, E_OK, "" },
    { "24_hours_and_a_second", -HOUR, 23 * HOUR + 1, 23 * HOUR + 1, 0, CHAIN, E_TOO_BIG,
      "spans 86401 s" },
    { "no_time_at_all", 0, 0, 0, 0, CHAIN, E_MALFORMED, "ends before it begins" },
    { "backwards", 10, -10, -10, 60, CHAIN, E_MALFORMED, "ends before it begins" },
    { "longer_than_certificate", -HOUR, HOUR, HOUR + 1, 0, CHAIN, E_MALFORMED, "differ" },
    { "before_1970", -(int64_t)NOW - 1, HOUR, HOUR, 0, CHAIN, E_MALFORMED, "differ" },
    { "other_chain", -HOUR, HOUR, HOUR, 0, CHAIN + 1, E_BAD_AUTH, "for chain 84533" },
};

static void test_dates(void **state) {
    const struct date_row *row = *state;
    static struct fixture f;
    int64_t now = NOW;
    open_fixture(&f, KEY_P256, now + row->from, now + row->to);
    const struct identity_claim claim = { CHAIN,
                                          { f.crt.pk_raw.p, f.crt.pk_raw.len },
                                          (uint64_t)(now + row->from),
                                          (uint64_t)(now + row->binding_to) };
    struct identity_binding binding = sign_binding(&f, &claim);
    use_binding(&f, &binding);
    const struct identity_verify_cfg cfg = { row->chain_id, NOW, row->skew_s };
    expect(&f, &cfg, row->want, row->sentence);
    close_fixture(&f);
}

static const struct identity_verify_cfg cfg_now = { CHAIN, NOW, 0 };

static struct identity_claim good_claim(const struct fixture *f) {
    return (struct identity_claim){
        CHAIN, { f->crt.pk_raw.p, f->crt.pk_raw.len }, NOW - HOUR, NOW + HOUR
    };
}

static void open_good(struct fixture *f, struct identity_binding *binding) {
    open_fixture(f, KEY_P256, NOW - HOUR, NOW + HOUR);
    const struct identity_claim claim = good_claim(f);
    *binding = sign_binding(f, &claim);
    use_binding(f, binding);
    expect(f, &cfg_now, E_OK, "");
}

static void test_binding_for_another_key(void **state) {
    (void)state;
    static struct fixture f;
    static struct fixture other;
    struct identity_binding binding;
    struct identity_binding of_other;
    open_good(&f, &binding);
    open_good(&other, &of_other);
    use_binding(&f, &of_other);
    expect(&f, &cfg_now, E_BAD_AUTH, "did not sign this TLS key");
    close_fixture(&f);
    close_fixture(&other);
}

static void test_key_kinds(void **state) {
    (void)state;
    const enum key_kind kinds[] = { KEY_P384, KEY_RSA };
    for (size_t i = 0; i < TEST_ROWS(kinds); i++) {
        static struct fixture f;
        open_fixture(&f, kinds[i], NOW - HOUR, NOW + HOUR);
        const struct identity_claim claim = good_claim(&f);
        struct identity_binding binding = sign_binding(&f, &claim);
        use_binding(&f, &binding);
        expect(&f, &cfg_now, E_MALFORMED, "P-256");
        close_fixture(&f);
    }
}

/* Every bit of the binding counts. */
static void test_every_bit(void **state) {
    (void)state;
    static struct fixture f;
    struct identity_binding binding;
    open_good(&f, &binding);
    uint8_t value[IDENTITY_BINDING_BYTES_MAX];
    size_t len = encode(&binding, value).len;
    for (size_t bit = 0; bit < 8 * len; bit++) {
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
        uint8_t buf[512];
        struct writer list = { buf, 0, sizeof(buf) };
        add_extension(&list, identity_oid_der, false, (struct span){ value, len });
        use_extensions(&f, writer_span(&list));
        struct identity_peer peer;
        struct status why = { 0 };
        assert_true(identity_verify(&f.crt, &cfg_now, &peer, &why).err != E_OK);
        assert_int_equal(why.code, STATUS_UNAUTHENTICATED);
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    close_fixture(&f);
}

static void test_signatures(void **state) {
    (void)state;
    static struct fixture f;
    struct identity_binding binding;
    open_good(&f, &binding);
    struct identity_binding bad = binding;
    bad.signature.bytes[64] ^= 27 ^ 28;
    use_binding(&f, &bad);
    expect(&f, &cfg_now, E_BAD_AUTH, "did not sign");
    bad = binding;
    bad.signature.bytes[64] = (uint8_t)(bad.signature.bytes[64] - 27);
    use_binding(&f, &bad);
    expect(&f, &cfg_now, E_OK, "");
    bad.signature.bytes[64] = 2;
    use_binding(&f, &bad);
    expect(&f, &cfg_now, E_MALFORMED, "no secp256k1 signature");
    bad = binding;
    bad.signature.bytes[32] |= 0x80; /* More than half the order. */
    use_binding(&f, &bad);
    expect(&f, &cfg_now, E_MALFORMED, "low s");
    bad = binding;
    memset(bad.wallet.bytes, 0, WALLET_BYTES);
    use_binding(&f, &bad);
    expect(&f, &cfg_now, E_BAD_AUTH, "did not sign");
    close_fixture(&f);
}

/* The list of extensions around the binding. */
static void test_extension_lists(void **state) {
    (void)state;
    static struct fixture f;
    struct identity_binding binding;
    open_good(&f, &binding);
    uint8_t value[IDENTITY_BINDING_BYTES_MAX + 1] = { 0 };
    const struct span good = encode(&binding, value);
    const struct span other_oid = SPAN_LIT("\x55\x1d\x11");
    uint8_t buf[1024];

    struct writer list = { buf, 0, sizeof(buf) };
    use_extensions(&f, SPAN_EMPTY);
    expect(&f, &cfg_now, E_MALFORMED, "no wallet binding");
    add_extension(&list, other_oid, true, SPAN_LIT("x"));
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_MALFORMED, "no wallet binding");
    add_extension(&list, identity_oid_der, false, good);
    add_extension(&list, other_oid, false, SPAN_EMPTY);
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_OK, "");
    add_extension(&list, identity_oid_der, false, good);
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_MALFORMED, "more than one");

    list.len = 0;
    add_extension(&list, identity_oid_der, true, good);
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_MALFORMED, "critical");

    list.len = 0;
    add_extension(&list, identity_oid_der, false, SPAN_EMPTY);
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_MALFORMED, "not exactly one TlsBinding");

    for (unsigned byte = 0; byte <= 255; byte++) { /* Trailing bytes, as any field's tag. */
        value[good.len] = (uint8_t)byte;
        list.len = 0;
        add_extension(&list, identity_oid_der, false, (struct span){ value, good.len + 1 });
        use_extensions(&f, writer_span(&list));
        expect(&f, &cfg_now, E_MALFORMED, "not exactly one TlsBinding");
    }

    list.len = 0;
    add_extension(&list, identity_oid_der, false, good);
    buf[list.len] = 0;
    list.len++;
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_MALFORMED, "malformed");
    f.crt.v3_ext.len = 0;
    expect(&f, &cfg_now, E_MALFORMED, "no wallet binding");
    close_fixture(&f);
}

/* Something after the value inside the extension, and every way of cutting the list short. */
static void test_extension_cut(void **state) {
    (void)state;
    static struct fixture f;
    struct identity_binding binding;
    open_good(&f, &binding);
    uint8_t value[IDENTITY_BINDING_BYTES_MAX];
    uint8_t buf[512];
    struct writer w = { buf, 0, sizeof(buf) };
    assert_ok(der_write(&w, DER_OID, identity_oid_der));
    assert_ok(der_write(&w, DER_OCTET_STRING, encode(&binding, value)));
    assert_ok(der_write(&w, DER_OCTET_STRING, SPAN_EMPTY));
    uint8_t list_buf[512];
    struct writer list = { list_buf, 0, sizeof(list_buf) };
    assert_ok(der_write(&list, DER_SEQUENCE, writer_span(&w)));
    use_extensions(&f, writer_span(&list));
    expect(&f, &cfg_now, E_MALFORMED, "malformed");

    use_binding(&f, &binding);
    size_t whole = f.crt.v3_ext.len;
    for (size_t len = 1; len < whole; len++) {
        uint8_t *cut = test_dup(f.extensions, len);
        f.crt.v3_ext.p = cut;
        f.crt.v3_ext.len = len;
        struct identity_peer peer;
        struct status why = { 0 };
        assert_true(identity_verify(&f.crt, &cfg_now, &peer, &why).err != E_OK);
        assert_int_equal(why.code, STATUS_UNAUTHENTICATED);
        free(cut);
    }
    close_fixture(&f);
}

static void test_encoding(void **state) {
    (void)state;
    struct identity_binding binding = { { { 1 } }, UINT64_MAX, UINT64_MAX, { { 2 } } };
    uint8_t value[IDENTITY_BINDING_BYTES_MAX];
    assert_int_equal(encode(&binding, value).len, IDENTITY_BINDING_BYTES_MAX);
    struct writer small = { value, 0, IDENTITY_BINDING_BYTES_MAX - 1 };
    assert_err(identity_binding_encode(&binding, &small), TOO_BIG);
    assert_int_equal(small.len, 0);
    struct identity_binding read;
    for (size_t len = 0; len < IDENTITY_BINDING_BYTES_MAX; len++) {
        uint8_t *cut = test_dup(value, len);
        assert_err(identity_binding_decode((struct span){ cut, len }, &read), MALFORMED);
        free(cut);
    }
    assert_ok(identity_binding_decode((struct span){ value, sizeof(value) }, &read));
    assert_true(wallet_equal(&read.wallet, &binding.wallet));
    assert_true(read.not_after_unix_s == UINT64_MAX);
    assert_memory_equal(read.signature.bytes, binding.signature.bytes, ETH_SIGNATURE_BYTES);
    char text[IDENTITY_TEXT_BYTES];
    struct span out = SPAN_EMPTY;
    const struct identity_claim longest = { UINT64_MAX, SPAN_EMPTY, UINT64_MAX, UINT64_MAX };
    assert_ok(identity_claim_text(&longest, text, &out));
    assert_int_equal(out.len, IDENTITY_TEXT_BYTES - 1);
}

/* A certificate made by other software (Python's cryptography and ecdsa). */
static void test_foreign_certificate(void **state) {
    (void)state;
    json_t *cases = vectors_load("tls-binding.json");
    json_t *row = NULL;
    size_t i = 0;
    json_array_foreach(cases, i, row) {
        struct bytes der = vectors_hex(row, "certificate");
        const json_int_t from = json_integer_value(json_object_get(row, "not_before"));
        const struct identity_verify_cfg cfg = {
            (uint64_t)json_integer_value(json_object_get(row, "chain_id")), (uint64_t)from, 0
        };
        struct identity_peer peer;
        struct status why;
        assert_ok(identity_verify_der((struct span){ der.ptr, der.len }, &cfg, &peer, &why));
        struct wallet want;
        assert_ok(wallet_parse(vectors_text(row, "wallet"), &want));
        assert_true(wallet_equal(&peer.wallet, &want));

        mbedtls_x509_crt crt;
        mbedtls_x509_crt_init(&crt);
        assert_int_equal(mbedtls_x509_crt_parse_der(&crt, der.ptr, der.len), 0);
        const struct identity_claim claim = { cfg.chain_id,
                                              { crt.pk_raw.p, crt.pk_raw.len },
                                              peer.not_before_unix_s,
                                              peer.not_after_unix_s };
        char buf[IDENTITY_TEXT_BYTES];
        struct span text = SPAN_EMPTY;
        assert_ok(identity_claim_text(&claim, buf, &text));
        assert_true(span_equal(text, vectors_text(row, "text")));
        mbedtls_x509_crt_free(&crt);

        uint8_t *longer = malloc(der.len + 1);
        assert_non_null(longer);
        memcpy(longer, der.ptr, der.len);
        longer[der.len] = 0;
        assert_err(identity_verify_der((struct span){ longer, der.len + 1 }, &cfg, &peer, &why),
                   MALFORMED);
        assert_err(identity_verify_der((struct span){ der.ptr, der.len - 1 }, &cfg, &peer, &why),
                   MALFORMED);
        assert_err(identity_verify_der(SPAN_EMPTY, &cfg, &peer, &why), MALFORMED);
        free(longer);
        free(der.ptr);
    }
    assert_true(i > 0);
    vectors_close(cases);
}

int main(void) {
    struct CMUnitTest tests[8 + TEST_ROWS(date_rows)] = {
        cmocka_unit_test(test_binding_for_another_key),
        cmocka_unit_test(test_key_kinds),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_extension_lists),
        cmocka_unit_test(test_extension_cut),
        cmocka_unit_test(test_encoding),
        cmocka_unit_test(test_foreign_certificate),
    };
    size_t count = 8;
    TEST_ADD_ROWS(tests, count, test_dates, date_rows);
    return cmocka_run_group_tests_name("binding", tests, NULL, NULL);
}
