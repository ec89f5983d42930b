/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/keccak.h"
#include "registry/abi.h"
#include "registry/escape.h"
#include "test.h"
#include "vectors.h"

#define DATA_BYTES 4096

static struct abi_why why;

/* ---- Vectors, made with an independent library ---- */

static enum abi_function function_of(const json_t *row) {
    struct span name = vectors_text(row, "function");
    for (unsigned i = 0; i < ABI_FUNCTION_COUNT; i++) {
        const char *signature = abi_function_signature((enum abi_function)i);
        struct span head = { (const uint8_t *)signature, strcspn(signature, "(") };
        if (span_equal(head, name)) {
            return (enum abi_function)i;
        }
    }
    fail_msg("no function %.*s", (int)name.len, (const char *)name.ptr);
    return ABI_FUNCTION_COUNT;
}

static struct abi_word word_of(const json_t *arg) {
    struct span text = { (const uint8_t *)json_string_value(arg), json_string_length(arg) };
    struct abi_word word = { { 0 } };
    struct wallet wallet;
    uint64_t number = 0;
    if (text.len == 66) {
        assert_ok(hex_decode(text, word.bytes, sizeof(word.bytes)));
    } else if (wallet_parse(text, &wallet).err == E_OK) {
        word = abi_word_of_wallet(&wallet);
    } else {
        assert_ok(bytes_parse_decimal(text, UINT64_MAX, &number));
        word = abi_word_of_number(number);
    }
    return word;
}

static void test_calls(void **state) {
    (void)state;
    json_t *calls = vectors_load_list("abi.json", "calls");
    size_t idx = 0;
    json_t *row = NULL;
    json_array_foreach(calls, idx, row) {
        struct abi_word args[ABI_ARG_COUNT_MAX] = { 0 };
        const json_t *list = json_object_get(row, "args");
        for (size_t i = 0; i < json_array_size(list); i++) {
            args[i] = word_of(json_array_get(list, i));
        }
        struct abi_call call;
        abi_encode_call(function_of(row), args, &call);
        struct bytes want = vectors_hex(row, "calldata");
        assert_int_equal(call.len, want.len);
        assert_memory_equal(call.bytes, want.ptr, want.len);
        free(want.ptr);
    }
    vectors_close(calls);
}

static bool is_decimal(const json_t *values, size_t idx, uint64_t number) {
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    return strcmp(json_string_value(json_array_get(values, idx)), text) == 0;
}

static void assert_wallet(const json_t *values, size_t idx, const struct wallet *got) {
    struct wallet want;
    const json_t *text = json_array_get(values, idx);
    assert_ok(wallet_parse(span_str(json_string_value(text)), &want));
    assert_memory_equal(got->bytes, want.bytes, WALLET_BYTES);
}

static void check_instance(struct span data, const json_t *values) {
    struct auth_instance got;
    struct rc rc = abi_decode_instance(data, &got, &why);
    const char *url = json_string_value(json_array_get(values, 4));
    bool fits = is_decimal(values, 1, got.app_id) && strlen(url) <= AUTH_URL_BYTES_MAX;
    assert_err_equal(rc, fits ? E_OK : E_TOO_BIG);
    assert_int_equal(why.is_value, !fits);
    assert_true(is_decimal(values, 0, got.id));
    assert_true(is_decimal(values, 2, got.version_id));
    assert_wallet(values, 3, &got.operator_wallet);
    assert_wallet(values, 6, &got.wallet);
    assert_int_equal(got.zk_verified, json_is_true(json_array_get(values, 7)));
    assert_int_equal(got.status, json_integer_value(json_array_get(values, 8)));
    assert_true(is_decimal(values, 9, got.registered_unix_s));
    char key[HEX_TEXT_BYTES(AUTH_TEE_PUBKEY_BYTES_MAX)];
    hex_encode((struct span){ got.tee_pubkey, got.tee_pubkey_len }, key);
    assert_string_equal(key, json_string_value(json_array_get(values, 5)) + 2);
    if (fits) {
        assert_string_equal(got.url, url);
    }
}

static void check_app(struct span data, const json_t *values) {
    struct abi_app got;
    assert_ok(abi_decode_app(data, &got, &why));
    assert_true(is_decimal(values, 0, got.id));
    assert_true(is_decimal(values, 5, got.latest_version_id));
    assert_int_equal(got.status, json_integer_value(json_array_get(values, 7)));
}

