/* SPDX-License-Identifier: Apache-2.0 */
/* novakmsctl's commands: each carries out one call and prints what came of it. One thread. */
#pragma once

#include "options.h"

/* Opens a client where the command needs one, and runs the command. */
enum ctl_exit ctl_run(const struct ctl_options *options);
