/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "registry/file_parse.h"

/* What is accepted holds together: each instance is found by its wallet, with its app and version,
 * and ids grow. What is refused has a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct registry_file_data parsed;
    char reason[REGISTRY_REASON_BYTES];
    struct rc rc = registry_file_parse((struct span){ data, size }, &parsed, reason);
    ASSERT((rc.err == E_OK) == (reason[0] == '\0'));
    uint64_t last_id = 0;
    for (size_t i = 0; i < parsed.instance_by_id.count; i++) {
        struct auth_facts by_id = { 0 };
        struct auth_facts by_wallet = { 0 };
        registry_file_instance_at(&parsed, i, &by_id);
        registry_file_find(&parsed, &by_id.instance.wallet, &by_wallet);
        ASSERT(by_wallet.found);
        ASSERT(by_wallet.instance.id == by_id.instance.id);
        ASSERT(by_id.instance.id > last_id);
        ASSERT(by_id.instance.status < AUTH_INSTANCE_STATUS_COUNT);
        ASSERT(by_id.app_status < AUTH_APP_STATUS_COUNT);
        ASSERT(by_id.version_status < AUTH_VERSION_STATUS_COUNT);
        last_id = by_id.instance.id;
    }
    registry_file_data_close(&parsed);
    return 0;
}
