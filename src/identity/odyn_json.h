/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that holds a secret: written into, and read out of, memory that its owner wipes. A JSON
 * library would leave copies of it in the heap. Any thread. */
#pragma once

#include "base/bytes.h"

/* Appends text, which is UTF-8, as a JSON string (RFC 8259) in quotes. TOO_BIG; then w is
 * unchanged. What is escaped depends on the text: hex, base64 and the like take the same path at
 * every byte. */
RC odyn_json_write_string(struct writer *w, struct span text);

/* Finds the string field name in an object whose values are all strings, numbers, true, false or
 * null, and unescapes it in place: *out is lent from text, and is UTF-8. MALFORMED for anything
 * else, for the field twice, and for bytes after the object; NOT_FOUND without the field; INVALID
 * when it is no string. text is changed. */
RC odyn_json_take_string(uint8_t *text, size_t text_len, const char *name, struct span *out);
