/* SPDX-License-Identifier: Apache-2.0 */
/* A production build takes its trust roots from the build alone: the environment of an enclave is
 * its operator's to set. */
#include <stdio.h>

#include "identity/odyn.h"
#include "node/config.h"

struct config_rows config_build_rows(void) {
    return (struct config_rows){ NULL, 0 };
}

const char *config_build_name(void) {
    return "production";
}

void config_build_apply(struct node_config *config) {
    config->chain_id = NOVA_KMS_CHAIN_ID;
    config->kms_app_id = NOVA_KMS_APP_ID;
    (void)snprintf(config->odyn_url, sizeof(config->odyn_url), "%s", IDENTITY_ODYN_URL);
    struct rc rc = wallet_parse(SPAN_LIT(NOVA_KMS_APP_REGISTRY), &config->nova_app_registry);
    ASSERT(rc.err == E_OK);
    rc = wallet_parse(SPAN_LIT(NOVA_KMS_REGISTRY), &config->kms_registry);
    ASSERT(rc.err == E_OK);
}

const char *const *config_build_refused(void) {
    static const char *const names[] = {
        "CHAIN_ID", "KMS_APP_ID", "NOVA_APP_REGISTRY_ADDRESS", "KMS_REGISTRY_ADDRESS",
        "ODYN_URL", NULL
    };
    return names;
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
