/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>

#include "base/hex.h"
#include "base/secret.h"

#define SCHEME "http://"
#define BASIC "Basic "
#define ADDRESS_BYTES_MAX 16

_Static_assert(sizeof(BASIC) + BASE64_TEXT_BYTES(NET_PROXY_USER_BYTES_MAX) <=
                   NET_PROXY_AUTHORIZATION_BYTES,
               "it has room for the longest credentials");

/* ---- The URL ---- */

/* Decodes %XX in user information; what would need it and lacks it is refused. */
static RC decode_user(struct span text, struct writer *out) {
    struct reader in = { text.ptr, text.len };
    while (in.len > 0) {
        uint8_t byte = 0;
        TRY(read_u8(&in, &byte));
        ENSURE(byte > ' ' && byte < 0x7f && strchr("@/?#[]", byte) == NULL, INVALID);
        if (byte == '%') {
            struct span digits = SPAN_EMPTY;
            TRY(read_span(&in, 2, &digits));
            TRY(hex_decode(digits, &byte, 1));
            ENSURE(byte >= ' ' && byte != 0x7f, INVALID); /* RFC 7617: no control characters. */
        }
        TRY(write_u8(out, byte));
    }
    return OK;
}

static RC encode_authorization(struct span user_text, char *out) {
    uint8_t user[NET_PROXY_USER_BYTES_MAX];
    struct writer w = { user, 0, sizeof(user) };
    struct rc rc = decode_user(user_text, &w);
    if (rc.err == E_OK && memchr(user, ':', w.len) == NULL) {
        rc = write_u8(&w, ':'); /* A user without a password. */
    }
    if (rc.err == E_OK) {
        memcpy(out, BASIC, strlen(BASIC));
        base64_encode(writer_span(&w), out + strlen(BASIC));
    }
    secret_wipe(user, sizeof(user));
    return rc.err == E_OK ? OK : ERR(INVALID);
}

static bool is_host_byte(char c) {
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_letter || (c >= '0' && c <= '9') || strchr(".-_:", c) != NULL;
}

RC net_proxy_set_url(struct net_proxy *proxy, const char *url) {
    struct span at = span_str(url);
    ENSURE(span_has_prefix(at, SPAN_LIT(SCHEME)), INVALID);
    at = (struct span){ at.ptr + strlen(SCHEME), at.len - strlen(SCHEME) };
    if (at.len > 0 && at.ptr[at.len - 1] == '/') {
        at.len--;
    }
    size_t user_len = at.len;
    while (user_len > 0 && at.ptr[user_len - 1] != '@') {
        user_len--;
    }
    struct net_target target;
    struct rc rc = net_target_parse((struct span){ at.ptr + user_len, at.len - user_len }, &target);
    ENSURE(rc.err == E_OK, INVALID);
    for (const char *c = target.host; *c != '\0'; c++) {
        ENSURE(is_host_byte(*c), INVALID);
    }
    char authorization[NET_PROXY_AUTHORIZATION_BYTES] = { 0 };
    if (user_len > 0) {
        TRY(encode_authorization((struct span){ at.ptr, user_len - 1 }, authorization));
    }
    proxy->target = target;
    memcpy(proxy->authorization, authorization, sizeof(authorization));
    secret_wipe(authorization, sizeof(authorization));
    return OK;
}

void net_proxy_close(struct net_proxy *proxy) {
    secret_wipe(proxy, sizeof(*proxy));
}

/* ---- Exceptions ---- */

RC net_proxy_set_exceptions(struct net_proxy *proxy, const char *list) {
    size_t len = strlen(list);
    ENSURE(len <= NET_PROXY_EXCEPT_BYTES_MAX, TOO_BIG);
    for (const char *c = list; *c != '\0'; c++) {
        ENSURE((*c >= ' ' && *c < 0x7f) || *c == '\t', INVALID);
    }
    memcpy(proxy->except, list, len + 1);
    return OK;
}

struct address {
    uint8_t bytes[ADDRESS_BYTES_MAX];
    size_t len; /* 4 or 16. */
};

static bool parse_address(struct span text, struct address *out) {
    char copy[INET6_ADDRSTRLEN] = { 0 };
    if (text.len >= sizeof(copy) || span_copy(text, (uint8_t *)copy, sizeof(copy)).err != E_OK) {
        return false;
    }
    out->len = inet_pton(AF_INET, copy, out->bytes) == 1 ? 4 : 16;
    return out->len == 4 || inet_pton(AF_INET6, copy, out->bytes) == 1;
}

