/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/method.h"

#include <string.h>

/* FNV-1a. Not keyed: the table is fixed, so a caller who chooses names finds no chain longer than
 * the table's own. */
static uint32_t hash_name(struct span name) {
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ name.ptr[i]) * 16777619U;
    }
    return hash;
}

void method_table_init(struct method_table *table) {
    memset(table, 0, sizeof(*table));
}

static const struct method *find(const struct method_table *table, struct span name,
                                 uint32_t *slot) {
    uint32_t at = hash_name(name) & (METHOD_TABLE_SLOTS - 1);
    while (table->slots[at] != 0) {
        const struct method *method = &table->methods[table->slots[at] - 1];
        if (method->name_len == name.len &&
            span_equal((struct span){ (const uint8_t *)method->name, method->name_len }, name)) {
            return method;
        }
        at = (at + 1) & (METHOD_TABLE_SLOTS - 1); /* Ends: half of the slots are free. */
    }
    *slot = at;
    return NULL;
}

const struct method *method_table_find(const struct method_table *table, struct span name) {
    uint32_t slot = 0;
    return find(table, name, &slot);
}

RC method_name(const ProtobufCServiceDescriptor *service, unsigned method_idx,
               char text[static FRAME_METHOD_BYTES_MAX], struct span *out) {
    ENSURE(method_idx < service->n_methods, INVALID);
    struct writer w = { (uint8_t *)text, 0, FRAME_METHOD_BYTES_MAX };
    TRY(write_span(&w, span_str(service->name)));
    TRY(write_span(&w, SPAN_LIT("/")));
    TRY(write_span(&w, span_str(service->methods[method_idx].name)));
    *out = writer_span(&w);
    return OK;
}

static RC add_method(struct method_table *table, const ProtobufCServiceDescriptor *service,
                     unsigned method_idx) {
    ENSURE(table->method_count < METHOD_COUNT_MAX, TOO_BIG);
    struct method *method = &table->methods[table->method_count];
    struct span name = { NULL, 0 };
    TRY(method_name(service, method_idx, method->name, &name));
    uint32_t slot = 0;
    ENSURE(find(table, name, &slot) == NULL, EXISTS);
    method->name[name.len] = '\0';
    method->name_len = (uint16_t)name.len;
    method->service_idx = table->service_count;
    method->method_idx = (uint16_t)method_idx;
    method->input = service->methods[method_idx].input;
    method->output = service->methods[method_idx].output;
    table->method_count++;
    table->slots[slot] = table->method_count;
    return OK;
}

RC method_table_add(struct method_table *table, const ProtobufCServiceDescriptor *service) {
    for (unsigned i = 0; i < service->n_methods; i++) {
        TRY(add_method(table, service, i));
    }
    table->service_count++;
    return OK;
}
