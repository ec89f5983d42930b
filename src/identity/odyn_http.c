/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/odyn_http.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "crypto/random.h"

#define URL_BYTES 256
#define BACKOFF_MS_MAX 2000
/* How long curl_multi_poll may wait; curl's own timers end it earlier. */
#define POLL_MS 1000
#define SNIPPET_BYTES_MAX 80

struct odyn_http {
    CURLM *multi;
    char base_url[URL_BYTES];
    struct identity_odyn_cfg cfg;
    /* Answers hold secrets. curl's own buffers cannot be reached to wipe them: they are freed after
     * each call, in memory that secret_harden_process locked and keeps out of core dumps. */
    struct secret answer;
    size_t answer_len;
    bool too_big;
    atomic_bool cancelled;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static bool curl_ready;

static void start_curl(void) {
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

static void free_text(char **text) {
    curl_free(*text);
}

static void free_url(CURLU **url) {
    curl_url_cleanup(*url);
}

static bool is_loopback(const char *host) {
    return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "[::1]") == 0 ||
           strcmp(host, "localhost") == 0;
}

/* Whether url has this part, other than the "/" that every URL has as its path. */
static bool has_part(CURLU *url, CURLUPart part) {
    AUTO(free_text) char *text = NULL;
    return curl_url_get(url, part, &text, 0) == CURLUE_OK && strcmp(text, "/") != 0;
}

static bool url_is_allowed(const char *text) {
    AUTO(free_url) CURLU *url = curl_url();
    if (url == NULL || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK) {
        return false;
    }
    AUTO(free_text) char *scheme = NULL;
    AUTO(free_text) char *host = NULL;
    if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK) {
        return false;
    }
    return strcmp(scheme, "http") == 0 && is_loopback(host) && !has_part(url, CURLUPART_PATH) &&
           !has_part(url, CURLUPART_QUERY) && !has_part(url, CURLUPART_FRAGMENT) &&
           !has_part(url, CURLUPART_USER) && !has_part(url, CURLUPART_PASSWORD);
}

/* Without a "/" at the end, because paths begin with one. */
static RC copy_url(struct odyn_http *http, const char *text, struct status *why) {
    size_t len = strlen(text);
    if (len >= URL_BYTES || !url_is_allowed(text)) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "Odyn's URL must be http:// and 127.0.0.1, [::1] or localhost, with a port and "
                   "without a path.");
        return ERR(BAD_CONFIG);
    }
    len -= text[len - 1] == '/' ? 1 : 0;
    memcpy(http->base_url, text, len);
    return OK;
}

static RC start(struct odyn_http *http, const struct identity_odyn_cfg *cfg, struct status *why) {
    http->cfg = *cfg;
    TRY(copy_url(http, cfg->base_url, why));
    http->cfg.base_url = http->base_url;
    TRY(secret_init(&http->answer, ODYN_ANSWER_BYTES_MAX));
    http->multi = curl_multi_init();
    ENSURE(http->multi != NULL, NOMEM);
    return OK;
}

RC odyn_http_init(struct odyn_http **out, const struct identity_odyn_cfg *cfg, struct status *why) {
    *out = NULL;
    ENSURE(pthread_once(&curl_once, start_curl) == 0 && curl_ready, NOMEM);
    AUTO(odyn_http_close) struct odyn_http *http = calloc(1, sizeof(*http));
    ENSURE(http != NULL, NOMEM);
    TRY(start(http, cfg, why));
    *out = http;
    http = NULL;
    return OK;
}

void odyn_http_close(struct odyn_http **http) {
    if (*http == NULL) {
        return;
    }
    if ((*http)->multi != NULL) {
        (void)curl_multi_cleanup((*http)->multi);
    }
    secret_close(&(*http)->answer);
    free(*http);
    *http = NULL;
}

void odyn_http_cancel(struct odyn_http *http) {
    atomic_store(&http->cancelled, true);
    (void)curl_multi_wakeup(http->multi);
}

void odyn_http_forget(struct odyn_http *http) {
    secret_wipe(http->answer.ptr, http->answer_len);
    http->answer_len = 0;
    http->too_big = false;
}

static size_t receive_cb(char *data, size_t size, size_t count, void *ctx) {
    struct odyn_http *http = ctx;
    const struct span in = { (const uint8_t *)data, size * count };
    struct rc rc =
        span_copy(in, http->answer.ptr + http->answer_len, http->answer.len - http->answer_len);
    if (rc.err != E_OK) {
        http->too_big = true;
        return 0;
    }
    http->answer_len += in.len;
    return in.len;
}

/* What one attempt came to. */
struct outcome {
    CURLcode code;
    long status; /* 0 without an answer. */
    bool connected;
};

