/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/file_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"
#include "base/json.h"
#include "registry/file.h"

/* Room for "instances[100000].teeWalletAddress". */
#define PLACE_BYTES 64
/* Room for the longest field name and ": ". */
#define FIELD_BYTES 24

enum kind {
    KIND_ID,      /* 1 to 2^64-1. */
    KIND_U64,     /* 0 to 2^64-1. */
    KIND_STATUS,  /* A name of the table's enum. */
    KIND_WALLET,  /* Not zero. */
    KIND_ADDRESS, /* Zero allowed. */
    KIND_BYTES32, /* 0x and 64 hex digits. */
    KIND_TEXT,    /* Any string. */
    KIND_URL,     /* Up to AUTH_URL_BYTES_MAX, no control characters. */
    KIND_TEE_KEY, /* 0x and hex. */
    KIND_BOOL,
    KIND_ARRAY, /* Read by itself. */
};

#define NOWHERE SIZE_MAX /* Checked, not kept. */
#define AT(field) offsetof(struct registry_file_record, field)

struct field {
    const char *name;
    enum kind kind;
    bool required;
    size_t offset; /* In struct registry_file_record, or NOWHERE. */
};

struct table {
    const char *name;
    const struct field *fields;
    size_t field_count;
    const char *const *status_names;
    size_t status_count;
};

static const struct field root_fields[] = {
    { "kms_app_id", KIND_ID, true, AT(instance.app_id) },
    { "apps", KIND_ARRAY, true, NOWHERE },
    { "versions", KIND_ARRAY, true, NOWHERE },
    { "instances", KIND_ARRAY, true, NOWHERE },
};

static const struct field app_fields[] = {
    { "id", KIND_ID, true, AT(instance.app_id) },
    { "status", KIND_STATUS, true, AT(status) },
    { "latestVersionId", KIND_U64, false, AT(latest_version_id) },
    { "owner", KIND_ADDRESS, false, NOWHERE },
    { "teeArch", KIND_BYTES32, false, NOWHERE },
    { "dappContract", KIND_ADDRESS, false, NOWHERE },
    { "metadataUri", KIND_TEXT, false, NOWHERE },
    { "createdAt", KIND_U64, false, NOWHERE },
    { "appWallet", KIND_ADDRESS, false, NOWHERE },
};

static const struct field version_fields[] = {
    { "id", KIND_ID, true, AT(instance.version_id) },
    { "appId", KIND_ID, true, AT(instance.app_id) },
    { "status", KIND_STATUS, true, AT(status) },
    { "versionName", KIND_TEXT, false, NOWHERE },
    { "codeMeasurement", KIND_BYTES32, false, NOWHERE },
    { "imageUri", KIND_TEXT, false, NOWHERE },
    { "auditUrl", KIND_TEXT, false, NOWHERE },
    { "auditHash", KIND_TEXT, false, NOWHERE },
    { "githubRunId", KIND_TEXT, false, NOWHERE },
    { "enrolledAt", KIND_U64, false, NOWHERE },
    { "enrolledBy", KIND_ADDRESS, false, NOWHERE },
};

static const struct field instance_fields[] = {
    { "id", KIND_ID, true, AT(instance.id) },
    { "appId", KIND_ID, true, AT(instance.app_id) },
    { "versionId", KIND_ID, true, AT(instance.version_id) },
    { "teeWalletAddress", KIND_WALLET, true, AT(instance.wallet) },
    { "zkVerified", KIND_BOOL, true, AT(instance.zk_verified) },
    { "status", KIND_STATUS, true, AT(status) },
    { "operator", KIND_ADDRESS, false, AT(instance.operator_wallet) },
    { "instanceUrl", KIND_URL, false, AT(instance.url) },
    { "teePubkey", KIND_TEE_KEY, false, AT(instance.tee_pubkey) },
    { "registeredAt", KIND_U64, false, AT(instance.registered_unix_s) },
};

#define STATUS_NAME(name) #name,
static const char *const app_statuses[] = { AUTH_APP_STATUS_MAP(STATUS_NAME) };
static const char *const version_statuses[] = { AUTH_VERSION_STATUS_MAP(STATUS_NAME) };
static const char *const instance_statuses[] = { AUTH_INSTANCE_STATUS_MAP(STATUS_NAME) };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
static const struct table root_table = { NULL, root_fields, COUNT(root_fields), NULL, 0 };
static const struct table app_table = { "apps", app_fields, COUNT(app_fields), app_statuses,
                                        COUNT(app_statuses) };
