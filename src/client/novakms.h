/* SPDX-License-Identifier: Apache-2.0 */
/* libnovakms: the C client of Nova KMS. An application with a wallet derives its keys and keeps its
 * data on a cluster of nodes, over TLS in which both sides prove their wallets.
 *
 * Threads: the library makes none (libuv looks up host names on a pool of its own). A client
 * belongs to one thread at a time; two threads use two clients, or a lock of their own around every
 * call. Callbacks run on the thread that runs the loop.
 *
 * Ownership: arguments are lent for the duration of the call, also to the calls that only start
 * something. A result is the caller's own until novakms_free, which wipes it.
 *
 * Trust: a server is used only after its wallet was checked inside the TLS handshake, before
 * anything of the caller's is sent. There is no mode without that check.
 *
 * Identity: whoever can make a wallet sign text of his choice can pose as that wallet here. Text
 * from others that starts with NOVAKMS_SIGN_PREFIX must never be signed: novakms_sign refuses it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NOVAKMS_API __attribute__((visibility("default")))
#else
#define NOVAKMS_API
#endif

struct novakms;   /* A client: servers, identity and connections. */
struct uv_loop_s; /* libuv's uv_loop_t. */

#define NOVAKMS_WALLET_BYTES 20
#define NOVAKMS_KEY_BYTES 32
#define NOVAKMS_SIGNATURE_BYTES 65
#define NOVAKMS_WRITER_BYTES 16
#define NOVAKMS_HASH_BYTES 32
/* Room for one sentence and its NUL. */
#define NOVAKMS_TEXT_BYTES 257
/* "0x", 40 lowercase hex digits, NUL. */
#define NOVAKMS_WALLET_TEXT_BYTES 43
#define NOVAKMS_SERVER_COUNT_MAX 16
#define NOVAKMS_BATCH_COUNT_MAX 256
#define NOVAKMS_SIGN_PREFIX "NovaKMS:"
/* The chain whose wallets are meant when cfg names none (Base Sepolia). */
#define NOVAKMS_CHAIN_ID_DEFAULT 84532
#define NOVAKMS_TIMEOUT_DEFAULT_MS 10000
#define NOVAKMS_TIMEOUT_MAX_MS 300000

/* How a call went: gRPC's canonical codes,
 * https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
 * The code says how to react; the sentence beside it says what happened. */
enum novakms_code {
    NOVAKMS_OK = 0,
    NOVAKMS_CANCELLED = 1, /* novakms_cancel, or the client was closed. */
    NOVAKMS_UNKNOWN = 2,
    NOVAKMS_INVALID_ARGUMENT = 3,  /* The sentence names the field and what is allowed. */
    NOVAKMS_DEADLINE_EXCEEDED = 4, /* No answer in time. */
    NOVAKMS_NOT_FOUND = 5,         /* The key holds no value. */
    NOVAKMS_ALREADY_EXISTS = 6,
    NOVAKMS_PERMISSION_DENIED = 7,   /* The wallet is not an authorized instance. */
    NOVAKMS_RESOURCE_EXHAUSTED = 8,  /* A rate, a size or a quota; see retry_after_ms. */
    NOVAKMS_FAILED_PRECONDITION = 9, /* The client is not in the state the call needs. */
    NOVAKMS_ABORTED = 10,
    NOVAKMS_OUT_OF_RANGE = 11,
    NOVAKMS_UNIMPLEMENTED = 12, /* The node is older than the call. */
    NOVAKMS_INTERNAL = 13,      /* A bug, or the node broke the protocol. */
    NOVAKMS_UNAVAILABLE = 14,   /* No node reached, or none that serves. */
    NOVAKMS_DATA_LOSS = 15,
    NOVAKMS_UNAUTHENTICATED = 16 /* No identity given, or the server's was refused. */
};

/* "NOT_FOUND"; "UNKNOWN" for a number that is no code. Any thread. */
NOVAKMS_API const char *novakms_code_name(enum novakms_code code);
/* "0.1.0". Any thread. */
NOVAKMS_API const char *novakms_version(void);

/* Lent bytes; ptr may be NULL when len is 0. */
struct novakms_span {
    const void *ptr;
    size_t len;
};

/* The bytes of a C string, without its NUL. Lends text. Any thread. */
NOVAKMS_API struct novakms_span novakms_text(const char *text);

/* The instant and author of a write. hlc 0 means none. Ordered by hlc, then writer. */
struct novakms_stamp {
    uint64_t hlc; /* Unix milliseconds in the upper 48 bits, a counter in the lower 16. */
    uint8_t writer[NOVAKMS_WRITER_BYTES];
};

