/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "client/client.h"

/* The variable in lower case, or else in capitals, as curl reads them; NULL for neither. */
static const char *get_either(const char *name, const char *other_name) {
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0') {
        value = getenv(other_name);
    }
    return value;
}

void client_proxy_init(struct client_proxy *proxy, const struct novakms_cfg *cfg) {
    const char *url = cfg->proxy;
    const char *except = cfg->no_proxy;
    const char *url_name = "proxy";
    const char *except_name = "no_proxy";
    proxy->is_from_environment = url == NULL;
    if (proxy->is_from_environment) {
        url = get_either("https_proxy", "HTTPS_PROXY");
        url_name = "https_proxy of the environment";
    }
    if (except == NULL && proxy->is_from_environment) {
        except = get_either("no_proxy", "NO_PROXY");
        except_name = "no_proxy of the environment";
    }
    if (url == NULL || url[0] == '\0') {
        return;
    }
    if (net_proxy_set_url(&proxy->proxy, url).err != E_OK) {
        status_set(&proxy->why, STATUS_INVALID_ARGUMENT, "%s must be %s", url_name,
                   NET_PROXY_URL_ALLOWED);
    } else if (except != NULL && net_proxy_set_exceptions(&proxy->proxy, except).err != E_OK) {
        status_set(&proxy->why, STATUS_INVALID_ARGUMENT,
                   "%s must be a list between commas or blanks, at most %u ASCII characters",
                   except_name, NET_PROXY_EXCEPT_BYTES_MAX);
    }
}

RC client_proxy_choose(const struct client_proxy *proxy, const char *target_text,
                       const struct net_proxy **out, struct status *why) {
    struct net_target target;
    *out = NULL;
    if (net_target_parse(span_str(target_text), &target).err != E_OK) {
        return OK; /* The channel says what is wrong with it. */
    }
    if (proxy->is_from_environment && net_target_is_loopback(&target)) {
        return OK;
    }
    if (proxy->why.code != STATUS_OK) {
        *why = proxy->why;
        return ERR(INVALID);
    }
    *out = &proxy->proxy;
    return OK;
}
