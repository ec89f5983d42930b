/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/registry.h"

#include <stdio.h>

RC registry_lookup(struct registry *registry, const struct wallet *wallet, struct auth_facts *out,
                   char reason[static REGISTRY_REASON_BYTES]) {
    *out = (struct auth_facts){ 0 };
    reason[0] = '\0';
    struct rc rc = registry->ops->lookup(registry, wallet, out, reason);
    if (rc.err != E_OK) {
        *out = (struct auth_facts){ 0 };
    }
    return rc;
}

RC registry_members(struct registry *registry, struct registry_members *out,
                    char reason[static REGISTRY_REASON_BYTES]) {
    out->count = 0;
    out->as_of_mono_ms = 0;
    reason[0] = '\0';
    struct rc rc = registry->ops->members(registry, out, reason);
    if (rc.err != E_OK) {
        out->count = 0;
    }
    return rc;
}

RC registry_check_member(struct registry *registry, const struct wallet *wallet,
                         char reason[static REGISTRY_REASON_BYTES]) {
    struct auth_facts facts = { 0 };
    TRY(registry_lookup(registry, wallet, &facts, reason));
    enum auth_verdict verdict = auth_judge(&facts, AUTH_PEER, registry->kms_app_id);
    if (verdict != AUTH_VERDICT_PERMITTED) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%s", auth_verdict_text(verdict));
        return ERR(DENIED);
    }
    return OK;
}

void registry_close(struct registry **registry) {
    if (*registry != NULL) {
        (*registry)->ops->close(*registry);
        *registry = NULL;
    }
}
