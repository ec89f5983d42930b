/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "registry/file.h"
#include "test.h"

#define NODE "0x1111111111111111111111111111111111111111"
#define APP "0x2222222222222222222222222222222222222222"

static char dir[128];
static char path[160];
static char reason[REGISTRY_REASON_BYTES];
static struct wallet node_wallet;
static struct wallet app_wallet;

static int setup(void **state) {
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/nova-registry-XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/registry.json", dir);
    assert_ok(wallet_parse(SPAN_LIT(NODE), &node_wallet));
    assert_ok(wallet_parse(SPAN_LIT(APP), &app_wallet));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    (void)unlink(path);
    (void)rmdir(path);
    assert_int_equal(rmdir(dir), 0); /* Nothing else was left. */
    return 0;
}

static struct registry_file_seed seed(void) {
    return (struct registry_file_seed){ .kms_app_id = 49,
                                        .node_wallet = node_wallet,
                                        .node_url = "https://127.0.0.1:9443",
                                        .app_id = 100,
                                        .app_wallet = app_wallet };
}

static void create(void) {
    const struct registry_file_seed s = seed();
    assert_ok(registry_file_create(path, &s, reason));
    assert_string_equal(reason, "");
}

/* Three pieces, put in place whole. */
static void write_pieces(const char *a, const char *b, const char *c) {
    char temp[200];
    (void)snprintf(temp, sizeof(temp), "%s.new", path);
    FILE *f = fopen(temp, "w");
    assert_non_null(f);
    assert_true(fputs(a, f) >= 0 && fputs(b, f) >= 0 && fputs(c, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(temp, path), 0);
}

static void write_text(const char *text) {
    write_pieces(text, "", "");
}

static char *read_text(void) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, f) > 0);
    assert_int_equal(fclose(f), 0);
    return text;
}

/* Replaces the last `from` in the file. */
static void edit(const char *from, const char *to) {
    char *text = read_text();
    char *at = text;
    for (char *next = strstr(text, from); next != NULL; next = strstr(next + 1, from)) {
        at = next;
    }
    assert_ptr_not_equal(at, text);
    *at = '\0';
    write_pieces(text, to, at + strlen(from));
    free(text);
}

static struct registry *open_with(uint32_t recheck_ms) {
    struct registry *registry = NULL;
    const struct registry_file_cfg cfg = { path, recheck_ms };
    assert_ok(registry_file_init(&registry, &cfg, reason));
    assert_int_equal(registry->kms_app_id, 49);
    assert_int_equal(registry->refresh_ms, REGISTRY_FILE_REFRESH_MS);
    return registry;
}

static enum auth_instance_status status_of(struct registry *registry, const struct wallet *w) {
    struct auth_facts facts;
    assert_ok(registry_lookup(registry, w, &facts, reason));
    assert_true(facts.found);
    return facts.instance.status;
}

static void test_create_and_lookup(void **state) {
    (void)state;
    create();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    uint64_t before_ms = clock_mono_ms();
    struct registry *registry = open_with(0);
    struct auth_facts facts;
    assert_ok(registry_lookup(registry, &app_wallet, &facts, reason));
    assert_true(facts.found);
    assert_int_equal(facts.instance.app_id, 100);
    assert_true(facts.as_of_mono_ms >= before_ms);
    assert_true(facts.as_of_mono_ms <= clock_mono_ms());
    assert_int_equal(auth_judge(&facts, AUTH_CALLER, 49), AUTH_VERDICT_PERMITTED);
    struct wallet unknown = { { 1 } };
    assert_ok(registry_lookup(registry, &unknown, &facts, reason));
    assert_false(facts.found);
    assert_true(facts.as_of_mono_ms >= before_ms);
    registry_close(&registry);
    registry_close(&registry);
}

static void test_members(void **state) {
    (void)state;
    create();
    struct registry *registry = open_with(0);
    struct registry_members *members = calloc(1, sizeof(*members));
    assert_non_null(members);
    assert_ok(registry_members(registry, members, reason));
    assert_int_equal(members->count, 1);
    assert_true(wallet_equal(&members->at[0].wallet, &node_wallet));
    assert_string_equal(members->at[0].url, "https://127.0.0.1:9443");
    assert_true(members->as_of_mono_ms > 0);
    assert_ok(registry_check_member(registry, &node_wallet, reason));
    assert_err(registry_check_member(registry, &app_wallet, reason), DENIED);
    assert_string_equal(reason, "instance belongs to another app than the KMS");
    struct wallet unknown = { { 1 } };
    assert_err(registry_check_member(registry, &unknown, reason), DENIED);
    assert_string_equal(reason, "wallet is not registered");
    free(members);
    registry_close(&registry);
}

