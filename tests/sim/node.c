/* SPDX-License-Identifier: Apache-2.0 */
/* A node's life: it boots, wakes when something is due, serves or not, and crashes. */
#include "sim.h"

#define TICK_MS 1000 /* Of the clock's check and the collector. */
#define FAR_MS 600000

uint64_t node_mono_ms(const struct world *w, const struct machine *m) {
    return m->mono_base_ms + (w->now_ms - m->booted_at_ms);
}

uint64_t node_unix_ms(const struct world *w, const struct machine *m) {
    return service_clock_unix_ms(&m->clock, node_mono_ms(w, m));
}

static uint64_t wall_ms(const struct world *w, const struct machine *m) {
    return (uint64_t)((int64_t)(EPOCH_MS + w->now_ms) + m->wall_ms);
}

struct replica_now node_now(struct world *w, const struct machine *m) {
    return (struct replica_now){ .mono_ms = node_mono_ms(w, m),
                                 .unix_ms = node_unix_ms(w, m),
                                 .random = (uint32_t)rng_u64(&w->rng) };
}

void node_new_writer(struct world *w, uint8_t writer[static STORE_WRITER_BYTES]) {
    rng_fill(&w->rng, writer, STORE_WRITER_BYTES);
    writer[0] |= 1;
    w->boot_count++;
}

/* ---- Boot and crash ---- */

static void open_store(struct world *w, struct machine *m) {
    struct store_cfg cfg = { .app_bytes_max = 1100,
                             .total_bytes_max = 20000,
                             .hard_bytes_max = 60000,
                             .sealed_bytes_max = 48,
                             .tombstone_count_max = 4,
                             .tombstone_retention_ms = RETENTION_MS,
                             .clock_skew_ms = SKEW_MS,
                             .namespace_count_max = 4,
                             .writer_count_max = KNOWN_COUNT_MAX };
    rng_fill(&w->rng, cfg.hash_key, sizeof(cfg.hash_key));
    node_new_writer(w, cfg.writer);
    struct rc rc = store_init(&m->store, &cfg);
    ASSERT(rc.err == E_OK);
}

static void open_replica(struct world *w, struct machine *m) {
    /* All there is in few pages, or a record on each. */
    static const uint32_t page_bytes[] = { 200, 600, 1500 };
    const struct replica_cfg cfg = { .interval_ms = 2000,
                                     .wait_ms = WAIT_MS,
                                     .page_bytes_max = page_bytes[rng_below(&w->rng, 3)],
                                     .backoff_min_ms = 100,
                                     .backoff_max_ms = 2000,
                                     .settle_ms = SETTLE_MS,
                                     .start_wait_ms = 3000,
                                     .clock_skew_ms = SKEW_MS,
                                     .head_lag_max = 8,
                                     .compact_after_ms = RETENTION_MS + SKEW_MS,
                                     .members_age_max_ms = CACHE_TTL_MS };
    struct rc rc = replica_init(&m->replica, &cfg);
    ASSERT(rc.err == E_OK);
}

static void open_view(struct world *w, struct machine *m) {
    struct auth_view_cfg cfg = { .kms_app_id = KMS_APP_ID,
                                 .entry_count_max = PIN_COUNT_MAX,
                                 .miss_count_max = 16,
                                 .pending_count_max = 16,
                                 .refresh_ms = 2000,
                                 .ttl_ms = CACHE_TTL_MS,
                                 .miss_life_ms = 500,
                                 .lookup_timeout_ms = 2000,
                                 .unknown_per_minute = 6000,
                                 .unknown_burst = 100 };
    rng_fill(&w->rng, cfg.hash_key, sizeof(cfg.hash_key));
    struct rc rc = auth_view_init(&m->view, &cfg);
    ASSERT(rc.err == E_OK);
}

static void open_bootstrap(struct machine *m) {
    const struct bootstrap_cfg cfg = { .tick_ms = 2000,
                                       .cache_ttl_ms = CACHE_TTL_MS,
                                       .poll_ms = 1000,
                                       .retry_min_ms = 200,
                                       .retry_max_ms = 2000,
                                       .tx_stuck_ms = 5000 };
    struct rc rc = bootstrap_init(&m->bootstrap, &cfg);
    ASSERT(rc.err == E_OK);
}

