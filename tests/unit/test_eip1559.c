/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/eip1559.h"
#include "test.h"
#include "vectors.h"

static uint64_t number_of(const json_t *fields, const char *name) {
    const json_t *value = json_object_get(fields, name);
    if (json_is_integer(value)) {
        return (uint64_t)json_integer_value(value);
    }
    uint64_t number = 0;
    assert_ok(bytes_parse_decimal(vectors_text(fields, name), UINT64_MAX, &number));
    return number;
}

static void put_u64(uint8_t out[static RLP_U256_BYTES], uint64_t value) {
    memset(out, 0, RLP_U256_BYTES);
    for (size_t i = 0; i < 8; i++) {
        out[RLP_U256_BYTES - 1 - i] = (uint8_t)(value >> (8 * i));
    }
}

/* data stays to be freed. */
static struct eip1559_tx read_tx(const json_t *fields, struct bytes *data) {
    *data = vectors_hex(fields, "data");
    struct eip1559_tx tx = {
        .chain_id = number_of(fields, "chainId"),
        .nonce = number_of(fields, "nonce"),
        .max_priority_fee_per_gas_wei = number_of(fields, "maxPriorityFeePerGas"),
        .max_fee_per_gas_wei = number_of(fields, "maxFeePerGas"),
        .gas_limit = number_of(fields, "gasLimit"),
        .data = { data->ptr, data->len },
    };
    assert_ok(wallet_parse(vectors_text(fields, "to"), &tx.to));
    put_u64(tx.value_wei, number_of(fields, "value"));
    return tx;
}

static void check_signing(const json_t *row, const struct eip1559_tx *tx, const struct bytes *raw) {
    struct bytes key_bytes = vectors_hex(row, "private_key");
    struct secret key;
    assert_ok(secret_init(&key, key_bytes.len));
    memcpy(key.ptr, key_bytes.ptr, key_bytes.len);
    struct eth_signature signature;
    assert_ok(eip1559_sign(tx, &key, &signature));
    for (unsigned v_offset = 0; v_offset <= 27; v_offset += 27) {
        size_t room = tx->data.len + EIP1559_OVERHEAD_BYTES;
        uint8_t *made = malloc(room);
        assert_non_null(made);
        struct writer w = { made, 0, room };
        assert_ok(eip1559_encode(tx, &signature, &w));
        assert_int_equal(w.len, raw->len);
        assert_memory_equal(made, raw->ptr, raw->len);
        w = (struct writer){ made, 0, raw->len - 1 };
        assert_err(eip1559_encode(tx, &signature, &w), TOO_BIG);
        assert_int_equal(w.len, 0);
        free(made);
        signature.bytes[64] = (uint8_t)(signature.bytes[64] - 27);
    }
    secret_close(&key);
    free(key_bytes.ptr);
}

static void check_row(const json_t *row) {
    struct bytes data;
    struct eip1559_tx tx = read_tx(json_object_get(row, "fields"), &data);
    struct bytes raw = vectors_hex(row, "raw_transaction");
    struct bytes hash = vectors_hex(row, "transaction_hash");
    struct wallet address;
    assert_ok(wallet_parse(vectors_text(row, "address"), &address));
    check_signing(row, &tx, &raw);

    struct eip1559_signed parsed;
    assert_ok(eip1559_parse((struct span){ raw.ptr, raw.len }, &parsed));
    assert_int_equal(eip1559_compare(&parsed.tx, &tx), EIP1559_FIELD_NONE);
    assert_true(wallet_equal(&parsed.sender, &address));
    assert_memory_equal(parsed.hash, hash.ptr, hash.len);
    for (size_t len = 0; len < raw.len; len++) {
        uint8_t *cut = test_dup(raw.ptr, len);
        assert_true(eip1559_parse((struct span){ cut, len }, &parsed).err != E_OK);
        free(cut);
    }
    /* No change of any byte leaves the same transaction of the same sender. */
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t *changed = test_dup(raw.ptr, raw.len);
        changed[i] ^= 1;
        struct rc rc = eip1559_parse((struct span){ changed, raw.len }, &parsed);
        assert_false(rc.err == E_OK && wallet_equal(&parsed.sender, &address));
        free(changed);
    }
    free(data.ptr);
    free(raw.ptr);
    free(hash.ptr);
}

