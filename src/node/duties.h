/* SPDX-License-Identifier: Apache-2.0 */
/* Does what bootstrap asks for: the calls of Odyn, the chain and other members. Each task blocks,
 * within the bounds of those. One owner thread. */
#pragma once

#include "base/status.h"
#include "bootstrap/bootstrap.h"
#include "crypto/kdf.h"
#include "node/config.h"
#include "node/peers.h"

struct duties; /* Opaque. */

struct duties_cfg {
    const struct node_config *config; /* Lent until close, as peers. */
    const struct node_peers *peers;
    uint64_t tx_stuck_ms;
};

/* Gives *out, NULL on error with a sentence in *why. Connects to nobody. BAD_CONFIG, NOMEM. */
RC duties_init(struct duties **out, const struct duties_cfg *cfg, struct status *why);
/* Takes *duties: wipes, frees, sets NULL. Accepts a closed one. */
void duties_close(struct duties **duties);
/* The task under way and later ones end soon, as far as they wait for Odyn or the chain. Any
 * thread, until duties_close. */
void duties_cancel(struct duties *duties);

/* Does a START action, and fills the event of its end but for time and random number. What the
 * event lends is valid until the next call. */
void duties_do(struct duties *duties, const struct bootstrap_action *action,
               struct bootstrap_event *event);
/* Moves the secret that GENERATE or FETCH made into *out, which is closed, once the task has ended
 * and before the next begins. */
void duties_take_secret(struct duties *duties, struct kdf_master *out);
