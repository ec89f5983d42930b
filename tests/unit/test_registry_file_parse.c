/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "registry/file.h"
#include "registry/file_parse.h"
#include "test.h"

#define FILE_TEXT(apps, versions, instances)                                                       \
    "{\"kms_app_id\":49,\"apps\":[" apps "],\"versions\":[" versions "],\"instances\":[" instances \
    "]}"
#define APP "{\"id\":49,\"status\":\"ACTIVE\"}"
#define VERSION "{\"id\":1,\"appId\":49,\"status\":\"ENROLLED\"}"
#define W1 "0x1111111111111111111111111111111111111111"
#define W2 "0x2222222222222222222222222222222222222222"
#define HEX32 "0x0000000000000000000000000000000000000000000000000000000000000001"
#define INSTANCE_OF(id, wallet)                                                  \
    "{\"id\":" id ",\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"" wallet \
    "\",\"zkVerified\":true,\"status\":\"ACTIVE\"}"
#define INSTANCE INSTANCE_OF("1", W1)
/* An app, version or instance with something more. */
#define APP_WITH(more) "{\"id\":49,\"status\":\"ACTIVE\"," more "}"
#define VERSION_WITH(more) "{\"id\":1,\"appId\":49,\"status\":\"ENROLLED\"," more "}"
#define INSTANCE_WITH(more)                                             \
    "{\"id\":1,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"" W1 \
    "\",\"zkVerified\":true,\"status\":\"ACTIVE\"," more "}"
#define ON_APP(more) FILE_TEXT(APP_WITH(more), VERSION, INSTANCE)
#define ON_VERSION(more) FILE_TEXT(APP, VERSION_WITH(more), INSTANCE)
#define ON_INSTANCE(more) FILE_TEXT(APP, VERSION, INSTANCE_WITH(more))

#define MUST_BE_ID "must be an integer or a decimal string from 1 to 2^64-1"
#define MUST_BE_U64 "must be an integer or a decimal string from 0 to 2^64-1"
#define MUST_BE_ADDRESS "must be an address: 0x and 40 hex digits"
#define MUST_BE_TEE_KEY "must be 0x and an even number of hex digits, at most 160 bytes"
#define MUST_BE_URL "must be a string of at most 256 bytes without control characters"

#define X16(c) c c c c c c c c c c c c c c c c
#define X256(c) X16(X16(c))
#define X160(c) X16(c c c c c c c c c c)

struct parse_row {
    const char *name;
    const char *text;
    const char *want; /* The reason; NULL when it is accepted. */
};

