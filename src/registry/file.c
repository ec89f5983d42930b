/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "registry/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "registry/file_parse.h"

/* A file changed this recently may change again without a different time of change: the kernel's
 * clock for them ticks every 4 to 10 ms. */
#define UNSETTLED_MS 100
/* How much of a long path a reason shows: its end. */
#define SHOWN_PATH_BYTES 64

/* What tells one state of the file from another. */
struct stamp {
    uint64_t device;
    uint64_t inode;
    int64_t size_bytes;
    int64_t modified_ns;
    int64_t changed_ns; /* Cannot be set back by whoever writes the file. */
};

struct file_registry {
    struct registry base;
    char *path;
    uint32_t recheck_ms;
    bool was_checked;
    uint64_t checked_ms; /* Monotonic: the data was the file's at this instant. */
    bool is_settled;     /* The stamp can be trusted to change when the file does. */
    struct stamp stamp;
    struct rc rc; /* Of the last load; on error there is no data, and why says why. */
    char why[REGISTRY_REASON_BYTES];
    struct registry_file_data data;
};

static struct file_registry *self_of(struct registry *registry) {
    return (struct file_registry *)(void *)registry;
}

static int64_t time_ns(struct timespec at) {
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static struct stamp stamp_of(const struct stat *st) {
    return (struct stamp){ .device = (uint64_t)st->st_dev,
                           .inode = (uint64_t)st->st_ino,
                           .size_bytes = (int64_t)st->st_size,
                           .modified_ns = time_ns(st->st_mtim),
                           .changed_ns = time_ns(st->st_ctim) };
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b) {
    return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

static bool stamp_is_settled(const struct stamp *stamp) {
    return stamp->changed_ns / 1000000 + UNSETTLED_MS < (int64_t)clock_unix_ms();
}

/* Puts "registry file PATH: " before text. */
static void say(const char *path, const char *text, char *reason) {
    char copy[REGISTRY_REASON_BYTES];
    (void)snprintf(copy, sizeof(copy), "%s", text); /* text may be reason itself. */
    size_t len = strlen(path);
    bool is_long = len > SHOWN_PATH_BYTES;
    (void)snprintf(reason, REGISTRY_REASON_BYTES, "registry file %s%s: %.120s",
                   is_long ? "..." : "", is_long ? path + len - SHOWN_PATH_BYTES : path, copy);
}

static void say_errno(const char *path, const char *what, char *reason) {
    char text[REGISTRY_REASON_BYTES];
    char buf[96];
    (void)snprintf(text, sizeof(text), "%s: %s", what, strerror_r(errno, buf, sizeof(buf)));
    say(path, text, reason);
}

static void close_fd(const int *fd) {
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

static void free_bytes(uint8_t **ptr) {
    free(*ptr);
}

/* Reads up to bytes_max from fd, until the end. */
static RC read_all(int fd, uint8_t *ptr, size_t bytes_max, size_t *len) {
    *len = 0;
    while (*len < bytes_max) {
        ssize_t n = read(fd, ptr + *len, bytes_max - *len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        ENSURE(n >= 0, IO);
        if (n == 0) {
            break;
        }
        *len += (size_t)n;
    }
    return OK;
}

/* Opens the file and takes its stamp. */
static RC open_file(const char *path, int *fd, struct stamp *stamp, char *reason) {
    /* NONBLOCK: a named pipe in its place must not hang the thread. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (*fd < 0 || fstat(*fd, &st) != 0) {
        say_errno(path, "cannot be opened", reason);
        return ERR(IO);
    }
    *stamp = stamp_of(&st);
    if (!S_ISREG(st.st_mode)) {
        say(path, "is not a regular file", reason);
        return ERR(MALFORMED);
    }
    if (st.st_size > (off_t)REGISTRY_FILE_BYTES_MAX) {
        say(path, "must have at most 16777216 bytes", reason);
        return ERR(TOO_BIG);
    }
    return OK;
}

/* Gives *text with its len: all of the file, in one state. */
static RC read_file(const char *path, struct stamp *stamp, uint8_t **text, size_t *len,
                    char *reason) {
    AUTO(close_fd) int fd = -1;
    TRY(open_file(path, &fd, stamp, reason));
    size_t size = (size_t)stamp->size_bytes;
    *text = malloc(size + 1); /* The byte more shows a file that grew. */
    ENSURE(*text != NULL, NOMEM);
    if (read_all(fd, *text, size + 1, len).err != E_OK) {
        say_errno(path, "cannot be read", reason);
        return ERR(IO);
    }
    struct stat st;
    struct stamp after = { 0 };
    if (fstat(fd, &st) == 0) {
        after = stamp_of(&st);
    }
    if (*len != size || !stamp_equal(stamp, &after)) {
        *stamp = (struct stamp){ 0 }; /* The next look reads it again. */
        say(path, "changed while it was read", reason);
        return ERR(AGAIN);
    }
    return OK;
}

static RC load(struct file_registry *self) {
    AUTO(free_bytes) uint8_t *text = NULL;
    size_t len = 0;
    self->stamp = (struct stamp){ 0 };
    say(self->path, err_text(E_NOMEM), self->why); /* The error that comes without words. */
    TRY(read_file(self->path, &self->stamp, &text, &len, self->why));
    struct rc rc = registry_file_parse((struct span){ text, len }, &self->data, self->why);
    if (rc.err != E_OK) {
        say(self->path, self->why, self->why);
        return rc;
    }
    if (self->base.kms_app_id != 0 && self->data.kms_app_id != self->base.kms_app_id) {
        say(self->path, "kms_app_id: must not change while the node runs", self->why);
        registry_file_data_close(&self->data);
        return ERR(MALFORMED);
    }
    return OK;
}

static bool is_current(const struct file_registry *self) {
    struct stat st;
    if (!self->was_checked || !self->is_settled || stat(self->path, &st) != 0) {
        return false;
    }
    struct stamp now = stamp_of(&st);
    return stamp_equal(&self->stamp, &now);
}

/* Makes the data the file's current content; on error there is none. */
static RC refresh(struct file_registry *self, char *reason) {
    uint64_t now_ms = clock_mono_ms(); /* Before the look: the answer is at least this new. */
    bool is_recent = self->was_checked && now_ms - self->checked_ms < self->recheck_ms;
    if (!is_recent && !is_current(self)) {
        registry_file_data_close(&self->data);
        self->rc = load(self);
        self->is_settled = stamp_is_settled(&self->stamp);
    }
    if (!is_recent) {
        self->checked_ms = now_ms;
        self->was_checked = true;
    }
    if (self->rc.err != E_OK) {
        (void)snprintf(reason, REGISTRY_REASON_BYTES, "%s", self->why);
    }
    return self->rc;
}

static RC file_lookup(struct registry *registry, const struct wallet *wallet,
                      struct auth_facts *out, char reason[static REGISTRY_REASON_BYTES]) {
    struct file_registry *self = self_of(registry);
    TRY(refresh(self, reason));
    registry_file_find(&self->data, wallet, out);
    out->as_of_mono_ms = self->checked_ms;
    return OK;
}

static RC file_members(struct registry *registry, struct registry_members *out,
                       char reason[static REGISTRY_REASON_BYTES]) {
    struct file_registry *self = self_of(registry);
    TRY(refresh(self, reason));
    out->as_of_mono_ms = self->checked_ms;
    out->count = 0;
    for (size_t i = 0; i < self->data.instance_by_id.count; i++) {
        struct auth_facts facts = { 0 };
        registry_file_instance_at(&self->data, i, &facts);
        if (auth_judge(&facts, AUTH_PEER, self->base.kms_app_id) != AUTH_VERDICT_PERMITTED) {
            continue;
        }
        if (out->count == REGISTRY_MEMBER_COUNT_MAX) {
            say(self->path, "instances: must have at most 256 active ones of the KMS app", reason);
            return ERR(TOO_BIG);
        }
        out->at[out->count++] = facts.instance;
    }
    return OK;
}

static void file_close(struct registry *registry) {
    struct file_registry *self = self_of(registry);
    registry_file_data_close(&self->data);
    free(self->path);
    free(self);
}

RC registry_file_init(struct registry **out, const struct registry_file_cfg *cfg,
                      char reason[static REGISTRY_REASON_BYTES]) {
    static const struct registry_ops ops = { file_lookup, file_members, file_close };
    *out = NULL;
    reason[0] = '\0';
    struct file_registry *self = calloc(1, sizeof(*self));
    ENSURE(self != NULL, NOMEM);
    AUTO(registry_close) struct registry *owner = &self->base;
    owner->ops = &ops;
    owner->refresh_ms = REGISTRY_FILE_REFRESH_MS;
    self->recheck_ms = cfg->recheck_ms;
    self->path = strdup(cfg->path);
    ENSURE(self->path != NULL, NOMEM);
    TRY(refresh(self, reason));
    owner->kms_app_id = self->data.kms_app_id;
    *out = owner;
    owner = NULL;
    return OK;
}
