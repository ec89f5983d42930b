/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include <pb_decode.h>
#include <pb_encode.h>

/* A header is one length-delimited field: key byte, a length of one or two bytes (headers are
 * shorter than 2^14), and the kind's message. */
#define WIRE_TYPE_DELIMITED 2u
#define VARINT_MORE 0x80u
#define VARINT_BYTES_MAX 10u

static const pb_msgdesc_t *kind_fields(uint32_t kind) {
    switch (kind) {
    case novakms_v1_FrameHeader_request_tag:
        return novakms_v1_Request_fields;
    case novakms_v1_FrameHeader_response_tag:
        return novakms_v1_Response_fields;
    case novakms_v1_FrameHeader_cancel_tag:
        return novakms_v1_Cancel_fields;
    case novakms_v1_FrameHeader_ping_tag:
        return novakms_v1_Ping_fields;
    case novakms_v1_FrameHeader_goaway_tag:
        return novakms_v1_Goaway_fields;
    default:
        return NULL;
    }
}

static struct rc bad(struct rc rc, const char **why, const char *text) {
    *why = text;
    return rc;
}

/* The field's length, which must be exactly what is left. */
static bool read_kind_length(struct reader *r) {
    uint8_t low = 0;
    if (read_u8(r, &low).err != E_OK) {
        return false;
    }
    size_t len = low & 0x7FU;
    if ((low & VARINT_MORE) != 0) {
        uint8_t high = 0;
        if (read_u8(r, &high).err != E_OK || high == 0 || (high & VARINT_MORE) != 0) {
            return false;
        }
        len |= (size_t)high << 7U;
    }
    return len == r->len;
}

/* Unknown fields inside a kind are skipped, so that fields can be added; beside it there is
 * nothing. nanopb would let the last of several kinds win. */
static bool decode_header(struct span bytes, novakms_v1_FrameHeader *header) {
    struct reader r = { bytes.ptr, bytes.len };
    uint8_t key = 0;
    if (read_u8(&r, &key).err != E_OK || (key & 7U) != WIRE_TYPE_DELIMITED) {
        return false;
    }
    const pb_msgdesc_t *fields = kind_fields(key >> 3U);
    if (fields == NULL || !read_kind_length(&r)) {
        return false;
    }
    pb_istream_t stream = pb_istream_from_buffer(r.ptr, r.len);
    header->which_kind = (pb_size_t)(key >> 3U);
    return pb_decode(&stream, fields, &header->kind);
}

static bool text_is_utf8(const pb_byte_t *bytes, size_t len) {
    return len == 0 || span_is_utf8((struct span){ bytes, len });
}

/* What the schema says beyond types. NULL when all is well. */
static const char *check_frame(const novakms_v1_FrameHeader *header, size_t payload_len) {
    bool may_have_payload = false;
    switch (header->which_kind) {
    case novakms_v1_FrameHeader_request_tag:
        if (header->kind.request.call_id == 0) {
            return "call_id of a request is 0; it counts from 1";
        }
        may_have_payload = true;
        break;
    case novakms_v1_FrameHeader_response_tag:
        if (header->kind.response.call_id == 0) {
            return "call_id of a response is 0; it counts from 1";
        }
        if (!text_is_utf8(header->kind.response.message.bytes,
                          header->kind.response.message.size)) {
            return "message of a response is not UTF-8";
        }
        may_have_payload = header->kind.response.status == STATUS_OK;
        break;
    case novakms_v1_FrameHeader_cancel_tag:
        if (header->kind.cancel.call_id == 0) {
            return "call_id of a cancel is 0; it counts from 1";
        }
        break;
    case novakms_v1_FrameHeader_goaway_tag:
        if (!text_is_utf8(header->kind.goaway.reason.bytes, header->kind.goaway.reason.size)) {
            return "reason of a goaway is not UTF-8";
        }
        break;
    default:
        break;
    }
    if (payload_len > 0 && !may_have_payload) {
        return "a payload where none belongs; only requests and responses with status 0 have one";
    }
    return NULL;
}

