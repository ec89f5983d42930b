/* SPDX-License-Identifier: Apache-2.0 */
#include "service/peer_message.h"

#include <stdlib.h>

/* ---- In ---- */

static struct span span_of(ProtobufCBinaryData data) {
    return (struct span){ data.data, data.len };
}

static bool refuse_size(const char *field, size_t len, const char *allowed, struct status *why) {
    status_set(why, STATUS_INVALID_ARGUMENT, "%s: has %zu bytes; it must have %s", field, len,
               allowed);
    return false;
}

static bool refuse_nomem(struct status *why) {
    status_set(why, STATUS_RESOURCE_EXHAUSTED, "the message takes too much memory");
    return false;
}

/* 16 bytes and not all zero. */
static bool writer_in(ProtobufCBinaryData in, const char *field, uint8_t *out, struct status *why) {
    static const uint8_t none[STORE_WRITER_BYTES];
    if (in.len != STORE_WRITER_BYTES) {
        return refuse_size(field, in.len, "16", why);
    }
    memcpy(out, in.data, STORE_WRITER_BYTES);
    if (span_equal(span_of(in), (struct span){ none, sizeof(none) })) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s: must not be all zero", field);
        return false;
    }
    return true;
}

bool peer_state_in(const Novakms__V1__PeerState *in, struct replica_state *out,
                   struct status *why) {
    *out = (struct replica_state){ 0 };
    if (in == NULL) {
        status_set(why, STATUS_INVALID_ARGUMENT, "state: is missing");
        return false;
    }
    if (!writer_in(in->incarnation, "state.incarnation", out->incarnation, why)) {
        return false;
    }
    if (in->master_secret_hash.len != 0 && in->master_secret_hash.len != REPLICA_HASH_BYTES) {
        return refuse_size("state.master_secret_hash", in->master_secret_hash.len, "0 or 32", why);
    }
    if (in->master_secret_hash.len != 0) {
        memcpy(out->secret_hash, in->master_secret_hash.data, REPLICA_HASH_BYTES);
    }
    out->head_block = in->head_block;
    out->unix_ms = in->unix_ms;
    out->in_service = in->in_service;
    return true;
}

static int compare_entries(const void *a, const void *b) {
    const struct store_known_entry *x = a;
    const struct store_known_entry *y = b;
    return span_compare((struct span){ x->writer, STORE_WRITER_BYTES },
                        (struct span){ y->writer, STORE_WRITER_BYTES });
}

/* The order means nothing, so it is made the one that shows a writer who is there twice. */
static bool entries_differ(struct store_known_entry *entries, size_t count, const char *field,
                           struct status *why) {
    if (count > 1) {
        qsort(entries, count, sizeof(entries[0]), compare_entries);
    }
    for (size_t i = 1; i < count; i++) {
        if (compare_entries(&entries[i - 1], &entries[i]) == 0) {
            status_set(why, STATUS_INVALID_ARGUMENT, "%s: names a writer twice", field);
            return false;
        }
    }
    return true;
}

/* Which vector it is, and what it may have. */
struct known_rule {
    const char *field;
    size_t count_max;
};

/* NULL is the empty vector. */
static bool known_in(const Novakms__V1__Known *in, struct known_rule rule, struct arena *arena,
                     struct store_known *out, struct status *why) {
    *out = (struct store_known){ 0 };
    if (in == NULL) {
        return true;
    }
    if (in->n_entries > rule.count_max) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s: has %zu entries; at most %zu are allowed",
                   rule.field, in->n_entries, rule.count_max);
        return false;
    }
    struct store_known_entry *entries = arena_take(arena, (in->n_entries + 1) * sizeof(*entries));
    if (entries == NULL) {
        return refuse_nomem(why);
    }
    for (size_t i = 0; i < in->n_entries; i++) {
        if (!writer_in(in->entries[i]->writer, rule.field, entries[i].writer, why)) {
            return false;
        }
        entries[i].hlc = in->entries[i]->hlc;
    }
    *out = (struct store_known){ entries, in->n_entries, in->rest_hlc };
    return entries_differ(entries, in->n_entries, rule.field, why);
}

