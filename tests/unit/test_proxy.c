/* SPDX-License-Identifier: Apache-2.0 */
/* Which proxy, for which targets, and what its answer means. */
#include "net/proxy.h"
#include "test.h"

/* ---- The URL ---- */

static struct url_row {
    const char *name;
    const char *url;
    const char *target; /* NULL: refused. */
    const char *authorization;
} url_rows[] = {
    { "address", "http://127.0.0.1:10000", "127.0.0.1:10000", "" },
    { "slash_after", "http://proxy.example:3128/", "proxy.example:3128", "" },
    { "ipv6", "http://[::1]:1", "[::1]:1", "" },
    { "user_and_password", "http://Aladdin:open%20sesame@p:1", "p:1",
      "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" }, /* RFC 7617, section 2. */
    { "user_only", "http://me@p:1", "p:1", "Basic bWU6" },
    { "colon_in_password", "http://a:b:c@p:1", "p:1", "Basic YTpiOmM=" },
    { "escaped_at", "http://a:%40@p:1", "p:1", "Basic YTpA" },
    { "escaped_lower", "http://a:%c3%a4@p:1", "p:1", "Basic YTrDpA==" },
    { "empty", "", NULL, NULL },
    { "no_scheme", "127.0.0.1:10000", NULL, NULL },
    { "https", "https://p:1", NULL, NULL },
    { "socks", "socks5://p:1", NULL, NULL },
    { "no_port", "http://p", NULL, NULL },
    { "port_0", "http://p:0", NULL, NULL },
    { "port_65536", "http://p:65536", NULL, NULL },
    { "no_host", "http://:1", NULL, NULL },
    { "path", "http://p:1/x", NULL, NULL },
    { "query", "http://p:1?x", NULL, NULL },
    { "query_in_host", "http://p?x:1", NULL, NULL },
    { "blank_in_host", "http://p p:1", NULL, NULL },
    { "two_at", "http://a@b:c@p:1", NULL, NULL },
    { "blank_in_user", "http://a b@p:1", NULL, NULL },
    { "cut_escape", "http://a%4@p:1", NULL, NULL },
    { "no_escape", "http://a%zz@p:1", NULL, NULL },
    { "prefixed_escape", "http://a%0x1@p:1", NULL, NULL },
    { "escaped_end_of_line", "http://a%0d%0aX@p:1", NULL, NULL },
    { "escaped_nul", "http://a%00@p:1", NULL, NULL },
    { "escaped_delete", "http://a%7f@p:1", NULL, NULL },
};

static void test_url(void **state) {
    const struct url_row *row = *state;
    struct net_proxy proxy = { .except = "kept" };
    const struct net_proxy before = proxy;
    char *url = (char *)test_dup(row->url, strlen(row->url) + 1);
    struct rc rc = net_proxy_set_url(&proxy, url);
    free(url);
    if (row->target == NULL) {
        assert_err(rc, INVALID);
        assert_memory_equal(&proxy, &before, sizeof(proxy));
        return;
    }
    char text[NET_TARGET_BYTES];
    assert_ok(rc);
    assert_string_equal(net_target_format(&proxy.target, text), row->target);
    assert_string_equal(proxy.authorization, row->authorization);
    assert_string_equal(proxy.except, "kept");
    net_proxy_close(&proxy);
    assert_string_equal(proxy.authorization, "");
    net_proxy_close(&proxy);
}

static void test_user_length(void **state) {
    (void)state;
    struct net_proxy proxy = { 0 };
    char url[NET_PROXY_USER_BYTES_MAX + 32];
    (void)snprintf(url, sizeof(url), "http://%0*d:%d@p:1", (int)NET_PROXY_USER_BYTES_MAX - 2, 0, 1);
    assert_ok(net_proxy_set_url(&proxy, url));
    assert_int_equal(strlen(proxy.authorization), 6 + 340);
    (void)snprintf(url, sizeof(url), "http://%0*d:%d@p:1", (int)NET_PROXY_USER_BYTES_MAX - 1, 0, 1);
    assert_err(net_proxy_set_url(&proxy, url), INVALID);
    /* The colon that is added counts. */
    (void)snprintf(url, sizeof(url), "http://%0*d@p:1", (int)NET_PROXY_USER_BYTES_MAX, 0);
    assert_err(net_proxy_set_url(&proxy, url), INVALID);
}

/* ---- Exceptions ---- */