/* How a key is made from the cluster's secret (docs/protocol.md). */
enum novakms_kdf {
    NOVAKMS_KDF_NOVA_V1 = 0, /* As every earlier node: ("a:b", "") and ("a", "b") give one key. */
    NOVAKMS_KDF_NOVA_V2 = 1  /* No two different inputs give the same key. */
};

/* When a write is answered. */
enum novakms_durability {
    NOVAKMS_DURABILITY_LOCAL = 0,    /* When the node that was called holds it. */
    NOVAKMS_DURABILITY_ONE_PEER = 1, /* When one other node has acknowledged it. */
    NOVAKMS_DURABILITY_QUORUM = 2    /* When a majority of the cluster holds it. */
};

/* Signs text with the wallet's key as EIP-191 does: r, s, v, with v 0, 1, 27 or 28. The text is
 * lent, printable and starts with NOVAKMS_SIGN_PREFIX. Returns 0 when done. Called inside
 * novakms_open, and inside later calls about twice a day; may block. */
typedef int (*novakms_sign_cb)(void *data, struct novakms_span text,
                               uint8_t signature[NOVAKMS_SIGNATURE_BYTES]);

/* What a client is made of; zero means "not given" for every field. All pointers are lent for the
 * call that opens, and what they point to is copied, except data. */
struct novakms_cfg {
    /* "host:port", several separated by commas, tried in that order. IPv6: "[::1]:9443". Without
     * them, the nodes of the registry are found at the URLs that it has for them (https://host:port
     * and nothing more), NOVAKMS_SERVER_COUNT_MAX at a time, in an order by chance. */
    const char *servers;
    /* Who a server may be: any active, verified KMS node in this registry file, re-read as it
     * changes, */
    const char *registry_path;
    /* or in the registry on chain: NovaAppRegistry at registry_address ("0x" and 40 hex digits),
     * the instances of kms_app_id, read through the JSON-RPC server at rpc_url, which must be of
     * chain_id. All of them are the program's to say and never asked of the chain. Whoever answers
     * at rpc_url is believed about who is registered: use one that checks what it says, such as a
     * light client, or one of your own. */
    const char *rpc_url;
    const char *registry_address;
    uint64_t kms_app_id;
    /* A state of that registry older than this is not used: calls fail. By the timestamp of its
     * block. 180000 when 0, at most a day. */
    uint32_t registry_ttl_ms;
    /* or one of these wallets, 0x and 40 hex digits each, separated by commas. With a registry too,
     * a wallet must satisfy either. With none of all this, opening fails. */
    const char *server_wallets;
    /* The caller's wallet, in at most one of three ways: a key file, ... */
    const char *identity_path;
    /* ... the key itself, 32 bytes, ... */
    const uint8_t *identity_key;
    /* ... or whoever can sign for sign_wallet. Without an identity only novakms_status and
     * novakms_nodes work. */
    const uint8_t *sign_wallet;
    void *sign_data;
    novakms_sign_cb sign_cb;
    /* The directory of a `nova-kms --dev`: gives servers, chain id, registry and identity where
     * they are not given above. */
    const char *dev_dir;
    /* The chain that wallets are registered on; both sides' signatures name it.
     * NOVAKMS_CHAIN_ID_DEFAULT when 0. */
    uint64_t chain_id;
    /* For calls that name none. NOVAKMS_TIMEOUT_DEFAULT_MS when 0; the largest is
     * NOVAKMS_TIMEOUT_MAX_MS. */
    uint32_t timeout_ms;
    /* For TCP (with a proxy's answer) and for the TLS handshake each. When 0: 5000, and 3000 where
     * there may be several servers. */
    uint32_t connect_timeout_ms;
    /* Tries of a call that is safe to repeat, the first included; 4 when 0, at most 16. */
    uint32_t attempt_count_max;
    /* Idle time after which a connection is probed with a ping; 0 means never. */
    uint32_t keepalive_ms;
    /* The HTTP proxy through which servers are reached (CONNECT):
     * "http://[user:password@]host:port", "" for none. NULL: what https_proxy or HTTPS_PROXY of the
     * environment says, which does not count for localhost and loopback addresses. */
    const char *proxy;
    /* Servers that are reached without it, between commas: names, which stand for all below them
     * too, addresses, ranges of addresses (10.0.0.0/8) or "*"; each with ":port" if only that one.
     * NULL: none, or with the environment's proxy its no_proxy or NO_PROXY. */
    const char *no_proxy;
};

/* Gives *out, a client that runs its own loop inside the calls made on it; NULL on failure, with a
 * sentence in error (which may be NULL). Reads files, connects to nothing yet. INVALID_ARGUMENT
 * names the field; UNAUTHENTICATED for an identity that cannot be used. */
