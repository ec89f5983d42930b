/* SPDX-License-Identifier: Apache-2.0 */
#include "node/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "crypto/kdf.h"
#include "crypto/random.h"
#include "identity/keyfile.h"
#include "registry/file.h"

#define DEFAULT_NAME "nova-kms-dev"
#define FILE_NAME_MAX 32
#define DIR_BYTES (PATH_MAX - FILE_NAME_MAX)

struct dev {
    char dir[DIR_BYTES];
    int lock_fd;
    struct identity_keyfile node_key;
    struct wallet app_wallet;
    const char *version;
    uint64_t chain_id;
};

static void path_of(const struct dev *dev, const char *name, char path[static PATH_MAX]) {
    (void)snprintf(path, PATH_MAX, "%s/%s", dev->dir, name);
}

static RC io_error(struct status *why, const char *path, const char *what) {
    status_set(why, STATUS_INTERNAL, "%s cannot be %s: %s", path, what, strerror(errno));
    return ERR(IO);
}

/* ---- The directory ---- */

/* Makes a directory and those above it, like mkdir -p; new ones are for the owner alone. */
static RC make_dirs(char *path, struct status *why) {
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0') {
            continue;
        }
        char end = *at;
        *at = '\0';
        bool made = mkdir(path, S_IRWXU) == 0 || errno == EEXIST;
        if (!made) {
            return io_error(why, path, "made");
        }
        *at = end;
        if (end == '\0') {
            return OK;
        }
    }
}

static RC default_dir(char dir[static DIR_BYTES], struct status *why) {
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int len = -1;
    if (state != NULL && state[0] == '/') {
        len = snprintf(dir, DIR_BYTES, "%s/" DEFAULT_NAME, state);
    } else if (home != NULL && home[0] == '/') {
        len = snprintf(dir, DIR_BYTES, "%s/.local/state/" DEFAULT_NAME, home);
    }
    if (len < 0 || len >= DIR_BYTES) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "neither XDG_STATE_HOME nor HOME names a directory: give one with --dir");
        return ERR(BAD_CONFIG);
    }
    return OK;
}

static RC open_dir(struct dev *dev, const char *dir, struct status *why) {
    if (dir == NULL) {
        TRY(default_dir(dev->dir, why));
    } else {
        size_t len = strlen(dir);
        if (len == 0 || len >= DIR_BYTES) {
            status_set(why, STATUS_INVALID_ARGUMENT, "--dir must name a directory");
            return ERR(BAD_CONFIG);
        }
        memcpy(dev->dir, dir, len + 1);
    }
    return make_dirs(dev->dir, why);
}

static RC take_lock(struct dev *dev, struct status *why) {
    char path[PATH_MAX];
    path_of(dev, "lock", path);
    dev->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (dev->lock_fd < 0) {
        return io_error(why, path, "opened");
    }
    if (flock(dev->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        status_set(why, STATUS_ALREADY_EXISTS, "another node runs in %.180s", dev->dir);
        return ERR(EXISTS);
    }
    path_of(dev, "node.json", path);
    (void)unlink(path); /* Of a node that did not end in order. */
    return OK;
}

/* ---- Its files ---- */

static RC open_key(struct identity_keyfile *keyfile, const char *path, struct status *why) {
    struct rc rc = identity_keyfile_load(keyfile, path, why);
    if (rc.err == E_NOT_FOUND) {
        rc = identity_keyfile_create(keyfile, path, why);
    }
    return rc;
}

static RC open_keys(struct dev *dev, struct status *why) {
    char path[PATH_MAX];
    struct identity_keyfile app_key = { 0 };
    path_of(dev, "node.key", path);
    TRY(open_key(&dev->node_key, path, why));
    path_of(dev, "app.key", path);
    TRY(open_key(&app_key, path, why));
    dev->app_wallet = app_key.wallet;
    identity_keyfile_close(&app_key);
    return OK;
}

static RC make_registry(struct dev *dev, const struct node_config *config, struct status *why) {
    char path[PATH_MAX];
    char url[CONFIG_URL_BYTES] = "";
    char address[CONFIG_ADDRESS_TEXT_BYTES];
    char reason[REGISTRY_REASON_BYTES];
    path_of(dev, "registry.json", path);
    if (access(path, F_OK) == 0) {
        return OK;
    }
    if (config->node_url[0] != '\0') {
        (void)snprintf(url, sizeof(url), "%s", config->node_url);
    } else if (config->rpc_listen.port != 0) {
        (void)snprintf(url, sizeof(url), "https://%s",
                       config_address_text(&config->rpc_listen, address));
    }
    const struct registry_file_seed seed = {
        .kms_app_id = config->kms_app_id,
        .node_wallet = dev->node_key.wallet,
        .node_url = url,
        .app_id =
            config->kms_app_id == DEV_SAMPLE_APP_ID ? DEV_SAMPLE_APP_ID + 1 : DEV_SAMPLE_APP_ID,
        .app_wallet = dev->app_wallet,
    };
    struct rc rc = registry_file_create(path, &seed, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INTERNAL, "%s", reason);
    }
    return rc;
}

