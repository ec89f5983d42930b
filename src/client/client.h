/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of libnovakms: a client has a channel for each server, tries calls on them in turn,
 * and turns generated messages into the public structs. Private to the room; one thread. */
#pragma once

#include <uv.h>

#include "base/arena.h"
#include "base/status.h"
#include "client/members.h"
#include "client/novakms.h"
#include "identity/credential.h"
#include "identity/keyfile.h"
#include "net/channel.h"
#include "net/proxy.h"
#include "novakms/v1/frame.pb-c.h"

/* A credential is made for this long, and made anew when less than a quarter is left. Its start is
 * set back, for servers whose clock is behind. */
#define CLIENT_CREDENTIAL_S (12u * 3600)
#define CLIENT_CREDENTIAL_LEFT_S (3u * 3600)
#define CLIENT_CREDENTIAL_BACKDATE_S 300u
/* Between tries to make a new one while the old one holds. */
#define CLIENT_REFRESH_PAUSE_MS 30000u
/* How far a server's clock may be from ours. */
#define CLIENT_SKEW_S 60u
/* A server that leaves the registry is not called any more after this. */
#define CLIENT_RECHECK_MS 5000u
/* For TCP and for the TLS handshake each, with one server and with several. */
#define CLIENT_CONNECT_TIMEOUT_MS 5000u
#define CLIENT_CONNECT_TIMEOUT_SEVERAL_MS 3000u
#define CLIENT_ATTEMPT_COUNT_DEFAULT 4u
#define CLIENT_ATTEMPT_COUNT_MAX 16u
#define CLIENT_WALLET_COUNT_MAX 64u
/* Of one request: the largest batch that a frame could hold, and its structs. */
#define CLIENT_REQUEST_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* Of all connections' buffers. */
#define CLIENT_BUFFER_BYTES_MAX ((size_t)256 * 1024 * 1024)

/* ---- Who a server may be (trust.c) ---- */

struct client_trust {
    struct client_members *members; /* Lent; NULL: no registry. */
    struct wallet wallets[CLIENT_WALLET_COUNT_MAX];
    size_t wallet_count;
};

/* Reads what cfg trusts; members are what it says of a registry. Zeroed before. INVALID with *why
 * when that is nothing. */
RC client_trust_init(struct client_trust *trust, const struct novakms_cfg *cfg,
                     struct client_members *members, struct status *why);
/* A tls_check_cb; ctx is the trust. */
RC client_trust_check(void *ctx, const struct identity_peer *peer, struct status *why);

/* ---- Whose calls they are (identity.c) ---- */

struct client_identity {
    bool exists;
    struct identity_keyfile keyfile; /* Closed when the program signs. */
    struct identity_signer signer;   /* Lends from keyfile, or from this. */
    novakms_sign_cb sign_cb;
    void *sign_data;
};

/* Loads cfg's identity, if it has one. Does not move afterwards. */
RC client_identity_init(struct client_identity *identity, const struct novakms_cfg *cfg,
                        struct status *why);
void client_identity_close(struct client_identity *identity);

/* ---- How servers are reached (proxy.c) ---- */

struct client_proxy {
    struct net_proxy proxy;
    bool is_from_environment;
    struct status why; /* What is wrong with it. */
};

/* Reads cfg, or else the environment. Zeroed before; net_proxy_close takes its proxy. */
void client_proxy_init(struct client_proxy *proxy, const struct novakms_cfg *cfg);
/* Lends the proxy for a server, as long as *proxy is there; NULL for none. A proxy of the
 * environment, good or bad, is never between us and our own machine. INVALID with *why. */
RC client_proxy_choose(const struct client_proxy *proxy, const char *target_text,
                       const struct net_proxy **out, struct status *why);

/* ---- Where things are (dev.c) ---- */

#define CLIENT_PATH_BYTES 4096
#define CLIENT_SERVER_TEXT_BYTES 300

/* What a development node's directory gives; texts live here. */
struct client_dev {
    char server[CLIENT_SERVER_TEXT_BYTES];
    char identity_path[CLIENT_PATH_BYTES];
    char registry_path[CLIENT_PATH_BYTES];
    uint64_t chain_id;
};

/* Fills what *cfg does not give from cfg->dev_dir; cfg then lends from dev. UNAVAILABLE with *why
 * when there is no node's directory. */
RC client_dev_apply(struct client_dev *dev, struct novakms_cfg *cfg, struct status *why);

/* ---- Results (result.c) ---- */

struct client_result {
    struct novakms_result public; /* First: the caller's pointer. */
    struct arena arena;           /* Everything it points to. */
};

/* Gives a zeroed result, NULL when memory is out. */
struct client_result *client_result_make(void);
/* A result that says "out of memory"; novakms_free accepts it. */
struct novakms_result *client_result_nomem(void);
/* Copies bytes into the result. False when memory is out. */
bool client_result_copy(struct client_result *r, struct novakms_span *out, const uint8_t *bytes,
                        size_t len);
/* The same for a text, NUL included; NULL gives "". */
bool client_result_text(struct client_result *r, const char **out, const char *text);
/* Zeroed; NULL when memory is out. */
void *client_result_array(struct client_result *r, size_t count, size_t size);

/* ---- Stamps (result.c) ---- */

/* hlc, then writer. */
int client_stamp_compare(const struct novakms_stamp *a, const struct novakms_stamp *b);

/* ---- The calls (ops.c) ---- */

