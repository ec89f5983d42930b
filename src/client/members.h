/* SPDX-License-Identifier: Apache-2.0 */
/* The registry as a client has it: who is an active, verified KMS node, and where. A file is read
 * where it is asked for, which takes no time worth a thread. The chain is read on libuv's pool, one
 * read at a time, so that nothing on the loop waits for it; in between there is the list of the
 * last read, and its age decides whether it counts. One owner: the loop's thread. */
#pragma once

#include <stdatomic.h>

#include <uv.h>

#include "base/status.h"
#include "client/novakms.h"
#include "client/policy.h"
#include "registry/registry.h"

#define CLIENT_LIST_TTL_DEFAULT_MS 180000u
#define CLIENT_LIST_TTL_MAX_MS 86400000u
/* A list of this age knows what there is to know. */
#define CLIENT_LIST_RECENT_MS 1000u
/* For a read of the chain: below the time that a call has by default, so that the call can say what
 * was wrong. */
#define CLIENT_RPC_TIMEOUT_MS 3000u
#define CLIENT_RPC_TOTAL_MS 6000u
#define CLIENT_RPC_ATTEMPT_COUNT 2u
/* A read that failed before this is made once more: servers of the same URL may know of different
 * blocks. */
#define CLIENT_READ_AGAIN_MS 2000u

/* Embedded, does not move. Zero is a registry that is not given. */
struct client_members {
    struct registry *source; /* NULL: none. While is_reading the pool's thread has it. */
    bool is_chain;
    uint64_t ttl_ms;
    uv_loop_t *loop;
    void (*read_cb)(void *ctx);
    void *ctx;

    struct registry_members *latest;
    bool has_list;
    bool is_outdated; /* A server was met whose wallet is not in it; it may be of before. */
    bool has_failed;
    uint64_t failed_at_ms;
    char failure[REGISTRY_REASON_BYTES];

    uv_work_t work;
    bool is_reading;
    atomic_bool stop;
    struct registry_members *next; /* Of the read under way, as result and reason. */
    struct rc result;
    char reason[REGISTRY_REASON_BYTES];
};

/* Whether cfg gives a registry. */
bool client_members_are_given(const struct novakms_cfg *cfg);
/* Opens the registry that cfg gives; reads a file, connects to no chain yet. Zeroed before. After
 * each read of the list read_cb(ctx) runs. INVALID with *why. */
RC client_members_init(struct client_members *m, const struct novakms_cfg *cfg, struct status *why);
/* Not while is_reading. Accepts a closed one. */
void client_members_close(struct client_members *m);

/* What a call that needs the list has to do. */
enum client_list_plan client_members_plan(const struct client_members *m);
bool client_members_are_usable(const struct client_members *m);
/* Reads the list: read_cb runs in a later turn of the loop, for a file inside this. Nothing happens
 * when it is being read. */
void client_members_read(struct client_members *m);
/* Makes the read under way end soon. read_cb still runs. */
void client_members_stop(struct client_members *m);
/* Why there is no list that can be used. UNAVAILABLE. */
RC client_members_explain(const struct client_members *m, struct status *why);

/* Whether wallet is a node: in the list, or in the file. DENIED with *why; UNAVAILABLE and the like
 * when the registry is not there to say so. */
RC client_members_check(struct client_members *m, const struct wallet *wallet, struct status *why);