static struct except_row {
    const char *name;
    const char *list;
    const char *target;
    bool covers;
} except_rows[] = {
    { "none", "", "host:1", true },
    { "everything", "*", "host:1", false },
    { "everything_among_others", "a, *", "host:1", false },
    { "name", "node.example", "node.example:1", false },
    { "name_case", "Node.Example", "nODE.eXAMPLE:1", false },
    { "name_below", "example", "node.example:1", false },
    { "leading_dot", ".example", "node.example:1", false },
    { "leading_dot_itself", ".example", "example:1", false },
    { "trailing_dot_of_host", "node.example", "node.example.:1", false },
    { "no_boundary", "ample", "node.example:1", true },
    { "longer", "a.node.example", "node.example:1", true },
    { "only_a_dot", ".", "node.example:1", true },
    { "star_within", "*.example", "node.example:1", true },
    { "second", "localhost,127.0.0.1", "127.0.0.1:1", false },
    { "blanks", "  localhost \t node.example ", "node.example:1", false },
    { "empty_entries", ",,node.example,,", "node.example:1", false },
    { "port", "node.example:8443", "node.example:8443", false },
    { "other_port", "node.example:8443", "node.example:8444", true },
    { "port_below", "example:8443", "node.example:8443", false },
    { "bad_port", "node.example:https", "node.example:443", true },
    { "empty_port", "node.example:", "node.example:443", true },
    { "port_too_big", "node.example:65979", "node.example:443", true },
    { "ipv4", "10.0.0.1", "10.0.0.1:1", false },
    { "ipv4_is_no_suffix", "0.0.1", "10.0.0.1:1", true },
    { "ipv4_port", "10.0.0.1:2", "10.0.0.1:2", false },
    { "ipv4_other_port", "10.0.0.1:2", "10.0.0.1:3", true },
    { "ipv4_range", "10.1.0.0/16", "10.1.255.255:1", false },
    { "ipv4_outside", "10.1.0.0/16", "10.2.0.0:1", true },
    { "ipv4_odd_range", "10.128.0.0/9", "10.255.0.1:1", false },
    { "ipv4_odd_outside", "10.128.0.0/9", "10.127.0.1:1", true },
    { "ipv4_range_port", "10.0.0.0/8:443", "10.9.9.9:443", false },
    { "range_0", "0.0.0.0/0", "10.9.9.9:443", false },
    { "range_32", "10.9.9.9/32", "10.9.9.9:443", false },
    { "range_33", "10.9.9.9/33", "10.9.9.9:443", true },
    { "range_empty", "10.9.9.9/", "10.9.9.9:443", true },
    { "range_0_other_family", "0.0.0.0/0", "[::1]:1", true },
    { "ipv6", "::1", "[::1]:1", false },
    { "ipv6_spelled_out", "0:0:0:0:0:0:0:1", "[::1]:1", false },
    { "ipv6_brackets", "[::1]", "[::1]:1", false },
    { "ipv6_port", "[::1]:2", "[::1]:2", false },
    { "ipv6_other_port", "[::1]:2", "[::1]:3", true },
    { "ipv6_unclosed", "[::1", "[::1]:1", true },
    { "ipv6_after_bracket", "[::1]2", "[::1]:2", true },
    { "ipv6_range", "fd00::/8", "[fd12::1]:1", false },
    { "ipv6_outside", "fd00::/8", "[fe00::1]:1", true },
    { "range_of_a_name", "example/8", "example:1", true },
    { "name_for_address", "localhost", "127.0.0.1:1", true },
};

static void test_except(void **state) {
    const struct except_row *row = *state;
    struct net_proxy proxy = { 0 };
    struct net_target target;
    assert_ok(net_target_parse(span_str(row->target), &target));
    assert_ok(net_proxy_set_exceptions(&proxy, row->list));
    assert_false(net_proxy_covers(&proxy, &target)); /* There is no proxy yet. */
    assert_ok(net_proxy_set_url(&proxy, "http://p:1"));
    assert_int_equal(net_proxy_covers(&proxy, &target), row->covers);
}

static void test_except_length(void **state) {
    (void)state;
    struct net_proxy proxy = { 0 };
    char list[NET_PROXY_EXCEPT_BYTES_MAX + 2];
    memset(list, 'a', sizeof(list));
    list[sizeof(list) - 1] = '\0';
    assert_err(net_proxy_set_exceptions(&proxy, list), TOO_BIG);
    assert_string_equal(proxy.except, "");
    list[sizeof(list) - 2] = '\0';
    assert_ok(net_proxy_set_exceptions(&proxy, list));
    assert_string_equal(proxy.except, list);
}

static void test_except_control(void **state) {
    (void)state;
    struct net_proxy proxy = { 0 };
    assert_err(net_proxy_set_exceptions(&proxy, "a\nb"), INVALID);
    assert_err(net_proxy_set_exceptions(&proxy, "\177"), INVALID);
    assert_err(net_proxy_set_exceptions(&proxy, "\303\244"), INVALID);
    assert_ok(net_proxy_set_exceptions(&proxy, "a\tb"));
}

