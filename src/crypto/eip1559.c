/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/eip1559.h"

#define TYPE 0x02
#define V_BASE 27
#define SCALAR_BYTES 32

/* Type and list prefix; five numbers of 9 bytes, to, value, data's prefix; access list, parity, r,
 * s. */
#define HEAD_BYTES (1 + RLP_HEAD_BYTES_MAX)
#define FIELDS_BYTES (5 * 9 + 21 + 33 + RLP_HEAD_BYTES_MAX)
#define TAIL_BYTES (1 + 1 + 33 + 33)
#define PART_COUNT 4

_Static_assert(HEAD_BYTES + FIELDS_BYTES + TAIL_BYTES <= EIP1559_OVERHEAD_BYTES, "room is told");

/* The encoding in pieces, so that data is never copied. */
struct parts {
    uint8_t head[HEAD_BYTES];
    uint8_t fields[FIELDS_BYTES];
    uint8_t tail[TAIL_BYTES];
    struct span spans[PART_COUNT];
};

static RC write_fields(const struct eip1559_tx *tx, struct writer *w) {
    TRY(rlp_write_u64(w, tx->chain_id));
    TRY(rlp_write_u64(w, tx->nonce));
    TRY(rlp_write_u64(w, tx->max_priority_fee_per_gas_wei));
    TRY(rlp_write_u64(w, tx->max_fee_per_gas_wei));
    TRY(rlp_write_u64(w, tx->gas_limit));
    TRY(rlp_write_string(w, wallet_span(&tx->to)));
    TRY(rlp_write_u256(w, tx->value_wei));
    if (tx->data.len == 1 && tx->data.ptr[0] < 0x80) {
        return OK; /* The byte has no prefix. */
    }
    return rlp_write_string_head(w, tx->data.len);
}

/* The access list, and the signature unless it is NULL. */
static RC write_tail(const struct eth_signature *signature, struct writer *w) {
    TRY(rlp_write_list_head(w, 0));
    if (signature == NULL) {
        return OK;
    }
    uint8_t v = signature->bytes[2 * SCALAR_BYTES];
    v = (uint8_t)(v >= V_BASE ? v - V_BASE : v);
    ENSURE(v <= 1, INVALID);
    TRY(rlp_write_u64(w, v));
    TRY(rlp_write_u256(w, signature->bytes));
    return rlp_write_u256(w, signature->bytes + SCALAR_BYTES);
}

static RC make_parts(const struct eip1559_tx *tx, const struct eth_signature *signature,
                     struct parts *out) {
    struct writer head = { out->head, 0, sizeof(out->head) };
    struct writer fields = { out->fields, 0, sizeof(out->fields) };
    struct writer tail = { out->tail, 0, sizeof(out->tail) };
    TRY(write_fields(tx, &fields));
    TRY(write_tail(signature, &tail));
    TRY(write_u8(&head, TYPE));
    TRY(rlp_write_list_head(&head, fields.len + tx->data.len + tail.len));
    out->spans[0] = writer_span(&head);
    out->spans[1] = writer_span(&fields);
    out->spans[2] = tx->data;
    out->spans[3] = writer_span(&tail);
    return OK;
}

/* keccak256(0x02 rlp([... access_list])), which the sender signs. */
static void signing_hash(const struct eip1559_tx *tx, uint8_t hash[static KECCAK256_BYTES]) {
    struct parts parts;
    struct rc rc = make_parts(tx, NULL, &parts);
    ASSERT(rc.err == E_OK); /* The buffers hold any transaction. */
    keccak256_parts(parts.spans, PART_COUNT, hash);
}

RC eip1559_encode(const struct eip1559_tx *tx, const struct eth_signature *signature,
                  struct writer *w) {
    struct parts parts;
    TRY(make_parts(tx, signature, &parts));
    struct writer at = *w;
    for (size_t i = 0; i < PART_COUNT; i++) {
        TRY(write_span(&at, parts.spans[i]));
    }
    *w = at;
    return OK;
}