static bool is_same_prefix(const struct address *a, const struct address *b, uint64_t bit_count) {
    if (a->len != b->len || bit_count > 8 * a->len) {
        return false;
    }
    size_t whole = (size_t)bit_count / 8;
    unsigned rest = bit_count % 8;
    if (!span_equal((struct span){ a->bytes, whole }, (struct span){ b->bytes, whole })) {
        return false;
    }
    return rest == 0 || (a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest) == 0;
}

/* Cuts s before its first such byte; gives what follows it, ptr NULL when there is none. */
static struct span cut_at(struct span *s, char byte) {
    const uint8_t *found = s->len == 0 ? NULL : memchr(s->ptr, byte, s->len);
    if (found == NULL) {
        return SPAN_EMPTY;
    }
    size_t len = (size_t)(found - s->ptr);
    struct span rest = { found + 1, s->len - len - 1 };
    s->len = len;
    return rest;
}

static bool matches_name(struct span entry, const char *host) {
    size_t host_len = strlen(host);
    host_len -= host_len > 0 && host[host_len - 1] == '.' ? 1 : 0;
    if (entry.len > 0 && entry.ptr[0] == '.') {
        entry = (struct span){ entry.ptr + 1, entry.len - 1 };
    }
    if (entry.len == 0 || entry.len > host_len) {
        return false;
    }
    size_t at = host_len - entry.len;
    return strncasecmp(host + at, (const char *)entry.ptr, entry.len) == 0 &&
           (at == 0 || host[at - 1] == '.');
}

static bool matches_host(struct span entry, const char *host) {
    struct address own;
    struct address listed;
    struct span bits_text = cut_at(&entry, '/');
    if (!parse_address(span_str(host), &own)) {
        return bits_text.ptr == NULL && matches_name(entry, host);
    }
    if (!parse_address(entry, &listed)) {
        return false;
    }
    uint64_t bit_count = 8 * listed.len;
    bool has_bits =
        bits_text.ptr == NULL || bytes_parse_decimal(bits_text, bit_count, &bit_count).err == E_OK;
    return has_bits && is_same_prefix(&own, &listed, bit_count);
}

/* Cuts ":PORT" off; false when it is there and not a port. */
static bool split_port(struct span *entry, struct span *port_text) {
    if (entry->len > 0 && entry->ptr[0] == '[') {
        struct span inner = { entry->ptr + 1, entry->len - 1 };
        *port_text = cut_at(&inner, ']');
        *entry = inner;
        if (port_text->ptr == NULL || (port_text->len > 0 && port_text->ptr[0] != ':')) {
            return false;
        }
        *port_text = port_text->len == 0 ? SPAN_EMPTY
                                         : (struct span){ port_text->ptr + 1, port_text->len - 1 };
        return true;
    }
    struct span host = *entry;
    *port_text = cut_at(&host, ':');
    bool is_bare_v6 = port_text->ptr != NULL && port_text->len > 0 &&
                      memchr(port_text->ptr, ':', port_text->len) != NULL;
    if (is_bare_v6) {
        *port_text = SPAN_EMPTY;
    } else {
        *entry = host;
    }
    return true;
}

static bool is_excepted(struct span entry, const struct net_target *target) {
    struct span port_text = SPAN_EMPTY;
    uint64_t port = 0;
    if (span_equal(entry, SPAN_LIT("*"))) {
        return true;
    }
    if (!split_port(&entry, &port_text)) {
        return false;
    }
    if (port_text.ptr != NULL &&
        (bytes_parse_decimal(port_text, UINT16_MAX, &port).err != E_OK || port != target->port)) {
        return false;
    }
    return matches_host(entry, target->host);
}

bool net_target_is_loopback(const struct net_target *target) {
    struct span host = span_str(target->host);
    struct address address;
    return matches_name(SPAN_LIT("localhost"), target->host) ||
           (parse_address(host, &address) && (matches_host(SPAN_LIT("127.0.0.0/8"), target->host) ||
                                              matches_host(SPAN_LIT("::1"), target->host)));
}

