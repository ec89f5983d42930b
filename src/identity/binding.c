/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/binding.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <pb_decode.h>
#include <pb_encode.h>

#include "base/hex.h"
#include "crypto/sha256.h"
#include "identity/der.h"
#include "identity/signer.h"
#include "novakms/v1/frame.pb.h"

_Static_assert(IDENTITY_BINDING_BYTES_MAX == novakms_v1_TlsBinding_size, "as nanopb counts");

static const uint8_t oid_bytes[] = {
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x14, 0x01, 0xbe, 0x40, 0x93, 0x7a, 0x83,
    0xa9, 0x2a, 0x83, 0x9a, 0x4c, 0x83, 0xbf, 0x70, 0x81, 0x94, 0x75, 0x82,
    0xbe, 0x4f, 0x85, 0xf1, 0xd0, 0x2f, 0x81, 0xc4, 0x9c, 0x37, 0x01,
};
const struct span identity_oid_der = { oid_bytes, sizeof(oid_bytes) };

/* SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480) up to the point's coordinates. */
static const uint8_t p256_spki_head[] = {
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
};
#define P256_SPKI_BYTES (sizeof(p256_spki_head) + 64)

RC identity_claim_text(const struct identity_claim *claim, char text[static IDENTITY_TEXT_BYTES],
                       struct span *out) {
    uint8_t hash[SHA256_BYTES];
    TRY(sha256(claim->spki_der, hash));
    char hash_text[HEX_TEXT_BYTES(SHA256_BYTES)];
    hex_encode((struct span){ hash, sizeof(hash) }, hash_text);
    int len =
        snprintf(text, IDENTITY_TEXT_BYTES,
                 IDENTITY_TEXT_PREFIX "TLS:v1:%" PRIu64 ":%s:%" PRIu64 ":%" PRIu64, claim->chain_id,
                 hash_text, claim->not_before_unix_s, claim->not_after_unix_s);
    ASSERT(len > 0 && len < IDENTITY_TEXT_BYTES);
    *out = (struct span){ (const uint8_t *)text, (size_t)len };
    return OK;
}

RC identity_binding_encode(const struct identity_binding *binding, struct writer *out) {
    novakms_v1_TlsBinding message = novakms_v1_TlsBinding_init_zero;
    memcpy(message.wallet, binding->wallet.bytes, sizeof(message.wallet));
    message.not_before = binding->not_before_unix_s;
    message.not_after = binding->not_after_unix_s;
    memcpy(message.signature, binding->signature.bytes, sizeof(message.signature));
    pb_ostream_t stream = pb_ostream_from_buffer(out->ptr + out->len, out->bytes - out->len);
    ENSURE(pb_encode(&stream, novakms_v1_TlsBinding_fields, &message), TOO_BIG);
    out->len += stream.bytes_written;
    return OK;
}

RC identity_binding_decode(struct span value, struct identity_binding *out) {
    *out = (struct identity_binding){ 0 };
    ENSURE(value.len <= IDENTITY_BINDING_BYTES_MAX, MALFORMED);
    novakms_v1_TlsBinding message = novakms_v1_TlsBinding_init_zero;
    pb_istream_t stream = pb_istream_from_buffer(value.ptr, value.len);
    ENSURE(pb_decode(&stream, novakms_v1_TlsBinding_fields, &message), MALFORMED);
    struct identity_binding read = { .not_before_unix_s = message.not_before,
                                     .not_after_unix_s = message.not_after };
    memcpy(read.wallet.bytes, message.wallet, sizeof(message.wallet));
    memcpy(read.signature.bytes, message.signature, sizeof(message.signature));
    /* A protobuf message goes on as long as there are bytes: unknown, repeated and oddly spelt
     * fields show by not coming out again. */
    uint8_t again[IDENTITY_BINDING_BYTES_MAX];
    struct writer w = { again, 0, sizeof(again) };
    TRY(identity_binding_encode(&read, &w));
    ENSURE(span_equal(writer_span(&w), value), MALFORMED);
    *out = read;
    return OK;
}

/* Sets *why and returns the error: the sentence reaches the peer, and the log. */
#define REFUSE(name, ...)                                     \
    do {                                                      \
        status_set(why, STATUS_UNAUTHENTICATED, __VA_ARGS__); \
        return ERR(name);                                     \
    } while (0)

static RC check_key(const mbedtls_x509_crt *crt, struct status *why) {
    const struct span spki = { crt->pk_raw.p, crt->pk_raw.len };
    const struct span head = { p256_spki_head, sizeof(p256_spki_head) };
    if (spki.len != P256_SPKI_BYTES || !span_has_prefix(spki, head)) {
        REFUSE(MALFORMED, "The certificate's key is not an uncompressed P-256 point; "
                          "no other kind is allowed.");
    }
    return OK;
}

/* Reads one Extension. *value keeps what it is unless this is the binding's. */
static RC read_extension(struct reader *extensions, struct span *value, struct status *why) {
    struct span content = SPAN_EMPTY;
    struct span oid = SPAN_EMPTY;
    TRY(der_read(extensions, DER_SEQUENCE, &content));
    struct reader r = { content.ptr, content.len };
    TRY(der_read(&r, DER_OID, &oid));
    if (!span_equal(oid, identity_oid_der)) {
        return OK;
    }
    if (value->ptr != NULL) {
        REFUSE(MALFORMED, "The certificate has more than one wallet binding; one is allowed.");
    }
    if (r.len > 0 && r.ptr[0] == DER_BOOLEAN) {
        REFUSE(MALFORMED, "The wallet binding's extension is marked critical; it must not be.");
    }
    TRY(der_read(&r, DER_OCTET_STRING, value));
    ENSURE(r.len == 0, MALFORMED);
    return OK;
}

