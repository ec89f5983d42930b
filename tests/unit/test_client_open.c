/* SPDX-License-Identifier: Apache-2.0 */
/* What novakms_open takes and refuses. */
#include "client/novakms.h"
#include "test.h"

static int sign_nothing(void *data, struct novakms_span text,
                        uint8_t signature[NOVAKMS_SIGNATURE_BYTES]) {
    (void)data;
    (void)text;
    memset(signature, 0, NOVAKMS_SIGNATURE_BYTES);
    return -1;
}

#define WALLET "0x1111111111111111111111111111111111111111"
static const uint8_t zero_key[NOVAKMS_KEY_BYTES];
static const uint8_t some_wallet[NOVAKMS_WALLET_BYTES] = { 1 };

static struct open_row {
    const char *name;
    struct novakms_cfg cfg;
    enum novakms_code want;
} open_rows[] = {
    { "no_servers", { .server_wallets = WALLET }, NOVAKMS_INVALID_ARGUMENT },
    { "no_trust", { .servers = "a:1" }, NOVAKMS_INVALID_ARGUMENT },
    { "bad_server", { .servers = "a:1,b", .server_wallets = WALLET }, NOVAKMS_INVALID_ARGUMENT },
    { "empty_server", { .servers = "a:1,", .server_wallets = WALLET }, NOVAKMS_INVALID_ARGUMENT },
    { "bad_wallet", { .servers = "a:1", .server_wallets = "0x12" }, NOVAKMS_INVALID_ARGUMENT },
    { "bad_second_wallet",
      { .servers = "a:1", .server_wallets = WALLET ",x" },
      NOVAKMS_INVALID_ARGUMENT },
    { "missing_registry",
      { .servers = "a:1", .registry_path = "/nonexistent/registry.json" },
      NOVAKMS_INVALID_ARGUMENT },
    { "missing_identity",
      { .servers = "a:1", .server_wallets = WALLET, .identity_path = "/nonexistent/key" },
      NOVAKMS_UNAUTHENTICATED },
    { "key_zero",
      { .servers = "a:1", .server_wallets = WALLET, .identity_key = zero_key },
      NOVAKMS_UNAUTHENTICATED },
    { "two_identities",
      { .servers = "a:1",
        .server_wallets = WALLET,
        .identity_key = zero_key,
        .identity_path = "x" },
      NOVAKMS_INVALID_ARGUMENT },
    { "signer_without_wallet",
      { .servers = "a:1", .server_wallets = WALLET, .sign_cb = sign_nothing },
      NOVAKMS_INVALID_ARGUMENT },
    { "signer_that_fails",
      { .servers = "a:1",
        .server_wallets = WALLET,
        .sign_cb = sign_nothing,
        .sign_wallet = some_wallet },
      NOVAKMS_UNAUTHENTICATED },
    { "proxy", { .servers = "a:1", .server_wallets = WALLET, .proxy = "http://p:1" }, NOVAKMS_OK },
    { "no_proxy_at_all", { .servers = "a:1", .server_wallets = WALLET, .proxy = "" }, NOVAKMS_OK },
    { "proxy_of_another_kind",
      { .servers = "a:1", .server_wallets = WALLET, .proxy = "socks5://p:1" },
      NOVAKMS_INVALID_ARGUMENT },
    { "own_proxy_counts_for_loopback_too",
      { .servers = "127.0.0.1:1", .server_wallets = WALLET, .proxy = "p:1" },
      NOVAKMS_INVALID_ARGUMENT },
    { "bad_exceptions",
      { .servers = "a:1", .server_wallets = WALLET, .proxy = "http://p:1", .no_proxy = "a\nb" },
      NOVAKMS_INVALID_ARGUMENT },
    { "timeout_over_max",
      { .servers = "a:1", .server_wallets = WALLET, .timeout_ms = NOVAKMS_TIMEOUT_MAX_MS + 1 },
      NOVAKMS_INVALID_ARGUMENT },
    { "timeout_max",
      { .servers = "a:1", .server_wallets = WALLET, .timeout_ms = NOVAKMS_TIMEOUT_MAX_MS },
      NOVAKMS_OK },
    { "attempts_over_max",
      { .servers = "a:1", .server_wallets = WALLET, .attempt_count_max = 17 },
      NOVAKMS_INVALID_ARGUMENT },
    { "servers_16",
      { .servers = "a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1",
        .server_wallets = WALLET },
      NOVAKMS_OK },
    { "servers_17",
      { .servers = "a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1,a:1",
        .server_wallets = WALLET },
      NOVAKMS_INVALID_ARGUMENT },
    { "no_dev_dir", { .dev_dir = "/nonexistent" }, NOVAKMS_UNAVAILABLE },
};

static void test_open(void **state) {
    const struct open_row *row = *state;
    struct novakms *client = NULL;
    char error[NOVAKMS_TEXT_BYTES];
    enum novakms_code code = novakms_open(&row->cfg, &client, error);
    if (code != row->want) {
        fail_msg("%s: %s", novakms_code_name(code), error);
    }
    assert_true((client != NULL) == (code == NOVAKMS_OK));
    assert_true((error[0] == '\0') == (code == NOVAKMS_OK));
    novakms_close(&client);
    assert_int_equal(novakms_open(&row->cfg, &client, NULL), row->want);
    novakms_close(&client);
}

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(open_rows)];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_open, open_rows);
    return cmocka_run_group_tests_name("client_open", tests, NULL, NULL);
}