struct client_op {
    const char *method; /* Of the service, "Derive". */
    const ProtobufCServiceDescriptor *service;
    bool is_read; /* Changes nothing: may be repeated after it was executed. */
    bool needs_identity;
    size_t timeout_offset; /* Of timeout_ms in its arguments. */
    size_t seen_offset;    /* Of the request's stamps; 0: it has none. */
    size_t wrote_offset;
    /* Gives the request in the arena; NULL when memory is out, or *why says what is not allowed. */
    ProtobufCMessage *(*build)(struct arena *arena, const void *args, const char **why);
    /* Copies the answer; raises *highest to the highest stamp in it. False when memory is out: then
     * *highest and may_miss are there all the same, of a write. */
    bool (*read)(struct client_result *r, const ProtobufCMessage *answer,
                 struct novakms_stamp *highest);
};

extern const struct client_op client_op_derive;
extern const struct client_op client_op_put;
extern const struct client_op client_op_get;
extern const struct client_op client_op_delete;
extern const struct client_op client_op_list;
extern const struct client_op client_op_batch_derive;
extern const struct client_op client_op_batch_get;
extern const struct client_op client_op_batch_put;
extern const struct client_op client_op_whoami;
extern const struct client_op client_op_status;
extern const struct client_op client_op_nodes;

/* ---- A client (client.c) and its calls in progress (call.c) ---- */

/* A stamp in a request, which points here. */
struct client_shown {
    struct novakms_stamp stamp;
    Novakms__V1__Stamp message;
};

struct client_call {
    struct client_call *prev;
    struct client_call *next;
    uint64_t id;
    struct novakms *client;
    const struct client_op *op;
    struct arena arena; /* The request. */
    ProtobufCMessage *request;
    struct client_shown seen; /* What the last try showed. */
    struct client_shown wrote;
    uint64_t deadline_at_ms;
    bool is_waiting; /* For the member list. */
    bool has_waited; /* Because no server was one of it. */
    uint32_t attempt_count;
    uint32_t tried_mask; /* Of the servers, since the list was read. */
    bool has_share;      /* The try has only a share of the call's time. */
    struct status said;  /* Why a server refused or did not serve, of the last that said so. */
    size_t server_idx;
    uint64_t channel_call_id;     /* 0: on no channel. */
    struct novakms_result *ready; /* Told in the next turn. */
    /* Made before anything is sent, so that no answer is lost for it. NULL: it is given away. */
    struct client_result *result;
    void *data;
    novakms_result_cb result_cb;
};

struct client_server {
    struct net_channel *channel; /* NULL: the place is free. */
    bool is_listed;              /* New calls may go to it. */
    char target[NET_TARGET_BYTES];
};

struct novakms {
    uv_loop_t own_loop;
    uv_loop_t *loop;
    bool owns_loop;
    bool is_running; /* Inside the private loop. */
    bool is_closing;
    bool is_closed;

    struct client_members members;
    struct client_trust trust;
    struct client_identity identity;
    struct client_proxy proxy;
    uint64_t chain_id;
    uint32_t timeout_ms;
    uint32_t attempt_count_max;
    uint32_t connect_timeout_ms;
    uint32_t keepalive_ms;
    struct identity_credential *credential;
    struct tls_config *tls;
    uint64_t refresh_at_ms; /* Not before. */

    struct net_budget budget;
    struct net_io *io;
    struct client_server servers[NOVAKMS_SERVER_COUNT_MAX];
    bool finds_servers;         /* In the registry; otherwise the program named them. */
    size_t unusable_count;      /* Members that have no URL to call, */
    struct status unusable_why; /* and why others cannot be called, of one of them. */
    size_t preferred_idx;       /* The server that answered last. */
    size_t hold_count; /* What must be gone before io is: channels, a read of the list, and the
                              client itself until it is closed. */

    struct novakms_stamp seen;  /* The greatest of all answers, */
    struct novakms_stamp wrote; /* and of this client's own writes. */
    uint64_t last_id;
    uint64_t told_count; /* Callbacks that ran. */
    struct client_call *calls;

    uv_timer_t ready_timer; /* Tells results that were known at the start of a call. */
    uv_timer_t poll_timer;  /* Ends novakms_poll. */
    uv_timer_t wait_timer;  /* Ends calls that wait for the member list. */
    bool is_poll_over;
    unsigned handle_count;
    void *close_data;
    novakms_close_cb close_cb;
};

/* Makes or renews the credential and gives it to the channels, when it is time. */
RC client_refresh(struct novakms *client, struct status *why);
/* Starts a call; as the public functions of that kind. */
uint64_t client_start(struct novakms *client, const struct client_op *op, const void *args,
                      void *data, novakms_result_cb result_cb);
/* Makes a call and waits for it. */
enum novakms_code client_wait(struct novakms *client, const struct client_op *op, const void *args,
                              struct novakms_result **out);
/* Tells the results that are ready. */
void client_tell_ready(struct novakms *client);
/* The member list was read: goes on with the calls that wait for it. */
void client_resume(struct novakms *client);
/* Ends the calls that wait for the member list, with CANCELLED; they are ready then. */
void client_cancel_waiting(struct novakms *client);
/* Gives one of hold_count back; with the last one io is closed. */
void client_release(struct novakms *client);

/* ---- Its servers (servers.c) ---- */

/* Adds "host:port,host:port". */
RC client_servers_name(struct novakms *client, const char *text, struct status *why);
/* Follows the member list: new members get a channel, those that left it no more calls. */
void client_servers_update(struct novakms *client);
void client_servers_close(struct novakms *client);
/* The first server from from_idx on, around the end, whose bit is not in skip_mask;
 * NOVAKMS_SERVER_COUNT_MAX when there is none. */
size_t client_servers_pick(const struct novakms *client, size_t from_idx, uint32_t skip_mask);
/* How many are not in skip_mask. */
uint32_t client_servers_count(const struct novakms *client, uint32_t skip_mask);
/* Why the registry gives none. UNAVAILABLE. */
RC client_servers_explain(const struct novakms *client, struct status *why);
