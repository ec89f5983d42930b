/* SPDX-License-Identifier: Apache-2.0 */
#include "client/policy.h"

static bool is_safe(const struct client_try *failed) {
    return failed->is_read || failed->executed == NET_NOT_EXECUTED ||
           (failed->executed == NET_ANSWERED && failed->code == STATUS_UNAVAILABLE);
}

enum client_next client_policy_next(const struct client_try *failed) {
    if (!is_safe(failed)) {
        return CLIENT_NEXT_NONE;
    }
    if (failed->is_cut) {
        return CLIENT_NEXT_ELSEWHERE;
    }
    if (failed->is_refusal) {
        /* The registry decides about callers, and all nodes read the same one. */
        return failed->code == STATUS_PERMISSION_DENIED ? CLIENT_NEXT_NONE : CLIENT_NEXT_ELSEWHERE;
    }
    if (failed->code != STATUS_UNAVAILABLE) {
        return CLIENT_NEXT_NONE;
    }
    return failed->executed == NET_ANSWERED ? CLIENT_NEXT_ELSEWHERE : CLIENT_NEXT_ANY;
}

uint32_t client_policy_try_ms(uint64_t left_ms, uint32_t untried_count, bool is_read) {
    uint64_t share_ms = is_read && untried_count > 1 ? left_ms / untried_count : left_ms;
    share_ms = share_ms < CLIENT_TRY_MS_MIN ? CLIENT_TRY_MS_MIN : share_ms;
    share_ms = share_ms < left_ms ? share_ms : left_ms;
    return share_ms < UINT32_MAX ? (uint32_t)share_ms : UINT32_MAX;
}

bool client_list_is_usable(const struct client_list_state *state) {
    return state->has_list && state->age_ms <= state->ttl_ms;
}

enum client_list_plan client_policy_list(const struct client_list_state *state) {
    bool is_usable = client_list_is_usable(state);
    if (is_usable && !state->is_outdated && state->age_ms <= CLIENT_LIST_REFRESH_MS) {
        return CLIENT_LIST_USE;
    }
    if (state->has_failed && state->since_failure_ms < CLIENT_LIST_PAUSE_MS) {
        return is_usable ? CLIENT_LIST_USE : CLIENT_LIST_FAIL;
    }
    return is_usable && state->age_ms <= CLIENT_LIST_WAIT_MS ? CLIENT_LIST_USE_AND_READ
                                                             : CLIENT_LIST_WAIT;
}
