/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/envelope.h"

#include <mbedtls/ecdh.h>
#include <mbedtls/ecp.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/md.h>

#include "base/secret.h"
#include "crypto/aes_gcm.h"
#include "crypto/random.h"

#define INFO "capsule-ecdh-aes256gcm-v1"
#define SALT_BYTES (2 * ENVELOPE_POINT_BYTES + ENVELOPE_NONCE_BYTES)

/* SEQUENCE { SEQUENCE { id-ecPublicKey, secp384r1 }, BIT STRING without unused bits { point } }. */
static const uint8_t der_head[] = { 0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86,
                                    0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
                                    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00 };

_Static_assert(ENVELOPE_NONCE_BYTES == AES_GCM_NONCE_BYTES, "GCM's own nonce");
_Static_assert(ENVELOPE_TAG_BYTES == AES_GCM_TAG_BYTES, "one tag length");
_Static_assert(sizeof(der_head) + ENVELOPE_POINT_BYTES == ENVELOPE_DER_BYTES, "one encoding");

/* Scratch of one computation on the curve. */
struct curve {
    mbedtls_ecp_group group;
    mbedtls_ecp_point point;
    mbedtls_mpi scalar;
    mbedtls_mpi shared_x;
};

static void curve_close(struct curve *c) {
    mbedtls_ecp_group_free(&c->group);
    mbedtls_ecp_point_free(&c->point);
    mbedtls_mpi_free(&c->scalar); /* Wipes, as the next. */
    mbedtls_mpi_free(&c->shared_x);
}

/* curve_close() also after an error. */
static RC curve_init(struct curve *c) {
    mbedtls_ecp_group_init(&c->group);
    mbedtls_ecp_point_init(&c->point);
    mbedtls_mpi_init(&c->scalar);
    mbedtls_mpi_init(&c->shared_x);
    ENSURE(mbedtls_ecp_group_load(&c->group, MBEDTLS_ECP_DP_SECP384R1) == 0, NOMEM);
    return OK;
}

/* Coordinates are below the prime, and the equation holds. The curve's cofactor is 1, so every such
 * point is in the group. */
static RC read_point(struct curve *c, const uint8_t sec1[static ENVELOPE_POINT_BYTES]) {
    ENSURE(sec1[0] == 0x04, MALFORMED);
    ENSURE(mbedtls_ecp_point_read_binary(&c->group, &c->point, sec1, ENVELOPE_POINT_BYTES) == 0,
           MALFORMED);
    ENSURE(mbedtls_ecp_check_pubkey(&c->group, &c->point) == 0, MALFORMED);
    return OK;
}

bool envelope_public_equal(const struct envelope_public *a, const struct envelope_public *b) {
    return span_equal(envelope_public_span(a), envelope_public_span(b));
}

RC envelope_public_from_point(struct span sec1, struct envelope_public *out) {
    ENSURE(sec1.len == ENVELOPE_POINT_BYTES, MALFORMED);
    AUTO(curve_close) struct curve c;
    TRY(curve_init(&c));
    TRY(read_point(&c, sec1.ptr));
    return span_copy(sec1, out->sec1, sizeof(out->sec1));
}

RC envelope_public_parse(struct span der, struct envelope_public *out) {
    ENSURE(der.len == ENVELOPE_DER_BYTES, MALFORMED);
    const struct span head = { der_head, sizeof(der_head) };
    ENSURE(span_has_prefix(der, head), MALFORMED);
    return envelope_public_from_point((struct span){ der.ptr + head.len, der.len - head.len }, out);
}

void envelope_public_write(const struct envelope_public *key,
                           uint8_t der[static ENVELOPE_DER_BYTES]) {
    memcpy(der, der_head, sizeof(der_head));
    memcpy(der + sizeof(der_head), key->sec1, sizeof(key->sec1));
}

/* Takes the key's number from its secret. INVALID when it is none of the group's. */
static RC read_scalar(struct curve *c, const struct secret *scalar) {
    ASSERT(scalar->len == ENVELOPE_SCALAR_BYTES);
    ENSURE(mbedtls_mpi_read_binary(&c->scalar, scalar->ptr, scalar->len) == 0, NOMEM);
    ENSURE(mbedtls_ecp_check_privkey(&c->group, &c->scalar) == 0, INVALID);
    return OK;
}

/* Of the number in c. */
static RC make_public(struct curve *c, struct envelope_public *out) {
    ENSURE(mbedtls_ecp_mul(&c->group, &c->point, &c->scalar, &c->group.G, random_mbedtls, NULL) ==
               0,
           CRYPTO);
    size_t len = 0;
    ENSURE(mbedtls_ecp_point_write_binary(&c->group, &c->point, MBEDTLS_ECP_PF_UNCOMPRESSED, &len,
                                          out->sec1, sizeof(out->sec1)) == 0,
           CRYPTO);
    ENSURE(len == sizeof(out->sec1), CRYPTO);
    return OK;
}

