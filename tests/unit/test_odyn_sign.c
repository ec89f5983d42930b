/* SPDX-License-Identifier: Apache-2.0 */
/* What the client believes of the signatures and transactions that an Odyn returns. */
#define _GNU_SOURCE /* strcasestr */
#include "base/hex.h"
#include "identity/odyn.h"
#include "odyn_server.h"

/* ---- What Odyn signs ---- */

/* Odyn's answer for a signature of text by the key of this number, v less v_off. */
static void reply_signed(unsigned number, const char *text, unsigned v_off, const char *address) {
    struct secret key;
    key_of(number, &key);
    struct eth_signature signature;
    assert_ok(eth_sign_message(&key, span_str(text), &signature));
    signature.bytes[64] = (uint8_t)(signature.bytes[64] - v_off);
    secret_close(&key);
    char hex[HEX_TEXT_BYTES(ETH_SIGNATURE_BYTES)];
    hex_encode((struct span){ signature.bytes, sizeof(signature.bytes) }, hex);
    char body[512];
    (void)snprintf(body, sizeof(body),
                   "{\"signature\":\"0x%s\",\"address\":\"%s\",\"attestation\":null}", hex,
                   address);
    reply(200, body);
}

static void test_sign(void **state) {
    (void)state;
    struct eth_signature first;
    struct eth_signature second;
    const struct span text = SPAN_LIT("a \"quoted\\\" line\n\x1f");
    reply_signed(5, "a \"quoted\\\" line\n\x1f", 0, WALLET_5);
    assert_ok(identity_odyn_sign(f.odyn, text, &first, &f.why));
    assert_non_null(strstr(f.server.request,
                           "\r\n\r\n{\"message\":\"a \\\"quoted\\\\\\\" line\\u000a\\u001f\","
                           "\"include_attestation\":false}"));
    assert_non_null(strstr(f.server.request, "POST /v1/eth/sign HTTP/1.1\r\n"));
    reply_signed(5, "a \"quoted\\\" line\n\x1f", 27, WALLET_5);
    assert_ok(identity_odyn_sign(f.odyn, text, &second, &f.why));
    assert_memory_equal(first.bytes, second.bytes, sizeof(first.bytes));
    assert_in_range(first.bytes[64], 27, 28);
}

static void test_sign_lies(void **state) {
    (void)state;
    struct eth_signature signature;
    const struct span text = SPAN_LIT("hello");
    reply_signed(6, "hello", 0, WALLET_5);
    assert_err(identity_odyn_sign(f.odyn, text, &signature, &f.why), BAD_AUTH);
    check_why("holds a signature that its wallet " WALLET_5 " did not make");
    reply_signed(5, "hellp", 0, WALLET_5);
    assert_err(identity_odyn_sign(f.odyn, text, &signature, &f.why), BAD_AUTH);
    reply_signed(5, "hello", 0, WALLET_5);
    assert_ok(identity_odyn_sign(f.odyn, text, &signature, &f.why));
}

static void test_changed_wallet(void **state) {
    (void)state;
    struct eth_signature signature;
    reply(200, "{\"address\":\"" WALLET_5 "\"}");
    assert_ok(run_call(ADDRESS));
    reply_signed(6, "hello", 0, WALLET_6);
    assert_err(identity_odyn_sign(f.odyn, SPAN_LIT("hello"), &signature, &f.why), BAD_AUTH);
    check_why("Odyn's wallet changed from " WALLET_5 " to " WALLET_6);
    assert_int_equal(f.why.code, STATUS_FAILED_PRECONDITION);
    reply(200, "{\"address\":\"" WALLET_6 "\"}");
    assert_err(run_call(ADDRESS), BAD_AUTH);
    reply(200, "{\"address\":\"" WALLET_5 "\"}");
    assert_ok(run_call(ADDRESS));
}