NOVAKMS_API enum novakms_code novakms_open(const struct novakms_cfg *cfg, struct novakms **out,
                                           char error[NOVAKMS_TEXT_BYTES]);
/* As novakms_open, for a program with a libuv loop: only the calls that start something work, their
 * callbacks run from that loop, and everything is called on its thread. The loop is lent until the
 * client's memory is gone (novakms_close). */
NOVAKMS_API enum novakms_code novakms_open_on(struct uv_loop_s *loop, const struct novakms_cfg *cfg,
                                              struct novakms **out, char error[NOVAKMS_TEXT_BYTES]);

typedef void (*novakms_close_cb)(void *data);
/* Takes *client and sets it NULL; accepts NULL. Calls in flight end with CANCELLED, inside this
 * call. On a private loop all is gone when it returns. On the program's loop the memory goes in its
 * next turns. A read of the chain that hangs may keep it for a second. Not to be called inside a
 * callback of a client with a private loop. */
NOVAKMS_API void novakms_close(struct novakms **client);
/* As novakms_close; close_cb(data) runs when the memory is gone. */
NOVAKMS_API void novakms_close_notify(struct novakms **client, void *data,
                                      novakms_close_cb close_cb);

/* One item of a batch, or one key of a list. */
struct novakms_item {
    enum novakms_code code;    /* Batches: how this item went. */
    const char *text;          /* A sentence, empty when OK. */
    struct novakms_span key;   /* list: the key. */
    struct novakms_span bytes; /* batch_derive: the key. batch_get: the value. */
    struct novakms_stamp stamp;
    uint64_t value_bytes;     /* list: size of the value. */
    uint64_t expires_unix_ms; /* 0 means never. */
};

/* Who the server takes the caller for. */
struct novakms_caller {
    uint8_t wallet[NOVAKMS_WALLET_BYTES];
    uint64_t app_id;
    uint64_t version_id;
    uint64_t instance_id;
    bool is_kms_member;
};

/* What a node says about itself. */
struct novakms_node_status {
    bool serving;
    const char *reason; /* Why it does not serve; empty when it does. */
    const char *version;
    uint64_t uptime_ms;
    uint8_t wallet[NOVAKMS_WALLET_BYTES];
    uint64_t chain_id;
    uint64_t kms_app_id;
    struct novakms_span master_secret_hash; /* 32 bytes, or empty. */
    uint64_t namespace_count;
    uint64_t key_count;
    uint64_t stored_bytes;
    uint64_t tombstone_count;
    uint64_t instance_count;
};

/* A member of the cluster. */
struct novakms_node {
    uint8_t wallet[NOVAKMS_WALLET_BYTES];
    uint64_t instance_id;
    uint64_t version_id;
    const char *url;
    bool is_self; /* Whether this is the node that answered. */
};

/* What came of a call. One kind for all calls; a field that a call does not name is zero. */
struct novakms_result {
    enum novakms_code code;
    char text[NOVAKMS_TEXT_BYTES]; /* One sentence, empty when OK. */
    uint32_t retry_after_ms;       /* RESOURCE_EXHAUSTED: when to try again; 0: not by waiting. */
    /* The call failed, and a write may have been made all the same: read before writing again. Also
     * when memory is out for the answer: RESOURCE_EXHAUSTED, and later calls show the write's stamp
     * as if it had been taken. */
    bool maybe_executed;
    /* The node went on without a write that this client has made or seen, because it waited for it
     * long enough: a read may miss it. Said once: what was shown is forgotten, so that later calls
     * do not wait for it. */
    bool may_miss;
    /* put, delete, get, list; a delete that a get found; the greatest of a failed write's. */
    struct novakms_stamp stamp;
    struct novakms_span bytes;  /* derive: the key. get: the value. */
    uint64_t expires_unix_ms;   /* get: 0 means never. */
    bool existed;               /* delete: whether the node held a value. */
    struct novakms_item *items; /* list and the batches, in order. */
    size_t item_count;
    struct novakms_span page_token;  /* list: for the next page; empty on the last one. */
    struct novakms_caller caller;    /* whoami. */
    struct novakms_node_status node; /* status. */
    struct novakms_node *nodes;      /* nodes. */
    size_t node_count;
};

/* Takes *result, wipes and frees it, sets it NULL. Accepts NULL. Any thread. */
NOVAKMS_API void novakms_free(struct novakms_result **result);