RC frame_read(struct reader *in, size_t frame_bytes_max, struct frame *out, const char **why) {
    struct reader at = *in; /* A failed read leaves *in where it was. */
    uint32_t frame_len = 0;
    if (read_u32(&at, &frame_len).err != E_OK) {
        return ERR(AGAIN);
    }
    if (frame_len > frame_bytes_max) {
        return bad(ERR(TOO_BIG), why, "frame over the size allowed on this connection");
    }
    if (frame_len < FRAME_PREFIX_BYTES - FRAME_LENGTH_BYTES) {
        return bad(ERR(MALFORMED), why, "frame of less than 2 bytes has no header length");
    }
    if (frame_len > at.len) {
        return ERR(AGAIN);
    }
    struct span rest = { NULL, 0 };
    TRY(read_span(&at, frame_len, &rest));
    struct reader frame = { rest.ptr, rest.len };
    uint16_t header_len = 0;
    TRY(read_u16(&frame, &header_len));
    if (header_len > frame.len) {
        return bad(ERR(TRUNCATED), why, "frame header is longer than its frame");
    }
    if (header_len > FRAME_HEADER_BYTES_MAX) {
        return bad(ERR(TOO_BIG), why, "frame header over 512 bytes");
    }
    struct span header = { NULL, 0 };
    TRY(read_span(&frame, header_len, &header));
    if (!decode_header(header, &out->header)) {
        return bad(ERR(MALFORMED), why, "frame header is not exactly one known kind");
    }
    out->payload = (struct span){ frame.ptr, frame.len };
    const char *fault = check_frame(&out->header, out->payload.len);
    if (fault != NULL) {
        return bad(ERR(MALFORMED), why, fault);
    }
    *in = at;
    return OK;
}

size_t frame_missing(struct span in) {
    struct reader r = { in.ptr, in.len };
    uint32_t frame_len = 0;
    if (read_u32(&r, &frame_len).err != E_OK) {
        return FRAME_LENGTH_BYTES - in.len;
    }
    return frame_len > r.len ? frame_len - r.len : 0;
}

/* Prefix, key and length of a kind whose message of kind_len bytes comes next. */
static RC write_prefix(struct writer *out, uint32_t kind, size_t kind_len, size_t payload_len) {
    size_t header_len = (kind_len > 0x7F ? 3U : 2U) + kind_len;
    TRY(write_u32(out, (uint32_t)(2U + header_len + payload_len)));
    TRY(write_u16(out, (uint16_t)header_len));
    TRY(write_u8(out, (uint8_t)(kind << 3U | WIRE_TYPE_DELIMITED)));
    if (kind_len > 0x7F) {
        TRY(write_u8(out, (uint8_t)((kind_len & 0x7FU) | VARINT_MORE)));
        return write_u8(out, (uint8_t)(kind_len >> 7U));
    }
    return write_u8(out, (uint8_t)kind_len);
}

static bool fits(const struct writer *out, size_t header_len, size_t payload_len,
                 size_t frame_bytes_max) {
    if (payload_len > frame_bytes_max || 2U + header_len > frame_bytes_max - payload_len) {
        return false;
    }
    size_t room = out->bytes - out->len;
    return FRAME_PREFIX_BYTES + header_len <= room &&
           payload_len <= room - FRAME_PREFIX_BYTES - header_len;
}

RC frame_write_header(struct writer *out, const novakms_v1_FrameHeader *header, size_t payload_len,
                      size_t frame_bytes_max) {
    const pb_msgdesc_t *fields = kind_fields(header->which_kind);
    ASSERT(fields != NULL);
    size_t kind_len = 0;
    bool is_sized = pb_get_encoded_size(&kind_len, fields, &header->kind);
    ASSERT(is_sized); /* Fixed-size messages into a size stream cannot fail. */
    size_t header_len = (kind_len > 0x7F ? 3U : 2U) + kind_len;
    ENSURE(fits(out, header_len, payload_len, frame_bytes_max), TOO_BIG);
    TRY(write_prefix(out, header->which_kind, kind_len, payload_len));
    pb_ostream_t stream = pb_ostream_from_buffer(out->ptr + out->len, kind_len);
    bool is_encoded = pb_encode(&stream, fields, &header->kind);
    ASSERT(is_encoded);
    out->len += kind_len;
    return OK;
}

RC frame_write(struct writer *out, const novakms_v1_FrameHeader *header, struct span payload,
               size_t frame_bytes_max) {
    TRY(frame_write_header(out, header, payload.len, frame_bytes_max));
    return write_span(out, payload);
}

