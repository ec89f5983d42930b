/* SPDX-License-Identifier: Apache-2.0 */
/* odyn-sim's own calls: what the tests and tools/devnet do to it. */
#include <stdlib.h>

#include "api.h"

void api_state(struct sim *sim, const json_t *body, struct api_reply *reply) {
    (void)body;
    char wallet[WALLET_TEXT_BYTES];
    uint8_t der[ENVELOPE_DER_BYTES];
    envelope_public_write(&sim->key.public_key, der);
    json_t *faults = json_array();
    for (size_t i = 0; i < SIM_FAULT_COUNT_MAX; i++) {
        const struct sim_fault *fault = &sim->faults[i];
        if (fault->path[0] != '\0') {
            (void)json_array_append_new(
                faults, json_pack("{ss, si, ss, si, sb, sb, si}", "path", fault->path, "status",
                                  (int)fault->status, "body", fault->say, "latency_ms",
                                  (int)fault->latency_ms, "hang", (int)fault->hang, "drop",
                                  (int)fault->drop, "count", (int)fault->left_count));
        }
    }
    api_json(reply,
             json_pack("{ss, so, sI, sI, so}", "address", wallet_format(&sim->wallet, wallet),
                       "public_key_der", api_hex((struct span){ der, sizeof(der) }), "calls",
                       (json_int_t)sim->call_count, "nonces", (json_int_t)sim->nonce_count,
                       "faults", faults));
}

/* A number that may be missing. */
static bool take_number(const json_t *body, const char *name, json_int_t max, json_int_t *out,
                        struct api_reply *reply) {
    const json_t *value = json_object_get(body, name);
    *out = json_integer_value(value);
    if (value != NULL && (!json_is_integer(value) || *out < 0 || *out > max)) {
        api_text(reply, 400, "%s must be a whole number from 0 to %lld", name, (long long)max);
        return false;
    }
    return true;
}

static bool take_word(const json_t *body, const char *name, char *out, size_t out_bytes,
                      struct api_reply *reply) {
    const json_t *value = json_object_get(body, name);
    struct span text = SPAN_EMPTY;
    if (value == NULL) {
        return true;
    }
    if (!api_take_text(body, name, &text, reply)) {
        return false;
    }
    if (text.len >= out_bytes) {
        api_text(reply, 400, "%s must have at most %zu bytes", name, out_bytes - 1);
        return false;
    }
    memcpy(out, text.ptr, text.len);
    return true;
}

void api_set_fault(struct sim *sim, const json_t *body, struct api_reply *reply) {
    struct sim_fault fault = { .path = "" };
    json_int_t status = 0;
    json_int_t latency_ms = 0;
    json_int_t count = 0;
    if (!take_word(body, "path", fault.path, sizeof(fault.path), reply) ||
        !take_word(body, "body", fault.say, sizeof(fault.say), reply) ||
        !take_number(body, "status", 599, &status, reply) ||
        !take_number(body, "latency_ms", SIM_LATENCY_MS_MAX, &latency_ms, reply) ||
        !take_number(body, "count", INT32_MAX, &count, reply) ||
        !api_take_flag(body, "hang", &fault.hang, reply) ||
        !api_take_flag(body, "drop", &fault.drop, reply)) {
        return;
    }
    if (fault.path[0] == '\0' || (status != 0 && status < 200)) {
        api_text(reply, 400, "path must be a path or *, and status 0 or 200 to 599");
        return;
    }
    fault.status = (unsigned)status;
    fault.latency_ms = (uint32_t)latency_ms;
    fault.left_count = (uint32_t)count;
    if (sim_set_fault(sim, &fault).err != E_OK) {
        api_text(reply, 400, "there are %d faults already", SIM_FAULT_COUNT_MAX);
        return;
    }
    api_state(sim, NULL, reply);
}

void api_clear(struct sim *sim, const json_t *body, struct api_reply *reply) {
    (void)body;
    sim_clear_faults(sim);
    api_state(sim, NULL, reply);
}

/* Sets a key from the field private_key, or a new one when that is missing. */
static void set_key(struct sim *sim, const json_t *body, size_t key_len,
                    RC (*set)(struct sim *sim, const uint8_t *key), struct api_reply *reply) {
    struct span key = SPAN_EMPTY;
    bool given = json_object_get(body, "private_key") != NULL;
    if (given && !api_take_hex(body, "private_key", key_len, &key, reply)) {
        return;
    }
    if ((given && key.len != key_len) || set(sim, key.ptr).err != E_OK) {
        api_text(reply, 400, "private_key must be %zu bytes of a valid private key", key_len);
    } else {
        api_state(sim, NULL, reply);
    }
    free((void *)(uintptr_t)key.ptr);
}

void api_set_wallet(struct sim *sim, const json_t *body, struct api_reply *reply) {
    set_key(sim, body, ETH_KEY_BYTES, sim_set_wallet, reply);
}

void api_set_key(struct sim *sim, const json_t *body, struct api_reply *reply) {
    set_key(sim, body, ENVELOPE_SCALAR_BYTES, sim_set_key, reply);
}
