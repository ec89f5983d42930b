/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/abi.h"

#include <stdio.h>

#include "base/hex.h"
#include "crypto/keccak.h"
#include "registry/escape.h"

/* ---- Calls ---- */

struct function {
    const char *signature;
    size_t arg_count;
};

#define FUNCTION_ROW(name, signature, arg_count) [ABI_##name] = { signature, arg_count },
static const struct function functions[ABI_FUNCTION_COUNT] = { ABI_FUNCTION_MAP(FUNCTION_ROW) };

const char *abi_function_signature(enum abi_function function) {
    ASSERT(function < ABI_FUNCTION_COUNT);
    return functions[function].signature;
}

static void select(const char *signature, uint8_t selector[static ABI_SELECTOR_BYTES]) {
    uint8_t hash[KECCAK256_BYTES];
    keccak256(span_str(signature), hash);
    memcpy(selector, hash, ABI_SELECTOR_BYTES);
}

struct abi_word abi_word_of_number(uint64_t number) {
    struct abi_word word = { { 0 } };
    for (size_t i = 0; i < sizeof(number); i++) {
        word.bytes[ABI_WORD_BYTES - 1 - i] = (uint8_t)(number >> (8 * i));
    }
    return word;
}

struct abi_word abi_word_of_wallet(const struct wallet *wallet) {
    struct abi_word word = { { 0 } };
    memcpy(word.bytes + ABI_WORD_BYTES - WALLET_BYTES, wallet->bytes, WALLET_BYTES);
    return word;
}

void abi_encode_call(enum abi_function function, const struct abi_word *args,
                     struct abi_call *out) {
    ASSERT(function < ABI_FUNCTION_COUNT);
    const struct function *f = &functions[function];
    ASSERT(f->arg_count <= ABI_ARG_COUNT_MAX);
    select(f->signature, out->bytes);
    out->len = ABI_SELECTOR_BYTES;
    for (size_t i = 0; i < f->arg_count; i++) {
        memcpy(out->bytes + out->len, args[i].bytes, ABI_WORD_BYTES);
        out->len += ABI_WORD_BYTES;
    }
}

/* ---- Words ---- */

/* An unsound encoding. Gives the error, for return. */
static RC refuse(struct abi_why *why, const char *field, const char *text) {
    why->is_value = false;
    (void)snprintf(why->text, sizeof(why->text), "%s: %s", field, text);
    return ERR(MALFORMED);
}

static RC read_word(struct reader *r, const char *field, struct abi_why *why, struct span *word) {
    struct rc rc = read_span(r, ABI_WORD_BYTES, word);
    if (rc.err != E_OK) {
        why->is_value = false;
        (void)snprintf(why->text, sizeof(why->text), "%s: the data ends before it", field);
    }
    return rc;
}

static bool is_zero(struct span s) {
    uint8_t any = 0;
    for (size_t i = 0; i < s.len; i++) {
        any |= s.ptr[i];
    }
    return any == 0;
}

/* The last `width` bytes of a word, when those before are zero. */
static bool word_tail(struct span word, size_t width, struct span *tail) {
    size_t at = ABI_WORD_BYTES - width;
    *tail = (struct span){ word.ptr + at, width };
    return is_zero((struct span){ word.ptr, at });
}

static bool word_number(struct span word, uint64_t *out) {
    struct span tail = SPAN_EMPTY;
    *out = 0;
    if (!word_tail(word, sizeof(*out), &tail)) {
        return false;
    }
    for (size_t i = 0; i < tail.len; i++) {
        *out = *out << 8 | tail.ptr[i];
    }
    return true;
}

/* A word that must hold what an encoder writes there: an offset. */
static RC read_offset(struct reader *r, uint64_t want, const char *field, struct abi_why *why) {
    struct span word = SPAN_EMPTY;
    uint64_t offset = 0;
    TRY(read_word(r, field, why, &word));
    if (!word_number(word, &offset) || offset != want) {
        return refuse(why, field, "its offset is not where an encoder puts it");
    }
    return OK;
}

static RC read_end(const struct reader *r, struct abi_why *why) {
    if (r->len != 0) {
        return refuse(why, "data", "bytes follow its end");
    }
    return OK;
}

/* ---- Structs, by table ---- */

