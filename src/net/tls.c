/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include <mbedtls/version.h>

#include "base/clock.h"
#include "base/secret.h"
#include "net/tls_internal.h"

/* Header, explicit nonce or content type, tag: what a record of AES-GCM adds, rounded up. */
#define RECORD_OVERHEAD_BYTES 64u

struct tls {
    mbedtls_ssl_context ssl;
    struct tls_config *config;
    struct tls_io *io; /* During a step. */
    tls_check_cb check;
    void *check_ctx;
    size_t
        record_plain_max; /* What the peer accepts in one record; 0 before the handshake's end. */
    const char *why;
    struct identity_peer peer;
    bool has_certificate;
    bool is_peer_good;
    struct status peer_why;
};

/* mbedTLS asks for a record's header, then for its body. */
static int receive(void *ctx, unsigned char *buf, size_t len) {
    struct reader *in = &((struct tls *)ctx)->io->in;
    if (in->len == 0) {
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    size_t n = len < in->len ? len : in->len;
    memcpy(buf, in->ptr, n);
    in->ptr += n;
    in->len -= n;
    return (int)n;
}

static int send_out(void *ctx, const unsigned char *buf, size_t len) {
    struct writer *out = &((struct tls *)ctx)->io->out;
    size_t room = out->bytes - out->len;
    if (room == 0) {
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    }
    size_t n = len < room ? len : room;
    memcpy(out->ptr + out->len, buf, n);
    out->len += n;
    return (int)n;
}

static uint64_t now_unix_s(const struct tls_verify_cfg *verify) {
    return verify->now_unix_s != NULL ? verify->now_unix_s(verify->ctx) : clock_unix_ms() / 1000;
}

/* Called once for each certificate the peer sent; only the leaf is looked at. A server lets all
 * pass, because under TLS 1.3 a refusal in here reaches the client as noise; it refuses afterwards,
 * with a reason. A client refuses here, before it proves anything. */
static int verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags) {
    struct tls *tls = ctx;
    *flags = 0;
    if (depth != 0) {
        return 0;
    }
    const struct tls_verify_cfg *cfg = &tls->config->verify;
    struct identity_verify_cfg how = { .chain_id = cfg->chain_id,
                                       .now_unix_s = now_unix_s(cfg),
                                       .skew_s = cfg->skew_s };
    tls->has_certificate = true;
    struct rc rc = identity_verify(crt, &how, &tls->peer, &tls->peer_why);
    if (rc.err == E_OK && tls->check != NULL) {
        rc = tls->check(tls->check_ctx, &tls->peer, &tls->peer_why);
    }
    tls->is_peer_good = rc.err == E_OK;
    return tls->is_peer_good || tls->config->is_server ? 0 : MBEDTLS_ERR_X509_FATAL_ERROR;
}

static RC session_init(struct tls **out, struct tls_config *config) {
    *out = NULL;
    AUTO(tls_close) struct tls *tls = calloc(1, sizeof(*tls));
    ENSURE(tls != NULL, NOMEM);
    mbedtls_ssl_init(&tls->ssl);
    tls->config = tls_config_ref(config);
    tls->why = "";
    ENSURE(mbedtls_ssl_setup(&tls->ssl, &config->conf) == 0, NOMEM);
    mbedtls_ssl_set_bio(&tls->ssl, tls, send_out, receive, NULL);
    mbedtls_ssl_set_verify(&tls->ssl, verify, tls);
    *out = tls;
    tls = NULL;
    return OK;
}

RC tls_server_init(struct tls **out, struct tls_config *config) {
    ASSERT(config->is_server);
    return session_init(out, config);
}

/* Server name indication carries DNS names only (RFC 6066, section 3). */
static bool is_dns_name(const char *host) {
    struct in6_addr address;
    return inet_pton(AF_INET, host, &address) != 1 && inet_pton(AF_INET6, host, &address) != 1;
}

RC tls_client_init(struct tls **out, struct tls_config *config, const char *host,
                   tls_check_cb check, void *ctx) {
    ASSERT(!config->is_server);
    ASSERT(check != NULL);
    TRY(session_init(out, config));
    (*out)->check = check;
    (*out)->check_ctx = ctx;
    const char *name = host != NULL && is_dns_name(host) ? host : NULL;
    if (mbedtls_ssl_set_hostname(&(*out)->ssl, name) != 0) {
        tls_close(out);
        return ERR(NOMEM);
    }
    return OK;
}

void tls_close(struct tls **tls) {
    struct tls *t = *tls;
    *tls = NULL;
    if (t == NULL) {
        return;
    }
    mbedtls_ssl_free(&t->ssl);
    tls_config_close(&t->config);
    secret_wipe(t, sizeof(*t));
    free(t);
}

static struct rc fail(struct tls *tls, struct rc rc, const char *why) {
    tls->why = why;
    return rc;
}

