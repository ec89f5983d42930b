/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the simulator over many seeds, in several processes. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#define JOB_COUNT_MAX 64

struct options {
    uint64_t first;
    uint64_t seed_count;
    uint64_t minutes; /* 0: no limit. */
    unsigned job_count;
    bool has_trace;
    bool is_quiet;
};

static uint64_t current_seed;

static void usage(FILE *to) {
    (void)fputs(
        "usage: sim [--seeds N] [--from N] [--minutes M] [--jobs J] [--quiet]\n"
        "       sim --seed N [--trace]\n"
        "Runs whole clusters from seeds: N of them (1000) from the given one on (1), for at\n"
        "most M minutes, in J processes (2). With --seed, one. Prints what happened how\n"
        "often; exits 1 when a promise was broken, and when something that should happen\n"
        "never did (a thousand seeds or more).\n",
        to);
}

/* An ASSERT in the code under test: says which seed it was. */
static void on_abort(int number) {
    char text[] = "seed                     : broken off; replay it with tools/sim --seed\n";
    uint64_t seed = current_seed;
    (void)number;
    for (size_t at = 24; at > 5 && seed > 0; at--) {
        text[at] = (char)('0' + seed % 10);
        seed /= 10;
    }
    ssize_t wrote = write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(wrote < 0 ? 2 : 1);
}

static uint64_t mono_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t parse(const char *text) {
    char *end = NULL;
    uint64_t value = strtoull(text, &end, 10);
    if (*text == '\0' || *text == '-' || *end != '\0') {
        usage(stderr);
        exit(2);
    }
    return value;
}

static void parse_options(int argc, char **argv, struct options *o) {
    static const struct option names[] = {
        { "seeds", required_argument, NULL, 's' },
        { "from", required_argument, NULL, 'f' },
        { "minutes", required_argument, NULL, 'm' },
        { "jobs", required_argument, NULL, 'j' },
        { "seed", required_argument, NULL, '1' },
        { "trace", no_argument, NULL, 't' },
        { "quiet", no_argument, NULL, 'q' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    for (int c = 0; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 's':
            o->seed_count = parse(optarg);
            break;
        case 'f':
            o->first = parse(optarg);
            break;
        case 'm':
            o->minutes = parse(optarg);
            break;
        case 'j':
            o->job_count = (unsigned)parse(optarg);
            break;
        case '1':
            o->first = parse(optarg);
            o->seed_count = 1;
            o->job_count = 1;
            break;
        case 't':
            o->has_trace = true;
            break;
        case 'q':
            o->is_quiet = true;
            break;
        default:
            usage(c == 'h' ? stdout : stderr);
            exit(c == 'h' ? 0 : 2);
        }
    }
    if (optind < argc || o->job_count < 1 || o->job_count > JOB_COUNT_MAX) {
        usage(stderr);
        exit(2);
    }
}

/* Every job_count-th seed. */
static void run_job(const struct options *o, unsigned job, uint64_t end_at_ms,
                    struct tallies *sum) {
    for (uint64_t i = job; i < o->seed_count && mono_ms() < end_at_ms; i += o->job_count) {
        current_seed = o->first + i;
        world_run(current_seed, o->has_trace ? stdout : NULL, sum);
    }
}

static bool write_all(int fd, const void *bytes, size_t len) {
    const uint8_t *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_all(int fd, void *bytes, size_t len) {
    uint8_t *at = bytes;
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* Gives the end from which the job's figures come. */
static int start_job(const struct options *o, unsigned job, uint64_t end_at_ms) {
    int ends[2];
    ASSERT(pipe(ends) == 0);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0) {
        static struct tallies part;
        (void)close(ends[0]);
        run_job(o, job, end_at_ms, &part);
        exit(write_all(ends[1], &part, sizeof(part)) ? 0 : 1);
    }
    (void)close(ends[1]);
    return ends[0];
}

static bool run_jobs(const struct options *o, uint64_t end_at_ms, struct tallies *sum) {
    int ends[JOB_COUNT_MAX];
    bool is_good = true;
    for (unsigned job = 0; job < o->job_count; job++) {
        ends[job] = start_job(o, job, end_at_ms);
    }
    for (unsigned job = 0; job < o->job_count; job++) {
        static struct tallies part;
        int status = 0;
        if (read_all(ends[job], &part, sizeof(part))) {
            tally_add(sum, &part);
        } else {
            is_good = false;
        }
        (void)close(ends[job]);
        is_good = wait(&status) > 0 && status == 0 && is_good;
    }
    return is_good;
}

int main(int argc, char **argv) {
    struct options o = { .first = 1, .seed_count = 1000, .job_count = 2 };
    static struct tallies sum;
    parse_options(argc, argv, &o);
    (void)signal(SIGABRT, on_abort);
    uint64_t start_ms = mono_ms();
    uint64_t end_at_ms = o.minutes == 0 ? UINT64_MAX : start_ms + o.minutes * 60000;
    bool is_good = true;
    if (o.job_count == 1) {
        run_job(&o, 0, end_at_ms, &sum);
    } else {
        is_good = run_jobs(&o, end_at_ms, &sum);
    }
    uint64_t took_ms = mono_ms() - start_ms;
    if (!o.is_quiet) {
        tally_print(&sum, stdout);
    }
    (void)printf("%" PRIu64 " seeds from %" PRIu64 " on in %" PRIu64 ".%" PRIu64 " s: %" PRIu64
                 " a second\n",
                 sum.seed_count, o.first, took_ms / 1000, took_ms % 1000 / 100,
                 sum.seed_count * 1000 / (took_ms == 0 ? 1 : took_ms));
    (void)fflush(stdout);
    unsigned missing = is_good ? tally_missing(&sum, stderr) : 0;
    return is_good && missing == 0 ? 0 : 1;
}
