/* SPDX-License-Identifier: Apache-2.0 */
#include "tally.h"

#include <inttypes.h>

static const struct {
    const char *text;
    unsigned floor;
} rows[] = {
#define TALLY_ROW(name, text, floor) { text, floor },
    TALLY_MAP(TALLY_ROW)
#undef TALLY_ROW
};

void tally_add(struct tallies *sum, const struct tallies *part) {
    for (size_t i = 0; i < TALLY_COUNT; i++) {
        sum->times[i] += part->times[i];
        sum->seeds[i] += part->seeds[i];
    }
    sum->seed_count += part->seed_count;
    sum->event_count += part->event_count;
    sum->converge_ms_sum += part->converge_ms_sum;
    if (part->converge_ms_max > sum->converge_ms_max) {
        sum->converge_ms_max = part->converge_ms_max;
    }
    sum->trace_hash += part->trace_hash;
}

void tally_print(const struct tallies *t, FILE *to) {
    (void)fprintf(to, "%12s %12s\n", "times", "in seeds");
    for (size_t i = 0; i < TALLY_COUNT; i++) {
        (void)fprintf(to, "%12" PRIu64 " %12" PRIu64 "  %s\n", t->times[i], t->seeds[i],
                      rows[i].text);
    }
    uint64_t seed_count = t->seed_count == 0 ? 1 : t->seed_count;
    (void)fprintf(to,
                  "%" PRIu64 " seeds, %" PRIu64
                  " events in each on average; converged after %" PRIu64 " ms on average, %" PRIu64
                  " ms at most\nhistories' checksum %016" PRIx64 "\n",
                  t->seed_count, t->event_count / seed_count, t->converge_ms_sum / seed_count,
                  t->converge_ms_max, t->trace_hash);
}

/* A third of what is expected, so that no change of the histories alone misses one. */
unsigned tally_missing(const struct tallies *t, FILE *to) {
    unsigned missing = 0;
    for (size_t i = 0; i < TALLY_COUNT && t->seed_count >= 1000; i++) {
        if (3 * 1000 * t->seeds[i] < rows[i].floor * t->seed_count ||
            (rows[i].floor > 0 && t->seeds[i] == 0)) {
            (void)fprintf(to, "happened in %" PRIu64 " seeds only: %s\n", t->seeds[i],
                          rows[i].text);
            missing++;
        }
    }
    return missing;
}
