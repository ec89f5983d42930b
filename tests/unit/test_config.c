/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "node/config.h"
#include "test.h"

#define MAN_PAGE_BYTES 65536

/* An environment of NAME, value pairs that ends in NULL. */
static const char *get_pair(void *ctx, const char *name) {
    for (const char *const *pair = ctx; *pair != NULL; pair += 2) {
        if (strcmp(pair[0], name) == 0) {
            return pair[1];
        }
    }
    return NULL;
}

struct value_row {
    const char *name;
    const char *variable;
    const char *value;
    const char *error; /* NULL: the value is allowed. */
};

static struct value_row value_rows[] = {
    { "workers_min", "NODE_WORKERS", "1", NULL },
    { "workers_max", "NODE_WORKERS", "8", NULL },
    { "workers_zero", "NODE_WORKERS", "0",
      "NODE_WORKERS=0: not allowed; it must be a whole number from 1 to 8\n" },
    { "workers_9", "NODE_WORKERS", "9",
      "NODE_WORKERS=9: not allowed; it must be a whole number from 1 to 8\n" },
    { "number_text", "NODE_CONNECTIONS_MAX", "many",
      "NODE_CONNECTIONS_MAX=many: not allowed; it must be a whole number from 1 to 65536\n" },
    { "number_space", "NODE_CONNECTIONS_MAX", "1 ",
      "NODE_CONNECTIONS_MAX=1\\x20: not allowed; it must be a whole number from 1 to 65536\n" },
    { "number_negative", "READ_WAIT_MS", "-1",
      "READ_WAIT_MS=-1: not allowed; it must be a whole number from 0 to 60000\n" },
    { "number_wraps", "READ_WAIT_MS", "18446744073709551617",
      "READ_WAIT_MS=18446744073709551617: not allowed; it must be a whole number from 0 to "
      "60000\n" },
    { "empty_is_not_set", "READ_WAIT_MS", "", NULL },
    { "rate_off", "RATE_LIMIT_PER_MINUTE", "0", NULL },
    { "flag", "IN_ENCLAVE", "false", NULL },
    { "flag_number", "IN_ENCLAVE", "1", NULL },
    { "flag_yes", "IN_ENCLAVE", "yes", "IN_ENCLAVE=yes: not allowed; it must be true or false\n" },
    { "level", "LOG_LEVEL", "DEBUG", NULL },
    { "level_lower", "LOG_LEVEL", "debug",
      "LOG_LEVEL=debug: not allowed; it must be DEBUG, INFO, WARNING or ERROR\n" },
    { "url", "NODE_URL", "https://kms.example:8443", NULL },
    { "url_scheme", "NODE_URL", "ftp://kms.example",
      "NODE_URL=ftp://kms.example: not allowed; it must be a URL that starts with http:// or "
      "https://, at most 255 characters\n" },
    { "url_no_host", "NODE_URL", "https:///x",
      "NODE_URL=https:///x: not allowed; it must be a URL that starts with http:// or https://, at "
      "most 255 characters\n" },
    { "proxy", "https_proxy", "http://127.0.0.1:10000", NULL },
    { "proxy_capitals", "HTTPS_PROXY", "http://127.0.0.1:10000", NULL },
    { "proxy_scheme", "https_proxy", "https://me:pass@p:1",
      "https_proxy=(hidden): not allowed; it must be " NET_PROXY_URL_ALLOWED "\n" },
    { "proxy_capitals_scheme", "HTTPS_PROXY", "socks5://p:1",
      "HTTPS_PROXY=(hidden): not allowed; it must be " NET_PROXY_URL_ALLOWED "\n" },
    { "no_proxy", "no_proxy", "localhost,127.0.0.1", NULL },
    { "no_proxy_control", "NO_PROXY", "a\nb",
      "NO_PROXY=a\\x0ab: not allowed; it must be a list between commas or blanks, at most 2047 "
      "ASCII characters\n" },
    { "listen", "NODE_RPC_LISTEN", "127.0.0.1:0", NULL },
    { "listen_localhost", "NODE_RPC_LISTEN", "localhost:1", NULL },
    { "listen_v6", "NODE_RPC_LISTEN", "[::1]:65535", NULL },
    { "listen_v6_bare", "NODE_RPC_LISTEN", "::1:1",
      "NODE_RPC_LISTEN=::1:1: not allowed; it must be ADDRESS:PORT with a numeric address (or "
      "localhost) and a port from 0 to 65535\n" },
    { "listen_port", "NODE_RPC_LISTEN", "127.0.0.1:65536",
      "NODE_RPC_LISTEN=127.0.0.1:65536: not allowed; it must be ADDRESS:PORT with a numeric "
      "address (or localhost) and a port from 0 to 65535\n" },
    { "listen_no_port", "NODE_HTTP_LISTEN", "127.0.0.1",
      "NODE_HTTP_LISTEN=127.0.0.1: not allowed; it must be ADDRESS:PORT with a numeric address (or "
      "localhost) and a port from 0 to 65535\n" },
    { "listen_name", "NODE_HTTP_LISTEN", "kms.example:1",
      "NODE_HTTP_LISTEN=kms.example:1: not allowed; it must be ADDRESS:PORT with a numeric address "
      "(or localhost) and a port from 0 to 65535\n" },
    { "value_max", "MAX_VALUE_SIZE", "4128768", NULL },
    { "value_over", "MAX_VALUE_SIZE", "4128769",
      "MAX_VALUE_SIZE=4128769: not allowed; it must be a whole number from 1 to 4128768\n" },
    { "app_over_store", "MAX_STORE_BYTES", "2097152",
      "MAX_APP_STORAGE=10485760: not allowed; it must be at most MAX_STORE_BYTES (2097152)\n" },
    { "value_over_app", "MAX_APP_STORAGE", "65536",
      "MAX_VALUE_SIZE=1048576: not allowed; it must be at most MAX_APP_STORAGE (65536)\n" },
    { "retention", "TOMBSTONE_RETENTION_MS", "180000",
      "TOMBSTONE_RETENTION_MS=180000: not allowed; it must exceed REGISTRY_CACHE_TTL_SECONDS "
      "(180000 ms)\n" },
    { "retention_just_over", "TOMBSTONE_RETENTION_MS", "180001", NULL },
    { "refresh_not_below_ttl", "REGISTRY_REFRESH_SECONDS", "180",
      "REGISTRY_REFRESH_SECONDS=180: not allowed; it must be less than REGISTRY_CACHE_TTL_SECONDS "
      "(180)\n" },
    { "same_port", "NODE_HTTP_LISTEN", "0.0.0.0:8443",
      "NODE_HTTP_LISTEN: not allowed; port 8443 is NODE_RPC_LISTEN's already\n" },
#ifndef NOVA_KMS_CHAIN_ID
    { "wallet", "KMS_REGISTRY_ADDRESS", "0x6a28D24c9AEcdceC9B021ee6960FdDE592796af7", NULL },
    { "wallet_short", "KMS_REGISTRY_ADDRESS", "0x6a",
      "KMS_REGISTRY_ADDRESS=0x6a: not allowed; it must be 0x and 40 hex digits\n" },
    { "secret", "MASTER_SECRET_HEX",
      "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f", NULL },
    { "secret_short_is_hidden", "MASTER_SECRET_HEX", "5ec7e7",
      "MASTER_SECRET_HEX=(hidden): not allowed; it must be 64 hex digits\n" },
#endif
};

