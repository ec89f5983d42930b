/* SPDX-License-Identifier: Apache-2.0 */
/* The connections to the other members: one for each wallet and URL. */
#include <stdio.h>
#include <stdlib.h>

#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "node/cluster_internal.h"

#define KEPT_MS 60000u
#define CONNECT_TIMEOUT_MS 3000u
#define KEEPALIVE_MS 10000u
#define HTTPS "https://"

/* ---- Where to ---- */

/* "host:port" of a member's URL. False, with a sentence in why: there is no way to it. */
static bool target_of(const char *url, char target[static NET_TARGET_BYTES],
                      char why[static CLUSTER_WHY_BYTES]) {
    const char *authority = strncmp(url, HTTPS, strlen(HTTPS)) == 0 ? url + strlen(HTTPS) : NULL;
    if (authority == NULL) {
        (void)snprintf(why, CLUSTER_WHY_BYTES, "its URL in the registry must begin with " HTTPS);
        return false;
    }
    size_t len = strcspn(authority, "/?#");
    struct net_target parsed;
    if (len >= NET_TARGET_BYTES ||
        net_target_parse((struct span){ (const uint8_t *)authority, len }, &parsed).err != E_OK) {
        (void)snprintf(why, CLUSTER_WHY_BYTES,
                       "its URL in the registry has no usable host and port");
        return false;
    }
    (void)net_target_format(&parsed, target);
    return true;
}

/* As the registry has it, in the form in which URLs are compared. Credentials are refused, not
 * ignored: whoever wrote them there expects something that does not happen. */
static void set_url(struct peer *peer, const char *url) {
    const char *scheme = strstr(url, "://");
    const char *authority = scheme == NULL ? url : scheme + 3;
    if (memchr(authority, '@', strcspn(authority, "/?#")) != NULL) {
        (void)snprintf(peer->why, sizeof(peer->why), "its URL in the registry has credentials");
    }
    if (registry_url_normalize(url, peer->url).err != E_OK) {
        (void)snprintf(peer->url, sizeof(peer->url), "%s", url);
    }
}

/* ---- Connections ---- */

/* Inside the handshake: the certificate must be of the wallet that the registry names at this
 * URL. */
static RC check_cb(void *ctx, const struct identity_peer *identity, struct status *why) {
    const struct peer *peer = ctx;
    if (wallet_equal(&identity->wallet, &peer->wallet)) {
        return OK;
    }
    char want[WALLET_TEXT_BYTES];
    char have[WALLET_TEXT_BYTES];
    status_set(why, STATUS_UNAUTHENTICATED, "wallet %s answers where the registry has %s",
               wallet_format(&identity->wallet, have), wallet_format(&peer->wallet, want));
    return ERR(DENIED);
}

static void open_channel(struct peer *peer) {
    struct cluster *c = peer->cluster;
    char target[NET_TARGET_BYTES];
    if (peer->channel != NULL || peer->why[0] != '\0' || c->tls == NULL ||
        !target_of(peer->url, target, peer->why)) {
        return;
    }
    const struct net_channel_cfg cfg = {
        .io = c->io,
        .target = target,
        .proxy = &c->cfg.config->proxy,
        .tls = c->tls,
        .check = check_cb,
        .check_ctx = peer,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .handshake_timeout_ms = CONNECT_TIMEOUT_MS,
        .keepalive_ms = KEEPALIVE_MS,
        .frame_bytes_max = PEER_FRAME_BYTES_MAX,
    };
    struct status why = { 0 };
    if (net_channel_init(&peer->channel, &cfg, &why).err != E_OK) {
        LOG_LIMITED(WARN, "replication.peer", "url=%s reason=\"%s\"", peer->url, why.text);
    }
}

static void on_channel_closed(void *ctx) {
    struct peer *peer = ctx;
    struct cluster *c = peer->cluster;
    free(peer);
    c->peer_count--;
    if (c->peer_count == 0) {
        cluster_peers_gone(c);
    }
}

/* Its calls end inside this. */
static void drop(struct peer *peer) {
    struct cluster *c = peer->cluster;
    struct net_channel *channel = peer->channel; /* Its closures still look at peer->channel. */
    DL_DELETE(c->peers, peer);
    if (channel == NULL) {
        on_channel_closed(peer);
        return;
    }
    net_channel_close(&channel, peer, on_channel_closed);
}

