/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that come while one before them is merged in the pool: here for as long as the test keeps
 * the pool's only thread. */
#include "cluster_world.h"

#define PAGE_RECORDS (REPLICA_MERGE_STEP + 6) /* Such a page is merged in the pool. */
#define PAGES 8
#define AHEAD REPLICA_AHEAD_COUNT_MAX
#define LAST ((uint64_t)PAGES * PAGE_RECORDS)
#define ASKED_MAX 32
#define TURNS 50

static struct {
    struct world *w;
    struct member *m;
    uv_work_t works[2]; /* Each keeps the pool's thread until the test lets it go. */
    size_t block_count;
    size_t end_count;
    uv_sem_t go;
    bool blocks_twice;
    uint64_t given;            /* The end of the last page. */
    uint64_t asked[ASKED_MAX]; /* From where on. */
    size_t asked_count;
    void (*change)(Novakms__V1__PullResponse *page, size_t idx); /* idx: as in asked. */
} scene;

/* ---- The pool ---- */

static void wait_in_pool(uv_work_t *work) {
    (void)work;
    uv_sem_wait(&scene.go);
}

static void end_of_wait(uv_work_t *work, int status) {
    (void)work;
    assert_int_equal(status, 0);
    scene.end_count++;
}

static void block(void) {
    uv_work_t *work = &scene.works[scene.block_count++];
    assert_int_equal(uv_queue_work(&scene.m->loop, work, wait_in_pool, end_of_wait), 0);
}

/* The thread goes on, until it is kept again. */
static void unblock(void) {
    size_t end_count = scene.end_count + 1;
    uv_sem_post(&scene.go);
    WORLD_UNTIL(scene.w, scene.end_count == end_count);
}

/* ---- The member ---- */

static void answer_page(struct member *m, struct page *page, const struct scripted_request *r) {
    static struct member_record all[PAGE_RECORDS];
    Novakms__V1__PeerRecord *records[PAGE_RECORDS];
    size_t idx = scene.asked_count;
    if (idx < ASKED_MAX) {
        scene.asked[scene.asked_count++] = page->message.from;
    }
    for (size_t i = 0; i < PAGE_RECORDS; i++) {
        record_open(&all[i], m);
        records[i] = &all[i].message;
    }
    page->message.records = records;
    page->message.n_records = PAGE_RECORDS;
    page->message.next = page->message.from + PAGE_RECORDS;
    page->message.last = LAST;
    page->message.more = page->message.next < LAST;
    if (scene.change != NULL) {
        scene.change(&page->message, idx);
    }
    scene.given = page->message.next;
    page_send(page, r);
}

/* The pool is taken before the first page goes out: the node has its connection then; and when the
 * second has come, so that it is kept again when the first is merged. */
static void answer_pages(struct member *m, const struct scripted_request *r) {
    struct page page;
    if (strstr(r->method, "/Pull") == NULL) {
        return;
    }
    page_open(&page, m, r);
    if (page.request->follow) {
        page.message.from = scene.given;
        page.message.next = scene.given;
        page.message.last = LAST;
    }
    if (page.message.from >= LAST && page.request->follow) {
        page_send(&page, r);
        return;
    }
    if (page.message.from >= LAST) {
        novakms__v1__pull_request__free_unpacked(page.request, NULL);
        answer_idle(m, r);
        return;
    }
    if (scene.asked_count == 0 || (scene.asked_count == 2 && scene.blocks_twice)) {
        block();
    }
    answer_page(m, &page, r);
}

static int scene_open(void **state) {
    assert_int_equal(world_open(state), 0);
    memset(&scene, 0, sizeof(scene));
    assert_int_equal(uv_sem_init(&scene.go, 0), 0);
    scene.w = *state;
    scene.m = add_member(scene.w, answer_pages);
    return 0;
}

static int scene_close(void **state) {
    while (scene.end_count < scene.block_count) {
        unblock();
    }
    uv_sem_destroy(&scene.go);
    return world_close(state);
}

/* So many have been asked for, and no more while the pool is kept. */
static void asks_up_to(size_t count) {
    WORLD_UNTIL(scene.w, scene.asked_count == count);
    for (size_t i = 0; i < TURNS; i++) {
        world_turn(scene.w);
    }
    assert_int_equal(scene.asked_count, count);
}

static void asks_ahead(size_t count) {
    world_set_members(scene.w, 1);
    asks_up_to(count);
    assert_int_equal(world_stats(scene.w).record_count, 0);
}

