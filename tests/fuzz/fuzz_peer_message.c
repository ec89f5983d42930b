/* SPDX-License-Identifier: Apache-2.0 */
/* What a member may send, unpacked as the node does and taken in: the first byte says which
 * message. */
#include "fuzz.h"
#include "service/peer_message.h"

#define MEMORY_BYTES_MAX ((size_t)1 << 20)

static const struct peer_limits limits = { 8, 8 };

static void *take(void *arena, size_t size) {
    return arena_take(arena, size);
}

static void give_back(void *arena, void *ptr) {
    (void)arena;
    (void)ptr;
}

static void check_known(const struct store_known *known) {
    ASSERT(known->count <= limits.known_count_max);
    for (size_t i = 1; i < known->count; i++) {
        const struct span a = { known->entries[i - 1].writer, STORE_WRITER_BYTES };
        const struct span b = { known->entries[i].writer, STORE_WRITER_BYTES };
        ASSERT(span_compare(a, b) < 0);
    }
}

/* A request that was taken in can be sent, and is the same when it arrives. */
static void check_request(const Novakms__V1__PullRequest *in, struct arena *arena) {
    struct replica_request request;
    struct status why = { 0 };
    if (!peer_pull_request_in(in, &limits, arena, &request, &why)) {
        ASSERT(why.code != STATUS_OK && why.text[0] != '\0');
        return;
    }
    check_known(&request.known);
    ASSERT(request.heard_count <= REPLICA_HEARD_COUNT_MAX);
    Novakms__V1__PullRequest *out = NULL;
    struct replica_request again;
    if (peer_pull_request_out(&request, arena, &out).err != E_OK) {
        return;
    }
    if (peer_pull_request_in(out, &limits, arena, &again, &why)) {
        ASSERT(again.known.count == request.known.count && again.since == request.since);
        ASSERT(again.heard_count == request.heard_count);
    } else {
        ASSERT(why.code == STATUS_RESOURCE_EXHAUSTED);
    }
}

static void check_page(const Novakms__V1__PullResponse *in, struct arena *arena) {
    struct peer_page page;
    struct status why = { 0 };
    if (!peer_page_in(in, &limits, arena, &page, &why)) {
        ASSERT(why.code != STATUS_OK && why.text[0] != '\0');
        return;
    }
    check_known(&page.page.known);
    check_known(&page.page.floor);
    ASSERT(page.count <= limits.record_count_max);
    for (size_t i = 0; i < page.count; i++) {
        const struct store_remote *record = &page.records[i].remote;
        volatile uint8_t last = 0; /* What it lends can be read. */
        last = record->key.len > 0 ? record->key.ptr[record->key.len - 1] : last;
        last = record->sealed.len > 0 ? record->sealed.ptr[record->sealed.len - 1] : last;
    }
}

static void check_digests(const Novakms__V1__GetDigestResponse *in, struct arena *arena) {
    struct peer_digests digests;
    struct status why = { 0 };
    if (!peer_digests_in(in, &limits, arena, &digests, &why)) {
        ASSERT(why.code != STATUS_OK && why.text[0] != '\0');
        return;
    }
    check_known(&digests.known);
    ASSERT(digests.count <= REPLICA_DIGEST_APP_COUNT_MAX);
    for (size_t i = 1; i < digests.count; i++) {
        ASSERT(digests.digests[i - 1].app_id < digests.digests[i].app_id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct arena arena;
    arena_init(&arena, MEMORY_BYTES_MAX);
    ProtobufCAllocator allocator = { take, give_back, &arena };
    if (data[0] % 3 == 0) {
        const Novakms__V1__PullRequest *in =
            novakms__v1__pull_request__unpack(&allocator, size - 1, data + 1);
        if (in != NULL) {
            check_request(in, &arena);
        }
    } else if (data[0] % 3 == 1) {
        const Novakms__V1__PullResponse *in =
            novakms__v1__pull_response__unpack(&allocator, size - 1, data + 1);
        if (in != NULL) {
            check_page(in, &arena);
        }
    } else {
        const Novakms__V1__GetDigestResponse *in =
            novakms__v1__get_digest_response__unpack(&allocator, size - 1, data + 1);
        if (in != NULL) {
            check_digests(in, &arena);
        }
    }
    arena_close(&arena);
    return 0;
}
