/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

#include <stdio.h>

#include "base/status.h"
#include "novakms/v1/kms.pb-c.h"
#include "wire/frame.h"
#include "wire/method.h"

#define NAME_BYTES 32
#define FRAME_BYTES_MAX ((size_t)4 * 1024 * 1024)
#define BATCH_ITEMS 4
#define TIMEOUT_MS 30000

/* Indices of KmsService's methods in kms.proto. */
enum method_idx { DERIVE, PUT, GET, DELETE, LIST, BATCH_DERIVE, BATCH_GET, BATCH_PUT };

/* What the requests of MIXED cycle through. */
static const enum method_idx mix[] = { PUT, GET,          DERIVE,    PUT,       GET,   LIST,
                                       GET, BATCH_DERIVE, BATCH_PUT, BATCH_GET, DELETE };

/* One request's ingredients. */
struct parts {
    char name[BATCH_ITEMS][NAME_BYTES];
    uint8_t value[WORKLOAD_VALUE_BYTES_MAX];
    size_t value_len;
};

const char *workload_name(enum workload_kind kind) {
    switch (kind) {
    case WORKLOAD_ECHO:
        return "echo";
    case WORKLOAD_DERIVE:
        return "Derive";
    case WORKLOAD_GET:
        return "Get";
    case WORKLOAD_PUT:
        return "Put";
    case WORKLOAD_MIXED:
        return "mixed";
    }
    return "?";
}

