/* SPDX-License-Identifier: Apache-2.0 */
/* The wallet: its address, its signatures, and randomness. */
#include <stdlib.h>

#include "api.h"
#include "base/hex.h"
#include "crypto/eip1559.h"
#include "crypto/random.h"

#define RANDOM_BYTES 32

static json_t *address_of(const struct sim *sim) {
    char text[WALLET_TEXT_BYTES];
    return json_string(wallet_format(&sim->wallet, text));
}

static void free_span(struct span *span) {
    free((void *)(uintptr_t)span->ptr);
}

void api_address(struct sim *sim, const json_t *body, struct api_reply *reply) {
    (void)body;
    const struct span point = { sim->point, sizeof(sim->point) };
    api_json(reply,
             json_pack("{so, so}", "address", address_of(sim), "public_key", api_hex(point)));
}

void api_random(struct sim *sim, const json_t *body, struct api_reply *reply) {
    (void)sim;
    (void)body;
    uint8_t bytes[RANDOM_BYTES];
    struct rc rc = random_bytes(bytes, sizeof(bytes));
    if (rc.err != E_OK) {
        api_text(reply, 503, "no randomness: %s", err_text(rc.err));
        return;
    }
    api_json(reply,
             json_pack("{so}", "random_bytes", api_hex((struct span){ bytes, sizeof(bytes) })));
}

/* With v as this Odyn was told to write it. */
static json_t *signature_hex(const struct sim *sim, const struct eth_signature *made) {
    struct eth_signature told = *made;
    told.bytes[64] = (uint8_t)(told.bytes[64] - 27 + sim->v_base);
    return api_hex((struct span){ told.bytes, sizeof(told.bytes) });
}

void api_sign(struct sim *sim, const json_t *body, struct api_reply *reply) {
    struct span message = SPAN_EMPTY;
    bool attest = false;
    if (!api_take_text(body, "message", &message, reply) ||
        !api_take_flag(body, "include_attestation", &attest, reply)) {
        return;
    }
    if (message.len == 0) {
        api_text(reply, 400, "message must not be empty");
        return;
    }
    struct eth_signature made;
    struct rc rc = eth_sign_message(&sim->wallet_key, message, &made);
    if (rc.err != E_OK) {
        api_text(reply, 503, "cannot sign: %s", err_text(rc.err));
        return;
    }
    api_json(reply, json_pack("{so, so, so}", "signature", signature_hex(sim, &made), "address",
                              address_of(sim), "attestation", api_attest(sim, attest)));
}

/* A quantity: hex of at most out_len bytes, big-endian; an odd number of digits is one too. */
static bool take_quantity(const json_t *payload, const char *name, uint8_t *out, size_t out_len,
                          struct api_reply *reply) {
    struct span text = SPAN_EMPTY;
    if (!api_take_text(payload, name, &text, reply)) {
        return false;
    }
    if (span_has_prefix(text, SPAN_LIT("0x"))) {
        text = (struct span){ text.ptr + 2, text.len - 2 };
    }
    char digits[HEX_TEXT_BYTES(RLP_U256_BYTES)];
    ASSERT(2 * out_len < sizeof(digits));
    memset(digits, '0', sizeof(digits));
    bool fits = text.len > 0 && text.len <= 2 * out_len;
    if (fits) {
        memcpy(digits + 2 * out_len - text.len, text.ptr, text.len);
    }
    if (!fits ||
        hex_decode((struct span){ (const uint8_t *)digits, 2 * out_len }, out, out_len).err !=
            E_OK) {
        api_text(reply, 400, "%s must be a hex quantity of at most %zu bits", name, 8 * out_len);
        return false;
    }
    return true;
}

static bool take_u64(const json_t *payload, const char *name, uint64_t *out,
                     struct api_reply *reply) {
    uint8_t bytes[8];
    if (!take_quantity(payload, name, bytes, sizeof(bytes), reply)) {
        return false;
    }
    struct reader r = { bytes, sizeof(bytes) };
    return read_u64(&r, out).err == E_OK;
}

static bool take_to(const json_t *payload, struct wallet *out, struct api_reply *reply) {
    AUTO(free_span) struct span to = SPAN_EMPTY;
    if (!api_take_hex(payload, "to", WALLET_BYTES, &to, reply)) {
        return false;
    }
    if (to.len != WALLET_BYTES) {
        api_text(reply, 400, "to must be a wallet of 20 bytes");
        return false;
    }
    memcpy(out->bytes, to.ptr, to.len);
    return true;
}

static bool take_kind(const json_t *payload, struct api_reply *reply) {
    struct span kind = SPAN_EMPTY;
    if (!json_is_object(payload)) {
        api_text(reply, 400, "payload must be an object");
        return false;
    }
    if (!api_take_text(payload, "kind", &kind, reply)) {
        return false;
    }
    if (!span_equal(kind, SPAN_LIT("structured"))) {
        api_text(reply, 400, "kind must be structured");
        return false;
    }
    const json_t *list = json_object_get(payload, "access_list");
    if (list != NULL && (!json_is_array(list) || json_array_size(list) != 0)) {
        api_text(reply, 400, "access_list must be an empty list");
        return false;
    }
    return true;
}

/* tx->data stays to be freed. */
static bool take_tx(const json_t *payload, struct eip1559_tx *tx, struct api_reply *reply) {
    return take_kind(payload, reply) && take_u64(payload, "chain_id", &tx->chain_id, reply) &&
           take_u64(payload, "nonce", &tx->nonce, reply) &&
           take_u64(payload, "max_priority_fee_per_gas", &tx->max_priority_fee_per_gas_wei,
                    reply) &&
           take_u64(payload, "max_fee_per_gas", &tx->max_fee_per_gas_wei, reply) &&
           take_u64(payload, "gas_limit", &tx->gas_limit, reply) &&
           take_to(payload, &tx->to, reply) &&
           take_quantity(payload, "value", tx->value_wei, sizeof(tx->value_wei), reply) &&
           api_take_hex(payload, "data", SIM_BODY_BYTES_MAX, &tx->data, reply);
}

static void reply_tx(struct sim *sim, const struct eip1559_tx *tx, bool attest,
                     struct api_reply *reply) {
    struct eth_signature made;
    struct rc rc = eip1559_sign(tx, &sim->wallet_key, &made);
    struct writer w = { NULL, 0, tx->data.len + EIP1559_OVERHEAD_BYTES };
    w.ptr = malloc(w.bytes);
    ASSERT(w.ptr != NULL);
    if (rc.err == E_OK) {
        rc = eip1559_encode(tx, &made, &w);
    }
    if (rc.err != E_OK) {
        api_text(reply, 503, "cannot sign: %s", err_text(rc.err));
    } else {
        uint8_t hash[KECCAK256_BYTES];
        keccak256(writer_span(&w), hash);
        api_json(reply,
                 json_pack("{so, so, so, so, so}", "raw_transaction", api_hex(writer_span(&w)),
                           "transaction_hash", api_hex((struct span){ hash, sizeof(hash) }),
                           "signature", signature_hex(sim, &made), "address", address_of(sim),
                           "attestation", api_attest(sim, attest)));
    }
    free(w.ptr);
}

void api_sign_tx(struct sim *sim, const json_t *body, struct api_reply *reply) {
    bool attest = false;
    struct eip1559_tx tx = { .data = SPAN_EMPTY };
    if (api_take_flag(body, "include_attestation", &attest, reply) &&
        take_tx(json_object_get(body, "payload"), &tx, reply)) {
        reply_tx(sim, &tx, attest, reply);
    }
    free_span(&tx.data);
}
