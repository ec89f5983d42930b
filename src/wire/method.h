/* SPDX-License-Identifier: Apache-2.0 */
/* "package.Service/Method" and the generated service descriptors. Pure, no heap. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "wire/frame.h"

#define METHOD_TABLE_SLOTS 256u /* A power of two; at most half of it is filled. */
#define METHOD_COUNT_MAX (METHOD_TABLE_SLOTS / 2)

/* One method of one service. */
struct method {
    char name[FRAME_METHOD_BYTES_MAX + 1]; /* "novakms.v1.KmsService/Derive" */
    uint16_t name_len;
    uint16_t service_idx; /* Of the table's services. */
    uint16_t method_idx;  /* Of the descriptor's methods. */
    const ProtobufCMessageDescriptor *input;
    const ProtobufCMessageDescriptor *output;
};

/* Embedded. Not changed after it is filled: any thread may look up. */
struct method_table {
    struct method methods[METHOD_COUNT_MAX];
    uint16_t method_count;
    uint16_t service_count;
    uint16_t slots[METHOD_TABLE_SLOTS]; /* Index into methods plus 1; 0 is free. */
};

/* An empty table. */
void method_table_init(struct method_table *table);
/* Adds the methods of a service; its index is the number of those added before. TOO_BIG for a name
 * over FRAME_METHOD_BYTES_MAX or too many methods, EXISTS for one that is there. */
RC method_table_add(struct method_table *table, const ProtobufCServiceDescriptor *service);
/* NULL when there is none of that name. */
const struct method *method_table_find(const struct method_table *table, struct span name);

/* Writes "package.Service/Method" without a NUL. Gives its span in text. TOO_BIG. */
RC method_name(const ProtobufCServiceDescriptor *service, unsigned method_idx,
               char text[static FRAME_METHOD_BYTES_MAX], struct span *out);