static void check_version(struct span data, const json_t *values) {
    struct abi_version got;
    assert_ok(abi_decode_version(data, &got, &why));
    assert_true(is_decimal(values, 0, got.id));
    assert_int_equal(got.status, json_integer_value(json_array_get(values, 7)));
}

static void check_wallets(struct span data, const json_t *values) {
    struct wallet got[4];
    size_t count = 0;
    assert_ok(abi_decode_wallets(data, got, 4, &count, &why));
    assert_int_equal(count, json_array_size(values));
    for (size_t i = 0; i < count; i++) {
        assert_wallet(values, i, &got[i]);
    }
    if (count > 0) {
        assert_ok(abi_decode_wallets(data, got, count, &count, &why));
        assert_err(abi_decode_wallets(data, got, count - 1, &count, &why), TOO_BIG);
        assert_true(why.is_value);
        assert_int_equal(count, 0);
    }
}

static void test_returns(void **state) {
    (void)state;
    json_t *returns = vectors_load_list("abi.json", "returns");
    size_t idx = 0;
    json_t *row = NULL;
    json_array_foreach(returns, idx, row) {
        struct bytes data = vectors_hex(row, "returns");
        struct span in = { data.ptr, data.len };
        const json_t *values = json_object_get(row, "values");
        enum abi_function function = function_of(row);
        if (function == ABI_GET_INSTANCE_BY_WALLET) {
            check_instance(in, values);
        } else if (function == ABI_GET_APP) {
            check_app(in, values);
        } else if (function == ABI_GET_VERSION) {
            check_version(in, values);
        } else {
            assert_int_equal(function, ABI_GET_ACTIVE_INSTANCES);
            check_wallets(in, values);
        }
        free(data.ptr);
    }
    vectors_close(returns);
}

/* ---- One instance, spoiled ---- */

enum { ID, APP, VERSION, OPERATOR, URL, PUBKEY, WALLET, ZK, STATUS, AT, FIELD_COUNT };

struct encoding {
    uint8_t bytes[DATA_BYTES];
    size_t len;
};

static uint8_t *word_at(struct encoding *e, size_t idx) {
    return e->bytes + idx * ABI_WORD_BYTES;
}

static void put_number(struct encoding *e, size_t idx, uint64_t number) {
    struct abi_word word = abi_word_of_number(number);
    memcpy(word_at(e, idx), word.bytes, sizeof(word.bytes));
}

/* Appends length, bytes and padding; sets the field's offset. */
static void put_tail(struct encoding *e, size_t field, uint8_t fill, size_t len) {
    put_number(e, 1 + field, e->len - ABI_WORD_BYTES);
    put_number(e, e->len / ABI_WORD_BYTES, len);
    memset(e->bytes + e->len + ABI_WORD_BYTES, fill, len);
    e->len += ABI_WORD_BYTES + (len + 31) / 32 * 32;
}

static struct encoding encode_instance(size_t url_len, size_t key_len) {
    struct encoding e = { .len = (1 + FIELD_COUNT) * ABI_WORD_BYTES };
    put_number(&e, 0, 32);
    put_number(&e, 1 + ID, 7);
    put_number(&e, 1 + APP, 49);
    put_number(&e, 1 + VERSION, 3);
    put_number(&e, 1 + ZK, 1);
    memset(word_at(&e, 1 + WALLET) + 12, 0x22, WALLET_BYTES);
    put_tail(&e, URL, 'u', url_len);
    put_tail(&e, PUBKEY, 0xbe, key_len);
    return e;
}

static struct rc decode(const struct encoding *e, struct auth_instance *out) {
    uint8_t *in = test_dup(e->bytes, e->len);
    struct rc rc = abi_decode_instance((struct span){ in, e->len }, out, &why);
    free(in);
    assert_int_equal(rc.err == E_OK, why.text[0] == '\0');
    return rc;
}