static struct parse_row parse_rows[] = {
    { "smallest", FILE_TEXT(APP, "", ""), NULL },
    { "one_of_each", FILE_TEXT(APP, VERSION, INSTANCE), NULL },
    { "two_instances", FILE_TEXT(APP, VERSION, INSTANCE "," INSTANCE_OF("2", W2)), NULL },
    { "every_app_field",
      ON_APP("\"owner\":\"" W1 "\",\"teeArch\":\"" HEX32 "\",\"dappContract\":\"" W1
             "\",\"metadataUri\":\"\",\"latestVersionId\":1,\"createdAt\":1,\"appWallet\":\"" W1
             "\""),
      NULL },
    { "every_version_field",
      ON_VERSION("\"versionName\":\"v\",\"codeMeasurement\":\"" HEX32
                 "\",\"imageUri\":\"i\",\"auditUrl\":\"a\",\"auditHash\":\"h\",\"githubRunId\":"
                 "\"1\",\"enrolledAt\":\"0\",\"enrolledBy\":\"" W2 "\""),
      NULL },
    { "every_instance_field",
      ON_INSTANCE("\"operator\":\"0x0000000000000000000000000000000000000000\",\"instanceUrl\":"
                  "\"https://a\",\"teePubkey\":\"0x30\",\"registeredAt\":1700000000"),
      NULL },
    { "id_as_string", FILE_TEXT(APP, VERSION, INSTANCE_OF("\"1\"", W1)), NULL },
    { "largest_id", FILE_TEXT(APP, VERSION, INSTANCE_OF("\"18446744073709551615\"", W1)), NULL },
    { "largest_id_number", FILE_TEXT(APP, VERSION, INSTANCE_OF("9223372036854775807", W1)), NULL },
    { "id_too_large", FILE_TEXT(APP, VERSION, INSTANCE_OF("\"18446744073709551616\"", W1)),
      "instances[0].id: " MUST_BE_ID },
    { "id_number_too_large", FILE_TEXT("", "", INSTANCE_OF("9223372036854775808", W1)),
      "line 1 column 79: too big integer near '9223372036854775808'; ids above 2^63-1 are written "
      "as strings" },
    { "id_zero", FILE_TEXT(APP, VERSION, INSTANCE_OF("0", W1)), "instances[0].id: " MUST_BE_ID },
    { "id_zero_string", FILE_TEXT(APP, VERSION, INSTANCE_OF("\"0\"", W1)),
      "instances[0].id: " MUST_BE_ID },
    { "id_negative", FILE_TEXT(APP, VERSION, INSTANCE_OF("-1", W1)),
      "instances[0].id: " MUST_BE_ID },
    { "id_real", FILE_TEXT(APP, VERSION, INSTANCE_OF("1.0", W1)), "instances[0].id: " MUST_BE_ID },
    { "id_hex", FILE_TEXT(APP, VERSION, INSTANCE_OF("\"0x1\"", W1)),
      "instances[0].id: " MUST_BE_ID },
    { "id_null", FILE_TEXT(APP, VERSION, INSTANCE_OF("null", W1)), "instances[0].id: " MUST_BE_ID },
    { "time_negative", ON_INSTANCE("\"registeredAt\":-1"),
      "instances[0].registeredAt: " MUST_BE_U64 },
    { "wallet_zero",
      FILE_TEXT(APP, VERSION, INSTANCE_OF("1", "0x0000000000000000000000000000000000000000")),
      "instances[0].teeWalletAddress: must not be the zero address" },
    { "wallet_short", FILE_TEXT(APP, VERSION, INSTANCE_OF("1", "0x11")),
      "instances[0].teeWalletAddress: " MUST_BE_ADDRESS },
    { "operator_not_a_string", ON_INSTANCE("\"operator\":1"),
      "instances[0].operator: " MUST_BE_ADDRESS },
    { "owner_bad", ON_APP("\"owner\":\"\""), "apps[0].owner: " MUST_BE_ADDRESS },
    { "tee_arch_bad", ON_APP("\"teeArch\":\"0x00\""),
      "apps[0].teeArch: must be 0x and 64 hex digits" },
    { "metadata_bad", ON_APP("\"metadataUri\":{}"), "apps[0].metadataUri: must be a string" },
    { "url_at_limit", ON_INSTANCE("\"instanceUrl\":\"" X256("u") "\""), NULL },
    { "url_over_limit", ON_INSTANCE("\"instanceUrl\":\"" X256("u") "u\""),
      "instances[0].instanceUrl: " MUST_BE_URL },
    { "url_control", ON_INSTANCE("\"instanceUrl\":\"a\\nb\""),
      "instances[0].instanceUrl: " MUST_BE_URL },
    { "tee_key_empty", ON_INSTANCE("\"teePubkey\":\"0x\""), NULL },
    { "tee_key_at_limit", ON_INSTANCE("\"teePubkey\":\"0x" X160("ab") "\""), NULL },
    { "tee_key_over_limit", ON_INSTANCE("\"teePubkey\":\"0x" X160("ab") "cd\""),
      "instances[0].teePubkey: " MUST_BE_TEE_KEY },
    { "tee_key_odd", ON_INSTANCE("\"teePubkey\":\"0xabc\""),
      "instances[0].teePubkey: " MUST_BE_TEE_KEY },
    { "tee_key_no_prefix", ON_INSTANCE("\"teePubkey\":\"abcd\""),
      "instances[0].teePubkey: " MUST_BE_TEE_KEY },
    { "tee_key_empty_text", ON_INSTANCE("\"teePubkey\":\"\""),
      "instances[0].teePubkey: " MUST_BE_TEE_KEY },
    { "zk_not_a_bool",
      FILE_TEXT(APP, VERSION,
                "{\"id\":1,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"" W1
                "\",\"zkVerified\":1,\"status\":\"ACTIVE\"}"),
      "instances[0].zkVerified: must be true or false" },
    { "zk_missing",
      FILE_TEXT(APP, VERSION,
                "{\"id\":1,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"" W1
                "\",\"status\":\"ACTIVE\"}"),
      "instances[0].zkVerified: is missing" },
    { "status_of_another_kind", FILE_TEXT("{\"id\":49,\"status\":\"STOPPED\"}", "", ""),
      "apps[0].status: must be \"ACTIVE\", \"INACTIVE\" or \"REVOKED\"" },
    { "status_lower_case", FILE_TEXT("{\"id\":49,\"status\":\"active\"}", "", ""),
      "apps[0].status: must be \"ACTIVE\", \"INACTIVE\" or \"REVOKED\"" },
    { "status_number", FILE_TEXT(APP, "{\"id\":1,\"appId\":49,\"status\":0}", ""),
      "versions[0].status: must be \"ENROLLED\", \"DEPRECATED\" or \"REVOKED\"" },
    { "status_missing", FILE_TEXT("{\"id\":49}", "", ""), "apps[0].status: is missing" },
    { "unknown_field", ON_INSTANCE("\"teeWallet\":\"" W1 "\""),
      "instances[0]: has an unknown field \"teeWallet\"" },
    { "record_not_an_object", FILE_TEXT(APP ",7", "", ""), "apps[1]: must be an object" },
    { "app_twice", FILE_TEXT(APP "," APP, "", ""), "apps[1].id: is the same as in apps[0]" },
    { "version_twice", FILE_TEXT(APP, VERSION "," VERSION, ""),
      "versions[1].id: is the same as in versions[0]" },
    { "version_of_two_apps",
      FILE_TEXT(APP ",{\"id\":50,\"status\":\"ACTIVE\"}",
                VERSION ",{\"id\":1,\"appId\":50,\"status\":\"ENROLLED\"}", ""),
      NULL },
    { "instance_id_twice", FILE_TEXT(APP, VERSION, INSTANCE "," INSTANCE_OF("1", W2)),
      "instances[1].id: is the same as in instances[0]" },
    { "wallet_twice",
      FILE_TEXT(APP, VERSION, INSTANCE "," INSTANCE_OF("2", W2) "," INSTANCE_OF("3", W1)),
      "instances[2].teeWalletAddress: is the same as in instances[0]" },
    { "version_without_app", FILE_TEXT(APP, "{\"id\":1,\"appId\":50,\"status\":\"ENROLLED\"}", ""),
      "versions[0].appId: no app has id 50" },
    { "instance_without_version", FILE_TEXT(APP, "", INSTANCE),
      "instances[0].versionId: app 49 has no version 1" },
    { "instance_without_app",
      FILE_TEXT(APP, VERSION,
                "{\"id\":1,\"appId\":50,\"versionId\":1,\"teeWalletAddress\":\"" W1
                "\",\"zkVerified\":true,\"status\":\"ACTIVE\"}"),
      "instances[0].appId: no app has id 50" },
    { "latest_version_not_there", ON_APP("\"latestVersionId\":2"),
      "apps[0].latestVersionId: app 49 has no version 2" },
    { "latest_version_none", ON_APP("\"latestVersionId\":0"), NULL },
    { "kms_app_not_there", FILE_TEXT("", "", ""), "kms_app_id: no app has id 49" },
    { "kms_app_id_missing", "{\"apps\":[],\"versions\":[],\"instances\":[]}",
      "kms_app_id: is missing" },
    { "kms_app_id_zero", "{\"kms_app_id\":0,\"apps\":[],\"versions\":[],\"instances\":[]}",
      "kms_app_id: " MUST_BE_ID },
    { "apps_missing", "{\"kms_app_id\":1,\"versions\":[],\"instances\":[]}", "apps: is missing" },
    { "apps_not_an_array", "{\"kms_app_id\":1,\"apps\":{},\"versions\":[],\"instances\":[]}",
      "apps: must be an array" },
    { "root_unknown_field", "{\"kms_app_id\":1,\"chain\":1}", "has an unknown field \"chain\"" },
    { "root_array", "[]", "must be an object" },
    { "empty", "", "line 1 column 0: '[' or '{' expected near end of file" },
    { "duplicate_key", "{\"kms_app_id\":1,\"kms_app_id\":1}",
      "line 1 column 28: duplicate object key near '\"kms_app_id\"'" },
};