enum type { NUMBER, WALLET, WORD, BOOL, ENUM, STRING, BYTES };

struct field {
    const char *name;
    enum type type;
    /* ENUM: the number of values. STRING, BYTES: the most bytes; 0 when it is not kept, so that
     * only the size of the answer limits it. */
    uint32_t limit;
};

#define FIELD_COUNT_MAX 10

struct value {
    uint64_t number;   /* NUMBER, BOOL, ENUM. */
    struct span bytes; /* Lent: WALLET (20 bytes), WORD, STRING, BYTES. */
};

struct decoder {
    struct reader head;
    struct reader tail;
    uint64_t tail_offset; /* Where the tail goes on, from the struct's beginning. */
    struct abi_why *why;
    struct rc value_rc; /* The first value that was refused. */
};

static void refuse_value(struct decoder *d, struct rc rc, const char *field, const char *text) {
    if (d->value_rc.err == E_OK) {
        d->value_rc = rc;
        d->why->is_value = true;
        (void)snprintf(d->why->text, sizeof(d->why->text), "%s: %s", field, text);
    }
}

static void refuse_long(struct decoder *d, const struct field *field) {
    char text[48];
    (void)snprintf(text, sizeof(text), "must have at most %u bytes", field->limit);
    refuse_value(d, ERR(TOO_BIG), field->name, text);
}

/* Length, bytes and padding, where the tail goes on. */
static RC decode_dynamic(struct decoder *d, const struct field *field, struct span *out) {
    struct span word = SPAN_EMPTY;
    uint64_t len = 0;
    TRY(read_offset(&d->head, d->tail_offset, field->name, d->why));
    TRY(read_word(&d->tail, field->name, d->why, &word));
    if (!word_number(word, &len) || len > d->tail.len) {
        return refuse(d->why, field->name, "its length is beyond the end of the data");
    }
    size_t pad_len = (ABI_WORD_BYTES - len % ABI_WORD_BYTES) % ABI_WORD_BYTES;
    struct span bytes = SPAN_EMPTY;
    struct span pad = SPAN_EMPTY;
    TRY(read_span(&d->tail, len, &bytes)); /* The check above keeps it from failing. */
    if (read_span(&d->tail, pad_len, &pad).err != E_OK || !is_zero(pad)) {
        return refuse(d->why, field->name, "its padding must be zeros to a multiple of 32");
    }
    d->tail_offset += ABI_WORD_BYTES + len + pad_len;
    if (field->limit != 0 && len > field->limit) {
        refuse_long(d, field);
        return OK;
    }
    *out = bytes;
    return OK;
}

static RC decode_number(struct decoder *d, const struct field *field, struct span word,
                        uint64_t *out) {
    if (!word_number(word, out)) {
        refuse_value(d, ERR(TOO_BIG), field->name, "must be at most 2^64-1");
    }
    return OK;
}

static RC decode_bool(struct decoder *d, const struct field *field, struct span word,
                      uint64_t *out) {
    if (!word_number(word, out) || *out > 1) {
        return refuse(d->why, field->name, "must be 0 or 1");
    }
    return OK;
}

static RC decode_enum(struct decoder *d, const struct field *field, struct span word,
                      uint64_t *out) {
    if (!word_number(word, out) || *out > UINT8_MAX) {
        return refuse(d->why, field->name, "must be a number of one byte");
    }
    if (*out >= field->limit) {
        *out = field->limit;
        refuse_value(d, ERR(MALFORMED), field->name, "is a status unknown to this node");
    }
    return OK;
}

static RC decode_wallet(struct decoder *d, const struct field *field, struct span word,
                        struct span *out) {
    if (!word_tail(word, WALLET_BYTES, out)) {
        return refuse(d->why, field->name, "must be an address of 20 bytes");
    }
    return OK;
}

static RC decode_field(struct decoder *d, const struct field *field, struct value *out) {
    struct span word = SPAN_EMPTY;
    if (field->type == STRING || field->type == BYTES) {
        return decode_dynamic(d, field, &out->bytes);
    }
    TRY(read_word(&d->head, field->name, d->why, &word));
    switch (field->type) {
    case NUMBER:
        return decode_number(d, field, word, &out->number);
    case WALLET:
        return decode_wallet(d, field, word, &out->bytes);
    case BOOL:
        return decode_bool(d, field, word, &out->number);
    case ENUM:
        return decode_enum(d, field, word, &out->number);
    case WORD:
    case STRING:
    case BYTES:
        break;
    }
    out->bytes = word;
    return OK;
}

