/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's certificate; a list of extensions in an otherwise good certificate, so that the fuzzer
 * need not find its way through mbedTLS first; and the binding's value by itself. */
#include "base/hex.h"
#include "fuzz.h"
#include "identity/binding.h"

/* The first certificate of tests/vectors/tls-binding.json: chain 84532, valid from 1700000000. */
static const char good_hex[] =
    "308201b230820159a003020102020203e8300a06082a8648ce3d0403023011310f300d06035504030c0670797468"
    "6f6e301e170d3233313131343232313332305a170d3233313131343233313332305a3011310f300d06035504030c"
    "06707974686f6e3059301306072a8648ce3d020106082a8648ce3d030107034200044fe1de3d9af2aba02cfec714"
    "26d687a5bc35736807ae43bf6858a0ee85f2fbf2e8535e5136cdb01d7e3920a5bfba7b85ca5404eb10a29540ae24"
    "39ff529fd96fa381a030819d300c0603551d130101ff0402300030818c06232a864886f71401be40937a83a92a83"
    "9a4c83bf7081947582be4f85f1d02f81c49c370104650a142f84f7654cecd4b3186d7cd501b640a818fbc52f1080"
    "e2cfaa061890fecfaa0622418f8e134b5f6d4211407df153ee9e46d303042cb72aacf4bcba27b3b149318272762d"
    "0233e93ef2a6006e2849705fc23f1c824bab276e00f02bb05fb464f881091b300a06082a8648ce3d040302034700"
    "304402200db8a91961be97e4be32f0efbf188aa2329b5da0e6d634baca452d92be795c29022022ddc69a32080424"
    "896e7e0bc75e6b314b7d474288751b914364aa311facb379";
#define GOOD_BYTES ((sizeof(good_hex) - 1) / 2)

static const struct identity_verify_cfg cfg = { 84532, 1700000000, 5 };

/* A refusal has a sentence and no wallet, an acceptance the opposite. */
static void check(struct rc rc, const struct identity_peer *peer, const struct status *why) {
    bool accepted = rc.err == E_OK;
    ASSERT(wallet_is_zero(&peer->wallet) != accepted);
    ASSERT((why->code == STATUS_OK) == accepted);
    ASSERT((why->text[0] == '\0') == accepted);
}

static void try_certificate(struct span in) {
    struct identity_peer peer;
    struct status why = { 0 };
    struct rc rc = identity_verify_der(in, &cfg, &peer, &why);
    check(rc, &peer, &why);
}

static void try_extensions(const uint8_t *data, size_t size) {
    uint8_t der[GOOD_BYTES];
    ASSERT(hex_decode(span_str(good_hex), der, sizeof(der)).err == E_OK);
    AUTO(mbedtls_x509_crt_free) mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    ASSERT(mbedtls_x509_crt_parse_der(&crt, der, sizeof(der)) == 0);
    const mbedtls_x509_buf own = crt.v3_ext;
    crt.v3_ext.p = (unsigned char *)(uintptr_t)data; /* Only read. */
    crt.v3_ext.len = size;
    struct identity_peer peer;
    struct status why = { 0 };
    struct rc rc = identity_verify(&crt, &cfg, &peer, &why);
    check(rc, &peer, &why);
    crt.v3_ext = own;
}

static void try_value(struct span in) {
    struct identity_binding binding;
    if (identity_binding_decode(in, &binding).err != E_OK) {
        return;
    }
    uint8_t again[IDENTITY_BINDING_BYTES_MAX];
    struct writer w = { again, 0, sizeof(again) };
    ASSERT(identity_binding_encode(&binding, &w).err == E_OK);
    ASSERT(span_equal(writer_span(&w), in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct span in = { data, size };
    try_certificate(in);
    try_extensions(data, size);
    try_value(in);
    return 0;
}