static void test_parse(void **state) {
    const struct parse_row *row = *state;
    size_t len = strlen(row->text);
    uint8_t *text = test_dup(row->text, len);
    struct registry_file_data data;
    char reason[REGISTRY_REASON_BYTES];
    struct rc rc = registry_file_parse((struct span){ text, len }, &data, reason);
    assert_string_equal(reason, row->want != NULL ? row->want : "");
    assert_err_equal(rc, row->want != NULL ? E_MALFORMED : E_OK);
    registry_file_data_close(&data);
    registry_file_data_close(&data);
    free(text);
}

static void test_values(void **state) {
    (void)state;
    static const char text[] = FILE_TEXT(
        "{\"id\":49,\"status\":\"INACTIVE\"}", "{\"id\":1,\"appId\":49,\"status\":\"DEPRECATED\"}",
        INSTANCE_OF("2", W2) ",{\"id\":\"1\",\"appId\":\"49\",\"versionId\":\"1\","
                             "\"teeWalletAddress\":\"" W1
                             "\",\"zkVerified\":false,\"status\":\"FAILED\",\"instanceUrl\":"
                             "\"https://a:1\",\"teePubkey\":\"0x3076\",\"operator\":\"" W2
                             "\",\"registeredAt\":1700000000}");
    struct registry_file_data data;
    char reason[REGISTRY_REASON_BYTES];
    assert_ok(registry_file_parse(span_str(text), &data, reason));
    assert_int_equal(data.kms_app_id, 49);
    struct wallet w1;
    struct wallet w2;
    assert_ok(wallet_parse(SPAN_LIT(W1), &w1));
    assert_ok(wallet_parse(SPAN_LIT(W2), &w2));
    struct auth_facts facts = { 0 };
    registry_file_find(&data, &w1, &facts);
    assert_true(facts.found);
    assert_int_equal(facts.instance.id, 1);
    assert_int_equal(facts.instance.app_id, 49);
    assert_int_equal(facts.instance.version_id, 1);
    assert_int_equal(facts.instance.status, AUTH_INSTANCE_FAILED);
    assert_false(facts.instance.zk_verified);
    assert_string_equal(facts.instance.url, "https://a:1");
    assert_int_equal(facts.instance.tee_pubkey_len, 2);
    assert_memory_equal(facts.instance.tee_pubkey, "\x30\x76", 2);
    assert_true(wallet_equal(&facts.instance.operator_wallet, &w2));
    assert_true(wallet_equal(&facts.instance.wallet, &w1));
    assert_int_equal(facts.instance.registered_unix_s, 1700000000);
    assert_int_equal(facts.app_status, AUTH_APP_INACTIVE);
    assert_int_equal(facts.version_status, AUTH_VERSION_DEPRECATED);
    registry_file_instance_at(&data, 1, &facts); /* By id, not by place. */
    assert_int_equal(facts.instance.id, 2);
    struct wallet unknown = { { 9 } };
    registry_file_find(&data, &unknown, &facts);
    assert_false(facts.found);
    registry_file_data_close(&data);
}

