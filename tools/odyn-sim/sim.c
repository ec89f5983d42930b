/* SPDX-License-Identifier: Apache-2.0 */
#include "sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/hex.h"
#include "base/json.h"
#include "crypto/random.h"

#define FILE_BYTES_MAX 1024

static void close_fd(const int *fd) {
    if (*fd >= 0) {
        (void)close(*fd); /* Only read from, or already synced. */
    }
}

static void free_json(json_t **value) {
    json_decref(*value);
}

static RC make_wallet(struct sim *sim, struct secret *key, const uint8_t *bytes) {
    if (bytes == NULL) {
        TRY(random_bytes(key->ptr, key->len));
    } else {
        memcpy(key->ptr, bytes, key->len);
    }
    struct wallet wallet;
    TRY(eth_wallet_of_key(key, &wallet));
    TRY(eth_point_of_key(key, sim->point));
    sim->wallet = wallet;
    return OK;
}

RC sim_set_wallet(struct sim *sim, const uint8_t *key) {
    struct secret made;
    TRY(secret_init(&made, ETH_KEY_BYTES));
    struct rc rc = make_wallet(sim, &made, key);
    if (rc.err != E_OK) {
        secret_close(&made);
        return rc;
    }
    secret_close(&sim->wallet_key);
    sim->wallet_key = made;
    return OK;
}

RC sim_set_key(struct sim *sim, const uint8_t *scalar) {
    struct envelope_key made;
    TRY(scalar == NULL ? envelope_key_init(&made) : envelope_key_from_scalar(&made, scalar));
    envelope_key_close(&sim->key);
    sim->key = made;
    sim->nonce_count = 0;
    return OK;
}

RC sim_init(struct sim *sim) {
    *sim = (struct sim){ .v_base = 27 };
    TRY(sim_set_wallet(sim, NULL));
    return sim_set_key(sim, NULL);
}

void sim_close(struct sim *sim) {
    secret_close(&sim->wallet_key);
    envelope_key_close(&sim->key);
    free(sim->nonces);
    *sim = (struct sim){ 0 };
}

static RC write_file(const struct sim *sim, const char *path) {
    AUTO(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    ENSURE(fd >= 0, IO);
    char wallet[HEX_TEXT_BYTES(ETH_KEY_BYTES)];
    char scalar[HEX_TEXT_BYTES(ENVELOPE_SCALAR_BYTES)];
    char text[FILE_BYTES_MAX];
    hex_encode((struct span){ sim->wallet_key.ptr, sim->wallet_key.len }, wallet);
    hex_encode((struct span){ sim->key.scalar.ptr, sim->key.scalar.len }, scalar);
    int len = snprintf(text, sizeof(text), "{\"wallet\":\"0x%s\",\"encryption\":\"0x%s\"}\n",
                       wallet, scalar);
    ASSERT(len > 0 && (size_t)len < sizeof(text));
    ENSURE(write(fd, text, (size_t)len) == len && fsync(fd) == 0, IO);
    return OK;
}

static RC take_hex(const json_t *root, const char *name, uint8_t *out, size_t len) {
    const json_t *value = json_object_get(root, name);
    ENSURE(json_is_string(value), MALFORMED);
    return hex_decode(span_str(json_string_value(value)), out, len);
}

static RC read_file(struct sim *sim, int fd) {
    char text[FILE_BYTES_MAX];
    ssize_t len = read(fd, text, sizeof(text));
    ENSURE(len >= 0, IO);
    char error[JSON_ERROR_BYTES];
    AUTO(free_json) json_t *root = NULL;
    TRY(json_parse((struct span){ (const uint8_t *)text, (size_t)len }, sizeof(text), &root,
                   error));
    uint8_t wallet[ETH_KEY_BYTES];
    uint8_t scalar[ENVELOPE_SCALAR_BYTES];
    TRY(take_hex(root, "wallet", wallet, sizeof(wallet)));
    TRY(take_hex(root, "encryption", scalar, sizeof(scalar)));
    TRY(sim_set_wallet(sim, wallet));
    return sim_set_key(sim, scalar);
}

RC sim_init_file(struct sim *sim, const char *path, const char **why) {
    *sim = (struct sim){ .v_base = 27 };
    *why = "it cannot be read or made";
    AUTO(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        TRY(sim_init(sim));
        return write_file(sim, path);
    }
    ENSURE(fd >= 0, IO);
    *why = "it must hold {\"wallet\":\"0x<32 bytes>\",\"encryption\":\"0x<48 bytes>\"}, both valid "
           "private keys";
    return read_file(sim, fd);
}

RC sim_note_nonce(struct sim *sim, const struct envelope_public *sender,
                  const uint8_t nonce[static ENVELOPE_NONCE_BYTES]) {
    for (size_t i = 0; i < sim->nonce_count; i++) {
        const struct sim_nonce *known = &sim->nonces[i];
        ENSURE(!span_equal((struct span){ known->nonce, ENVELOPE_NONCE_BYTES },
                           (struct span){ nonce, ENVELOPE_NONCE_BYTES }) ||
                   !envelope_public_equal(&known->sender, sender),
               EXISTS);
    }
    ENSURE(sim->nonce_count < SIM_NONCE_COUNT_MAX, UNAVAILABLE);
    if (sim->nonces == NULL) {
        sim->nonces = calloc(SIM_NONCE_COUNT_MAX, sizeof(*sim->nonces));
        ENSURE(sim->nonces != NULL, NOMEM);
    }
    struct sim_nonce *made = &sim->nonces[sim->nonce_count];
    made->sender = *sender;
    memcpy(made->nonce, nonce, ENVELOPE_NONCE_BYTES);
    sim->nonce_count++;
    return OK;
}

static struct sim_fault *find_fault(struct sim *sim, const char *path) {
    for (size_t i = 0; i < SIM_FAULT_COUNT_MAX; i++) {
        if (strcmp(sim->faults[i].path, path) == 0) {
            return &sim->faults[i];
        }
    }
    return NULL;
}

const struct sim_fault *sim_take_fault(struct sim *sim, const char *path) {
    static struct sim_fault taken;
    struct sim_fault *fault = path[0] == '\0' ? NULL : find_fault(sim, path);
    fault = fault == NULL ? find_fault(sim, "*") : fault;
    if (fault == NULL) {
        return NULL;
    }
    taken = *fault;
    if (fault->left_count == 1) {
        *fault = (struct sim_fault){ 0 };
    } else if (fault->left_count > 1) {
        fault->left_count--;
    }
    return &taken;
}

RC sim_set_fault(struct sim *sim, const struct sim_fault *fault) {
    struct sim_fault *slot = find_fault(sim, fault->path);
    slot = slot == NULL ? find_fault(sim, "") : slot;
    ENSURE(slot != NULL, QUOTA);
    *slot = *fault;
    return OK;
}

void sim_clear_faults(struct sim *sim) {
    memset(sim->faults, 0, sizeof(sim->faults));
}
