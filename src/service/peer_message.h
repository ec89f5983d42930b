/* SPDX-License-Identifier: Apache-2.0 */
/* PeerService's messages and the replica room's structs, each into the other. What comes in is of a
 * peer and hostile: every size and count is checked here, and false comes with *why set, the code
 * and a sentence that names the field. What goes out is in the arena, or lends what it was given.
 * Any thread. */
#pragma once

#include <novakms/v1/peer.pb-c.h>

#include "base/arena.h"
#include "base/status.h"
#include "replica/replica.h"

#define PEER_NONCE_BYTES 32
#define PEER_DIGEST_BYTES 16

/* Bytes of one page at most, as the log counts them; one larger record goes alone. */
#define PEER_PAGE_BYTES_MAX (1u << 20)
/* A frame between members: the largest record there is, with two full vectors. */
#define PEER_FRAME_BYTES_MAX ((size_t)8 << 20)

struct peer_limits {
    size_t known_count_max;  /* Entries of one vector. */
    size_t record_count_max; /* Of one page. */
};
/* What a store takes, and pages of that size hold. */
static inline struct peer_limits peer_limits_of(const struct store_cfg *cfg,
                                                uint32_t page_bytes_max) {
    return (struct peer_limits){ .known_count_max = cfg->writer_count_max,
                                 .record_count_max = page_bytes_max / STORE_RECORD_BYTES + 1 };
}

/* ---- In. Spans lend from the message; arrays are in the arena. ---- */

bool peer_state_in(const Novakms__V1__PeerState *in, struct replica_state *out, struct status *why);
bool peer_pull_request_in(const Novakms__V1__PullRequest *in, const struct peer_limits *limits,
                          struct arena *arena, struct replica_request *out, struct status *why);

struct peer_page {
    struct replica_page page;
    struct replica_record *records;
    size_t count;
};
bool peer_page_in(const Novakms__V1__PullResponse *in, const struct peer_limits *limits,
                  struct arena *arena, struct peer_page *out, struct status *why);

struct peer_digests {
    struct replica_state state;
    struct store_known known;
    struct replica_digest *digests;
    size_t count;
    bool more;
};
bool peer_digests_in(const Novakms__V1__GetDigestResponse *in, const struct peer_limits *limits,
                     struct arena *arena, struct peer_digests *out, struct status *why);

/* ---- Out. NOMEM. ---- */

RC peer_state_out(const struct replica_state *state, struct arena *arena,
                  Novakms__V1__PeerState **out);
RC peer_known_out(const struct store_known *known, struct arena *arena, Novakms__V1__Known **out);
RC peer_heard_out(const struct replica_heard *heard, size_t count, struct arena *arena,
                  Novakms__V1__MemberIncarnation ***out, size_t *out_count);
RC peer_pull_request_out(const struct replica_request *request, struct arena *arena,
                         Novakms__V1__PullRequest **out);

/* A record as it is sent, with the memory that it points to but for key and sealed bytes. */
struct peer_record_out {
    Novakms__V1__PeerRecord message;
    Novakms__V1__Stamp stamp;
    Novakms__V1__Stamp replaced;
    uint8_t writer[STORE_WRITER_BYTES];
    uint8_t replaced_writer[STORE_WRITER_BYTES];
};
/* Fills *out, which lends key and sealed bytes from record. */
void peer_record_out(const struct store_record *record, struct peer_record_out *out);