static bool heard_in(Novakms__V1__MemberIncarnation *const *in, size_t count, struct arena *arena,
                     const struct replica_heard **out, struct status *why) {
    if (count > REPLICA_HEARD_COUNT_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "heard: has %zu entries; at most %u are allowed",
                   count, REPLICA_HEARD_COUNT_MAX);
        return false;
    }
    struct replica_heard *heard = arena_take(arena, (count + 1) * sizeof(*heard));
    if (heard == NULL) {
        return refuse_nomem(why);
    }
    for (size_t i = 0; i < count; i++) {
        heard[i] = (struct replica_heard){ 0 };
        if (in[i]->wallet.len != WALLET_BYTES) {
            return refuse_size("heard.wallet", in[i]->wallet.len, "20", why);
        }
        memcpy(heard[i].wallet.bytes, in[i]->wallet.data, WALLET_BYTES);
        if (in[i]->incarnation.len != 0 &&
            !writer_in(in[i]->incarnation, "heard.incarnation", heard[i].incarnation, why)) {
            return false;
        }
    }
    *out = heard;
    return true;
}

bool peer_pull_request_in(const Novakms__V1__PullRequest *in, const struct peer_limits *limits,
                          struct arena *arena, struct replica_request *out, struct status *why) {
    *out = (struct replica_request){
        .since = in->since, .follow = in->follow, .bytes_max = in->bytes_max, .wait_ms = in->wait_ms
    };
    if (!peer_state_in(in->state, &out->state, why)) {
        return false;
    }
    if (in->responder_incarnation.len != 0 &&
        !writer_in(in->responder_incarnation, "responder_incarnation", out->responder_incarnation,
                   why)) {
        return false;
    }
    if (in->wait_ms > REPLICA_WAIT_MS_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "wait_ms: is %u; it must be at most %u",
                   in->wait_ms, REPLICA_WAIT_MS_MAX);
        return false;
    }
    out->heard_count = in->n_heard;
    return known_in(in->known, (struct known_rule){ "known", limits->known_count_max }, arena,
                    &out->known, why) &&
           heard_in(in->heard, in->n_heard, arena, &out->heard, why);
}

/* False: it names a writer that cannot be one. No stamp is NULL, or one without hlc and writer. */
static bool stamp_in(const Novakms__V1__Stamp *in, struct store_stamp *out) {
    *out = STORE_STAMP_NONE;
    if (in == NULL || (in->hlc == 0 && in->writer.len == 0)) {
        return true;
    }
    if (in->writer.len != STORE_WRITER_BYTES) {
        return false;
    }
    out->hlc = in->hlc;
    memcpy(out->writer, in->writer.data, STORE_WRITER_BYTES);
    return true;
}

/* What is wrong with a record makes the store refuse that record, and count it; the others of its
 * page are taken. A stamp that is none is one of the things it refuses. */
static void record_in(const Novakms__V1__PeerRecord *in, struct replica_record *out) {
    *out = (struct replica_record){ .remote = { .app_id = in->app_id,
                                                .key = span_of(in->key),
                                                .sealed = span_of(in->sealed),
                                                .ttl_ms = in->ttl_ms,
                                                .tombstone = in->tombstone } };
    bool is_good = stamp_in(in->stamp, &out->remote.stamp);
    is_good = stamp_in(in->replaced, &out->remote.replaced) && is_good;
    if (!is_good) {
        out->remote.stamp = STORE_STAMP_NONE;
    }
}

static bool records_in(const Novakms__V1__PullResponse *in, const struct peer_limits *limits,
                       struct arena *arena, struct peer_page *out, struct status *why) {
    if (in->n_records > limits->record_count_max) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "records: has %zu entries; at most %zu are allowed", in->n_records,
                   limits->record_count_max);
        return false;
    }
    out->records = arena_take(arena, (in->n_records + 1) * sizeof(*out->records));
    if (out->records == NULL) {
        return refuse_nomem(why);
    }
    for (size_t i = 0; i < in->n_records; i++) {
        record_in(in->records[i], &out->records[i]);
    }
    out->count = in->n_records;
    return true;
}

