/* SPDX-License-Identifier: Apache-2.0 */
/* Gives every file of a corpus to a fuzz target once: replay DIR. libFuzzer's own driver needs
 * clang; this one lets the corpora run as tests under every compiler and sanitizer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz.h"

#define REPLAY_INPUT_BYTES_MAX (8 << 20)

/* Gives the file's bytes in an exact-size heap copy, so that AddressSanitizer sees a one-byte
 * overread; NULL on failure. */
static uint8_t *read_all(FILE *f, size_t *len) {
    struct stat st;
    if (fstat(fileno(f), &st) != 0 || st.st_size < 0 || st.st_size > REPLAY_INPUT_BYTES_MAX) {
        return NULL;
    }
    *len = (size_t)st.st_size;
    uint8_t *input = malloc(*len == 0 ? 1 : *len);
    if (input != NULL && fread(input, 1, *len, f) != *len) {
        free(input);
        return NULL;
    }
    return input;
}

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    size_t len = 0;
    uint8_t *input = f == NULL ? NULL : read_all(f, &len);
    if (f != NULL) {
        (void)fclose(f);
    }
    if (input == NULL) {
        (void)fprintf(stderr, "%s: not readable, or over %d bytes\n", path, REPLAY_INPUT_BYTES_MAX);
        return 1;
    }
    (void)LLVMFuzzerTestOneInput(input, len);
    free(input);
    return 0;
}

int main(int argc, char **argv) {
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (dir == NULL) {
        (void)fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    unsigned count = 0;
    const struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        if (replay_file(path) != 0) {
            return 1;
        }
        count++;
    }
    (void)closedir(dir);
    (void)printf("%u inputs\n", count);
    return count > 0 ? 0 : 1; /* An empty corpus tests nothing. */
}
