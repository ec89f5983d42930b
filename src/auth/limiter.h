/* SPDX-License-Identifier: Apache-2.0 */
/* Calls per minute and wallet (RATE_LIMIT_PER_MINUTE): a token bucket each. Pure; one owner thread,
 * no lock. Memory is taken in _init. Time is monotonic milliseconds and never goes back.
 *
 * A bucket holds burst_count tokens and refills at per_minute tokens a minute. With the default
 * burst, a caller that was idle for a minute may make per_minute calls at once, and at most
 * 2 * per_minute in any 60 s. */
#pragma once

#include <stdbool.h>

#include "base/siphash.h"
#include "base/wallet.h"

#define AUTH_LIMITER_WALLET_COUNT_MAX 65536u
#define AUTH_LIMITER_PER_MINUTE_MAX 1000000000u

struct auth_limiter; /* Opaque. */

struct auth_limiter_cfg {
    uint32_t per_minute;       /* 0 turns the limiter off; at most AUTH_LIMITER_PER_MINUTE_MAX. */
    uint32_t burst_count;      /* 0 means per_minute; the same maximum. */
    uint32_t wallet_count_max; /* 1 to AUTH_LIMITER_WALLET_COUNT_MAX. */
    uint8_t hash_key[SIPHASH_KEY_BYTES];
};

/* Gives *out, NULL on error. Copies cfg. BAD_CONFIG, NOMEM. */
RC auth_limiter_init(struct auth_limiter **out, const struct auth_limiter_cfg *cfg);
/* Takes *limiter: frees, sets NULL. Accepts a closed limiter. */
void auth_limiter_close(struct auth_limiter **limiter);

/* Takes one token. False when there is none: *retry_after_ms says when there will be. O(1).
 *
 * With the table full, a wallet that is not in it takes the place of one whose bucket is full
 * again, so nothing is forgotten by that. When the wallets idle for longest have all not refilled
 * (within a minute of activity with the default burst), the newcomer is refused: nobody resets a
 * bucket by crowding the table. */
bool auth_limiter_take(struct auth_limiter *limiter, const struct wallet *wallet, uint64_t now_ms,
                       uint32_t *retry_after_ms);
