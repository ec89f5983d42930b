/* SPDX-License-Identifier: Apache-2.0 */
/* A whole cluster in one process, from one seed: the production store, replica, bootstrap and auth
 * of 2 to 9 nodes, with simulated time, network, chain and clients. What a node does with its parts
 * here stands for what node/ and service/ do with threads and sockets. */
#pragma once

#include "auth/view.h"
#include "bootstrap/bootstrap.h"
#include "queue.h"
#include "replica/replica.h"
#include "service/clock.h"
#include "store/store.h"
#include "tally.h"

/* ---- Sizes ---- */

#define MACHINE_COUNT_MAX 9
#define APP_COUNT 3
#define KEY_COUNT 5
#define CELL_COUNT (APP_COUNT * KEY_COUNT)
#define WRITE_COUNT_MAX 400
#define CLIENT_COUNT_MAX 4
#define ENTRY_COUNT_MAX 48 /* Entries of the registry, ever. */
#define CHANGE_COUNT_MAX 160
#define BLOCK_COUNT_MAX 600
#define KNOWN_COUNT_MAX 96 /* Writers in a vector. */
#define PAGE_RECORD_COUNT_MAX 8
#define RECORD_BYTES_MAX 64 /* Key and sealed bytes. */
#define HEARD_COUNT_MAX 64
#define FAULT_KIND_COUNT_MAX 12
#define CALL_COUNT_MAX 48
#define PARKED_COUNT_MAX 48
#define PIN_COUNT_MAX 48
#define SECRET_COUNT_MAX 32
#define KMS_APP_ID 7

/* ---- Spans, in simulated milliseconds ---- */

#define EPOCH_MS UINT64_C(1700000000000)
#define SKEW_MS 1000
#define WAIT_MS 2000
#define CALL_MS 3500 /* The longest pull. */
#define CACHE_TTL_MS 6000
#define SETTLE_MS (CACHE_TTL_MS + CALL_MS)
#define RETENTION_MS 15000
#define BLOCK_MS 1000
#define HEAD_STALL_MS 5000
#define CONFIRMATIONS 3
#define SEEN_WAIT_MS 1000
#define DURABILITY_WAIT_MS 3000
#define DRAIN_MS 4000
#define CONVERGE_MS 90000

/* ---- Writes: every put and delete that a node accepted ---- */

enum durability { DURABILITY_LOCAL, DURABILITY_ONE_PEER, DURABILITY_QUORUM };

struct write {
    uint8_t cell;
    uint8_t client;
    uint8_t machine;
    bool tombstone;
    bool is_acked;   /* With what its durability asks for. */
    bool is_tracked; /* Acknowledged with QUORUM, and under the promise. */
    uint8_t sealed_len;
    enum durability durability;
    uint32_t boot;
    uint32_t secret; /* Which master secret it was made under. */
    struct store_stamp stamp;
    uint64_t ttl_ms;
    uint64_t at_ms;
    uint64_t acked_at_ms;
    uint32_t resets_before; /* durability_resets when it was acknowledged. */
    uint32_t held_once;     /* Machines that crashed or dropped their state with it. */
};

/* ---- Chain ---- */

struct chain_entry {
    struct wallet wallet;
    uint8_t machine; /* Whose URL. */
    uint64_t id;
    uint64_t removed_at_ms; /* 0: it stands there. */
};

enum change_kind { CHANGE_ADD, CHANGE_REMOVE, CHANGE_HASH };

struct chain_change {
    uint64_t block;
    enum change_kind kind;
    uint32_t entry;
    struct bootstrap_hash hash;
};

#define TX_COUNT_MAX 24
struct chain_tx {
    struct bootstrap_hash hash;
    struct wallet from;
    uint64_t block; /* 0: in none. */
    bool is_lost;
    bool is_success;
};

struct chain {
    uint64_t head;
    uint64_t times_ms[BLOCK_COUNT_MAX];
    struct chain_entry entries[ENTRY_COUNT_MAX];
    size_t entry_count;
    struct chain_change changes[CHANGE_COUNT_MAX]; /* By block. */
    size_t change_count;
    struct chain_tx txs[TX_COUNT_MAX];
    size_t tx_count;
    uint64_t stalled_until_ms;
    /* What the last confirmed hashes were, and from when. */
    struct bootstrap_hash confirmed[64];
    uint64_t confirmed_at_ms[64];
    size_t confirmed_count;
    bool was_reset;                 /* To zero, after a hash had been set. */
    uint64_t members_changed_at_ms; /* When the registry last changed, at the head. */
};

/* What one read gives, at a block. */
struct chain_state {
    uint64_t members; /* Bit n: entry n is active. */
    struct bootstrap_hash hash;
};

