/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "registry/rpc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <curl/curl.h>

#include "base/clock.h"
#include "crypto/random.h"
#include "registry/escape.h"

#define WHERE_BYTES 64
#define BODY_BYTES_FIRST 16384u
#define BACKOFF_MS_MAX 10000u

struct rpc {
    struct rpc_cfg cfg;
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    char where[WHERE_BYTES];
    bool is_loopback;
    uint64_t next_id;
    uint8_t *body; /* The answer under way. */
    size_t body_len;
    size_t body_bytes;
    size_t header_len;
    bool is_too_big; /* Receiving was stopped, */
    bool is_nomem;   /* or this stopped it. */
    char error[CURL_ERROR_SIZE];
};

const char *rpc_where(const struct rpc *rpc) {
    return rpc->where;
}

/* ---- Receiving ---- */

static bool grow_body(struct rpc *rpc, size_t bytes) {
    size_t want = rpc->body_bytes == 0 ? BODY_BYTES_FIRST : rpc->body_bytes;
    while (want < bytes) {
        want *= 2;
    }
    uint8_t *body = realloc(rpc->body, want);
    if (body == NULL) {
        return false;
    }
    rpc->body = body;
    rpc->body_bytes = want;
    return true;
}

/* libcurl stops when fewer bytes are taken than it has. */
static size_t body_cb(char *data, size_t size, size_t count, void *ctx) {
    struct rpc *rpc = ctx;
    size_t len = size * count;
    if (len > rpc->cfg.answer_bytes_max - rpc->body_len) {
        rpc->is_too_big = true;
        return 0;
    }
    if (rpc->body_len + len > rpc->body_bytes && !grow_body(rpc, rpc->body_len + len)) {
        rpc->is_nomem = true;
        return 0;
    }
    memcpy(rpc->body + rpc->body_len, data, len);
    rpc->body_len += len;
    return len;
}

static size_t header_cb(char *data, size_t size, size_t count, void *ctx) {
    struct rpc *rpc = ctx;
    size_t len = size * count;
    (void)data;
    if (len > RPC_HEADER_BYTES_MAX - rpc->header_len) {
        rpc->is_too_big = true;
        return 0;
    }
    rpc->header_len += len;
    return len;
}

static bool is_stopped(const struct rpc *rpc) {
    return rpc->cfg.stop != NULL && atomic_load(rpc->cfg.stop);
}

/* libcurl calls it about once a second while it waits; anything but 0 ends the exchange. */
static int progress_cb(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    return is_stopped(ctx) ? 1 : 0;
}

/* ---- One exchange ---- */

static RC judge_stopped(const struct rpc *rpc, char *why) {
    if (rpc->is_nomem) {
        (void)snprintf(why, REGISTRY_REASON_BYTES, "%s", err_text(E_NOMEM));
        return ERR(NOMEM);
    }
    (void)snprintf(why, REGISTRY_REASON_BYTES, "answer must have at most %u bytes",
                   rpc->cfg.answer_bytes_max);
    return ERR(TOO_BIG);
}

/* libcurl's own words, which may quote the server. */
static RC judge_failure(const struct rpc *rpc, const char *what, CURLcode code, char *why) {
    char shown[96];
    const char *words = rpc->error[0] != '\0' ? rpc->error : curl_easy_strerror(code);
    (void)snprintf(why, REGISTRY_REASON_BYTES, "%s: %s", what,
                   registry_escape(span_str(words), shown, sizeof(shown)));
    return ERR(IO);
}

static RC judge_code(const struct rpc *rpc, CURLcode code, uint32_t timeout_ms, char *why) {
    if (rpc->is_too_big || rpc->is_nomem) {
        return judge_stopped(rpc, why);
    }
    if (code == CURLE_OK) {
        return OK;
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        (void)snprintf(why, REGISTRY_REASON_BYTES, "no complete answer within %u ms", timeout_ms);
        return ERR(TIMEOUT);
    }
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        (void)snprintf(why, REGISTRY_REASON_BYTES, "it was stopped");
        return ERR(UNAVAILABLE);
    }
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
        code == CURLE_COULDNT_RESOLVE_PROXY) {
        struct rc rc = judge_failure(rpc, "cannot connect", code, why);
        return rc.err == E_IO ? ERR(UNAVAILABLE) : rc;
    }
    if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING) {
        return judge_failure(rpc, "answer ends early", code, why);
    }
    return judge_failure(rpc, "exchange failed", code, why);
}

static RC judge_status(struct rpc *rpc, char *why) {
    long status = 0;
    if (curl_easy_getinfo(rpc->easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK) {
        status = 0;
    }
    if (status == 200) {
        return OK;
    }
    (void)snprintf(why, REGISTRY_REASON_BYTES, "HTTP status %ld, must be 200", status);
    if (status == 429 || status >= 500) {
        return ERR(UNAVAILABLE);
    }
    return ERR(MALFORMED);
}

static RC exchange(struct rpc *rpc, const char *request, uint32_t timeout_ms, char *why) {
    rpc->body_len = 0;
    rpc->header_len = 0;
    rpc->is_too_big = false;
    rpc->is_nomem = false;
    rpc->error[0] = '\0';
    ENSURE(curl_easy_setopt(rpc->easy, CURLOPT_POSTFIELDS, request) == CURLE_OK, NOMEM);
    ENSURE(curl_easy_setopt(rpc->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request)) ==
               CURLE_OK,
           NOMEM);
    ENSURE(curl_easy_setopt(rpc->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms) == CURLE_OK, NOMEM);
    TRY(judge_code(rpc, curl_easy_perform(rpc->easy), timeout_ms, why));
    return judge_status(rpc, why);
}

