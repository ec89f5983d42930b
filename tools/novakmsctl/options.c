/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "output.h"

#define BIT(command) (1u << CTL_##command)
#define KEYED (BIT(PUT) | BIT(GET) | BIT(DELETE) | BIT(LIST))
#define REMOTE (BIT(DERIVE) | KEYED | BIT(WHOAMI) | BIT(STATUS) | BIT(NODES))
#define EVERY (REMOTE | BIT(IDENTITY))

/* Texts of more than this are cut in usage errors. */
#define SHOWN_MAX 60

struct command {
    const char *name;
    const char *operands;
    unsigned operand_min;
    unsigned operand_max;
    const char *help;
};

static const struct command commands[CTL_COMMAND_COUNT] = {
    [CTL_DERIVE] = { "derive", "PATH", 1, 1, "Derive a key of the application." },
    [CTL_PUT] = { "put", "KEY (VALUE | --file FILE | -)", 1, 2,
                  "Store a value: VALUE itself, a file's bytes, or standard input (-)." },
    [CTL_GET] = { "get", "KEY", 1, 1, "Read a value." },
    [CTL_DELETE] = { "delete", "KEY", 1, 1, "Delete a value; one that is not there is no error." },
    [CTL_LIST] = { "list", "", 0, 0, "List keys in byte order, one a line." },
    [CTL_WHOAMI] = { "whoami", "", 0, 0, "Show whom the node takes the caller for." },
    [CTL_STATUS] = { "status", "", 0, 0, "Show the node's state. Needs no identity." },
    [CTL_NODES] = { "nodes", "", 0, 0, "List the cluster's members. Needs no identity." },
    [CTL_IDENTITY] = { "identity", "(new | show) FILE", 2, 2,
                       "Make a new key file (never over an old one), or show a key file's "
                       "wallet." },
};

/* An option's value goes to *field; false when it is not allowed. */
typedef bool (*parse_fn)(const char *text, void *field);

struct option {
    const char *name;
    const char *operand; /* NULL: takes none. */
    const char *env;     /* Read before the command line. */
    unsigned commands;
    parse_fn parse;
    size_t field;
    const char *allowed; /* Completes "must be ...". */
    const char *help;
};

static bool parse_text(const char *text, void *field) {
    memcpy(field, &text, sizeof(text));
    return text[0] != '\0';
}

/* A prefix or a context may be empty. */
static bool parse_any_text(const char *text, void *field) {
    memcpy(field, &text, sizeof(text));
    return true;
}

static bool parse_flag(const char *text, void *field) {
    (void)text;
    *(bool *)field = true;
    return true;
}

static bool parse_count(const char *text, uint64_t max, uint64_t *out) {
    return bytes_parse_decimal(span_str(text), max, out).err == E_OK && *out > 0;
}

static bool parse_u64(const char *text, void *field) {
    return parse_count(text, UINT64_MAX, field);
}

static bool parse_length(const char *text, void *field) {
    uint64_t value = 0;
    bool ok = parse_count(text, CTL_LENGTH_MAX, &value);
    *(uint32_t *)field = (uint32_t)value;
    return ok;
}

/* Reads "10m": a decimal number and one of ms, s, m, h, d; at most max_ms. False when it is not. */
static bool parse_duration(const char *text, uint64_t max_ms, uint64_t *out_ms) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    size_t digit_count = strspn(text, "0123456789");
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(text + digit_count, units[i].name) != 0) {
            continue;
        }
        struct span digits = { (const uint8_t *)text, digit_count };
        if (bytes_parse_decimal(digits, max_ms / units[i].ms, &number).err != E_OK) {
            return false;
        }
        *out_ms = number * units[i].ms;
        return true;
    }
    return false;
}

static bool parse_timeout(const char *text, void *field) {
    uint64_t value = 0;
    bool ok = parse_duration(text, CTL_TIMEOUT_MS_MAX, &value) && value > 0;
    *(uint32_t *)field = (uint32_t)value;
    return ok;
}

static bool parse_ttl(const char *text, void *field) {
    uint64_t *ttl_ms = field;
    return parse_duration(text, CTL_TTL_MS_MAX, ttl_ms) && *ttl_ms > 0;
}

/* The index of text among count names; count when it is none of them. */
static size_t name_index(const char *text, const char *const names[], size_t count) {
    size_t i = 0;
    while (i < count && strcmp(text, names[i]) != 0) {
        i++;
    }
    return i;
}