/* ---- Network ---- */

enum message_kind {
    MESSAGE_PULL,
    MESSAGE_PAGE,
    MESSAGE_DIGEST,
    MESSAGE_DIGEST_ANSWER,
    MESSAGE_REFUSAL, /* Of either. */
};

/* A deep copy of what a call carries. Pointers inside point into it. */
struct message {
    struct message *next; /* In the list of free ones. */
    enum message_kind kind;
    uint8_t from;
    uint8_t to;
    uint32_t ticket;
    uint32_t boot; /* Of the machine that asked. */
    struct wallet from_wallet;
    struct wallet to_wallet; /* Whom the caller means to talk to. */
    bool is_held;            /* By a peer that hangs. */
    bool is_starting;        /* REFUSAL: the responder is not in service. */
    struct message *origin;  /* PAGE, until its records are read: the request. */
    size_t read_bytes;       /* Of the records read, as the log counts them. */
    uint64_t seen_last;      /* The log's end and the floor after the last section. */
    uint64_t seen_rise_count;
    struct replica_request request;
    struct replica_page page;
    struct replica_state state; /* DIGEST_ANSWER, and DIGEST. */
    struct store_known known;   /* DIGEST_ANSWER. */
    struct replica_digest digests[APP_COUNT];
    size_t digest_count;
    size_t heard_count;
    size_t record_count;
    struct replica_record records[PAGE_RECORD_COUNT_MAX];
    uint8_t bytes[PAGE_RECORD_COUNT_MAX][RECORD_BYTES_MAX];
    struct store_known_entry entries[2 * KNOWN_COUNT_MAX]; /* Of all vectors above. */
    struct replica_heard heard[HEARD_COUNT_MAX];           /* Of the request or the page. */
};

struct link {
    bool is_cut;
    uint8_t loss_percent;
    uint8_t duplicate_percent;
    uint16_t jitter_ms;
    uint16_t delay_ms;
};

/* ---- Nodes ---- */

struct task_slot {
    bool is_running;
    enum bootstrap_task task;
    uint32_t ticket;
    uint32_t serial;
    struct bootstrap_action action;
    uint64_t block; /* What a read of the chain sees; 0: it cannot be read. */
    uint64_t deadline_ms;
};
#define TASK_SLOT_COUNT 32

/* A pull or a digest that this node has asked for. */
struct call {
    bool is_used;
    bool is_digest;
    bool has_begun; /* page is being merged. */
    uint32_t ticket;
    uint8_t to;
    struct message *page;
    size_t merged_count;
};

/* A pull that waits here for a change. */
struct parked {
    struct message *request; /* NULL: free. */
    uint32_t serial;
};

enum chain_fault { CHAIN_FINE, CHAIN_FROZEN, CHAIN_OLD, CHAIN_UNREADABLE };

struct machine {
    uint8_t idx;
    /* What outlives a crash: the machine, and what surrounds it. */
    uint32_t boot;
    uint32_t wallet_gen;
    struct wallet wallet;
    uint8_t tee_pubkey[8];
    char url[16];
    bool is_used; /* Has ever been a member. */
    uint64_t retired_at_ms;
    bool is_retired;   /* Taken out for good, or until it comes back. */
    int64_t wall_ms;   /* Its wall clock beside the true time. */
    bool is_clock_bad; /* Booted so: nothing but a restart mends it. */
    uint64_t hung_until_ms;
    enum chain_fault chain_fault;
    uint64_t chain_fault_until_ms;
    uint64_t frozen_block;
    bool is_hostile;
    uint64_t last_wall_ms; /* The greatest it showed before it went down. */

    /* What dies with the process. */
    bool is_up;
    bool is_serving;
    bool was_in_service;
    bool was_away; /* It saw itself out of the registry since its store was empty. */
    uint64_t self_id;
    bool is_draining;
    bool is_clock_right;
    uint64_t booted_at_ms;
    uint64_t state_since_ms; /* When its store was last empty. */
    uint64_t mono_base_ms;
    uint64_t drain_until_ms;
    struct store *store;
    struct replica *replica;
    struct bootstrap bootstrap;
    struct auth_view *view;
    struct service_clock clock;
    uint32_t secret;         /* The number of the held one; 0: none. */
    uint32_t pending_secret; /* Of the task that has just ended. */
    uint32_t tx;             /* 1 + the number of the transaction sent last. */
    uint64_t members_as_of_ms;
    struct task_slot tasks[TASK_SLOT_COUNT];
    uint32_t task_serial;
    bool has_snapshot_task;
    uint32_t snapshot_ticket;
    uint64_t snapshot_until_ms;
    struct call calls[CALL_COUNT_MAX];
    struct parked parked[PARKED_COUNT_MAX];
    uint32_t parked_serial;
    uint64_t serve_at_ms; /* When the parked are asked again; UINT64_MAX: at no time yet. */
    struct wallet pins[PIN_COUNT_MAX];
    size_t pin_count;
    uint64_t wake_at_ms;
    uint64_t step_due_ms; /* Of bootstrap. */
    uint64_t tick_due_ms;
    struct replica_stats last_stats;
    struct store_stats last_store_stats;
    /* The greatest stamp of each cell that this store has held. */
    struct store_stamp best[CELL_COUNT];
};

