/* SPDX-License-Identifier: Apache-2.0 */
/* The pages' contents. net's and the registry's figures are played by this file. */
#include <jansson.h>

#include "http/pages.h"
#include "service/readiness.h"
#include "test.h"

const uint32_t net_latency_bounds_us[NET_LATENCY_COUNT - 1] = { 10,    25,    50,     100,
                                                                250,   500,   1000,   2500,
                                                                10000, 50000, 250000, 1000000 };
const char *const net_handshake_names[NET_HANDSHAKE_COUNT] = {
#define HANDSHAKE_NAME(name, text) text,
    NET_HANDSHAKE_MAP(HANDSHAKE_NAME)
#undef HANDSHAKE_NAME
};

void net_server_stats(const struct net_server *server, struct net_stats *out) {
    (void)server;
    *out = (struct net_stats){ .conn_count = 3, .method_count = 2 };
    out->methods[0].name = "novakms.v1.KmsService/Derive";
    out->methods[0].count[STATUS_OK] = 5;
    out->methods[0].count[STATUS_UNAVAILABLE] = 2;
    out->methods[0].latency[0] = 4;
    out->methods[0].latency[NET_LATENCY_COUNT - 1] = 3;
    out->methods[0].latency_sum_us = 3000007;
    out->methods[1].name = "novakms.v1.KmsService/Put";
}

void registry_service_stats(struct registry_service *service, struct registry_service_stats *out) {
    (void)service;
    *out = (struct registry_service_stats){ .lookup_count = 11 };
}

static void auth_stats(void *ctx, struct auth_view_stats *out) {
    (void)ctx;
    *out = (struct auth_view_stats){ .pinned_count = 1 };
}

static void secret_stats(void *ctx, struct http_secret_stats *out) {
    (void)ctx;
    *out = (struct http_secret_stats){ .given_count = 4, .fetch_failed_count = 5 };
}

static uint64_t now_ms(void) {
    return 61500;
}

struct site {
    struct service_readiness readiness;
    struct service_clock clock;
    struct service_kv *kv;
    struct replica *replica;
    struct service_durability_stats durability_stats;
    struct service_shared shared;
    struct service_status *status;
    struct http_node node;
    struct http_pages pages;
    struct http_text body;
    const char *content_type;
};

/* One other member, who has not been asked for anything yet. */
static void open_replica(struct site *site) {
    const struct replica_cfg cfg = { .interval_ms = 1000,
                                     .wait_ms = 1000,
                                     .page_bytes_max = 1 << 20,
                                     .backoff_min_ms = 1,
                                     .backoff_max_ms = 1 };
    const struct replica_member self = { .wallet = { { 0x11 } }, .url = "https://self:443" };
    const struct replica_member other = { .wallet = { { 0x22 } }, .url = "https://other:443" };
    const struct replica_now now = { .mono_ms = now_ms() };
    assert_ok(replica_init(&site->replica, &cfg));
    assert_ok(replica_set_members(site->replica, &self, &other, 1, &now));
    site->shared = (struct service_shared){ .kv = site->kv,
                                            .replica = site->replica,
                                            .durability_stats = &site->durability_stats };
    service_durability_count(&site->durability_stats, 2, true);
    service_durability_count(&site->durability_stats, 20000, true);
    service_durability_count(&site->durability_stats, 0, false);
}

static void open_site(struct site *site) {
    memset(site, 0, sizeof(*site));
    const struct store_cfg store = { .writer = { 0xab },
                                     .app_bytes_max = 1 << 20,
                                     .total_bytes_max = 1 << 21,
                                     .hard_bytes_max = 1 << 22,
                                     .sealed_bytes_max = 1000,
                                     .tombstone_count_max = 10,
                                     .tombstone_retention_ms = 1000,
                                     .clock_skew_ms = 5000,
                                     .namespace_count_max = 10,
                                     .writer_count_max = 10 };
    service_readiness_init(&site->readiness);
    assert_ok(service_kv_init(&site->kv, &store));
    struct service_status_cfg cfg = { .readiness = &site->readiness,
                                      .kv = site->kv,
                                      .version = "1.2.3",
                                      .url = "https://kms.example:8443",
                                      .wallet = { { 0x11 } },
                                      .chain_id = 84532,
                                      .kms_app_id = 49,
                                      .master_hash = { 0xfe },
                                      .started_at_ms = 1000,
                                      .clock = &site->clock,
                                      .tls_lifetime_s = 600 };
    service_clock_init(&site->clock, 5000, 60000, 1000000);
    assert_ok(service_status_init(&site->status, &cfg));
    struct registry_members *members = calloc(1, sizeof(*members));
    assert_non_null(members);
    members->count = 2;
    members->at[1].wallet = cfg.wallet;
    service_status_set_members(site->status, members);
    free(members);
    const struct store_write write = {
        .app_id = 7, .key = SPAN_LIT("k"), .sealed = SPAN_LIT("x"), .now_unix_ms = 1000000
    };
    struct store_written written;
    assert_ok(service_kv_put(site->kv, &write, &written));
    open_replica(site);
    site->node = (struct http_node){ .status = site->status,
                                     .shared = &site->shared,
                                     .auth_stats = auth_stats,
                                     .secret_stats = secret_stats,
                                     .now_ms = now_ms };
    site->pages = http_node_pages(&site->node);
    site->body.bytes_max = HTTP_PAGE_BYTES_MAX;
}