/* SplitMix64 (Steele, Lea and Flood, 2014): spreads a counter over all 64 bits. */
static uint64_t scramble(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static ProtobufCBinaryData text_field(char *text) {
    return (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
}

static void fill_parts(struct workload *w, struct parts *parts) {
    for (size_t i = 0; i < BATCH_ITEMS; i++) {
        uint64_t n = w->sequence + i;
        uint64_t key = w->key_count == 0 ? n : (w->in_order ? n : scramble(n)) % w->key_count;
        (void)snprintf(parts->name[i], NAME_BYTES, "bench/%012llu", (unsigned long long)key);
    }
    parts->value_len = w->value_bytes;
    memset(parts->value, (int)(w->sequence & 0xff), parts->value_len);
}

static RC pack(uint64_t call_id, enum method_idx idx, const void *message, struct writer *out) {
    char text[FRAME_METHOD_BYTES_MAX];
    struct span name = SPAN_EMPTY;
    TRY(method_name(&novakms__v1__kms_service__descriptor, idx, text, &name));
    novakms_v1_FrameHeader header = { 0 };
    frame_set_request(&header, call_id, name, TIMEOUT_MS);
    size_t len = protobuf_c_message_get_packed_size(message);
    TRY(frame_write_header(out, &header, len, FRAME_BYTES_MAX));
    out->len += protobuf_c_message_pack(message, out->ptr + out->len);
    return OK;
}

static RC request_derive(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__DeriveRequest message = NOVAKMS__V1__DERIVE_REQUEST__INIT;
    message.path = text_field(parts->name[0]);
    message.length = 32;
    return pack(call_id, DERIVE, &message, out);
}

static RC request_put(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__PutRequest message = NOVAKMS__V1__PUT_REQUEST__INIT;
    message.key = text_field(parts->name[0]);
    message.value = (ProtobufCBinaryData){ parts->value_len, parts->value };
    return pack(call_id, PUT, &message, out);
}

static RC request_get(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__GetRequest message = NOVAKMS__V1__GET_REQUEST__INIT;
    message.key = text_field(parts->name[0]);
    return pack(call_id, GET, &message, out);
}

static RC request_delete(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__DeleteRequest message = NOVAKMS__V1__DELETE_REQUEST__INIT;
    message.key = text_field(parts->name[0]);
    return pack(call_id, DELETE, &message, out);
}

static RC request_list(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__ListRequest message = NOVAKMS__V1__LIST_REQUEST__INIT;
    message.prefix = text_field(parts->name[0]);
    message.prefix.len -= 2; /* Up to a hundred keys share it. */
    return pack(call_id, LIST, &message, out);
}

static RC request_batch_derive(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__DeriveRequest items[BATCH_ITEMS];
    Novakms__V1__DeriveRequest *refs[BATCH_ITEMS];
    for (size_t i = 0; i < BATCH_ITEMS; i++) {
        items[i] = (Novakms__V1__DeriveRequest)NOVAKMS__V1__DERIVE_REQUEST__INIT;
        items[i].path = text_field(parts->name[i]);
        refs[i] = &items[i];
    }
    Novakms__V1__BatchDeriveRequest message = NOVAKMS__V1__BATCH_DERIVE_REQUEST__INIT;
    message.items = refs;
    message.n_items = BATCH_ITEMS;
    return pack(call_id, BATCH_DERIVE, &message, out);
}

static RC request_batch_get(uint64_t call_id, struct parts *parts, struct writer *out) {
    ProtobufCBinaryData keys[BATCH_ITEMS];
    for (size_t i = 0; i < BATCH_ITEMS; i++) {
        keys[i] = text_field(parts->name[i]);
    }
    Novakms__V1__BatchGetRequest message = NOVAKMS__V1__BATCH_GET_REQUEST__INIT;
    message.keys = keys;
    message.n_keys = BATCH_ITEMS;
    return pack(call_id, BATCH_GET, &message, out);
}

static RC request_batch_put(uint64_t call_id, struct parts *parts, struct writer *out) {
    Novakms__V1__BatchPutEntry entries[BATCH_ITEMS];
    Novakms__V1__BatchPutEntry *refs[BATCH_ITEMS];
    for (size_t i = 0; i < BATCH_ITEMS; i++) {
        entries[i] = (Novakms__V1__BatchPutEntry)NOVAKMS__V1__BATCH_PUT_ENTRY__INIT;
        entries[i].key = text_field(parts->name[i]);
        entries[i].value = (ProtobufCBinaryData){ parts->value_len, parts->value };
        entries[i].ttl_ms = i == 0 ? 1000 : 0;
        refs[i] = &entries[i];
    }
    Novakms__V1__BatchPutRequest message = NOVAKMS__V1__BATCH_PUT_REQUEST__INIT;
    message.entries = refs;
    message.n_entries = BATCH_ITEMS;
    return pack(call_id, BATCH_PUT, &message, out);
}

typedef RC (*request_fn)(uint64_t call_id, struct parts *parts, struct writer *out);

static const request_fn requests[] = {
    [DERIVE] = request_derive,
    [PUT] = request_put,
    [GET] = request_get,
    [DELETE] = request_delete,
    [LIST] = request_list,
    [BATCH_DERIVE] = request_batch_derive,
    [BATCH_GET] = request_batch_get,
    [BATCH_PUT] = request_batch_put,
};

static RC request_echo(const struct workload *w, uint64_t call_id, struct writer *out) {
    ENSURE(w->value_bytes >= sizeof(call_id), INVALID);
    ENSURE(w->value_bytes <= out->bytes - out->len, TOO_BIG);
    size_t end = out->len + w->value_bytes;
    TRY(write_u64(out, call_id));
    memset(out->ptr + out->len, 0x5a, end - out->len);
    out->len = end;
    return OK;
}

static enum method_idx method_of(const struct workload *w) {
    switch (w->kind) {
    case WORKLOAD_GET:
        return GET;
    case WORKLOAD_PUT:
        return PUT;
    case WORKLOAD_MIXED:
        return mix[w->sequence % (sizeof(mix) / sizeof(mix[0]))];
    case WORKLOAD_DERIVE:
    case WORKLOAD_ECHO:
        break;
    }
    return DERIVE;
}

RC workload_request(struct workload *w, uint64_t call_id, struct writer *out) {
    if (w->kind == WORKLOAD_ECHO) {
        return request_echo(w, call_id, out);
    }
    ENSURE(w->value_bytes <= WORKLOAD_VALUE_BYTES_MAX, TOO_BIG);
    struct parts parts;
    fill_parts(w, &parts);
    enum method_idx idx = method_of(w);
    w->sequence++;
    return requests[idx](call_id, &parts, out);
}

static RC response_echo(const struct workload *w, struct reader *in, uint64_t *call_id) {
    ENSURE(in->len >= w->value_bytes, AGAIN);
    struct span message = SPAN_EMPTY;
    TRY(read_span(in, w->value_bytes, &message));
    struct reader r = { message.ptr, message.len };
    return read_u64(&r, call_id);
}

/* A mixed load deletes what it reads, and lets values expire. */
static bool is_success(const struct workload *w, uint32_t code) {
    return code == STATUS_OK || (w->kind == WORKLOAD_MIXED && code == STATUS_NOT_FOUND);
}

RC workload_response(const struct workload *w, struct reader *in, uint64_t *call_id) {
    if (w->kind == WORKLOAD_ECHO) {
        return response_echo(w, in, call_id);
    }
    struct frame frame;
    const char *why = NULL;
    TRY(frame_read(in, FRAME_BYTES_MAX, &frame, &why));
    struct status status = { 0 };
    if (frame.header.which_kind == novakms_v1_FrameHeader_goaway_tag) {
        frame_get_reason(&frame.header.kind.goaway, &status);
        (void)fprintf(stderr, "novakms-bench: goaway: %s\n", status.text);
        return ERR(DENIED);
    }
    ENSURE(frame.header.which_kind == novakms_v1_FrameHeader_response_tag, MALFORMED);
    *call_id = frame.header.kind.response.call_id;
    if (!is_success(w, frame.header.kind.response.status)) {
        frame_get_status(&frame.header.kind.response, &status);
        (void)fprintf(stderr, "novakms-bench: %s: %s\n", status_name(status.code), status.text);
        return ERR(DENIED);
    }
    return OK;
}

size_t workload_message_bytes(const struct workload *w) {
    /* Call ids of three bytes, as most are in a run of seconds. */
    uint8_t buf[WORKLOAD_REQUEST_BYTES_MAX];
    struct writer out = { buf, 0, sizeof(buf) };
    struct workload copy = *w;
    if (workload_request(&copy, 100000, &out).err != E_OK) {
        return 0;
    }
    /* An answer's frame, header and stamp take about this much beside its value. */
    static const size_t answer_overhead = 64;
    size_t answer = answer_overhead + (w->kind == WORKLOAD_GET ? w->value_bytes : 0);
    return out.len > answer ? out.len : answer;
}
