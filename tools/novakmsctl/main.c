/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "commands.h"
#include "output.h"

/* Keys pass through this process: no core dump may keep them. Best effort, because it may not be
 * ours to forbid. */
static void forbid_core_dumps(void) {
    const struct rlimit none = { 0, 0 };
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int main(int argc, char *argv[]) {
    forbid_core_dumps();
    (void)signal(SIGPIPE, SIG_IGN); /* A closed pipe is a write error with a sentence. */
    ctl_json_init();
    struct ctl_options options;
    enum ctl_exit code = CTL_DONE;
    if (ctl_options_parse(&options, argc, argv, &code)) {
        code = ctl_run(&options);
    }
    if (fflush(stdout) != 0 && code == CTL_DONE) {
        ctl_complain("the result could not be written.");
        code = CTL_OTHER;
    }
    return (int)code;
}