static void test_value(void **state) {
    const struct value_row *row = *state;
    const char *pairs[] = { row->variable, row->value, NULL };
    struct node_config config = { 0 };
    char errors[CONFIG_ERRORS_BYTES];
    struct rc rc = config_load(&config, get_pair, pairs, errors);
    assert_string_equal(errors, row->error == NULL ? "" : row->error);
    assert_err_equal(rc, row->error == NULL ? E_OK : E_BAD_CONFIG);
    config_close(&config);
    config_close(&config);
}

static const char *get_wrong(void *ctx, const char *name) {
    (void)ctx;
    (void)name;
    return "\x01wrong\xff";
}

/* Every variable of the table, all wrong: one line each, in the table's order, nothing hidden. */
static void test_all_wrong_at_once(void **state) {
    (void)state;
    struct node_config config = { 0 };
    char errors[CONFIG_ERRORS_BYTES];
    assert_err(config_load(&config, get_wrong, NULL, errors), BAD_CONFIG);
    const struct config_rows tables[] = { config_rows(), config_build_rows() };
    const char *at = errors;
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            size_t name_len = strlen(tables[t].at[i].name);
            assert_int_equal(strncmp(at, tables[t].at[i].name, name_len), 0);
            assert_int_equal(at[name_len], '=');
            at = strchr(at, '\n');
            assert_non_null(at);
            at++;
        }
    }
    assert_int_equal(*at, '\0');
    assert_null(strchr(errors, '\x01'));
    config_close(&config);
}