/* A struct with at least one dynamic field: its offset, its fields' words, their tails. */
static RC decode_struct(struct decoder *d, struct span data, const struct field *fields,
                        size_t field_count, struct value *values) {
    ASSERT(field_count <= FIELD_COUNT_MAX);
    struct reader all = { data.ptr, data.len };
    struct span head = SPAN_EMPTY;
    TRY(read_offset(&all, ABI_WORD_BYTES, "data", d->why));
    d->tail_offset = field_count * ABI_WORD_BYTES;
    if (read_span(&all, field_count * ABI_WORD_BYTES, &head).err != E_OK) {
        return refuse(d->why, "data", "is shorter than the struct that the function returns");
    }
    d->head = (struct reader){ head.ptr, head.len };
    d->tail = all;
    for (size_t i = 0; i < field_count; i++) {
        TRY(decode_field(d, &fields[i], &values[i]));
    }
    return read_end(&d->tail, d->why);
}

static struct decoder decoder_of(struct abi_why *why) {
    *why = (struct abi_why){ 0 };
    return (struct decoder){ .why = why, .value_rc = OK };
}

static void take_wallet(struct span bytes, struct wallet *out) {
    ASSERT(bytes.len == WALLET_BYTES);
    memcpy(out->bytes, bytes.ptr, WALLET_BYTES);
}

RC abi_decode_app(struct span data, struct abi_app *out, struct abi_why *why) {
    enum { ID, OWNER, TEE_ARCH, DAPP, METADATA, LATEST, CREATED, STATUS, APP_WALLET, COUNT };
    static const struct field fields[COUNT] = {
        [ID] = { "id", NUMBER, 0 },
        [OWNER] = { "owner", WALLET, 0 },
        [TEE_ARCH] = { "teeArch", WORD, 0 },
        [DAPP] = { "dappContract", WALLET, 0 },
        [METADATA] = { "metadataUri", STRING, 0 },
        [LATEST] = { "latestVersionId", NUMBER, 0 },
        [CREATED] = { "createdAt", NUMBER, 0 },
        [STATUS] = { "status", ENUM, AUTH_APP_STATUS_COUNT },
        [APP_WALLET] = { "appWallet", WALLET, 0 },
    };
    struct value v[COUNT] = { 0 };
    struct decoder d = decoder_of(why);
    *out = (struct abi_app){ 0 };
    TRY(decode_struct(&d, data, fields, COUNT, v));
    *out = (struct abi_app){ .id = v[ID].number,
                             .latest_version_id = v[LATEST].number,
                             .status = (enum auth_app_status)v[STATUS].number };
    return d.value_rc;
}

RC abi_decode_version(struct span data, struct abi_version *out, struct abi_why *why) {
    enum { ID, NAME, MEASUREMENT, IMAGE, AUDIT, AUDIT_HASH, RUN, STATUS, AT, BY, COUNT };
    static const struct field fields[COUNT] = {
        [ID] = { "id", NUMBER, 0 },
        [NAME] = { "versionName", STRING, 0 },
        [MEASUREMENT] = { "codeMeasurement", WORD, 0 },
        [IMAGE] = { "imageUri", STRING, 0 },
        [AUDIT] = { "auditUrl", STRING, 0 },
        [AUDIT_HASH] = { "auditHash", STRING, 0 },
        [RUN] = { "githubRunId", STRING, 0 },
        [STATUS] = { "status", ENUM, AUTH_VERSION_STATUS_COUNT },
        [AT] = { "enrolledAt", NUMBER, 0 },
        [BY] = { "enrolledBy", WALLET, 0 },
    };
    struct value v[COUNT] = { 0 };
    struct decoder d = decoder_of(why);
    *out = (struct abi_version){ 0 };
    TRY(decode_struct(&d, data, fields, COUNT, v));
    *out = (struct abi_version){ .id = v[ID].number,
                                 .status = (enum auth_version_status)v[STATUS].number };
    return d.value_rc;
}

