/* SPDX-License-Identifier: Apache-2.0 */
/* What KmsService's methods do, without the transport: a request and its caller in, a response or
 * an error out. kms.h puts them behind the generated service. Each works on one worker's thread;
 * what workers share is in struct service_shared. */
#pragma once

#include <novakms/v1/kms.pb-c.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/wallet.h"
#include "replica/replica.h"
#include "service/clock.h"
#include "service/durability.h"
#include "service/keys.h"
#include "service/kv.h"
#include "service/readiness.h"
#include "service/seal.h"

#define SERVICE_PATH_BYTES_MAX 1024u
#define SERVICE_CONTEXT_BYTES_MAX 1024u
#define SERVICE_KEY_LENGTH_DEFAULT 32u
#define SERVICE_LIST_LIMIT_DEFAULT 100u
#define SERVICE_LIST_LIMIT_MAX 1000u
#define SERVICE_BATCH_COUNT_MAX 256u

/* Set up before the workers start, unchanged while they run. */
struct service_shared {
    struct service_kv *kv;
    struct replica *replica;                   /* Guarded by kv's lock. */
    atomic_bool *is_stopping;                  /* Long polls end at once. */
    const struct service_readiness *readiness; /* Whether a write that has waited may be made. */
    const struct kdf_master *master; /* What workers begin with; NULL: service_kms_set_master. */
    const struct service_clock *clock;
    uint64_t kms_app_id;
    uint64_t value_bytes_max;
    uint64_t read_wait_ms;
    struct service_durability_stats *durability_stats;
};

/* One worker's view. */
struct service_worker {
    const struct service_shared *shared;
    struct service_keys *keys;
};

/* Who calls, as the registry has it now. */
struct service_caller {
    struct wallet wallet;
    uint64_t app_id;
    uint64_t version_id;
    uint64_t instance_id;
    bool is_kms_member;
};

enum service_outcome {
    SERVICE_ANSWERED, /* The response is filled; its parts are in the arena. */
    SERVICE_FAILED,   /* why is set. */
    SERVICE_WAITS,    /* Call again when this node knows of what is shown, or with may_miss set when
                         the wait is over. When written.count is set: when enough members have
                         acknowledged it (service_is_durable), or with is_over set. */
};

struct service_call {
    const struct service_caller *caller; /* Lent. */
    struct arena *arena;                 /* Lent; lives until the answer was sent. */
    uint64_t now_unix_ms;
    size_t answer_bytes_max; /* Of the packed response. */
    bool may_miss; /* The wait for what is shown is over: go on all the same, and say so. */
    bool is_over;  /* The wait for acknowledgements is over. */
    /* Out. */
    struct status why;
    struct store_stamp stamp;   /* Of the delete that NOT_FOUND read, or none. */
    struct service_shown shown; /* What SERVICE_WAITS waits for, */
    bool is_write;              /* before it writes. */
    /* In and out: what the call has written. It is not written again when the call goes on. */
    struct service_written written;
};

/* One for each method: fills *out, which was initialised with its INIT macro. */
/* method, request, response, and the response's name in its functions. */
#define SERVICE_METHOD_MAP(X)                                                       \
    X(derive, DeriveRequest, DeriveResponse, derive_response)                       \
    X(put, PutRequest, PutResponse, put_response)                                   \
    X(get, GetRequest, GetResponse, get_response)                                   \
    X(delete, DeleteRequest, DeleteResponse, delete_response)                       \
    X(list, ListRequest, ListResponse, list_response)                               \
    X(batch_derive, BatchDeriveRequest, BatchDeriveResponse, batch_derive_response) \
    X(batch_get, BatchGetRequest, BatchGetResponse, batch_get_response)             \
    X(batch_put, BatchPutRequest, BatchPutResponse, batch_put_response)             \
    X(who_am_i, WhoAmIRequest, WhoAmIResponse, who_am_iresponse)

#define SERVICE_METHOD_DECLARE(name, request, response, response_name)                            \
    enum service_outcome service_##name(struct service_worker *worker, struct service_call *call, \
                                        const Novakms__V1__##request *in,                         \
                                        Novakms__V1__##response *out);
SERVICE_METHOD_MAP(SERVICE_METHOD_DECLARE)
#undef SERVICE_METHOD_DECLARE