static void test_changed_key(void **state) {
    (void)state;
    reply(200, "{\"public_key_der\":\"0x" DER_GOOD "\"}");
    assert_ok(run_call(KEY));
    struct envelope_key key;
    assert_ok(envelope_key_init(&key));
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(&key.public_key, der);
    envelope_key_close(&key);
    char hex[HEX_TEXT_BYTES(ENVELOPE_DER_BYTES)];
    hex_encode((struct span){ der, sizeof(der) }, hex);
    char body[512];
    (void)snprintf(body, sizeof(body),
                   "{\"encrypted_data\":\"" SEALED_21 "\",\"enclave_public_key\":\"%s\","
                   "\"nonce\":\"" NONCE_12 "\"}",
                   hex);
    reply(200, body);
    assert_err(run_call(ENCRYPT), BAD_AUTH);
    check_why("Odyn's encryption key changed");
}

static void test_signer(void **state) {
    (void)state;
    struct identity_signer signer;
    reply(200, "{\"address\":\"" WALLET_5 "\"}");
    assert_ok(identity_odyn_signer(f.odyn, &signer, &f.why));
    struct wallet want;
    assert_ok(wallet_parse(SPAN_LIT(WALLET_5), &want));
    assert_true(wallet_equal(&signer.wallet, &want));
    struct eth_signature signature;
    reply_signed(5, "NovaKMS:x", 0, WALLET_5);
    assert_ok(signer.sign_text(signer.ctx, SPAN_LIT("NovaKMS:x"), &signature));
    assert_err(identity_sign(&signer, SPAN_LIT("NovaKMS:x"), &signature), DENIED);
    assert_int_equal(identity_odyn_signer_why(f.odyn)->code, STATUS_OK);
    reply(400, "empty");
    assert_err(signer.sign_text(signer.ctx, SPAN_LIT("x"), &signature), INVALID);
    assert_string_equal(identity_odyn_signer_why(f.odyn)->text,
                        "Odyn refused /v1/eth/sign (400): empty");
    assert_ok(identity_odyn_signer(f.odyn, &signer, &f.why)); /* Known: nobody is asked. */
    assert_int_equal(server_served(&f.server), 3);
}

static void test_arguments(void **state) {
    (void)state;
    static uint8_t text[IDENTITY_ODYN_TEXT_BYTES_MAX + 1];
    memset(text, 'a', sizeof(text));
    struct eth_signature signature;
    struct identity_odyn_sealed sealed = { .len = ENVELOPE_TAG_BYTES };
    struct envelope_key key;
    assert_ok(envelope_key_init(&key));
    struct secret plain;
    const struct span bad[] = { SPAN_EMPTY, { text, sizeof(text) }, SPAN_LIT("\xff") };
    for (size_t i = 0; i < 3; i++) {
        assert_err(identity_odyn_sign(f.odyn, bad[i], &signature, &f.why), INVALID);
        check_why("1 to 4096 bytes of UTF-8");
        assert_err(identity_odyn_encrypt(f.odyn, bad[i], &key.public_key, &sealed, &f.why),
                   INVALID);
    }
    sealed.len = ENVELOPE_TAG_BYTES;
    assert_err(identity_odyn_decrypt(f.odyn, &sealed, &key.public_key, &plain, &f.why), INVALID);
    sealed.len = IDENTITY_ODYN_SEALED_BYTES_MAX + 1;
    assert_err(identity_odyn_decrypt(f.odyn, &sealed, &key.public_key, &plain, &f.why), INVALID);
    struct identity_odyn_raw raw;
    const struct eip1559_tx tx = { .data = { text, IDENTITY_ODYN_DATA_BYTES_MAX + 1 } };
    assert_err(identity_odyn_sign_tx(f.odyn, &tx, &raw, &f.why), INVALID);
    envelope_key_close(&key);
    assert_int_equal(server_served(&f.server), 0);
}