static const struct table version_table = { "versions", version_fields, COUNT(version_fields),
                                            version_statuses, COUNT(version_statuses) };
static const struct table instance_table = { "instances", instance_fields, COUNT(instance_fields),
                                             instance_statuses, COUNT(instance_statuses) };

/* Where in the file the parser is, for the error's sentence. */
struct place {
    const char *table; /* NULL: the file's own object. */
    size_t idx;
    const char *field; /* NULL: the object itself. */
    char *reason;
};

#define REFUSE(place, name, ...)    \
    do {                            \
        refuse(place, __VA_ARGS__); \
        return ERR(name);           \
    } while (0)

__attribute__((format(printf, 2, 3))) static void refuse(const struct place *place,
                                                         const char *format, ...) {
    char text[REGISTRY_REASON_BYTES - PLACE_BYTES - FIELD_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    char at[PLACE_BYTES] = "";
    if (place->table != NULL) {
        (void)snprintf(at, sizeof(at), "%s[%zu]%s", place->table, place->idx,
                       place->field != NULL ? "." : "");
    }
    (void)snprintf(place->reason, REGISTRY_REASON_BYTES, "%s%.20s%s%s", at,
                   place->field != NULL ? place->field : "",
                   place->table != NULL || place->field != NULL ? ": " : "", text);
}

static struct span json_span(const json_t *value) {
    return (struct span){ (const uint8_t *)json_string_value(value), json_string_length(value) };
}

static RC read_u64_value(const json_t *value, const struct place *place, uint64_t min,
                         uint64_t *out) {
    bool is_number = false;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        is_number = true;
    } else if (json_is_string(value)) {
        is_number = bytes_parse_decimal(json_span(value), UINT64_MAX, out).err == E_OK;
    }
    if (!is_number || *out < min) {
        REFUSE(place, MALFORMED, "must be an integer or a decimal string from %llu to 2^64-1",
               (unsigned long long)min);
    }
    return OK;
}

static RC read_status(const json_t *value, const struct table *table, const struct place *place,
                      uint32_t *out) {
    for (uint32_t i = 0; json_is_string(value) && i < table->status_count; i++) {
        if (span_equal(json_span(value), span_str(table->status_names[i]))) {
            *out = i;
            return OK;
        }
    }
    ASSERT(table->status_count == 3); /* As every table with a status has. */
    REFUSE(place, MALFORMED, "must be \"%s\", \"%s\" or \"%s\"", table->status_names[0],
           table->status_names[1], table->status_names[2]);
}

static RC read_address(const json_t *value, const struct place *place, struct wallet *out) {
    if (!json_is_string(value) || wallet_parse(json_span(value), out).err != E_OK) {
        REFUSE(place, MALFORMED, "must be an address: 0x and 40 hex digits");
    }
    return OK;
}

static RC read_wallet(const json_t *value, const struct place *place, struct wallet *out) {
    TRY(read_address(value, place, out));
    if (wallet_is_zero(out)) {
        REFUSE(place, MALFORMED, "must not be the zero address");
    }
    return OK;
}

static RC read_bytes32(const json_t *value, const struct place *place) {
    uint8_t bytes[32];
    if (!json_is_string(value) || !span_has_prefix(json_span(value), SPAN_LIT("0x")) ||
        hex_decode(json_span(value), bytes, sizeof(bytes)).err != E_OK) {
        REFUSE(place, MALFORMED, "must be 0x and 64 hex digits");
    }
    return OK;
}

static RC read_text(const json_t *value, const struct place *place) {
    if (!json_is_string(value)) {
        REFUSE(place, MALFORMED, "must be a string");
    }
    return OK;
}