/* ---- Clients ---- */

struct client {
    uint64_t app_id;
    uint8_t machine;
    bool has_op;
    uint8_t op_cell;
    uint8_t op_kind;
    uint8_t tries;
    uint64_t due_ms;
    uint64_t wait_until_ms; /* 0: does not wait for what it has seen. */
    int write;              /* Whose durability it waits for, or -1. */
    uint64_t write_until_ms;
    struct store_stamp seen;  /* The greatest of all answers. */
    struct store_stamp wrote; /* Its own latest write. */
    struct store_stamp
        last[CELL_COUNT]; /* Its own latest write of each cell, unless it was told that
                                          * it may miss it. */
};

/* ---- The world ---- */

struct world {
    uint64_t seed;
    struct rng rng;
    FILE *trace; /* NULL: none. */
    uint64_t now_ms;
    uint64_t event_count;
    struct queue queue;
    struct chain chain;
    struct link links[MACHINE_COUNT_MAX][MACHINE_COUNT_MAX];
    struct machine machines[MACHINE_COUNT_MAX];
    size_t machine_count;
    struct client clients[CLIENT_COUNT_MAX];
    size_t client_count;
    struct write writes[WRITE_COUNT_MAX];
    size_t write_count;
    struct message *free_messages;
    size_t message_count;
    struct bootstrap_hash secret_hashes[SECRET_COUNT_MAX]; /* By number; [0] is none. */
    uint32_t secret_count;
    uint32_t boot_count;
    uint32_t durability_resets;
    enum tally fault_kinds[FAULT_KIND_COUNT_MAX]; /* What this seed draws from. */
    uint32_t fault_kind_count;
    uint64_t fault_kinds_seen;
    uint64_t fault_end_ms;
    uint64_t healed_at_ms;
    bool is_healed;
    bool is_over;
    bool is_collecting; /* After convergence: until nothing dead is left. */
    uint64_t collect_until_ms;
    /* The greatest stamp of each cell that any node has collected, by master secret. */
    struct store_stamp collected[SECRET_COUNT_MAX][CELL_COUNT];
    struct tallies tallies;
};

/* ---- world.c ---- */