static RC find_binding(const mbedtls_x509_crt *crt, struct span *value, struct status *why) {
    *value = SPAN_EMPTY;
    struct reader r = { crt->v3_ext.p, crt->v3_ext.len };
    struct span list = SPAN_EMPTY;
    if (r.len > 0) {
        status_set(why, STATUS_UNAUTHENTICATED, "The certificate's extensions are malformed.");
        TRY(der_read(&r, DER_SEQUENCE, &list));
        ENSURE(r.len == 0, MALFORMED);
    }
    struct reader extensions = { list.ptr, list.len };
    while (extensions.len > 0) {
        TRY(read_extension(&extensions, value, why));
    }
    if (value->ptr == NULL) {
        REFUSE(MALFORMED, "The certificate has no wallet binding (extension " IDENTITY_OID ").");
    }
    return OK;
}

/* Seconds since 1970; negative before. mbedTLS has checked the fields' ranges. */
static int64_t unix_of(const mbedtls_x509_time *t) {
    struct tm utc = { .tm_year = t->year - 1900,
                      .tm_mon = t->mon - 1,
                      .tm_mday = t->day,
                      .tm_hour = t->hour,
                      .tm_min = t->min,
                      .tm_sec = t->sec };
    return timegm(&utc);
}

static RC check_dates(const mbedtls_x509_crt *crt, const struct identity_binding *binding,
                      const struct identity_verify_cfg *cfg, struct status *why) {
    int64_t from = unix_of(&crt->valid_from);
    int64_t to = unix_of(&crt->valid_to);
    if (from < 0 || to < 0 || binding->not_before_unix_s != (uint64_t)from ||
        binding->not_after_unix_s != (uint64_t)to) {
        REFUSE(MALFORMED, "The wallet binding's dates differ from the certificate's own.");
    }
    if (from >= to) {
        REFUSE(MALFORMED, "The wallet binding ends before it begins.");
    }
    if (to - from > IDENTITY_SPAN_S_MAX) {
        REFUSE(TOO_BIG, "The wallet binding spans %" PRId64 " s; at most %u s are allowed.",
               to - from, IDENTITY_SPAN_S_MAX);
    }
    if (cfg->now_unix_s + cfg->skew_s < (uint64_t)from) {
        REFUSE(EXPIRED, "The wallet binding is not valid before %" PRId64 "; it is %" PRIu64 ".",
               from, cfg->now_unix_s);
    }
    if (cfg->now_unix_s > (uint64_t)to + cfg->skew_s) {
        REFUSE(EXPIRED, "The wallet binding ended at %" PRId64 "; it is %" PRIu64 ".", to,
               cfg->now_unix_s);
    }
    return OK;
}

static RC check_signature(const mbedtls_x509_crt *crt, const struct identity_binding *binding,
                          uint64_t chain_id, struct status *why) {
    const struct identity_claim claim = { chain_id,
                                          { crt->pk_raw.p, crt->pk_raw.len },
                                          binding->not_before_unix_s,
                                          binding->not_after_unix_s };
    char buf[IDENTITY_TEXT_BYTES];
    struct span text = SPAN_EMPTY;
    TRY(identity_claim_text(&claim, buf, &text));
    struct wallet signer = { 0 };
    struct rc rc = eth_recover_message(text, &binding->signature, &signer);
    if (rc.err != E_OK) {
        status_set(why, STATUS_UNAUTHENTICATED,
                   "The wallet binding's signature is no secp256k1 signature with a low s and v of "
                   "27 or 28.");
        return rc;
    }
    if (!wallet_equal(&signer, &binding->wallet)) {
        char name[WALLET_TEXT_BYTES];
        REFUSE(BAD_AUTH,
               "Wallet %s did not sign this TLS key for chain %" PRIu64 " and these dates.",
               wallet_format(&binding->wallet, name), chain_id);
    }
    return OK;
}

RC identity_verify(const mbedtls_x509_crt *crt, const struct identity_verify_cfg *cfg,
                   struct identity_peer *out, struct status *why) {
    *out = (struct identity_peer){ 0 };
    struct span value = SPAN_EMPTY;
    struct identity_binding binding;
    status_set(why, STATUS_UNAUTHENTICATED, "The wallet binding could not be checked.");
    TRY(check_key(crt, why));
    TRY(find_binding(crt, &value, why));
    if (identity_binding_decode(value, &binding).err != E_OK) {
        REFUSE(MALFORMED, "The wallet binding is not exactly one TlsBinding message.");
    }
    TRY(check_dates(crt, &binding, cfg, why));
    TRY(check_signature(crt, &binding, cfg->chain_id, why));
    *out = (struct identity_peer){ binding.wallet, binding.not_before_unix_s,
                                   binding.not_after_unix_s };
    *why = (struct status){ .code = STATUS_OK };
    return OK;
}

RC identity_verify_der(struct span der, const struct identity_verify_cfg *cfg,
                       struct identity_peer *out, struct status *why) {
    *out = (struct identity_peer){ 0 };
    AUTO(mbedtls_x509_crt_free) mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    /* mbedTLS does not look past the certificate's own length. */
    if (mbedtls_x509_crt_parse_der(&crt, der.ptr, der.len) != 0 || crt.raw.len != der.len) {
        REFUSE(MALFORMED, "The certificate does not parse as one X.509 certificate in DER.");
    }
    return identity_verify(&crt, cfg, out, why);
}
