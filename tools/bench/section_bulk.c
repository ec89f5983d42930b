/* SPDX-License-Identifier: Apache-2.0 */
/* So many bytes one way over TLS and TCP, from one process to another, full records, nothing else:
 * what a transfer can be held against. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "endpoint.h"
#include "sections.h"

#define PLAIN_BYTES ((size_t)16 * 1024)
#define RECORDS_PER_WRITE 3 /* What the endpoint's buffer has room for. */

/* A connection over loopback: fds[0] dialled, fds[1] accepted. Both block. */
static RC connect_pair(int fds[static 2]) {
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);
    bool is_listening = listen_fd >= 0 && bind(listen_fd, (struct sockaddr *)&at, len) == 0 &&
                        listen(listen_fd, 1) == 0 &&
                        getsockname(listen_fd, (struct sockaddr *)&at, &len) == 0;
    fds[0] = is_listening ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fds[0] >= 0 && connect(fds[0], (struct sockaddr *)&at, len) == 0) {
        fds[1] = accept(listen_fd, NULL, NULL);
    }
    if (listen_fd >= 0) {
        (void)close(listen_fd);
    }
    ENSURE(fds[1] >= 0, IO);
    return OK;
}

static RC shake_hands(struct endpoint *end) {
    struct rc rc = endpoint_handshake(end);
    while (rc.err == E_AGAIN) {
        TRY(endpoint_fill(end));
        rc = endpoint_handshake(end);
    }
    return rc;
}

static RC send_all(struct endpoint *end, uint64_t bytes) {
    static const uint8_t plain[PLAIN_BYTES * RECORDS_PER_WRITE];
    TRY(shake_hands(end));
    while (bytes > 0) {
        size_t len = bytes < sizeof(plain) ? (size_t)bytes : sizeof(plain);
        for (size_t at = 0; at < len; at += PLAIN_BYTES) {
            size_t part = len - at < PLAIN_BYTES ? len - at : PLAIN_BYTES;
            TRY(endpoint_write(end, (struct span){ plain + at, part }));
        }
        struct rc rc = endpoint_flush(end);
        while (rc.err == E_AGAIN) {
            rc = endpoint_flush(end);
        }
        TRY(rc);
        bytes -= len;
    }
    return OK;
}

/* In the child: its TLS server. */
static RC serve(struct bench *bench, int fd, uint64_t bytes) {
    struct tls_setup tls;
    struct endpoint end;
    const struct identity_signer signer = identity_keyfile_signer(&bench->stranger);
    TRY(tls_setup_init(&tls, MBEDTLS_SSL_IS_SERVER, &signer, NULL));
    TRY(endpoint_init(&end, fd, &tls.conf));
    return send_all(&end, bytes);
}

static RC receive_all(struct endpoint *end, uint64_t bytes, uint64_t *took_us) {
    static uint8_t plain[PLAIN_BYTES];
    TRY(shake_hands(end));
    uint64_t began_us = clock_mono_us();
    while (bytes > 0) {
        size_t len = 0;
        TRY(endpoint_read(end, plain, sizeof(plain), &len));
        if (len == 0) {
            TRY(endpoint_fill(end));
        }
        ENSURE(len <= bytes, TOO_BIG);
        bytes -= len;
    }
    *took_us = clock_mono_us() - began_us;
    return OK;
}

/* Takes both sockets. */
static RC transfer(struct bench *bench, int fds[static 2], uint64_t *took_us) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        bool is_followed = prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) == 0 && getppid() == parent;
        (void)close(fds[0]);
        _exit(is_followed && serve(bench, fds[1], bench->cfg->bytes).err == E_OK ? 0 : 1);
    }
    (void)close(fds[1]);
    struct endpoint end = { .fd = -1 };
    struct rc rc = pid < 0 ? ERR(IO) : endpoint_init(&end, fds[0], &bench->stranger_tls.conf);
    if (rc.err != E_OK) {
        (void)close(fds[0]);
    } else {
        rc = receive_all(&end, bench->cfg->bytes, took_us);
    }
    endpoint_close(&end);
    int code = 0;
    if (pid > 0) {
        (void)waitpid(pid, &code, 0);
    }
    return rc.err == E_OK && code != 0 ? ERR(IO) : rc;
}

RC section_bulk(struct bench *bench, json_t *out) {
    int fds[2] = { -1, -1 };
    uint64_t took_us = 0;
    struct rc rc = connect_pair(fds);
    if (rc.err != E_OK) {
        if (fds[0] >= 0) {
            (void)close(fds[0]);
        }
        return rc;
    }
    TRY(transfer(bench, fds, &took_us));
    double seconds = (double)took_us / 1e6;
    double mib = (double)bench->cfg->bytes / (1024 * 1024);
    (void)printf("bare TLS, one way: %.1f MiB in %.3f s, %.1f MiB/s\n", mib, seconds,
                 mib / seconds);
    (void)json_object_set_new(out, "seconds", json_real(seconds));
    (void)json_object_set_new(out, "mib_per_second", json_real(mib / seconds));
    return OK;
}
