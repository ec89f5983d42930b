/* SPDX-License-Identifier: Apache-2.0 */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "output.h"

/* More than any node takes in one frame, so that the node's own sentence names its limit. */
#define VALUE_BYTES_MAX (5u * 1024 * 1024)
#define LIST_PAGE_MAX 1000u

static void result_free(struct novakms_result **result) {
    novakms_free(result);
}

static void client_close(struct novakms **client) {
    novakms_close(client);
}

static void span_free(struct novakms_span *span) {
    ctl_free((void *)(uintptr_t)span->ptr);
}

#define RESULT __attribute__((cleanup(result_free))) struct novakms_result *
#define OWNED_SPAN __attribute__((cleanup(span_free))) struct novakms_span

static enum ctl_format format_or(enum ctl_format given, enum ctl_format otherwise) {
    return given == CTL_FORMAT_DEFAULT ? otherwise : given;
}

static const char *format_name(enum ctl_format format) {
    return format == CTL_FORMAT_HEX ? "hex" : "base64";
}

static bool read_key(const struct ctl_options *o, struct novakms_span *out) {
    return ctl_read_text("KEY", o->operands[0], o->key_format, out);
}

static enum ctl_exit run_derive(const struct ctl_options *o, struct novakms *client) {
    struct novakms_derive_args args = {
        .path = novakms_text(o->operands[0]),
        .length = o->length,
        .kdf = o->kdf,
    };
    if (o->context != NULL) {
        args.context = novakms_text(o->context);
    }
    RESULT result = NULL;
    if (novakms_derive(client, &args, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    enum ctl_format format = format_or(o->format, CTL_FORMAT_HEX);
    if (!o->json) {
        return ctl_write_bytes(STDOUT_FILENO, result->bytes, format);
    }
    return ctl_json_print(json_pack("{s:o,s:s}", "key", ctl_json_bytes(result->bytes, format),
                                    "format", format_name(format)));
}

/* Reads fd to its end; false after a complaint. */
static bool read_all(int fd, const char *what, struct novakms_span *out) {
    uint8_t *bytes = malloc(VALUE_BYTES_MAX + 1);
    if (bytes == NULL) {
        ctl_complain("out of memory.");
        return false;
    }
    *out = (struct novakms_span){ bytes, 0 };
    while (out->len <= VALUE_BYTES_MAX) {
        ssize_t n = read(fd, bytes + out->len, VALUE_BYTES_MAX + 1 - out->len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            ctl_complain("%s could not be read: %s.", what, strerror(errno));
            return false;
        }
        if (n == 0) {
            return true;
        }
        out->len += (size_t)n;
    }
    ctl_complain("%s is too large for a value; at most %u bytes.", what, VALUE_BYTES_MAX);
    return false;
}

static bool read_value(const struct ctl_options *o, struct novakms_span *out) {
    if (o->file == NULL && strcmp(o->operands[1], "-") == 0) {
        return read_all(STDIN_FILENO, "standard input", out);
    }
    if (o->file == NULL) {
        return ctl_read_text("VALUE", o->operands[1], o->format, out);
    }
    int fd = open(o->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        ctl_complain("%s could not be opened: %s.", o->file, strerror(errno));
        return false;
    }
    bool ok = read_all(fd, o->file, out);
    (void)close(fd);
    return ok;
}

static enum ctl_exit run_put(const struct ctl_options *o, struct novakms *client) {
    OWNED_SPAN key = { 0 };
    OWNED_SPAN value = { 0 };
    if (!read_key(o, &key)) {
        return CTL_USAGE;
    }
    if (!read_value(o, &value)) {
        return o->file == NULL ? CTL_USAGE : CTL_OTHER;
    }
    const struct novakms_put_args args = {
        .key = key, .value = value, .ttl_ms = o->ttl_ms, .durability = o->durability
    };
    RESULT result = NULL;
    if (novakms_put(client, &args, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    if (!o->json) {
        return CTL_DONE;
    }
    return ctl_json_print(json_pack("{s:o}", "stamp", ctl_json_stamp(&result->stamp)));
}

/* Writes a value to a file: its own bytes, or as text with --format. */
static enum ctl_exit write_file(const char *path, struct novakms_span bytes,
                                enum ctl_format format) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        ctl_complain("%s could not be opened: %s.", path, strerror(errno));
        return CTL_OTHER;
    }
    enum ctl_exit code = ctl_write_bytes(fd, bytes, format);
    if (close(fd) != 0 && code == CTL_DONE) {
        ctl_complain("%s could not be written: %s.", path, strerror(errno));
        code = CTL_OTHER;
    }
    return code;
}

static enum ctl_exit run_get(const struct ctl_options *o, struct novakms *client) {
    OWNED_SPAN key = { 0 };
    if (!read_key(o, &key)) {
        return CTL_USAGE;
    }
    const struct novakms_get_args args = { .key = key };
    RESULT result = NULL;
    if (novakms_get(client, &args, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    enum ctl_format format = format_or(o->format, o->json ? CTL_FORMAT_BASE64 : CTL_FORMAT_RAW);
    if (o->out != NULL) {
        enum ctl_exit code = write_file(o->out, result->bytes, format);
        if (code != CTL_DONE || !o->json) {
            return code;
        }
    }
    if (!o->json) {
        return ctl_write_bytes(STDOUT_FILENO, result->bytes, format);
    }
    return ctl_json_print(
        json_pack("{s:o,s:s,s:o,s:o,s:b}", "value", ctl_json_bytes(result->bytes, format), "format",
                  format_name(format), "stamp", ctl_json_stamp(&result->stamp), "expires_unix_ms",
                  ctl_json_u64(result->expires_unix_ms), "may_miss", (int)result->may_miss));
}

static enum ctl_exit run_delete(const struct ctl_options *o, struct novakms *client) {
    OWNED_SPAN key = { 0 };
    if (!read_key(o, &key)) {
        return CTL_USAGE;
    }
    const struct novakms_delete_args args = { .key = key, .durability = o->durability };
    RESULT result = NULL;
    if (novakms_delete(client, &args, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    if (!o->json) {
        return CTL_DONE;
    }
    return ctl_json_print(json_pack("{s:o,s:b}", "stamp", ctl_json_stamp(&result->stamp), "existed",
                                    (int)result->existed));
}

/* One key of a list as JSON. Keys are any bytes: as text where they are text, else in base64. */
static json_t *entry_json(const struct novakms_item *item, enum ctl_format format) {
    bool raw = format == CTL_FORMAT_DEFAULT || format == CTL_FORMAT_RAW;
    json_t *key = raw ? ctl_json_bytes(item->key, CTL_FORMAT_RAW) : NULL;
    const char *name = "raw";
    if (key == NULL) {
        enum ctl_format text = raw ? CTL_FORMAT_BASE64 : format;
        key = ctl_json_bytes(item->key, text);
        name = format_name(text);
    }
    return json_pack("{s:o,s:s,s:o,s:o,s:o}", "key", key, "format", name, "value_bytes",
                     ctl_json_u64(item->value_bytes), "stamp", ctl_json_stamp(&item->stamp),
                     "expires_unix_ms", ctl_json_u64(item->expires_unix_ms));
}

/* Prints a page, or appends it to entries with --json. */
static enum ctl_exit print_page(const struct ctl_options *o, const struct novakms_result *page,
                                json_t *entries) {
    for (size_t i = 0; i < page->item_count; i++) {
        if (o->json) {
            if (json_array_append_new(entries, entry_json(&page->items[i], o->key_format)) != 0) {
                ctl_complain("out of memory.");
                return CTL_OTHER;
            }
            continue;
        }
        enum ctl_exit code = ctl_write_key(page->items[i].key, o->key_format);
        if (code != CTL_DONE) {
            return code;
        }
    }
    return CTL_DONE;
}

static enum ctl_exit list_pages(const struct ctl_options *o, struct novakms *client,
                                struct novakms_span prefix, json_t *entries) {
    RESULT page = NULL;
    uint64_t left = o->limit == 0 ? UINT64_MAX : o->limit;
    do {
        struct novakms_list_args args = {
            .prefix = prefix,
            .limit = left < LIST_PAGE_MAX ? (uint32_t)left : LIST_PAGE_MAX,
        };
        if (page != NULL) {
            args.page_token = page->page_token;
        }
        struct novakms_result *next = NULL;
        enum novakms_code called = novakms_list(client, &args, &next);
        novakms_free(&page);
        page = next;
        if (called != NOVAKMS_OK) {
            return ctl_report(page, o->json);
        }
        enum ctl_exit code = print_page(o, page, entries);
        if (code != CTL_DONE) {
            return code;
        }
        left -= page->item_count < left ? page->item_count : left;
    } while (left > 0 && page->page_token.len > 0);
    return CTL_DONE;
}

static enum ctl_exit run_list(const struct ctl_options *o, struct novakms *client) {
    OWNED_SPAN prefix = { 0 };
    if (o->prefix != NULL && !ctl_read_text("--prefix", o->prefix, o->key_format, &prefix)) {
        return CTL_USAGE;
    }
    json_t *entries = o->json ? json_array() : NULL;
    enum ctl_exit code = list_pages(o, client, prefix, entries);
    if (!o->json || code != CTL_DONE) {
        json_decref(entries);
        return code;
    }
    return ctl_json_print(json_pack("{s:o}", "entries", entries));
}

static enum ctl_exit run_whoami(const struct ctl_options *o, struct novakms *client) {
    RESULT result = NULL;
    if (novakms_whoami(client, NULL, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    const struct novakms_caller *c = &result->caller;
    if (o->json) {
        return ctl_json_print(json_pack(
            "{s:o,s:o,s:o,s:o,s:b}", "wallet", ctl_json_wallet(c->wallet), "app_id",
            ctl_json_u64(c->app_id), "version_id", ctl_json_u64(c->version_id), "instance_id",
            ctl_json_u64(c->instance_id), "is_kms_member", (int)c->is_kms_member));
    }
    char wallet[NOVAKMS_WALLET_TEXT_BYTES];
    printf("wallet      %s\napp         %" PRIu64 "\nversion     %" PRIu64 "\ninstance    %" PRIu64
           "\nkms member  %s\n",
           ctl_wallet_text(c->wallet, wallet), c->app_id, c->version_id, c->instance_id,
           c->is_kms_member ? "yes" : "no");
    return CTL_DONE;
}

static json_t *status_json(const struct novakms_node_status *n) {
    return json_pack("{s:b,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:{s:o,s:o,s:o,s:o}}", "serving",
                     (int)n->serving, "reason", n->reason, "version", n->version, "uptime_ms",
                     ctl_json_u64(n->uptime_ms), "wallet", ctl_json_wallet(n->wallet), "chain_id",
                     ctl_json_u64(n->chain_id), "kms_app_id", ctl_json_u64(n->kms_app_id),
                     "master_secret_hash", ctl_json_bytes(n->master_secret_hash, CTL_FORMAT_HEX),
                     "total_instances", ctl_json_u64(n->instance_count), "data_store", "namespaces",
                     ctl_json_u64(n->namespace_count), "total_keys", ctl_json_u64(n->key_count),
                     "total_bytes", ctl_json_u64(n->stored_bytes), "tombstones",
                     ctl_json_u64(n->tombstone_count));
}

static enum ctl_exit run_status(const struct ctl_options *o, struct novakms *client) {
    RESULT result = NULL;
    if (novakms_status(client, NULL, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    const struct novakms_node_status *n = &result->node;
    if (o->json) {
        return ctl_json_print(status_json(n));
    }
    char wallet[NOVAKMS_WALLET_TEXT_BYTES];
    char hash[HEX_TEXT_BYTES(NOVAKMS_HASH_BYTES)] = "none";
    if (n->master_secret_hash.len == NOVAKMS_HASH_BYTES) {
        hex_encode((struct span){ n->master_secret_hash.ptr, NOVAKMS_HASH_BYTES }, hash);
    }
    printf("serving      %s", n->serving ? "yes" : "no: ");
    ctl_print_text(stdout, n->serving ? "" : n->reason);
    printf("\nversion      ");
    ctl_print_text(stdout, n->version);
    printf("\nuptime       %" PRIu64 " s\nwallet       %s\n", n->uptime_ms / 1000,
           ctl_wallet_text(n->wallet, wallet));
    printf("chain        %" PRIu64 "\nkms app      %" PRIu64
           "\nsecret hash  %s\ninstances    %" PRIu64 "\n",
           n->chain_id, n->kms_app_id, hash, n->instance_count);
    printf("namespaces   %" PRIu64 "\nkeys         %" PRIu64 "\nstored       %" PRIu64
           " bytes\ntombstones   %" PRIu64 "\n",
           n->namespace_count, n->key_count, n->stored_bytes, n->tombstone_count);
    return CTL_DONE;
}

static json_t *node_json(const struct novakms_node *n) {
    return json_pack("{s:o,s:o,s:o,s:s,s:b}", "wallet", ctl_json_wallet(n->wallet), "instance_id",
                     ctl_json_u64(n->instance_id), "version_id", ctl_json_u64(n->version_id), "url",
                     n->url, "is_self", (int)n->is_self);
}

static void print_node(const struct novakms_node *n) {
    char wallet[NOVAKMS_WALLET_TEXT_BYTES];
    printf("%s  instance %" PRIu64 "  version %" PRIu64 "%s", ctl_wallet_text(n->wallet, wallet),
           n->instance_id, n->version_id, n->url[0] == '\0' ? "" : "  ");
    ctl_print_text(stdout, n->url);
    printf("%s\n", n->is_self ? "  (answered)" : "");
}

static enum ctl_exit run_nodes(const struct ctl_options *o, struct novakms *client) {
    RESULT result = NULL;
    if (novakms_nodes(client, NULL, &result) != NOVAKMS_OK) {
        return ctl_report(result, o->json);
    }
    json_t *nodes = o->json ? json_array() : NULL;
    for (size_t i = 0; i < result->node_count; i++) {
        if (!o->json) {
            print_node(&result->nodes[i]);
        } else if (json_array_append_new(nodes, node_json(&result->nodes[i])) != 0) {
            json_decref(nodes);
            ctl_complain("out of memory.");
            return CTL_OTHER;
        }
    }
    return o->json ? ctl_json_print(json_pack("{s:o}", "nodes", nodes)) : CTL_DONE;
}

static enum ctl_exit run_identity(const struct ctl_options *o) {
    char wallet[NOVAKMS_WALLET_TEXT_BYTES] = "";
    char error[NOVAKMS_TEXT_BYTES] = "";
    bool is_new = strcmp(o->operands[0], "new") == 0;
    enum novakms_code code = is_new ? novakms_identity_new(o->operands[1], wallet, error)
                                    : novakms_identity_show(o->operands[1], wallet, error);
    if (code != NOVAKMS_OK) {
        struct novakms_result failed = { .code = code };
        memcpy(failed.text, error, sizeof(failed.text));
        return ctl_report(&failed, o->json);
    }
    if (o->json) {
        return ctl_json_print(json_pack("{s:s,s:s}", "wallet", wallet, "file", o->operands[1]));
    }
    printf("%s\n", wallet);
    return CTL_DONE;
}

typedef enum ctl_exit (*run_fn)(const struct ctl_options *o, struct novakms *client);

struct remote {
    run_fn run;
    bool needs_identity;
};

static const struct remote remotes[CTL_COMMAND_COUNT] = {
    [CTL_DERIVE] = { run_derive, true },  [CTL_PUT] = { run_put, true },
    [CTL_GET] = { run_get, true },        [CTL_DELETE] = { run_delete, true },
    [CTL_LIST] = { run_list, true },      [CTL_WHOAMI] = { run_whoami, true },
    [CTL_STATUS] = { run_status, false }, [CTL_NODES] = { run_nodes, false },
};

static bool is_address(const char *text) {
    return strncmp(text, "0x", 2) == 0 && strlen(text) == 42 &&
           strspn(text + 2, "0123456789abcdefABCDEF") == 40;
}

/* --registry means a file, or with --rpc-url an address: both or neither. */
static bool check_registry(const struct ctl_options *o) {
    if (o->rpc_url == NULL) {
        if (o->registry != NULL && is_address(o->registry)) {
            ctl_complain("--registry is an address on chain: it needs --rpc-url URL to read it "
                         "(a file of that name is ./%.42s).",
                         o->registry);
            return false;
        }
        return true;
    }
    if (o->registry == NULL || !is_address(o->registry)) {
        ctl_complain("--rpc-url needs --registry 0x..., the address of NovaAppRegistry: 0x and 40 "
                     "hex digits.");
        return false;
    }
    if (o->kms_app_id == 0) {
        ctl_complain("--rpc-url needs --kms-app-id N, the app whose instances are the nodes.");
        return false;
    }
    return true;
}

/* Says what of "where and who" is missing, in terms of options. */
static bool check_where(const struct ctl_options *o, const struct remote *remote) {
    if (o->dev_dir == NULL && o->server == NULL && o->registry == NULL && o->rpc_url == NULL) {
        ctl_complain("no node given: --server HOST:PORT, or --rpc-url URL to find one on chain, or "
                     "--dev-dir DIR.");
        return false;
    }
    if (!check_registry(o)) {
        return false;
    }
    if (o->dev_dir == NULL && o->server_wallet == NULL && o->registry == NULL) {
        ctl_complain("nothing to check the node by: --server-wallet 0x..., or --registry.");
        return false;
    }
    if (o->dev_dir == NULL && remote->needs_identity && o->identity == NULL) {
        ctl_complain("%s needs the caller's key: --identity FILE.", ctl_command_name(o->command));
        return false;
    }
    return true;
}

static enum ctl_exit run_remote(const struct ctl_options *o, const struct remote *remote) {
    if (!check_where(o, remote)) {
        return CTL_USAGE;
    }
    const struct novakms_cfg cfg = {
        .servers = o->server,
        .server_wallets = o->server_wallet,
        .registry_path = o->rpc_url == NULL ? o->registry : NULL,
        .rpc_url = o->rpc_url,
        .registry_address = o->rpc_url == NULL ? NULL : o->registry,
        .kms_app_id = o->kms_app_id,
        .identity_path = o->identity,
        .dev_dir = o->dev_dir,
        .chain_id = o->chain_id,
        .timeout_ms = o->timeout_ms,
    };
    char error[NOVAKMS_TEXT_BYTES] = "";
    __attribute__((cleanup(client_close))) struct novakms *client = NULL;
    enum novakms_code code = novakms_open(&cfg, &client, error);
    if (code != NOVAKMS_OK) {
        struct novakms_result failed = { .code = code };
        memcpy(failed.text, error, sizeof(failed.text));
        return ctl_report(&failed, o->json);
    }
    return remote->run(o, client);
}

enum ctl_exit ctl_run(const struct ctl_options *o) {
    const struct remote *remote = &remotes[o->command];
    return remote->run == NULL ? run_identity(o) : run_remote(o, remote);
}