/* Of the pulls from asked[first] on: each goes on where the one before it ended. */
static void goes_on(size_t first, uint64_t since) {
    WORLD_UNTIL(scene.w, scene.asked[scene.asked_count - 1] == LAST - PAGE_RECORDS);
    struct replica_view view = { 0 };
    char error[REPLICA_REASON_BYTES];
    WORLD_UNTIL(scene.w, world_view(scene.w, scene.m, &view, error) && view.position == LAST);
    assert_string_equal(error, "");
    for (size_t i = first; i < scene.asked_count; i++) {
        assert_int_equal(scene.asked[i], since);
        since += PAGE_RECORDS;
    }
    assert_int_equal(since, LAST);
}

/* ---- What comes ---- */

static void test_pages_wait(void **state) {
    (void)state;
    asks_ahead(1 + AHEAD);
    unblock();
    goes_on(0, 0);
    struct replica_stats stats = world_stats(scene.w);
    assert_int_equal(stats.record_count, LAST);
    assert_int_equal(stats.dropped_page_count, 0);
    assert_int_equal(stats.pull_failed_count, 0);
}

/* The first is merged: the second is being, the others wait, and one more is asked for. */
static void test_it_goes_on_so(void **state) {
    (void)state;
    scene.blocks_twice = true;
    asks_ahead(1 + AHEAD);
    unblock();
    asks_up_to(2 + AHEAD);
    assert_int_equal(world_stats(scene.w).record_count, PAGE_RECORDS);
    unblock();
    goes_on(0, 0);
    assert_int_equal(world_stats(scene.w).record_count, LAST);
}

static void second_is_garbage(Novakms__V1__PullResponse *page, size_t idx) {
    if (idx == 1) {
        page->requester_incarnation = fixture_text("short");
    }
}

/* It is asked for again in its turn, and so is what was asked for behind it. */
static void test_garbage_among_them(void **state) {
    (void)state;
    scene.change = second_is_garbage;
    asks_ahead(1 + AHEAD);
    unblock();
    goes_on(1 + AHEAD, PAGE_RECORDS);
    assert_int_equal(world_stats(scene.w).record_count, LAST);
}

static void first_is_forged(Novakms__V1__PullResponse *page, size_t idx) {
    static const uint8_t noise[60] = { 1, 2, 3 };
    if (idx == 0) {
        page->records[1]->tombstone = false;
        page->records[1]->sealed = fixture_bytes(noise, sizeof(noise));
    }
}

/* What waits behind it, and what is under way, is void. */
static void test_a_forged_record_before_them(void **state) {
    (void)state;
    scene.change = first_is_forged;
    asks_ahead(1 + AHEAD);
    unblock();
    goes_on(1 + AHEAD, 0);
    struct replica_stats stats = world_stats(scene.w);
    assert_int_equal(stats.record_count, PAGE_RECORDS + LAST);
    assert_int_equal(stats.forged_count, 1);
    assert_int_equal(stats.dropped_page_count, AHEAD);
}

static void test_the_member_goes(void **state) {
    (void)state;
    struct replica_view view;
    char error[REPLICA_REASON_BYTES];
    asks_ahead(1 + AHEAD);
    world_set_members(scene.w, 0);
    WORLD_UNTIL(scene.w, !world_view(scene.w, scene.m, &view, error));
    unblock();
    world_set_members(scene.w, 1);
    goes_on(1 + AHEAD, 0);
    assert_int_equal(world_stats(scene.w).record_count, LAST);
}

static void second_is_a_reset(Novakms__V1__PullResponse *page, size_t idx) {
    page->reset = idx == 1;
}

/* It is heard in its turn, and what came behind it is an earlier incarnation's. */
static void test_a_reset_among_them(void **state) {
    (void)state;
    fixture_put_text(&scene.w->f, "k", "v");
    scene.change = second_is_a_reset;
    asks_ahead(1 + AHEAD);
    unblock();
    goes_on(1 + AHEAD, 0);
    struct replica_stats stats = world_stats(scene.w);
    assert_int_equal(stats.reset_count, 1);
    assert_int_equal(stats.record_count, PAGE_RECORDS + LAST);
    assert_int_equal(stats.dropped_page_count, AHEAD - 1);
}

/* What has come and waits goes with the node. */
static void test_the_end(void **state) {
    (void)state;
    asks_ahead(1 + AHEAD);
    cluster_cancel(scene.w->cluster);
    unblock();
    WORLD_UNTIL(scene.w, scene.m->server.closed_count == 1);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)

int main(void) {
    (void)setenv("UV_THREADPOOL_SIZE", "1", 1);
    const struct CMUnitTest tests[] = {
        SCENE(test_pages_wait),
        SCENE(test_it_goes_on_so),
        SCENE(test_garbage_among_them),
        SCENE(test_a_forged_record_before_them),
        SCENE(test_the_member_goes),
        SCENE(test_a_reset_among_them),
        SCENE(test_the_end),
    };
    return cmocka_run_group_tests_name("cluster_pages", tests, NULL, NULL);
}
