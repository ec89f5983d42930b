/* SPDX-License-Identifier: Apache-2.0 */
/* The client and odyn-sim, which were written from the same description but share no code for it:
 * every call of one is served by the other. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hex.h"
#include "identity/odyn.h"
#include "identity/signer.h"
#include "test.h"

#define URL_BYTES 64

struct live {
    pid_t pid;
    FILE *out;
    struct identity_odyn *odyn;
    struct wallet wallet;
    struct status why;
};

static struct live live;

/* The ready line: "odyn-sim ready url=... wallet=... pid=N". */
static void read_ready(char url[static URL_BYTES]) {
    char line[256];
    assert_non_null(fgets(line, sizeof(line), live.out));
    const char *at = strstr(line, "url=");
    assert_non_null(at);
    size_t len = strcspn(at + 4, " ");
    assert_true(len < URL_BYTES);
    memcpy(url, at + 4, len);
    url[len] = '\0';
    at = strstr(line, "wallet=");
    assert_non_null(at);
    assert_ok(wallet_parse((struct span){ (const uint8_t *)at + 7, 42 }, &live.wallet));
}

static int setup(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    live.pid = fork();
    assert_true(live.pid >= 0);
    if (live.pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)execl(TEST_ODYN_SIM, "odyn-sim", "--port", "0", (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    live.out = fdopen(ends[0], "r");
    assert_non_null(live.out);
    char url[URL_BYTES];
    read_ready(url);
    const struct identity_odyn_cfg cfg = { .base_url = url, .attempt_timeout_ms = 60000 };
    assert_ok(identity_odyn_init(&live.odyn, &cfg, &live.why));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    identity_odyn_close(&live.odyn);
    assert_int_equal(kill(live.pid, SIGTERM), 0);
    int status = 0;
    assert_int_equal(waitpid(live.pid, &status, 0), live.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)fclose(live.out);
    return 0;
}

static void test_wallet(void **state) {
    (void)state;
    struct wallet wallet;
    assert_ok(identity_odyn_address(live.odyn, &wallet, &live.why));
    assert_true(wallet_equal(&wallet, &live.wallet));
    struct identity_signer signer;
    assert_ok(identity_odyn_signer(live.odyn, &signer, &live.why));
    struct eth_signature signature;
    const struct span text = SPAN_LIT("NovaKMS:TLS:v1:\x01\"\\\xc3\xbc");
    assert_ok(signer.sign_text(signer.ctx, text, &signature));
    assert_ok(eth_recover_message(text, &signature, &wallet));
    assert_true(wallet_equal(&wallet, &live.wallet));
}

static void test_transaction(void **state) {
    (void)state;
    static uint8_t data[IDENTITY_ODYN_DATA_BYTES_MAX];
    const size_t lens[] = { 0, 1, 36, sizeof(data) };
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct eip1559_tx tx = {
            .chain_id = 84532,
            .nonce = i == 0 ? 0 : UINT64_MAX,
            .max_priority_fee_per_gas_wei = 1,
            .max_fee_per_gas_wei = UINT64_MAX,
            .gas_limit = 300000,
            .data = { data, lens[i] },
        };
        tx.value_wei[i] = (uint8_t)i;
        struct identity_odyn_raw raw;
        assert_ok(identity_odyn_sign_tx(live.odyn, &tx, &raw, &live.why));
        struct eip1559_signed parsed;
        assert_ok(eip1559_parse((struct span){ raw.bytes, raw.len }, &parsed));
        assert_int_equal(eip1559_compare(&parsed.tx, &tx), EIP1559_FIELD_NONE);
        assert_true(wallet_equal(&parsed.sender, &live.wallet));
    }
}

static void test_random(void **state) {
    (void)state;
    struct secret a;
    struct secret b;
    assert_ok(identity_odyn_random(live.odyn, &a, &live.why));
    assert_ok(identity_odyn_random(live.odyn, &b, &live.why));
    assert_int_equal(a.len, IDENTITY_ODYN_RANDOM_BYTES);
    assert_memory_not_equal(a.ptr, b.ptr, IDENTITY_ODYN_RANDOM_BYTES);
    secret_close(&a);
    secret_close(&b);
}

static void test_encrypt(void **state) {
    (void)state;
    struct envelope_key own;
    struct envelope_public enclave;
    assert_ok(envelope_key_init(&own));
    assert_ok(identity_odyn_encryption_key(live.odyn, &enclave, &live.why));
    static uint8_t plain[IDENTITY_ODYN_PLAIN_BYTES_MAX];
    memset(plain, 7, sizeof(plain)); /* The longest request: each byte is escaped. */
    const size_t lens[] = { 1, sizeof(plain) };
    for (size_t i = 0; i < 2; i++) {
        struct identity_odyn_sealed sealed;
        assert_ok(identity_odyn_encrypt(live.odyn, (struct span){ plain, lens[i] }, &own.public_key,
                                        &sealed, &live.why));
        static uint8_t opened[IDENTITY_ODYN_PLAIN_BYTES_MAX];
        const struct envelope envelope = { &own, &enclave, sealed.nonce };
        assert_ok(envelope_open(&envelope, (struct span){ sealed.bytes, sealed.len }, opened));
        assert_int_equal(sealed.len, lens[i] + ENVELOPE_TAG_BYTES);
        assert_memory_equal(opened, plain, lens[i]);
    }
    envelope_key_close(&own);
}

static void test_decrypt(void **state) {
    (void)state;
    struct envelope_key own;
    struct envelope_public enclave;
    assert_ok(envelope_key_init(&own));
    assert_ok(identity_odyn_encryption_key(live.odyn, &enclave, &live.why));
    struct identity_odyn_sealed sealed = { .nonce = { 9 }, .len = 9 + ENVELOPE_TAG_BYTES };
    const struct span text = SPAN_LIT("a\"\\\n\xf0\x9f\x98\x80\x01");
    assert_int_equal(text.len, 9);
    assert_ok(
        envelope_seal(&(struct envelope){ &own, &enclave, sealed.nonce }, text, sealed.bytes));
    struct secret opened;
    assert_ok(identity_odyn_decrypt(live.odyn, &sealed, &own.public_key, &opened, &live.why));
    assert_true(span_equal((struct span){ opened.ptr, opened.len }, text));
    secret_close(&opened);
    assert_err(identity_odyn_decrypt(live.odyn, &sealed, &own.public_key, &opened, &live.why),
               INVALID);
    assert_string_equal(live.why.text, "Odyn refused /v1/encryption/decrypt (400): nonce already "
                                       "used by this client_public_key");
    sealed.nonce[0]++;
    assert_err(identity_odyn_decrypt(live.odyn, &sealed, &own.public_key, &opened, &live.why),
               INVALID);
    envelope_key_close(&own);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wallet),  cmocka_unit_test(test_transaction),
        cmocka_unit_test(test_random),  cmocka_unit_test(test_encrypt),
        cmocka_unit_test(test_decrypt),
    };
    return cmocka_run_group_tests_name("odyn_live", tests, setup, teardown);
}