/* The library's codes become ours where they were returned. */
static struct rc explain(struct tls *tls, int ret) {
    switch (ret) {
    case MBEDTLS_ERR_SSL_WANT_READ:
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return ERR(AGAIN);
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
    case MBEDTLS_ERR_SSL_CONN_EOF:
        return fail(tls, ERR(CLOSED), "the peer closed the TLS session");
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
        return fail(tls, ERR(NOMEM), "out of memory in TLS");
    case MBEDTLS_ERR_X509_FATAL_ERROR:
        return fail(tls, ERR(BAD_AUTH), tls->peer_why.text);
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        return fail(
            tls, ERR(MALFORMED),
            "the peer ended the TLS session with an alert: no version, suite or protocol in "
            "common, or it refused us");
    case MBEDTLS_ERR_SSL_INVALID_MAC:
        return fail(tls, ERR(MALFORMED), "a TLS record does not authenticate");
    case MBEDTLS_ERR_SSL_INVALID_RECORD:
        return fail(tls, ERR(MALFORMED), "the peer does not speak TLS");
    default:
        return fail(tls, ERR(MALFORMED),
                    "TLS failed: the peer's message is not allowed, or nothing is in common");
    }
}

RC tls_handshake(struct tls *tls, struct tls_io *io) {
    tls->io = io;
    int ret = mbedtls_ssl_handshake(&tls->ssl);
    tls->io = NULL;
    if (ret != 0) {
        return explain(tls, ret);
    }
    bool is_client = !tls->config->is_server;
    if (is_client && !tls->is_peer_good) {
        return fail(tls, ERR(BAD_AUTH), "the server showed no certificate");
    }
    if (is_client && mbedtls_ssl_get_alpn_protocol(&tls->ssl) == NULL) {
        return fail(tls, ERR(MALFORMED), "the server does not speak our protocol (ALPN)");
    }
    int max = mbedtls_ssl_get_max_out_record_payload(&tls->ssl);
    ENSURE(max > 0, CRYPTO);
    tls->record_plain_max = (size_t)max < TLS_PLAIN_BYTES_MAX ? (size_t)max : TLS_PLAIN_BYTES_MAX;
    return OK;
}

RC tls_read(struct tls *tls, struct tls_io *io, uint8_t *buf, size_t bytes, size_t *len) {
    tls->io = io;
    int ret = mbedtls_ssl_read(&tls->ssl, buf, bytes);
#if MBEDTLS_VERSION_MAJOR >= 3
    /* A server of another make sends tickets although we ask for none. */
    while (ret == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) {
        ret = mbedtls_ssl_read(&tls->ssl, buf, bytes);
    }
#endif
    tls->io = NULL;
    if (ret > 0) {
        *len = (size_t)ret;
        return OK;
    }
    return ret == 0 ? ERR(CLOSED) : explain(tls, ret);
}

RC tls_write(struct tls *tls, struct tls_io *io, struct span plain, size_t *len) {
    *len = 0;
    tls->io = io;
    while (*len < plain.len) {
        size_t rest = plain.len - *len;
        size_t n = rest < tls->record_plain_max ? rest : tls->record_plain_max;
        if (io->out.bytes - io->out.len < n + RECORD_OVERHEAD_BYTES) {
            break;
        }
        int ret = mbedtls_ssl_write(&tls->ssl, plain.ptr + *len, n);
        if (ret <= 0) {
            tls->io = NULL;
            struct rc rc = explain(tls, ret);
            return rc.err == E_AGAIN ? ERR(CRYPTO) : rc; /* There was room for the record. */
        }
        *len += (size_t)ret;
    }
    tls->io = NULL;
    return OK;
}

void tls_finish(struct tls *tls, struct tls_io *io) {
    tls->io = io;
    int ret = mbedtls_ssl_close_notify(&tls->ssl);
    (void)ret; /* The connection ends all the same. */
    tls->io = NULL;
}

bool tls_is_up(const struct tls *tls) {
    return tls->record_plain_max > 0;
}

const char *tls_alpn(const struct tls *tls) {
    return mbedtls_ssl_get_alpn_protocol(&tls->ssl);
}

const struct identity_peer *tls_peer(const struct tls *tls) {
    return tls->is_peer_good && tls_is_up(tls) ? &tls->peer : NULL;
}

bool tls_peer_has_certificate(const struct tls *tls) {
    return tls->has_certificate;
}

const struct status *tls_peer_why(const struct tls *tls) {
    return &tls->peer_why;
}

const char *tls_why(const struct tls *tls) {
    return tls->why;
}

int tls_version(const struct tls *tls) {
    const char *name = mbedtls_ssl_get_version(&tls->ssl);
    return span_equal(span_str(name), SPAN_LIT("TLSv1.3")) ? 13 : 12;
}
