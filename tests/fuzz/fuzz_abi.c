/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "registry/abi.h"

static void check_why(struct rc rc, const struct abi_why *why) {
    ASSERT((rc.err == E_OK) == (why->text[0] == '\0'));
    ASSERT(!why->is_value || rc.err != E_OK);
}

static void check_instance(struct span data) {
    struct auth_instance instance;
    struct abi_why why;
    struct rc rc = abi_decode_instance(data, &instance, &why);
    check_why(rc, &why);
    ASSERT(instance.tee_pubkey_len <= AUTH_TEE_PUBKEY_BYTES_MAX);
    ASSERT(memchr(instance.url, '\0', sizeof(instance.url)) != NULL);
    ASSERT(instance.status <= AUTH_INSTANCE_STATUS_COUNT);
    ASSERT(rc.err != E_OK || instance.status < AUTH_INSTANCE_STATUS_COUNT);
}

static void check_structs(struct span data) {
    struct abi_app app;
    struct abi_version version;
    struct abi_why why;
    check_why(abi_decode_app(data, &app, &why), &why);
    ASSERT(app.status <= AUTH_APP_STATUS_COUNT);
    check_why(abi_decode_version(data, &version, &why), &why);
    ASSERT(version.status <= AUTH_VERSION_STATUS_COUNT);
}

static void check_single(struct span data) {
    struct wallet wallets[4];
    struct abi_word word;
    struct abi_why why;
    size_t count = 0;
    uint64_t number = 0;
    check_why(abi_decode_wallets(data, wallets, 4, &count, &why), &why);
    ASSERT(count <= 4);
    check_why(abi_decode_word(data, &word, &why), &why);
    check_why(abi_decode_number(data, &number, &why), &why);
}

/* Nothing is read outside the data, what is refused has a reason, and what is accepted is within
 * its bounds. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span in = { data, size };
    char text[ABI_REVERT_TEXT_BYTES];
    check_instance(in);
    check_structs(in);
    check_single(in);
    ASSERT(abi_revert_text(in, text)[0] != '\0');
    return 0;
}
