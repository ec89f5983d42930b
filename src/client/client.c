/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "crypto/random.h"

#ifndef NOVA_KMS_VERSION
#error "the build defines NOVA_KMS_VERSION"
#endif

const char *novakms_version(void) {
    return NOVA_KMS_VERSION;
}

const char *novakms_code_name(enum novakms_code code) {
    return status_name((uint32_t)code);
}

struct novakms_span novakms_text(const char *text) {
    return (struct novakms_span){ text, strlen(text) };
}

/* ---- Credential ---- */

/* Makes a credential (or none, without an identity) and what TLS needs beside it. */
static RC make_tls(struct novakms *client, struct identity_credential **credential,
                   struct tls_config **tls, struct status *why) {
    if (client->identity.exists) {
        const struct identity_credential_cfg cfg = {
            .signer = &client->identity.signer,
            .chain_id = client->chain_id,
            .not_before_unix_s = clock_unix_ms() / 1000 - CLIENT_CREDENTIAL_BACKDATE_S,
            .lifetime_s = CLIENT_CREDENTIAL_S,
        };
        struct rc rc = identity_credential_make(credential, &cfg, why);
        why->code = rc.err == E_OK ? STATUS_OK : STATUS_UNAUTHENTICATED;
        TRY(rc);
    }
    const struct tls_client_cfg tls_cfg = {
        .credential = *credential,
        .verify = { .chain_id = client->chain_id, .skew_s = CLIENT_SKEW_S },
        .alpn = TLS_ALPN_NOVAKMS,
    };
    struct rc rc = tls_config_client(tls, &tls_cfg);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INTERNAL, "TLS cannot be set up: %s", err_text(rc.err));
    }
    return rc;
}

/* Whether the credential at hand will do for connections made now. */
static bool is_fresh(const struct novakms *client) {
    if (client->tls == NULL || !client->identity.exists) {
        return client->tls != NULL;
    }
    uint64_t now_unix_s = clock_unix_ms() / 1000;
    uint64_t not_after_unix_s = identity_credential_not_after_unix_s(client->credential);
    /* A clock set back makes it too new as well. */
    return now_unix_s + CLIENT_CREDENTIAL_LEFT_S < not_after_unix_s &&
           now_unix_s + CLIENT_CREDENTIAL_S > not_after_unix_s;
}

/* While the credential at hand still holds, a signer that is out of reach is only asked again after
 * a pause; calls go on. */
static RC put_off_refresh(struct novakms *client, struct rc rc) {
    uint64_t now_unix_s = clock_unix_ms() / 1000;
    if (client->tls == NULL ||
        now_unix_s >= identity_credential_not_after_unix_s(client->credential)) {
        return rc;
    }
    client->refresh_at_ms = clock_mono_ms() + CLIENT_REFRESH_PAUSE_MS;
    return OK;
}

RC client_refresh(struct novakms *client, struct status *why) {
    if (is_fresh(client) || clock_mono_ms() < client->refresh_at_ms) {
        return OK;
    }
    struct identity_credential *credential = NULL;
    struct tls_config *tls = NULL;
    struct rc rc = make_tls(client, &credential, &tls, why);
    if (rc.err != E_OK) {
        identity_credential_close(&credential);
        return put_off_refresh(client, rc);
    }
    identity_credential_close(&client->credential);
    tls_config_close(&client->tls);
    client->credential = credential;
    client->tls = tls;
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        if (client->servers[i].channel != NULL) {
            net_channel_set_tls(client->servers[i].channel, tls);
        }
    }
    return OK;
}

/* ---- Opening ---- */

static RC check_limits(const struct novakms_cfg *cfg, struct status *why) {
    if (cfg->timeout_ms > NOVAKMS_TIMEOUT_MAX_MS ||
        cfg->connect_timeout_ms > NOVAKMS_TIMEOUT_MAX_MS) {
        status_set(why, STATUS_INVALID_ARGUMENT, "timeouts must be at most %d ms",
                   NOVAKMS_TIMEOUT_MAX_MS);
        return ERR(INVALID);
    }
    if (cfg->attempt_count_max > CLIENT_ATTEMPT_COUNT_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "attempt_count_max must be at most %u",
                   CLIENT_ATTEMPT_COUNT_MAX);
        return ERR(INVALID);
    }
    return OK;
}