/* The names and defaults of the existing nodes. */
static void test_defaults(void **state) {
    (void)state;
    struct node_config config = { 0 };
    const char *none[] = { NULL };
    char errors[CONFIG_ERRORS_BYTES];
    assert_ok(config_load(&config, get_pair, none, errors));
    assert_in_range(config.workers, 1, 8);
    assert_int_equal(config.tick_s, 60);
    assert_int_equal(config.data_sync_interval_s, 10);
    assert_int_equal(config.peer_cache_ttl_s, 180);
    assert_int_equal(config.registry_cache_ttl_s, 180);
    assert_int_equal(config.app_bytes_max, 10485760);
    assert_int_equal(config.value_bytes_max, 1048576);
    assert_int_equal(config.clock_skew_max_ms, 5000);
    assert_int_equal(config.tombstone_retention_ms, 86400000);
    assert_int_equal(config.tombstones_per_app_max, 10000);
    assert_int_equal(config.sync_payload_bytes_max, 52428800);
    assert_int_equal(config.rate_limit_per_minute, 60000);
    assert_true(config.in_enclave);
    assert_string_equal(config.helios_rpc_url, "http://127.0.0.1:18545");
    assert_int_equal(config.chain_id, 84532);
    assert_int_equal(config.kms_app_id, 49);
    assert_false(config.has_master_secret);
    char text[CONFIG_ADDRESS_TEXT_BYTES];
    assert_string_equal(config_address_text(&config.rpc_listen, text), "0.0.0.0:8443");
    assert_string_equal(config_address_text(&config.http_listen, text), "0.0.0.0:8000");
}

static void test_address_text(void **state) {
    (void)state;
    struct config_address address = { 0 };
    char text[CONFIG_ADDRESS_TEXT_BYTES];
    assert_ok(config_parse_address("[::1]:80", &address));
    assert_string_equal(config_address_text(&address, text), "[::1]:80");
    assert_ok(config_parse_address("localhost:80", &address));
    assert_string_equal(config_address_text(&address, text), "127.0.0.1:80");
    assert_err(config_parse_address("", &address), BAD_CONFIG);
    assert_err(config_parse_address(":80", &address), BAD_CONFIG);
    assert_err(config_parse_address("[]:80", &address), BAD_CONFIG);
    assert_err(config_parse_address("127.0.0.1:", &address), BAD_CONFIG);
    assert_err(config_parse_address("00000000000000000000000000000000000000000000000127.0.0.1:1",
                                    &address),
               BAD_CONFIG);
}

/* Prints to memory: gives text to free. */
static char *printed(void (*print)(const struct node_config *config, FILE *out),
                     const struct node_config *config) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    print(config, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* The lower case name has precedence, and an empty variable counts as none. */
static void test_proxy(void **state) {
    (void)state;
    struct node_config config = { 0 };
    char errors[CONFIG_ERRORS_BYTES];
    const char *both[] = { "https_proxy", "http://user:word@low:1",
                           "HTTPS_PROXY", "http://up:1",
                           "no_proxy",    "low.example",
                           "NO_PROXY",    "*",
                           NULL };
    assert_ok(config_load(&config, get_pair, both, errors));
    assert_string_equal(config.proxy.target.host, "low");
    assert_string_equal(config.proxy.except, "low.example");
    char *text = printed(config_print, &config);
    assert_non_null(strstr(text, "https_proxy=http://(hidden)@low:1\n"));
    assert_non_null(strstr(text, "no_proxy=low.example\n"));
    assert_null(strstr(text, "word"));
    free(text);
    config_close(&config);
    assert_string_equal(config.proxy.authorization, "");
    const char *capitals[] = { "https_proxy", "",  "HTTPS_PROXY", "http://up:1",
                               "NO_PROXY",    "*", NULL };
    assert_ok(config_load(&config, get_pair, capitals, errors));
    assert_string_equal(config.proxy.target.host, "up");
    assert_string_equal(config.proxy.except, "*");
    config_close(&config);
    const char *none[] = { NULL };
    assert_ok(config_load(&config, get_pair, none, errors));
    text = printed(config_print, &config);
    assert_non_null(strstr(text, "https_proxy=\nno_proxy=\n"));
    free(text);
}

static void print_help(const struct node_config *config, FILE *out) {
    (void)config;
    config_print_help(out);
}

static void test_help_names_every_variable(void **state) {
    (void)state;
    char *help = printed(print_help, NULL);
    const struct config_rows tables[] = { config_rows(), config_build_rows() };
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            assert_non_null(strstr(help, tables[t].at[i].name));
        }
    }
    free(help);
}

