/* SPDX-License-Identifier: Apache-2.0 */
/* The measured processes: starting them, and what the kernel says they used. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "identity/signer.h"

/* CPU time of all threads of a process so far, in nanoseconds. */
RC process_cpu_ns(pid_t pid, uint64_t *out);
/* Resident memory in bytes. */
RC process_resident_bytes(pid_t pid, uint64_t *out);

struct server_process {
    pid_t pid; /* 0 when not running. */
    uint16_t port;
    char dir[64]; /* The node's --dir; empty for the echo. */
};

/* Forks an echo server. */
RC process_start_echo(struct server_process *out, const struct identity_signer *signer);

struct node_cfg {
    const char *path; /* The nova-kms binary. */
    uint32_t workers;
    /* "NAME=value" beside the bench's own, NULL-terminated; may be NULL. */
    const char *const *environment;
};
/* Runs `nova-kms --dev` in a new directory, without rate limit, and waits until it serves. */
RC process_start_node(struct server_process *out, const struct node_cfg *cfg);
/* Registers another wallet with the node's registry file, as an instance like that of `like`. */
RC process_register(const struct server_process *node, const struct wallet *like,
                    const struct wallet *wallet);
/* SIGTERM, waits, and removes the directory. Whether it ended with exit status 0: a node that a
 * sanitizer watches does not when there was something to report. Accepts a stopped one. */
bool process_stop(struct server_process *server);
