/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "fuzz.h"
#include "net/proxy.h"

/* An answer that grows: what is said of a beginning holds for all that follows it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    size_t step = (size_t)data[0] + 1;
    struct span whole = { data + 1, size - 1 };
    struct status why = { 0 };
    size_t head_len = 0;
    enum err want = net_proxy_read_answer(whole, &head_len, &why).err;
    ASSERT(head_len <= whole.len && head_len <= NET_PROXY_HEAD_BYTES_MAX);
    ASSERT(want != E_OK || head_len > 0);
    ASSERT(want == E_OK || want == E_AGAIN || why.text[0] != '\0');
    for (size_t len = 0; len < whole.len; len += step) {
        size_t part_head_len = 0;
        enum err err =
            net_proxy_read_answer((struct span){ whole.ptr, len }, &part_head_len, &why).err;
        ASSERT(err == E_AGAIN || (err == want && part_head_len == head_len));
    }
    return 0;
}