void node_boot(struct world *w, struct machine *m) {
    ASSERT(!m->is_up);
    m->is_up = true;
    m->boot++;
    m->booted_at_ms = w->now_ms;
    m->state_since_ms = w->now_ms;
    m->mono_base_ms = 2 * HEAD_STALL_MS + rng_below(&w->rng, 1000000);
    m->is_serving = false;
    m->was_in_service = false;
    m->was_away = false;
    m->is_draining = false;
    m->is_clock_right = true;
    m->is_clock_bad = m->wall_ms > SKEW_MS / 2 || m->wall_ms < -SKEW_MS / 2;
    m->secret = 0;
    m->pending_secret = 0;
    m->tx = 0;
    m->members_as_of_ms = 0;
    memset(m->tasks, 0, sizeof(m->tasks));
    m->has_snapshot_task = false;
    memset(m->calls, 0, sizeof(m->calls));
    memset(m->parked, 0, sizeof(m->parked));
    m->serve_at_ms = UINT64_MAX;
    m->pin_count = 0;
    m->step_due_ms = w->now_ms;
    m->tick_due_ms = w->now_ms + TICK_MS;
    m->last_stats = (struct replica_stats){ 0 };
    m->last_store_stats = (struct store_stats){ 0 };
    memset(m->best, 0, sizeof(m->best));
    service_clock_init(&m->clock, SKEW_MS, node_mono_ms(w, m), wall_ms(w, m));
    open_store(w, m);
    open_replica(w, m);
    open_view(w, m);
    open_bootstrap(m);
    m->wake_at_ms = UINT64_MAX;
    TRACE(w, "n%u boots, wallet %u, clock %+lld ms, writer %02x%02x", m->idx, m->wallet_gen,
          (long long)m->wall_ms, store_writer(m->store)[0], store_writer(m->store)[1]);
    node_hurry(w, m);
}

void node_crash(struct world *w, struct machine *m) {
    ASSERT(m->is_up);
    TRACE(w, "n%u goes down", m->idx);
    node_tally(w, m);
    check_losing(w, m);
    peer_drop_all(w, m);
    m->is_up = false;
    m->is_serving = false;
    m->was_in_service = false;
    m->secret = 0;
    m->last_wall_ms = wall_ms(w, m);
    store_close(&m->store);
    replica_close(&m->replica);
    auth_view_close(&m->view);
}

void node_drop_state(struct world *w, struct machine *m) {
    uint8_t writer[STORE_WRITER_BYTES];
    check_losing(w, m);
    node_new_writer(w, writer);
    store_reset(m->store, writer);
    m->state_since_ms = w->now_ms;
    m->was_away = false;
    memset(m->best, 0, sizeof(m->best));
    TRACE(w, "n%u drops its data, writer %02x%02x", m->idx, writer[0], writer[1]);
}

/* ---- Who may call ---- */

static void ask_registry(struct world *w, struct machine *m, const struct wallet *wallet) {
    uint64_t mono_ms = node_mono_ms(w, m);
    uint64_t block = chain_seen_by(w, m);
    if (block == 0) {
        auth_view_unreadable(m->view, wallet, "the chain cannot be read", mono_ms);
        return;
    }
    struct chain_state state;
    chain_read(&w->chain, block, &state);
    uint64_t age_ms = w->now_ms - w->chain.times_ms[block];
    struct auth_facts facts = { .as_of_mono_ms = mono_ms > age_ms ? mono_ms - age_ms : 0 };
    int entry = chain_find(w, &state, wallet);
    if (entry >= 0) {
        facts.found = true;
        facts.instance.id = w->chain.entries[entry].id;
        facts.instance.app_id = KMS_APP_ID;
        facts.instance.wallet = *wallet;
        facts.instance.zk_verified = true;
    }
    auth_view_apply(m->view, wallet, &facts, mono_ms);
}

static bool is_pinned(const struct machine *m, const struct wallet *wallet) {
    for (size_t i = 0; i < m->pin_count; i++) {
        if (wallet_equal(&m->pins[i], wallet)) {
            return true;
        }
    }
    return false;
}

static void unpin(struct world *w, struct machine *m, const struct wallet *wallet) {
    for (size_t i = 0; i < m->pin_count; i++) {
        if (wallet_equal(&m->pins[i], wallet)) {
            m->pins[i] = m->pins[--m->pin_count];
            auth_view_unpin(m->view, wallet, node_mono_ms(w, m));
            return;
        }
    }
}

/* A connection is pinned while its calls are permitted. */
enum auth_outcome node_judge_caller(struct world *w, struct machine *m,
                                    const struct wallet *wallet) {
    uint64_t mono_ms = node_mono_ms(w, m);
    struct auth_decision decision;
    auth_view_decide(m->view, wallet, AUTH_PEER, mono_ms, &decision);
    if (decision.outcome == AUTH_UNKNOWN &&
        auth_view_begin_lookup(m->view, wallet, mono_ms) == AUTH_LOOKUP_START) {
        ask_registry(w, m, wallet);
        auth_view_decide(m->view, wallet, AUTH_PEER, mono_ms, &decision);
    }
    if (decision.outcome == AUTH_ALLOW && !is_pinned(m, wallet) && m->pin_count < PIN_COUNT_MAX) {
        struct rc rc = auth_view_pin(m->view, wallet, mono_ms);
        if (rc.err == E_OK) {
            m->pins[m->pin_count++] = *wallet;
        }
    } else if (decision.outcome == AUTH_DENY) {
        world_count(w, TALLY_CALLER_DENIED);
        unpin(w, m, wallet);
    } else if (decision.outcome == AUTH_UNREADABLE) {
        world_count(w, TALLY_CALLER_UNREADABLE);
    }
    return decision.outcome;
}