/* ---- Retries ---- */

static void sleep_ms(uint64_t span_ms) {
    struct timespec left = { .tv_sec = (time_t)(span_ms / 1000),
                             .tv_nsec = (long)(span_ms % 1000) * 1000000 };
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

/* Before the attempt-th attempt, from the second: half of the step, and up to half more. */
static uint64_t backoff_ms(const struct rpc *rpc, uint32_t attempt) {
    uint64_t step_ms = (uint64_t)rpc->cfg.backoff_ms << (attempt - 1);
    if (step_ms > BACKOFF_MS_MAX) {
        step_ms = BACKOFF_MS_MAX;
    }
    uint32_t random = 0;
    if (random_bytes((uint8_t *)&random, sizeof(random)).err != E_OK) {
        random = UINT32_MAX; /* Then the longest wait of the step, less one. */
    }
    return step_ms / 2 + random % (step_ms / 2 + 1);
}

static bool may_pass(struct rc rc) {
    return rc.err == E_TIMEOUT || rc.err == E_UNAVAILABLE || rc.err == E_IO;
}

/* Exchanges until one succeeds, or the attempts or the time are used up. */
static RC exchange_again(struct rpc *rpc, const char *request, char *why) {
    uint64_t deadline_ms = clock_mono_ms() + rpc->cfg.total_ms;
    struct rc rc = ERR(TIMEOUT);
    for (uint32_t attempt = 0; attempt < rpc->cfg.attempt_count_max; attempt++) {
        uint64_t wait_ms = attempt == 0 ? 0 : backoff_ms(rpc, attempt);
        uint64_t now_ms = clock_mono_ms();
        if (attempt > 0 && (is_stopped(rpc) || now_ms + wait_ms >= deadline_ms)) {
            return rc;
        }
        sleep_ms(wait_ms);
        now_ms = clock_mono_ms();
        uint64_t left_ms = now_ms < deadline_ms ? deadline_ms - now_ms : 1;
        uint32_t timeout_ms =
            left_ms < rpc->cfg.timeout_ms ? (uint32_t)left_ms : rpc->cfg.timeout_ms;
        rc = exchange(rpc, request, timeout_ms, why);
        if (!may_pass(rc)) {
            return rc;
        }
    }
    return rc;
}

static void free_text(char **text) {
    free(*text);
}

RC rpc_send(struct rpc *rpc, struct rpc_batch *batch, char reason[static REGISTRY_REASON_BYTES]) {
    char why[REGISTRY_REASON_BYTES];
    AUTO(free_text) char *request = NULL;
    (void)snprintf(why, sizeof(why), "%s", err_text(E_NOMEM)); /* The error without words. */
    reason[0] = '\0';
    struct rc rc = rpc_batch_request(batch, rpc->next_id, &request);
    rpc->next_id += batch->count;
    if (rc.err == E_OK) {
        rc = exchange_again(rpc, request, why);
    }
    if (rc.err == E_OK) {
        rc = rpc_batch_answer(batch, (struct span){ rpc->body, rpc->body_len },
                              rpc->cfg.answer_bytes_max, why);
    }
    if (rc.err != E_OK) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "chain RPC %s: %.120s", rpc->where, why);
    }
    return rc;
}

/* ---- Life ---- */

static bool in_range(uint32_t value, uint32_t max) {
    return value >= 1 && value <= max;
}

static bool cfg_is_allowed(const struct rpc_cfg *cfg) {
    return cfg->url != NULL && in_range(cfg->connect_timeout_ms, RPC_MS_MAX) &&
           in_range(cfg->timeout_ms, RPC_MS_MAX) && in_range(cfg->total_ms, RPC_MS_MAX) &&
           in_range(cfg->attempt_count_max, RPC_ATTEMPT_COUNT_MAX) &&
           cfg->backoff_ms <= RPC_MS_MAX && in_range(cfg->answer_bytes_max, RPC_ANSWER_BYTES_MAX);
}

static void url_close(CURLU **url) {
    curl_url_cleanup(*url);
}

static bool is_loopback(const char *host) {
    static const char *const names[] = { "127.0.0.1", "[::1]", "localhost" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (span_equal(span_str(host), span_str(names[i]))) {
            return true;
        }
    }
    return false;
}

