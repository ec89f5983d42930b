/* SPDX-License-Identifier: Apache-2.0 */
/* Who may call and who is a peer (docs/protocol.md, sections 4 and 8). Pure; any thread. */
#pragma once

#include "auth/facts.h"

/* A caller uses KmsService; a peer is a caller that is an instance of the KMS app itself. */
enum auth_role { AUTH_CALLER, AUTH_PEER };
#define AUTH_ROLE_COUNT 2

/* In the order in which the rules are checked: the first that fails is the verdict. */
#define AUTH_VERDICT_MAP(X)                                                  \
    X(PERMITTED, "permitted")                                                \
    X(NOT_REGISTERED, "wallet is not registered")                            \
    X(INSTANCE_STOPPED, "instance is STOPPED")                               \
    X(INSTANCE_FAILED, "instance is FAILED")                                 \
    X(INSTANCE_STATUS_UNKNOWN, "instance has a status unknown to this node") \
    X(NOT_ZK_VERIFIED, "instance is not zk-verified")                        \
    X(APP_ID_RESERVED, "app id 0 is reserved")                               \
    X(APP_INACTIVE, "app is INACTIVE")                                       \
    X(APP_REVOKED, "app is REVOKED")                                         \
    X(APP_STATUS_UNKNOWN, "app has a status unknown to this node")           \
    X(VERSION_REVOKED, "version is REVOKED")                                 \
    X(VERSION_STATUS_UNKNOWN, "version has a status unknown to this node")   \
    X(OTHER_APP, "instance belongs to another app than the KMS")

#define AUTH_VERDICT_ENUM(name, text) AUTH_VERDICT_##name,
enum auth_verdict { AUTH_VERDICT_MAP(AUTH_VERDICT_ENUM) AUTH_VERDICT_COUNT };
#undef AUTH_VERDICT_ENUM

/* kms_app_id is used for AUTH_PEER only. Anything not known to be good is refused. */
enum auth_verdict auth_judge(const struct auth_facts *facts, enum auth_role role,
                             uint64_t kms_app_id);
/* "instance is STOPPED": a sentence to show to the caller. */
const char *auth_verdict_text(enum auth_verdict verdict);