/* The arguments of the calls. timeout_ms 0 means cfg's; it spans all tries of the call. */
struct novakms_derive_args {
    struct novakms_span path;    /* UTF-8, 1 to 1024 bytes, not blank. "data_key" is reserved. */
    struct novakms_span context; /* At most 1024 bytes. */
    uint32_t length;             /* Bytes of key, 1 to 1024. 0 means 32. */
    enum novakms_kdf kdf;
    uint32_t timeout_ms;
};

struct novakms_put_args {
    struct novakms_span key;   /* 1 to 1024 bytes. */
    struct novakms_span value; /* At most the node's limit, 1 MiB unless configured. */
    uint64_t ttl_ms;           /* 0: never expires. At most 10 years. */
    enum novakms_durability durability;
    uint32_t timeout_ms;
};

struct novakms_get_args {
    struct novakms_span key;
    uint32_t timeout_ms;
};

struct novakms_delete_args {
    struct novakms_span key;
    enum novakms_durability durability;
    uint32_t timeout_ms;
};

struct novakms_list_args {
    struct novakms_span prefix;     /* Keys that start with it; empty means all. */
    struct novakms_span page_token; /* Of the page before, with the same prefix. */
    uint32_t limit;                 /* Keys to a page, 1 to 1000. 0 means 100. */
    uint32_t timeout_ms;
};

/* 1 to NOVAKMS_BATCH_COUNT_MAX items each; their own timeout_ms and durability are not read. */
struct novakms_batch_derive_args {
    const struct novakms_derive_args *items;
    size_t item_count;
    uint32_t timeout_ms;
};

struct novakms_batch_get_args {
    const struct novakms_span *keys;
    size_t key_count;
    uint32_t timeout_ms;
};

struct novakms_batch_put_args {
    const struct novakms_put_args *items;
    size_t item_count;
    enum novakms_durability durability;
    uint32_t timeout_ms;
};

/* For calls without arguments of their own. */
struct novakms_plain_args {
    uint32_t timeout_ms;
};

/* The calls that wait for their answer. Each gives *out whatever happens (novakms_free), and gives
 * its code back. FAILED_PRECONDITION on a client with the program's loop, and inside a callback.
 *
 * A call is repeated, on the next server where there are several, only when it was certainly not
 * executed, or only reads; a write that may have been executed is reported (maybe_executed).
 * docs/sdk.md has the table. */
NOVAKMS_API enum novakms_code novakms_derive(struct novakms *client,
                                             const struct novakms_derive_args *args,
                                             struct novakms_result **out);
NOVAKMS_API enum novakms_code novakms_put(struct novakms *client,
                                          const struct novakms_put_args *args,
                                          struct novakms_result **out);
/* NOT_FOUND when the key holds no value, or its time to live is over. */
NOVAKMS_API enum novakms_code novakms_get(struct novakms *client,
                                          const struct novakms_get_args *args,
                                          struct novakms_result **out);
/* Deleting what is not there succeeds. */
NOVAKMS_API enum novakms_code novakms_delete(struct novakms *client,
                                             const struct novakms_delete_args *args,
                                             struct novakms_result **out);
/* Keys in byte order, without their values. */
NOVAKMS_API enum novakms_code novakms_list(struct novakms *client,
                                           const struct novakms_list_args *args,
                                           struct novakms_result **out);
/* The batches are OK when the node looked at the items; each item has a code of its own. */
NOVAKMS_API enum novakms_code novakms_batch_derive(struct novakms *client,
                                                   const struct novakms_batch_derive_args *args,
                                                   struct novakms_result **out);
NOVAKMS_API enum novakms_code novakms_batch_get(struct novakms *client,
                                                const struct novakms_batch_get_args *args,
                                                struct novakms_result **out);
/* In order, but not a transaction. */
NOVAKMS_API enum novakms_code novakms_batch_put(struct novakms *client,
                                                const struct novakms_batch_put_args *args,
                                                struct novakms_result **out);
/* args may be NULL in these three. */
NOVAKMS_API enum novakms_code novakms_whoami(struct novakms *client,
                                             const struct novakms_plain_args *args,
                                             struct novakms_result **out);
NOVAKMS_API enum novakms_code novakms_status(struct novakms *client,
                                             const struct novakms_plain_args *args,
                                             struct novakms_result **out);
NOVAKMS_API enum novakms_code novakms_nodes(struct novakms *client,
                                            const struct novakms_plain_args *args,
                                            struct novakms_result **out);

/* Runs once for each started call, from the loop, never inside the call that started it (but inside
 * novakms_close). Gives result (novakms_free). */
typedef void (*novakms_result_cb)(void *data, struct novakms_result *result);

