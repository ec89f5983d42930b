/* SPDX-License-Identifier: Apache-2.0 */
/* The servers of a client: those that the program named, in its order, or those that the registry
 * lists, in an order by chance, so that clients spread over the nodes. */
#include <stdio.h>
#include <string.h>

#include "client/client.h"
#include "crypto/random.h"
#include "registry/url.h"

_Static_assert(NOVAKMS_SERVER_COUNT_MAX <= 32, "a mask of servers has 32 bits");

static void on_channel_closed(void *ctx) {
    client_release(ctx);
}

/* ---- Adding and removing ---- */

static struct client_server *find(struct novakms *client, const char *target) {
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        struct client_server *server = &client->servers[i];
        if (server->channel != NULL && strcmp(server->target, target) == 0) {
            return server;
        }
    }
    return NULL;
}

/* Makes a server of a free place. */
static RC start(struct novakms *client, struct client_server *server, const char *target,
                struct status *why) {
    const struct net_proxy *proxy = NULL;
    TRY(client_proxy_choose(&client->proxy, target, &proxy, why));
    const struct net_channel_cfg cfg = {
        .io = client->io,
        .target = target,
        .proxy = proxy,
        .tls = client->tls,
        .check = client_trust_check,
        .check_ctx = &client->trust,
        .timeout_ms = client->timeout_ms,
        .connect_timeout_ms = client->connect_timeout_ms,
        .handshake_timeout_ms = client->connect_timeout_ms,
        .recheck_ms = CLIENT_RECHECK_MS,
        .keepalive_ms = client->keepalive_ms,
    };
    TRY(net_channel_init(&server->channel, &cfg, why));
    (void)snprintf(server->target, sizeof(server->target), "%s", target);
    server->is_listed = true;
    client->hold_count++;
    return OK;
}

static void stop(struct novakms *client, struct client_server *server) {
    struct net_channel *channel = server->channel; /* Its closures still look at server->channel. */
    net_channel_close(&channel, client, on_channel_closed);
    server->channel = NULL;
    server->is_listed = false;
}

void client_servers_close(struct novakms *client) {
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        if (client->servers[i].channel != NULL) {
            stop(client, &client->servers[i]);
        }
    }
}

RC client_servers_name(struct novakms *client, const char *text, struct status *why) {
    const char *at = text;
    for (size_t i = 0; at != NULL; i++) {
        size_t len = strcspn(at, ",");
        char target[NET_TARGET_BYTES];
        if (i == NOVAKMS_SERVER_COUNT_MAX) {
            status_set(why, STATUS_INVALID_ARGUMENT, "at most %d servers are allowed",
                       NOVAKMS_SERVER_COUNT_MAX);
            return ERR(INVALID);
        }
        (void)snprintf(target, sizeof(target), "%.*s",
                       len < sizeof(target) ? (int)len : (int)sizeof(target) - 1, at);
        TRY(start(client, &client->servers[i], target, why));
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    return OK;
}

/* ---- From the registry ---- */

/* Members that have no channel yet. */
struct newcomers {
    size_t count;
    uint16_t at[REGISTRY_MEMBER_COUNT_MAX]; /* Their indexes in the list. */
};

/* Any order, as likely as any other but for one in 2^16. */
static void shuffle(struct newcomers *newcomers) {
    uint16_t chances[REGISTRY_MEMBER_COUNT_MAX] = { 0 };
    /* Without randomness the registry's order. */
    bool ok = random_bytes((uint8_t *)chances, sizeof(chances)).err == E_OK;
    for (size_t i = newcomers->count; ok && i > 1; i--) {
        size_t other = chances[i - 1] % i;
        uint16_t index = newcomers->at[i - 1];
        newcomers->at[i - 1] = newcomers->at[other];
        newcomers->at[other] = index;
    }
}

/* Marks the servers that the list has; collects the others. */
static void compare(struct novakms *client, struct newcomers *newcomers) {
    const struct registry_members *members = client->members.latest;
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        client->servers[i].is_listed = false;
    }
    client->unusable_count = 0;
    client->unusable_why.code = STATUS_OK;
    for (size_t i = 0; i < members->count; i++) {
        char target[REGISTRY_TARGET_BYTES];
        if (registry_url_target(members->at[i].url, target).err != E_OK) {
            client->unusable_count++;
            continue;
        }
        struct client_server *server = find(client, target);
        if (server != NULL) {
            server->is_listed = true;
        } else {
            newcomers->at[newcomers->count++] = (uint16_t)i;
        }
    }
}

/* Gives the free places to newcomers. */
static void add_newcomers(struct novakms *client, const struct newcomers *newcomers) {
    size_t place = 0;
    for (size_t i = 0; i < newcomers->count; i++) {
        while (place < NOVAKMS_SERVER_COUNT_MAX && client->servers[place].channel != NULL) {
            place++;
        }
        if (place == NOVAKMS_SERVER_COUNT_MAX) {
            return;
        }
        char target[REGISTRY_TARGET_BYTES];
        const struct auth_instance *member = &client->members.latest->at[newcomers->at[i]];
        /* The second of two members at one address has no place of its own. */
        if (registry_url_target(member->url, target).err == E_OK && find(client, target) == NULL) {
            struct status why = { 0 };
            if (start(client, &client->servers[place], target, &why).err != E_OK) {
                client->unusable_why = why;
            }
        }
    }
}

void client_servers_update(struct novakms *client) {
    struct newcomers newcomers = { 0 };
    if (!client->finds_servers || !client->members.has_list) {
        return;
    }
    compare(client, &newcomers);
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        struct client_server *server = &client->servers[i];
        /* One with calls in progress goes when they have ended, at a later update. */
        if (server->channel != NULL && !server->is_listed &&
            net_channel_call_count(server->channel) == 0) {
            stop(client, server);
        }
    }
    shuffle(&newcomers);
    add_newcomers(client, &newcomers);
}

/* ---- Choosing ---- */

static bool is_choice(const struct novakms *client, size_t idx, uint32_t skip_mask) {
    return client->servers[idx].is_listed && (skip_mask >> idx & 1u) == 0;
}

size_t client_servers_pick(const struct novakms *client, size_t from_idx, uint32_t skip_mask) {
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        size_t idx = (from_idx + i) % NOVAKMS_SERVER_COUNT_MAX;
        if (is_choice(client, idx, skip_mask)) {
            return idx;
        }
    }
    return NOVAKMS_SERVER_COUNT_MAX;
}

uint32_t client_servers_count(const struct novakms *client, uint32_t skip_mask) {
    uint32_t count = 0;
    for (size_t i = 0; i < NOVAKMS_SERVER_COUNT_MAX; i++) {
        count += is_choice(client, i, skip_mask) ? 1 : 0;
    }
    return count;
}

RC client_servers_explain(const struct novakms *client, struct status *why) {
    unsigned long long app_id = (unsigned long long)client->members.source->kms_app_id;
    if (client->unusable_why.code != STATUS_OK) {
        *why = client->unusable_why;
    } else if (client->unusable_count > 0) {
        status_set(why, STATUS_UNAVAILABLE,
                   "none of the %zu nodes that the registry lists for app %llu has a URL of the "
                   "form https://host:port",
                   client->unusable_count, app_id);
    } else {
        status_set(why, STATUS_UNAVAILABLE,
                   "the registry lists no active, verified node: app %llu has none", app_id);
    }
    return ERR(UNAVAILABLE);
}