/* Servers that the program named, or those of a registry, which is read at the first call. */
static RC set_servers(struct novakms *client, const struct novakms_cfg *cfg, struct status *why) {
    client->finds_servers = cfg->servers == NULL;
    /* One that hangs must leave time for others. */
    bool is_one = !client->finds_servers && strchr(cfg->servers, ',') == NULL;
    client->connect_timeout_ms = cfg->connect_timeout_ms != 0 ? cfg->connect_timeout_ms
                                 : is_one                     ? CLIENT_CONNECT_TIMEOUT_MS
                                                              : CLIENT_CONNECT_TIMEOUT_SEVERAL_MS;
    client->keepalive_ms = cfg->keepalive_ms;
    if (client->finds_servers && !client_members_are_given(cfg)) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "servers must name at least one HOST:PORT, or a registry be given to find them "
                   "in");
        return ERR(INVALID);
    }
    return client->finds_servers ? OK : client_servers_name(client, cfg->servers, why);
}

static void on_members_read(void *ctx) {
    struct novakms *client = ctx;
    if (client->is_closing) {
        client_release(client); /* Held for this. */
        return;
    }
    client_servers_update(client);
    client_resume(client);
}

/* Everything but the loop and its handles. */
static RC fill(struct novakms *client, const struct novakms_cfg *cfg, struct status *why) {
    TRY(check_limits(cfg, why));
    client->chain_id = cfg->chain_id == 0 ? NOVAKMS_CHAIN_ID_DEFAULT : cfg->chain_id;
    client->timeout_ms = cfg->timeout_ms == 0 ? NOVAKMS_TIMEOUT_DEFAULT_MS : cfg->timeout_ms;
    client->attempt_count_max =
        cfg->attempt_count_max == 0 ? CLIENT_ATTEMPT_COUNT_DEFAULT : cfg->attempt_count_max;
    client_proxy_init(&client->proxy, cfg);
    client->members.loop = client->loop;
    client->members.read_cb = on_members_read;
    client->members.ctx = client;
    TRY(client_members_init(&client->members, cfg, why));
    TRY(client_trust_init(&client->trust, cfg, &client->members, why));
    TRY(client_identity_init(&client->identity, cfg, why));
    TRY(random_mbedtls_init());
    TRY(client_refresh(client, why));
    return set_servers(client, cfg, why);
}

static void free_client(struct novakms *client) {
    client_members_close(&client->members);
    identity_credential_close(&client->credential);
    tls_config_close(&client->tls);
    client_identity_close(&client->identity);
    net_proxy_close(&client->proxy.proxy);
    if (client->owns_loop) {
        int error = uv_loop_close(client->loop);
        ASSERT(error == 0); /* Every handle was closed and the loop ran. */
    }
    free(client);
}

/* Starts a client that only needs to be filled. */
static RC make(struct novakms **out, struct uv_loop_s *loop) {
    *out = NULL;
    struct novakms *client = calloc(1, sizeof(*client));
    ENSURE(client != NULL, NOMEM);
    client->owns_loop = loop == NULL;
    client->loop = loop == NULL ? &client->own_loop : loop;
    if (client->owns_loop && uv_loop_init(client->loop) != 0) {
        free(client);
        return ERR(NOMEM);
    }
    client->budget.bytes_max = CLIENT_BUFFER_BYTES_MAX;
    struct rc rc = net_io_init(&client->io, client->loop, &client->budget);
    if (rc.err != E_OK) {
        free_client(client);
        return rc;
    }
    int error = uv_timer_init(client->loop, &client->ready_timer);
    ASSERT(error == 0); /* Cannot fail: it only fills the struct. */
    error = uv_timer_init(client->loop, &client->poll_timer);
    ASSERT(error == 0);
    error = uv_timer_init(client->loop, &client->wait_timer);
    ASSERT(error == 0);
    client->ready_timer.data = client;
    client->poll_timer.data = client;
    client->wait_timer.data = client;
    client->handle_count = 3;
    client->hold_count = 1;
    *out = client;
    return OK;
}