static struct row {
    const char *name;
    size_t word; /* Which word of encode_instance(30, 120) is spoiled, */
    size_t byte; /* which of its bytes, */
    uint8_t value;
    enum err want;
    bool is_value;
    const char *text;
} rows[] = {
    { "offset_of_struct", 0, 31, 64, E_MALFORMED, false, "data: its offset" },
    { "offset_of_struct_wraps", 0, 0, 0xff, E_MALFORMED, false, "data: its offset" },
    { "id_2_to_64", 1 + ID, 23, 1, E_TOO_BIG, true, "id: must be at most 2^64-1" },
    { "app_id_2_to_64", 1 + APP, 23, 1, E_TOO_BIG, true, "appId: must be at most 2^64-1" },
    { "app_id_top_bit", 1 + APP, 0, 0x80, E_TOO_BIG, true, "appId: must be at most 2^64-1" },
    { "version_id_2_to_64", 1 + VERSION, 23, 1, E_TOO_BIG, true, "versionId: must be" },
    { "registered_2_to_64", 1 + AT, 23, 1, E_TOO_BIG, true, "registeredAt: must be" },
    { "operator_padding", 1 + OPERATOR, 11, 1, E_MALFORMED, false, "operator: must be an address" },
    { "wallet_padding", 1 + WALLET, 0, 1, E_MALFORMED, false, "teeWalletAddress: must be" },
    { "bool_2", 1 + ZK, 31, 2, E_MALFORMED, false, "zkVerified: must be 0 or 1" },
    { "bool_padding", 1 + ZK, 0, 1, E_MALFORMED, false, "zkVerified: must be 0 or 1" },
    { "status_3", 1 + STATUS, 31, 3, E_MALFORMED, true, "status: is a status unknown" },
    { "status_255", 1 + STATUS, 31, 255, E_MALFORMED, true, "status: is a status unknown" },
    { "status_256", 1 + STATUS, 30, 1, E_MALFORMED, false, "status: must be a number" },
    { "status_padding", 1 + STATUS, 0, 1, E_MALFORMED, false, "status: must be a number" },
    { "url_offset_in_head", 1 + URL, 30, 0, E_MALFORMED, false, "instanceUrl: its offset" },
    { "url_offset_wraps", 1 + URL, 0, 0xff, E_MALFORMED, false, "instanceUrl: its offset" },
    { "url_offset_2_to_64", 1 + URL, 23, 1, E_MALFORMED, false, "instanceUrl: its offset" },
    { "url_overlaps_key", 1 + URL, 31, 0x80, E_MALFORMED, false, "instanceUrl: its offset" },
    { "key_overlaps_url", 1 + PUBKEY, 31, 0x40, E_MALFORMED, false, "teePubkey: its offset" },
    { "key_offset_gap", 1 + PUBKEY, 31, 0xa0, E_MALFORMED, false, "teePubkey: its offset" },
    { "url_length_beyond", 11, 30, 0x10, E_MALFORMED, false, "instanceUrl: its length" },
    { "url_length_wraps", 11, 0, 0xff, E_MALFORMED, false, "instanceUrl: its length" },
    { "url_length_max", 11, 24, 0xff, E_MALFORMED, false, "instanceUrl: its length" },
    { "url_padding", 12, 31, 1, E_MALFORMED, false, "instanceUrl: its padding" },
    { "url_nul", 12, 3, 0, E_MALFORMED, true, "instanceUrl: must be UTF-8 without NUL" },
    { "url_not_utf8", 12, 3, 0xff, E_MALFORMED, true, "instanceUrl: must be UTF-8 without NUL" },
    { "key_length_shorter", 13, 31, 64, E_MALFORMED, false, "data: bytes follow its end" },
    { "key_length_longer", 13, 31, 160, E_MALFORMED, false, "teePubkey: its length" },
    { "key_padding", 17, 31, 1, E_MALFORMED, false, "teePubkey: its padding" },
};

static void test_spoiled(void **state) {
    const struct row *row = *state;
    struct encoding e = encode_instance(30, 120);
    struct auth_instance got;
    assert_ok(decode(&e, &got));
    word_at(&e, row->word)[row->byte] = row->value;
    assert_err_equal(decode(&e, &got), row->want);
    assert_int_equal(why.is_value, row->is_value);
    assert_int_equal(strncmp(why.text, row->text, strlen(row->text)), 0);
    if (row->is_value) { /* The other fields are there. */
        assert_int_equal(got.wallet.bytes[0], 0x22);
        assert_true(got.zk_verified);
    } else {
        const struct auth_instance none = { 0 };
        assert_memory_equal(&got, &none, sizeof(got));
    }
}

static void test_cut_anywhere(void **state) {
    (void)state;
    struct encoding whole = encode_instance(30, 120);
    for (size_t len = 0; len < whole.len; len++) {
        struct encoding e = whole;
        struct auth_instance got;
        e.len = len;
        assert_int_not_equal(decode(&e, &got).err, E_OK);
        assert_false(why.is_value);
    }
    struct encoding e = whole;
    struct auth_instance got;
    e.bytes[e.len++] = 0;
    assert_err(decode(&e, &got), MALFORMED);
    assert_string_equal(why.text, "data: bytes follow its end");
}

