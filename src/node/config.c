/* SPDX-License-Identifier: Apache-2.0 */
#include "node/config.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/secret.h"

#define WORKERS_MAX 8
#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define TIB (UINT64_C(1) << 40)
#define DAY_MS UINT64_C(86400000)
/* A value travels in one frame of 4 MiB with its key and field headers. */
#define VALUE_BYTES_MAX (4 * MIB - 64 * KIB)

#define FIELD(name) offsetof(struct node_config, name)
#define NUMBER(name, field, text, min, max, help) \
    { name, CONFIG_NUMBER, FIELD(field), text, min, max, help }

static const struct config_row common_rows[] = {
    { "NODE_RPC_LISTEN", CONFIG_LISTEN, FIELD(rpc_listen), "0.0.0.0:8443", 0, 0,
      "Where the TLS port listens (frames, and the HTTP shim). --rpc has precedence." },
    { "NODE_HTTP_LISTEN", CONFIG_LISTEN, FIELD(http_listen), "0.0.0.0:8000", 0, 0,
      "Where the plain port of the HTTP shim listens. --http has precedence." },
    { "NODE_URL", CONFIG_URL, FIELD(node_url), "", 0, 0,
      "This node's public URL; its host is written into the TLS certificate." },
    NUMBER("NODE_WORKERS", workers, "", 1, WORKERS_MAX,
           "Request threads. Not set: one for each CPU, at most 8."),
    NUMBER("NODE_CONNECTIONS_MAX", connections_max, "4096", 1, 65536,
           "Connections on the TLS port, over all workers."),
    { "LOG_LEVEL", CONFIG_LEVEL, FIELD(log_level), "INFO", 0, 0,
      "Lines below this level are not logged." },
    { "IN_ENCLAVE", CONFIG_FLAG, FIELD(in_enclave), "true", 0, 0,
      "Whether the node runs beside Odyn in an enclave." },
    { "HELIOS_RPC_URL", CONFIG_URL, FIELD(helios_rpc_url), "http://127.0.0.1:18545", 0, 0,
      "JSON-RPC of the light client." },
    { "https_proxy", CONFIG_PROXY, FIELD(proxy), "", 0, 0,
      "The proxy through which peers are reached, with CONNECT. HTTPS_PROXY counts when it is not "
      "set. Not used with --dev." },
    { "no_proxy", CONFIG_NO_PROXY, FIELD(proxy), "", 0, 0,
      "What is reached without it: names (with all below them), addresses, ranges (10.0.0.0/8) or "
      "*, with :PORT if only that one. NO_PROXY counts when it is not set. Not used with --dev." },
    NUMBER("RATE_LIMIT_PER_MINUTE", rate_limit_per_minute, "60000", 0, 100000000,
           "Calls a wallet may make in a minute. 0: no limit."),
    NUMBER("MAX_VALUE_SIZE", value_bytes_max, "1048576", 1, VALUE_BYTES_MAX, "Bytes of one value."),
    NUMBER("MAX_APP_STORAGE", app_bytes_max, "10485760", 64 * KIB, TIB,
           "Bytes one app may occupy: keys, values and bookkeeping."),
    NUMBER("MAX_STORE_BYTES", store_bytes_max, "1073741824", MIB, TIB,
           "Bytes all apps together may occupy."),
    NUMBER("MAX_TOMBSTONES_PER_APP", tombstones_per_app_max, "10000", 1, 100000000,
           "Deletes of one app that are remembered at once; further ones are refused."),
    NUMBER("TOMBSTONE_RETENTION_MS", tombstone_retention_ms, "86400000", 1000, 3650 * DAY_MS,
           "How long a delete is remembered at least."),
    NUMBER("MAX_CLOCK_SKEW_MS", clock_skew_max_ms, "5000", 100, 600000,
           "How far clocks may differ, and this node's may step, before trust ends."),
    NUMBER("TLS_LIFETIME_SECONDS", tls_lifetime_s, "86400", 70, 86400,
           "How long a TLS credential is valid; another one is made at half of that."),
    NUMBER("READ_WAIT_MS", read_wait_ms, "1000", 0, 60000,
           "How long a call waits for the writes its caller has made or seen."),
    NUMBER("DRAIN_TIMEOUT_SECONDS", drain_timeout_s, "30", 0, 3600,
           "How long calls in flight may take after SIGTERM."),
    NUMBER("REGISTRY_REFRESH_SECONDS", registry_refresh_s, "10", 1, 3600,
           "How often what is known of a wallet in use is read again."),
    NUMBER("REGISTRY_CACHE_TTL_SECONDS", registry_cache_ttl_s, "180", 2, 86400,
           "How long an answer of the registry counts while the registry cannot be read."),
    NUMBER("HEAD_STALL_SECONDS", head_stall_s, "30", 1, 3600,
           "A chain head that has not moved for so long counts as unreadable."),
    NUMBER("HASH_CONFIRMATIONS", hash_confirmations, "3", 1, 1000,
           "Blocks above the one the master secret's hash is read at."),
    NUMBER("KMS_NODE_TICK_SECONDS", tick_s, "60", 1, 3600,
           "How often membership and the master secret's hash are checked."),
    NUMBER("DATA_SYNC_INTERVAL_SECONDS", data_sync_interval_s, "10", 1, 3600,
           "How often every peer is asked for changes at the latest."),
    NUMBER("PEER_CACHE_TTL_SECONDS", peer_cache_ttl_s, "180", 1, 86400,
           "How long the list of peers counts."),
    NUMBER("MAX_SYNC_PAYLOAD_BYTES", sync_payload_bytes_max, "52428800", MIB, 1024 * MIB,
           "Bytes of one answer between peers; over 1 MiB only for one large record."),
    NUMBER("START_WAIT_SECONDS", start_wait_s, "30", 1, 3600,
           "How long a starting node insists on the data of enough members before it serves with "
           "what those have that can be reached."),
};