static bool parse_format(const char *text, void *field) {
    static const char *const names[] = { "hex", "base64", "raw" };
    static const enum ctl_format values[] = { CTL_FORMAT_HEX, CTL_FORMAT_BASE64, CTL_FORMAT_RAW };
    size_t i = name_index(text, names, 3);
    *(enum ctl_format *)field = i < 3 ? values[i] : CTL_FORMAT_DEFAULT;
    return i < 3;
}

static bool parse_kdf(const char *text, void *field) {
    static const char *const names[] = { "nova-v1", "nova-v2" };
    size_t i = name_index(text, names, 2);
    *(enum novakms_kdf *)field = i == 1 ? NOVAKMS_KDF_NOVA_V2 : NOVAKMS_KDF_NOVA_V1;
    return i < 2;
}

static bool parse_durability(const char *text, void *field) {
    static const char *const names[] = { "local", "one-peer", "quorum" };
    static const enum novakms_durability values[] = { NOVAKMS_DURABILITY_LOCAL,
                                                      NOVAKMS_DURABILITY_ONE_PEER,
                                                      NOVAKMS_DURABILITY_QUORUM };
    size_t i = name_index(text, names, 3);
    *(enum novakms_durability *)field = i < 3 ? values[i] : NOVAKMS_DURABILITY_LOCAL;
    return i < 3;
}

#define FIELD(name) offsetof(struct ctl_options, name)

static const struct option options[] = {
    { "server", "HOST:PORT", "NOVAKMS_SERVER", REMOTE, parse_text, FIELD(server), "HOST:PORT",
      "The node, or several by commas. Without it, --registry's nodes are tried." },
    { "server-wallet", "0x...", "NOVAKMS_SERVER_WALLET", REMOTE, parse_text, FIELD(server_wallet),
      "0x and 40 hex digits", "The only wallet (or wallets, by commas) to accept as the node's." },
    { "rpc-url", "URL", "NOVAKMS_RPC_URL", REMOTE, parse_text, FIELD(rpc_url), "a URL",
      "Read the registry on chain, through this JSON-RPC server." },
    { "registry", "0x...|FILE", "NOVAKMS_REGISTRY", REMOTE, parse_text, FIELD(registry),
      "an address or a file",
      "Who is a node: NovaAppRegistry's address on chain, or a registry file." },
    { "kms-app-id", "N", "NOVAKMS_KMS_APP_ID", REMOTE, parse_u64, FIELD(kms_app_id),
      "a number from 1 to 18446744073709551615",
      "The app whose instances on chain are the nodes." },
    { "identity", "FILE", "NOVAKMS_IDENTITY", REMOTE, parse_text, FIELD(identity), "a file",
      "The caller's key file." },
    { "dev-dir", "DIR", "NOVAKMS_DEV_DIR", REMOTE, parse_text, FIELD(dev_dir), "a directory",
      "Node, registry, identity and chain of the `nova-kms --dev` in DIR." },
    { "chain-id", "N", "NOVAKMS_CHAIN_ID", REMOTE, parse_u64, FIELD(chain_id),
      "a number from 1 to 18446744073709551615",
      "The chain of the registry. Default 84532 (Base Sepolia)." },
    { "timeout", "TIME", "NOVAKMS_TIMEOUT", REMOTE, parse_timeout, FIELD(timeout_ms),
      "a time such as 500ms, 10s or 2m, at most 5m", "Limit for a call. Default 10s." },
    { "format", "hex|base64|raw", NULL, BIT(DERIVE) | BIT(PUT) | BIT(GET), parse_format,
      FIELD(format), "hex, base64 or raw",
      "How keys and values are written, and VALUE is read. Default hex for derive, else raw." },
    { "key-format", "hex|base64|raw", NULL, KEYED, parse_format, FIELD(key_format),
      "hex, base64 or raw", "How KEY and --prefix are read, and list writes keys. Default raw." },
    { "json", NULL, NULL, EVERY, parse_flag, FIELD(json), "", "Write one JSON object." },
    { "context", "TEXT", NULL, BIT(DERIVE), parse_any_text, FIELD(context), "a text",
      "Further input of the derivation." },
    { "length", "N", NULL, BIT(DERIVE), parse_length, FIELD(length), "a number from 1 to 1024",
      "Bytes of key. Default 32." },
    { "kdf", "nova-v1|nova-v2", NULL, BIT(DERIVE), parse_kdf, FIELD(kdf), "nova-v1 or nova-v2",
      "How the key is made. Default nova-v1." },
    { "file", "FILE", NULL, BIT(PUT), parse_text, FIELD(file), "a file",
      "Take the value from FILE." },
    { "ttl", "TIME", NULL, BIT(PUT), parse_ttl, FIELD(ttl_ms),
      "a time with a unit of ms, s, m, h or d, at most 3650d", "When the value expires." },
    { "durability", "local|one-peer|quorum", NULL, BIT(PUT) | BIT(DELETE), parse_durability,
      FIELD(durability), "local, one-peer or quorum",
      "Who must hold the write before it is answered. Default local." },
    { "out", "FILE", NULL, BIT(GET), parse_text, FIELD(out), "a file",
      "Write the value to FILE (mode 0600 when new)." },
    { "prefix", "TEXT", NULL, BIT(LIST), parse_any_text, FIELD(prefix), "a text",
      "Only keys that start with TEXT." },
    { "limit", "N", NULL, BIT(LIST), parse_u64, FIELD(limit), "a number, 1 or more",
      "At most N keys. Default all." },
};
#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