void cluster_drop_peers(struct cluster *c, bool all) {
    uint64_t now_ms = clock_mono_ms();
    struct peer *peer = NULL;
    struct peer *next = NULL;
    DL_FOREACH_SAFE(c->peers, peer, next) {
        if (all || (!peer->is_listed && peer->kept_until_ms <= now_ms)) {
            drop(peer);
        }
    }
}

/* ---- The list ---- */

static struct peer *find_instance(struct cluster *c, const struct auth_instance *member) {
    struct peer wanted = { .wallet = member->wallet };
    set_url(&wanted, member->url);
    struct peer *peer = NULL;
    DL_FOREACH(c->peers, peer) {
        if (wallet_equal(&peer->wallet, &wanted.wallet) && strcmp(peer->url, wanted.url) == 0) {
            return peer;
        }
    }
    return NULL;
}

static struct peer *find_or_make(struct cluster *c, const struct auth_instance *member) {
    struct peer *peer = find_instance(c, member);
    if (peer != NULL) {
        return peer;
    }
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    peer->cluster = c;
    peer->wallet = member->wallet;
    set_url(peer, member->url);
    DL_APPEND(c->peers, peer);
    c->peer_count++;
    open_channel(peer);
    return peer;
}

struct peer *cluster_find(struct cluster *c, const struct wallet *wallet) {
    struct peer *peer = NULL;
    DL_FOREACH(c->peers, peer) {
        if (peer->is_listed && wallet_equal(&peer->wallet, wallet)) {
            return peer;
        }
    }
    return NULL;
}

struct peer *cluster_reach(struct cluster *c, const struct auth_instance *member) {
    struct peer *peer = find_or_make(c, member);
    if (peer != NULL) {
        peer->kept_until_ms = clock_mono_ms() + KEPT_MS;
    }
    return peer;
}

/* Fills what the replica takes; URLs are lent from peers. */
static size_t list_members(struct cluster *c, const struct wallet *self,
                           const struct registry_members *members, struct replica_member *out) {
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++) {
        const struct auth_instance *member = &members->at[i];
        if (wallet_equal(&member->wallet, self)) {
            continue;
        }
        struct peer *peer = find_or_make(c, member);
        if (peer != NULL) {
            peer->is_listed = true;
            out[count++] = (struct replica_member){ member->wallet, peer->url, member->id };
        }
    }
    return count;
}

static uint64_t instance_of(const struct registry_members *members, const struct wallet *wallet) {
    for (size_t i = 0; i < members->count; i++) {
        if (wallet_equal(&members->at[i].wallet, wallet)) {
            return members->at[i].id;
        }
    }
    return 0;
}

void cluster_take_members(struct cluster *c, const struct wallet *wallet,
                          const struct registry_members *members) {
    const struct service_shared *shared = c->cfg.shared;
    struct replica_member list[REGISTRY_MEMBER_COUNT_MAX];
    struct peer *peer = NULL;
    DL_FOREACH(c->peers, peer) {
        peer->is_listed = false;
    }
    size_t count = list_members(c, wallet, members, list);
    char url[REGISTRY_URL_BYTES];
    if (registry_url_normalize(c->cfg.config->node_url, url).err != E_OK) {
        (void)snprintf(url, sizeof(url), "%s", c->cfg.config->node_url);
    }
    const struct replica_member self = { *wallet, url, instance_of(members, wallet) };
    const struct replica_now now = cluster_now(c);
    (void)service_kv_lock(shared->kv);
    struct rc rc = replica_set_members(shared->replica, &self, list, count, &now);
    replica_set_head(shared->replica, members->head_block);
    service_kv_unlock(shared->kv, true);
    if (rc.err != E_OK) {
        LOG_LIMITED(ERROR, "replication.members", "count=%zu err=%s", count, err_name(rc.err));
    }
    c->members_at_ms = members->as_of_mono_ms;
    cluster_drop_peers(c, c->is_ending);
}

/* Takes tls. */
void cluster_take_tls(struct cluster *c, struct tls_config *tls) {
    tls_config_close(&c->tls);
    c->tls = tls;
    struct peer *peer = NULL;
    DL_FOREACH(c->peers, peer) {
        if (peer->channel == NULL) {
            open_channel(peer);
        } else {
            net_channel_set_tls(peer->channel, tls);
        }
    }
}
