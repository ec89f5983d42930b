/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a page, section by section, and sending it. */
#include "sim.h"

#define PAGE_BYTES_MAX 1500
#define SECTION_RECORD_COUNT_MAX 2
#define PAUSE_MS 40
#define PAUSE_LONG_MS 3000
#define PAUSE_LONG_ONCE_IN 4

static void copy_record(struct message *page, const struct store_record *from) {
    size_t i = page->record_count++;
    uint8_t *bytes = page->bytes[i];
    ASSERT(from->key.len + from->sealed.len <= RECORD_BYTES_MAX);
    memcpy(bytes, from->key.ptr, from->key.len);
    if (from->sealed.len > 0) {
        memcpy(bytes + from->key.len, from->sealed.ptr, from->sealed.len);
    }
    page->records[i].is_forged = false;
    page->records[i].remote =
        (struct store_remote){ .app_id = from->app_id,
                               .key = { bytes, from->key.len },
                               .sealed = { bytes + from->key.len, from->sealed.len },
                               .stamp = from->stamp,
                               .replaced = from->replaced,
                               .ttl_ms = from->ttl_ms,
                               .tombstone = from->state == STORE_TOMBSTONE };
}

void peer_deliver(struct world *w, struct machine *m, struct message *answer) {
    if (m->is_hostile) {
        hostile_page(w, m, answer);
    }
    /* A proxy that holds it back; the first page of a snapshot more often. */
    if (!w->is_healed && rng_once_in(&w->rng, answer->page.from == 0 ? 10 : 100)) {
        uint32_t most_ms = rng_once_in(&w->rng, 6) ? CALL_MS + 20000 : CALL_MS / 2;
        world_after(w, rng_below(&w->rng, most_ms),
                    (struct event){ .kind = EVENT_MESSAGE, .of = answer });
        return;
    }
    net_send(w, answer);
}

/* Between two sections: no time, some, or as much as a busy node may take. */
static uint32_t pause_ms(struct world *w) {
    if (rng_once_in(&w->rng, 2)) {
        return 0;
    }
    bool is_long = !w->is_healed && rng_once_in(&w->rng, PAUSE_LONG_ONCE_IN);
    return 1 + rng_below(&w->rng, is_long ? PAUSE_LONG_MS : PAUSE_MS);
}

static size_t cost_of(const struct store_record *record) {
    return record->key.len + record->sealed.len + STORE_RECORD_BYTES;
}

/* The page's next records. True when it is to be read on. */
static bool read_section(struct world *w, struct machine *m, struct message *page) {
    struct store_record records[SECTION_RECORD_COUNT_MAX];
    size_t asked_bytes = page->origin->request.bytes_max;
    size_t bytes_max = asked_bytes == 0 ? PAGE_BYTES_MAX : asked_bytes;
    size_t bytes_left = bytes_max > page->read_bytes ? bytes_max - page->read_bytes : 0;
    size_t count_left = PAGE_RECORD_COUNT_MAX - page->record_count;
    size_t count_max = 1 + rng_below(&w->rng, SECTION_RECORD_COUNT_MAX);
    const struct store_log_query query = { .since = page->page.next,
                                           .known = &page->origin->request.known,
                                           .bytes_max = bytes_left,
                                           .record_count_max =
                                               count_left < count_max ? count_left : count_max };
    struct store_log_page got;
    struct rc rc = store_log_read(m->store, &query, records, &got);
    ASSERT(rc.err == E_OK);
    if (page->record_count > 0 && got.count > 0 && cost_of(&records[0]) > bytes_left) {
        return false; /* Only a page's first record may be too large for it. */
    }
    for (size_t i = 0; i < got.count; i++) {
        page->read_bytes += cost_of(&records[i]);
        copy_record(page, &records[i]);
    }
    bool goes_on =
        replica_page_read(m->replica, m->store, &page->origin->from_wallet, &got, &page->page);
    if (!goes_on && page->page.more) {
        world_count(w, TALLY_PAGE_HELD_BACK);
        TRACE(w, "n%u: its floor rose while it read the last page for n%u", m->idx, page->to);
    }
    return goes_on && page->read_bytes < bytes_max && page->record_count < PAGE_RECORD_COUNT_MAX;
}

/* What happened here since the section before. */
static void count_changes(struct world *w, struct machine *m, struct message *page) {
    uint64_t rise_count = store_floor_rise_count(m->store);
    world_count(w, TALLY_PAGE_SECTION);
    if (store_log_last(m->store) != page->seen_last) {
        world_count(w, TALLY_PAGE_CHANGED);
    }
    if (rise_count != page->seen_rise_count) {
        world_count(w, TALLY_PAGE_FLOOR_ROSE);
    }
}

static void note_seen(const struct machine *m, struct message *page) {
    page->seen_last = store_log_last(m->store);
    page->seen_rise_count = store_floor_rise_count(m->store);
}

/* One section after the other; for as long as the node is let go of, anything may happen. */
void peer_read_on(struct world *w, struct machine *m, struct message *page) {
    while (read_section(w, m, page)) {
        uint32_t span_ms = pause_ms(w);
        note_seen(m, page);
        if (span_ms > 0) {
            world_after(
                w, span_ms,
                (struct event){ .kind = EVENT_READ, .boot = m->boot, .a = m->idx, .of = page });
            return;
        }
        world_count(w, TALLY_PAGE_SECTION);
    }
    message_give(w, page->origin);
    page->origin = NULL;
    peer_deliver(w, m, page);
}

void peer_read(struct world *w, struct machine *m, struct message *page) {
    /* The store may have been emptied since the section before: what is in it now is not what the
     * page's vector says. */
    if (span_equal((struct span){ page->page.state.incarnation, STORE_WRITER_BYTES },
                   (struct span){ store_writer(m->store), STORE_WRITER_BYTES })) {
        count_changes(w, m, page);
        peer_read_on(w, m, page);
    } else {
        world_count(w, TALLY_PAGE_VOID);
        peer_refuse(w, page->origin, true);
        message_give(w, page->origin);
        message_give(w, page);
    }
}