struct config_rows config_rows(void) {
    return (struct config_rows){ common_rows, sizeof(common_rows) / sizeof(common_rows[0]) };
}

/* Appends a line to errors; what does not fit is cut, after the first dozens of mistakes. */
static void add_error(char errors[static CONFIG_ERRORS_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_error(char errors[static CONFIG_ERRORS_BYTES], const char *format, ...) {
    size_t len = strlen(errors);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(errors + len, CONFIG_ERRORS_BYTES - len, format, args);
    va_end(args);
    ASSERT(n >= 0);
}

static RC split_address(const char *text, char *host, const char **port) {
    const char *colon = strrchr(text, ':');
    ENSURE(colon != NULL, BAD_CONFIG);
    size_t host_len = (size_t)(colon - text);
    const char *from = text;
    if (host_len >= 2 && text[0] == '[' && colon[-1] == ']') {
        from = text + 1;
        host_len -= 2;
    } else {
        ENSURE(memchr(text, ':', host_len) == NULL, BAD_CONFIG); /* IPv6 needs its brackets. */
    }
    ENSURE(host_len > 0, BAD_CONFIG);
    ENSURE(host_len < CONFIG_HOST_BYTES, BAD_CONFIG);
    memcpy(host, from, host_len);
    host[host_len] = '\0';
    *port = colon + 1;
    return OK;
}

RC config_parse_address(const char *text, struct config_address *out) {
    struct config_address address = { 0 };
    const char *port_text = NULL;
    TRY(split_address(text, address.host, &port_text));
    uint64_t port = 0;
    ENSURE(bytes_parse_decimal(span_str(port_text), UINT16_MAX, &port).err == E_OK, BAD_CONFIG);
    address.port = (uint16_t)port;
    if (strcmp(address.host, "localhost") == 0) {
        (void)snprintf(address.host, sizeof(address.host), "127.0.0.1");
    }
    struct in6_addr v6;
    struct in_addr v4;
    bool numeric =
        inet_pton(AF_INET, address.host, &v4) == 1 || inet_pton(AF_INET6, address.host, &v6) == 1;
    ENSURE(numeric, BAD_CONFIG);
    *out = address;
    return OK;
}

const char *config_address_text(const struct config_address *address,
                                char text[static CONFIG_ADDRESS_TEXT_BYTES]) {
    bool v6 = strchr(address->host, ':') != NULL;
    (void)snprintf(text, CONFIG_ADDRESS_TEXT_BYTES, v6 ? "[%s]:%u" : "%s:%u", address->host,
                   (unsigned)address->port);
    return text;
}

static RC parse_flag(const char *text, bool *out) {
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    bool no = strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
    ENSURE(yes || no, BAD_CONFIG);
    *out = yes;
    return OK;
}

static RC parse_url(const char *text, char *out) {
    size_t len = strlen(text);
    ENSURE(len < CONFIG_URL_BYTES, BAD_CONFIG);
    size_t scheme = strncmp(text, "https://", 8) == 0 ? 8 : 7;
    ENSURE(scheme == 8 || strncmp(text, "http://", 7) == 0, BAD_CONFIG);
    ENSURE(len > scheme, BAD_CONFIG);
    ENSURE(text[scheme] != '/', BAD_CONFIG);
    for (const char *c = text; *c != '\0'; c++) {
        ENSURE(*c > ' ' && *c < 0x7f && *c != '"' && *c != '\\', BAD_CONFIG);
    }
    memcpy(out, text, len + 1);
    return OK;
}

void config_url_host(const char *url, char host[static CONFIG_URL_BYTES]) {
    const char *scheme = strstr(url, "://");
    const char *from = scheme == NULL ? url : scheme + 3;
    size_t len = strcspn(from, ":/?#");
    if (from[0] == '[') {
        from++;
        len = strcspn(from, "]");
    }
    ASSERT(len < CONFIG_URL_BYTES);
    memcpy(host, from, len);
    host[len] = '\0';
}

static RC parse_number(const struct config_row *row, const char *text, uint64_t *out) {
    uint64_t value = 0;
    ENSURE(bytes_parse_decimal(span_str(text), row->max, &value).err == E_OK, BAD_CONFIG);
    ENSURE(value >= row->min, BAD_CONFIG);
    *out = value;
    return OK;
}

static RC parse_level(const char *text, uint64_t *out) {
    enum log_level level = LOG_INFO;
    TRY(log_parse_level(text, &level));
    *out = level;
    return OK;
}

static RC parse_secret(struct node_config *config, const char *text) {
    ENSURE(hex_decode(span_str(text), config->master_secret, CONFIG_SECRET_BYTES).err == E_OK,
           BAD_CONFIG);
    config->has_master_secret = true;
    return OK;
}

static RC parse_row(struct node_config *config, const struct config_row *row, const char *text) {
    void *field = (uint8_t *)config + row->offset;
    switch (row->type) {
    case CONFIG_NUMBER:
        return parse_number(row, text, field);
    case CONFIG_FLAG:
        return parse_flag(text, field);
    case CONFIG_LISTEN:
        return config_parse_address(text, field);
    case CONFIG_URL:
        return parse_url(text, field);
    case CONFIG_LEVEL:
        return parse_level(text, field);
    case CONFIG_WALLET:
        return wallet_parse(span_str(text), field);
    case CONFIG_SECRET:
        return parse_secret(config, text);
    case CONFIG_PROXY:
        return net_proxy_set_url(field, text);
    case CONFIG_NO_PROXY:
        return net_proxy_set_exceptions(field, text);
    }
    return ERR(BAD_CONFIG);
}

#define ALLOWED_BYTES 128

static const char *allowed_text(const struct config_row *row, char text[static ALLOWED_BYTES]) {
    const char *fixed = "";
    switch (row->type) {
    case CONFIG_NUMBER:
        (void)snprintf(text, ALLOWED_BYTES, "a whole number from %" PRIu64 " to %" PRIu64, row->min,
                       row->max);
        return text;
    case CONFIG_FLAG:
        fixed = "true or false";
        break;
    case CONFIG_LISTEN:
        fixed = "ADDRESS:PORT with a numeric address (or localhost) and a port from 0 to 65535";
        break;
    case CONFIG_URL:
        fixed = "a URL that starts with http:// or https://, at most 255 characters";
        break;
    case CONFIG_LEVEL:
        fixed = "DEBUG, INFO, WARNING or ERROR";
        break;
    case CONFIG_WALLET:
        fixed = "0x and 40 hex digits";
        break;
    case CONFIG_SECRET:
        fixed = "64 hex digits";
        break;
    case CONFIG_PROXY:
        fixed = NET_PROXY_URL_ALLOWED;
        break;
    case CONFIG_NO_PROXY:
        fixed = "a list between commas or blanks, at most 2047 ASCII characters";
        break;
    }
    (void)snprintf(text, ALLOWED_BYTES, "%s", fixed);
    return text;
}

static void row_error(const struct config_row *row, const char *name, const char *text,
                      char errors[static CONFIG_ERRORS_BYTES]) {
    char allowed[ALLOWED_BYTES];
    char value[LOG_PEER_TEXT_BYTES];
    bool is_secret = row->type == CONFIG_SECRET || row->type == CONFIG_PROXY;
    const char *shown = is_secret ? "(hidden)" : log_peer_text(span_str(text), value);
    add_error(errors, "%s=%s: not allowed; it must be %s\n", name, shown,
              allowed_text(row, allowed));
}

/* The other name a variable goes by, NULL when it has none. */
static const char *other_name(const struct config_row *row) {
    if (row->type == CONFIG_PROXY) {
        return "HTTPS_PROXY";
    }
    return row->type == CONFIG_NO_PROXY ? "NO_PROXY" : NULL;
}

static void load_rows(struct node_config *out, struct config_rows rows, config_get_fn get,
                      void *ctx, char errors[static CONFIG_ERRORS_BYTES]) {
    for (size_t i = 0; i < rows.count; i++) {
        const char *name = rows.at[i].name;
        const char *text = get(ctx, name);
        if ((text == NULL || text[0] == '\0') && other_name(&rows.at[i]) != NULL) {
            name = other_name(&rows.at[i]);
            text = get(ctx, name);
        }
        if (text != NULL && text[0] != '\0' && parse_row(out, &rows.at[i], text).err != E_OK) {
            row_error(&rows.at[i], name, text, errors);
        }
    }
}

/* A value that is ignored would look as if it counted. */
static void refuse_rows(config_get_fn get, void *ctx, char errors[static CONFIG_ERRORS_BYTES]) {
    const struct config_rows fixed = config_build_fixed();
    for (size_t i = 0; i < fixed.count; i++) {
        const char *text = get(ctx, fixed.at[i].name);
        if (text != NULL && text[0] != '\0') {
            add_error(errors,
                      "%s: not allowed; what a %s build trusts is fixed when it is built, and the "
                      "environment may not change it: unset it\n",
                      fixed.at[i].name, config_build_name());
        }
    }
}

static void check_chain(const struct node_config *c, char errors[static CONFIG_ERRORS_BYTES]) {
    if (!config_build_allows_rpc(c->helios_rpc_url)) {
        add_error(
            errors,
            "HELIOS_RPC_URL=%s: not allowed; a %s build believes only the light client beside "
            "it, on 127.0.0.1, ::1 or localhost\n",
            c->helios_rpc_url, config_build_name());
    }
}

static void default_rows(struct node_config *out, struct config_rows rows) {
    for (size_t i = 0; i < rows.count; i++) {
        if (rows.at[i].default_text[0] != '\0') {
            ASSERT(parse_row(out, &rows.at[i], rows.at[i].default_text).err == E_OK);
        }
    }
}

static uint64_t cpu_count(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 1) {
        return 1;
    }
    return count > WORKERS_MAX ? WORKERS_MAX : (uint64_t)count;
}

/* What one value says about another. */
static void check_together(const struct node_config *c, char errors[static CONFIG_ERRORS_BYTES]) {
    if (c->app_bytes_max > c->store_bytes_max) {
        add_error(errors,
                  "MAX_APP_STORAGE=%" PRIu64
                  ": not allowed; it must be at most MAX_STORE_BYTES (%" PRIu64 ")\n",
                  c->app_bytes_max, c->store_bytes_max);
    }
    if (c->value_bytes_max > c->app_bytes_max) {
        add_error(errors,
                  "MAX_VALUE_SIZE=%" PRIu64
                  ": not allowed; it must be at most MAX_APP_STORAGE (%" PRIu64 ")\n",
                  c->value_bytes_max, c->app_bytes_max);
    }
    if (c->tombstone_retention_ms <= c->registry_cache_ttl_s * 1000) {
        add_error(errors,
                  "TOMBSTONE_RETENTION_MS=%" PRIu64
                  ": not allowed; it must exceed REGISTRY_CACHE_TTL_SECONDS (%" PRIu64 " ms)\n",
                  c->tombstone_retention_ms, c->registry_cache_ttl_s * 1000);
    }
    if (c->registry_refresh_s >= c->registry_cache_ttl_s) {
        add_error(errors,
                  "REGISTRY_REFRESH_SECONDS=%" PRIu64
                  ": not allowed; it must be less than REGISTRY_CACHE_TTL_SECONDS (%" PRIu64 ")\n",
                  c->registry_refresh_s, c->registry_cache_ttl_s);
    }
    if (strcmp(c->rpc_listen.host, c->http_listen.host) == 0 && c->rpc_listen.port != 0 &&
        c->rpc_listen.port == c->http_listen.port) {
        add_error(errors, "NODE_HTTP_LISTEN: not allowed; port %u is NODE_RPC_LISTEN's already\n",
                  (unsigned)c->http_listen.port);
    }
}

RC config_load(struct node_config *out, config_get_fn get, void *ctx,
               char errors[static CONFIG_ERRORS_BYTES]) {
    *out = (struct node_config){ .workers = cpu_count() };
    errors[0] = '\0';
    default_rows(out, config_rows());
    default_rows(out, config_build_rows());
    default_rows(out, config_build_fixed());
    load_rows(out, config_rows(), get, ctx, errors);
    load_rows(out, config_build_rows(), get, ctx, errors);
    refuse_rows(get, ctx, errors);
    check_chain(out, errors);
    check_together(out, errors);
    return errors[0] == '\0' ? OK : ERR(BAD_CONFIG);
}

struct registry_chain_cfg config_chain(const struct node_config *config, const atomic_bool *stop) {
    return (struct registry_chain_cfg){
        .rpc_url = config->helios_rpc_url,
        .chain_id = config->chain_id,
        .nova_app_registry = config->nova_app_registry,
        .kms_registry = config->kms_registry,
        .kms_app_id = config->kms_app_id,
        .head_stall_ms = (uint32_t)config->head_stall_s * 1000,
        .head_skew_ms = (uint32_t)config->clock_skew_max_ms,
        .confirmation_count = (uint32_t)config->hash_confirmations,
        .stop = stop,
    };
}

void config_close(struct node_config *config) {
    secret_wipe(config->master_secret, sizeof(config->master_secret));
    config->has_master_secret = false;
    net_proxy_close(&config->proxy);
}

static void print_help_rows(struct config_rows rows, FILE *out) {
    for (size_t i = 0; i < rows.count; i++) {
        const struct config_row *row = &rows.at[i];
        char allowed[ALLOWED_BYTES];
        (void)fprintf(out, "  %s\n      %s\n      Allowed: %s.", row->name, row->help,
                      allowed_text(row, allowed));
        if (row->default_text[0] != '\0') {
            (void)fprintf(out, " Default: %s.", row->default_text);
        }
        (void)fputc('\n', out);
    }
}

void config_print_help(FILE *out) {
    print_help_rows(config_rows(), out);
    print_help_rows(config_build_rows(), out);
    const struct config_rows fixed = config_build_fixed();
    for (size_t i = 0; i < fixed.count; i++) {
        (void)fprintf(out, "  %s\n      %s\n      Refused: this build fixes it, as %s.\n",
                      fixed.at[i].name, fixed.at[i].help, fixed.at[i].default_text);
    }
}

static void print_row(const struct node_config *config, const struct config_row *row, FILE *out) {
    static const char *const levels[] = { "DEBUG", "INFO", "WARNING", "ERROR" };
    const void *field = (const uint8_t *)config + row->offset;
    char text[CONFIG_ADDRESS_TEXT_BYTES];
    char target[NET_TARGET_BYTES];
    (void)fprintf(out, "%s=", row->name);
    switch (row->type) {
    case CONFIG_NUMBER:
        (void)fprintf(out, "%" PRIu64, *(const uint64_t *)field);
        break;
    case CONFIG_FLAG:
        (void)fputs(*(const bool *)field ? "true" : "false", out);
        break;
    case CONFIG_LISTEN:
        (void)fputs(config_address_text(field, text), out);
        break;
    case CONFIG_URL:
        (void)fputs(field, out);
        break;
    case CONFIG_LEVEL:
        (void)fputs(levels[*(const uint64_t *)field], out);
        break;
    case CONFIG_WALLET:
        (void)fputs(wallet_format(field, text), out);
        break;
    case CONFIG_SECRET:
        (void)fputs(config->has_master_secret ? "(set)" : "", out);
        break;
    case CONFIG_PROXY:
        if (config->proxy.target.port != 0) {
            (void)fprintf(out, "http://%s%s",
                          config->proxy.authorization[0] == '\0' ? "" : "(hidden)@",
                          net_target_format(&config->proxy.target, target));
        }
        break;
    case CONFIG_NO_PROXY:
        (void)fputs(config->proxy.except, out);
        break;
    }
    (void)fputc('\n', out);
}

static void print_rows(const struct node_config *config, struct config_rows rows, FILE *out) {
    for (size_t i = 0; i < rows.count; i++) {
        print_row(config, &rows.at[i], out);
    }
}

void config_print(const struct node_config *config, FILE *out) {
    print_rows(config, config_rows(), out);
    print_rows(config, config_build_rows(), out);
    print_rows(config, config_build_fixed(), out);
}