static bool has_control(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < 0x20 || text.ptr[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

static RC read_url(const json_t *value, const struct place *place, char *out) {
    if (!json_is_string(value) || json_string_length(value) > AUTH_URL_BYTES_MAX ||
        has_control(json_span(value))) {
        REFUSE(place, MALFORMED, "must be a string of at most %d bytes without control characters",
               AUTH_URL_BYTES_MAX);
    }
    TRY(span_copy(json_span(value), (uint8_t *)out, AUTH_URL_BYTES_MAX));
    out[json_string_length(value)] = '\0';
    return OK;
}

static RC read_tee_key(const json_t *value, const struct place *place, struct auth_instance *out) {
    struct span text = json_is_string(value) ? json_span(value) : SPAN_EMPTY;
    size_t len = text.len / 2 - (text.len >= 2 ? 1 : 0);
    if (!span_has_prefix(text, SPAN_LIT("0x")) || len > AUTH_TEE_PUBKEY_BYTES_MAX ||
        hex_decode(text, out->tee_pubkey, len).err != E_OK) {
        REFUSE(place, MALFORMED, "must be 0x and an even number of hex digits, at most %d bytes",
               AUTH_TEE_PUBKEY_BYTES_MAX);
    }
    out->tee_pubkey_len = len;
    return OK;
}

static RC read_bool(const json_t *value, const struct place *place, bool *out) {
    if (!json_is_boolean(value)) {
        REFUSE(place, MALFORMED, "must be true or false");
    }
    *out = json_is_true(value);
    return OK;
}

static RC read_array(const json_t *value, const struct place *place) {
    if (!json_is_array(value)) {
        REFUSE(place, MALFORMED, "must be an array");
    }
    return OK;
}

/* Decodes into record, or into a scratch record for fields that are only checked. */
static RC read_field(const json_t *value, const struct table *table, const struct field *field,
                     const struct place *place, struct registry_file_record *record) {
    struct registry_file_record scratch = { 0 };
    bool is_kept = field->offset != NOWHERE;
    uint8_t *base = (uint8_t *)(is_kept ? record : &scratch);
    void *at = base + (is_kept ? field->offset : 0);
    switch (field->kind) {
    case KIND_ID:
        return read_u64_value(value, place, 1, at);
    case KIND_U64:
        return read_u64_value(value, place, 0, at);
    case KIND_STATUS:
        return read_status(value, table, place, at);
    case KIND_WALLET:
        return read_wallet(value, place, at);
    case KIND_ADDRESS:
        return read_address(value, place, at);
    case KIND_BYTES32:
        return read_bytes32(value, place);
    case KIND_TEXT:
        return read_text(value, place);
    case KIND_URL:
        return read_url(value, place, at);
    case KIND_TEE_KEY:
        return read_tee_key(value, place, &record->instance);
    case KIND_BOOL:
        return read_bool(value, place, at);
    case KIND_ARRAY:
        return read_array(value, place);
    }
    return ERR(MALFORMED);
}

static RC refuse_unknown_keys(json_t *object, const struct table *table, struct place *place) {
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        bool is_known = false;
        for (size_t i = 0; i < table->field_count && !is_known; i++) {
            is_known = span_equal(span_str(key), span_str(table->fields[i].name));
        }
        if (!is_known) {
            REFUSE(place, MALFORMED, "has an unknown field \"%.32s\"", key);
        }
    }
    return OK;
}

static RC read_record(json_t *object, const struct table *table, struct place *place,
                      struct registry_file_record *record) {
    place->field = NULL;
    if (!json_is_object(object)) {
        REFUSE(place, MALFORMED, "must be an object");
    }
    TRY(refuse_unknown_keys(object, table, place));
    for (size_t i = 0; i < table->field_count; i++) {
        const struct field *field = &table->fields[i];
        const json_t *value = json_object_get(object, field->name);
        place->field = field->name;
        if (value != NULL) {
            TRY(read_field(value, table, field, place, record));
        } else if (field->required) {
            REFUSE(place, MALFORMED, "is missing");
        }
    }
    return OK;
}

static RC read_records(const json_t *root, const struct table *table,
                       struct registry_file_records *out, char *reason) {
    json_t *array = json_object_get(root, table->name); /* Seen by the root's table. */
    size_t count = json_array_size(array);
    out->at = calloc(count > 0 ? count : 1, sizeof(*out->at));
    ENSURE(out->at != NULL, NOMEM);
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        struct place place = { .table = table->name, .idx = i, .reason = reason };
        TRY(read_record(json_array_get(array, i), table, &place, &out->at[i]));
    }
    return OK;
}

/* ---- Indexes ---- */

struct registry_file_key {
    struct wallet bytes; /* A wallet, or two big-endian ids and zeros. */
    uint32_t idx;        /* In the array, which is bounded by the file's size. */
};

static struct registry_file_key key_of_ids(uint64_t a, uint64_t b) {
    struct registry_file_key key = { 0 };
    for (unsigned i = 0; i < 8; i++) {
        key.bytes.bytes[i] = (uint8_t)(a >> (56 - 8 * i));
        key.bytes.bytes[8 + i] = (uint8_t)(b >> (56 - 8 * i));
    }
    return key;
}

static struct registry_file_key key_of_app(const struct registry_file_record *record) {
    return key_of_ids(record->instance.app_id, 0);
}