/* The longest of everything fits: control characters take six bytes each. */
static void test_longest(void **state) {
    (void)state;
    static char text[IDENTITY_ODYN_TEXT_BYTES_MAX + 1];
    memset(text, 1, IDENTITY_ODYN_TEXT_BYTES_MAX);
    struct eth_signature signature;
    reply_signed(5, text, 0, WALLET_5);
    assert_ok(identity_odyn_sign(f.odyn, span_str(text), &signature, &f.why));
    static char body[SERVER_BODY_BYTES];
    size_t len = (size_t)snprintf(body, sizeof(body), "{\"plaintext\":\"");
    for (size_t i = 0; i < IDENTITY_ODYN_PLAIN_BYTES_MAX; i++) {
        len += (size_t)snprintf(body + len, sizeof(body) - len, "\\u0001");
    }
    (void)snprintf(body + len, sizeof(body) - len, "\"}");
    reply(200, body);
    struct identity_odyn_sealed sealed = { .len = IDENTITY_ODYN_SEALED_BYTES_MAX };
    struct envelope_key key;
    assert_ok(envelope_key_init(&key));
    struct secret plain;
    assert_ok(identity_odyn_decrypt(f.odyn, &sealed, &key.public_key, &plain, &f.why));
    assert_int_equal(plain.len, IDENTITY_ODYN_PLAIN_BYTES_MAX);
    assert_memory_equal(plain.ptr, text, plain.len);
    secret_close(&plain);
    (void)snprintf(body + len, sizeof(body) - len, "a\"}");
    reply(200, body);
    assert_err(identity_odyn_decrypt(f.odyn, &sealed, &key.public_key, &plain, &f.why), MALFORMED);
    check_why("has 4097 bytes, not 1 to 4096");
    assert_null(plain.ptr);
    envelope_key_close(&key);
}

/* ---- Transactions ---- */

static const uint8_t calldata[36] = { 0xe1, 0x65, 0x5c, 0x63, 1 };

static struct eip1559_tx good_tx(void) {
    struct eip1559_tx tx = {
        .chain_id = 84532,
        .nonce = 0,
        .max_priority_fee_per_gas_wei = 1000000,
        .max_fee_per_gas_wei = 3000000001,
        .gas_limit = 300000,
        .data = { calldata, sizeof(calldata) },
    };
    tx.to.bytes[0] = 0x6a;
    return tx;
}

struct signed_answer {
    uint8_t raw[8192];
    size_t raw_len;
    uint8_t hash[KECCAK256_BYTES];
};

static void sign_answer(const struct eip1559_tx *tx, unsigned number, struct signed_answer *out) {
    struct secret key;
    key_of(number, &key);
    struct eth_signature signature;
    assert_ok(eip1559_sign(tx, &key, &signature));
    secret_close(&key);
    struct writer w = { out->raw, 0, sizeof(out->raw) };
    assert_ok(eip1559_encode(tx, &signature, &w));
    out->raw_len = w.len;
    keccak256(writer_span(&w), out->hash);
}

static void reply_tx(const struct signed_answer *answer) {
    static char raw[HEX_TEXT_BYTES(8192)];
    char hash[HEX_TEXT_BYTES(KECCAK256_BYTES)];
    static char body[SERVER_BODY_BYTES];
    hex_encode((struct span){ answer->raw, answer->raw_len }, raw);
    hex_encode((struct span){ answer->hash, sizeof(answer->hash) }, hash);
    int len = snprintf(body, sizeof(body),
                       "{\"raw_transaction\":\"0x%s\",\"transaction_hash\":\"0x%s\",\"signature\":"
                       "\"0x00\",\"address\":\"" WALLET_5 "\",\"attestation\":null}",
                       raw, hash);
    assert_in_range(len, 1, sizeof(body) - 1);
    reply(200, body);
}

