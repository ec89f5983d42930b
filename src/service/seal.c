/* SPDX-License-Identifier: Apache-2.0 */
#include "service/seal.h"

RC service_seal_aad(uint64_t app_id, struct span key, struct writer *aad) {
    TRY(write_u64(aad, app_id));
    return write_span(aad, key);
}

bool service_seal_is_good(const struct xaes_key *key, const struct store_remote *record,
                          uint8_t *scratch) {
    uint8_t aad_bytes[SERVICE_AAD_BYTES_MAX];
    struct writer aad = { aad_bytes, 0, sizeof(aad_bytes) };
    struct span sealed = record->sealed;
    if (sealed.len < SERVICE_SEAL_BYTES ||
        service_seal_aad(record->app_id, record->key, &aad).err != E_OK) {
        return false;
    }
    const struct span body = { sealed.ptr + XAES_NONCE_BYTES, sealed.len - XAES_NONCE_BYTES };
    return xaes_open(key, sealed.ptr, writer_span(&aad), body, scratch).err == E_OK;
}
