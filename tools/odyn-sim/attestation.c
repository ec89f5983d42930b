/* SPDX-License-Identifier: Apache-2.0 */
#include "attestation.h"

#include <stdlib.h>

#include "base/clock.h"
#include "cbor.h"

#define PCR_COUNT 16
#define PCR_BYTES 48
#define SIGNATURE_BYTES 96
/* COSE (RFC 9053): header 1 is the algorithm, -35 is ES384. */
#define COSE_ALGORITHM 1
#define COSE_ES384 34 /* -1 - 34. */

static void free_json(json_t **value) {
    json_decref(*value);
}

/* The caller's object with the wallet in it, as JSON text. */
static RC write_user_data(const struct sim *sim, const json_t *given, struct writer *w) {
    AUTO(free_json) json_t *object = given == NULL ? json_object() : json_deep_copy(given);
    ENSURE(object != NULL, NOMEM);
    char wallet[WALLET_TEXT_BYTES];
    (void)wallet_format(&sim->wallet, wallet);
    ENSURE(json_object_set_new(object, "eth_addr", json_string(wallet)) == 0, NOMEM);
    char text[ATTESTATION_USER_DATA_BYTES_MAX];
    size_t len = json_dumpb(object, text, sizeof(text), JSON_COMPACT);
    ENSURE(len > 0 && len <= sizeof(text), TOO_BIG);
    TRY(cbor_write_text(w, "user_data"));
    return cbor_write_bytes(w, (struct span){ (const uint8_t *)text, len });
}

static RC write_pcrs(struct writer *w) {
    static const uint8_t zeros[PCR_BYTES];
    TRY(cbor_write_text(w, "pcrs"));
    TRY(cbor_write_map(w, PCR_COUNT));
    for (uint64_t i = 0; i < PCR_COUNT; i++) {
        TRY(cbor_write_uint(w, i));
        TRY(cbor_write_bytes(w, (struct span){ zeros, sizeof(zeros) }));
    }
    return OK;
}

static RC write_public_key(const struct sim *sim, struct span given, struct writer *w) {
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(&sim->key.public_key, der);
    const struct span own = { der, sizeof(der) };
    TRY(cbor_write_text(w, "public_key"));
    return cbor_write_bytes(w, given.len == 0 ? own : given);
}

static RC write_payload(const struct sim *sim, const struct attestation_request *request,
                        struct writer *w) {
    TRY(cbor_write_map(w, 9));
    TRY(cbor_write_text(w, "module_id"));
    TRY(cbor_write_text(w, "odyn-sim-development-only"));
    TRY(cbor_write_text(w, "digest"));
    TRY(cbor_write_text(w, "SHA384"));
    TRY(cbor_write_text(w, "timestamp"));
    TRY(cbor_write_uint(w, clock_unix_ms()));
    TRY(write_pcrs(w));
    TRY(cbor_write_text(w, "certificate"));
    TRY(cbor_write_bytes(w, SPAN_EMPTY));
    TRY(cbor_write_text(w, "cabundle"));
    TRY(cbor_write_array(w, 0));
    TRY(write_public_key(sim, request->public_key, w));
    TRY(write_user_data(sim, request->user_data, w));
    TRY(cbor_write_text(w, "nonce"));
    return request->nonce.len == 0 ? cbor_write_null(w) : cbor_write_bytes(w, request->nonce);
}

RC attestation_write(const struct sim *sim, const struct attestation_request *request,
                     struct writer *w) {
    ENSURE(request->nonce.len <= ATTESTATION_NONCE_BYTES_MAX, TOO_BIG);
    ENSURE(request->public_key.len <= ATTESTATION_KEY_BYTES_MAX, TOO_BIG);
    uint8_t bytes[ATTESTATION_BYTES_MAX];
    struct writer payload = { bytes, 0, sizeof(bytes) };
    TRY(write_payload(sim, request, &payload));
    uint8_t header[8];
    struct writer protected = { header, 0, sizeof(header) };
    TRY(cbor_write_map(&protected, 1));
    TRY(cbor_write_uint(&protected, COSE_ALGORITHM));
    TRY(cbor_write_negative(&protected, COSE_ES384));
    static const uint8_t unsigned_zeros[SIGNATURE_BYTES];
    TRY(cbor_write_array(w, 4));
    TRY(cbor_write_bytes(w, writer_span(&protected)));
    TRY(cbor_write_map(w, 0));
    TRY(cbor_write_bytes(w, writer_span(&payload)));
    return cbor_write_bytes(w, (struct span){ unsigned_zeros, sizeof(unsigned_zeros) });
}
