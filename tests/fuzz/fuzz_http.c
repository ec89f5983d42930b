/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "fuzz.h"
#include "http/http.h"

static unsigned write_page(void *ctx, enum http_page page, struct http_text *body,
                           const char **content_type) {
    (void)ctx;
    *content_type = "text/plain";
    http_text_printf(body, "page %u\n", (unsigned)page);
    return 200;
}

/* Feeds data in pieces of a size that its first byte chooses. How a request is cut must not change
 * the answers. */
static struct http *feed(const uint8_t *data, size_t size, size_t piece_bytes) {
    struct http *http = NULL;
    struct rc rc = http_init(&http, &(struct http_pages){ .write = write_page });
    ASSERT(rc.err == E_OK);
    while (size > 0) {
        size_t len = size < piece_bytes ? size : piece_bytes;
        rc = http_input(http, (struct span){ data, len });
        ASSERT(rc.err == E_OK);
        data += len;
        size -= len;
    }
    return http;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct http *whole = feed(data + 1, size - 1, SIZE_MAX);
    struct http *pieces = feed(data + 1, size - 1, (size_t)data[0] + 1);
    ASSERT(span_equal(http_pending(whole), http_pending(pieces)));
    ASSERT(http_is_finished(whole) == http_is_finished(pieces));
    http_sent(whole, http_pending(whole).len);
    http_close(&whole);
    http_close(&pieces);
    return 0;
}
