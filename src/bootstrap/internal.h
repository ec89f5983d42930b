/* SPDX-License-Identifier: Apache-2.0 */
/* What bootstrap's files share. */
#pragma once

#include "bootstrap/bootstrap.h"

/* Takes a task's answer into what is known. */
void facts_take(struct bootstrap *b, const struct bootstrap_event *event,
                struct bootstrap_actions *out);
/* Whether an answer is recent enough to serve on. */
bool facts_are_fresh(const struct bootstrap *b, bool has, uint64_t as_of_ms);

/* Finds what is missing first: sets state and reason, and starts what is due. */
void goal_pursue(struct bootstrap *b, struct bootstrap_actions *out);

/* Makes a task due now, unless it waits after a failure. */
void task_hasten(struct bootstrap *b, enum bootstrap_task task);
/* Answers to what was asked so far will be ignored. */
void task_forget(struct bootstrap *b, enum bootstrap_task task);