static struct registry_file_key key_of_version(const struct registry_file_record *record) {
    return key_of_ids(record->instance.app_id, record->instance.version_id);
}

static struct registry_file_key key_of_instance(const struct registry_file_record *record) {
    return key_of_ids(record->instance.id, 0);
}

static struct registry_file_key key_of_wallet(const struct registry_file_record *record) {
    return (struct registry_file_key){ .bytes = record->instance.wallet };
}

static int compare_bytes(const void *a, const void *b) {
    const struct registry_file_key *ka = a;
    const struct registry_file_key *kb = b;
    return span_compare(wallet_span(&ka->bytes), wallet_span(&kb->bytes));
}

/* Also by place, so that the later of two equal ones is the one refused. */
static int compare_keys(const void *a, const void *b) {
    const struct registry_file_key *ka = a;
    const struct registry_file_key *kb = b;
    int order = compare_bytes(a, b);
    return order != 0 ? order : (ka->idx > kb->idx) - (ka->idx < kb->idx);
}

struct index_plan {
    const struct registry_file_records *records;
    struct registry_file_key (*key_of)(const struct registry_file_record *record);
    const char *table;
    const char *field;
};

static RC index_init(struct registry_file_index *index, const struct index_plan *plan,
                     char *reason) {
    size_t count = plan->records->count;
    index->keys = calloc(count > 0 ? count : 1, sizeof(*index->keys));
    ENSURE(index->keys != NULL, NOMEM);
    index->count = count;
    for (size_t i = 0; i < count; i++) {
        index->keys[i] = plan->key_of(&plan->records->at[i]);
        index->keys[i].idx = (uint32_t)i;
    }
    qsort(index->keys, count, sizeof(*index->keys), compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (compare_bytes(&index->keys[i - 1], &index->keys[i]) == 0) {
            struct place place = { plan->table, index->keys[i].idx, plan->field, reason };
            REFUSE(&place, MALFORMED, "is the same as in %s[%u]", plan->table,
                   index->keys[i - 1].idx);
        }
    }
    return OK;
}

static const struct registry_file_record *index_find(const struct registry_file_index *index,
                                                     const struct registry_file_records *records,
                                                     struct registry_file_key key) {
    const struct registry_file_key *hit =
        bsearch(&key, index->keys, index->count, sizeof(key), compare_bytes);
    return hit != NULL ? &records->at[hit->idx] : NULL;
}

static const struct registry_file_record *find_app(const struct registry_file_data *data,
                                                   uint64_t app_id) {
    return index_find(&data->app_by_id, &data->apps, key_of_ids(app_id, 0));
}

static const struct registry_file_record *find_version(const struct registry_file_data *data,
                                                       uint64_t app_id, uint64_t version_id) {
    return index_find(&data->version_by_id, &data->versions, key_of_ids(app_id, version_id));
}

static RC build_indexes(struct registry_file_data *data, char *reason) {
    const struct index_plan apps = { &data->apps, key_of_app, "apps", "id" };
    const struct index_plan versions = { &data->versions, key_of_version, "versions", "id" };
    const struct index_plan ids = { &data->instances, key_of_instance, "instances", "id" };
    const struct index_plan wallets = { &data->instances, key_of_wallet, "instances",
                                        "teeWalletAddress" };
    TRY(index_init(&data->app_by_id, &apps, reason));
    TRY(index_init(&data->version_by_id, &versions, reason));
    TRY(index_init(&data->instance_by_id, &ids, reason));
    return index_init(&data->instance_by_wallet, &wallets, reason);
}

/* ---- References ---- */

static RC check_app_id(const struct registry_file_data *data, struct place *place,
                       const struct registry_file_record *record) {
    if (find_app(data, record->instance.app_id) == NULL) {
        place->field = "appId";
        REFUSE(place, MALFORMED, "no app has id %llu", (unsigned long long)record->instance.app_id);
    }
    return OK;
}

static RC check_version_id(const struct registry_file_data *data, struct place *place,
                           uint64_t app_id, uint64_t version_id) {
    if (find_version(data, app_id, version_id) == NULL) {
        REFUSE(place, MALFORMED, "app %llu has no version %llu", (unsigned long long)app_id,
               (unsigned long long)version_id);
    }
    return OK;
}

