/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/rules.h"

const char *auth_verdict_text(enum auth_verdict verdict) {
#define VERDICT_TEXT(name, text) text,
    static const char *const texts[] = { AUTH_VERDICT_MAP(VERDICT_TEXT) };
#undef VERDICT_TEXT
    ASSERT(verdict < AUTH_VERDICT_COUNT);
    return texts[verdict];
}

static enum auth_verdict judge_instance(enum auth_instance_status status) {
    switch (status) {
    case AUTH_INSTANCE_ACTIVE:
        return AUTH_VERDICT_PERMITTED;
    case AUTH_INSTANCE_STOPPED:
        return AUTH_VERDICT_INSTANCE_STOPPED;
    case AUTH_INSTANCE_FAILED:
        return AUTH_VERDICT_INSTANCE_FAILED;
    case AUTH_INSTANCE_STATUS_COUNT:
        break;
    }
    return AUTH_VERDICT_INSTANCE_STATUS_UNKNOWN;
}

static enum auth_verdict judge_app(enum auth_app_status status) {
    switch (status) {
    case AUTH_APP_ACTIVE:
        return AUTH_VERDICT_PERMITTED;
    case AUTH_APP_INACTIVE:
        return AUTH_VERDICT_APP_INACTIVE;
    case AUTH_APP_REVOKED:
        return AUTH_VERDICT_APP_REVOKED;
    case AUTH_APP_STATUS_COUNT:
        break;
    }
    return AUTH_VERDICT_APP_STATUS_UNKNOWN;
}

static enum auth_verdict judge_version(enum auth_version_status status) {
    switch (status) {
    case AUTH_VERSION_ENROLLED:
    case AUTH_VERSION_DEPRECATED:
        return AUTH_VERDICT_PERMITTED;
    case AUTH_VERSION_REVOKED:
        return AUTH_VERDICT_VERSION_REVOKED;
    case AUTH_VERSION_STATUS_COUNT:
        break;
    }
    return AUTH_VERDICT_VERSION_STATUS_UNKNOWN;
}

static enum auth_verdict first_failed(enum auth_verdict earlier, enum auth_verdict later) {
    return earlier != AUTH_VERDICT_PERMITTED ? earlier : later;
}

static enum auth_verdict judge_caller(const struct auth_facts *facts) {
    if (!facts->found || facts->instance.id == 0) {
        return AUTH_VERDICT_NOT_REGISTERED;
    }
    enum auth_verdict verdict = judge_instance(facts->instance.status);
    if (verdict == AUTH_VERDICT_PERMITTED && !facts->instance.zk_verified) {
        verdict = AUTH_VERDICT_NOT_ZK_VERIFIED;
    }
    if (verdict == AUTH_VERDICT_PERMITTED && facts->instance.app_id == 0) {
        verdict = AUTH_VERDICT_APP_ID_RESERVED;
    }
    verdict = first_failed(verdict, judge_app(facts->app_status));
    return first_failed(verdict, judge_version(facts->version_status));
}

enum auth_verdict auth_judge(const struct auth_facts *facts, enum auth_role role,
                             uint64_t kms_app_id) {
    enum auth_verdict verdict = judge_caller(facts);
    if (verdict == AUTH_VERDICT_PERMITTED && role != AUTH_CALLER &&
        facts->instance.app_id != kms_app_id) {
        verdict = AUTH_VERDICT_OTHER_APP;
    }
    return verdict;
}