static void refresh_callers(struct world *w, struct machine *m) {
    struct wallet due[4];
    size_t count = 0;
    do {
        count = auth_view_due(m->view, node_mono_ms(w, m), due, 4);
        for (size_t i = 0; i < count; i++) {
            ask_registry(w, m, &due[i]);
        }
    } while (count == 4);
}

void node_set_members(struct world *w, struct machine *m, const struct chain_state *state) {
    struct replica_member members[ENTRY_COUNT_MAX];
    struct replica_member self = { .wallet = m->wallet, .url = m->url };
    size_t count = 0;
    for (size_t i = 0; i < w->chain.entry_count; i++) {
        if ((state->members >> i & 1) == 0) {
            continue;
        }
        const struct chain_entry *entry = &w->chain.entries[i];
        members[count] = (struct replica_member){ .wallet = entry->wallet,
                                                  .url = w->machines[entry->machine].url,
                                                  .instance_id = entry->id };
        if (wallet_equal(&entry->wallet, &m->wallet)) {
            self.instance_id = entry->id;
        }
        count++;
    }
    m->was_away = m->was_away || self.instance_id == 0 || self.instance_id != m->self_id;
    m->self_id = self.instance_id;
    struct replica_now now = node_now(w, m);
    struct rc rc = replica_set_members(m->replica, &self, members, count, &now);
    if (rc.err != E_OK) {
        world_fail(w, "n%u: replica_set_members gives %s", m->idx, err_name(rc.err));
    }
}

/* ---- What is due ---- */

void node_hurry(struct world *w, struct machine *m) {
    if (m->wake_at_ms > w->now_ms) {
        m->wake_at_ms = w->now_ms;
        world_after(w, 0, (struct event){ .kind = EVENT_WAKE, .boot = m->boot, .a = m->idx });
    }
}

void node_changed(struct world *w, struct machine *m) {
    bool is_waited_for = false;
    for (size_t i = 0; i < PARKED_COUNT_MAX && !is_waited_for; i++) {
        is_waited_for = m->parked[i].request != NULL;
    }
    if (is_waited_for) {
        node_serve_after(w, m, 1);
    }
}

void node_serve_after(struct world *w, struct machine *m, uint64_t span_ms) {
    if (w->now_ms + span_ms < m->serve_at_ms) {
        m->serve_at_ms = w->now_ms + span_ms;
        world_after(w, span_ms,
                    (struct event){ .kind = EVENT_SERVE, .boot = m->boot, .a = m->idx });
    }
}

void node_judge(struct world *w, struct machine *m) {
    char reason[REPLICA_REASON_BYTES];
    bool in_service = replica_in_service(m->replica, reason);
    if (in_service && !m->was_in_service) {
        world_count(w, TALLY_STARTED);
        node_tally(w, m);
        TRACE(w, "n%u is in service", m->idx);
        check_in_service(w, m);
        node_changed(w, m);
    }
    if (!in_service && m->was_in_service) {
        check_losing(w, m); /* It came back to the registry, and starts again with what it has. */
    }
    m->was_in_service = in_service;
    struct replica_now now = node_now(w, m);
    bool is_level = replica_is_level(m->replica, &now, reason);
    bool is_serving = in_service && is_level && m->is_clock_right && !m->is_draining &&
                      bootstrap_is_serving(&m->bootstrap);
    if (in_service && !is_level) {
        world_count(w, TALLY_NOT_LEVEL);
    }
    if (is_serving != m->is_serving) {
        m->is_serving = is_serving;
        world_count(w, is_serving ? TALLY_NODE_SERVED : TALLY_NODE_LEFT);
        TRACE(w, "n%u %s", m->idx, is_serving ? "serves" : "leaves service");
    }
    if (is_serving) {
        check_serving(w, m);
    }
}

static void check_clock(struct world *w, struct machine *m) {
    int64_t step_ms = 0;
    bool is_right = service_clock_check(&m->clock, node_mono_ms(w, m), wall_ms(w, m), &step_ms);
    if (m->is_clock_right && !is_right) {
        world_count(w, TALLY_CLOCK_STEPPED);
        TRACE(w, "n%u: its clock stepped by %lld ms", m->idx, (long long)step_ms);
    }
    m->is_clock_right = is_right;
}