/* Runs one seed to its end. A broken promise ends the process with 1, after it was told. */
void world_run(uint64_t seed, FILE *trace, struct tallies *sum);
_Noreturn void world_fail(struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_trace(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define TRACE(w, ...)                      \
    do {                                   \
        if ((w)->trace != NULL) {          \
            world_trace((w), __VA_ARGS__); \
        }                                  \
    } while (0)
void world_count(struct world *w, enum tally what);
void world_count_by(struct world *w, enum tally what, uint64_t times);
void world_after(struct world *w, uint64_t span_ms, struct event event);

/* ---- chain.c ---- */

/* What is registered from here on stood there before the first node began. */
void chain_init(struct world *w);
void chain_begin(struct world *w);
void chain_block(struct world *w);
void chain_read(const struct chain *c, uint64_t block, struct chain_state *out);
uint32_t chain_register(struct world *w, const struct machine *m);
void chain_remove_entry(struct world *w, uint32_t entry);
void chain_set_hash(struct world *w, const struct bootstrap_hash *hash);
void chain_reorganise(struct world *w, uint32_t depth);
/* The number of the transaction. */
uint32_t chain_send(struct world *w, const struct wallet *from, const struct bootstrap_hash *hash);
enum bootstrap_tx chain_ask_tx(const struct world *w, uint32_t tx);
/* Whether the hash was the confirmed one at some time since. */
bool chain_was_confirmed(const struct world *w, const struct bootstrap_hash *hash,
                         uint64_t since_ms);
/* The newest block a machine sees now; 0: it cannot read the chain. */
uint64_t chain_seen_by(struct world *w, struct machine *m);
/* The active entry with that wallet in a state, or -1. */
int chain_find(const struct world *w, const struct chain_state *state, const struct wallet *wallet);

/* ---- net.c ---- */

struct message *message_take(struct world *w);
void message_give(struct world *w, struct message *message);
struct message *message_copy(struct world *w, const struct message *from);
/* Takes message. */
void net_send(struct world *w, struct message *message);
bool net_is_reachable(struct world *w, const struct machine *a, const struct machine *b);

/* ---- node.c ---- */

uint64_t node_mono_ms(const struct world *w, const struct machine *m);
uint64_t node_unix_ms(const struct world *w, const struct machine *m);
struct replica_now node_now(struct world *w, const struct machine *m);
void node_boot(struct world *w, struct machine *m);
void node_crash(struct world *w, struct machine *m);
void node_wake(struct world *w, struct machine *m);
/* Makes it do what is due, now. */
void node_hurry(struct world *w, struct machine *m);
void node_judge(struct world *w, struct machine *m);
void node_new_writer(struct world *w, uint8_t writer[static STORE_WRITER_BYTES]);
void node_drop_state(struct world *w, struct machine *m);
/* Something changed here that others wait for. */
void node_changed(struct world *w, struct machine *m);
void node_serve_after(struct world *w, struct machine *m, uint64_t span_ms);
void node_set_members(struct world *w, struct machine *m, const struct chain_state *state);
/* Adds up what its parts have counted since the last time. */
void node_tally(struct world *w, struct machine *m);
enum auth_outcome node_judge_caller(struct world *w, struct machine *m,
                                    const struct wallet *wallet);

/* ---- duty.c: what bootstrap asks for ---- */

void duty_step(struct world *w, struct machine *m, const struct bootstrap_event *event);
void duty_end(struct world *w, struct machine *m, uint32_t slot, uint32_t serial);
void duty_tick(struct world *w, struct machine *m);

/* ---- peer.c ---- */

void peer_pump(struct world *w, struct machine *m, uint64_t *next_ms);
void peer_receive(struct world *w, struct message *message);
void peer_call_over(struct world *w, struct machine *m, uint32_t ticket);
void peer_serve_parked(struct world *w, struct machine *m);
void peer_parked_end(struct world *w, struct machine *m, uint32_t serial);
/* The request that message is will not be looked at further; the answer says so. */
void peer_refuse(struct world *w, const struct message *request, bool is_starting);
void peer_merge(struct world *w, struct machine *m, uint32_t ticket);
void peer_drop_all(struct world *w, struct machine *m);

/* ---- reading.c ---- */

/* Sends an answer. Takes it. */
void peer_deliver(struct world *w, struct machine *m, struct message *answer);
/* Reads the page from where it stands, and sends it at the end. Takes it. */
void peer_read_on(struct world *w, struct machine *m, struct message *page);
/* The same after a pause. */
void peer_read(struct world *w, struct machine *m, struct message *page);

/* ---- hostile.c ---- */

void hostile_page(struct world *w, struct machine *m, struct message *page);
void hostile_request(struct world *w, struct machine *m, struct message *request);
void hostile_digest(struct world *w, struct machine *m, struct message *answer);

/* ---- client.c ---- */

void client_init(struct world *w);
void client_step(struct world *w, struct client *c);
void cell_key(unsigned cell, char key[static 8]);
/* The bytes that a write stores: they name it and its cell. */
void write_bytes(const struct world *w, const struct write *write, uint8_t *out);
/* Checks what waits for acknowledgements at a node. */
void client_check_acks(struct world *w, struct machine *m);

/* ---- fault.c ---- */

void fault_init(struct world *w);
void fault_some(struct world *w);
/* A machine that has just booted crashes, and boots at once. */
void fault_stumble(struct world *w, struct machine *m);
/* Another kind for this seed. */
void fault_draw(struct world *w);
void fault_heal(struct world *w);
void fault_heal_hash(struct world *w);

/* ---- check.c ---- */

/* After records were merged or written. */
void check_held(struct world *w, struct machine *m, uint64_t app_id, struct span key);
void check_collected(struct world *w, struct machine *m);
/* The store is about to be lost. */
void check_losing(struct world *w, struct machine *m);
void check_acked(struct world *w, struct machine *m, struct write *write);
void check_in_service(struct world *w, struct machine *m);
void check_serving(struct world *w, const struct machine *m);
/* m has just answered to a caller with that wallet. */
void check_caller(struct world *w, const struct machine *m, const struct wallet *wallet);
void check_node(struct world *w, struct machine *m);
void check_registry_changed(struct world *w);
void check_read(struct world *w, struct machine *m, struct client *c, unsigned cell);
bool check_converged(struct world *w, char why[static 200]);
void check_end(struct world *w);
/* What each node holds, into the trace. */
void check_show(struct world *w);
bool check_nothing_dead(struct world *w);
/* The write with that stamp, or NULL. */
struct write *check_find_write(struct world *w, const struct store_stamp *stamp);
bool check_is_dead(const struct write *write, uint64_t unix_ms);