static void take_url(struct decoder *d, struct span url, struct auth_instance *out) {
    if (!span_is_utf8(url) || (url.len > 0 && memchr(url.ptr, '\0', url.len) != NULL)) {
        refuse_value(d, ERR(MALFORMED), "instanceUrl", "must be UTF-8 without NUL");
        return;
    }
    ASSERT(url.len <= AUTH_URL_BYTES_MAX);
    if (url.len > 0) {
        memcpy(out->url, url.ptr, url.len);
    }
    out->url[url.len] = '\0';
}

RC abi_decode_instance(struct span data, struct auth_instance *out, struct abi_why *why) {
    enum { ID, APP, VERSION, OPERATOR, URL, PUBKEY, TEE_WALLET, ZK, STATUS, AT, COUNT };
    static const struct field fields[COUNT] = {
        [ID] = { "id", NUMBER, 0 },
        [APP] = { "appId", NUMBER, 0 },
        [VERSION] = { "versionId", NUMBER, 0 },
        [OPERATOR] = { "operator", WALLET, 0 },
        [URL] = { "instanceUrl", STRING, AUTH_URL_BYTES_MAX },
        [PUBKEY] = { "teePubkey", BYTES, AUTH_TEE_PUBKEY_BYTES_MAX },
        [TEE_WALLET] = { "teeWalletAddress", WALLET, 0 },
        [ZK] = { "zkVerified", BOOL, 0 },
        [STATUS] = { "status", ENUM, AUTH_INSTANCE_STATUS_COUNT },
        [AT] = { "registeredAt", NUMBER, 0 },
    };
    struct value v[COUNT] = { 0 };
    struct decoder d = decoder_of(why);
    *out = (struct auth_instance){ 0 };
    TRY(decode_struct(&d, data, fields, COUNT, v));
    *out = (struct auth_instance){ .id = v[ID].number,
                                   .app_id = v[APP].number,
                                   .version_id = v[VERSION].number,
                                   .tee_pubkey_len = v[PUBKEY].bytes.len,
                                   .zk_verified = v[ZK].number == 1,
                                   .status = (enum auth_instance_status)v[STATUS].number,
                                   .registered_unix_s = v[AT].number };
    take_wallet(v[TEE_WALLET].bytes, &out->wallet);
    take_wallet(v[OPERATOR].bytes, &out->operator_wallet);
    take_url(&d, v[URL].bytes, out);
    TRY(span_copy(v[PUBKEY].bytes, out->tee_pubkey, sizeof(out->tee_pubkey)));
    return d.value_rc;
}

/* ---- Lists and single values ---- */

RC abi_decode_wallets(struct span data, struct wallet *wallets, size_t wallet_count_max,
                      size_t *wallet_count, struct abi_why *why) {
    struct reader r = { data.ptr, data.len };
    struct span word = SPAN_EMPTY;
    uint64_t count = 0;
    *why = (struct abi_why){ 0 };
    *wallet_count = 0;
    TRY(read_offset(&r, ABI_WORD_BYTES, "list", why));
    TRY(read_word(&r, "list", why, &word));
    if (!word_number(word, &count) || count != r.len / ABI_WORD_BYTES ||
        r.len % ABI_WORD_BYTES != 0) {
        return refuse(why, "list", "its length is not that of the data");
    }
    if (count > wallet_count_max) {
        why->is_value = true;
        (void)snprintf(why->text, sizeof(why->text), "list: must have at most %zu addresses",
                       wallet_count_max);
        return ERR(TOO_BIG);
    }
    for (size_t i = 0; i < count; i++) {
        struct span bytes = SPAN_EMPTY;
        TRY(read_word(&r, "list", why, &word));
        if (!word_tail(word, WALLET_BYTES, &bytes)) {
            return refuse(why, "list", "must hold addresses of 20 bytes");
        }
        take_wallet(bytes, &wallets[i]);
    }
    *wallet_count = (size_t)count;
    return OK;
}

/* One static value, and nothing else. */
static RC decode_single(struct span data, enum type type, struct value *out, struct abi_why *why) {
    const struct field field = { "value", type, 0 };
    struct decoder d = decoder_of(why);
    d.head = (struct reader){ data.ptr, data.len };
    *out = (struct value){ 0 };
    TRY(decode_field(&d, &field, out));
    TRY(read_end(&d.head, why));
    return d.value_rc;
}

