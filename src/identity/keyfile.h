/* SPDX-License-Identifier: Apache-2.0 */
/* A wallet's private key in a file: 64 hex digits, mode 0600. For applications, for novakmsctl and
 * for development; a node in an enclave has Odyn's key instead. */
#pragma once

#include "base/secret.h"
#include "base/status.h"
#include "identity/signer.h"

/* Embedded; zero is closed. Does not move while a signer of it is in use. One owner. */
struct identity_keyfile {
    struct secret key;
    struct wallet wallet;
};

/* Reads path: 64 hex digits, with or without 0x, and white space around them. Refuses a file that
 * is not a regular one, that group or others may read or write, or that another user owns. On error
 * *why says in a sentence what is wrong and how to mend it, with the path, without any byte of the
 * file. NOT_FOUND, DENIED, MALFORMED, IO, NOMEM. */
RC identity_keyfile_load(struct identity_keyfile *keyfile, const char *path, struct status *why);
/* Makes a random key and writes it to path, which must not exist yet (EXISTS: a key is never
 * overwritten). Nothing is left behind on error. IO, NOMEM. */
RC identity_keyfile_create(struct identity_keyfile *keyfile, const char *path, struct status *why);
/* Takes over a key that is already in memory, as the development node's. Copies it. INVALID when
 * it is no valid private key. NOMEM. */
RC identity_keyfile_from_key(struct identity_keyfile *keyfile,
                             const uint8_t key[static ETH_KEY_BYTES]);
/* Wipes. Accepts a zeroed or closed keyfile. */
void identity_keyfile_close(struct identity_keyfile *keyfile);
/* Gives a signer that lends from keyfile. Never blocks. */
struct identity_signer identity_keyfile_signer(struct identity_keyfile *keyfile);