static void test_size_and_one_past(void **state) {
    (void)state;
    static const char text[] = FILE_TEXT(APP, "", "");
    uint8_t *big = malloc(REGISTRY_FILE_BYTES_MAX + 1);
    assert_non_null(big);
    memset(big, ' ', REGISTRY_FILE_BYTES_MAX + 1);
    memcpy(big, text, sizeof(text) - 1);
    struct registry_file_data data;
    char reason[REGISTRY_REASON_BYTES];
    assert_ok(registry_file_parse((struct span){ big, REGISTRY_FILE_BYTES_MAX }, &data, reason));
    registry_file_data_close(&data);
    assert_err(
        registry_file_parse((struct span){ big, REGISTRY_FILE_BYTES_MAX + 1 }, &data, reason),
        TOO_BIG);
    assert_string_equal(reason, "must have at most 16777216 bytes, nested at most 16 deep");
    free(big);
}

/* Many records: order and lookup do not depend on the place in the file. */
static void test_many(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    size_t bytes = 200 + (size_t)COUNT * 160;
    char *text = malloc(bytes);
    assert_non_null(text);
    int len =
        snprintf(text, bytes, "{\"kms_app_id\":49,\"apps\":[%s],\"versions\":[%s],\"instances\":[",
                 APP, VERSION);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned n = i * 1237 % COUNT + 1;
        len +=
            snprintf(text + len, bytes - (size_t)len,
                     "%s{\"id\":%u,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"0x%040x\","
                     "\"zkVerified\":true,\"status\":\"ACTIVE\"}",
                     i > 0 ? "," : "", n, n * 0x9e3779b1u);
    }
    len += snprintf(text + len, bytes - (size_t)len, "]}");
    struct registry_file_data data;
    char reason[REGISTRY_REASON_BYTES];
    assert_ok(registry_file_parse((struct span){ (uint8_t *)text, (size_t)len }, &data, reason));
    for (unsigned n = 1; n <= COUNT; n++) {
        struct auth_facts by_id = { 0 };
        struct auth_facts by_wallet = { 0 };
        registry_file_instance_at(&data, n - 1, &by_id);
        assert_int_equal(by_id.instance.id, n);
        registry_file_find(&data, &by_id.instance.wallet, &by_wallet);
        assert_int_equal(by_wallet.instance.id, n);
    }
    registry_file_data_close(&data);
    free(text);
}

int main(void) {
    struct CMUnitTest tests[96] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_size_and_one_past),
        cmocka_unit_test(test_many),
    };
    size_t count = 3;
    TEST_ADD_ROWS(tests, count, test_parse, parse_rows);
    return _cmocka_run_group_tests("registry_file_parse", tests, count, NULL, NULL);
}