static RC generate(struct envelope_key *key) {
    AUTO(curve_close) struct curve c;
    TRY(curve_init(&c));
    ENSURE(mbedtls_ecp_gen_privkey(&c.group, &c.scalar, random_mbedtls, NULL) == 0, CRYPTO);
    ENSURE(mbedtls_mpi_write_binary(&c.scalar, key->scalar.ptr, key->scalar.len) == 0, CRYPTO);
    return make_public(&c, &key->public_key);
}

RC envelope_key_init(struct envelope_key *key) {
    *key = (struct envelope_key){ 0 };
    TRY(secret_init(&key->scalar, ENVELOPE_SCALAR_BYTES));
    struct rc rc = generate(key);
    if (rc.err != E_OK) {
        envelope_key_close(key);
    }
    return rc;
}

static RC publish(struct envelope_key *key) {
    AUTO(curve_close) struct curve c;
    TRY(curve_init(&c));
    TRY(read_scalar(&c, &key->scalar));
    return make_public(&c, &key->public_key);
}

RC envelope_key_from_scalar(struct envelope_key *key,
                            const uint8_t scalar[static ENVELOPE_SCALAR_BYTES]) {
    *key = (struct envelope_key){ 0 };
    TRY(secret_init(&key->scalar, ENVELOPE_SCALAR_BYTES));
    memcpy(key->scalar.ptr, scalar, ENVELOPE_SCALAR_BYTES);
    struct rc rc = publish(key);
    if (rc.err != E_OK) {
        envelope_key_close(key);
    }
    return rc;
}

void envelope_key_close(struct envelope_key *key) {
    secret_close(&key->scalar);
    *key = (struct envelope_key){ 0 };
}

/* The x coordinate, at its full length. */
static RC agree(const struct envelope *e, uint8_t shared[static ENVELOPE_SCALAR_BYTES]) {
    AUTO(curve_close) struct curve c;
    TRY(curve_init(&c));
    TRY(read_scalar(&c, &e->own->scalar));
    TRY(read_point(&c, e->peer->sec1));
    ENSURE(mbedtls_ecdh_compute_shared(&c.group, &c.shared_x, &c.point, &c.scalar, random_mbedtls,
                                       NULL) == 0,
           CRYPTO);
    ENSURE(mbedtls_mpi_write_binary(&c.shared_x, shared, ENVELOPE_SCALAR_BYTES) == 0, CRYPTO);
    return OK;
}

static RC make_salt(const struct envelope *e, uint8_t salt[static SALT_BYTES]) {
    struct span low = envelope_public_span(&e->own->public_key);
    struct span high = envelope_public_span(e->peer);
    if (span_compare(low, high) > 0) {
        struct span swap = low;
        low = high;
        high = swap;
    }
    struct writer w = { salt, 0, SALT_BYTES };
    TRY(write_span(&w, low));
    TRY(write_span(&w, high));
    return write_span(&w, (struct span){ e->nonce, ENVELOPE_NONCE_BYTES });
}

static RC derive(const struct envelope *e, uint8_t key[static AES_GCM_KEY_BYTES]) {
    uint8_t salt[SALT_BYTES];
    TRY(make_salt(e, salt));
    uint8_t shared[ENVELOPE_SCALAR_BYTES];
    struct rc rc = agree(e, shared);
    if (rc.err == E_OK) {
        int failed = mbedtls_hkdf(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), salt, sizeof(salt),
                                  shared, sizeof(shared), (const unsigned char *)INFO,
                                  sizeof(INFO) - 1, key, AES_GCM_KEY_BYTES);
        rc = failed == 0 ? OK : ERR(CRYPTO);
    }
    secret_wipe(shared, sizeof(shared));
    return rc;
}

RC envelope_seal(const struct envelope *envelope, struct span plain, uint8_t *out) {
    ENSURE(plain.len <= ENVELOPE_PLAIN_BYTES_MAX, TOO_BIG);
    uint8_t key[AES_GCM_KEY_BYTES];
    struct rc rc = derive(envelope, key);
    if (rc.err == E_OK) {
        const struct aes_gcm gcm = { key, envelope->nonce };
        aes_gcm_seal(&gcm, SPAN_EMPTY, plain, out);
    }
    secret_wipe(key, sizeof(key));
    return rc;
}

RC envelope_open(const struct envelope *envelope, struct span sealed, uint8_t *out) {
    ENSURE(sealed.len >= ENVELOPE_TAG_BYTES, TRUNCATED);
    ENSURE(sealed.len - ENVELOPE_TAG_BYTES <= ENVELOPE_PLAIN_BYTES_MAX, TOO_BIG);
    uint8_t key[AES_GCM_KEY_BYTES];
    struct rc rc = derive(envelope, key);
    if (rc.err == E_OK) {
        const struct aes_gcm gcm = { key, envelope->nonce };
        rc = aes_gcm_open(&gcm, SPAN_EMPTY, sealed, out);
    }
    secret_wipe(key, sizeof(key));
    return rc;
}
