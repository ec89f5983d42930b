/* SPDX-License-Identifier: Apache-2.0 */
/* A production build takes its trust roots from the build alone: the environment of an enclave is
 * its operator's to set. */
#include <stddef.h>
#include <string.h>

#include <mbedtls/version.h>

#include "node/config.h"

#define FIELD(name) offsetof(struct node_config, name)
#define TEXT_OF(value) #value
#define TEXT(macro) TEXT_OF(macro)

static const struct config_row fixed[] = {
    { "CHAIN_ID", CONFIG_NUMBER, FIELD(chain_id), TEXT(NOVA_KMS_CHAIN_ID), 1, INT64_MAX,
      "The chain whose registries count." },
    { "KMS_APP_ID", CONFIG_NUMBER, FIELD(kms_app_id), TEXT(NOVA_KMS_APP_ID), 1, INT64_MAX,
      "The app whose instances are KMS nodes." },
    { "NOVA_APP_REGISTRY_ADDRESS", CONFIG_WALLET, FIELD(nova_app_registry), NOVA_KMS_APP_REGISTRY,
      0, 0, "The contract that lists apps." },
    { "KMS_REGISTRY_ADDRESS", CONFIG_WALLET, FIELD(kms_registry), NOVA_KMS_REGISTRY, 0, 0,
      "The contract that holds the master secret's hash." },
    { "ODYN_URL", CONFIG_URL, FIELD(odyn_url), NOVA_KMS_ODYN_URL, 0, 0, "The enclave's Odyn." },
};

struct config_rows config_build_rows(void) {
    return (struct config_rows){ NULL, 0 };
}

const char *config_build_name(void) {
    return "production";
}

bool config_build_needs_tls13(void) {
    return MBEDTLS_VERSION_MAJOR >= 3;
}

struct config_rows config_build_fixed(void) {
    return (struct config_rows){ fixed, sizeof(fixed) / sizeof(fixed[0]) };
}

/* Whoever answers there is believed about the chain: it must be inside the enclave. */
bool config_build_allows_rpc(const char *url) {
    char host[CONFIG_URL_BYTES];
    config_url_host(url, host);
    const struct span name = span_str(host);
    bool is_loopback = span_equal(name, SPAN_LIT("127.0.0.1")) ||
                       span_equal(name, SPAN_LIT("::1")) || span_equal(name, SPAN_LIT("localhost"));
    return is_loopback &&
           strchr(url, '@') == NULL; /* "127.0.0.1:80@host" is a user of another host. */
}