static void test_loopback(void **state) {
    (void)state;
    static const struct {
        const char *target;
        bool is_loopback;
    } rows[] = {
        { "localhost:1", true },    { "LOCALHOST:1", true }, { "a.localhost:1", true },
        { "127.0.0.1:1", true },    { "127.9.9.9:1", true }, { "[::1]:1", true },
        { "128.0.0.1:1", false },   { "[::2]:1", false },    { "localhost.example:1", false },
        { "127.0.0.1.a:1", false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct net_target target;
        assert_ok(net_target_parse(span_str(rows[i].target), &target));
        assert_int_equal(net_target_is_loopback(&target), rows[i].is_loopback);
    }
}

static void test_none_covers_nothing(void **state) {
    (void)state;
    const struct net_target target = { .host = "h", .port = 1 };
    assert_false(net_proxy_covers(NULL, &target));
}

/* ---- The tunnel ---- */

static void test_request(void **state) {
    (void)state;
    struct net_proxy proxy = { 0 };
    struct net_target target = { .host = "::1", .port = 8443 };
    char request[NET_PROXY_REQUEST_BYTES];
    assert_ok(net_proxy_set_url(&proxy, "http://p:1"));
    size_t len = net_proxy_write_request(&proxy, &target, request);
    assert_string_equal(request, "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n");
    assert_int_equal(len, strlen(request));
    assert_ok(net_proxy_set_url(&proxy, "http://a:b@p:1"));
    len = net_proxy_write_request(&proxy, &target, request);
    assert_string_equal(request, "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n"
                                 "Proxy-Authorization: Basic YTpi\r\n\r\n");
    assert_int_equal(len, strlen(request));
}

static void test_longest_request(void **state) {
    (void)state;
    struct net_proxy proxy = { 0 };
    struct net_target target = { .port = 65535 };
    char request[NET_PROXY_REQUEST_BYTES] = { 0 };
    memset(target.host, ':', NET_HOST_BYTES_MAX); /* Which asks for brackets. */
    memset(proxy.authorization, 'a', sizeof(proxy.authorization) - 1);
    size_t len = net_proxy_write_request(&proxy, &target, request);
    assert_int_equal(len, strlen(request));
}

#define HEAD "HTTP/1.1 200 OK\r\n"

static struct answer_row {
    const char *name;
    const char *in;
    enum err want;
    size_t head_len;
    const char *why;
} answer_rows[] = {
    { "ok", HEAD "\r\n", E_OK, 19, NULL },
    { "old_version", "HTTP/1.0 200 Connection established\r\n\r\n", E_OK, 39, NULL },
    { "no_words", "HTTP/1.1 200\r\n\r\n", E_OK, 16, NULL },
    { "other_2xx", "HTTP/1.1 299 x\r\n\r\n", E_OK, 18, NULL },
    { "fields", HEAD "Via: a\tb\r\nX:\r\n\r\n", E_OK, 33, NULL },
    { "utf8_in_words", "HTTP/1.1 200 \xc3\xa4\r\n\r\n", E_OK, 19, NULL },
    { "bytes_after", HEAD "\r\n\r\n\1", E_OK, 19, NULL },
    { "nothing", "", E_AGAIN, 0, NULL },
    { "half", "HTTP/1.1 20", E_AGAIN, 0, NULL },
    { "one_end_of_line", HEAD, E_AGAIN, 0, NULL },
    { "half_an_end", HEAD "\r", E_AGAIN, 0, NULL },
    { "refused_credentials", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", E_DENIED, 46,
      "answers 407: it wants other credentials" },
    { "forbidden", "HTTP/1.1 403 No\r\n\r\n", E_DENIED, 19,
      "answers 403: it does not allow this target" },
    { "bad_gateway", "HTTP/1.1 502 x\r\n\r\n", E_DENIED, 18,
      "answers 502: it does not reach the target" },
    { "unavailable", "HTTP/1.1 503 x\r\n\r\n", E_DENIED, 18,
      "answers 503: it does not reach the target" },
    { "gateway_timeout", "HTTP/1.1 504 x\r\n\r\n", E_DENIED, 18,
      "answers 504: it does not reach the target" },
    { "moved", "HTTP/1.1 302 x\r\n\r\n", E_DENIED, 18, "answers 302" },
    { "interim", "HTTP/1.1 100 Continue\r\n\r\n", E_DENIED, 25, "answers 100" },
    { "highest", "HTTP/1.1 599 x\r\n\r\n", E_DENIED, 18, "answers 599" },
    { "code_600", "HTTP/1.1 600 x\r\n\r\n", E_MALFORMED, 18, NULL },
    { "code_099", "HTTP/1.1 099 x\r\n\r\n", E_MALFORMED, 18, NULL },
    { "code_of_2_digits", "HTTP/1.1 20 x\r\n\r\n", E_MALFORMED, 17, NULL },
    { "code_of_4_digits", "HTTP/1.1 2000 x\r\n\r\n", E_MALFORMED, 19, NULL },
    { "code_signed", "HTTP/1.1 +20 x\r\n\r\n", E_MALFORMED, 18, NULL },
    { "code_blank", "HTTP/1.1  200 x\r\n\r\n", E_MALFORMED, 19, NULL },
    { "version_2", "HTTP/2 200 x\r\n\r\n", E_MALFORMED, 16, NULL },
    { "version_1_2", "HTTP/1.2 200 x\r\n\r\n", E_MALFORMED, 18, NULL },
    { "lower_case", "http/1.1 200 x\r\n\r\n", E_MALFORMED, 18, NULL },
    { "short_line", "HTTP\r\n\r\n", E_MALFORMED, 8, NULL },
    { "empty_line_first", "\r\n\r\n", E_MALFORMED, 4, NULL },
    { "bare_line_feed", "HTTP/1.1 200 OK\n\n", E_MALFORMED, 0, NULL },
    { "bare_return", "HTTP/1.1 200\rOK", E_MALFORMED, 0, NULL },
    { "control", "HTTP/1.1 200 \1", E_MALFORMED, 0, NULL },
    { "delete", "HTTP/1.1 200 \177", E_MALFORMED, 0, NULL },
    { "tls", "\x15\x03\x03", E_MALFORMED, 0, NULL },
};

static void test_answer(void **state) {
    const struct answer_row *row = *state;
    size_t len = strlen(row->in);
    /* However it is cut, the outcome is the same, and never earlier than it can be known. */
    enum err last = E_AGAIN;
    size_t head_len = 0;
    struct status why = { 0 };
    for (size_t n = 0; n <= len && last == E_AGAIN; n++) {
        uint8_t *in = test_dup(row->in, n);
        last = net_proxy_read_answer((struct span){ in, n }, &head_len, &why).err;
        free(in);
    }
    assert_string_equal(err_name(last), err_name(row->want));
    assert_int_equal(head_len, row->head_len);
    uint8_t *in = test_dup(row->in, len);
    assert_int_equal(net_proxy_read_answer((struct span){ in, len }, &head_len, &why).err, last);
    free(in);
    assert_int_equal(head_len, row->head_len);
    if (last == E_MALFORMED) {
        assert_string_equal(why.text, "does not answer in HTTP");
    } else if (row->why != NULL) {
        assert_string_equal(why.text, row->why);
    }
}

static void test_nul_in_answer(void **state) {
    (void)state;
    size_t head_len = 0;
    struct status why = { 0 };
    assert_err(net_proxy_read_answer(SPAN_LIT("HTTP/1.1 200 \0\r\n\r\n"), &head_len, &why),
               MALFORMED);
}

static void test_head_length(void **state) {
    (void)state;
    uint8_t *head = malloc(NET_PROXY_HEAD_BYTES_MAX + 8);
    assert_non_null(head);
    memset(head, 'a', NET_PROXY_HEAD_BYTES_MAX + 8);
    memcpy(head, HEAD, strlen(HEAD));
    memcpy(head + NET_PROXY_HEAD_BYTES_MAX - 4, "\r\n\r\n", 4);
    size_t head_len = 0;
    struct status why = { 0 };
    struct span input = { head, NET_PROXY_HEAD_BYTES_MAX };
    assert_ok(net_proxy_read_answer(input, &head_len, &why));
    assert_int_equal(head_len, NET_PROXY_HEAD_BYTES_MAX);
    memcpy(head + NET_PROXY_HEAD_BYTES_MAX - 4, "a\r\n\r\n", 5);
    assert_err(net_proxy_read_answer(input, &head_len, &why), TOO_BIG);
    assert_string_equal(why.text, "answers with a head of more than 8192 bytes");
    input.len++;
    assert_err(net_proxy_read_answer(input, &head_len, &why), TOO_BIG);
    input.len = NET_PROXY_HEAD_BYTES_MAX - 1;
    assert_err(net_proxy_read_answer(input, &head_len, &why), AGAIN);
    free(head);
}

int main(void) {
    struct CMUnitTest tests[160] = {
        cmocka_unit_test(test_user_length),         cmocka_unit_test(test_except_length),
        cmocka_unit_test(test_except_control),      cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_none_covers_nothing), cmocka_unit_test(test_request),
        cmocka_unit_test(test_longest_request),     cmocka_unit_test(test_nul_in_answer),
        cmocka_unit_test(test_head_length),
    };
    size_t count = 9;
    TEST_ADD_ROWS(tests, count, test_url, url_rows);
    TEST_ADD_ROWS(tests, count, test_except, except_rows);
    TEST_ADD_ROWS(tests, count, test_answer, answer_rows);
    return _cmocka_run_group_tests("proxy", tests, count, NULL, NULL);
}
