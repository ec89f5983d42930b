/* SPDX-License-Identifier: Apache-2.0 */
#include "registry/url.h"

#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

struct parts {
    CURLU *url;
    char *scheme;
    char *host;
    char *port;
    char *path;
};

static void parts_close(struct parts *parts) {
    curl_free(parts->scheme);
    curl_free(parts->host);
    curl_free(parts->port);
    curl_free(parts->path);
    curl_url_cleanup(parts->url);
}

static RC take(struct parts *parts, CURLUPart part, unsigned flags, char **out) {
    CURLUcode code = curl_url_get(parts->url, part, out, flags);
    ENSURE(code != CURLUE_OUT_OF_MEMORY, NOMEM);
    ENSURE(code == CURLUE_OK, MALFORMED);
    return OK;
}

static void lower(char *text) {
    for (; *text != '\0'; text++) {
        if (*text >= 'A' && *text <= 'Z') {
            *text = (char)(*text - 'A' + 'a');
        }
    }
}

static RC split(const char *url, struct parts *parts) {
    parts->url = curl_url();
    ENSURE(parts->url != NULL, NOMEM);
    CURLUcode code = curl_url_set(parts->url, CURLUPART_URL, url, 0);
    ENSURE(code != CURLUE_OUT_OF_MEMORY, NOMEM);
    ENSURE(code == CURLUE_OK, MALFORMED);
    TRY(take(parts, CURLUPART_SCHEME, 0, &parts->scheme));
    TRY(take(parts, CURLUPART_HOST, 0, &parts->host));
    TRY(take(parts, CURLUPART_PORT, CURLU_DEFAULT_PORT, &parts->port));
    TRY(take(parts, CURLUPART_PATH, 0, &parts->path));
    lower(parts->scheme);
    lower(parts->host);
    return OK;
}

RC registry_url_normalize(const char *url, char out[static REGISTRY_URL_BYTES]) {
    AUTO(parts_close) struct parts parts = { 0 };
    out[0] = '\0';
    ENSURE(strlen(url) <= AUTH_URL_BYTES_MAX, MALFORMED);
    TRY(split(url, &parts));
    ENSURE(strcmp(parts.scheme, "https") == 0 || strcmp(parts.scheme, "http") == 0, MALFORMED);
    size_t path_len = strlen(parts.path);
    if (path_len > 0 && parts.path[path_len - 1] == '/') {
        parts.path[path_len - 1] = '\0';
    }
    int len = snprintf(out, REGISTRY_URL_BYTES, "%s://%s:%s%s", parts.scheme, parts.host,
                       parts.port, parts.path);
    if (len < 0 || len >= REGISTRY_URL_BYTES) {
        out[0] = '\0';
        return ERR(MALFORMED);
    }
    return OK;
}

RC registry_url_target(const char *url, char out[static REGISTRY_TARGET_BYTES]) {
    AUTO(parts_close) struct parts parts = { 0 };
    out[0] = '\0';
    ENSURE(strlen(url) <= AUTH_URL_BYTES_MAX, MALFORMED);
    /* A user, a query and a fragment, also empty ones, over which libcurl's versions differ. */
    ENSURE(strpbrk(url, "@?#") == NULL, MALFORMED);
    TRY(split(url, &parts));
    ENSURE(strcmp(parts.scheme, "https") == 0 && strcmp(parts.path, "/") == 0, MALFORMED);
    int len = snprintf(out, REGISTRY_TARGET_BYTES, "%s:%s", parts.host, parts.port);
    if (len < 0 || len >= REGISTRY_TARGET_BYTES) {
        out[0] = '\0';
        return ERR(MALFORMED);
    }
    return OK;
}

bool registry_url_equal(const char *a, const char *b) {
    char a_norm[REGISTRY_URL_BYTES];
    char b_norm[REGISTRY_URL_BYTES];
    bool a_is_url = registry_url_normalize(a, a_norm).err == E_OK;
    bool b_is_url = registry_url_normalize(b, b_norm).err == E_OK;
    if (a_is_url != b_is_url) {
        return false;
    }
    return a_is_url ? strcmp(a_norm, b_norm) == 0 : strcmp(a, b) == 0;
}
