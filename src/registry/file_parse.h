/* SPDX-License-Identifier: Apache-2.0 */
/* The registry file's content (form: file.h), checked and indexed. Any thread, one owner. */
#pragma once

#include "base/bytes.h"
#include "registry/registry.h"

struct registry_file_key;

/* Sorted keys to places in an array. */
struct registry_file_index {
    struct registry_file_key *keys;
    size_t count;
};

/* What an app, a version or an instance holds; app_id and version_id of apps and versions are
 * their own ids. */
struct registry_file_record {
    struct auth_instance instance;
    uint64_t latest_version_id;
    uint32_t status; /* The number of the name, in the enum of its kind. */
};

struct registry_file_records {
    struct registry_file_record *at;
    size_t count;
};

/* Embedded; zero is closed. */
struct registry_file_data {
    uint64_t kms_app_id;
    struct registry_file_records apps;
    struct registry_file_records versions;
    struct registry_file_records instances;
    struct registry_file_index app_by_id;
    struct registry_file_index version_by_id;
    struct registry_file_index instance_by_id;
    struct registry_file_index instance_by_wallet;
};

/* Reads text, complete or not at all. TOO_BIG, MALFORMED with place, field and what is allowed in
 * reason; NOMEM. */
RC registry_file_parse(struct span text, struct registry_file_data *out,
                       char reason[static REGISTRY_REASON_BYTES]);
/* Frees. Accepts zeroed and closed data. */
void registry_file_data_close(struct registry_file_data *data);

/* found false when the wallet has no instance. Leaves as_of_mono_ms. */
void registry_file_find(const struct registry_file_data *data, const struct wallet *wallet,
                        struct auth_facts *out);
/* The facts of the idx-th instance by id. Leaves as_of_mono_ms. */
void registry_file_instance_at(const struct registry_file_data *data, size_t idx,
                               struct auth_facts *out);
