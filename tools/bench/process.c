/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* accept4, pipe2, nftw */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/wallet.h"
#include "echo.h"

#define START_MS_MAX 60000
#define JSON_BYTES_MAX 8192

RC process_cpu_ns(pid_t pid, uint64_t *out) {
    clockid_t clock_id = 0;
    ENSURE(clock_getcpuclockid(pid, &clock_id) == 0, NOT_FOUND);
    struct timespec used = { 0 };
    ENSURE(clock_gettime(clock_id, &used) == 0, NOT_FOUND);
    *out = (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    return OK;
}

RC process_resident_bytes(pid_t pid, uint64_t *out) {
    char text[128];
    (void)snprintf(text, sizeof(text), "/proc/%d/statm", (int)pid);
    FILE *f = fopen(text, "re");
    ENSURE(f != NULL, NOT_FOUND);
    /* "total resident shared ...", in pages. */
    const char *line = fgets(text, sizeof(text), f);
    (void)fclose(f);
    ENSURE(line != NULL, MALFORMED);
    const char *field = text + strcspn(text, " ");
    ENSURE(*field == ' ', MALFORMED);
    field++;
    uint64_t pages = 0;
    struct span digits = { (const uint8_t *)field, strcspn(field, " ") };
    TRY(bytes_parse_decimal(digits, UINT64_MAX / 65536, &pages));
    *out = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return OK;
}

/* In the child: ends with the parent, whatever ends that. */
static void follow_parent(pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 || getppid() != parent) {
        _exit(1);
    }
}

/* Reads len bytes from the pipe, or fails at the deadline or when the writer ends. */
static RC read_within(int fd, void *buf, size_t len) {
    uint64_t deadline_at_ms = clock_mono_ms() + START_MS_MAX;
    size_t got = 0;
    while (got < len) {
        uint64_t now_ms = clock_mono_ms();
        ENSURE(now_ms < deadline_at_ms, TIMEOUT);
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        int n = poll(&ready, 1, (int)(deadline_at_ms - now_ms));
        ENSURE(n >= 0 || errno == EINTR, IO);
        if (n <= 0) {
            continue;
        }
        ssize_t part = read(fd, (uint8_t *)buf + got, len - got);
        ENSURE(part > 0, CLOSED);
        got += (size_t)part;
    }
    return OK;
}

RC process_start_echo(struct server_process *out, const struct identity_signer *signer) {
    *out = (struct server_process){ 0 };
    int pipe_fds[2];
    ENSURE(pipe2(pipe_fds, O_CLOEXEC) == 0, IO);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        follow_parent(parent);
        struct rc rc = echo_serve(signer, pipe_fds[1]);
        (void)fprintf(stderr, "novakms-bench: echo server: %s\n", err_text(rc.err));
        _exit(1);
    }
    (void)close(pipe_fds[1]);
    out->pid = pid > 0 ? pid : 0;
    struct rc rc = pid > 0 ? read_within(pipe_fds[0], &out->port, sizeof(out->port)) : ERR(IO);
    (void)close(pipe_fds[0]);
    if (rc.err != E_OK) {
        (void)process_stop(out); /* What failed is reported already. */
    }
    return rc;
}

/* The node's own log goes to a file: a pipe that nobody reads would stop it in the end. */
_Noreturn static void exec_node(const struct node_cfg *cfg, const char *dir) {
    char text[96];
    (void)snprintf(text, sizeof(text), "%s/log", dir);
    int log_fd = open(text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0 || dup2(log_fd, STDOUT_FILENO) < 0) {
        _exit(1);
    }
    (void)snprintf(text, sizeof(text), "%u", cfg->workers);
    (void)setenv("NODE_WORKERS", text, 1);         /* TIDY-OK: the forked child has one thread. */
    (void)setenv("RATE_LIMIT_PER_MINUTE", "0", 1); /* TIDY-OK: as above. */
    (void)setenv("LOG_LEVEL", "WARNING", 1);       /* TIDY-OK: as above. */
    for (const char *const *pair = cfg->environment; pair != NULL && *pair != NULL; pair++) {
        char *copy = strdup(*pair);
        if (copy == NULL || putenv(copy) != 0) { /* TIDY-OK: as above; it keeps copy. */
            _exit(1);
        }
    }
    (void)execl(cfg->path, cfg->path, "--dev", "--dir", dir, "--rpc", "127.0.0.1:0", "--http",
                "127.0.0.1:0", (char *)NULL);
    (void)fprintf(stderr, "novakms-bench: cannot run %s: %s\n", cfg->path, strerror(errno));
    _exit(127);
}

