/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "registry/file.h"
#include "registry/file_parse.h"

#define KMS_VERSION_ID 1
#define APP_VERSION_ID 2

static void close_json(json_t **json) {
    json_decref(*json);
}

static void free_text(char **text) {
    free(*text);
}

/* An id as a number where JSON's reader takes it, else as a string. */
static json_t *id_json(uint64_t id) {
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
    return id <= INT64_MAX ? json_integer((json_int_t)id) : json_string(text);
}

static json_t *app_json(uint64_t app_id, int version_id) {
    return json_pack("{s:o, s:s, s:i}", "id", id_json(app_id), "status", "ACTIVE",
                     "latestVersionId", version_id);
}

static json_t *version_json(uint64_t app_id, int version_id) {
    return json_pack("{s:i, s:o, s:s, s:s}", "id", version_id, "appId", id_json(app_id),
                     "versionName", "dev", "status", "ENROLLED");
}

static json_t *instance_json(uint64_t app_id, int version_id, const struct wallet *wallet,
                             const char *url) {
    char text[WALLET_TEXT_BYTES];
    return json_pack("{s:i, s:o, s:i, s:s, s:s, s:b, s:s}", "id", version_id, "appId",
                     id_json(app_id), "versionId", version_id, "instanceUrl", url,
                     "teeWalletAddress", wallet_format(wallet, text), "zkVerified", 1, "status",
                     "ACTIVE");
}

/* Gives the file's text, NULL when memory is out or the URL is not UTF-8. */
static char *seed_text(const struct registry_file_seed *seed) {
    AUTO(close_json)
    json_t *root = json_pack(
        "{s:o, s:[o, o], s:[o, o], s:[o, o]}", "kms_app_id", id_json(seed->kms_app_id), "apps",
        app_json(seed->kms_app_id, KMS_VERSION_ID), app_json(seed->app_id, APP_VERSION_ID),
        "versions", version_json(seed->kms_app_id, KMS_VERSION_ID),
        version_json(seed->app_id, APP_VERSION_ID), "instances",
        instance_json(seed->kms_app_id, KMS_VERSION_ID, &seed->node_wallet, seed->node_url),
        instance_json(seed->app_id, APP_VERSION_ID, &seed->app_wallet, ""));
    return root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
}

static RC write_all(int fd, struct span text) {
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        ENSURE(n > 0, IO);
        text = (struct span){ text.ptr + n, text.len - (size_t)n };
    }
    return OK;
}

static RC write_new(int fd, struct span text) {
    TRY(write_all(fd, text));
    TRY(write_all(fd, SPAN_LIT("\n")));
    ENSURE(fsync(fd) == 0, IO);
    return OK;
}

/* Writes beside path and links it there: link, unlike rename, never replaces a file. */
static RC install(const char *path, struct span text) {
    char temp[PATH_MAX];
    int len = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    ENSURE(len > 0 && (size_t)len < sizeof(temp), TOO_BIG);
    int fd = mkostemp(temp, O_CLOEXEC); /* Mode 0600. */
    ENSURE(fd >= 0, IO);
    struct rc rc = write_new(fd, text);
    if (close(fd) != 0 && rc.err == E_OK) {
        rc = ERR(IO);
    }
    if (rc.err == E_OK && link(temp, path) != 0) {
        rc = errno == EEXIST ? ERR(EXISTS) : ERR(IO);
    }
    int cause = errno;
    (void)unlink(temp);
    errno = cause;
    return rc;
}

RC registry_file_create(const char *path, const struct registry_file_seed *seed,
                        char reason[static REGISTRY_REASON_BYTES]) {
    reason[0] = '\0';
    AUTO(free_text) char *text = seed_text(seed);
    struct registry_file_data data = { 0 };
    if (text == NULL || registry_file_parse(span_str(text), &data, reason).err != E_OK) {
        return ERR(INVALID);
    }
    registry_file_data_close(&data);
    struct rc rc = install(path, span_str(text));
    if (rc.err != E_OK) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "registry file %.100s: %s", path,
                       rc.err == E_EXISTS ? "is already there" : "cannot be written");
    }
    return rc;
}
