/* SPDX-License-Identifier: Apache-2.0 */
/* NodeService: what a node tells anybody. It keeps nothing, so all workers share one. */
#pragma once

#include <novakms/v1/node.pb-c.h>

#include "service/status.h"

struct service_node {
    Novakms__V1__NodeService_Service service;
    struct service_status *status; /* Lent. */
};

/* Embedded; nothing to close. status is lent while calls run. */
void service_node_init(struct service_node *node, struct service_status *status);
