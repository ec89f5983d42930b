/* SPDX-License-Identifier: Apache-2.0 */
/* odyn-sim: a local Odyn, for development. Never part of a production build. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "options.h"
#include "server.h"

struct program {
    uv_loop_t loop;
    uv_signal_t signals[2];
    struct server *server;
    struct sim sim;
};

static void signal_cb(uv_signal_t *handle, int number) {
    (void)number;
    struct program *program = handle->data;
    server_close(&program->server);
    for (size_t i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&program->signals[i], NULL);
    }
}

static RC watch_signals(struct program *program) {
    static const int numbers[2] = { SIGINT, SIGTERM };
    for (size_t i = 0; i < 2; i++) {
        uv_signal_t *handle = &program->signals[i];
        ENSURE(uv_signal_init(&program->loop, handle) == 0, IO);
        handle->data = program;
        ENSURE(uv_signal_start_oneshot(handle, signal_cb, numbers[i]) == 0, IO);
    }
    return OK;
}

static RC load_keys(struct program *program, const struct options *options) {
    if (options->key_file == NULL) {
        TRY(sim_init(&program->sim));
    } else {
        const char *why = "";
        struct rc rc = sim_init_file(&program->sim, options->key_file, &why);
        if (rc.err != E_OK) {
            (void)fprintf(stderr, "odyn-sim: key file %s: %s (%s)\n", options->key_file, why,
                          err_text(rc.err));
            return rc;
        }
    }
    program->sim.v_base = options->v_base;
    for (size_t i = 0; i < options->fault_count; i++) {
        TRY(sim_set_fault(&program->sim, &options->faults[i]));
    }
    return OK;
}

static RC listen_and_say(struct program *program, const struct options *options) {
    const struct server_cfg cfg = {
        .loop = &program->loop,
        .sim = &program->sim,
        .address = options->address,
        .port = options->port,
        .verbose = options->verbose,
    };
    const char *why = "";
    struct rc rc = server_init(&program->server, &cfg, &why);
    if (rc.err != E_OK) {
        (void)fprintf(stderr, "odyn-sim: cannot listen on %s port %u: %s\n", options->address,
                      options->port, why);
        return rc;
    }
    char wallet[WALLET_TEXT_BYTES];
    const char *bracket = strchr(options->address, ':') == NULL ? "" : "[";
    (void)printf("odyn-sim ready url=http://%s%s%s:%u wallet=%s pid=%ld\n", bracket,
                 options->address, bracket[0] == '\0' ? "" : "]", server_port(program->server),
                 wallet_format(&program->sim.wallet, wallet), (long)getpid());
    (void)fflush(stdout);
    return OK;
}

static RC run(struct program *program, const struct options *options) {
    TRY(load_keys(program, options));
    TRY(watch_signals(program)); /* First: who reads that it is ready may end it at once. */
    TRY(listen_and_say(program, options));
    (void)uv_run(&program->loop, UV_RUN_DEFAULT);
    return OK;
}

int main(int argc, char **argv) {
    struct options options;
    char why[256];
    if (options_parse(&options, argc, argv, why).err != E_OK) {
        (void)fprintf(stderr, "odyn-sim: %s; --help lists the options\n", why);
        return 2;
    }
    if (options.help) {
        (void)fputs(options_help(), stdout);
        return 0;
    }
    static struct program program;
    (void)signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&program.loop) != 0) {
        (void)fputs("odyn-sim: no event loop\n", stderr);
        return 1;
    }
    struct rc rc = run(&program, &options);
    if (rc.err == E_OK) {
        (void)uv_loop_close(&program.loop);
    }
    sim_close(&program.sim);
    return rc.err == E_OK ? 0 : 1;
}
