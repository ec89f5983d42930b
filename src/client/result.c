/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "client/client.h"

/* An unpacked answer is bounded by the channel; its copy is not larger. */
#define RESULT_BYTES_MAX ((size_t)32 * 1024 * 1024)

static struct novakms_result nomem = { .code = NOVAKMS_RESOURCE_EXHAUSTED,
                                       .text = "out of memory" };

struct novakms_result *client_result_nomem(void) {
    return &nomem;
}

struct client_result *client_result_make(void) {
    struct client_result *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        arena_init(&r->arena, RESULT_BYTES_MAX);
    }
    return r;
}

void novakms_free(struct novakms_result **result) {
    struct client_result *r = (struct client_result *)*result;
    *result = NULL;
    if (r == NULL || &r->public == &nomem) {
        return;
    }
    arena_close(&r->arena); /* Wipes. */
    secret_wipe(r, sizeof(*r));
    free(r);
}

bool client_result_copy(struct client_result *r, struct novakms_span *out, const uint8_t *bytes,
                        size_t len) {
    *out = (struct novakms_span){ NULL, 0 };
    if (len == 0) {
        return true;
    }
    uint8_t *copy = arena_take(&r->arena, len);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, bytes, len);
    *out = (struct novakms_span){ copy, len };
    return true;
}

bool client_result_text(struct client_result *r, const char **out, const char *text) {
    *out = "";
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    size_t bytes = strlen(text) + 1;
    char *copy = arena_take(&r->arena, bytes);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, text, bytes);
    *out = copy;
    return true;
}

void *client_result_array(struct client_result *r, size_t count, size_t size) {
    if (count > RESULT_BYTES_MAX / size) {
        return NULL;
    }
    void *array = arena_take(&r->arena, count * size);
    if (array != NULL) {
        memset(array, 0, count * size);
    }
    return array;
}

int client_stamp_compare(const struct novakms_stamp *a, const struct novakms_stamp *b) {
    if (a->hlc != b->hlc) {
        return a->hlc < b->hlc ? -1 : 1;
    }
    return span_compare((struct span){ a->writer, sizeof(a->writer) },
                        (struct span){ b->writer, sizeof(b->writer) });
}