static void close_site(struct site *site) {
    http_text_close(&site->body);
    service_status_close(&site->status);
    service_status_close(&site->status);
    replica_close(&site->replica);
    service_kv_close(&site->kv);
    service_readiness_close(&site->readiness);
}

/* Gives the status code; the body ends in a NUL. */
static unsigned fetch(struct site *site, enum http_page page) {
    http_text_close(&site->body);
    site->content_type = "application/json";
    unsigned code = site->pages.write(site->pages.ctx, page, &site->body, &site->content_type);
    http_text_append(&site->body, (struct span){ (const uint8_t *)"", 1 });
    assert_false(site->body.failed);
    return code;
}

static void test_health(void **state) {
    (void)state;
    struct site site;
    open_site(&site);
    assert_int_equal(fetch(&site, HTTP_PAGE_HEALTH), 503);
    assert_string_equal((const char *)site.body.ptr,
                        "{\"status\":\"unavailable\",\"reason\":\"the node is starting\"}\n");
    assert_int_equal(fetch(&site, HTTP_PAGE_HEALTH_LIVE), 200);
    assert_string_equal((const char *)site.body.ptr, "{\"status\":\"alive\"}\n");
    (void)service_readiness_set(&site.readiness, SERVICE_GATE_STARTING, NULL);
    assert_int_equal(fetch(&site, HTTP_PAGE_HEALTH), 200);
    assert_string_equal((const char *)site.body.ptr, "{\"status\":\"healthy\"}\n");
    (void)service_readiness_set(&site.readiness, SERVICE_GATE_REGISTRY, "a \"quoted\" reason");
    assert_int_equal(fetch(&site, HTTP_PAGE_HEALTH), 503);
    assert_non_null(strstr((const char *)site.body.ptr, "a \\\"quoted\\\" reason"));
    close_site(&site);
}

