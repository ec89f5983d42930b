/* SPDX-License-Identifier: Apache-2.0 */
/* "host:port", and a channel to none. */
#include "channel_world.h"

/* ---- Targets ---- */

static struct target_row {
    const char *name;
    const char *text;
    enum err want;
    const char *formatted;
} target_rows[] = {
    { "name_and_port", "node.example:9443", E_OK, "node.example:9443" },
    { "ipv4", "127.0.0.1:1", E_OK, "127.0.0.1:1" },
    { "ipv6", "[::1]:65535", E_OK, "[::1]:65535" },
    { "empty", "", E_INVALID, NULL },
    { "no_port", "host", E_INVALID, NULL },
    { "empty_port", "host:", E_MALFORMED, NULL },
    { "no_host", ":1", E_INVALID, NULL },
    { "port_0", "host:0", E_INVALID, NULL },
    { "port_65536", "host:65536", E_TOO_BIG, NULL },
    { "bare_ipv6", "::1:80", E_INVALID, NULL },
    { "unclosed_bracket", "[::1:80", E_INVALID, NULL },
    { "empty_bracket", "[]:80", E_INVALID, NULL },
    { "a_url", "https://host:80", E_INVALID, NULL },
    { "space", "a b:80", E_INVALID, NULL },
    { "control", "a\nb:80", E_INVALID, NULL },
};

static void test_target(void **state) {
    const struct target_row *row = *state;
    size_t len = strlen(row->text);
    uint8_t *text = test_dup(row->text, len);
    struct net_target target;
    enum err err = net_target_parse((struct span){ text, len }, &target).err;
    assert_string_equal(err_name(err), err_name(row->want));
    if (err == E_OK) {
        char formatted[NET_TARGET_BYTES];
        assert_string_equal(net_target_format(&target, formatted), row->formatted);
    }
    free(text);
}

static void test_target_length(void **state) {
    (void)state;
    char text[NET_HOST_BYTES_MAX + 8];
    struct net_target target;
    memset(text, 'a', sizeof(text));
    memcpy(text + NET_HOST_BYTES_MAX, ":65535", 7);
    assert_ok(net_target_parse(span_str(text), &target));
    memset(text, 'a', sizeof(text));
    memcpy(text + NET_HOST_BYTES_MAX + 1, ":1", 3);
    assert_err(net_target_parse(span_str(text), &target), INVALID);
}

static void test_bad_target(void **state) {
    (void)state;
    struct world *w = open_world((struct net_channel_cfg){ 0 });
    struct net_channel *channel = NULL;
    struct net_channel_cfg cfg = {
        .io = w->io, .target = "nowhere", .tls = w->tls, .check = check
    };
    struct status why = { 0 };
    assert_err(net_channel_init(&channel, &cfg, &why), INVALID);
    assert_null(channel);
    assert_int_equal(why.code, STATUS_INVALID_ARGUMENT);
    close_world(w);
}

int main(void) {
    struct CMUnitTest tests[64] = {
        cmocka_unit_test(test_target_length),
        cmocka_unit_test(test_bad_target),
    };
    size_t count = 2;
    TEST_ADD_ROWS(tests, count, test_target, target_rows);
    return _cmocka_run_group_tests("dial", tests, count, NULL, NULL);
}