enum novakms_code novakms_open_on(struct uv_loop_s *loop, const struct novakms_cfg *cfg,
                                  struct novakms **out, char error[NOVAKMS_TEXT_BYTES]) {
    struct status why = { 0 };
    struct client_dev dev = { 0 };
    struct novakms_cfg full = *cfg;
    struct rc rc = make(out, loop);
    if (rc.err == E_OK) {
        rc = client_dev_apply(&dev, &full, &why);
    }
    if (rc.err == E_OK) {
        rc = fill(*out, &full, &why);
    }
    if (rc.err != E_OK) {
        novakms_close(out);
        if (why.code == STATUS_OK) {
            status_set(&why, rc.err == E_NOMEM ? STATUS_RESOURCE_EXHAUSTED : STATUS_INTERNAL, "%s",
                       err_text(rc.err));
        }
    }
    if (error != NULL) {
        (void)snprintf(error, NOVAKMS_TEXT_BYTES, "%s", why.text);
    }
    return (enum novakms_code)why.code;
}

enum novakms_code novakms_open(const struct novakms_cfg *cfg, struct novakms **out,
                               char error[NOVAKMS_TEXT_BYTES]) {
    return novakms_open_on(NULL, cfg, out, error);
}

/* ---- Closing: channels, then the connections' io, then our timers ---- */

static void on_handle_closed(uv_handle_t *handle) {
    struct novakms *client = handle->data;
    client->handle_count--;
    if (client->handle_count > 0) {
        return;
    }
    client->is_closed = true;
    if (client->owns_loop) {
        return; /* novakms_close_notify waits for this, and frees. */
    }
    novakms_close_cb close_cb = client->close_cb;
    void *data = client->close_data;
    free_client(client);
    if (close_cb != NULL) {
        close_cb(data);
    }
}

static void on_io_closed(void *ctx) {
    struct novakms *client = ctx;
    uv_close((uv_handle_t *)&client->ready_timer, on_handle_closed);
    uv_close((uv_handle_t *)&client->poll_timer, on_handle_closed);
    uv_close((uv_handle_t *)&client->wait_timer, on_handle_closed);
}

/* One turn after the last channel is gone, as net_io_close asks. */
static void on_last_turn(uv_timer_t *timer) {
    struct novakms *client = timer->data;
    net_io_close(client->io, on_io_closed, client);
}

void client_release(struct novakms *client) {
    client->hold_count--;
    if (client->hold_count == 0) {
        (void)uv_timer_start(&client->ready_timer, on_last_turn, 0, 0);
    }
}

static void close_client(struct novakms *client, void *data, novakms_close_cb close_cb) {
    ASSERT(!client->is_running); /* Not inside a callback of a private loop. */
    client->is_closing = true;
    client->close_data = data;
    client->close_cb = close_cb;
    client_cancel_waiting(client);
    client_tell_ready(client);
    (void)uv_timer_stop(&client->ready_timer);
    (void)uv_timer_stop(&client->wait_timer);
    if (client->members.is_reading) {
        client->hold_count++;
        client_members_stop(&client->members);
    }
    client_servers_close(client);
    client_release(client);
    if (!client->owns_loop) {
        return;
    }
    while (!client->is_closed) {
        (void)uv_run(client->loop, UV_RUN_ONCE);
    }
    free_client(client);
    if (close_cb != NULL) {
        close_cb(data);
    }
}

void novakms_close_notify(struct novakms **client, void *data, novakms_close_cb close_cb) {
    struct novakms *closing = *client;
    *client = NULL;
    if (closing != NULL) {
        close_client(closing, data, close_cb);
    }
}

