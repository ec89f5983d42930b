/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from outside, bounded before it is parsed. The values are jansson's. Any thread. */
#pragma once

#include <jansson.h>

#include "base/bytes.h"

#define JSON_DEPTH_MAX 16
/* Room for one sentence that says where parsing stopped. */
#define JSON_ERROR_BYTES 160

/* Gives *out (json_decref). TOO_BIG over text_max bytes or nested deeper than JSON_DEPTH_MAX;
 * MALFORMED for anything that is not exactly one JSON object or array, duplicate keys included.
 * error gets a sentence with line and column, or stays empty. */
RC json_parse(struct span text, size_t text_max, json_t **out, char error[static JSON_ERROR_BYTES]);
/* The same, but strings may hold NUL (\u0000): use them with their length. */
RC json_parse_nul(struct span text, size_t text_max, json_t **out,
                  char error[static JSON_ERROR_BYTES]);
