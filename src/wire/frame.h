/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of "novakms/1" (frame.proto): bytes to frames and back. Pure, no heap, any thread.
 *
 *     u32 length of what follows | u16 header length | header | payload        (big-endian)
 *
 * "A frame of n bytes" counts what follows the length field; all limits are on that. */
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "novakms/v1/frame.pb.h"

/* The two length fields. */
#define FRAME_PREFIX_BYTES 6u
#define FRAME_LENGTH_BYTES 4u
/* Headers this side writes are at most this long; it reads them up to FRAME_HEADER_BYTES_MAX, so
 * that fields added later fit. */
#define FRAME_HEADER_WRITTEN_MAX ((size_t)novakms_v1_FrameHeader_size)
#define FRAME_HEADER_BYTES_MAX 512u
/* Limits of a frame: while the sender is unknown, and afterwards (the default). */
#define FRAME_BYTES_MAX_STRANGER ((size_t)16 * 1024)
#define FRAME_BYTES_MAX_DEFAULT ((size_t)4 * 1024 * 1024)
/* What a frame of a limit leaves for its payload, whatever its header. */
#define FRAME_OVERHEAD_MAX (2u + FRAME_HEADER_WRITTEN_MAX)

#define FRAME_METHOD_BYTES_MAX 96u
#define FRAME_TEXT_BYTES_MAX 256u

/* header.which_kind is one of novakms_v1_FrameHeader_{request,response,cancel,ping,goaway}_tag. */
struct frame {
    novakms_v1_FrameHeader header;
    struct span payload; /* Lent from the reader's bytes. */
};

/* Takes the next frame off *in. AGAIN when it is not complete yet (nothing is taken; ask
 * frame_missing how much is known to be missing). On any other error *why is a sentence for the
 * goaway and the connection is beyond repair: TOO_BIG over frame_bytes_max or
 * FRAME_HEADER_BYTES_MAX, TRUNCATED when the header is longer than its frame, MALFORMED for a
 * header that is not exactly one known kind, does not decode, has a call id of 0 or text that is
 * not UTF-8, and for a payload where none belongs. The length is judged as soon as its four bytes
 * are there. *out is only partly written unless OK. */
RC frame_read(struct reader *in, size_t frame_bytes_max, struct frame *out, const char **why);

/* How many more bytes the first frame of `in` needs, as far as is known: up to its length field,
 * then up to its end. 0 when it is complete. Does not judge the length. */
size_t frame_missing(struct span in);

/* Appends prefix and header of a frame whose payload_len bytes the caller appends next. TOO_BIG
 * when header, payload and prefix do not fit what is left of `out`, or are over frame_bytes_max.
 * The header must be valid (its kind is set). */
RC frame_write_header(struct writer *out, const novakms_v1_FrameHeader *header, size_t payload_len,
                      size_t frame_bytes_max);
/* The same with the payload. */
RC frame_write(struct writer *out, const novakms_v1_FrameHeader *header, struct span payload,
               size_t frame_bytes_max);
/* The shortest way to a response with status OK: as frame_write_header, for a call id. */
RC frame_write_ok(struct writer *out, uint64_t call_id, size_t payload_len, size_t frame_bytes_max);

/* Fill a header of that kind. Text that is too long is cut at a UTF-8 boundary. */
void frame_set_request(novakms_v1_FrameHeader *header, uint64_t call_id, struct span method,
                       uint32_t timeout_ms);
void frame_set_response(novakms_v1_FrameHeader *header, uint64_t call_id,
                        const struct status *status);
void frame_set_cancel(novakms_v1_FrameHeader *header, uint64_t call_id);
void frame_set_ping(novakms_v1_FrameHeader *header, uint64_t token, bool is_ack);
void frame_set_goaway(novakms_v1_FrameHeader *header, uint64_t last_call_id,
                      const struct status *status);

/* Copy what a response or a goaway says: its code (UNKNOWN for a number that is no code) and
 * text. */
void frame_get_status(const novakms_v1_Response *response, struct status *out);
void frame_get_reason(const novakms_v1_Goaway *goaway, struct status *out);