static void test_vectors(void **state) {
    (void)state;
    vectors_each("eip1559.json", check_row);
}

static void test_compare(void **state) {
    (void)state;
    uint8_t data[] = { 1, 2 };
    const struct eip1559_tx base = { .chain_id = 1, .data = { data, 1 } };
    struct eip1559_tx other[EIP1559_FIELD_NONE + 1];
    for (size_t i = 0; i <= EIP1559_FIELD_NONE; i++) {
        other[i] = base;
    }
    other[EIP1559_CHAIN_ID].chain_id = 2;
    other[EIP1559_NONCE].nonce = 1;
    other[EIP1559_MAX_PRIORITY_FEE_PER_GAS].max_priority_fee_per_gas_wei = 1;
    other[EIP1559_MAX_FEE_PER_GAS].max_fee_per_gas_wei = 1;
    other[EIP1559_GAS_LIMIT].gas_limit = 1;
    other[EIP1559_TO].to.bytes[19] = 1;
    other[EIP1559_VALUE].value_wei[0] = 1;
    other[EIP1559_DATA].data.len = 2;
    for (unsigned i = 0; i <= EIP1559_FIELD_NONE; i++) {
        assert_int_equal(eip1559_compare(&base, &other[i]), i);
    }
    assert_string_equal(eip1559_field_name(EIP1559_GAS_LIMIT), "gas_limit");
    assert_string_equal(eip1559_field_name(EIP1559_FIELD_NONE), "");
}

/* What the parser reads, field by field, so that each can be wrong. */
struct raw_row {
    const char *name;
    enum err want;
    uint8_t type;
    const char *chain_id;
    const char *to;
    const char *data;
    const char *access_list;
    const char *parity;
    const char *more; /* Another element. */
    const char *after;
};

#define TO_20 "941111111111111111111111111111111111111111"
#define GOOD(name, want) name, want, 2, "01", TO_20, "80", "c0", "80", "", ""

static struct raw_row raw_rows[] = {
    { GOOD("good", E_OK) },
    { "type_1", E_MALFORMED, 1, "01", TO_20, "80", "c0", "80", "", "" },
    { "legacy_list_first", E_MALFORMED, 0xc0, "01", TO_20, "80", "c0", "80", "", "" },
    { "number_with_zero", E_MALFORMED, 2, "820001", TO_20, "80", "c0", "80", "", "" },
    { "chain_id_of_9_bytes", E_TOO_BIG, 2, "89010000000000000000", TO_20, "80", "c0", "80", "",
      "" },
    { "chain_id_is_a_list", E_MALFORMED, 2, "c0", TO_20, "80", "c0", "80", "", "" },
    { "to_is_empty", E_MALFORMED, 2, "01", "80", "80", "c0", "80", "", "" },
    { "to_has_19_bytes", E_MALFORMED, 2, "01", "9311111111111111111111111111111111111111", "80",
      "c0", "80", "", "" },
    { "data_one_byte", E_OK, 2, "01", TO_20, "7f", "c0", "80", "", "" },
    { "data_one_byte_prefixed", E_MALFORMED, 2, "01", TO_20, "817f", "c0", "80", "", "" },
    { "access_list_not_empty", E_MALFORMED, 2, "01", TO_20, "80", "c1c0", "80", "", "" },
    { "access_list_is_a_string", E_MALFORMED, 2, "01", TO_20, "80", "80", "80", "", "" },
    { "parity_1", E_OK, 2, "01", TO_20, "80", "c0", "01", "", "" },
    { "parity_2", E_MALFORMED, 2, "01", TO_20, "80", "c0", "02", "", "" },
    { "parity_that_wraps_to_0", E_MALFORMED, 2, "01", TO_20, "80", "c0", "81e5", "", "" },
    { "parity_27", E_MALFORMED, 2, "01", TO_20, "80", "c0", "1b", "", "" },
    { "parity_zero_as_a_byte", E_MALFORMED, 2, "01", TO_20, "80", "c0", "00", "", "" },
    { "one_element_more", E_MALFORMED, 2, "01", TO_20, "80", "c0", "80", "80", "" },
    { "byte_after_the_end", E_MALFORMED, 2, "01", TO_20, "80", "c0", "80", "", "00" },
};

static void put_hex(struct writer *w, const char *hex) {
    uint8_t bytes[64];
    size_t len = strlen(hex) / 2;
    assert_ok(hex_decode(span_str(hex), bytes, len));
    assert_ok(write_span(w, (struct span){ bytes, len }));
}

