/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that write, delete and read, wait for durability, go to another node when theirs does not
 * serve, and show what they have seen.
 *
 * A client shows two stamps: the greatest of all answers, which its next write must follow, and
 * that of its own latest write. A node waits until it covers both, a bounded time, before it reads
 * and before it writes; past it, it says that it may miss them. One stamp alone would not do: the
 * greatest may be another writer's, whose node has not heard of the client's own. */
#include "sim.h"

#define TRIES_MAX 12

enum { OP_PUT, OP_DELETE, OP_GET };

void cell_key(unsigned cell, char key[static 8]) {
    key[0] = 'k';
    key[1] = (char)('0' + cell % KEY_COUNT);
    key[2] = '\0';
}

void write_bytes(const struct world *w, const struct write *write, uint8_t *out) {
    size_t idx = (size_t)(write - w->writes);
    memset(out, 0, write->sealed_len);
    out[0] = write->cell;
    out[1] = (uint8_t)idx;
    out[2] = (uint8_t)(idx >> 8);
}

/* The one time at which it acts next: what was said before is void. */
static void again(struct world *w, struct client *c, uint64_t span_ms) {
    c->due_ms = w->now_ms + span_ms;
    world_after(w, span_ms,
                (struct event){ .kind = EVENT_CLIENT, .a = (uint32_t)(c - w->clients) });
}

void client_init(struct world *w) {
    bool is_shared = rng_once_in(&w->rng, 2); /* All of one app. */
    w->client_count = 2 + rng_below(&w->rng, 2);
    for (size_t i = 0; i < w->client_count; i++) {
        w->clients[i] =
            (struct client){ .app_id = is_shared ? 1 : 1 + i % APP_COUNT,
                             .machine = (uint8_t)rng_below(&w->rng, (uint32_t)w->machine_count),
                             .write = -1 };
        again(w, &w->clients[i], 5000 + rng_below(&w->rng, 2000));
    }
}

static void end_op(struct world *w, struct client *c) {
    c->has_op = false;
    c->wait_until_ms = 0;
    again(w, c, 50 + rng_below(&w->rng, 1200));
}

static void choose_op(struct world *w, struct client *c) {
    uint32_t kind = rng_below(&w->rng, 100);
    c->has_op = true;
    c->tries = 0;
    c->wait_until_ms = 0;
    c->op_kind = kind < 45 ? OP_PUT : kind < 60 ? OP_DELETE : OP_GET;
    c->op_cell = (uint8_t)((c->app_id - 1) * KEY_COUNT + rng_below(&w->rng, KEY_COUNT));
    if (rng_once_in(&w->rng, 10)) {
        c->machine = (uint8_t)rng_below(&w->rng, (uint32_t)w->machine_count);
    }
}

static void fail_over(struct world *w, struct client *c) {
    c->machine = (uint8_t)rng_below(&w->rng, (uint32_t)w->machine_count);
    c->wait_until_ms = 0;
    c->tries++;
    world_count(w, TALLY_CLIENT_FAILOVER);
    if (c->tries > TRIES_MAX) {
        end_op(w, c);
    } else {
        again(w, c, 30 + rng_below(&w->rng, 300));
    }
}

static void forget_seen(struct client *c) {
    c->seen = STORE_STAMP_NONE;
    c->wrote = STORE_STAMP_NONE;
    memset(c->last, 0, sizeof(c->last));
}

static void raise(struct store_stamp *stamp, const struct store_stamp *to) {
    if (store_stamp_compare(to, stamp) > 0) {
        *stamp = *to;
    }
}

/* Whether it can go on: all it has seen is here, or it has waited long enough and was told. */
static bool has_caught_up(struct world *w, struct machine *m, struct client *c) {
    if (store_covers(m->store, &c->seen) && store_covers(m->store, &c->wrote)) {
        return true;
    }
    if (c->wait_until_ms == 0) {
        c->wait_until_ms = w->now_ms + SEEN_WAIT_MS;
    }
    if (w->now_ms < c->wait_until_ms) {
        again(w, c, 50);
        return false;
    }
    world_count(w, TALLY_CLIENT_MAY_MISS);
    forget_seen(c);
    return true;
}

/* ---- Reads ---- */

static void get(struct world *w, struct machine *m, struct client *c) {
    world_count(w, TALLY_CLIENT_GET);
    check_read(w, m, c, c->op_cell);
    char key[8];
    struct store_record r;
    cell_key(c->op_cell, key);
    struct rc rc = store_get(m->store, c->app_id, span_str(key), node_unix_ms(w, m), &r);
    if (rc.err == E_OK) {
        world_count(w, TALLY_CLIENT_HIT);
    }
    raise(&c->seen, &r.stamp);
    end_op(w, c);
}

/* ---- Writes ---- */

static void await(struct world *w, struct client *c, struct write *write) {
    if (write->durability == DURABILITY_LOCAL) {
        end_op(w, c);
        return;
    }
    c->write = (int)(write - w->writes);
    c->write_until_ms = w->now_ms + DURABILITY_WAIT_MS;
    again(w, c, DURABILITY_WAIT_MS);
    client_check_acks(w, &w->machines[write->machine]);
}

