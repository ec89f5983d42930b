/* SPDX-License-Identifier: Apache-2.0 */
/* What odyn-sim is: its keys, the nonces it has opened, and the faults it was told to show. One
 * thread. */
#pragma once

#include "base/secret.h"
#include "base/wallet.h"
#include "crypto/envelope.h"
#include "crypto/eth.h"

#define SIM_BODY_BYTES_MAX (10 * 1024 * 1024)
#define SIM_NONCE_COUNT_MAX 16384
#define SIM_FAULT_COUNT_MAX 32
#define SIM_PATH_BYTES 64
#define SIM_SAY_BYTES 256
#define SIM_LATENCY_MS_MAX 600000

/* What happens to the calls of one path, or of "*" for every other one. */
struct sim_fault {
    char path[SIM_PATH_BYTES]; /* Empty: unused. */
    unsigned status;           /* Answered with say as text; 0: the call is served. */
    char say[SIM_SAY_BYTES];
    uint32_t latency_ms; /* Before the answer. */
    bool hang;           /* No answer, until the caller hangs up. */
    bool drop;           /* The connection ends without an answer. */
    uint32_t left_count; /* Calls it still applies to; 0: until it is cleared. */
};

/* Who encrypted, and under which nonce. */
struct sim_nonce {
    struct envelope_public sender;
    uint8_t nonce[ENVELOPE_NONCE_BYTES];
};

/* Embedded; zero is closed. */
struct sim {
    struct secret wallet_key;
    struct wallet wallet;
    uint8_t point[ETH_POINT_BYTES]; /* The wallet's public key. */
    struct envelope_key key;
    uint8_t v_base; /* 27 or 0: what is added to a signature's parity. */
    struct sim_fault faults[SIM_FAULT_COUNT_MAX];
    struct sim_nonce *nonces;
    size_t nonce_count;
    uint64_t call_count;
};

/* New random keys. IO, CRYPTO, NOMEM. */
RC sim_init(struct sim *sim);
/* Keys from path, JSON {"wallet":"0x..","encryption":"0x.."}; a file that is not there is made,
 * with new keys and mode 0600. *why lends a sentence on error. MALFORMED, IO, CRYPTO, NOMEM. */
RC sim_init_file(struct sim *sim, const char *path, const char **why);
/* Wipes. Accepts a zeroed or closed sim. */
void sim_close(struct sim *sim);

/* Another wallet or encryption key, as if Odyn had restarted: a NULL key is a new random one.
 * INVALID when it is none; then nothing changes. The second also forgets the nonces, which were the
 * old key's. */
RC sim_set_wallet(struct sim *sim, const uint8_t *key);
RC sim_set_key(struct sim *sim, const uint8_t *scalar);

/* EXISTS when this sender's nonce was here before, else it is remembered. UNAVAILABLE when no more
 * can be. */
RC sim_note_nonce(struct sim *sim, const struct envelope_public *sender,
                  const uint8_t nonce[static ENVELOPE_NONCE_BYTES]);

/* The fault of this call, counted; NULL when there is none. Lent until the next call of sim_. */
const struct sim_fault *sim_take_fault(struct sim *sim, const char *path);
/* Replaces the fault of its path. QUOTA when there are SIM_FAULT_COUNT_MAX others. */
RC sim_set_fault(struct sim *sim, const struct sim_fault *fault);
void sim_clear_faults(struct sim *sim);
