/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "novakms/v1/kms.pb-c.h"
#include "novakms/v1/node.pb-c.h"
#include "test.h"
#include "wire/method.h"

static struct method_table table; /* 17 KiB: too big for the stack. */

static void test_find(void **state) {
    (void)state;
    method_table_init(&table);
    assert_ok(method_table_add(&table, &novakms__v1__kms_service__descriptor));
    assert_ok(method_table_add(&table, &novakms__v1__node_service__descriptor));
    assert_int_equal(table.method_count, 11);
    const struct method *derive =
        method_table_find(&table, SPAN_LIT("novakms.v1.KmsService/Derive"));
    assert_non_null(derive);
    assert_string_equal(derive->name, "novakms.v1.KmsService/Derive");
    assert_int_equal(derive->service_idx, 0);
    assert_int_equal(derive->method_idx, 0);
    assert_ptr_equal(derive->input, &novakms__v1__derive_request__descriptor);
    const struct method *nodes =
        method_table_find(&table, SPAN_LIT("novakms.v1.NodeService/ListNodes"));
    assert_non_null(nodes);
    assert_int_equal(nodes->service_idx, 1);
    assert_int_equal(nodes->method_idx, 1);
    for (uint16_t i = 0; i < table.method_count; i++) {
        const struct method *m = &table.methods[i];
        assert_ptr_equal(method_table_find(&table, span_str(m->name)), m);
    }
}

static void test_find_nothing(void **state) {
    (void)state;
    method_table_init(&table);
    assert_null(method_table_find(&table, SPAN_EMPTY));
    assert_ok(method_table_add(&table, &novakms__v1__kms_service__descriptor));
    assert_null(method_table_find(&table, SPAN_EMPTY));
    assert_null(method_table_find(&table, SPAN_LIT("novakms.v1.KmsService/Deriv")));
    assert_null(method_table_find(&table, SPAN_LIT("novakms.v1.KmsService/derive")));
    assert_null(method_table_find(&table, SPAN_LIT("novakms.v1.KmsService/Derive\0")));
}

static void test_twice(void **state) {
    (void)state;
    method_table_init(&table);
    assert_ok(method_table_add(&table, &novakms__v1__kms_service__descriptor));
    assert_err(method_table_add(&table, &novakms__v1__kms_service__descriptor), EXISTS);
}

/* METHOD_COUNT_MAX methods fit, and one more does not. */
static void test_full(void **state) {
    (void)state;
    method_table_init(&table);
    char names[METHOD_COUNT_MAX + 1][8];
    ProtobufCMethodDescriptor methods[METHOD_COUNT_MAX + 1];
    for (size_t i = 0; i <= METHOD_COUNT_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "M%zu", i);
        methods[i] = (ProtobufCMethodDescriptor){ .name = names[i] };
    }
    ProtobufCServiceDescriptor service = { .name = "t.S",
                                           .n_methods = METHOD_COUNT_MAX,
                                           .methods = methods };
    assert_ok(method_table_add(&table, &service));
    assert_non_null(method_table_find(&table, SPAN_LIT("t.S/M127")));
    assert_null(method_table_find(&table, SPAN_LIT("t.S/M128")));
    service = (ProtobufCServiceDescriptor){ .name = "t.T", .n_methods = 1, .methods = methods };
    assert_err(method_table_add(&table, &service), TOO_BIG);
}

static void test_name_length(void **state) {
    (void)state;
    char name[FRAME_METHOD_BYTES_MAX + 1] = { 0 };
    memset(name, 'x', FRAME_METHOD_BYTES_MAX - 4); /* "t.S/" and it: 96 bytes. */
    ProtobufCMethodDescriptor method = { .name = name };
    ProtobufCServiceDescriptor service = { .name = "t.S", .n_methods = 1, .methods = &method };
    char text[FRAME_METHOD_BYTES_MAX];
    struct span out = SPAN_EMPTY;
    assert_ok(method_name(&service, 0, text, &out));
    assert_int_equal(out.len, FRAME_METHOD_BYTES_MAX);
    name[FRAME_METHOD_BYTES_MAX - 4] = 'x';
    assert_err(method_name(&service, 0, text, &out), TOO_BIG);
    assert_err(method_name(&service, 1, text, &out), INVALID);
    method_table_init(&table);
    assert_err(method_table_add(&table, &service), TOO_BIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),        cmocka_unit_test(test_find_nothing),
        cmocka_unit_test(test_twice),       cmocka_unit_test(test_full),
        cmocka_unit_test(test_name_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
