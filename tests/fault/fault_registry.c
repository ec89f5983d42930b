/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include <jansson.h>

#include "fault.h"
#include "registry/file.h"
#include "registry/service.h"
#include "test.h"

static char dir[128];
static char path[160];
static char reason[REGISTRY_REASON_BYTES];

static struct registry_file_seed seed(void) {
    return (struct registry_file_seed){ .kms_app_id = 49,
                                        .node_wallet = { { 1 } },
                                        .node_url = "https://127.0.0.1:9443",
                                        .app_id = 100,
                                        .app_wallet = { { 2 } } };
}

static int setup(void **state) {
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/nova-fault-XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/registry.json", dir);
    const struct registry_file_seed s = seed();
    assert_ok(registry_file_create(path, &s, reason));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fault_arm(0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static void test_file_init(void **state) {
    (void)state;
    const struct registry_file_cfg cfg = { path, 0 };
    FAULT_EACH(nth) {
        struct registry *registry = NULL;
        fault_arm(nth);
        struct rc rc = registry_file_init(&registry, &cfg, reason);
        assert_int_equal(rc.err == E_OK, !fault_disarm());
        assert_int_equal(registry == NULL, fault_was_hit());
        registry_close(&registry);
    }
}

/* A read that fails for memory is a failure like others, and passes. */
static void test_file_reload(void **state) {
    (void)state;
    const struct registry_file_cfg cfg = { path, 0 };
    struct registry *registry = NULL;
    assert_ok(registry_file_init(&registry, &cfg, reason));
    const struct wallet wallet = { { 2 } };
    FAULT_EACH(nth) {
        struct auth_facts facts;
        assert_int_equal(unlink(path), 0);
        const struct registry_file_seed s = seed();
        assert_ok(registry_file_create(path, &s, reason));
        fault_arm(nth);
        struct rc rc = registry_lookup(registry, &wallet, &facts, reason);
        assert_int_equal(rc.err == E_OK, !fault_disarm());
        assert_int_equal(facts.found, !fault_was_hit());
        assert_int_equal(reason[0] == '\0', !fault_was_hit());
    }
    registry_close(&registry);
}

static void test_file_create(void **state) {
    (void)state;
    const struct registry_file_seed s = seed();
    assert_int_equal(unlink(path), 0);
    FAULT_EACH(nth) {
        fault_arm(nth);
        struct rc rc = registry_file_create(path, &s, reason);
        assert_int_equal(rc.err == E_OK, !fault_disarm());
        assert_int_equal(access(path, F_OK) == 0, !fault_was_hit());
    }
}

static void test_service(void **state) {
    (void)state;
    const struct registry_file_cfg cfg = { path, 0 };
    const struct registry_service_cfg service_cfg = { .refresh_count_max = 1,
                                                      .unknown_count_max = 1,
                                                      .members_refresh_ms = 1000,
                                                      .members_ttl_ms = 1000 };
    struct registry *registry = NULL;
    assert_ok(registry_file_init(&registry, &cfg, reason));
    /* The service, its table's two arrays, the two member lists: five failures, and a success. */
    for (unsigned nth = 1; nth <= 6; nth++) {
        struct registry_service *service = NULL;
        fault_arm(nth <= 5 ? nth : 0);
        struct rc rc = registry_service_init(&service, &registry, &service_cfg);
        assert_int_equal(fault_disarm(), nth <= 5);
        assert_int_equal(rc.err, nth <= 5 ? E_NOMEM : E_OK);
        assert_int_equal(registry == NULL, nth > 5); /* Kept by the caller on error. */
        assert_int_equal(service == NULL, nth <= 5);
        registry_service_close(&service);
    }
    registry_close(&registry);
}

int main(void) {
    json_set_alloc_funcs(fault_malloc, free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_init, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_reload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_service, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