RC eip1559_sign(const struct eip1559_tx *tx, const struct secret *key, struct eth_signature *out) {
    uint8_t hash[KECCAK256_BYTES];
    signing_hash(tx, hash);
    return eth_sign_hash(key, hash, out);
}

enum eip1559_field eip1559_compare(const struct eip1559_tx *a, const struct eip1559_tx *b) {
    const bool equal[] = {
        [EIP1559_CHAIN_ID] = a->chain_id == b->chain_id,
        [EIP1559_NONCE] = a->nonce == b->nonce,
        [EIP1559_MAX_PRIORITY_FEE_PER_GAS] =
            a->max_priority_fee_per_gas_wei == b->max_priority_fee_per_gas_wei,
        [EIP1559_MAX_FEE_PER_GAS] = a->max_fee_per_gas_wei == b->max_fee_per_gas_wei,
        [EIP1559_GAS_LIMIT] = a->gas_limit == b->gas_limit,
        [EIP1559_TO] = wallet_equal(&a->to, &b->to),
        [EIP1559_VALUE] = span_equal((struct span){ a->value_wei, sizeof(a->value_wei) },
                                     (struct span){ b->value_wei, sizeof(b->value_wei) }),
        [EIP1559_DATA] = span_equal(a->data, b->data),
    };
    for (unsigned i = 0; i < EIP1559_FIELD_NONE; i++) {
        if (!equal[i]) {
            return (enum eip1559_field)i;
        }
    }
    return EIP1559_FIELD_NONE;
}

const char *eip1559_field_name(enum eip1559_field field) {
    static const char *const names[] = {
#define FIELD_NAME(name, text) [EIP1559_##name] = (text),
        EIP1559_FIELD_MAP(FIELD_NAME)
#undef FIELD_NAME
            [EIP1559_FIELD_NONE] = "",
    };
    return names[field];
}

static RC read_fields(struct reader *r, struct eip1559_tx *tx) {
    TRY(rlp_read_u64(r, &tx->chain_id));
    TRY(rlp_read_u64(r, &tx->nonce));
    TRY(rlp_read_u64(r, &tx->max_priority_fee_per_gas_wei));
    TRY(rlp_read_u64(r, &tx->max_fee_per_gas_wei));
    TRY(rlp_read_u64(r, &tx->gas_limit));
    struct span to = SPAN_EMPTY;
    TRY(rlp_read_string(r, &to));
    ENSURE(to.len == WALLET_BYTES, MALFORMED);
    TRY(span_copy(to, tx->to.bytes, WALLET_BYTES));
    TRY(rlp_read_u256(r, tx->value_wei));
    TRY(rlp_read_string(r, &tx->data));
    struct reader access_list = { NULL, 0 };
    TRY(rlp_read_list(r, &access_list));
    ENSURE(access_list.len == 0, MALFORMED);
    return OK;
}

static RC read_signature(struct reader *r, struct eth_signature *out) {
    uint64_t parity = 0;
    TRY(rlp_read_u64(r, &parity));
    ENSURE(parity <= 1, MALFORMED);
    TRY(rlp_read_u256(r, out->bytes));
    TRY(rlp_read_u256(r, out->bytes + SCALAR_BYTES));
    out->bytes[2 * SCALAR_BYTES] = (uint8_t)(V_BASE + parity);
    return OK;
}

RC eip1559_parse(struct span raw, struct eip1559_signed *out) {
    struct reader r = { raw.ptr, raw.len };
    uint8_t type = 0;
    TRY(read_u8(&r, &type));
    ENSURE(type == TYPE, MALFORMED);
    struct reader items = { NULL, 0 };
    TRY(rlp_read_list(&r, &items));
    ENSURE(r.len == 0, MALFORMED);
    TRY(read_fields(&items, &out->tx));
    TRY(read_signature(&items, &out->signature));
    ENSURE(items.len == 0, MALFORMED);
    keccak256(raw, out->hash);
    uint8_t signed_hash[KECCAK256_BYTES];
    signing_hash(&out->tx, signed_hash);
    return eth_recover_hash(signed_hash, &out->signature, &out->sender);
}
