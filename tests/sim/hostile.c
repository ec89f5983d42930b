/* SPDX-License-Identifier: Apache-2.0 */
/* A member that lies: it runs the same code, and what it says is changed on the way out. */
#include "sim.h"

static uint64_t future_hlc(struct world *w) {
    /* Also for a node whose clock has jumped ahead. */
    uint64_t unix_ms = EPOCH_MS + w->now_ms + 1000000 + rng_below(&w->rng, 100000);
    return unix_ms << STORE_HLC_LOGICAL_BITS;
}

static uint64_t honest_hlc(struct world *w) {
    return (EPOCH_MS + w->now_ms) << STORE_HLC_LOGICAL_BITS;
}

/* ---- Records ---- */

static struct store_remote *any_record(struct world *w, struct message *page) {
    if (page->record_count == 0) {
        return NULL;
    }
    return &page->records[rng_below(&w->rng, (uint32_t)page->record_count)].remote;
}

static void malform(struct world *w, struct store_remote *r) {
    switch (rng_below(&w->rng, 6)) {
    case 0:
        r->key.len = 0;
        break;
    case 1:
        r->stamp = STORE_STAMP_NONE;
        break;
    case 2:
        r->replaced = r->stamp;
        break;
    case 3:
        r->ttl_ms = STORE_TTL_MS_MAX + 1;
        break;
    case 4:
        r->tombstone = !r->tombstone;
        r->sealed.len = r->tombstone ? 1 : 0;
        r->ttl_ms = 0;
        break;
    default:
        memset(r->stamp.writer, 0, sizeof(r->stamp.writer));
        break;
    }
    world_count(w, TALLY_LIE_MALFORMED);
}

static void oversize(struct world *w, struct store_remote *r) {
    static const uint8_t much[STORE_KEY_BYTES_MAX + 1];
    if (rng_once_in(&w->rng, 2)) {
        r->key = (struct span){ much, sizeof(much) };
    } else {
        r->sealed = (struct span){ much, RECORD_BYTES_MAX + 1 };
        r->tombstone = false;
    }
    world_count(w, TALLY_LIE_OVERSIZED);
}

/* Under the name of another cell: what is sealed in it says so. */
static void move(struct world *w, struct message *page, struct store_remote *r) {
    if (r->sealed.len == 0) {
        return;
    }
    uint64_t other = 1 + r->app_id % (uint64_t)APP_COUNT;
    r->app_id = other;
    ASSERT(page->record_count > 0);
    world_count(w, TALLY_LIE_MOVED);
}

/* A write that it has held itself, or a later one of its key, with its true stamp, to a node that
 * has known it. One that has just begun knows nothing to hold against a member's word, and nobody
 * does of a write that was lost with its node. */
static void replay(struct world *w, const struct machine *m, struct message *page) {
    if (w->write_count == 0 || page->record_count == PAGE_RECORD_COUNT_MAX) {
        return;
    }
    const struct write *write = &w->writes[rng_below(&w->rng, (uint32_t)w->write_count)];
    const struct machine *to = &w->machines[page->to];
    if (write->tombstone || write->secret != m->secret || !to->is_up ||
        !store_covers(to->store, &write->stamp) ||
        !store_known_covers(&page->page.known, &write->stamp) ||
        store_stamp_compare(&m->best[write->cell], &write->stamp) < 0) {
        return;
    }
    char key[8];
    cell_key(write->cell, key);
    size_t i = page->record_count++;
    uint64_t app_id = 1U + (unsigned)write->cell / KEY_COUNT;
    uint8_t *bytes = page->bytes[i];
    memcpy(bytes, key, strlen(key));
    write_bytes(w, write, bytes + strlen(key));
    page->records[i] = (struct replica_record){
        .remote = { .app_id = app_id,
                    .key = { bytes, strlen(key) },
                    .sealed = { bytes + strlen(key), write->sealed_len },
                    .stamp = write->stamp,
                    .ttl_ms = write->ttl_ms },
    };
    world_count(w, TALLY_LIE_OLD);
}

/* ---- Vectors and numbers ---- */

static void claim_future(struct world *w, struct message *message, struct store_known *known,
                         enum tally what) {
    size_t last = 2 * KNOWN_COUNT_MAX - 1;
    if (known->count == 0) {
        known->entries = &message->entries[last];
        known->count = 1;
        rng_fill(&w->rng, message->entries[last].writer, STORE_WRITER_BYTES);
        message->entries[last].hlc = future_hlc(w);
    } else {
        size_t at = (size_t)(known->entries - message->entries) +
                    rng_below(&w->rng, (uint32_t)known->count);
        message->entries[at].hlc = future_hlc(w);
    }
    if (rng_once_in(&w->rng, 4)) {
        known->rest_hlc = future_hlc(w);
    }
    world_count(w, what);
}

static void wrong_numbers(struct world *w, struct replica_page *page) {
    switch (rng_below(&w->rng, 6)) {
    case 0:
        page->from += 1 + rng_below(&w->rng, 10);
        break;
    case 1:
        page->next = page->from > 0 ? page->from - 1 : 0;
        page->more = true;
        break;
    case 2:
        page->more = true;
        page->next = page->from;
        break;
    case 3:
        page->requester_incarnation[3] ^= 1;
        break;
    case 4:
        page->state.secret_hash[3] ^= 1;
        break;
    default:
        page->state.unix_ms += rng_below(&w->rng, 100000);
        page->state.head_block += rng_below(&w->rng, 100);
        break;
    }
    world_count(w, TALLY_LIE_PAGE);
}

void hostile_page(struct world *w, struct machine *m, struct message *page) {
    struct store_remote *r = any_record(w, page);
    if (page->page.reset || rng_once_in(&w->rng, 2)) {
        return;
    }
    uint32_t lie = rng_below(&w->rng, 8);
    if (lie == 0) {
        claim_future(w, page, &page->page.known, TALLY_LIE_KNOWN);
    } else if (lie == 1) {
        wrong_numbers(w, &page->page);
    } else if (lie <= 3) {
        replay(w, m, page);
    } else if (r == NULL) {
        return;
    } else if (lie == 4) {
        malform(w, r);
    } else if (lie == 5) {
        oversize(w, r);
    } else if (lie == 6) {
        r->stamp.hlc = future_hlc(w);
        world_count(w, TALLY_LIE_FUTURE);
    } else {
        move(w, page, r);
    }
}

void hostile_request(struct world *w, struct machine *m, struct message *request) {
    (void)m;
    if (request->request.known.count > 0 && rng_once_in(&w->rng, 4)) {
        claim_future(w, request, &request->request.known, TALLY_LIE_ACK);
    }
    request->request.follow = request->request.follow || rng_once_in(&w->rng, 4);
}

void hostile_digest(struct world *w, struct machine *m, struct message *answer) {
    (void)m;
    if (answer->digest_count > 0 && rng_once_in(&w->rng, 2)) {
        answer->digests[rng_below(&w->rng, (uint32_t)answer->digest_count)].digest.low ^=
            honest_hlc(w);
        world_count(w, TALLY_LIE_DIGEST);
    }
}