RC abi_decode_word(struct span data, struct abi_word *out, struct abi_why *why) {
    struct value v;
    *out = (struct abi_word){ { 0 } };
    TRY(decode_single(data, WORD, &v, why));
    return span_copy(v.bytes, out->bytes, sizeof(out->bytes));
}

RC abi_decode_number(struct span data, uint64_t *out, struct abi_why *why) {
    struct value v;
    *out = 0;
    TRY(decode_single(data, NUMBER, &v, why));
    *out = v.number;
    return OK;
}

/* ---- Reverts ---- */

/* Those of KMSRegistry, of NovaAppRegistry's views, and of OpenZeppelin's Ownable. */
static const char *const custom_errors[] = {
    "ZeroAddress()",
    "ZeroAppId()",
    "KmsAppIdAlreadySet(uint256)",
    "KmsAppIdNotSet()",
    "NotNovaAppRegistry(address)",
    "OtherApp(uint256,uint256)",
    "ZeroHash()",
    "MasterSecretHashAlreadySet(bytes32)",
    "InstanceNotActive(address)",
    "VersionNotEnrolled(address,uint256)",
    "OwnerRequired()",
    "UnknownApp(uint256)",
    "UnknownVersion(uint256,uint256)",
    "OwnableUnauthorizedAccount(address)",
};
#define CUSTOM_ERROR_COUNT (sizeof(custom_errors) / sizeof(custom_errors[0]))

static bool has_selector(struct span data, const char *signature) {
    uint8_t selector[ABI_SELECTOR_BYTES];
    select(signature, selector);
    return span_has_prefix(data, (struct span){ selector, sizeof(selector) });
}

static void name_custom(struct span data, char text[static ABI_REVERT_TEXT_BYTES]) {
    for (size_t i = 0; i < CUSTOM_ERROR_COUNT; i++) {
        if (has_selector(data, custom_errors[i])) {
            (void)snprintf(text, ABI_REVERT_TEXT_BYTES, "%s", custom_errors[i]);
            text[strcspn(text, "(")] = '\0';
            return;
        }
    }
    char selector[HEX_TEXT_BYTES(ABI_SELECTOR_BYTES)];
    hex_encode((struct span){ data.ptr, ABI_SELECTOR_BYTES }, selector);
    (void)snprintf(text, ABI_REVERT_TEXT_BYTES, "custom error 0x%s", selector);
}

/* Error(string)'s argument: the encoding of a struct with one string. */
static bool name_string(struct span args, char text[static ABI_REVERT_TEXT_BYTES]) {
    const struct field field = { "reason", STRING, 0 };
    struct abi_why why;
    struct decoder d = decoder_of(&why);
    struct reader all = { args.ptr, args.len };
    struct span head = SPAN_EMPTY;
    struct span reason = SPAN_EMPTY;
    if (read_span(&all, ABI_WORD_BYTES, &head).err != E_OK) {
        return false;
    }
    d.head = (struct reader){ head.ptr, head.len };
    d.tail = all;
    d.tail_offset = ABI_WORD_BYTES;
    if (decode_dynamic(&d, &field, &reason).err != E_OK) {
        return false;
    }
    char escaped[ABI_REVERT_TEXT_BYTES - 2];
    (void)snprintf(text, ABI_REVERT_TEXT_BYTES, "\"%s\"",
                   registry_escape(reason, escaped, sizeof(escaped)));
    return true;
}

const char *abi_revert_text(struct span data, char text[static ABI_REVERT_TEXT_BYTES]) {
    if (data.len < ABI_SELECTOR_BYTES) {
        (void)snprintf(text, ABI_REVERT_TEXT_BYTES, "no reason given");
        return text;
    }
    struct span args = { data.ptr + ABI_SELECTOR_BYTES, data.len - ABI_SELECTOR_BYTES };
    struct abi_why why;
    uint64_t code = 0;
    if (has_selector(data, "Error(string)") && name_string(args, text)) {
        return text;
    }
    if (has_selector(data, "Panic(uint256)") && abi_decode_number(args, &code, &why).err == E_OK) {
        (void)snprintf(text, ABI_REVERT_TEXT_BYTES, "panic 0x%llx", (unsigned long long)code);
        return text;
    }
    name_custom(data, text);
    return text;
}
