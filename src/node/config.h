/* SPDX-License-Identifier: Apache-2.0 */
/* A node's configuration: one table of environment variables that feeds parsing, --help and the
 * check of the man page. Every wrong value is reported, all of them at once. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/wallet.h"
#include "net/proxy.h"
#include "registry/chain.h"

#define CONFIG_URL_BYTES 256
#define CONFIG_HOST_BYTES 46
#define CONFIG_SECRET_BYTES 32
#define CONFIG_ERRORS_BYTES 8192

/* Where to listen. */
struct config_address {
    char host[CONFIG_HOST_BYTES]; /* A numeric address, IPv4 or IPv6 without brackets. */
    uint16_t port;                /* 0 takes a free one. */
};

/* Numbers are uint64_t, so that one row of the table describes any of them. */
struct node_config {
    struct config_address rpc_listen;
    struct config_address http_listen;
    uint64_t workers;
    uint64_t connections_max;
    char node_url[CONFIG_URL_BYTES]; /* Empty when not set. */
    char helios_rpc_url[CONFIG_URL_BYTES];
    char odyn_url[CONFIG_URL_BYTES];
    uint64_t log_level; /* An enum log_level. */
    bool in_enclave;
    struct net_proxy proxy; /* For peers. Its credentials are wiped by config_close. */

    uint64_t rate_limit_per_minute; /* 0: off. */
    uint64_t value_bytes_max;
    uint64_t app_bytes_max;
    uint64_t store_bytes_max;
    uint64_t tombstones_per_app_max;
    uint64_t tombstone_retention_ms;
    uint64_t clock_skew_max_ms;
    uint64_t tls_lifetime_s;
    uint64_t read_wait_ms;
    uint64_t drain_timeout_s;

    uint64_t registry_refresh_s;
    uint64_t registry_cache_ttl_s;
    uint64_t head_stall_s;
    uint64_t hash_confirmations;
    uint64_t tick_s;
    uint64_t data_sync_interval_s;
    uint64_t peer_cache_ttl_s;
    uint64_t sync_payload_bytes_max;
    uint64_t start_wait_s;

    uint64_t chain_id;
    uint64_t kms_app_id;
    struct wallet nova_app_registry;
    struct wallet kms_registry;

    bool has_master_secret;
    uint8_t master_secret[CONFIG_SECRET_BYTES]; /* Wiped by config_close. */
};

enum config_type {
    CONFIG_NUMBER,
    CONFIG_FLAG, /* true, false, 1 or 0 */
    CONFIG_LISTEN,
    CONFIG_URL,
    CONFIG_LEVEL,
    CONFIG_WALLET,
    CONFIG_SECRET,
    CONFIG_PROXY,    /* A proxy's URL; the name counts in capitals too, if the other is not set. */
    CONFIG_NO_PROXY, /* The exceptions, and the name, likewise. */
};

/* One variable. */
struct config_row {
    const char *name;
    enum config_type type;
    size_t offset;            /* Of its field in struct node_config. */
    const char *default_text; /* As it would stand in the environment; "" for not set. */
    uint64_t min;             /* Of a number. */
    uint64_t max;             /* Of a number. */
    const char *help;
};

struct config_rows {
    const struct config_row *at;
    size_t count;
};

/* Lends the tables: what every build has, and what only development builds read (empty in a
 * production build, whose trust roots are fixed when it is built). */
struct config_rows config_rows(void);
struct config_rows config_build_rows(void);
/* "development" or "production". */
const char *config_build_name(void);
/* Lends what this build fixes, as the rows' defaults; the environment may not even set it. Empty in
 * a development build. */
struct config_rows config_build_fixed(void);
/* Whether members must speak TLS 1.3 with each other, as far as the TLS library can. */
bool config_build_needs_tls13(void);
/* Whether the chain may be read from this URL, which is allowed otherwise. */
bool config_build_allows_rpc(const char *url);

/* Gives the value of a variable, or NULL. */
typedef const char *(*config_get_fn)(void *ctx, const char *name);

/* Fills *out from the variables, over the defaults. BAD_CONFIG when any value is wrong; errors then
 * holds one line for each, "NAME=value: what is allowed". Secrets are not repeated. */
RC config_load(struct node_config *out, config_get_fn get, void *ctx,
               char errors[static CONFIG_ERRORS_BYTES]);
/* Sets what a flag gives. BAD_CONFIG when text is not HOST:PORT with a numeric host or
 * "localhost". */
RC config_parse_address(const char *text, struct config_address *out);
#define CONFIG_ADDRESS_TEXT_BYTES (CONFIG_HOST_BYTES + 9)
/* Writes "127.0.0.1:8443" or "[::1]:8443". Gives text. */
const char *config_address_text(const struct config_address *address,
                                char text[static CONFIG_ADDRESS_TEXT_BYTES]);
/* The host of an allowed URL, without port and brackets; "" for an empty one. */
void config_url_host(const char *url, char host[static CONFIG_URL_BYTES]);
/* How the chain is read: each reader has a client of its own. config and stop are lent for that
 * client's life. */
struct registry_chain_cfg config_chain(const struct node_config *config, const atomic_bool *stop);
/* Wipes the secrets. Accepts a closed config. */
void config_close(struct node_config *config);

/* Prints the variables, a paragraph each. */
void config_print_help(FILE *out);
/* Prints NAME=value for each, what the build fixes included, as --check-config shows them; never a
 * secret. */
void config_print(const struct node_config *config, FILE *out);
