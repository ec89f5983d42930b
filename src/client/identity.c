/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "client/client.h"

/* An identity_signer's function over the program's callback. */
static RC sign_by_program(void *ctx, struct span text, struct eth_signature *out) {
    struct client_identity *identity = ctx;
    const struct novakms_span lent = { text.ptr, text.len };
    uint8_t signature[NOVAKMS_SIGNATURE_BYTES] = { 0 };
    ENSURE(identity->sign_cb(identity->sign_data, lent, signature) == 0, UNAVAILABLE);
    _Static_assert(sizeof(out->bytes) == NOVAKMS_SIGNATURE_BYTES, "r, s, v");
    memcpy(out->bytes, signature, sizeof(signature));
    return OK;
}

RC client_identity_init(struct client_identity *identity, const struct novakms_cfg *cfg,
                        struct status *why) {
    int given = (cfg->identity_path != NULL) + (cfg->identity_key != NULL) +
                (cfg->sign_cb != NULL || cfg->sign_wallet != NULL);
    if (given > 1) {
        status_set(why, STATUS_INVALID_ARGUMENT,
                   "one identity may be given: identity_path, identity_key or sign_cb");
        return ERR(INVALID);
    }
    if (given == 0) {
        return OK;
    }
    if (cfg->identity_path != NULL) {
        struct rc rc = identity_keyfile_load(&identity->keyfile, cfg->identity_path, why);
        why->code = rc.err == E_OK ? STATUS_OK : STATUS_UNAUTHENTICATED;
        TRY(rc);
    } else if (cfg->identity_key != NULL) {
        struct rc rc = identity_keyfile_from_key(&identity->keyfile, cfg->identity_key);
        if (rc.err != E_OK) {
            status_set(why, STATUS_UNAUTHENTICATED, "identity_key is not usable: %s",
                       err_text(rc.err));
            return rc;
        }
    } else if (cfg->sign_cb == NULL || cfg->sign_wallet == NULL) {
        status_set(why, STATUS_INVALID_ARGUMENT, "sign_cb and sign_wallet must be given together");
        return ERR(INVALID);
    }
    identity->exists = true;
    if (cfg->sign_cb == NULL) {
        identity->signer = identity_keyfile_signer(&identity->keyfile);
        return OK;
    }
    identity->sign_cb = cfg->sign_cb;
    identity->sign_data = cfg->sign_data;
    memcpy(identity->signer.wallet.bytes, cfg->sign_wallet, WALLET_BYTES);
    identity->signer.sign_text = sign_by_program;
    identity->signer.ctx = identity;
    return OK;
}

void client_identity_close(struct client_identity *identity) {
    identity_keyfile_close(&identity->keyfile);
    *identity = (struct client_identity){ 0 };
}

static void set_error(char error[NOVAKMS_TEXT_BYTES], const char *text) {
    if (error != NULL) {
        (void)snprintf(error, NOVAKMS_TEXT_BYTES, "%s", text);
    }
}

enum novakms_code novakms_sign(struct novakms *client, struct novakms_span text,
                               uint8_t signature[NOVAKMS_SIGNATURE_BYTES],
                               char error[NOVAKMS_TEXT_BYTES]) {
    set_error(error, "");
    if (!client->identity.exists) {
        set_error(error, "this client was opened without an identity");
        return NOVAKMS_FAILED_PRECONDITION;
    }
    if (text.len == 0) {
        set_error(error, "text must not be empty");
        return NOVAKMS_INVALID_ARGUMENT;
    }
    struct eth_signature out;
    struct rc rc =
        identity_sign(&client->identity.signer, (struct span){ text.ptr, text.len }, &out);
    if (rc.err == E_DENIED) {
        set_error(error, "text that starts with " NOVAKMS_SIGN_PREFIX
                         " is never signed: it would hand over the identity");
        return NOVAKMS_INVALID_ARGUMENT;
    }
    if (rc.err != E_OK) {
        set_error(error, err_text(rc.err));
        return rc.err == E_UNAVAILABLE ? NOVAKMS_UNAVAILABLE : NOVAKMS_INTERNAL;
    }
    memcpy(signature, out.bytes, NOVAKMS_SIGNATURE_BYTES);
    return NOVAKMS_OK;
}

/* What became of a key file, as a code. */
static enum novakms_code finish_keyfile(struct identity_keyfile *keyfile, struct rc rc,
                                        const struct status *why, char *wallet, char *error) {
    static const struct {
        enum err err;
        enum novakms_code code;
    } codes[] = {
        { E_OK, NOVAKMS_OK },
        { E_NOT_FOUND, NOVAKMS_NOT_FOUND },
        { E_EXISTS, NOVAKMS_ALREADY_EXISTS },
        { E_DENIED, NOVAKMS_PERMISSION_DENIED },
        { E_MALFORMED, NOVAKMS_INVALID_ARGUMENT },
        { E_NOMEM, NOVAKMS_RESOURCE_EXHAUSTED },
    };
    (void)wallet_format(&keyfile->wallet, wallet);
    identity_keyfile_close(keyfile);
    set_error(error, rc.err == E_OK ? "" : why->text);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].err == rc.err) {
            return codes[i].code;
        }
    }
    return NOVAKMS_INTERNAL;
}

enum novakms_code novakms_identity_new(const char *path, char wallet[NOVAKMS_WALLET_TEXT_BYTES],
                                       char error[NOVAKMS_TEXT_BYTES]) {
    struct identity_keyfile keyfile = { 0 };
    struct status why = { 0 };
    struct rc rc = identity_keyfile_create(&keyfile, path, &why);
    return finish_keyfile(&keyfile, rc, &why, wallet, error);
}

enum novakms_code novakms_identity_show(const char *path, char wallet[NOVAKMS_WALLET_TEXT_BYTES],
                                        char error[NOVAKMS_TEXT_BYTES]) {
    struct identity_keyfile keyfile = { 0 };
    struct status why = { 0 };
    struct rc rc = identity_keyfile_load(&keyfile, path, &why);
    return finish_keyfile(&keyfile, rc, &why, wallet, error);
}