struct request {
    CURL *easy;
    struct curl_slist *headers;
};

static void close_request(struct request *request) {
    curl_easy_cleanup(request->easy);
    curl_slist_free_all(request->headers);
}

static RC set_body(struct request *request, struct span body) {
    CURL *easy = request->easy;
    if (body.len == 0) {
        return OK;
    }
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    ENSURE(list != NULL, NOMEM);
    request->headers = list;
    /* Empty: curl would wait for the server's leave to send a long body. */
    ENSURE(curl_slist_append(list, "Expect:") != NULL, NOMEM);
    bool ok = curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)body.len) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.ptr) == CURLE_OK && /* Lent. */
              curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list) == CURLE_OK;
    ENSURE(ok, NOMEM);
    return OK;
}

/* No proxy, no redirects, and no connection kept: a kept one would let curl repeat a POST by
 * itself. */
static RC set_options(struct odyn_http *http, const struct odyn_call *call,
                      struct request *request) {
    char url[2 * URL_BYTES];
    int len = snprintf(url, sizeof(url), "%s%s", http->base_url, call->path);
    ASSERT(len > 0 && (size_t)len < sizeof(url));
    CURL *easy = request->easy;
    const long connect_ms = (long)http->cfg.connect_timeout_ms;
    const long attempt_ms = (long)http->cfg.attempt_timeout_ms;
    bool ok = curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http") == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, attempt_ms) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive_cb) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_WRITEDATA, http) == CURLE_OK;
    ENSURE(ok, NOMEM);
    return set_body(request, call->body);
}

/* Runs the request to its end, or until it is cancelled. */
static RC run(struct odyn_http *http, const CURL *easy, CURLcode *code) {
    int running = 1;
    while (running > 0) {
        ENSURE(!atomic_load(&http->cancelled), CLOSED);
        ENSURE(curl_multi_perform(http->multi, &running) == CURLM_OK, NOMEM);
        if (running > 0) {
            ENSURE(curl_multi_poll(http->multi, NULL, 0, POLL_MS, NULL) == CURLM_OK, NOMEM);
        }
    }
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(http->multi, &left);
    ENSURE(message != NULL && message->msg == CURLMSG_DONE && message->easy_handle == easy, IO);
    *code = message->data.result;
    return OK;
}

static RC attempt(struct odyn_http *http, const struct odyn_call *call, struct outcome *out) {
    *out = (struct outcome){ .code = CURLE_OK };
    odyn_http_forget(http);
    AUTO(close_request) struct request request = { curl_easy_init(), NULL };
    ENSURE(request.easy != NULL, NOMEM);
    TRY(set_options(http, call, &request));
    ENSURE(curl_multi_add_handle(http->multi, request.easy) == CURLM_OK, NOMEM);
    struct rc rc = run(http, request.easy, &out->code);
    (void)curl_multi_remove_handle(http->multi, request.easy);
    TRY(rc);
    (void)curl_easy_getinfo(request.easy, CURLINFO_RESPONSE_CODE, &out->status);
    curl_off_t connect_us = 0;
    (void)curl_easy_getinfo(request.easy, CURLINFO_CONNECT_TIME_T, &connect_us);
    out->connected = connect_us > 0;
    return OK;
}

/* Gives text that fits into a sentence: what is not printable ASCII as '?', cut ("..."). */
static const char *snippet(struct span text, char buf[static SNIPPET_BYTES_MAX + 4]) {
    size_t len = 0;
    while (len < text.len && len < SNIPPET_BYTES_MAX) {
        uint8_t c = text.ptr[len];
        buf[len] = (char)(c >= ' ' && c < 0x7f ? c : '?');
        len++;
    }
    memcpy(buf + len, "...", 4);
    if (len == text.len) {
        buf[len] = '\0';
    }
    return buf;
}

