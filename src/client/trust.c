/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "client/client.h"
#include "registry/file.h"

/* Reads "0x..,0x..". */
static RC read_wallets(struct client_trust *trust, const char *text, struct status *why) {
    const char *at = text;
    while (at != NULL) {
        size_t len = strcspn(at, ",");
        if (trust->wallet_count == CLIENT_WALLET_COUNT_MAX) {
            status_set(why, STATUS_INVALID_ARGUMENT, "at most %u server wallets are allowed",
                       CLIENT_WALLET_COUNT_MAX);
            return ERR(INVALID);
        }
        struct span one = { (const uint8_t *)at, len };
        if (wallet_parse(one, &trust->wallets[trust->wallet_count]).err != E_OK) {
            status_set(why, STATUS_INVALID_ARGUMENT,
                       "a server wallet must be 0x and 40 hex digits, several separated by commas");
            return ERR(INVALID);
        }
        trust->wallet_count++;
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    return OK;
}

RC client_trust_init(struct client_trust *trust, const char *registry_path, const char *wallets,
                     struct status *why) {
    if (registry_path == NULL && wallets == NULL) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "a registry file or server wallets must be given, to check servers by");
        return ERR(INVALID);
    }
    TRY(read_wallets(trust, wallets, why));
    if (registry_path == NULL) {
        return OK;
    }
    const struct registry_file_cfg cfg = { .path = registry_path,
                                           .recheck_ms = REGISTRY_FILE_RECHECK_MS_DEFAULT };
    char reason[REGISTRY_REASON_BYTES] = "";
    struct rc rc = registry_file_init(&trust->registry, &cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s",
                   reason[0] == '\0' ? err_text(rc.err) : reason);
    }
    return rc;
}

void client_trust_close(struct client_trust *trust) {
    registry_close(&trust->registry);
    trust->wallet_count = 0;
}

RC client_trust_check(void *ctx, const struct identity_peer *peer, struct status *why) {
    struct client_trust *trust = ctx;
    for (size_t i = 0; i < trust->wallet_count; i++) {
        if (wallet_equal(&trust->wallets[i], &peer->wallet)) {
            return OK;
        }
    }
    char wallet[WALLET_TEXT_BYTES];
    (void)wallet_format(&peer->wallet, wallet);
    if (trust->registry == NULL) {
        status_set(why, STATUS_UNAUTHENTICATED, "its wallet %s is not the one expected", wallet);
        return ERR(DENIED);
    }
    char reason[REGISTRY_REASON_BYTES] = "";
    struct rc rc = registry_check_member(trust->registry, &peer->wallet, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_UNAUTHENTICATED, "its wallet %s is not a KMS member: %s", wallet,
                   reason[0] == '\0' ? err_text(rc.err) : reason);
    }
    return rc;
}