static void test_limits(void **state) {
    (void)state;
    struct auth_instance got;
    struct encoding e = encode_instance(AUTH_URL_BYTES_MAX, AUTH_TEE_PUBKEY_BYTES_MAX);
    assert_ok(decode(&e, &got));
    assert_int_equal(strlen(got.url), AUTH_URL_BYTES_MAX);
    assert_int_equal(got.tee_pubkey_len, AUTH_TEE_PUBKEY_BYTES_MAX);
    e = encode_instance(AUTH_URL_BYTES_MAX + 1, 0);
    assert_err(decode(&e, &got), TOO_BIG);
    assert_string_equal(why.text, "instanceUrl: must have at most 256 bytes");
    assert_string_equal(got.url, "");
    e = encode_instance(0, AUTH_TEE_PUBKEY_BYTES_MAX + 1);
    assert_err(decode(&e, &got), TOO_BIG);
    assert_string_equal(why.text, "teePubkey: must have at most 160 bytes");
    assert_int_equal(got.tee_pubkey_len, 0);
    e = encode_instance(0, 0);
    put_number(&e, 1 + ID, UINT64_MAX);
    assert_ok(decode(&e, &got));
    assert_true(got.id == UINT64_MAX);
}

/* ---- Lists and single values ---- */

static void test_list_lengths(void **state) {
    (void)state;
    struct wallet got[8];
    size_t count = 0;
    static const struct {
        uint64_t count;
        size_t words;
        enum err want;
    } lists[] = { { 0, 0, E_OK },
                  { 2, 2, E_OK },
                  { 2, 1, E_MALFORMED },
                  { 1, 2, E_MALFORMED },
                  { 8, 8, E_OK },
                  { 9, 9, E_TOO_BIG },
                  { 0, 1, E_MALFORMED },
                  { UINT64_MAX, 2, E_MALFORMED },
                  { UINT64_MAX / 32 + 1, 0, E_MALFORMED } };
    for (size_t i = 0; i < TEST_ROWS(lists); i++) {
        struct encoding e = { .len = (2 + lists[i].words) * ABI_WORD_BYTES };
        put_number(&e, 0, 32);
        put_number(&e, 1, lists[i].count);
        uint8_t *in = test_dup(e.bytes, e.len);
        struct span data = { in, e.len };
        assert_err_equal(abi_decode_wallets(data, got, 8, &count, &why), lists[i].want);
        assert_int_equal(count, lists[i].want == E_OK ? lists[i].count : 0);
        free(in);
    }
}

static void test_list_padding(void **state) {
    (void)state;
    struct encoding e = { .len = 3 * ABI_WORD_BYTES };
    struct wallet got[1];
    size_t count = 0;
    put_number(&e, 0, 32);
    put_number(&e, 1, 1);
    e.bytes[2 * ABI_WORD_BYTES + 11] = 1;
    assert_err(abi_decode_wallets((struct span){ e.bytes, e.len }, got, 1, &count, &why),
               MALFORMED);
    assert_string_equal(why.text, "list: must hold addresses of 20 bytes");
    e.len--;
    assert_err(abi_decode_wallets((struct span){ e.bytes, e.len }, got, 1, &count, &why),
               MALFORMED);
}

static void test_single_values(void **state) {
    (void)state;
    struct abi_word word = abi_word_of_number(UINT64_MAX);
    struct span data = { word.bytes, sizeof(word.bytes) };
    struct span cut = { word.bytes, sizeof(word.bytes) - 1 };
    uint8_t longer[ABI_WORD_BYTES + 1] = { 0 };
    struct span over = { longer, sizeof(longer) };
    struct abi_word got;
    uint64_t number = 1;
    assert_ok(abi_decode_number(data, &number, &why));
    assert_true(number == UINT64_MAX);
    assert_err(abi_decode_number(cut, &number, &why), TRUNCATED);
    assert_err(abi_decode_number(over, &number, &why), MALFORMED);
    assert_err(abi_decode_number(SPAN_EMPTY, &number, &why), TRUNCATED);
    assert_ok(abi_decode_word(data, &got, &why));
    assert_memory_equal(got.bytes, word.bytes, sizeof(got.bytes));
    assert_err(abi_decode_word(cut, &got, &why), TRUNCATED);
    word.bytes[23] = 1;
    assert_err(abi_decode_number(data, &number, &why), TOO_BIG);
    assert_true(why.is_value);
    assert_true(number == 0);
}