static RC check_references(const struct registry_file_data *data, char *reason) {
    for (size_t i = 0; i < data->apps.count; i++) {
        const struct registry_file_record *app = &data->apps.at[i];
        struct place place = { "apps", i, "latestVersionId", reason };
        if (app->latest_version_id != 0) {
            TRY(check_version_id(data, &place, app->instance.app_id, app->latest_version_id));
        }
    }
    for (size_t i = 0; i < data->versions.count; i++) {
        struct place place = { "versions", i, NULL, reason };
        TRY(check_app_id(data, &place, &data->versions.at[i]));
    }
    for (size_t i = 0; i < data->instances.count; i++) {
        const struct auth_instance *instance = &data->instances.at[i].instance;
        struct place place = { "instances", i, NULL, reason };
        TRY(check_app_id(data, &place, &data->instances.at[i]));
        place.field = "versionId";
        TRY(check_version_id(data, &place, instance->app_id, instance->version_id));
    }
    if (find_app(data, data->kms_app_id) == NULL) {
        struct place place = { NULL, 0, "kms_app_id", reason };
        REFUSE(&place, MALFORMED, "no app has id %llu", (unsigned long long)data->kms_app_id);
    }
    return OK;
}

/* ---- The whole ---- */

static RC read_root(json_t *root, struct registry_file_data *data, char *reason) {
    struct place place = { .reason = reason };
    struct registry_file_record record = { 0 };
    TRY(read_record(root, &root_table, &place, &record));
    data->kms_app_id = record.instance.app_id;
    TRY(read_records(root, &app_table, &data->apps, reason));
    TRY(read_records(root, &version_table, &data->versions, reason));
    TRY(read_records(root, &instance_table, &data->instances, reason));
    TRY(build_indexes(data, reason));
    return check_references(data, reason);
}

static void close_json(json_t **root) {
    json_decref(*root);
}

static RC parse_text(struct span text, json_t **out, char *reason) {
    char error[JSON_ERROR_BYTES] = "";
    struct rc rc = json_parse(text, REGISTRY_FILE_BYTES_MAX, out, error);
    if (rc.err == E_TOO_BIG) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "must have at most %u bytes, nested at most %d deep",
                       REGISTRY_FILE_BYTES_MAX, JSON_DEPTH_MAX);
    } else if (rc.err != E_OK) {
        bool is_big = strstr(error, "too big integer") != NULL;
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%.150s%s", error,
                       is_big ? "; ids above 2^63-1 are written as strings" : "");
    }
    return rc;
}

RC registry_file_parse(struct span text, struct registry_file_data *out,
                       char reason[static REGISTRY_REASON_BYTES]) {
    *out = (struct registry_file_data){ 0 };
    reason[0] = '\0';
    AUTO(close_json) json_t *root = NULL;
    TRY(parse_text(text, &root, reason));
    struct rc rc = read_root(root, out, reason);
    if (rc.err != E_OK) {
        registry_file_data_close(out);
    }
    if (rc.err == E_NOMEM) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%s", err_text(E_NOMEM));
    }
    return rc;
}

void registry_file_data_close(struct registry_file_data *data) {
    free(data->apps.at);
    free(data->versions.at);
    free(data->instances.at);
    free(data->app_by_id.keys);
    free(data->version_by_id.keys);
    free(data->instance_by_id.keys);
    free(data->instance_by_wallet.keys);
    *data = (struct registry_file_data){ 0 };
}

static void fill_facts(const struct registry_file_data *data,
                       const struct registry_file_record *record, struct auth_facts *out) {
    const struct auth_instance *instance = &record->instance;
    out->found = true;
    out->instance = *instance;
    out->instance.status = (enum auth_instance_status)record->status;
    const struct registry_file_record *app = find_app(data, instance->app_id);
    const struct registry_file_record *version =
        find_version(data, instance->app_id, instance->version_id);
    ASSERT(app != NULL); /* Both are there: check_references has seen them. */
    ASSERT(version != NULL);
    out->app_status = (enum auth_app_status)app->status;
    out->version_status = (enum auth_version_status)version->status;
}

void registry_file_find(const struct registry_file_data *data, const struct wallet *wallet,
                        struct auth_facts *out) {
    const struct registry_file_key key = { .bytes = *wallet };
    const struct registry_file_record *record =
        index_find(&data->instance_by_wallet, &data->instances, key);
    out->found = false;
    if (record != NULL) {
        fill_facts(data, record, out);
    }
}

void registry_file_instance_at(const struct registry_file_data *data, size_t idx,
                               struct auth_facts *out) {
    ASSERT(idx < data->instance_by_id.count);
    fill_facts(data, &data->instances.at[data->instance_by_id.keys[idx].idx], out);
}
