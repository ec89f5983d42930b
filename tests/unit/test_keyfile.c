/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity/keyfile.h"
#include "test.h"

#define KEY_ONE "0000000000000000000000000000000000000000000000000000000000000001"
#define WALLET_OF_ONE "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"

struct place {
    char dir[64];
    char path[80];
};

static void open_place(struct place *place) {
    (void)snprintf(place->dir, sizeof(place->dir), "/tmp/nova-keyfile-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    (void)snprintf(place->path, sizeof(place->path), "%s/key", place->dir);
}

static void close_place(const struct place *place) {
    (void)unlink(place->path);
    assert_int_equal(rmdir(place->dir), 0); /* Also: nothing else was left there. */
}

static void put_file(const char *path, const char *text, mode_t mode) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

struct load_row {
    const char *name;
    const char *text;
    mode_t mode;
    enum err want;
    const char *why;
};

static struct load_row load_rows[] = {
    { "plain", KEY_ONE, 0600, E_OK, "" },
    { "newline", KEY_ONE "\n", 0600, E_OK, "" },
    { "prefix_and_spaces", " \t0x" KEY_ONE "\r\n", 0400, E_OK, "" },
    { "empty", "", 0600, E_MALFORMED, "64 hex digits" },
    { "blank", " \n", 0600, E_MALFORMED, "64 hex digits" },
    { "digit_missing", "000000000000000000000000000000000000000000000000000000000000001", 0600,
      E_MALFORMED, "64 hex digits" },
    { "digit_too_many", KEY_ONE "0", 0600, E_MALFORMED, "64 hex digits" },
    { "two_keys", KEY_ONE "\n" KEY_ONE, 0600, E_MALFORMED, "64 hex digits" },
    { "zero", "0000000000000000000000000000000000000000000000000000000000000000", 0600, E_MALFORMED,
      "private key" },
    { "group_may_read", KEY_ONE, 0640, E_DENIED, "mode 0640" },
    { "group_may_write", KEY_ONE, 0620, E_DENIED, "mode 0620" },
    { "others_may_read", KEY_ONE, 0604, E_DENIED, "chmod 600" },
};

static void test_load(void **state) {
    const struct load_row *row = *state;
    struct place place;
    open_place(&place);
    put_file(place.path, row->text, row->mode);
    struct identity_keyfile keyfile;
    struct status why = { 0 };
    assert_err_equal(identity_keyfile_load(&keyfile, place.path, &why), row->want);
    if (row->want == E_OK) {
        char text[WALLET_TEXT_BYTES];
        assert_string_equal(wallet_format(&keyfile.wallet, text), WALLET_OF_ONE);
    } else {
        assert_null(keyfile.key.ptr);
        assert_non_null(strstr(why.text, row->why));
        assert_non_null(strstr(why.text, place.path));
        assert_null(strstr(why.text, "00000000")); /* Nothing of the content. */
    }
    identity_keyfile_close(&keyfile);
    identity_keyfile_close(&keyfile);
    close_place(&place);
}

/* 128 bytes of key and white space are the most. */
static void test_load_size_limit(void **state) {
    (void)state;
    struct place place;
    open_place(&place);
    for (size_t spaces = 64; spaces <= 65; spaces++) {
        char text[160];
        (void)snprintf(text, sizeof(text), "%s%*s", KEY_ONE, (int)spaces, "");
        put_file(place.path, text, 0600);
        struct identity_keyfile keyfile;
        struct status why = { 0 };
        assert_err_equal(identity_keyfile_load(&keyfile, place.path, &why),
                         spaces == 64 ? E_OK : E_MALFORMED);
        identity_keyfile_close(&keyfile);
    }
    close_place(&place);
}

static void test_load_what_is_no_file(void **state) {
    (void)state;
    struct place place;
    open_place(&place);
    struct identity_keyfile keyfile;
    struct status why = { 0 };
    assert_err(identity_keyfile_load(&keyfile, place.path, &why), NOT_FOUND);
    assert_int_equal(why.code, STATUS_NOT_FOUND);
    assert_err(identity_keyfile_load(&keyfile, place.dir, &why), DENIED);
    assert_non_null(strstr(why.text, "regular file"));
    assert_int_equal(mkfifo(place.path, 0600), 0);
    assert_err(identity_keyfile_load(&keyfile, place.path, &why), DENIED);
    close_place(&place);
}

static void test_create_then_load(void **state) {
    (void)state;
    struct place place;
    open_place(&place);
    struct identity_keyfile made;
    struct identity_keyfile loaded;
    struct status why = { 0 };
    assert_ok(identity_keyfile_create(&made, place.path, &why));
    struct stat st;
    assert_int_equal(stat(place.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 65);
    assert_ok(identity_keyfile_load(&loaded, place.path, &why));
    assert_true(wallet_equal(&made.wallet, &loaded.wallet));
    assert_memory_equal(made.key.ptr, loaded.key.ptr, ETH_KEY_BYTES);

    struct identity_keyfile again;
    assert_err(identity_keyfile_create(&again, place.path, &why), EXISTS);
    assert_int_equal(why.code, STATUS_ALREADY_EXISTS);
    identity_keyfile_close(&again);
    assert_ok(identity_keyfile_load(&again, place.path, &why)); /* Untouched. */
    assert_true(wallet_equal(&again.wallet, &made.wallet));
    identity_keyfile_close(&again);
    identity_keyfile_close(&made);
    identity_keyfile_close(&loaded);
    close_place(&place);
    assert_err(identity_keyfile_create(&made, place.path, &why), IO); /* No such directory. */
}

static void test_signer_refuses_identity_texts(void **state) {
    (void)state;
    const uint8_t key[ETH_KEY_BYTES] = { 3 };
    struct identity_keyfile keyfile;
    assert_ok(identity_keyfile_from_key(&keyfile, key));
    struct identity_signer signer = identity_keyfile_signer(&keyfile);
    struct eth_signature signature;
    struct wallet wallet;
    assert_err(identity_sign(&signer, SPAN_LIT("NovaKMS:"), &signature), DENIED);
    assert_err(identity_sign(&signer, SPAN_LIT("NovaKMS:TLS:v1:1:"), &signature), DENIED);
    const struct span allowed[] = { SPAN_LIT("NovaKMS"), SPAN_LIT("novakms:x"), SPAN_LIT(""),
                                    SPAN_LIT(" NovaKMS:") };
    for (size_t i = 0; i < TEST_ROWS(allowed); i++) {
        assert_ok(identity_sign(&signer, allowed[i], &signature));
        assert_ok(eth_recover_message(allowed[i], &signature, &wallet));
        assert_true(wallet_equal(&wallet, &signer.wallet));
    }
    identity_keyfile_close(&keyfile);
}

int main(void) {
    struct CMUnitTest tests[4 + TEST_ROWS(load_rows)] = {
        cmocka_unit_test(test_load_size_limit),
        cmocka_unit_test(test_load_what_is_no_file),
        cmocka_unit_test(test_create_then_load),
        cmocka_unit_test(test_signer_refuses_identity_texts),
    };
    size_t count = 4;
    TEST_ADD_ROWS(tests, count, test_load, load_rows);
    return cmocka_run_group_tests_name("keyfile", tests, NULL, NULL);
}