bool net_proxy_covers(const struct net_proxy *proxy, const struct net_target *target) {
    if (proxy == NULL || proxy->target.port == 0) {
        return false;
    }
    const char *at = proxy->except;
    while (*at != '\0') {
        size_t len = strcspn(at, ", \t");
        if (is_excepted((struct span){ (const uint8_t *)at, len }, target)) {
            return false;
        }
        at += len;
        at += strspn(at, ", \t");
    }
    return true;
}

/* ---- The tunnel ---- */

size_t net_proxy_write_request(const struct net_proxy *proxy, const struct net_target *target,
                               char request[static NET_PROXY_REQUEST_BYTES]) {
    char text[NET_TARGET_BYTES];
    bool has_user = proxy->authorization[0] != '\0';
    (void)net_target_format(target, text);
    int n =
        snprintf(request, NET_PROXY_REQUEST_BYTES, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n",
                 text, text, has_user ? "Proxy-Authorization: " : "", proxy->authorization,
                 has_user ? "\r\n" : "");
    ASSERT(n > 0 && n < (int)NET_PROXY_REQUEST_BYTES);
    return (size_t)n;
}

static RC fail(struct status *why, struct rc rc, const char *what) {
    status_set(why, STATUS_UNAVAILABLE, "%s", what);
    return rc;
}

/* Where the head ends, 0 when that is not there yet. A byte that no head holds ends it at once. */
static RC find_end(struct span input, size_t *end, struct status *why) {
    *end = 0;
    for (size_t i = 0; i < input.len; i++) {
        uint8_t c = input.ptr[i];
        bool is_text = (c >= ' ' && c != 0x7f) || c == '\t' || c == '\r';
        bool is_end_of_line = c == '\n' && i > 0 && input.ptr[i - 1] == '\r';
        bool follows_return = i > 0 && input.ptr[i - 1] == '\r';
        if ((!is_text && !is_end_of_line) || (follows_return && c != '\n')) {
            return fail(why, ERR(MALFORMED), "does not answer in HTTP");
        }
        if (is_end_of_line && i >= 3 && input.ptr[i - 2] == '\n') {
            *end = i + 1;
            return OK;
        }
    }
    return OK;
}

/* "HTTP/1.1 200", then the end of the line or a blank and words. */
static RC read_status_line(struct span head, unsigned *code, struct status *why) {
    struct reader in = { head.ptr, head.len };
    struct span version = SPAN_EMPTY;
    struct span digits = SPAN_EMPTY;
    uint64_t value = 0;
    uint8_t after = 0;
    bool is_good = read_span(&in, 9, &version).err == E_OK &&
                   (span_equal(version, SPAN_LIT("HTTP/1.1 ")) ||
                    span_equal(version, SPAN_LIT("HTTP/1.0 "))) &&
                   read_span(&in, 3, &digits).err == E_OK &&
                   bytes_parse_decimal(digits, 599, &value).err == E_OK && value >= 100 &&
                   read_u8(&in, &after).err == E_OK && (after == ' ' || after == '\r');
    if (!is_good) {
        return fail(why, ERR(MALFORMED), "does not answer in HTTP");
    }
    *code = (unsigned)value;
    return OK;
}

RC net_proxy_read_answer(struct span input, size_t *head_len, struct status *why) {
    unsigned code = 0;
    struct span window = input;
    if (window.len > NET_PROXY_HEAD_BYTES_MAX) {
        window.len = NET_PROXY_HEAD_BYTES_MAX;
    }
    TRY(find_end(window, head_len, why));
    if (*head_len == 0) {
        return input.len < NET_PROXY_HEAD_BYTES_MAX
                   ? ERR(AGAIN)
                   : fail(why, ERR(TOO_BIG), "answers with a head of more than 8192 bytes");
    }
    TRY(read_status_line((struct span){ input.ptr, *head_len }, &code, why));
    if (code >= 200 && code <= 299) {
        return OK;
    }
    const char *meaning = "";
    if (code == 407) {
        meaning = ": it wants other credentials";
    } else if (code == 403) {
        meaning = ": it does not allow this target";
    } else if (code == 502 || code == 503 || code == 504) {
        meaning = ": it does not reach the target";
    }
    status_set(why, STATUS_UNAVAILABLE, "answers %u%s", code, meaning);
    return ERR(DENIED);
}
