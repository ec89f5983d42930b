/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "client/client.h"

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

RC client_trust_init(struct client_trust *trust, const struct novakms_cfg *cfg,
                     struct client_members *members, struct status *why) {
    if (!client_members_are_given(cfg) && cfg->server_wallets == NULL) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "a registry or server wallets must be given, to check servers by");
        return ERR(INVALID);
    }
    trust->members = client_members_are_given(cfg) ? members : NULL;
    return read_wallets(trust, cfg->server_wallets, why);
}

RC client_trust_check(void *ctx, const struct identity_peer *peer, struct status *why) {
    struct client_trust *trust = ctx;
    for (size_t i = 0; i < trust->wallet_count; i++) {
        if (wallet_equal(&trust->wallets[i], &peer->wallet)) {
            return OK;
        }
    }
    if (trust->members != NULL) {
        return client_members_check(trust->members, &peer->wallet, why);
    }
    char wallet[WALLET_TEXT_BYTES];
    status_set(why, STATUS_UNAUTHENTICATED, "its wallet %s is not the one expected",
               wallet_format(&peer->wallet, wallet));
    return ERR(DENIED);
}