static void collect(struct world *w, struct machine *m) {
    struct store_collected out;
    struct replica_now now = node_now(w, m);
    replica_collect(m->replica, m->store, 64, &now, &out);
    world_count_by(w, TALLY_EMPTIED, out.emptied_count);
    if (out.removed_count > 0) {
        world_count_by(w, TALLY_COLLECTED, out.removed_count);
        check_collected(w, m);
    }
}

/* Whether it has stopped. */
static bool drain(struct world *w, struct machine *m) {
    struct replica_now now = node_now(w, m);
    bool is_drained = replica_is_drained(m->replica, m->store, &now);
    if (is_drained) {
        world_count(w, TALLY_DRAINED);
    } else if (w->now_ms < m->drain_until_ms) {
        return false;
    }
    TRACE(w, "n%u stops, %s", m->idx, is_drained ? "drained" : "not drained");
    node_crash(w, m);
    return true;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void node_wake(struct world *w, struct machine *m) {
    m->wake_at_ms = UINT64_MAX;
    if (w->now_ms >= m->tick_due_ms) {
        m->tick_due_ms = w->now_ms + TICK_MS;
        check_clock(w, m);
        refresh_callers(w, m);
        collect(w, m);
        node_tally(w, m);
        if (rng_once_in(&w->rng, 16)) {
            check_node(w, m);
        }
    }
    duty_tick(w, m);
    uint64_t pull_ms = FAR_MS;
    peer_pump(w, m, &pull_ms);
    node_judge(w, m);
    if (m->is_draining && drain(w, m)) {
        return;
    }
    uint64_t next_ms = least(pull_ms, least(m->step_due_ms, m->tick_due_ms));
    next_ms = next_ms > w->now_ms ? next_ms : w->now_ms + 1;
    if (next_ms < m->wake_at_ms) {
        m->wake_at_ms = next_ms;
        world_after(w, next_ms - w->now_ms,
                    (struct event){ .kind = EVENT_WAKE, .boot = m->boot, .a = m->idx });
    }
}

/* ---- Counting ---- */

static void tally_refusals(struct world *w, const uint64_t *now, const uint64_t *last) {
    static const struct {
        enum store_refusal refusal;
        enum tally tally;
    } rows[] = { { STORE_REFUSED_SKEW, TALLY_REFUSED_SKEW },
                 { STORE_REFUSED_MALFORMED, TALLY_REFUSED_MALFORMED },
                 { STORE_REFUSED_KEY, TALLY_REFUSED_KEY },
                 { STORE_REFUSED_SEALED, TALLY_REFUSED_SEALED } };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t times = now[rows[i].refusal] - last[rows[i].refusal];
        world_count_by(w, rows[i].tally, times);
        world_count_by(w, TALLY_RECORD_REFUSED, times);
    }
}

void node_tally(struct world *w, struct machine *m) {
    struct replica_stats now;
    struct store_stats store;
    const struct replica_stats *last = &m->last_stats;
    replica_stats(m->replica, &now);
    store_stats(m->store, &store);
    world_count_by(w, TALLY_DURABILITY_RESET,
                   now.durability_reset_count - last->durability_reset_count);
    world_count_by(w, TALLY_NEWCOMER, now.newcomer_count - last->newcomer_count);
    w->durability_resets += (uint32_t)(now.durability_reset_count - last->durability_reset_count);
    world_count_by(w, TALLY_RESET_GIVEN, now.reset_given_count - last->reset_given_count);
    world_count_by(w, TALLY_RECORD_FORGED, now.forged_count - last->forged_count);
    world_count_by(w, TALLY_DIGEST_EQUAL, now.digest_ok_count - last->digest_ok_count);
    world_count_by(w, TALLY_DIGEST_DIFFERENT,
                   now.digest_mismatch_count - last->digest_mismatch_count);
    world_count_by(w, TALLY_REPAIR, now.repair_count - last->repair_count);
    world_count_by(w, TALLY_DIGEST_ALARM, now.digest_alarm_count - last->digest_alarm_count);
    world_count_by(w, TALLY_CONFLICT, store.conflict_count - m->last_store_stats.conflict_count);
    tally_refusals(w, store.refused_counts, m->last_store_stats.refused_counts);
    if (store.bytes > 60000 || store.writer_count > KNOWN_COUNT_MAX) {
        world_fail(w, "n%u: %llu bytes and %llu writers: over the bounds", m->idx,
                   (unsigned long long)store.bytes, (unsigned long long)store.writer_count);
    }
    m->last_stats = now;
    m->last_store_stats = store;
}