static void write_members(unsigned count) {
    size_t bytes = 1000 + (size_t)count * 160;
    char *text = malloc(bytes);
    assert_non_null(text);
    int len = snprintf(text, bytes,
                       "{\"kms_app_id\":49,\"apps\":[{\"id\":49,\"status\":\"ACTIVE\"}],"
                       "\"versions\":[{\"id\":1,\"appId\":49,\"status\":\"ENROLLED\"}],"
                       "\"instances\":[{\"id\":900,\"appId\":49,\"versionId\":1,"
                       "\"teeWalletAddress\":\"" NODE "\",\"zkVerified\":false,"
                       "\"status\":\"ACTIVE\"}");
    for (unsigned i = count; i > 0; i--) {
        len += snprintf(text + len, bytes - (size_t)len,
                        ",{\"id\":%u,\"appId\":49,\"versionId\":1,\"teeWalletAddress\":\"0x%040x\","
                        "\"zkVerified\":true,\"status\":\"ACTIVE\"}",
                        i, i);
    }
    (void)snprintf(text + len, bytes - (size_t)len, "]}");
    write_text(text);
    free(text);
}

static void test_member_limit_and_one_past(void **state) {
    (void)state;
    struct registry_members *members = calloc(1, sizeof(*members));
    assert_non_null(members);
    write_members(REGISTRY_MEMBER_COUNT_MAX);
    struct registry *registry = open_with(0);
    assert_ok(registry_members(registry, members, reason));
    assert_int_equal(members->count, REGISTRY_MEMBER_COUNT_MAX);
    for (unsigned i = 0; i < REGISTRY_MEMBER_COUNT_MAX; i++) {
        assert_int_equal(members->at[i].id, i + 1); /* By id; the file has them backwards. */
    }
    write_members(REGISTRY_MEMBER_COUNT_MAX + 1);
    assert_err(registry_members(registry, members, reason), TOO_BIG);
    assert_int_equal(members->count, 0);
    assert_non_null(strstr(reason, "instances: must have at most 256 active ones of the KMS app"));
    registry_close(&registry);
    free(members);
}

static void test_change_is_seen(void **state) {
    (void)state;
    create();
    struct registry *registry = open_with(0);
    assert_int_equal(status_of(registry, &app_wallet), AUTH_INSTANCE_ACTIVE);
    edit("\"status\": \"ACTIVE\"", "\"status\": \"STOPPED\"");
    assert_int_equal(status_of(registry, &app_wallet), AUTH_INSTANCE_STOPPED);
    /* In place, same size, perhaps within one tick of the file system's clock. */
    for (int i = 0; i < 20; i++) {
        char *text = read_text();
        char *at = strstr(text, i % 2 == 0 ? "STOPPED" : "ACTIVE\" ");
        assert_non_null(at);
        memcpy(at, i % 2 == 0 ? "ACTIVE\" " : "STOPPED", i % 2 == 0 ? 8 : 7);
        at[i % 2 == 0 ? 8 : 7] = i % 2 == 0 ? ' ' : '"';
        FILE *f = fopen(path, "r+");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
        assert_int_equal(fclose(f), 0);
        free(text);
        assert_int_equal(status_of(registry, &app_wallet),
                         i % 2 == 0 ? AUTH_INSTANCE_ACTIVE : AUTH_INSTANCE_STOPPED);
    }
    registry_close(&registry);
}

static void test_not_looked_at_within_recheck(void **state) {
    (void)state;
    create();
    struct registry *registry = open_with(86400000);
    edit("\"status\": \"ACTIVE\"", "\"status\": \"STOPPED\"");
    struct auth_facts first;
    struct auth_facts second;
    assert_ok(registry_lookup(registry, &app_wallet, &first, reason));
    assert_ok(registry_lookup(registry, &app_wallet, &second, reason));
    assert_int_equal(first.instance.status, AUTH_INSTANCE_ACTIVE);
    assert_int_equal(first.as_of_mono_ms,
                     second.as_of_mono_ms); /* It does not claim to be newer. */
    registry_close(&registry);
}

static void assert_unreadable(struct registry *registry, const char *want) {
    struct auth_facts facts = { .found = true };
    assert_true(registry_lookup(registry, &app_wallet, &facts, reason).err != E_OK);
    assert_false(facts.found);
    char *said = strstr(reason, "registry.json: ");
    assert_non_null(said);
    assert_string_equal(said + strlen("registry.json: "), want);
    assert_int_equal(strncmp(reason, "registry file ", 14), 0);
    assert_true(registry_check_member(registry, &node_wallet, reason).err != E_DENIED);
}