bool peer_page_in(const Novakms__V1__PullResponse *in, const struct peer_limits *limits,
                  struct arena *arena, struct peer_page *out, struct status *why) {
    *out = (struct peer_page){ 0 };
    struct replica_page *page = &out->page;
    if (!peer_state_in(in->state, &page->state, why) ||
        !writer_in(in->requester_incarnation, "requester_incarnation", page->requester_incarnation,
                   why)) {
        return false;
    }
    page->from = in->from;
    page->next = in->next;
    page->more = in->more;
    page->reset = in->reset;
    page->last = in->last;
    page->newcomer = in->newcomer;
    page->heard_count = in->n_heard;
    return known_in(in->known, (struct known_rule){ "known", limits->known_count_max }, arena,
                    &page->known, why) &&
           known_in(in->floor, (struct known_rule){ "floor", limits->known_count_max }, arena,
                    &page->floor, why) &&
           heard_in(in->heard, in->n_heard, arena, &page->heard, why) &&
           records_in(in, limits, arena, out, why);
}

static bool digest_in(const Novakms__V1__AppDigest *in, struct replica_digest *out,
                      struct status *why) {
    if (in->digest.len != PEER_DIGEST_BYTES) {
        return refuse_size("apps.digest", in->digest.len, "16", why);
    }
    struct reader r = { in->digest.data, in->digest.len };
    struct rc rc = read_u64(&r, &out->digest.high);
    if (rc.err == E_OK) {
        rc = read_u64(&r, &out->digest.low);
    }
    ASSERT(rc.err == E_OK); /* 16 bytes are two numbers. */
    out->app_id = in->app_id;
    return true;
}

bool peer_digests_in(const Novakms__V1__GetDigestResponse *in, const struct peer_limits *limits,
                     struct arena *arena, struct peer_digests *out, struct status *why) {
    *out = (struct peer_digests){ .more = in->more };
    if (!peer_state_in(in->state, &out->state, why) ||
        !known_in(in->known, (struct known_rule){ "known", limits->known_count_max }, arena,
                  &out->known, why)) {
        return false;
    }
    if (in->n_apps > REPLICA_DIGEST_APP_COUNT_MAX) {
        status_set(why, STATUS_INVALID_ARGUMENT, "apps: has %zu entries; at most %u are allowed",
                   in->n_apps, REPLICA_DIGEST_APP_COUNT_MAX);
        return false;
    }
    out->digests = arena_take(arena, (in->n_apps + 1) * sizeof(*out->digests));
    if (out->digests == NULL) {
        return refuse_nomem(why);
    }
    for (size_t i = 0; i < in->n_apps; i++) {
        if (!digest_in(in->apps[i], &out->digests[i], why)) {
            return false;
        }
        if (i > 0 && out->digests[i].app_id <= out->digests[i - 1].app_id) {
            status_set(why, STATUS_INVALID_ARGUMENT, "apps: must be in the order of their ids");
            return false;
        }
    }
    out->count = in->n_apps;
    return true;
}

/* ---- Out ---- */

/* Protobuf's bytes of what it only reads. */
static ProtobufCBinaryData bytes_of(const uint8_t *ptr, size_t len) {
    return (ProtobufCBinaryData){ len, (uint8_t *)(uintptr_t)ptr };
}

RC peer_state_out(const struct replica_state *state, struct arena *arena,
                  Novakms__V1__PeerState **out) {
    struct {
        Novakms__V1__PeerState message;
        struct replica_state copy;
    } *made = arena_take(arena, sizeof(*made));
    ENSURE(made != NULL, NOMEM);
    static const uint8_t none[REPLICA_HASH_BYTES];
    novakms__v1__peer_state__init(&made->message);
    made->copy = *state;
    made->message.incarnation = bytes_of(made->copy.incarnation, STORE_WRITER_BYTES);
    if (!span_equal((struct span){ state->secret_hash, REPLICA_HASH_BYTES },
                    (struct span){ none, sizeof(none) })) {
        made->message.master_secret_hash = bytes_of(made->copy.secret_hash, REPLICA_HASH_BYTES);
    }
    made->message.head_block = state->head_block;
    made->message.unix_ms = state->unix_ms;
    made->message.in_service = state->in_service;
    *out = &made->message;
    return OK;
}