static void print_option(const struct option *o) {
    char left[48];
    (void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->operand == NULL ? "" : " ",
                   o->operand == NULL ? "" : o->operand);
    printf("  %-36s %s", left, o->help);
    if (o->env != NULL) {
        printf(" [%s]", o->env);
    }
    printf("\n");
}

static void print_options(unsigned mask, bool shared) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        bool is_shared = (options[i].commands & REMOTE) == REMOTE;
        if ((options[i].commands & mask) != 0 && is_shared == shared) {
            print_option(&options[i]);
        }
    }
}

static void print_help(void) {
    printf("novakmsctl: keys and data of an application, kept by a Nova KMS cluster.\n\n"
           "usage: novakmsctl [OPTION]... COMMAND [OPERAND]...\n\ncommands:\n");
    for (size_t i = 0; i < CTL_COMMAND_COUNT; i++) {
        char left[48];
        (void)snprintf(left, sizeof(left), "%s %s", commands[i].name, commands[i].operands);
        printf("  %-36s %s\n", left, commands[i].help);
    }
    printf("\noptions of every command [environment]:\n");
    print_options(EVERY, true);
    printf("  %-36s %s\n  %-36s %s\n", "--help", "This text; after a command, the command's.",
           "--version", "The version.");
    printf("\nexit status: 0 done, 2 usage, 3 not found, 4 permission, 5 unavailable, 1 other.\n"
           "Times have a unit: ms, s, m, h, d. \"--\" ends the options.\n");
}

static void print_command_help(enum ctl_command command) {
    const struct command *c = &commands[command];
    printf("usage: novakmsctl %s [OPTION]...%s%s\n\n%s\n\noptions:\n", c->name,
           c->operands[0] == '\0' ? "" : " ", c->operands, c->help);
    print_options(1u << command, false);
    if (command != CTL_IDENTITY) {
        printf("\noptions of every command [environment]:\n");
        print_options(1u << command, true);
    }
}

const char *ctl_command_name(enum ctl_command command) {
    return commands[command].name;
}

static const struct option *option_find(const char *name, size_t len) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strlen(options[i].name) == len && strncmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* Sets the option's field; says what is wrong and returns false when the value is not allowed. */
static bool option_apply(struct ctl_options *out, const struct option *o, const char *value,
                         const char *called) {
    if (o->parse(value, (char *)out + o->field)) {
        return true;
    }
    ctl_complain("%s must be %s.", called, o->allowed);
    return false;
}

static bool read_environment(struct ctl_options *out) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *value = options[i].env == NULL ? NULL : getenv(options[i].env);
        if (value != NULL && value[0] != '\0' &&
            !option_apply(out, &options[i], value, options[i].env)) {
            return false;
        }
    }
    return true;
}

/* The state of one walk over argv. */
struct walk {
    int argc;
    char *const *argv;
    int at;
    bool options_ended;
    bool help;
    bool has_command;
    unsigned used[OPTION_COUNT]; /* Which options the command line had. */
};

