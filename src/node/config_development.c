/* SPDX-License-Identifier: Apache-2.0 */
/* What only a development build reads from the environment. A production build has
 * config_production.c in its place. */
#include <stddef.h>

#include "node/config.h"

#define FIELD(name) offsetof(struct node_config, name)

static const struct config_row rows[] = {
    { "CHAIN_ID", CONFIG_NUMBER, FIELD(chain_id), "84532", 1, INT64_MAX,
      "The chain whose registries count; wallet bindings name it." },
    { "KMS_APP_ID", CONFIG_NUMBER, FIELD(kms_app_id), "49", 1, INT64_MAX,
      "The app whose instances are KMS nodes." },
    { "NOVA_APP_REGISTRY_ADDRESS", CONFIG_WALLET, FIELD(nova_app_registry),
      "0x0f68E6e699f2E972998a1EcC000c7ce103E64cc8", 0, 0, "The contract that lists apps." },
    { "KMS_REGISTRY_ADDRESS", CONFIG_WALLET, FIELD(kms_registry),
      "0x6a28D24c9AEcdceC9B021ee6960FdDE592796af7", 0, 0,
      "The contract that holds the master secret's hash." },
    { "ODYN_URL", CONFIG_URL, FIELD(odyn_url), "http://127.0.0.1:18000", 0, 0,
      "The enclave's Odyn; plain http on a loopback host." },
    { "MASTER_SECRET_HEX", CONFIG_SECRET, FIELD(master_secret), "", 0, 0,
      "The master secret of nova-kms --dev. Not set: random at each start." },
};

struct config_rows config_build_rows(void) {
    return (struct config_rows){ rows, sizeof(rows) / sizeof(rows[0]) };
}

const char *config_build_name(void) {
    return "development";
}

bool config_build_needs_tls13(void) {
    return false;
}

struct config_rows config_build_fixed(void) {
    return (struct config_rows){ NULL, 0 };
}

bool config_build_allows_rpc(const char *url) {
    (void)url;
    return true;
}