RC peer_known_out(const struct store_known *known, struct arena *arena, Novakms__V1__Known **out) {
    Novakms__V1__Known *message = arena_take(arena, sizeof(*message));
    Novakms__V1__KnownEntry *entries = arena_take(arena, (known->count + 1) * sizeof(*entries));
    Novakms__V1__KnownEntry **list = arena_take(arena, (known->count + 1) * sizeof(entries));
    ENSURE(message != NULL && entries != NULL && list != NULL, NOMEM);
    novakms__v1__known__init(message);
    for (size_t i = 0; i < known->count; i++) {
        novakms__v1__known_entry__init(&entries[i]);
        entries[i].writer = bytes_of(known->entries[i].writer, STORE_WRITER_BYTES);
        entries[i].hlc = known->entries[i].hlc;
        list[i] = &entries[i];
    }
    message->n_entries = known->count;
    message->entries = list;
    message->rest_hlc = known->rest_hlc;
    *out = message;
    return OK;
}

RC peer_heard_out(const struct replica_heard *heard, size_t count, struct arena *arena,
                  Novakms__V1__MemberIncarnation ***out, size_t *out_count) {
    static const uint8_t none[STORE_WRITER_BYTES];
    Novakms__V1__MemberIncarnation *messages = arena_take(arena, (count + 1) * sizeof(*messages));
    Novakms__V1__MemberIncarnation **list = arena_take(arena, (count + 1) * sizeof(messages));
    ENSURE(messages != NULL && list != NULL, NOMEM);
    for (size_t i = 0; i < count; i++) {
        novakms__v1__member_incarnation__init(&messages[i]);
        messages[i].wallet = bytes_of(heard[i].wallet.bytes, WALLET_BYTES);
        if (!span_equal((struct span){ heard[i].incarnation, STORE_WRITER_BYTES },
                        (struct span){ none, sizeof(none) })) {
            messages[i].incarnation = bytes_of(heard[i].incarnation, STORE_WRITER_BYTES);
        }
        list[i] = &messages[i];
    }
    *out = list;
    *out_count = count;
    return OK;
}

RC peer_pull_request_out(const struct replica_request *request, struct arena *arena,
                         Novakms__V1__PullRequest **out) {
    static const uint8_t none[STORE_WRITER_BYTES];
    Novakms__V1__PullRequest *message = arena_take(arena, sizeof(*message));
    ENSURE(message != NULL, NOMEM);
    novakms__v1__pull_request__init(message);
    TRY(peer_state_out(&request->state, arena, &message->state));
    TRY(peer_known_out(&request->known, arena, &message->known));
    TRY(peer_heard_out(request->heard, request->heard_count, arena, &message->heard,
                       &message->n_heard));
    if (!span_equal((struct span){ request->responder_incarnation, STORE_WRITER_BYTES },
                    (struct span){ none, sizeof(none) })) {
        message->responder_incarnation =
            bytes_of(request->responder_incarnation, STORE_WRITER_BYTES);
    }
    message->since = request->since;
    message->follow = request->follow;
    message->bytes_max = request->bytes_max;
    message->wait_ms = request->wait_ms;
    *out = message;
    return OK;
}

static void stamp_out(const struct store_stamp *stamp, uint8_t *writer, Novakms__V1__Stamp *out) {
    novakms__v1__stamp__init(out);
    memcpy(writer, stamp->writer, STORE_WRITER_BYTES);
    out->hlc = stamp->hlc;
    out->writer = bytes_of(writer, STORE_WRITER_BYTES);
}

void peer_record_out(const struct store_record *record, struct peer_record_out *out) {
    Novakms__V1__PeerRecord *message = &out->message;
    novakms__v1__peer_record__init(message);
    message->app_id = record->app_id;
    message->key = bytes_of(record->key.ptr, record->key.len);
    message->sealed = bytes_of(record->sealed.ptr, record->sealed.len);
    message->ttl_ms = record->ttl_ms;
    message->tombstone = record->state == STORE_TOMBSTONE;
    stamp_out(&record->stamp, out->writer, &out->stamp);
    message->stamp = &out->stamp;
    if (!store_stamp_is_none(&record->replaced)) {
        stamp_out(&record->replaced, out->replaced_writer, &out->replaced);
        message->replaced = &out->replaced;
    }
}