/* ---- Reverts ---- */

static struct revert_row {
    const char *name;
    const char *data;
    const char *text;
} revert_rows[] = {
    { "no_data", "", "no reason given" },
    { "half_a_selector", "08c379", "no reason given" },
    { "string",
      "08c379a0"
      "0000000000000000000000000000000000000000000000000000000000000020"
      "0000000000000000000000000000000000000000000000000000000000000004"
      "610a5c6200000000000000000000000000000000000000000000000000000000",
      "\"a\\x0a\\x5cb\"" },
    { "string_of_words",
      "08c379a0"
      "0000000000000000000000000000000000000000000000000000000000000020"
      "0000000000000000000000000000000000000000000000000000000000000003"
      "6120620000000000000000000000000000000000000000000000000000000000",
      "\"a b\"" },
    { "string_lies",
      "08c379a0"
      "0000000000000000000000000000000000000000000000000000000000000020"
      "00000000000000000000000000000000000000000000000000000000ffffffff",
      "custom error 0x08c379a0" },
    { "string_bare", "08c379a0", "custom error 0x08c379a0" },
    { "panic", "4e487b710000000000000000000000000000000000000000000000000000000000000011",
      "panic 0x11" },
    { "panic_bare", "4e487b71", "custom error 0x4e487b71" },
    { "unknown", "0123456789", "custom error 0x01234567" },
};

static void test_revert(void **state) {
    const struct revert_row *row = *state;
    size_t len = strlen(row->data) / 2;
    uint8_t *data = malloc(len + (len == 0));
    assert_non_null(data);
    assert_ok(hex_decode(span_str(row->data), data, len));
    char text[ABI_REVERT_TEXT_BYTES];
    assert_string_equal(abi_revert_text((struct span){ data, len }, text), row->text);
    free(data);
}

static void test_revert_custom(void **state) {
    (void)state;
    uint8_t hash[32];
    char text[ABI_REVERT_TEXT_BYTES];
    keccak256(SPAN_LIT("MasterSecretHashAlreadySet(bytes32)"), hash);
    assert_string_equal(abi_revert_text((struct span){ hash, 4 }, text),
                        "MasterSecretHashAlreadySet");
    keccak256(SPAN_LIT("UnknownApp(uint256)"), hash);
    assert_string_equal(abi_revert_text((struct span){ hash, 4 }, text), "UnknownApp");
}

static void test_escape(void **state) {
    (void)state;
    char out[8];
    assert_string_equal(registry_escape(SPAN_LIT("1234567"), out, sizeof(out)), "1234567");
    assert_string_equal(registry_escape(SPAN_LIT("12345678"), out, sizeof(out)), "1234...");
    assert_string_equal(registry_escape(SPAN_LIT("a\nb"), out, sizeof(out)), "a\\x0ab");
    assert_string_equal(registry_escape(SPAN_LIT("abc\n"), out, sizeof(out)), "abc\\x0a");
    assert_string_equal(registry_escape(SPAN_LIT("abcd\n"), out, sizeof(out)), "abcd...");
    assert_string_equal(registry_escape(SPAN_LIT("\\"), out, sizeof(out)), "\\x5c");
    assert_string_equal(registry_escape(SPAN_EMPTY, out, sizeof(out)), "");
    assert_string_equal(registry_escape(SPAN_LIT("12345"), out, 4), "...");
}

int main(void) {
    static struct CMUnitTest tests[64] = {
        cmocka_unit_test(test_calls),         cmocka_unit_test(test_returns),
        cmocka_unit_test(test_cut_anywhere),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_list_lengths),  cmocka_unit_test(test_list_padding),
        cmocka_unit_test(test_single_values), cmocka_unit_test(test_revert_custom),
        cmocka_unit_test(test_escape),
    };
    size_t count = 9;
    TEST_ADD_ROWS(tests, count, test_spoiled, rows);
    TEST_ADD_ROWS(tests, count, test_revert, revert_rows);
    ASSERT(count <= TEST_ROWS(tests));
    return _cmocka_run_group_tests("registry_abi", tests, count, NULL, NULL);
}