static RC take_where(CURLU *url, struct rpc *rpc) {
    char *host = NULL;
    char *port = NULL;
    bool has_host = curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    bool has_port = curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (has_host && has_port) {
        char shown[WHERE_BYTES - 8];
        rpc->is_loopback = is_loopback(host);
        (void)snprintf(rpc->where, sizeof(rpc->where), "%s:%.5s",
                       registry_escape(span_str(host), shown, sizeof(shown)), port);
    }
    curl_free(host);
    curl_free(port);
    ENSURE(has_host && has_port, BAD_CONFIG);
    return OK;
}

static RC check_url(struct rpc *rpc) {
    AUTO(url_close) CURLU *url = curl_url();
    char *scheme = NULL;
    ENSURE(url != NULL, NOMEM);
    ENSURE(curl_url_set(url, CURLUPART_URL, rpc->url, 0) == CURLUE_OK, BAD_CONFIG);
    ENSURE(curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK, BAD_CONFIG);
    struct span text = span_str(scheme);
    bool is_allowed = span_equal(text, SPAN_LIT("http")) || span_equal(text, SPAN_LIT("https"));
    curl_free(scheme);
    ENSURE(is_allowed, BAD_CONFIG);
    return take_where(url, rpc);
}

static RC add_header(struct rpc *rpc, const char *line) {
    struct curl_slist *list = curl_slist_append(rpc->headers, line);
    ENSURE(list != NULL, NOMEM);
    rpc->headers = list;
    return OK;
}

static RC set_number(CURL *easy, CURLoption option, long value) {
    ENSURE(curl_easy_setopt(easy, option, value) == CURLE_OK, NOMEM);
    return OK;
}

static RC set_pointer(CURL *easy, CURLoption option, const void *value) {
    ENSURE(curl_easy_setopt(easy, option, value) == CURLE_OK, NOMEM);
    return OK;
}

static RC set_options(struct rpc *rpc) {
    CURL *easy = rpc->easy;
    TRY(add_header(rpc, "Content-Type: application/json"));
    TRY(add_header(rpc, "Accept: application/json"));
    TRY(add_header(rpc, "Expect:")); /* Or a long request waits a second for a 100. */
    TRY(set_pointer(easy, CURLOPT_URL, rpc->url));
    TRY(set_pointer(easy, CURLOPT_PROTOCOLS_STR, "http,https"));
    TRY(set_pointer(easy, CURLOPT_HTTPHEADER, rpc->headers));
    TRY(set_pointer(easy, CURLOPT_ERRORBUFFER, rpc->error));
    TRY(set_pointer(easy, CURLOPT_WRITEDATA, rpc));
    TRY(set_pointer(easy, CURLOPT_HEADERDATA, rpc));
    ENSURE(curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_cb) == CURLE_OK, NOMEM);
    ENSURE(curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_cb) == CURLE_OK, NOMEM);
    TRY(set_number(easy, CURLOPT_FOLLOWLOCATION, 0));
    TRY(set_pointer(easy, CURLOPT_XFERINFODATA, rpc));
    ENSURE(curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, progress_cb) == CURLE_OK, NOMEM);
    TRY(set_number(easy, CURLOPT_NOPROGRESS, rpc->cfg.stop == NULL ? 1 : 0));
    if (rpc->is_loopback) {
        /* A proxy from the environment would have another chain behind the light client's
         * address. */
        TRY(set_pointer(easy, CURLOPT_PROXY, ""));
    }
    TRY(set_number(easy, CURLOPT_NOSIGNAL, 1)); /* Threads. */
    TRY(set_number(easy, CURLOPT_TCP_KEEPALIVE, 1));
    TRY(set_number(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1));
    return set_number(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)rpc->cfg.connect_timeout_ms);
}

static void global_init(void) {
    /* Its failure shows in curl_easy_init. */
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    (void)code;
}

RC rpc_init(struct rpc **out, const struct rpc_cfg *cfg,
            char reason[static REGISTRY_REASON_BYTES]) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "chain RPC: a limit is out of its range");
    ENSURE(cfg_is_allowed(cfg), BAD_CONFIG);
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "chain RPC: %s", err_text(E_NOMEM));
    ENSURE(pthread_once(&once, global_init) == 0, NOMEM);
    AUTO(rpc_close) struct rpc *rpc = calloc(1, sizeof(*rpc));
    ENSURE(rpc != NULL, NOMEM);
    rpc->cfg = *cfg;
    rpc->cfg.url = NULL;
    rpc->next_id = 1;
    rpc->url = strdup(cfg->url);
    ENSURE(rpc->url != NULL, NOMEM);
    struct rc rc = check_url(rpc);
    if (rc.err == E_BAD_CONFIG) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES,
                       "chain RPC: the URL must be http://host:port or https://host:port");
    }
    TRY(rc);
    rpc->easy = curl_easy_init();
    ENSURE(rpc->easy != NULL, NOMEM);
    TRY(set_options(rpc));
    reason[0] = '\0';
    *out = rpc;
    rpc = NULL;
    return OK;
}

void rpc_close(struct rpc **rpc) {
    struct rpc *self = *rpc;
    if (self == NULL) {
        return;
    }
    curl_easy_cleanup(self->easy);
    curl_slist_free_all(self->headers);
    free(self->url);
    free(self->body);
    free(self);
    *rpc = NULL;
}