static void test_broken_file_fails_whole(void **state) {
    (void)state;
    create();
    struct registry *registry = open_with(0);
    edit("\"status\": \"ACTIVE\"", "\"status\": \"ASLEEP\"");
    assert_unreadable(registry,
                      "instances[1].status: must be \"ACTIVE\", \"STOPPED\" or \"FAILED\"");
    assert_unreadable(registry,
                      "instances[1].status: must be \"ACTIVE\", \"STOPPED\" or \"FAILED\"");
    edit("\"status\": \"ASLEEP\"", "\"status\": \"STOPPED\"");
    assert_int_equal(status_of(registry, &app_wallet), AUTH_INSTANCE_STOPPED);
    assert_int_equal(unlink(path), 0);
    assert_unreadable(registry, "cannot be opened: No such file or directory");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_unreadable(registry, "is not a regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_unreadable(registry, "is not a regular file");
    assert_int_equal(unlink(path), 0);
    create();
    assert_int_equal(status_of(registry, &app_wallet), AUTH_INSTANCE_ACTIVE);
    assert_int_equal(truncate(path, (off_t)REGISTRY_FILE_BYTES_MAX + 1), 0);
    assert_unreadable(registry, "must have at most 16777216 bytes");
    registry_close(&registry);
}

static void test_kms_app_id_does_not_change(void **state) {
    (void)state;
    create();
    struct registry *registry = open_with(0);
    edit("\"kms_app_id\": 49", "\"kms_app_id\": 100");
    assert_unreadable(registry, "kms_app_id: must not change while the node runs");
    edit("\"kms_app_id\": 100", "\"kms_app_id\": 49");
    assert_int_equal(status_of(registry, &app_wallet), AUTH_INSTANCE_ACTIVE);
    registry_close(&registry);
}

static void test_init_refuses_a_broken_file(void **state) {
    (void)state;
    struct registry *registry = NULL;
    const struct registry_file_cfg cfg = { path, 0 };
    assert_err(registry_file_init(&registry, &cfg, reason), IO);
    assert_null(registry);
    write_text("{}");
    assert_err(registry_file_init(&registry, &cfg, reason), MALFORMED);
    assert_null(registry);
    assert_non_null(strstr(reason, "registry.json: kms_app_id: is missing"));
}

/* A file at rest: parsed once, then only looked at. */
static void test_settled_file(void **state) {
    (void)state;
    struct registry *registry = NULL;
    const struct registry_file_cfg cfg = { TEST_VECTORS "/../fuzz/corpus/registry_file/full.json",
                                           0 };
    assert_ok(registry_file_init(&registry, &cfg, reason));
    struct auth_facts facts;
    for (int i = 0; i < 3; i++) {
        assert_ok(registry_lookup(registry, &app_wallet, &facts, reason));
        assert_true(facts.found);
    }
    registry_close(&registry);
}

static void test_create_refuses(void **state) {
    (void)state;
    create();
    struct registry_file_seed s = seed();
    assert_err(registry_file_create(path, &s, reason), EXISTS);
    assert_non_null(strstr(reason, "is already there"));
    assert_int_equal(unlink(path), 0);
    s.app_id = s.kms_app_id;
    assert_err(registry_file_create(path, &s, reason), INVALID);
    assert_string_equal(reason, "apps[1].id: is the same as in apps[0]");
    s = seed();
    s.app_wallet = s.node_wallet;
    assert_err(registry_file_create(path, &s, reason), INVALID);
    s = seed();
    s.kms_app_id = 0;
    assert_err(registry_file_create(path, &s, reason), INVALID);
    s = seed();
    s.node_url = "\xff";
    assert_err(registry_file_create(path, &s, reason), INVALID);
    s = seed();
    assert_err(registry_file_create("/nonexistent/registry.json", &s, reason), IO);
    assert_string_equal(reason, "registry file /nonexistent/registry.json: cannot be written");
}

static void test_create_with_largest_ids(void **state) {
    (void)state;
    struct registry_file_seed s = seed();
    s.kms_app_id = UINT64_MAX;
    s.app_id = UINT64_MAX - 1;
    assert_ok(registry_file_create(path, &s, reason));
    struct registry *registry = NULL;
    const struct registry_file_cfg cfg = { path, 0 };
    assert_ok(registry_file_init(&registry, &cfg, reason));
    assert_true(registry->kms_app_id == UINT64_MAX);
    registry_close(&registry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_and_lookup, setup, teardown),
        cmocka_unit_test_setup_teardown(test_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_member_limit_and_one_past, setup, teardown),
        cmocka_unit_test_setup_teardown(test_change_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_looked_at_within_recheck, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_file_fails_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kms_app_id_does_not_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_init_refuses_a_broken_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settled_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_create_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_create_with_largest_ids, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