static void test_sign_tx(void **state) {
    (void)state;
    struct eip1559_tx tx = good_tx();
    struct signed_answer answer;
    sign_answer(&tx, 5, &answer);
    reply_tx(&answer);
    struct identity_odyn_raw raw;
    assert_ok(identity_odyn_sign_tx(f.odyn, &tx, &raw, &f.why));
    assert_int_equal(raw.len, answer.raw_len);
    assert_memory_equal(raw.bytes, answer.raw, raw.len);
    assert_memory_equal(raw.hash, answer.hash, sizeof(raw.hash));
    assert_non_null(
        strstr(f.server.request,
               "{\"include_attestation\":false,\"payload\":{\"kind\":\"structured\","
               "\"chain_id\":\"0x14a34\",\"nonce\":\"0x0\",\"max_priority_fee_per_gas\":"
               "\"0xf4240\",\"max_fee_per_gas\":\"0xb2d05e01\",\"gas_limit\":\"0x493e0\","
               "\"value\":\"0x0\",\"to\":\"0x6a00000000000000000000000000000000000000\","
               "\"data\":\"0xe1655c6301000000000000000000000000"
               "00000000000000000000000000000000000000\",\"access_list\":[]}}"));
    static uint8_t data[IDENTITY_ODYN_DATA_BYTES_MAX];
    tx.data = (struct span){ data, sizeof(data) };
    tx.value_wei[30] = 0x01;
    sign_answer(&tx, 5, &answer);
    reply_tx(&answer);
    assert_ok(identity_odyn_sign_tx(f.odyn, &tx, &raw, &f.why));
    assert_non_null(strstr(f.server.request, "\"value\":\"0x100\","));
}

static void refuse_tx(const struct signed_answer *answer, const char *why) {
    const struct eip1559_tx tx = good_tx();
    reply_tx(answer);
    struct identity_odyn_raw raw;
    assert_err(identity_odyn_sign_tx(f.odyn, &tx, &raw, &f.why), BAD_AUTH);
    check_why(why);
    assert_int_equal(raw.len, 0);
}

static void test_sign_tx_field_differs(void **state) {
    (void)state;
    for (unsigned i = 0; i < EIP1559_FIELD_NONE; i++) {
        struct eip1559_tx tx = good_tx();
        tx.chain_id += i == EIP1559_CHAIN_ID;
        tx.nonce += i == EIP1559_NONCE;
        tx.max_priority_fee_per_gas_wei += i == EIP1559_MAX_PRIORITY_FEE_PER_GAS;
        tx.max_fee_per_gas_wei += i == EIP1559_MAX_FEE_PER_GAS;
        tx.gas_limit += i == EIP1559_GAS_LIMIT;
        tx.to.bytes[19] = i == EIP1559_TO;
        tx.value_wei[31] = i == EIP1559_VALUE;
        tx.data.len -= i == EIP1559_DATA;
        struct signed_answer answer;
        sign_answer(&tx, 5, &answer);
        char why[128];
        (void)snprintf(why, sizeof(why), "is not the transaction it was asked to sign: %s differs",
                       eip1559_field_name((enum eip1559_field)i));
        refuse_tx(&answer, why);
    }
}

static void test_sign_tx_lies(void **state) {
    (void)state;
    const struct eip1559_tx tx = good_tx();
    struct signed_answer answer;
    sign_answer(&tx, 6, &answer);
    refuse_tx(&answer, "another wallet signed it");
    sign_answer(&tx, 5, &answer);
    answer.hash[0] ^= 1;
    refuse_tx(&answer, "its hash is another");
    sign_answer(&tx, 5, &answer);
    answer.raw[answer.raw_len] = 0;
    answer.raw_len++;
    refuse_tx(&answer, "is not a signed transaction of type 2");
    answer.raw_len -= 2;
    refuse_tx(&answer, "is not a signed transaction of type 2");
    answer.raw_len = 0;
    refuse_tx(&answer, "is not a signed transaction of type 2");
    answer.raw_len = IDENTITY_ODYN_RAW_BYTES_MAX + 1;
    reply_tx(&answer);
    struct identity_odyn_raw raw;
    assert_err(identity_odyn_sign_tx(f.odyn, &tx, &raw, &f.why), MALFORMED);
    check_why("raw_transaction is too long");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_sign),         CASE(test_sign_lies), CASE(test_changed_wallet),
        CASE(test_changed_key),  CASE(test_signer),    CASE(test_arguments),
        CASE(test_longest),      CASE(test_sign_tx),   CASE(test_sign_tx_field_differs),
        CASE(test_sign_tx_lies),
    };
    return cmocka_run_group_tests_name("odyn_sign", tests, NULL, NULL);
}
