/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations that fail on demand. One thread at a time arms; any thread allocates. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The nth allocation from here (1: the next) fails, and no other. */
void fault_arm(unsigned nth);
/* No allocation fails. Gives whether one did. */
bool fault_disarm(void);
/* Every realloc fails, until it is taken back: for memory that grows beside other threads, whose
 * allocations would make a number mean nothing. */
void fault_fail_reallocs(bool fail);
/* As malloc, for libraries that take allocation functions. */
void *fault_malloc(size_t bytes);

/* Whether an allocation has failed since the last fault_arm. */
bool fault_was_hit(void);

/* Runs its body with nth = 1, 2, ... as long as the body's fault_arm(nth) finds an allocation to
 * fail; the round without one is the last. */
#define FAULT_ROUND_MAX 10000u
/* NOLINTBEGIN(bugprone-macro-parentheses): nth is a name that the macro declares. */
#define FAULT_EACH(nth) \
    for (unsigned nth = 1; nth == 1 || (fault_was_hit() && nth < FAULT_ROUND_MAX); nth++)
/* NOLINTEND(bugprone-macro-parentheses) */
