/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that the server has not got. */
#include "fault.h"
#include "server_fixture.h"

/* The heap of deadlines has room for so many before it grows. */
#define ROOM_COUNT 64u

static uint64_t count_held(struct client *c, uint64_t id) {
    client_get(c, id, "count", 0);
    struct frame frame = client_response(c, id, STATUS_OK);
    Novakms__V1__GetResponse *out =
        novakms__v1__get_response__unpack(NULL, frame.payload.len, frame.payload.ptr);
    assert_non_null(out);
    uint64_t held_count = out->expires_unix_ms;
    novakms__v1__get_response__free_unpacked(out, NULL);
    return held_count;
}

/* A call that could not wait is not begun: once it is, it may have written, and RESOURCE_EXHAUSTED
 * says that it has not. */
static void test_no_room_to_wait(void **state) {
    (void)state;
    struct fixture *f = &the_fixture;
    fixture_start(f, (struct net_server_cfg){ 0 });
    struct client c = client_as(f, 1);
    uint64_t id = 0;
    while (id < ROOM_COUNT - 1) {
        client_get(&c, ++id, "hold", 300000);
    }
    assert_int_equal(count_held(&c, ++id), ROOM_COUNT - 1);
    client_get(&c, ++id, "hold", 300000);
    fault_fail_reallocs(true);
    client_get(&c, ++id, "hold", 300000);
    client_response(&c, id, STATUS_RESOURCE_EXHAUSTED);
    fault_fail_reallocs(false);
    assert_int_equal(count_held(&c, ++id), ROOM_COUNT);
    client_get(&c, ++id, "hold", 300000);
    assert_int_equal(count_held(&c, ++id), ROOM_COUNT + 1);
    client_close(&c);
    fixture_stop(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_room_to_wait),
    };
    return cmocka_run_group_tests_name("fault_server", tests, NULL, NULL);
}