static void note_refusal(struct world *w, struct client *c, const struct store_written *out) {
    TRACE(w, "client %d is refused: %s", (int)(c - w->clients), store_refusal_name(out->refusal));
    if (out->refusal == STORE_REFUSED_SEEN) {
        world_count(w, TALLY_CLIENT_SEEN_FUTURE);
        forget_seen(c);
    } else {
        world_count(w, TALLY_CLIENT_QUOTA);
    }
    end_op(w, c);
}

static void note_write(struct world *w, struct client *c, struct write *write) {
    if (!store_stamp_is_none(&c->wrote) && store_stamp_compare(&write->stamp, &c->wrote) <= 0) {
        world_fail(w, "client %d: a later write has the lower stamp", (int)(c - w->clients));
    }
    if (store_stamp_compare(&write->stamp, &c->seen) <= 0) {
        world_fail(w, "client %d: a write is not above what it has seen", (int)(c - w->clients));
    }
    raise(&c->seen, &write->stamp);
    c->wrote = write->stamp;
    c->last[write->cell] = write->stamp;
}

static void change(struct world *w, struct machine *m, struct client *c) {
    ASSERT(w->write_count < WRITE_COUNT_MAX);
    struct write *write = &w->writes[w->write_count];
    uint32_t dice = rng_below(&w->rng, 6);
    *write = (struct write){ .cell = c->op_cell,
                             .client = (uint8_t)(c - w->clients),
                             .machine = m->idx,
                             .boot = m->boot,
                             .secret = m->secret,
                             .tombstone = c->op_kind == OP_DELETE,
                             .at_ms = w->now_ms };
    write->durability = dice < 2   ? DURABILITY_QUORUM
                        : dice < 3 ? DURABILITY_ONE_PEER
                                   : DURABILITY_LOCAL;
    write->sealed_len = (uint8_t)(8 + rng_below(&w->rng, 32));
    bool is_mortal = !write->tombstone && rng_once_in(&w->rng, 3);
    write->ttl_ms = is_mortal ? 500 + rng_below(&w->rng, 15000) : 0;
    uint8_t bytes[RECORD_BYTES_MAX];
    char key[8];
    write_bytes(w, write, bytes);
    cell_key(write->cell, key);
    const struct store_write put = { .app_id = c->app_id,
                                     .key = span_str(key),
                                     .sealed = { bytes, write->sealed_len },
                                     .ttl_ms = write->ttl_ms,
                                     .now_unix_ms = node_unix_ms(w, m),
                                     .seen = c->seen };
    struct store_written out;
    struct rc rc =
        write->tombstone ? store_delete(m->store, &put, &out) : store_put(m->store, &put, &out);
    if (rc.err != E_OK) {
        note_refusal(w, c, &out);
        return;
    }
    world_count(w, write->tombstone ? TALLY_CLIENT_DELETE : TALLY_CLIENT_PUT);
    write->stamp = out.stamp;
    w->write_count++;
    TRACE(w, "client %u %s app %u %s at n%u: write %zu, %llu.%u, ttl %llu", write->client,
          write->tombstone ? "deletes" : "puts", (unsigned)c->app_id, key, m->idx,
          (size_t)(write - w->writes),
          (unsigned long long)(store_stamp_unix_ms(&out.stamp) - EPOCH_MS),
          (unsigned)(out.stamp.hlc & 0xffff), (unsigned long long)write->ttl_ms);
    note_write(w, c, write);
    check_held(w, m, c->app_id, span_str(key));
    node_changed(w, m);
    await(w, c, write);
}

void client_step(struct world *w, struct client *c) {
    if (w->now_ms != c->due_ms || (w->is_healed && !c->has_op && c->write < 0)) {
        return;
    }
    if (c->write >= 0) {
        if (w->now_ms < c->write_until_ms) {
            return;
        }
        world_count(w, TALLY_ACK_TIMEOUT);
        c->write = -1;
        end_op(w, c);
        return;
    }
    if (!c->has_op) {
        choose_op(w, c);
    }
    struct machine *m = &w->machines[c->machine];
    if (w->is_healed || w->write_count == WRITE_COUNT_MAX) {
        end_op(w, c);
    } else if (!m->is_up || !m->is_serving) {
        fail_over(w, c);
    } else if (!has_caught_up(w, m, c)) {
        return;
    } else if (c->op_kind == OP_GET) {
        get(w, m, c);
    } else {
        change(w, m, c);
    }
}

void client_check_acks(struct world *w, struct machine *m) {
    for (size_t i = 0; i < w->client_count; i++) {
        struct client *c = &w->clients[i];
        if (c->write < 0) {
            continue;
        }
        struct write *write = &w->writes[c->write];
        if (write->machine != m->idx || write->boot != m->boot || !m->is_serving) {
            continue;
        }
        uint32_t wanted =
            write->durability == DURABILITY_QUORUM ? replica_acks_for_quorum(m->replica) : 1;
        if (replica_acks(m->replica, &write->stamp) >= wanted) {
            check_acked(w, m, write);
            c->write = -1;
            c->write_until_ms = 0;
            end_op(w, c);
        }
    }
}