/* curl gave up before there was a whole answer. */
static RC explain_transport(const struct odyn_http *http, const struct odyn_call *call,
                            const struct outcome *outcome, struct status *why) {
    if (outcome->code == CURLE_OPERATION_TIMEDOUT && outcome->connected) {
        status_set(why, STATUS_DEADLINE_EXCEEDED, "Odyn at %s did not answer %s within %u ms.",
                   http->base_url, call->path, http->cfg.attempt_timeout_ms);
        return ERR(TIMEOUT);
    }
    if (outcome->code == CURLE_OPERATION_TIMEDOUT) {
        status_set(why, STATUS_DEADLINE_EXCEEDED,
                   "Odyn at %s did not accept a connection for %s within %u ms.", http->base_url,
                   call->path, http->cfg.connect_timeout_ms);
        return ERR(TIMEOUT);
    }
    if (!outcome->connected) {
        status_set(why, STATUS_UNAVAILABLE, "Odyn at %s cannot be reached for %s: %s.",
                   http->base_url, call->path, curl_easy_strerror(outcome->code));
        return ERR(UNAVAILABLE);
    }
    if (http->too_big) {
        status_set(why, STATUS_INTERNAL, "Odyn's answer to %s is longer than %d bytes.", call->path,
                   ODYN_ANSWER_BYTES_MAX);
        return ERR(TOO_BIG);
    }
    if (outcome->code == CURLE_UNSUPPORTED_PROTOCOL || outcome->code == CURLE_WEIRD_SERVER_REPLY) {
        status_set(why, STATUS_INTERNAL, "What answers %s at %s is not an HTTP server.", call->path,
                   http->base_url);
        return ERR(MALFORMED);
    }
    status_set(why, STATUS_UNAVAILABLE, "Odyn's answer to %s ends early: %s.", call->path,
               curl_easy_strerror(outcome->code));
    return ERR(IO);
}

static RC explain_status(const struct odyn_http *http, const struct odyn_call *call, long code,
                         struct status *why) {
    char buf[SNIPPET_BYTES_MAX + 4];
    const char *said = snippet((struct span){ http->answer.ptr, http->answer_len }, buf);
    if (code == 400) {
        status_set(why, STATUS_INVALID_ARGUMENT, "Odyn refused %s (400): %s", call->path, said);
        return ERR(INVALID);
    }
    if (code == 413) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED, "Odyn finds the body of %s too large (413): %s",
                   call->path, said);
        return ERR(TOO_BIG);
    }
    if (code >= 500) {
        status_set(why, STATUS_UNAVAILABLE, "Odyn cannot serve %s now (%ld): %s", call->path, code,
                   said);
        return ERR(UNAVAILABLE);
    }
    status_set(why, STATUS_INTERNAL,
               "Odyn answered %s with status %ld, which it never does; does another server listen "
               "at %s?",
               call->path, code, http->base_url);
    return ERR(MALFORMED);
}

static RC once(struct odyn_http *http, const struct odyn_call *call, bool *may_repeat,
               struct status *why) {
    struct outcome outcome;
    *may_repeat = false;
    TRY(attempt(http, call, &outcome));
    if (outcome.code != CURLE_OK) {
        struct rc rc = explain_transport(http, call, &outcome, why);
        *may_repeat = err_class(rc.err) == ERR_RETRY && (call->repeatable || !outcome.connected);
        return rc;
    }
    if (outcome.status != 200) {
        struct rc rc = explain_status(http, call, outcome.status, why);
        *may_repeat = err_class(rc.err) == ERR_RETRY && call->repeatable;
        return rc;
    }
    return OK;
}

/* Between half of backoff_ms doubled each time, and all of it. Waking up means that it was
 * cancelled; the next attempt sees that. */
static RC pause_before(struct odyn_http *http, uint32_t attempt_idx) {
    uint64_t most_ms = (uint64_t)http->cfg.backoff_ms << (attempt_idx - 1);
    most_ms = most_ms < BACKOFF_MS_MAX ? most_ms : BACKOFF_MS_MAX;
    uint16_t random = 0;
    TRY(random_bytes((uint8_t *)&random, sizeof(random)));
    const int wait_ms = (int)(most_ms / 2 + random % (most_ms / 2 + 1));
    ENSURE(curl_multi_poll(http->multi, NULL, 0, wait_ms, NULL) == CURLM_OK, NOMEM);
    return OK;
}

RC odyn_http_call(struct odyn_http *http, const struct odyn_call *call, struct span *answer,
                  struct status *why) {
    *answer = SPAN_EMPTY;
    *why = (struct status){ .code = STATUS_OK };
    struct rc rc = ERR(CLOSED);
    bool may_repeat = true;
    for (uint32_t i = 0; i < http->cfg.attempt_count_max && may_repeat; i++) {
        if (i > 0) {
            TRY(pause_before(http, i));
        }
        rc = once(http, call, &may_repeat, why);
    }
    if (rc.err == E_OK) {
        *why = (struct status){ .code = STATUS_OK }; /* Of an attempt before. */
        *answer = (struct span){ http->answer.ptr, http->answer_len };
    } else if (rc.err == E_CLOSED) {
        status_set(why, STATUS_CANCELLED, "The call of Odyn's %s was cancelled.", call->path);
    } else if (rc.err == E_NOMEM) {
        status_set(why, STATUS_RESOURCE_EXHAUSTED, "Odyn's %s cannot be called: out of memory.",
                   call->path);
    }
    return rc;
}