RC frame_write_ok(struct writer *out, uint64_t call_id, size_t payload_len,
                  size_t frame_bytes_max) {
    /* {call_id: varint}; every other field has its default, which proto3 does not write. */
    uint8_t kind[1 + VARINT_BYTES_MAX];
    size_t kind_len = 0;
    kind[kind_len++] = (uint8_t)(novakms_v1_Response_call_id_tag << 3U);
    uint64_t rest = call_id;
    while (rest >= VARINT_MORE) {
        kind[kind_len++] = (uint8_t)(rest | VARINT_MORE);
        rest >>= 7U;
    }
    kind[kind_len++] = (uint8_t)rest;
    ENSURE(fits(out, 2U + kind_len, payload_len, frame_bytes_max), TOO_BIG);
    TRY(write_prefix(out, novakms_v1_FrameHeader_response_tag, kind_len, payload_len));
    return write_span(out, (struct span){ kind, kind_len });
}

/* The longest prefix of text that fits into bytes_max without splitting a UTF-8 sequence. */
static size_t cut(struct span text, size_t bytes_max) {
    if (text.len <= bytes_max) {
        return text.len;
    }
    size_t len = bytes_max;
    while (len > 0 && (text.ptr[len] & 0xC0U) == 0x80U) {
        len--;
    }
    return len;
}

void frame_set_request(novakms_v1_FrameHeader *header, uint64_t call_id, struct span method,
                       uint32_t timeout_ms) {
    ASSERT(method.len <= FRAME_METHOD_BYTES_MAX);
    header->which_kind = novakms_v1_FrameHeader_request_tag;
    novakms_v1_Request *request = &header->kind.request;
    request->call_id = call_id;
    request->timeout_ms = timeout_ms;
    request->method.size = (pb_size_t)method.len;
    if (method.len > 0) {
        memcpy(request->method.bytes, method.ptr, method.len);
    }
}

void frame_set_response(novakms_v1_FrameHeader *header, uint64_t call_id,
                        const struct status *status) {
    header->which_kind = novakms_v1_FrameHeader_response_tag;
    novakms_v1_Response *response = &header->kind.response;
    struct span text = span_str(status->text);
    response->call_id = call_id;
    response->status = (uint32_t)status->code;
    response->message.size = (pb_size_t)cut(text, FRAME_TEXT_BYTES_MAX);
    memcpy(response->message.bytes, text.ptr, response->message.size);
    response->has_details = false;
}

void frame_set_cancel(novakms_v1_FrameHeader *header, uint64_t call_id) {
    header->which_kind = novakms_v1_FrameHeader_cancel_tag;
    header->kind.cancel.call_id = call_id;
}

void frame_set_ping(novakms_v1_FrameHeader *header, uint64_t token, bool is_ack) {
    header->which_kind = novakms_v1_FrameHeader_ping_tag;
    header->kind.ping.token = token;
    header->kind.ping.ack = is_ack;
}

void frame_set_goaway(novakms_v1_FrameHeader *header, uint64_t last_call_id,
                      const struct status *status) {
    header->which_kind = novakms_v1_FrameHeader_goaway_tag;
    novakms_v1_Goaway *goaway = &header->kind.goaway;
    struct span text = span_str(status->text);
    goaway->last_call_id = last_call_id;
    goaway->status = (uint32_t)status->code;
    goaway->reason.size = (pb_size_t)cut(text, FRAME_TEXT_BYTES_MAX);
    memcpy(goaway->reason.bytes, text.ptr, goaway->reason.size);
}

static void copy_status(uint32_t code, struct span text, struct status *out) {
    out->code = code <= STATUS_CODE_MAX ? (enum status_code)code : STATUS_UNKNOWN;
    memcpy(out->text, text.ptr, text.len);
    out->text[text.len] = '\0';
}

void frame_get_status(const novakms_v1_Response *response, struct status *out) {
    copy_status(response->status, (struct span){ response->message.bytes, response->message.size },
                out);
}

void frame_get_reason(const novakms_v1_Goaway *goaway, struct status *out) {
    copy_status(goaway->status, (struct span){ goaway->reason.bytes, goaway->reason.size }, out);
}