/* Reads the option at w->at, and its value from the next argument or after "=". */
static bool read_option(struct walk *w, struct ctl_options *out) {
    const char *name = w->argv[w->at] + 2;
    size_t len = strcspn(name, "=");
    const struct option *o = option_find(name, len);
    if (o == NULL) {
        ctl_complain("--%.*s is not an option; --help lists them.",
                     len > SHOWN_MAX ? SHOWN_MAX : (int)len, name);
        return false;
    }
    char called[32];
    (void)snprintf(called, sizeof(called), "--%s", o->name);
    w->used[o - options] = 1;
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    if (o->operand == NULL) {
        if (value != NULL) {
            ctl_complain("%s takes no value.", called);
            return false;
        }
        return option_apply(out, o, "", called);
    }
    if (value == NULL && w->at + 1 < w->argc) {
        w->at++;
        value = w->argv[w->at];
    }
    if (value == NULL) {
        ctl_complain("%s needs a value: %s.", called, o->operand);
        return false;
    }
    return option_apply(out, o, value, called);
}

static bool read_operand(struct walk *w, struct ctl_options *out) {
    const char *text = w->argv[w->at];
    if (!w->has_command) {
        for (int i = 0; i < CTL_COMMAND_COUNT; i++) {
            if (strcmp(text, commands[i].name) == 0) {
                out->command = (enum ctl_command)i;
                w->has_command = true;
                return true;
            }
        }
        ctl_complain("\"%.*s\" is not a command; --help lists them.", SHOWN_MAX, text);
        return false;
    }
    if (out->operand_count == commands[out->command].operand_max) {
        ctl_complain("%s takes %s and no more.", commands[out->command].name,
                     commands[out->command].operand_max == 0 ? "no operand"
                                                             : commands[out->command].operands);
        return false;
    }
    out->operands[out->operand_count++] = text;
    return true;
}

/* False when something was wrong, or --version printed all there is to print. */
static bool walk_arguments(struct walk *w, struct ctl_options *out, enum ctl_exit *exit_code) {
    for (; w->at < w->argc; w->at++) {
        const char *text = w->argv[w->at];
        bool is_option = !w->options_ended && text[0] == '-' && text[1] != '\0';
        if (is_option && strcmp(text, "--") == 0) {
            w->options_ended = true;
        } else if (is_option && (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)) {
            w->help = true;
        } else if (is_option && strcmp(text, "--version") == 0) {
            printf("novakmsctl %s\n", novakms_version());
            *exit_code = CTL_DONE;
            return false;
        } else if (is_option && text[1] != '-') {
            ctl_complain("%.*s is not an option; write -- before an operand that starts with -.",
                         SHOWN_MAX, text);
            return false;
        } else if (!(is_option ? read_option(w, out) : read_operand(w, out))) {
            return false;
        }
    }
    return true;
}

/* What the tables alone cannot say. */
static bool check(const struct walk *w, const struct ctl_options *out) {
    const struct command *c = &commands[out->command];
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (w->used[i] != 0 && (options[i].commands & (1u << out->command)) == 0) {
            ctl_complain("--%s is not an option of %s.", options[i].name, c->name);
            return false;
        }
    }
    if (out->operand_count < c->operand_min) {
        ctl_complain("%s needs %s.", c->name, c->operands);
        return false;
    }
    if (out->command == CTL_PUT && (out->operand_count == 2) == (out->file != NULL)) {
        ctl_complain("put needs exactly one of VALUE, --file FILE and - (standard input).");
        return false;
    }
    if (out->json && out->command == CTL_DERIVE && out->format == CTL_FORMAT_RAW) {
        ctl_complain("--json writes hex or base64, not --format raw.");
        return false;
    }
    if (out->json && out->command == CTL_GET && out->format == CTL_FORMAT_RAW) {
        ctl_complain("--json writes hex or base64, not --format raw.");
        return false;
    }
    if (out->command == CTL_IDENTITY && strcmp(out->operands[0], "new") != 0 &&
        strcmp(out->operands[0], "show") != 0) {
        ctl_complain("identity needs new or show, and a FILE.");
        return false;
    }
    return true;
}

bool ctl_options_parse(struct ctl_options *out, int argc, char *const argv[],
                       enum ctl_exit *exit_code) {
    *out = (struct ctl_options){ 0 };
    *exit_code = CTL_USAGE;
    struct walk w = { .argc = argc, .argv = argv, .at = 1 };
    if (!read_environment(out) || !walk_arguments(&w, out, exit_code)) {
        return false;
    }
    if (w.help) {
        *exit_code = CTL_DONE;
        if (w.has_command) {
            print_command_help(out->command);
        } else {
            print_help();
        }
        return false;
    }
    if (!w.has_command) {
        ctl_complain("a command is missing; --help lists them.");
        return false;
    }
    return check(&w, out);
}
