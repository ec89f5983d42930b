/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "crypto/random.h"

/* 0x, 64 digits, and white space around them. */
#define FILE_BYTES_MAX 128
#define KEY_TEXT_BYTES HEX_TEXT_BYTES(ETH_KEY_BYTES)

static void close_fd(const int *fd) {
    if (*fd >= 0) {
        (void)close(*fd); /* Only read from, or already synced. */
    }
}

RC identity_keyfile_from_key(struct identity_keyfile *keyfile,
                             const uint8_t key[static ETH_KEY_BYTES]) {
    *keyfile = (struct identity_keyfile){ 0 };
    TRY(secret_init(&keyfile->key, ETH_KEY_BYTES));
    memcpy(keyfile->key.ptr, key, ETH_KEY_BYTES);
    struct rc rc = eth_wallet_of_key(&keyfile->key, &keyfile->wallet);
    if (rc.err != E_OK) {
        identity_keyfile_close(keyfile);
    }
    return rc;
}

void identity_keyfile_close(struct identity_keyfile *keyfile) {
    secret_close(&keyfile->key);
    *keyfile = (struct identity_keyfile){ 0 };
}

static RC open_to_read(const char *path, int *fd, struct status *why) {
    /* O_NONBLOCK: a FIFO must not hold us up. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd >= 0) {
        return OK;
    }
    if (errno == ENOENT) {
        status_set(why, STATUS_NOT_FOUND, "There is no key file %.150s.", path);
        return ERR(NOT_FOUND);
    }
    if (errno == EACCES) {
        status_set(why, STATUS_PERMISSION_DENIED, "This user may not read the key file %.150s.",
                   path);
        return ERR(DENIED);
    }
    status_set(why, STATUS_UNKNOWN, "The key file %.150s cannot be opened (errno %d).", path,
               errno);
    return ERR(IO);
}

static RC check_file(const char *path, int fd, struct status *why) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status_set(why, STATUS_FAILED_PRECONDITION, "The key file %.150s is not a regular file.",
                   path);
        return ERR(DENIED);
    }
    if (st.st_uid != geteuid()) {
        status_set(why, STATUS_PERMISSION_DENIED,
                   "The key file %.150s belongs to another user; it must be this user's.", path);
        return ERR(DENIED);
    }
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        status_set(why, STATUS_PERMISSION_DENIED,
                   "The key file %.150s is open to other users (mode %04o); run chmod 600 on it.",
                   path, (unsigned)(st.st_mode & 07777));
        return ERR(DENIED);
    }
    return OK;
}

/* Reads at most text_bytes. */
static RC read_all(int fd, char *text, size_t text_bytes, size_t *len) {
    *len = 0;
    while (*len < text_bytes) {
        ssize_t got = read(fd, text + *len, text_bytes - *len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        ENSURE(got >= 0, IO);
        if (got == 0) {
            break;
        }
        *len += (size_t)got;
    }
    return OK;
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span trim(struct span text) {
    while (text.len > 0 && is_blank(text.ptr[0])) {
        text = (struct span){ text.ptr + 1, text.len - 1 };
    }
    while (text.len > 0 && is_blank(text.ptr[text.len - 1])) {
        text.len--;
    }
    return text;
}

static RC parse_key(struct identity_keyfile *keyfile, int fd) {
    char text[FILE_BYTES_MAX + 1];
    uint8_t key[ETH_KEY_BYTES];
    size_t len = 0;
    struct rc rc = read_all(fd, text, sizeof(text), &len);
    if (rc.err == E_OK && len > FILE_BYTES_MAX) {
        rc = ERR(MALFORMED);
    }
    if (rc.err == E_OK) {
        rc = hex_decode(trim((struct span){ (const uint8_t *)text, len }), key, sizeof(key));
    }
    if (rc.err == E_OK) {
        rc = identity_keyfile_from_key(keyfile, key);
    }
    secret_wipe(text, sizeof(text));
    secret_wipe(key, sizeof(key));
    return rc;
}

RC identity_keyfile_load(struct identity_keyfile *keyfile, const char *path, struct status *why) {
    *keyfile = (struct identity_keyfile){ 0 };
    AUTO(close_fd) int fd = -1;
    TRY(open_to_read(path, &fd, why));
    TRY(check_file(path, fd, why));
    struct rc rc = parse_key(keyfile, fd);
    if (rc.err == E_MALFORMED || rc.err == E_INVALID) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "The key file %.150s does not hold a secp256k1 private key in 64 hex digits.",
                   path);
        return ERR(MALFORMED);
    }
    if (rc.err != E_OK) {
        status_set(why, STATUS_UNKNOWN, "The key file %.150s cannot be read: %s.", path,
                   err_text(rc.err));
    }
    return rc;
}

/* All but 2^-128 of the strings of 32 bytes are private keys. */
static RC random_key(struct identity_keyfile *keyfile) {
    uint8_t key[ETH_KEY_BYTES];
    struct rc rc = random_bytes(key, sizeof(key));
    if (rc.err == E_OK) {
        rc = identity_keyfile_from_key(keyfile, key);
    }
    secret_wipe(key, sizeof(key));
    return rc;
}

static RC write_key(const struct identity_keyfile *keyfile, int fd) {
    char text[KEY_TEXT_BYTES];
    hex_encode((struct span){ keyfile->key.ptr, keyfile->key.len }, text);
    text[KEY_TEXT_BYTES - 1] = '\n';
    ssize_t written = write(fd, text, sizeof(text));
    secret_wipe(text, sizeof(text));
    ENSURE(written == (ssize_t)sizeof(text), IO);
    ENSURE(fsync(fd) == 0, IO);
    return OK;
}

RC identity_keyfile_create(struct identity_keyfile *keyfile, const char *path, struct status *why) {
    *keyfile = (struct identity_keyfile){ 0 };
    AUTO(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0 && errno == EEXIST) {
        status_set(why, STATUS_ALREADY_EXISTS,
                   "%.150s exists already; a key file is never overwritten.", path);
        return ERR(EXISTS);
    }
    if (fd < 0) {
        status_set(why, STATUS_UNKNOWN, "The key file %.150s cannot be created (errno %d).", path,
                   errno);
        return ERR(IO);
    }
    struct rc rc = random_key(keyfile);
    if (rc.err == E_OK) {
        rc = write_key(keyfile, fd);
    }
    if (rc.err != E_OK) {
        (void)unlink(path); /* Ours, made a moment ago; nobody can have read it. */
        identity_keyfile_close(keyfile);
        status_set(why, STATUS_UNKNOWN, "The key file %.150s cannot be written: %s.", path,
                   err_text(rc.err));
    }
    return rc;
}

static RC sign_with_key(void *ctx, struct span text, struct eth_signature *out) {
    const struct identity_keyfile *keyfile = ctx;
    return eth_sign_message(&keyfile->key, text, out);
}

struct identity_signer identity_keyfile_signer(struct identity_keyfile *keyfile) {
    return (struct identity_signer){ keyfile->wallet, sign_with_key, keyfile };
}