/* NOT_FOUND when it is not there (yet). */
static RC read_json(const char *path, json_t **out) {
    FILE *f = fopen(path, "re");
    ENSURE(f != NULL, NOT_FOUND);
    uint8_t text[JSON_BYTES_MAX];
    size_t len = fread(text, 1, sizeof(text), f);
    (void)fclose(f);
    char error[JSON_ERROR_BYTES];
    return json_parse((struct span){ text, len }, sizeof(text), out, error);
}

static RC read_port(const char *dir, uint16_t *port) {
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/node.json", dir);
    json_t *root = NULL;
    TRY(read_json(path, &root));
    const char *rpc = json_string_value(json_object_get(root, "rpc"));
    const char *colon = rpc == NULL ? NULL : strrchr(rpc, ':');
    uint64_t value = 0;
    struct rc rc = colon == NULL ? ERR(MALFORMED)
                                 : bytes_parse_decimal(span_str(colon + 1), UINT16_MAX, &value);
    json_decref(root);
    *port = (uint16_t)value;
    return rc;
}

/* Appends a copy of like's instance with another id and wallet. */
static RC append_instance(json_t *instances, const struct wallet *like,
                          const struct wallet *wallet) {
    char like_text[WALLET_TEXT_BYTES];
    char text[WALLET_TEXT_BYTES];
    (void)wallet_format(like, like_text);
    size_t count = json_array_size(instances);
    for (size_t i = 0; i < count; i++) {
        const json_t *instance = json_array_get(instances, i);
        const char *found = json_string_value(json_object_get(instance, "teeWalletAddress"));
        if (found == NULL || !span_equal(span_str(found), span_str(like_text))) {
            continue;
        }
        json_t *copy = json_deep_copy(instance);
        ENSURE(copy != NULL, NOMEM);
        (void)json_object_set_new(copy, "id", json_integer((json_int_t)count + 1));
        (void)json_object_set_new(copy, "teeWalletAddress",
                                  json_string(wallet_format(wallet, text)));
        ENSURE(json_array_append_new(instances, copy) == 0, NOMEM);
        return OK;
    }
    return ERR(NOT_FOUND);
}

RC process_register(const struct server_process *node, const struct wallet *like,
                    const struct wallet *wallet) {
    char path[96];
    char temporary[96];
    (void)snprintf(path, sizeof(path), "%s/registry.json", node->dir);
    (void)snprintf(temporary, sizeof(temporary), "%s/registry.new", node->dir);
    json_t *root = NULL;
    TRY(read_json(path, &root));
    struct rc rc = append_instance(json_object_get(root, "instances"), like, wallet);
    if (rc.err == E_OK && json_dump_file(root, temporary, JSON_INDENT(2)) != 0) {
        rc = ERR(IO);
    }
    json_decref(root);
    TRY(rc);
    ENSURE(rename(temporary, path) == 0, IO); /* In one step: the node never meets half of it. */
    /* The node looks at the file once a second, and nothing tells from outside that it has. */
    static const struct timespec pause = { .tv_sec = 2 };
    (void)nanosleep(&pause, NULL);
    return OK;
}

/* node.json appears, whole, when the node serves. */
static RC wait_for_node(struct server_process *node) {
    static const struct timespec pause = { .tv_nsec = 5000000 };
    uint64_t deadline_at_ms = clock_mono_ms() + START_MS_MAX;
    struct rc rc = read_port(node->dir, &node->port);
    while (rc.err == E_NOT_FOUND) {
        ENSURE(clock_mono_ms() < deadline_at_ms, TIMEOUT);
        if (waitpid(node->pid, NULL, WNOHANG) == node->pid) {
            node->pid = 0;
            return ERR(CLOSED);
        }
        (void)nanosleep(&pause, NULL);
        rc = read_port(node->dir, &node->port);
    }
    return rc;
}

RC process_start_node(struct server_process *out, const struct node_cfg *cfg) {
    *out = (struct server_process){ .dir = "/tmp/novakms-bench.XXXXXX" };
    if (mkdtemp(out->dir) == NULL) {
        out->dir[0] = '\0';
        return ERR(IO);
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        follow_parent(parent);
        exec_node(cfg, out->dir);
    }
    out->pid = pid > 0 ? pid : 0;
    struct rc rc = pid > 0 ? wait_for_node(out) : ERR(IO);
    if (rc.err != E_OK) {
        (void)process_stop(out); /* What failed is reported already. */
    }
    return rc;
}

static int remove_cb(const char *path, const struct stat *stat, int kind, struct FTW *at) {
    (void)stat;
    (void)kind;
    (void)at;
    return remove(path);
}

bool process_stop(struct server_process *server) {
    int code = 0;
    if (server->pid > 0) {
        (void)kill(server->pid, SIGTERM);
        (void)waitpid(server->pid, &code, 0);
    }
    if (server->dir[0] != '\0') {
        (void)nftw(server->dir, remove_cb, 8, FTW_DEPTH | FTW_PHYS);
    }
    *server = (struct server_process){ 0 };
    return code == 0;
}
