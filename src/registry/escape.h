/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a remote party inside our sentences. Any thread. */
#pragma once

#include "base/bytes.h"

/* Writes text into out (out_bytes, at least 4; with its NUL): printable ASCII and spaces as they
 * are, the backslash and everything else as \xNN. What does not fit is cut and ends in "...".
 * Gives out. */
const char *registry_escape(struct span text, char *out, size_t out_bytes);
