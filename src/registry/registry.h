/* SPDX-License-Identifier: Apache-2.0 */
/* Who is registered: the interface of a source (a file, the chain). A source blocks, has one owner
 * thread, and gives each answer with the instant for which it vouches. A node puts a
 * registry_service before it; a client program calls it directly. */
#pragma once

#include "auth/facts.h"
#include "auth/rules.h"

#define REGISTRY_MEMBER_COUNT_MAX 256
/* Room for one sentence on why a source cannot be read. */
#define REGISTRY_REASON_BYTES 200

/* The members of the cluster: the instances that satisfy the peer rule, by instance id. About
 * 120 KiB: keep it on the heap. */
struct registry_members {
    uint64_t as_of_mono_ms; /* As in struct auth_facts. */
    uint64_t head_block;    /* The chain's head they were read at; 0 for a file. */
    size_t count;
    struct auth_instance at[REGISTRY_MEMBER_COUNT_MAX];
};

struct registry;

/* What a source implements. On error the reason says in one sentence what was wrong and where. */
struct registry_ops {
    RC(*lookup)
    (struct registry *registry, const struct wallet *wallet, struct auth_facts *out,
     char reason[static REGISTRY_REASON_BYTES]);
    RC(*members)
    (struct registry *registry, struct registry_members *out,
     char reason[static REGISTRY_REASON_BYTES]);
    void (*close)(struct registry *registry); /* Frees registry. */
};

/* The head of a source's own struct. */
struct registry {
    const struct registry_ops *ops;
    uint64_t kms_app_id; /* The app whose instances are peers; fixed for the source's life. */
    uint32_t refresh_ms; /* How often an answer in use is worth reading again. */
};

/* Asks for one wallet. An unknown wallet is OK with found false; an error always means that the
 * source cannot be read (UNAVAILABLE, TIMEOUT, IO, MALFORMED, TOO_BIG, NOMEM), never that the
 * wallet is not there. Class RETRY is about the source; PEER (MALFORMED, TOO_BIG) may be about this
 * wallet's record alone. *out is cleared on error; reason is "" on success. Blocks. */
RC registry_lookup(struct registry *registry, const struct wallet *wallet, struct auth_facts *out,
                   char reason[static REGISTRY_REASON_BYTES]);
/* All members, complete or not at all: TOO_BIG when there are more than fit. Blocks. */
RC registry_members(struct registry *registry, struct registry_members *out,
                    char reason[static REGISTRY_REASON_BYTES]);
/* Whether wallet is a member, for a client that judges a server: OK, DENIED with the verdict's
 * text as the reason, or as registry_lookup. Blocks. */
RC registry_check_member(struct registry *registry, const struct wallet *wallet,
                         char reason[static REGISTRY_REASON_BYTES]);
/* Takes *registry: frees, sets NULL. Accepts a closed one. */
void registry_close(struct registry **registry);
