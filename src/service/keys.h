/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the applications that one worker serves, derived once and kept in locked memory: the
 * states that derivations start from, and the key that values are sealed with. The least recently
 * used app makes room. One owner thread. */
#pragma once

#include "crypto/kdf.h"
#include "crypto/xaes.h"

#define SERVICE_KEYS_APP_COUNT_MAX 4096

struct service_keys; /* Opaque. */

struct service_app_keys {
    struct kdf_app derive;
    struct xaes_key seal;
};

/* Gives *out, NULL on error; memory for app_count apps (1 to SERVICE_KEYS_APP_COUNT_MAX) is taken
 * and locked here. master is lent until close, or until another is set; NULL: there is none yet.
 * BAD_CONFIG, NOMEM. */
RC service_keys_init(struct service_keys **out, const struct kdf_master *master,
                     uint32_t app_count);
/* Takes *keys: wipes, frees, sets NULL. Accepts a closed one. */
void service_keys_close(struct service_keys **keys);
/* Lends the app's keys until the next call. O(1); derives on the first use. UNAVAILABLE without a
 * master secret; CRYPTO. */
RC service_keys_get(struct service_keys *keys, uint64_t app_id,
                    const struct service_app_keys **out);
/* Wipes everything that was derived. */
void service_keys_forget(struct service_keys *keys);
/* The same, and derives from this master secret (lent as in init; NULL: none) from now on. */
void service_keys_set_master(struct service_keys *keys, const struct kdf_master *master);