/* r = 1 is on the curve, and s = 1 is low. */
static size_t build_raw(const struct raw_row *row, const char *s, uint8_t *out, size_t out_bytes) {
    uint8_t items[256];
    struct writer w = { items, 0, sizeof(items) };
    put_hex(&w, row->chain_id);
    put_hex(&w, "808080"); /* nonce and fees. */
    put_hex(&w, "825208");
    put_hex(&w, row->to);
    put_hex(&w, "80");
    put_hex(&w, row->data);
    put_hex(&w, row->access_list);
    put_hex(&w, row->parity);
    put_hex(&w, "01");
    put_hex(&w, s);
    put_hex(&w, row->more);
    struct writer raw = { out, 0, out_bytes };
    assert_ok(write_u8(&raw, row->type));
    assert_ok(rlp_write_list_head(&raw, w.len));
    assert_ok(write_span(&raw, writer_span(&w)));
    put_hex(&raw, row->after);
    return raw.len;
}

static void test_raw(void **state) {
    const struct raw_row *row = *state;
    uint8_t out[300];
    size_t len = build_raw(row, "01", out, sizeof(out));
    uint8_t *raw = test_dup(out, len);
    struct eip1559_signed parsed;
    assert_err_equal(eip1559_parse((struct span){ raw, len }, &parsed), row->want);
    free(raw);
}

struct s_row {
    const char *name;
    const char *s;
    enum err want;
};

/* Half of the group's order is low, one more is high. */
static struct s_row s_rows[] = {
    { "s_half", "a07fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", E_OK },
    { "s_above_half", "a07fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1",
      E_MALFORMED },
    { "s_33_bytes", "a1017fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1",
      E_TOO_BIG },
    { "s_with_leading_zero", "820001", E_MALFORMED },
    { "s_zero", "80", E_BAD_AUTH },
};

static void test_s(void **state) {
    static const struct raw_row good = { GOOD("good", E_OK) };
    const struct s_row *row = *state;
    uint8_t out[300];
    size_t len = build_raw(&good, row->s, out, sizeof(out));
    struct eip1559_signed parsed;
    assert_err_equal(eip1559_parse((struct span){ out, len }, &parsed), row->want);
}

static void test_encode_refuses_v(void **state) {
    (void)state;
    const struct eip1559_tx tx = { .chain_id = 1 };
    struct eth_signature signature = { .bytes = { 1 } };
    for (unsigned v = 0; v <= 255; v++) {
        uint8_t out[EIP1559_OVERHEAD_BYTES];
        struct writer w = { out, 0, sizeof(out) };
        signature.bytes[64] = (uint8_t)v;
        bool known = v == 0 || v == 1 || v == 27 || v == 28;
        assert_err_equal(eip1559_encode(&tx, &signature, &w), known ? E_OK : E_INVALID);
    }
}

/* The longest of every field fits where it is said to. */
static void test_room(void **state) {
    (void)state;
    struct eip1559_tx tx = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                             UINT64_MAX, { { 0 } },  { 0 },      SPAN_EMPTY };
    memset(tx.value_wei, 0xff, sizeof(tx.value_wei));
    struct eth_signature signature;
    memset(signature.bytes, 0xff, sizeof(signature.bytes));
    signature.bytes[64] = 1;
    size_t data_len = 70000;
    uint8_t *data = calloc(1, data_len);
    uint8_t *out = malloc(data_len + EIP1559_OVERHEAD_BYTES);
    assert_non_null(data);
    assert_non_null(out);
    tx.data = (struct span){ data, data_len };
    struct writer w = { out, 0, data_len + EIP1559_OVERHEAD_BYTES };
    assert_ok(eip1559_encode(&tx, &signature, &w));
    free(out);
    free(data);
}

int main(void) {
    struct CMUnitTest tests[4 + TEST_ROWS(raw_rows) + TEST_ROWS(s_rows)] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_encode_refuses_v),
        cmocka_unit_test(test_room),
    };
    size_t count = 4;
    TEST_ADD_ROWS(tests, count, test_raw, raw_rows);
    TEST_ADD_ROWS(tests, count, test_s, s_rows);
    return cmocka_run_group_tests_name("eip1559", tests, NULL, NULL);
}