static json_int_t number_at(const json_t *json, const char *object, const char *field) {
    const json_t *value = json_object_get(json_object_get(json, object), field);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void test_status_has_the_guides_fields(void **state) {
    (void)state;
    struct site site;
    open_site(&site);
    assert_int_equal(fetch(&site, HTTP_PAGE_STATUS), 200);
    json_t *json = json_loads((const char *)site.body.ptr, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    const json_t *node = json_object_get(json, "node");
    assert_string_equal(json_string_value(json_object_get(node, "tee_wallet")),
                        "0x1100000000000000000000000000000000000000");
    assert_true(json_is_true(json_object_get(node, "is_operator")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(node, "writers"), 0)),
                        "ab000000000000000000000000000000");
    assert_int_equal(number_at(json, "cluster", "total_instances"), 2);
    assert_int_equal(number_at(json, "data_store", "namespaces"), 1);
    assert_int_equal(number_at(json, "data_store", "total_keys"), 1);
    assert_true(number_at(json, "data_store", "total_bytes") > 0);
    assert_string_equal(json_string_value(json_object_get(json, "version")), "1.2.3");
    assert_int_equal(json_integer_value(json_object_get(json, "uptime_seconds")), 60);
    assert_string_equal(json_string_value(json_object_get(json, "reason")), "the node is starting");
    const json_t *cluster = json_object_get(json, "cluster");
    assert_true(json_is_false(json_object_get(cluster, "in_service")));
    assert_int_equal(number_at(json, "cluster", "durability_resets"), 0);
    const json_t *member = json_array_get(json_object_get(cluster, "members"), 0);
    assert_int_equal(json_array_size(json_object_get(cluster, "members")), 1);
    assert_string_equal(json_string_value(json_object_get(member, "url")), "https://other:443");
    assert_string_equal(json_string_value(json_object_get(member, "wallet")),
                        "0x2200000000000000000000000000000000000000");
    assert_true(json_is_false(json_object_get(member, "reachable")));
    assert_true(json_is_null(json_object_get(member, "heard_ms_ago")));
    assert_string_equal(json_string_value(json_object_get(member, "error")), "");
    json_decref(json);
    service_status_set_wallet(site.status, &(struct wallet){ { 0x22 } });
    service_status_set_master_hash(site.status, (const uint8_t[SERVICE_HASH_BYTES]){ 0xcd });
    assert_int_equal(fetch(&site, HTTP_PAGE_STATUS), 200);
    const char *text = (const char *)site.body.ptr;
    assert_non_null(strstr(text, "\"tee_wallet\":\"0x2200"));
    assert_non_null(strstr(text, "\"master_secret_hash\":\"0xcd00"));
    assert_non_null(strstr(text, "\"is_operator\":false"));
    close_site(&site);
}

/* Each family has its help and type before its samples, once; each line is well formed. */
static void check_families(const char *text) {
    const char *family = "";
    size_t family_len = 0;
    while (*text != '\0') {
        size_t line_len = strcspn(text, "\n");
        if (strncmp(text, "# HELP ", 7) == 0) {
            family = text + 7;
            family_len = strcspn(family, " ");
        } else if (strncmp(text, "# TYPE ", 7) == 0) {
            assert_int_equal(strncmp(text + 7, family, family_len), 0);
        } else {
            assert_int_equal(strncmp(text, family, family_len), 0);
            size_t number_len = 0;
            while (strchr("0123456789.", text[line_len - number_len - 1]) != NULL) {
                number_len++;
            }
            assert_true(number_len > 0);
            assert_int_equal(text[line_len - number_len - 1], ' ');
        }
        text += line_len + 1;
    }
}

static void test_metrics(void **state) {
    (void)state;
    struct site site;
    open_site(&site);
    service_status_set_tls(site.status, 1700);
    assert_int_equal(fetch(&site, HTTP_PAGE_METRICS), 200);
    assert_int_equal(strncmp(site.content_type, "text/plain", 10), 0);
    const char *text = (const char *)site.body.ptr;
    static const char *const wanted[] = {
        "\nnova_kms_serving 0\n",
        "\nnova_kms_uptime_seconds 60\n",
        "\nnova_kms_operator 1\n",
        "\nnova_kms_cluster_instances 2\n",
        "\nnova_kms_store_keys 1\n",
        "\nnova_kms_store_app_bytes_peak ",
        "\nnova_kms_tls_not_after_seconds 1700\n",
        "\nnova_kms_tls_lifetime_seconds 600\n",
        "\nnova_kms_unix_time_seconds 1001.500\n",
        "\nnova_kms_gate_closed{gate=\"starting\"} 1\n",
        "\nnova_kms_gate_closed{gate=\"clock\"} 0\n",
        "\nnova_kms_cpu_seconds_total ",
        "\nnova_kms_memory_resident_bytes ",
        "\nnova_kms_memory_total_bytes ",
        "\nnova_kms_memory_available_bytes ",
        "\nnova_kms_connections 3\n",
        "\nnova_kms_registry_lookups_total 11\n",
        "\nnova_kms_auth_pinned_entries 1\n",
        "\nnova_kms_revocation_seconds_bucket{le=\"180\"} 0\n",
        "\nnova_kms_revocation_seconds_count 0\n",
        "\nnova_kms_calls_total{method=\"novakms.v1.KmsService/Derive\",code=\"OK\"} 5\n",
        "\nnova_kms_calls_total{method=\"novakms.v1.KmsService/Derive\",code=\"UNAVAILABLE\"} 2\n",
        "\nnova_kms_calls_total{method=\"novakms.v1.KmsService/Put\",code=\"OK\"} 0\n",
        "_bucket{method=\"novakms.v1.KmsService/Derive\",le=\"0.000010\"} 4\n",
        "_bucket{method=\"novakms.v1.KmsService/Derive\",le=\"1.000000\"} 4\n",
        "_bucket{method=\"novakms.v1.KmsService/Derive\",le=\"+Inf\"} 7\n",
        "_sum{method=\"novakms.v1.KmsService/Derive\"} 3.000007\n",
        "_count{method=\"novakms.v1.KmsService/Derive\"} 7\n",
        "\nnova_kms_handshakes_total{result=\"identity\"} 0\n",
        "\nnova_kms_replication_members 1\n",
        "\nnova_kms_replication_in_service 0\n",
        "\nnova_kms_replication_pulls_total{result=\"failed\"} 0\n",
        "\nnova_kms_replication_lag_seconds 0.000\n",
        "\nnova_kms_durability_wait_seconds_bucket{le=\"0.001\"} 0\n",
        "\nnova_kms_durability_wait_seconds_bucket{le=\"0.003\"} 1\n",
        "\nnova_kms_durability_wait_seconds_bucket{le=\"+Inf\"} 2\n",
        "\nnova_kms_durability_wait_seconds_sum 20.002\n",
        "\nnova_kms_durability_timeouts_total 1\n",
        "\nnova_kms_secret_requests_total{result=\"given\"} 4\n",
        "\nnova_kms_secret_fetches_total{result=\"failed\"} 5\n",
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (strstr(text, wanted[i]) == NULL) {
            fail_msg("no %s", wanted[i]);
        }
    }
    assert_null(strstr(text, "KmsService/Put\",code=\"UNAVAILABLE"));
    check_families(text);
    close_site(&site);
}

/* A page that does not fit into memory fails as a whole. */
static void test_bounded(void **state) {
    (void)state;
    struct site site;
    open_site(&site);
    site.body.bytes_max = 100;
    (void)site.pages.write(site.pages.ctx, HTTP_PAGE_METRICS, &site.body, &site.content_type);
    assert_true(site.body.failed);
    assert_true(site.body.len <= 100);
    close_site(&site);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_status_has_the_guides_fields),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