/* The calls that only start. Each returns an id for novakms_cancel, or 0 when memory is out: then
 * result_cb never runs. Everything else that can go wrong is told in the result. */
NOVAKMS_API uint64_t novakms_derive_start(struct novakms *client,
                                          const struct novakms_derive_args *args, void *data,
                                          novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_put_start(struct novakms *client, const struct novakms_put_args *args,
                                       void *data, novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_get_start(struct novakms *client, const struct novakms_get_args *args,
                                       void *data, novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_delete_start(struct novakms *client,
                                          const struct novakms_delete_args *args, void *data,
                                          novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_list_start(struct novakms *client,
                                        const struct novakms_list_args *args, void *data,
                                        novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_batch_derive_start(struct novakms *client,
                                                const struct novakms_batch_derive_args *args,
                                                void *data, novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_batch_get_start(struct novakms *client,
                                             const struct novakms_batch_get_args *args, void *data,
                                             novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_batch_put_start(struct novakms *client,
                                             const struct novakms_batch_put_args *args, void *data,
                                             novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_whoami_start(struct novakms *client,
                                          const struct novakms_plain_args *args, void *data,
                                          novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_status_start(struct novakms *client,
                                          const struct novakms_plain_args *args, void *data,
                                          novakms_result_cb result_cb);
NOVAKMS_API uint64_t novakms_nodes_start(struct novakms *client,
                                         const struct novakms_plain_args *args, void *data,
                                         novakms_result_cb result_cb);

/* Ends a started call with CANCELLED, in a later turn of the loop. Ids of finished calls are
 * ignored. A write that was sent may still be made (maybe_executed). */
NOVAKMS_API void novakms_cancel(struct novakms *client, uint64_t id);

/* Runs a private loop until something happened, timeout_ms at most (0: looks and returns). Returns
 * the number of calls still in flight. On the program's loop it only returns the number. */
NOVAKMS_API size_t novakms_poll(struct novakms *client, uint32_t timeout_ms);

/* The highest stamp this client has seen. Every call shows it and that of the client's own latest
 * write, so that later writes are stamped after both and later calls wait for both, on whichever
 * node they land. */
NOVAKMS_API struct novakms_stamp novakms_seen(const struct novakms *client);
/* Raises it, to a stamp that another process has seen or was given for a write: this client's later
 * writes come after that, and while nothing higher is seen, its calls wait for it. */
NOVAKMS_API void novakms_raise_seen(struct novakms *client, const struct novakms_stamp *stamp);

/* Signs text with the client's identity, as EIP-191 does. INVALID_ARGUMENT for text that starts
 * with NOVAKMS_SIGN_PREFIX (it would hand over the identity) or is empty; FAILED_PRECONDITION
 * without an identity. error may be NULL. */
NOVAKMS_API enum novakms_code novakms_sign(struct novakms *client, struct novakms_span text,
                                           uint8_t signature[NOVAKMS_SIGNATURE_BYTES],
                                           char error[NOVAKMS_TEXT_BYTES]);

/* Makes a new random key, writes it to a file of mode 0600 that must not exist yet, and gives its
 * wallet. error may be NULL. Any thread. */
NOVAKMS_API enum novakms_code novakms_identity_new(const char *path,
                                                   char wallet[NOVAKMS_WALLET_TEXT_BYTES],
                                                   char error[NOVAKMS_TEXT_BYTES]);
/* Gives the wallet of a key file. error may be NULL. Any thread. */
NOVAKMS_API enum novakms_code novakms_identity_show(const char *path,
                                                    char wallet[NOVAKMS_WALLET_TEXT_BYTES],
                                                    char error[NOVAKMS_TEXT_BYTES]);

/* For direct use of the generated stubs (novakms/v1/kms.pb-c.h): lends a service of the first
 * server, until the client is closed. NULL when memory is out, and for a client that has no
 * cfg.servers, or has cfg.rpc_url. Descriptors are of KmsService and NodeService. Calls have cfg's
 * timeout, no retries and no stamps. Their closures run from the loop, with NULL when the call
 * failed. struct ProtobufCService is protobuf-c's. */
struct ProtobufCService;
struct ProtobufCServiceDescriptor;
NOVAKMS_API struct ProtobufCService *
novakms_channel_service(struct novakms *client,
                        const struct ProtobufCServiceDescriptor *descriptor);
/* Inside such a closure: how the call went. Gives code and sentence of the call that is just
 * ending; error may be NULL. */
NOVAKMS_API enum novakms_code novakms_channel_error(const struct novakms *client,
                                                    char error[NOVAKMS_TEXT_BYTES]);

#ifdef __cplusplus
}
#endif