static RC prepare(struct dev *dev, const char *dir, const struct node_config *config,
                  struct status *why) {
    TRY(open_dir(dev, dir, why));
    TRY(take_lock(dev, why));
    TRY(open_keys(dev, why));
    return make_registry(dev, config, why);
}

RC dev_init(struct dev **out, const char *dir, const struct node_config *config,
            struct status *why) {
    *out = NULL;
    struct dev *dev = calloc(1, sizeof(*dev));
    ENSURE(dev != NULL, NOMEM);
    dev->lock_fd = -1;
    dev->chain_id = config->chain_id;
    struct rc rc = prepare(dev, dir, config, why);
    if (rc.err != E_OK) {
        dev_close(&dev);
        return rc;
    }
    *out = dev;
    return OK;
}

void dev_close(struct dev **dev) {
    if (*dev == NULL) {
        return;
    }
    identity_keyfile_close(&(*dev)->node_key);
    if ((*dev)->lock_fd >= 0) {
        (void)close((*dev)->lock_fd);
    }
    free(*dev);
    *dev = NULL;
}

/* ---- The node in it ---- */

/* Writes node.json whole or not at all: whoever waits for it reads it at once. */
static RC write_node_json(const struct dev *dev, const char *rpc, const char *http,
                          struct status *why) {
    char path[PATH_MAX];
    char temporary[PATH_MAX];
    char wallet[WALLET_TEXT_BYTES];
    path_of(dev, "node.json", path);
    path_of(dev, "node.json.new", temporary);
    FILE *file = fopen(temporary, "we");
    if (file == NULL) {
        return io_error(why, temporary, "written");
    }
    int len = fprintf(file,
                      "{\"rpc\":\"%s\",\"http\":\"%s\",\"wallet\":\"%s\",\"chain_id\":%" PRIu64
                      ",\"pid\":%d,\"version\":\"%s\"}\n",
                      rpc, http, wallet_format(&dev->node_key.wallet, wallet), dev->chain_id,
                      (int)getpid(), dev->version);
    bool written = fclose(file) == 0 && len > 0;
    if (!written || rename(temporary, path) != 0) {
        return io_error(why, path, "written");
    }
    return OK;
}

static RC ready_cb(void *ctx, const struct node_ready *ready, struct status *why) {
    const struct dev *dev = ctx;
    char rpc[CONFIG_ADDRESS_TEXT_BYTES];
    char http[CONFIG_ADDRESS_TEXT_BYTES];
    char wallet[WALLET_TEXT_BYTES];
    TRY(write_node_json(dev, config_address_text(&ready->rpc, rpc),
                        config_address_text(&ready->http, http), why));
    (void)printf("ready rpc=%s http=%s wallet=%s dir=%s\n", rpc, http,
                 wallet_format(&ready->wallet, wallet), dev->dir);
    (void)fflush(stdout);
    return OK;
}

static RC open_registry(struct dev *dev, struct registry **out, struct status *why) {
    char path[PATH_MAX];
    char reason[REGISTRY_REASON_BYTES];
    path_of(dev, "registry.json", path);
    const struct registry_file_cfg cfg = { .path = path,
                                           .recheck_ms = REGISTRY_FILE_RECHECK_MS_DEFAULT };
    struct rc rc = registry_file_init(out, &cfg, reason);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INTERNAL, "%s", reason);
    }
    return rc;
}

/* KMS_APP_ID names the app for the chain's registry; the file names its own. */
static RC check_app_id(const struct node_config *config, const struct registry *source,
                       struct status *why) {
    if (source->kms_app_id == config->kms_app_id) {
        return OK;
    }
    status_set(why, STATUS_FAILED_PRECONDITION,
               "registry.json is for KMS app %" PRIu64 ", but KMS_APP_ID is %" PRIu64,
               source->kms_app_id, config->kms_app_id);
    return ERR(BAD_CONFIG);
}

RC dev_run(struct dev *dev, const struct node_config *config, const char *version,
           struct status *why) {
    dev->version = version;
    struct registry *source = NULL;
    TRY(open_registry(dev, &source, why));
    struct rc rc = check_app_id(config, source, why);
    if (rc.err != E_OK) {
        registry_close(&source);
        return rc;
    }
    uint8_t secret[KDF_MASTER_BYTES];
    if (config->has_master_secret) {
        memcpy(secret, config->master_secret, sizeof(secret));
    } else {
        rc = random_bytes(secret, sizeof(secret));
        ASSERT(rc.err == E_OK);
        LOG(WARN, "node.secret", "random: keys change at the next start%s",
            "; set MASTER_SECRET_HEX to keep them");
    }
    char host[CONFIG_URL_BYTES];
    config_url_host(config->node_url, host);
    const struct node_cfg cfg = {
        .config = config,
        .version = version,
        .signer = identity_keyfile_signer(&dev->node_key),
        .host = host[0] != '\0' ? host : config->rpc_listen.host,
        .master_secret = secret,
        .ready_cb = ready_cb,
        .ctx = dev,
    };
    rc = node_run(&cfg, &source, why);
    secret_wipe(secret, sizeof(secret));
    char path[PATH_MAX];
    path_of(dev, "node.json", path);
    (void)unlink(path);
    return rc;
}
