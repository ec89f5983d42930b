/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials for tests of TLS: wallets made from one repeated byte, on chain 84532. */
#pragma once

#include "base/clock.h"
#include "identity/credential.h"
#include "identity/keyfile.h"
#include "net/tls.h"
#include "test.h"

#define TEST_CHAIN_ID 84532u
#define TEST_LIFETIME_S 3600u

static const char *const test_alpn[] = { TLS_ALPN_NOVAKMS, TLS_ALPN_HTTP, NULL };

/* Whose key is 32 times `seed`. chain_id, and when it begins against now, may be wrong on
 * purpose. */
static inline struct identity_credential *test_credential(uint8_t seed, uint64_t chain_id,
                                                          int64_t begins_in_s) {
    uint8_t key[ETH_KEY_BYTES];
    memset(key, seed, sizeof(key));
    struct identity_keyfile keyfile = { 0 };
    assert_ok(identity_keyfile_from_key(&keyfile, key));
    struct identity_signer signer = identity_keyfile_signer(&keyfile);
    struct identity_credential_cfg cfg = {
        .signer = &signer,
        .chain_id = chain_id,
        .host = "localhost",
        .not_before_unix_s = (uint64_t)((int64_t)(clock_unix_ms() / 1000) + begins_in_s),
        .lifetime_s = TEST_LIFETIME_S,
    };
    struct identity_credential *credential = NULL;
    struct status why;
    assert_ok(identity_credential_make(&credential, &cfg, &why));
    identity_keyfile_close(&keyfile);
    return credential;
}

static inline struct tls_config *test_server_config(struct identity_credential *credential) {
    struct tls_server_cfg cfg = { .credential = credential,
                                  .verify = { .chain_id = TEST_CHAIN_ID, .skew_s = 5 },
                                  .alpn = test_alpn };
    struct tls_config *config = NULL;
    assert_ok(tls_config_server(&config, &cfg));
    return config;
}

static inline struct tls_config *test_client_config(struct identity_credential *credential,
                                                    const char *alpn) {
    struct tls_client_cfg cfg = { .credential = credential,
                                  .verify = { .chain_id = TEST_CHAIN_ID, .skew_s = 5 },
                                  .alpn = alpn };
    struct tls_config *config = NULL;
    assert_ok(tls_config_client(&config, &cfg));
    return config;
}

/* A tls_check_cb that takes any wallet with a good binding. */
static inline struct rc test_accept_any(void *ctx, const struct identity_peer *peer,
                                        struct status *why) {
    (void)ctx;
    (void)peer;
    (void)why;
    return OK;
}