/* Gives the man page without its backslashes, to free. */
static char *read_man_page(void) {
    FILE *file = fopen(TEST_VECTORS "/../../src/node/nova-kms.1", "r");
    assert_non_null(file);
    char *text = calloc(1, MAN_PAGE_BYTES);
    assert_non_null(text);
    size_t len = fread(text, 1, MAN_PAGE_BYTES - 1, file);
    assert_true(len < MAN_PAGE_BYTES - 1);
    assert_int_equal(fclose(file), 0);
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '\\') {
            *to++ = *from;
        }
    }
    *to = '\0';
    return text;
}

static void check_man_row(const char *page, const struct config_row *row) {
    char name[64];
    char text[128];
    (void)snprintf(name, sizeof(name), ".TP\n.B %s\n", row->name);
    const char *from = strstr(page, name);
    if (from == NULL) {
        fail_msg("the man page has no %s", row->name);
        return; /* For those who do not know that fail_msg does not. */
    }
    const char *end = strstr(from + 1, "\n.TP");
    (void)snprintf(text, sizeof(text), "Default: %s.", row->default_text);
    const char *found = strstr(from, row->default_text[0] == '\0' ? "Allowed: " : text);
    if (found == NULL || (end != NULL && found > end)) {
        fail_msg("the man page of %s lacks \"%s\"", row->name, text);
    }
    if (row->type == CONFIG_NUMBER) {
        (void)snprintf(text, sizeof(text), "from %llu to %llu.", (unsigned long long)row->min,
                       (unsigned long long)row->max);
        found = strstr(from, text);
        if (found == NULL || (end != NULL && found > end)) {
            fail_msg("the man page of %s lacks \"%s\"", row->name, text);
        }
    }
}

static void test_man_page_has_the_table(void **state) {
    (void)state;
    char *page = read_man_page();
    const struct config_rows tables[] = { config_rows(), config_build_rows() };
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            check_man_row(page, &tables[t].at[i]);
        }
    }
    free(page);
}

static void test_url_host(void **state) {
    (void)state;
    static const struct {
        const char *url;
        const char *host;
    } rows[] = {
        { "https://kms.example:8443/x", "kms.example" },
        { "https://kms.example", "kms.example" },
        { "http://10.0.0.1/", "10.0.0.1" },
        { "https://[2001:db8::1]:8443", "2001:db8::1" },
        { "", "" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char host[CONFIG_URL_BYTES];
        config_url_host(rows[i].url, host);
        assert_string_equal(host, rows[i].host);
    }
}

#ifndef NOVA_KMS_CHAIN_ID
static void test_secret_is_never_printed(void **state) {
    (void)state;
    static const char secret[] = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f";
    const char *pairs[] = { "MASTER_SECRET_HEX", secret, NULL };
    struct node_config config = { 0 };
    char errors[CONFIG_ERRORS_BYTES];
    assert_ok(config_load(&config, get_pair, pairs, errors));
    assert_true(config.has_master_secret);
    assert_int_equal(config.master_secret[31], 15);
    char *text = printed(config_print, &config);
    assert_non_null(strstr(text, "MASTER_SECRET_HEX=(set)\n"));
    assert_null(strstr(text, "0b0c0d"));
    free(text);
    config_close(&config);
    assert_int_equal(config.master_secret[31], 0);
}
#endif

int main(void) {
    struct CMUnitTest tests[TEST_ROWS(value_rows) + 8];
    size_t count = 0;
    TEST_ADD_ROWS(tests, count, test_value, value_rows);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_all_wrong_at_once);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_defaults);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_address_text);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_proxy);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_help_names_every_variable);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_man_page_has_the_table);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_url_host);
#ifndef NOVA_KMS_CHAIN_ID
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_secret_is_never_printed);
#endif
    return _cmocka_run_group_tests("config", tests, count, NULL, NULL);
}
