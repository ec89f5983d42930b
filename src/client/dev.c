/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "client/client.h"

#define NODE_JSON_BYTES_MAX 4096u

/* Reads a small file whole. */
static RC read_file(const char *path, uint8_t *bytes, size_t *len) {
    FILE *file = fopen(path, "re");
    ENSURE(file != NULL, NOT_FOUND);
    *len = fread(bytes, 1, NODE_JSON_BYTES_MAX + 1, file);
    bool ok = ferror(file) == 0;
    ENSURE(fclose(file) == 0 && ok, IO);
    ENSURE(*len <= NODE_JSON_BYTES_MAX, TOO_BIG);
    return OK;
}

static RC parse_node(struct client_dev *dev, const json_t *node, const char **what) {
    const char *rpc = json_string_value(json_object_get(node, "rpc"));
    const json_t *chain_id = json_object_get(node, "chain_id");
    *what = "\"rpc\" must be HOST:PORT";
    ENSURE(rpc != NULL && strlen(rpc) < sizeof(dev->server), MALFORMED);
    *what = "\"chain_id\" must be a number above 0";
    ENSURE(json_is_integer(chain_id) && json_integer_value(chain_id) > 0, MALFORMED);
    (void)snprintf(dev->server, sizeof(dev->server), "%s", rpc);
    dev->chain_id = (uint64_t)json_integer_value(chain_id);
    return OK;
}

static RC read_node(struct client_dev *dev, const char *path, struct status *why) {
    uint8_t text[NODE_JSON_BYTES_MAX + 1];
    size_t len = 0;
    if (read_file(path, text, &len).err != E_OK) {
        status_set(why, STATUS_UNAVAILABLE, "%s cannot be read (%s): is `nova-kms --dev` running?",
                   path, strerror(errno));
        return ERR(UNAVAILABLE);
    }
    json_t *node = NULL;
    char error[JSON_ERROR_BYTES] = "";
    const char *what = error;
    struct rc rc = json_parse((struct span){ text, len }, NODE_JSON_BYTES_MAX, &node, error);
    if (rc.err == E_OK) {
        rc = parse_node(dev, node, &what);
    }
    json_decref(node);
    if (rc.err != E_OK) {
        status_set(why, STATUS_INVALID_ARGUMENT, "%s: %s", path, what);
    }
    return rc;
}

static RC join(char out[static CLIENT_PATH_BYTES], const char *dir, const char *name,
               struct status *why) {
    int len = snprintf(out, CLIENT_PATH_BYTES, "%s/%s", dir, name);
    if (len < 0 || len >= CLIENT_PATH_BYTES) {
        status_set(why, STATUS_INVALID_ARGUMENT, "dev_dir must be a path of less than %d bytes",
                   CLIENT_PATH_BYTES);
        return ERR(INVALID);
    }
    return OK;
}

RC client_dev_apply(struct client_dev *dev, struct novakms_cfg *cfg, struct status *why) {
    if (cfg->dev_dir == NULL) {
        return OK;
    }
    char node_path[CLIENT_PATH_BYTES];
    TRY(join(node_path, cfg->dev_dir, "node.json", why));
    TRY(join(dev->identity_path, cfg->dev_dir, "app.key", why));
    TRY(join(dev->registry_path, cfg->dev_dir, "registry.json", why));
    TRY(read_node(dev, node_path, why));
    if (cfg->servers == NULL) {
        cfg->servers = dev->server;
    }
    if (!client_members_are_given(cfg) && cfg->server_wallets == NULL) {
        cfg->registry_path = dev->registry_path;
    }
    if (cfg->identity_path == NULL && cfg->identity_key == NULL && cfg->sign_cb == NULL) {
        cfg->identity_path = dev->identity_path;
    }
    if (cfg->chain_id == 0) {
        cfg->chain_id = dev->chain_id;
    }
    return OK;
}