void novakms_close(struct novakms **client) {
    novakms_close_notify(client, NULL, NULL);
}

/* ---- Running a private loop ---- */

static size_t in_flight(const struct novakms *client) {
    size_t count = 0;
    for (const struct client_call *call = client->calls; call != NULL; call = call->next) {
        count += call->channel_call_id == 0 ? 1 : 0; /* Those on a channel are counted there. */
    }
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        const struct net_channel *channel = client->servers[i].channel;
        count += channel == NULL ? 0 : net_channel_call_count(channel);
    }
    return count;
}

static void on_poll_over(uv_timer_t *timer) {
    struct novakms *client = timer->data;
    client->is_poll_over = true;
}

size_t novakms_poll(struct novakms *client, uint32_t timeout_ms) {
    if (!client->owns_loop || client->is_running) {
        return in_flight(client);
    }
    client->is_running = true;
    uv_update_time(client->loop);
    (void)uv_run(client->loop, UV_RUN_NOWAIT);
    size_t before = in_flight(client);
    uint64_t told_before = client->told_count;
    client->is_poll_over = timeout_ms == 0;
    if (timeout_ms > 0) {
        (void)uv_timer_start(&client->poll_timer, on_poll_over, timeout_ms, 0);
    }
    while (!client->is_poll_over && before > 0 && in_flight(client) >= before &&
           client->told_count == told_before) {
        (void)uv_run(client->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&client->poll_timer);
    client->is_running = false;
    return in_flight(client);
}

/* ---- Stamps and stubs ---- */

struct novakms_stamp novakms_seen(const struct novakms *client) {
    return client->seen;
}

void novakms_raise_seen(struct novakms *client, const struct novakms_stamp *stamp) {
    if (client_stamp_compare(stamp, &client->seen) > 0) {
        client->seen = *stamp;
    }
}

struct ProtobufCService *
novakms_channel_service(struct novakms *client,
                        const struct ProtobufCServiceDescriptor *descriptor) {
    struct status why = { 0 };
    /* Servers that the registry gives come and go, and its list is read for novakms's own calls. */
    if (client->finds_servers || client->members.is_chain ||
        client_refresh(client, &why).err != E_OK) {
        return NULL;
    }
    return net_channel_service(client->servers[0].channel, descriptor);
}

enum novakms_code novakms_channel_error(const struct novakms *client,
                                        char error[NOVAKMS_TEXT_BYTES]) {
    const struct net_channel *channel = client->servers[0].channel;
    const struct net_outcome *outcome = channel == NULL ? NULL : net_channel_outcome(channel);
    if (error != NULL) {
        (void)snprintf(error, NOVAKMS_TEXT_BYTES, "%s",
                       outcome == NULL ? "no call is ending" : outcome->status.text);
    }
    return outcome == NULL ? NOVAKMS_FAILED_PRECONDITION : (enum novakms_code)outcome->status.code;
}

/* ---- The calls ---- */

#define DEFINE_CALL(name, kind)                                                           \
    enum novakms_code novakms_##name(struct novakms *client,                              \
                                     const struct novakms_##kind##_args *args,            \
                                     struct novakms_result **out) {                       \
        return client_wait(client, &client_op_##name, args, out);                         \
    }                                                                                     \
    uint64_t novakms_##name##_start(struct novakms *client,                               \
                                    const struct novakms_##kind##_args *args, void *data, \
                                    novakms_result_cb result_cb) {                        \
        return client_start(client, &client_op_##name, args, data, result_cb);            \
    }

DEFINE_CALL(derive, derive)
DEFINE_CALL(put, put)
DEFINE_CALL(get, get)
DEFINE_CALL(delete, delete)
DEFINE_CALL(list, list)
DEFINE_CALL(batch_derive, batch_derive)
DEFINE_CALL(batch_get, batch_get)
DEFINE_CALL(batch_put, batch_put)
DEFINE_CALL(whoami, plain)
DEFINE_CALL(status, plain)
DEFINE_CALL(nodes, plain)
